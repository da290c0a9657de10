//! Tables that no version names, and that hold what nothing else holds: a MANIFEST that lost its end, logs that did.
//!
//! The story: a MANIFEST cut at its last edit is whole in itself. The table of the flush that it was about was an orphan
//! then, its log was gone, and opening for writing removed the only copy of those writes without a word.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use firndb::inspect::{self, Field};
use firndb::{CrashPolicy, CreateMode, Db, Durability, ErrorKind, Fault, FaultEffect, Fs, FsOp, SequenceNumber};
use firndb::{SetAsideTable, WriteBatch, WriteOptions, verify_directory};

use crate::lab::{DIR, Lab, Map, all, fill, manifest_tables, settle};

fn manifest(lab: &Lab) -> PathBuf {
    Path::new(DIR).join(format!("MANIFEST-{:06}", manifest_tables(&lab.fs).1))
}

/// Where the last record of MANIFEST begins, and where it ends.
fn last_record(lab: &Lab) -> (u64, u64) {
    let mut offset = None;
    inspect::manifest(&lab.fs, &manifest(lab), &mut |item| {
        if let Some((_, Field::Number(at))) = item.fields.iter().find(|(name, _)| name == "offset") {
            offset = Some(*at);
        }
        Ok(())
    })
    .expect("whole");
    (offset.expect("there is an edit"), lab.fs.file_size(&manifest(lab)).expect("there"))
}

fn cut(lab: &Lab, len: u64) {
    lab.fs.damage(&manifest(lab), |bytes| bytes.truncate(len as usize)).expect("there");
}

/// Puts of a table file.
fn entries(lab: &Lab, table: &Path) -> Map {
    let mut found = Map::new();
    inspect::sst(&lab.fs, table, &mut |item| {
        let bytes = |wanted: &str| {
            item.fields.iter().find_map(|(name, value)| match value {
                Field::Bytes(bytes) if name == wanted => Some(bytes.clone()),
                _ => None,
            })
        };
        if let (Some(key), Some(value)) = (bytes("key"), bytes("value")) {
            found.insert(key, value);
        }
        Ok(())
    })
    .expect("a whole table");
    found
}

fn damages(lab: &Lab) -> Vec<String> {
    let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
    assert!(report.damages.iter().all(|damage| damage.kind() == ErrorKind::Corruption), "{:?}", report.damages);
    report.damages.iter().map(ToString::to_string).collect()
}

fn only(tables: &[SetAsideTable]) -> &SetAsideTable {
    assert_eq!(tables.len(), 1, "{tables:?}");
    &tables[0]
}

/// Everything of `db` and of the tables that were set aside.
fn with_set_aside(lab: &Lab, db: &Db) -> Map {
    let mut found = all(db);
    for table in &db.recovery_report().set_aside {
        found.extend(entries(lab, &table.path));
    }
    found
}

/// A flush into a MANIFEST whose last edit is about it; what was there before, and what was flushed.
fn flushed() -> (Lab, Map, Map) {
    let lab = Lab::new();
    let db = lab.open();
    let before = fill(&db, 10, "before");
    db.flush().expect("flushed");
    let mut last = Map::new();
    for number in 0..7 {
        let key = format!("last{number}");
        db.put(&key, "value").expect("written");
        last.insert(key.into_bytes(), b"value".to_vec());
    }
    db.flush().expect("flushed");
    db.close().expect("nothing is open");
    (lab, before, last)
}

#[test]
fn a_manifest_cut_anywhere_in_its_last_edit_loses_no_flushed_write_in_silence() {
    let (whole, before, last) = flushed();
    let (begin, end) = last_record(&whole);
    for len in begin..end {
        let lab = whole.crash(CrashPolicy::KeepAll, 0);
        let newest = *lab.tables().last().expect("there are tables");
        cut(&lab, len);

        let name = format!("{newest:06}.sst");
        let found = damages(&lab);
        assert_eq!(found.len(), 1, "{found:?}");
        for words in [&*name, "MANIFEST-", "writes 11 to 17", "10 is the last"] {
            assert!(found[0].contains(words), "cut at {len}: {found:?}");
        }
        let names = lab.fs.paths();
        let reader = Db::open_read_only(DIR, lab.options.clone()).expect("it opens");
        assert_eq!(all(&reader), before);
        reader.close().expect("nothing is open");
        assert_eq!(lab.fs.paths(), names, "reading changes nothing");

        let db = lab.open();
        assert_eq!(all(&db), before);
        let table = only(&db.recovery_report().set_aside).clone();
        assert_eq!(table.path, Path::new(DIR).join("lost").join(&name));
        assert_eq!((table.table.0, table.sequences), (newest, Some(SequenceNumber(11)..=SequenceNumber(17))));
        assert_eq!(entries(&lab, &table.path), last);
        assert!(!lab.fs.exists(&Path::new(DIR).join(&name)).expect("memory"));
        // The number is taken, in this life and in those that come.
        for _ in 0..3 {
            db.put("later", "x").expect("written");
            db.flush().expect("flushed");
        }
        settle(&db);
        db.close().expect("nothing is open");
        let again = lab.open();
        assert!(again.recovery_report().set_aside.is_empty());
        assert_eq!(entries(&lab, &table.path), last, "nobody touches it");
        again.put("later", "y").expect("written");
        again.flush().expect("flushed");
        assert!(!manifest_tables(&lab.fs).0.contains(&newest));
        again.close().expect("nothing is open");
        assert_eq!(damages(&lab), [""; 0]);
        lab.assert_no_bugs();
    }
}

#[test]
fn a_lost_flush_is_noticed_though_the_log_has_later_writes_with_larger_numbers() {
    let lab = Lab::new().change(|options| options.avoid_flush_during_shutdown = true);
    let db = lab.open();
    let mut expected = fill(&db, 20, "flushed");
    db.flush().expect("flushed");
    db.put("later", "in the log").expect("written");
    db.close().expect("nothing is open");
    let (begin, _) = last_record(&lab);
    cut(&lab, begin);
    assert!(damages(&lab)[0].contains("writes 1 to 20 "), "{:?}", damages(&lab));
    let db = lab.open();
    let later = Map::from([(b"later".to_vec(), b"in the log".to_vec())]);
    assert_eq!((all(&db), db.latest_sequence()), (later.clone(), SequenceNumber(21)));
    expected.extend(later);
    assert_eq!(with_set_aside(&lab, &db), expected);
    db.close().expect("nothing is open");
}

#[test]
fn what_an_open_made_durable_is_not_lost_with_the_edit_that_said_so() {
    // MANIFEST has noted the numbers of these writes before: an edit states the last number there is, flushed or not.
    let lab = Lab::new();
    let db = lab.open();
    let mut expected = fill(&db, 10, "first");
    let side = db.create_column_family("side").expect("new");
    side.put("key", "side").expect("written");
    side.flush().expect("flushed");
    drop(side);
    let next = lab.crash(CrashPolicy::KeepAll, 0);
    drop(db);
    let db = next.open();
    assert_eq!(all(&db), expected);
    db.close().expect("nothing is open");
    drop(db);
    let (begin, _) = last_record(&next);
    cut(&next, begin);
    assert_eq!(damages(&next).len(), 1);
    let db = next.open();
    let found = with_set_aside(&next, &db);
    expected.retain(|key, value| found.get(key) != Some(value));
    assert!(expected.is_empty(), "{expected:?} are nowhere");
    db.close().expect("nothing is open");
}

/// As when CURRENT is put back to an older MANIFEST: the inputs are gone, and the outputs are in no version.
#[test]
fn a_directory_without_a_table_that_manifest_names_is_refused_and_left_as_it_is() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 40, "first");
    db.flush().expect("flushed");
    fill(&db, 20, "second");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    db.close().expect("nothing is open");
    let (begin, _) = last_record(&lab);
    cut(&lab, begin);
    let before = lab.fs.paths();
    for _ in 0..2 {
        let error = lab.try_open().expect_err("its tables are gone");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(".sst") && error.to_string().contains("does not exist"), "{error}");
    }
    let tables = |paths: &[std::path::PathBuf]| -> Vec<std::path::PathBuf> {
        paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "sst")).cloned().collect()
    };
    assert_eq!(tables(&before), tables(&lab.fs.paths()));
    // The first that is too short, and too long.
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 40, "first");
    db.flush().expect("flushed");
    db.close().expect("nothing is open");
    let table = tables(&lab.fs.paths()).remove(0);
    let bytes = lab.fs.file_size(&table).expect("there");
    for change in [|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 1), |bytes: &mut Vec<u8>| bytes.extend([0, 0])] {
        lab.fs.damage(&table, change).expect("there");
        let error = lab.try_open().expect_err("of another size");
        assert!(error.to_string().contains(&format!("MANIFEST says {bytes}")), "{error}");
    }
}

#[test]
fn tables_that_hold_nothing_new_are_removed_as_ever() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 30, "first");
    db.flush().expect("flushed");
    fill(&db, 30, "second");
    db.flush().expect("flushed");
    // The tables that a compaction leaves behind when nobody unlinks them, and one that it could not finish the edit of.
    lab.fs.inject(Fault::on(FsOp::Remove, "*.sst", FaultEffect::Eio).sticky());
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    lab.fs.inject(Fault::on(FsOp::Append, "MANIFEST-*", FaultEffect::Eio).sticky());
    lab.fs.inject(Fault::on(FsOp::Create, "MANIFEST-*", FaultEffect::Eio).sticky());
    fill(&db, 30, "third");
    db.flush_wal(true).expect("synced");
    db.flush().expect_err("no edit arrives");
    let expected = all(&db);
    let next = lab.crash(CrashPolicy::KeepAll, 0);
    drop(db);
    let orphans: BTreeSet<u64> = next.tables().difference(&manifest_tables(&next.fs).0).copied().collect();
    assert!(orphans.len() >= 3, "{orphans:?}");
    // Half of a table, something that is none, and an empty file.
    let some = Path::new(DIR).join(format!("{:06}.sst", orphans.first().expect("some")));
    let bytes = next.fs.read_whole(&some, 1 << 20).expect("there");
    for (number, content) in [(777, &bytes[..bytes.len() / 2]), (778, b"no table"), (779, b"")] {
        let path = Path::new(DIR).join(format!("{number:06}.sst"));
        next.fs.create(&path, CreateMode::New).expect("new").append(content).expect("memory");
    }
    assert_eq!(damages(&next), [""; 0]);
    let db = next.open();
    assert_eq!(all(&db), expected);
    assert_eq!(db.recovery_report().set_aside, []);
    settle(&db);
    assert!(!next.fs.exists(&Path::new(DIR).join("lost")).expect("memory"));
    next.assert_disk_is_manifest();
    db.close().expect("nothing is open");
    next.verify();
}

fn put_unlogged(db: &Db, key: &str) {
    let mut batch = WriteBatch::new();
    batch.put(key, "value");
    db.write_with(&mut batch, &WriteOptions::with_durability(Durability::NoWal)).expect("written");
}

/// The logs are whole, and another family still needs the first of them; they never had what the table has.
#[test]
fn a_lost_table_with_writes_that_were_in_no_log_is_kept_whatever_the_logs_have() {
    for is_compacted in [false, true] {
        let lab = Lab::new().change(|options| options.avoid_flush_during_shutdown = true);
        let db = lab.open();
        let side = db.create_column_family("side").expect("new");
        side.put("logged", "value").expect("written");
        put_unlogged(&db, "unlogged");
        if is_compacted {
            // Lost is the edit of the compaction, and the one before it.
            db.flush().expect("flushed");
            put_unlogged(&db, "unlogged");
        }
        let begin = lab.fs.file_size(&manifest(&lab)).expect("there");
        db.flush().expect("flushed");
        lab.fs.inject(Fault::on(FsOp::Remove, "*.sst", FaultEffect::Eio).sticky());
        if is_compacted {
            let snapshot = db.snapshot();
            db.put("unlogged", "logged").expect("written");
            db.flush().expect("flushed");
            db.compact_range::<&[u8]>(..).expect("compacted");
            drop(snapshot);
        }
        settle(&db);
        drop(side);
        db.close().expect("nothing is open");
        drop(db);
        lab.fs.clear_faults();
        cut(&lab, begin);
        // A crash leaves just this: it is no damage, but it is said.
        let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert!(report.notes.iter().any(|note| note.contains("are in no log and in no other table")), "{report:?}");
        let db = lab.open();
        assert_eq!(db.column_family("side").expect("there").get("logged").expect("ok").as_deref(), Some(&b"value"[..]));
        assert!(!db.recovery_report().set_aside.is_empty());
        assert!(with_set_aside(&lab, &db).contains_key(&b"unlogged"[..]));
        db.close().expect("nothing is open");
    }
}

/// They were not promised yet, but a flush that was done and lost its edit looks just the same.
#[test]
fn writes_without_a_log_that_a_crash_catches_between_table_and_edit_are_set_aside() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 5, "logged");
    db.flush().expect("flushed");
    put_unlogged(&db, "unlogged");
    lab.fs.inject(Fault::on(FsOp::Append, "MANIFEST-*", FaultEffect::Eio).sticky());
    lab.fs.inject(Fault::on(FsOp::Create, "MANIFEST-*", FaultEffect::Eio).sticky());
    db.flush().expect_err("no edit arrives");
    let next = lab.crash(CrashPolicy::KeepAll, 0);
    drop(db);
    let db = next.open();
    assert_eq!(db.get("unlogged").expect("readable"), None);
    let table = only(&db.recovery_report().set_aside);
    assert_eq!(entries(&next, &table.path).keys().collect::<Vec<_>>(), [b"unlogged"]);
    settle(&db);
    db.close().expect("nothing is open");
    // Once: the next open has nothing to say.
    let db = next.open();
    assert_eq!(db.recovery_report().set_aside, []);
    db.close().expect("nothing is open");
    assert_eq!(damages(&next), [""; 0]);
}

#[test]
fn a_damaged_log_that_recovery_stops_in_does_not_take_the_table_of_its_writes_along() {
    let lab = Lab::new();
    let db = lab.open();
    let expected = fill(&db, 20, "both");
    lab.fs.inject(Fault::on(FsOp::Append, "MANIFEST-*", FaultEffect::Eio).sticky());
    lab.fs.inject(Fault::on(FsOp::Create, "MANIFEST-*", FaultEffect::Eio).sticky());
    db.flush().expect_err("no edit arrives");
    let next = lab.crash(CrashPolicy::KeepAll, 0);
    drop(db);
    // Undamaged, the log has all of it.
    let sound = next.crash(CrashPolicy::KeepAll, 0);
    let db = sound.open();
    assert_eq!((all(&db), db.recovery_report().set_aside.len()), (expected.clone(), 0));
    db.close().expect("nothing is open");
    let log = Path::new(DIR).join(format!("{:06}.log", next.files(".log").first().expect("a log")));
    next.fs.damage(&log, |bytes| bytes[300] ^= 1).expect("there");
    let db = next.open();
    assert!(all(&db).len() < 20);
    assert_eq!(with_set_aside(&next, &db), expected);
    assert!(!db.recovery_report().dropped.is_empty());
    db.close().expect("nothing is open");
}

#[test]
fn a_lost_table_with_a_damaged_block_is_kept_for_whoever_can_read_it() {
    let (lab, before, _) = flushed();
    let newest = Path::new(DIR).join(format!("{:06}.sst", lab.tables().last().expect("a table")));
    let (begin, _) = last_record(&lab);
    cut(&lab, begin);
    lab.fs.damage(&newest, |bytes| bytes[3] ^= 1).expect("there");
    assert!(damages(&lab)[0].contains("cannot be read"), "{:?}", damages(&lab));
    let db = lab.open();
    assert_eq!(all(&db), before);
    let table = only(&db.recovery_report().set_aside);
    assert_eq!(table.sequences, None);
    assert!(table.reason.contains("cannot be read"), "{table:?}");
    assert!(lab.fs.exists(&table.path).expect("memory"));
    db.close().expect("nothing is open");
}

#[test]
fn a_lost_table_is_in_one_of_the_two_directories_whenever_the_power_fails() {
    let (whole, before, last) = flushed();
    let (begin, _) = last_record(&whole);
    cut(&whole, begin);
    let mut images = 0;
    for step in 0.. {
        let lab = whole.crash(CrashPolicy::KeepAll, 0);
        lab.fs.crash_after(lab.fs.op_count() + step);
        let is_done = lab.try_open().map(drop).is_ok();
        for policy in crate::lab::ORDERLY {
            for seed in 0..3 {
                let image = lab.crash(policy, step * 10 + seed);
                let db = image.open();
                assert_eq!(all(&db), before, "step {step}, {policy:?}");
                db.close().expect("nothing is open");
                let in_lost: Vec<PathBuf> =
                    image.fs.paths().into_iter().filter(|path| path.starts_with("/db/lost/")).collect();
                assert!(!in_lost.is_empty(), "step {step}, {policy:?}: it is gone");
                assert!(in_lost.iter().all(|path| entries(&image, path) == last), "step {step}, {policy:?}");
                images += 1;
            }
        }
        if is_done {
            break;
        }
    }
    assert!(images > 300, "{images} images are too few");
}

#[test]
fn nothing_in_lost_is_overwritten_and_a_move_that_fails_fails_the_open() {
    let (lab, _, last) = flushed();
    let newest = *lab.tables().last().expect("a table");
    let (begin, _) = last_record(&lab);
    cut(&lab, begin);
    let lost = Path::new(DIR).join("lost");
    lab.fs.create_dir_all(&lost).expect("memory");
    let taken = lost.join(format!("{newest:06}.sst"));
    lab.fs.create(&taken, CreateMode::New).expect("new").append(b"somebody's").expect("memory");
    lab.fs.inject(Fault::on(FsOp::HardLink, "*.sst", FaultEffect::Eio).sticky());
    lab.fs.inject(Fault::on(FsOp::Rename, "*.sst", FaultEffect::Eio).sticky());
    lab.try_open().expect_err("the table cannot be moved, and must not be removed");
    // A name in both directories is safer than a move, if there is no reason against it.
    lab.fs.clear_faults();
    lab.fs.inject(Fault::on(FsOp::HardLink, "*.sst", FaultEffect::Eio));
    assert_eq!(lab.try_open().expect_err("no move instead").io().expect("of a file").operation, "link");
    assert_eq!(entries(&lab, &Path::new(DIR).join(format!("{newest:06}.sst"))), last);
    // A file system without hard links.
    lab.fs.clear_faults();
    lab.fs.inject(Fault::on(FsOp::HardLink, "*.sst", FaultEffect::NotPermitted).sticky());
    let db = lab.open();
    let table = only(&db.recovery_report().set_aside);
    assert_eq!(table.path, lost.join(format!("{newest:06}.2.sst")));
    assert_eq!(entries(&lab, &table.path), last);
    assert_eq!(lab.fs.read_whole(&taken, 100).expect("there"), b"somebody's");
    db.close().expect("nothing is open");
}

/// Which logs are needed is known exactly, whatever the families that were not flushed last have in MANIFEST.
#[test]
fn a_crash_in_a_flush_of_unlogged_writes_is_no_damage_beside_a_family_that_was_flushed_long_ago() {
    for (is_side_idle, is_dropped) in [(true, false), (false, false), (true, true), (false, true)] {
        let lab = Lab::new().change(|options| options.avoid_flush_during_shutdown = true);
        let db = lab.open();
        let side = db.create_column_family("side").expect("new");
        let gone = is_dropped.then(|| db.create_column_family("gone").expect("new"));
        for key in ["a", "b"] {
            db.put(key, "value").expect("written");
            if let Some(gone) = &gone {
                gone.put(key, "value").expect("written");
            }
            if !is_side_idle {
                side.put(key, "value").expect("written");
            }
            db.flush().expect("flushed");
            side.flush().expect("flushed");
        }
        if gone.is_some() {
            // What it needs the first logs for goes with it.
            drop(gone);
            db.drop_column_family("gone").expect("dropped");
        }
        settle(&db);
        assert_eq!(lab.files(".log").len(), 1, "{:?}", lab.files(".log"));
        put_unlogged(&db, "unlogged");
        lab.fs.inject(Fault::on(FsOp::Append, "MANIFEST-*", FaultEffect::Eio).sticky());
        lab.fs.inject(Fault::on(FsOp::Create, "MANIFEST-*", FaultEffect::Eio).sticky());
        db.flush().expect_err("no edit");
        let next = lab.crash(CrashPolicy::KeepAll, 0);
        let report = verify_directory(DIR, &next.options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        assert!(report.notes.iter().any(|note| note.contains("are in no log and in no other table")), "{report:?}");
    }
}

#[test]
fn an_open_that_fails_sets_no_table_aside_unheard() {
    let lab = Lab::new().change(|options| options.avoid_flush_during_shutdown = true);
    let db = lab.open();
    db.put("a", "value").expect("written");
    let begin = lab.fs.file_size(&manifest(&lab)).expect("there");
    db.flush().expect("flushed");
    settle(&db);
    db.put("b", "value").expect("written");
    db.close().expect("nothing is open");
    cut(&lab, begin);
    lab.fs.inject(Fault::on(FsOp::Create, "*.sst", FaultEffect::NoSpace));
    lab.try_open().map(drop).expect_err("the disk is full");
    lab.fs.clear_faults();
    let db = lab.open();
    assert_eq!(db.recovery_report().set_aside.len(), 1);
    db.close().expect("nothing is open");
}
