//! What the random databases do not have: keys in reverse order, single deletions, files that were ingested.

use std::path::Path;

use firndb::{Db, Options, WriteBatch};
use firndb_testkit::hex;

use crate::firn::dump_of;
use crate::rocks::{Release, assert_same_dump, drive, ldb};

/// What this engine reads, without the lock and with it, is what RocksDB reads; and the database, opened.
fn open_and_compare(release: Release, dir: &Path, options: &str, entries_min: usize) -> Db {
    let theirs = drive(release, dir, &format!("open {options}\ndump\nexit\n"));
    let lines = theirs.lines().count();
    assert!(lines > entries_min, "{lines} lines are too little to compare");
    let ours = Db::open_read_only(dir, Options::default()).expect("opens read-only");
    assert_same_dump("read-only", &dump_of(&ours), &theirs);
    drop(ours);
    let ours = Db::open_with(dir, Options::default()).expect("opens");
    assert_same_dump("opened", &dump_of(&ours), &theirs);
    ours
}

fn puts(range: std::ops::Range<u32>, value: &str) -> String {
    let value = hex(value.as_bytes());
    range.map(|i| format!("put default {} {value}\n", hex(format!("key{i:04}").as_bytes()))).collect()
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_keys_in_reverse_order_are_read_and_written_as_rocksdb_does() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    let options = "comparator=rocksdb.ReverseBytewiseComparator;block_based_table_factory={block_size=200};";
    let (first, second) = (puts(0..300, "first"), puts(100..200, "second"));
    let script =
        format!("open {options}\nfamily two\n{first}flush default\n{second}put two 61 62\nput two 62 -\nexit\n");
    drive(Release::Seven, dir, &script);
    for round in 0..2 {
        let db = open_and_compare(Release::Seven, dir, options, 200);
        let keys: Vec<_> = db.iter().expect("an iterator").map(|entry| entry.expect("readable").0.to_vec()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] > pair[1]), "the greatest key is first");
        for i in (round * 50..300).step_by(7) {
            db.put(format!("key{i:04}"), "third").expect("written");
            db.delete(format!("key{:04}", i + 1)).expect("written");
        }
        if round == 0 {
            db.flush().expect("flushed");
            db.compact_range::<&[u8]>(..).expect("compacted");
        }
        let ours = dump_of(&db);
        db.close().expect("closed");
        let theirs = drive(Release::Seven, dir, &format!("open {options}\ndump\ncompact default\n{second}exit\n"));
        assert_same_dump("RocksDB", &theirs, &ours);
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_single_deletions_of_either_side_take_away_what_the_other_put() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path();
    let key = |i: u32| format!("key{i:04}").into_bytes();
    let singles = |range: std::ops::Range<u32>| -> String {
        range.map(|i| format!("single default {}\n", hex(&key(i)))).collect()
    };
    // Some lie in another table than what they delete, some in the same log.
    let script = format!(
        "open \n{}flush default\n{}flush default\n{}exit\n",
        puts(0..100, "a"),
        singles(0..10),
        singles(10..20)
    );
    drive(Release::Seven, dir, &script);
    let db = open_and_compare(Release::Seven, dir, "", 80);
    let mut batch = WriteBatch::new();
    for i in 20..30 {
        batch.single_delete_cf(db.default_column_family(), key(i));
    }
    db.write(&mut batch).expect("written");
    db.flush().expect("flushed");
    let mut batch = WriteBatch::new();
    for i in 30..40 {
        batch.single_delete_cf(db.default_column_family(), key(i));
        batch.put(key(i + 1000), "b");
    }
    db.write(&mut batch).expect("written");
    let ours = dump_of(&db);
    assert_eq!(ours.lines().count(), 1 + 60 + 10, "{ours}");
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_same_dump("after a compaction", &dump_of(&db), &ours);
    db.close().expect("closed");
    for then in ["compact default\n", &singles(1030..1035)] {
        assert_same_dump("RocksDB", &drive(Release::Seven, dir, &format!("open \ndump\n{then}exit\n")), &ours);
    }
    let db = open_and_compare(Release::Seven, dir, "", 60);
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(dump_of(&db).lines().count(), 1 + 60 + 5);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_files_that_either_ldb_ingested_hide_what_was_there_before_and_not_what_came_after() {
    for release in [Release::Seven, Release::Eleven] {
        let temp = tempfile::tempdir().expect("a directory");
        let (dir, file) = (temp.path().join("db"), temp.path().join("external.sst"));
        let say = |arguments: &[&str], input: &str| ldb(release, &dir, arguments, input);
        let lines = |range: std::ops::Range<u32>, value: &str| -> String {
            range.map(|i| format!("key{i:04} ==> {value}\n")).collect()
        };
        let file = file.display().to_string();
        say(&["--create_if_missing", "load"], &lines(0..200, "old"));
        say(&["write_extern_sst", &file], &lines(50..150, "ingested"));
        say(&["ingest_extern_sst", &file], "");
        say(&["load"], &lines(100..120, "new"));
        let db = open_and_compare(release, &dir, "", 200);
        for (key, value) in
            [(49, "old"), (50, "ingested"), (99, "ingested"), (100, "new"), (120, "ingested"), (150, "old")]
        {
            let found = db.get(format!("key{key:04}")).expect("readable");
            assert_eq!(found.as_deref(), Some(value.as_bytes()), "{release:?}: key {key}");
        }
        db.put("key0060", "ours").expect("written");
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        let ours = dump_of(&db);
        db.close().expect("closed");
        // Over what this engine wrote, again.
        assert_same_dump("RocksDB", &drive(release, &dir, "open \ndump\nexit\n"), &ours);
        say(&["write_extern_sst", &file], &lines(55..65, "again"));
        say(&["ingest_extern_sst", &file], "");
        let db = open_and_compare(release, &dir, "", 200);
        assert_eq!(db.get("key0060").expect("readable").as_deref(), Some(&b"again"[..]), "{release:?}");
    }
}
