//! What readers see while everything moves beneath them: T1 to T5, T8, T32.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use firndb::{CrashPolicy, Db, ErrorKind, Fault, FaultEffect, FsOp, ReadOptions, Snapshot};

use crate::lab::{Lab, Map, all, collect, contents, entries_in_tables, eventually, fill, settle};

fn at(snapshot: &Snapshot) -> ReadOptions {
    ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() }
}

fn everything(db: &Db, options: &ReadOptions) -> Map {
    collect(db.default_column_family().range_with::<&[u8]>(.., options.clone()).expect("it opens"))
}

#[test]
fn t1_a_reader_with_a_number_from_before_a_flush_and_a_compaction_finds_its_value() {
    let lab = Lab::new();
    let db = lab.open();
    db.put("k", "old").expect("written");
    // The number is taken here, the view only after everything below.
    let number = db.snapshot();
    db.put("k", "new").expect("written");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert_eq!(db.get_with("k", &at(&number)).expect("read").as_deref(), Some(&b"old"[..]));
    assert_eq!(db.multi_get(&["k"])[0].as_ref().expect("read").as_deref(), Some(&b"new"[..]));
    assert_eq!(everything(&db, &at(&number)), Map::from([(b"k".to_vec(), b"old".to_vec())]));
}

#[test]
fn a_snapshot_of_another_database_is_refused() {
    let (here, there) = (Lab::new(), Lab::new());
    let (here, there) = (here.open(), there.open());
    here.put("k", "v").expect("written");
    let foreign = at(&there.snapshot());
    let errors = [
        here.get_with("k", &foreign).expect_err("another's"),
        here.default_column_family().range_with::<&[u8]>(.., foreign.clone()).map(drop).expect_err("another's"),
        here.default_column_family().multi_get_with(&["k"], &foreign).remove(0).expect_err("another's"),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("another database"), "{error}");
    }
}

#[test]
fn t1_a_key_that_is_always_there_is_found_by_every_get_and_iterator() {
    let lab = Lab::new();
    let db = lab.open();
    db.put("k", 0u64.to_be_bytes()).expect("written");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for kind in 0..2 {
            let (db, is_over) = (&db, &is_over);
            scope.spawn(move || {
                let mut last = [0; 8];
                while !is_over.load(Ordering::Relaxed) {
                    let found = match kind {
                        0 => db.get("k").expect("read").expect("never nothing").to_vec(),
                        _ => {
                            let mut iter = db.iter().expect("it opens");
                            iter.next().expect("never nothing").expect("read").1.to_vec()
                        }
                    };
                    assert!(found[..] >= last[..], "time went backwards: {last:?}, then {found:?}");
                    last.copy_from_slice(&found);
                }
            });
        }
        for round in 1..300u64 {
            db.put("k", round.to_be_bytes()).expect("written");
            db.flush().expect("flushed");
            db.compact_range::<&[u8]>(..).expect("compacted");
            settle(&db);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn t2_a_snapshot_taken_while_a_flush_or_compaction_has_just_begun_is_honoured() {
    let lab = Lab::new();
    let db = lab.open();
    let taken: Arc<Mutex<Vec<(Snapshot, Map)>>> = Arc::default();
    let (seen, inner) = (Arc::clone(&taken), db.clone());
    lab.hook.set(move |op, path| {
        // The job has its list and its inputs, and has read nothing yet.
        if op == FsOp::Create && path.extension().is_some_and(|ending| ending == "sst") {
            let view = (inner.snapshot(), all(&inner));
            inner.put("k", format!("{} more", seen.lock().expect("whole").len())).expect("written");
            inner.delete("key0001").expect("written");
            seen.lock().expect("whole").push(view);
        }
    });
    for round in 0..4 {
        db.put("k", format!("round {round}")).expect("written");
        fill(&db, 5, &format!("round {round}"));
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        settle(&db);
    }
    lab.hook.clear();
    db.compact_range::<&[u8]>(..).expect("compacted");
    let taken = std::mem::take(&mut *taken.lock().expect("whole"));
    assert!(taken.len() >= 8, "{} jobs", taken.len());
    for (snapshot, expected) in &taken {
        assert_eq!(&everything(&db, &at(snapshot)), expected);
    }
}

#[test]
fn t4_of_many_snapshots_of_one_moment_the_last_one_still_reads() {
    let lab = Lab::new();
    let db = lab.open();
    let expected = fill(&db, 20, "first");
    let mut snapshots: Vec<Snapshot> = (0..500).map(|_| db.snapshot()).collect();
    fill(&db, 20, "second");
    while let Some(snapshot) = snapshots.pop() {
        if snapshots.len().is_multiple_of(100) {
            db.flush().expect("flushed");
            db.compact_range::<&[u8]>(..).expect("compacted");
            assert_eq!(everything(&db, &at(&snapshot)), expected, "{} are left", snapshots.len());
        }
        drop(snapshot);
    }
    db.put("key0000", "third").expect("written");
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(entries_in_tables(&lab.fs).len(), 20, "nothing is kept for nobody");
}

#[test]
fn no_reader_waits_for_a_writer_a_flush_or_a_deletion_and_no_writer_for_a_flush() {
    for (op, ending) in [
        (FsOp::Append, ".log"),
        (FsOp::Sync, ".log"),
        (FsOp::Create, ".sst"),
        (FsOp::Sync, ".sst"),
        (FsOp::Append, "MANIFEST"),
        (FsOp::Sync, "MANIFEST"),
        (FsOp::Remove, ".sst"),
    ] {
        let lab = Lab::with_threads();
        let db = lab.open();
        let expected = fill(&db, 50, "first");
        db.flush().expect("flushed");
        db.put("key0000", &expected[&b"key0000"[..]]).expect("written");
        let (is_held, is_open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (held, open) = (Arc::clone(&is_held), Arc::clone(&is_open));
        lab.hook.set(move |done, path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if done == op && name.contains(ending) {
                held.store(true, Ordering::Release);
                eventually("the others are through", || open.load(Ordering::Acquire));
            }
        });
        std::thread::scope(|scope| {
            let holder = scope.spawn(|| match (op, ending) {
                (FsOp::Append, ".log") => db.put("key0001", &expected[&b"key0001"[..]]),
                (_, ".log") => db.flush_wal(true),
                _ => db.compact_range::<&[u8]>(..),
            });
            eventually("somebody is in the middle of it", || is_held.load(Ordering::Acquire));
            // Were one of these to wait, nobody would open the gate.
            let snapshot = db.snapshot();
            assert_eq!(everything(&db, &at(&snapshot)), expected);
            assert_eq!(all(&db), expected);
            assert!(db.get("key0007").expect("read").is_some() && db.multi_get(&["key0008"])[0].is_ok());
            assert!(!db.pins().is_empty());
            drop(snapshot);
            if ending != ".log" {
                db.put("key0002", &expected[&b"key0002"[..]]).expect("written");
                assert!(!is_open.load(Ordering::Acquire));
            }
            is_open.store(true, Ordering::Release);
            holder.join().expect("no panic").expect("done");
        });
        db.close().expect("nothing is open");
    }
}

/// Two rounds of writes with a snapshot between them, and what a compaction makes of it if the snapshot goes `when`.
fn compacted(when: &str) -> Vec<String> {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 60, "first");
    db.flush().expect("flushed");
    let snapshot = Arc::new(Mutex::new(Some(db.snapshot())));
    fill(&db, 40, "second");
    (0..20).for_each(|number| db.delete(format!("key{number:04}")).expect("written"));
    db.flush().expect("flushed");
    match when {
        "before" => drop(snapshot.lock().expect("whole").take()),
        "during" => {
            let (taken, db) = (Arc::clone(&snapshot), db.clone());
            lab.hook.set(move |op, path| {
                let is_output = path.extension().is_some_and(|ending| ending == "sst");
                if op == FsOp::Append && is_output && taken.lock().expect("whole").take().is_some() {
                    assert_eq!(db.pins().len(), 1, "the job goes on with its list");
                }
            });
        }
        _ => {}
    }
    db.compact_range::<&[u8]>(..).expect("compacted");
    lab.hook.clear();
    assert_eq!(snapshot.lock().expect("whole").is_some(), when == "after");
    entries_in_tables(&lab.fs)
}

#[test]
fn t3_a_snapshot_released_in_the_middle_of_a_compaction_changes_nothing_of_its_output() {
    let (before, during, after) = (compacted("before"), compacted("during"), compacted("after"));
    assert_eq!(during, after);
    assert!(before.len() < after.len(), "a list without the snapshot has another output: {}", before.len());
}

#[test]
fn t5_a_snapshot_reads_the_value_beneath_a_deletion_that_went_to_the_bottom() {
    let lab = Lab::new();
    let db = lab.open();
    db.put("other", "x").expect("written");
    db.put("a", "v1").expect("written");
    let snapshot = db.snapshot();
    db.delete("a").expect("written");
    for _ in 0..3 {
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        settle(&db);
        assert_eq!(db.get_with("a", &at(&snapshot)).expect("read").as_deref(), Some(&b"v1"[..]));
        assert_eq!(everything(&db, &at(&snapshot)).len(), 2);
        assert!(db.get("a").expect("read").is_none());
        db.put("other", "y").expect("written");
    }
    drop(snapshot);
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert!(db.get("a").expect("read").is_none(), "it does not come back");
    assert_eq!(entries_in_tables(&lab.fs).len(), 1, "neither value nor deletion is left");
    let lab = lab.crash(CrashPolicy::DropUnsynced, 0);
    assert!(lab.open().get("a").expect("read").is_none());
}

#[test]
fn t8_an_error_while_an_iterator_is_made_leaves_no_pin_and_no_file() {
    let lab = Lab::new();
    let mut expected = Map::new();
    {
        let db = lab.open();
        for round in ["first", "second", "third"] {
            expected.extend(fill(&db, 100, round));
            db.flush().expect("flushed");
            if round == "first" {
                db.compact_range::<&[u8]>(..).expect("compacted");
            }
        }
        db.close().expect("nothing is open");
    }
    for op in [FsOp::Open, FsOp::Read] {
        for skip in 0..100 {
            // Opened anew, so that no table is open yet.
            let lab = lab.crash(CrashPolicy::KeepAll, 0);
            let db = lab.open();
            lab.fs.inject(Fault::on(op, "*.sst", FaultEffect::Eio).skip(skip));
            let scan = |is_cursor: bool| -> firndb::Result<usize> {
                match is_cursor {
                    true => db.cursor(ReadOptions::default())?.seek_to_last().map(usize::from),
                    false => db.iter()?.try_fold(0, |count, entry| entry.map(|_| count + 1)),
                }
            };
            let result = scan(skip % 2 == 0);
            assert_eq!(db.pins().len(), 0, "{op:?} {skip}");
            db.assert_no_pins().expect("none");
            let is_over = lab.fs.faults_struck() == 0;
            lab.fs.clear_faults();
            match &result {
                Ok(_) => assert!(is_over, "{op:?} {skip}: an error was taken for the end"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
                    let io = error.io().expect("details");
                    assert!(io.path.extension().is_some_and(|ending| ending == "sst"), "{error}");
                }
            }
            // What the failed view named can go, and the database is as it was.
            db.put("later", "x").expect("written");
            db.compact_range::<&[u8]>(..).expect("compacted");
            settle(&db);
            lab.assert_disk_is_manifest();
            let mut now = all(&db);
            now.remove(&b"later"[..]);
            assert_eq!(now, expected);
            if is_over && skip % 2 == 1 {
                assert!(skip > 2, "{op:?}: nothing was struck");
                break;
            }
        }
    }
}

#[test]
fn t32_many_versions_of_one_key_stay_in_one_file_and_every_snapshot_reads_its_own() {
    let lab = Lab::new().change(|options| {
        options.family.target_file_size_base = 1024;
        options.family.level0_file_num_compaction_trigger = 2;
    });
    let db = lab.open();
    let mut snapshots = Vec::new();
    for round in 0..60 {
        for key in ["a", "m", "z"] {
            db.put(key, format!("{round} {}", "v".repeat(100))).expect("written");
        }
        if round % 7 == 3 {
            db.delete("m").expect("written");
        }
        snapshots.push((db.snapshot(), all(&db)));
        if round % 10 == 9 {
            db.flush().expect("flushed");
            settle(&db);
        }
    }
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let check = |snapshots: &[(Snapshot, Map)]| {
        for (snapshot, expected) in snapshots {
            assert_eq!(&everything(&db, &at(snapshot)), expected);
            for key in ["a", "m", "z"] {
                let found = db.get_with(key, &at(snapshot)).expect("read").map(|value| value.to_vec());
                assert_eq!(found.as_ref(), expected.get(key.as_bytes()));
            }
        }
    };
    check(&snapshots);
    // A file ends between two user keys: with 6 KB of versions a key and files of 1 KB there is a file a key.
    let levels = db.stats().families[0].levels.clone();
    let below: usize = levels.iter().skip(1).map(|level| level.files).sum();
    assert_eq!((levels[0].files, below), (0, 3));
    // Half of them go, in no order; what the others see stays.
    let mut left = Vec::new();
    for (place, snapshot) in snapshots.into_iter().enumerate() {
        if place * 7 % 5 < 3 {
            left.push(snapshot);
        }
    }
    db.put("b", "x").expect("written");
    db.delete("b").expect("written");
    db.compact_range::<&[u8]>(..).expect("compacted");
    check(&left);
    // The last round ended with a deletion of one of the three.
    assert_eq!(contents(db.default_column_family()).len(), 2);
}
