//! Listeners that call back into all that the trait's documentation allows.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use firndb::{
    BackgroundErrorEvent, CompactionEvent, Db, ErrorKind, EventListener, Fault, FaultEffect, FlushEvent, FsOp,
    StallEvent, TableFileEvent,
};

use crate::faults::tiny;
use crate::lab::{DIR, Lab, Random};
use crate::model::{Model, assert_reopens};
use crate::watchdog::rounds;

/// Does one thing after the other, whatever it is told.
#[derive(Default)]
struct Caller {
    db: Mutex<Option<Db>>,
    random: Mutex<u64>,
    calls: AtomicU64,
    closes: bool,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Caller")
    }
}

impl Caller {
    fn call(&self) {
        let Some(db) = self.db.lock().expect("whole").clone() else { return };
        let number = self.calls.fetch_add(1, Relaxed);
        // What it does makes events in turn: there has to be an end.
        if number > 400 {
            return;
        }
        let drawn = {
            let mut state = self.random.lock().expect("whole");
            let mut random = Random(*state);
            let drawn = random.below(if self.closes { 9 } else { 8 });
            *state = random.0;
            drawn
        };
        let name = format!("family{}", number % 5);
        let outcome = match drawn {
            0..=2 => db.put(format!("called/{number}"), [b'c'; 500]),
            3 => db.flush(),
            4 => db.create_column_family(&name).map(drop),
            5 => db.drop_column_family(&name),
            6 => db.compact_range::<&[u8]>(..),
            7 => db.iter().and_then(|mut iter| iter.next().transpose()).map(drop),
            _ => db.close(),
        };
        if let Err(error) = outcome {
            let expected = [
                ErrorKind::Busy,
                ErrorKind::Closed,
                ErrorKind::Cancelled,
                ErrorKind::Io,
                ErrorKind::NoSpace,
                ErrorKind::DurabilityUnknown,
                ErrorKind::ReadOnly,
                ErrorKind::InvalidArgument,
                ErrorKind::NoSuchColumnFamily,
                ErrorKind::ColumnFamilyDropped,
            ];
            assert!(expected.contains(&error.kind()), "{drawn}: {error:?}");
        }
    }
}

impl EventListener for Caller {
    fn flush_completed(&self, _: &FlushEvent) {
        self.call();
    }

    fn compaction_completed(&self, _: &CompactionEvent) {
        self.call();
    }

    fn table_file_deleted(&self, _: &TableFileEvent) {
        self.call();
    }

    fn stall_changed(&self, _: &StallEvent) {
        self.call();
    }

    fn background_error(&self, _: &BackgroundErrorEvent) {
        self.call();
    }
}

fn round(random: &mut Random, history: &crate::watchdog::History, closes: bool) {
    let caller = Arc::new(Caller { random: Mutex::new(random.below(u64::MAX)), closes, ..Caller::default() });
    let mut lab = Lab::with_threads().change(tiny);
    let quiet = lab.options.clone();
    lab.options.listeners.push(Arc::clone(&caller) as _);
    let db = lab.open();
    *caller.db.lock().expect("whole") = Some(db.clone());
    let mut models = [Model::default(), Model::default()];
    if random.below(2) == 0 {
        history.note("a fault beside it");
        lab.fs.inject(Fault::on(FsOp::Sync, "*.sst", FaultEffect::Eio).skip(random.below(3)));
    }
    std::thread::scope(|scope| {
        for (writer, model) in models.iter_mut().enumerate() {
            let db = &db;
            scope.spawn(move || {
                for number in 0..3000 {
                    // Somebody may have closed it, or a fault stopped it for a moment.
                    let _ = model.put(db, &format!("{writer}/{:04}", number * 31 % 1500));
                }
            });
        }
    });
    lab.fs.clear_faults();
    history.note(format!("{} calls so far", caller.calls.load(Relaxed)));
    // The last flush of `close` calls the listener, too.
    let mut closed = db.close();
    for _ in 0..500 {
        match &closed {
            // A stopped log is being replaced.
            Err(error) if !matches!(error.kind(), ErrorKind::Closed) => {
                history.note(format!("{error}"));
                std::thread::sleep(std::time::Duration::from_millis(5));
                closed = db.close();
            }
            _ => break,
        }
    }
    *caller.db.lock().expect("whole") = None;
    drop(db);
    assert!(caller.calls.load(Relaxed) > 0, "nobody called");
    let again = Db::open_with(DIR, quiet.clone()).expect("the lock and the threads are gone");
    models.iter().for_each(|model| model.check(&again));
    assert_reopens(again, DIR, &quiet, &models, history);
}

#[test]
fn a_listener_that_writes_flushes_and_makes_families_holds_nobody_up() {
    rounds(6, |random, history| round(random, history, false));
}

#[test]
fn a_listener_that_closes_the_database_does_so() {
    rounds(6, |random, history| round(random, history, true));
}
