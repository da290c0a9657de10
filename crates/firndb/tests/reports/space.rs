//! Space that does not come back, and work that never ends.

use std::path::Path;
use std::time::Duration;

use firndb::{Db, Durability, FsOp, WriteOptions};

use crate::lab::{DIR, Lab, all, entries_in_tables, eventually, fill, settle};
use crate::patience::{HeldUp, in_time};

fn log_bytes(lab: &Lab) -> u64 {
    use firndb::Fs;
    let size = |number: u64| lab.fs.file_size(&Path::new(DIR).join(format!("{number:06}.log"))).expect("there");
    lab.files(".log").into_iter().map(size).sum()
}

/// Time for the janitor.
fn clean(lab: &Lab, db: &Db) {
    lab.clock.advance(Duration::from_secs(2));
    settle(db);
}

/// fjall-rs/fjall#288: a family without anything to flush kept every log since its last write.
/// facebook/rocksdb#3145: a family that is hardly written to did, whatever `max_total_wal_size` said.
#[test]
fn families_that_rest_keep_no_logs_beyond_the_limit_whatever_they_were_left_with() {
    type Rest = (&'static str, fn(&Db, &firndb::ColumnFamily));
    let ways: [Rest; 6] = [
        ("never written to", |_, _| {}),
        ("one key", |_, family| family.put("key", "value").expect("written")),
        ("one key, flushed", |_, family| {
            family.put("key", "value").expect("written");
            family.flush().expect("flushed");
        }),
        ("one key, deleted again", |_, family| {
            family.put("key", "value").expect("written");
            family.delete("key").expect("written");
        }),
        ("one key in no log", |_, family| {
            let unlogged = WriteOptions::with_durability(Durability::NoWal);
            family.put_with("key", "value", &unlogged).expect("written");
        }),
        ("dropped with a key", |db, family| {
            family.put("key", "value").expect("written");
            db.drop_column_family("rests").expect("dropped");
        }),
    ];
    for (way, leave) in ways {
        for is_reopened in [false, true] {
            let lab = Lab::new().change(|options| {
                options.max_total_wal_size = 64 << 10;
                options.family.write_buffer_size = 16 << 10;
            });
            let db = lab.open();
            let family = db.create_column_family("rests").expect("new");
            leave(&db, &family);
            drop(family);
            let (lab, db) = if is_reopened {
                let crashed = lab.crash(firndb::CrashPolicy::KeepAll, 1);
                drop(db);
                let db = crashed.open();
                (crashed, db)
            } else {
                (lab, db)
            };
            for round in 0..20 {
                for number in 0..100 {
                    db.put(format!("key{number}"), format!("{round} {}", "v".repeat(200))).expect("written");
                }
                clean(&lab, &db);
                let bytes = log_bytes(&lab);
                assert!(bytes < 128 << 10, "{way}, reopened: {is_reopened}: {bytes} bytes of logs in round {round}");
            }
            db.close().expect("closes");
            lab.verify();
        }
    }
}

/// facebook/rocksdb#4180: with one family, the limit on logs was not looked at before its memtable was full.
#[test]
fn the_limit_on_logs_counts_for_one_family_alone() {
    let lab = Lab::new().change(|options| {
        options.max_total_wal_size = 64 << 10;
        options.family.write_buffer_size = 64 << 20;
    });
    let db = lab.open();
    for number in 0..2000 {
        db.put(format!("key{number}"), [b'v'; 200]).expect("written");
        if number % 50 == 0 {
            clean(&lab, &db);
            assert!(log_bytes(&lab) < 96 << 10, "{} bytes after {number} writes", log_bytes(&lab));
        }
    }
    db.close().expect("closes");
}

/// facebook/rocksdb#10752: a file of the last level was compacted into itself again and again, since what marked it for that
/// did not go away.
#[test]
fn compactions_of_what_a_snapshot_kept_come_to_an_end_whatever_else_is_kept() {
    let lab = Lab::new();
    let db = lab.open();
    let mut snapshots = Vec::new();
    for round in 0..6 {
        fill(&db, 100, &format!("{round}"));
        for number in (0..100).step_by(3) {
            db.delete(format!("key{number:04}")).expect("written");
        }
        snapshots.push(db.snapshot());
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
    }
    // One goes after the other, in an order that leaves neighbours; each time the work ends, and a second look finds none.
    for index in [2, 0, 3, 1, 1, 0] {
        drop(snapshots.remove(index.min(snapshots.len() - 1)));
        lab.clock.advance(Duration::from_secs(2));
        let steps = (0..).find(|_| !db.run_background_step()).expect("it ends");
        assert!(steps < 200, "{steps} steps");
        let before = db.stats().bytes_compacted;
        for _ in 0..5 {
            lab.clock.advance(Duration::from_secs(60));
            settle(&db);
        }
        assert_eq!(db.stats().bytes_compacted, before, "with {} snapshots", snapshots.len());
    }
    assert_eq!(entries_in_tables(&lab.fs).len(), all(&db).len(), "nothing but what is alive");
    db.close().expect("closes");
    lab.verify();
}

/// facebook/rocksdb#12087: families that were dropped right after much was written left tables that only a restart removed.
#[test]
fn a_family_dropped_in_the_middle_of_a_flush_or_a_compaction_leaves_no_table() {
    for op in [FsOp::Create, FsOp::Append, FsOp::Sync] {
        for is_compaction in [false, true] {
            let lab = Lab::with_threads().change(|options| {
                options.family.write_buffer_size = 4096;
                options.family.level0_file_num_compaction_trigger = 2;
            });
            let db = lab.open();
            let family = db.create_column_family("goes").expect("new");
            if is_compaction {
                db.pause_background_work();
                for round in 0..3 {
                    family.put("key", format!("{round}")).expect("written");
                    family.flush().expect("flushed");
                }
            }
            let held = HeldUp::at(&lab, op, |path| path.extension().is_some_and(|extension| extension == "sst"));
            if is_compaction {
                db.continue_background_work();
            } else {
                for number in 0..40 {
                    family.put(format!("key{number}"), [b'v'; 200]).expect("written");
                }
            }
            held.wait();
            let dropper = db.clone();
            let dropping = std::thread::spawn(move || dropper.drop_column_family("goes"));
            drop(family);
            std::thread::yield_now();
            held.let_go();
            in_time("the drop", move || dropping.join()).expect("no panic").expect("dropped");
            eventually("its tables are gone", || lab.tables().is_empty());
            db.put("key", "the others go on").expect("written");
            db.flush().expect("flushed");
            in_time("close", move || db.close()).expect("closes");
            lab.assert_disk_is_manifest();
            lab.verify();
        }
    }
}

/// surrealdb/surrealkv#302: a compaction into the last level of which nothing was left made an empty table, which nobody
/// could read.
#[test]
fn a_compaction_that_leaves_nothing_makes_no_table() {
    for is_reopened in [false, true] {
        let lab = Lab::new();
        let db = lab.open();
        fill(&db, 200, "value");
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        for number in 0..200 {
            db.delete(format!("key{number:04}")).expect("written");
        }
        db.flush().expect("flushed");
        let db = if is_reopened {
            db.close().expect("closes");
            lab.open()
        } else {
            db
        };
        db.compact_range::<&[u8]>(..).expect("compacted");
        clean(&lab, &db);
        assert!(lab.tables().is_empty(), "{:?}", lab.tables());
        assert!(all(&db).is_empty());
        assert!(db.get("key0007").expect("read").is_none());
        db.put("key0007", "back").expect("written");
        db.close().expect("closes");
        lab.verify();
        let db = lab.open();
        assert_eq!(all(&db).len(), 1);
        db.close().expect("closes");
    }
}

/// facebook/rocksdb#10536: a long iterator kept every memtable and table that came and went after it.
#[test]
fn an_old_iterator_keeps_what_it_sees_and_nothing_of_what_came_and_went_since() {
    let lab = Lab::new();
    let db = lab.open();
    let map = fill(&db, 300, "old");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    clean(&lab, &db);
    let seen = lab.bytes_of_tables();
    let iter = db.iter().expect("it opens");
    for round in 0..10 {
        fill(&db, 300, &format!("{round}"));
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        clean(&lab, &db);
        // What is alive now, and what the iterator sees.
        assert!(
            lab.bytes_of_tables() < seen * 5 / 2,
            "{} bytes in round {round}, {seen} at first",
            lab.bytes_of_tables()
        );
    }
    assert_eq!(crate::lab::collect(iter), map);
    db.close().expect("closes");
}

/// slatedb/slatedb#1640: flushes that came often wrote a new manifest and a tiny file each.
/// facebook/rocksdb#10706: level-0 files of a few keys were merged with all of the next level, four by four.
#[test]
fn many_flushes_of_a_few_keys_neither_pile_up_files_nor_rewrite_everything_each_time() {
    let lab = Lab::new().change(|options| {
        options.family.level0_file_num_compaction_trigger = 4;
        options.family.target_file_size_base = 16 << 10;
        options.family.max_bytes_for_level_base = 64 << 10;
    });
    let db = lab.open();
    for number in 0..3000 {
        db.put(format!("key{number:05}"), [b'v'; 100]).expect("written");
    }
    db.flush().expect("flushed");
    settle(&db);
    let (flushed, compacted) = (db.stats().bytes_flushed, db.stats().bytes_compacted);
    for round in 0..200 {
        // Keys all over the range.
        for key in [7, 1500, 2900] {
            db.put(format!("key{:05}", key + round % 50), [b'w'; 100]).expect("written");
        }
        db.flush().expect("flushed");
        settle(&db);
        assert!(db.stats().families[0].levels[0].files < 8);
    }
    let stats = db.stats();
    let amplification = (stats.bytes_compacted - compacted) / (stats.bytes_flushed - flushed);
    assert!(amplification < 60, "each byte was written {amplification} times");
    db.close().expect("closes");
    lab.assert_disk_is_manifest();
}
