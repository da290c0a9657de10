//! Operands of RocksDB's own merge operators: both sides write, merge and read them in turns.

use std::path::Path;

use firndb::{Db, FamilyOptions, MergeRule, Options, WriteBatch};
use firndb_testkit::{Map, Random, State, from_environment};

use crate::rocks::{Release, assert_same_dump, drive, dump_text, files, word};

/// What either side can do to the default family.
enum Step {
    Put(Vec<u8>, Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
    Flush,
    Compact,
}

struct Turns<'a> {
    /// RocksDB's text for it, and ours.
    theirs: &'a str,
    rule: MergeRule,
    merged: fn(Option<&[u8]>, &[u8]) -> Vec<u8>,
    random: Random,
    map: Map,
}

impl Turns<'_> {
    fn operand(&mut self) -> Vec<u8> {
        match self.rule {
            MergeRule::UInt64Add => self.random.any().to_le_bytes().to_vec(),
            _ => {
                let length = self.random.below(9) as usize;
                self.random.bytes(length)
            }
        }
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        for _ in 0..300 {
            let key = |random: &mut Random| format!("key{:02}", random.below(40)).into_bytes();
            let (one, other) = (key(&mut self.random), key(&mut self.random));
            let step = match self.random.below(60) {
                0 => Step::Flush,
                1 => Step::Compact,
                2 if one <= other => Step::DeleteRange(one, other),
                3..8 => Step::Delete(one),
                8..20 => Step::Put(one, self.operand()),
                _ => Step::Merge(one, self.operand()),
            };
            match &step {
                Step::Put(key, value) => drop(self.map.insert(key.clone(), value.clone())),
                Step::Merge(key, operand) => {
                    let value = (self.merged)(self.map.get(key).map(Vec::as_slice), operand);
                    self.map.insert(key.clone(), value);
                }
                Step::Delete(key) => drop(self.map.remove(key)),
                Step::DeleteRange(begin, end) => self.map.retain(|key, _| key < begin || key >= end),
                Step::Flush | Step::Compact => {}
            }
            steps.push(step);
        }
        steps
    }

    fn rocks(&mut self, dir: &Path) {
        let before = dump_text(&State::from([("default".to_owned(), self.map.clone())]));
        let mut script = format!("open merge_operator={};write_buffer_size=20000;\ndump\n", self.theirs);
        for step in self.steps() {
            let line = match step {
                Step::Put(key, value) => format!("put default {} {}\n", word(&key), word(&value)),
                Step::Merge(key, operand) => format!("merge default {} {}\n", word(&key), word(&operand)),
                Step::Delete(key) => format!("delete default {}\n", word(&key)),
                Step::DeleteRange(begin, end) => format!("range default {} {}\n", word(&begin), word(&end)),
                Step::Flush => "flush default\n".to_owned(),
                Step::Compact => "compact default\n".to_owned(),
            };
            script.push_str(&line);
        }
        script.push_str("sync\nexit\n");
        assert_same_dump(self.theirs, &drive(Release::Seven, dir, &script), &before);
    }

    /// The operator is not said: OPTIONS names it.
    fn firn(&mut self, dir: &Path, is_new: bool) {
        let family = FamilyOptions {
            merge_operator: is_new.then(|| self.rule.clone()),
            write_buffer_size: 20_000,
            ..FamilyOptions::default()
        };
        let options = Options { create_if_missing: is_new, family, ..Options::default() };
        let db = Db::open_with(dir, options).expect("it opens");
        let found = |db: &Db| -> Map {
            let forward: Map = db.iter().expect("opens").map(|entry| entry.expect("reads")).map(owned).collect();
            let back: Map = db.iter().expect("opens").rev().map(|entry| entry.expect("reads")).map(owned).collect();
            assert_eq!(forward, back);
            for (key, value) in &forward {
                assert_eq!(db.get(key).expect("reads").as_deref(), Some(&value[..]));
            }
            forward
        };
        assert_eq!(found(&db), self.map, "{}", self.theirs);
        for step in self.steps() {
            let mut batch = WriteBatch::new();
            match step {
                Step::Put(key, value) => drop(batch.put(key, value)),
                Step::Merge(key, operand) => drop(batch.merge(key, operand)),
                Step::Delete(key) => drop(batch.delete(key)),
                Step::DeleteRange(begin, end) => drop(batch.delete_range(begin, end)),
                Step::Flush => db.flush().expect("flushed"),
                Step::Compact => db.compact_range::<&[u8]>(..).expect("compacted"),
            }
            db.write(&mut batch).expect("written");
        }
        assert_eq!(found(&db), self.map, "{}", self.theirs);
        db.close().expect("nothing is open");
    }
}

fn owned((key, value): (firndb::Slice, firndb::Slice)) -> (Vec<u8>, Vec<u8>) {
    (key.to_vec(), value.to_vec())
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_operands_of_built_in_operators_mean_the_same_to_both() {
    type Merged = fn(Option<&[u8]>, &[u8]) -> Vec<u8>;
    let cases: [(&str, MergeRule, Merged); 5] = [
        (
            "{id=StringAppendOperator;delimiter=|;}",
            MergeRule::StringAppend { delimiter: b"|".to_vec() },
            |base, more| base.map_or(more.to_vec(), |base| [base, b"|", more].concat()),
        ),
        ("UInt64AddOperator", MergeRule::UInt64Add, |base, more| {
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
            base.map_or(0, number).wrapping_add(number(more)).to_le_bytes().to_vec()
        }),
        ("PutOperator", MergeRule::Put, |_, more| more.to_vec()),
        ("MaxOperator", MergeRule::Max, |base, more| base.unwrap_or_default().max(more).to_vec()),
        ("BytesXOR", MergeRule::BytesXor, |base, more| {
            let base = base.unwrap_or_default();
            let byte = |bytes: &[u8], at: usize| bytes.get(at).copied().unwrap_or(0);
            (0..base.len().max(more.len())).map(|at| byte(base, at) ^ byte(more, at)).collect()
        }),
    ];
    for (theirs, rule, merged) in cases {
        for rocks_first in [true, false] {
            let temp = tempfile::tempdir().expect("a directory");
            let dir = temp.path().join("db");
            let random = Random::new(from_environment("FIRN_SEED").unwrap_or(1));
            let mut turns = Turns { theirs, rule: rule.clone(), merged, random, map: Map::new() };
            if !rocks_first {
                turns.firn(&dir, true);
            }
            for _ in 0..2 {
                turns.rocks(&dir);
                turns.firn(&dir, false);
            }
            turns.rocks(&dir);
            assert!(!files(&dir, ".sst").is_empty());
        }
    }
}
