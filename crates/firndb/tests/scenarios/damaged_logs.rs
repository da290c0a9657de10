//! Logs with holes and damage: what is recovered is one moment of the whole database, or nothing is.

use std::path::{Path, PathBuf};

use firndb::{
    ColumnFamily, Db, ErrorKind, Fs, RecoveryReport, WalRecoveryMode, WriteBatch, WriteOptions, verify_directory,
};

use crate::lab::{DIR, Lab, all};

const BATCHES: u64 = 400;

fn lab() -> Lab {
    Lab::new().change(|options| options.avoid_flush_during_shutdown = true)
}

fn number(value: Option<impl AsRef<[u8]>>) -> Option<u64> {
    value.map(|value| String::from_utf8_lossy(value.as_ref()).parse().expect("a number"))
}

/// Writes the batches `from..to`, each to both families.
fn write_both(db: &Db, side: &ColumnFamily, from: u64, to: u64) {
    for round in from..to {
        let mut batch = WriteBatch::new();
        batch.put("round", round.to_string()).put(format!("key{round:05}"), "x".repeat(200));
        batch.put_cf(side, "round", round.to_string());
        db.write_with(&mut batch, &WriteOptions::synced()).expect("written");
    }
}

fn rounds(db: &Db) -> (Option<u64>, Option<u64>) {
    let side = db.column_family("side").expect("there");
    (number(db.get("round").expect("read")), number(side.get("round").expect("read")))
}

fn log(lab: &Lab, nth: usize) -> PathBuf {
    let logs = lab.files(".log");
    Path::new(DIR).join(format!("{:06}.log", logs.iter().nth(nth).expect("so many logs")))
}

fn flip(lab: &Lab, log: &Path, part: usize) {
    lab.fs
        .damage(log, |bytes| {
            let at = bytes.len() / 10 * part;
            bytes[at] ^= 1;
        })
        .expect("there");
}

#[test]
fn damage_before_what_a_family_has_in_its_tables_is_refused_in_every_mode_but_the_one_that_skips() {
    let lab = lab();
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    write_both(&db, &side, 0, BATCHES);
    side.flush().expect("flushed");
    write_both(&db, &side, BATCHES, BATCHES + 5);
    drop(side);
    db.close().expect("nothing is open");
    flip(&lab, &log(&lab, 0), 5);
    let files = lab.fs.paths();
    for mode in [
        WalRecoveryMode::PointInTime,
        WalRecoveryMode::AbsoluteConsistency,
        WalRecoveryMode::TolerateCorruptedTailRecords,
    ] {
        let mut options = lab.options.clone();
        options.wal_recovery_mode = mode;
        for opened in [Db::open_with(DIR, options.clone()), Db::open_read_only(DIR, options)] {
            let error = opened.map(drop).expect_err("the families would be of two moments");
            assert_eq!(error.kind(), ErrorKind::Corruption, "{mode:?}: {error}");
            let (message, file) = (error.to_string(), log(&lab, 0));
            assert!(message.contains(file.to_str().expect("text")), "{message}");
            assert!(mode != WalRecoveryMode::PointInTime || message.contains("\"side\""), "{message}");
        }
    }
    assert_eq!(lab.fs.paths(), files, "nothing is changed");
    let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
    assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
    let lab = lab.change(|options| options.wal_recovery_mode = WalRecoveryMode::SkipAnyCorruptedRecords);
    let db = lab.open();
    assert_eq!(rounds(&db), (Some(BATCHES + 4), Some(BATCHES + 4)));
    assert!(!db.recovery_report().dropped.is_empty());
    db.close().expect("nothing is open");
}

#[test]
fn verify_finds_what_opening_refuses_though_every_record_that_is_there_is_whole() {
    let lab = lab();
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    write_both(&db, &side, 0, 100);
    side.flush().expect("flushed");
    write_both(&db, &side, 100, 105);
    drop(side);
    db.close().expect("nothing is open");
    // As after a crash, if there were no later log and no table.
    lab.fs.damage(&log(&lab, 0), |bytes| bytes.truncate(bytes.len() / 2)).expect("there");
    assert_eq!(lab.try_open().map(drop).expect_err("two moments").kind(), ErrorKind::Corruption);
    let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
    assert!(report.damages.len() == 1 && report.damages[0].to_string().contains("one moment"), "{report:?}");
}

#[test]
fn a_log_that_manifest_asks_for_and_that_is_gone_is_noted() {
    let lab = lab();
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    write_both(&db, &side, 0, 10);
    side.flush().expect("flushed");
    write_both(&db, &side, 10, 20);
    drop(side);
    db.close().expect("nothing is open");
    lab.verify();
    lab.fs.remove_file(&log(&lab, 0)).expect("there");
    let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
    assert!(report.notes.iter().any(|note| note.contains("the first log that MANIFEST asks for")), "{report:?}");
}

#[test]
fn a_log_that_never_was_is_not_noted_if_the_next_one_goes_on_where_the_tables_end() {
    let lab = lab().change(|options| options.family.write_buffer_size = 4096);
    let asks = |lab: &Lab| {
        let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{report:?}");
        report.notes.into_iter().find(|note| note.contains("the first log that MANIFEST asks for"))
    };
    let db = lab.open();
    db.put("in a table", "1").expect("written");
    db.flush().expect("flushed");
    let mut logged = 0;
    while lab.files(".log").len() < 3 {
        logged += 1;
        db.put(format!("key{logged:04}"), "x".repeat(200)).expect("written");
        while logged == 1 && db.run_background_step() {}
    }
    db.put("in the last log", "1").expect("written");
    db.close().expect("nothing is open");
    assert_eq!(asks(&lab), None);
    // As RocksDB leaves it: it asks for a number that its next log does not get.
    let renamed = lab.crash(firndb::CrashPolicy::KeepAll, 0);
    let logs: Vec<u64> = renamed.files(".log").into_iter().collect();
    for number in logs.iter().rev() {
        let path = |number: u64| Path::new(DIR).join(format!("{number:06}.log"));
        renamed.fs.rename(&path(*number), &path(number + 50)).expect("free");
    }
    assert_eq!(asks(&renamed), None);
    assert_eq!(all(&renamed.open()).len(), logged + 2);
    // Here a log is gone that had writes.
    lab.fs.remove_file(&log(&lab, 0)).expect("there");
    let note = asks(&lab).expect("it had writes");
    assert!(!note.contains("empty"), "{note}");
}

#[test]
fn damage_behind_what_every_family_has_in_its_tables_costs_what_follows_it_and_no_more() {
    // One family needs the log no longer; but what it has is from before the damage.
    let lab = lab();
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    let still = db.create_column_family("still").expect("new");
    still.put("a", "b").expect("written");
    write_both(&db, &side, 0, BATCHES);
    still.flush().expect("flushed");
    drop((side, still));
    db.close().expect("nothing is open");
    flip(&lab, &log(&lab, 0), 5);
    let db = lab.open();
    let (default, side) = rounds(&db);
    assert_eq!(default, side);
    assert!(default.is_some_and(|last| (BATCHES / 3..BATCHES * 2 / 3).contains(&last)), "{default:?}");
    assert_eq!(all(&db).len() as u64, default.expect("some") + 2);
    assert_eq!(db.recovery_report().dropped.len(), 1);
    assert_eq!(db.column_family("still").expect("there").get("a").expect("read").as_deref(), Some(&b"b"[..]));
    db.close().expect("nothing is open");
}

#[test]
fn a_page_that_was_lost_in_the_middle_of_a_log_ends_what_is_recovered() {
    let written = lab();
    let db = written.open();
    let side = db.create_column_family("side").expect("new");
    write_both(&db, &side, 0, BATCHES);
    drop(side);
    db.close().expect("nothing is open");
    type Found = (RecoveryReport, (Option<u64>, Option<u64>), usize);
    let reports = |mode: WalRecoveryMode| -> firndb::Result<Found> {
        let lab = written.crash(firndb::CrashPolicy::KeepAll, 0);
        // A block begins with a record, or a piece of one.
        lab.fs.damage(&log(&lab, 0), |bytes| bytes[32768..36864].fill(0)).expect("there");
        let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
        assert_eq!(report.damages.len(), 1, "{:?}", report.damages);
        let lab = lab.change(|options| options.wal_recovery_mode = mode);
        let db = lab.try_open()?;
        let found = (db.recovery_report().clone(), rounds(&db), all(&db).len());
        db.close().expect("nothing is open");
        Ok(found)
    };
    let (report, (default, side), keys) = reports(WalRecoveryMode::PointInTime).expect("it opens");
    assert_eq!((default, keys as u64), (side, default.expect("some") + 2), "a prefix, and whole batches");
    assert!(report.dropped.len() == 1 && !report.dropped[0].is_cut_off, "{report:?}");
    let (report, (default, _), keys) = reports(WalRecoveryMode::SkipAnyCorruptedRecords).expect("it opens");
    assert!(default == Some(BATCHES - 1) && (keys as u64) < BATCHES + 1 && !report.dropped.is_empty(), "{report:?}");
    for mode in [WalRecoveryMode::AbsoluteConsistency, WalRecoveryMode::TolerateCorruptedTailRecords] {
        assert_eq!(reports(mode).map(drop).expect_err("a hole").kind(), ErrorKind::Corruption, "{mode:?}");
    }
}

#[test]
fn a_log_that_ends_in_half_a_record_is_what_a_crash_leaves_in_every_mode_but_the_strictest() {
    let written = lab();
    let db = written.open();
    let side = db.create_column_family("side").expect("new");
    write_both(&db, &side, 0, 10);
    drop(side);
    db.close().expect("nothing is open");
    for mode in [
        WalRecoveryMode::PointInTime,
        WalRecoveryMode::TolerateCorruptedTailRecords,
        WalRecoveryMode::SkipAnyCorruptedRecords,
        WalRecoveryMode::AbsoluteConsistency,
    ] {
        let lab = written.crash(firndb::CrashPolicy::KeepAll, 0);
        lab.fs.damage(&log(&lab, 0), |bytes| bytes.truncate(bytes.len() - 5)).expect("there");
        let lab = lab.change(|options| options.wal_recovery_mode = mode);
        match lab.try_open() {
            Ok(db) => {
                assert_ne!(mode, WalRecoveryMode::AbsoluteConsistency);
                assert_eq!(rounds(&db), (Some(8), Some(8)), "{mode:?}");
                assert!(db.recovery_report().dropped.iter().all(|piece| piece.is_cut_off), "{mode:?}");
                db.close().expect("nothing is open");
            }
            Err(error) => {
                assert_eq!((mode, error.kind()), (WalRecoveryMode::AbsoluteConsistency, ErrorKind::Corruption))
            }
        }
    }
}
