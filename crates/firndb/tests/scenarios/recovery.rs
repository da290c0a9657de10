//! Logs that hold more than memtables may: opening writes tables on the way, and still changes all of it or nothing.

use std::path::Path;

use firndb::{CrashPolicy, Db, ErrorKind, Fault, FaultEffect, FsOp, WalRecoveryMode};

use crate::lab::{DIR, Lab, Map, all, contents, settle};

const KEYS: u64 = 2000;

/// Logs of about 5 MB, everything in them written twice, and what they hold; one family has a flushed table, too.
fn long_logs() -> (Lab, Map, Map) {
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 64 << 20;
        options.avoid_flush_during_shutdown = true;
    });
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    db.put("flushed", "before").expect("written");
    db.flush().expect("flushed");
    for round in 0..2 {
        for number in 0..KEYS {
            let (key, value) = (format!("key{number:05}"), format!("round {round} of {number}").repeat(60));
            db.put(&key, &value).expect("written");
            if number % 5 == 0 {
                side.put(&key, &value).expect("written");
            }
        }
        db.delete(format!("key{round:05}")).expect("written");
    }
    let expected = (all(&db), contents(&side));
    drop(side);
    db.close().expect("nothing is open");
    (lab, expected.0, expected.1)
}

/// As much memory as the options say: far less than the logs hold.
fn with_little_memory(lab: &Lab) -> Lab {
    lab.crash(CrashPolicy::KeepAll, 0).change(|options| {
        options.family.write_buffer_size = 64 << 10;
        options.family.max_write_buffer_number = 3;
        options.family.level0_file_num_compaction_trigger = 1000;
    })
}

fn side(db: &Db) -> Map {
    contents(&db.column_family("side").expect("there"))
}

#[test]
fn logs_that_hold_more_than_memtables_may_become_tables_on_the_way() {
    let (long, expected, expected_side) = long_logs();
    let lab = with_little_memory(&long);
    let db = lab.open();
    assert!(lab.tables().len() > 10, "{:?}", lab.tables());
    assert_eq!((all(&db), side(&db)), (expected.clone(), expected_side.clone()));
    assert_eq!(db.recovery_report().operations, 2 * (KEYS + KEYS / 5) + 2);
    db.put("later", "x").expect("written");
    db.close().expect("nothing is open");
    lab.assert_disk_is_manifest();
    lab.verify();
    // The newest value of a key is in the newest of these tables, in this life and after compactions.
    let db = lab.open();
    let later = Map::from([(b"later".to_vec(), b"x".to_vec())]);
    let with_later: Map = expected.iter().map(|(key, value)| (key.clone(), value.clone())).chain(later).collect();
    assert_eq!((all(&db), side(&db)), (with_later.clone(), expected_side));
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert_eq!(all(&db), with_later);
    db.close().expect("nothing is open");
    // A reader may not write: it holds everything in memory.
    let lab = with_little_memory(&long);
    let paths = lab.fs.paths();
    let reader = Db::open_read_only(DIR, lab.options.clone()).expect("it opens");
    assert_eq!(all(&reader), expected);
    reader.close().expect("nothing is open");
    assert_eq!(lab.fs.paths(), paths);
}

#[test]
fn an_open_that_fails_or_is_cut_off_on_the_way_leaves_the_logs_to_the_next() {
    let (long, expected, expected_side) = long_logs();
    let whole = with_little_memory(&long);
    let tables = whole.tables();
    for nth in [0, 3, 8] {
        let lab = with_little_memory(&whole);
        lab.fs.inject(Fault::on(FsOp::Create, "*.sst", FaultEffect::NoSpace).skip(nth).sticky());
        assert_eq!(lab.try_open().map(drop).expect_err("the disk is full").kind(), ErrorKind::NoSpace);
        assert_eq!(lab.tables(), tables, "what was made is gone");
        lab.fs.clear_faults();
        let db = lab.open();
        assert_eq!((all(&db), side(&db)), (expected.clone(), expected_side.clone()));
        db.close().expect("nothing is open");
        lab.verify();
    }
    // A record in the last log that no mode but the strictest accepts.
    let lab = with_little_memory(&whole);
    let log = Path::new(DIR).join(format!("{:06}.log", lab.files(".log").last().expect("a log")));
    lab.fs.damage(&log, |bytes| bytes.truncate(bytes.len() - 3)).expect("there");
    let lab = lab.change(|options| options.wal_recovery_mode = WalRecoveryMode::AbsoluteConsistency);
    assert_eq!(lab.try_open().map(drop).expect_err("the log is cut off").kind(), ErrorKind::Corruption);
    assert_eq!(lab.tables(), tables, "what was made is gone");

    let steps = {
        let lab = with_little_memory(&whole);
        let before = lab.fs.op_count();
        lab.open().close().expect("nothing is open");
        lab.fs.op_count() - before
    };
    for step in (0..steps).step_by(steps as usize / 40) {
        let lab = with_little_memory(&whole);
        lab.fs.crash_after(lab.fs.op_count() + step);
        drop(lab.try_open());
        for policy in [CrashPolicy::KeepAll, CrashPolicy::DropUnsynced, CrashPolicy::TornWrite] {
            let image = lab.crash(policy, step);
            let db = image.open();
            assert_eq!((all(&db), side(&db)), (expected.clone(), expected_side.clone()), "step {step}, {policy:?}");
            settle(&db);
            assert_eq!(db.recovery_report().set_aside, [], "step {step}, {policy:?}");
            db.close().expect("nothing is open");
            image.assert_disk_is_manifest();
        }
    }
}
