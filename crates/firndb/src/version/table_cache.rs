//! Opens table files when they are first needed, and bounds how many are open.
//!
//! An open reader sits in its [`TableFile`]'s own slot: a lookup loads it with no lock, no hash map and no reference count
//! that threads would share. Only opening and closing take locks: see [`super::open_files`], which also says what becomes
//! of a reader that is closed while someone reads from it.
//!
//! Source: RocksDB `db/table_cache.h`, without its hash table.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Weak;

use arc_swap::Guard;

use crate::cache::{BlockCache, Charged, Evict};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::FileNumber;
use crate::fs::guarded::Idle;
use crate::fs::{Fs, RandomAccessFile};
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::table::reader::{TableOpenContext, TableReadOptions, TableReader, examine};

use super::blob_readers::BlobReaders;
use super::open_files::{OpenFiles, TableHandle};
use super::{TableFile, Version};

/// Opens the tables of one directory.
#[derive(Debug)]
pub(crate) struct TableCache {
    blobs: BlobReaders,
    files: Arc<OpenFiles>,
    blocks: Arc<BlockCache>,
    /// The memory of open tables counts against the budget of blocks, and may have to go for them.
    charges_tables: bool,
    statistics: Arc<Statistics>,
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
        let blobs = BlobReaders::new(Arc::clone(&fs), dir.clone());
        TableCache { files: OpenFiles::new(fs, dir, open_files_max), blobs, blocks, charges_tables, statistics }
    }

    /// What a reference of `user_key` to a blob file stands for, in a table of `version`.
    ///
    /// # Errors
    /// `Corruption` with file and offset; `Busy` if a writer beside us has removed the file; what the file system says.
    #[cold]
    pub(crate) fn blob(
        &self,
        version: &Version,
        user_key: &[u8],
        reference: &[u8],
        options: &TableReadOptions,
    ) -> Result<Vec<u8>> {
        self.blobs.value(version, user_key, reference, options, self.files.is_beside_writer())
    }

    /// The blob file is about to go.
    pub(crate) fn forget_blob(&self, number: FileNumber) {
        self.blobs.forget(number);
    }

    /// The open reader of `file`, for a lookup.
    #[inline]
    pub(crate) fn borrow(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<TableRef> {
        let guard = file.reader.load();
        if guard.is_some() {
            file.touch();
            return Ok(TableRef::Borrowed(guard));
        }
        self.open_slow(file, order).map(TableRef::Owned)
    }

    /// The open reader of `file`, to keep: iterators and jobs.
    pub(crate) fn open(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<Arc<TableReader>> {
        match file.reader.load_full() {
            Some(reader) => {
                file.touch();
                Ok(reader)
            }
            None => self.open_slow(file, order),
        }
    }

    /// Fails if `file` is not there, has not the size that MANIFEST says, or uses something that this version cannot read.
    /// Any other failure is for its readers to meet.
    pub(crate) fn refuse_unusable(&self, file: &TableFile, order: &KeyOrder) -> Result<()> {
        file.meta.check_readable(self.files.dir())?;
        let (handle, path) = self.files.open(file.number())?;
        let (size, stated) = (handle.size()?, file.meta.size);
        if size != stated {
            let kind = if size < stated { CorruptionKind::Truncated } else { CorruptionKind::Misplaced };
            let detail = format!("the file has {size} bytes, MANIFEST says {stated}");
            return Err(Error::corrupt(kind, detail).in_file(&path, None));
        }
        match examine(&*handle, size, &self.context(path, file, order)) {
            Err(error) if error.kind() == ErrorKind::NotSupported => Err(error),
            Err(_) => Ok(()),
            Ok(counts) => {
                file.learn_counts(counts);
                Ok(())
            }
        }
    }

    /// Opens all files of `version`, which then stay open, at most `max` of them: who reads a directory that another process
    /// writes to must have its files before they are unlinked.
    pub(crate) fn open_all(&self, version: &Version, max: Option<usize>) -> Result<()> {
        self.files.read_beside_writer(max);
        version.files().try_for_each(|(_, file)| match self.open_slow(file, &version.order) {
            // Whoever looks for something in it is told.
            Err(error) if error.kind() == ErrorKind::NotSupported => Ok(()),
            other => other.map(drop),
        })?;
        version.look_for_range_tombstones();
        Ok(())
    }

    #[cold]
    fn open_slow(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<Arc<TableReader>> {
        // A lock that a thread held when the process was forked is never opened in the child.
        self.files.check_process()?;
        // One thread opens; those who want the same file wait for it instead of reading the same bytes.
        let opening = file.opening.lock();
        if let Some(reader) = file.reader.load_full() {
            return Ok(reader);
        }
        let opened = self.read(file, order).inspect_err(|_| self.statistics.add(Ticker::NoFileErrors, 1));
        let (reader, handle) = opened?;
        file.learn_counts(reader.properties().counts());
        let is_charged = self.charges_tables && !self.files.is_beside_writer();
        let charged = is_charged.then(|| Charged::new(&self.blocks, reader.memory()));
        file.put_reader(&reader, Arc::clone(&handle), charged);
        drop(opening);
        // Relaxed: the clock's lock orders the rest.
        if is_charged && !file.is_in_clock.swap(true, Ordering::Relaxed) {
            self.blocks.admit(Arc::downgrade(file) as Weak<dyn Evict>, 0, &self.statistics);
        } else if is_charged {
            self.blocks.make_room(&self.statistics);
        }
        self.files.enter(&handle);
        Ok(reader)
    }

    fn read(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<(Arc<TableReader>, Arc<TableHandle>)> {
        file.meta.check_readable(self.files.dir())?;
        let (open, path) = self.files.open(file.number())?;
        let handle = self.files.handle(file, open);
        let source = Arc::clone(&handle) as Arc<dyn RandomAccessFile>;
        let reader = TableReader::open(source, file.meta.size, self.context(path, file, order))?;
        // Its opening is no use of it.
        handle.take_touch();
        Ok((reader, handle))
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
            bounds: Some((file.meta.smallest.clone(), file.meta.largest.clone())),
        }
    }

    /// Who gives descriptors back when they run out.
    pub(crate) fn idle(&self) -> Weak<dyn Idle> {
        Arc::downgrade(&self.files) as Weak<dyn Idle>
    }

    /// Frees the readers of tables that were closed while someone read from them, and that nobody reads from any more; true
    /// if there were any. For the janitor.
    pub(crate) fn free_retired(&self) -> bool {
        self.files.free_retired()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iter::InternalIterator;
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
    fn a_reader_that_is_read_from_when_its_table_is_closed_is_freed_by_the_janitor_and_reads_on() {
        let tables = Tables::new(20, 4);
        let cache = table_cache(&tables, Some(5));
        let open = |file| cache.open(file, &KeyOrder::Bytewise).expect("readable");
        let held: Vec<_> = tables.files.iter().map(open).collect();
        assert_eq!((cache.files.retired(), cache.files.in_ring()), (15, 5));
        for reader in &held {
            let mut iter = reader.iter(Default::default());
            iter.seek_to_first().expect("opened again");
            assert!(cache.files.in_ring() <= 5, "an entry an open file");
        }
        assert!(!cache.free_retired(), "all are held");
        drop(held);
        assert!(cache.free_retired());
        assert_eq!(cache.files.retired(), 0);
    }

    #[test]
    fn a_table_that_is_closed_and_opened_again_is_in_each_clock_once() {
        let tables = Tables::new(10, 4);
        let probe = table_cache(&tables, None);
        let one = probe.open(&tables.files[0], &KeyOrder::Bytewise).expect("readable").memory();
        let blocks = BlockCache::new(one * 100);
        let fs = Arc::new(tables.fs.clone());
        let cache = TableCache::new(fs, tables.dir().into(), Some(2), Arc::clone(&blocks), true, Arc::default());
        for _ in 0..50 {
            for file in &tables.files[1..] {
                cache.open(file, &KeyOrder::Bytewise).expect("readable");
            }
        }
        assert!(cache.files.in_ring() <= 2);
        assert!(blocks.entries() <= 9, "{} entries", blocks.entries());
        assert!(blocks.usage() <= 2 * one + one, "what is closed is not charged");
    }

    #[test]
    fn charged_tables_give_way_to_each_other_within_the_budget_of_blocks() {
        let tables = Tables::new(20, 40);
        let probe = table_cache(&tables, None);
        let one = probe.open(&tables.files[0], &KeyOrder::Bytewise).expect("readable").memory();
        tables.files[0].evict(0, &mut Vec::new());
        tables.files[0].evict(0, &mut Vec::new());
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
        cache.open_all(&version, None).expect("readable");
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
