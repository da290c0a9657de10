//! Views, pins, snapshots and the janitor, without a database around them.

use std::panic::Location;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::purge::{Janitor, JanitorConfig, JanitorSeed};
use super::*;
use crate::clock::ManualClock;
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind, internal_key};
use crate::fs::{CreateMode, Fault, FaultEffect, Fs, FsOp, MemoryFs};
use crate::memtable::MemTable;
use crate::metrics::Statistics;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::Version;
use crate::version::edit::FileMeta;

fn memtable(id: u64) -> Arc<MemTable> {
    MemTable::new(id, KeyOrder::Bytewise, 4096, FileNumber(id), 0)
}

fn file(number: u64, size: u64) -> FileMeta {
    let key = |user: &[u8], sequence| internal_key(user, SequenceNumber(sequence), 1);
    FileMeta {
        number: FileNumber(number),
        size,
        smallest: key(b"a", number),
        largest: key(b"z", number),
        smallest_seq: SequenceNumber(number),
        largest_seq: SequenceNumber(number),
        epoch: number,
        ..FileMeta::default()
    }
}

fn version(files: &[u64]) -> Arc<Version> {
    let files = files.iter().map(|number| (0, file(*number, 1 << number))).collect();
    Arc::new(Version::from_files(KeyOrder::Bytewise, 2, files).expect("level 0 may overlap"))
}

fn family(seed: &JanitorSeed, files: &[u64]) -> Arc<FamilyState> {
    let config =
        FamilyConfig { id: ColumnFamilyId(0), name: "default".to_owned(), order: KeyOrder::Bytewise, merge: None };
    FamilyState::new(config, memtable(1), version(files), Arc::clone(&seed.graveyard))
}

fn spec(kind: PinKind, super_version: u64) -> PinSpec {
    PinSpec {
        kind,
        site: Location::caller(),
        label: None,
        family: Some(ColumnFamilyId(0)),
        sequence: SequenceNumber(1),
        super_version,
    }
}

/// A janitor over a memory file system whose needed files are in `needed`.
fn janitor(fs: &MemoryFs, needed: &Arc<Mutex<Vec<u64>>>, seed: JanitorSeed) -> (Arc<Janitor>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(1));
    let needed = Arc::clone(needed);
    let config = JanitorConfig {
        fs: Arc::new(fs.clone()),
        dir: PathBuf::from("/db"),
        clock: Arc::clone(&clock) as _,
        statistics: Arc::new(Statistics::default()),
        outbox: Default::default(),
        is_needed: Box::new(move |_, number| needed.lock().contains(&number.0)),
        released: Box::new(Vec::new),
        free_readers: Box::new(|| false),
        on_tick: Box::new(|| {}),
        on_panic: Box::new(|_| {}),
        on_end: Box::new(|| {}),
    };
    (Janitor::new(config, seed), clock)
}

fn make(fs: &MemoryFs, number: u64) -> PathBuf {
    fs.create_dir_all(Path::new("/db")).expect("memory");
    let path = Path::new("/db").join(file_name::table(FileNumber(number)));
    fs.create(&path, CreateMode::New).expect("new");
    path
}

#[test]
fn a_view_never_moves_and_numbers_rise() {
    let seed = JanitorSeed::new();
    let family = family(&seed, &[1, 2]);
    let old = family.load_full();
    old.memtable.insert(SequenceNumber(5), ValueKind::Value, b"k", b"v").expect("new");
    family.switch_memtable(memtable(2));
    family.install_flush(&[1], version(&[1, 2, 3]));
    family.install_version(version(&[4]));
    assert!(!family.is_current(&old) && family.is_current(&family.load_full()));
    assert_eq!((old.memtable.id, old.immutables.len(), old.version.file_count()), (1, 0, 2));
    let now = family.load_full();
    assert_eq!((now.number, now.memtable.id, now.immutables.len(), now.version.file_count()), (4, 2, 0, 1));
    assert_eq!(old.memtable.get_ref(b"k", SequenceNumber::MAX).map(|hit| hit.value.to_vec()), Some(b"v".to_vec()));
}

#[test]
fn replaced_views_are_freed_by_the_janitor_once_nobody_has_them() {
    let fs = MemoryFs::new();
    let seed = JanitorSeed::new();
    let family = family(&seed, &[1]);
    let (janitor, _) = janitor(&fs, &Arc::default(), seed);
    let held = family.load_full();
    held.memtable.insert(SequenceNumber(5), ValueKind::Value, b"k", &[7; 100]).expect("new");
    let value = held.memtable.get(b"k", SequenceNumber::MAX).expect("there").value;
    family.switch_memtable(memtable(2));
    family.install_flush(&[1], version(&[1]));
    janitor.drain();
    assert_eq!(janitor.graveyard.held().len(), 1, "the second view is freed, the first is held");
    drop(held);
    janitor.drain();
    assert_eq!(janitor.graveyard.held().len(), 0);
    // The value alone keeps the memtable's memory.
    assert_eq!(&*value, &[7; 100]);
    drop(value);
    assert!(janitor.step(), "the memtable goes now");
    assert!(!janitor.step());
}

/// T7: the last reader's end and the janitor's own look come together.
#[test]
fn a_reader_whose_view_was_not_replaced_calls_nobody_though_an_old_one_is_held() {
    let (seed, fs) = (JanitorSeed::new(), MemoryFs::new());
    let family = family(&seed, &[1]);
    let (pins, wake) = (Arc::clone(&seed.pins), Arc::clone(&seed.wake));
    let (janitor, _) = janitor(&fs, &Arc::default(), seed);
    let reader = || {
        let pin = pins.claim(spec(PinKind::Iterator, 0));
        (family.load_full(), pin)
    };
    let (old, other) = (reader(), reader());
    family.switch_memtable(memtable(2));
    janitor.step();
    for _ in 0..3 {
        drop(reader());
        assert!(!wake.is_called(), "its view is the current one");
    }
    drop(other);
    assert!(wake.is_called(), "it may have been the last");
    janitor.step();
    assert!(!wake.is_called() && janitor.graveyard.held().len() == 1);
    drop(old);
    assert!(wake.is_called() && janitor.step());
    assert!(janitor.graveyard.held().is_empty());
}

#[test]
fn t7_each_file_is_unlinked_exactly_once() {
    let fs = MemoryFs::new();
    let (janitor, _) = janitor(&fs, &Arc::default(), JanitorSeed::new());
    for number in 1..=200 {
        make(&fs, number);
    }
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for number in 1..=200 {
                    janitor.obsolete(FileKind::Table, FileNumber(number), 1);
                    janitor.step();
                }
            });
        }
    });
    janitor.drain();
    assert_eq!((janitor.unlinked(), janitor.missing()), (200, 0));
    assert!(fs.list(Path::new("/db")).expect("there").is_empty());
}

/// T20: a job of infinite length protects its own outputs by number, and nothing else.
#[test]
fn t20_a_long_job_does_not_delay_other_files() {
    let fs = MemoryFs::new();
    let needed = Arc::new(Mutex::new(vec![2]));
    let (janitor, _) = janitor(&fs, &needed, JanitorSeed::new());
    let paths: Vec<_> = (1..=3).map(|number| make(&fs, number)).collect();
    (1..=3).for_each(|number| janitor.obsolete(FileKind::Table, FileNumber(number), 1));
    janitor.drain();
    let there: Vec<_> = paths.iter().map(|path| fs.exists(path).expect("memory")).collect();
    assert_eq!(there, [false, true, false]);
    needed.lock().clear();
    janitor.drain();
    assert!(!fs.exists(&paths[1]).expect("memory"));
}

/// T30: an unlink that fails for a while is tried again, and harms nobody.
#[test]
fn t30_a_failed_unlink_is_tried_again() {
    let fs = MemoryFs::new();
    let (janitor, clock) = janitor(&fs, &Arc::default(), JanitorSeed::new());
    let path = make(&fs, 1);
    // Only the first try fails.
    fs.inject(Fault::on(FsOp::Remove, "000001.sst", FaultEffect::Eio));
    janitor.obsolete(FileKind::Table, FileNumber(1), 1);
    janitor.drain();
    assert!(fs.exists(&path).expect("memory"));
    clock.advance(std::time::Duration::from_secs(1));
    janitor.drain();
    assert!(!fs.exists(&path).expect("memory"));
    assert_eq!((janitor.unlinked(), janitor.missing()), (1, 0));
}

/// T2 and T4: every snapshot that exists when a job starts is on its list, also several at one number.
#[test]
fn t2_t4_a_frozen_list_has_every_snapshot_until_its_last_copy_goes() {
    let seed = JanitorSeed::new();
    let visible = AtomicU64::new(10);
    let many: Vec<_> = (0..200).map(|_| seed.pins.snapshot(&visible, Location::caller(), None, Vec::new)).collect();
    visible.store(20, Ordering::Release);
    let later = seed.pins.snapshot(&visible, Location::caller(), Some("later"), Vec::new);
    visible.store(30, Ordering::Release);
    let sequences = |pins: &PinRegistry| pins.freeze(&visible).sequences.iter().map(|s| s.0).collect::<Vec<_>>();
    assert_eq!(sequences(&seed.pins), [10, 20, 30]);
    let last = many.last().cloned();
    drop(many);
    assert_eq!(sequences(&seed.pins), [10, 20, 30], "one of them is left");
    drop(last);
    assert_eq!(sequences(&seed.pins), [20, 30]);
    assert_eq!(seed.pins.pins()[0].label, Some("later"));
    drop(later);
    assert_eq!(seed.pins.count(), 0);
}

#[test]
fn a_pin_says_which_line_made_it_and_ousting_ends_it() {
    let seed = JanitorSeed::new();
    let pin = seed.pins.claim(spec(PinKind::Iterator, 1));
    let found = seed.pins.pins();
    assert_eq!(found.len(), 1);
    assert!(found[0].site.file().ends_with("superversion/tests.rs"));
    assert!(pin.check_ousted().is_ok());
    seed.pins.oust_all();
    let error = pin.check_ousted().expect_err("ousted");
    assert_eq!(error.kind(), crate::ErrorKind::PinEvicted);
    assert!(error.to_string().contains("superversion/tests.rs"), "{error}");
    drop(pin);
    assert!(seed.pins.claim(spec(PinKind::Iterator, 1)).check_ousted().is_ok(), "the next one in the slot is not");
}

/// T8 at this level: whatever ends the making of an iterator ends its pin.
#[test]
fn t8_a_pin_ends_when_the_reader_could_not_be_made() {
    let seed = JanitorSeed::new();
    let make = || -> Result<(), ()> {
        let _pin = seed.pins.claim(spec(PinKind::Iterator, 1));
        Err(())
    };
    assert!(make().is_err());
    assert_eq!((seed.pins.count(), seed.pins.pins().len()), (0, 0));
}

#[test]
fn one_pin_is_ousted_by_its_id_and_its_successor_in_the_slot_is_not() {
    let seed = JanitorSeed::new();
    let pins = [seed.pins.claim(spec(PinKind::Iterator, 1)), seed.pins.claim(spec(PinKind::Job, 1))];
    let ids: Vec<_> = seed.pins.pins().iter().map(|pin| pin.id).collect();
    assert!(!seed.pins.oust(ids[1]) && pins[1].check_ousted().is_ok(), "jobs are not ousted");
    assert!(seed.pins.oust(ids[0]) && pins[0].check_ousted().is_err());
    drop(pins);
    let next = seed.pins.claim(spec(PinKind::Iterator, 1));
    assert!(!seed.pins.oust(ids[0]) && next.check_ousted().is_ok());
}

#[test]
fn a_snapshot_in_the_making_keeps_everything() {
    let seed = JanitorSeed::new();
    let made = PinSpec { sequence: SequenceNumber(u64::MAX), ..spec(PinKind::Snapshot, 0) };
    let pending = seed.pins.claim(made);
    assert!(seed.pins.freeze(&AtomicU64::new(7)).keeps_everything);
    drop(pending);
    assert!(!seed.pins.freeze(&AtomicU64::new(7)).keeps_everything);
}

/// T10 at this level: a family goes while a reader has its last view. The reader's end frees nothing.
#[test]
fn t10_the_last_view_of_a_dropped_family_is_freed_by_the_janitor() {
    let fs = MemoryFs::new();
    let seed = JanitorSeed::new();
    let family = family(&seed, &[1]);
    let (janitor, _) = janitor(&fs, &Arc::default(), seed);
    let view = family.load_full();
    let (version, memtable) = (Arc::downgrade(&view.version), Arc::downgrade(&view.memtable));
    drop(family);
    janitor.drain();
    assert_eq!(view.memtable.id, 1, "a step does not take what a reader has");
    drop(view);
    assert!(version.strong_count() > 0 && memtable.strong_count() > 0, "the reader freed them");
    janitor.drain();
    assert_eq!((version.strong_count(), memtable.strong_count()), (0, 0));
}

/// The janitor lives until the last pin goes, whoever had the database before, and nobody waits for its end.
#[test]
fn a_retired_janitor_stays_until_the_last_pin_and_view_are_gone() {
    let fs = MemoryFs::new();
    let seed = JanitorSeed::new();
    let family = family(&seed, &[1]);
    let (janitor, _) = janitor(&fs, &Arc::default(), seed);
    janitor.start().expect("a thread");
    let (pin, view) = (janitor.pins.claim(spec(PinKind::Iterator, 1)), family.load_full());
    let version = Arc::downgrade(&view.version);
    drop(family);
    janitor.retire();
    let alive = Arc::downgrade(&janitor);
    drop(janitor);
    std::thread::yield_now();
    assert!(alive.strong_count() > 0);
    drop(view);
    drop(pin);
    for _ in 0..200 {
        if alive.strong_count() == 0 {
            break;
        }
        crate::clock::Clock::sleep(&crate::clock::SystemClock::default(), std::time::Duration::from_millis(10));
    }
    assert_eq!((alive.strong_count(), version.strong_count()), (0, 0));
}

#[test]
fn ten_thousand_pins_come_and_go_from_many_threads() {
    let seed = JanitorSeed::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let held: Vec<_> = (0..2500).map(|i| seed.pins.claim(spec(PinKind::Iterator, i))).collect();
                assert!(seed.pins.pins().len() >= held.len());
            });
        }
    });
    assert_eq!(seed.pins.count(), 0);
    assert!(seed.pins.pins().is_empty());
}

/// The oldest log that MANIFEST may need vouches for all after it.
#[test]
fn a_log_is_not_unlinked_before_an_older_one() {
    let fs = MemoryFs::new();
    let (janitor, clock) = janitor(&fs, &Arc::default(), JanitorSeed::new());
    fs.create_dir_all(Path::new("/db")).expect("memory");
    let log = |number| Path::new("/db").join(file_name::wal(FileNumber(number)));
    (1..=3).for_each(|number| drop(fs.create(&log(number), CreateMode::New).expect("new")));
    let there = |from| (from..from + 3).map(|number| fs.exists(&log(number)).expect("memory")).collect::<Vec<_>>();
    fs.inject(Fault::on(FsOp::Remove, "000002.log", FaultEffect::Eio));
    [3, 1, 2].into_iter().for_each(|number| janitor.obsolete(FileKind::Wal, FileNumber(number), 1));
    janitor.step();
    assert_eq!(there(1), [false, true, true]);
    janitor.step();
    assert_eq!(there(1), [false, true, true], "not before the second try of the older one");
    clock.advance(std::time::Duration::from_secs(1));
    janitor.drain();
    assert_eq!(there(1), [false; 3]);
    assert_eq!((janitor.unlinked(), janitor.missing()), (3, 0));
    // One that waits for its next try is not taken for the oldest.
    (4..=6).for_each(|number| drop(fs.create(&log(number), CreateMode::New).expect("new")));
    ["000006.log", "000004.log"]
        .into_iter()
        .for_each(|name| fs.inject(Fault::on(FsOp::Remove, name, FaultEffect::Eio)));
    janitor.obsolete(FileKind::Wal, FileNumber(6), 1);
    janitor.step();
    [5, 4].into_iter().for_each(|number| janitor.obsolete(FileKind::Wal, FileNumber(number), 1));
    janitor.step();
    assert_eq!(there(4), [true; 3]);
    clock.advance(std::time::Duration::from_secs(1));
    janitor.drain();
    assert_eq!(there(4), [false; 3]);
}

/// What becomes of a table, told by the versions in between: born with one, dead from another on.
#[derive(Debug, Clone, Copy)]
struct Life {
    number: u64,
    birth: usize,
    death: usize,
}

proptest! {
    /// J, I4: a table is alive just when a version that somebody holds lies in [birth, death), and what a pin keeps follows
    /// from these intervals alone: the same as from the files that the views name.
    #[test]
    fn what_lives_and_who_keeps_it_follows_from_birth_and_death(
        edits in prop::collection::vec((0usize..3, any::<u64>()), 1..11),
        pins in prop::collection::vec(0usize..11, 0..6),
    ) {
        let seed = JanitorSeed::new();
        let family = family(&seed, &[]);
        let mut lives: Vec<Life> = Vec::new();
        let mut views = vec![family.load_full()];
        for (step, (born, dying)) in edits.iter().enumerate() {
            let version_id = step + 1;
            // Some of the living die, others come: a flush, a compaction, a deletion.
            for life in lives.iter_mut().filter(|life| life.death == usize::MAX && dying >> life.number & 1 == 1) {
                life.death = version_id;
            }
            for _ in 0..*born {
                lives.push(Life { number: lives.len() as u64 + 1, birth: version_id, death: usize::MAX });
            }
            let alive: Vec<u64> = lives.iter().filter(|life| life.death == usize::MAX).map(|life| life.number).collect();
            family.install_version(version(&alive));
            views.push(family.load_full());
        }
        let pins: Vec<usize> = pins.into_iter().map(|at| at.min(edits.len())).collect();
        let pinned: Vec<_> = pins.iter().map(|at| Arc::clone(&views[*at])).collect();
        let now = [Arc::clone(&views[edits.len()])];
        drop(views);
        let held = attribute(&pinned.iter().cloned().map(Pinned::View).collect::<Vec<_>>(), &now, &[]);
        let is_in = |life: &Life, at: usize| (life.birth..life.death).contains(&at);
        let named: std::collections::BTreeSet<u64> = pinned.iter().chain(&now)
            .flat_map(|view| view.version.files().map(|(_, file)| file.number().0).collect::<Vec<_>>()).collect();
        for life in &lives {
            let is_alive = pins.iter().chain([&edits.len()]).any(|at| is_in(life, *at));
            prop_assert_eq!(is_alive, named.contains(&life.number), "{:?}", life);
        }
        for (pin, held) in held.iter().enumerate() {
            let mut expected = (0, 0);
            for life in lives.iter().filter(|life| life.death != usize::MAX && is_in(life, pins[pin])) {
                match pins.iter().filter(|at| is_in(life, **at)).count() {
                    1 => expected.0 += 1u64 << life.number,
                    _ => expected.1 += 1u64 << life.number,
                }
            }
            prop_assert_eq!((held.disk.exclusive, held.disk.shared), expected, "pin {}", pin);
        }
    }

    /// I11: exclusive bytes, and shared ones counted once, are the bytes of files that only pins keep; ending a pin
    /// frees exactly its exclusive bytes.
    #[test]
    fn bytes_of_pins_add_up(
        current in prop::collection::btree_set(1u64..13, 0..8),
        pins in prop::collection::vec(prop::option::of(prop::collection::btree_set(1u64..13, 0..8)), 0..6),
    ) {
        let seed = JanitorSeed::new();
        let view = |files: &std::collections::BTreeSet<u64>| {
            family(&seed, &files.iter().copied().collect::<Vec<_>>()).load_full()
        };
        let now = [view(&current)];
        let pin = |files: &Option<_>| files.as_ref().map_or(Pinned::Nothing, |files| Pinned::View(view(files)));
        let pinned: Vec<_> = pins.iter().map(pin).collect();
        let zombie_bytes = |without: Option<usize>| -> u64 {
            let kept: std::collections::BTreeSet<u64> = pins.iter().enumerate()
                .filter(|(pin, _)| Some(*pin) != without)
                .flat_map(|(_, files)| files.iter().flatten().copied())
                .filter(|number| !current.contains(number)).collect();
            kept.iter().map(|number| 1 << number).sum()
        };
        let held = attribute(&pinned, &now, &[]);
        for (pin, held) in held.iter().enumerate() {
            prop_assert_eq!(zombie_bytes(None) - zombie_bytes(Some(pin)), held.disk.exclusive);
            for number in &held.files {
                prop_assert!(pins[pin].as_ref().is_some_and(|files| files.contains(&number.0)));
            }
            let own: u64 = held.files.iter().map(|number| 1 << number.0).sum();
            prop_assert_eq!(own, held.disk.exclusive + held.disk.shared);
        }
    }
}
