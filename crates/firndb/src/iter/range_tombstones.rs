//! Range tombstones of a run: which number hides a key, and how far.
//!
//! A range tombstone `[begin, end)@n` hides every entry of its keys with a number below `n`. They may overlap in any way.
//!
//! Flow: a memtable or a table gathers its own -> **[`RangeTombstones`]** -> `read` asks for the newest one that covers a key
//! and is visible, and for the interval in which the answer is the same; a job asks the same per stripe, and for those that
//! [survive](RangeTombstones::surviving).
//!
//! The ends of all ranges cut the keys into intervals, and a segment tree over these holds the numbers: a range is noted in at
//! most two nodes of each height, and a key is asked for by the nodes above its interval. So `n` ranges take `O(n log n)`
//! memory, whatever their shape, where a list of numbers for each interval takes `O(n²)` if they are nested.
//!
//! Source: RocksDB `db/range_tombstone_fragmenter.h` for the intervals; de Berg et al., "Computational Geometry", 10.3 for the
//! tree.

use std::cmp::Ordering;

use crate::format::comparator::KeyOrder;
use crate::format::key::SequenceNumber;

/// `[begin, end)@sequence`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RangeTombstone {
    pub(crate) begin: Vec<u8>,
    /// Not in the range.
    pub(crate) end: Vec<u8>,
    pub(crate) sequence: SequenceNumber,
}

/// See the module's text. Immutable.
#[derive(Debug)]
pub(crate) struct RangeTombstones {
    order: KeyOrder,
    /// The ends of all ranges, ascending, each once: interval `i` is `[edges[i], edges[i + 1])`.
    edges: Vec<Vec<u8>>,
    /// Begin and end of each range among the edges, and its number; largest number first.
    ranges: Vec<(u32, u32, SequenceNumber)>,
    /// Where each node's numbers end in `numbers`; node 1 is the root, interval `i` is node `intervals + i`.
    node_ends: Vec<u32>,
    /// The numbers of each node, largest first.
    numbers: Vec<SequenceNumber>,
    /// Bytes of all that, about: asked for with every range tombstone that a memtable gets.
    memory: usize,
}

/// The keys around one for which the same tombstone is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval<'a> {
    /// The first key; `None`: there is no end on this side.
    pub(crate) begin: Option<&'a [u8]>,
    /// The first key behind.
    pub(crate) end: Option<&'a [u8]>,
    /// 0: none covers it.
    pub(crate) newest: SequenceNumber,
}

impl RangeTombstones {
    /// Ranges that hold no key are left out.
    pub(crate) fn new(order: &KeyOrder, tombstones: impl IntoIterator<Item = RangeTombstone>) -> RangeTombstones {
        let holds_keys = |tombstone: &RangeTombstone| order.compare(&tombstone.begin, &tombstone.end).is_lt();
        let mut all: Vec<RangeTombstone> = tombstones.into_iter().filter(holds_keys).collect();
        all.sort_by_key(|tombstone| std::cmp::Reverse(tombstone.sequence));
        let mut edges: Vec<Vec<u8>> = Vec::with_capacity(all.len() * 2);
        for tombstone in &all {
            edges.push(tombstone.begin.clone());
            edges.push(tombstone.end.clone());
        }
        edges.sort_by(|a, b| order.compare(a, b));
        edges.dedup_by(|a, b| order.compare(a, b) == Ordering::Equal);
        let place = |key: &[u8]| edges.partition_point(|edge| order.compare(edge, key).is_lt()) as u32;
        let ranges: Vec<_> = all.iter().map(|t| (place(&t.begin), place(&t.end), t.sequence)).collect();
        let intervals = edges.len().saturating_sub(1);
        // Twice the same walk: how many numbers each node has, then the numbers.
        let mut node_ends = vec![0u32; 2 * intervals];
        for (begin, end, _) in &ranges {
            for_each_node(intervals, *begin, *end, |node| node_ends[node] += 1);
        }
        let mut total = 0;
        let mut next: Vec<u32> = Vec::with_capacity(node_ends.len());
        for end in &mut node_ends {
            next.push(total);
            total += *end;
            *end = total;
        }
        let mut numbers = vec![SequenceNumber::ZERO; total as usize];
        for (begin, end, sequence) in &ranges {
            for_each_node(intervals, *begin, *end, |node| {
                numbers[next[node] as usize] = *sequence;
                next[node] += 1;
            });
        }
        let of_edges: usize = edges.iter().map(|edge| edge.capacity() + size_of::<Vec<u8>>()).sum();
        let memory = of_edges + ranges.len() * 16 + node_ends.len() * 4 + numbers.len() * 8;
        RangeTombstones { order: order.clone(), edges, ranges, node_ends, numbers, memory }
    }

    pub(crate) fn order(&self) -> &KeyOrder {
        &self.order
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// The ranges, the newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = RangeTombstone> {
        self.ranges.iter().map(|(begin, end, sequence)| RangeTombstone {
            begin: self.edges[*begin as usize].clone(),
            end: self.edges[*end as usize].clone(),
            sequence: *sequence,
        })
    }

    /// The first key that a range holds, and the first behind all of them.
    pub(crate) fn span(&self) -> Option<(&[u8], &[u8])> {
        Some((self.edges.first()?, self.edges.last()?))
    }

    /// The smallest and the largest number.
    pub(crate) fn numbers(&self) -> Option<(SequenceNumber, SequenceNumber)> {
        Some((self.ranges.last()?.2, self.ranges.first()?.2))
    }

    /// The newest number, at or below `snapshot`, of those that cover `key`; 0 if none does.
    pub(crate) fn covering(&self, key: &[u8], snapshot: SequenceNumber) -> SequenceNumber {
        match self.interval_of(key) {
            Some(interval) => self.newest(interval, snapshot),
            None => SequenceNumber::ZERO,
        }
    }

    /// The same, and the keys around `key` for which the answer is the same.
    pub(crate) fn interval(&self, key: &[u8], snapshot: SequenceNumber) -> Interval<'_> {
        let behind = self.edges.partition_point(|edge| self.order.compare(edge, key).is_le());
        let edge = |at: usize| self.edges.get(at).map(Vec::as_slice);
        let newest = match behind.checked_sub(1) {
            Some(interval) if behind < self.edges.len() => self.newest(interval, snapshot),
            _ => SequenceNumber::ZERO,
        };
        Interval { begin: behind.checked_sub(1).and_then(edge), end: edge(behind), newest }
    }

    /// The number that covers every key from `first` to `last`, both included, at or below `snapshot`; where several do, the
    /// smallest of the newest. 0 if some key is not covered.
    pub(crate) fn covering_all(&self, first: &[u8], last: &[u8], snapshot: SequenceNumber) -> SequenceNumber {
        let (Some(first), Some(last)) = (self.interval_of(first), self.interval_of(last)) else {
            return SequenceNumber::ZERO;
        };
        let mut least = SequenceNumber::MAX;
        for interval in first..=last {
            least = least.min(self.newest(interval, snapshot));
            // Of many small ranges the second already leaves a gap.
            if least == SequenceNumber::ZERO {
                break;
            }
        }
        least
    }

    /// True if one of them may hold a key from `first` to `last`: between its ends, at least.
    pub(crate) fn touch(&self, first: &[u8], last: &[u8]) -> bool {
        let from = self.edges.partition_point(|edge| self.order.compare(edge, first).is_le());
        let to = self.edges.partition_point(|edge| self.order.compare(edge, last).is_le());
        let intervals = from.saturating_sub(1)..to.min(self.edges.len().saturating_sub(1));
        intervals.into_iter().any(|interval| self.newest(interval, SequenceNumber::MAX) > SequenceNumber::ZERO)
    }

    /// What a job keeps of them: of those that cover an interval the newest of each stripe, but for the lowest stripe's where
    /// `is_bottom` says that nothing below the job can hold a key of `[begin, end)`. `stripes` ascend; what is newer than the
    /// last of them stays as it is. Ascending by begin, the newest first.
    pub(crate) fn surviving(
        &self,
        stripes: &[SequenceNumber],
        mut is_bottom: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Vec<RangeTombstone> {
        if stripes.is_empty() {
            // Nothing may go. Interval by interval, nested ranges would be looked at n² times.
            let mut all: Vec<RangeTombstone> = self.iter().collect();
            all.sort_by(|a, b| self.order.compare(&a.begin, &b.begin).then(b.sequence.cmp(&a.sequence)));
            return all;
        }
        let mut kept: Vec<RangeTombstone> = Vec::new();
        // Those that reach up to the current interval, by their places in `kept`.
        let mut open: Vec<usize> = Vec::new();
        let mut numbers = Vec::new();
        for interval in 0..self.edges.len().saturating_sub(1) {
            let (begin, end) = (&self.edges[interval], &self.edges[interval + 1]);
            numbers.clear();
            self.newest_of_each_stripe(interval, stripes, &mut numbers);
            if let (Some(lowest), Some(oldest)) = (stripes.first(), numbers.last())
                && oldest <= lowest
                && is_bottom(begin, end)
            {
                numbers.pop();
            }
            let mut still_open = Vec::with_capacity(numbers.len());
            // Both descend by number.
            let mut reaching = open.iter().copied().peekable();
            for number in &numbers {
                while reaching.next_if(|at| kept[*at].sequence > *number).is_some() {}
                let same = reaching.next_if(|at| kept[*at].sequence == *number);
                let at = same.unwrap_or_else(|| {
                    kept.push(RangeTombstone { begin: begin.clone(), end: Vec::new(), sequence: *number });
                    kept.len() - 1
                });
                kept[at].end.clone_from(end);
                still_open.push(at);
            }
            open = still_open;
        }
        kept
    }

    /// Appends the numbers that are newer than all stripes, and the newest of each stripe; largest first.
    fn newest_of_each_stripe(&self, interval: usize, stripes: &[SequenceNumber], out: &mut Vec<SequenceNumber>) {
        let newest_stripe = stripes.last().copied().unwrap_or_default();
        let mut node = self.node_ends.len() / 2 + interval;
        while node >= 1 {
            out.extend(self.numbers_of(node).iter().take_while(|number| **number > newest_stripe));
            node /= 2;
        }
        out.sort_unstable_by(|a, b| b.cmp(a));
        out.dedup();
        for (at, stripe) in stripes.iter().enumerate().rev() {
            let below = at.checked_sub(1).map_or(SequenceNumber::ZERO, |below| stripes[below]);
            let newest = self.newest(interval, *stripe);
            if newest > below {
                out.push(newest);
            }
        }
    }

    fn interval_of(&self, key: &[u8]) -> Option<usize> {
        let behind = self.edges.partition_point(|edge| self.order.compare(edge, key).is_le());
        behind.checked_sub(1).filter(|_| behind < self.edges.len())
    }

    fn newest(&self, interval: usize, snapshot: SequenceNumber) -> SequenceNumber {
        let mut node = self.node_ends.len() / 2 + interval;
        let mut newest = SequenceNumber::ZERO;
        while node >= 1 {
            let numbers = self.numbers_of(node);
            let visible = numbers.partition_point(|number| *number > snapshot);
            newest = newest.max(numbers.get(visible).copied().unwrap_or_default());
            node /= 2;
        }
        newest
    }

    fn numbers_of(&self, node: usize) -> &[SequenceNumber] {
        let begin = node.checked_sub(1).map_or(0, |before| self.node_ends[before]);
        &self.numbers[begin as usize..self.node_ends[node] as usize]
    }
}

/// The nodes of a segment tree whose intervals together are `begin..end`.
fn for_each_node(intervals: usize, begin: u32, end: u32, mut work: impl FnMut(usize)) {
    let (mut low, mut high) = (begin as usize + intervals, end as usize + intervals);
    while low < high {
        if low % 2 == 1 {
            work(low);
            low += 1;
        }
        if high % 2 == 1 {
            high -= 1;
            work(high);
        }
        low /= 2;
        high /= 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tombstone(begin: &[u8], end: &[u8], sequence: u64) -> RangeTombstone {
        RangeTombstone { begin: begin.to_vec(), end: end.to_vec(), sequence: SequenceNumber(sequence) }
    }

    /// By looking at all.
    fn covering(order: &KeyOrder, all: &[RangeTombstone], key: &[u8], snapshot: u64) -> u64 {
        let covers = |t: &&RangeTombstone| {
            order.compare(&t.begin, key).is_le() && order.compare(key, &t.end).is_lt() && t.sequence.0 <= snapshot
        };
        all.iter().filter(covers).map(|t| t.sequence.0).max().unwrap_or(0)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

        #[test]
        fn every_question_has_the_answer_of_looking_at_all(
            ranges in prop::collection::vec((0u8..12, 0u8..12), 0..14),
            stripes in prop::collection::btree_set(1u64..16, 1..5),
            bottoms in prop::collection::vec(any::<bool>(), 12),
            reverse in any::<bool>(),
        ) {
            let order = if reverse { KeyOrder::ReverseBytewise } else { KeyOrder::Bytewise };
            let all: Vec<_> = ranges.iter().zip(1..).map(|((a, b), n)| tombstone(&[*a], &[*b], n)).collect();
            let tree = RangeTombstones::new(&order, all.clone());
            let stripes: Vec<SequenceNumber> = stripes.into_iter().map(SequenceNumber).collect();
            let is_bottom = |key: u8| bottoms[key as usize % 12];
            let in_range = |key: u8, begin: &[u8], end: &[u8]| {
                order.compare(begin, &[key]).is_le() && order.compare(&[key], end).is_lt()
            };
            let kept = tree.surviving(&stripes, |begin, end| {
                (0..13u8).filter(|key| in_range(*key, begin, end)).all(is_bottom)
            });
            prop_assert!(kept.windows(2).all(|pair| {
                order.compare(&pair[0].begin, &pair[1].begin).then(pair[1].sequence.cmp(&pair[0].sequence)).is_lt()
            }), "{kept:?}");
            for key in 0..13u8 {
                for snapshot in 0..16 {
                    let expected = covering(&order, &all, &[key], snapshot);
                    prop_assert_eq!(tree.covering(&[key], SequenceNumber(snapshot)).0, expected);
                    let interval = tree.interval(&[key], SequenceNumber(snapshot));
                    prop_assert_eq!(interval.newest.0, expected);
                    for other in 0..13u8 {
                        let is_in = interval.begin.is_none_or(|begin| order.compare(begin, &[other]).is_le())
                            && interval.end.is_none_or(|end| order.compare(&[other], end).is_lt());
                        if is_in {
                            prop_assert_eq!(covering(&order, &all, &[other], snapshot), expected);
                        }
                        prop_assert!(is_in || other != key);
                        if order.compare(&[key], &[other]).is_le() {
                            let between = if reverse { other..=key } else { key..=other };
                            let touched = between.into_iter().any(|k| covering(&order, &all, &[k], 99) > 0);
                            // Between two keys there are longer ones.
                            prop_assert!(!touched || tree.touch(&[key], &[other]));
                            prop_assert!(touched || key != other || !tree.touch(&[key], &[other]));
                            let range = if reverse { other..=key } else { key..=other };
                            // Between two keys of one byte there are longer ones, but no edge.
                            let least = range.map(|k| covering(&order, &all, &[k], snapshot)).min();
                            let found = tree.covering_all(&[key], &[other], SequenceNumber(snapshot));
                            prop_assert_eq!(Some(found.0), least);
                        }
                    }
                }
                // What survives hides, from each snapshot, what all of them hide from it; but for what nothing below can hold.
                for stripe in &stripes {
                    let before = covering(&order, &all, &[key], stripe.0);
                    let after = covering(&order, &kept, &[key], stripe.0);
                    let is_lowest = before <= stripes[0].0;
                    prop_assert!(after == before || (is_lowest && after == 0), "key {key}, {stripe}: {kept:?}");
                    if !is_lowest {
                        prop_assert_eq!(after, before);
                    }
                }
                // Nothing is kept twice for one stripe.
                for pair in stripes.windows(2) {
                    let of_stripe = kept.iter().filter(|t| {
                        t.sequence > pair[0] && t.sequence <= pair[1] && in_range(key, &t.begin, &t.end)
                    });
                    prop_assert!(of_stripe.count() <= 1, "{kept:?}");
                }
            }
        }
    }

    #[test]
    fn nested_ranges_take_little_memory() {
        let key = |n: u32| n.to_be_bytes().to_vec();
        let nested = (0..10_000u32).map(|n| tombstone(&key(n), &key(30_000 - n), u64::from(n) + 1));
        let tree = RangeTombstones::new(&KeyOrder::Bytewise, nested);
        assert!(tree.memory() < 4 << 20, "{} bytes", tree.memory());
        assert_eq!(tree.covering(&key(15_000), SequenceNumber(700)), SequenceNumber(700));
        assert_eq!(tree.surviving(&[SequenceNumber(20_000)], |_, _| false).len(), 10_000 * 2 - 1);
        assert!(tree.surviving(&[SequenceNumber(20_000)], |_, _| true).is_empty());
    }

    #[test]
    fn pieces_of_one_tombstone_become_one_again() {
        let pieces = [tombstone(b"a", b"k", 7), tombstone(b"k", b"z", 7), tombstone(b"c", b"m", 3)];
        let tree = RangeTombstones::new(&KeyOrder::Bytewise, pieces);
        assert_eq!(tree.surviving(&[SequenceNumber(9)], |_, _| false), [tombstone(b"a", b"z", 7)]);
        let two = tree.surviving(&[SequenceNumber(5), SequenceNumber(9)], |_, _| false);
        assert_eq!(two, [tombstone(b"a", b"z", 7), tombstone(b"c", b"m", 3)]);
        assert_eq!(tree.span(), Some((&b"a"[..], &b"z"[..])));
        assert!(RangeTombstones::new(&KeyOrder::Bytewise, [tombstone(b"b", b"b", 1)]).is_empty());
    }
}
