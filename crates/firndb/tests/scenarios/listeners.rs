//! Listeners are called when no lock is held: whatever they ask of the database, it answers.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firndb::{CompactionEvent, Db, ErrorKind, EventListener, FlushEvent, StallEvent};

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
        *own.db.lock().expect("whole") = None;
        db.close().expect("closes");
        send.send(()).expect("awaited");
    });
    done.recv_timeout(Duration::from_secs(30)).expect("no listener waits for a lock that its caller holds");
    let told = curious.told.lock().expect("whole").clone();
    for of in ["flush", "compaction", "stall"] {
        assert!(told.contains(&of), "{of}: {told:?}");
    }
}
