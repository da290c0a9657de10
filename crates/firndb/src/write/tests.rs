//! The queue over a memory file system: groups, order, failures.

use std::path::{Path, PathBuf};

use super::batch::{WriteBatch, WriteOperation};
use super::*;
use crate::clock::ManualClock;
use crate::error::ErrorKind;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::{CrashPolicy, Fault, FaultEffect, Fs, FsOp, MemoryFs};
use crate::memtable::MemTable;
use crate::metrics::outbox::Outbox;
use crate::metrics::{Statistics, Ticker};
use crate::superversion::{FamilyConfig, FamilyState};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::version::Version;
use crate::wal::reader::LogReader;
use crate::wal::reader::ReadOutcome;

fn family(id: u32) -> Arc<FamilyState> {
    let seed = crate::superversion::purge::JanitorSeed::new();
    let config = FamilyConfig { id: ColumnFamilyId(id), name: id.to_string(), order: KeyOrder::Bytewise, merge: None };
    let memtable = MemTable::new(u64::from(id), KeyOrder::Bytewise, 4096, FileNumber(1), 0);
    FamilyState::new(config, memtable, Arc::new(Version::empty(KeyOrder::Bytewise, 7)), seed.graveyard)
}

const STALL: StallConfig = StallConfig {
    max_write_buffer_number: 2,
    level0_slowdown: 20,
    level0_stop: 36,
    soft_pending_bytes: 0,
    hard_pending_bytes: 0,
    compacts_automatically: true,
};

fn queue(fs: &MemoryFs, families: u32, buffer: u64) -> Arc<WriteQueue> {
    fs.create_dir_all(Path::new("/db")).expect("memory");
    let numbers = AtomicU64::new(10);
    let (statistics, outbox): (Arc<Statistics>, Arc<Outbox>) = Default::default();
    let clock = Arc::new(ManualClock::new(1));
    let gate = WriteGate::new(clock.clone(), Arc::clone(&statistics), Arc::clone(&outbox), false);
    let config = WriteConfig {
        fs: Arc::new(fs.clone()),
        dir: PathBuf::from("/db"),
        clock,
        statistics,
        gate: Arc::new(gate),
        outbox,
        on_failure: Box::new(|_, _| {}),
        new_file_number: Box::new(move || FileNumber(numbers.fetch_add(1, Ordering::Relaxed))),
        on_full: Box::new(|_| {}),
        wal_bytes_max: 0,
        compresses_log: false,
        memtable_bytes_max: 0,
        budget: None,
        atomic_flush: false,
    };
    let queue = WriteQueue::new(config, SequenceNumber(0), 100);
    for id in 0..families {
        queue.add_family(family(id), buffer, STALL).expect("first");
    }
    queue.begin(FileNumber(9)).expect("memory");
    Arc::new(queue)
}

fn put(queue: &WriteQueue, key: &str, options: &WriteOptions) -> crate::Result<SequenceNumber> {
    queue.write(WriteBatch::new().put(key, "value"), options)
}

/// The keys of all logs, in their order.
fn logged(fs: &dyn Fs) -> Vec<String> {
    let mut names: Vec<_> = fs.list(Path::new("/db")).expect("there").into_iter().map(|entry| entry.name).collect();
    names.sort();
    let mut keys = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let path = Path::new("/db").join(name);
        let mut reader = LogReader::new(fs.open_random(&path).expect("there"), path, 0);
        let mut record = Vec::new();
        while let Ok(ReadOutcome::Record { .. }) = reader.next(&mut record) {
            let batch = WriteBatch::from_bytes(&record).expect("own batch");
            keys.extend(batch.iter().map(|operation| match operation.expect("sound") {
                WriteOperation::LogData(data) => format!("({})", data.escape_ascii()),
                other => String::from_utf8_lossy(other.key().unwrap_or_default()).into_owned(),
            }));
        }
    }
    keys
}

#[test]
fn a_protected_batch_that_changed_in_memory_gets_into_no_log() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    let mut batch = WriteBatch::with_protection();
    batch.put("sound", "value").put("k", "damaged");
    batch.damage(batch.data_size() - 1);
    let error = queue.write(&mut batch, &WriteOptions::default()).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("entry 1 (Value of key \"k\""), "{error}");
    assert!(logged(&fs).is_empty());
    batch.damage(batch.data_size() - 1);
    queue.write(&mut batch, &WriteOptions::default()).expect("as it was added");
    assert_eq!(logged(&fs), ["sound", "k"]);
}

#[test]
fn log_data_alone_is_logged_and_takes_no_number() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    let first = put(&queue, "a", &WriteOptions::default()).expect("memory");
    queue.write(WriteBatch::new().put_log_data("a note"), &WriteOptions::default()).expect("memory");
    let second = put(&queue, "b", &WriteOptions::default()).expect("memory");
    assert_eq!(second.0, first.0 + 1);
    assert_eq!(logged(&fs), ["a", "(a note)", "b"]);
}

#[test]
fn many_writers_lose_nothing_and_the_log_has_their_order() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let queue = &queue;
            scope.spawn(move || {
                for i in 0..200 {
                    let mut batch = WriteBatch::new();
                    for part in 0..1 + (i % 20) {
                        batch.put(format!("{thread}-{i}-{part}"), "v");
                    }
                    let options = match i % 3 {
                        0 => WriteOptions::synced(),
                        _ => WriteOptions::default(),
                    };
                    let count = u64::from(batch.count());
                    let first = queue.write(&mut batch, &options).expect("memory");
                    assert!(queue.visible().load(Ordering::Acquire) >= first.0 + count - 1);
                    assert_eq!(u64::from(batch.count()), count, "the batch is the writer's again");
                }
            });
        }
    });
    let keys = logged(&fs);
    let expected: u64 = 8 * (0..200).map(|i| 1 + (i % 20)).sum::<u64>();
    assert_eq!(keys.len() as u64, expected);
    assert_eq!(queue.visible().load(Ordering::Acquire), expected);
    let unique: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(unique.len() as u64, expected);
}

#[test]
fn a_reader_never_sees_a_later_write_without_an_earlier_one() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 64 << 20);
    let state = queue.exclusive(|_, commit| Ok(Arc::clone(commit.families().next().expect("one")))).expect("alone");
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let queue = &queue;
            scope.spawn(move || {
                for i in 0..500u32 {
                    let mut batch = WriteBatch::new();
                    // Both halves of a batch carry the same number.
                    batch.put(format!("{thread}-a"), i.to_be_bytes()).put(format!("{thread}-b"), i.to_be_bytes());
                    queue.write(&mut batch, &WriteOptions::default()).expect("memory");
                }
            });
        }
        for _ in 0..2000 {
            let view = state.load_full();
            let sequence = SequenceNumber(queue.visible().load(Ordering::Acquire));
            for thread in 0..3 {
                let read = |half: &str| {
                    view.memtable.get_ref(format!("{thread}-{half}").as_bytes(), sequence).map(|hit| hit.value.to_vec())
                };
                assert_eq!(read("a"), read("b"));
            }
        }
    });
}

#[test]
fn an_unknown_family_is_refused_before_anything_is_written() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 2, 1 << 20);
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put_cf(ColumnFamilyId(7), "b", "2");
    let error = queue.write(&mut batch, &WriteOptions::default()).expect_err("no family 7");
    assert_eq!(error.kind(), ErrorKind::NoSuchColumnFamily);
    assert!(logged(&fs).is_empty());
    queue.remove_family(ColumnFamilyId(1)).expect("alone");
    let error = queue.write(WriteBatch::new().put_cf(ColumnFamilyId(1), "b", "2"), &WriteOptions::default());
    assert_eq!(error.expect_err("removed").kind(), ErrorKind::NoSuchColumnFamily);
}

#[test]
fn a_full_memtable_is_switched_with_its_log_and_old_logs_are_released_when_flushed() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 2, 8192);
    let state = queue.exclusive(|_, commit| Ok(Arc::clone(commit.families().next().expect("one")))).expect("alone");
    for i in 0..200 {
        queue.write(WriteBatch::new().put(format!("{i:04}"), [7; 100]), &WriteOptions::default()).expect("memory");
        // A flush takes place at once.
        let view = state.load_full();
        for memtable in view.immutables.iter().rev() {
            state.install_flush(&[memtable.id], Arc::clone(&view.version));
            queue.update_stall(ColumnFamilyId(0), StallInputs::default);
        }
    }
    let needed = queue.needed_log(&[], None).expect("alone");
    let released = queue.release_wals(needed).expect("alone");
    assert!(released.len() >= 2, "{released:?}");
    let current = queue.exclusive(|_, commit| Ok(commit.log_number())).expect("alone");
    assert!(released.iter().all(|(number, _)| *number < current));
    assert_eq!(logged(&fs).len(), 200, "unlinking is the janitor's");
}

#[test]
fn synced_writes_survive_every_crash_and_the_rest_is_a_prefix() {
    for seed in 0..4 {
        for policy in CrashPolicy::ALL {
            let fs = MemoryFs::new();
            let queue = queue(&fs, 1, 1 << 20);
            let mut synced = 0;
            for i in 0..40 {
                let options = if i % 7 == 3 { WriteOptions::synced() } else { WriteOptions::default() };
                put(&queue, &format!("{i:03}"), &options).expect("memory");
                if i % 7 == 3 {
                    synced = i + 1;
                }
                if i % 11 == 10 {
                    queue.switch_memtables(&[ColumnFamilyId(0)]).expect("memory");
                    queue.update_stall(ColumnFamilyId(0), StallInputs::default);
                }
            }
            let keys = logged(&fs.crash_image(&policy, seed));
            let prefix: Vec<_> = (0..).map(|i| format!("{i:03}")).take(synced).collect();
            assert_eq!(keys[..synced.min(keys.len())], prefix[..], "{policy:?} {seed}");
        }
    }
}

#[test]
fn a_failed_append_or_sync_stops_writes_and_says_what_is_known() {
    for (op, options, kind) in [
        (FsOp::Append, WriteOptions::default(), ErrorKind::Io),
        (FsOp::Sync, WriteOptions::synced(), ErrorKind::DurabilityUnknown),
    ] {
        let fs = MemoryFs::new();
        let queue = queue(&fs, 1, 1 << 20);
        put(&queue, "before", &options).expect("memory");
        fs.inject(Fault::on(op, "*.log", FaultEffect::Eio));
        assert_eq!(put(&queue, "failed", &options).expect_err("injected").kind(), kind);
        assert_eq!(put(&queue, "after", &options).expect_err("stopped").kind(), ErrorKind::ReadOnly);
        assert_eq!(queue.visible().load(Ordering::Acquire), 1, "nothing of it is visible");
        queue.seal_for_resume().expect("a new log");
        queue.gate().resume(queue.gate().stops());
        queue.update_stall(ColumnFamilyId(0), StallInputs::default);
        let first = put(&queue, "resumed", &options).expect("a fresh log");
        assert_eq!(first, SequenceNumber(3), "the failed batch's number is not given again");
    }
}

/// Writes `batches` in one group, in this order.
fn as_group(queue: &Arc<WriteQueue>, batches: Vec<(WriteBatch, WriteOptions)>) -> Vec<crate::Result<SequenceNumber>> {
    std::thread::scope(|scope| {
        let writers = queue.exclusive(|_, _| {
            let mut writers = Vec::new();
            for (mut batch, options) in batches {
                writers.push(scope.spawn(move || queue.write(&mut batch, &options)));
                while queue.waiting() < writers.len() {
                    std::thread::yield_now();
                }
            }
            Ok(writers)
        });
        writers.expect("alone").into_iter().map(|writer| writer.join().expect("no panic")).collect()
    })
}

fn one(family: u32, key: &str) -> WriteBatch {
    let mut batch = WriteBatch::new();
    batch.put_cf(ColumnFamilyId(family), key, "value");
    batch
}

#[test]
fn a_group_counts_what_was_written_and_by_whom() {
    let os = WriteOptions::default;
    let unlogged = || WriteOptions::with_durability(Durability::NoWal);
    for (leader, expected) in [(0, (1, 2, 2, 3)), (7, (0, 2, 1, 2))] {
        let fs = MemoryFs::new();
        let queue = queue(&fs, 1, 1 << 20);
        let batches =
            vec![(one(leader, "a"), os()), (one(0, "b"), os()), (one(0, "c"), unlogged()), (one(9, "d"), os())];
        let bytes = one(0, "a").as_bytes().len() as u64;
        let results = as_group(&queue, batches);
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind())).collect();
        let refused = Some(ErrorKind::NoSuchColumnFamily);
        assert_eq!(kinds, [refused.filter(|_| leader == 7), None, None, refused]);
        let count = |ticker| queue.statistics().ticker(ticker);
        let found = (
            count(Ticker::WriteDoneBySelf),
            count(Ticker::WriteDoneByOther),
            count(Ticker::WriteWithWal),
            count(Ticker::NumberKeysWritten),
        );
        assert_eq!(found, expected);
        assert_eq!(count(Ticker::BytesWritten), bytes * expected.3);
    }
}

#[test]
fn a_failed_append_of_several_records_may_have_left_some_and_says_so() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::ShortWrite));
    let os = WriteOptions::default;
    let results = as_group(&queue, vec![(one(0, "a"), os()), (one(0, "b"), os())]);
    for result in results {
        let error = result.expect_err("the log failed");
        assert_eq!(error.kind(), ErrorKind::DurabilityUnknown, "{error}");
    }
    assert_eq!(queue.visible().load(Ordering::Acquire), 0);
}

#[test]
fn who_asks_for_durability_only_is_not_told_of_a_batch() {
    for (op, kind) in [(FsOp::Append, ErrorKind::Io), (FsOp::Sync, ErrorKind::DurabilityUnknown)] {
        for asks in [
            |queue: &WriteQueue| queue.flush_wal(true),
            |queue: &WriteQueue| queue.write(&mut WriteBatch::new(), &WriteOptions::synced()).map(drop),
        ] {
            let fs = MemoryFs::new();
            let queue = queue(&fs, 1, 1 << 20);
            put(&queue, "a", &WriteOptions::with_durability(Durability::Buffered)).expect("memory");
            fs.inject(Fault::on(op, "*.log", FaultEffect::Eio));
            let error = asks(&queue).expect_err("injected");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(!error.to_string().contains("batch") && error.to_string().contains("writes before"), "{error}");
        }
    }
}

#[test]
fn buffered_writes_reach_the_log_with_the_next_stronger_one() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    let buffered = WriteOptions::with_durability(Durability::Buffered);
    put(&queue, "a", &buffered).expect("memory");
    assert!(logged(&fs).is_empty());
    put(&queue, "b", &WriteOptions::default()).expect("memory");
    assert_eq!(logged(&fs), ["a", "b"]);
    put(&queue, "c", &buffered).expect("memory");
    queue.flush_wal(false).expect("memory");
    assert_eq!(logged(&fs), ["a", "b", "c"]);
    put(&queue, "d", &WriteOptions::with_durability(Durability::NoWal)).expect("memory");
    assert_eq!(queue.unlogged_families().expect("alone"), [ColumnFamilyId(0)]);
    put(&queue, "e", &buffered).expect("memory");
    assert!(queue.gate().close().is_none());
    queue.close(false).expect("memory");
    assert_eq!(logged(&fs), ["a", "b", "c", "e"]);
    assert_eq!(put(&queue, "f", &buffered).expect_err("closed").kind(), ErrorKind::Closed);
}

#[test]
fn the_logs_may_get_longer_with_every_family_that_comes() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1000);
    let limit = || queue.exclusive(|_, commit| Ok(commit.wal_bytes_max)).expect("alone");
    assert_eq!(limit(), 8000, "four times two buffers of 1000 bytes");
    queue.add_family(family(7), 500, STALL).expect("new");
    assert_eq!(limit(), 12_000);
    queue.remove_family(ColumnFamilyId(7)).expect("there");
    assert_eq!(limit(), 8000);
}

#[test]
fn an_empty_batch_makes_what_was_written_before_as_durable_as_it_asks() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    put(&queue, "a", &WriteOptions::with_durability(Durability::Buffered)).expect("memory");
    queue.write(&mut WriteBatch::new(), &WriteOptions::default()).expect("memory");
    assert_eq!(logged(&fs), ["a"], "handed to the operating system");
    assert!(logged(&fs.crash_image(&CrashPolicy::DropUnsynced, 0)).is_empty());
    queue.write(&mut WriteBatch::new(), &WriteOptions::synced()).expect("memory");
    assert_eq!(logged(&fs.crash_image(&CrashPolicy::DropUnsynced, 0)), ["a"], "survives a power loss");
}

#[test]
fn a_job_that_looked_before_another_one_ended_does_not_stop_writers_for_ever() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    let (id, files) = (ColumnFamilyId(0), AtomicUsize::new(36));
    let look = || StallInputs { level0_files: files.load(Ordering::SeqCst), ..StallInputs::default() };
    let (has_looked, looked) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            queue.update_stall(id, || {
                let found = look();
                has_looked.send(()).expect("awaited");
                // Long enough for the other one, if nothing kept it out.
                std::thread::sleep(std::time::Duration::from_millis(50));
                found
            });
        });
        looked.recv().expect("sent");
        files.store(0, Ordering::SeqCst);
        queue.update_stall(id, look);
    });
    let hurried = WriteOptions { no_slowdown: true, ..WriteOptions::default() };
    put(&queue, "a", &hurried).expect("nothing is left to wait for");
}

#[test]
fn stopped_writers_wait_and_those_that_will_not_are_told() {
    let fs = MemoryFs::new();
    let queue = queue(&fs, 1, 1 << 20);
    queue.update_stall(ColumnFamilyId(0), || StallInputs { level0_files: 36, ..StallInputs::default() });
    let hurried = WriteOptions { no_slowdown: true, ..WriteOptions::default() };
    assert_eq!(put(&queue, "a", &hurried).expect_err("stopped").kind(), ErrorKind::Busy);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| put(&queue, "b", &WriteOptions::default()));
        queue.update_stall(ColumnFamilyId(0), StallInputs::default);
        writer.join().expect("no panic").expect("freed");
    });
    assert_eq!(logged(&fs), ["b"]);
    // A closed queue lets nobody wait for ever.
    queue.update_stall(ColumnFamilyId(0), || StallInputs { level0_files: 36, ..StallInputs::default() });
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| put(&queue, "c", &WriteOptions::default()));
        assert!(queue.gate().close().is_none());
        queue.close(false).expect("memory");
        assert_eq!(writer.join().expect("no panic").expect_err("closed").kind(), ErrorKind::Closed);
    });
}
