//! Writes the blocks of a table file one after the other, each with its trailer.
//!
//! Flow: [`super::builder`] -> **[`BlockWriter`]** -> the file. Bytes gather and go to the file in large appends.

use std::sync::Arc;

use crate::error::Result;
use crate::format::checksum::{ChecksumType, block_checksum, context_modifier};
use crate::format::compression::{Compression, compress};
use crate::fs::WritableFile;

use super::layout::{BlockHandle, TRAILER_LEN};

/// Bytes gathered before they are handed to the file.
const WRITE_BYTES: usize = 256 * 1024;

/// See the module's text.
pub(super) struct BlockWriter {
    file: Arc<dyn WritableFile>,
    checksum: ChecksumType,
    /// Mixed into every block's checksum; 0 below format version 6.
    base_context: u32,
    buffer: Vec<u8>,
    compressed: Vec<u8>,
    /// Bytes handed to the file or in the buffer.
    offset: u64,
}

impl BlockWriter {
    /// A writer that appends to `file`, which is empty.
    pub(super) fn new(file: Arc<dyn WritableFile>, checksum: ChecksumType, base_context: u32) -> BlockWriter {
        BlockWriter {
            file,
            checksum,
            base_context,
            buffer: Vec::with_capacity(WRITE_BYTES + 8192),
            compressed: Vec::new(),
            offset: 0,
        }
    }

    /// Where the next block will be.
    #[inline]
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends a block, compressed if that makes it shorter.
    pub(super) fn write(&mut self, content: &[u8], codec: Compression) -> Result<BlockHandle> {
        let is_compressed = codec != Compression::None && compress(codec, content, &mut self.compressed)?;
        let (payload, kind) = if is_compressed { (&self.compressed[..], codec.to_byte()) } else { (content, 0) };
        let handle = BlockHandle { offset: self.offset, size: payload.len() as u64 };
        let modifier = context_modifier(self.base_context, self.offset);
        let checksum = block_checksum(self.checksum, payload, kind).wrapping_add(modifier);
        self.buffer.extend_from_slice(payload);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
        self.offset += (payload.len() + TRAILER_LEN) as u64;
        if self.buffer.len() >= WRITE_BYTES {
            self.hand_over()?;
        }
        Ok(handle)
    }

    /// Appends bytes that are no block, and hands everything to the file.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        self.offset += bytes.len() as u64;
        self.hand_over()
    }

    fn hand_over(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}
