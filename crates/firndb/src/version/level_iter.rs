//! One iterator over all files of a sorted level, and the sum of it and a single table's.
//!
//! Flow: `read::view` and `compaction::job` -> **[`LevelIter`]** -> `table_cache` (opens) -> `table::iter` (reads).
//!
//! Invariants
//! 1. A file is opened when the iterator gets to it, and only if its range of keys, which MANIFEST states, may hold what is
//!    asked for: not behind the upper bound going forward, not before the lower one going backward.
//! 2. An error leaves the iterator on no entry, and is never the end.
//!
//! Threads: it owns what it needs (the level, hence the files' places in it, and the reader of the file it is in), and is
//! used by one thread at a time.

use crate::error::Result;
use std::cmp::Ordering;

use crate::format::comparator::KeyOrder;
use crate::format::key::user_key;
use crate::iter::bounds::Bounds;
use crate::iter::{InternalIterator, internal_iterator_of_variants};
use crate::sync::Arc;
use crate::table::TableIter;
use crate::table::block::BlockSlice;
use crate::table::reader::TableReadOptions;

use super::table_cache::TableCache;
use super::{Level, TableFile};

/// The entries of a sorted level, file after file.
pub(crate) struct LevelIter {
    level: Arc<Level>,
    cache: Arc<TableCache>,
    order: KeyOrder,
    options: TableReadOptions,
    bounds: Option<Arc<Bounds>>,
    /// The file that `table` reads; meaningful only beside it.
    index: usize,
    /// `None` before the first move, past either end, and after an error.
    table: Option<TableIter>,
}

impl LevelIter {
    /// An iterator on no entry yet, with no interest in what is outside of the bounds: forward, it may end at the upper one,
    /// and backward at the lower one. Not for level 0.
    #[inline]
    pub(crate) fn new(
        level: Arc<Level>,
        cache: Arc<TableCache>,
        order: KeyOrder,
        options: TableReadOptions,
        bounds: Option<Arc<Bounds>>,
    ) -> LevelIter {
        debug_assert!(level.number() > 0, "level 0 is not sorted by key");
        LevelIter { level, cache, order, options, bounds, index: 0, table: None }
    }

    /// The value, pinned; `None` where the table's iterator has none to pin.
    pub(crate) fn value_slice(&self) -> Option<BlockSlice> {
        self.table.as_ref().and_then(TableIter::value_slice)
    }

    /// Moves within or between files; an error leaves the iterator on no entry.
    fn step(&mut self, step: impl FnOnce(&mut LevelIter) -> Result<()>) -> Result<()> {
        let outcome = step(self);
        if outcome.is_err() {
            self.table = None;
        }
        outcome
    }

    /// Goes to file `index` from before it, on no entry of it yet; false if there is none, or none within the bounds.
    fn enter_forward(&mut self, index: usize) -> Result<bool> {
        self.enter(index, |bounds, order, file| bounds.is_above(order, user_key(&file.meta.smallest)))
    }

    /// Goes to file `index` from behind it.
    fn enter_backward(&mut self, index: usize) -> Result<bool> {
        self.enter(index, |bounds, order, file| bounds.is_below(order, user_key(&file.meta.largest)))
    }

    fn enter(&mut self, index: usize, is_outside: impl FnOnce(&Bounds, &KeyOrder, &TableFile) -> bool) -> Result<bool> {
        if self.table.is_some() && self.index == index {
            return Ok(true);
        }
        self.table = None;
        let Some(file) = self.level.files().get(index) else { return Ok(false) };
        if self.bounds.as_ref().is_some_and(|bounds| is_outside(bounds, &self.order, file)) {
            return Ok(false);
        }
        self.table = Some(self.cache.open(file, &self.order)?.iter_within(self.options, self.bounds.clone()));
        self.index = index;
        Ok(true)
    }

    fn in_table(&mut self, work: impl FnOnce(&mut TableIter) -> Result<()>) -> Result<()> {
        self.table.as_mut().map_or(Ok(()), work)
    }

    /// From past the end of a file to the first entry of the next one that has any.
    #[cold]
    fn skip_forward(&mut self) -> Result<()> {
        self.step(|this| {
            while this.table.is_some() && !this.valid() {
                if this.enter_forward(this.index + 1)? {
                    this.in_table(TableIter::seek_to_first)?;
                }
            }
            Ok(())
        })
    }

    #[cold]
    fn skip_back(&mut self) -> Result<()> {
        self.step(|this| {
            while this.table.is_some() && !this.valid() {
                match this.index.checked_sub(1) {
                    Some(index) => {
                        this.enter_backward(index)?;
                        this.in_table(TableIter::seek_to_last)?;
                    }
                    None => this.table = None,
                }
            }
            Ok(())
        })
    }
}

impl InternalIterator for LevelIter {
    #[inline]
    fn valid(&self) -> bool {
        self.table.as_ref().is_some_and(TableIter::valid)
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.step(|this| {
            this.enter_forward(0)?;
            this.in_table(TableIter::seek_to_first)
        })?;
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.step(|this| {
            this.enter_backward(this.level.len().saturating_sub(1))?;
            this.in_table(TableIter::seek_to_last)
        })?;
        self.skip_back()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let index = self.level.find_file(&self.order, target);
        self.step(|this| {
            this.enter_forward(index)?;
            this.in_table(|table| table.seek(target))
        })?;
        if self.valid() { Ok(()) } else { self.skip_forward() }
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        // The first file that reaches up to the target; if it starts behind it, the one before has the last entry.
        let mut found = self.level.find_file(&self.order, target);
        let starts_behind =
            |file: &Arc<TableFile>| self.order.compare_internal(&file.meta.smallest, target) == Ordering::Greater;
        if self.level.files().get(found).is_none_or(starts_behind) {
            let Some(before) = found.checked_sub(1) else {
                self.table = None;
                return Ok(());
            };
            found = before;
        }
        self.step(|this| {
            this.enter_backward(found)?;
            this.in_table(|table| table.seek_for_prev(target))
        })?;
        if self.valid() { Ok(()) } else { self.skip_back() }
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        if let Err(error) = table.next() {
            self.table = None;
            return Err(error);
        }
        if table.valid() { Ok(()) } else { self.skip_forward() }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        if let Err(error) = table.prev() {
            self.table = None;
            return Err(error);
        }
        if table.valid() { Ok(()) } else { self.skip_back() }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], TableIter::key)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.table.as_ref().map_or(&[], TableIter::value)
    }
}

/// A sorted run on disk: a file of level 0, or a level. What compactions merge.
pub(crate) enum TableOrLevelIter {
    Table(TableIter),
    Level(LevelIter),
}

internal_iterator_of_variants!([] TableOrLevelIter: Table, Level);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::key::{SEEK_KIND, SequenceNumber, internal_key};
    use crate::version::tests::{Tables, key_of, table_cache};

    fn iterator(tables: &Tables) -> LevelIter {
        let level = Arc::clone(tables.version(2).level(2).expect("a level"));
        let cache = Arc::new(table_cache(tables, Some(2)));
        LevelIter::new(level, cache, KeyOrder::Bytewise, TableReadOptions::default(), None)
    }

    #[test]
    fn a_level_reads_as_one_run_both_ways() {
        let tables = Tables::new(7, 5);
        let mut iter = iterator(&tables);
        let mut forward = Vec::new();
        iter.seek_to_first().expect("readable");
        while iter.valid() {
            forward.push((iter.key().to_vec(), iter.value().to_vec()));
            iter.next().expect("readable");
        }
        let expected: Vec<Vec<u8>> = (0..35).map(|i| internal_key(&key_of(i), SequenceNumber(1), 1)).collect();
        assert_eq!(forward.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), expected);
        let mut back = Vec::new();
        iter.seek_to_last().expect("readable");
        while iter.valid() {
            back.push((iter.key().to_vec(), iter.value().to_vec()));
            iter.prev().expect("readable");
        }
        back.reverse();
        assert_eq!(back, forward);
    }

    #[test]
    fn seeks_find_the_nearest_entry_on_either_side_across_files() {
        let tables = Tables::new(4, 3);
        let mut iter = iterator(&tables);
        // Key i is at 2i: odd targets lie between entries, and between files.
        for target in 0..26u32 {
            let bytes = format!("k{target:05}").into_bytes();
            iter.seek(&internal_key(&bytes, SequenceNumber::MAX, SEEK_KIND)).expect("readable");
            let found = iter.valid().then(|| iter.key().to_vec());
            let next = target.div_ceil(2);
            assert_eq!(found, (next < 12).then(|| internal_key(&key_of(next), SequenceNumber(1), 1)), "{target}");
            iter.seek_for_prev(&internal_key(&bytes, SequenceNumber(0), 0)).expect("readable");
            let found = iter.valid().then(|| iter.key().to_vec());
            let last = (target / 2).min(11);
            assert_eq!(found, Some(internal_key(&key_of(last), SequenceNumber(1), 1)), "{target}");
        }
        iter.seek_for_prev(&internal_key(b"a", SequenceNumber(0), 0)).expect("readable");
        assert!(!iter.valid());
    }

    #[test]
    fn a_missing_file_is_an_error_and_never_the_end() {
        let tables = Tables::new(3, 2);
        let mut iter = iterator(&tables);
        iter.seek_to_first().expect("readable");
        tables.fs.damage(&tables.dir().join("000002.sst"), |bytes| bytes.truncate(10)).expect("there");
        iter.next().expect("in the first file");
        iter.next().expect_err("the second file is damaged");
        assert!(!iter.valid());
        iter.seek(&internal_key(&key_of(2), SequenceNumber::MAX, SEEK_KIND)).expect_err("again");
    }
}
