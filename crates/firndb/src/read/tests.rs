use std::collections::BTreeMap;
use std::ops::Bound;

use proptest::prelude::*;

use super::cursor::Cursor;
use super::fixture::{Fixture, Write};
use super::get::get;
use super::iter::Iter;
use super::multi_get::multi_get;
use super::options::ReadOptions;
use super::slice::Slice;
use super::view::{for_get, settled, table_options};
use crate::error::{ErrorKind, Result};
use crate::format::comparator::{Comparator, KeyOrder};
use crate::format::key::{SequenceNumber, ValueKind};
use crate::format::merge::MergeRule;
use crate::format::prefix::PrefixExtractor;
use crate::fs::Fs;
use crate::metrics::Ticker;
use crate::sync::Arc;

fn put(key: &str, value: &str) -> Write {
    (key.into(), ValueKind::Value, value.into())
}

fn delete(key: &str) -> Write {
    (key.into(), ValueKind::Deletion, Vec::new())
}

fn look_up(fixture: &Fixture, key: &[u8], sequence: u64) -> Result<Option<Slice>> {
    let options = table_options(&ReadOptions::default());
    get(fixture.layers(), &fixture.tables, key, SequenceNumber(sequence), &options, &fixture.statistics)
}

/// Bytewise order by another name, so that no shortcut for bytewise orders applies.
struct Plain;

impl Comparator for Plain {
    fn name(&self) -> &str {
        "plain"
    }
    fn compare(&self, a: &[u8], b: &[u8]) -> std::cmp::Ordering {
        a.cmp(b)
    }
}

fn orders() -> [KeyOrder; 3] {
    [KeyOrder::Bytewise, KeyOrder::ReverseBytewise, KeyOrder::Custom(Arc::new(Plain))]
}

#[test]
fn a_kind_that_cannot_be_resolved_is_refused_by_name_wherever_it_lies() {
    for place in 0..16 {
        let mut writes: Vec<Write> = (0..16).map(|i| put(&format!("k{i:02}"), "value")).collect();
        writes[place].1 = ValueKind::ValuePreferredSeqno;
        let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
        let error = look_up(&fixture, &writes[place].0, 99).expect_err("a timed put");
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("timed put"), "{error}");
        let view = || fixture.view(99, &ReadOptions::default());
        // A memtable refuses the entry; a table refuses to be opened.
        let is_in_memtable = place >= 10;
        for items in [
            Iter::range::<Vec<u8>>(view(), &..).collect::<Vec<_>>(),
            Iter::range::<Vec<u8>>(view(), &..).rev().collect::<Vec<_>>(),
        ] {
            let good = items.iter().take_while(|item| item.is_ok()).count();
            assert_eq!(items.len(), good + 1, "the entries before, then one error, then nothing");
            let is_forward = items.first().is_some_and(|item| item.as_ref().is_ok_and(|(key, _)| *key == *b"k00"));
            assert!(!is_in_memtable || good == if is_forward { place } else { 15 - place });
        }
    }
}

#[test]
fn both_ends_of_an_iterator_meet_and_nothing_is_yielded_twice() {
    let keys: Vec<String> = (0..10).map(|i| format!("k{i}")).collect();
    let writes: Vec<Write> = keys.iter().map(|key| put(key, key)).collect();
    let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
    for taken in 0..=keys.len() + 1 {
        let mut iter = Iter::range::<Vec<u8>>(fixture.view(99, &ReadOptions::default()), &..);
        let front: Vec<Slice> = iter.by_ref().take(taken).map(|item| item.expect("reads").0).collect();
        let mut all: Vec<Slice> = iter.by_ref().rev().map(|item| item.expect("reads").0).collect();
        all.extend(front);
        all.sort();
        assert_eq!(all.len(), keys.len(), "{taken} from the front");
        assert!(all.iter().zip(&keys).all(|(slice, key)| *slice == *key.as_bytes()));
        assert!(iter.next().is_none() && iter.next_back().is_none());
    }
}

#[test]
fn prefixes_end_where_they_end_even_at_the_last_byte() {
    let keys: [&[u8]; 7] = [b"a", b"a\xFE", b"a\xFF", b"a\xFF\xFF", b"b", b"\xFF", b"\xFF\xFF\x01"];
    let writes: Vec<Write> = keys.iter().map(|key| (key.to_vec(), ValueKind::Value, key.to_vec())).collect();
    for order in orders() {
        let fixture = Fixture::new(&order, &writes);
        for prefix in [&b""[..], b"a", b"a\xFF", b"\xFF", b"\xFF\xFF", b"c"] {
            let mut expected: Vec<&[u8]> = keys.iter().copied().filter(|key| key.starts_with(prefix)).collect();
            expected.sort_by(|a, b| order.compare(a, b));
            let make = || Iter::prefix(fixture.view(99, &ReadOptions::default()), prefix);
            let found: Vec<Slice> = make().map(|item| item.expect("reads").0).collect();
            assert_eq!(found, expected, "{order:?} {prefix:?}");
            let mut found: Vec<Slice> = make().rev().map(|item| item.expect("reads").0).collect();
            found.reverse();
            assert_eq!(found, expected, "{order:?} {prefix:?} backward");
        }
    }
}

#[test]
fn what_an_iterator_yields_outlives_it_and_its_view() {
    let writes: Vec<Write> = (0..32).map(|i| put(&format!("k{i:02}"), &"long ".repeat(i))).collect();
    let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
    let items: Vec<_> = Iter::range::<Vec<u8>>(fixture.view(99, &ReadOptions::default()), &..).collect();
    let values: Vec<_> = writes.iter().map(|write| look_up(&fixture, &write.0, 99)).collect();
    let statistics = Arc::clone(&fixture.statistics);
    drop(fixture);
    for ((item, value), (key, _, expected)) in items.into_iter().zip(values).zip(&writes) {
        assert_eq!(item.expect("reads"), (Slice::copied(key), Slice::copied(expected)));
        assert_eq!(value.expect("reads").expect("present"), *expected);
    }
    assert_eq!(statistics.ticker(Ticker::NumberKeysRead), 32);
    assert_eq!(statistics.ticker(Ticker::MemtableHit), 12);
    assert_eq!(statistics.ticker(Ticker::NumberDbNext), 32);
    assert_eq!(statistics.ticker(Ticker::NumberDbSeek), 1);
    assert_eq!(statistics.ticker(Ticker::NoIteratorDeleted), statistics.ticker(Ticker::NoIteratorCreated));
}

#[test]
fn many_keys_at_once_are_answered_in_the_order_of_the_question() {
    let mut writes: Vec<Write> = (0..24).map(|i| put(&format!("k{i:02}"), &format!("value {i}"))).collect();
    writes.extend([delete("k03"), put("k04", "newer")]);
    let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
    let keys = ["k20", "k03", "nothing", "k04", "", "k04", "k00", "k23"];
    let options = table_options(&ReadOptions::default());
    let Fixture { tables, statistics, .. } = &fixture;
    let found: Vec<_> = multi_get(fixture.layers(), tables, &keys, SequenceNumber(99), &options, statistics)
        .into_iter()
        .map(|answer| answer.expect("reads").map(|value| String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let expected = ["value 20", "", "", "newer", "", "newer", "value 0", "value 23"];
    let expected: Vec<_> = expected.map(|value| (!value.is_empty()).then(|| value.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn a_damaged_block_is_an_error_at_its_key_and_neither_an_end_nor_an_absence() {
    // Long values, so that each entry has a block of its own; all but the newest few are in tables.
    let writes: Vec<Write> = (0..64).map(|i| put(&format!("k{i:02}"), &format!("{i:02}").repeat(40))).collect();
    let intact = Fixture::new(&KeyOrder::Bytewise, &writes);
    let tables: Vec<_> = intact.fs.paths().into_iter().filter(|path| path.extension().is_some()).collect();
    assert!(tables.len() >= 8, "{tables:?}");
    for path in tables {
        let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
        // The first block of the file: it starts with an entry of its smallest key.
        fixture.fs.damage(&path, |bytes| bytes[20] ^= 1).expect("damages");
        let broken: Vec<usize> = (0..writes.len()).filter(|i| look_up(&fixture, &writes[*i].0, 99).is_err()).collect();
        let [broken] = broken[..] else { panic!("{}: one block is damaged, {broken:?}", path.display()) };
        let error = look_up(&fixture, &writes[broken].0, 99).expect_err("damaged");
        assert_eq!(error.corruption().and_then(|c| c.file.clone()).as_deref(), Some(path.as_path()));

        let view = || fixture.view(99, &ReadOptions::default());
        let items: Vec<_> = Iter::range::<Vec<u8>>(view(), &..).collect();
        let error = items.last().expect("an error at least").as_ref().expect_err("at the end");
        assert_eq!(error.kind(), ErrorKind::Corruption);
        let good = items.iter().filter(|item| item.is_ok()).count();
        assert_eq!(items.len(), good + 1, "one error, and nothing after it");
        assert!(good <= broken, "an entry at or behind the damaged one, of {}", path.display());
        let items: Vec<_> = Iter::range::<Vec<u8>>(view(), &..).rev().collect();
        assert!(items.last().expect("an error at least").is_err());
        assert!(items.len() <= writes.len() - broken, "an entry at or before the damaged one");

        let mut cursor = Cursor::new(view()).expect("opens");
        assert!(cursor.seek(&writes[broken].0).is_err());
        assert!(cursor.seek(b"k99").is_err() && cursor.next().is_err() && cursor.status().is_err() && !cursor.valid());
    }
}

#[test]
fn t8_a_cursor_that_cannot_be_made_lets_its_view_go() {
    let writes: Vec<Write> = (0..16).map(|i| put(&format!("k{i:02}"), "value")).collect();
    let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
    for path in fixture.fs.paths().into_iter().filter(|path| path.extension().is_some()) {
        fixture.fs.remove_file(&path).expect("removes");
    }
    assert!(Cursor::new(fixture.view(99, &ReadOptions::default())).is_err());
    let mut iter = Iter::range::<Vec<u8>>(fixture.view(99, &ReadOptions::default()), &..);
    assert!(iter.next().expect("not a silent end").is_err());
    assert!(iter.next().is_none() && iter.next_back().is_none());
    drop(iter);
    assert_eq!(Arc::strong_count(&fixture.version), 1);
    assert_eq!(fixture.statistics.ticker(Ticker::NoIteratorDeleted), 2);
}

/// T1 of the scenarios: a flush and a compaction between the two halves of acquiring a view.
mod acquiring {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// The published state as a reader sees it: what each view holds, and the newest sequence number.
    struct Engine {
        current: RefCell<Arc<(u64, Fixture)>>,
        visible: Cell<u64>,
    }

    impl Engine {
        fn new() -> Engine {
            let first = Fixture::new(&KeyOrder::Bytewise, &[put("k", "old")]);
            Engine { current: RefCell::new(Arc::new((1, first))), visible: Cell::new(1) }
        }

        /// Overwrites `k`, flushes, compacts the old version away, and writes more into the new memtable.
        fn overwrite_flush_and_compact(&self) {
            let number = self.current.borrow().0 + 1;
            // The old version is nowhere: sequence number 1 holds another key.
            let writes = [put("other", ""), put("k", "new"), put("later", "in the new memtable")];
            *self.current.borrow_mut() = Arc::new((number, Fixture::new(&KeyOrder::Bytewise, &writes)));
            self.visible.set(3);
        }

        fn read(&self, key: &[u8], view: &Fixture, sequence: SequenceNumber) -> Option<Slice> {
            look_up(view, key, sequence.0).expect("reads")
        }
    }

    #[test]
    fn t1_a_get_finds_the_key_whatever_is_compacted_between_its_two_loads() {
        for before in [false, true] {
            let engine = Engine::new();
            let (view, sequence) = for_get(
                || {
                    let view = Arc::clone(&engine.current.borrow());
                    if before {
                        engine.overwrite_flush_and_compact();
                    }
                    view
                },
                || {
                    if !before {
                        engine.overwrite_flush_and_compact();
                    }
                    SequenceNumber(engine.visible.get())
                },
            );
            assert!(engine.read(b"k", &view.1, sequence).is_some(), "neither the old value nor the new one");
        }
        // The control: the other order loses the key.
        let engine = Engine::new();
        let sequence = SequenceNumber(engine.visible.get());
        engine.overwrite_flush_and_compact();
        let view = Arc::clone(&engine.current.borrow());
        assert!(engine.read(b"k", &view.1, sequence).is_none());
    }

    #[test]
    fn t1_an_iterator_holds_every_write_up_to_its_sequence_number() {
        let (engine, rounds) = (Engine::new(), Cell::new(0));
        let (view, sequence) = settled(
            || Arc::clone(&engine.current.borrow()),
            || {
                rounds.set(rounds.get() + 1);
                if rounds.get() == 1 {
                    engine.overwrite_flush_and_compact();
                }
                SequenceNumber(engine.visible.get())
            },
            |taken| taken.0 == engine.current.borrow().0,
        );
        assert_eq!(rounds.get(), 2, "the switch was noticed");
        assert_eq!(sequence, SequenceNumber(3));
        assert_eq!(engine.read(b"k", &view.1, sequence).expect("there"), b"new");
        assert!(engine.read(b"later", &view.1, sequence).is_some());
    }
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![0u8, b'a', b'b', 0xFF]), 0..4)
}

fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![Just(Bound::Unbounded), any_key().prop_map(Bound::Included), any_key().prop_map(Bound::Excluded)]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is visible at `sequence` in these writes.
fn model(order: &KeyOrder, writes: &[Write], sequence: u64) -> Model {
    let mut model = Model::new();
    for (key, kind, value) in writes.iter().take(sequence as usize) {
        match kind {
            ValueKind::Value => drop(model.insert(key.clone(), value.clone())),
            ValueKind::Merge => {
                let before = model.get(key).map_or(Vec::new(), |before| [before, &b","[..]].concat());
                model.insert(key.clone(), [before, value.clone()].concat());
            }
            ValueKind::RangeDeletion => {
                model.retain(|k, _| order.compare(k, key).is_lt() || order.compare(k, value).is_ge());
            }
            _ => drop(model.remove(key)),
        }
    }
    model
}

fn in_range(order: &KeyOrder, key: &[u8], range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> bool {
    let after = match &range.0 {
        Bound::Unbounded => true,
        Bound::Included(bound) => order.compare(key, bound).is_ge(),
        Bound::Excluded(bound) => order.compare(key, bound).is_gt(),
    };
    let before = match &range.1 {
        Bound::Unbounded => true,
        Bound::Included(bound) => order.compare(key, bound).is_le(),
        Bound::Excluded(bound) => order.compare(key, bound).is_lt(),
    };
    after && before
}

const PREFIXES: [PrefixExtractor; 5] = [
    PrefixExtractor::Fixed(1),
    PrefixExtractor::Fixed(2),
    PrefixExtractor::Capped(1),
    PrefixExtractor::Capped(2),
    PrefixExtractor::Noop,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn reads_over_memtables_and_levels_agree_with_a_map(
        order in prop::sample::select(orders().to_vec()),
        history in prop::collection::vec((any_key(), 0u8..12, any_key()), 0..80),
        (has_ranges, has_operands) in any::<(bool, bool)>(),
        sequence in 0u64..90,
        questions in prop::collection::vec(any_key(), 0..20),
        range in (any_bound(), any_bound()),
        options_bounds in (prop::option::of(any_key()), prop::option::of(any_key())),
        ends in prop::collection::vec(any::<bool>(), 0..60),
        seeks in prop::collection::vec((any_key(), 0u8..6, prop::collection::vec(any::<bool>(), 0..8)), 0..8),
        prefixes in prop::option::of(prop::sample::select(PREFIXES.to_vec())),
    ) {
        let writes: Vec<Write> = history
            .into_iter()
            .enumerate()
            .map(|(i, (key, what, end))| match what {
                0 if has_ranges => (key, ValueKind::RangeDeletion, end),
                3..6 if has_operands => (key, ValueKind::Merge, i.to_string().into_bytes()),
                0..3 => (key, ValueKind::Deletion, Vec::new()),
                _ => (key, ValueKind::Value, format!("{i:0width$}", width = i).into_bytes()),
            })
            .collect();
        let mut fixture = Fixture::new(&order, &writes);
        fixture.merge = Some(Arc::new(MergeRule::StringAppend { delimiter: b",".to_vec() }));
        let model = model(&order, &writes, sequence);

        for key in &questions {
            let found = look_up(&fixture, key, sequence).expect("reads");
            prop_assert_eq!(found.map(Slice::into_vec), model.get(key).cloned());
        }
        let Fixture { tables, statistics, .. } = &fixture;
        let options = table_options(&ReadOptions::default());
        let found = multi_get(fixture.layers(), tables, &questions, SequenceNumber(sequence), &options, statistics);
        for (key, found) in questions.iter().zip(found) {
            prop_assert_eq!(found.expect("reads").map(Slice::into_vec), model.get(key).cloned());
        }

        let (lower_bound, upper_bound) = options_bounds;
        let limits = (
            lower_bound.clone().map_or(Bound::Unbounded, Bound::Included),
            upper_bound.clone().map_or(Bound::Unbounded, Bound::Excluded),
        );
        let options = ReadOptions { lower_bound, upper_bound, ..ReadOptions::default() };
        let mut entries: Vec<(&Vec<u8>, &Vec<u8>)> =
            model.iter().filter(|(key, _)| in_range(&order, key, &limits)).collect();
        entries.sort_by(|a, b| order.compare(a.0, b.0));

        // The iterator, from both ends as the coin falls, and on after it is done.
        let mut expected = entries.iter().filter(|(key, _)| in_range(&order, key, &range));
        let mut iter = Iter::range(fixture.view(sequence, &options), &range);
        for is_front in ends.iter().copied().chain([true, false].repeat(3)) {
            let (found, expected) = match is_front {
                true => (iter.next(), expected.next()),
                false => (iter.next_back(), expected.next_back()),
            };
            let found = found.transpose().expect("reads").map(|(key, value)| (key.into_vec(), value.into_vec()));
            prop_assert_eq!(found, expected.map(|(key, value)| ((*key).clone(), (*value).clone())));
        }

        // The cursor: seeks, each followed by a walk, among the keys with one prefix if so asked.
        let mut view = fixture.view(sequence, &options);
        let prefixes = prefixes.filter(|_| !matches!(order, KeyOrder::Custom(_)));
        prefixes.into_iter().for_each(|prefixes| view.keep_prefixes(prefixes));
        let mut cursor = Cursor::new(view).expect("opens");
        for (key, kind, walk) in &seeks {
            let key = match kind {
                0 => entries.first().map(|entry| entry.0),
                1 => entries.last().map(|entry| entry.0),
                _ => Some(key),
            };
            let prefix = key.and_then(|key| prefixes?.prefix(key));
            let has_it = |key: &[u8]| prefix.is_none() || prefixes.and_then(|prefixes| prefixes.prefix(key)) == prefix;
            let entries: Vec<_> = entries.iter().filter(|entry| has_it(entry.0)).collect();
            let mut at = match (key, kind) {
                (Some(key), 1 | 4..) => {
                    entries.partition_point(|entry| order.compare(entry.0, key).is_le()).checked_sub(1)
                }
                (Some(key), _) => Some(entries.partition_point(|entry| order.compare(entry.0, key).is_lt())),
                (None, _) => None,
            };
            let mut valid = match (kind, key) {
                (0, _) => cursor.seek_to_first(),
                (1, _) => cursor.seek_to_last(),
                (4.., Some(key)) => cursor.seek_for_prev(key),
                (_, key) => cursor.seek(key.expect("given")),
            }
            .expect("reads");
            let mut steps = walk.iter();
            loop {
                at = at.filter(|at| *at < entries.len());
                prop_assert_eq!(valid, at.is_some());
                if let Some(at) = at {
                    prop_assert_eq!((cursor.key(), cursor.value()), (entries[at].0.as_slice(), entries[at].1.as_slice()));
                }
                let Some(is_forward) = steps.next() else { break };
                valid = if *is_forward { cursor.next() } else { cursor.prev() }.expect("reads");
                at = if *is_forward { at.map(|at| at + 1) } else { at.and_then(|at| at.checked_sub(1)) };
            }
        }
    }
}
