//! A set of sequence numbers that come in long runs: what logs and tables account for.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::key::SequenceNumber;

/// Sequence numbers as disjoint ranges that do not touch; a database's history is one or a few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SequenceRanges {
    /// Last number of a range by its first.
    ranges: BTreeMap<u64, u64>,
}

impl SequenceRanges {
    /// Adds a range; one that ends before it begins is empty.
    pub(crate) fn insert(&mut self, range: RangeInclusive<SequenceNumber>) {
        let (mut first, mut last) = (range.start().0, range.end().0);
        if first > last {
            return;
        }
        // From behind, every range that overlaps or touches the new one.
        while let Some((&start, &end)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
    }

    pub(crate) fn contains(&self, sequence: SequenceNumber) -> bool {
        self.ranges.range(..=sequence.0).next_back().is_some_and(|(_, last)| sequence.0 <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> RangeInclusive<SequenceNumber> {
        SequenceNumber(first)..=SequenceNumber(last)
    }

    #[test]
    fn ranges_in_any_order_hold_what_a_set_of_numbers_holds_and_never_touch() {
        let mut seed = 1u64;
        let mut below = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % limit
        };
        for _ in 0..500 {
            let mut ranges = SequenceRanges::default();
            let mut set = std::collections::BTreeSet::new();
            for _ in 0..12 {
                let first = below(60);
                let end = first + below(8);
                // The last one is left out, so that some are empty.
                set.extend(first..end);
                if end > 0 {
                    ranges.insert(range(first, end - 1));
                }
            }
            for number in 0..80 {
                assert_eq!(ranges.contains(SequenceNumber(number)), set.contains(&number), "{number} in {ranges:?}");
            }
            let all: Vec<_> = ranges.ranges.iter().collect();
            assert!(all.windows(2).all(|pair| pair[0].1 + 1 < *pair[1].0), "{ranges:?}");
        }
    }

    #[test]
    fn the_largest_number_that_a_file_may_state_is_no_overflow() {
        let mut ranges = SequenceRanges::default();
        ranges.insert(range(5, u64::MAX));
        ranges.insert(range(9, 3));
        ranges.insert(range(0, 3));
        assert!(ranges.contains(SequenceNumber(u64::MAX)) && !ranges.contains(SequenceNumber(4)));
        ranges.insert(range(4, 4));
        assert_eq!(ranges.ranges, BTreeMap::from([(0, u64::MAX)]));
    }
}
