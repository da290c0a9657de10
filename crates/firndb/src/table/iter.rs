//! An iterator over one table: owned, both ways, block by block.
//!
//! Blocks that are not cached are read ahead in larger pieces once a scan is under way. A table that was ingested
//! shows its sequence number in every key.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::{SEEK_KIND, SequenceNumber, TRAILER_LEN, internal_key, pack_trailer, trailer, user_key};
use crate::iter::InternalIterator;

use super::block::{Block, BlockCursor, BlockSlice};
use super::layout::TRAILER_LEN as BLOCK_TRAILER_LEN;
use super::reader::{TableReadOptions, TableReader};

/// Blocks in a row that were not cached before reading ahead begins.
const SEQUENTIAL_READS: u32 = 2;
const READ_AHEAD_FIRST: usize = 16 << 10;
const READ_AHEAD_MAX: usize = 256 << 10;

/// A position in a table.
pub(crate) struct TableIter {
    table: Arc<TableReader>,
    options: TableReadOptions,
    /// The number of the current block; `len()` when not on one.
    index: usize,
    block: Option<Arc<Block>>,
    cursor: BlockCursor,
    /// The trailer that the file has, while the key shows the table's own sequence number.
    stored_trailer: Option<[u8; TRAILER_LEN]>,
    ahead: ReadAhead,
}

/// Bytes of the file that were read before they were asked for.
#[derive(Default)]
struct ReadAhead {
    start: u64,
    bytes: Vec<u8>,
    /// Uncached blocks in a row, and the block after the last one.
    in_a_row: u32,
    next: usize,
    window: usize,
}

impl TableReader {
    /// An iterator that is on no entry yet.
    pub(crate) fn iter(self: &Arc<Self>, options: TableReadOptions) -> TableIter {
        TableIter {
            index: self.index.len(),
            table: Arc::clone(self),
            options,
            block: None,
            cursor: BlockCursor::default(),
            stored_trailer: None,
            ahead: ReadAhead::default(),
        }
    }
}

impl TableIter {
    /// The value, kept alive by itself.
    #[inline]
    pub(crate) fn value_slice(&self) -> Option<BlockSlice> {
        let block = self.block.as_ref().filter(|_| self.valid())?;
        Some(BlockSlice::new(Arc::clone(block), self.cursor.value_range()))
    }

    /// The number of the current block.
    pub(super) fn current_block(&self) -> usize {
        self.index
    }

    #[cold]
    fn at(&self, error: Error) -> Error {
        let offset = self.block.as_ref().map_or(0, |block| block.offset);
        self.table.at(error, offset)
    }

    /// Makes block `index` the current one; false if there is none.
    fn load(&mut self, index: usize) -> Result<bool> {
        self.cursor.invalidate();
        self.stored_trailer = None;
        if index >= self.table.index.len() {
            self.block = None;
            return Ok(false);
        }
        if self.index == index && self.block.is_some() {
            return Ok(true);
        }
        self.index = index;
        self.block = None;
        let block = match self.table.cached(index) {
            Some(block) => block,
            None => {
                let stored = self.read(index)?;
                self.table.admit(index, stored, &self.options)?
            }
        };
        self.block = Some(block);
        Ok(true)
    }

    /// The stored bytes of a block, by way of the bytes read ahead.
    fn read(&mut self, index: usize) -> Result<Vec<u8>> {
        let table = &self.table;
        let handle = table.index.handle(index);
        let len = table.footer.stored_len(handle).map_err(|error| table.at(error, handle.offset))?;
        let ahead = &mut self.ahead;
        let buffered = |ahead: &ReadAhead| {
            let start = usize::try_from(handle.offset.checked_sub(ahead.start)?).ok()?;
            ahead.bytes.get(start..start.checked_add(len)?).map(<[u8]>::to_vec)
        };
        ahead.in_a_row = if ahead.next == index { ahead.in_a_row + 1 } else { 0 };
        ahead.next = index + 1;
        if let Some(stored) = buffered(ahead) {
            return Ok(stored);
        }
        let window = match self.options.read_ahead {
            0 if ahead.in_a_row < SEQUENTIAL_READS => 0,
            0 => {
                ahead.window = (ahead.window * 2).clamp(READ_AHEAD_FIRST, READ_AHEAD_MAX);
                ahead.window
            }
            asked => asked,
        };
        if window <= len {
            return table.footer.read_stored(&*table.file, &table.context.path, handle);
        }
        let window = window.min((table.footer.offset - handle.offset) as usize).max(len);
        // Taken out while it is being filled: a read that fails leaves an empty window, not one of other bytes.
        let mut bytes = std::mem::take(&mut ahead.bytes);
        bytes.resize(window, 0);
        let filled = table.file.read_at(handle.offset, &mut bytes)?;
        bytes.truncate(filled);
        ahead.start = handle.offset;
        ahead.bytes = bytes;
        buffered(ahead).ok_or_else(|| {
            Error::corrupt_at(
                CorruptionKind::Truncated,
                &table.context.path,
                handle.offset,
                format!("{filled} bytes of a block of {len}: the file is shorter than its size says"),
            )
        })
    }

    /// Shows the table's own sequence number in the key, if it has one.
    #[inline]
    fn stamp(&mut self) {
        if let Some(sequence) = self.table.global_sequence
            && self.cursor.valid()
        {
            let key = self.cursor.key_mut();
            if let Some(slot) = key.last_chunk_mut::<TRAILER_LEN>() {
                self.stored_trailer = Some(*slot);
                *slot = pack_trailer(sequence, slot[0]).to_le_bytes();
            }
        }
    }

    /// Puts the stored trailer back: the next key may share its bytes.
    #[inline]
    fn unstamp(&mut self) {
        if let Some(stored) = self.stored_trailer.take()
            && let Some(slot) = self.cursor.key_mut().last_chunk_mut::<TRAILER_LEN>()
        {
            *slot = stored;
        }
    }

    /// Goes on to the following blocks while the current one is at its end.
    fn skip_forward(&mut self) -> Result<()> {
        while !self.cursor.valid() && self.block.is_some() {
            if !self.load(self.index + 1)? {
                return Ok(());
            }
            if let Some(block) = &self.block {
                self.cursor.seek_to_first(block).map_err(|error| self.at(error))?;
            }
        }
        self.stamp();
        Ok(())
    }

    /// Goes back to the blocks before while the current one is before its start.
    fn skip_backward(&mut self) -> Result<()> {
        while !self.cursor.valid() && self.block.is_some() {
            if self.index == 0 {
                self.block = None;
                return Ok(());
            }
            self.load(self.index - 1)?;
            if let Some(block) = &self.block {
                self.cursor.seek_to_last(block).map_err(|error| self.at(error))?;
            }
        }
        self.stamp();
        Ok(())
    }

    fn fail<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.cursor.invalidate();
            self.block = None;
        }
        result
    }

    fn try_seek(&mut self, target: &[u8]) -> Result<()> {
        // What is stored in an ingested table has sequence number 0, once a user key: any version of the target's is
        // found, and then judged by the number that it shows.
        let any_version;
        let stored = match self.table.global_sequence {
            None => target,
            Some(_) => {
                any_version = internal_key(user_key(target), SequenceNumber::MAX, SEEK_KIND);
                &any_version
            }
        };
        let index = self.table.index.find(self.table.order(), user_key(stored), trailer(stored));
        if !self.load(index)? {
            return Ok(());
        }
        if let Some(block) = &self.block {
            self.cursor.seek(block, self.table.order(), stored).map_err(|error| self.at(error))?;
        }
        self.skip_forward()?;
        let is_before = |key: &[u8]| self.table.order().compare_internal(key, target) == Ordering::Less;
        match self.table.global_sequence.is_some() && self.valid() && is_before(self.cursor.key()) {
            true => self.next(),
            false => Ok(()),
        }
    }
}

impl InternalIterator for TableIter {
    #[inline]
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        let result = (|| {
            if self.load(0)? {
                if let Some(block) = &self.block {
                    self.cursor.seek_to_first(block).map_err(|error| self.at(error))?;
                }
                self.skip_forward()?;
            }
            Ok(())
        })();
        self.fail(result)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let result = (|| {
            let Some(last) = self.table.index.len().checked_sub(1) else {
                self.cursor.invalidate();
                return Ok(());
            };
            self.load(last)?;
            if let Some(block) = &self.block {
                self.cursor.seek_to_last(block).map_err(|error| self.at(error))?;
            }
            self.skip_backward()
        })();
        self.fail(result)
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let result = self.try_seek(target);
        self.fail(result)
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.seek(target)?;
        if !self.valid() {
            return self.seek_to_last();
        }
        match self.table.order().compare_internal(self.key(), target) == Ordering::Greater {
            true => self.prev(),
            false => Ok(()),
        }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.unstamp();
        let Some(block) = &self.block else { return Ok(()) };
        if let Err(error) = self.cursor.next(block) {
            let error = self.at(error);
            return self.fail(Err(error));
        }
        if self.cursor.valid() && self.table.global_sequence.is_none() {
            return Ok(());
        }
        let result = self.skip_forward();
        self.fail(result)
    }

    fn prev(&mut self) -> Result<()> {
        self.unstamp();
        let Some(block) = &self.block else { return Ok(()) };
        if let Err(error) = self.cursor.prev(block) {
            let error = self.at(error);
            return self.fail(Err(error));
        }
        let result = self.skip_backward();
        self.fail(result)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match &self.block {
            Some(block) => self.cursor.value(block),
            None => &[],
        }
    }
}

/// The stored length of a block, trailer included.
pub(super) fn stored_bytes(size: u64) -> u64 {
    size + BLOCK_TRAILER_LEN as u64
}
