//! Who holds what: every reader by its line of code, its age, and the bytes that it keeps alone or with others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{FileNumber, FsOp, Iter, PinKind, ReadOptions};

use crate::lab::{Lab, collect, eventually, fill, manifest_tables, settle};

#[test]
fn every_reader_is_listed_with_its_line_label_age_and_last_step() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 600, "first");
    let written = db.latest_sequence();
    settle(&db);
    let named = ReadOptions { label: Some("export"), ..ReadOptions::default() };
    let (mut iter, line) = (db.default_column_family().range_with::<&[u8]>(.., named).expect("it opens"), line!());
    lab.clock.advance(Duration::from_secs(3));
    db.put("later", "x").expect("written");
    settle(&db);
    let snapshot = std::thread::scope(|scope| scope.spawn(|| db.snapshot()).join().expect("no panic"));
    lab.clock.advance(Duration::from_secs(4));
    let pins = db.pins();
    assert_eq!(pins.len(), 2);
    assert_eq!((pins[0].kind, pins[0].label, pins[0].sequence), (PinKind::Iterator, Some("export"), written));
    assert!(pins[0].site.file().ends_with("scenarios/pins.rs") && pins[0].site.line() == line);
    assert_eq!((pins[0].age, pins[0].idle), (Duration::from_secs(7), Duration::from_secs(7)));
    assert_eq!((pins[1].kind, pins[1].age), (PinKind::Snapshot, Duration::from_secs(4)));
    assert_eq!(pins[1].sequence, snapshot.sequence());
    assert_ne!(pins[0].thread, pins[1].thread);
    // A walk shows that it is alive.
    (&mut iter).take(500).for_each(|entry| drop(entry.expect("read")));
    let pins = db.pins();
    assert_eq!((pins[0].age, pins[0].idle), (Duration::from_secs(7), Duration::ZERO));
    assert!(pins[0].to_string().contains(&format!("scenarios/pins.rs:{line} (export)")), "{}", pins[0]);
    drop((iter, snapshot));
    assert!(db.pins().is_empty());
}

#[test]
fn a_job_is_a_pin_too_while_it_runs() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 50, "first");
    db.flush().expect("flushed");
    fill(&db, 50, "second");
    let found: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (seen, inner) = (Arc::clone(&found), db.clone());
    lab.hook.set(move |op, path| {
        if op == FsOp::Create && path.extension().is_some_and(|ending| ending == "sst") {
            seen.lock().expect("whole").extend(inner.pins().iter().map(|pin| format!("{} {:?}", pin.kind, pin.label)));
        }
    });
    db.compact_range::<&[u8]>(..).expect("compacted");
    lab.hook.clear();
    let found: Vec<_> = found.lock().expect("whole").iter().cloned().collect();
    assert_eq!(found, ["job Some(\"compaction\")", "job Some(\"flush\")"]);
    db.assert_no_pins().expect("jobs are nobody's leak");
}

#[test]
fn bytes_alone_and_shared_are_exact_and_ending_a_pin_frees_exactly_its_own() {
    let lab = Lab::new();
    let db = lab.open();
    let mut readers: Vec<Iter> = Vec::new();
    let files_then = |readers: &mut Vec<Iter>| {
        readers.push(db.iter().expect("it opens"));
        lab.tables()
    };
    fill(&db, 100, "first");
    db.flush().expect("flushed");
    let first = files_then(&mut readers);
    fill(&db, 150, "second");
    db.flush().expect("flushed");
    let second = files_then(&mut readers);
    let twin = files_then(&mut readers);
    assert_eq!(second, twin);
    fill(&db, 120, "third");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let third = manifest_tables(&lab.fs).0;
    fill(&db, 160, "fourth");
    let fourth = {
        readers.push(db.iter().expect("it opens"));
        db.compact_range::<&[u8]>(..).expect("compacted");
        settle(&db);
        third
    };
    let held_by = [first, second, twin, fourth];
    let current = manifest_tables(&lab.fs).0;
    let size = |number: u64| lab.size_of_table(number);
    let alive = |held: &[&BTreeSet<u64>]| -> BTreeSet<u64> {
        held.iter().flat_map(|files| files.iter().copied()).filter(|number| !current.contains(number)).collect()
    };
    let pins = db.pins();
    assert_eq!(pins.len(), 4);
    for (place, pin) in pins.iter().enumerate() {
        let own = alive(&[&held_by[place]]);
        let others: Vec<_> = held_by.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, f)| f).collect();
        let (shared, alone): (Vec<u64>, Vec<u64>) = own.iter().partition(|number| alive(&others).contains(number));
        let sum = |files: &[u64]| files.iter().map(|number| size(*number)).sum::<u64>();
        assert_eq!((pin.exclusive_bytes, pin.shared_bytes), (sum(&alone), sum(&shared)), "pin {place}");
        assert_eq!(pin.files.iter().map(|file| file.0).collect::<BTreeSet<_>>(), own);
        for number in own {
            assert!(db.why_alive(FileNumber(number)).iter().any(|holder| holder.id == pin.id));
        }
    }
    assert!(pins[0].shared_bytes > 0 && pins[1].shared_bytes > 0 && pins[3].exclusive_bytes > 0);
    assert!(pins[3].exclusive_memtable_bytes > 0, "the fourth writes were in memory when it opened");
    for number in current.iter() {
        assert!(db.why_alive(FileNumber(*number)).is_empty(), "what is current needs no reason");
    }
    // One after the other ends, the order being one in which shared files become somebody's own.
    while !readers.is_empty() {
        let pin = db.pins().remove(0);
        let before = lab.bytes_of_tables();
        drop(readers.remove(0));
        settle(&db);
        assert_eq!(before - lab.bytes_of_tables(), pin.exclusive_bytes);
    }
    lab.assert_disk_is_manifest();
}

#[test]
fn memory_that_several_pins_keep_is_nobodys_own_until_only_one_is_left() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 50, "first");
    let mut readers = vec![db.iter().expect("it opens"), db.iter().expect("it opens")];
    let kept = || -> Vec<(u64, u64)> {
        db.pins().iter().map(|pin| (pin.exclusive_memtable_bytes, pin.shared_memtable_bytes)).collect()
    };
    assert_eq!(kept(), [(0, 0); 2], "the database has it itself");
    db.flush().expect("flushed");
    let bytes = kept()[0].1;
    assert!(bytes > 0);
    assert_eq!(kept(), [(0, bytes); 2]);
    fill(&db, 50, "second");
    readers.push(db.iter().expect("it opens"));
    db.flush().expect("flushed");
    let third = kept()[2].0;
    assert!(third > 0);
    assert_eq!(kept(), [(0, bytes), (0, bytes), (third, 0)]);
    drop(readers.remove(0));
    assert_eq!(kept(), [(bytes, 0), (third, 0)]);
    let text = db.pins()[0].to_string();
    assert!(text.contains(&format!("in memory {bytes} alone, 0 with others")), "{text}");
    drop(readers);
    db.close().expect("nothing is open");
}

#[test]
fn dropping_a_reader_only_marks_and_the_janitor_unlinks() {
    let lab = Lab::with_threads();
    let db = lab.open();
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let are_dropped = Arc::new(AtomicBool::new(false));
    let (seen, dropped) = (Arc::clone(&names), Arc::clone(&are_dropped));
    lab.hook.set(move |op, path| {
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        // The log of a MANIFEST is its own writer's to remove, and so are files of a job that failed.
        if op == FsOp::Remove && path.extension().is_some_and(|ending| ending == "sst" || ending == "log") {
            // Were a drop to wait for a deletion, neither would come.
            eventually("the readers are gone", || dropped.load(Ordering::Acquire));
            seen.lock().expect("whole").push(thread);
        }
    });
    let mut expected = Vec::new();
    let mut readers = Vec::new();
    for round in 0..5 {
        expected.push(fill(&db, 100, &format!("round {round}")));
        db.flush().expect("flushed");
        readers.push((db.iter().expect("it opens"), db.snapshot()));
        db.compact_range::<&[u8]>(..).expect("compacted");
    }
    // Readers end on a thread of the user's.
    let ending = std::thread::spawn(move || {
        for ((iter, snapshot), expected) in readers.into_iter().zip(&expected) {
            let mut iter = iter;
            assert_eq!(&collect(&mut iter), expected);
            drop((iter, snapshot));
        }
        are_dropped.store(true, Ordering::Release);
    });
    ending.join().expect("no panic");
    eventually("the janitor is through", || lab.tables() == manifest_tables(&lab.fs).0);
    let names = names.lock().expect("whole").clone();
    assert!(names.len() > 10 && names.iter().all(|name| name == "firndb-janitor"), "{names:?}");
}

#[test]
fn a_handle_of_a_dropped_family_reads_on_until_it_goes() {
    let lab = Lab::new();
    let db = lab.open();
    let family = db.create_column_family("doomed").expect("new");
    family.put("a", "b").expect("written");
    family.flush().expect("flushed");
    let tables = lab.tables();
    db.drop_column_family("doomed").expect("dropped");
    settle(&db);
    assert_eq!(family.get("a").expect("read").as_deref(), Some(&b"b"[..]));
    assert_eq!(family.put("a", "c").expect_err("dropped").kind(), firndb::ErrorKind::ColumnFamilyDropped);
    assert_eq!(family.flush().expect_err("dropped").kind(), firndb::ErrorKind::ColumnFamilyDropped);
    assert_eq!(lab.tables(), tables);
    drop(family);
    settle(&db);
    lab.assert_disk_is_manifest();
}
