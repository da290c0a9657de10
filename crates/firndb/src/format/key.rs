//! Sequence numbers, value kinds and internal keys.
//!
//! An internal key is `user_key ‖ u64 trailer` (little endian), `trailer = sequence << 8 | kind`. Order: user key
//! ascending under the comparator, then trailer *descending*, so that the newest version of a key comes first.
//! Source: RocksDB `db/dbformat.h`.

use std::fmt;

use crate::error::{CorruptionKind, Error, Result};

/// Position in the history of writes; 56 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SequenceNumber(pub u64);

impl SequenceNumber {
    /// The largest one: sees everything.
    pub const MAX: SequenceNumber = SequenceNumber((1 << 56) - 1);
    /// No sound database gets beyond this: so many writes were never made. There is room for the largest group behind it.
    pub(crate) const LIMIT: SequenceNumber = SequenceNumber((1 << 56) - (1 << 40));
    /// From here on up are the numbers of writes that are in no database yet, which only their writer sees.
    pub(crate) const OWN: SequenceNumber = SequenceNumber((1 << 56) - (1 << 33));
    /// Given to no write; a bottommost compaction stores it for values that every reader sees.
    pub const ZERO: SequenceNumber = SequenceNumber(0);
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a file of the database; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileNumber(pub u64);

impl fmt::Display for FileNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Number of a column family; the default family is 0; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ColumnFamilyId(pub u32);

impl ColumnFamilyId {
    /// The family named `default`, which always exists.
    pub const DEFAULT: ColumnFamilyId = ColumnFamilyId(0);
}

/// What an entry is. The numbers are those of the files.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueKind {
    /// A tombstone: hides every older version of its key.
    Deletion = 0x00,
    /// A value.
    Value = 0x01,
    /// An operand of a merge operator.
    Merge = 0x02,
    /// A tombstone for a key that was written exactly once.
    SingleDeletion = 0x07,
    /// A range tombstone, `[begin, end)`.
    RangeDeletion = 0x0F,
    /// A reference into a blob file.
    BlobIndex = 0x11,
    /// A tombstone with a user-defined timestamp.
    DeletionWithTimestamp = 0x14,
    /// A wide-column entity.
    WideColumnEntity = 0x16,
    /// A value with a preferred sequence number.
    ValuePreferredSeqno = 0x18,
}

impl ValueKind {
    /// The kind of a stored byte.
    pub(crate) fn from_byte(byte: u8) -> Option<ValueKind> {
        Some(match byte {
            0x00 => ValueKind::Deletion,
            0x01 => ValueKind::Value,
            0x02 => ValueKind::Merge,
            0x07 => ValueKind::SingleDeletion,
            0x0F => ValueKind::RangeDeletion,
            0x11 => ValueKind::BlobIndex,
            0x14 => ValueKind::DeletionWithTimestamp,
            0x16 => ValueKind::WideColumnEntity,
            0x18 => ValueKind::ValuePreferredSeqno,
            _ => return None,
        })
    }

    /// True for a point tombstone of either sort.
    pub(crate) fn is_tombstone(self) -> bool {
        matches!(self, ValueKind::Deletion | ValueKind::SingleDeletion)
    }

    /// A refusal by name for kinds that this version cannot resolve, so that nothing is guessed.
    #[cold]
    pub(crate) fn unsupported(self) -> Error {
        let feature = match self {
            ValueKind::Merge => "a merge operand",
            ValueKind::RangeDeletion => "a range tombstone",
            ValueKind::BlobIndex => "a blob reference",
            ValueKind::DeletionWithTimestamp => "a user-defined timestamp",
            ValueKind::WideColumnEntity => "a wide-column entity",
            ValueKind::ValuePreferredSeqno => "a timed put",
            ValueKind::Deletion | ValueKind::Value | ValueKind::SingleDeletion => "an entry kind",
        };
        Error::new(
            crate::error::ErrorKind::NotSupported,
            format!("the database holds {feature}, which this version cannot read"),
        )
    }
}

/// Bytes that the trailer adds to a user key.
pub(crate) const TRAILER_LEN: usize = 8;

/// The kind byte of a seek key: sorts before every entry of its sequence number.
pub(crate) const SEEK_KIND: u8 = 0xFF;

#[inline]
pub(crate) fn pack_trailer(sequence: SequenceNumber, kind: u8) -> u64 {
    (sequence.0 << 8) | u64::from(kind)
}

#[inline]
pub(crate) fn trailer_sequence(trailer: u64) -> SequenceNumber {
    SequenceNumber(trailer >> 8)
}

/// The user key of an internal key. Internal keys are at least 8 bytes: checked where they are decoded.
#[inline]
pub(crate) fn user_key(internal: &[u8]) -> &[u8] {
    debug_assert!(internal.len() >= TRAILER_LEN);
    &internal[..internal.len().saturating_sub(TRAILER_LEN)]
}

/// The trailer of an internal key; 0 for one that is too short (checked where keys are decoded).
#[inline]
pub(crate) fn trailer(internal: &[u8]) -> u64 {
    match internal.last_chunk::<TRAILER_LEN>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => 0,
    }
}

/// True for the bound of a file that a range tombstone set: the user key itself is not in the file.
#[inline]
pub(crate) fn is_exclusive_end(bound: &[u8]) -> bool {
    trailer(bound) == pack_trailer(SequenceNumber::MAX, ValueKind::RangeDeletion as u8)
}

/// The bound of a file that ends where a range tombstone does.
pub(crate) fn exclusive_end(end: &[u8]) -> Vec<u8> {
    internal_key(end, SequenceNumber::MAX, ValueKind::RangeDeletion as u8)
}

/// Appends the internal key of `(user_key, sequence, kind)` to `out`.
#[inline]
pub(crate) fn append_internal_key(out: &mut Vec<u8>, user_key: &[u8], sequence: SequenceNumber, kind: u8) {
    out.extend_from_slice(user_key);
    out.extend_from_slice(&pack_trailer(sequence, kind).to_le_bytes());
}

/// The internal key of `(user_key, sequence, kind)`.
pub(crate) fn internal_key(user_key: &[u8], sequence: SequenceNumber, kind: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(user_key.len() + TRAILER_LEN);
    append_internal_key(&mut out, user_key, sequence, kind);
    out
}

/// An internal key taken apart; refuses keys that are too short or of a kind that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ParsedKey<'a> {
    pub(crate) user_key: &'a [u8],
    pub(crate) sequence: SequenceNumber,
    pub(crate) kind: ValueKind,
}

impl<'a> ParsedKey<'a> {
    #[inline]
    pub(crate) fn parse(internal: &'a [u8]) -> Result<ParsedKey<'a>> {
        let Some((user_key, bytes)) = internal.split_last_chunk::<TRAILER_LEN>() else {
            return Err(Self::too_short(internal.len()));
        };
        let trailer = u64::from_le_bytes(*bytes);
        match ValueKind::from_byte(trailer as u8) {
            Some(kind) => Ok(ParsedKey { user_key, sequence: trailer_sequence(trailer), kind }),
            None => Err(Self::bad_kind(trailer as u8)),
        }
    }

    #[cold]
    fn too_short(len: usize) -> Error {
        Error::corrupt(
            CorruptionKind::BadLength,
            format!("an internal key of {len} bytes; at least {TRAILER_LEN} are needed"),
        )
    }

    #[cold]
    fn bad_kind(kind: u8) -> Error {
        Error::corrupt(CorruptionKind::BadMagic, format!("entry kind {kind:#04x} does not exist"))
    }
}
