//! Reads logical records back, and says what is wrong where something is.
//!
//! The reader takes no decision: the four WAL recovery modes and MANIFEST's strict rule are made of its outcomes. It does
//! not have to start at the front: a [`LogPosition`] behind a whole record is where the same or another reader goes on,
//! also after the end was met and more was appended.

use std::path::PathBuf;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::{crc32c_parts, unmask};
use crate::format::coding::u32_at;
use crate::format::compression::decompress_frame;
use crate::format::limits::RECORD_BYTES_MAX;
use crate::fs::RandomAccessFile;
use crate::sync::Arc;

use super::{BLOCK_LEN, LEGACY_HEADER_LEN, RECYCLABLE_HEADER_LEN, kind};

/// The number of zstd, the only codec that compressed logs have.
const ZSTD: u32 = 7;

/// What [`LogReader::next`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// A whole record, now in the caller's buffer; it starts at `offset`.
    Record { offset: u64 },
    /// The end, at a record's border.
    End,
    /// The file ends inside a record that starts at `offset`.
    TruncatedTail { offset: u64 },
    /// Damage at `offset`; the next call goes on behind it.
    Corrupt { offset: u64, reason: String },
    /// A record of the log that this file was recycled from: the logical end. `in_record` if inside a fragmented one.
    OldRecord { offset: u64, in_record: bool },
}

/// Behind a whole record of one log, or at the log's start. Only a reader makes one, and it holds for that file alone: a
/// number in between could be taken for a record's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LogPosition {
    /// Bytes from the start of the file.
    offset: u64,
    /// What the records before were: the log does not mix the two forms, and the end of a recycled log is told by it.
    has_legacy: bool,
    has_recyclable: bool,
    /// The log's first record said so.
    is_compressed: bool,
}

impl LogPosition {
    pub(crate) fn offset(self) -> u64 {
        self.offset
    }
}

/// A physical record, or why there is none.
enum Fragment {
    Payload { kind: u8, offset: u64, start: usize, end: usize },
    End,
    Truncated { offset: u64 },
    Corrupt { offset: u64, reason: String },
    Old { offset: u64 },
}

/// Holds one block of the file, and the record that is being put together.
#[derive(Debug)]
pub(crate) struct LogReader {
    file: Arc<dyn RandomAccessFile>,
    path: PathBuf,
    log_number: u64,
    block: Vec<u8>,
    block_start: u64,
    at: usize,
    is_last_block: bool,
    /// Where in the block the fragment starts that seemed to be cut off.
    cut_off_at: Option<usize>,
    /// Behind the last record that was returned.
    behind_record: u64,
    has_legacy: bool,
    has_recyclable: bool,
    /// Where the log says that keys have user-defined timestamps.
    timestamps_at: Option<u64>,
    has_skipped: bool,
    is_compressed: bool,
    /// The bytes of a compressed record, while it is made of them.
    frame: Vec<u8>,
}

impl LogReader {
    /// A reader at the start of `file`; `path` is for messages, `log_number` for recycled logs.
    pub(crate) fn new(file: Arc<dyn RandomAccessFile>, path: PathBuf, log_number: u64) -> LogReader {
        LogReader {
            file,
            path,
            log_number,
            block: Vec::new(),
            block_start: 0,
            at: 0,
            is_last_block: false,
            cut_off_at: None,
            behind_record: 0,
            has_legacy: false,
            has_recyclable: false,
            timestamps_at: None,
            has_skipped: false,
            is_compressed: false,
            frame: Vec::new(),
        }
    }

    /// The log says, up to here, that keys have user-defined timestamps.
    pub(crate) fn has_timestamps(&self) -> bool {
        self.timestamps_at.is_some()
    }

    /// The log has, up to here, records that are not known and may be skipped.
    pub(crate) fn has_skipped(&self) -> bool {
        self.has_skipped
    }

    /// The log's records are compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    /// `NotSupported` if keys were met that have user-defined timestamps.
    pub(crate) fn refuse_timestamps(&self) -> Result<()> {
        match self.timestamps_at {
            None => Ok(()),
            Some(offset) => Err(self.unsupported(offset, "the log has user-defined timestamps")),
        }
    }

    /// Behind the last whole record that was returned, whatever was met after it (the end, a torn tail, damage).
    pub(crate) fn position(&self) -> LogPosition {
        let LogReader { has_legacy, has_recyclable, is_compressed, .. } = *self;
        LogPosition { offset: self.behind_record, has_legacy, has_recyclable, is_compressed }
    }

    /// Goes to a position of this file, forward or back, and reads the file anew from its block on: what was appended
    /// since is found. After an error the reader is where it was.
    ///
    /// # Errors
    /// `Corruption` if the file ends before the position: it lost what was read from it, or is another file.
    pub(crate) fn resume(&mut self, position: LogPosition) -> Result<()> {
        let at = (position.offset % BLOCK_LEN as u64) as usize;
        let block_start = position.offset - at as u64;
        let mut block = vec![0; BLOCK_LEN];
        let filled = self.file.read_at(block_start, &mut block)?;
        if filled < at || (filled == 0 && self.file.size()? < position.offset) {
            let detail = "the file ends before this offset, up to which it was read before";
            return Err(Error::corrupt_at(CorruptionKind::Truncated, &self.path, position.offset, detail));
        }
        block.truncate(filled);
        self.is_last_block = filled < BLOCK_LEN;
        (self.block, self.block_start, self.at) = (block, block_start, at);
        (self.cut_off_at, self.behind_record) = (None, position.offset);
        (self.has_legacy, self.has_recyclable) = (position.has_legacy, position.has_recyclable);
        self.is_compressed = position.is_compressed;
        Ok(())
    }

    /// Where the next byte is taken from, from the start of the file.
    fn here(&self) -> u64 {
        self.block_start + self.at as u64
    }

    /// Reads the next logical record into `record`.
    ///
    /// # Errors
    /// The file system's, and `NotSupported` for codecs that are not there and records that are too long.
    pub(crate) fn next(&mut self, record: &mut Vec<u8>) -> Result<ReadOutcome> {
        record.clear();
        self.cut_off_at = None;
        let mut start: Option<u64> = None;
        loop {
            match self.fragment()? {
                Fragment::End => {
                    return Ok(start.map_or(ReadOutcome::End, |offset| ReadOutcome::TruncatedTail { offset }));
                }
                Fragment::Truncated { offset } => {
                    return Ok(ReadOutcome::TruncatedTail { offset: start.unwrap_or(offset) });
                }
                Fragment::Old { offset } => {
                    return Ok(ReadOutcome::OldRecord { offset: start.unwrap_or(offset), in_record: start.is_some() });
                }
                Fragment::Corrupt { offset, reason } => return Ok(ReadOutcome::Corrupt { offset, reason }),
                Fragment::Payload { kind, offset, start: from, end } => {
                    let is_recyclable = (kind::RECYCLABLE_FULL..=kind::RECYCLABLE_LAST).contains(&kind);
                    let plain = if is_recyclable { kind - kind::TO_RECYCLABLE } else { kind };
                    let begins = matches!(plain, kind::FULL | kind::FIRST);
                    if begins != start.is_none() && !(begins && record.is_empty()) {
                        if begins {
                            // Read this fragment again: it may well start a good record.
                            self.at = (offset - self.block_start) as usize;
                        }
                        let reason = if begins { "a record without its end" } else { "a record without its start" };
                        return Ok(ReadOutcome::Corrupt { offset: start.unwrap_or(offset), reason: reason.to_owned() });
                    }
                    if record.len() + (end - from) > RECORD_BYTES_MAX {
                        // Its checksums are right: nothing is wrong with it.
                        let what = format!("a record of more than {RECORD_BYTES_MAX} bytes");
                        return Err(self.unsupported(start.unwrap_or(offset), &what));
                    }
                    if begins {
                        start = Some(offset);
                    }
                    record.extend_from_slice(&self.block[from..end]);
                    if matches!(plain, kind::FULL | kind::LAST) {
                        let offset = start.unwrap_or(offset);
                        if self.is_compressed
                            && let Some(wrong) = self.decompress(record, offset)?
                        {
                            return Ok(wrong);
                        }
                        self.behind_record = self.here();
                        return Ok(ReadOutcome::Record { offset });
                    }
                }
            }
        }
    }

    /// After [`ReadOutcome::TruncatedTail`]: true if nothing was cut off after all, but a length or type that is damaged
    /// made it look so: the checksum fits another header, or whole records follow.
    pub(crate) fn cut_off_tail_is_whole(&self) -> bool {
        let Some(tail) = self.cut_off_at.map(|at| &self.block[at..]) else { return false };
        let stored = |at: usize| unmask(u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]));
        let fits = |at: usize, kind: u8, end: usize| {
            stored(at) == crc32c_parts(&[&[kind], &tail[at + LEGACY_HEADER_LEN..end]])
        };
        let is_own = (kind::FULL..=kind::RECYCLABLE_LAST).any(|kind| fits(0, kind, tail.len()));
        // Nobody has ever begun a record of such a type.
        let is_garbage = !matches!(tail[6], kind::FULL..=kind::RECYCLABLE_TIMESTAMP_SIZES | kind::IGNORABLE..=kind::RECYCLABLE_PREDECESSOR);
        is_garbage
            || is_own
            || (LEGACY_HEADER_LEN..tail.len().saturating_sub(LEGACY_HEADER_LEN)).any(|at| {
                let end = at + LEGACY_HEADER_LEN + usize::from(u16::from_le_bytes([tail[at + 4], tail[at + 5]]));
                let kind = tail[at + 6];
                (kind::FULL..=kind::RECYCLABLE_LAST).contains(&kind) && end <= tail.len() && fits(at, kind, end)
            })
    }

    /// After [`ReadOutcome::TruncatedTail`] of a record at `offset`: true if that is damage, and neither a record that was
    /// being written nor the end of a recycled log.
    pub(crate) fn is_tail_damaged(&self, offset: u64) -> Result<bool> {
        let at = self.cut_off_at.map_or(offset, |at| self.block_start + at as u64);
        Ok(self.cut_off_tail_is_whole() && !self.is_end_of_recycled(at)?)
    }

    /// True if what cannot be read at `offset` is no damage, but what a recycled file still holds of the log that it was
    /// before: the log has recyclable records, and neither the header there nor any that follows is of this log.
    pub(crate) fn is_end_of_recycled(&self, offset: u64) -> Result<bool> {
        if !self.has_recyclable {
            return Ok(false);
        }
        let number = (self.log_number as u32).to_le_bytes();
        let mut block = vec![0; BLOCK_LEN];
        let mut start = offset - offset % BLOCK_LEN as u64;
        let mut from = (offset - start) as usize;
        loop {
            let filled = self.file.read_at(start, &mut block)?;
            let rest = &block[from.min(filled)..filled];
            if start <= offset && rest.len() >= RECYCLABLE_HEADER_LEN {
                // One of ours with a damaged header, or with a damaged number.
                let end = RECYCLABLE_HEADER_LEN + usize::from(u16::from_le_bytes([rest[4], rest[5]]));
                let stored = unmask(u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]));
                let is_ours = |payload: &[u8]| stored == crc32c_parts(&[&rest[6..7], &number, payload]);
                if rest[7..11] == number || rest.get(RECYCLABLE_HEADER_LEN..end).is_some_and(is_ours) {
                    return Ok(false);
                }
            }
            let is_header = |header: &[u8]| {
                (kind::RECYCLABLE_FULL..=kind::RECYCLABLE_LAST).contains(&header[6]) && header[7..11] == number
            };
            if rest.windows(RECYCLABLE_HEADER_LEN).any(is_header) {
                return Ok(false);
            }
            if filled < BLOCK_LEN {
                return Ok(true);
            }
            start += BLOCK_LEN as u64;
            from = 0;
        }
    }

    /// The next physical record of the kinds that carry data.
    fn fragment(&mut self) -> Result<Fragment> {
        loop {
            let left = self.block.len() - self.at;
            if left < LEGACY_HEADER_LEN {
                if self.is_last_block {
                    let offset = self.here();
                    // What is left of a full block is padding; of a cut-off one, half a header.
                    let is_padding = self.block[self.at..].iter().all(|byte| *byte == 0);
                    self.at = self.block.len();
                    return Ok(if is_padding { Fragment::End } else { Fragment::Truncated { offset } });
                }
                self.read_block()?;
                continue;
            }
            let offset = self.here();
            let header = &self.block[self.at..];
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            if kind == kind::ZERO && length == 0 {
                return Ok(match self.first_behind_zeros()? {
                    None => Fragment::End,
                    Some(data) => {
                        let reason = format!("zeros where a record begins, and data behind them, from {data} on");
                        Fragment::Corrupt { offset, reason }
                    }
                });
            }
            let is_recyclable = (kind::RECYCLABLE_FULL..=kind::RECYCLABLE_LAST).contains(&kind)
                || kind == kind::RECYCLABLE_TIMESTAMP_SIZES
                || kind == kind::RECYCLABLE_PREDECESSOR;
            let header_len = if is_recyclable { RECYCLABLE_HEADER_LEN } else { LEGACY_HEADER_LEN };
            if left < header_len + length {
                let fits_a_block = self.at + header_len + length <= BLOCK_LEN;
                self.cut_off_at = Some(self.at);
                self.at = self.block.len();
                return Ok(match self.is_last_block && fits_a_block {
                    true => Fragment::Truncated { offset },
                    false => Fragment::Corrupt {
                        offset,
                        reason: format!("a length of {length} reaches past the end of its block"),
                    },
                });
            }
            let checked = &header[6..header_len + length];
            let stored = unmask(u32::from_le_bytes([header[0], header[1], header[2], header[3]]));
            let computed = crc32c_parts(&[checked]);
            if stored != computed {
                self.at = self.block.len();
                let reason = format!("record checksum: stored {stored:#010x}, computed {computed:#010x}");
                return Ok(Fragment::Corrupt { offset, reason });
            }
            if is_recyclable {
                let number = u32::from_le_bytes([header[7], header[8], header[9], header[10]]);
                if number != self.log_number as u32 {
                    return Ok(Fragment::Old { offset });
                }
            }
            let from = self.at + header_len;
            self.at = from + length;
            match self.judge(kind, is_recyclable, offset, from..from + length)? {
                Verdict::Data => return Ok(Fragment::Payload { kind, offset, start: from, end: from + length }),
                Verdict::Skip => {}
                Verdict::Bad(reason) => return Ok(Fragment::Corrupt { offset, reason }),
            }
        }
    }

    /// Space that was preallocated is zero to the end of the file. Zeros with something behind them are a page that was
    /// lost, and so is what stood there. Returns where that something is; the reader is at the end, or where it may find
    /// a record again.
    fn first_behind_zeros(&mut self) -> Result<Option<u64>> {
        let mut is_first_block = true;
        loop {
            let behind = self.block[self.at..].iter().position(|byte| *byte != 0);
            let found = behind.map(|behind| self.here() + behind as u64);
            // Where a record begins is only known of the start of a block; the next one, if these bytes are not it.
            if is_first_block || behind.is_none_or(|behind| behind >= LEGACY_HEADER_LEN) {
                self.at = self.block.len();
            }
            if found.is_some() || self.is_last_block {
                return Ok(found);
            }
            self.read_block()?;
            is_first_block = false;
        }
    }

    fn judge(
        &mut self,
        kind: u8,
        is_recyclable: bool,
        offset: u64,
        payload: std::ops::Range<usize>,
    ) -> Result<Verdict> {
        match kind {
            kind::FULL..=kind::RECYCLABLE_LAST => {
                let is_mixed = if is_recyclable { self.has_legacy } else { self.has_recyclable };
                if is_mixed {
                    return Ok(Verdict::Bad("legacy and recyclable records in one log".to_owned()));
                }
                self.has_legacy |= !is_recyclable;
                self.has_recyclable |= is_recyclable;
                Ok(Verdict::Data)
            }
            kind::SET_COMPRESSION => self.set_compression(payload, offset),
            // They are part of the keys: who does not ask for times sees nothing else.
            kind::TIMESTAMP_SIZES | kind::RECYCLABLE_TIMESTAMP_SIZES => {
                self.timestamps_at.get_or_insert(offset);
                Ok(Verdict::Skip)
            }
            kind::IGNORABLE.. => {
                self.has_skipped = true;
                Ok(Verdict::Skip)
            }
            _ => Ok(Verdict::Bad(format!("record type {kind} does not exist"))),
        }
    }

    /// The record that says how all the others are compressed.
    #[cold]
    fn set_compression(&mut self, payload: std::ops::Range<usize>, offset: u64) -> Result<Verdict> {
        if self.behind_record > 0 {
            return Ok(Verdict::Bad("the log becomes a compressed one behind its first record".to_owned()));
        }
        match u32_at(&self.block[payload.start..payload.end.min(payload.start + 4)], 0) {
            Some(0) => {}
            Some(ZSTD) => self.is_compressed = true,
            Some(other) => return Err(self.unsupported(offset, &format!("the log is compressed with codec {other}"))),
            None => return Ok(Verdict::Bad("a record that names a codec and is too short for one".to_owned())),
        }
        Ok(Verdict::Skip)
    }

    /// Makes the record of the frame that it is; what is wrong with that, if something is.
    #[cold]
    fn decompress(&mut self, record: &mut Vec<u8>, offset: u64) -> Result<Option<ReadOutcome>> {
        std::mem::swap(record, &mut self.frame);
        match decompress_frame(&self.frame, RECORD_BYTES_MAX, record) {
            Ok(()) => Ok(None),
            Err(error) => {
                record.clear();
                match error.corruption() {
                    Some(found) => Ok(Some(ReadOutcome::Corrupt { offset, reason: found.detail.clone() })),
                    None => Err(self.unsupported(offset, &error.to_string())),
                }
            }
        }
    }

    #[cold]
    fn unsupported(&self, offset: u64, what: &str) -> Error {
        let place = self.path.display();
        let message = format!("{place}, offset {offset}: {what}, which this version cannot read");
        Error::new(ErrorKind::NotSupported, message)
    }

    fn read_block(&mut self) -> Result<()> {
        self.block_start += self.block.len() as u64;
        self.block.resize(BLOCK_LEN, 0);
        let filled = self.file.read_at(self.block_start, &mut self.block)?;
        self.block.truncate(filled);
        self.is_last_block = filled < BLOCK_LEN;
        self.at = 0;
        Ok(())
    }
}

/// What is to be done with a sound physical record.
enum Verdict {
    Data,
    Skip,
    Bad(String),
}

#[cfg(test)]
mod tests;
