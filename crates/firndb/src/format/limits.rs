//! How large things may be: one table, checked at the door, so that whatever a write accepts can be logged, flushed, recorded
//! in MANIFEST, read and reopened.
//!
//! What another program wrote within the format and beyond these is sound; it is refused as `Limit`, by name, and is never
//! called damage.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A logical record of a log or of MANIFEST, and so a batch: it has to be held in memory whole.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 30;
/// A user's key. MANIFEST has two of them for each table, and a compaction's cursor for each level.
pub(crate) const KEY_BYTES_MAX: usize = 64 << 20;
/// A value: with the longest key it still fits into a batch.
pub(crate) const VALUE_BYTES_MAX: usize = RECORD_BYTES_MAX - KEY_BYTES_MAX - (1 << 20);
/// A block of a table, compressed or not. The largest entry shares its block with those before it, which have up to the
/// largest `block_size`.
pub(crate) const BLOCK_BYTES_MAX: usize = RECORD_BYTES_MAX + (128 << 20);
/// The largest `block_size`.
pub(crate) const BLOCK_SIZE_MAX: usize = 64 << 20;
/// About how many bytes of files one edit of MANIFEST has: what has more is cut into several. One file is never cut.
pub(crate) const EDIT_BYTES: usize = 4 << 20;
/// The name of a column family: in MANIFEST, in OPTIONS and in every table.
pub(crate) const FAMILY_NAME_BYTES_MAX: usize = 64 << 10;
/// A file with a larger number is not the database's: nobody has ever made so many, and a number that a stray file claims must
/// leave some for those to come.
pub(crate) const FILE_NUMBER_MAX: u64 = (1 << 62) - (1 << 32);

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 <= RECORD_BYTES_MAX, "a batch holds the largest entry");
const _: () = assert!(2 * (KEY_BYTES_MAX + 8) + EDIT_BYTES <= RECORD_BYTES_MAX, "an edit holds the largest file");
const _: () = assert!(BLOCK_SIZE_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 <= BLOCK_BYTES_MAX, "so does a block");

/// `what` has `found` bytes, and may have `max`.
#[cold]
pub(crate) fn exceeded(what: impl fmt::Display, found: usize, max: usize) -> Error {
    Error::new(ErrorKind::Limit, format!("{what} of {found} bytes; at most {max} are allowed"))
}

/// Refuses a key or value that is too long.
#[inline]
pub(crate) fn check_entry(key: &[u8], value: &[u8]) -> Result<(), Error> {
    match key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX {
        true => Ok(()),
        false => Err(entry_exceeded(key.len(), value.len())),
    }
}

/// Refuses the ends of a range that are too long.
pub(crate) fn check_range(begin: &[u8], end: &[u8]) -> Result<(), Error> {
    check_entry(begin, &[]).and_then(|()| check_entry(end, &[]))
}

#[cold]
fn entry_exceeded(key: usize, value: usize) -> Error {
    match key > KEY_BYTES_MAX {
        true => exceeded("a key", key, KEY_BYTES_MAX),
        false => exceeded("a value", value, VALUE_BYTES_MAX),
    }
}
