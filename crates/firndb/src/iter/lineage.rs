//! How a job's result relates to what it was made of: may a reader change from one to the other unseen?
//!
//! A job keeps, for each of its frozen snapshots, what that snapshot sees. A reader at any other number is as well served
//! by the result only under the conditions of [`Lineage::is_equivalent_for`]. The record travels on the job's version
//! edit, in memory only: MANIFEST has no field for it.

use crate::format::key::SequenceNumber;

/// What an edit does to what readers see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Lineage {
    /// Nothing is promised: who made the edit did not say, or dropped what readers may see.
    #[default]
    Lossy,
    /// The same entries, perhaps in other files.
    Unchanged,
    /// Entries were dropped by the rule of `compaction_iter`.
    Rewritten(Rewrite),
}

/// What a job read, and what it respected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// The frozen snapshots, ascending.
    pub(super) stripes: Vec<SequenceNumber>,
    /// The smallest and the largest number of an entry that was read.
    pub(super) smallest: SequenceNumber,
    pub(super) largest: SequenceNumber,
    /// Some entry's number became 0.
    pub(super) has_zeroed: bool,
}

impl Lineage {
    /// True if a reader at `sequence` finds the same before and after the edit, whatever the keys are.
    #[cfg_attr(not(test), expect(dead_code, reason = "iterators will move to newer versions by it"))]
    pub(crate) fn is_equivalent_for(&self, sequence: SequenceNumber) -> bool {
        match self {
            Lineage::Lossy => false,
            Lineage::Unchanged => true,
            Lineage::Rewritten(rewrite) => rewrite.is_equivalent_for(sequence),
        }
    }
}

impl Rewrite {
    fn is_equivalent_for(&self, sequence: SequenceNumber) -> bool {
        // The stripe in which the reader stands goes up to here.
        let next = self.stripes.iter().find(|stripe| **stripe >= sequence);
        // 1. No entry that was read lies between the reader and the end of its stripe: it sees what the snapshot there
        //    sees. That is so for a reader at a snapshot, and for one above all that was read.
        let sees_as_snapshot = match next {
            Some(next) => *next == sequence || *next < self.smallest || sequence >= self.largest,
            None => sequence >= self.largest,
        };
        // 2. The reader is older than all that was read, and than all that was written.
        sees_as_snapshot || (sequence < self.smallest && !self.has_zeroed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firndb_testkit::Random;

    use super::*;
    use crate::format::comparator::KeyOrder;
    use crate::format::key::ValueKind;
    use crate::iter::compaction_iter::CompactionIter;
    use crate::iter::testing::{Entry, VecIter};

    const KEYS: u64 = 3;
    const LEVELS: usize = 4;

    /// Levels, the newest entries first; a value holds the number that it was written with.
    type Levels = Vec<Vec<Entry>>;

    /// What a reader at `sequence` finds: the first that it sees on its way down.
    fn seen<'a>(levels: &'a Levels, key: &[u8], sequence: u64) -> Option<&'a str> {
        let visible = |entry: &&Entry| entry.key == key && entry.sequence <= sequence;
        let newest = |level: &'a Vec<Entry>| level.iter().filter(visible).max_by_key(|entry| entry.sequence);
        let found = levels.iter().find_map(newest)?;
        (found.kind == ValueKind::Value).then_some(&found.value)
    }

    /// Merges the levels from `top` to `output`, as a job would.
    fn merge(
        levels: &mut Levels,
        top: usize,
        output: usize,
        stripes: &BTreeSet<u64>,
        keeps_everything: bool,
    ) -> Lineage {
        let inputs: Vec<Entry> = levels[top..=output].iter().flatten().cloned().collect();
        let below: Vec<Entry> = levels[output + 1..].iter().flatten().cloned().collect();
        // Level 0 is what a flush makes of a memtable: it does not look at what lies below.
        let is_bottom = move |key: &[u8]| output > 0 && !below.iter().any(|entry| entry.key == key);
        let stripes = stripes.iter().map(|stripe| SequenceNumber(*stripe)).collect();
        let order = KeyOrder::Bytewise;
        let input = VecIter::of(&order, &inputs);
        let mut iter = CompactionIter::new(input, order, stripes, keeps_everything, is_bottom);
        levels[top..=output].iter_mut().for_each(Vec::clear);
        levels[output] = crate::iter::testing::drain(&mut iter);
        iter.lineage()
    }

    /// Rules that say more than is true, to see that the model would notice.
    fn weakened(lineage: &Lineage, sequence: u64) -> [bool; 4] {
        let sequence = SequenceNumber(sequence);
        let Lineage::Rewritten(rewrite) = lineage else { return [false; 4] };
        let next = rewrite.stripes.iter().find(|stripe| **stripe >= sequence);
        [
            sequence < rewrite.smallest,
            sequence.0 + 1 >= rewrite.largest.0,
            next.is_some_and(|next| *next <= rewrite.smallest),
            next.is_some_and(|next| next.0 <= sequence.0 + 1),
        ]
    }

    /// Random jobs over random levels, one after the other; every reader before and after each.
    #[test]
    fn readers_that_may_change_over_find_the_same() {
        let seed = firndb_testkit::from_environment("FIRN_SEED").unwrap_or(1);
        let mut random = Random::new(seed);
        let (mut allowed, mut needless, mut refused, mut caught) = (0, 0, 0, [0; 4]);
        for round in 0..6_000 {
            let (mut levels, mut last) = (vec![Vec::new(); LEVELS], 0);
            for step in 0..8 {
                for _ in 0..random.below(6) {
                    last += 1 + random.below(2);
                    let kind = random.one_of(&[ValueKind::Value, ValueKind::Value, ValueKind::Deletion]);
                    levels[0].push(Entry::new(&[b'a' + random.below(KEYS) as u8], last, kind));
                }
                let stripes: BTreeSet<u64> =
                    (0..random.below(4)).map(|_| random.below(last + 1)).chain([last]).collect();
                let top = random.index(LEVELS);
                let output = (top + random.index(3)).min(LEVELS - 1);
                let before = levels.clone();
                let lineage = merge(&mut levels, top, output, &stripes, random.below(20) == 0);
                for reader in 0..=last + 2 {
                    let key = |key: u64| [b'a' + key as u8];
                    let is_same = (0..KEYS).all(|k| seen(&before, &key(k), reader) == seen(&levels, &key(k), reader));
                    let is_allowed = lineage.is_equivalent_for(SequenceNumber(reader));
                    assert!(
                        is_same || !is_allowed,
                        "seed {seed}, round {round}, step {step}: at {reader} {before:?} became {levels:?}, {lineage:?}"
                    );
                    allowed += usize::from(is_allowed);
                    refused += usize::from(!is_allowed);
                    needless += usize::from(is_same && !is_allowed);
                    for (caught, says) in caught.iter_mut().zip(weakened(&lineage, reader)) {
                        *caught += usize::from(says && !is_same);
                    }
                }
            }
        }
        assert!(caught.iter().all(|caught| *caught > 0), "the model misses what is wrong: {caught:?}");
        assert!(
            allowed > refused && needless < refused,
            "{allowed} allowed, {refused} refused, {needless} of them alike"
        );
    }

    #[test]
    fn moves_change_nothing_and_of_what_nobody_told_nothing_is_promised() {
        for sequence in [0, 1, 1 << 40] {
            assert!(Lineage::Unchanged.is_equivalent_for(SequenceNumber(sequence)));
            assert!(!Lineage::default().is_equivalent_for(SequenceNumber(sequence)));
        }
    }
}
