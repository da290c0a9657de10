//! The records of a write batch: what a tag means, and the operations one after another.
//!
//! Source: RocksDB `db/write_batch.cc`, tags of `db/dbformat.h`.

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::Reader;
use crate::format::key::{ColumnFamilyId, ValueKind};
use crate::format::limits;

pub(crate) const HEADER_LEN: usize = 12;
/// Bytes for the log alone: no operation, and no reader ever sees them.
pub(super) const LOG_DATA: u8 = 0x03;
const NOOP: u8 = 0x0D;

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
            LOG_DATA => Ok(Tag::LogData),
            NOOP => Ok(Tag::Noop),
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
pub(super) const OPERATION_LEN_MAX: usize = 16;

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
        !matches!(self.kind, ValueKind::BlobIndex | ValueKind::ValuePreferredSeqno)
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

/// The next record that is an operation; `None` at the end.
pub(super) fn next_operation<'a>(reader: &mut Reader<'a>) -> Result<Option<BatchOperation<'a>>> {
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

/// Always inlined: what it returns is large, and would be copied once more.
#[inline(always)]
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
pub(super) fn next_record<'a>(reader: &mut Reader<'a>) -> Result<Option<Record<'a>>> {
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

/// An operation of a [`WriteBatch`](crate::WriteBatch), borrowed from it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOperation<'a> {
    /// Sets a key to a value.
    Put {
        /// In which family.
        family: ColumnFamilyId,
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
    /// Gives a key columns.
    PutEntity {
        /// In which family.
        family: ColumnFamilyId,
        /// The key.
        key: &'a [u8],
        /// The columns in RocksDB's form, which [`Columns::parse`](crate::Columns::parse) reads.
        entity: &'a [u8],
    },
    /// Deletes a key.
    Delete {
        /// In which family.
        family: ColumnFamilyId,
        /// The key.
        key: &'a [u8],
    },
    /// Deletes a key that was put exactly once since it was last deleted.
    SingleDelete {
        /// In which family.
        family: ColumnFamilyId,
        /// The key.
        key: &'a [u8],
    },
    /// Adds an operand to a key.
    Merge {
        /// In which family.
        family: ColumnFamilyId,
        /// The key.
        key: &'a [u8],
        /// What the family's merge operator makes a value of.
        operand: &'a [u8],
    },
    /// Deletes every key from `begin` on that is before `end`.
    DeleteRange {
        /// In which family.
        family: ColumnFamilyId,
        /// The first key.
        begin: &'a [u8],
        /// The first key behind the range.
        end: &'a [u8],
    },
    /// Bytes for the log alone, of no family; counted nowhere, and seen by no reader.
    LogData(
        /// What was put into the log.
        &'a [u8],
    ),
}

impl<'a> WriteOperation<'a> {
    /// The family that it changes; `None` for what is for the log alone.
    pub fn family(&self) -> Option<ColumnFamilyId> {
        match self {
            WriteOperation::Put { family, .. }
            | WriteOperation::PutEntity { family, .. }
            | WriteOperation::Delete { family, .. }
            | WriteOperation::SingleDelete { family, .. }
            | WriteOperation::Merge { family, .. }
            | WriteOperation::DeleteRange { family, .. } => Some(*family),
            WriteOperation::LogData(_) => None,
        }
    }

    /// The key, of a range its first; `None` for what is for the log alone.
    pub fn key(&self) -> Option<&'a [u8]> {
        match self {
            WriteOperation::Put { key, .. }
            | WriteOperation::PutEntity { key, .. }
            | WriteOperation::Delete { key, .. }
            | WriteOperation::SingleDelete { key, .. }
            | WriteOperation::Merge { key, .. }
            | WriteOperation::DeleteRange { begin: key, .. } => Some(key),
            WriteOperation::LogData(_) => None,
        }
    }

    fn of(operation: BatchOperation<'a>) -> Result<WriteOperation<'a>> {
        let BatchOperation { family, kind, key, value } = operation;
        Ok(match kind {
            ValueKind::Value => WriteOperation::Put { family, key, value },
            ValueKind::WideColumnEntity => WriteOperation::PutEntity { family, key, entity: value },
            ValueKind::Deletion => WriteOperation::Delete { family, key },
            ValueKind::SingleDeletion => WriteOperation::SingleDelete { family, key },
            ValueKind::Merge => WriteOperation::Merge { family, key, operand: value },
            ValueKind::RangeDeletion => WriteOperation::DeleteRange { family, begin: key, end: value },
            other => return Err(other.unsupported()),
        })
    }
}

/// The operations of a [`WriteBatch`](crate::WriteBatch) in the order in which they were added; see
/// [`WriteBatch::iter`](crate::WriteBatch::iter).
#[derive(Debug, Clone)]
pub struct WriteOperations<'a> {
    reader: Reader<'a>,
    has_failed: bool,
}

impl<'a> WriteOperations<'a> {
    /// Those of a whole batch.
    pub(super) fn new(batch: &'a [u8]) -> WriteOperations<'a> {
        let mut reader = Reader::new(batch);
        let has_failed = reader.take(HEADER_LEN, "write batch header").is_err();
        WriteOperations { reader, has_failed }
    }

    fn step(&mut self) -> Result<Option<WriteOperation<'a>>> {
        loop {
            match self.reader.rest().first().copied() {
                Some(LOG_DATA) => {
                    self.reader.byte("tag")?;
                    return self.reader.length_prefixed("log data").map(|data| Some(WriteOperation::LogData(data)));
                }
                Some(NOOP) => drop(self.reader.byte("tag")?),
                _ => return next_operation(&mut self.reader)?.map(WriteOperation::of).transpose(),
            }
        }
    }
}

impl<'a> Iterator for WriteOperations<'a> {
    type Item = Result<WriteOperation<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let next = self.step();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

impl std::iter::FusedIterator for WriteOperations<'_> {}
