//! The file of an open table: blocks by their handles, checked and decompressed.
//!
//! Flow: [`super::reader`], [`super::iter`] and [`super::parts`] -> **[`Source`]** -> [`super::layout`] -> the file. What is
//! read here is not in the cache, or is read past it.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::compression::Dictionary;
use crate::fs::RandomAccessFile;
use crate::metrics::Ticker;

use super::block::Block;
use super::layout::{BlockHandle, Footer, located};
use super::reader_options::{TableOpenContext, TableReadOptions};

/// See the module's text.
pub(crate) struct Source {
    pub(super) file: Arc<dyn RandomAccessFile>,
    pub(super) context: TableOpenContext,
    pub(super) footer: Footer,
    /// What the data blocks are decompressed with.
    pub(super) dictionary: Option<Dictionary>,
}

impl Source {
    /// Names the file and the block of an error.
    #[cold]
    pub(super) fn at(&self, error: Error, offset: u64) -> Error {
        located(error, &self.context.path, offset)
    }

    /// A block and its trailer as they are stored.
    pub(super) fn stored(&self, handle: BlockHandle) -> Result<Vec<u8>> {
        self.footer.read_stored(&*self.file, &self.context.path, handle)
    }

    /// Stored bytes that are what was written. If they are not, they are read once more: a bit may have flipped on the way,
    /// and only what is wrong twice is damage.
    fn checked(&self, handle: BlockHandle, stored: Vec<u8>) -> Result<Vec<u8>> {
        let Err(error) = self.footer.check(&stored, handle.offset) else { return Ok(stored) };
        self.context.statistics.add(Ticker::BlockChecksumMismatchCount, 1);
        let again = self.stored(handle)?;
        match self.footer.check(&again, handle.offset) {
            Ok(()) => Ok(again),
            Err(_) => Err(self.at(error, handle.offset)),
        }
    }

    /// The content of a block other than a data block.
    pub(super) fn content(&self, handle: BlockHandle, options: &TableReadOptions) -> Result<Vec<u8>> {
        self.content_with(handle, options, None)
    }

    /// The content of any block.
    pub(super) fn content_with(
        &self,
        handle: BlockHandle,
        options: &TableReadOptions,
        dictionary: Option<&Dictionary>,
    ) -> Result<Vec<u8>> {
        let stored = self.stored(handle)?;
        self.decompressed(handle, stored, options, dictionary)
    }

    /// A data block of its stored bytes.
    pub(super) fn data_block(&self, handle: BlockHandle, stored: Vec<u8>, options: &TableReadOptions) -> Result<Block> {
        let content = self.decompressed(handle, stored, options, self.dictionary.as_ref())?;
        Block::new(content, handle.offset).map_err(|error| self.at(error, handle.offset))
    }

    fn decompressed(
        &self,
        handle: BlockHandle,
        stored: Vec<u8>,
        options: &TableReadOptions,
        dictionary: Option<&Dictionary>,
    ) -> Result<Vec<u8>> {
        let stored = match options.verify_checksums && self.context.verify_checksums {
            true => self.checked(handle, stored)?,
            false => stored,
        };
        self.footer.content(stored, dictionary).map_err(|error| self.at(error, handle.offset))
    }
}
