//! A batch of operations over any column families, applied as a whole or not at all.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | sequence number of the first operation |
//! | 4 | count of operations |
//! | … | per operation: `u8 tag`, family as varint32 if not the default, key and value length-prefixed |
//!
//! This is the payload of a WAL record. Source: RocksDB `db/write_batch.cc`, tags of `db/dbformat.h`.

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::{Reader, put_length_prefixed, put_varint32};
use crate::format::key::{ColumnFamilyId, SequenceNumber, ValueKind};
use crate::format::limits::{self, KEY_BYTES_MAX, VALUE_BYTES_MAX, exceeded};

pub(crate) const HEADER_LEN: usize = 12;

/// What a tag of a record says.
enum Tag {
    Operation {
        kind: ValueKind,
        has_family: bool,
    },
    /// A mark of a two-phase transaction.
    Transaction,
    LogData,
    Noop,
}

impl Tag {
    fn parse(tag: u8) -> Result<Tag> {
        let operation = |kind, has_family| Ok(Tag::Operation { kind, has_family });
        match tag {
            0x00 => operation(ValueKind::Deletion, false),
            0x04 => operation(ValueKind::Deletion, true),
            0x01 => operation(ValueKind::Value, false),
            0x05 => operation(ValueKind::Value, true),
            0x07 => operation(ValueKind::SingleDeletion, false),
            0x08 => operation(ValueKind::SingleDeletion, true),
            0x03 => Ok(Tag::LogData),
            0x0D => Ok(Tag::Noop),
            0x0F => operation(ValueKind::RangeDeletion, false),
            0x0E => operation(ValueKind::RangeDeletion, true),
            0x02 => operation(ValueKind::Merge, false),
            0x06 => operation(ValueKind::Merge, true),
            0x11 => operation(ValueKind::BlobIndex, false),
            0x10 => operation(ValueKind::BlobIndex, true),
            0x16 => operation(ValueKind::WideColumnEntity, false),
            0x17 => operation(ValueKind::WideColumnEntity, true),
            0x18 => operation(ValueKind::ValuePreferredSeqno, false),
            0x19 => operation(ValueKind::ValuePreferredSeqno, true),
            0x09..=0x0C | 0x12 | 0x13 | 0x15 => Ok(Tag::Transaction),
            _ => Err(Error::corrupt(CorruptionKind::BadMagic, format!("write batch tag {tag:#04x} does not exist"))),
        }
    }
}

/// A tag and three varints: what an operation takes at most beside its key and value.
const OPERATION_LEN_MAX: usize = 16;

/// One operation of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchOperation<'a> {
    pub(crate) family: ColumnFamilyId,
    pub(crate) kind: ValueKind,
    /// Of a range tombstone: where the range begins.
    pub(crate) key: &'a [u8],
    /// Empty for tombstones; of a range tombstone: the first key behind the range.
    pub(crate) value: &'a [u8],
}

/// One record of a batch in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Operation(BatchOperation<'a>),
    Transaction(TransactionMark<'a>),
    /// Nothing that the database has.
    Nothing,
}

/// A mark of a two-phase transaction, and its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionMark<'a> {
    /// The operations that follow are those of a transaction, and take no effect yet.
    Begin,
    /// The same under another policy (`WRITE_PREPARED`, `WRITE_UNPREPARED`): they are in memtables and tables at once, and
    /// who may see them is decided elsewhere.
    BeginInTables,
    /// Its operations end here.
    Prepared(&'a [u8]),
    Committed(&'a [u8]),
    RolledBack(&'a [u8]),
}

impl BatchOperation<'_> {
    /// False for kinds that this version writes nothing of.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self.kind, ValueKind::BlobIndex | ValueKind::WideColumnEntity | ValueKind::ValuePreferredSeqno)
    }

    /// Refuses what is too long.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.kind {
            ValueKind::RangeDeletion => limits::check_range(self.key, self.value),
            _ => limits::check_entry(self.key, self.value),
        }
    }
}

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
    /// It was written, and nobody knows whether it is there.
    InDoubt,
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
        WriteBatch { bytes: all, database: 0, obstacle: Obstacle::None }
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

    /// Deletes `key` from the default family.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(ColumnFamilyId::DEFAULT.into(), 0x00, 0x04, key.as_ref(), None)
    }

    /// Deletes `key` from `family`.
    pub fn delete_cf(&mut self, family: impl Into<FamilyRef>, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(family.into(), 0x00, 0x04, key.as_ref(), None)
    }

    /// Deletes `key`, which was put exactly once since it was last deleted, from `family`.
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

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.bytes.fill(0);
        (self.database, self.obstacle) = (0, Obstacle::None);
    }

    /// Lets the batch be written again though its last write failed with
    /// [`DurabilityUnknown`](crate::ErrorKind::DurabilityUnknown), so that all of it may be there already, or come back after
    /// a crash. Until then, or until [`WriteBatch::clear`], writing it is refused.
    pub fn allow_repeat(&mut self) -> &mut Self {
        if self.obstacle == Obstacle::InDoubt {
            self.obstacle = Obstacle::None;
        }
        self
    }

    /// How many operations there are.
    pub fn count(&self) -> u32 {
        u32::from_le_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
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
        let batch = WriteBatch { bytes: bytes.to_vec(), database: 0, obstacle: Obstacle::None };
        let mut found = 0u32;
        for operation in batch.iter() {
            let operation = operation?;
            operation.check()?;
            if !operation.is_ours() {
                return Err(operation.kind.unsupported());
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
        let batch = WriteBatch { bytes: bytes[..HEADER_LEN].to_vec(), database: 0, obstacle: Obstacle::None };
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
        WriteBatch { bytes: bytes.to_vec(), database: 0, obstacle: Obstacle::None }
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
        if self.obstacle == Obstacle::None { Ok(()) } else { Err(self.why_not()) }
    }

    #[cold]
    fn why_not(&self) -> Error {
        match self.obstacle {
            Obstacle::KeyTooLong(len) => return exceeded("a key", len, KEY_BYTES_MAX),
            Obstacle::ValueTooLong(len) => return exceeded("a value", len, VALUE_BYTES_MAX),
            Obstacle::TooManyOperations => {
                return too_many_operations();
            }
            Obstacle::None | Obstacle::InDoubt => {}
        }
        let what = "the batch was written, and nobody knows whether it is there: read it back and clear it, or allow its repeat";
        Error::new(ErrorKind::InvalidArgument, what)
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

    /// The operations in order; the n-th has the batch's sequence number plus n.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Result<BatchOperation<'_>>> {
        let mut reader = Reader::new(&self.bytes);
        let mut has_failed = reader.take(HEADER_LEN, "write batch header").is_err();
        std::iter::from_fn(move || {
            if has_failed {
                return None;
            }
            let next = next_operation(&mut reader);
            has_failed = next.is_err();
            next.transpose()
        })
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
        if database != 0 && database != self.database {
            self.database = if self.database == 0 { database } else { SEVERAL_DATABASES };
        }
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
        self.bytes[8..HEADER_LEN].copy_from_slice(&count.to_le_bytes());
        self
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

/// The next record that is an operation; `None` at the end.
fn next_operation<'a>(reader: &mut Reader<'a>) -> Result<Option<BatchOperation<'a>>> {
    while !reader.is_empty() {
        match Tag::parse(reader.byte("tag")?)? {
            Tag::Noop => {}
            Tag::LogData => drop(reader.length_prefixed("log data")?),
            Tag::Operation { kind, has_family } => return operation(reader, kind, has_family).map(Some),
            Tag::Transaction => return Err(two_phase()),
        }
    }
    Ok(None)
}

#[inline]
fn operation<'a>(reader: &mut Reader<'a>, kind: ValueKind, has_family: bool) -> Result<BatchOperation<'a>> {
    let family = if has_family { reader.varint32("column family")? } else { 0 };
    let key = reader.length_prefixed("key")?;
    let value = match kind {
        ValueKind::Deletion | ValueKind::SingleDeletion => &[],
        ValueKind::RangeDeletion => reader.length_prefixed("end of the range")?,
        _ => reader.length_prefixed("value")?,
    };
    Ok(BatchOperation { family: ColumnFamilyId(family), kind, key, value })
}

/// The next record, whatever it is.
fn next_record<'a>(reader: &mut Reader<'a>) -> Result<Option<Record<'a>>> {
    if reader.is_empty() {
        return Ok(None);
    }
    let tag = reader.byte("tag")?;
    Ok(Some(match Tag::parse(tag)? {
        Tag::Noop => Record::Nothing,
        Tag::LogData => {
            reader.length_prefixed("log data")?;
            Record::Nothing
        }
        Tag::Operation { kind, has_family } => Record::Operation(operation(reader, kind, has_family)?),
        Tag::Transaction => Record::Transaction(match tag {
            0x09 => TransactionMark::Begin,
            0x0A => TransactionMark::Prepared(reader.length_prefixed("transaction name")?),
            0x0C => TransactionMark::RolledBack(reader.length_prefixed("transaction name")?),
            0x12 | 0x13 => TransactionMark::BeginInTables,
            0x15 => {
                reader.length_prefixed("commit timestamp")?;
                TransactionMark::Committed(reader.length_prefixed("transaction name")?)
            }
            _ => TransactionMark::Committed(reader.length_prefixed("transaction name")?),
        }),
    }))
}

#[cold]
fn two_phase() -> Error {
    Error::new(ErrorKind::NotSupported, "a batch with marks of a two-phase transaction")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(b"cherry", b"dark").put_cf(ColumnFamilyId(300), b"", b"").delete(b"x");
        batch.delete_cf(ColumnFamilyId(1), b"y").single_delete_cf(ColumnFamilyId::DEFAULT, b"z");
        batch.delete_range(b"a", b"c").delete_range_cf(ColumnFamilyId(7), b"", b"m");
        batch.merge(b"m", b"1").merge_cf(ColumnFamilyId(1), b"", b"2");
        batch.set_sequence(SequenceNumber(4));
        batch
    }

    #[test]
    fn a_put_has_the_bytes_that_rocksdb_7_8_3_writes() {
        let mut batch = WriteBatch::new();
        batch.put(b"cherry", b"dark").set_sequence(SequenceNumber(4));
        let expected = b"\x04\0\0\0\0\0\0\0\x01\0\0\0\x01\x06cherry\x04dark";
        assert_eq!(batch.as_bytes(), expected);
    }

    #[test]
    fn operations_come_back_in_order() {
        let batch = WriteBatch::from_bytes(sample().as_bytes()).expect("sound");
        let all: Vec<_> = batch.iter().map(|operation| operation.expect("sound")).collect();
        assert_eq!(batch.sequence(), SequenceNumber(4));
        assert_eq!(all.len(), 9);
        assert_eq!((all[5].kind, all[5].key, all[5].value), (ValueKind::RangeDeletion, &b"a"[..], &b"c"[..]));
        assert_eq!((all[6].family, all[6].key, all[6].value), (ColumnFamilyId(7), &b""[..], &b"m"[..]));
        assert_eq!((all[7].kind, all[7].key, all[7].value), (ValueKind::Merge, &b"m"[..], &b"1"[..]));
        assert_eq!((all[8].family, all[8].kind, all[8].value), (ColumnFamilyId(1), ValueKind::Merge, &b"2"[..]));
        assert_eq!((all[0].key, all[0].value), (&b"cherry"[..], &b"dark"[..]));
        assert_eq!((all[1].family, all[1].kind), (ColumnFamilyId(300), ValueKind::Value));
        assert_eq!((all[4].key, all[4].kind), (&b"z"[..], ValueKind::SingleDeletion));
    }

    #[test]
    fn a_cut_batch_is_refused_everywhere() {
        let batch = sample();
        for cut in 0..batch.as_bytes().len() {
            assert_eq!(
                WriteBatch::from_bytes(&batch.as_bytes()[..cut]).expect_err("cut").kind(),
                ErrorKind::Corruption,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_this_version_cannot_resolve_is_refused_by_name() {
        for (record, name) in [(&b"\x16\x01a\x01b"[..], "wide-column"), (b"\x09", "two-phase")] {
            let mut bytes = vec![0; HEADER_LEN];
            bytes[8] = 1;
            bytes.extend_from_slice(record);
            let error = WriteBatch::from_bytes(&bytes).expect_err("unknown");
            assert_eq!(error.kind(), ErrorKind::NotSupported);
            assert!(error.to_string().contains(name), "{error}");
        }
        let mut bytes = vec![0; HEADER_LEN];
        bytes.push(0x7E);
        assert_eq!(WriteBatch::from_bytes(&bytes).expect_err("unknown").kind(), ErrorKind::Corruption);
    }

    #[test]
    fn records_of_logs_are_read_whatever_they_are_and_may_be_put_together_again() {
        let mut bytes = sample().as_bytes().to_vec();
        bytes[8] += 2;
        bytes.extend_from_slice(
            b"\x09\x16\x01e\x02ab\x0a\x02id\x0b\x02id\x0c\x01x\x15\x03now\x02id\x18\x01t\x01v\x12\x0d",
        );
        let (mut marks, mut again) = (Vec::new(), WriteBatch::new());
        let read = WriteBatch::read(&bytes, &mut |record, raw| {
            match record {
                Record::Operation(_) => again.push_record(raw)?,
                Record::Transaction(mark) => marks.push(format!("{mark:?}")),
                Record::Nothing => {}
            }
            Ok(())
        });
        assert_eq!(read.expect("sound"), (SequenceNumber(4), 11));
        assert_eq!(marks.len(), 6, "{marks:?}");
        assert_eq!(marks[2], format!("{:?}", TransactionMark::Committed(b"id")));
        let kinds: Vec<_> = again.iter().map(|operation| operation.expect("sound").kind).collect();
        assert_eq!(kinds.len(), 11);
        assert_eq!(kinds[9..], [ValueKind::WideColumnEntity, ValueKind::ValuePreferredSeqno]);
        for cut in 0..bytes.len() - 2 {
            let error = WriteBatch::read(&bytes[..cut], &mut |_, _| Ok(())).expect_err("cut");
            assert_eq!(error.kind(), ErrorKind::Corruption, "cut at {cut}");
        }
    }

    #[test]
    fn log_data_and_noops_count_nothing() {
        let mut bytes = sample().as_bytes().to_vec();
        bytes.extend_from_slice(b"\x0d\x03\x02hi");
        assert_eq!(WriteBatch::from_bytes(&bytes).expect("sound").iter().count(), 9);
    }
}
