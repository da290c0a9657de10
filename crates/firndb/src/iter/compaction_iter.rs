//! What a compaction or flush keeps, and what it drops: one pass over merged entries.
//!
//! The frozen snapshots cut the sequence numbers into stripes: two entries of a key are in one stripe if no snapshot
//! sees the older one but not the newer one. Of each stripe only the newest entry of a key is kept. Entries above the
//! newest frozen number are never touched, since snapshots may still be taken inside of them.
//!
//! 1. An entry is dropped if a newer one of its key is in its stripe.
//! 2. A tombstone goes only if nothing below the job can hold its key *and* it is at or below the oldest frozen number:
//!    "no snapshot sees it" is not enough, for an older snapshot may need the entry below to stay hidden from newer ones.
//! 3. Under the same two conditions a value's sequence number becomes 0.
//! 4. A single deletion and the one value below it in its stripe go together; other shapes keep the tombstone. One that
//!    is hidden by a value stays, since it may still have to meet its own value deeper down.
//!
//! Source: RocksDB `db/compaction/compaction_iterator.cc`, wiki "Single Delete".

use std::cmp::Ordering;

use crate::clock::CancelToken;
use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ParsedKey, SequenceNumber, TRAILER_LEN, ValueKind, internal_key, pack_trailer};

use super::InternalIterator;

/// Entries read, and why some were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CompactionCounts {
    pub(crate) read: u64,
    /// Hidden by a newer entry.
    pub(crate) hidden: u64,
    /// Tombstones with nothing left to hide.
    pub(crate) obsolete: u64,
}

/// Where the current output entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    None,
    /// The input's current entry.
    Input,
    /// The input's current value under the key in `key`.
    Rewritten,
    /// The tombstone in `key`; the input has moved on already.
    Held,
}

/// See the module's text. `B` says whether nothing outside of the job, and below it, can hold a user key; it is asked with
/// ascending keys.
pub(crate) struct CompactionIter<I, B> {
    input: I,
    order: KeyOrder,
    snapshots: Vec<SequenceNumber>,
    keeps_everything: bool,
    is_bottom: B,
    /// The user key of the last entry.
    user_key: Vec<u8>,
    has_user_key: bool,
    /// The stripe in which older entries of the key are hidden, and whether a tombstone hides them.
    hidden_stripe: Option<usize>,
    is_hidden_by_tombstone: bool,
    output: Output,
    key: Vec<u8>,
    counts: CompactionCounts,
    cancel: CancelToken,
}

impl<I: InternalIterator, B: FnMut(&[u8]) -> bool> CompactionIter<I, B> {
    /// `snapshots` ascend and end with the visible number at the moment of freezing.
    pub(crate) fn new(
        input: I,
        order: KeyOrder,
        snapshots: Vec<SequenceNumber>,
        keeps_everything: bool,
        is_bottom: B,
    ) -> Self {
        CompactionIter {
            input,
            order,
            snapshots,
            keeps_everything,
            is_bottom,
            user_key: Vec::new(),
            has_user_key: false,
            hidden_stripe: None,
            is_hidden_by_tombstone: false,
            output: Output::None,
            key: Vec::new(),
            counts: CompactionCounts::default(),
            cancel: CancelToken::default(),
        }
    }

    /// Ends with an error once `cancel` calls the job off: asked with every entry that is read, since a job may drop
    /// millions before it keeps one.
    pub(crate) fn cancelled_by(mut self, cancel: &CancelToken) -> Self {
        self.cancel = cancel.clone();
        self
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.input.seek_to_first()?;
        self.output = Output::None;
        self.find_output()
    }

    pub(crate) fn valid(&self) -> bool {
        self.output != Output::None
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if self.output != Output::Held {
            self.input.next()?;
        }
        self.output = Output::None;
        self.find_output()
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self.output {
            Output::Input => self.input.key(),
            _ => &self.key,
        }
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.output {
            Output::Held | Output::None => &[],
            _ => self.input.value(),
        }
    }

    pub(crate) fn counts(&self) -> CompactionCounts {
        self.counts
    }

    /// The stripe of a sequence number; `None` above the newest frozen one.
    #[inline]
    fn stripe(&self, sequence: SequenceNumber) -> Option<usize> {
        let stripe = self.snapshots.partition_point(|snapshot| *snapshot < sequence);
        (stripe < self.snapshots.len()).then_some(stripe)
    }

    /// Goes on from the input's current entry to the first that is kept.
    #[inline]
    fn find_output(&mut self) -> Result<()> {
        while self.input.valid() {
            let parsed = ParsedKey::parse(self.input.key())?;
            let (sequence, kind) = (parsed.sequence, parsed.kind);
            self.counts.read += 1;
            self.cancel.check()?;
            if !self.has_user_key || self.order.compare(&self.user_key, parsed.user_key) != Ordering::Equal {
                self.user_key.clear();
                self.user_key.extend_from_slice(parsed.user_key);
                self.has_user_key = true;
                self.hidden_stripe = None;
                self.is_hidden_by_tombstone = false;
            }
            let stripe = self.stripe(sequence);
            let is_hidden = stripe.is_some() && stripe == self.hidden_stripe && !self.keeps_everything;
            match kind {
                ValueKind::Value | ValueKind::Deletion if is_hidden => self.counts.hidden += 1,
                ValueKind::SingleDeletion if is_hidden && self.is_hidden_by_tombstone => self.counts.hidden += 1,
                ValueKind::SingleDeletion => {
                    if self.single_deletion(sequence, stripe)? {
                        return Ok(());
                    }
                    // The input stands on the next entry already.
                    continue;
                }
                ValueKind::Value => {
                    self.hidden_stripe = stripe;
                    self.is_hidden_by_tombstone = false;
                    if stripe == Some(0) && sequence.0 != 0 && self.may_forget() {
                        self.key.clear();
                        self.key.extend_from_slice(&self.user_key);
                        let trailer = pack_trailer(SequenceNumber::ZERO, ValueKind::Value as u8);
                        self.key.extend_from_slice(&trailer.to_le_bytes());
                        self.output = Output::Rewritten;
                    } else {
                        self.output = Output::Input;
                    }
                    return Ok(());
                }
                ValueKind::Deletion => {
                    self.hidden_stripe = stripe;
                    self.is_hidden_by_tombstone = true;
                    if stripe == Some(0) && self.may_forget() {
                        self.counts.obsolete += 1;
                    } else {
                        self.output = Output::Input;
                        return Ok(());
                    }
                }
                other => return Err(other.unsupported()),
            }
            self.input.next()?;
        }
        Ok(())
    }

    /// True if nothing below can hold the current user key.
    #[inline]
    fn may_forget(&mut self) -> bool {
        !self.keeps_everything && (self.is_bottom)(&self.user_key)
    }

    /// Deals with a single deletion and what follows it in its stripe; true if it is the output. The input is left
    /// behind it.
    #[cold]
    fn single_deletion(&mut self, sequence: SequenceNumber, stripe: Option<usize>) -> Result<bool> {
        self.input.next()?;
        let may_drop = stripe.is_some() && !self.keeps_everything;
        let mut followers = 0u64;
        let mut is_one_value = false;
        // Entries below it in the stripe: it hides them in any case.
        while may_drop && self.input.valid() {
            let next = ParsedKey::parse(self.input.key())?;
            let is_same_key = self.order.compare(&self.user_key, next.user_key) == Ordering::Equal;
            if !is_same_key || self.stripe(next.sequence) != stripe {
                break;
            }
            match next.kind {
                ValueKind::Value => is_one_value = followers == 0,
                ValueKind::Deletion | ValueKind::SingleDeletion => is_one_value = false,
                other => return Err(other.unsupported()),
            }
            // A deletion hides more than the single one does: it takes its place.
            if next.kind == ValueKind::Deletion {
                self.counts.hidden += 1;
                return Ok(false);
            }
            followers += 1;
            self.counts.read += 1;
            self.cancel.check()?;
            self.counts.hidden += 1;
            self.input.next()?;
        }
        if followers == 1 && is_one_value {
            self.counts.hidden += 1;
            return Ok(false);
        }
        if stripe == Some(0) && self.may_forget() {
            self.counts.obsolete += 1;
            return Ok(false);
        }
        self.key = internal_key(&self.user_key, sequence, ValueKind::SingleDeletion as u8);
        debug_assert!(self.key.len() >= TRAILER_LEN);
        self.output = Output::Held;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::key::{trailer, trailer_sequence, user_key};
    use crate::iter::testing::VecIter;

    type Entry = (u8, u64, ValueKind);

    fn run(entries: &[Entry], snapshots: &[u64], keeps_everything: bool, below: &[Entry]) -> Vec<Entry> {
        let order = KeyOrder::Bytewise;
        let mut input: Vec<(Vec<u8>, Vec<u8>)> = entries
            .iter()
            .map(|(key, sequence, kind)| {
                (internal_key(&[*key], SequenceNumber(*sequence), *kind as u8), sequence.to_le_bytes().to_vec())
            })
            .collect();
        input.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
        let frozen = snapshots.iter().map(|s| SequenceNumber(*s)).collect();
        let is_bottom = |key: &[u8]| !below.iter().any(|(k, ..)| key == [*k]);
        let mut iter =
            CompactionIter::new(VecIter::new(order.clone(), input), order, frozen, keeps_everything, is_bottom);
        iter.seek_to_first().expect("memory");
        let mut out = Vec::new();
        while iter.valid() {
            let kind = ValueKind::from_byte(trailer(iter.key()) as u8).expect("known");
            out.push((user_key(iter.key())[0], trailer_sequence(trailer(iter.key())).0, kind));
            iter.next().expect("memory");
        }
        let counts = iter.counts();
        assert_eq!(counts.read, entries.len() as u64);
        assert_eq!(counts.read - counts.hidden - counts.obsolete, out.len() as u64);
        out
    }

    /// What a reader at `snapshot` finds for `key`: true for a value.
    fn visible(entries: &[Entry], below: &[Entry], key: u8, snapshot: u64) -> bool {
        entries
            .iter()
            .chain(below)
            .filter(|(k, sequence, _)| *k == key && *sequence <= snapshot)
            .max_by_key(|(_, sequence, _)| *sequence)
            .is_some_and(|(_, _, kind)| *kind == ValueKind::Value)
    }

    use ValueKind::{Deletion, SingleDeletion, Value};

    /// The counter-example of the design: no snapshot sees the tombstone, and yet it must stay.
    #[test]
    fn a_tombstone_above_the_oldest_snapshot_stays_even_at_the_bottom() {
        let entries = [(b'k', 30, Value), (b'k', 50, Deletion)];
        assert_eq!(run(&entries, &[40, 60], false, &[]), [(b'k', 50, Deletion), (b'k', 0, Value)]);
        // Once the snapshot is gone both go.
        assert_eq!(run(&entries, &[60], false, &[]), []);
    }

    #[test]
    fn entries_above_the_visible_number_are_never_collapsed() {
        let entries = [(b'k', 8, Value), (b'k', 9, Value), (b'k', 7, Value)];
        assert_eq!(run(&entries, &[7], false, &[]), [(b'k', 9, Value), (b'k', 8, Value), (b'k', 0, Value)]);
    }

    #[test]
    fn single_deletions_meet_their_value_and_one_above_two_values_stays() {
        assert_eq!(run(&[(b'k', 1, Value), (b'k', 2, SingleDeletion)], &[9], false, &[(b'k', 0, Value)]), []);
        // Used against the rules: two values below it stay hidden.
        let misused = [(b'k', 1, Value), (b'k', 2, Value), (b'k', 3, SingleDeletion)];
        assert_eq!(run(&misused, &[9], false, &[(b'k', 0, Value)]), [(b'k', 3, SingleDeletion)]);
        // Hidden by a new value it stays, since its own value is deeper down.
        let again = [(b'k', 5, SingleDeletion), (b'k', 6, Value)];
        let below = [(b'k', 4, Value)];
        assert_eq!(run(&again, &[9], false, &below), [(b'k', 6, Value), (b'k', 5, SingleDeletion)]);
        // A snapshot between the two keeps both.
        let split = [(b'k', 1, Value), (b'k', 3, SingleDeletion)];
        assert_eq!(run(&split, &[2, 9], false, &[]), [(b'k', 3, SingleDeletion), (b'k', 0, Value)]);
    }

    #[test]
    fn a_job_that_drops_everything_it_reads_can_be_called_off() {
        let order = KeyOrder::Bytewise;
        let versions = (1..=100u64)
            .rev()
            .map(|sequence| (internal_key(b"k", SequenceNumber(sequence), Deletion as u8), Vec::new()));
        let input = VecIter::new(order.clone(), versions.collect());
        let cancel = CancelToken::default();
        cancel.cancel();
        let frozen = vec![SequenceNumber(200)];
        let mut iter = CompactionIter::new(input, order, frozen, false, |_: &[u8]| true).cancelled_by(&cancel);
        assert_eq!(iter.seek_to_first().expect_err("called off").kind(), crate::error::ErrorKind::Cancelled);
        assert!(iter.counts().read < 100);
    }

    #[test]
    fn unknown_kinds_are_refused_by_name() {
        let order = KeyOrder::Bytewise;
        let merge = (internal_key(b"k", SequenceNumber(1), ValueKind::Merge as u8), Vec::new());
        let input = VecIter::new(order.clone(), vec![merge]);
        let mut iter = CompactionIter::new(input, order, vec![SequenceNumber(9)], false, |_: &[u8]| true);
        assert!(iter.seek_to_first().expect_err("refused").to_string().contains("merge operand"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn every_snapshot_and_every_newer_reader_sees_what_it_saw(
            raw in prop::collection::btree_map((0u8..3, 10u64..40), prop::bool::ANY, 0..25),
            below in prop::collection::btree_map((0u8..3, 1u64..10), prop::bool::ANY, 0..4),
            snapshots in prop::collection::btree_set(0u64..45, 1..5),
            keeps_everything in prop::bool::weighted(0.1),
        ) {
            let kind = |is_value: bool| if is_value { Value } else { Deletion };
            let entries: Vec<Entry> = raw.into_iter().map(|((k, s), v)| (k, s, kind(v))).collect();
            let below: Vec<Entry> = below.into_iter().map(|((k, s), v)| (k, s, kind(v))).collect();
            let snapshots: Vec<u64> = snapshots.into_iter().collect();
            let newest = *snapshots.last().expect("at least one");
            let out = run(&entries, &snapshots, keeps_everything, &below);
            for key in 0..3 {
                for reader in snapshots.iter().copied().chain(newest..50) {
                    prop_assert_eq!(
                        visible(&entries, &below, key, reader), visible(&out, &below, key, reader),
                        "key {} at {}: {:?} became {:?}", key, reader, entries, out
                    );
                }
            }
            if keeps_everything {
                prop_assert_eq!(out.len(), entries.len());
            }
        }
    }
}
