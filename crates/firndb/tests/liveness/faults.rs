//! Faults of the disk that come and go: with threads and a real clock, and step by step on a clock that the test moves.

use std::time::Duration;

use firndb::{BlockCache, Db, Error, ErrorKind, Fault, FaultEffect, FsOp, Options, WriteBufferManager};

use crate::lab::{DIR, Lab, Random};
use crate::model::{Model, assert_has_cause, assert_reopens, assert_serves};
use crate::watchdog::{History, rounds};

/// What a write may be refused with while the disk fails.
const OUTAGE: [ErrorKind; 5] =
    [ErrorKind::Io, ErrorKind::NoSpace, ErrorKind::DurabilityUnknown, ErrorKind::ReadOnly, ErrorKind::Busy];

/// Everything as small as it goes: each limit is reached all the time.
pub(crate) fn tiny(options: &mut Options) {
    options.family.write_buffer_size = 64 << 10;
    options.family.max_write_buffer_number = 3;
    options.family.level0_file_num_compaction_trigger = 2;
    options.family.level0_slowdown_writes_trigger = 3;
    options.family.level0_stop_writes_trigger = 4;
    options.family.target_file_size_base = 16 << 10;
    options.family.max_bytes_for_level_base = 64 << 10;
    options.block_cache = Some(BlockCache::new(64 << 10));
    options.max_open_files = 16;
    options.write_buffer_manager = Some(WriteBufferManager::new(1 << 20));
    options.background_retry = Duration::from_millis(5);
}

fn fault(random: &mut Random) -> (String, Fault) {
    let (op, pattern) = [
        (FsOp::Read, "*.sst"),
        (FsOp::Append, "*.sst"),
        (FsOp::Append, "*.log"),
        (FsOp::Append, "MANIFEST*"),
        (FsOp::Append, "*"),
        (FsOp::Sync, "*"),
        (FsOp::Sync, "MANIFEST*"),
        (FsOp::Rename, "*"),
        (FsOp::Create, "*"),
        (FsOp::Create, "*.sst"),
        (FsOp::Open, "*.sst"),
        (FsOp::Remove, "*"),
        (FsOp::SyncDir, "*"),
    ][random.below(13) as usize];
    let effects = [FaultEffect::Eio, FaultEffect::NoSpace, FaultEffect::ShortWrite, FaultEffect::TooManyOpen];
    let effect = effects[random.below(4) as usize];
    let (skip, is_sticky) = (random.below(4), random.below(3) > 0);
    let fault = Fault::on(op, pattern, effect).skip(skip);
    let name = format!("fault: {op:?} {pattern} {effect:?}, after {skip}, sticky {is_sticky}");
    (name, if is_sticky { fault.sticky() } else { fault })
}

fn key(random: &mut Random, writer: usize) -> String {
    format!("{writer}/{:04}", random.below(400))
}

/// A reader in the midst of it: what it gets is an answer or an outage.
fn read(db: &Db, random: &mut Random) {
    let outcome: Result<usize, Error> = match random.below(3) {
        0 => db.get(key(random, 0)).map(|found| usize::from(found.is_some())),
        1 => db.iter().and_then(|iter| iter.take(50).try_fold(0, |count, entry| entry.map(|_| count + 1))),
        _ => db.iter().and_then(|iter| iter.rev().take(50).try_fold(0, |count, entry| entry.map(|_| count + 1))),
    };
    if let Err(error) = outcome {
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace), "{error:?}");
    }
}

#[test]
fn threads_go_on_when_a_fault_ends_and_lose_nothing() {
    rounds(6, |random, history| {
        let lab = Lab::with_threads().change(tiny);
        let db = lab.open();
        let mut models = [Model::default(), Model::default()];
        for _ in 0..3 {
            let (name, fault) = fault(random);
            history.note(name);
            lab.fs.inject(fault);
            let snapshot = db.snapshot();
            let iter = db.iter();
            std::thread::scope(|scope| {
                for (writer, model) in models.iter_mut().enumerate() {
                    let (db, mut random) = (&db, Random(random.below(u64::MAX)));
                    scope.spawn(move || {
                        for _ in 0..600 {
                            let key = key(&mut random, writer);
                            if let Err(error) = model.put(db, &key) {
                                assert_has_cause(db, &error, &OUTAGE);
                            }
                        }
                    });
                }
                let (db, mut random) = (&db, Random(random.below(u64::MAX)));
                scope.spawn(move || (0..40).for_each(|_| read(db, &mut random)));
            });
            lab.fs.clear_faults();
            history.note("the fault is over");
            drop((iter, snapshot));
            let pause = || std::thread::sleep(Duration::from_millis(2));
            assert_serves(&db, &mut models[0], &*lab.options.clock, history, pause);
            models[1].check(&db);
        }
        assert_reopens(db, DIR, &lab.options, &models, history);
    });
}

/// Writers that nobody helps must not be held up: the limits are out of reach, and every step is the test's.
fn by_hand(random: &mut Random, history: &History) {
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 64 << 10;
        options.family.level0_file_num_compaction_trigger = 2;
        options.background_retry = Duration::from_millis(50);
    });
    let db = lab.open();
    let mut model = Model::default();
    for _ in 0..4 {
        let (name, fault) = fault(random);
        history.note(name);
        lab.fs.inject(fault);
        for _ in 0..300 {
            let key = key(random, 0);
            if let Err(error) = model.put(&db, &key) {
                assert_has_cause(&db, &error, &OUTAGE);
            }
            match random.below(40) {
                0 => drop(db.flush()),
                1 => drop(db.compact_range::<&[u8]>(..)),
                2..=10 => drop(db.run_background_step()),
                11 => lab.clock.advance(Duration::from_millis(random.below(2000))),
                _ => {}
            }
            read(&db, random);
        }
        lab.fs.clear_faults();
        history.note("the fault is over");
        let clock = lab.clock.clone();
        assert_serves(&db, &mut model, &*lab.clock, history, || {
            clock.advance(Duration::from_millis(100));
            while db.run_background_step() {}
        });
    }
    assert_reopens(db, DIR, &lab.options, &[model], history);
}

#[test]
fn step_by_step_everything_works_again_within_a_bound_on_the_clock() {
    rounds(30, by_hand);
}
