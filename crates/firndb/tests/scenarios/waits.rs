//! Nobody waits for what cannot come: flushes and compactions of one family do not wait for those of another, a caller
//! waits for what there was when it called, and a thread that background work needs does not wait for background work.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firndb::{
    BackgroundErrorEvent, CompactionEvent, Db, ErrorKind, EventListener, Fault, FaultEffect, FlushEvent, FsOp,
    HealthState, ManualClock, ThreadPool, WriteBufferManager,
};

use crate::lab::{Lab, eventually};

/// Longer than anything here takes on a slow machine, and shorter than for ever.
const LONG: Duration = Duration::from_secs(120);

/// Runs `work` on a thread of its own; a panic if it is not done in good time.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = mpsc::channel();
    let thread = std::thread::spawn(move || send.send(work()));
    let result = done.recv_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
    thread.join().expect("no panic").expect("awaited");
    result
}

/// Holds up the first sync of a table until it is let go.
struct HeldSync {
    is_held: Arc<AtomicBool>,
    release: mpsc::Sender<()>,
}

impl HeldSync {
    fn of(lab: &Lab) -> HeldSync {
        let (release, released) = mpsc::channel();
        let is_held = Arc::new(AtomicBool::new(false));
        let (mark, released) = (Arc::clone(&is_held), Mutex::new(released));
        let is_first = AtomicBool::new(true);
        lab.hook.set(move |op, path| {
            let is_table = path.extension().is_some_and(|extension| extension == "sst");
            if op == FsOp::Sync && is_table && is_first.swap(false, Ordering::SeqCst) {
                mark.store(true, Ordering::SeqCst);
                released.lock().expect("whole").recv().expect("let go");
            }
        });
        HeldSync { is_held, release }
    }

    fn wait(&self) {
        eventually("a table is synced", || self.is_held.load(Ordering::SeqCst));
    }
}

#[test]
fn a_flush_of_one_family_does_not_wait_for_that_of_another() {
    let lab = Lab::with_threads().change(|options| options.family.write_buffer_size = 4096);
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    let held = HeldSync::of(&lab);
    for number in 0..100 {
        db.put(format!("key{number}"), [b'v'; 100]).expect("written");
    }
    held.wait();
    other.put("one", "key").expect("written");
    let (flushed, family) = in_time("the flush of the other family", move || (other.flush(), other));
    flushed.expect("flushed");
    assert!(db.stats().families[0].immutable_memtables > 0, "the first flush is still held up");
    held.release.send(()).expect("waits");
    drop(family);
    db.flush().expect("flushed");
    db.close().expect("closes");
}

#[test]
fn a_flush_waits_for_the_memtables_that_there_were_and_for_no_later_ones() {
    let lab = Lab::new().change(|options| options.family.write_buffer_size = 4096);
    let db = lab.open();
    db.put("first", "value").expect("written");
    let (writer, is_first) = (db.clone(), AtomicBool::new(true));
    lab.hook.set(move |op, path| {
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        if op == FsOp::Sync && is_table && is_first.swap(false, Ordering::SeqCst) {
            for number in 0..100 {
                writer.put(format!("later{number}"), [b'v'; 100]).expect("nobody holds writers up");
            }
        }
    });
    db.flush().expect("flushed");
    lab.hook.clear();
    let stats = db.stats();
    assert_eq!(stats.families[0].levels[0].files, 1, "one memtable was full when the flush was asked for");
    assert!(stats.families[0].immutable_memtables > 0, "those that came meanwhile wait for their turn");
    while db.run_background_step() {}
    assert_eq!(db.stats().families[0].immutable_memtables, 0, "and have it");
    db.close().expect("closes");
}

#[test]
fn families_that_always_have_something_to_flush_take_turns() {
    let lab = Lab::new().change(|options| options.family.write_buffer_size = 1024);
    let db = lab.open();
    let quiet = db.create_column_family("quiet").expect("new");
    let fill = |family: &firndb::ColumnFamily| {
        for number in 0..40 {
            family.put(format!("key{number}"), [b'v'; 100]).expect("written");
        }
    };
    fill(&quiet);
    let mut steps = 0;
    while db.stats().families[1].immutable_memtables > 0 {
        // More comes for the busy family before each step.
        fill(db.default_column_family());
        assert!(db.run_background_step());
        steps += 1;
        assert!(steps < 10, "the quiet family is never flushed");
    }
    while db.run_background_step() {}
    db.close().expect("closes");
}

#[test]
fn a_flush_that_is_held_up_keeps_no_compaction_waiting() {
    #[derive(Debug, Default)]
    struct Count(AtomicUsize);
    impl EventListener for Count {
        fn compaction_completed(&self, _: &CompactionEvent) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::new(Count::default());
    let lab = Lab::with_threads().change(|options| {
        options.listeners.push(Arc::clone(&count) as _);
        options.family.write_buffer_size = 4096;
    });
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    for round in 0..4 {
        other.put("key", format!("value {round}")).expect("written");
        other.flush().expect("flushed");
    }
    let held = HeldSync::of(&lab);
    for number in 0..200 {
        db.put(format!("key{number}"), [b'v'; 100]).expect("written");
    }
    held.wait();
    other.set_options(&[("level0_file_num_compaction_trigger", "2")]).expect("changed");
    eventually("a compaction ends beside the flush", || count.0.load(Ordering::SeqCst) > 0);
    held.release.send(()).expect("waits");
    drop(other);
    db.close().expect("closes");
}

/// Writes and flushes from within every callback.
#[derive(Default)]
struct Writer {
    db: Mutex<Option<Db>>,
    written: AtomicUsize,
    refused: Mutex<Vec<ErrorKind>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    fn write(&self) {
        let Some(db) = self.db.lock().expect("whole").clone() else { return };
        for number in 0..20 {
            match db.put(format!("listener{number}"), [b'v'; 1000]) {
                Ok(()) => self.written.fetch_add(1, Ordering::SeqCst),
                Err(error) => {
                    self.refused.lock().expect("whole").push(error.kind());
                    break;
                }
            };
        }
    }
}

impl EventListener for Writer {
    fn flush_completed(&self, _: &FlushEvent) {
        self.write();
    }
    fn compaction_completed(&self, _: &CompactionEvent) {
        self.write();
    }
    fn stall_changed(&self, _: &firndb::StallEvent) {
        self.write();
    }
    fn table_file_deleted(&self, _: &firndb::TableFileEvent) {
        self.write();
    }
}

#[test]
fn a_listener_that_writes_more_than_the_background_can_take_is_told_busy_instead_of_holding_it_up() {
    let writer = Arc::new(Writer::default());
    let lab = Lab::with_threads().change(|options| {
        options.listeners.push(Arc::clone(&writer) as _);
        options.thread_pool = Some(ThreadPool::new(1).expect("a thread"));
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 3;
        options.family.level0_stop_writes_trigger = 4;
    });
    let db = lab.open();
    *writer.db.lock().expect("whole") = Some(db.clone());
    let own = db.clone();
    in_time("writing beside a listener that writes", move || {
        for number in 0..300 {
            own.put(format!("key{number}"), [b'v'; 1000]).expect("goes on when the background does");
        }
    });
    *writer.db.lock().expect("whole") = None;
    assert!(writer.written.load(Ordering::SeqCst) > 0);
    let refused = writer.refused.lock().expect("whole").clone();
    assert!(refused.iter().all(|kind| *kind == ErrorKind::Busy), "{refused:?}");
    in_time("close", move || db.close()).expect("closes");
}

#[test]
fn the_listener_of_the_last_flush_of_close_may_ask_for_anything() {
    #[derive(Default)]
    struct AtTheEnd(Mutex<Option<Db>>, Mutex<Vec<ErrorKind>>);
    impl std::fmt::Debug for AtTheEnd {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("AtTheEnd")
        }
    }
    impl EventListener for AtTheEnd {
        fn flush_completed(&self, _: &FlushEvent) {
            let Some(db) = self.0.lock().expect("whole").take() else { return };
            let outcomes = [
                db.create_column_family("new").map(drop),
                db.drop_column_family("old"),
                db.put("key", "value"),
                db.flush(),
                db.compact_range::<&[u8]>(..),
                db.get("key").map(drop),
            ];
            self.1.lock().expect("whole").extend(outcomes.into_iter().filter_map(|o| o.err().map(|e| e.kind())));
            db.close().expect("the one that closes is done, or will be");
        }
    }
    for lab in [Lab::new(), Lab::with_threads()] {
        let listener = Arc::new(AtTheEnd::default());
        let lab = lab.change(|options| options.listeners.push(Arc::clone(&listener) as _));
        let db = lab.open();
        db.create_column_family("old").expect("new");
        db.put("key", "value").expect("written");
        *listener.0.lock().expect("whole") = Some(db.clone());
        in_time("close", move || db.close()).expect("closes");
        assert_eq!(*listener.1.lock().expect("whole"), [ErrorKind::Closed; 6]);
    }
}

#[test]
fn one_failure_is_one_event_and_one_try_at_a_time_however_slow_the_try() {
    #[derive(Debug, Default)]
    struct Errors(AtomicUsize);
    impl EventListener for Errors {
        fn background_error(&self, event: &BackgroundErrorEvent) {
            assert!(event.stops_writes);
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let errors = Arc::new(Errors::default());
    let lab = Lab::with_threads().change(|options| options.listeners.push(Arc::clone(&errors) as _));
    let db = lab.open();
    db.put("first", "value").expect("written");
    let syncs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&syncs);
    lab.hook.set(move |op, path| {
        if op == FsOp::Sync && path.extension().is_some_and(|extension| extension == "sst") {
            seen.fetch_add(1, Ordering::SeqCst);
            // Many ticks of the janitor.
            std::thread::sleep(Duration::from_millis(1500));
        }
    });
    lab.fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::Eio));
    db.put("second", "value").expect_err("the log fails");
    assert_eq!(db.health().state, HealthState::WritesStopped);
    eventually("writes go on", || db.put("third", "value").is_ok());
    assert_eq!((errors.0.load(Ordering::SeqCst), syncs.load(Ordering::SeqCst)), (1, 1));
    lab.hook.clear();
    assert_eq!(db.health().state, HealthState::Healthy);
    db.close().expect("closes");
}

/// A family whose compaction has just failed, and two tables of level 0 that wait for it.
fn with_a_failed_compaction() -> (Lab, Db) {
    let lab = Lab::new().change(|options| options.family.level0_file_num_compaction_trigger = 2);
    let db = lab.open();
    lab.fs.inject(Fault::on(FsOp::Create, "*.sst", FaultEffect::Eio).skip(2));
    for round in 0..2 {
        db.put("key", format!("value {round}")).expect("written");
        db.flush().expect("flushed");
    }
    while db.run_background_step() {}
    assert_eq!(db.health().state, HealthState::Degraded);
    (lab, db)
}

#[test]
fn a_failed_compaction_that_nobody_wants_any_more_is_forgotten_when_its_next_try_comes() {
    let (lab, db) = with_a_failed_compaction();
    db.set_options(&[("disable_auto_compactions", "true")]).expect("changed");
    lab.clock.advance(Duration::from_secs(60));
    while db.run_background_step() {}
    assert_eq!(db.health().state, HealthState::Healthy);
    assert_eq!(db.stats().families[0].levels[0].files, 2);
    db.close().expect("closes");
}

#[test]
fn a_failed_compaction_is_not_forgotten_while_another_job_has_its_tables() {
    let (lab, db) = with_a_failed_compaction();
    let held = HeldSync::of(&lab);
    let by_hand = db.clone();
    let compacting = std::thread::spawn(move || by_hand.compact_range::<&[u8]>(..));
    held.wait();
    lab.clock.advance(Duration::from_secs(60));
    while db.run_background_step() {}
    assert_eq!(db.health().state, HealthState::Degraded, "its tables are as they were");
    held.release.send(()).expect("waits");
    compacting.join().expect("no panic").expect("compacted");
    assert_eq!(db.health().state, HealthState::Healthy);
    lab.hook.clear();
    db.close().expect("closes");
}

/// The clock stands still for those who wait: what fails again waits longer, and nobody else starts it meanwhile.
#[test]
fn a_failed_compaction_waits_for_its_time_though_flushes_ask_for_it() {
    let lab = Lab::new().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.background_retry = Duration::from_secs(1);
    });
    let (db, clock): (Db, Arc<ManualClock>) = (lab.open(), Arc::clone(&lab.clock));
    let flush = |round: usize| {
        db.put("key", format!("value {round}")).expect("written");
        db.flush().expect("flushed");
    };
    lab.fs.inject(Fault::on(FsOp::Open, "*.sst", FaultEffect::Eio).sticky());
    let failed = |db: &Db| db.health().tries;
    for round in 0..10 {
        flush(round);
        while db.run_background_step() {}
    }
    assert_eq!(failed(&db), 1, "{:?}", db.health());
    clock.advance(Duration::from_secs(1));
    while db.run_background_step() {}
    assert_eq!(failed(&db), 2);
    flush(10);
    while db.run_background_step() {}
    assert_eq!(failed(&db), 2);
    lab.fs.clear_faults();
    clock.advance(Duration::from_secs(2));
    while db.run_background_step() {}
    assert_eq!(db.health().state, HealthState::Healthy);
    assert_eq!(db.stats().families[0].levels[0].files, 0, "compacted");
    db.close().expect("closes");
}

#[test]
fn writers_that_wait_for_a_compaction_which_keeps_failing_are_refused_with_its_cause_until_it_succeeds() {
    let lab = Lab::new().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 3;
        options.family.level0_stop_writes_trigger = 3;
        options.background_retry = Duration::from_secs(1);
    });
    let db = lab.open();
    lab.fs.inject(Fault::on(FsOp::Read, "*.sst", FaultEffect::Eio).sticky());
    for round in 0..3 {
        db.put("key", format!("value {round}")).expect("written");
        db.flush().expect("flushed");
    }
    let mut kinds = Vec::new();
    for _ in 0..60 {
        while db.run_background_step() {}
        let error = db.put("key", "value").expect_err("level 0 is full");
        if kinds.last() != Some(&error.kind()) {
            kinds.push(error.kind());
            if error.kind() == ErrorKind::ReadOnly {
                assert!(error.to_string().contains("Input/output error"), "{error}");
                assert_eq!(db.health().state, HealthState::WritesStopped);
            }
        }
        lab.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(kinds, [ErrorKind::Busy, ErrorKind::ReadOnly], "at first there is hope");
    lab.fs.clear_faults();
    lab.clock.advance(Duration::from_secs(60));
    while db.run_background_step() {}
    db.put("key", "value").expect("writes go on by themselves");
    assert_eq!(db.health().state, HealthState::Healthy);
    db.close().expect("closes");
}

#[test]
fn an_idle_database_gives_its_part_of_a_shared_budget_to_the_busy_ones_and_a_closed_one_has_none() {
    let manager = WriteBufferManager::new(1 << 20);
    let lab = Lab::with_threads().change(|options| options.write_buffer_manager = Some(Arc::clone(&manager)));
    let open = |dir: &str| Db::open_with(Path::new(dir), lab.options.clone()).expect("opens");
    let (idle, busy) = (open("/idle"), open("/busy"));
    let mut number = 0;
    let mut put = |db: &Db| {
        number += 1;
        db.put(format!("key{number}"), [b'v'; 500]).expect("written");
    };
    while manager.usage() < manager.capacity() / 8 * 5 {
        put(&idle);
    }
    assert_eq!(idle.stats().bytes_flushed, 0, "within the budget");
    let of_idle = manager.usage();
    // No more than it takes: what comes while the flush has not begun is the writer's own.
    while manager.usage() <= manager.capacity() / 8 * 7 && idle.stats().bytes_flushed == 0 {
        put(&busy);
    }
    eventually("the idle database is flushed, and its bytes counted out", || manager.usage() < of_idle);
    assert!(idle.stats().bytes_flushed > 0);
    assert_eq!(busy.stats().bytes_flushed, 0, "the one that writes has less");
    busy.close().expect("closes");
    idle.close().expect("closes");
    assert_eq!(manager.usage(), 0, "though handles are still there");
    drop((idle, busy));
}

#[test]
fn writers_are_not_held_up_by_compactions_that_somebody_paused() {
    let lab = Lab::with_threads().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 2;
        options.family.level0_stop_writes_trigger = 2;
    });
    let db = lab.open();
    db.pause_background_work();
    for round in 0..2 {
        db.put("key", format!("value {round}")).expect("written");
        db.flush().expect("flushed");
    }
    let own = db.clone();
    let error = in_time("a write that only its own thread could let go on", move || own.put("key", "value"));
    assert!(error.expect_err("it would wait for ever").to_string().contains("paused"));
    db.continue_background_work();
    eventually("writes go on", || db.put("key", "value").is_ok());
    db.close().expect("closes");
}

/// The failed compaction sets the damaged table aside, and what is left is no reason to stop.
#[test]
fn a_compaction_by_hand_that_meets_damage_lets_stalled_writers_go() {
    let lab = Lab::with_threads().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 2;
        options.family.level0_stop_writes_trigger = 2;
        options.family.disable_auto_compactions = true;
    });
    let db = lab.open();
    for round in 0..2 {
        db.put("key", format!("value {round}")).expect("written");
        db.flush().expect("flushed");
    }
    let table = lab.fs.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).expect("two");
    lab.fs.damage(&table, |bytes| bytes[3] ^= 1).expect("damaged");
    let (reached, is_in) = mpsc::channel();
    let (go_on, goes) = mpsc::channel::<()>();
    let goes = Mutex::new(goes);
    let is_first = AtomicBool::new(true);
    lab.hook.set(move |op, path| {
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        if op == FsOp::Open && is_table && is_first.swap(false, Ordering::SeqCst) {
            reached.send(()).expect("awaited");
            goes.lock().expect("whole").recv().expect("let go");
        }
    });
    let by_hand = db.clone();
    let compacting = std::thread::spawn(move || by_hand.compact_range::<&[u8]>(..));
    is_in.recv_timeout(LONG).expect("it has its claim, and opens its first input");
    db.set_options(&[("disable_auto_compactions", "false")]).expect("changed");
    assert!(db.stats().stall_reason.is_some(), "writers wait for it");
    go_on.send(()).expect("waits");
    compacting.join().expect("no panic").expect_err("damage");
    lab.hook.clear();
    let own = db.clone();
    in_time("a write", move || own.put("key", "value")).expect("one sound table of level 0 holds up nobody");
    db.close().expect("closes");
}

#[test]
fn what_the_last_flush_has_to_tell_is_told_though_a_listener_closes() {
    #[derive(Default)]
    struct Closes(Mutex<Option<Db>>, AtomicUsize);
    impl std::fmt::Debug for Closes {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Closes")
        }
    }
    impl EventListener for Closes {
        fn flush_completed(&self, _: &FlushEvent) {
            self.1.fetch_add(1, Ordering::SeqCst);
            let Some(db) = self.0.lock().expect("whole").take() else { return };
            db.put("later", "value").expect("open still");
            db.close().expect("closes");
        }
    }
    let listener = Arc::new(Closes::default());
    let lab = Lab::new().change(|options| options.listeners.push(Arc::clone(&listener) as _));
    let db = lab.open();
    *listener.0.lock().expect("whole") = Some(db.clone());
    db.put("key", "value").expect("written");
    db.flush().expect("flushed");
    assert_eq!(listener.1.load(Ordering::SeqCst), 2, "the flush that was asked for, and the last one");
}

#[test]
fn a_handle_that_was_closed_touches_the_directory_no_more() {
    let lab = Lab::new();
    let db = lab.open();
    db.put("key", "value").expect("written");
    db.flush().expect("flushed");
    let iter = db.iter().expect("opened");
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close_with(firndb::CloseMode::Oust).expect("closes");
    let other = lab.open();
    let touched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&touched);
    lab.hook.set(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    drop(iter);
    while db.run_background_step() {}
    assert_eq!(touched.load(Ordering::SeqCst), 0);
    lab.hook.clear();
    other.close().expect("closes");
}
