//! The end of a database: asked for in three ways, by the last handle's drop, and beside calls that are still running.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    Clock, CloseMode, CrashPolicy, Db, Durability, ErrorKind, Fault, FaultEffect, Fs, FsOp, ReadOptions, WriteOptions,
};

use crate::lab::{DIR, Lab, Map, all, collect, eventually, fill, settle};

#[test]
fn close_refuses_and_names_the_line_that_made_each_reader() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 10, "first");
    let iter = db.iter().expect("it opens");
    let iter_line = line!() - 1;
    let snapshot = db.snapshot();
    let snapshot_line = line!() - 1;
    let options = ReadOptions { label: Some("nightly backup"), ..ReadOptions::default() };
    let cursor = db.default_column_family().cursor(options).expect("it opens");
    let cursor_line = line!() - 1;
    let error = db.close().expect_err("readers are open");
    assert_eq!(error.kind(), ErrorKind::Busy);
    let text = error.to_string();
    for (kind, line) in [("iterator", iter_line), ("snapshot", snapshot_line), ("iterator", cursor_line)] {
        assert!(text.contains(&format!("{kind} made at crates/firndb/tests/scenarios/closing.rs:{line}")), "{text}");
    }
    assert!(text.contains("nightly backup"), "{text}");
    assert_eq!(db.assert_no_pins().expect_err("the same").to_string(), text);
    // It was a question, and changed nothing.
    db.put("more", "x").expect("open still");
    db.flush().expect("open still");
    drop((iter, snapshot, cursor));
    db.assert_no_pins().expect("none");
    db.close().expect("nothing is open");
    assert_eq!(all(&lab.open()).len(), 11);
}

/// The machine's clock, and how often somebody slept by it.
#[derive(Debug)]
struct Sleeps(AtomicU32, Arc<dyn Clock>);

impl Clock for Sleeps {
    fn monotonic_micros(&self) -> u64 {
        self.1.monotonic_micros()
    }
    fn unix_seconds(&self) -> u64 {
        self.1.unix_seconds()
    }
    fn sleep(&self, duration: Duration) {
        self.0.fetch_add(1, Ordering::AcqRel);
        self.1.sleep(duration);
    }
    fn random(&self) -> u64 {
        self.1.random()
    }
}

#[test]
fn close_waits_for_readers_while_writes_go_on() {
    let mut lab = Lab::with_threads();
    let looks = Arc::new(Sleeps(AtomicU32::new(0), Arc::clone(&lab.options.clock)));
    lab.options.clock = Arc::clone(&looks) as _;
    let db = lab.open();
    let mut expected = fill(&db, 50, "first");
    let mut iter = db.iter().expect("it opens");
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| db.close_with(CloseMode::Wait));
        eventually("it looks now and then", || looks.0.load(Ordering::Acquire) > 2);
        assert!(!closing.is_finished());
        db.put("meanwhile", "x").expect("open still");
        assert_eq!(collect(&mut iter), expected);
        drop(iter);
        closing.join().expect("no panic").expect("closed");
    });
    assert_eq!(db.put("after", "x").expect_err("closed").kind(), ErrorKind::Closed);
    expected.insert(b"meanwhile".to_vec(), b"x".to_vec());
    assert_eq!(all(&lab.open()), expected);
}

#[test]
fn a_reader_that_comes_while_the_database_closes_keeps_it_open_or_is_refused_or_ousted() {
    for mode in [CloseMode::Refuse, CloseMode::Wait, CloseMode::Oust] {
        for _ in 0..60 {
            let lab = Lab::with_threads();
            let db = lab.open();
            fill(&db, 5, "first");
            db.flush().expect("flushed");
            let is_running = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let (shared, running) = (&db, &is_running);
                let reader = scope.spawn(move || {
                    loop {
                        let opened = shared.iter();
                        running.store(true, Ordering::Release);
                        match opened {
                            Ok(iter) if shared.latest_sequence().0 == 0 => drop(iter),
                            Ok(iter) => match shared.get("key0000") {
                                // The door closed behind it.
                                Err(error) => break Some((iter, error.kind())),
                                Ok(_) => drop(iter),
                            },
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Closed);
                                break None;
                            }
                        }
                    }
                });
                while !is_running.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                while db.close_with(mode).is_err() {
                    std::thread::yield_now();
                }
                let found = reader.join().expect("no panic");
                let again = lab.try_open();
                assert!(again.is_ok(), "{mode:?} gives the directory free: {again:?}");
                if let Some((mut iter, kind)) = found {
                    assert_eq!((mode, kind), (CloseMode::Oust, ErrorKind::Closed), "nothing is closed under a reader");
                    let error = iter.next().expect("an error").expect_err("nobody holds the directory for it");
                    assert_eq!(error.kind(), ErrorKind::PinEvicted);
                }
            });
        }
    }
}

/// Runs `call` on another thread, closes the database in the middle of it (at its first `op` on a file that ends so),
/// and checks that nothing touches the directory once `close` has returned.
fn closed_in_the_middle(lab: &Lab, at: (FsOp, &'static str), call: impl FnOnce(&Db) -> firndb::Result<()> + Send) {
    let db = lab.open();
    let (is_in, is_closed, late) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (seen, closed, count) = (Arc::clone(&is_in), Arc::clone(&is_closed), Arc::clone(&late));
    let reader = Mutex::new(Some(db.clone()));
    lab.hook.set(move |op, path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if op == at.0 && name.contains(at.1) && !seen.swap(true, Ordering::AcqRel) {
            let reader = reader.lock().expect("whole").take().expect("the first time");
            eventually("the other side has begun", || reader.get("key").is_err());
            // Time enough for it to end if it does not wait.
            std::thread::sleep(Duration::from_millis(20));
        }
        if closed.load(Ordering::Acquire) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    });
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| call(&db));
        eventually("the call is under way", || is_in.load(Ordering::Acquire));
        db.close_with(CloseMode::Oust).expect("closed");
        is_closed.store(true, Ordering::Release);
        if let Err(error) = caller.join().expect("no panic") {
            assert!(matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed), "{error}");
        }
    });
    drop(db);
    assert_eq!(late.load(Ordering::Acquire), 0, "calls to the file system after close");
    lab.hook.clear();
}

#[test]
fn close_waits_for_calls_that_are_in_the_middle_of_their_work() {
    for threads in [false, true] {
        let new = || if threads { Lab::with_threads() } else { Lab::new() };
        let lab = new();
        let mut expected = fill(&lab.open(), 300, "first");
        let check = |lab: &Lab, expected: &Map| {
            let db = lab.open();
            assert_eq!(&all(&db), expected);
            db.close().expect("nothing is open");
            lab.assert_disk_is_manifest();
            lab.verify();
        };
        closed_in_the_middle(&lab, (FsOp::Append, ".sst"), |db| db.compact_range::<&[u8]>(..));
        check(&lab, &expected);
        closed_in_the_middle(&lab, (FsOp::Sync, ".sst"), |db| db.compact_range::<&[u8]>(..));
        check(&lab, &expected);
        closed_in_the_middle(&lab, (FsOp::Append, "MANIFEST"), |db| {
            db.put("later", "x")?;
            db.flush()
        });
        expected.insert(b"later".to_vec(), b"x".to_vec());
        check(&lab, &expected);
        closed_in_the_middle(&lab, (FsOp::Sync, "MANIFEST"), |db| db.create_column_family("side").map(drop));
        check(&lab, &expected);
        closed_in_the_middle(&lab, (FsOp::Rename, "tmp"), |db| match db.column_family("side") {
            Ok(_) => db.drop_column_family("side"),
            Err(_) => db.create_column_family("side").map(drop),
        });
        check(&lab, &expected);
    }
}

#[test]
fn readers_that_outlive_every_handle_keep_the_lock_and_their_files() {
    for threads in [false, true] {
        let lab = if threads { Lab::with_threads() } else { Lab::new() };
        let db = lab.open();
        let expected = fill(&db, 200, "first");
        db.flush().expect("flushed");
        let iter = db.iter().expect("it opens");
        let snapshot = db.snapshot();
        fill(&db, 200, "second");
        db.compact_range::<&[u8]>(..).expect("compacted");
        settle(&db);
        drop(db);
        for _ in 0..3 {
            let error = lab.try_open().expect_err("readers are open");
            assert_eq!(error.kind(), ErrorKind::Locked, "threads: {threads}");
        }
        assert_eq!(collect(iter), expected);
        assert_eq!(lab.try_open().expect_err("a snapshot is open").kind(), ErrorKind::Locked);
        drop(snapshot);
        eventually("the directory is free", || lab.try_open().is_ok());
        let db = lab.open();
        assert_eq!(all(&db).len(), 200);
        db.close().expect("nothing is open");
        lab.assert_disk_is_manifest();
    }
}

#[test]
fn the_last_handles_drop_keeps_what_was_in_no_log() {
    for threads in [false, true] {
        let lab = if threads { Lab::with_threads() } else { Lab::new() };
        let lab = lab.change(|options| {
            options.avoid_flush_during_shutdown = true;
            options.family.write_buffer_size = 4096;
        });
        let db = lab.open();
        // A memtable that is full, and that nobody has come to flush yet: without threads nobody does.
        let mut full = Map::new();
        while !threads && db.stats().families[0].immutable_memtables == 0 {
            let key = format!("full{}", full.len()).into_bytes();
            let unlogged = WriteOptions::with_durability(Durability::NoWal);
            db.default_column_family().put_with(&key, vec![7; 500], &unlogged).expect("written");
            full.insert(key, vec![7; 500]);
        }
        drop(db);
        let db = lab.open();
        assert_eq!(all(&db), full);
        let family = db.create_column_family("side").expect("new");
        family.put_with("k", "v", &WriteOptions::with_durability(Durability::NoWal)).expect("written");
        db.default_column_family()
            .put_with("b", "v", &WriteOptions::with_durability(Durability::Buffered))
            .expect("written");
        drop(db);
        assert_eq!(family.get("k").expect("a family is a handle too").as_deref(), Some(&b"v"[..]));
        drop(family);
        let db = lab.open();
        assert_eq!(db.column_family("side").expect("there").get("k").expect("read").as_deref(), Some(&b"v"[..]));
        assert_eq!(db.get("b").expect("read").as_deref(), Some(&b"v"[..]));
    }
}

#[test]
fn a_close_whose_flush_fails_says_so_and_the_log_has_what_was_acknowledged() {
    let lab = Lab::new();
    let db = lab.open();
    let expected = fill(&db, 30, "first");
    lab.fs.inject(Fault::on(FsOp::Sync, "*.sst", FaultEffect::Eio).sticky());
    let error = db.close().expect_err("the flush fails");
    assert!(error.kind() == ErrorKind::Io && error.to_string().contains(".sst"), "{error}");
    assert_eq!(db.get("key0000").expect_err("closed all the same").kind(), ErrorKind::Closed);
    lab.fs.clear_faults();
    assert_eq!(all(&lab.crash(CrashPolicy::KeepAll, 0).open()), expected);
    let again = lab.open();
    assert_eq!(all(&again), expected);
    again.close().expect("nothing is open");
    lab.assert_disk_is_manifest();
}

#[test]
fn a_close_after_writes_were_stopped_tries_once_more_and_does_not_hide_what_is_lost() {
    let no_wal = WriteOptions::with_durability(Durability::NoWal);
    for is_healed in [true, false] {
        let lab = Lab::new();
        let db = lab.open();
        let mut expected = fill(&db, 30, "first");
        db.default_column_family().put_with("unlogged", "x", &no_wal).expect("written");
        lab.fs.inject(Fault::on(FsOp::Append, "*.sst", FaultEffect::NoSpace).sticky());
        assert_eq!(db.flush().expect_err("no space").kind(), ErrorKind::NoSpace);
        assert_eq!(db.put("k", "v").expect_err("stopped").kind(), ErrorKind::ReadOnly);
        if is_healed {
            lab.fs.clear_faults();
            db.close().expect("there is space again");
            expected.insert(b"unlogged".to_vec(), b"x".to_vec());
        } else {
            let error = db.close().expect_err("what is in no log is lost");
            assert!(error.kind() == ErrorKind::NoSpace && error.to_string().contains(".sst"), "{error}");
            lab.fs.clear_faults();
        }
        drop(db);
        let db = lab.open();
        assert_eq!(all(&db), expected);
        db.close().expect("nothing is open");
        lab.assert_disk_is_manifest();
        lab.verify();
    }
}

#[test]
fn whoever_closes_at_the_same_time_hears_of_the_end_when_it_has_come() {
    let lab = Lab::with_threads().change(|options| options.family.write_buffer_size = 64 << 20);
    let lock = Path::new(DIR).join("LOCK");
    let mut expected = Map::new();
    for round in 0..10 {
        let db = lab.open();
        expected.extend(fill(&db, 3000, &format!("round {round}")));
        let turn = Mutex::new(());
        std::thread::scope(|scope| {
            for mode in [CloseMode::Refuse, CloseMode::Wait, CloseMode::Oust, CloseMode::Refuse] {
                let (db, lab, turn, lock) = (&db, &lab, &turn, &lock);
                scope.spawn(move || {
                    db.close_with(mode).expect("nothing is open");
                    let _one_at_a_time = turn.lock();
                    drop(lab.fs.lock(lock).expect("nobody has it any more"));
                });
            }
        });
        drop(db);
        let db = lab.open();
        assert_eq!(db.recovery_report().batches, 0, "all of it was in tables");
        assert_eq!(all(&db), expected);
    }
}
