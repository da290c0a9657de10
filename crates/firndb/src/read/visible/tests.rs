use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::prelude::*;

use super::*;
use crate::error::{CorruptionKind, ErrorKind};
use crate::format::comparator::Comparator;
use crate::format::key::{ValueKind, internal_key};

/// A sorted run in memory, which fails to move onto one of its entries if asked to.
#[derive(Debug, Default)]
struct VecRun {
    order: KeyOrder,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
    broken: Option<usize>,
    moves: Arc<AtomicU32>,
}

impl VecRun {
    fn new(order: &KeyOrder, mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> VecRun {
        entries.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
        VecRun { order: order.clone(), entries, ..VecRun::default() }
    }

    fn go(&mut self, to: Option<usize>) -> Result<()> {
        self.moves.fetch_add(1, Relaxed);
        self.at = to.filter(|at| *at < self.entries.len());
        match self.at.is_some() && self.at == self.broken {
            true => Err(Error::corrupt(CorruptionKind::Checksum, "a broken block")),
            false => Ok(()),
        }
    }
}

impl InternalIterator for VecRun {
    fn valid(&self) -> bool {
        self.at.is_some()
    }
    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Some(0))
    }
    fn seek_to_last(&mut self) -> Result<()> {
        self.go(self.entries.len().checked_sub(1))
    }
    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.go(Some(self.entries.partition_point(|e| self.order.compare_internal(&e.0, target).is_lt())))
    }
    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let after = self.entries.partition_point(|e| self.order.compare_internal(&e.0, target).is_le());
        self.go(after.checked_sub(1))
    }
    fn next(&mut self) -> Result<()> {
        self.go(self.at.map(|at| at + 1))
    }
    fn prev(&mut self) -> Result<()> {
        self.go(self.at.and_then(|at| at.checked_sub(1)))
    }
    fn key(&self) -> &[u8] {
        &self.entries[self.at.expect("valid")].0
    }
    fn value(&self) -> &[u8] {
        &self.entries[self.at.expect("valid")].1
    }
}

impl Run for VecRun {
    fn value_slice(&self) -> Slice {
        Slice::copied(self.value())
    }
}

/// Never ousts anyone, or after some pulses.
struct Calm(AtomicU32);

impl Watch for Calm {
    fn pulse(&self) -> Result<()> {
        match self.0.fetch_sub(1, Relaxed) {
            0 => Err(Error::new(ErrorKind::PinEvicted, "asked to leave")),
            _ => Ok(()),
        }
    }
}

fn listed<R>(runs: Vec<R>) -> RunList<R> {
    let mut list = RunList::of_at_most(runs.len());
    runs.into_iter().for_each(|run| list.push(run));
    list
}

fn calm() -> Calm {
    Calm(AtomicU32::new(u32::MAX))
}

fn entry(key: &str, sequence: u64, kind: ValueKind, value: &str) -> (Vec<u8>, Vec<u8>) {
    (internal_key(key.as_bytes(), SequenceNumber(sequence), kind as u8), value.as_bytes().to_vec())
}

fn put(key: &str, sequence: u64) -> (Vec<u8>, Vec<u8>) {
    entry(key, sequence, ValueKind::Value, &format!("{key}@{sequence}"))
}

fn delete(key: &str, sequence: u64) -> (Vec<u8>, Vec<u8>) {
    entry(key, sequence, ValueKind::Deletion, "")
}

fn over(entries: Vec<(Vec<u8>, Vec<u8>)>, sequence: u64) -> VisibleIter<VecRun> {
    let order = KeyOrder::Bytewise;
    VisibleIter::new(order.clone(), listed(vec![VecRun::new(&order, entries)]), SequenceNumber(sequence), Bounds::ALL)
}

fn forward(iter: &mut VisibleIter<VecRun>) -> Vec<String> {
    let mut out = Vec::new();
    let mut valid = iter.seek_to_first(&calm()).expect("seeks");
    while valid {
        out.push(String::from_utf8_lossy(iter.value()).into_owned());
        valid = iter.next(&calm()).expect("moves");
    }
    out
}

fn backward(iter: &mut VisibleIter<VecRun>) -> Vec<String> {
    let mut out = Vec::new();
    let mut valid = iter.seek_to_last(&calm()).expect("seeks");
    while valid {
        out.push(String::from_utf8_lossy(iter.value()).into_owned());
        valid = iter.prev(&calm()).expect("moves");
    }
    out
}

#[test]
fn each_key_shows_its_newest_version_that_the_view_sees() {
    let entries = || vec![put("a", 3), put("a", 9), put("b", 2), delete("b", 4), put("b", 6), put("c", 8), put("d", 0)];
    for (sequence, expected) in [
        (1, vec!["d@0"]),
        (3, vec!["a@3", "b@2", "d@0"]),
        (5, vec!["a@3", "d@0"]),
        (7, vec!["a@3", "b@6", "d@0"]),
        (100, vec!["a@9", "b@6", "c@8", "d@0"]),
    ] {
        assert_eq!(forward(&mut over(entries(), sequence)), expected, "at {sequence}");
        let mut reversed = backward(&mut over(entries(), sequence));
        reversed.reverse();
        assert_eq!(reversed, expected, "backward at {sequence}");
    }
}

#[test]
fn many_versions_of_one_key_cost_a_seek_and_not_a_walk() {
    let versions = (1..10_000).map(|sequence| put("b", sequence)).chain([put("a", 1), put("c", 1)]);
    let mut iter = over(versions.collect(), 5_000);
    let Runs::Single(run) = &iter.runs else { panic!("one run is not merged") };
    let moves = Arc::clone(&run.moves);
    assert_eq!(forward(&mut iter), ["a@1", "b@5000", "c@1"]);
    assert_eq!(backward(&mut iter), ["c@1", "b@5000", "a@1"]);
    let moves = moves.load(Relaxed);
    assert!(moves < 100, "{moves} moves");
}

#[test]
fn a_hundred_thousand_tombstones_in_a_row_are_skipped_without_recursion() {
    let run = (0..100_000).map(|i| delete(&format!("k{i:06}"), 5)).chain([put("a", 1), put("z", 1)]);
    let mut iter = over(run.collect(), 9);
    assert_eq!(forward(&mut iter), ["a@1", "z@1"]);
    assert_eq!(backward(&mut iter), ["z@1", "a@1"]);
}

#[test]
fn an_ousted_reader_is_told_at_a_seek_and_within_a_long_skip() {
    let tombstones: Vec<_> = (0..5_000).map(|i| delete(&format!("k{i:06}"), 5)).collect();
    let mut iter = over(tombstones.clone(), 9);
    assert_eq!(iter.seek_to_first(&Calm(AtomicU32::new(0))).expect_err("ousted").kind(), ErrorKind::PinEvicted);
    for last in [false, true] {
        let (mut iter, watch) = (over(tombstones.clone(), 9), Calm(AtomicU32::new(3)));
        let result = if last { iter.seek_to_last(&watch) } else { iter.seek_to_first(&watch) };
        assert_eq!(result.expect_err("ousted").kind(), ErrorKind::PinEvicted);
        assert_eq!(iter.next(&calm()).expect_err("for good").kind(), ErrorKind::PinEvicted);
    }
}

#[test]
fn what_cannot_be_resolved_is_refused_unless_something_newer_hides_it() {
    let merge = entry("b", 5, ValueKind::Merge, "+1");
    let mut iter = over(vec![put("a", 1), merge.clone(), put("c", 1)], 9);
    assert!(iter.seek_to_first(&calm()).expect("a is fine"));
    let error = iter.next(&calm()).expect_err("a merge operand");
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("merge"), "{error}");
    let mut iter = over(vec![put("a", 1), merge.clone(), put("c", 1)], 9);
    assert!(iter.seek_to_last(&calm()).expect("c is fine"));
    assert_eq!(iter.prev(&calm()).expect_err("a merge operand").kind(), ErrorKind::NotSupported);
    for newer in [put("b", 6), delete("b", 6)] {
        let entries = vec![put("a", 1), merge.clone(), newer, put("c", 1)];
        let mut expected = forward(&mut over(entries.clone(), 9));
        expected.reverse();
        assert_eq!(backward(&mut over(entries, 9)), expected);
    }
}

#[test]
fn an_error_in_the_middle_surfaces_there_and_every_move_repeats_it() {
    let keys = ["a", "b", "c", "d", "e"];
    for broken in 0..keys.len() {
        for is_forward in [true, false] {
            let order = KeyOrder::Bytewise;
            let mut run = VecRun::new(&order, keys.iter().map(|key| put(key, 1)).collect());
            run.broken = Some(broken);
            let mut iter = VisibleIter::new(order, listed(vec![run]), SequenceNumber(9), Bounds::ALL);
            let mut seen = 0;
            let mut result = if is_forward { iter.seek_to_first(&calm()) } else { iter.seek_to_last(&calm()) };
            while let Ok(valid) = result {
                assert!(valid, "the end, without the error at {broken}");
                seen += 1;
                result = if is_forward { iter.next(&calm()) } else { iter.prev(&calm()) };
            }
            // Backward, an entry is known to be the newest only once the one before it was read.
            let good = if is_forward { broken } else { (keys.len() - 1 - broken).saturating_sub(1) };
            assert_eq!(seen, good, "broken at {broken}");
            assert!(!iter.valid());
            for again in [
                iter.status().map(|()| true),
                iter.next(&calm()),
                iter.prev(&calm()),
                iter.seek(b"a", &calm()),
                iter.seek_for_prev(b"z", &calm()),
                iter.seek_to_first(&calm()),
                iter.seek_to_last(&calm()),
            ] {
                assert_eq!(again.expect_err("latched").kind(), ErrorKind::Corruption);
            }
        }
    }
}

#[test]
fn a_malformed_internal_key_is_corruption_and_not_an_entry() {
    let bad_kind = (internal_key(b"b", SequenceNumber(1), 0x66), Vec::new());
    let mut iter = over(vec![put("a", 1), bad_kind], 9);
    assert!(iter.seek_to_first(&calm()).expect("a is fine"));
    assert_eq!(iter.next(&calm()).expect_err("no such kind").kind(), ErrorKind::Corruption);
}

#[test]
fn what_is_within_two_bounds_is_within_each() {
    let key = |bound: &str| bound.as_bytes().to_vec();
    let bounds = [
        Bound::Unbounded,
        Bound::Included(key("b")),
        Bound::Excluded(key("b")),
        Bound::Included(key("c")),
        Bound::Excluded(key("c")),
    ];
    for order in [KeyOrder::Bytewise, KeyOrder::ReverseBytewise] {
        for (a, b) in bounds.iter().flat_map(|a| bounds.iter().map(move |b| (a.clone(), b.clone()))) {
            let a = Bounds { lower: a.clone(), upper: a };
            let b = Bounds { lower: b.clone(), upper: b };
            let both = a.clone().within(&order, &b);
            for probe in ["a", "b", "bb", "c", "d"].map(str::as_bytes) {
                assert_eq!(both.is_below(&order, probe), a.is_below(&order, probe) || b.is_below(&order, probe));
                assert_eq!(both.is_above(&order, probe), a.is_above(&order, probe) || b.is_above(&order, probe));
            }
        }
    }
}

#[test]
fn stepping_off_an_end_leaves_nowhere_until_the_next_seek() {
    let mut iter = over(vec![put("a", 1), put("b", 1)], 9);
    assert!(!iter.next(&calm()).expect("nowhere yet") && !iter.valid());
    assert!(iter.seek_to_last(&calm()).expect("b"));
    assert!(!iter.next(&calm()).expect("off the end"));
    assert!(!iter.prev(&calm()).expect("still off"));
    assert!(iter.seek(b"a", &calm()).expect("a"));
    assert!(!iter.prev(&calm()).expect("off the front"));
    assert!(!iter.next(&calm()).expect("still off"));
    assert!(iter.seek_for_prev(b"zz", &calm()).expect("b") && iter.key() == b"b");
}

#[test]
#[should_panic(expected = "valid()")]
fn the_key_of_nowhere_is_a_bug_of_the_caller() {
    over(vec![put("a", 1)], 9).key();
}

/// Sorts by length, then bytes, and takes upper and lower case for the same.
struct LengthFirst;

impl Comparator for LengthFirst {
    fn name(&self) -> &str {
        "length-first"
    }
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        a.len().cmp(&b.len()).then_with(|| a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()))
    }
}

#[test]
fn a_walk_over_plain_values_pulses_once_in_a_period_and_ends_when_it_is_asked_to_leave() {
    let entries: Vec<_> = (0..2000).map(|number| put(&format!("{number:04}"), 1)).collect();
    let mut iter = over(entries, 9);
    // The first is that of the seek.
    let watch = Calm(AtomicU32::new(4));
    assert!(iter.seek_to_first(&watch).expect("seeks"));
    let steps = (0..2000).take_while(|_| iter.next(&watch).is_ok()).count();
    assert_eq!(iter.status().expect_err("asked to leave").kind(), ErrorKind::PinEvicted);
    let period = PULSE_PERIOD as usize;
    assert!((3 * period..=4 * period).contains(&steps), "{steps}");
}

#[test]
fn keys_that_a_comparator_calls_equal_are_versions_of_one_key() {
    let order = KeyOrder::Custom(Arc::new(LengthFirst));
    let entries = vec![put("bb", 1), put("BB", 2), put("a", 1), put("ccc", 3)];
    let make = || {
        VisibleIter::new(
            order.clone(),
            listed(vec![VecRun::new(&order, entries.clone())]),
            SequenceNumber(9),
            Bounds::ALL,
        )
    };
    assert_eq!(forward(&mut make()), ["a@1", "BB@2", "ccc@3"]);
    assert_eq!(backward(&mut make()), ["ccc@3", "BB@2", "a@1"]);
}

#[derive(Debug, Clone)]
enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xFF]), 0..4)
}

fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), any_key().prop_map(Bound::Included), any_key().prop_map(Bound::Excluded)]
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        2 => any_key().prop_map(Move::Seek),
        2 => any_key().prop_map(Move::SeekForPrev),
        6 => Just(Move::Next),
        6 => Just(Move::Prev),
    ]
}

fn any_order() -> impl Strategy<Value = KeyOrder> {
    prop_oneof![
        Just(KeyOrder::Bytewise),
        Just(KeyOrder::ReverseBytewise),
        Just(KeyOrder::Custom(Arc::new(LengthFirst) as Arc<dyn Comparator>))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 600 }))]

    #[test]
    fn every_move_lands_where_a_map_of_versions_says(
        order in any_order(),
        writes in prop::collection::vec((any_key(), 0u8..4), 0..60),
        repeated in 0usize..30,
        runs in 1usize..5,
        sequence in 0u64..90,
        bounds in (any_bound(), any_bound()),
        moves in prop::collection::vec(any_move(), 1..60),
    ) {
        // One key is written over and over, so that the limit on skipping is met.
        let mut writes = writes;
        if let Some(first) = writes.first().cloned() {
            writes.extend(std::iter::repeat_n(first, repeated));
        }
        let mut tables = vec![Vec::new(); runs];
        let mut model: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
        for (i, (key, what)) in writes.iter().enumerate() {
            let number = i as u64 + 1;
            let (kind, value) = match what {
                0 => (ValueKind::Deletion, Vec::new()),
                1 if order.is_bytewise() => (ValueKind::SingleDeletion, Vec::new()),
                _ => (ValueKind::Value, format!("{i:0width$}", width = i % 50).into_bytes()),
            };
            tables[i % runs].push((internal_key(key, SequenceNumber(number), kind as u8), value.clone()));
            if number <= sequence {
                model.insert(key.clone(), (kind == ValueKind::Value).then_some(value));
            }
        }
        let bounds = Bounds { lower: bounds.0, upper: bounds.1 };
        let mut expected: Vec<(Vec<u8>, Vec<u8>)> = model
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .filter(|(key, _)| !bounds.is_below(&order, key) && !bounds.is_above(&order, key))
            .collect();
        expected.sort_by(|a, b| order.compare(&a.0, &b.0));
        let sources = tables.into_iter().map(|entries| VecRun::new(&order, entries)).collect();
        let mut iter = VisibleIter::new(order.clone(), listed(sources), SequenceNumber(sequence), bounds);
        let mut at: Option<usize> = None;
        for step in &moves {
            let watch = calm();
            let valid = match step {
                Move::First => { at = Some(0); iter.seek_to_first(&watch) }
                Move::Last => { at = expected.len().checked_sub(1); iter.seek_to_last(&watch) }
                Move::Seek(key) => {
                    at = Some(expected.partition_point(|e| order.compare(&e.0, key).is_lt()));
                    iter.seek(key, &watch)
                }
                Move::SeekForPrev(key) => {
                    at = expected.partition_point(|e| order.compare(&e.0, key).is_le()).checked_sub(1);
                    iter.seek_for_prev(key, &watch)
                }
                Move::Next => { at = at.map(|at| at + 1); iter.next(&watch) }
                Move::Prev => { at = at.and_then(|at| at.checked_sub(1)); iter.prev(&watch) }
            }.expect("nothing fails");
            at = at.filter(|at| *at < expected.len());
            prop_assert_eq!(valid, at.is_some(), "{:?}", step);
            prop_assert_eq!(valid, iter.valid());
            if let Some(at) = at {
                prop_assert_eq!(iter.key(), &expected[at].0, "{:?}", step);
                prop_assert_eq!(iter.value(), &expected[at].1);
                prop_assert_eq!(iter.value_slice(), iter.value());
            }
        }
    }
}
