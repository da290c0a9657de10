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
//! 5. A range tombstone hides what a tombstone of each of its keys would hide: what it covers, is older, and is in its stripe.
//!    Which range tombstones are kept is asked of [`RangeTombstones::surviving`]; until those that cover a value are gone, its
//!    number does not become 0, since it would be older than them then.
//!
//! 6. Operands hide nothing. What becomes of them is said in `compaction_iter/merge.rs`.
//! 7. What no snapshot sees, a user's filter may remove or change (`compaction_iter/filter.rs`).
//!
//! Source: RocksDB `db/compaction/compaction_iterator.cc`, wiki "Single Delete".

mod filter;
mod merge;

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::clock::CancelToken;
use crate::error::{ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{ParsedKey, SequenceNumber, TRAILER_LEN, ValueKind, internal_key, user_key};
use crate::format::merge::MergeRule;
use crate::sync::Arc;

use super::InternalIterator;
use super::filter::Filtering;
use super::lineage::{Lineage, Rewrite};
use super::meaning::ToJob;
use super::range_tombstones::RangeTombstones;

/// The trailer of a value whose sequence number became 0.
const ZEROED: u64 = ValueKind::Value as u64;

/// Entries read, and why some were dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CompactionCounts {
    pub(crate) read: u64,
    /// Hidden by a newer entry.
    pub(crate) hidden: u64,
    /// Tombstones with nothing left to hide.
    pub(crate) obsolete: u64,
    /// Gone because a filter said so.
    pub(crate) filtered: u64,
    /// A filter said to leave some unread.
    pub(crate) is_partial: bool,
}

impl CompactionCounts {
    /// How many entries were not written.
    pub(crate) fn dropped(&self) -> u64 {
        self.hidden + self.obsolete + self.filtered
    }
}

/// Where the current output entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    None,
    /// The input's current entry.
    Input,
    /// The input's current value, whose sequence number became 0.
    Rewritten,
    /// What the input's current entry says, under the key in `key`.
    Renamed,
    /// The tombstone in `key`; the input has moved on already.
    Held,
    /// The first entry of the queue; the input has moved on already.
    Queued,
}

/// What a reference of a user key stands for.
pub(crate) type FetchBlob = Arc<dyn Fn(&[u8], &[u8]) -> Result<Vec<u8>> + Send + Sync>;

/// What a second look at an entry comes to (`compaction_iter/filter.rs`).
enum Look {
    /// Nothing: the entry is as any other.
    Go,
    /// A newer range tombstone of its stripe covers it.
    Covered,
    /// An output was made; the input has moved on.
    Output,
    /// The entry is gone; the input has moved on.
    Gone,
}

/// See the module's text. `B` says whether nothing outside of the job, and below it, can hold a user key; it is asked with
/// ascending keys.
pub(crate) struct CompactionIter<I, B> {
    input: I,
    order: KeyOrder,
    snapshots: Vec<SequenceNumber>,
    keeps_everything: bool,
    is_bottom: B,
    /// The internal key of the first entry read of the current user key; its trailer is overwritten where a value's sequence
    /// number becomes 0.
    last: Vec<u8>,
    has_user_key: bool,
    /// An entry of the user key was an output; and the output before the current one was of the same key.
    has_output: bool,
    is_older_version: bool,
    /// The output is an operand that stays as it is, whatever snapshots there are.
    is_unmerged: bool,
    /// The stripe in which older entries of the key are hidden, and whether a tombstone hides them.
    hidden_stripe: Option<usize>,
    is_hidden_by_tombstone: bool,
    output: Output,
    key: Vec<u8>,
    counts: CompactionCounts,
    /// The smallest and the largest number read.
    smallest: SequenceNumber,
    largest: SequenceNumber,
    has_zeroed: bool,
    cancel: CancelToken,
    /// There are range tombstones, or a filter: entries get a second look.
    is_looking_closer: bool,
    range_tombstones: Option<Arc<RangeTombstones>>,
    filtering: Option<Box<Filtering>>,
    merge: Option<Arc<MergeRule>>,
    fetch: Option<FetchBlob>,
    /// What became of operands: internal keys and values.
    queue: VecDeque<(Vec<u8>, Vec<u8>)>,
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
            last: Vec::new(),
            has_user_key: false,
            has_output: false,
            is_older_version: false,
            is_unmerged: false,
            hidden_stripe: None,
            is_hidden_by_tombstone: false,
            output: Output::None,
            key: Vec::new(),
            counts: CompactionCounts::default(),
            smallest: SequenceNumber::MAX,
            largest: SequenceNumber::ZERO,
            has_zeroed: false,
            cancel: CancelToken::default(),
            is_looking_closer: false,
            range_tombstones: None,
            filtering: None,
            merge: None,
            fetch: None,
            queue: VecDeque::new(),
        }
    }

    /// Merges operands by this rule; without one, or by one that nobody gave, they stay as they are.
    pub(crate) fn merged_by(mut self, rule: Option<&Arc<MergeRule>>) -> Self {
        self.merge = rule.filter(|rule| !matches!(***rule, MergeRule::Unknown(_))).cloned();
        self
    }

    /// Says what a reference to a blob file stands for: filters are shown it, and operands are merged with it. Without, a
    /// reference stays as it is.
    pub(crate) fn fetching_by(mut self, fetch: Option<FetchBlob>) -> Self {
        self.fetch = fetch;
        self
    }

    /// Takes part in the work: the range tombstones of all inputs.
    pub(crate) fn covered_by(mut self, tombstones: &Arc<RangeTombstones>) -> Self {
        if let Some((smallest, largest)) = tombstones.numbers() {
            self.smallest = self.smallest.min(smallest);
            self.largest = self.largest.max(largest);
            self.range_tombstones = Some(Arc::clone(tombstones));
            self.is_looking_closer = true;
        }
        self
    }

    /// Shows entries to a filter.
    pub(crate) fn filtered_by(mut self, filtering: Option<Filtering>) -> Self {
        self.is_looking_closer |= filtering.is_some();
        self.filtering = filtering.map(Box::new);
        self
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
        match self.output {
            Output::Held => {}
            Output::Queued => {
                self.queue.pop_front();
                if !self.queue.is_empty() {
                    self.is_older_version = false;
                    return Ok(());
                }
            }
            _ => self.input.next()?,
        }
        self.output = Output::None;
        self.find_output()
    }

    /// The current output's key and value.
    #[inline]
    pub(crate) fn entry(&self) -> (&[u8], &[u8]) {
        match self.output {
            Output::Input => (self.input.key(), self.input.value()),
            Output::Rewritten => (&self.last, self.input.value()),
            _ => self.rare_entry(),
        }
    }

    #[cold]
    fn rare_entry(&self) -> (&[u8], &[u8]) {
        match self.output {
            Output::Queued => self.queue.front().map_or((&[], &[]), |(key, value)| (key, value)),
            Output::Held | Output::None => (&self.key, &[]),
            _ => (&self.key, self.input.value()),
        }
    }

    /// True if a newer entry of the same key was kept, too.
    #[inline]
    pub(crate) fn is_older_version(&self) -> bool {
        self.is_older_version
    }

    pub(crate) fn counts(&self) -> CompactionCounts {
        self.counts
    }

    /// How what was kept relates to what was read; at the end.
    pub(crate) fn lineage(&self) -> Lineage {
        if self.keeps_everything || (self.counts.read == 0 && self.range_tombstones.is_none()) {
            return Lineage::Unchanged;
        }
        if self.filtering.as_ref().is_some_and(|filtering| filtering.has_acted) {
            return Lineage::Lossy;
        }
        Lineage::Rewritten(Rewrite {
            stripes: self.snapshots.clone(),
            smallest: self.smallest,
            largest: self.largest,
            has_zeroed: self.has_zeroed,
        })
    }

    #[inline]
    fn note_read(&mut self, sequence: SequenceNumber) -> Result<()> {
        self.counts.read += 1;
        self.smallest = self.smallest.min(sequence);
        self.largest = self.largest.max(sequence);
        self.cancel.check()
    }

    /// The stripe of a sequence number; `None` above the newest frozen one.
    #[inline]
    fn stripe(&self, sequence: SequenceNumber) -> Option<usize> {
        // Most entries are older than every snapshot.
        if self.snapshots.first().is_some_and(|oldest| sequence <= *oldest) {
            return Some(0);
        }
        let stripe = self.snapshots.partition_point(|snapshot| *snapshot < sequence);
        (stripe < self.snapshots.len()).then_some(stripe)
    }

    /// Goes on from the input's current entry to the first that is kept.
    #[inline]
    fn find_output(&mut self) -> Result<()> {
        self.skip_to_output()?;
        // Of no meaning at the end.
        self.is_older_version = self.has_output;
        // What lies below operands that nobody merges is not hidden by them, and no job to come will make it less.
        self.has_output = !self.is_unmerged;
        self.is_unmerged = false;
        Ok(())
    }

    #[inline]
    fn skip_to_output(&mut self) -> Result<()> {
        while self.input.valid() {
            let key = self.input.key();
            let parsed = ParsedKey::parse(key)?;
            let (sequence, meaning) = (parsed.sequence, ToJob::of(parsed.kind));
            if !self.has_user_key || !self.order.is_same(user_key(&self.last), parsed.user_key) {
                self.last.clear();
                self.last.extend_from_slice(key);
                self.has_user_key = true;
                self.has_output = false;
                self.hidden_stripe = None;
                self.is_hidden_by_tombstone = false;
            }
            self.note_read(sequence)?;
            let stripe = self.stripe(sequence);
            let is_hidden = stripe.is_some() && stripe == self.hidden_stripe && !self.keeps_everything;
            if self.is_looking_closer {
                match self.look_closer(sequence, stripe, is_hidden, meaning)? {
                    Look::Go => {}
                    Look::Covered => {
                        self.counts.hidden += 1;
                        self.input.next()?;
                        continue;
                    }
                    Look::Output => return Ok(()),
                    Look::Gone => continue,
                }
            }
            match meaning {
                ToJob::Value | ToJob::Tombstone | ToJob::Operand if is_hidden => self.counts.hidden += 1,
                ToJob::SingleTombstone if is_hidden && self.is_hidden_by_tombstone => self.counts.hidden += 1,
                ToJob::SingleTombstone => {
                    if self.single_deletion(sequence, stripe)? {
                        return Ok(());
                    }
                    // The input stands on the next entry already.
                    continue;
                }
                ToJob::Value => {
                    self.hidden_stripe = stripe;
                    self.is_hidden_by_tombstone = false;
                    if stripe == Some(0) && sequence.0 != 0 && self.may_forget() && self.is_in_no_range() {
                        self.output = Output::Rewritten;
                        self.zero_number();
                    } else {
                        self.output = Output::Input;
                    }
                    return Ok(());
                }
                ToJob::Tombstone => {
                    self.hidden_stripe = stripe;
                    self.is_hidden_by_tombstone = true;
                    if stripe == Some(0) && self.may_forget() {
                        self.counts.obsolete += 1;
                    } else {
                        self.output = Output::Input;
                        return Ok(());
                    }
                }
                ToJob::Operand => {
                    match (stripe, self.merge.clone()) {
                        (Some(stripe), Some(rule)) if !self.keeps_everything => {
                            if !self.merge_operands(&rule, sequence, stripe)? {
                                continue;
                            }
                        }
                        _ => {
                            self.output = Output::Input;
                            self.is_unmerged = self.merge.is_none();
                        }
                    }
                    return Ok(());
                }
                ToJob::Unresolved(kind) => {
                    if self.reference(kind, sequence, stripe, is_hidden)? {
                        return Ok(());
                    }
                }
            }
            self.input.next()?;
        }
        Ok(())
    }

    /// An entry whose value is elsewhere, or has columns, is treated as one with a value, and stays what it is. True if it is
    /// kept.
    #[cold]
    fn reference(
        &mut self,
        kind: ValueKind,
        sequence: SequenceNumber,
        stripe: Option<usize>,
        is_hidden: bool,
    ) -> Result<bool> {
        if !matches!(kind, ValueKind::BlobIndex | ValueKind::WideColumnEntity) {
            return Err(kind.unsupported());
        }
        if is_hidden {
            self.counts.hidden += 1;
            return Ok(false);
        }
        self.hidden_stripe = stripe;
        self.is_hidden_by_tombstone = false;
        self.output = Output::Input;
        if stripe == Some(0) && sequence.0 != 0 && self.may_forget() && self.is_in_no_range() {
            self.key = internal_key(user_key(&self.last), SequenceNumber::ZERO, kind as u8);
            self.output = Output::Renamed;
            self.has_zeroed = true;
        }
        Ok(true)
    }

    /// What the input's current reference stands for; `None` if that cannot be known: it stays, for readers to hear why.
    ///
    /// # Errors
    /// Those of the file system.
    #[cold]
    fn fetched(&self) -> Result<Option<Vec<u8>>> {
        let Some(fetch) = &self.fetch else { return Ok(None) };
        match fetch(user_key(self.input.key()), self.input.value()) {
            Err(error) if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotSupported) => Ok(None),
            fetched => fetched.map(Some),
        }
    }

    /// True if a range tombstone in the entry's stripe covers it.
    #[cold]
    fn is_covered(&self, sequence: SequenceNumber, stripe: Option<usize>) -> bool {
        match (&self.range_tombstones, stripe) {
            (Some(tombstones), Some(stripe)) if !self.keeps_everything => {
                tombstones.covering(user_key(&self.last), self.snapshots[stripe]) > sequence
            }
            _ => false,
        }
    }

    /// True if no range tombstone covers the current user key, whatever its number.
    #[inline]
    fn is_in_no_range(&self) -> bool {
        let covering =
            |tombstones: &Arc<RangeTombstones>| tombstones.covering(user_key(&self.last), SequenceNumber::MAX).0 > 0;
        !self.range_tombstones.as_ref().is_some_and(covering)
    }

    /// Gives the current user key, in place, the trailer of a value whose sequence number became 0.
    #[inline]
    fn zero_number(&mut self) {
        self.has_zeroed = true;
        if let Some(trailer) = self.last.last_chunk_mut() {
            *trailer = ZEROED.to_le_bytes();
        }
    }

    /// True if nothing below can hold the current user key.
    #[inline]
    fn may_forget(&mut self) -> bool {
        !self.keeps_everything && (self.is_bottom)(user_key(&self.last))
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
            let is_same_key = self.order.compare(user_key(&self.last), next.user_key) == Ordering::Equal;
            if !is_same_key || self.stripe(next.sequence) != stripe {
                break;
            }
            match ToJob::of(next.kind) {
                ToJob::Value | ToJob::Unresolved(ValueKind::BlobIndex | ValueKind::WideColumnEntity) => {
                    is_one_value = followers == 0;
                }
                ToJob::SingleTombstone | ToJob::Operand => is_one_value = false,
                // It hides more than the single one does: it takes its place.
                ToJob::Tombstone => {
                    self.counts.hidden += 1;
                    return Ok(false);
                }
                ToJob::Unresolved(kind) => return Err(kind.unsupported()),
            }
            followers += 1;
            let sequence = next.sequence;
            self.note_read(sequence)?;
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
        self.key = internal_key(user_key(&self.last), sequence, ValueKind::SingleDeletion as u8);
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
    use crate::iter::testing::{Entry, VecIter, drain, parse_range, show_range};

    type Triple = (u8, u64, ValueKind);

    fn run(entries: &[Triple], snapshots: &[u64], keeps_everything: bool, below: &[Triple]) -> Vec<Triple> {
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
            let (key, _) = iter.entry();
            let kind = ValueKind::from_byte(trailer(key) as u8).expect("known");
            out.push((user_key(key)[0], trailer_sequence(trailer(key)).0, kind));
            iter.next().expect("memory");
        }
        let counts = iter.counts();
        assert_eq!(counts.read, entries.len() as u64);
        assert_eq!(counts.read - counts.dropped(), out.len() as u64);
        out
    }

    /// What a reader at `snapshot` finds for `key`: true for a value.
    fn visible(entries: &[Triple], below: &[Triple], key: u8, snapshot: u64) -> bool {
        entries
            .iter()
            .chain(below)
            .filter(|(k, sequence, _)| *k == key && *sequence <= snapshot)
            .max_by_key(|(_, sequence, _)| *sequence)
            .is_some_and(|(_, _, kind)| *kind == ValueKind::Value)
    }

    use ValueKind::{Deletion, Value};

    /// A line of entries; `snapshots 4 9` are the frozen ones, of which the last is the visible number; `below a b` the keys
    /// that older files may hold; `pending` is a snapshot that is just being made.
    fn answer(question: &str) -> String {
        let (mut entries, mut snapshots, mut below, mut is_pending) = (Vec::new(), Vec::new(), Vec::new(), false);
        let mut ranges = Vec::new();
        for line in question.lines() {
            let words = |rest: &str| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            match line.split_once(' ').unwrap_or((line, "")) {
                ("snapshots", rest) => snapshots = words(rest),
                ("below", rest) => below = words(rest),
                ("pending", _) => is_pending = true,
                _ => {
                    ranges.extend(line.split_whitespace().filter(|word| word.starts_with('[')).map(parse_range));
                    entries.extend(line.split_whitespace().filter(|word| !word.starts_with('[')).map(Entry::parse));
                }
            }
        }
        let frozen: Vec<SequenceNumber> =
            snapshots.iter().map(|number| SequenceNumber(number.parse().expect("a number"))).collect();
        let is_bottom = |key: &[u8]| !below.iter().any(|held| held.as_bytes() == key);
        let order = KeyOrder::Bytewise;
        let ranges = Arc::new(RangeTombstones::new(&order, ranges));
        let is_bottom_range =
            |begin: &[u8], end: &[u8]| !below.iter().any(|held| begin <= held.as_bytes() && held.as_bytes() < end);
        let stripes = if is_pending { &[][..] } else { &frozen };
        let kept_ranges: Vec<String> = ranges.surviving(stripes, is_bottom_range).iter().map(show_range).collect();
        let mut iter = CompactionIter::new(VecIter::of(&order, &entries), order, frozen, is_pending, is_bottom)
            .covered_by(&ranges);
        let kept = drain(&mut iter);
        let counts = iter.counts();
        assert_eq!(counts.read - counts.dropped(), kept.len() as u64);
        let shown = [kept_ranges, kept.iter().map(Entry::to_string).collect()].concat();
        if shown.is_empty() { "nothing".to_owned() } else { shown.join(" ") }
    }

    #[test]
    fn what_is_kept() {
        let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/src/iter/testdata/kept.txt");
        firndb_testkit::text::check(testdata, answer);
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
        let timed = (internal_key(b"k", SequenceNumber(1), ValueKind::ValuePreferredSeqno as u8), Vec::new());
        let input = VecIter::new(order.clone(), vec![timed]);
        let mut iter = CompactionIter::new(input, order, vec![SequenceNumber(9)], false, |_: &[u8]| true);
        assert!(iter.seek_to_first().expect_err("refused").to_string().contains("timed put"));
    }

    /// A reference hides, is hidden and gets number 0 as a value does, and stays a reference.
    #[test]
    fn references_are_values_that_are_elsewhere() {
        use ValueKind::{BlobIndex, Deletion, SingleDeletion, Value};
        let order = KeyOrder::Bytewise;
        let kept = |entries: &[(&[u8], u64, ValueKind)], is_bottom: bool| {
            let entry = |(key, sequence, kind): &(&[u8], u64, ValueKind)| {
                (internal_key(key, SequenceNumber(*sequence), *kind as u8), b"value".to_vec())
            };
            let input = VecIter::new(order.clone(), entries.iter().map(entry).collect());
            let mut iter =
                CompactionIter::new(input, order.clone(), vec![SequenceNumber(9)], false, |_: &[u8]| is_bottom);
            iter.seek_to_first().expect("sound");
            let mut found = Vec::new();
            while iter.valid() {
                let (key, value) = iter.entry();
                let key = ParsedKey::parse(key).expect("sound");
                assert!(key.kind != BlobIndex || value == b"value");
                found.push((key.user_key[0], key.sequence.0, key.kind));
                iter.next().expect("sound");
            }
            found
        };
        let entries: &[(&[u8], u64, ValueKind)] = &[
            (b"a", 5, BlobIndex),
            (b"a", 3, BlobIndex),
            (b"b", 5, Value),
            (b"b", 3, BlobIndex),
            (b"c", 5, Deletion),
            (b"c", 3, BlobIndex),
            (b"d", 5, SingleDeletion),
            (b"d", 3, BlobIndex),
            (b"e", 5, BlobIndex),
            (b"e", 3, Value),
        ];
        let above = [(b'a', 5, BlobIndex), (b'b', 5, Value), (b'c', 5, Deletion), (b'e', 5, BlobIndex)];
        assert_eq!(kept(entries, false), above);
        assert_eq!(kept(entries, true), [(b'a', 0, BlobIndex), (b'b', 0, Value), (b'e', 0, BlobIndex)]);
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
            let entries: Vec<Triple> = raw.into_iter().map(|((k, s), v)| (k, s, kind(v))).collect();
            let below: Vec<Triple> = below.into_iter().map(|((k, s), v)| (k, s, kind(v))).collect();
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
