//! A batch of operations over any column families, applied as a whole or not at all.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | sequence number of the first operation |
//! | 4 | count of operations |
//! | … | per operation: `u8 tag`, family as varint32 if not the default, key and value length-prefixed |
//!
//! This is the payload of a WAL record. Source: RocksDB `db/write_batch.cc`, tags of `db/dbformat.h`.

mod protection;
mod record;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::{Reader, put_length_prefixed, put_varint32};
use crate::format::entity::{default_column, encode};
use crate::format::key::{ColumnFamilyId, SequenceNumber, ValueKind};
use crate::format::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX, exceeded};

use protection::Protection;
pub(crate) use record::{BatchOperation, Record, TransactionMark};
use record::{HEADER_LEN, LOG_DATA, OPERATION_LEN_MAX, next_operation, next_record};
pub use record::{WriteOperation, WriteOperations};

/// Operations that become visible, and survive a crash, together.
///
/// A key may have 64 MiB, a value 959 MiB, and a batch 1 GiB: a batch with more refuses to be written. A batch goes to the
/// database whose handles it was made with, and to no other.
///
/// ```
/// let mut batch = firndb::WriteBatch::new();
/// batch.put(b"alice", b"90").delete(b"bob");
/// assert_eq!(batch.count(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    /// The open database whose handles were used; 0: none, everything was by number.
    database: u64,
    obstacle: Obstacle,
    extras: Option<Box<Extras>>,
}

/// What few batches have.
#[derive(Debug, Clone, Default)]
struct Extras {
    /// The oldest first.
    save_points: Vec<SavePoint>,
    protection: Option<Protection>,
}

/// A batch as it was once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SavePoint {
    bytes: usize,
    count: u32,
    database: u64,
    obstacle: Obstacle,
}

/// Handles of more than one database were used: no database has this number.
const SEVERAL_DATABASES: u64 = u64::MAX;

/// What keeps a batch from being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    None,
    /// A key of so many bytes was put in.
    KeyTooLong(usize),
    ValueTooLong(usize),
    TooManyOperations,
    /// Two columns of an entity have one name.
    SameColumns,
    /// It was written, and nobody knows whether it is there.
    InDoubt,
    /// None, if its checksums are those of what was added.
    Protected,
}

/// A column family as a batch names it: by its number, and by the open database whose handle it is. Made from a
/// `&ColumnFamily`, or from a [`ColumnFamilyId`], which says nothing of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FamilyRef {
    id: ColumnFamilyId,
    database: u64,
}

impl FamilyRef {
    /// The family `id` of the open database that has this number in the process, which is not 0.
    pub(crate) fn of_database(id: ColumnFamilyId, database: u64) -> FamilyRef {
        FamilyRef { id, database }
    }
}

impl From<ColumnFamilyId> for FamilyRef {
    fn from(id: ColumnFamilyId) -> FamilyRef {
        FamilyRef { id, database: 0 }
    }
}

impl Default for WriteBatch {
    fn default() -> Self {
        WriteBatch::new()
    }
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::with_capacity(0)
    }

    /// A batch without operations that has memory for `bytes` of them.
    pub fn with_capacity(bytes: usize) -> WriteBatch {
        let mut all = Vec::with_capacity(HEADER_LEN + bytes);
        all.resize(HEADER_LEN, 0);
        WriteBatch { bytes: all, database: 0, obstacle: Obstacle::None, extras: None }
    }

    /// An empty batch whose entries have a checksum each, of eight bytes, from the moment at which they are added. They are
    /// verified before the batch is written: memory that changed in between is refused, and never gets into the log.
    ///
    /// It costs two passes over keys and values (RocksDB: `protection_bytes_per_key = 8`).
    ///
    /// ```
    /// let mut batch = firndb::WriteBatch::with_protection();
    /// batch.put("alice", "90");
    /// batch.verify_checksums()?;
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn with_protection() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.extras_mut().protection = Some(Protection::default());
        batch.obstacle = Obstacle::Protected;
        batch
    }

    /// A batch that has memory for one operation whose key and value have `bytes`.
    #[inline]
    pub(crate) fn for_one(bytes: usize) -> WriteBatch {
        WriteBatch::with_capacity(OPERATION_LEN_MAX + bytes)
    }

    /// Sets `key` to `value` in the default family.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.add(ColumnFamilyId::DEFAULT.into(), 0x01, 0x05, key.as_ref(), Some(value.as_ref()))
    }

    /// Sets `key` to `value` in `family`.
    pub fn put_cf(
        &mut self,
        family: impl Into<FamilyRef>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add(family.into(), 0x01, 0x05, key.as_ref(), Some(value.as_ref()))
    }

    /// Gives `key` columns, in any order, in the default family: see [`Columns`](crate::Columns).
    ///
    /// A batch with an entity that has two columns of one name is refused when it is written.
    ///
    /// ```
    /// let mut batch = firndb::WriteBatch::new();
    /// batch.put_entity("alice", [("city", "Oslo"), ("age", "31")]);
    /// assert_eq!(batch.len(), 1);
    /// ```
    pub fn put_entity<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        key: impl AsRef<[u8]>,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.put_entity_cf(ColumnFamilyId::DEFAULT, key, columns)
    }

    /// Gives `key` columns in `family`; see [`WriteBatch::put_entity`].
    pub fn put_entity_cf<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        family: impl Into<FamilyRef>,
        key: impl AsRef<[u8]>,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        match self.entity(columns) {
            Some(entity) => self.put_encoded_entity(family, key.as_ref(), &entity),
            None => self,
        }
    }

    /// The bytes of an entity; else notes why there are none.
    pub(crate) fn entity<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> Option<Vec<u8>> {
        let columns: Vec<(N, V)> = columns.into_iter().collect();
        let borrowed = columns.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        match encode(borrowed) {
            Ok(entity) => Some(entity),
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                self.obstacle = Obstacle::SameColumns;
                None
            }
            Err(_) => {
                let len = columns.iter().map(|(name, value)| name.as_ref().len() + value.as_ref().len()).sum();
                self.obstacle = Obstacle::ValueTooLong(len);
                None
            }
        }
    }

    pub(crate) fn put_encoded_entity(&mut self, family: impl Into<FamilyRef>, key: &[u8], entity: &[u8]) -> &mut Self {
        self.add(family.into(), 0x16, 0x17, key, Some(entity))
    }

    /// Deletes `key` from the default family.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(ColumnFamilyId::DEFAULT.into(), 0x00, 0x04, key.as_ref(), None)
    }

    /// Deletes `key` from `family`.
    pub fn delete_cf(&mut self, family: impl Into<FamilyRef>, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(family.into(), 0x00, 0x04, key.as_ref(), None)
    }

    /// Deletes `key` from `family`, where it was put exactly once since it was last deleted, and not merged: so the deletion
    /// goes away together with that one put, where another has to be carried down to the last level.
    ///
    /// Where that does not hold, what is below the put may come back after some compaction. Nothing checks it: whoever
    /// deletes a key this way puts it once for each deletion (RocksDB: `SingleDelete`, with the same contract).
    ///
    /// ```
    /// use firndb::{ColumnFamilyId, WriteBatch};
    /// let mut batch = WriteBatch::new();
    /// batch.put("task:7", "queued").single_delete_cf(ColumnFamilyId::DEFAULT, "task:7");
    /// assert_eq!(batch.len(), 2);
    /// ```
    pub fn single_delete_cf(&mut self, family: impl Into<FamilyRef>, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(family.into(), 0x07, 0x08, key.as_ref(), None)
    }

    /// Adds an operand to `key` in the default family: its merge operator makes a value of it, whenever somebody needs one.
    ///
    /// A batch with operands of a family that has no merge operator is refused when it is written.
    pub fn merge(&mut self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> &mut Self {
        self.merge_cf(ColumnFamilyId::DEFAULT, key, operand)
    }

    /// Adds an operand to `key` in `family`; see [`WriteBatch::merge`].
    pub fn merge_cf(
        &mut self,
        family: impl Into<FamilyRef>,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add(family.into(), 0x02, 0x06, key.as_ref(), Some(operand.as_ref()))
    }

    /// Deletes every key from `begin` on that is before `end`, from the default family. It costs what one deletion costs,
    /// however many keys there are. Keys that the batch puts afterwards stay.
    ///
    /// A range whose end is before its begin is refused when the batch is written; one whose ends are equal holds no key.
    ///
    /// ```
    /// let mut batch = firndb::WriteBatch::new();
    /// batch.delete_range("2025-", "2026-").put("2025-12-31", "kept");
    /// assert_eq!(batch.count(), 2);
    /// ```
    pub fn delete_range(&mut self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> &mut Self {
        self.delete_range_cf(ColumnFamilyId::DEFAULT, begin, end)
    }

    /// Deletes every key from `begin` on that is before `end` from `family`; see [`WriteBatch::delete_range`].
    pub fn delete_range_cf(
        &mut self,
        family: impl Into<FamilyRef>,
        begin: impl AsRef<[u8]>,
        end: impl AsRef<[u8]>,
    ) -> &mut Self {
        if end.as_ref().len() > KEY_BYTES_MAX {
            self.obstacle = Obstacle::KeyTooLong(end.as_ref().len());
            return self;
        }
        self.add(family.into(), 0x0F, 0x0E, begin.as_ref(), Some(end.as_ref()))
    }

    /// Adds bytes that go to the log with the batch, and nowhere else: no reader sees them, they count as no operation, and
    /// replaying the log passes over them: they are for a program that reads the log's batches
    /// ([`WriteBatch::from_bytes`], [`WriteBatch::iter`]). A batch that has nothing else is logged, too.
    ///
    /// ```
    /// use firndb::{WriteBatch, WriteOperation};
    /// let mut batch = WriteBatch::new();
    /// batch.put("alice", "90").put_log_data("from shard 7");
    /// assert_eq!(batch.len(), 1);
    /// assert_eq!(batch.iter().last().transpose()?, Some(WriteOperation::LogData(b"from shard 7")));
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn put_log_data(&mut self, data: impl AsRef<[u8]>) -> &mut Self {
        let data = data.as_ref();
        if data.len() > VALUE_BYTES_MAX {
            self.obstacle = Obstacle::ValueTooLong(data.len());
            return self;
        }
        self.bytes.push(LOG_DATA);
        put_length_prefixed(&mut self.bytes, data);
        self
    }

    /// Adds the operations of `other`, in their order, behind those that are there. Its save points are not taken over; what
    /// keeps it from being written keeps this batch from it, too: both made with handles of one database, or with none.
    ///
    /// ```
    /// use firndb::WriteBatch;
    /// let (mut all, mut more) = (WriteBatch::new(), WriteBatch::new());
    /// all.put("a", "1");
    /// more.delete("b").put("c", "3");
    /// all.append(&more);
    /// assert_eq!((all.len(), more.len()), (3, 2));
    /// ```
    pub fn append(&mut self, other: &WriteBatch) -> &mut Self {
        self.note_database(other.database);
        if !matches!(other.obstacle, Obstacle::None | Obstacle::Protected) {
            self.obstacle = other.obstacle;
        }
        let Some(count) = self.count().checked_add(other.count()) else {
            self.obstacle = Obstacle::TooManyOperations;
            return self;
        };
        if let Some(protection) = self.extras.as_mut().and_then(|extras| extras.protection.as_mut()) {
            match other.extras.as_ref().and_then(|extras| extras.protection.as_ref()) {
                Some(checksums) => protection.append(checksums),
                None => other.operations().flatten().for_each(|entry| protection.add(&entry)),
            }
        }
        self.bytes.extend_from_slice(&other.bytes[HEADER_LEN..]);
        self.set_count(count);
        self
    }

    /// Remembers the batch as it is now, for [`WriteBatch::rollback_to_save_point`]. Save points nest.
    ///
    /// ```
    /// let mut batch = firndb::WriteBatch::new();
    /// batch.put("a", "1").set_save_point().put("b", "2");
    /// batch.rollback_to_save_point()?;
    /// assert_eq!(batch.len(), 1);
    /// assert!(batch.rollback_to_save_point().is_err());
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn set_save_point(&mut self) -> &mut Self {
        let (bytes, count) = (self.bytes.len(), self.count());
        let point = SavePoint { bytes, count, database: self.database, obstacle: self.obstacle };
        self.extras_mut().save_points.push(point);
        self
    }

    /// Takes back all that was added since the newest save point, which is gone then, too.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no save point; the batch is as it was.
    pub fn rollback_to_save_point(&mut self) -> Result<()> {
        let point = self.take_save_point()?;
        self.bytes.truncate(point.bytes);
        self.set_count(point.count);
        self.database = point.database;
        if self.obstacle != Obstacle::InDoubt {
            self.obstacle = point.obstacle;
        }
        if let Some(protection) = self.extras.as_mut().and_then(|extras| extras.protection.as_mut()) {
            protection.truncate(point.count);
        }
        Ok(())
    }

    /// Forgets the newest save point and takes nothing back: what was added since belongs to the one before.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no save point.
    pub fn pop_save_point(&mut self) -> Result<()> {
        self.take_save_point().map(drop)
    }

    /// How many operations there were at the newest save point, and those that came since.
    pub(crate) fn since_save_point(&self) -> Option<(u32, impl Iterator<Item = Result<BatchOperation<'_>>>)> {
        let point = self.extras.as_ref()?.save_points.last()?;
        Some((point.count, operations(Reader::new(&self.bytes[point.bytes..]))))
    }

    fn take_save_point(&mut self) -> Result<SavePoint> {
        let newest = self.extras.as_mut().and_then(|extras| extras.save_points.pop());
        newest.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "the batch has no save point"))
    }

    /// Empties the batch, without a save point, and keeps its memory. A batch with protection stays one.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.bytes.fill(0);
        (self.database, self.obstacle) = (0, Obstacle::None);
        if self.extras.is_some() {
            self.clear_extras();
        }
    }

    #[cold]
    fn clear_extras(&mut self) {
        if let Some(extras) = &mut self.extras {
            extras.save_points.clear();
            if let Some(protection) = &mut extras.protection {
                protection.truncate(0);
            }
        }
        self.obstacle = self.no_obstacle();
    }

    fn extras_mut(&mut self) -> &mut Extras {
        self.extras.get_or_insert_default()
    }

    pub(crate) fn is_protected(&self) -> bool {
        self.no_obstacle() == Obstacle::Protected
    }

    fn no_obstacle(&self) -> Obstacle {
        match self.extras.as_ref().is_some_and(|extras| extras.protection.is_some()) {
            true => Obstacle::Protected,
            false => Obstacle::None,
        }
    }

    /// Lets the batch be written again though its last write failed with
    /// [`DurabilityUnknown`](crate::ErrorKind::DurabilityUnknown), so that all of it may be there already, or come back after
    /// a crash. Until then, or until [`WriteBatch::clear`], writing it is refused.
    pub fn allow_repeat(&mut self) -> &mut Self {
        if self.obstacle == Obstacle::InDoubt {
            self.obstacle = self.no_obstacle();
        }
        self
    }

    /// How many operations there are.
    pub fn count(&self) -> u32 {
        u32::from_le_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    #[cfg(test)]
    pub(super) fn damage(&mut self, at: usize) {
        self.bytes[at] ^= 1;
    }

    fn set_count(&mut self, count: u32) {
        self.bytes[8..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
    }

    /// How many operations there are; the same as [`WriteBatch::count`].
    pub fn len(&self) -> usize {
        self.count() as usize
    }

    /// Bytes that the batch takes in a log, its header included.
    pub fn data_size(&self) -> usize {
        self.bytes.len()
    }

    /// True if there is something for the log, be it no operation.
    pub(crate) fn has_records(&self) -> bool {
        self.bytes.len() > HEADER_LEN
    }

    /// True if there is no operation.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// The batch in RocksDB's form, which takes this many bytes of a write-ahead log.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A batch from its bytes, every record checked.
    ///
    /// # Errors
    /// `Corruption` if a record is cut off, a tag does not exist or the count is wrong; `NotSupported` names operations
    /// that this version does not know; `Limit` for a key or value that is too long.
    pub fn from_bytes(bytes: &[u8]) -> Result<WriteBatch> {
        if bytes.len() < HEADER_LEN {
            return Err(Error::corrupt(
                CorruptionKind::Truncated,
                format!("a write batch of {} bytes; its header has {HEADER_LEN}", bytes.len()),
            ));
        }
        let batch = WriteBatch { bytes: bytes.to_vec(), database: 0, obstacle: Obstacle::None, extras: None };
        let mut found = 0u32;
        for operation in batch.operations() {
            let operation = operation?;
            operation.check()?;
            if !operation.is_ours() {
                return Err(operation.kind.unsupported());
            }
            if operation.kind == ValueKind::WideColumnEntity {
                default_column(operation.value)?;
            }
            found += 1;
        }
        batch.check_count(found)?;
        Ok(batch)
    }

    /// A batch from its bytes, as any RocksDB may have written it into a log; every record is handed to `each` with its bytes.
    ///
    /// # Errors
    /// As of [`WriteBatch::from_bytes`], but what is only not understood is none.
    pub(crate) fn read(
        bytes: &[u8],
        each: &mut dyn FnMut(Record<'_>, &[u8]) -> Result<()>,
    ) -> Result<(SequenceNumber, u32)> {
        let mut reader = Reader::new(bytes);
        reader.take(HEADER_LEN, "write batch header")?;
        let batch =
            WriteBatch { bytes: bytes[..HEADER_LEN].to_vec(), database: 0, obstacle: Obstacle::None, extras: None };
        let mut found = 0u32;
        loop {
            let before = reader.rest();
            let Some(record) = next_record(&mut reader)? else { break };
            if let Record::Operation(operation) = &record {
                operation.check()?;
                found += 1;
            }
            each(record, &before[..before.len() - reader.rest().len()])?;
        }
        batch.check_count(found)?;
        Ok((batch.sequence(), batch.count()))
    }

    /// A batch of bytes that [`WriteBatch::read`] has checked.
    pub(crate) fn of_log(bytes: &[u8]) -> WriteBatch {
        WriteBatch { bytes: bytes.to_vec(), database: 0, obstacle: Obstacle::None, extras: None }
    }

    /// Adds an operation in its bytes, as [`WriteBatch::read`] gave them.
    pub(crate) fn push_record(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(count) = self.count().checked_add(1) else { return Err(too_many_operations()) };
        self.bytes.extend_from_slice(bytes);
        self.bytes[8..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    fn check_count(&self, found: u32) -> Result<()> {
        match found == self.count() {
            true => Ok(()),
            false => Err(Error::corrupt(
                CorruptionKind::CountMismatch,
                format!("a write batch that claims {} operations has {found}", self.count()),
            )),
        }
    }

    /// An error if something was put into the batch that the format cannot hold, or if nobody knows whether it was written.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        if self.obstacle == Obstacle::None { Ok(()) } else { self.check_obstacle() }
    }

    #[cold]
    fn check_obstacle(&self) -> Result<()> {
        Err(match self.obstacle {
            Obstacle::KeyTooLong(len) => exceeded("a key", len, KEY_BYTES_MAX),
            Obstacle::ValueTooLong(len) => exceeded("a value", len, VALUE_BYTES_MAX),
            Obstacle::TooManyOperations => too_many_operations(),
            Obstacle::SameColumns => {
                Error::new(ErrorKind::InvalidArgument, "the batch has an entity with two columns of one name")
            }
            Obstacle::None | Obstacle::Protected => return self.verify_checksums(),
            Obstacle::InDoubt => Error::new(
                ErrorKind::InvalidArgument,
                "the batch was written, and nobody knows whether it is there: read it back and clear it, or allow its repeat",
            ),
        })
    }

    /// Verifies the checksums of a batch that has them ([`WriteBatch::with_protection`]), as writing it does.
    ///
    /// # Errors
    /// `Corruption` naming the first entry that is not what was added.
    pub fn verify_checksums(&self) -> Result<()> {
        match self.extras.as_ref().and_then(|extras| extras.protection.as_ref()) {
            Some(protection) => protection.verify(self.operations()),
            None => Ok(()),
        }
    }

    /// Refuses a batch in which handles of another open database than this one were used.
    #[inline]
    pub(crate) fn check_database(&self, own: u64) -> Result<()> {
        if self.database == 0 || self.database == own { Ok(()) } else { Err(of_another_database()) }
    }

    /// What becomes of the batch after a write: it is empty if it is there, itself if it is not, and not to be written again
    /// if nobody knows.
    pub(crate) fn settle<T>(&mut self, written: &Result<T>) {
        match written.as_ref().map_err(Error::kind) {
            Ok(_) => self.clear(),
            Err(ErrorKind::DurabilityUnknown | ErrorKind::Internal) => self.obstacle = Obstacle::InDoubt,
            Err(_) => {}
        }
    }

    pub(crate) fn sequence(&self) -> SequenceNumber {
        let (first, _) = self.bytes.split_first_chunk::<8>().expect("a batch always has its header");
        SequenceNumber(u64::from_le_bytes(*first))
    }

    pub(crate) fn set_sequence(&mut self, sequence: SequenceNumber) {
        self.bytes[..8].copy_from_slice(&sequence.0.to_le_bytes());
    }

    /// The operations in the order in which they were added, and bytes for the log among them. Keys and values are borrowed.
    ///
    /// An error is the last item: what was added cannot make one, and [`WriteBatch::from_bytes`] refuses what could.
    ///
    /// ```
    /// use firndb::{WriteBatch, WriteOperation};
    /// let mut batch = WriteBatch::new();
    /// batch.put("a", "1").delete("b");
    /// for operation in batch.iter() {
    ///     match operation? {
    ///         WriteOperation::Put { key, value, .. } => println!("{key:?} = {value:?}"),
    ///         WriteOperation::Delete { key, .. } => println!("no {key:?}"),
    ///         other => println!("{other:?}"),
    ///     }
    /// }
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn iter(&self) -> WriteOperations<'_> {
        WriteOperations::new(&self.bytes)
    }

    /// The operations that count, in order; the n-th has the batch's sequence number plus n.
    pub(crate) fn operations(&self) -> impl Iterator<Item = Result<BatchOperation<'_>>> {
        // A batch always has its header.
        operations(Reader::new(self.bytes.get(HEADER_LEN..).unwrap_or_default()))
    }

    /// The number of operations with one more; else notes why there is no room for it.
    #[inline]
    fn room_for(&mut self, key: &[u8], value: &[u8]) -> Option<u32> {
        let count = self.count().checked_add(1);
        if count.is_some() && key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX {
            return count;
        }
        self.obstacle = match (key.len(), value.len()) {
            (len, _) if len > KEY_BYTES_MAX => Obstacle::KeyTooLong(len),
            (_, len) if len > VALUE_BYTES_MAX => Obstacle::ValueTooLong(len),
            _ => Obstacle::TooManyOperations,
        };
        None
    }

    fn add(&mut self, family: FamilyRef, tag: u8, tag_cf: u8, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        let FamilyRef { id: family, database } = family;
        self.note_database(database);
        let Some(count) = self.room_for(key, value.unwrap_or_default()) else { return self };
        // Memory is asked for once.
        self.bytes.reserve(OPERATION_LEN_MAX + key.len() + value.map_or(0, <[u8]>::len));
        // RocksDB writes the default family with the plain tag, and so must everyone.
        if family == ColumnFamilyId::DEFAULT {
            self.bytes.push(tag);
        } else {
            self.bytes.push(tag_cf);
            put_varint32(&mut self.bytes, family.0);
        }
        put_length_prefixed(&mut self.bytes, key);
        if let Some(value) = value {
            put_length_prefixed(&mut self.bytes, value);
        }
        self.set_count(count);
        if self.extras.is_some() {
            self.protect(family, tag, key, value.unwrap_or_default());
        }
        self
    }

    /// Notes the checksum of an entry that was added, if the batch has any.
    #[cold]
    fn protect(&mut self, family: ColumnFamilyId, tag: u8, key: &[u8], value: &[u8]) {
        let protection = self.extras.as_mut().and_then(|extras| extras.protection.as_mut());
        // The plain tags are the numbers of the kinds.
        if let (Some(protection), Some(kind)) = (protection, ValueKind::from_byte(tag)) {
            protection.add(&BatchOperation { family, kind, key, value });
        }
    }

    #[inline]
    fn note_database(&mut self, database: u64) {
        if database != 0 && database != self.database {
            self.database = if self.database == 0 { database } else { SEVERAL_DATABASES };
        }
    }
}

fn operations<'a>(mut reader: Reader<'a>) -> impl Iterator<Item = Result<BatchOperation<'a>>> {
    let mut has_failed = false;
    std::iter::from_fn(move || {
        if has_failed {
            return None;
        }
        let next = next_operation(&mut reader);
        has_failed = next.is_err();
        next.transpose()
    })
}

/// Puts into the default family.
///
/// ```
/// let batch: firndb::WriteBatch = [("alice", "90"), ("bob", "80")].into_iter().collect();
/// assert_eq!(batch.len(), 2);
/// ```
impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, V)> for WriteBatch {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.extend(pairs);
        batch
    }
}

/// Puts into the default family.
impl<K: AsRef<[u8]>, V: AsRef<[u8]>> Extend<(K, V)> for WriteBatch {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.put(key, value);
        }
    }
}

impl<'a> IntoIterator for &'a WriteBatch {
    type Item = Result<WriteOperation<'a>>;
    type IntoIter = WriteOperations<'a>;

    fn into_iter(self) -> WriteOperations<'a> {
        self.iter()
    }
}

#[cold]
fn too_many_operations() -> Error {
    Error::new(ErrorKind::Limit, "a batch of more than 2^32 - 1 operations")
}

#[cold]
fn of_another_database() -> Error {
    Error::new(ErrorKind::InvalidArgument, "the batch has operations on a column family of another database")
}

#[cfg(test)]
mod tests;
