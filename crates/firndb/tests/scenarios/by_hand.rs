//! Compactions that somebody asks for, as they are asked for: where files go, what is written anew, and what calls them off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use firndb::{
    BottommostLevelCompaction, CompactRangeOptions, CompactionCanceller, CompactionStyle, Db, ErrorKind, FsOp, Options,
};

use crate::lab::{Lab, all, fill, settle};

fn files(db: &Db) -> Vec<usize> {
    db.stats().families[0].levels.iter().map(|level| level.files).collect()
}

fn lab(change: impl FnOnce(&mut Options)) -> Lab {
    Lab::new().change(|options| {
        options.family.level_compaction_dynamic_level_bytes = false;
        change(options);
    })
}

#[test]
fn files_go_to_the_level_that_was_asked_for() {
    let lab = lab(|_| {});
    let db = lab.open();
    let expected = fill(&db, 200, "once");
    let to = |level| CompactRangeOptions::new().change_level(true).target_level(level);
    for level in [4, 2, 5] {
        db.compact_range_with::<&str>(.., &to(level)).expect("there is room");
        let files = files(&db);
        assert!(files[level as usize] > 1, "{files:?}");
        assert_eq!(files.iter().filter(|files| **files > 0).count(), 1, "{files:?}");
        assert_eq!(all(&db), expected);
    }
    // Newer data above: nothing goes past it.
    db.put("key0100", "newer").expect("written");
    db.compact_range_with::<&str>(.., &CompactRangeOptions::new()).expect("compacted");
    assert_eq!(all(&db).len(), 200);
    for bad in [0, 7, 100] {
        let error = db.compact_range_with::<&str>(.., &to(bad)).expect_err("no such level");
        assert!(error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("from 1 to 6"), "{error}");
    }
    db.close().expect("nothing is open");
    let lab = lab.change(|options| options.family.compaction_style = CompactionStyle::Universal);
    lab.verify();
    let db = lab.open();
    let error = db.compact_range_with::<&str>(.., &to(3)).expect_err("not leveled");
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{error}");
}

#[test]
fn the_last_level_is_written_anew_if_that_is_asked_for() {
    let lab = lab(|options| options.family.disable_auto_compactions = true);
    let db = lab.open();
    let expected = fill(&db, 200, "once");
    let with = |which| CompactRangeOptions::new().bottommost_level_compaction(which);
    db.compact_range::<&str>(..).expect("compacted");
    settle(&db);
    let tables = lab.tables();
    for which in [BottommostLevelCompaction::Skip, BottommostLevelCompaction::IfHaveFilter] {
        db.compact_range_with::<&str>(.., &with(which)).expect("compacted");
        settle(&db);
        assert_eq!(lab.tables(), tables, "{which:?}");
    }
    let mut before = tables;
    for which in [BottommostLevelCompaction::ForceOptimized, BottommostLevelCompaction::Force] {
        db.compact_range_with::<&str>(.., &with(which)).expect("compacted");
        settle(&db);
        let after = lab.tables();
        assert!(after.is_disjoint(&before), "{which:?}: {after:?}");
        before = after;
    }
    assert_eq!(all(&db), expected);
}

#[test]
fn compactions_by_hand_are_called_off_or_refused_and_leave_what_was_there() {
    let lab = lab(|_| {});
    let db = lab.open();
    let expected = fill(&db, 400, "once");
    db.flush().expect("flushed");
    let canceller = CompactionCanceller::default();
    let options = CompactRangeOptions::new().cancelled_by(&canceller);
    // In the middle of its first table.
    let own = canceller.clone();
    lab.hook.set(move |op, path| {
        if op == FsOp::Create && path.extension().is_some_and(|name| name == "sst") {
            own.cancel();
        }
    });
    let error = db.compact_range_with::<&str>(.., &options).expect_err("called off");
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    lab.hook.clear();
    assert_eq!((all(&db), files(&db)[0]), (expected.clone(), 1));
    lab.assert_disk_is_manifest();
    // Whoever calls off all of them.
    let other = db.clone();
    lab.hook.set(move |op, path| {
        if op == FsOp::Create && path.extension().is_some_and(|name| name == "sst") {
            other.disable_manual_compaction();
        }
    });
    assert_eq!(db.compact_range::<&str>(..).expect_err("called off").kind(), ErrorKind::Cancelled);
    lab.hook.clear();
    assert_eq!(db.compact_range::<&str>(..).expect_err("refused").kind(), ErrorKind::Cancelled);
    assert_eq!(files(&db)[0], 1);
    db.enable_manual_compaction();
    db.compact_range::<&str>(..).expect("allowed again");
    assert_eq!((all(&db), files(&db)[0]), (expected, 0));
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn automatic_compactions_are_called_off_and_begin_anew() {
    let lab = lab(|options| options.family.level0_file_num_compaction_trigger = 2);
    let db = lab.open();
    fill(&db, 100, "first");
    db.flush().expect("flushed");
    let expected = fill(&db, 100, "second");
    db.flush().expect("flushed");
    let (other, created) = (db.clone(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&created);
    lab.hook.set(move |op, path| {
        if op == FsOp::Create && path.extension().is_some_and(|name| name == "sst") {
            count.fetch_add(1, Ordering::SeqCst);
            other.cancel_background_work();
        }
    });
    settle(&db);
    lab.hook.clear();
    assert_eq!((created.load(Ordering::SeqCst), files(&db)[0]), (1, 2), "it began, and changed nothing");
    lab.assert_disk_is_manifest();
    db.continue_background_work();
    settle(&db);
    assert_eq!((all(&db), files(&db)[0]), (expected, 0));
}

#[test]
fn suggested_tables_go_down_by_themselves() {
    let lab = lab(|_| {});
    let db = lab.open();
    fill(&db, 100, "first");
    db.compact_range_with::<&str>(.., &CompactRangeOptions::new().change_level(true).target_level(3)).expect("moved");
    let expected = fill(&db, 100, "second");
    db.flush().expect("flushed");
    settle(&db);
    assert_eq!(files(&db)[0], 1, "one table is not too many");
    db.suggest_compact_range("key0000".."key0050").expect("noted");
    settle(&db);
    let after = files(&db);
    assert_eq!(after[0], 0, "{after:?}");
    assert_eq!(all(&db), expected);
}

/// A flush that would hold writers up comes after the compaction that is due.
#[test]
fn level_0_is_drained_before_a_flush_for_a_compaction_would_stop_writers() {
    for allows in [false, true] {
        let lab = lab(|options| {
            options.family.level0_file_num_compaction_trigger = 2;
            options.family.level0_slowdown_writes_trigger = 3;
            options.family.level0_stop_writes_trigger = 3;
        });
        let db = lab.open();
        for round in 0..2 {
            db.put("key", format!("value {round}")).expect("written");
            db.flush().expect("flushed");
        }
        db.put("key", "last").expect("written");
        let (level0, seen) = (db.clone(), Arc::new(AtomicUsize::new(0)));
        let most = Arc::clone(&seen);
        lab.hook.set(move |op, path| {
            if op == FsOp::Sync && path.extension().is_some_and(|name| name == "sst") {
                most.fetch_max(files(&level0)[0], Ordering::SeqCst);
            }
        });
        let options = CompactRangeOptions::new().allow_write_stall(allows).exclusive_manual_compaction(true);
        db.compact_range_with::<&str>(.., &options).expect("compacted");
        lab.hook.clear();
        assert_eq!(seen.load(Ordering::SeqCst), if allows { 3 } else { 2 });
        assert_eq!(db.get("key").expect("readable").as_deref(), Some(&b"last"[..]));
    }
}
