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

pub(crate) const HEADER_LEN: usize = 12;

/// What a tag of a record says.
enum Tag {
    Point { kind: ValueKind, has_family: bool },
    LogData,
    Noop,
}

impl Tag {
    fn parse(tag: u8) -> Result<Tag> {
        let point = |kind, has_family| Ok(Tag::Point { kind, has_family });
        match tag {
            0x00 => point(ValueKind::Deletion, false),
            0x04 => point(ValueKind::Deletion, true),
            0x01 => point(ValueKind::Value, false),
            0x05 => point(ValueKind::Value, true),
            0x07 => point(ValueKind::SingleDeletion, false),
            0x08 => point(ValueKind::SingleDeletion, true),
            0x03 => Ok(Tag::LogData),
            0x0D => Ok(Tag::Noop),
            0x02 | 0x06 => Err(ValueKind::Merge.unsupported()),
            0x0E | 0x0F => Err(ValueKind::RangeDeletion.unsupported()),
            0x10 | 0x11 => Err(ValueKind::BlobIndex.unsupported()),
            0x16 | 0x17 => Err(ValueKind::WideColumnEntity.unsupported()),
            0x18 | 0x19 => Err(ValueKind::ValuePreferredSeqno.unsupported()),
            0x09..=0x0C | 0x12 | 0x13 | 0x15 => Err(Error::new(
                ErrorKind::NotSupported,
                "the log holds a two-phase transaction, which this version cannot read",
            )),
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
    pub(crate) key: &'a [u8],
    /// Empty for tombstones.
    pub(crate) value: &'a [u8],
}

/// Operations that become visible, and survive a crash, together.
///
/// A key or value of 4 GiB or more does not fit the format; the batch then refuses to be written.
///
/// ```
/// let mut batch = firndb::WriteBatch::new();
/// batch.put(b"alice", b"90").delete(b"bob");
/// assert_eq!(batch.count(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct WriteBatch {
    bytes: Vec<u8>,
    is_too_large: bool,
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
        WriteBatch { bytes: all, is_too_large: false }
    }

    /// A batch that has memory for one operation whose key and value have `bytes`.
    #[inline]
    pub(crate) fn for_one(bytes: usize) -> WriteBatch {
        WriteBatch::with_capacity(OPERATION_LEN_MAX + bytes)
    }

    /// Sets `key` to `value` in the default family.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> &mut Self {
        self.put_cf(ColumnFamilyId::DEFAULT, key, value)
    }

    /// Sets `key` to `value` in `family`.
    pub fn put_cf(
        &mut self,
        family: impl Into<ColumnFamilyId>,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> &mut Self {
        self.add(family.into(), 0x01, 0x05, key.as_ref(), Some(value.as_ref()))
    }

    /// Deletes `key` from the default family.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> &mut Self {
        self.delete_cf(ColumnFamilyId::DEFAULT, key)
    }

    /// Deletes `key` from `family`.
    pub fn delete_cf(&mut self, family: impl Into<ColumnFamilyId>, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(family.into(), 0x00, 0x04, key.as_ref(), None)
    }

    /// Deletes `key`, which was put exactly once since it was last deleted, from `family`.
    pub fn single_delete_cf(&mut self, family: impl Into<ColumnFamilyId>, key: impl AsRef<[u8]>) -> &mut Self {
        self.add(family.into(), 0x07, 0x08, key.as_ref(), None)
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_LEN);
        self.bytes.fill(0);
        self.is_too_large = false;
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
    /// that this version does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<WriteBatch> {
        if bytes.len() < HEADER_LEN {
            return Err(Error::corrupt(
                CorruptionKind::Truncated,
                format!("a write batch of {} bytes; its header has {HEADER_LEN}", bytes.len()),
            ));
        }
        let batch = WriteBatch { bytes: bytes.to_vec(), is_too_large: false };
        let mut found = 0u32;
        for operation in batch.iter() {
            operation?;
            found += 1;
        }
        match found == batch.count() {
            true => Ok(batch),
            false => Err(Error::corrupt(
                CorruptionKind::CountMismatch,
                format!("a write batch that claims {} operations has {found}", batch.count()),
            )),
        }
    }

    /// An error if something was put into the batch that the format cannot hold.
    pub(crate) fn check(&self) -> Result<()> {
        match self.is_too_large {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Limit, "a key or value of 4 GiB or more, or more than 2^32 operations")),
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

    fn add(&mut self, family: ColumnFamilyId, tag: u8, tag_cf: u8, key: &[u8], value: Option<&[u8]>) -> &mut Self {
        let fits = |bytes: &[u8]| u32::try_from(bytes.len()).is_ok();
        let count = self.count().checked_add(1);
        let (Some(count), true) = (count, fits(key) && value.is_none_or(fits)) else {
            self.is_too_large = true;
            return self;
        };
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

/// The next record that is an operation; `None` at the end.
fn next_operation<'a>(reader: &mut Reader<'a>) -> Result<Option<BatchOperation<'a>>> {
    while !reader.is_empty() {
        match Tag::parse(reader.byte("tag")?)? {
            Tag::Noop => {}
            Tag::LogData => drop(reader.length_prefixed("log data")?),
            Tag::Point { kind, has_family } => {
                let family = if has_family { reader.varint32("column family")? } else { 0 };
                let key = reader.length_prefixed("key")?;
                let value = if kind == ValueKind::Value { reader.length_prefixed("value")? } else { &[] };
                return Ok(Some(BatchOperation { family: ColumnFamilyId(family), kind, key, value }));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(b"cherry", b"dark").put_cf(ColumnFamilyId(300), b"", b"").delete(b"x");
        batch.delete_cf(ColumnFamilyId(1), b"y").single_delete_cf(ColumnFamilyId::DEFAULT, b"z");
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
        assert_eq!(all.len(), 5);
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
        for (tag, name) in [(0x02, "merge"), (0x0F, "range tombstone"), (0x16, "wide-column"), (0x09, "two-phase")] {
            let mut bytes = vec![0; HEADER_LEN];
            bytes.push(tag);
            let error = WriteBatch::from_bytes(&bytes).expect_err("unknown");
            assert_eq!(error.kind(), ErrorKind::NotSupported);
            assert!(error.to_string().contains(name), "{error}");
        }
        let mut bytes = vec![0; HEADER_LEN];
        bytes.push(0x7E);
        assert_eq!(WriteBatch::from_bytes(&bytes).expect_err("unknown").kind(), ErrorKind::Corruption);
    }

    #[test]
    fn log_data_and_noops_count_nothing() {
        let mut bytes = sample().as_bytes().to_vec();
        bytes.extend_from_slice(b"\x0d\x03\x02hi");
        assert_eq!(WriteBatch::from_bytes(&bytes).expect("sound").iter().count(), 5);
    }
}
