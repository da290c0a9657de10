//! A job with range tombstones and operands against a naive oracle, over every sequence of a few operations on three keys.
//!
//! `FIRN_LENGTH` says how many operations a sequence has: 3 if it does not, 5 take some minutes.

use super::compaction_iter::CompactionIter;
use super::range_tombstones::{RangeTombstone, RangeTombstones};
use super::testing::{Entry, VecIter, drain};
use crate::format::comparator::KeyOrder;
use crate::format::key::{SequenceNumber, ValueKind};
use crate::format::merge::MergeRule;
use crate::sync::Arc;

const KEYS: u8 = 3;

#[derive(Debug, Clone, Copy)]
enum Operation {
    Put(u8),
    Delete(u8),
    Merge(u8),
    DeleteRange(u8, u8),
}

fn all_operations() -> Vec<Operation> {
    let points = (0..KEYS).flat_map(|key| [Operation::Put(key), Operation::Delete(key), Operation::Merge(key)]);
    let ranges = (0..KEYS).flat_map(|begin| (begin + 1..=KEYS).map(move |end| Operation::DeleteRange(begin, end)));
    points.chain(ranges).collect()
}

/// The value that a reader at `at` finds, by going through all operations. A put's is its number; operands append theirs.
fn naive(history: &[Operation], key: u8, at: u64) -> Option<String> {
    let mut found: Option<String> = None;
    for (number, operation) in (1..=at).zip(history) {
        match operation {
            Operation::Put(other) if *other == key => found = Some(number.to_string()),
            Operation::Merge(other) if *other == key => {
                found = Some(found.map_or(number.to_string(), |value| format!("{value},{number}")));
            }
            Operation::Delete(other) if *other == key => found = None,
            Operation::DeleteRange(begin, end) if (*begin..*end).contains(&key) => found = None,
            _ => {}
        }
    }
    found
}

/// Entries and range tombstones of one place of the tree.
#[derive(Debug, Default, Clone)]
struct Contents {
    entries: Vec<Entry>,
    ranges: Vec<RangeTombstone>,
}

impl Contents {
    fn of(history: &[Operation], first: u64) -> Contents {
        let mut contents = Contents::default();
        for (number, operation) in (first..).zip(history) {
            match operation {
                Operation::Put(key) => contents.entries.push(Entry::new(&[*key], number, ValueKind::Value)),
                Operation::Merge(key) => contents
                    .entries
                    .push(Entry { value: number.to_string(), ..Entry::new(&[*key], number, ValueKind::Merge) }),
                Operation::Delete(key) => contents.entries.push(Entry::new(&[*key], number, ValueKind::Deletion)),
                Operation::DeleteRange(begin, end) => contents.ranges.push(RangeTombstone {
                    begin: vec![*begin],
                    end: vec![*end],
                    sequence: SequenceNumber(number),
                }),
            }
        }
        contents
    }

    fn holds(&self, key: u8) -> bool {
        self.entries.iter().any(|entry| entry.key == [key])
            || self.ranges.iter().any(|range| range.begin <= vec![key] && vec![key] < range.end)
    }

    /// What a reader at `at` finds, given that `below` is older.
    fn read<'a>(&'a self, below: &'a Contents, key: u8, at: u64) -> Option<String> {
        let mut operands: Vec<&str> = Vec::new();
        let mut base = None;
        let covering = |contents: &Contents| {
            RangeTombstones::new(&KeyOrder::Bytewise, contents.ranges.clone()).covering(&[key], SequenceNumber(at)).0
        };
        'all: for contents in [self, below] {
            let cover = covering(contents);
            let mut visible: Vec<&'a Entry> =
                contents.entries.iter().filter(|entry| entry.key == [key] && entry.sequence <= at).collect();
            visible.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
            for entry in visible {
                match entry.kind {
                    _ if entry.sequence < cover => break 'all,
                    ValueKind::Merge => operands.push(&entry.value),
                    ValueKind::Value => {
                        base = Some(entry.value.as_str());
                        break 'all;
                    }
                    _ => break 'all,
                }
            }
            if cover > 0 {
                break;
            }
        }
        let all: Vec<&str> = base.into_iter().chain(operands.into_iter().rev()).collect();
        (!all.is_empty()).then(|| all.join(","))
    }
}

fn job(inputs: &Contents, below: &Contents, snapshots: &[SequenceNumber]) -> Contents {
    let order = KeyOrder::Bytewise;
    let ranges = Arc::new(RangeTombstones::new(&order, inputs.ranges.clone()));
    let is_bottom = |key: &[u8]| !below.holds(key[0]);
    let surviving = ranges.surviving(snapshots, |begin, end| !(begin[0]..end[0]).any(|key| below.holds(key)));
    let input = VecIter::of(&order, &inputs.entries);
    let append = Arc::new(MergeRule::StringAppend { delimiter: b",".to_vec() });
    let mut iter = CompactionIter::new(input, order, snapshots.to_vec(), false, is_bottom)
        .covered_by(&ranges)
        .merged_by(Some(&append));
    Contents { entries: drain(&mut iter), ranges: surviving }
}

fn check(history: &[Operation]) {
    let last = history.len() as u64;
    for cut in 0..=history.len() {
        let below = Contents::of(&history[..cut], 1);
        let inputs = Contents::of(&history[cut..], cut as u64 + 1);
        for snapshot in 0..=last {
            let mut snapshots = vec![SequenceNumber(snapshot), SequenceNumber(last)];
            snapshots.dedup();
            let output = job(&inputs, &below, &snapshots);
            for reader in [snapshot, last, last + 1] {
                for key in 0..KEYS {
                    let (found, expected) = (output.read(&below, key, reader), naive(history, key, reader));
                    assert_eq!(
                        found, expected,
                        "{history:?}, {cut} below: key {key} at {reader} with {snapshots:?}: {output:?}"
                    );
                }
            }
            if snapshot == last && below.entries.is_empty() && below.ranges.is_empty() {
                assert!(output.ranges.is_empty(), "{history:?}: {output:?}");
                assert!(output.entries.iter().all(|entry| entry.kind == ValueKind::Value), "{history:?}: {output:?}");
                // A second job finds nothing to do.
                let again = job(&output, &below, &snapshots);
                assert_eq!(again.entries.len(), output.entries.len());
            }
        }
    }
}

#[test]
fn whatever_a_job_drops_every_reader_finds_what_it_found() {
    let length = firndb_testkit::from_environment("FIRN_LENGTH").unwrap_or(3) as usize;
    let operations = all_operations();
    let mut places = vec![0usize; length];
    loop {
        let history: Vec<Operation> = places.iter().map(|place| operations[*place]).collect();
        check(&history);
        // The next number in the base of how many operations there are.
        let Some(at) = places.iter().rposition(|place| *place + 1 < operations.len()) else { break };
        places[at] += 1;
        places[at + 1..].fill(0);
    }
}

#[test]
fn longer_histories_at_random() {
    let mut random = firndb_testkit::Random::new(firndb_testkit::from_environment("FIRN_SEED").unwrap_or(1));
    let operations = all_operations();
    for _ in 0..10_000 {
        let history: Vec<Operation> =
            (0..random.below(12)).map(|_| operations[random.below(operations.len() as u64) as usize]).collect();
        check(&history);
    }
}
