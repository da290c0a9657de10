//! The second look at an entry, which most jobs do without: is it hidden by a range tombstone, and what does a filter say?
//!
//! A filter is shown an entry of the newest stripe that no snapshot sees ([`super::super::filter`]): a value that is the first
//! of its key to be kept, or an operand. What it removes becomes a deletion of the same number, which goes where a deletion
//! may go; so nothing older comes back.

use std::cmp::Ordering;

use super::{
    CompactionIter, InternalIterator, Look, Output, Result, SequenceNumber, ToJob, ValueKind, internal_key, user_key,
};
use crate::error::{Error, ErrorKind};
use crate::format::entity::{Columns, encode};
use crate::format::key::SEEK_KIND;
use crate::format::limits::VALUE_BYTES_MAX;
use crate::iter::filter::{FilterDecision, FilterEntry};

/// What a filter said of an operand.
pub(super) enum Operand {
    Is(Vec<u8>),
    Removed,
    /// The whole key goes.
    KeyRemoved,
}

impl<I: InternalIterator, B: FnMut(&[u8]) -> bool> CompactionIter<I, B> {
    #[cold]
    pub(super) fn look_closer(
        &mut self,
        sequence: SequenceNumber,
        stripe: Option<usize>,
        is_hidden: bool,
        meaning: ToJob,
    ) -> Result<Look> {
        if self.is_covered(sequence, stripe) {
            return Ok(Look::Covered);
        }
        let Some(stripe) = stripe.filter(|_| !is_hidden && self.may_filter(sequence)) else { return Ok(Look::Go) };
        let is_first = !self.has_output;
        let is_operand = meaning == ToJob::Operand;
        match meaning {
            ToJob::Value | ToJob::Unresolved(ValueKind::WideColumnEntity | ValueKind::BlobIndex) if is_first => {}
            ToJob::Operand if is_first || self.merge.is_none() => {}
            _ => return Ok(Look::Go),
        }
        if self.is_in_skipped_range() {
            return self.remove_key(sequence, stripe);
        }
        // With an operator, operands are shown when they are gathered.
        if is_operand && self.merge.is_some() {
            return Ok(Look::Go);
        }
        let decision = match meaning {
            ToJob::Unresolved(ValueKind::BlobIndex) => self.ask_about_reference()?,
            ToJob::Unresolved(_) => self.ask_about_columns()?,
            _ => self.ask(is_operand)?,
        };
        match decision {
            FilterDecision::Change(value) => {
                let kind = if is_operand { ValueKind::Merge } else { ValueKind::Value };
                self.change(value, kind, sequence, stripe)
            }
            FilterDecision::ChangeColumns(columns) => {
                let columns = columns.iter().map(|(name, value)| (&name[..], &value[..])).collect();
                self.change(encode(columns)?, ValueKind::WideColumnEntity, sequence, stripe)
            }

            FilterDecision::Remove if is_operand => {
                self.counts.filtered += 1;
                self.input.next()?;
                Ok(Look::Gone)
            }
            FilterDecision::Remove => self.remove_key(sequence, stripe),
            FilterDecision::SkipUntil(end) => {
                let look = self.remove_key(sequence, stripe)?;
                self.skip_until(end, matches!(look, Look::Gone))?;
                Ok(look)
            }
            FilterDecision::Keep => Ok(Look::Go),
        }
    }

    /// Puts another value, or operand, in the place of the input's current entry.
    fn change(&mut self, value: Vec<u8>, kind: ValueKind, sequence: SequenceNumber, stripe: usize) -> Result<Look> {
        let mut number = sequence;
        if kind == ValueKind::Merge {
            self.is_unmerged = true;
        } else {
            self.hidden_stripe = Some(stripe);
            self.is_hidden_by_tombstone = false;
            if stripe == 0 && self.may_forget() && self.is_in_no_range() {
                number = SequenceNumber::ZERO;
                self.has_zeroed = true;
            }
        }
        self.queue.push_back((internal_key(user_key(&self.last), number, kind as u8), value));
        self.output = Output::Queued;
        self.input.next()?;
        Ok(Look::Output)
    }

    /// True if no snapshot sees the entry.
    fn may_filter(&self, sequence: SequenceNumber) -> bool {
        let is_seen = |filtering: &crate::iter::filter::Filtering| filtering.protected.is_some_and(|p| sequence <= p);
        !self.keeps_everything && self.filtering.as_ref().is_some_and(|filtering| !is_seen(filtering))
    }

    /// True if a filter said that keys up to one behind this go.
    fn is_in_skipped_range(&mut self) -> bool {
        let Some(filtering) = &mut self.filtering else { return false };
        let is_before = |end: &Vec<u8>| self.order.compare(user_key(&self.last), end) == Ordering::Less;
        match filtering.skip_until.as_ref().map(is_before) {
            Some(false) => {
                filtering.skip_until = None;
                false
            }
            known => known.is_some(),
        }
    }

    /// Shows the input's current entry to the filter.
    fn ask(&mut self, is_operand: bool) -> Result<FilterDecision> {
        let Some(filtering) = &mut self.filtering else { return Ok(FilterDecision::Keep) };
        let bytes = self.input.value();
        let entry = if is_operand { FilterEntry::Operand(bytes) } else { FilterEntry::Value(bytes) };
        let decision = filtering.filter.filter(user_key(&self.last), entry);
        match decision {
            FilterDecision::ChangeColumns(_) if is_operand => Ok(FilterDecision::Keep),
            decision => self.decided(decision),
        }
    }

    /// The same, of an entity. One that cannot be read is kept, for readers to hear why.
    fn ask_about_columns(&mut self) -> Result<FilterDecision> {
        let Some(filtering) = &mut self.filtering else { return Ok(FilterDecision::Keep) };
        let Ok(columns) = Columns::parse(self.input.value()) else { return Ok(FilterDecision::Keep) };
        let decision = filtering.filter.filter_entity(user_key(&self.last), &columns);
        self.decided(decision)
    }

    /// The same, of a value in a blob file.
    fn ask_about_reference(&mut self) -> Result<FilterDecision> {
        let Some(filtering) = &mut self.filtering else { return Ok(FilterDecision::Keep) };
        if let Some(decision) = filtering.filter.filter_by_key(user_key(&self.last)) {
            return self.decided(decision);
        }
        let Some(value) = self.fetched()? else { return Ok(FilterDecision::Keep) };
        let Some(filtering) = &mut self.filtering else { return Ok(FilterDecision::Keep) };
        let decision = filtering.filter.filter(user_key(&self.last), FilterEntry::Value(&value));
        self.decided(decision)
    }

    /// What a filter said, checked.
    fn decided(&mut self, decision: FilterDecision) -> Result<FilterDecision> {
        match &decision {
            FilterDecision::Keep => return Ok(decision),
            FilterDecision::SkipUntil(end) if self.order.compare(end, user_key(&self.last)) != Ordering::Greater => {
                return Ok(FilterDecision::Keep);
            }
            FilterDecision::Change(value) if value.len() > VALUE_BYTES_MAX => {
                let what = format!("a compaction filter made a value of {} bytes, which is too long", value.len());
                return Err(Error::new(ErrorKind::InvalidArgument, what));
            }
            _ => {}
        }
        if let Some(filtering) = &mut self.filtering {
            filtering.has_acted = true;
        }
        Ok(decision)
    }

    /// Removes the current key, as a deletion of `sequence` would. The input moves on.
    fn remove_key(&mut self, sequence: SequenceNumber, stripe: usize) -> Result<Look> {
        self.input.next()?;
        match self.hide_key(sequence, stripe) {
            true => Ok(Look::Output),
            false => Ok(Look::Gone),
        }
    }

    /// Hides what is left of the key; true if a deletion is the output.
    fn hide_key(&mut self, sequence: SequenceNumber, stripe: usize) -> bool {
        self.hidden_stripe = Some(stripe);
        self.is_hidden_by_tombstone = true;
        if stripe == 0 && self.may_forget() {
            self.counts.filtered += 1;
            return false;
        }
        self.key = internal_key(user_key(&self.last), sequence, ValueKind::Deletion as u8);
        self.output = Output::Held;
        true
    }

    /// Keys before `end` go; unread where that is allowed and the input stands behind the current entry with no output left.
    fn skip_until(&mut self, end: Vec<u8>, may_move: bool) -> Result<()> {
        let Some(filtering) = &mut self.filtering else { return Ok(()) };
        if may_move && filtering.may_jump.as_ref().is_some_and(|may_jump| may_jump(user_key(&self.last), &end)) {
            self.input.seek(&internal_key(&end, SequenceNumber::MAX, SEEK_KIND))?;
            self.counts.is_partial = true;
        }
        filtering.skip_until = Some(end);
        Ok(())
    }

    /// The input's current operand as the filter leaves it.
    pub(super) fn operand(&mut self, sequence: SequenceNumber) -> Result<Operand> {
        if self.filtering.is_none() || !self.may_filter(sequence) {
            return Ok(Operand::Is(self.input.value().to_vec()));
        }
        Ok(match self.ask(true)? {
            FilterDecision::Change(operand) => Operand::Is(operand),
            FilterDecision::Remove => {
                self.counts.filtered += 1;
                Operand::Removed
            }
            FilterDecision::SkipUntil(end) => {
                self.skip_until(end, false)?;
                Operand::KeyRemoved
            }
            FilterDecision::Keep | FilterDecision::ChangeColumns(_) => Operand::Is(self.input.value().to_vec()),
        })
    }

    /// A filter removed the key at one of its operands, `gathered` of which are in no output; the input stands behind that one.
    pub(super) fn remove_operands(&mut self, newest: SequenceNumber, stripe: usize, gathered: usize) -> bool {
        self.counts.filtered += gathered as u64;
        self.hide_key(newest, stripe)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firndb_testkit::{Random, text};

    use super::*;
    use crate::format::comparator::KeyOrder;
    use crate::format::merge::MergeRule;
    use crate::iter::filter::Filtering;
    use crate::iter::lineage::Lineage;
    use crate::iter::range_tombstones::RangeTombstones;
    use crate::iter::testing::{Entry, VecIter, drain, parse_range};
    use crate::sync::{Arc, Mutex};

    /// `snapshots 4 9`: the frozen ones, of which the last is the visible number; `live 9`: the newest snapshot that there is,
    /// if it is not the last but one of those; `below a b`: keys that older files may hold; `pending`: a snapshot is being made;
    /// `merge`: operands are appended; `jump`: what is skipped need not be read. `remove b`, `change c=x`, `skip d..f`: what the
    /// filter does with the key `b`, `c`, `d`; `remove op=7` with an operand. The rest are entries.
    fn answer(question: &str) -> String {
        let (mut entries, mut ranges, mut below, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut rules, mut live, mut is_pending, mut merges, mut jumps) = (Vec::new(), None, false, false, false);
        for line in question.lines() {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("snapshots", rest) => numbers = rest.split(' ').map(|n| n.parse::<u64>().expect("number")).collect(),
                ("live", rest) => live = Some(SequenceNumber(rest.parse().expect("a number"))),
                ("below", rest) => below = rest.split(' ').map(|key| key.as_bytes().to_vec()).collect(),
                ("pending", _) => is_pending = true,
                ("merge", _) => merges = true,
                ("jump", _) => jumps = true,
                (verb @ ("remove" | "change" | "skip"), rest) => rules.push((verb.to_owned(), rest.to_owned())),
                _ => {
                    ranges.extend(line.split_whitespace().filter(|word| word.starts_with('[')).map(parse_range));
                    entries.extend(line.split_whitespace().filter(|word| !word.starts_with('[')).map(Entry::parse));
                }
            }
        }
        let frozen: Vec<SequenceNumber> = numbers.iter().map(|number| SequenceNumber(*number)).collect();
        let live = live.or_else(|| frozen.iter().rev().nth(1).copied());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&shown);
        let filter = move |key: &[u8], entry: FilterEntry<'_>| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (key, value) = (text(key), text(entry.bytes()));
            let name = if matches!(entry, FilterEntry::Operand(_)) { format!("op={value}") } else { key.clone() };
            log.lock().push(format!("{key}={value}"));
            for (verb, rest) in &rules {
                match verb.as_str() {
                    "remove" if *rest == name => return FilterDecision::Remove,
                    "change" if rest.rsplit_once('=').is_some_and(|(of, _)| of == name) => {
                        return FilterDecision::Change(rest.rsplit_once('=').expect("=").1.as_bytes().to_vec());
                    }
                    "skip" if rest.split_once("..").is_some_and(|(of, _)| of == name) => {
                        return FilterDecision::SkipUntil(rest.split_once("..").expect("..").1.as_bytes().to_vec());
                    }
                    _ => {}
                }
            }
            FilterDecision::Keep
        };
        let mut filtering = Filtering::new(Box::new(filter), live);
        if jumps {
            filtering = filtering.jumping(Box::new(|_, _| true));
        }
        let order = KeyOrder::Bytewise;
        let ranges = Arc::new(RangeTombstones::new(&order, ranges));
        let rule = merges.then(|| Arc::new(MergeRule::StringAppend { delimiter: b"+".to_vec() }));
        let is_bottom = |key: &[u8]| !below.iter().any(|held| held == key);
        let mut iter = CompactionIter::new(VecIter::of(&order, &entries), order, frozen, is_pending, is_bottom)
            .covered_by(&ranges)
            .merged_by(rule.as_ref())
            .filtered_by(Some(filtering));
        let kept = drain(&mut iter);
        let counts = iter.counts();
        assert_eq!(counts.read - counts.dropped(), kept.len() as u64, "{counts:?}");
        assert_eq!(counts.is_partial, counts.read < entries.len() as u64);
        let shown = shown.lock().join(" ");
        let kept: Vec<String> = kept.iter().map(Entry::to_string).collect();
        let or_nothing = |text: String| if text.is_empty() { "nothing".to_owned() } else { text };
        let unread = if counts.is_partial { "\nsome unread" } else { "" };
        format!("shown {}\n{}{unread}", or_nothing(shown), or_nothing(kept.join(" ")))
    }

    #[test]
    fn what_a_filter_is_shown_and_what_becomes_of_it() {
        text::check(concat!(env!("CARGO_MANIFEST_DIR"), "/src/iter/testdata/filtered.txt"), answer);
    }

    /// What a reader at `snapshot` finds.
    fn seen<'a>(entries: &'a [Entry], key: &[u8], snapshot: u64) -> Option<&'a str> {
        let visible = entries.iter().filter(|entry| entry.key == key && entry.sequence <= snapshot);
        let newest = visible.max_by_key(|entry| entry.sequence)?;
        (newest.kind == ValueKind::Value).then_some(&newest.value)
    }

    /// Random entries, snapshots and decisions: no snapshot sees anything else than before, and readers of now see what was
    /// there or what the filter made of it, never something older.
    #[test]
    fn no_snapshot_sees_what_a_filter_does_and_nothing_older_comes_back() {
        let seed = firndb_testkit::from_environment("FIRN_SEED").unwrap_or(1);
        let mut random = Random::new(seed);
        let mut acted = 0;
        for round in 0..20_000 {
            let mut entries: Vec<Entry> = Vec::new();
            for sequence in 1..=random.below(14) {
                let kind = random.one_of(&[ValueKind::Value, ValueKind::Value, ValueKind::Deletion]);
                entries.push(Entry::new(&[b'a' + random.below(4) as u8], sequence, kind));
            }
            let visible = entries.len() as u64 - random.below(2).min(entries.len() as u64);
            let snapshots: BTreeSet<u64> = (0..random.below(3)).map(|_| random.below(16)).collect();
            let live = snapshots.last().copied().map(SequenceNumber);
            let frozen: BTreeSet<u64> = snapshots.iter().copied().filter(|s| *s <= visible).chain([visible]).collect();
            let below: Vec<u8> = (0..4).map(|key| b'a' + key).filter(|_| random.below(3) == 0).collect();
            let decisions: Vec<u64> = (0..4).map(|_| random.below(6)).collect();
            let chosen = decisions.clone();
            let filter = move |key: &[u8], _: FilterEntry<'_>| match chosen[usize::from(key[0] - b'a')] {
                0 => FilterDecision::Remove,
                1 => FilterDecision::Change(b"new".to_vec()),
                2 => FilterDecision::SkipUntil(b"c".to_vec()),
                3 => FilterDecision::SkipUntil(vec![key[0] + 2]),
                _ => FilterDecision::Keep,
            };
            let order = KeyOrder::Bytewise;
            let mut filtering = Filtering::new(Box::new(filter), live);
            if live.is_none() && visible == entries.len() as u64 {
                let held = below.clone();
                filtering = filtering.jumping(Box::new(move |begin, end| {
                    !held.iter().any(|key| begin <= &[*key][..] && &[*key][..] < end)
                }));
            }
            let is_bottom = |key: &[u8]| !below.contains(&key[0]);
            let frozen: Vec<SequenceNumber> = frozen.into_iter().map(SequenceNumber).collect();
            let mut iter = CompactionIter::new(VecIter::of(&order, &entries), order, frozen, false, is_bottom)
                .filtered_by(Some(filtering));
            let kept = drain(&mut iter);
            let tell = || format!("seed {seed}, round {round}: {entries:?}, {snapshots:?} became {kept:?}");
            acted += usize::from(iter.lineage() == Lineage::Lossy);
            for key in 0..4u8 {
                let name = &[b'a' + key][..];
                for snapshot in &snapshots {
                    assert_eq!(seen(&entries, name, *snapshot), seen(&kept, name, *snapshot), "{}", tell());
                }
                let (before, after) = (seen(&entries, name, 99), seen(&kept, name, 99));
                assert!(after == before || after.is_none() || (after == Some("new") && before.is_some()), "{}", tell());
                // Where older files may hold the key, something hides them.
                let is_hidden_below = kept.iter().any(|entry| entry.key == name);
                let was = entries.iter().any(|entry| entry.key == name);
                assert!(!was || !below.contains(&name[0]) || is_hidden_below, "{}", tell());
            }
        }
        assert!(acted > 5_000, "{acted}");
    }
}
