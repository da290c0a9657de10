//! A file of log records, read to its end: a write-ahead log, or a MANIFEST.
//!
//! Flow: [`super::inspect`], [`super::verify`] -> **[`walk`]** -> `wal::reader`. The reader says where it cannot go on; here
//! it is decided whether that is how a log ends. Only damage ends a walk before the last record.

use std::path::Path;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::FileNumber;
use crate::fs::Fs;
use crate::wal::reader::{LogReader, ReadOutcome};

/// How a file of records ends.
#[derive(Debug)]
pub(super) enum LogEnd {
    /// With a whole record.
    Whole,
    /// With a record that was being written when its process ended.
    CutOff { offset: u64 },
    /// With what the file held when it was another log.
    Recycled { offset: u64 },
    /// In front of bytes that are not what was written.
    Damaged(Error),
}

/// Calls back with the offset and the bytes of every record. What the call returns as an error ends the walk.
pub(super) fn walk(
    fs: &dyn Fs,
    path: &Path,
    number: FileNumber,
    on_record: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<LogEnd> {
    let mut reader = LogReader::new(fs.open_random(path)?, path.to_owned(), number.0);
    let mut record = Vec::new();
    loop {
        match reader.next(&mut record)? {
            ReadOutcome::Record { offset } => on_record(offset, &record)?,
            ReadOutcome::End | ReadOutcome::OldRecord { .. } => return Ok(LogEnd::Whole),
            ReadOutcome::TruncatedTail { offset } if reader.is_tail_damaged(offset)? => {
                let what = "the header of the last record is damaged, or this is no such file";
                let error = Error::corrupt_at(CorruptionKind::BadLength, path, offset, what);
                return Ok(LogEnd::Damaged(error));
            }
            ReadOutcome::TruncatedTail { offset } => return Ok(LogEnd::CutOff { offset }),
            ReadOutcome::Corrupt { offset, .. } if reader.is_end_of_recycled(offset)? => {
                return Ok(LogEnd::Recycled { offset });
            }
            ReadOutcome::Corrupt { offset, reason } => {
                return Ok(LogEnd::Damaged(Error::corrupt_at(CorruptionKind::Checksum, path, offset, reason)));
            }
        }
    }
}
