//! Databases that share one thread, one cache and one budget, while the disk of one is slow.

use std::sync::Arc;
use std::time::Duration;

use firndb::{BackgroundMode, BlockCache, Clock, Db, FsOp, ManualClock, ThreadPool, WriteBufferManager};

use crate::faults::tiny;
use crate::lab::{DIR, Lab, eventually};
use crate::model::{Model, assert_reopens};
use crate::watchdog::rounds;

#[test]
fn on_one_thread_a_database_with_a_slow_disk_does_not_starve_another() {
    rounds(3, |random, history| {
        let pool = ThreadPool::new(1).expect("a thread");
        let (cache, budget) = (BlockCache::new(64 << 10), WriteBufferManager::new(1 << 20));
        let labs: Vec<Lab> = (0..3)
            .map(|_| {
                Lab::with_threads().change(|options| {
                    tiny(options);
                    options.thread_pool = Some(Arc::clone(&pool));
                    options.block_cache = Some(Arc::clone(&cache));
                    options.write_buffer_manager = Some(Arc::clone(&budget));
                })
            })
            .collect();
        let slow = random.below(3) as usize;
        history.note(format!("the disk of database {slow} is slow"));
        labs[slow].hook.set(|op, _| {
            if matches!(op, FsOp::Append | FsOp::Sync | FsOp::Create | FsOp::Open) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let all: Vec<Db> = labs.iter().map(Lab::open).collect();
        let mut models = [Model::default(), Model::default(), Model::default()];
        std::thread::scope(|scope| {
            for (number, (db, model)) in all.iter().zip(&mut models).enumerate() {
                scope.spawn(move || {
                    let held = (db.snapshot(), db.iter().expect("it opens"));
                    for at in 0..if number == slow { 150 } else { 1500 } {
                        model.put(db, &format!("{:04}", at * 17 % 900)).expect("nothing fails");
                    }
                    db.flush().expect("it comes to its turn");
                    drop(held);
                });
            }
        });
        for ((db, lab), model) in all.into_iter().zip(&labs).zip(models) {
            lab.hook.clear();
            let due = || db.stats().families[0].levels.iter().any(|level| level.level == 0 && level.score > 2.0);
            eventually("level 0 is compacted", || !due());
            assert_reopens(db, DIR, &lab.options, &[model], history);
        }
    });
}

#[test]
fn a_manual_clock_that_a_slow_disk_moves_ends_no_wait_too_late() {
    rounds(6, |random, history| {
        let lab = Lab::new().change(|options| {
            options.background = BackgroundMode::Manual;
            options.family.write_buffer_size = 64 << 10;
            options.family.level0_file_num_compaction_trigger = 2;
        });
        let clock: Arc<ManualClock> = Arc::clone(&lab.clock);
        let slowness = Duration::from_millis(1 + random.below(200));
        history.note(format!("every sync takes {slowness:?} on the clock"));
        lab.hook.set(move |op, _| {
            if op == FsOp::Sync {
                clock.sleep(slowness);
            }
        });
        let db = lab.open();
        let mut model = Model::default();
        for number in 0..2000 {
            model.put(&db, &format!("{:04}", number * 13 % 700)).expect("nothing fails");
            if random.below(20) == 0 {
                db.run_background_step();
            }
        }
        // What is left is a handful of jobs: none of them waits for another.
        let before = lab.clock.monotonic_micros();
        let steps = (0..1000).take_while(|_| db.run_background_step()).count();
        let took = Duration::from_micros(lab.clock.monotonic_micros() - before);
        assert!(steps < 1000 && took < slowness * 1000, "{steps} steps took {took:?}");
        lab.hook.clear();
        assert_reopens(db, DIR, &lab.options, &[model], history);
    });
}
