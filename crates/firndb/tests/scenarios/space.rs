//! Space comes back by itself: what was deleted or overwritten goes, as soon as no snapshot sees it.

use std::sync::{Arc, Mutex};

use firndb::{CompactionEvent, Db, EventListener};

use crate::lab::{Lab, all, eventually, fill, settle};

fn delete_all(db: &Db, count: usize) {
    for number in 0..count {
        db.delete(format!("key{number:04}")).expect("deleted");
    }
    db.flush().expect("flushed");
}

#[test]
fn a_database_whose_every_key_was_deleted_shrinks_to_nothing() {
    for (trigger, flushes) in [(2, 9), (4, 5), (100, 1)] {
        let lab = Lab::new().change(|options| options.family.level0_file_num_compaction_trigger = trigger);
        let db = lab.open();
        for round in 0..flushes {
            fill(&db, 1000, &format!("round {round}"));
            db.flush().expect("flushed");
            settle(&db);
        }
        delete_all(&db, 1000);
        settle(&db);
        assert_eq!(lab.tables().len(), 0, "trigger {trigger}: {:?}", db.stats().families[0].levels);
        assert!(!db.run_background_step(), "nothing is left to do");
        assert!(all(&db).is_empty());
    }
}

#[test]
fn tombstones_of_an_earlier_life_meet_what_they_hide() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 1000, "doomed");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    let snapshot = db.snapshot();
    delete_all(&db, 1000);
    settle(&db);
    drop(snapshot);
    db.close().expect("nothing is open");
    assert!(lab.bytes_of_tables() > 10_000);
    let db = lab.open();
    settle(&db);
    assert_eq!(lab.tables().len(), 0, "{:?}", db.stats().families[0].levels);
}

#[test]
fn what_a_snapshot_kept_goes_once_it_is_released() {
    let lab = Lab::new();
    let db = lab.open();
    let old = fill(&db, 1000, "old");
    db.flush().expect("flushed");
    let (first, second) = (db.snapshot(), db.snapshot());
    let new = fill(&db, 500, "new");
    delete_all(&db, 200);
    // At the bottom, with all that the snapshots see.
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let kept = lab.bytes_of_tables();
    drop(first);
    settle(&db);
    assert_eq!(lab.bytes_of_tables(), kept, "the second one sees it, too");
    let mut options = firndb::ReadOptions::default();
    options.snapshot = Some(second);
    assert_eq!(
        crate::lab::collect(db.default_column_family().range_with::<&[u8]>(.., options).expect("it opens")),
        old
    );
    settle(&db);
    let left = lab.bytes_of_tables();
    assert!(left < kept * 7 / 10, "{left} of {kept}");
    assert!(!db.run_background_step(), "nothing is left to do");
    let mut expected = old;
    expected.extend(new);
    expected.retain(|key, _| key.as_slice() >= &b"key0200"[..]);
    assert_eq!(all(&db), expected);
    // As small as what a compaction by hand leaves.
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert_eq!(lab.bytes_of_tables(), left);
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn tombstones_that_a_snapshot_held_up_go_down_after_it() {
    let lab = Lab::with_threads();
    let db = lab.open();
    fill(&db, 1000, "doomed");
    db.flush().expect("flushed");
    let snapshot = db.snapshot();
    delete_all(&db, 1000);
    assert!(lab.bytes_of_tables() > 10_000);
    drop(snapshot);
    eventually("the space is free", || lab.tables().is_empty());
}

#[test]
fn a_scan_over_what_was_deleted_finds_nothing_to_skip() {
    let lab = Lab::new();
    let db = lab.open();
    let family = db.create_column_family("queue").expect("new");
    for round in 0..20 {
        for number in 0..100 {
            family.put(format!("{round:02}{number:03}"), "job").expect("written");
        }
        family.flush().expect("flushed");
        for number in 0..100 {
            family.delete(format!("{round:02}{number:03}")).expect("deleted");
        }
        family.flush().expect("flushed");
        settle(&db);
    }
    assert_eq!(lab.tables().len(), 0);
    assert_eq!(family.iter().expect("it opens").count(), 0);
}

#[derive(Debug, Default)]
struct Events(Mutex<Vec<CompactionEvent>>);

impl EventListener for Events {
    fn compaction_completed(&self, event: &CompactionEvent) {
        self.0.lock().expect("whole").push(event.clone());
    }
}

#[test]
fn what_is_written_anew_once_is_left_alone_afterwards() {
    let events = Arc::new(Events::default());
    let heard = Arc::clone(&events);
    let lab = Lab::new().change(|options| options.listeners.push(heard));
    let db = lab.open();
    let snapshot = db.snapshot();
    fill(&db, 300, "a");
    fill(&db, 300, "b");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    drop(snapshot);
    for _ in 0..10 {
        settle(&db);
        drop(db.snapshot());
    }
    let count = events.0.lock().expect("whole").len();
    settle(&db);
    db.put("another", "key").expect("written");
    db.flush().expect("flushed");
    settle(&db);
    assert_eq!(events.0.lock().expect("whole").len(), count, "{:?}", events.0.lock().expect("whole"));
}
