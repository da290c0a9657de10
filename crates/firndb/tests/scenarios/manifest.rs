//! MANIFEST and logs, their failures, and the numbers of files: T12 to T16.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use firndb::{CrashPolicy, CreateMode, ErrorKind, Fault, FaultEffect, Fs, FsOp, WriteOptions};

use crate::lab::{DIR, Lab, Map, ORDERLY, all, fill, manifest_tables, settle};

#[test]
fn t12_after_a_failed_sync_of_manifest_a_reopen_finds_all_files_whether_the_record_arrived_or_not() {
    for effect in [FaultEffect::Eio, FaultEffect::SyncDropsDirty] {
        for is_compaction in [true, false] {
            let lab = Lab::new();
            let db = lab.open();
            let mut expected = fill(&db, 50, "first");
            db.flush().expect("flushed");
            expected.extend(fill(&db, 80, "second"));
            if is_compaction {
                db.flush().expect("flushed");
            }
            db.flush_wal(true).expect("synced");
            lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", effect));
            // Whoever recovers from here on may have to live with either outcome, whatever is still tried.
            lab.fs.inject(Fault::on(FsOp::Create, "MANIFEST-*", FaultEffect::Eio).sticky());
            let error = match is_compaction {
                true => db.compact_range::<&[u8]>(..).expect_err("the sync fails"),
                false => db.flush().expect_err("the sync fails"),
            };
            assert!(error.to_string().contains("MANIFEST-"), "{error}");
            for _ in 0..20 {
                lab.clock.advance(std::time::Duration::from_secs(5));
                settle(&db);
            }
            assert_eq!(all(&db), expected, "reads go on");
            for policy in [CrashPolicy::KeepAll, CrashPolicy::DropUnsynced, CrashPolicy::TornWrite] {
                let image = lab.crash(policy, 1);
                let again = image.open();
                assert_eq!(all(&again), expected, "{effect:?} {policy:?}");
                again.close().expect("nothing is open");
                image.assert_disk_is_manifest();
                image.verify();
            }
        }
    }
}

#[test]
fn t13_no_number_is_given_twice_over_crashes_that_lose_edits() {
    let mut lab = Lab::new().change(|options| options.max_manifest_file_size = 2000);
    let made: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
    let mut expected = Map::new();
    for life in 0..12u64 {
        let seen = Arc::clone(&made);
        let fs = lab.fs.clone();
        lab.hook.set(move |op, path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_numbered = name.ends_with(".sst") || name.ends_with(".log") || name.starts_with("MANIFEST-");
            if op == FsOp::Create && is_numbered {
                assert!(seen.lock().expect("whole").insert(path.to_owned()), "{name} was made before");
                assert!(!fs.exists(path).expect("memory"), "{name} is there");
            }
        });
        let db = lab.open();
        assert_eq!(all(&db), expected, "life {life}");
        let written = fill(&db, 20, &format!("life {life}"));
        db.flush_wal(true).expect("synced");
        expected.extend(written);
        db.flush().expect("flushed");
        // The edit of a compaction, or of a flush, is lost together with the knowledge of its file.
        lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio).sticky());
        if life % 2 == 0 {
            db.compact_range::<&[u8]>(..).expect_err("the sync fails");
        } else {
            db.put("key0000", "later").expect("written");
            db.flush().expect_err("the sync fails");
        }
        let policy = if life % 3 == 0 { CrashPolicy::KeepAll } else { CrashPolicy::DropUnsynced };
        if life % 2 == 1 {
            // Its log was synced when the flush began a new one.
            expected.insert(b"key0000".to_vec(), b"later".to_vec());
        }
        lab.hook.clear();
        let next = lab.crash(policy, life);
        drop(db);
        lab = next;
    }
}

#[test]
fn t14_an_orphan_that_cannot_be_unlinked_does_no_harm_and_its_number_is_skipped_for_good() {
    let lab = Lab::new();
    let db = lab.open();
    let mut expected = fill(&db, 20, "first");
    db.close().expect("nothing is open");
    drop(db);
    let orphan = Path::new(DIR).join("000777.sst");
    lab.fs.create(&orphan, CreateMode::New).expect("new").append(b"no table").expect("memory");
    lab.fs.sync_dir(DIR.as_ref()).expect("memory");
    lab.fs.inject(Fault::on(FsOp::Remove, "000777.sst", FaultEffect::Eio).sticky());
    let db = lab.open();
    expected.extend(fill(&db, 30, "second"));
    db.flush().expect("flushed");
    settle(&db);
    assert_eq!(all(&db), expected);
    assert!(lab.fs.exists(&orphan).expect("memory"));
    let new: Vec<u64> = manifest_tables(&lab.fs).0.into_iter().filter(|number| *number > 700).collect();
    assert!(!new.is_empty() && new.iter().all(|number| *number > 777), "{new:?}");
    // Once the disk lets go of it, it goes without a reopen; and its number stays used.
    lab.fs.clear_faults();
    lab.clock.advance(std::time::Duration::from_secs(60));
    settle(&db);
    lab.assert_disk_is_manifest();
    db.close().expect("nothing is open");
    let db = lab.open();
    db.put("key0000", "third").expect("written");
    db.flush().expect("flushed");
    assert!(manifest_tables(&lab.fs).0.iter().all(|number| *number != 777));
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn t15_a_crash_at_any_step_of_a_manifest_roll_loses_nothing() {
    let mut images = 0;
    for step in 0.. {
        let mut lab = Lab::new();
        let db = lab.open();
        let mut expected = fill(&db, 10, "first");
        db.create_column_family("side").expect("new");
        db.flush().expect("flushed");
        db.close().expect("nothing is open");
        drop(db);
        // From now on every edit rolls.
        lab.options.max_manifest_file_size = 1;
        let db = lab.open();
        expected.extend(fill(&db, 20, "second"));
        db.flush_wal(true).expect("synced");
        lab.fs.crash_after(lab.fs.op_count() + step);
        let is_done = db.flush().is_ok();
        for policy in ORDERLY {
            for seed in 0..4 {
                let image = lab.crash(policy, seed * 1000 + step);
                let again = image.try_open().unwrap_or_else(|error| panic!("step {step}, {policy:?}: {error}"));
                assert_eq!(all(&again), expected, "step {step}, {policy:?}");
                again.column_family("side").expect("it is there");
                again.close().expect("nothing is open");
                image.assert_disk_is_manifest();
                images += 1;
            }
        }
        drop(db);
        if is_done {
            break;
        }
    }
    assert!(images > 300, "{images} images are too few for a roll");
}

#[test]
fn t16_no_durable_manifest_ever_names_a_table_that_is_not_whole_on_the_disk() {
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.level0_file_num_compaction_trigger = 2;
        options.max_manifest_file_size = 1500;
    });
    let looks = Arc::new(Mutex::new((0u32, 0u32)));
    let (fs, counted) = (lab.fs.clone(), Arc::clone(&looks));
    lab.hook.set(move |op, _| {
        if !matches!(op, FsOp::Append | FsOp::Sync | FsOp::SyncDir | FsOp::Rename | FsOp::Remove | FsOp::Create) {
            return;
        }
        // The worst disk that a power loss right now could leave.
        let image = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
        if !image.exists(&Path::new(DIR).join("CURRENT")).expect("memory") {
            return;
        }
        let (named, _) = manifest_tables(&image);
        for number in &named {
            let path = Path::new(DIR).join(format!("{number:06}.sst"));
            let durable = image.file_size(&path).unwrap_or_else(|error| panic!("before {op:?}: {error}"));
            assert!(durable > 0 && fs.file_size(&path).is_ok_and(|size| size == durable), "before {op:?}: {path:?}");
        }
        let mut counted = counted.lock().expect("whole");
        counted.0 += 1;
        counted.1 += named.len() as u32;
    });
    let db = lab.open();
    for round in 0..8 {
        fill(&db, 60, &format!("round {round}"));
        settle(&db);
    }
    db.default_column_family().put_with("last", "x", &WriteOptions::synced()).expect("written");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    db.close().expect("nothing is open");
    let looks = *looks.lock().expect("whole");
    assert!(looks.0 > 300 && looks.1 > 1000, "{looks:?}");
}

#[test]
fn a_manifest_that_lost_its_file_is_corruption_and_not_an_empty_database() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 10, "first");
    db.close().expect("nothing is open");
    drop(db);
    let manifest = Path::new(DIR).join(format!("MANIFEST-{:06}", manifest_tables(&lab.fs).1));
    lab.fs.remove_file(&manifest).expect("memory");
    let error = lab.try_open().expect_err("nothing to go by");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains("MANIFEST-"), "{error}");
}

#[test]
fn what_survives_of_several_logs_that_nobody_asked_to_sync_is_a_prefix() {
    let lab = Lab::new().change(|options| options.family.write_buffer_size = 2048);
    let db = lab.open();
    for number in 0..80 {
        db.put(format!("key{number:04}"), vec![7; 90]).expect("written");
    }
    assert!(lab.files(".log").len() > 3, "{:?}", lab.files(".log"));
    for policy in ORDERLY {
        for seed in 0..40 {
            let image = lab.crash(policy, seed);
            let found = all(&image.open());
            let prefix = (0..found.len()).map(|number| format!("key{number:04}").into_bytes());
            assert!(found.keys().cloned().eq(prefix), "{policy:?} {seed}: a hole among {} keys", found.len());
        }
    }
}
