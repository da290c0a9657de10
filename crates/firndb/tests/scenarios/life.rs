//! The life and end of files, families and handles: T10, T11, T17, T19, T29, T31.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    CloseMode, CrashPolicy, CreateMode, Cursor, Db, ErrorKind, Fs, FsOp, Iter, PinKind, ReadOptions, Slice, Snapshot,
};

use crate::lab::{DIR, Lab, Map, ORDERLY, Random, all, collect, contents, eventually, fill, manifest_tables, settle};

/// A family with tables, a full memtable's worth of writes, and two readers in the middle of it.
fn family_with_readers(db: &Db) -> (Map, Iter, Cursor) {
    let family = db.create_column_family("doomed").expect("new");
    let mut expected = Map::new();
    for number in 0..200 {
        let (key, value) = (format!("key{number:04}"), format!("value {number}"));
        family.put(&key, &value).expect("written");
        expected.insert(key.into_bytes(), value.into_bytes());
        if number == 120 {
            family.flush().expect("flushed");
        }
    }
    let mut iter = family.iter().expect("it opens");
    iter.next().expect("the first").expect("read");
    let mut cursor = family.cursor(ReadOptions::default()).expect("it opens");
    assert!(cursor.seek_to_last().expect("read"));
    (expected, iter, cursor)
}

fn rest_of(cursor: &mut Cursor) -> Map {
    let mut found = Map::new();
    while cursor.valid() {
        found.insert(cursor.key().to_vec(), cursor.value().to_vec());
        cursor.prev().expect("read");
    }
    found
}

#[test]
fn t10_a_dropped_family_is_read_to_its_end_by_its_last_two_readers_and_then_is_gone() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 10, "first");
    db.flush().expect("flushed");
    let (mut expected, iter, mut cursor) = family_with_readers(&db);
    let with_family = lab.tables();
    db.drop_column_family("doomed").expect("dropped");
    settle(&db);
    assert_eq!(lab.tables(), with_family, "the readers keep the files");
    let held: Vec<_> = db.pins().iter().map(|pin| (pin.kind, pin.files.len())).collect();
    assert_eq!(held, [(PinKind::Iterator, 1), (PinKind::Iterator, 1)]);
    assert_eq!(rest_of(&mut cursor), expected);
    drop(cursor);
    settle(&db);
    assert_eq!(lab.tables(), with_family, "the other reader still does");
    expected.pop_first();
    assert_eq!(collect(iter), expected);
    settle(&db);
    assert!(lab.tables().len() < with_family.len());
    lab.assert_disk_is_manifest();
    db.close().expect("nothing is open");
    let db = lab.open();
    assert_eq!(db.column_family("doomed").expect_err("dropped").kind(), ErrorKind::NoSuchColumnFamily);
    assert_eq!(all(&db).len(), 10);
}

#[test]
fn t10_readers_of_a_dropped_family_outlive_the_database_in_every_way_it_can_end() {
    for way in ["handles", "wait", "oust"] {
        let lab = Lab::with_threads();
        let db = lab.open();
        let (mut expected, mut iter, mut cursor) = family_with_readers(&db);
        db.drop_column_family("doomed").expect("dropped");
        match way {
            "handles" => {
                drop(db);
                assert_eq!(lab.try_open().expect_err("readers keep the lock").kind(), ErrorKind::Locked);
                assert_eq!(rest_of(&mut cursor), expected);
                drop(cursor);
                expected.pop_first();
                assert_eq!(collect(&mut iter), expected);
                drop(iter);
            }
            "wait" => std::thread::scope(|scope| {
                let closing = scope.spawn(|| db.close_with(CloseMode::Wait));
                assert_eq!(rest_of(&mut cursor), expected);
                drop(cursor);
                expected.pop_first();
                assert_eq!(collect(&mut iter), expected);
                assert!(!closing.is_finished());
                drop(iter);
                closing.join().expect("no panic").expect("closed");
            }),
            _ => {
                db.close_with(CloseMode::Oust).expect("closed");
                assert_eq!(iter.next().expect("an error").expect_err("ousted").kind(), ErrorKind::PinEvicted);
                assert_eq!(cursor.prev().expect_err("ousted").kind(), ErrorKind::PinEvicted);
            }
        }
        let mut again = None;
        eventually("the directory is free", || {
            again = lab.try_open().ok();
            again.is_some()
        });
        let db = again.expect("open");
        assert_eq!(db.column_families().len(), 1, "{way}");
        db.close().expect("nothing is open");
        lab.assert_disk_is_manifest();
        lab.verify();
    }
}

#[test]
fn t11_readers_own_what_they_read_and_may_go_anywhere() {
    fn own<T: Send + 'static>() {}
    fn share<T: Send + Sync + Clone + 'static>() {}
    own::<Iter>();
    own::<Cursor>();
    own::<firndb::LiveFiles>();
    share::<Snapshot>();
    share::<Slice>();
    share::<Db>();
    share::<firndb::ColumnFamily>();
    let lab = Lab::with_threads();
    let (value, mut iter) = {
        let db = lab.open();
        db.put("big", vec![7; 5000]).expect("written");
        db.put("small", "x").expect("written");
        db.flush().expect("flushed");
        let value = db.get("big").expect("read").expect("there");
        (value, db.iter().expect("it opens"))
    };
    // No handle is left; another thread goes on where this one was.
    let rest = std::thread::spawn(move || {
        let first = iter.next().expect("the first").expect("read");
        (first.1, iter.count())
    });
    let (first, rest) = rest.join().expect("no panic");
    assert_eq!((first.len(), rest), (5000, 1));
    eventually("the directory is free", || lab.try_open().is_ok());
    assert_eq!(&*value, &[7; 5000], "a value outlives the database that it came from");
}

#[test]
fn t11_every_call_after_close_says_closed_and_every_step_of_a_reader_says_that_it_was_ousted() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 600, "first");
    db.flush().expect("flushed");
    let family = db.create_column_family("side").expect("new");
    let snapshot = db.snapshot();
    let mut iter = db.iter().expect("it opens");
    let mut cursor = db.cursor(ReadOptions::default()).expect("it opens");
    cursor.seek("key0100").expect("read");
    // In the middle of things, far from where a long walk looks up by itself.
    for _ in 0..10 {
        iter.next().expect("more").expect("read");
        iter.next_back().expect("more").expect("read");
        cursor.next().expect("read");
    }
    let refused = db.close().expect_err("readers are open");
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert_eq!(db.get("key0001").expect("open still").map(|value| value.len()), Some(9));
    db.close_with(CloseMode::Oust).expect("closed");

    assert_eq!(iter.next().expect("an error").expect_err("ousted").kind(), ErrorKind::PinEvicted);
    assert!(iter.next_back().is_none(), "an error is final");
    for _ in 0..2 {
        assert_eq!(cursor.next().expect_err("ousted").kind(), ErrorKind::PinEvicted);
        assert_eq!(cursor.prev().expect_err("ousted").kind(), ErrorKind::PinEvicted);
        assert_eq!(cursor.seek("key").expect_err("ousted").kind(), ErrorKind::PinEvicted);
        assert!(!cursor.valid());
    }
    let error = cursor.status().expect_err("ousted");
    assert!(error.to_string().contains("scenarios/life.rs"), "{error}");

    let with_snapshot = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    let kinds = [
        db.get("k").expect_err("closed").kind(),
        db.get_with("k", &with_snapshot).expect_err("closed").kind(),
        db.multi_get(&["k"]).remove(0).expect_err("closed").kind(),
        db.iter().expect_err("closed").kind(),
        db.cursor(ReadOptions::default()).expect_err("closed").kind(),
        db.put("k", "v").expect_err("closed").kind(),
        db.flush().expect_err("closed").kind(),
        db.flush_wal(true).expect_err("closed").kind(),
        db.compact_range::<&[u8]>(..).expect_err("closed").kind(),
        db.create_column_family("new").expect_err("closed").kind(),
        db.drop_column_family("side").expect_err("closed").kind(),
        family.put("k", "v").expect_err("closed").kind(),
        family.iter().expect_err("closed").kind(),
    ];
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Closed), "{kinds:?}");
    db.close().expect("twice is harmless");
    drop((iter, cursor, with_snapshot));
    assert_eq!(all(&lab.open()).len(), 600);
}

#[test]
fn t17_the_search_for_orphans_at_open_takes_no_table_that_this_life_made() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 8192;
        options.family.level0_file_num_compaction_trigger = 1;
        options.avoid_flush_during_shutdown = true;
    });
    let mut expected = Map::new();
    for life in 0..15u64 {
        for orphan in 0..5 {
            let path = Path::new(DIR).join(format!("{:06}.sst", 100_000 * (life + 1) + orphan));
            if lab.fs.exists(DIR.as_ref()).expect("memory") {
                lab.fs.create(&path, CreateMode::New).expect("new");
            }
        }
        // Every removal takes its time, and must be of a table that no durable MANIFEST names.
        let fs = lab.fs.clone();
        lab.hook.set(move |op, path| {
            if op == FsOp::Remove {
                std::thread::sleep(Duration::from_micros(300));
                assert_not_needed(&fs, path);
            }
        });
        let db = lab.open();
        expected.extend(fill(&db, 150, &format!("life {life}")));
        assert_eq!(all(&db), expected);
        db.close().expect("nothing is open");
        lab.hook.clear();
        lab.assert_disk_is_manifest();
    }
    lab.verify();
}

/// That `path`, about to be removed, is no table of the MANIFEST that a power loss would leave, nor that MANIFEST.
fn assert_not_needed(fs: &firndb::MemoryFs, path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for policy in [CrashPolicy::DropUnsynced, CrashPolicy::KeepAll] {
        let image = fs.crash_image(&policy, 0);
        if image.exists(&Path::new(DIR).join("CURRENT")).expect("memory") {
            let (named, manifest) = manifest_tables(&image);
            let is_named = named.iter().any(|number| name == format!("{number:06}.sst"));
            assert!(!is_named, "{name} is removed and named by the durable MANIFEST {manifest}");
            assert_ne!(name, format!("MANIFEST-{manifest:06}"));
        }
    }
}

#[test]
fn t19_once_all_pins_are_gone_the_disk_holds_what_manifest_names_and_nothing_else() {
    for seed in 0..6 {
        let lab = Lab::new().change(|options| {
            options.family.write_buffer_size = 4096;
            options.family.level0_file_num_compaction_trigger = 2;
        });
        let db = lab.open();
        let mut random = Random(seed);
        let (mut iters, mut snapshots) = (Vec::new(), Vec::new());
        for _ in 0..250 {
            match random.below(12) {
                0..6 => {
                    let key = format!("key{:04}", random.below(300));
                    settle(&db);
                    match random.below(5) {
                        0 => db.delete(key).expect("written"),
                        _ => db.put(key, vec![7; random.below(300) as usize]).expect("written"),
                    }
                }
                6 => iters.push(db.iter().expect("it opens")),
                7 => snapshots.push(db.snapshot()),
                8 => db.flush().expect("flushed"),
                9 => db.compact_range(format!("key{:04}", random.below(300))..).expect("compacted"),
                10 if !iters.is_empty() => {
                    let mut iter = iters.swap_remove(random.below(iters.len() as u64) as usize);
                    iter.next();
                }
                11 => match db.column_family("side") {
                    Ok(side) => {
                        side.put("a", "b").expect("written");
                        side.flush().expect("flushed");
                        iters.push(side.iter().expect("it opens"));
                        drop(side);
                        db.drop_column_family("side").expect("dropped");
                    }
                    Err(_) => drop(db.create_column_family("side").expect("new")),
                },
                _ => drop(snapshots.pop()),
            }
        }
        // Until the last reader goes, every file that it reads is there.
        settle(&db);
        for iter in iters.drain(..) {
            iter.for_each(|entry| drop(entry.expect("readable to the end")));
        }
        snapshots.clear();
        db.assert_no_pins().expect("none");
        settle(&db);
        lab.assert_disk_is_manifest();
        assert_eq!(db.stats().obsolete_files, 0);
        db.flush().expect("flushed");
        settle(&db);
        assert!(lab.files(".log").len() <= 2, "{:?}", lab.files(".log"));
        db.close().expect("nothing is open");
        lab.assert_disk_is_manifest();
        lab.verify();
    }
}

#[test]
fn t19_an_obsolete_file_is_gone_within_a_second_of_its_last_reader() {
    let mut took = Vec::new();
    // The machine may be busy: one of a few rounds is in time.
    while !took.iter().any(|took| *took < Duration::from_secs(1)) {
        assert!(took.len() < 10, "{took:?}");
        let lab = Lab::with_threads();
        let db = lab.open();
        fill(&db, 100, "first");
        db.flush().expect("flushed");
        let iter = db.iter().expect("it opens");
        fill(&db, 100, "second");
        db.compact_range::<&[u8]>(..).expect("compacted");
        eventually("the janitor has all but what the reader keeps", || db.stats().obsolete_files == 1);
        assert!(lab.tables().len() > manifest_tables(&lab.fs).0.len(), "the reader keeps the old table");
        drop(iter);
        let start = std::time::Instant::now();
        eventually("the old table is gone", || lab.tables() == manifest_tables(&lab.fs).0);
        took.push(start.elapsed());
        db.close().expect("nothing is open");
    }
}

#[test]
fn t29_a_close_among_deletions_and_an_immediate_reopen_remove_nothing_twice() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.level0_file_num_compaction_trigger = 2;
    });
    let removed: Arc<Mutex<BTreeMap<PathBuf, u32>>> = Arc::default();
    let (counts, fs) = (Arc::clone(&removed), lab.fs.clone());
    lab.hook.set(move |op, path| {
        // A MANIFEST's temporary file and the like may be tried without being there.
        if op == FsOp::Remove && path.extension().is_some_and(|ending| ending == "sst" || ending == "log") {
            std::thread::sleep(Duration::from_micros(500));
            if fs.exists(path).expect("memory") {
                *counts.lock().expect("whole").entry(path.to_owned()).or_default() += 1;
            } else {
                counts.lock().expect("whole").insert(path.to_owned(), 100);
            }
        }
    });
    let mut expected = Map::new();
    for life in 0..30 {
        let db = lab.open();
        assert_eq!(all(&db), expected);
        let iter = db.iter().expect("it opens");
        expected.extend(fill(&db, 80, &format!("life {life}")));
        match life % 3 {
            0 => db.compact_range::<&[u8]>(..).expect("compacted"),
            1 => db.flush().expect("flushed"),
            _ => {}
        }
        if life % 2 == 0 {
            // Its files wait for this very moment.
            drop(iter);
            db.close().expect("nothing is open");
        } else {
            db.close_with(CloseMode::Oust).expect("closed");
            drop(iter);
        }
    }
    // Who ousted readers has given the directory away: what they kept is the next one's to remove.
    lab.open().close().expect("nothing is open");
    let removed = removed.lock().expect("whole");
    assert!(removed.len() > 60, "{} removals", removed.len());
    assert!(removed.values().all(|count| *count == 1), "{removed:?}");
    lab.hook.clear();
    lab.assert_disk_is_manifest();
    lab.verify();
}

#[test]
fn t31_no_unlink_is_of_a_file_that_the_durable_manifest_or_recovery_needs() {
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.level0_file_num_compaction_trigger = 2;
        options.max_manifest_file_size = 1500;
    });
    let expected: Arc<Mutex<Map>> = Arc::default();
    let removals = Arc::new(Mutex::new(0));
    let (fs, wanted, count, options) =
        (lab.fs.clone(), Arc::clone(&expected), Arc::clone(&removals), lab.options.clone());
    lab.hook.set(move |op, path| {
        if op != FsOp::Remove {
            return;
        }
        assert_not_needed(&fs, path);
        *count.lock().expect("whole") += 1;
        // What was synced is found without the file, wherever the power goes.
        for policy in ORDERLY {
            let image = fs.crash_image(&policy, 1);
            if !image.exists(&Path::new(DIR).join("CURRENT")).expect("memory") {
                continue;
            }
            let _ = image.remove_file(path);
            let mut options = options.clone();
            options.fs = Arc::new(image);
            let db = Db::open_with(DIR, options).unwrap_or_else(|error| panic!("without {path:?}: {error}"));
            let found = all(&db);
            for (key, value) in wanted.lock().expect("whole").iter() {
                assert_eq!(found.get(key), Some(value), "{policy:?}, without {path:?}");
            }
        }
    });
    for life in 0..2 {
        let db = lab.open();
        let side = db.create_column_family(&format!("side{life}")).expect("new");
        for round in 0..4 {
            let written = fill(&db, 40, &format!("life {life} round {round}"));
            side.put("a", "b").expect("written");
            db.flush_wal(true).expect("synced");
            expected.lock().expect("whole").extend(written);
            settle(&db);
        }
        db.compact_range::<&[u8]>(..).expect("compacted");
        assert_eq!(contents(&side).len(), 1);
        drop(side);
        db.drop_column_family(&format!("side{life}")).expect("dropped");
        settle(&db);
        db.close().expect("nothing is open");
    }
    let removals = *removals.lock().expect("whole");
    assert!(removals > 30, "{removals} removals");
}
