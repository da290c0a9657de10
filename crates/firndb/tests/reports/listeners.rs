//! What listeners are told, when, and what they find when they look.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use firndb::{CompactionEvent, Db, EventListener, FlushEvent, TableFileEvent};

use crate::lab::{Lab, manifest_tables, settle};
use crate::patience::{HeldUp, in_time};

/// Looks at the database, and at the disk, from within each event.
#[derive(Default)]
struct Looks {
    db: Mutex<Option<Db>>,
    fs: Mutex<Option<firndb::MemoryFs>>,
    flushed: Mutex<Vec<u64>>,
    order: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Looks")
    }
}

impl EventListener for Looks {
    fn flush_completed(&self, event: &FlushEvent) {
        let Some(file) = event.file else { return };
        self.flushed.lock().expect("whole").push(file.0);
        self.order.lock().expect("whole").push(format!("flush {}", file.0));
        if let Some(fs) = self.fs.lock().expect("whole").as_ref() {
            let live = manifest_tables(fs).0;
            assert!(live.contains(&file.0), "told of {}, MANIFEST has {live:?}", file.0);
        }
        if let Some(db) = self.db.lock().expect("whole").as_ref() {
            // Locks of the engine that a callback was called under would show here.
            db.stats();
            db.health();
            db.get("key").expect("read");
        }
    }
    fn compaction_completed(&self, event: &CompactionEvent) {
        let mut order = self.order.lock().expect("whole");
        for (_, input) in &event.inputs {
            order.push(format!("compacted {}", input.0));
        }
    }
    fn table_file_deleted(&self, event: &TableFileEvent) {
        self.order.lock().expect("whole").push(format!("deleted {}", event.file.0));
    }
}

/// facebook/rocksdb#5892: of two flushes of one family, the one that ended first was told of before its table was live.
#[test]
fn a_flush_is_told_of_when_its_table_is_in_manifest_though_another_one_is_slow() {
    let looks = Arc::new(Looks::default());
    let lab = Lab::with_threads().change(|options| {
        options.listeners.push(Arc::clone(&looks) as _);
        options.family.write_buffer_size = 4096;
        options.family.disable_auto_compactions = true;
    });
    *looks.fs.lock().expect("whole") = Some(lab.fs.clone());
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    *looks.db.lock().expect("whole") = Some(db.clone());
    let held = HeldUp::at_sync_of_a_table(&lab);
    for number in 0..20 {
        db.put(format!("key{number}"), [b'v'; 300]).expect("written");
    }
    held.wait();
    // A flush by hand of the same family with a few keys more, and one of another.
    db.put("few", "keys").expect("written");
    other.put("few", "keys").expect("written");
    let by_hand = db.clone();
    let flushing = std::thread::spawn(move || by_hand.flush());
    in_time("the flush of the other family", move || other.flush()).expect("flushed");
    held.let_go();
    in_time("the flush", move || flushing.join()).expect("no panic").expect("flushed");
    *looks.db.lock().expect("whole") = None;
    in_time("close", move || db.close()).expect("closes");
    let flushed = looks.flushed.lock().expect("whole").clone();
    let told: BTreeSet<u64> = flushed.iter().copied().collect();
    assert_eq!(told.len(), flushed.len(), "each once");
    assert_eq!(told, lab.tables(), "and all of them");
}

/// facebook/rocksdb#14992: `flush` returned before, or in the middle of, the listeners' being told. It may do so here as well
/// if another thread is telling something: to wait for a listener would be to wait for what that waits for.
#[test]
fn what_a_flush_by_hand_did_is_told_when_it_returns_or_by_the_thread_that_is_telling() {
    #[derive(Debug, Default)]
    struct Count(AtomicUsize);
    impl EventListener for Count {
        fn flush_completed(&self, _: &FlushEvent) {
            std::thread::yield_now();
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    for (lab, is_alone) in [(Lab::new(), true), (Lab::with_threads(), false)] {
        let count = Arc::new(Count::default());
        let lab = lab.change(|options| options.listeners.push(Arc::clone(&count) as _));
        let db = lab.open();
        for round in 1..=20 {
            db.put("key", format!("{round}")).expect("written");
            db.flush().expect("flushed");
            let told = count.0.load(Ordering::SeqCst);
            assert!(told == round || (told < round && !is_alone), "{told} of {round}");
        }
        db.close().expect("closes");
        assert_eq!(count.0.load(Ordering::SeqCst), 20, "at the end everything was told");
    }
}

/// facebook/rocksdb#8495: with atomic flush nobody was told of flushes at all.
#[test]
fn of_families_that_are_flushed_together_each_flush_is_told() {
    #[derive(Debug, Default)]
    struct Names(Mutex<BTreeSet<String>>);
    impl EventListener for Names {
        fn flush_completed(&self, event: &FlushEvent) {
            assert!(event.file.is_some() && event.bytes > 0 && event.entries.1 == 1, "{event:?}");
            self.0.lock().expect("whole").insert(event.column_family.clone());
        }
    }
    let names = Arc::new(Names::default());
    let lab = Lab::new().change(|options| {
        options.atomic_flush = true;
        options.listeners.push(Arc::clone(&names) as _);
    });
    let db = lab.open();
    let other = db.create_column_family("other").expect("new");
    let third = db.create_column_family("with nothing").expect("new");
    db.put("key", "value").expect("written");
    other.put("key", "value").expect("written");
    db.flush().expect("flushed");
    let told: Vec<_> = names.0.lock().expect("whole").iter().cloned().collect();
    assert_eq!(told, ["default", "other"]);
    drop((other, third));
    db.close().expect("closes");
}

/// facebook/rocksdb#6342: a table's compaction was told before its flush, and its deletion before both.
#[test]
fn the_life_of_a_table_is_told_in_its_order() {
    for lab in [Lab::new(), Lab::with_threads()] {
        let looks = Arc::new(Looks::default());
        let lab = lab.change(|options| {
            options.listeners.push(Arc::clone(&looks) as _);
            options.family.write_buffer_size = 4096;
            options.family.level0_file_num_compaction_trigger = 2;
        });
        let db = lab.open();
        for number in 0..400 {
            db.put(format!("key{:03}", number % 100), [b'v'; 100]).expect("written");
            if number % 10 == 0 {
                settle(&db);
            }
        }
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        in_time("close", move || db.close()).expect("closes");
        let order = looks.order.lock().expect("whole").clone();
        let at = |what: String| order.iter().position(|event| *event == what);
        let flushed = looks.flushed.lock().expect("whole").clone();
        assert!(flushed.len() > 3);
        for file in flushed {
            let (flush, compacted) = (at(format!("flush {file}")), at(format!("compacted {file}")));
            assert!(compacted.is_none_or(|compacted| flush < Some(compacted)), "{file}: {order:?}");
            let deleted = at(format!("deleted {file}"));
            assert!(deleted.is_none_or(|deleted| compacted < Some(deleted)), "{file}: {order:?}");
        }
    }
}
