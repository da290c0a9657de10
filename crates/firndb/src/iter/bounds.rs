//! The ends of what an iterator may show, and what they rule out before it is read.
//!
//! Flow: `read` makes them of the caller's range -> **[`Bounds`]** -> `version` asks them at the border of a file, `table`
//! at the border of a block, `read` for each entry.
//!
//! They are user keys, and [`Bound`]s as they were given: under a user's comparator there is no "next key". A border is
//! judged by a key of one side alone: forward, everything behind the border is at or after it; backward, everything before
//! it is at or before it. So a bounded read neither opens a file nor reads a block that cannot hold an answer, and a
//! neighbour that is damaged or gone does not fail it.

use std::cmp::Ordering;
use std::ops::Bound;

use crate::format::comparator::KeyOrder;
use crate::format::prefix::{PrefixExtractor, end_of_prefix};

/// A range of user keys.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) lower: Bound<Vec<u8>>,
    pub(crate) upper: Bound<Vec<u8>>,
}

impl Bounds {
    #[cfg(test)]
    pub(crate) const ALL: Bounds = Bounds { lower: Bound::Unbounded, upper: Bound::Unbounded };

    /// The keys that have `prefix`, which is that of one of them, under a built-in order; under another one all keys.
    pub(crate) fn of_prefix(order: &KeyOrder, extractor: PrefixExtractor, prefix: &[u8]) -> Bounds {
        let start = Bound::Included(prefix.to_vec());
        let end = match extractor.prefix_of_range(prefix) {
            Some(_) => end_of_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded),
            // Only the key itself has it.
            None => start.clone(),
        };
        match order {
            KeyOrder::Bytewise => Bounds { lower: start, upper: end },
            KeyOrder::ReverseBytewise => Bounds { lower: end, upper: start },
            KeyOrder::Custom(_) => Bounds { lower: Bound::Unbounded, upper: Bound::Unbounded },
        }
    }

    /// True if no key is outside.
    pub(crate) fn are_all(&self) -> bool {
        matches!((&self.lower, &self.upper), (Bound::Unbounded, Bound::Unbounded))
    }

    /// True if no key can be inside: the ends have crossed, or meet and one excludes the key on which they do.
    pub(crate) fn are_empty(&self, order: &KeyOrder) -> bool {
        match (&self.lower, &self.upper) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(lower), _) => self.is_above(order, lower),
            (Bound::Excluded(lower), Bound::Included(upper) | Bound::Excluded(upper)) => {
                order.compare(lower, upper) != Ordering::Less
            }
        }
    }

    /// True if `key` and all keys before it are before the bounds.
    #[inline]
    pub(crate) fn is_below(&self, order: &KeyOrder, key: &[u8]) -> bool {
        // Asked for each entry: without a bound it costs one look, and no call.
        !matches!(self.lower, Bound::Unbounded) && self.is_before_lower(order, key)
    }

    /// True if `key` and all keys after it are behind the bounds.
    #[inline]
    pub(crate) fn is_above(&self, order: &KeyOrder, key: &[u8]) -> bool {
        !matches!(self.upper, Bound::Unbounded) && self.is_behind_upper(order, key)
    }

    fn is_before_lower(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) => order.compare(key, lower) == Ordering::Less,
            Bound::Excluded(lower) => order.compare(key, lower) != Ordering::Greater,
        }
    }

    fn is_behind_upper(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) => order.compare(key, upper) == Ordering::Greater,
            Bound::Excluded(upper) => order.compare(key, upper) != Ordering::Less,
        }
    }

    /// True if all keys after `key`, which itself may be inside, are behind the bounds.
    #[inline]
    pub(crate) fn end_at(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) | Bound::Excluded(upper) => order.compare(key, upper) != Ordering::Less,
        }
    }

    /// True if nothing of `[smallest, largest]` is within the bounds.
    pub(crate) fn exclude(&self, order: &KeyOrder, smallest: &[u8], largest: &[u8]) -> bool {
        self.is_above(order, smallest) || self.is_below(order, largest)
    }

    /// What is within both.
    pub(crate) fn within(self, order: &KeyOrder, other: &Bounds) -> Bounds {
        let tighter = |a: Bound<Vec<u8>>, b: &Bound<Vec<u8>>, outward: Ordering| match (&a, b) {
            (_, Bound::Unbounded) => a,
            (Bound::Unbounded, _) => b.clone(),
            (Bound::Included(key) | Bound::Excluded(key), Bound::Included(limit) | Bound::Excluded(limit)) => {
                let ordering = order.compare(key, limit);
                let is_looser = ordering == outward || (ordering == Ordering::Equal && matches!(b, Bound::Excluded(_)));
                if is_looser { b.clone() } else { a }
            }
        };
        Bounds {
            lower: tighter(self.lower, &other.lower, Ordering::Less),
            upper: tighter(self.upper, &other.upper, Ordering::Greater),
        }
    }
}
