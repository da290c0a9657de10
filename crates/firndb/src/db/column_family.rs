//! A handle to one column family.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use crate::error::Result;
use crate::format::key::ColumnFamilyId;
use crate::read::{Cursor, Iter, ReadOptions, Slice};
use crate::sync::Arc;
use crate::write::WriteOptions;
use crate::write::batch::WriteBatch;

use super::core::{Core, Family};
use super::{Handle, PLAIN};

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
#[derive(Clone)]
pub struct ColumnFamily {
    handle: Arc<Handle>,
    family: Arc<Family>,
}

impl fmt::Debug for ColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColumnFamily({:?})", self.name())
    }
}

impl From<&ColumnFamily> for ColumnFamilyId {
    fn from(family: &ColumnFamily) -> ColumnFamilyId {
        family.id()
    }
}

impl ColumnFamily {
    pub(super) fn new(handle: Arc<Handle>, family: Arc<Family>) -> ColumnFamily {
        ColumnFamily { handle, family }
    }

    pub(super) fn sibling(&self, family: Arc<Family>) -> ColumnFamily {
        ColumnFamily { handle: Arc::clone(&self.handle), family }
    }

    #[inline]
    pub(super) fn core(&self) -> &Arc<Core> {
        &self.handle.core
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

    #[inline]
    fn write(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<()> {
        self.family.check_not_dropped()?;
        self.core().writes()?.write(batch, options).map(drop)
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
    /// `Io`, `NoSpace`; writes then stop until a later try succeeds.
    pub fn flush(&self) -> Result<()> {
        self.family.check_not_dropped()?;
        self.core().flush_families(&[self.id()])
    }

    /// Merges a range of keys down to the last level, and waits for it. A family that is not leveled is merged whole,
    /// whatever the range, as RocksDB does; one of FIFO style stays in level 0.
    ///
    /// # Errors
    /// `Io`, `Corruption`; the database is then as it was before.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.family.check_not_dropped()?;
        // The files that touch the bounds are compacted as a whole anyway, so that either sort of bound will do.
        let bytes = |bound: Bound<&K>| match bound {
            Bound::Included(key) | Bound::Excluded(key) => Some(key.as_ref().to_vec()),
            Bound::Unbounded => None,
        };
        let (begin, end) = (bytes(range.start_bound()), bytes(range.end_bound()));
        self.core().compact_range(&self.family, begin.as_deref(), end.as_deref())
    }
}
