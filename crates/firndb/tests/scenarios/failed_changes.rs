//! Changes that failed half way: families that come and go, compactions, flushes of several families. Whoever is told of
//! a failure finds things as they were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firndb::{CrashPolicy, ErrorKind, Fault, FaultEffect, FsOp, WriteOptions};

use crate::lab::{Lab, Map, all, contents, eventually, fill, settle};

#[test]
fn a_family_whose_drop_failed_keeps_what_is_written_to_it_afterwards_through_any_crash() {
    for (op, effect) in [(FsOp::Sync, FaultEffect::Eio), (FsOp::Append, FaultEffect::Eio)] {
        for is_sticky in [false, true] {
            let lab = Lab::new();
            let db = lab.open();
            let family = db.create_column_family("side").expect("new");
            family.put("a", "1").expect("written");
            family.flush().expect("flushed");
            let fault = Fault::on(op, "MANIFEST-*", effect);
            lab.fs.inject(if is_sticky { fault.sticky() } else { fault });
            let error = db.drop_column_family("side").expect_err("MANIFEST fails");
            assert!(error.to_string().contains("MANIFEST-"), "{error}");
            assert_eq!(family.get("a").expect("read").as_deref(), Some(&b"1"[..]));
            // Either it takes writes, and keeps them; or it takes none.
            let written = family.put_with("b", "2", &WriteOptions::synced());
            assert_eq!(written.is_ok(), !is_sticky, "{written:?}");
            for policy in [CrashPolicy::KeepAll, CrashPolicy::DropUnsynced] {
                let image = lab.crash(policy, 0);
                let again = image.open();
                if written.is_ok() {
                    let found = again.column_family("side").expect("it was not dropped").get("b").expect("read");
                    assert_eq!(found.as_deref(), Some(&b"2"[..]), "{policy:?}");
                }
                again.close().expect("nothing is open");
                image.assert_disk_is_manifest();
            }
            lab.fs.clear_faults();
            lab.clock.advance(Duration::from_secs(61));
            settle(&db);
            family.put("c", "3").expect("writes go on");
            db.drop_column_family("side").expect("dropped");
            drop(family);
            settle(&db);
            lab.assert_disk_is_manifest();
        }
    }
}

#[test]
fn a_family_whose_making_failed_is_not_there_and_can_be_made_again() {
    for (op, pattern) in [
        (FsOp::Sync, "MANIFEST-*"),
        (FsOp::Append, "MANIFEST-*"),
        (FsOp::Create, "OPTIONS-*"),
        (FsOp::Sync, "OPTIONS-*"),
        (FsOp::Rename, "OPTIONS-*"),
    ] {
        let lab = Lab::new();
        let db = lab.open();
        lab.fs.inject(Fault::on(op, pattern, FaultEffect::Eio));
        let error = db.create_column_family("side").expect_err("it fails");
        assert!(error.to_string().contains(pattern.trim_end_matches('*')), "{error}");
        assert_eq!(db.column_families().len(), 1, "{op:?} {pattern}");
        db.put("a", "1").expect("written");
        db.create_column_family("side").expect("now it goes").put("b", "2").expect("written");
        settle(&db);
        lab.assert_disk_is_manifest();
        let again = lab.crash(CrashPolicy::KeepAll, 0).open();
        assert_eq!(again.column_families().len(), 2);
        assert_eq!(contents(&again.column_family("side").expect("there")).len(), 1);
    }
}

#[test]
fn a_compaction_that_is_called_off_or_fails_leaves_the_database_as_it_was() {
    let lab = Lab::new().change(|options| options.family.disable_auto_compactions = true);
    let db = lab.open();
    let mut expected = Map::new();
    for round in ["first", "second"] {
        expected.extend(fill(&db, 400, round));
        db.flush().expect("flushed");
    }
    settle(&db);
    let (tables, levels) = (lab.tables(), db.stats().families[0].levels.clone());
    for skip in [0, 1, 3] {
        for (op, pattern) in [(FsOp::Append, "*.sst"), (FsOp::Read, "*.sst"), (FsOp::Sync, "*.sst")] {
            if op == FsOp::Read && skip > 1 {
                // Two inputs, each read in one go.
                continue;
            }
            lab.fs.inject(Fault::on(op, pattern, FaultEffect::NoSpace).skip(skip));
            if let Err(error) = db.compact_range::<&[u8]>(..) {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                settle(&db);
                assert_eq!(lab.tables(), tables, "{op:?} {skip}");
                assert_eq!(db.stats().families[0].levels, levels);
                lab.assert_disk_is_manifest();
            } else {
                panic!("{op:?} {skip}: it went well");
            }
            lab.fs.clear_faults();
        }
    }
    assert_eq!(all(&db), expected);
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(all(&db), expected);
    // Called off by a close, in the middle.
    fill(&db, 400, "third");
    db.flush().expect("flushed");
    let closing = db.clone();
    let begun = Arc::new(AtomicBool::new(false));
    let (seen, reader) = (Arc::clone(&begun), db.clone());
    lab.hook.set(move |op, path| {
        if op == FsOp::Sync && path.extension().is_some_and(|ending| ending == "sst") {
            seen.store(true, Ordering::Release);
            eventually("somebody closes", || reader.get("key").is_err());
            // For its next steps, at each of several tables.
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let compacting = std::thread::spawn(move || closing.compact_range::<&[u8]>(..));
    eventually("it has begun", || begun.load(Ordering::Acquire));
    db.close().expect("closed");
    assert_eq!(compacting.join().expect("no panic").expect_err("called off").kind(), ErrorKind::Cancelled);
    lab.hook.clear();
    lab.assert_disk_is_manifest();
    lab.verify();
}

#[test]
fn families_that_are_flushed_together_leave_no_table_when_one_of_them_fails() {
    let lab = Lab::new().change(|options| options.atomic_flush = true);
    let db = lab.open();
    let family = db.create_column_family("side").expect("new");
    db.put("a", "1").expect("written");
    family.put("a", "1").expect("written");
    lab.fs.inject(Fault::on(FsOp::Sync, "*.sst", FaultEffect::Eio).skip(1));
    db.flush().expect_err("the second one fails");
    lab.assert_disk_is_manifest();
    lab.clock.advance(Duration::from_secs(61));
    settle(&db);
    assert_eq!((all(&db).len(), contents(&family).len()), (1, 1));
    assert_eq!(lab.tables().len(), 2);
    lab.assert_disk_is_manifest();
}
