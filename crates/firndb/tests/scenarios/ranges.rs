//! Ranges that are deleted as one: who still sees them, what a walk over them costs, and that their space comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use firndb::{Db, ErrorKind, FsOp, ReadOptions, Ticker, WriteBatch};

use crate::lab::{Lab, Map, all, collect, contents, fill, settle};

/// Entries of 2,000 keys at the bottom, and a few behind them.
fn deep(lab: &Lab) -> (Db, Map) {
    let db = lab.open();
    let filled = fill(&db, 2000, "deep");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    (db, filled)
}

fn without(map: &Map, begin: &str, end: &str) -> Map {
    let mut left = map.clone();
    left.retain(|key, _| key.as_slice() < begin.as_bytes() || key.as_slice() >= end.as_bytes());
    left
}

fn reads(db: &Db) -> u64 {
    db.ticker(Ticker::BlockCacheHit) + db.ticker(Ticker::BlockCacheMiss)
}

#[test]
fn a_range_is_gone_for_whoever_comes_later_and_there_for_whoever_came_before() {
    let lab = Lab::new();
    let (db, before) = deep(&lab);
    let snapshot = db.snapshot();
    let mut walk = db.iter().expect("it opens");
    assert!(walk.next().is_some());
    db.delete_range("key0100", "key1900").expect("deleted");
    let after = without(&before, "key0100", "key1900");
    for step in ["in the memtable", "in level 0", "at the bottom"] {
        assert_eq!(all(&db), after, "{step}");
        let options = || ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
        let then = db.default_column_family().range_with::<&[u8]>(.., options()).expect("it opens");
        assert_eq!(collect(then), before, "{step}");
        for (key, value) in [("key0099", true), ("key0100", false), ("key1899", false), ("key1900", true)] {
            assert_eq!(db.get(key).expect("reads").is_some(), value, "{step}: {key}");
            assert_eq!(db.multi_get(&[key])[0].as_ref().expect("reads").is_some(), value, "{step}: {key}");
            assert!(db.default_column_family().get_with(key, &options()).expect("reads").is_some(), "{step}: {key}");
        }
        match step {
            "in the memtable" => db.flush().expect("flushed"),
            _ => db.compact_range::<&[u8]>(..).expect("compacted"),
        }
    }
    assert_eq!(walk.count(), before.len() - 1, "a walk that began before goes on");
    drop(snapshot);
    settle(&db);
    db.close().expect("nothing is open");
    lab.verify();
    assert_eq!(all(&lab.open()), after);
}

#[test]
fn a_walk_over_a_deleted_range_reads_nothing_of_it_in_either_direction() {
    let lab = Lab::new();
    let (db, before) = deep(&lab);
    let whole = reads(&db);
    assert_eq!(db.iter().expect("it opens").count(), before.len());
    let whole = reads(&db) - whole;
    db.delete_range("key0100", "key1900").expect("deleted");
    for is_flushed in [false, true] {
        if is_flushed {
            db.flush().expect("flushed");
        }
        let begin = reads(&db);
        assert_eq!(db.iter().expect("it opens").count(), 200);
        let forward = reads(&db) - begin;
        assert_eq!(db.iter().expect("it opens").rev().count(), 200);
        let back = reads(&db) - begin - forward;
        assert!(forward < whole / 5 && back < whole / 5, "{forward} and {back} blocks instead of {whole}");
    }
}

#[test]
fn deleting_a_range_costs_one_write_and_the_space_comes_back_by_itself() {
    for is_whole in [true, false] {
        let lab = Lab::new();
        let (db, before) = deep(&lab);
        let (bytes, sequence) = (lab.bytes_of_tables(), db.latest_sequence());
        let log = db.stats().wal_bytes;
        db.delete_range(if is_whole { "" } else { "key0500" }, "key9").expect("deleted");
        assert_eq!(db.latest_sequence().0, sequence.0 + 1);
        assert!(db.stats().wal_bytes - log < 100);
        db.flush().expect("flushed");
        settle(&db);
        match is_whole {
            true => assert_eq!(lab.tables().len(), 0, "{:?}", db.stats().families[0].levels),
            false => assert!(lab.bytes_of_tables() < bytes / 3, "{} of {bytes}", lab.bytes_of_tables()),
        }
        assert_eq!(all(&db), without(&before, if is_whole { "" } else { "key0500" }, "key9"));
        assert!(!db.run_background_step(), "nothing is left to do");
        db.close().expect("nothing is open");
        lab.verify();
    }
}

#[test]
fn what_a_snapshot_kept_of_a_deleted_range_goes_once_it_is_released() {
    let lab = Lab::new();
    let (db, _) = deep(&lab);
    let snapshot = db.snapshot();
    db.delete_range("", "z").expect("deleted");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert!(lab.bytes_of_tables() > 10_000, "a snapshot sees it");
    drop(snapshot);
    settle(&db);
    assert_eq!(lab.tables().len(), 0, "{:?}", db.stats().families[0].levels);
}

#[test]
fn a_compaction_does_not_read_a_file_that_a_range_hides() {
    let lab = Lab::new();
    let (db, _) = deep(&lab);
    let tables = lab.tables();
    db.delete_range("", "z").expect("deleted");
    db.flush().expect("flushed");
    db.close().expect("nothing is open");
    // Every data block of the old tables is damaged.
    for number in &tables {
        let path = std::path::Path::new(crate::lab::DIR).join(format!("{number:06}.sst"));
        lab.fs.damage(&path, |bytes| bytes[..200].fill(7)).expect("there");
    }
    let db = lab.open();
    db.compact_range::<&[u8]>(..).expect("nothing damaged is read");
    settle(&db);
    assert_eq!(lab.tables().len(), 0);
}

#[test]
fn what_is_put_after_a_range_was_deleted_stays() {
    let lab = Lab::new();
    let (db, _) = deep(&lab);
    let mut batch = WriteBatch::new();
    batch.put("key0001", "before").delete_range("key0000", "key9999").put("key0002", "after");
    db.write(&mut batch).expect("written");
    let expected = Map::from([(b"key0002".to_vec(), b"after".to_vec())]);
    assert_eq!(all(&db), expected);
    db.flush().expect("flushed");
    assert_eq!(all(&db), expected);
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(all(&db), expected);
}

#[test]
fn a_range_without_keys_changes_nothing_and_one_that_ends_before_it_begins_is_refused() {
    let lab = Lab::new();
    let db = lab.open();
    let expected = fill(&db, 10, "kept");
    db.delete_range("key0003", "key0003").expect("no key is in it");
    let error = db.delete_range("key0005", "key0003").expect_err("it ends before it begins");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("from \"key0005\" to \"key0003\""), "{error}");
    assert_eq!(all(&db), expected);
    db.flush().expect("flushed");
    assert_eq!(all(&db), expected);
    // In the order of the family, not of bytes.
    let lab = Lab::new().change(|options| options.family.key_order = firndb::KeyOrder::ReverseBytewise);
    let db = lab.open();
    fill(&db, 10, "kept");
    db.delete_range("key0005", "key0003").expect("two keys");
    assert_eq!(all(&db).len(), 8);
    assert_eq!(db.delete_range("key0003", "key0005").expect_err("reversed").kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_memtable_of_nothing_but_deleted_ranges_is_logged_flushed_and_replayed() {
    for is_flushed in [false, true] {
        let lab = Lab::new();
        let (db, before) = deep(&lab);
        let family = db.create_column_family("other").expect("new");
        let other = fill(&db, 10, "untouched");
        drop(family);
        db.flush().expect("flushed");
        db.delete_range("key0000", "key1000").expect("deleted");
        if is_flushed {
            db.flush().expect("flushed");
        }
        db.close_with(firndb::CloseMode::Refuse).expect("nothing is open");
        let db = lab.open();
        let mut expected = before.clone();
        expected.extend(other);
        assert_eq!(all(&db), without(&expected, "key0000", "key1000"));
    }
}

#[test]
fn a_table_with_a_deleted_range_moves_down_as_it_is_and_still_hides_what_is_below() {
    let lab = Lab::new();
    let (db, before) = deep(&lab);
    // Two snapshots keep what is hidden; the range itself lies where no file of the next levels does.
    let snapshot = db.snapshot();
    db.delete_range("key0010", "key0020").expect("deleted");
    db.put("zzz", "behind").expect("written");
    db.flush().expect("flushed");
    for _ in 0..8 {
        db.compact_range::<&[u8]>(..).expect("compacted");
        let mut expected = without(&before, "key0010", "key0020");
        expected.insert(b"zzz".to_vec(), b"behind".to_vec());
        assert_eq!(all(&db), expected);
    }
    let options = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    assert_eq!(collect(db.default_column_family().range_with::<&[u8]>(.., options).expect("it opens")), before);
}

/// Ends of ranges lie in every file, and no file is pulled into a compaction only because a range ends where it begins.
#[test]
fn one_range_over_many_files_is_cut_at_their_borders_and_means_the_same() {
    let lab = Lab::new();
    let (db, before) = deep(&lab);
    let snapshot = db.snapshot();
    db.delete_range("key0005", "key1995").expect("deleted");
    let written = fill(&db, 300, "anew");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let mut expected = without(&before, "key0005", "key1995");
    expected.extend(written);
    assert_eq!(all(&db), expected);
    let files = db.stats().families[0].levels.iter().map(|level| level.files).max();
    assert!(files > Some(10), "{files:?}");
    // A narrow range takes few of the files along.
    let bytes = db.stats().bytes_compacted;
    db.put("key1000", "narrow").expect("written");
    db.flush().expect("flushed");
    db.compact_range("key1000".."key1001").expect("compacted");
    let compacted = db.stats().bytes_compacted - bytes;
    assert!(compacted < lab.bytes_of_tables() / 4, "{compacted} of {}", lab.bytes_of_tables());
    expected.insert(b"key1000".to_vec(), b"narrow".to_vec());
    assert_eq!(contents(db.default_column_family()), expected);
    drop(snapshot);
    settle(&db);
    assert_eq!(all(&db), expected);
    db.close().expect("nothing is open");
    lab.verify();
}

/// A range ends where a file of a deeper level begins: nothing of it is there, and a job at its own level is its last.
#[test]
fn a_range_that_ends_where_a_deeper_file_begins_is_gone_after_one_job() {
    let lab = Lab::new();
    let (db, expected) = deep(&lab);
    db.put("key", "before all").expect("written");
    db.delete_range("a", "key0000").expect("deleted");
    db.flush().expect("flushed");
    let steps = std::iter::from_fn(|| db.run_background_step().then_some(())).take(50).count();
    assert!(steps < 50, "{:?}", db.stats().families[0].levels);
    assert_eq!(all(&db), expected);
}

/// Level 0 has older numbers than the level below, and the memtable gets its first entry while an iterator is made: what is
/// in which run must not be mixed up.
#[test]
fn an_iterator_made_beside_the_first_write_of_a_memtable_jumps_over_nothing_visible() {
    let lab = Lab::new().change(|options| options.max_open_files = 16);
    let db = lab.open();
    for n in 0..8 {
        db.put(format!("a{n}"), "hidden").expect("written");
    }
    let (_, mut expected) = (fill(&db, 2000, "deep"), all(&db));
    expected.retain(|key, _| !key.starts_with(b"a"));
    expected.extend([(b"z".to_vec(), b"old".to_vec()), (b"b".to_vec(), b"newer".to_vec())]);
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.put("z", "old").expect("written");
    db.flush().expect("flushed");
    db.delete_range("a", "c").expect("deleted");
    db.put("b", "newer").expect("written");
    db.flush().expect("flushed");
    let levels = || db.stats().families[0].levels.iter().map(|level| level.files).collect::<Vec<_>>();
    while levels()[1..6].iter().all(|files| *files == 0) {
        assert!(db.run_background_step(), "{:?}", levels());
    }
    assert!(levels()[0] == 1 && levels()[6] > 0, "{:?}", levels());
    assert_eq!(all(&db), expected);
    let is_written = Arc::new(AtomicBool::new(false));
    let (writer, flag) = (db.default_column_family().clone(), Arc::clone(&is_written));
    lab.hook.set(move |op, _| {
        if op == FsOp::Open && !flag.swap(true, Ordering::SeqCst) {
            writer.put("y", "in the memtable").expect("written");
        }
    });
    // One walk: the next one sees what was written meanwhile.
    assert_eq!(collect(db.iter().expect("it opens")), expected);
    lab.hook.clear();
    assert!(is_written.load(Ordering::SeqCst), "no file was opened");
}

/// A jump counts until the walk goes elsewhere.
#[test]
fn each_seek_into_a_deleted_range_and_each_turn_in_it_jumps_over_it() {
    let lab = Lab::new();
    let (db, _) = deep(&lab);
    db.delete_range("key0100", "z").expect("deleted");
    db.put("key1000", "newer").expect("written");
    let mut cursor = db.cursor(ReadOptions::default()).expect("it opens");
    let mut costs = Vec::new();
    for turn in 0..12 {
        let before = reads(&db);
        let is_there = match turn % 4 {
            0 => cursor.seek("key0100"),
            1 => cursor.next().map(|is_there| !is_there),
            2 => cursor.seek_for_prev("key1999"),
            _ => cursor.prev(),
        };
        assert!(is_there.expect("reads"), "turn {turn}");
        costs.push(reads(&db) - before);
    }
    assert!(costs.iter().all(|cost| *cost < 20), "{costs:?}");
    for _ in 0..2 {
        let before = reads(&db);
        cursor.seek("key1000").expect("reads");
        assert!(cursor.prev().expect("reads") && cursor.next().expect("reads"));
        assert_eq!(cursor.key(), b"key1000");
        assert!(!cursor.next().expect("reads"));
        assert!(reads(&db) - before < 40, "{}", reads(&db) - before);
    }
}
