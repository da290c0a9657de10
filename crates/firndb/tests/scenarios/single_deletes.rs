//! Single deletions that keep their contract do what deletions do: every history of up to four steps, and of six where a key
//! is put and deleted singly by turns.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use firndb::{BackgroundMode, Db, FamilyOptions, MemoryFs, MergeRule, Options, ReadOptions, Snapshot, WriteBatch};

/// What happens to one key, or to its neighbour, in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Put,
    SingleDelete,
    Delete,
    Merge,
    PutNeighbour,
}

const OPS: [Op; 5] = [Op::Put, Op::SingleDelete, Op::Delete, Op::Merge, Op::PutNeighbour];

/// What happens to the whole database in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Write,
    Snapshot,
    Flush,
    Compact,
}

const STEP: [Step; 4] = [Step::Write, Step::Snapshot, Step::Flush, Step::Compact];

/// All sequences of `len` of these.
fn sequences<T: Copy>(of: &[T], len: usize) -> Vec<Vec<T>> {
    (0..len).fold(vec![Vec::new()], |all, _| {
        all.iter().flat_map(|begin| of.iter().map(|next| [begin.clone(), vec![*next]].concat())).collect()
    })
}

/// A single deletion finds exactly one put since the key was last deleted, and no operand.
fn keeps_the_contract(ops: &[Op]) -> bool {
    let (mut puts, mut merges) = (0, 0);
    ops.iter().all(|op| {
        let is_kept = *op != Op::SingleDelete || (puts, merges) == (1, 0);
        match op {
            Op::Put => puts += 1,
            Op::Merge => merges += 1,
            Op::SingleDelete | Op::Delete => (puts, merges) = (0, 0),
            Op::PutNeighbour => {}
        }
        is_kept
    })
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// The key of a history, and the one behind it.
fn keys(history: usize) -> (Vec<u8>, Vec<u8>) {
    (format!("{history:04}k").into_bytes(), format!("{history:04}n").into_bytes())
}

fn check(label: &str, db: &Db, expected: &Map, snapshots: &[(Snapshot, Map)]) {
    let views = snapshots.iter().map(|(snapshot, map)| (Some(snapshot.clone()), map)).chain([(None, expected)]);
    for (snapshot, map) in views {
        let read = ReadOptions { snapshot, ..ReadOptions::default() };
        let family = db.default_column_family();
        let entries =
            || family.range_with::<&[u8]>(.., read.clone()).expect("opens").map(|entry| entry.expect("sound"));
        let found: Vec<_> = entries().map(|(key, value)| (key.into_vec(), value.into_vec())).collect();
        assert_eq!(found, map.clone().into_iter().collect::<Vec<_>>(), "{label}");
        let back =
            family.range_with::<&[u8]>(.., read.clone()).expect("opens").rev().map(|entry| entry.expect("sound"));
        assert_eq!(back.count(), found.len(), "{label}");
    }
}

#[test]
fn single_deletions_that_keep_their_contract_hide_what_deletions_hide() {
    let tried = try_all(4, &OPS, &STEP);
    assert!(tried > 1000, "{tried} histories");
}

/// Longer ones, so that puts and their single deletions meet in memtables, in level 0 and at the bottom.
#[test]
fn puts_and_single_deletions_by_turns_meet_their_own() {
    let tried = try_all(6, &[Op::Put, Op::SingleDelete], &[Step::Write, Step::Flush, Step::Compact]);
    assert!(tried > 1000, "{tried} histories");
}

/// Every history of so many steps; how many there were.
fn try_all(len: usize, ops: &[Op], steps: &[Step]) -> usize {
    let mut tried = 0;
    for (number, schedule) in sequences(steps, len).into_iter().enumerate() {
        let writes = schedule.iter().filter(|step| **step == Step::Write).count();
        let histories: Vec<Vec<Op>> =
            sequences(ops, writes).into_iter().filter(|ops| keeps_the_contract(ops)).collect();
        tried += histories.len();
        let options = Options {
            create_if_missing: true,
            fs: Arc::new(MemoryFs::new()),
            background: BackgroundMode::Manual,
            family: FamilyOptions {
                merge_operator: Some(MergeRule::StringAppend { delimiter: b",".to_vec() }),
                ..FamilyOptions::default()
            },
            ..Options::default()
        };
        let db = Db::open_with(Path::new("/db"), options).expect("opens");
        let family = db.default_column_family();
        let (mut map, mut snapshots, mut written) = (Map::new(), Vec::new(), 0);
        for step in &schedule {
            match step {
                Step::Write => {
                    let mut batch = WriteBatch::new();
                    for (history, ops) in histories.iter().enumerate() {
                        let (key, neighbour) = keys(history);
                        let value = [b'0' + written as u8];
                        match ops[written] {
                            Op::Put => {
                                batch.put(&key, value);
                                map.insert(key, value.to_vec());
                            }
                            Op::PutNeighbour => {
                                batch.put(&neighbour, value);
                                map.insert(neighbour, value.to_vec());
                            }
                            Op::SingleDelete => {
                                batch.single_delete_cf(family, &key);
                                map.remove(&key);
                            }
                            Op::Delete => {
                                batch.delete(&key);
                                map.remove(&key);
                            }
                            Op::Merge => {
                                batch.merge(&key, value);
                                let before = map.get(&key).map(|before| [before, &b","[..]].concat());
                                map.insert(key, [before.unwrap_or_default(), value.to_vec()].concat());
                            }
                        }
                    }
                    written += 1;
                    db.write(&mut batch).expect("memory");
                }
                Step::Snapshot => snapshots.push((db.snapshot(), map.clone())),
                Step::Flush => db.flush().expect("memory"),
                Step::Compact => {
                    db.flush().expect("memory");
                    db.compact_range::<&[u8]>(..).expect("memory");
                }
            }
            check(&format!("schedule {number}: {schedule:?}"), &db, &map, &snapshots);
        }
        db.flush().expect("memory");
        db.compact_range::<&[u8]>(..).expect("memory");
        check(&format!("schedule {number} in the end: {schedule:?}"), &db, &map, &snapshots);
        snapshots.clear();
        db.compact_range::<&[u8]>(..).expect("memory");
        check(&format!("schedule {number} without snapshots: {schedule:?}"), &db, &map, &snapshots);
    }
    tried
}
