//! Appends logical records to a log.
//!
//! Flow: `write::wal_set` and `version::set::commit` -> **[`LogWriter`]** -> fragments in a buffer -> one append to the file.
//!
//! Invariants: a log whose append failed is never appended to again. A compressed log says so in its first record, and each
//! record behind it is one zstd frame. Threads: one at a time.

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{crc32c_parts, mask};
use crate::format::compression::{Compression, compress_frame};
use crate::format::limits::{RECORD_BYTES_MAX, exceeded};
use crate::fs::WritableFile;
use crate::sync::Arc;

use super::{BLOCK_LEN, LEGACY_HEADER_LEN, RECYCLABLE_HEADER_LEN, kind};

/// One append to the file per record, whatever its fragments; or into a buffer, when buffered.
///
/// After a failed append the log's end is unknown, and every later call fails: a log is never appended to again.
#[derive(Debug)]
pub(crate) struct LogWriter {
    file: Arc<dyn WritableFile>,
    /// The number that recyclable records carry; `None` writes legacy records.
    recyclable: Option<u32>,
    block_offset: usize,
    buffer: Vec<u8>,
    is_buffered: bool,
    /// Records are compressed, each one a zstd frame.
    is_compressed: bool,
    has_records: bool,
    failure: Option<Error>,
}

impl LogWriter {
    /// A writer at the start of the empty `file`.
    pub(crate) fn new(file: Arc<dyn WritableFile>, recyclable: Option<u32>) -> LogWriter {
        let buffer = Vec::new();
        LogWriter {
            file,
            recyclable,
            block_offset: 0,
            buffer,
            is_buffered: false,
            is_compressed: false,
            has_records: false,
            failure: None,
        }
    }

    /// From the first record on, which this has to come before, records are compressed with zstd. The log says so, as soon as
    /// it has a record.
    pub(crate) fn compress(&mut self) {
        // It has the legacy form in every log.
        let number = self.recyclable.take();
        let codec = u32::from(Compression::Zstd.to_byte()).to_le_bytes();
        self.encode_fragment(kind::SET_COMPRESSION, &codec);
        self.block_offset += LEGACY_HEADER_LEN + codec.len();
        self.recyclable = number;
        self.is_compressed = true;
    }

    pub(crate) fn file(&self) -> &Arc<dyn WritableFile> {
        &self.file
    }

    /// Bytes of the log, those still buffered included.
    pub(crate) fn size(&self) -> u64 {
        self.file.size() + self.buffer.len() as u64
    }

    /// True once a record was added, be it still buffered.
    pub(crate) fn has_records(&self) -> bool {
        self.has_records
    }

    /// From now on records stay in memory until [`LogWriter::flush_buffer`], or no longer do.
    pub(crate) fn set_buffered(&mut self, is_buffered: bool) {
        self.is_buffered = is_buffered;
    }

    /// Adds a record; on return the operating system has it, unless buffered.
    pub(crate) fn add_record(&mut self, payload: &[u8]) -> Result<()> {
        self.check()?;
        if payload.len() > RECORD_BYTES_MAX {
            return Err(exceeded("a log record", payload.len(), RECORD_BYTES_MAX));
        }
        self.has_records = true;
        if self.is_compressed {
            self.encode_compressed(payload)?;
        } else {
            self.encode(payload);
        }
        if self.is_buffered { Ok(()) } else { self.flush_buffer() }
    }

    #[cold]
    fn encode_compressed(&mut self, payload: &[u8]) -> Result<()> {
        let mut frame = Vec::new();
        compress_frame(payload, &mut frame)?;
        if frame.len() > RECORD_BYTES_MAX {
            return Err(exceeded("a compressed log record", frame.len(), RECORD_BYTES_MAX));
        }
        self.encode(&frame);
        Ok(())
    }

    /// Hands buffered records to the operating system.
    pub(crate) fn flush_buffer(&mut self) -> Result<()> {
        self.check()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let outcome = self.file.append(&self.buffer);
        self.buffer.clear();
        if let Err(error) = &outcome {
            self.failure = Some(error.clone());
        }
        outcome
    }

    /// Notes that the file failed elsewhere (a sync): it is not appended to again.
    pub(crate) fn poison(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// True if it is never appended to again.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn check(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(error) => Err(error.clone().because(ErrorKind::Io, "the log failed before and is not appended to")),
        }
    }

    fn encode(&mut self, mut payload: &[u8]) {
        let header_len = if self.recyclable.is_some() { RECYCLABLE_HEADER_LEN } else { LEGACY_HEADER_LEN };
        let mut is_first = true;
        loop {
            let left = BLOCK_LEN - self.block_offset;
            if left < header_len {
                self.buffer.resize(self.buffer.len() + left, 0);
                self.block_offset = 0;
                continue;
            }
            let room = match left - header_len {
                // RocksDB 7.8 takes a fragment of a frame for the one before it if both begin at the same place of a block.
                room if self.is_compressed && self.block_offset == 0 && payload.len() > room => room / 2,
                room => room,
            };
            let (fragment, rest) = payload.split_at(payload.len().min(room));
            let kind = match (is_first, rest.is_empty()) {
                (true, true) => kind::FULL,
                (true, false) => kind::FIRST,
                (false, false) => kind::MIDDLE,
                (false, true) => kind::LAST,
            };
            self.encode_fragment(kind, fragment);
            self.block_offset += header_len + fragment.len();
            payload = rest;
            is_first = false;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn encode_fragment(&mut self, kind: u8, fragment: &[u8]) {
        // A fragment is shorter than a block, so its length fits.
        let length = (fragment.len() as u16).to_le_bytes();
        let number = self.recyclable.map(u32::to_le_bytes);
        let kind = if number.is_some() { kind + kind::TO_RECYCLABLE } else { kind };
        let number: &[u8] = number.as_ref().map_or(&[], |bytes| bytes);
        let crc = mask(crc32c_parts(&[&[kind], number, fragment]));
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(&length);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(number);
        self.buffer.extend_from_slice(fragment);
    }
}
