//! Panics in a user's code: a comparator, a listener, a logger.

use std::cmp::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use firndb::{CompactionEvent, Comparator, Db, EventListener, FlushEvent, KeyOrder, LogLevel, Logger};

use crate::faults::tiny;
use crate::lab::{DIR, Lab};
use crate::model::{Model, assert_reopens};
use crate::watchdog::rounds;

/// Panics in the call that it counts down to; 0: never.
#[derive(Debug, Default)]
struct Fuse(AtomicU64);

impl Fuse {
    fn burn(&self) {
        let burnt = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        assert!(burnt != Ok(1), "a user's code panics");
    }
}

#[derive(Debug)]
struct Order(Arc<Fuse>);

impl Comparator for Order {
    fn name(&self) -> &str {
        "liveness.Order"
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        self.0.burn();
        a.cmp(b)
    }
}

#[derive(Debug)]
struct Listener(Arc<Fuse>);

impl EventListener for Listener {
    fn flush_completed(&self, _: &FlushEvent) {
        self.0.burn();
    }

    fn compaction_completed(&self, _: &CompactionEvent) {
        self.0.burn();
    }
}

impl Logger for Listener {
    fn log(&self, _: LogLevel, _: &str) {
        self.0.burn();
    }
}

/// Writes until something gives way; what panics in a call of ours is ours to catch.
fn write(db: &Db, model: &mut Model, count: usize) {
    for number in 0..count {
        let key = format!("{:04}", number * 7919 % 1000);
        let outcome = catch_unwind(AssertUnwindSafe(|| model.put(db, &key)));
        if let Ok(Err(error)) = outcome {
            let health = db.health();
            assert!(health.cause.is_some(), "{error}, but {health:?}");
        }
    }
}

#[test]
fn after_a_panic_in_users_code_close_ends_and_the_next_open_has_every_write() {
    rounds(24, |random, history| {
        let [order, listener, logger] = [0, 1, 2].map(|_| Arc::new(Fuse::default()));
        let lab = Lab::with_threads().change(|options| {
            tiny(options);
            options.family.key_order = KeyOrder::Custom(Arc::new(Order(Arc::clone(&order))));
            options.listeners.push(Arc::new(Listener(Arc::clone(&listener))));
            options.logger = Some(Arc::new(Listener(Arc::clone(&logger))));
        });
        let db = lab.open();
        let mut model = Model::default();
        write(&db, &mut model, 300);
        let (name, fuse, limit) = [("comparator", &order, 20_000), ("listener", &listener, 3), ("logger", &logger, 6)]
            [random.below(3) as usize];
        let calls = 1 + random.below(limit);
        history.note(format!("the {name} panics in {calls} calls"));
        fuse.0.store(calls, Relaxed);
        write(&db, &mut model, 600);
        // Reads may meet the fuse as well, in this thread.
        let _ = catch_unwind(AssertUnwindSafe(|| db.flush().and_then(|()| db.compact_range::<&[u8]>(..))));
        fuse.0.store(0, Relaxed);
        history.note("close, after the panic");
        // With or without an error: it ends, and lets go of the lock and of the threads.
        let closed = db.close();
        history.note(format!("{closed:?}"));
        drop(db);
        let again = lab.open();
        model.check(&again);
        let mut later = Model::default();
        later.put(&again, "later").expect("it is as if nothing had been");
        assert_reopens(again, DIR, &lab.options, &[later], history);
    });
}
