//! The batch itself. What needs a database is in `db::indexed`.
//!
//! Flow: `db::indexed` (the family's order, the view) -> **[`IndexedBatch`]** -> [`super::content`], which its walks share.
//!
//! Invariant: what is shared is copied before it is changed. Threads: those of the user, one at a time for changes.

use std::ops::RangeBounds;

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::entity::{Columns, default_column};
use crate::format::key::{ColumnFamilyId, ValueKind};
use crate::read::Slice;
use crate::read::view::View;
use crate::sync::Arc;
use crate::write::batch::{FamilyRef, WriteBatch};

use super::content::{Base, Content, Own};
use super::walks::{IndexedCursor, IndexedIter, Over};

/// A batch that can be read before it is written, alone or over what the database has.
///
/// Puts, deletions, merges and deleted ranges are seen by its reads at once, and by nobody else until
/// [`Db::write_indexed`](crate::Db::write_indexed). Reads are merged with the database as it is, or as of a
/// [`Snapshot`](crate::Snapshot) in their [`ReadOptions`](crate::ReadOptions), in both directions.
///
/// A cursor or iterator shows the batch as it was when it was made. It shares the batch's memory: the first change while one
/// lives copies the batch, so that a loop which walks and writes by turns lets go of the walk first, or gathers what it writes.
///
/// An operation takes 40 bytes beside its own; its key is not copied, but for the ends of deleted ranges. After such a
/// deletion the first read sorts the batch's ranges anew. (RocksDB: `WriteBatchWithIndex`, which has no deletion of ranges.)
///
/// ```
/// # let dir = tempfile::tempdir().expect("a directory");
/// use firndb::{Db, IndexedBatch};
/// let db = Db::open(dir.path())?;
/// let family = db.default_column_family();
/// db.put("alice", "90")?;
/// db.put("bob", "80")?;
///
/// let mut batch = IndexedBatch::new();
/// batch.put(family, "carol", "70").delete(family, "alice");
/// assert!(batch.get(family, "alice")?.is_none());
/// let names: Vec<_> = batch.iter(family)?.map(|entry| entry.map(|(key, _)| key)).collect::<Result<_, _>>()?;
/// assert_eq!(names, [&b"bob"[..], b"carol"]);
/// assert!(db.get("carol")?.is_none());
///
/// db.write_indexed(&mut batch)?;
/// assert_eq!(db.get("carol")?.as_deref(), Some(&b"70"[..]));
/// # Ok::<(), firndb::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct IndexedBatch {
    content: Arc<Content>,
}

/// A copy, which takes its memory when either of the two is changed.
impl Clone for IndexedBatch {
    fn clone(&self) -> IndexedBatch {
        IndexedBatch { content: Arc::clone(&self.content) }
    }
}

/// What an [`IndexedBatch`] alone says of a key.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchLookup {
    /// Nothing: the database decides.
    Unknown,
    /// The key is deleted.
    Deleted,
    /// The key has this value.
    Value(Slice),
    /// The key has these columns.
    Entity(Columns),
    /// The key has these operands, the oldest first, over what the batch does not say: the database decides over that.
    Operands(Vec<Vec<u8>>),
    /// The key has these operands, the oldest first, over this value of the batch; over none, if the batch has deleted it.
    Merged {
        /// What they are based on; of an entity, the default column.
        base: Option<Slice>,
        /// The operands, the oldest first.
        operands: Vec<Vec<u8>>,
    },
}

/// A family as a batch needs it: its name in the batch, and the order of its keys.
pub(crate) type FamilyOf<'a> = (FamilyRef, ColumnFamilyId, &'a KeyOrder);

impl IndexedBatch {
    /// An empty batch.
    pub fn new() -> IndexedBatch {
        IndexedBatch::default()
    }

    /// An empty batch whose entries have a checksum each; see [`WriteBatch::with_protection`].
    pub fn with_protection() -> IndexedBatch {
        let content = Content { batch: WriteBatch::with_protection(), families: Vec::new() };
        IndexedBatch { content: Arc::new(content) }
    }

    /// The operations in the order in which they were added.
    pub fn batch(&self) -> &WriteBatch {
        &self.content.batch
    }

    /// The batch without its index.
    pub fn into_batch(self) -> WriteBatch {
        Arc::try_unwrap(self.content).map_or_else(|shared| shared.batch.clone(), |content| content.batch)
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.content.batch.len()
    }

    /// True if there is no operation.
    pub fn is_empty(&self) -> bool {
        self.content.batch.is_empty()
    }

    /// Empties the batch and keeps its memory, unless a walk shares it.
    pub fn clear(&mut self) {
        match Arc::get_mut(&mut self.content) {
            Some(content) => content.clear(),
            None => {
                let is_protected = self.content.batch.is_protected();
                let batch = if is_protected { WriteBatch::with_protection() } else { WriteBatch::new() };
                self.content = Arc::new(Content { batch, families: Vec::new() });
            }
        }
    }

    /// Bytes for the log alone; see [`WriteBatch::put_log_data`].
    pub fn put_log_data(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        self.content_mut().batch.put_log_data(data);
        self
    }

    /// Remembers the batch as it is now; see [`WriteBatch::set_save_point`].
    pub fn set_save_point(&mut self) -> &mut Self {
        self.content_mut().batch.set_save_point();
        self
    }

    /// Takes back all that was added since the newest save point, which is gone then, too.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no save point; the batch is as it was.
    pub fn rollback_to_save_point(&mut self) -> Result<()> {
        self.content_mut().rollback_to_save_point()
    }

    /// Forgets the newest save point and takes nothing back.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no save point.
    pub fn pop_save_point(&mut self) -> Result<()> {
        self.content_mut().batch.pop_save_point()
    }

    pub(crate) fn content_mut(&mut self) -> &mut Content {
        Arc::make_mut(&mut self.content)
    }

    pub(crate) fn add(&mut self, family: FamilyOf<'_>, kind: ValueKind, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        let (name, id, order) = family;
        let content = self.content_mut();
        let count = content.batch.count();
        let argument = value.unwrap_or_default();
        match kind {
            ValueKind::Value => content.batch.put_cf(name, key, argument),
            ValueKind::WideColumnEntity => content.batch.put_encoded_entity(name, key, argument),
            ValueKind::Merge => content.batch.merge_cf(name, key, argument),
            ValueKind::RangeDeletion => content.batch.delete_range_cf(name, key, argument),
            ValueKind::SingleDeletion => content.batch.single_delete_cf(name, key),
            _ => content.batch.delete_cf(name, key),
        };
        content.note(count, (id, order), kind, key, value);
        self
    }

    /// What goes to the write queue.
    pub(crate) fn batch_mut(&mut self) -> &mut WriteBatch {
        &mut self.content_mut().batch
    }

    /// The batch was emptied: so is the index.
    pub(crate) fn settle(&mut self) {
        if self.is_empty() {
            self.clear();
        }
    }

    pub(crate) fn lookup(&self, id: ColumnFamilyId, key: &[u8]) -> Result<Own<'_>> {
        self.content.lookup(id, key)
    }

    /// The same for the user.
    pub(crate) fn show(&self, id: ColumnFamilyId, key: &[u8]) -> Result<BatchLookup> {
        let own = self.lookup(id, key)?;
        let operands = own.operands.into_vec();
        Ok(match (own.base, operands.is_empty()) {
            (Base::Below, true) => BatchLookup::Unknown,
            (Base::Below, false) => BatchLookup::Operands(operands),
            (Base::Nothing, true) => BatchLookup::Deleted,
            (Base::Value(value), true) => BatchLookup::Value(Slice::from(value)),
            (Base::Nothing, false) => BatchLookup::Merged { base: None, operands },
            (Base::Value(value), false) => BatchLookup::Merged { base: Some(Slice::from(value)), operands },
            (Base::Entity(entity), true) => BatchLookup::Entity(Columns::parse(entity)?),
            (Base::Entity(entity), false) => {
                BatchLookup::Merged { base: Some(Slice::from(default_column(entity)?)), operands }
            }
        })
    }

    fn over(&self, id: ColumnFamilyId) -> Over {
        Over { content: Arc::clone(&self.content), id }
    }

    pub(crate) fn cursor_over(&self, id: ColumnFamilyId, view: View) -> Result<IndexedCursor> {
        IndexedCursor::new(self.over(id), view)
    }

    pub(crate) fn range_over<K: AsRef<[u8]>>(
        &self,
        id: ColumnFamilyId,
        view: View,
        range: &impl RangeBounds<K>,
    ) -> IndexedIter {
        IndexedIter::range(self.over(id), view, range)
    }

    pub(crate) fn prefix_over(&self, id: ColumnFamilyId, view: View, prefix: &[u8]) -> IndexedIter {
        IndexedIter::prefix(self.over(id), view, prefix)
    }

    /// Refuses to be read over another database than the one whose handles were used.
    pub(crate) fn check_database(&self, own: u64) -> Result<()> {
        self.content.batch.check_database(own)
    }
}
