//! The end of a database, however it comes: it does end, nothing is left, nothing is lost, and nothing panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use firndb::{
    CloseMode, CompactionEvent, Db, Durability, ErrorKind, EventListener, Fault, FaultEffect, FsOp, Options,
    ThreadPool, WriteOptions,
};

use crate::lab::{Lab, all, eventually, fill};
use crate::patience::{HeldUp, in_time};

/// A disk, and threads that have much to do.
fn busy(dir: &std::path::Path) -> Db {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.family.write_buffer_size = 8 << 10;
    options.family.level0_file_num_compaction_trigger = 2;
    options.family.target_file_size_base = 4 << 10;
    Db::open_with(dir, options).expect("the lock is free, whoever had it")
}

/// spacejam/sled#1234, #1289: dropping a database gave its lock back some time later, and the next open failed.
#[test]
fn a_directory_can_be_opened_as_soon_as_the_last_handle_is_dropped_or_close_returned() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut count = 0;
    for round in 0..12 {
        let db = busy(dir.path());
        assert_eq!(db.iter().expect("it opens").count(), count);
        for number in 0..60 {
            db.put(format!("{round:03} {number:03}"), [b'v'; 300]).expect("written");
        }
        count += 60;
        match round % 3 {
            0 => db.close().expect("closes"),
            1 => drop(db),
            _ => {
                let family = db.default_column_family().clone();
                let thread = std::thread::spawn(move || drop(family));
                drop(db);
                thread.join().expect("no panic");
            }
        }
    }
}

/// slatedb/slatedb#1080, #121, #783: closing in the middle of a compaction made the compactor panic.
#[test]
fn a_close_in_the_middle_of_a_compaction_calls_it_off_and_is_no_error() {
    for op in [FsOp::Create, FsOp::Append, FsOp::Sync] {
        let lab = Lab::with_threads().change(|options| options.family.level0_file_num_compaction_trigger = 2);
        let db = lab.open();
        db.pause_background_work();
        let mut map = fill(&db, 200, "first");
        db.flush().expect("flushed");
        map.extend(fill(&db, 150, "second"));
        db.flush().expect("flushed");
        let held = HeldUp::at(&lab, op, |path| path.extension().is_some_and(|extension| extension == "sst"));
        db.continue_background_work();
        held.wait();
        let closer = db.clone();
        let closing = std::thread::spawn(move || closer.close());
        eventually("it closes", || db.put("probe", "value").is_err_and(|error| error.kind() == ErrorKind::Closed));
        held.let_go();
        in_time("close", move || closing.join()).expect("no panic").expect("no error");
        drop(db);
        lab.verify();
        lab.assert_disk_is_manifest();
        let db = lab.open();
        let mut found = all(&db);
        found.remove(&b"probe"[..]);
        assert!(found == map, "{} entries of {}", found.len(), map.len());
        db.close().expect("closes");
    }
}

/// slatedb/slatedb#434: without a log, what was in memory was lost when the database was closed.
#[test]
fn nothing_that_was_acknowledged_is_lost_by_closing_or_dropping_whatever_its_durability() {
    let durabilities = [Durability::NoWal, Durability::Buffered, Durability::Os, Durability::Synced];
    for avoid_flush in [false, true] {
        for is_dropped in [false, true] {
            let lab = Lab::new().change(|options| options.avoid_flush_during_shutdown = avoid_flush);
            let db = lab.open();
            let other = db.create_column_family("other").expect("new");
            for (number, durability) in durabilities.into_iter().enumerate() {
                let options = WriteOptions::with_durability(durability);
                let family = if number % 2 == 0 { db.default_column_family() } else { &other };
                family.put_with(format!("{number}"), "value", &options).expect("written");
            }
            drop(other);
            if is_dropped {
                drop(db)
            } else {
                db.close().expect("closes")
            }
            // The process ends; the disk keeps what the operating system has.
            let lab = lab.crash(firndb::CrashPolicy::KeepAll, 1);
            let db = lab.open();
            let count: usize = db.column_families().iter().map(|family| family.iter().expect("it opens").count()).sum();
            assert_eq!(count, 4, "avoid_flush: {avoid_flush}, dropped: {is_dropped}");
            db.close().expect("closes");
        }
    }
}

/// fjall-rs/fjall#260: a handle was dropped while others wrote, and the drop waited for a queue that nobody emptied.
/// pingcap/badger#170: writers, flushes and a close waited for each other.
#[test]
fn closing_and_dropping_end_while_threads_write_flush_and_compact() {
    for is_closed in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..4 {
            let db = busy(dir.path());
            let stop = Arc::new(AtomicBool::new(false));
            let threads: Vec<_> = (0..6)
                .map(|thread| {
                    let (db, stop) = (db.clone(), Arc::clone(&stop));
                    std::thread::spawn(move || {
                        for number in 0_u64.. {
                            let done = match thread {
                                0 => db.flush(),
                                1 => db.compact_range::<&[u8]>(..),
                                _ => db.put(format!("{thread} {}", number % 500), [b'v'; 200]),
                            };
                            match done {
                                Ok(()) => {}
                                Err(error) => {
                                    let kinds = [ErrorKind::Closed, ErrorKind::Cancelled];
                                    assert!(kinds.contains(&error.kind()), "{error}");
                                    return;
                                }
                            }
                            if stop.load(Ordering::SeqCst) {
                                return;
                            }
                        }
                    })
                })
                .collect();
            eventually("there is something to do", || db.stats().bytes_flushed > 30_000);
            if is_closed {
                let closer = db.clone();
                in_time("close", move || closer.close()).expect("closes");
            } else {
                stop.store(true, Ordering::SeqCst);
            }
            let last = std::thread::spawn(move || drop(db));
            in_time("the drop", move || last.join()).expect("no panic");
            for thread in threads {
                in_time("a thread", move || thread.join()).expect("no panic");
            }
        }
    }
}

/// fjall-rs/fjall#296: after a key that was refused, dropping the database panicked in a panic and aborted the process.
#[test]
fn what_a_write_refuses_leaves_nothing_that_a_drop_stumbles_over() {
    let lab = Lab::new();
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let db = lab.open();
        db.put("", "an empty key is a key").expect("written");
        db.put(vec![b'k'; 100 << 20], "value").expect("this panics while the database is alive");
    }));
    unwound.expect_err("it panicked, once");
    let db = lab.open();
    assert_eq!(all(&db).len(), 1);
    db.close().expect("closes");
    lab.verify();
}

/// syndtr/goleveldb#148: an iterator on another thread read beyond its block when the database was closed.
#[test]
fn an_iterator_on_another_thread_is_ousted_by_a_close_and_neither_panics_nor_lies() {
    for round in 0..8 {
        let lab = Lab::with_threads();
        let db = lab.open();
        let map = fill(&db, 500, "value");
        db.flush().expect("flushed");
        let iter = db.iter().expect("it opens");
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            for entry in iter {
                match entry {
                    Ok((key, value)) => {
                        assert_eq!(map.get(&key[..]).map(|value| &value[..]), Some(&value[..]));
                        seen += 1;
                    }
                    Err(error) => return Err((seen, error.kind())),
                }
            }
            Ok(seen)
        });
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        in_time("close", move || db.close_with(CloseMode::Oust)).expect("closes");
        match in_time("the reader", move || reader.join()).expect("no panic") {
            Ok(seen) => assert_eq!(seen, 500, "it was quicker"),
            Err((seen, kind)) => assert!(seen < 500 && kind == ErrorKind::PinEvicted, "{seen} {kind:?}"),
        }
    }
}

/// facebook/rocksdb#11867: a failed flush was being tried again while another waited to install what it had: close hung.
#[test]
fn close_ends_while_a_failed_flush_is_tried_again_beside_flushes_that_succeed() {
    for atomic in [false, true] {
        let lab = Lab::with_threads().change(|options| {
            options.atomic_flush = atomic;
            options.family.write_buffer_size = 4096;
        });
        let db = lab.open();
        let other = db.create_column_family("other").expect("new");
        lab.fs.inject(Fault::on(FsOp::Sync, "*.sst", FaultEffect::Eio).sticky());
        for number in 0..40 {
            // Refused once a flush has failed.
            let _ = db.put(format!("key{number}"), [b'v'; 300]);
            let _ = other.put(format!("key{number}"), [b'v'; 300]);
        }
        eventually("it fails", || db.health().tries > 0);
        drop(other);
        let closer = db.clone();
        let closed = in_time("close", move || closer.close());
        closed.expect_err("the last flush fails, and is said to have");
        drop(db);
        lab.fs.clear_faults();
        let db = lab.open();
        assert!(!all(&db).is_empty(), "the log has what was acknowledged");
        db.close().expect("closes");
        lab.verify();
    }
}

/// pingcap/tiflash#8848, facebook/rocksdb#6742: the last reference to a pool of threads went in one of its own jobs, which then
/// waited for itself.
#[test]
fn the_last_handle_and_the_pool_itself_may_go_in_a_callback_on_the_pools_own_thread() {
    #[derive(Default)]
    struct Keeps(Mutex<Option<Db>>, Mutex<Option<Arc<ThreadPool>>>, AtomicBool);
    impl std::fmt::Debug for Keeps {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Keeps")
        }
    }
    impl EventListener for Keeps {
        fn compaction_completed(&self, _: &CompactionEvent) {
            drop(self.1.lock().expect("whole").take());
            drop(self.0.lock().expect("whole").take());
            self.2.store(true, Ordering::SeqCst);
        }
    }
    for threads in [1, 2] {
        let keeps = Arc::new(Keeps::default());
        let lab = Lab::with_threads().change(|options| {
            options.listeners.push(Arc::clone(&keeps) as _);
            options.family.level0_file_num_compaction_trigger = 2;
        });
        let pool = ThreadPool::new(threads).expect("threads");
        let mut options = lab.options.clone();
        options.thread_pool = Some(Arc::clone(&pool));
        let db = Db::open_with(crate::lab::DIR, options).expect("it opens");
        db.put("key", "value").expect("written");
        db.flush().expect("flushed");
        db.pause_background_work();
        db.put("key", "later").expect("written");
        db.flush().expect("flushed");
        *keeps.0.lock().expect("whole") = Some(db.clone());
        *keeps.1.lock().expect("whole") = Some(pool);
        db.continue_background_work();
        drop(db);
        eventually("everything was let go", || keeps.2.load(Ordering::SeqCst));
        eventually("the directory is free", || {
            let Ok(db) = lab.try_open() else { return false };
            assert_eq!(db.get("key").expect("read").as_deref(), Some(&b"later"[..]));
            in_time("close", move || db.close()).expect("closes");
            true
        });
    }
}
