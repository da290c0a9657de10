//! A handle to one column family: reads, writes, flushes and compactions of it.
//!
//! Flow: the user, or [`Db`](super::Db), which is the handle of the default family -> **[`ColumnFamily`]** -> `core` and
//! its owners. Nothing is decided here but which family is meant.
//!
//! A handle keeps the database open ([`super::handles`]), unless its family was dropped: then it reads on what it sees.
//! Threads: handles are `Send + Sync` and cheap to clone.

use std::fmt;
use std::ops::RangeBounds;

use crate::compaction::request::CompactRangeOptions;
use crate::error::Result;
use crate::format::entity::Columns;
use crate::format::key::ColumnFamilyId;
use crate::read::{Cursor, Iter, ReadOptions, Slice};
use crate::sync::Arc;
use crate::write::WriteOptions;
use crate::write::batch::{FamilyRef, WriteBatch};

use super::PLAIN;
use super::core::{Core, Family};

/// One column family of an open database: its own keys, memtables and files; the log and the sequence numbers are shared.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-family-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// let family = db.default_column_family();
/// family.put("a", "1")?;
/// family.put("b", "2")?;
/// let keys: Vec<_> = family.range("a".."b")?.map(|entry| entry.map(|(key, _)| key)).collect::<Result<_, _>>()?;
/// assert_eq!(keys, [&b"a"[..]]);
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
///
/// Each handle keeps the database open, but those of a dropped family.
pub struct ColumnFamily {
    core: Arc<Core>,
    pub(super) family: Arc<Family>,
    /// It keeps the database open.
    is_counted: bool,
}

impl Clone for ColumnFamily {
    fn clone(&self) -> ColumnFamily {
        self.sibling(Arc::clone(&self.family))
    }
}

impl Drop for ColumnFamily {
    fn drop(&mut self) {
        // In a forked process another thread may have held the lock, and does not exist here.
        let is_here = self.core.check_process().is_ok();
        if !is_here || (self.is_counted && self.core.handles.remove(self.family.state.id())) {
            self.core.abandon();
        }
    }
}

impl fmt::Debug for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColumnFamily({:?})", self.name())
    }
}

impl From<&ColumnFamily> for FamilyRef {
    fn from(family: &ColumnFamily) -> FamilyRef {
        FamilyRef::of_database(family.id(), family.core.handles.database())
    }
}

impl From<&ColumnFamily> for ColumnFamilyId {
    fn from(family: &ColumnFamily) -> ColumnFamilyId {
        family.id()
    }
}

impl ColumnFamily {
    pub(super) fn new(core: Arc<Core>, family: Arc<Family>) -> ColumnFamily {
        // In a forked process another thread may have held the lock, and does not exist here.
        let is_counted = core.check_process().is_ok() && core.handles.add(&family.state);
        ColumnFamily { core, family, is_counted }
    }

    pub(super) fn sibling(&self, family: Arc<Family>) -> ColumnFamily {
        ColumnFamily::new(Arc::clone(&self.core), family)
    }

    #[inline]
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The family's name.
    pub fn name(&self) -> &str {
        &self.family.state.config.name
    }

    /// The family's number; never used twice.
    pub fn id(&self) -> ColumnFamilyId {
        self.family.state.id()
    }

    /// The value of `key`; `None` if there is none.
    ///
    /// # Errors
    /// `Corruption` naming file and offset, `Io`, `NotSupported` for an entry of a kind that this version cannot resolve.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.core().get(&self.family, key.as_ref())
    }

    /// [`ColumnFamily::get`] with options; bounds and read-ahead do not matter here.
    ///
    /// # Errors
    /// As [`ColumnFamily::get`]; `PinEvicted` if the snapshot was ousted; `InvalidArgument` if it is another database's.
    pub fn get_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Option<Slice>> {
        self.core().get_with(&self.family, key.as_ref(), options)
    }

    /// The values of many keys, in their order, all of one moment.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Slice>>> {
        self.multi_get_with(keys, &ReadOptions::default())
    }

    /// [`ColumnFamily::multi_get`] with options.
    pub fn multi_get_with<K: AsRef<[u8]>>(&self, keys: &[K], options: &ReadOptions) -> Vec<Result<Option<Slice>>> {
        self.core().multi_get(&self.family, keys, options)
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write).
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, &PLAIN)
    }

    /// [`ColumnFamily::put`] with options.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write).
    #[inline]
    pub fn put_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        let mut batch = WriteBatch::for_one(key.len() + value.len());
        batch.put_cf(self.id(), key, value);
        self.write(&mut batch, options)
    }

    /// Gives `key` columns, in any order (RocksDB: wide columns). [`ColumnFamily::get`] then returns the value of the default
    /// column, the one with the empty name, or an empty value.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write); `InvalidArgument` if two columns have one name.
    pub fn put_entity<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> Result<()> {
        let mut batch = WriteBatch::new();
        batch.put_entity_cf(self.id(), key, columns);
        self.write(&mut batch, &PLAIN)
    }

    /// The columns of `key`; of a plain value, the default column alone. `None` if there is none.
    ///
    /// # Errors
    /// As [`ColumnFamily::get`].
    pub fn get_entity(&self, key: impl AsRef<[u8]>) -> Result<Option<Columns>> {
        self.get_entity_with(key, &ReadOptions::default())
    }

    /// [`ColumnFamily::get_entity`] with options.
    ///
    /// # Errors
    /// As [`ColumnFamily::get_with`].
    pub fn get_entity_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Option<Columns>> {
        self.core().entity(&self.family, key.as_ref(), options)
    }

    /// Removes `key`; no error if it is not there.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.delete_with(key, &PLAIN)
    }

    /// [`ColumnFamily::delete`] with options.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write).
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        let mut batch = WriteBatch::for_one(key.as_ref().len());
        batch.delete_cf(self.id(), key);
        self.write(&mut batch, options)
    }

    /// Adds an operand to `key`, which the family's merge operator makes a value of when somebody needs one: nothing is read.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write); `NotSupported` if the family has no merge operator.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.merge_with(key, operand, &PLAIN)
    }

    /// [`ColumnFamily::merge`] with options.
    ///
    /// # Errors
    /// As [`ColumnFamily::merge`].
    pub fn merge_with(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>, options: &WriteOptions) -> Result<()> {
        let (key, operand) = (key.as_ref(), operand.as_ref());
        let mut batch = WriteBatch::for_one(key.len() + operand.len());
        batch.merge_cf(self.id(), key, operand);
        self.write(&mut batch, options)
    }

    /// What the value of `key` is made of now, the oldest first: a value that was put, and the operands above it. A flush or a
    /// compaction may have made one of several. Needs no merge operator (RocksDB: `GetMergeOperands`).
    ///
    /// # Errors
    /// As [`ColumnFamily::get_with`].
    pub fn merge_operands(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Vec<Vec<u8>>> {
        self.core().merge_operands(&self.family, key.as_ref(), options)
    }

    /// Removes every key from `begin` on that is before `end`, in the family's order. It costs what one deletion costs, however
    /// many keys there are; compactions free their space. Snapshots and iterators that are there go on seeing them.
    ///
    /// # Errors
    /// As [`Db::write`](super::Db::write); `InvalidArgument` if `end` is before `begin`.
    pub fn delete_range(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        self.delete_range_with(begin, end, &PLAIN)
    }

    /// [`ColumnFamily::delete_range`] with options.
    ///
    /// # Errors
    /// As [`ColumnFamily::delete_range`].
    pub fn delete_range_with(
        &self,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<()> {
        let (begin, end) = (begin.as_ref(), end.as_ref());
        let mut batch = WriteBatch::for_one(begin.len() + end.len());
        batch.delete_range_cf(self.id(), begin, end);
        self.write(&mut batch, options)
    }

    #[inline]
    fn write(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<()> {
        self.family.check_not_dropped()?;
        self.core().writer()?.queue.write(batch, options).map(drop)
    }

    /// All entries, in order, forwards and backwards; a view that never moves.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn iter(&self) -> Result<Iter> {
        self.range_with::<&[u8]>(.., ReadOptions::default())
    }

    /// The entries of a range of keys.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Iter> {
        self.range_with(range, ReadOptions::default())
    }

    /// [`ColumnFamily::range`] with options; their bounds hold too.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn range_with<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>, options: ReadOptions) -> Result<Iter> {
        Ok(Iter::range(self.core().view(&self.family, &options)?, &range))
    }

    /// The entries whose keys start with `prefix`.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Iter> {
        Ok(Iter::prefix(self.core().view(&self.family, &ReadOptions::default())?, prefix.as_ref()))
    }

    /// The entries of a range whose keys start with `prefix`.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn prefix_range_with<K: AsRef<[u8]>>(
        &self,
        prefix: impl AsRef<[u8]>,
        range: impl RangeBounds<K>,
        options: ReadOptions,
    ) -> Result<Iter> {
        Ok(Iter::prefix_range(self.core().view(&self.family, &options)?, prefix.as_ref(), &range))
    }

    /// A cursor, which copies nothing; it stands nowhere until its first seek.
    ///
    /// # Errors
    /// `Corruption` or `Io` if a file cannot be opened; `Closed`; `PinEvicted` if the snapshot was ousted; `InvalidArgument`
    /// if it is another database's.
    #[track_caller]
    pub fn cursor(&self, options: ReadOptions) -> Result<Cursor> {
        Cursor::new(self.core().view(&self.family, &options)?)
    }

    /// Writes the family's memtable to a table and waits for it.
    ///
    /// # Errors
    /// `Io`, `NoSpace`; writes then stop until a later try succeeds. `Closed` or `Cancelled` if the database is closed
    /// meanwhile, which flushes as well.
    pub fn flush(&self) -> Result<()> {
        self.family.check_not_dropped()?;
        self.core().flush(&self.family)
    }

    /// Merges a range of keys down to the last level, and waits for it. A family that is not leveled is merged whole,
    /// whatever the range, as RocksDB does; one of FIFO style stays in level 0.
    ///
    /// # Errors
    /// `Io`, `Corruption`, and `Closed` or `Cancelled` if the database is closed meanwhile; it is then as it was before.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.compact_range_with(range, &CompactRangeOptions::default())
    }
}
