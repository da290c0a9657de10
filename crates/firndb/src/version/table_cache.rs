//! Opens table files when they are first needed, and bounds how many are open.
//!
//! An open reader sits in its [`TableFile`]'s own slot: a lookup loads it with no lock, no hash map and no reference count
//! that threads would share. Only opening and closing take locks. Which file is closed when there are too many is a
//! clock's choice (second chance): a use sets a bit, the hand clears it. Whoever still reads from a closed table keeps its
//! reader, and with it the file, until done.
//!
//! Lock order: a file's opening lock, then the ring.
//!
//! Source: RocksDB `db/table_cache.h`, without its hash table.

use std::collections::VecDeque;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use arc_swap::Guard;

use crate::cache::{BlockCache, Charged, Evict};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name;
use crate::fs::{Fs, RandomAccessFile};
use crate::metrics::{Statistics, Ticker};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex};
use crate::table::reader::{TableOpenContext, TableReader, examine};

use super::{TableFile, Version};

/// Opens the tables of one directory.
#[derive(Debug)]
pub(crate) struct TableCache {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// `None`: no bound, nothing is ever closed.
    open_files_max: Option<usize>,
    blocks: Arc<BlockCache>,
    /// The memory of open tables counts against the budget of blocks, and may have to go for them.
    charges_tables: bool,
    statistics: Arc<Statistics>,
    /// The files that may be closed, in the clock's order.
    ring: Mutex<VecDeque<Weak<TableFile>>>,
}

/// A borrowed open reader, for the length of a lookup: cheaper than an [`Arc`], not to be kept.
pub(crate) enum TableRef {
    /// Invariant: the guard holds a reader.
    Borrowed(Guard<Option<Arc<TableReader>>>),
    Owned(Arc<TableReader>),
}

impl Deref for TableRef {
    type Target = Arc<TableReader>;

    #[inline]
    fn deref(&self) -> &Arc<TableReader> {
        match self {
            TableRef::Borrowed(guard) => guard.as_ref().expect("only guards of filled slots are wrapped"),
            TableRef::Owned(reader) => reader,
        }
    }
}

impl TableCache {
    /// A cache over the tables in `dir` that keeps about `open_files_max` of them open, and with `charges_tables` no more
    /// than have room beside the blocks.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        open_files_max: Option<usize>,
        blocks: Arc<BlockCache>,
        charges_tables: bool,
        statistics: Arc<Statistics>,
    ) -> TableCache {
        let open_files_max = open_files_max.map(|max| max.max(1));
        TableCache { fs, dir, open_files_max, blocks, charges_tables, statistics, ring: Mutex::default() }
    }

    /// The open reader of `file`, for a lookup.
    #[inline]
    pub(crate) fn borrow(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<TableRef> {
        let guard = file.reader.load();
        if guard.is_some() {
            file.touch();
            return Ok(TableRef::Borrowed(guard));
        }
        self.open_slow(file, order, false).map(TableRef::Owned)
    }

    /// The open reader of `file`, to keep: iterators and jobs.
    pub(crate) fn open(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<Arc<TableReader>> {
        match file.reader.load_full() {
            Some(reader) => {
                file.touch();
                Ok(reader)
            }
            None => self.open_slow(file, order, false),
        }
    }

    /// Fails if `file` is not there, has not the size that MANIFEST says, or uses something that this version cannot read.
    /// Any other failure is for its readers to meet.
    pub(crate) fn refuse_unusable(&self, file: &TableFile, order: &KeyOrder) -> Result<()> {
        let (handle, path) = self.open_file(file)?;
        let (size, stated) = (handle.size()?, file.meta.size);
        if size != stated {
            let kind = if size < stated { CorruptionKind::Truncated } else { CorruptionKind::Misplaced };
            let detail = format!("the file has {size} bytes, MANIFEST says {stated}");
            return Err(Error::corrupt(kind, detail).in_file(&path, None));
        }
        match examine(&*handle, size, &self.context(path, file, order)) {
            Err(error) if error.kind() == ErrorKind::NotSupported => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens all files of `version`, which then stay open whatever the bound: who reads a directory that another process
    /// writes to must have its files before they are unlinked.
    pub(crate) fn open_all(&self, version: &Version) -> Result<()> {
        version.files().try_for_each(|(_, file)| {
            // Relaxed: the flag is read under the ring's lock or a later one; a file it misses is closed and opened again.
            file.stays_open.store(true, Ordering::Relaxed);
            self.open_slow(file, &version.order, true).map(drop)
        })
    }

    #[cold]
    fn open_slow(&self, file: &Arc<TableFile>, order: &KeyOrder, stays_open: bool) -> Result<Arc<TableReader>> {
        // One thread opens; those who want the same file wait for it instead of reading the same bytes.
        let opening = file.opening.lock();
        if let Some(reader) = file.reader.load_full() {
            return Ok(reader);
        }
        let reader = self.read(file, order).inspect_err(|_| self.statistics.add(Ticker::NoFileErrors, 1))?;
        // Not touched by its opening: a scan's files, used once, go before those that are used again.
        file.reader.store(Some(Arc::clone(&reader)));
        drop(opening);
        if stays_open {
            return Ok(reader);
        }
        if self.charges_tables {
            file.charge(Charged::new(&self.blocks, reader.memory()));
            let weak = Arc::downgrade(file) as Weak<dyn Evict>;
            self.blocks.admit(weak, 0, &self.statistics);
        }
        if let Some(max) = self.open_files_max {
            self.enter(file, max);
        }
        Ok(reader)
    }

    fn read(&self, file: &TableFile, order: &KeyOrder) -> Result<Arc<TableReader>> {
        let (handle, path) = self.open_file(file)?;
        TableReader::open(handle, file.meta.size, self.context(path, file, order))
    }

    fn context(&self, path: PathBuf, file: &TableFile, order: &KeyOrder) -> TableOpenContext {
        TableOpenContext {
            path,
            order: order.clone(),
            cache: Arc::clone(&self.blocks),
            statistics: Arc::clone(&self.statistics),
            largest_seq: file.meta.largest_seq,
            unique_id: file.meta.unique_id,
            verify_checksums: true,
        }
    }

    fn open_file(&self, file: &TableFile) -> Result<(Arc<dyn RandomAccessFile>, PathBuf)> {
        let path = self.dir.join(file_name::table(file.number()));
        match self.fs.open_random(&path) {
            Err(error) if error.is_not_found() => {}
            outcome => return outcome.map(|handle| (handle, path)),
        }
        let old = self.dir.join(file_name::old_table(file.number()));
        match self.fs.open_random(&old) {
            Ok(handle) => Ok((handle, old)),
            Err(error) if error.is_not_found() => Err(no_table(&path)),
            Err(error) => Err(error),
        }
    }

    /// Enters an open file into the ring, and closes others while there are too many.
    fn enter(&self, file: &Arc<TableFile>, max: usize) {
        let mut ring = self.ring.lock();
        // Twice around clears every bit; bounded in case all are in use all the time.
        let mut steps = ring.len() * 2 + 1;
        while ring.len() >= max && steps > 0 {
            steps -= 1;
            let Some(candidate) = ring.pop_front().and_then(|weak| weak.upgrade()) else { continue };
            // Relaxed, all three: the ring's lock orders `is_in_ring`, the other two are hints.
            let is_open = candidate.reader.load().is_some() && !candidate.stays_open.load(Ordering::Relaxed);
            if is_open && candidate.is_touched.swap(false, Ordering::Relaxed) {
                ring.push_back(Arc::downgrade(&candidate));
                continue;
            }
            candidate.is_in_ring.store(false, Ordering::Relaxed);
            if is_open {
                candidate.close();
            }
        }
        if !file.is_in_ring.swap(true, Ordering::Relaxed) {
            ring.push_back(Arc::downgrade(file));
        }
    }
}

/// The table at `path` is named and not there.
pub(crate) fn no_table(path: &Path) -> Error {
    Error::corrupt(CorruptionKind::Missing, "MANIFEST names this table, but it does not exist").in_file(path, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::tests::{Tables, table_cache};

    #[test]
    fn no_more_files_stay_open_than_allowed_and_closed_ones_open_again() {
        let tables = Tables::new(20, 4);
        let cache = table_cache(&tables, Some(5));
        for _ in 0..3 {
            for file in &tables.files {
                assert!(
                    cache
                        .borrow(file, &KeyOrder::Bytewise)
                        .expect("readable")
                        .may_contain(b"", &mut Default::default())
                );
            }
        }
        let open = tables.files.iter().filter(|file| file.reader.load().is_some()).count();
        assert!((1..=5).contains(&open), "{open} are open");
        let hot = &tables.files[0];
        let before = cache.open(hot, &KeyOrder::Bytewise).expect("readable");
        for file in &tables.files[1..] {
            cache.open(hot, &KeyOrder::Bytewise).expect("readable");
            cache.open(file, &KeyOrder::Bytewise).expect("readable");
        }
        assert!(
            Arc::ptr_eq(&before, &cache.open(hot, &KeyOrder::Bytewise).expect("readable")),
            "the hot file was closed"
        );
    }

    #[test]
    fn charged_tables_give_way_to_each_other_within_the_budget_of_blocks() {
        let tables = Tables::new(20, 40);
        let probe = table_cache(&tables, None);
        let one = probe.open(&tables.files[0], &KeyOrder::Bytewise).expect("readable").memory();
        tables.files[0].close();
        let blocks = BlockCache::new(one * 5);
        let fs = Arc::new(tables.fs.clone());
        let cache = TableCache::new(fs, tables.dir().into(), None, Arc::clone(&blocks), true, Arc::default());
        for _ in 0..3 {
            for file in &tables.files {
                cache.open(file, &KeyOrder::Bytewise).expect("readable");
                assert!(blocks.usage() <= blocks.capacity(), "{blocks:?}");
            }
        }
        let open: usize = tables.files.iter().map(|file| file.reader_memory()).sum();
        assert!(open > 0 && open == blocks.usage(), "what is charged is what is open");
        drop(tables);
        assert_eq!(blocks.usage(), 0);
    }

    #[test]
    fn files_opened_for_good_stay_open_and_readable_after_their_names_are_gone() {
        let tables = Tables::new(10, 4);
        let cache = table_cache(&tables, Some(2));
        let version = tables.version(3);
        cache.open_all(&version).expect("readable");
        for path in tables.fs.paths() {
            tables.fs.remove_file(&path).expect("removed");
        }
        for (_, file) in version.files() {
            cache.open(file, &KeyOrder::Bytewise).expect("still open");
        }
    }

    #[test]
    fn an_old_suffix_is_found_and_a_missing_table_named() {
        let tables = Tables::new(1, 4);
        let cache = table_cache(&tables, None);
        let file = &tables.files[0];
        let (new, old) = (tables.dir().join("000001.sst"), tables.dir().join("000001.ldb"));
        tables.fs.rename(&new, &old).expect("renamed");
        cache.open(file, &KeyOrder::Bytewise).expect("found");
        file.reader.store(None);
        tables.fs.remove_file(&old).expect("removed");
        let error = cache.open(file, &KeyOrder::Bytewise).expect_err("gone");
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains("000001.sst"), "{error}");
    }
}
