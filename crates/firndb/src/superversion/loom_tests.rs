//! The protocols of publishing, pinning and dropping, explored by a model checker.
//!
//! Each test is a few threads of a few steps under `--cfg loom` (CONTRIBUTING.md has the command): what the janitor frees,
//! what a job's frozen list has, and what a reader sees, in every order of those steps.

use std::panic::Location;
use std::path::{Path, PathBuf};

use super::*;
use crate::clock::ManualClock;
use crate::format::comparator::{Comparator, KeyOrder};
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::{CreateMode, Fs, MemoryFs};
use crate::memtable::MemTable;
use crate::metrics::Statistics;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::Version;
use crate::version::edit::FileMeta;

use super::purge::{IsNeeded, Janitor, JanitorConfig, JanitorSeed};

#[test]
fn loom_a_snapshot_visible_before_the_freeze_is_in_the_list() {
    loom::model(|| {
        let seed = JanitorSeed::new();
        let visible = Arc::new(AtomicU64::new(5));
        let maker = {
            let (pins, visible) = (Arc::clone(&seed.pins), Arc::clone(&visible));
            loom::thread::spawn(move || pins.snapshot(&visible, Location::caller(), None, Vec::new))
        };
        let writer = {
            let visible = Arc::clone(&visible);
            loom::thread::spawn(move || visible.store(9, Ordering::Release))
        };
        let frozen = seed.pins.freeze(&visible);
        let snapshot = maker.join().expect("no panic");
        writer.join().expect("no panic");
        let newest = *frozen.sequences.last().expect("the visible number is always in it");
        assert!(
            frozen.keeps_everything || frozen.sequences.contains(&snapshot.sequence()) || snapshot.sequence() >= newest,
            "{frozen:?} misses {:?}",
            snapshot.sequence()
        );
    });
}

#[test]
fn loom_a_published_view_is_whole_and_goes_to_the_graveyard() {
    loom::model(|| {
        let seed = JanitorSeed::new();
        let config =
            FamilyConfig { id: ColumnFamilyId(0), name: "default".to_owned(), order: KeyOrder::Bytewise, merge: None };
        let memtable = |id| MemTable::new(id, KeyOrder::Bytewise, 4096, FileNumber(id), 0);
        let version = Arc::new(Version::empty(KeyOrder::Bytewise, 2));
        let family = FamilyState::new(config, memtable(1), version, Arc::clone(&seed.graveyard));
        let reader = {
            let family = Arc::clone(&family);
            loom::thread::spawn(move || {
                let view = family.load_full();
                // The memtable and the number belong together: I7.
                assert_eq!(view.memtable.id, view.number);
                assert!(Arc::strong_count(&view) >= 2, "somebody else always holds a view that a reader has");
                view.number
            })
        };
        family.switch_memtable(memtable(2));
        let seen = reader.join().expect("no panic");
        assert!(seen == 1 || seen == 2);
        assert_eq!(family.load_full().immutables.len(), 1);
        assert_eq!(seed.graveyard.held().len(), 1);
    });
}

fn janitor(fs: &MemoryFs, seed: &JanitorSeed, is_needed: IsNeeded) -> Arc<Janitor> {
    let config = JanitorConfig {
        fs: Arc::new(fs.clone()),
        dir: PathBuf::from("/db"),
        clock: Arc::new(ManualClock::new(1)),
        statistics: Arc::new(Statistics::default()),
        outbox: Default::default(),
        is_needed,
        released: Box::new(Vec::new),
        free_readers: Box::new(|| false),
        on_tick: Box::new(|| {}),
        on_panic: Box::new(|_| {}),
        on_end: Box::new(|| {}),
    };
    let seed = JanitorSeed {
        wake: Arc::clone(&seed.wake),
        graveyard: Arc::clone(&seed.graveyard),
        pins: Arc::clone(&seed.pins),
    };
    Janitor::new(config, seed)
}

fn family_of(order: KeyOrder, version: Arc<Version>, seed: &JanitorSeed) -> Arc<FamilyState> {
    let config =
        FamilyConfig { id: ColumnFamilyId(0), name: "default".to_owned(), order: KeyOrder::Bytewise, merge: None };
    let memtable = MemTable::new(1, order, 64, FileNumber(1), 0);
    FamilyState::new(config, memtable, version, Arc::clone(&seed.graveyard))
}

/// The threads that freed what is in this order.
type Freed = Arc<Mutex<Vec<loom::thread::ThreadId>>>;

struct Witness(Freed);

impl Comparator for Witness {
    fn name(&self) -> &str {
        "witness"
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> std::cmp::Ordering {
        a.cmp(b)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.lock().push(loom::thread::current().id());
    }
}

/// R9, D: whoever drops a view last, the janitor frees it, and not before.
#[test]
fn loom_a_view_is_freed_by_the_janitor_once_its_reader_is_gone() {
    loom::model(|| {
        let (seed, fs) = (JanitorSeed::new(), MemoryFs::new());
        let freed = Freed::default();
        let order = KeyOrder::Custom(Arc::new(Witness(Arc::clone(&freed))));
        let family = family_of(order, Arc::new(Version::empty(KeyOrder::Bytewise, 2)), &seed);
        let janitor = janitor(&fs, &seed, Box::new(|_, _| false));
        let reader = {
            let (family, freed) = (Arc::clone(&family), Arc::clone(&freed));
            loom::thread::spawn(move || {
                let view = family.load_full();
                let is_old = !family.is_current(&view);
                assert!(view.number == 2 || freed.lock().is_empty(), "{is_old}: freed under a reader");
            })
        };
        family.replace_empty_memtable(MemTable::new(2, KeyOrder::Bytewise, 64, FileNumber(1), 0));
        janitor.step();
        reader.join().expect("no panic");
        janitor.drain();
        assert_eq!(*freed.lock(), [loom::thread::current().id()]);
        assert!(seed.graveyard.held().is_empty());
    });
}

/// I1, I2: a table is there for as long as a view names it, and is unlinked once, when none does.
#[test]
fn loom_a_table_is_unlinked_when_no_view_names_it_any_more() {
    const TABLE: FileNumber = FileNumber(1);
    loom::model(|| {
        let (seed, fs) = (JanitorSeed::new(), MemoryFs::new());
        let path = Path::new("/db").join(file_name::table(TABLE));
        fs.create_dir_all(Path::new("/db")).expect("memory");
        drop(fs.create(&path, CreateMode::New).expect("new"));
        let meta = FileMeta {
            number: TABLE,
            smallest: b"a\x01\x01\0\0\0\0\0\0".to_vec(),
            largest: b"b\x01\x01\0\0\0\0\0\0".to_vec(),
            ..FileMeta::default()
        };
        let with = Arc::new(Version::from_files(KeyOrder::Bytewise, 2, vec![(0, meta)]).expect("one file"));
        let without = Arc::new(Version::empty(KeyOrder::Bytewise, 2));
        let all = [Arc::downgrade(&with), Arc::downgrade(&without)];
        let names = move |_, number| all.iter().filter_map(std::sync::Weak::upgrade).any(|v| v.contains(number));
        let family = family_of(KeyOrder::Bytewise, with, &seed);
        let janitor = janitor(&fs, &seed, Box::new(names));
        let reader = {
            let (family, fs, path) = (Arc::clone(&family), fs.clone(), path.clone());
            loom::thread::spawn(move || {
                let view = family.load_full();
                assert!(!view.version.contains(TABLE) || fs.exists(&path).expect("memory"), "unlinked under a reader");
            })
        };
        family.install_version(without);
        janitor.obsolete(FileKind::Table, TABLE, 1);
        janitor.step();
        reader.join().expect("no panic");
        janitor.drain();
        assert!(!fs.exists(&path).expect("memory"));
        assert_eq!((janitor.unlinked(), janitor.missing()), (1, 0));
    });
}

#[test]
fn loom_a_slot_is_given_to_one_pin_at_a_time() {
    loom::model(|| {
        let seed = JanitorSeed::new();
        let claim = |pins: &Arc<PinRegistry>, sequence| {
            pins.claim(PinSpec {
                kind: PinKind::Iterator,
                site: Location::caller(),
                label: None,
                family: None,
                sequence: SequenceNumber(sequence),
                super_version: sequence,
            })
        };
        let other = {
            let pins = Arc::clone(&seed.pins);
            loom::thread::spawn(move || drop(claim(&pins, 7)))
        };
        let mine = claim(&seed.pins, 3);
        for pin in seed.pins.pins() {
            // What is read is whole: I3 of the registry.
            assert_eq!(pin.sequence, pin.super_version);
        }
        other.join().expect("no panic");
        assert_eq!(seed.pins.count(), 1);
        drop(mine);
        assert_eq!(seed.pins.count(), 0);
    });
}
