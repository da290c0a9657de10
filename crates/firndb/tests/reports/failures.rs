//! Disks that fail for a while: what goes on afterwards, and what everybody is told meanwhile.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{BackgroundErrorEvent, Db, ErrorKind, EventListener, Fault, FaultEffect, FsOp, HealthState, WriteOptions};

use crate::lab::{DIR, Lab, all, eventually, fill, settle};
use crate::patience::in_time;

#[derive(Debug, Default)]
struct Errors(Mutex<Vec<String>>);

impl EventListener for Errors {
    fn background_error(&self, event: &BackgroundErrorEvent) {
        self.0.lock().expect("whole").push(event.error.to_string());
    }
}

/// Seconds pass until writes are taken again.
fn wait_for_writes(lab: &Lab, db: &Db) {
    for _ in 0..70 {
        lab.clock.advance(Duration::from_secs(1));
        settle(db);
        if db.health().state == HealthState::Healthy {
            return;
        }
    }
    panic!("never healthy: {:?}", db.health());
}

/// facebook/rocksdb#8217: a full disk that only a write had met, and no flush, was never tried again.
#[test]
fn a_full_disk_that_only_a_write_met_is_tried_again_without_any_background_work() {
    for (durability, pattern) in [(WriteOptions::default(), "*.log"), (WriteOptions::synced(), "*.log")] {
        let lab = Lab::new();
        let db = lab.open();
        db.put("before", "value").expect("written");
        lab.fs.inject(Fault::on(FsOp::Append, pattern, FaultEffect::NoSpace).sticky());
        let family = db.default_column_family();
        let refused = family.put_with("key", "value", &durability).expect_err("there is no space");
        assert_eq!(refused.kind(), ErrorKind::NoSpace, "{refused}");
        lab.fs.clear_faults();
        wait_for_writes(&lab, &db);
        family.put_with("after", "value", &durability).expect("written");
        assert_eq!(all(&db).len(), 2);
        db.close().expect("closes");
        lab.verify();
    }
}

/// facebook/rocksdb#11643: resuming succeeded, but the log's writer remembered its error, and every write failed again.
#[test]
fn whatever_file_the_disk_was_too_full_for_the_first_write_after_it_succeeds_and_the_next_ones_do() {
    for pattern in ["*.log", "*.sst", "MANIFEST*", "OPTIONS*", "CURRENT*", "*.dbtmp", "*"] {
        let lab = Lab::new();
        let db = lab.open();
        let mut map = fill(&db, 50, "before");
        lab.fs.inject(Fault::on(FsOp::Append, pattern, FaultEffect::NoSpace).sticky());
        let _ = db.put("key", "whose fate is told");
        let _ = db.flush();
        let _ = db.compact_range::<&[u8]>(..);
        settle(&db);
        lab.fs.clear_faults();
        wait_for_writes(&lab, &db);
        for round in 0..3 {
            map.extend(fill(&db, 60, &format!("after {round}")));
            db.flush().expect("flushed");
        }
        db.compact_range::<&[u8]>(..).expect("compacted");
        let mut found = all(&db);
        found.remove(&b"key"[..]);
        assert_eq!(found, map, "{pattern}");
        db.close().expect("closes");
        lab.verify();
        lab.assert_disk_is_manifest();
    }
}

/// facebook/rocksdb#10134, apache/kvrocks#627: a quota that was used up was no full disk, and was never tried again.
#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let no_quota = std::io::Error::from_raw_os_error(libc::EDQUOT);
    let error = firndb::Error::from_io("append", Path::new("/db/000004.log"), &no_quota);
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.is_retryable());
}

/// facebook/rocksdb#9876: of the threads that wrote while the disk was full some were never answered.
#[test]
fn of_many_threads_that_write_through_a_full_disk_each_is_answered_and_goes_on() {
    let lab = Lab::with_threads().change(|options| options.family.write_buffer_size = 16 << 10);
    let db = lab.open();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let db = db.clone();
            std::thread::spawn(move || {
                let mut acknowledged = Vec::new();
                let mut refused = 0;
                for number in 0..400 {
                    let key = format!("{thread} {number:04}");
                    match db.put(&key, [b'v'; 100]) {
                        Ok(()) => acknowledged.push(key),
                        Err(error) => {
                            assert!(
                                !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Internal),
                                "an answer with a cause: {error}"
                            );
                            refused += 1;
                        }
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..5 {
        lab.fs.set_capacity(Some(lab.fs.used_bytes() + 5_000));
        eventually("the disk is full, or all is written", || {
            db.health().state != HealthState::Healthy || threads.iter().all(std::thread::JoinHandle::is_finished)
        });
        lab.fs.set_capacity(None);
        eventually("it goes on", || db.put("probe", "value").is_ok());
    }
    let mut acknowledged = Vec::new();
    for thread in threads {
        let (own, _) = in_time("a writer", move || thread.join()).expect("no panic");
        acknowledged.extend(own);
    }
    let holds = |db: &Db| acknowledged.iter().all(|key| db.get(key).expect("read").is_some());
    assert!(holds(&db));
    in_time("close", {
        let db = db.clone();
        move || db.close()
    })
    .expect("closes");
    drop(db);
    let db = lab.open();
    assert!(holds(&db));
    db.close().expect("closes");
}

/// HarperFast/rocksdb-js#730, freenet/freenet-core#4604: one error of a moment stayed for hours, with a message of a file
/// that was long gone, and only a restart helped.
#[test]
fn an_error_of_one_moment_is_over_at_the_next_try_and_a_later_one_names_its_own_file() {
    let errors = Arc::new(Errors::default());
    let lab = Lab::new().change(|options| options.listeners.push(Arc::clone(&errors) as _));
    let db = lab.open();
    let mut refusals = Vec::new();
    for round in 0..3 {
        fill(&db, 20, &format!("round {round}"));
        lab.fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::Eio));
        let log = lab.files(".log").pop_last().expect("a log");
        let first = db.put("key", "value").expect_err("the disk refuses");
        assert!(first.to_string().contains(&format!("{log:06}.log")), "{first}");
        let second = db.put("key", "value").expect_err("refused").to_string();
        assert!(second.contains(&format!("{log:06}.log")), "the cause of now, not an older one: {second}");
        let health = db.health();
        assert_eq!(health.state, HealthState::WritesStopped);
        assert!(health.next_try.is_some(), "who asks learns when it is tried again");
        wait_for_writes(&lab, &db);
        assert!(!lab.files(".log").contains(&log), "nothing asks for that log any more");
        assert!(db.health().cause.is_none());
        refusals.push(second);
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 3);
    assert_eq!(errors.0.lock().expect("whole").len(), 3, "one event each");
    db.close().expect("closes");
    lab.verify();
}

/// rust-rocksdb/rust-rocksdb#818: a compaction that found no descriptor left every `put` waiting, without a word.
#[test]
fn compactions_without_descriptors_do_not_hold_writers_up_for_ever() {
    let lab = Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 4096;
        options.family.max_write_buffer_number = 2;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 3;
        options.family.level0_stop_writes_trigger = 4;
    });
    let db = lab.open();
    // Opening tables for a compaction fails; what flushes need succeeds.
    lab.fs.inject(Fault::on(FsOp::Open, "*.sst", FaultEffect::TooManyOpen).sticky());
    let writer = db.clone();
    let refused = in_time("writers without compactions", move || {
        (0..).map(|number| writer.put(format!("key{number}"), [b'v'; 300])).find_map(Result::err)
    })
    .expect("an error in the end");
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    let said = refused.to_string();
    assert!(said.contains("sst") && said.contains("in vain"), "the cause is named: {said}");
    assert!(db.health().cause.is_some());
    lab.fs.clear_faults();
    let writer = db.clone();
    in_time("writers afterwards", move || eventually("writes go on", || writer.put("key", "value").is_ok()));
    in_time("close", move || db.close()).expect("closes");
}

/// cberner/redb#620: a database whose disk had filled up could not be opened any more.
#[test]
fn a_database_is_whole_after_openings_on_a_full_disk_wherever_the_space_ends() {
    let lab = Lab::new();
    let db = lab.open();
    let mut map = fill(&db, 100, "in a table");
    db.flush().expect("flushed");
    map.extend(fill(&db, 120, "in a log"));
    // A crash: the log has to be replayed.
    let crashed = lab.crash(firndb::CrashPolicy::KeepAll, 1);
    drop(db);
    let used = crashed.fs.used_bytes();
    let mut refused = 0;
    let mut room = 0;
    loop {
        crashed.fs.set_capacity(Some(used + room));
        let is_open = match crashed.try_open() {
            Ok(db) => {
                assert_eq!(all(&db), map, "{room} bytes free");
                // Closing may find no space either: then the logs have everything still.
                let _ = db.close();
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NoSpace, "{room} bytes free: {error}");
                refused += 1;
                false
            }
        };
        if is_open {
            break;
        }
        room += 97;
    }
    assert!(refused > 10, "{refused}");
    crashed.fs.set_capacity(None);
    let db = crashed.open();
    assert_eq!(all(&db), map);
    db.close().expect("closes");
    crashed.verify();
    crashed.assert_disk_is_manifest();
}

/// basho/leveldb#141: a compaction whose input was gone was tried again and again at full speed, for ever.
#[test]
fn a_compaction_whose_input_somebody_removed_is_tried_ever_more_rarely_and_says_which() {
    let errors = Arc::new(Errors::default());
    let lab = Lab::new().change(|options| {
        options.listeners.push(Arc::clone(&errors) as _);
        options.family.level0_file_num_compaction_trigger = 2;
    });
    let db = lab.open();
    for round in 0..2 {
        db.put("key", format!("{round}")).expect("written");
        db.flush().expect("flushed");
    }
    let gone = lab.tables().pop_first().expect("a table");
    use firndb::Fs;
    lab.fs.remove_file(&Path::new(DIR).join(format!("{gone:06}.sst"))).expect("removed");
    for _ in 0..600 {
        lab.clock.advance(Duration::from_millis(500));
        settle(&db);
        db.put("other", "value").expect("writes go on");
    }
    let said = errors.0.lock().expect("whole").clone();
    assert!((1..=12).contains(&said.len()), "five minutes: {} tries", said.len());
    assert!(said.iter().all(|error| error.contains(&format!("{gone:06}.sst"))), "{said:?}");
    assert_ne!(db.health().state, HealthState::Healthy);
    // What it had in memory is safe; the directory is refused by name when it is opened again.
    db.close().expect("closes");
    let refused = lab.try_open().map(drop).expect_err("a table is missing");
    assert!(refused.to_string().contains(&format!("{gone:06}.sst")), "{refused}");
}
