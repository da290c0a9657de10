//! The range tombstones of a memtable: added one by one, read without a lock.
//!
//! They are kept in runs, each immutable, whose lengths grow like the digits of a binary counter: a new one is a run of its
//! own, and takes in the runs before it that are no longer than what it has become. So an insertion costs `O(log² n)` in the
//! mean, and a reader asks `O(log n)` runs, where a list made anew for its next reader would cost `O(n)` each time.
//!
//! Threads: writers take turns; readers load one pointer, and nothing at all while there is no range tombstone.

use arc_swap::ArcSwapOption;

use crate::format::comparator::KeyOrder;
use crate::iter::range_tombstones::{RangeTombstone, RangeTombstones};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};

/// Those of one moment, in runs.
pub(crate) type RangeRuns = Arc<Vec<Arc<RangeTombstones>>>;

#[derive(Debug, Default)]
pub(super) struct RangeDeletes {
    count: AtomicUsize,
    /// Bytes of memory, about.
    bytes: AtomicUsize,
    runs: ArcSwapOption<Vec<Arc<RangeTombstones>>>,
    adding: Mutex<()>,
}

impl RangeDeletes {
    pub(super) fn count(&self) -> usize {
        // Acquire pairs with the Release of `add`; a reader's number is visible only after it anyway.
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// `None` if there are none.
    pub(super) fn runs(&self) -> Option<RangeRuns> {
        if self.count() == 0 { None } else { self.runs.load_full() }
    }

    pub(super) fn add(&self, order: &KeyOrder, tombstone: RangeTombstone) {
        let adding = self.adding.lock();
        let mut runs: Vec<_> = self.runs.load_full().map_or_else(Vec::new, |runs| runs.to_vec());
        let mut gathered = vec![tombstone];
        while let Some(last) = runs.pop_if(|last| last.len() <= gathered.len()) {
            gathered.extend(last.iter());
        }
        runs.push(Arc::new(RangeTombstones::new(order, gathered)));
        // Relaxed: an estimate.
        self.bytes.store(runs.iter().map(|run| run.memory()).sum(), Ordering::Relaxed);
        self.runs.store(Some(Arc::new(runs)));
        self.count.fetch_add(1, Ordering::Release);
        drop(adding);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::format::key::SequenceNumber;

    #[test]
    fn many_range_tombstones_are_few_runs_and_none_is_lost() {
        let deletes = RangeDeletes::default();
        assert!(deletes.runs().is_none());
        let key = |n: u64| n.to_be_bytes().to_vec();
        for n in 0..1000u64 {
            let tombstone = RangeTombstone { begin: key(n), end: key(n + 1), sequence: SequenceNumber(n + 1) };
            deletes.add(&KeyOrder::Bytewise, tombstone);
        }
        let runs = deletes.runs().expect("some");
        assert!(runs.len() <= 10, "{}", runs.len());
        for n in 0..1000 {
            let newest = runs.iter().map(|run| run.covering(&key(n), SequenceNumber::MAX)).max();
            assert_eq!(newest, Some(SequenceNumber(n + 1)));
        }
        assert_eq!(deletes.count(), 1000);
        assert!(deletes.bytes() > 1000 * 16);
    }
}
