//! Checks a whole table against everything that it says of itself.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::{ParsedKey, SequenceNumber, user_key};
use crate::iter::InternalIterator;

use super::filter::KeyHash;
use super::iter::stored_bytes;
use super::reader::{TableReadOptions, TableReader};

/// What a table holds, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableCounts {
    pub(crate) entries: u64,
    pub(crate) deletions: u64,
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) smallest_seq: SequenceNumber,
    pub(crate) largest_seq: SequenceNumber,
}

impl TableReader {
    /// Reads every block past the cache: checksums, order, separators, filter, counts. `progress` is told the bytes
    /// read.
    pub(crate) fn verify(self: &Arc<Self>, progress: &mut dyn FnMut(u64)) -> Result<TableCounts> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: 1 << 20 };
        let order = self.order();
        let bad = |kind, what: String| Error::corrupt_at(kind, &self.context.path, 0, what);
        self.footer.check_padding(&*self.file, &self.context.path)?;
        for index in 0..self.index.len() {
            // The cache may hold a sound copy of a block that is damaged on disk.
            let handle = self.index.handle(index);
            let block = self.footer.read_block(&*self.file, &self.context.path, handle, true)?;
            super::block::Block::new(block, handle.offset).map_err(|error| self.at(error, handle.offset))?;
            progress(stored_bytes(handle.size));
        }
        let mut counts = TableCounts { smallest_seq: SequenceNumber::MAX, ..TableCounts::default() };
        let mut iter = self.iter(options);
        iter.seek_to_first()?;
        while iter.valid() {
            let key = iter.key();
            let parsed = ParsedKey::parse(key).map_err(|error| self.at(error, 0))?;
            if counts.entries > 0 && order.compare_internal(&counts.largest, key) != Ordering::Less {
                return Err(bad(
                    CorruptionKind::Order,
                    format!("entry {} does not sort after the one before", counts.entries),
                ));
            }
            if counts.entries == 0 {
                counts.smallest = key.to_vec();
            }
            if let Some(filter) = &self.filter
                && !filter.may_contain(user_key(key), &mut KeyHash::default())
            {
                return Err(bad(CorruptionKind::Malformed, format!("the filter denies entry {}", counts.entries)));
            }
            let block = iter.current_block();
            if !self.index.is_in_block(order, block, key) {
                return Err(bad(
                    CorruptionKind::Order,
                    format!("entry {} is not between its separators", counts.entries),
                ));
            }
            counts.largest.clear();
            counts.largest.extend_from_slice(key);
            counts.entries += 1;
            counts.deletions += u64::from(parsed.kind.is_tombstone());
            counts.smallest_seq = counts.smallest_seq.min(parsed.sequence);
            counts.largest_seq = counts.largest_seq.max(parsed.sequence);
            iter.next()?;
        }
        let stated = self.properties();
        if (counts.entries, counts.deletions) != (stated.entries, stated.deletions) {
            return Err(bad(
                CorruptionKind::CountMismatch,
                format!(
                    "{} entries, {} of them deletions; the properties say {} and {}",
                    counts.entries, counts.deletions, stated.entries, stated.deletions
                ),
            ));
        }
        Ok(counts)
    }
}
