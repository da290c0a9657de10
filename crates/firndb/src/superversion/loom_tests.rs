//! The protocols of publishing, pinning and dropping, explored by a model checker.

use std::panic::Location;

use super::*;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::memtable::MemTable;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::version::Version;

use super::purge::JanitorSeed;

#[test]
fn loom_a_snapshot_visible_before_the_freeze_is_in_the_list() {
    loom::model(|| {
        let seed = JanitorSeed::new();
        let visible = Arc::new(AtomicU64::new(5));
        let maker = {
            let (pins, visible) = (Arc::clone(&seed.pins), Arc::clone(&visible));
            loom::thread::spawn(move || pins.snapshot(&visible, Location::caller(), None))
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
fn loom_a_published_view_is_whole_and_freed_only_by_the_graveyard() {
    loom::model(|| {
        let seed = JanitorSeed::new();
        let config = FamilyConfig { id: ColumnFamilyId(0), name: "default".to_owned(), order: KeyOrder::Bytewise };
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
