//! Entities: columns go from hand to hand, in logs and tables, alone and under operands.

use std::collections::BTreeMap;
use std::path::Path;

use firndb::{BottommostLevelCompaction, CompactRangeOptions, Db, Options, ReadOptions};
use firndb_testkit::{Random, hex};

use crate::rocks::{Release, assert_same_dump, drive, files, ldb, word};

type Columns = Vec<(Vec<u8>, Vec<u8>)>;
type Model = BTreeMap<Vec<u8>, Columns>;

fn shown(columns: &Columns) -> String {
    let pairs: Vec<String> = columns.iter().map(|(name, value)| format!("{}:{}", hex(name), hex(value))).collect();
    if pairs.is_empty() { "-".to_owned() } else { pairs.join(",") }
}

fn dump(model: &Model) -> String {
    model.iter().map(|(key, columns)| format!("{} {}\n", word(key), shown(columns))).collect()
}

/// What a key is set to: sometimes a plain value, which is the default column alone, sometimes no column at all.
fn drawn(random: &mut Random) -> Columns {
    let value = |random: &mut Random| vec![random.below(256) as u8; random.below(40) as usize];
    if random.below(4) == 0 {
        return vec![(Vec::new(), value(random))];
    }
    let names = [&b""[..], b"\0", b"age", b"city", b"\xff\xff"];
    let mut columns = Columns::new();
    for name in names {
        if random.below(2) == 0 {
            columns.push((name.to_vec(), value(random)));
        }
    }
    columns
}

fn is_plain(columns: &Columns) -> bool {
    columns.len() == 1 && columns[0].0.is_empty()
}

fn key(random: &mut Random) -> Vec<u8> {
    format!("key{:03}", random.below(150)).into_bytes()
}

fn theirs(random: &mut Random, model: &mut Model) -> String {
    let mut script = String::new();
    for _ in 0..150 {
        let key = key(random);
        if random.below(5) == 0 {
            model.remove(&key);
            script.push_str(&format!("delete default {}\n", word(&key)));
            continue;
        }
        let columns = drawn(random);
        script.push_str(&match is_plain(&columns) {
            true => format!("put default {} {}\n", word(&key), word(&columns[0].1)),
            false => format!("wide default {} {}\n", word(&key), shown(&columns)),
        });
        model.insert(key, columns);
        if random.below(60) == 0 {
            script.push_str("flush default\n");
        }
    }
    script
}

fn ours(random: &mut Random, model: &mut Model, db: &Db) {
    for _ in 0..150 {
        let key = key(random);
        if random.below(5) == 0 {
            model.remove(&key);
            db.delete(&key).expect("written");
            continue;
        }
        let columns = drawn(random);
        match is_plain(&columns) {
            true => db.put(&key, &columns[0].1).expect("written"),
            // In any order.
            false => db.put_entity(&key, columns.iter().rev().map(|(n, v)| (n, v))).expect("written"),
        }
        model.insert(key, columns);
        if random.below(60) == 0 {
            db.flush().expect("flushed");
        }
    }
}

fn compare(db: &Db, model: &Model, what: &str) {
    let columns_of = |columns: &firndb::Columns| -> Columns {
        columns.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    };
    let mut cursor = db.cursor(ReadOptions::default()).expect("a cursor");
    for is_forward in [true, false] {
        let mut found = Model::new();
        let mut valid = if is_forward { cursor.seek_to_first() } else { cursor.seek_to_last() }.expect("readable");
        while valid {
            let columns = cursor.columns().expect("columns");
            assert_eq!(cursor.value(), columns.get("").unwrap_or_default(), "{what}");
            found.insert(cursor.key().to_vec(), columns_of(&columns));
            valid = if is_forward { cursor.next() } else { cursor.prev() }.expect("readable");
        }
        assert_same_dump(&format!("{what}, forward: {is_forward}"), &dump(&found), &dump(model));
    }
    for i in 0..150 {
        let key = format!("key{i:03}").into_bytes();
        let found = db.get_entity(&key).expect("readable");
        assert_eq!(found.as_ref().map(columns_of), model.get(&key).cloned(), "{what}: {}", word(&key));
        let value = found.as_ref().map(|columns| columns.get("").unwrap_or_default());
        assert_eq!(db.get(&key).expect("readable").as_deref(), value, "{what}: {}", word(&key));
        assert_eq!(db.multi_get(&[&key])[0].as_ref().expect("readable").as_deref(), value, "{what}: {}", word(&key));
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_columns_go_from_hand_to_hand_with_rocksdb_9_8() {
    for round in 0..4u64 {
        let (mut random, mut model) = (Random::new(round * 7 + 1), Model::new());
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        for turn in 0..3 {
            let what = format!("round {round}, turn {turn}");
            let compacts = if random.below(2) == 0 { "compact default\n" } else { "" };
            let script = theirs(&mut random, &mut model);
            let found = drive(Release::Nine, &dir, &format!("open \n{script}{compacts}entities\nsync\nexit\n"));
            assert_same_dump(&format!("{what}: what RocksDB says of itself"), &found, &dump(&model));
            let db = Db::open_with(&dir, Options { create_if_missing: true, ..Options::default() }).expect("opens");
            compare(&db, &model, &format!("{what}, theirs"));
            ours(&mut random, &mut model, &db);
            compare(&db, &model, &format!("{what}, ours"));
            if random.below(2) == 0 {
                let forced = CompactRangeOptions::new().bottommost_level_compaction(BottommostLevelCompaction::Force);
                db.default_column_family().compact_range_with::<&[u8]>(.., &forced).expect("compacted");
                compare(&db, &model, &format!("{what}, compacted"));
            }
            if random.below(2) == 0 {
                db.close().expect("closed");
            }
            drop(db);
            let found = drive(Release::Nine, &dir, "open \nentities\nexit\n");
            assert_same_dump(&format!("{what}: what RocksDB makes of ours"), &found, &dump(&model));
        }
        assert!(!files(&dir, ".sst").is_empty(), "some of it went through tables");
    }
}

/// Operands go into the default column and leave the others as they are.
#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_operands_over_an_entity_are_merged_as_by_rocksdb() {
    let make = |dir: &Path| {
        ldb(Release::Eleven, dir, &["--create_if_missing", "put", "first", "1"], "");
        crate::forms::change_options(dir, &[("merge_operator", "{id=StringAppendOperator;delimiter=,;}")]);
        let mut options = Options::default();
        options.family.merge_operator = Some(firndb::MergeRule::StringAppend { delimiter: b",".to_vec() });
        Db::open_with(dir, options).expect("opens")
    };
    for is_flushed_between in [false, true] {
        let temp = tempfile::tempdir().expect("a directory");
        let db = make(&temp.path().join("db"));
        db.put_entity("with", [("", "a"), ("city", "Oslo")]).expect("written");
        db.put_entity("without", [("city", "Oslo")]).expect("written");
        if is_flushed_between {
            db.flush().expect("flushed");
        }
        for key in ["with", "without", "none"] {
            db.merge(key, "b").expect("written");
            db.merge(key, "c").expect("written");
        }
        let check = |db: &Db, what: &str| {
            let entity = |key: &str| format!("{:?}", db.get_entity(key).expect("readable").expect("there"));
            assert_eq!(entity("with"), r#"{"": "a,b,c", "city": "Oslo"}"#, "{what}");
            assert_eq!(entity("without"), r#"{"": ",b,c", "city": "Oslo"}"#, "{what}");
            assert_eq!(entity("none"), r#"{"": "b,c"}"#, "{what}");
            assert_eq!(db.get("with").expect("readable").as_deref(), Some(&b"a,b,c"[..]), "{what}");
            let mut cursor = db.cursor(ReadOptions::default()).expect("a cursor");
            assert!(cursor.seek_to_last().expect("readable"));
            assert_eq!(format!("{:?}", cursor.columns().expect("columns")), entity("without"), "{what}, backward");
            assert!(cursor.prev().expect("readable"));
            assert_eq!(format!("{:?}", cursor.columns().expect("columns")), entity("with"), "{what}, backward");
        };
        check(&db, "as written");
        let rocks = |what: &str| {
            let dir = temp.path().join("db");
            let get = |key: &str| ldb(Release::Eleven, &dir, &["--try_load_options", "get_entity", key], "");
            let (with, without) = (get("with"), get("without"));
            assert!(with.contains("a,b,c") && with.contains("city:Oslo"), "{what}: {with}");
            assert!(without.contains(",b,c") && without.contains("city:Oslo"), "{what}: {without}");
        };
        drop(db);
        rocks("in the log or above a table");
        let db = make(&temp.path().join("db"));
        check(&db, "after RocksDB");
        db.compact_range::<&[u8]>(..).expect("compacted");
        check(&db, "compacted");
        drop(db);
        rocks("compacted by us");
    }
}
