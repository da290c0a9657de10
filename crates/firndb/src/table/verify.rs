//! Checks a whole table against everything that it says of itself.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::{ParsedKey, SequenceNumber, exclusive_end, internal_key, trailer, user_key};
use crate::iter::InternalIterator;

use super::filters::{FilterCheck, FilterForm, Filters, OtherFilter};
use super::index::Index;
use super::layout::{BlockHandle, stored_bytes};
use super::parts::Parts;
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
    /// read. Of an order that is not known, nothing is asked.
    pub(crate) fn verify(self: &Arc<Self>, is_order_known: bool, progress: &mut dyn FnMut(u64)) -> Result<TableCounts> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: 1 << 20 };
        let (source, order) = (&self.source, self.order());
        let bad = |kind, what: String| Error::corrupt_at(kind, &source.context.path, 0, what);
        source.footer.check_padding(&*source.file, &source.context.path)?;
        // The cache may hold a sound copy of a block that is damaged on disk.
        self.each_block(&mut |handle| {
            source.data_block(handle, source.stored(handle)?, &options)?;
            progress(stored_bytes(handle.size));
            Ok(())
        })?;
        if let Filters::Other(OtherFilter { form: FilterForm::Parts(filter), .. }) = &self.filters {
            (0..filter.top.len()).try_for_each(|number| filter.read(source, number, &options).map(drop))?;
        }
        let mut counts = TableCounts { smallest_seq: SequenceNumber::MAX, ..TableCounts::default() };
        let mut iter = self.iter(options);
        let mut filter = FilterCheck::default();
        iter.seek_to_first()?;
        while iter.valid() {
            let key = iter.key();
            let parsed = ParsedKey::parse(key).map_err(|error| source.at(error, 0))?;
            if is_order_known && counts.entries > 0 && order.compare_internal(&counts.largest, key) != Ordering::Less {
                return Err(bad(
                    CorruptionKind::Order,
                    format!("entry {} does not sort after the one before", counts.entries),
                ));
            }
            if counts.entries == 0 {
                counts.smallest = key.to_vec();
            }
            if is_order_known
                && !filter.passes(&self.filters, self.prefixes, source, (user_key(key), trailer(key)), &options)?
            {
                return Err(bad(CorruptionKind::Malformed, format!("the filter denies entry {}", counts.entries)));
            }
            if is_order_known && !iter.is_between_separators() {
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
        for tombstone in self.range_tombstones().iter().flat_map(|tombstones| tombstones.iter()) {
            // A bound may be in the middle of its key's entries, where a tombstone of all of them was cut: the key counts.
            let begin = internal_key(&tombstone.begin, SequenceNumber::ZERO, 0);
            let end = exclusive_end(&tombstone.end);
            if counts.smallest.is_empty() || order.compare_internal(&begin, &counts.smallest).is_lt() {
                counts.smallest = begin;
            }
            if counts.largest.is_empty() || order.compare_internal(&end, &counts.largest).is_gt() {
                counts.largest = end;
            }
            counts.smallest_seq = counts.smallest_seq.min(tombstone.sequence);
            counts.largest_seq = counts.largest_seq.max(tombstone.sequence);
        }
        let stated = self.properties();
        // Counted when the table was opened: those whose ranges are empty are not among the others any more.
        counts.entries += stated.range_deletions;
        counts.deletions += stated.range_deletions;
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

    /// Calls back with the content of every data block, decompressed, in their order.
    pub(crate) fn each_content(&self, on_content: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: 1 << 20 };
        let dictionary = self.source.dictionary.as_ref();
        self.each_block(&mut |handle| on_content(&self.source.content_with(handle, &options, dictionary)?))
    }

    /// Calls back with every data block; parts of an index are read from the file.
    pub(super) fn each_block(&self, on_block: &mut dyn FnMut(BlockHandle) -> Result<()>) -> Result<()> {
        let mut each_of = |index: &Index| (0..index.len()).try_for_each(|block| on_block(index.handle(block)));
        match &self.parts {
            Parts::One(part) => each_of(&part.index),
            Parts::Many(levels) => (0..levels.top.len()).try_for_each(|number| {
                let options = TableReadOptions { fill_cache: false, ..TableReadOptions::default() };
                each_of(&levels.read(&self.source, number, &options)?)
            }),
        }
    }
}
