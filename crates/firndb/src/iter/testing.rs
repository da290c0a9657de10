//! A sorted run in a vector, and entries as text, for tests.
//!
//! `k@7` is a value of key `k` with number 7, `k@7del` a deletion, `k@7single` a single deletion, `k@7op` a merge operand. A value holds the number
//! that it was written with; where its own is another by now, both are shown: `k@0=7`. `[a,c)@7` is a range tombstone.

use std::fmt;

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ParsedKey, SequenceNumber, ValueKind, internal_key};

use super::InternalIterator;
use super::compaction_iter::CompactionIter;
use super::range_tombstones::RangeTombstone;

/// An entry of a test.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Vec<u8>,
    pub(crate) sequence: u64,
    pub(crate) kind: ValueKind,
    pub(crate) value: String,
}

impl Entry {
    pub(crate) fn new(key: &[u8], sequence: u64, kind: ValueKind) -> Entry {
        let value =
            if matches!(kind, ValueKind::Value | ValueKind::Merge) { sequence.to_string() } else { String::new() };
        Entry { key: key.to_vec(), sequence, kind, value }
    }

    pub(crate) fn parse(word: &str) -> Entry {
        let (key, rest) = word.split_once('@').expect("key@number");
        let (sequence, kind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        let (kind, value) = match kind.split_once('=').map_or((kind, None), |(kind, value)| (kind, Some(value))) {
            ("", value) => (ValueKind::Value, value),
            ("del", _) => (ValueKind::Deletion, None),
            ("single", _) => (ValueKind::SingleDeletion, None),
            ("op", value) => (ValueKind::Merge, value),
            (other, _) => panic!("no such kind: {other}"),
        };
        let mut entry = Entry::new(key.as_bytes(), sequence.parse().expect("a number"), kind);
        if let Some(value) = value {
            entry.value = value.to_owned();
        }
        entry
    }

    /// The entries of a line.
    pub(crate) fn parse_all(line: &str) -> Vec<Entry> {
        line.split_whitespace().map(Entry::parse).collect()
    }

    /// The entry on which `iter` stands.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Entry {
        let parsed = ParsedKey::parse(key).expect("an internal key");
        let value = String::from_utf8(value.to_vec()).expect("text");
        Entry { key: parsed.user_key.to_vec(), sequence: parsed.sequence.0, kind: parsed.kind, value }
    }

    pub(crate) fn internal_key(&self) -> Vec<u8> {
        internal_key(&self.key, SequenceNumber(self.sequence), self.kind as u8)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", String::from_utf8_lossy(&self.key), self.sequence)?;
        match self.kind {
            ValueKind::Value if self.value != self.sequence.to_string() => write!(f, "={}", self.value),
            ValueKind::Value => Ok(()),
            ValueKind::Deletion => f.write_str("del"),
            ValueKind::SingleDeletion => f.write_str("single"),
            ValueKind::Merge if self.value != self.sequence.to_string() => write!(f, "op={}", self.value),
            ValueKind::Merge => f.write_str("op"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[begin,end)@number`.
pub(crate) fn parse_range(word: &str) -> RangeTombstone {
    let (range, sequence) = word.strip_prefix('[').and_then(|word| word.split_once(")@")).expect("[begin,end)@number");
    let (begin, end) = range.split_once(',').expect("begin,end");
    RangeTombstone {
        begin: begin.into(),
        end: end.into(),
        sequence: SequenceNumber(sequence.parse().expect("a number")),
    }
}

pub(crate) fn show_range(tombstone: &RangeTombstone) -> String {
    let text = String::from_utf8_lossy;
    format!("[{},{})@{}", text(&tombstone.begin), text(&tombstone.end), tombstone.sequence.0)
}

/// Entries on one line.
pub(crate) fn show(entries: &[Entry]) -> String {
    entries.iter().map(Entry::to_string).collect::<Vec<_>>().join(" ")
}

/// All that a job keeps.
pub(crate) fn drain<I: InternalIterator, B: FnMut(&[u8]) -> bool>(iter: &mut CompactionIter<I, B>) -> Vec<Entry> {
    let mut kept = Vec::new();
    iter.seek_to_first().expect("memory");
    while iter.valid() {
        let (key, value) = iter.entry();
        kept.push(Entry::of(key, value));
        iter.next().expect("memory");
    }
    kept
}

/// Entries in order, and a position.
#[derive(Debug)]
pub(crate) struct VecIter {
    order: KeyOrder,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

impl VecIter {
    /// `entries` are sorted by their internal keys.
    pub(crate) fn new(order: KeyOrder, entries: Vec<(Vec<u8>, Vec<u8>)>) -> VecIter {
        VecIter { order, entries, at: None }
    }

    /// The entries, sorted.
    pub(crate) fn of(order: &KeyOrder, entries: &[Entry]) -> VecIter {
        let pair = |entry: &Entry| (entry.internal_key(), entry.value.clone().into_bytes());
        let mut entries: Vec<_> = entries.iter().map(pair).collect();
        entries.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
        VecIter::new(order.clone(), entries)
    }
}

impl InternalIterator for VecIter {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.at = (!self.entries.is_empty()).then_some(0);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.at = self.entries.len().checked_sub(1);
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.at = self.entries.iter().position(|(key, _)| self.order.compare_internal(key, target).is_ge());
        Ok(())
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.at = self.entries.iter().rposition(|(key, _)| self.order.compare_internal(key, target).is_le());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.at = self.at.map(|at| at + 1).filter(|at| *at < self.entries.len());
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.at = self.at.and_then(|at| at.checked_sub(1));
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.at.map_or(&[], |at| &self.entries[at].0)
    }

    fn value(&self) -> &[u8] {
        self.at.map_or(&[], |at| &self.entries[at].1)
    }
}
