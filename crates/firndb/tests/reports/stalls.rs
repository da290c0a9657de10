//! Writers that are held up, and who may not be held up with them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    BackgroundMode, Clock, Db, Durability, ErrorKind, Fault, FaultEffect, FsOp, HealthState, ManualClock, RateLimiter,
    WriteOptions,
};

use crate::lab::{Lab, all, eventually, settle};
use crate::patience::{HeldUp, in_time};

fn unlogged() -> WriteOptions {
    WriteOptions::with_durability(Durability::NoWal)
}

/// Level 0 stops writers at four files, and is compacted at four.
fn narrow(lab: Lab) -> Lab {
    lab.change(|options| {
        options.family.level0_file_num_compaction_trigger = 4;
        options.family.level0_slowdown_writes_trigger = 4;
        options.family.level0_stop_writes_trigger = 4;
    })
}

fn fill_level_0(family: &firndb::ColumnFamily, files: usize) {
    for round in 0..files {
        family.put("key", format!("round {round}")).expect("written");
        family.flush().expect("flushed");
    }
}

/// facebook/rocksdb#12346: the last flush waited for a stall to end, so that closing took as long as the compactions.
#[test]
fn close_flushes_what_no_log_has_while_writers_are_stopped_by_level_0() {
    let lab = narrow(Lab::new());
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    db.default_column_family().put_with("in no log", "value", &unlogged()).expect("written");
    fill_level_0(&other, 4);
    assert_eq!(db.put("more", "value").expect_err("stopped").kind(), ErrorKind::Busy);
    drop(other);
    in_time("close", move || db.close()).expect("closes");
    let db = lab.open();
    assert_eq!(db.get("in no log").expect("read").as_deref(), Some(&b"value"[..]));
    db.close().expect("closes");
    lab.verify();
}

/// The same with threads whose compactions all fail.
#[test]
fn close_flushes_what_no_log_has_while_the_compactions_that_writers_wait_for_fail() {
    let lab = narrow(Lab::with_threads());
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    db.default_column_family().put_with("in no log", "value", &unlogged()).expect("written");
    lab.fs.inject(Fault::on(FsOp::Read, "*.sst", FaultEffect::Eio).sticky());
    fill_level_0(&other, 4);
    eventually("a compaction fails", || db.health().state != HealthState::Healthy);
    drop(other);
    in_time("close", move || db.close()).expect("closes");
    lab.fs.clear_faults();
    let db = lab.open();
    assert_eq!(db.get("in no log").expect("read").as_deref(), Some(&b"value"[..]));
    db.close().expect("closes");
}

/// facebook/rocksdb#4615: in read-only mode a flush by hand waited for a stall that nothing would end any more.
#[test]
fn a_flush_by_hand_is_refused_with_its_cause_where_writes_are_refused_and_stopped_as_well() {
    let lab = narrow(Lab::with_threads());
    let db = lab.open();
    db.pause_background_work();
    fill_level_0(db.default_column_family(), 3);
    lab.fs.inject(Fault::on(FsOp::Create, "*.sst", FaultEffect::Eio).sticky());
    db.put("key", "value").expect("the log takes it");
    let flusher = db.clone();
    let refused = in_time("the failing flush", move || flusher.flush()).expect_err("the disk refuses");
    assert_eq!(refused.kind(), ErrorKind::Io);
    db.continue_background_work();
    for _ in 0..3 {
        let flusher = db.clone();
        let refused = in_time("a flush while writes are refused", move || flusher.flush()).expect_err("refused");
        assert!(refused.to_string().contains("sst"), "the cause is named: {refused}");
    }
    lab.fs.clear_faults();
    eventually("writes go on", || db.put("key", "later").is_ok());
    in_time("close", move || db.close()).expect("closes");
}

/// facebook/rocksdb#4611: a manual compaction that failed kept its files claimed, and the next one waited for them.
#[test]
fn a_compaction_by_hand_that_failed_leaves_nothing_that_the_next_one_waits_for() {
    for lab in [Lab::new(), Lab::with_threads()] {
        for (op, pattern) in
            [(FsOp::Create, "*.sst"), (FsOp::Read, "*.sst"), (FsOp::Sync, "*.sst"), (FsOp::Sync, "MANIFEST*")]
        {
            let db = lab.open();
            fill_level_0(db.default_column_family(), 3);
            lab.fs.inject(Fault::on(op, pattern, FaultEffect::Eio).sticky());
            let again = db.clone();
            in_time("a compaction that fails", move || again.compact_range::<&[u8]>(..)).expect_err("the disk refuses");
            lab.fs.clear_faults();
            let again = db.clone();
            let tried = in_time("the compaction after it", move || again.compact_range::<&[u8]>(..));
            if tried.is_err() {
                // The outcome of an edit was unknown: writes go on once MANIFEST is written anew.
                eventually("writes go on", || {
                    lab.clock.advance(Duration::from_secs(2));
                    settle(&db);
                    db.compact_range::<&[u8]>(..).is_ok()
                });
            }
            let levels = db.stats().families[0].levels.iter().map(|level| level.files).sum::<usize>();
            assert_eq!(levels, 1, "{op:?} of {pattern}: all of it is one table now");
            in_time("close", move || db.close()).expect("closes");
        }
    }
}

/// yugabyte/yugabyte-db#19709, slatedb/slatedb#1609: who waited in a stall when the database closed waited for ever.
#[test]
fn writers_that_wait_in_a_stall_hear_of_a_close_before_what_they_wait_for_has_ended() {
    for by_memtables in [false, true] {
        let lab = Lab::with_threads().change(|options| {
            options.family.write_buffer_size = 4096;
            if by_memtables {
                options.family.max_write_buffer_number = 2;
            } else {
                options.family.level0_file_num_compaction_trigger = 2;
                options.family.level0_slowdown_writes_trigger = 3;
                options.family.level0_stop_writes_trigger = 3;
            }
        });
        let db = lab.open();
        if !by_memtables {
            // Two overlapping files: the compaction of them is what is held up.
            db.pause_background_work();
            fill_level_0(db.default_column_family(), 2);
        }
        let held = HeldUp::at_sync_of_a_table(&lab);
        db.continue_background_work();
        if !by_memtables {
            held.wait();
        }
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let db = db.clone();
                std::thread::spawn(move || {
                    (0..).map(|number| db.put(format!("{writer} {number}"), [b'v'; 500])).find_map(Result::err)
                })
            })
            .collect();
        held.wait();
        // All are stopped once nothing more gets in.
        let last = AtomicU64::new(0);
        eventually("writers are stopped", || {
            let now = db.latest_sequence().0;
            last.swap(now, Ordering::SeqCst) == now && db.stats().stall_reason.is_some()
        });
        let closer = db.clone();
        let closing = std::thread::spawn(move || closer.close());
        for writer in writers {
            let error = in_time("a writer", move || writer.join()).expect("no panic").expect("it ends by an error");
            assert_eq!(error.kind(), ErrorKind::Closed, "by memtables: {by_memtables}");
        }
        held.let_go();
        in_time("close", move || closing.join()).expect("no panic").expect("closes");
        drop(db);
        lab.verify();
    }
}

/// facebook/rocksdb#1208, #8643: with automatic compactions off, writers waited at level 0 for what nobody would do.
#[test]
fn switching_compactions_off_frees_the_writers_that_wait_for_them_and_raising_a_limit_does_too() {
    for change in [("disable_auto_compactions", "true"), ("level0_stop_writes_trigger", "1000")] {
        let lab = narrow(Lab::with_threads());
        let db = lab.open();
        db.pause_background_work();
        fill_level_0(db.default_column_family(), 4);
        // The compaction that would help is held up before its first byte.
        let held = HeldUp::at(&lab, FsOp::Create, |path| path.extension().is_some_and(|e| e == "sst"));
        db.continue_background_work();
        held.wait();
        let writer = db.clone();
        let waiting = std::thread::spawn(move || writer.put("key", "waits"));
        eventually("writes are stopped", || db.stats().stall_reason.is_some());
        let changer = db.clone();
        in_time("changing an option", move || changer.set_options(&[change])).expect("changed");
        in_time("the writer", move || waiting.join()).expect("no panic").expect("it goes on");
        if change.0 == "disable_auto_compactions" {
            let writer = db.clone();
            in_time("writers far beyond the limit", move || fill_level_0(writer.default_column_family(), 12));
        }
        held.let_go();
        in_time("close", move || db.close()).expect("closes");
    }
}

/// facebook/rocksdb#4622: families came one after the other, their small memtables piled up, and a flush hung.
#[test]
fn a_flush_of_each_of_many_families_ends_while_families_come_and_small_memtables_fill() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
    });
    let db = lab.open();
    let own = db.clone();
    in_time("sixty families", move || {
        for family in 0..60 {
            let family = own.create_column_family(&format!("user {family}")).expect("new");
            for number in 0..30 {
                family.put(format!("key{number}"), [b'v'; 300]).expect("written");
            }
            family.flush().expect("flushed");
        }
    });
    in_time("close", move || db.close()).expect("closes");
    lab.assert_disk_is_manifest();
}

/// cockroachdb/pebble#1915: writing MANIFEST took long, and no memtable could be switched meanwhile.
#[test]
fn writers_switch_memtables_while_manifest_is_being_written() {
    let lab = Lab::with_threads().change(|options| options.family.write_buffer_size = 4096);
    let db = lab.open();
    db.put("first", "value").expect("written");
    let is_manifest = |path: &std::path::Path| path.to_string_lossy().contains("MANIFEST");
    let held = HeldUp::at(&lab, FsOp::Sync, is_manifest);
    let flusher = db.clone();
    let flushing = std::thread::spawn(move || flusher.flush());
    held.wait();
    let writer = db.clone();
    in_time("writers of five memtables", move || {
        for number in 0..60 {
            writer.put(format!("key{number}"), [b'v'; 400]).expect("written");
        }
    });
    assert!(db.stats().families[0].immutable_memtables > 1);
    let reader = db.clone();
    assert!(in_time("a read", move || reader.get("key59")).expect("read").is_some());
    held.let_go();
    in_time("the flush", move || flushing.join()).expect("no panic").expect("flushed");
    in_time("close", move || db.close()).expect("closes");
}

/// fjall-rs/fjall#74: a thread that wrote while it iterated waited for its own iterator.
#[test]
fn a_thread_that_iterates_may_write_more_than_all_memtables_may_hold() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 3;
        options.family.level0_stop_writes_trigger = 4;
        options.db_write_buffer_size = 8192;
    });
    let db = lab.open();
    for number in 0..40 {
        db.put(format!("old{number:03}"), [b'v'; 300]).expect("written");
    }
    let own = db.clone();
    let seen = in_time("writing while iterating", move || {
        let snapshot = own.snapshot();
        let mut seen = 0;
        for entry in own.iter().expect("it opens") {
            let (key, _) = entry.expect("read");
            for copy in 0..10 {
                own.put([b"new", &key[..], &[copy]].concat(), [b'v'; 300]).expect("goes on");
            }
            seen += 1;
        }
        drop(snapshot);
        seen
    });
    assert_eq!(seen, 40, "the view is of before");
    in_time("close", move || db.close()).expect("closes");
}

/// A clock that, when somebody sleeps on it for the first time, does what a test wants meanwhile.
#[derive(Debug)]
struct Meanwhile {
    clock: ManualClock,
    work: Mutex<Option<Db>>,
    slept_us: AtomicU64,
}

impl Clock for Meanwhile {
    fn monotonic_micros(&self) -> u64 {
        self.clock.monotonic_micros()
    }
    fn unix_seconds(&self) -> u64 {
        self.clock.unix_seconds()
    }
    fn random(&self) -> u64 {
        self.clock.random()
    }
    fn sleep(&self, duration: Duration) {
        self.slept_us.fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
        self.clock.advance(duration);
        let work = self.work.lock().expect("whole").take();
        if let Some(db) = work {
            settle(&db);
        }
    }
}

/// facebook/rocksdb#1884, #1966: a slowed-down writer slept on for minutes after the compactions were done.
#[test]
fn a_writer_that_is_slowed_down_wakes_when_the_compactions_are_done() {
    let clock = Arc::new(Meanwhile { clock: ManualClock::new(7), work: Mutex::default(), slept_us: AtomicU64::new(0) });
    let lab = Lab::new().change(|options| {
        options.clock = Arc::clone(&clock) as _;
        options.family.write_buffer_size = 64 << 20;
        options.family.level0_file_num_compaction_trigger = 4;
        options.family.level0_slowdown_writes_trigger = 4;
    });
    let db = lab.open();
    fill_level_0(db.default_column_family(), 4);
    // Half a second's worth at the rate of slowed writers, for which the next one pays.
    db.put("large", vec![b'v'; 8 << 20]).expect("written");
    assert_eq!(clock.slept_us.load(Ordering::SeqCst), 0);
    *clock.work.lock().expect("whole") = Some(db.clone());
    db.put("small", "value").expect("written");
    let slept = clock.slept_us.load(Ordering::SeqCst);
    assert!((1..20_000).contains(&slept), "{slept} microseconds");
    db.close().expect("closes");
}

/// facebook/rocksdb#11742: flushes waited in the rate limiter for a turn that nobody gave them, and writers with them.
#[test]
fn databases_that_share_a_rate_of_a_few_bytes_go_on_writing_flushing_and_closing() {
    let limiter = RateLimiter::new(10);
    let lab = Lab::with_threads().change(|options| {
        options.rate_limiter = Some(limiter);
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
        options.family.level0_file_num_compaction_trigger = 4;
    });
    let databases: Vec<Db> = (0..3)
        .map(|number| Db::open_with(format!("/shared{number}"), lab.options.clone()).expect("it opens"))
        .collect();
    let writers: Vec<_> = databases
        .iter()
        .cloned()
        .map(|db| std::thread::spawn(move || (0..100).try_for_each(|n| db.put(format!("{n}"), [b'v'; 300]))))
        .collect();
    for writer in writers {
        in_time("a writer", move || writer.join()).expect("no panic").expect("flushes do not wait for the limit");
    }
    for db in databases {
        assert_eq!(all(&db).len(), 100);
        in_time("close beside a compaction at ten bytes a second", move || db.close()).expect("closes");
    }
}

/// facebook/rocksdb#4792: flushes of empty memtables switched them, which counted towards a stall.
#[test]
fn flushing_what_is_empty_makes_nothing_and_holds_nobody_up() {
    for mode in [BackgroundMode::Manual, BackgroundMode::Threads] {
        let lab = Lab::with_threads().change(|options| {
            options.background = mode;
            options.family.max_write_buffer_number = 2;
        });
        let db = lab.open();
        let families: Vec<_> =
            (0..5).map(|number| db.create_column_family(&format!("{number}")).expect("new")).collect();
        let logs = lab.files(".log");
        for _ in 0..50 {
            db.flush().expect("flushed");
            families.iter().for_each(|family| family.flush().expect("flushed"));
        }
        assert_eq!((lab.tables().len(), lab.files(".log")), (0, logs), "no table, no log");
        families[0].put("key", "value").expect("written");
        for family in &families {
            family.flush().expect("flushed");
        }
        assert_eq!(lab.tables().len(), 1);
        assert!(db.stats().families.iter().all(|family| family.immutable_memtables == 0));
        drop(families);
        db.close().expect("closes");
    }
}

/// dgraph-io/badger#410: one thread that wrote a batch larger than all memtables hung.
#[test]
fn a_batch_larger_than_every_limit_is_written_and_the_next_one_is_too() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 3;
        options.family.level0_stop_writes_trigger = 4;
        options.db_write_buffer_size = 8192;
        options.max_total_wal_size = 8192;
        options.write_buffer_manager = Some(firndb::WriteBufferManager::new(8192));
    });
    let db = lab.open();
    let own = db.clone();
    in_time("batches of two megabytes", move || {
        for round in 0..3 {
            let mut batch = firndb::WriteBatch::new();
            for number in 0..2000 {
                batch.put(format!("{round} {number:05}"), [b'v'; 1000]);
            }
            own.write(&mut batch).expect("goes on");
            own.put("small", "value").expect("goes on");
        }
    });
    assert_eq!(db.iter().expect("it opens").count(), 6001);
    in_time("close", move || db.close()).expect("closes");
}

/// fjall-rs/fjall#257: killed while it wrote, and opened again, a database stopped every writer for what recovery had left.
#[test]
fn whatever_a_crash_leaves_to_replay_writers_go_on_after_the_next_open() {
    let lab = Lab::with_threads().change(|options| options.family.write_buffer_size = 1 << 20);
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    for number in 0..300 {
        db.put(format!("key{:03}", number % 100), [b'v'; 300]).expect("written");
        other.put(format!("key{number:03}"), [b'v'; 300]).expect("written");
    }
    let mut crashed = lab.crash(firndb::CrashPolicy::KeepAll, 1);
    // Small memtables now: more of them, and more tables of level 0, than writers may meet.
    crashed.options.family.write_buffer_size = 4096;
    crashed.options.family.max_write_buffer_number = 2;
    crashed.options.family.level0_file_num_compaction_trigger = 2;
    crashed.options.family.level0_slowdown_writes_trigger = 3;
    crashed.options.family.level0_stop_writes_trigger = 4;
    for round in 0..3 {
        let db = crashed.open();
        let own = db.clone();
        in_time("writers after a crash", move || {
            for number in 0..50 {
                own.put(format!("later{round}{number}"), [b'v'; 300]).expect("goes on");
            }
        });
        assert_eq!(all(&db).len(), 100 + 50 * (round + 1));
        // The next process is killed, too.
        let next = crashed.crash(firndb::CrashPolicy::KeepAll, round as u64);
        in_time("close", move || db.close()).expect("closes");
        crashed = next;
    }
    drop(other);
    db.close().expect("closes");
}
