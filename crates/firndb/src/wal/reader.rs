//! Reads logical records back, and says what is wrong where something is.
//!
//! The reader takes no decision: the four WAL recovery modes and MANIFEST's strict rule are made of its outcomes.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{crc32c_parts, unmask};
use crate::fs::RandomAccessFile;
use crate::sync::Arc;

use super::{BLOCK_LEN, LEGACY_HEADER_LEN, RECORD_BYTES_MAX, RECYCLABLE_HEADER_LEN, kind};

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
    has_legacy: bool,
    has_recyclable: bool,
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
            has_legacy: false,
            has_recyclable: false,
        }
    }

    /// Where the reader stands, in bytes from the start of the file.
    pub(crate) fn position(&self) -> u64 {
        self.block_start + self.at as u64
    }

    /// Reads the next logical record into `record`.
    ///
    /// # Errors
    /// The file system's, and `NotSupported` for WAL compression, user-defined timestamps, and records that are too long.
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
                        return Ok(ReadOutcome::Record { offset: start.unwrap_or(offset) });
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
                    let offset = self.position();
                    // What is left of a full block is padding; of a cut-off one, half a header.
                    let is_padding = self.block[self.at..].iter().all(|byte| *byte == 0);
                    self.at = self.block.len();
                    return Ok(if is_padding { Fragment::End } else { Fragment::Truncated { offset } });
                }
                self.read_block()?;
                continue;
            }
            let offset = self.position();
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
            match self.judge(kind, is_recyclable, offset)? {
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
            let found = behind.map(|behind| self.position() + behind as u64);
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

    fn judge(&mut self, kind: u8, is_recyclable: bool, offset: u64) -> Result<Verdict> {
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
            kind::SET_COMPRESSION => Err(self.unsupported(offset, "the log is compressed")),
            kind::TIMESTAMP_SIZES | kind::RECYCLABLE_TIMESTAMP_SIZES => {
                Err(self.unsupported(offset, "the log has user-defined timestamps"))
            }
            kind::IGNORABLE.. => Ok(Verdict::Skip),
            _ => Ok(Verdict::Bad(format!("record type {kind} does not exist"))),
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{CreateMode, Fs, MemoryFs};
    use crate::wal::writer::LogWriter;

    fn written(fs: &MemoryFs, recyclable: Option<u32>, records: &[Vec<u8>]) -> Vec<u8> {
        let path = Path::new("/db/000007.log");
        fs.create_dir_all(Path::new("/db")).expect("dir");
        let mut writer = LogWriter::new(fs.create(path, CreateMode::Truncate).expect("create"), recyclable);
        for record in records {
            writer.add_record(record).expect("append");
        }
        assert_eq!(writer.size(), fs.file_size(path).expect("size"));
        fs.read_whole(path, 1 << 30).expect("read")
    }

    fn outcomes(bytes: &[u8]) -> Vec<(ReadOutcome, Vec<u8>)> {
        let fs = MemoryFs::default();
        let path = Path::new("/x.log");
        fs.create(path, CreateMode::New).expect("create").append(bytes).expect("append");
        let mut reader = LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
        let mut all = Vec::new();
        let mut record = Vec::new();
        loop {
            let outcome = reader.next(&mut record).expect("no I/O error");
            let is_over =
                matches!(outcome, ReadOutcome::End | ReadOutcome::TruncatedTail { .. } | ReadOutcome::OldRecord { .. });
            all.push((outcome, record.clone()));
            if is_over {
                return all;
            }
        }
    }

    fn good(bytes: &[u8]) -> Vec<Vec<u8>> {
        let is_record = |outcome: &ReadOutcome| matches!(outcome, ReadOutcome::Record { .. });
        outcomes(bytes).into_iter().filter(|(outcome, _)| is_record(outcome)).map(|(_, record)| record).collect()
    }

    /// Records whose fragments end at, before and behind every kind of block border.
    fn samples() -> Vec<Vec<u8>> {
        let lengths = [0, 1, 100, 32768 - 7 - 107 - 14 - 8 - 7, 0, 32761, 32760, 32755, 40_000, 7, 100_000, 3];
        lengths.iter().enumerate().map(|(i, len)| (0..*len).map(|j| (i * 31 + j) as u8).collect()).collect()
    }

    #[test]
    fn records_of_every_length_come_back_in_both_forms() {
        for recyclable in [None, Some(7)] {
            let records = samples();
            assert_eq!(good(&written(&MemoryFs::default(), recyclable, &records)), records);
        }
    }

    #[test]
    fn every_border_length_comes_back() {
        for first in 32_700..32_790usize {
            let records = vec![vec![1; first], vec![2; 20]];
            assert_eq!(good(&written(&MemoryFs::default(), None, &records)), records, "{first}");
        }
    }

    #[test]
    fn a_log_of_rocksdb_7_8_3_reads_byte_for_byte() {
        let bytes = [
            0x91, 0x7a, 0x9d, 0x88, 0x19, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 6, 0x63, 0x68, 0x65, 0x72, 0x72,
            0x79, 4, 0x64, 0x61, 0x72, 0x6b,
        ];
        assert_eq!(good(&bytes), [bytes[7..].to_vec()]);
        assert_eq!(written(&MemoryFs::default(), None, &[bytes[7..].to_vec()]), bytes);
    }

    #[test]
    fn any_cut_gives_a_prefix_and_never_a_wrong_record() {
        let records = samples();
        let bytes = written(&MemoryFs::default(), None, &records);
        for cut in (0..bytes.len()).step_by(97).chain(bytes.len() - 40..bytes.len()) {
            let found = good(&bytes[..cut]);
            assert_eq!(found[..], records[..found.len()], "cut at {cut}");
            assert!(found.len() < records.len());
        }
    }

    #[test]
    fn any_flipped_bit_is_reported_and_never_returned() {
        let records: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i; 5 + usize::from(i)]).collect();
        let bytes = written(&MemoryFs::default(), None, &records);
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                let all = outcomes(&damaged);
                let found = good(&damaged);
                assert!(found.len() < records.len(), "byte {position} bit {bit}");
                assert!(found.iter().all(|record| records.contains(record)), "byte {position} bit {bit}");
                let is_told = |(outcome, _): &(ReadOutcome, Vec<u8>)| {
                    matches!(outcome, ReadOutcome::Corrupt { .. } | ReadOutcome::TruncatedTail { .. })
                };
                // A last header that turned into zeros could look like preallocated space; a flip cannot make one.
                assert!(all.iter().any(is_told), "byte {position} bit {bit}: {all:?}");
            }
        }
    }

    #[test]
    fn a_recycled_log_ends_at_the_first_old_record() {
        let fs = MemoryFs::default();
        let mut bytes = written(&fs, Some(7), &[b"new".to_vec()]);
        bytes.extend(written(&MemoryFs::default(), Some(6), &[b"old".to_vec()]));
        let all = outcomes(&bytes);
        assert_eq!(all[0].1, b"new");
        assert_eq!(all[1].0, ReadOutcome::OldRecord { offset: 14, in_record: false });
    }

    #[test]
    fn the_middle_of_an_old_record_is_the_end_of_a_recycled_log_and_a_damaged_record_is_not() {
        let old = written(&MemoryFs::default(), Some(6), &[vec![0xee; 500], vec![1; 40_000], vec![2; 300]]);
        let new = written(&MemoryFs::default(), Some(7), &[b"first".to_vec(), b"second".to_vec()]);
        let is_end = |bytes: &[u8]| {
            let fs = MemoryFs::new();
            let path = Path::new("/x.log");
            fs.create(path, CreateMode::New).expect("create").append(bytes).expect("append");
            let mut reader = LogReader::new(fs.open_random(path).expect("open"), path.to_owned(), 7);
            let mut record = Vec::new();
            loop {
                match reader.next(&mut record).expect("memory") {
                    ReadOutcome::Record { .. } => {}
                    ReadOutcome::Corrupt { offset, .. } => return reader.is_end_of_recycled(offset).expect("memory"),
                    other => panic!("{other:?}"),
                }
            }
        };
        let recycled = [&new[..], &old[new.len()..]].concat();
        assert!(is_end(&recycled), "nothing is wrong with it");
        let second = RECYCLABLE_HEADER_LEN + 5;
        for at in second..new.len() {
            let mut damaged = recycled.clone();
            damaged[at] ^= 0x10;
            // A length that still lies in the block, or any other flip: the record is known by its number or checksum.
            assert!(!is_end(&damaged), "byte {at}");
        }
    }

    #[test]
    fn zeros_behind_the_end_are_the_end() {
        for zeros in [7, 4096, 32768, 100_000] {
            let mut bytes = written(&MemoryFs::default(), None, &[b"a".to_vec()]);
            bytes.resize(bytes.len() + zeros, 0);
            let all = outcomes(&bytes);
            assert_eq!((all.len(), &all[1].0), (2, &ReadOutcome::End), "{zeros} zeros");
        }
    }

    #[test]
    fn zeros_with_something_behind_them_are_a_hole() {
        let records: Vec<Vec<u8>> = (0..4000u32).map(|i| vec![i as u8; 41]).collect();
        let bytes = written(&MemoryFs::default(), None, &records);
        for (begin, len) in
            [(480, 7), (480, 48), (480, 8192), (480, 32768), (32768, 4096), (32768, 32768), (480, 120_000)]
        {
            let mut damaged = bytes.clone();
            damaged[begin..begin + len].fill(0);
            let all = outcomes(&damaged);
            let before = all.iter().position(|(outcome, _)| !matches!(outcome, ReadOutcome::Record { .. }));
            let (at, hole) = (before.expect("a hole"), &all[before.expect("a hole")].0);
            assert!(
                matches!(hole, ReadOutcome::Corrupt { offset, .. } if *offset == begin as u64),
                "{begin} {len}: {hole:?}"
            );
            assert_eq!(
                all[..at].iter().map(|(_, record)| record).collect::<Vec<_>>(),
                records[..at].iter().collect::<Vec<_>>()
            );
            // Whoever skips what is damaged finds what is behind.
            assert!(all[at..].iter().any(|(_, record)| *record == records[3999]), "{begin} {len}");
        }
    }
}
