//! Listeners are called when no lock is held: whatever they ask of the database, it answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firndb::{
    BackgroundErrorEvent, CloseMode, CompactionEvent, Db, ErrorKind, EventListener, Fault, FaultEffect, FlushEvent,
    FsOp, StallEvent, TableFileEvent,
};

use crate::lab::Lab;

/// Does with the database all that a curious listener might, and writes down of what it was told.
#[derive(Default)]
struct Curious {
    db: Mutex<Option<Db>>,
    told: Mutex<Vec<&'static str>>,
}

impl std::fmt::Debug for Curious {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Curious")
    }
}

impl Curious {
    fn ask(&self, of: &'static str, question: impl FnOnce(&Db)) {
        let db = self.db.lock().expect("whole").clone();
        if let Some(db) = db {
            self.told.lock().expect("whole").push(of);
            db.stats();
            question(&db);
        }
    }
}

impl EventListener for Curious {
    fn flush_completed(&self, _: &FlushEvent) {
        self.ask("flush", |db| db.flush().expect("nothing is left to flush"));
    }

    fn compaction_completed(&self, _: &CompactionEvent) {
        self.ask("compaction", |db| db.compact_range::<&[u8]>(..).expect("compacted"));
    }

    fn stall_changed(&self, _: &StallEvent) {
        self.ask("stall", |db| db.flush_wal(false).expect("handed over"));
    }

    fn background_error(&self, _: &BackgroundErrorEvent) {
        // Once: what it does here fails, too, and is told again.
        if self.told.lock().expect("whole").contains(&"error") {
            return;
        }
        self.ask("error", |db| {
            let made = db.create_column_family("made by a listener").map(drop);
            let dropped = db.drop_column_family("not there");
            // The disk is as broken as it was: what counts is that there are answers.
            assert!(made.is_err() && dropped.is_err(), "{made:?} {dropped:?}");
        });
    }

    fn table_file_deleted(&self, _: &TableFileEvent) {
        self.ask("deleted", |db| {
            db.run_background_step();
        });
    }
}

#[test]
fn a_listener_may_ask_the_database_whatever_it_likes() {
    let curious = Arc::new(Curious::default());
    let lab = Lab::new().change(|options| {
        options.listeners.push(Arc::clone(&curious) as _);
        options.family.write_buffer_size = 1024;
        options.family.max_write_buffer_number = 2;
    });
    let (send, done) = mpsc::channel();
    let own = Arc::clone(&curious);
    std::thread::spawn(move || {
        let db = lab.open();
        *own.db.lock().expect("whole") = Some(db.clone());
        for number in 0..100 {
            while let Err(error) = db.put(format!("key{number:03}"), "x".repeat(100)) {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                assert!(db.run_background_step());
            }
        }
        db.compact_range::<&[u8]>(..).expect("compacted");
        while db.run_background_step() {}
        lab.fs.inject(Fault::on(FsOp::Append, "MANIFEST-*", FaultEffect::Eio).sticky());
        db.create_column_family("side").map(drop).expect_err("MANIFEST fails");
        lab.fs.clear_faults();
        *own.db.lock().expect("whole") = None;
        db.close().expect("closes");
        send.send(()).expect("awaited");
    });
    done.recv_timeout(Duration::from_secs(120)).expect("no listener waits for a lock that its caller holds");
    let told = curious.told.lock().expect("whole").clone();
    for of in ["flush", "compaction", "stall", "error", "deleted"] {
        assert!(told.contains(&of), "{of}: {told:?}");
    }
}

/// Closes the database at the first chance.
#[derive(Default)]
struct Closer {
    db: Mutex<Option<Db>>,
    calls: AtomicUsize,
}

impl std::fmt::Debug for Closer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Closer")
    }
}

impl Closer {
    fn close(&self) {
        let db = self.db.lock().expect("whole").clone();
        if let Some(db) = db {
            self.calls.fetch_add(1, Ordering::Relaxed);
            // Its background ends under this thread: what was underway there may fail.
            let _ = db.close_with(CloseMode::Oust);
        }
    }
}

impl EventListener for Closer {
    fn flush_completed(&self, _: &FlushEvent) {
        self.close();
    }

    fn compaction_completed(&self, _: &CompactionEvent) {
        self.close();
    }

    fn table_file_deleted(&self, _: &TableFileEvent) {
        self.close();
    }
}

#[test]
fn a_listener_may_close_the_database_beside_others_that_do() {
    for round in 0..20 {
        let closer = Arc::new(Closer::default());
        let mut lab = Lab::with_threads().change(|options| {
            options.listeners.push(Arc::clone(&closer) as _);
            options.family.write_buffer_size = 4096;
            options.family.level0_file_num_compaction_trigger = 2;
        });
        let (send, done) = mpsc::channel();
        let own = Arc::clone(&closer);
        std::thread::spawn(move || {
            let db = lab.open();
            if round % 2 == 0 {
                *own.db.lock().expect("whole") = Some(db.clone());
            }
            for number in 0..2000 {
                if db.put(format!("key{:03}", number % 100), "x".repeat(50)).is_err() {
                    break;
                }
            }
            *own.db.lock().expect("whole") = Some(db.clone());
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| db.close().expect("closes"));
                }
            });
            *own.db.lock().expect("whole") = None;
            drop(db);
            lab.options.listeners.clear();
            lab.open().close().expect("nobody has it any more");
            send.send(()).expect("awaited");
        });
        done.recv_timeout(Duration::from_secs(120)).expect("nobody waits for one that waits for them");
        assert!(closer.calls.load(Ordering::Relaxed) > 0 || round % 2 == 1);
    }
}
