//! A memtable: the newest writes of one column family, sorted, in memory.
//!
//! It only grows. Writers insert at the same time as readers read: a reader sees what is there by the sequence number
//! that it has, whatever comes after. A full memtable becomes immutable by convention (nobody inserts any more), is
//! flushed to a table, and its memory goes when the last reader lets go.
//!
//! Threads: any number of writers and readers. Counters are exact once all writers are done.

mod arena;
#[cfg(all(test, loom))]
mod loom_tests;
mod range_deletes;
mod skiplist;

use std::fmt;

use crate::error::{Error, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{FileNumber, SEEK_KIND, SequenceNumber, ValueKind, pack_trailer, trailer_sequence};
use crate::format::limits;
use crate::iter::InternalIterator;
use crate::iter::range_tombstones::RangeTombstone;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use range_deletes::RangeDeletes;
pub(crate) use range_deletes::RangeRuns;
pub(crate) use skiplist::MemSlice;
use skiplist::{ListIter, SkipList};

/// See the module's text.
pub(crate) struct MemTable {
    /// Larger for younger memtables of a family.
    pub(crate) id: u64,
    list: Arc<SkipList>,
    range_deletes: RangeDeletes,
    /// Range tombstones are not among them.
    entries: AtomicU64,
    largest_seq: AtomicU64,
    /// Some of its writes are in no log.
    has_unlogged: AtomicBool,
    /// The WAL that was current when the memtable was made: older ones hold none of its writes.
    log_number: FileNumber,
    /// Unix seconds when it was made.
    pub(crate) creation_time: u64,
}

impl fmt::Debug for MemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemTable({}, {} entries)", self.id, self.entry_count())
    }
}

/// The newest visible entry of a key; the value is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemHit<V> {
    pub(crate) sequence: SequenceNumber,
    pub(crate) kind: ValueKind,
    pub(crate) value: V,
}

fn hit<V>(trailer: u64, value: V) -> Option<MemHit<V>> {
    // Only kinds that exist are inserted.
    let kind = ValueKind::from_byte(trailer as u8)?;
    Some(MemHit { sequence: trailer_sequence(trailer), kind, value })
}

impl MemTable {
    /// An empty memtable for about `expected_bytes`.
    pub(crate) fn new(
        id: u64,
        order: KeyOrder,
        expected_bytes: usize,
        log_number: FileNumber,
        creation_time: u64,
    ) -> Arc<MemTable> {
        Arc::new(MemTable {
            id,
            list: Arc::new(SkipList::new(order, expected_bytes)),
            range_deletes: RangeDeletes::default(),
            entries: AtomicU64::new(0),
            largest_seq: AtomicU64::new(0),
            has_unlogged: AtomicBool::new(false),
            log_number,
            creation_time,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `Limit` for keys and values that are too long; `Corruption` if the key has an entry with this sequence number and
    /// kind already, which only a damaged log can bring about.
    #[inline]
    pub(crate) fn insert(
        &self,
        sequence: SequenceNumber,
        kind: ValueKind,
        user_key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        limits::check_entry(user_key, value)?;
        if !self.list.insert(user_key, pack_trailer(sequence, kind as u8), value) {
            return Err(Error::corrupt(
                crate::error::CorruptionKind::Order,
                format!("a second entry with sequence number {sequence} for one key"),
            ));
        }
        // Relaxed, all of them: read when the writers are done, or as an estimate.
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.largest_seq.fetch_max(sequence.0, Ordering::Relaxed);
        Ok(())
    }

    /// Adds a range tombstone for `[begin, end)`; one that holds no key changes nothing that a reader sees.
    ///
    /// # Errors
    /// `Limit` for keys that are too long.
    #[cold]
    pub(crate) fn delete_range(&self, sequence: SequenceNumber, begin: &[u8], end: &[u8]) -> Result<()> {
        limits::check_range(begin, end)?;
        let tombstone = RangeTombstone { begin: begin.to_vec(), end: end.to_vec(), sequence };
        self.range_deletes.add(self.list.order(), tombstone);
        self.largest_seq.fetch_max(sequence.0, Ordering::Relaxed);
        Ok(())
    }

    /// Its range tombstones; `None` if there are none.
    #[inline]
    pub(crate) fn range_tombstones(&self) -> Option<RangeRuns> {
        self.range_deletes.runs()
    }

    #[inline]
    pub(crate) fn has_range_tombstones(&self) -> bool {
        self.range_deletes.count() > 0
    }

    /// How many range tombstones there are.
    pub(crate) fn range_tombstone_count(&self) -> u64 {
        self.range_deletes.count() as u64
    }

    /// The newest entry of `user_key` at or below `snapshot`, borrowed.
    #[inline]
    pub(crate) fn get_ref(&self, user_key: &[u8], snapshot: SequenceNumber) -> Option<MemHit<&[u8]>> {
        self.list.get(user_key, pack_trailer(snapshot, SEEK_KIND)).and_then(|(trailer, value)| hit(trailer, value))
    }

    /// The newest entry of `user_key` at or below `snapshot`; its value keeps the memory.
    #[inline]
    pub(crate) fn get(&self, user_key: &[u8], snapshot: SequenceNumber) -> Option<MemHit<MemSlice>> {
        self.list
            .get_pinned(user_key, pack_trailer(snapshot, SEEK_KIND))
            .and_then(|(trailer, value)| hit(trailer, value))
    }

    /// An iterator that owns its memory.
    pub(crate) fn iter(&self) -> MemTableIter {
        MemTableIter(self.list.iter())
    }

    /// Bytes of memory.
    pub(crate) fn approximate_bytes(&self) -> usize {
        self.list.allocated() + self.range_deletes.bytes()
    }

    pub(crate) fn entry_count(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// False if there is nothing to look for but, perhaps, range tombstones.
    #[inline]
    pub(crate) fn has_entries(&self) -> bool {
        self.list.has_nodes()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entry_count() == 0 && !self.has_range_tombstones()
    }

    pub(crate) fn largest_seq(&self) -> SequenceNumber {
        SequenceNumber(self.largest_seq.load(Ordering::Relaxed))
    }

    /// Says that writes of it are in no log. Before the memtable is full: who flushes it asks.
    pub(crate) fn mark_unlogged(&self) {
        // Relaxed: the write queue's lock is between the last mark and the flush.
        self.has_unlogged.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_unlogged(&self) -> bool {
        self.has_unlogged.load(Ordering::Relaxed)
    }

    pub(crate) fn log_number(&self) -> FileNumber {
        self.log_number
    }

    /// True if no iterator and no value keeps the memory beside this memtable itself.
    pub(crate) fn is_unpinned(&self) -> bool {
        Arc::strong_count(&self.list) == 1
    }
}

/// An iterator over a memtable; owns its memory, sees what is inserted meanwhile.
pub(crate) struct MemTableIter(ListIter);

impl MemTableIter {
    /// The current value, kept alive by itself.
    #[inline]
    pub(crate) fn value_slice(&self) -> Option<MemSlice> {
        self.0.value_slice()
    }
}

impl fmt::Debug for MemTableIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemTableIter(valid: {})", self.0.valid())
    }
}

impl InternalIterator for MemTableIter {
    #[inline]
    fn valid(&self) -> bool {
        self.0.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.0.seek_to_first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.0.seek_to_last();
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.0.seek(target);
        Ok(())
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.0.seek_for_prev(target);
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.0.next();
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.0.prev();
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.0.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.0.value()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::format::key::internal_key;

    fn table(order: KeyOrder) -> Arc<MemTable> {
        MemTable::new(1, order, 1 << 16, FileNumber(3), 0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn a_memtable_is_a_sorted_map(
            reverse in any::<bool>(),
            keys in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab\x00\xff".to_vec()), 0..12), 1..100),
        ) {
            let order = if reverse { KeyOrder::ReverseBytewise } else { KeyOrder::Bytewise };
            let memtable = table(order.clone());
            let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
            for (i, key) in keys.iter().enumerate() {
                let sequence = SequenceNumber(i as u64 + 1);
                let kind = if i % 3 == 0 { ValueKind::Deletion } else { ValueKind::Value };
                let value = i.to_string().into_bytes();
                memtable.insert(sequence, kind, key, &value).expect("new sequence");
                model.push((internal_key(key, sequence, kind as u8), value));
            }
            model.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
            let mut iter = memtable.iter();
            iter.seek_to_first().expect("memory");
            for (key, value) in &model {
                prop_assert_eq!((iter.key(), iter.value()), (&key[..], &value[..]));
                iter.next().expect("memory");
            }
            prop_assert!(!iter.valid());
            iter.seek_to_last().expect("memory");
            for (key, _) in model.iter().rev() {
                prop_assert_eq!(iter.key(), &key[..]);
                iter.prev().expect("memory");
            }
            prop_assert!(!iter.valid());
            for (i, key) in keys.iter().enumerate() {
                let snapshot = SequenceNumber(i as u64 / 2);
                let visible = keys.iter().enumerate().take(snapshot.0 as usize).rev().find(|(_, k)| *k == key);
                let found = memtable.get_ref(key, snapshot).map(|hit| (hit.sequence.0, hit.value.to_vec()));
                prop_assert_eq!(found, visible.map(|(i, _)| (i as u64 + 1, i.to_string().into_bytes())));
                let target = internal_key(key, SequenceNumber(i as u64), SEEK_KIND);
                iter.seek(&target).expect("memory");
                let at = model.iter().position(|(k, _)| order.compare_internal(k, &target).is_ge());
                prop_assert_eq!(iter.valid().then(|| iter.key()), at.map(|at| &model[at].0[..]));
                iter.seek_for_prev(&target).expect("memory");
                let at = model.iter().rposition(|(k, _)| order.compare_internal(k, &target).is_le());
                prop_assert_eq!(iter.valid().then(|| iter.key()), at.map(|at| &model[at].0[..]));
            }
        }
    }

    #[test]
    fn writers_and_readers_at_once_lose_nothing_and_see_order() {
        let memtable = table(KeyOrder::Bytewise);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let memtable = &memtable;
                scope.spawn(move || {
                    for i in 0..2000u64 {
                        // Two threads ascend, two jump about.
                        let n = if thread < 2 { i } else { i.wrapping_mul(0x9E37_79B9) % 100_000 };
                        let key = format!("{thread}-{n:06}");
                        let sequence = SequenceNumber(1 + thread * 2000 + i);
                        memtable
                            .insert(sequence, ValueKind::Value, key.as_bytes(), &sequence.0.to_le_bytes())
                            .expect("new");
                    }
                });
            }
            for _ in 0..5 {
                let mut iter = memtable.iter();
                iter.seek_to_first().expect("memory");
                let mut last: Option<Vec<u8>> = None;
                while iter.valid() {
                    if let Some(last) = &last {
                        assert!(KeyOrder::Bytewise.compare_internal(last, iter.key()).is_lt());
                    }
                    last = Some(iter.key().to_vec());
                    iter.next().expect("memory");
                }
            }
        });
        assert_eq!(memtable.entry_count(), 8000);
        let mut iter = memtable.iter();
        iter.seek_to_first().expect("memory");
        let mut seen = BTreeMap::new();
        while iter.valid() {
            seen.insert(iter.value().to_vec(), iter.key().to_vec());
            iter.next().expect("memory");
        }
        assert_eq!(seen.len(), 8000);
    }

    #[test]
    fn a_second_entry_of_the_same_name_is_refused_and_values_outlive_the_memtable() {
        let memtable = table(KeyOrder::Bytewise);
        memtable.insert(SequenceNumber(1), ValueKind::Value, b"k", b"v").expect("first");
        assert!(memtable.insert(SequenceNumber(1), ValueKind::Value, b"k", b"w").is_err());
        let hit = memtable.get(b"k", SequenceNumber::MAX).expect("there");
        assert!(!memtable.is_unpinned());
        drop(memtable);
        assert_eq!(&*hit.value, b"v");
    }
}
