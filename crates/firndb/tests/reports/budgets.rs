//! Budgets for memtables, shared and not: over them something is flushed, and nobody waits for what cannot come.

use firndb::{Db, ErrorKind, WriteBatch, WriteBufferManager};

use crate::lab::{Lab, settle};
use crate::patience::in_time;

/// Bytes of the memtables that are written to; full ones are flushed in the next step.
fn active_bytes(db: &Db) -> u64 {
    db.stats().families.iter().map(|family| family.memtable_bytes).sum()
}

/// typedb/typedb#7877: one thread wrote to several databases in turn; those written to before filled the budget, and only
/// a write to them would have flushed them.
#[test]
fn one_thread_may_write_more_than_the_budget_to_several_databases_in_turn() {
    let budget = WriteBufferManager::new(256 << 10);
    let lab = Lab::with_threads().change(|options| options.write_buffer_manager = Some(budget.clone()));
    let databases: Vec<Db> =
        (0..5).map(|number| Db::open_with(format!("/key{number}"), lab.options.clone()).expect("it opens")).collect();
    let own = databases.clone();
    in_time("commits over five databases", move || {
        for commit in 0..4 {
            for db in &own {
                let mut batch = WriteBatch::new();
                for number in 0..100 {
                    batch.put(format!("{commit} {number}"), [b'v'; 1000]);
                }
                db.write(&mut batch).expect("goes on");
            }
        }
    });
    let usage = || budget.usage();
    crate::lab::eventually("memtables fit into the budget", || usage() <= budget.capacity());
    for db in databases {
        assert_eq!(db.iter().expect("it opens").count(), 400);
        in_time("close", move || db.close()).expect("closes");
    }
    assert_eq!(budget.usage(), 0);
}

/// HarperFast/harper#2490, speedb-io/speedb#859: 28 families, each far below its own limit, filled the budget together;
/// nothing, or only the oldest family, was flushed, and all writers stood still.
#[test]
fn many_families_that_are_small_each_keep_to_the_budget_together() {
    let budget = WriteBufferManager::new(400_000);
    for is_shared in [true, false] {
        let lab = Lab::new().change(|options| {
            options.family.write_buffer_size = 8 << 20;
            match is_shared {
                true => options.write_buffer_manager = Some(budget.clone()),
                false => options.db_write_buffer_size = 400_000,
            }
        });
        let db = lab.open();
        let families: Vec<_> =
            (0..28).map(|number| db.create_column_family(&format!("{number}")).expect("new")).collect();
        // The oldest has next to nothing, and never gets more.
        families[0].put("key", "value").expect("written");
        let mut most = 0;
        for round in 0..60 {
            for (number, family) in families.iter().enumerate().skip(1) {
                family.put(format!("{round} {number}"), [b'v'; 1000]).expect("nobody stands still");
                db.run_background_step();
                if number % 9 == 0 {
                    most = most.max(active_bytes(&db));
                }
            }
        }
        settle(&db);
        // A memtable takes its first bytes in a chunk of its own: that much more there may be.
        assert!(most < 1_200_000, "{most} bytes in memtables, shared: {is_shared}");
        assert!(!lab.tables().is_empty());
        drop(families);
        db.close().expect("closes");
        lab.verify();
    }
}

/// facebook/rocksdb#1893: the limit on logs was over-run all the time, and kept the limit on memory from being looked at.
#[test]
fn a_limit_on_logs_that_is_always_exceeded_does_not_hide_the_limit_on_memory() {
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 8 << 20;
        options.max_total_wal_size = 1;
        options.db_write_buffer_size = 400_000;
    });
    let db = lab.open();
    let large = db.create_column_family("large").expect("new");
    let mut most = 0;
    for round in 0..150 {
        db.put(format!("small{round}"), "value").expect("written");
        large.put(format!("large{round}"), [b'v'; 10_000]).expect("written");
        db.run_background_step();
        most = most.max(active_bytes(&db));
    }
    assert!(most < 800_000, "{most} bytes in memtables");
    settle(&db);
    drop(large);
    db.close().expect("closes");
}

/// facebook/rocksdb#4280: the memory of a family that was dropped, with writes that were not flushed, stayed.
#[test]
fn dropping_a_family_gives_its_memtables_back_to_the_budget() {
    let budget = WriteBufferManager::new(64 << 20);
    let lab = Lab::new().change(|options| {
        options.write_buffer_manager = Some(budget.clone());
        options.family.write_buffer_size = 1 << 20;
    });
    let db = lab.open();
    let before = budget.usage();
    let family = db.create_column_family("large").expect("new");
    let mut batch = WriteBatch::new();
    for number in 0..3000 {
        batch.put_cf(&family, format!("key{number}"), [b'v'; 1000]);
    }
    db.write(&mut batch).expect("written");
    for number in 0..3000 {
        family.put(format!("key{number}"), [b'v'; 1000]).expect("written");
    }
    assert!(budget.usage() > before + 5_000_000, "{}", budget.usage());
    db.drop_column_family("large").expect("dropped");
    drop(family);
    assert!(budget.usage() <= before + 100_000, "{} bytes, {before} before", budget.usage());
    let refused = db.column_family("large").map(drop).expect_err("gone");
    assert_eq!(refused.kind(), ErrorKind::NoSuchColumnFamily);
    db.close().expect("closes");
    assert_eq!(budget.usage(), 0);
}
