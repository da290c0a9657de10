use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fixture::{Fixture, Write};
use super::get::get;
use super::multi_get::multi_get;
use super::options::ReadOptions;
use super::slice::Slice;
use super::view::{for_get, settled, table_options};
use crate::error::{ErrorKind, Result};
use crate::format::comparator::{Comparator, KeyOrder};
use crate::format::key::{SequenceNumber, ValueKind};
use crate::sync::Arc;

fn put(key: &str, value: &str) -> Write {
    (key.into(), ValueKind::Value, value.into())
}

fn delete(key: &str) -> Write {
    (key.into(), ValueKind::Deletion, Vec::new())
}

fn look_up(fixture: &Fixture, key: &[u8], sequence: u64) -> Result<Option<Slice>> {
    let options = table_options(&ReadOptions::default());
    get(fixture.layers(), |file| fixture.open(file), key, SequenceNumber(sequence), &options, &fixture.statistics)
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
fn many_keys_at_once_are_answered_in_the_order_of_the_question() {
    let mut writes: Vec<Write> = (0..24).map(|i| put(&format!("k{i:02}"), &format!("value {i}"))).collect();
    writes.extend([delete("k03"), put("k04", "newer")]);
    let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
    let keys = ["k20", "k03", "nothing", "k04", "", "k04", "k00", "k23"];
    let options = table_options(&ReadOptions::default());
    let statistics = &fixture.statistics;
    let found: Vec<_> =
        multi_get(fixture.layers(), |file| fixture.open(file), &keys, SequenceNumber(99), &options, statistics)
            .into_iter()
            .map(|answer| answer.expect("reads").map(|value| String::from_utf8_lossy(&value).into_owned()))
            .collect();
    let expected = ["value 20", "", "", "newer", "", "newer", "value 0", "value 23"];
    let expected: Vec<_> = expected.map(|value| (!value.is_empty()).then(|| value.to_owned())).into();
    assert_eq!(found, expected);
}

#[test]
fn a_lookup_refuses_what_it_cannot_resolve_and_reports_what_is_damaged() {
    // Long values, so that each entry has a block of its own.
    let writes: Vec<Write> = (0..64).map(|i| put(&format!("k{i:02}"), &format!("{i:02}").repeat(40))).collect();
    for place in 0..writes.len() {
        let mut writes = writes.clone();
        writes[place].1 = ValueKind::Merge;
        let error = look_up(&Fixture::new(&KeyOrder::Bytewise, &writes), &writes[place].0, 99).expect_err("a merge");
        assert_eq!(error.kind(), ErrorKind::NotSupported);
        assert!(error.to_string().contains("merge operand"), "{error}");
    }
    let paths = Fixture::new(&KeyOrder::Bytewise, &writes).fs.paths();
    for path in paths.into_iter().filter(|path| path.extension().is_some()) {
        let fixture = Fixture::new(&KeyOrder::Bytewise, &writes);
        fixture.fs.damage(&path, |bytes| bytes[20] ^= 1).expect("damages");
        let answers: Vec<_> = writes.iter().map(|write| look_up(&fixture, &write.0, 99)).collect();
        let errors: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert_eq!(errors.len(), 1, "one block is damaged in {}", path.display());
        assert_eq!(errors[0].corruption().and_then(|c| c.file.clone()), Some(path));
        assert!(answers.iter().flatten().all(|answer| answer.is_some()), "an error is not an absence");
    }
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

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What is visible at `sequence` in these writes.
fn model(writes: &[Write], sequence: u64) -> Model {
    let mut model = Model::new();
    for (key, kind, value) in writes.iter().take(sequence as usize) {
        match kind {
            ValueKind::Value => drop(model.insert(key.clone(), value.clone())),
            _ => drop(model.remove(key)),
        }
    }
    model
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn lookups_over_memtables_and_levels_agree_with_a_map(
        order in prop::sample::select(orders().to_vec()),
        history in prop::collection::vec((any_key(), 0u8..4), 0..80),
        sequence in 0u64..90,
        questions in prop::collection::vec(any_key(), 0..20),
    ) {
        let writes: Vec<Write> = history
            .into_iter()
            .enumerate()
            .map(|(i, (key, what))| match what {
                0 => (key, ValueKind::Deletion, Vec::new()),
                _ => (key, ValueKind::Value, format!("{i:0width$}", width = i).into_bytes()),
            })
            .collect();
        let fixture = Fixture::new(&order, &writes);
        let model = model(&writes, sequence);

        for key in &questions {
            let found = look_up(&fixture, key, sequence).expect("reads");
            prop_assert_eq!(found.map(Slice::into_vec), model.get(key).cloned());
        }
        let statistics = &fixture.statistics;
        let options = table_options(&ReadOptions::default());
        let found = multi_get(fixture.layers(), |file| fixture.open(file), &questions, SequenceNumber(sequence), &options, statistics);
        for (key, found) in questions.iter().zip(found) {
            prop_assert_eq!(found.expect("reads").map(Slice::into_vec), model.get(key).cloned());
        }
    }
}
