//! One file of level 0 as a sorted run.
//!
//! Flow: `read::view` opens the file -> **[`FileIter`]** -> `table::iter`. A table's index has the last key of each block,
//! but not the first key of all; MANIFEST does. So a seek backwards from before that key reads no block to find that there
//! is nothing. Deeper levels have [`super::level_iter`], which asks the same of each file.

use std::cmp::Ordering;

use crate::error::Result;
use crate::iter::InternalIterator;
use crate::sync::Arc;
use crate::table::TableIter;
use crate::table::block::BlockSlice;

use super::TableFile;

/// The entries of a file, in both directions.
pub(crate) struct FileIter {
    table: TableIter,
    file: Arc<TableFile>,
}

impl FileIter {
    /// `table` reads `file`, and is on no entry yet.
    pub(crate) fn new(file: Arc<TableFile>, table: TableIter) -> FileIter {
        FileIter { table, file }
    }

    /// The value, pinned.
    pub(crate) fn value_slice(&self) -> Option<BlockSlice> {
        self.table.value_slice()
    }
}

impl InternalIterator for FileIter {
    #[inline]
    fn valid(&self) -> bool {
        self.table.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.table.seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.table.seek_to_last()
    }

    #[inline]
    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.table.seek(target)
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        if self.table.order().compare_internal(&self.file.meta.smallest, target) == Ordering::Greater {
            self.table.leave();
            return Ok(());
        }
        self.table.seek_for_prev(target)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.table.next()
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.table.prev()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.table.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.table.value()
    }
}
