//! Compactions that go around each other and around damage; compactions by hand that take what they need.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{BackgroundMode, CompactionEvent, Db, ErrorKind, EventListener, FsOp};

use crate::lab::{DIR, Lab, Map, all, collect, eventually, fill, settle};

#[derive(Debug, Default)]
struct Events(Mutex<Vec<CompactionEvent>>);

impl EventListener for Events {
    fn compaction_completed(&self, event: &CompactionEvent) {
        self.0.lock().expect("whole").push(event.clone());
    }
}

impl Events {
    fn take(&self) -> Vec<CompactionEvent> {
        std::mem::take(&mut self.0.lock().expect("whole"))
    }
}

fn with_events(lab: Lab) -> (Lab, Arc<Events>) {
    let events = Arc::new(Events::default());
    let heard = Arc::clone(&events);
    (lab.change(|options| options.listeners.push(heard)), events)
}

fn level0_files(db: &Db) -> usize {
    db.stats().families[0].levels[0].files
}

fn damage(lab: &Lab, table: u64) {
    let path = Path::new(DIR).join(format!("{table:06}.sst"));
    lab.fs.damage(&path, |bytes| bytes[20] ^= 1).expect("it is there");
}

#[test]
fn a_damaged_table_of_level_0_holds_up_neither_writers_nor_the_compaction_of_others() {
    // The damaged one is the oldest, in the middle, or the newest of those that are due.
    for place in 0..4 {
        let lab = Lab::new().change(|options| {
            options.family.level0_file_num_compaction_trigger = 4;
            options.family.level0_slowdown_writes_trigger = 6;
            options.family.level0_stop_writes_trigger = 8;
        });
        let db = lab.open();
        let mut truth = Map::new();
        for round in 0..60 {
            truth.extend(fill(&db, 50, &format!("round {round}")));
            db.flush().expect("flushed");
            if round == place {
                damage(&lab, *lab.tables().last().expect("there is one"));
            }
            // Time stands still: what failed on the damage goes around it at once.
            settle(&db);
            assert!(level0_files(&db) <= 4, "{place} {round}: {:?}", db.stats().families[0].levels);
            assert_eq!(db.stats().stall_reason, None);
        }
        let health = db.health();
        assert_eq!(health.bad_files.len(), 1, "{health:?}");
        // What lies above the damage is read.
        assert_eq!(db.get("key0007").expect("read").as_deref(), truth.get(&b"key0007"[..]).map(Vec::as_slice));
        // A compaction by hand that would need the damaged one names it.
        let error = db.compact_range::<&[u8]>(..).expect_err("it is in the way");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert!(error.to_string().contains(&format!("{}", health.bad_files[0])), "{error}");
    }
}

#[test]
fn a_damaged_table_below_holds_up_only_what_lies_over_it() {
    let lab = Lab::new().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_stop_writes_trigger = 6;
        options.family.max_bytes_for_level_base = 4096;
    });
    let db = lab.open();
    fill(&db, 1000, "old");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let tables = lab.tables();
    assert!(tables.len() > 5);
    damage(&lab, *tables.iter().nth(tables.len() / 2).expect("there is one"));
    for round in 0..40 {
        for number in (0..1000).step_by(7) {
            db.put(format!("key{number:04}"), format!("round {round}")).expect("written");
        }
        db.flush().expect("flushed");
        settle(&db);
        assert!(level0_files(&db) <= 2, "{round}: {:?}", db.stats().families[0].levels);
        assert_eq!(db.stats().stall_reason, None, "{round}: {:?}", db.stats().families[0].levels);
    }
    assert_eq!(db.get("key0007").expect("read").as_deref(), Some(&b"round 39"[..]));
}

#[test]
fn a_narrow_range_is_compacted_with_the_files_that_it_overlaps_and_no_others() {
    let (lab, events) = with_events(Lab::new().change(|options| options.family.disable_auto_compactions = true));
    let db = lab.open();
    for round in 0..3 {
        fill(&db, 2000, &format!("round {round}"));
        db.flush().expect("flushed");
        if round < 2 {
            db.compact_range::<&[u8]>(..).expect("compacted");
        }
    }
    for part in 0..20 {
        for number in part * 100..part * 100 + 100 {
            db.put(format!("key{number:04}"), format!("again {number}")).expect("written");
        }
        db.flush().expect("flushed");
    }
    // Level 0 has a table over everything under twenty narrow ones: a narrow range takes that one, and one of those.
    let before = all(&db);
    settle(&db);
    events.take();
    db.compact_range("key0510".."key0520").expect("compacted");
    let first = events.take();
    assert_eq!(first[0].inputs.iter().filter(|(level, _)| *level == 0).count(), 2, "{first:?}");
    // With level 0 out of the way it takes next to nothing.
    db.compact_range::<&[u8]>(..).expect("compacted");
    for number in 0..2000 {
        db.put(format!("key{number:04}"), "fresh").expect("written");
        if number % 100 == 99 {
            db.flush().expect("flushed");
        }
    }
    settle(&db);
    let tables = lab.tables().len();
    events.take();
    db.compact_range("key0710".."key0720").expect("compacted");
    let taken: usize = events.take().iter().map(|event| event.inputs.len()).sum();
    assert!(taken * 4 < tables, "{taken} of {tables}");
    assert_eq!(all(&db).len(), before.len());
    assert!(events.take().is_empty());
    db.compact_range("key0710".."key0720").expect("compacted");
    assert!(events.take().is_empty(), "nothing is left to do in the range");
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn writers_and_automatic_compactions_go_on_beside_a_compaction_by_hand_that_takes_its_time() {
    let (lab, events) = with_events(Lab::with_threads().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 6;
        options.family.level0_stop_writes_trigger = 8;
    }));
    let db = lab.open();
    let side = db.create_column_family("side").expect("new");
    fill(&db, 500, "bulk");
    db.flush().expect("flushed");
    // The compaction by hand stands still in the middle of its first output.
    let (is_held, is_free) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (held, free) = (Arc::clone(&is_held), Arc::clone(&is_free));
    lab.hook.set(move |op, path| {
        let is_table = path.extension().is_some_and(|ending| ending == "sst");
        if op == FsOp::Sync && is_table && std::thread::current().name() == Some("by hand") {
            held.store(true, Ordering::Release);
            while !free.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let by_hand = {
        let db = db.clone();
        let thread = std::thread::Builder::new().name("by hand".to_owned());
        thread.spawn(move || db.compact_range("key".."kez")).expect("a thread")
    };
    eventually("it stands still", || is_held.load(Ordering::Acquire));
    // Other keys of the same family, and another family, are written, flushed and compacted meanwhile.
    for round in 0..30 {
        db.put(format!("other{round:04}"), "x".repeat(500)).expect("writers are not held up");
        db.flush().expect("flushed");
        side.put("key", format!("{round}")).expect("written");
        side.flush().expect("flushed");
    }
    // One table of level 0 is what is being compacted by hand.
    eventually("the rest of level 0 is compacted", || level0_files(&db) <= 2);
    assert!(!by_hand.is_finished());
    // The last one may be told a moment later.
    let mut told = 0;
    eventually("three compactions and more are told", || {
        told += events.take().iter().filter(|event| event.column_family == "default").count();
        told > 3
    });
    is_free.store(true, Ordering::Release);
    by_hand.join().expect("no panic").expect("compacted");
    lab.hook.clear();
    assert_eq!(all(&db).len(), 530);
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn a_compaction_by_hand_ends_although_writers_never_do() {
    let lab = Lab::with_threads().change(|options| {
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.write_buffer_size = 4096;
    });
    let db = lab.open();
    fill(&db, 1000, "first");
    let is_over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let (db, is_over) = (db.clone(), Arc::clone(&is_over));
            std::thread::spawn(move || {
                for number in 0u32.. {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    db.put(format!("key{:04}-{writer}", number % 1000), "y".repeat(50)).expect("written");
                }
            })
        })
        .collect();
    for _ in 0..5 {
        db.compact_range::<&[u8]>(..).expect("it ends");
        db.compact_range("key0100".."key0200").expect("it ends");
    }
    is_over.store(true, Ordering::Release);
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    let firsts = collect(db.iter().expect("it opens")).into_iter().filter(|(key, _)| key.len() == 7).count();
    assert_eq!(firsts, 1000);
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn compactions_of_other_keys_of_one_family_run_at_the_same_time() {
    let lab = Lab::with_threads().change(|options| options.family.disable_auto_compactions = true);
    assert_eq!(lab.options.background, BackgroundMode::Threads);
    let db = lab.open();
    for prefix in ["a", "b"] {
        for number in 0..100 {
            db.put(format!("{prefix}{number:03}"), "v").expect("written");
        }
        db.flush().expect("flushed");
    }
    // Each waits in its first sync for the other to be there, too.
    let inside = Arc::new(AtomicUsize::new(0));
    let both = Arc::clone(&inside);
    lab.hook.set(move |op, path| {
        if op == FsOp::Sync && path.extension().is_some_and(|ending| ending == "sst") {
            both.fetch_add(1, Ordering::AcqRel);
            eventually("the other one does not wait for this one", || both.load(Ordering::Acquire) >= 2);
        }
    });
    let threads = ["a", "b"].map(|prefix| {
        let db = db.clone();
        std::thread::spawn(move || db.compact_range(prefix.to_owned()..format!("{prefix}z")))
    });
    for thread in threads {
        thread.join().expect("no panic").expect("compacted");
    }
    lab.hook.clear();
    assert_eq!(all(&db).len(), 200);
    assert_eq!(level0_files(&db), 0);
}
