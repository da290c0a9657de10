//! A panic in a user's code, on whatever thread: whoever waits is answered, writes are refused with the cause, reads go on,
//! the database closes, and the next opening finds the directory free and everything that was acknowledged.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use firndb::{
    CloseMode, CompactionEvent, CompactionFilter, CompactionFilterFactory, Comparator, Db, ErrorKind, EventListener,
    FilterContext, FilterDecision, FilterEntry, FilterRule, FlushEvent, HealthState, KeyOrder, LogLevel, Logger,
    StallEvent, TableFileEvent,
};

use crate::lab::{Lab, eventually};

const LONG: Duration = Duration::from_secs(120);

/// Panics while it is armed, and quietly: the noise of expected panics helps nobody.
#[derive(Debug, Default)]
struct Trap {
    is_armed: AtomicBool,
    sprung: AtomicU32,
}

impl Trap {
    fn spring(&self) {
        if self.is_armed.load(Ordering::SeqCst) {
            self.sprung.fetch_add(1, Ordering::SeqCst);
            std::panic::resume_unwind(Box::new("of a user's code"));
        }
    }
}

/// The bytewise order under another name.
struct Trapped(Arc<Trap>);

impl Comparator for Trapped {
    fn name(&self) -> &str {
        "trapped"
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> std::cmp::Ordering {
        if a.starts_with(b"boom") || b.starts_with(b"boom") {
            self.0.spring();
        }
        a.cmp(b)
    }
}

fn lab(trap: &Arc<Trap>) -> Lab {
    let order = KeyOrder::Custom(Arc::new(Trapped(Arc::clone(trap))));
    Lab::with_threads().change(|options| options.family.key_order = order)
}

/// What must be so after a panic, whoever had it.
fn assert_refused_and_closes(lab: &Lab, db: Db, acknowledged: &[&str]) {
    eventually("writes are refused", || db.put("later", "value").is_err());
    let error = db.put("later", "value").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    assert!(error.to_string().contains("panicked"), "{error}");
    let health = db.health();
    assert_eq!(health.state, HealthState::ReadOnly);
    assert!(health.cause.expect("there is one").to_string().contains("panicked"));
    for key in acknowledged {
        assert!(db.get(key).expect("reads go on").is_some(), "{key}");
    }
    let (send, done) = mpsc::channel();
    std::thread::spawn(move || {
        let closed = db.close_with(CloseMode::Oust);
        drop(db);
        send.send(closed).expect("awaited");
    });
    done.recv_timeout(LONG).expect("close ends").expect_err("it says what happened");
    let db = lab.open();
    for key in acknowledged {
        assert!(db.get(key).expect("readable").is_some(), "{key} after the next opening");
    }
    db.put("later", "value").expect("writes go on");
    db.close().expect("closes");
}

#[test]
fn of_a_comparator_in_a_write() {
    let trap = Arc::new(Trap::default());
    let lab = lab(&trap);
    let db = lab.open();
    db.put("a", "1").expect("written");
    trap.is_armed.store(true, Ordering::SeqCst);
    let writer = db.clone();
    std::thread::spawn(move || writer.put("boom", "2")).join().expect_err("the panic is the writer's own");
    trap.is_armed.store(false, Ordering::SeqCst);
    assert_refused_and_closes(&lab, db, &["a"]);
}

/// Many writers at once, in groups that others lead: each of them is answered or has the panic itself.
#[test]
fn of_a_comparator_in_a_group_of_writers() {
    for round in 0..20 {
        let trap = Arc::new(Trap::default());
        let lab = lab(&trap);
        let db = lab.open();
        db.put("a", "1").expect("written");
        trap.is_armed.store(true, Ordering::SeqCst);
        let (send, done) = mpsc::channel();
        for thread in 0..8 {
            let (db, send) = (db.clone(), send.clone());
            std::thread::spawn(move || {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    // Until writes are refused, which the watch below waits for.
                    for number in 0.. {
                        let mut batch = firndb::WriteBatch::new();
                        for entry in 0..20 {
                            batch.put(format!("key{thread}-{entry}"), "value");
                        }
                        if thread == 3 && number == round * 3 {
                            batch.put("boom", "value");
                        }
                        db.write(&mut batch)?;
                    }
                    Ok::<(), firndb::Error>(())
                }));
                send.send(outcome.is_ok_and(|written| written.is_ok())).expect("awaited");
            });
        }
        for _ in 0..8 {
            let went_through = done.recv_timeout(LONG).expect("everybody is answered");
            assert!(!went_through, "nobody writes on after a panic");
        }
        trap.is_armed.store(false, Ordering::SeqCst);
        assert_refused_and_closes(&lab, db, &["a"]);
    }
}

#[test]
fn of_a_comparator_in_a_flush_and_in_a_compaction() {
    for is_flush in [true, false] {
        let trap = Arc::new(Trap::default());
        let mut lab = lab(&trap);
        lab.options.family.level0_file_num_compaction_trigger = 2;
        lab.options.family.disable_auto_compactions = true;
        let db = lab.open();
        for key in ["boom 1", "boom 2", "boom 3"] {
            db.put(key, "value").expect("written");
            db.flush().expect("flushed");
        }
        db.put("boom 4", "value").expect("written");
        db.put("boom 5", "value").expect("written");
        trap.is_armed.store(true, Ordering::SeqCst);
        if is_flush {
            // On the thread that asks.
            let own = db.clone();
            std::thread::spawn(move || own.flush()).join().expect_err("its own panic");
        } else {
            // Picking compares keys, too, on the thread that asks.
            let own = db.clone();
            let asked = std::thread::spawn(move || own.set_options(&[("disable_auto_compactions", "false")])).join();
            drop(asked);
            eventually("a compaction panics", || trap.sprung.load(Ordering::SeqCst) > 0);
        }
        trap.is_armed.store(false, Ordering::SeqCst);
        assert_refused_and_closes(&lab, db, &["boom 1", "boom 4"]);
    }
}

/// In a compaction filter, on the thread of whoever asks for the job, and on the engine's own.
#[test]
fn of_a_compaction_filter() {
    struct Bad(Arc<Trap>);
    impl CompactionFilterFactory for Bad {
        fn name(&self) -> &str {
            "bad"
        }
        fn create(&self, _: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
            let trap = Arc::clone(&self.0);
            Some(Box::new(move |_: &[u8], _: FilterEntry<'_>| {
                trap.spring();
                FilterDecision::Keep
            }))
        }
    }
    for is_asked_for in [true, false] {
        let trap = Arc::new(Trap::default());
        let mut lab = Lab::with_threads();
        lab.options.family.compaction_filter_factory = Some(FilterRule::custom(Bad(Arc::clone(&trap))));
        lab.options.family.level0_file_num_compaction_trigger = 2;
        let db = lab.open();
        trap.is_armed.store(true, Ordering::SeqCst);
        db.put("a", "1").expect("written");
        if is_asked_for {
            let own = db.clone();
            std::thread::spawn(move || own.compact_range::<&str>(..)).join().expect_err("its own panic");
        } else {
            db.flush().expect("flushed");
            db.put("a", "2").expect("written");
            // The compaction may be through with it before the flush returns.
            drop(db.flush());
            eventually("a compaction panics", || trap.sprung.load(Ordering::SeqCst) > 0);
        }
        trap.is_armed.store(false, Ordering::SeqCst);
        assert_refused_and_closes(&lab, db, &["a"]);
        assert!(trap.sprung.load(Ordering::SeqCst) == 1, "and no job tries it again while the database is open");
    }
}

/// Panics in one of the callbacks.
#[derive(Debug)]
struct Rude {
    trap: Arc<Trap>,
    at: &'static str,
}

impl EventListener for Rude {
    fn flush_completed(&self, _: &FlushEvent) {
        if self.at == "flush" {
            self.trap.spring();
        }
    }
    fn compaction_completed(&self, _: &CompactionEvent) {
        if self.at == "compaction" {
            self.trap.spring();
        }
    }
    fn table_file_deleted(&self, _: &TableFileEvent) {
        if self.at == "deletion" {
            self.trap.spring();
        }
    }
    fn stall_changed(&self, _: &StallEvent) {
        if self.at == "stall" {
            self.trap.spring();
        }
    }
}

impl Logger for Rude {
    fn log(&self, _: LogLevel, _: &str) {
        if self.at == "log" {
            self.trap.spring();
        }
    }
}

#[test]
fn of_a_listener_and_of_the_logger() {
    for at in ["flush", "compaction", "deletion", "stall", "log"] {
        let trap = Arc::new(Trap::default());
        let rude = Arc::new(Rude { trap: Arc::clone(&trap), at });
        let mut lab = Lab::with_threads().change(|options| {
            options.listeners.push(Arc::clone(&rude) as _);
            options.family.level0_file_num_compaction_trigger = 2;
            options.family.level0_slowdown_writes_trigger = 2;
        });
        if at == "log" {
            lab.options.logger = Some(rude);
        }
        let db = lab.open();
        trap.is_armed.store(true, Ordering::SeqCst);
        // A failure is worth a line in the log, and is overcome.
        lab.fs.inject(firndb::Fault::on(firndb::FsOp::Append, "*.sst", firndb::FaultEffect::Eio));
        let mut round = 0;
        eventually("the callback is called", || {
            round += 1;
            // Refused as soon as it was, or for the moment.
            let _ = db.put("a", format!("value {round}")).and_then(|()| db.flush());
            trap.sprung.load(Ordering::SeqCst) > 0
        });
        trap.is_armed.store(false, Ordering::SeqCst);
        assert_refused_and_closes(&lab, db, &["a"]);
    }
}

/// A user's file system that panics in the middle of an edit: nobody knows how much of it is there.
#[test]
fn of_a_file_system_in_an_edit_of_manifest() {
    let lab = Lab::with_threads();
    let db = lab.open();
    db.put("a", "1").expect("written");
    lab.hook.set(|op, path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if op == firndb::FsOp::Append && name.starts_with("MANIFEST") {
            std::panic::resume_unwind(Box::new("of a file system"));
        }
    });
    let own = db.clone();
    std::thread::spawn(move || own.create_column_family("new").map(drop)).join().expect_err("its own panic");
    lab.hook.clear();
    let error = db.create_column_family("another").expect_err("nothing is appended to that MANIFEST");
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
    assert_refused_and_closes(&lab, db, &["a"]);
}

/// A writer panics with half of its batch in the memtable, while what resumes writes after another failure, or `close`,
/// stands in line behind it.
#[test]
fn of_a_comparator_in_the_middle_of_a_batch_leaves_all_of_it_or_nothing() {
    for is_closed in [true, false] {
        let (trap, entered) = (Arc::new(Trap::default()), Arc::new(AtomicBool::new(false)));
        let (release, released) = mpsc::channel::<()>();
        let (mark, released) = (Arc::clone(&entered), std::sync::Mutex::new(released));
        let slow = Arc::clone(&trap);
        struct Slow<F>(F);
        impl<F: Fn() + Send + Sync + 'static> Comparator for Slow<F> {
            fn name(&self) -> &str {
                "slow"
            }
            fn compare(&self, a: &[u8], b: &[u8]) -> std::cmp::Ordering {
                if a.starts_with(b"boom") || b.starts_with(b"boom") {
                    (self.0)();
                }
                a.cmp(b)
            }
        }
        let wait = move || {
            if slow.is_armed.load(Ordering::SeqCst) {
                mark.store(true, Ordering::SeqCst);
                released.lock().expect("whole").recv().expect("let go");
                slow.spring();
            }
        };
        let order = KeyOrder::Custom(Arc::new(Slow(wait)));
        let lab = Lab::with_threads().change(|options| options.family.key_order = order);
        let db = lab.open();
        db.put("a", "1").expect("written");
        db.flush().expect("flushed");
        db.put("b", "1").expect("written");
        // A flush is held up, so that it fails when a writer is in the middle of its batch.
        let (fail, failing) = mpsc::channel::<()>();
        let (failing, is_first) = (std::sync::Mutex::new(failing), AtomicBool::new(true));
        let is_held = Arc::new(AtomicBool::new(false));
        let held = Arc::clone(&is_held);
        lab.hook.set(move |op, path| {
            let is_table = path.extension().is_some_and(|extension| extension == "sst");
            if op == firndb::FsOp::Sync && is_table && is_first.swap(false, Ordering::SeqCst) {
                held.store(true, Ordering::SeqCst);
                failing.lock().expect("whole").recv().expect("let go");
            }
        });
        let own = db.clone();
        let flushing = std::thread::spawn(move || own.flush());
        eventually("a table is synced", || is_held.load(Ordering::SeqCst));
        trap.is_armed.store(true, Ordering::SeqCst);
        let own = db.clone();
        let writer = std::thread::spawn(move || {
            let mut batch = firndb::WriteBatch::new();
            batch.put("k1", "half").put("boom", "half");
            own.write(&mut batch)
        });
        eventually("the writer is in the middle of its batch", || entered.load(Ordering::SeqCst));
        lab.fs.inject(firndb::Fault::on(firndb::FsOp::Sync, "*.sst", firndb::FaultEffect::Eio));
        fail.send(()).expect("waits");
        flushing.join().expect("no panic").expect_err("the flush fails, and writes stop");
        let own = db.clone();
        let closing = is_closed.then(|| std::thread::spawn(move || own.close()));
        // For the close, or the next try of what failed, to stand in line behind the writer. If it does not get there, less
        // is tested.
        std::thread::sleep(Duration::from_millis(300));
        release.send(()).expect("waits");
        writer.join().expect_err("its own panic");
        if let Some(closing) = closing {
            closing.join().expect("no panic").expect_err("nothing is made durable after that");
        }
        lab.hook.clear();
        trap.is_armed.store(false, Ordering::SeqCst);
        lab.fs.clear_faults();
        let _ = db.close();
        drop(db);
        let db = lab.open();
        let found = ["k1", "boom"].map(|key| db.get(key).expect("readable").is_some());
        assert!(found[0] == found[1], "half of a batch: {found:?}");
        assert!(db.get("b").expect("readable").is_some());
        db.close().expect("closes");
    }
}
