//! Reads and writes of an [`IndexedBatch`] that need a database: which family, which view.
//!
//! Flow: the user -> **here** -> `indexed` (what the batch says) and `db::reads` (the view, and what the batch leaves open).
//!
//! Invariant: a batch is read over the database whose handles it was made with, and over no other. Threads: any for reads.

use std::ops::RangeBounds;

use crate::error::Result;
use crate::format::entity::{Columns, default_column};
use crate::format::key::ValueKind;
use crate::indexed::batch::{BatchLookup, FamilyOf, IndexedBatch};
use crate::indexed::content::Base;
use crate::indexed::{IndexedCursor, IndexedIter};
use crate::read::{ReadOptions, Slice};
use crate::write::WriteOptions;

use super::{ColumnFamily, Db};

fn of(family: &ColumnFamily) -> FamilyOf<'_> {
    (family.into(), family.id(), &family.family.state.config.order)
}

impl IndexedBatch {
    /// Sets `key` to `value` in `family`.
    pub fn put(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.add(of(family), ValueKind::Value, key.as_ref(), Some(value.as_ref()))
    }

    /// Gives `key` columns in `family`; see [`WriteBatch::put_entity`](crate::WriteBatch::put_entity).
    pub fn put_entity<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        match self.batch_mut().entity(columns) {
            Some(entity) => self.add(of(family), ValueKind::WideColumnEntity, key.as_ref(), Some(&entity)),
            None => self,
        }
    }

    /// Deletes `key` from `family`.
    pub fn delete(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(of(family), ValueKind::Deletion, key.as_ref(), None)
    }

    /// Deletes `key`, which was put exactly once since it was last deleted, from `family`; see
    /// [`WriteBatch::single_delete_cf`](crate::WriteBatch::single_delete_cf).
    pub fn single_delete(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(of(family), ValueKind::SingleDeletion, key.as_ref(), None)
    }

    /// Adds an operand to `key` in `family`. Reads merge it with what the batch and the database have.
    pub fn merge(&mut self, family: &ColumnFamily, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.add(of(family), ValueKind::Merge, key.as_ref(), Some(operand.as_ref()))
    }

    /// Deletes every key from `begin` on that is before `end` from `family`.
    pub fn delete_range(&mut self, family: &ColumnFamily, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> &mut Self {
        self.add(of(family), ValueKind::RangeDeletion, begin.as_ref(), Some(end.as_ref()))
    }

    /// What the batch alone says of `key`: no database is asked.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// use firndb::{BatchLookup, Db, IndexedBatch};
    /// let db = Db::open(dir.path())?;
    /// let family = db.default_column_family();
    /// let mut batch = IndexedBatch::new();
    /// batch.delete(family, "alice");
    /// assert_eq!(batch.get_from_batch(family, "alice")?, BatchLookup::Deleted);
    /// assert_eq!(batch.get_from_batch(family, "bob")?, BatchLookup::Unknown);
    /// # Ok::<(), firndb::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Limit` if the key has more operands than can be merged at once; `InvalidArgument` for a handle of another database.
    pub fn get_from_batch(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<BatchLookup> {
        self.check_database(family.core().handles.database())?;
        self.show(family.id(), key.as_ref())
    }

    /// The value of `key` as it would be if the batch were written now.
    ///
    /// # Errors
    /// As [`ColumnFamily::get`]; `InvalidArgument` for a handle of another database.
    pub fn get(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.get_with(family, key, &ReadOptions::default())
    }

    /// [`IndexedBatch::get`] with options; with a snapshot, the batch is laid over that.
    ///
    /// # Errors
    /// As [`IndexedBatch::get`] and [`ColumnFamily::get_with`].
    pub fn get_with(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Result<Option<Slice>> {
        self.check_database(family.core().handles.database())?;
        let key = key.as_ref();
        let own = self.lookup(family.id(), key)?;
        let base = match own.base {
            Base::Value(value) => Some(Slice::from(value)),
            Base::Entity(entity) => Some(Slice::from(default_column(entity)?)),
            Base::Nothing => None,
            Base::Below => family.get_with(key, options)?,
        };
        if own.operands.is_empty() {
            return Ok(base);
        }
        let rule = family.family.state.config.merge.as_deref();
        own.operands.merged(rule, key, base.as_deref()).map(|value| Some(Slice::from(value)))
    }

    /// The columns of `key` as they would be if the batch were written now; see [`ColumnFamily::get_entity`].
    ///
    /// # Errors
    /// As [`IndexedBatch::get_with`].
    pub fn get_entity(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Result<Option<Columns>> {
        self.check_database(family.core().handles.database())?;
        let key = key.as_ref();
        let own = self.lookup(family.id(), key)?;
        let base = match own.base {
            Base::Value(value) => Some(Columns::of_value(value)),
            Base::Entity(entity) => Some(Columns::parse(entity)?),
            Base::Nothing => None,
            Base::Below => family.get_entity_with(key, options)?,
        };
        if own.operands.is_empty() {
            return Ok(base);
        }
        let rule = family.family.state.config.merge.as_deref();
        let default = base.as_ref().map(|columns| columns.get("").unwrap_or_default());
        let value = own.operands.merged(rule, key, default)?;
        let with_default = |columns: &Columns| columns.with_default(&value);
        base.as_ref().map_or_else(|| Ok(Columns::of_value(&value)), with_default).map(Some)
    }

    /// The values of many keys, in their order.
    pub fn multi_get<K: AsRef<[u8]>>(&self, family: &ColumnFamily, keys: &[K]) -> Vec<Result<Option<Slice>>> {
        self.multi_get_with(family, keys, &ReadOptions::default())
    }

    /// [`IndexedBatch::multi_get`] with options. What has to be asked of the database is of one moment.
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        family: &ColumnFamily,
        keys: &[K],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Slice>>> {
        if let Err(error) = self.check_database(family.core().handles.database()) {
            return keys.iter().map(|_| Err(error.clone())).collect();
        }
        let owns: Vec<_> = keys.iter().map(|key| self.lookup(family.id(), key.as_ref())).collect();
        let is_below = |own: &Result<_>| matches!(own, Ok(crate::indexed::content::Own { base: Base::Below, .. }));
        let asked = keys.iter().zip(&owns).filter(|(_, own)| is_below(own)).map(|(key, _)| key.as_ref());
        let asked: Vec<&[u8]> = asked.collect();
        let mut answers = family.multi_get_with(&asked, options).into_iter();
        let rule = family.family.state.config.merge.as_deref();
        let mut whole = |key: &K, own: Result<crate::indexed::content::Own<'_>>| {
            let own = own?;
            let base = match own.base {
                Base::Value(value) => Some(Slice::from(value)),
                Base::Entity(entity) => Some(Slice::from(default_column(entity)?)),
                Base::Nothing => None,
                // As many answers as were asked for.
                Base::Below => answers.next().transpose()?.flatten(),
            };
            match own.operands.is_empty() {
                true => Ok(base),
                false => own.operands.merged(rule, key.as_ref(), base.as_deref()).map(|value| Some(Slice::from(value))),
            }
        };
        keys.iter().zip(owns).map(|(key, own)| whole(key, own)).collect()
    }

    /// All entries of `family` as they would be if the batch were written, in order, forwards and backwards.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`]; `InvalidArgument` for a handle of another database.
    #[track_caller]
    pub fn iter(&self, family: &ColumnFamily) -> Result<IndexedIter> {
        self.range_with::<&[u8]>(family, .., ReadOptions::default())
    }

    /// The entries of a range of keys.
    ///
    /// # Errors
    /// As [`IndexedBatch::iter`].
    #[track_caller]
    pub fn range<K: AsRef<[u8]>>(&self, family: &ColumnFamily, range: impl RangeBounds<K>) -> Result<IndexedIter> {
        self.range_with(family, range, ReadOptions::default())
    }

    /// [`IndexedBatch::range`] with options; their bounds hold too, and the batch is laid over their snapshot.
    ///
    /// # Errors
    /// As [`IndexedBatch::iter`].
    #[track_caller]
    pub fn range_with<K: AsRef<[u8]>>(
        &self,
        family: &ColumnFamily,
        range: impl RangeBounds<K>,
        options: ReadOptions,
    ) -> Result<IndexedIter> {
        self.check_database(family.core().handles.database())?;
        Ok(self.range_over(family.id(), family.core().view(&family.family, &options)?, &range))
    }

    /// The entries whose keys start with `prefix`.
    ///
    /// # Errors
    /// As [`IndexedBatch::iter`].
    #[track_caller]
    pub fn prefix(&self, family: &ColumnFamily, prefix: impl AsRef<[u8]>) -> Result<IndexedIter> {
        self.check_database(family.core().handles.database())?;
        let view = family.core().view(&family.family, &ReadOptions::default())?;
        Ok(self.prefix_over(family.id(), view, prefix.as_ref()))
    }

    /// A cursor over the batch and what is below it, which copies nothing of the database.
    ///
    /// # Errors
    /// As [`IndexedBatch::iter`].
    #[track_caller]
    pub fn cursor(&self, family: &ColumnFamily, options: ReadOptions) -> Result<IndexedCursor> {
        self.check_database(family.core().handles.database())?;
        self.cursor_over(family.id(), family.core().view(&family.family, &options)?)
    }
}

impl Db {
    /// Writes an [`IndexedBatch`] as [`Db::write`] does a batch: as a whole, and it is empty afterwards.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_indexed(&self, batch: &mut IndexedBatch) -> Result<()> {
        self.write_indexed_with(batch, &WriteOptions::default())
    }

    /// [`Db::write_indexed`] with options.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn write_indexed_with(&self, batch: &mut IndexedBatch, options: &WriteOptions) -> Result<()> {
        let written = self.write_with(batch.batch_mut(), options);
        batch.settle();
        written
    }
}
