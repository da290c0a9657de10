//! Background errors: every kind of refusal of the disk, in every step, and what becomes of reads, writes and data.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    BackgroundErrorEvent, CrashPolicy, Db, Durability, ErrorKind, EventListener, Fault, FaultEffect, FsOp, HealthState,
    WriteBatch, WriteOptions,
};

use crate::lab::{Lab, Map, all, contents, eventually, fill, manifest_tables, settle};

const EFFECTS: [FaultEffect; 4] =
    [FaultEffect::Eio, FaultEffect::NoSpace, FaultEffect::ShortWrite, FaultEffect::SyncDropsDirty];

/// What must be there in two families, and a last batch over both that may be there as a whole.
#[derive(Default, Clone)]
struct Truth {
    main: Map,
    side: Map,
    unknown: Option<(Vec<u8>, Vec<u8>)>,
    counter: u64,
}

impl Truth {
    /// Writes a batch over both families; a failed one is remembered as unknown if its writer was told so.
    fn write(&mut self, db: &Db, durability: Durability) -> firndb::Result<()> {
        self.counter += 1;
        let key = format!("key{:03}", self.counter * 7 % 40).into_bytes();
        let value = format!("value {} {}", self.counter, "x".repeat((self.counter % 60) as usize)).into_bytes();
        let mut batch = WriteBatch::new();
        batch.put(&key, &value).put_cf(&db.column_family("side")?, &key, &value);
        match db.write_with(&mut batch, &WriteOptions::with_durability(durability)) {
            Ok(()) => {
                self.main.insert(key.clone(), value.clone());
                self.side.insert(key, value);
                Ok(())
            }
            Err(error) => {
                if error.kind() == ErrorKind::DurabilityUnknown {
                    self.unknown = Some((key, value));
                }
                Err(error)
            }
        }
    }

    fn writes(&mut self, db: &Db, count: usize) {
        for _ in 0..count {
            self.write(db, Durability::Os).expect("written");
        }
    }

    /// That the database holds exactly what was acknowledged, or, `after_crash`, the unknown batch as well.
    fn check(&mut self, db: &Db, after_crash: bool, place: &str) {
        let found = (all(db), contents(&db.column_family("side").expect("it is there")));
        if (&found.0, &found.1) == (&self.main, &self.side) {
            return;
        }
        let mut with = self.clone();
        if let Some((key, value)) = &self.unknown {
            with.main.insert(key.clone(), value.clone());
            with.side.insert(key.clone(), value.clone());
        }
        let is_with = after_crash && (&found.0, &found.1) == (&with.main, &with.side);
        let is_torn = found.0 != found.1;
        assert!(is_with, "{place}: torn: {is_torn}, {} entries of {}", found.0.len(), self.main.len());
    }
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<BackgroundErrorEvent>>);

impl EventListener for Heard {
    fn background_error(&self, event: &BackgroundErrorEvent) {
        self.0.lock().expect("whole").push(event.clone());
    }
}

/// A database with two families, in tables and in memory, whose state so far survives a power loss; and a third family
/// that nobody ever writes to, so that MANIFEST says nothing new of it.
fn prepared() -> (Lab, Db, Truth, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let lab = Lab::new().change(|options| options.listeners.push(Arc::clone(&heard) as _));
    let db = lab.open();
    db.create_column_family("side").expect("new");
    db.create_column_family("empty").expect("new");
    let mut truth = Truth::default();
    for _ in 0..2 {
        truth.writes(&db, 25);
        db.flush().expect("flushed");
        db.column_family("side").expect("there").flush().expect("flushed");
    }
    truth.writes(&db, 10);
    db.flush_wal(true).expect("synced");
    settle(&db);
    (lab, db, truth, heard)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trigger {
    Write,
    SyncedWrite,
    Flush,
    /// With something in an older log that was never synced.
    WriteAndFlush,
    Compact,
}

/// Where it strikes: the operation, the file, and what leads there.
const PLACES: &[(FsOp, &str, Trigger)] = &[
    (FsOp::Append, "*.log", Trigger::Write),
    (FsOp::Append, "*.log", Trigger::SyncedWrite),
    (FsOp::Sync, "*.log", Trigger::SyncedWrite),
    (FsOp::Sync, "*.log", Trigger::WriteAndFlush),
    (FsOp::Create, "*.log", Trigger::Flush),
    (FsOp::Create, "*.sst", Trigger::Flush),
    (FsOp::Append, "*.sst", Trigger::Flush),
    (FsOp::Sync, "*.sst", Trigger::Flush),
    (FsOp::SyncDir, "db", Trigger::Flush),
    (FsOp::Append, "MANIFEST-*", Trigger::Flush),
    (FsOp::Sync, "MANIFEST-*", Trigger::Flush),
    (FsOp::Create, "*.sst", Trigger::Compact),
    (FsOp::Append, "*.sst", Trigger::Compact),
    (FsOp::Sync, "*.sst", Trigger::Compact),
    (FsOp::SyncDir, "db", Trigger::Compact),
    (FsOp::Append, "MANIFEST-*", Trigger::Compact),
    (FsOp::Sync, "MANIFEST-*", Trigger::Compact),
];

fn trigger(db: &Db, truth: &mut Truth, trigger: Trigger) -> firndb::Result<()> {
    match trigger {
        Trigger::Write => truth.write(db, Durability::Os),
        Trigger::SyncedWrite => truth.write(db, Durability::Synced),
        Trigger::Flush => db.flush(),
        Trigger::WriteAndFlush => truth.write(db, Durability::Os).and_then(|()| db.flush()),
        Trigger::Compact => db.compact_range::<&[u8]>(..),
    }
}

/// Any disk that a process crash or a power loss could leave opens with what was acknowledged as so durable.
fn check_images(lab: &Lab, truth: &Truth, synced: &Truth, place: &str) {
    for policy in [CrashPolicy::KeepAll, CrashPolicy::DropUnsynced, CrashPolicy::EntrySubset, CrashPolicy::TornWrite] {
        for seed in 0..6 {
            let image = lab.crash(policy, seed);
            let db = image.try_open().unwrap_or_else(|error| panic!("{place}, {policy:?}: {error}"));
            let place = format!("{place}, {policy:?} {seed}, {:?}", db.recovery_report());
            if policy == CrashPolicy::KeepAll {
                truth.clone().check(&db, true, &place);
            } else {
                let (main, side) = (all(&db), contents(&db.column_family("side").expect("there")));
                assert_eq!(main, side, "{place}: a batch was torn");
                for key in synced.main.keys() {
                    assert!(main.contains_key(key), "{place}: {:?} is lost", String::from_utf8_lossy(key));
                }
                if truth.main == synced.main {
                    truth.clone().check(&db, true, &place);
                }
            }
            db.close().expect("nothing is open");
            image.assert_disk_is_manifest();
        }
    }
}

fn one_case(at: (FsOp, &str, Trigger), effect: FaultEffect, is_sticky: bool) {
    let place = format!("{at:?}, {effect:?}, sticky: {is_sticky}");
    let (lab, db, mut truth, heard) = prepared();
    let tables_before = lab.tables();
    if at.2 == Trigger::Compact {
        // What the compaction's own flush would do is the other trigger's matter.
        db.flush().expect("flushed");
        db.column_family("side").expect("there").flush().expect("flushed");
        settle(&db);
    }
    let tables_flushed = lab.tables();
    let synced = truth.clone();
    let fault = Fault::on(at.0, at.1, effect);
    lab.fs.inject(if is_sticky { fault.sticky() } else { fault });
    let error = trigger(&db, &mut truth, at.2).expect_err(&place);
    assert!(lab.fs.faults_struck() > 0);

    // The error says what and where.
    let io = error.io().unwrap_or_else(|| panic!("{place}: {error}"));
    let named = io.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = at.1.trim_start_matches('*').trim_end_matches('*');
    assert!(named.contains(ending), "{place}: {error}");
    let is_unknown = at.0 == FsOp::Sync && at.2 == Trigger::SyncedWrite;
    let kind = match (is_unknown, at.1, effect) {
        (true, ..) => ErrorKind::DurabilityUnknown,
        // MANIFEST may have the record or not, whatever the reason.
        (_, "MANIFEST-*", _) => ErrorKind::Io,
        (_, _, FaultEffect::NoSpace) => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    assert_eq!(error.kind(), kind, "{place}: {error}");

    // Reads go on; writes stop, or go on after a failed compaction.
    truth.check(&db, false, &place);
    check_images(&lab, &truth, &synced, &place);
    let health = db.health();
    if at.2 == Trigger::Compact && (at.1 != "MANIFEST-*" || !is_sticky) && at.1 != "db" {
        truth.write(&db, Durability::Os).unwrap_or_else(|error| panic!("{place}: writes go on: {error}"));
        assert!(matches!(health.state, HealthState::Healthy | HealthState::Degraded), "{place}: {health:?}");
        if at.1 == "*.sst" {
            assert_eq!(lab.tables(), tables_flushed, "{place}: a failed compaction leaves no table");
        }
    } else if health.state == HealthState::WritesStopped {
        let refusal = truth.write(&db, Durability::Os).expect_err("stopped");
        assert_eq!(refusal.kind(), ErrorKind::ReadOnly, "{place}: {refusal}");
        assert!(refusal.to_string().contains(ending), "{place}: {refusal}");
        assert!(db.health().cause.is_some());
        if at.1 == "*.sst" {
            assert_eq!(lab.tables(), tables_before, "{place}: a failed flush leaves no table");
        }
    }

    // As long as the disk refuses, tries go on, without harm and without a hot loop.
    for _ in 0..4 {
        lab.clock.advance(Duration::from_secs(1));
        settle(&db);
        truth.check(&db, false, &place);
    }
    if is_sticky {
        assert!(lab.fs.faults_struck() < 30, "{place}: {} tries in four seconds", lab.fs.faults_struck());
    }
    check_images(&lab, &truth, &synced, &place);

    // Once it takes bytes again everything heals by itself.
    lab.fs.clear_faults();
    for _ in 0..3 {
        lab.clock.advance(Duration::from_secs(61));
        settle(&db);
    }
    assert_eq!(db.health().state, HealthState::Healthy, "{place}: {:?}", db.health());
    assert!(db.health().cause.is_none(), "{place}");
    if health.state == HealthState::WritesStopped {
        let heard = heard.0.lock().expect("whole");
        assert!(heard.iter().any(|event| event.stops_writes && event.error.to_string().contains(ending)), "{heard:?}");
    }
    truth.check(&db, false, &place);
    // From here on nothing is unknown: what a failed log holds must not come back beside what is written now.
    truth.unknown = None;
    for _ in 0..5 {
        truth.write(&db, Durability::Synced).unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    check_images(&lab, &truth, &truth, &format!("{place}, healed"));
    settle(&db);
    lab.assert_disk_is_manifest();
    assert!(lab.fs.hazards().is_empty(), "{place}: {:?}", lab.fs.hazards());
    db.close().expect("nothing is open");
    lab.verify();
    let again = lab.open();
    truth.check(&again, false, &place);
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_disk_refuses_once_or_for_a_while() {
    for place in PLACES {
        for effect in EFFECTS {
            // An effect that is no other than EIO here is none of its own.
            let is_own = match effect {
                FaultEffect::ShortWrite => place.0 == FsOp::Append,
                // What a sync drops of writes that asked for none was never promised to survive it.
                FaultEffect::SyncDropsDirty => place.0 == FsOp::Sync && place.2 != Trigger::WriteAndFlush,
                _ => true,
            };
            for is_sticky in [false, true] {
                if is_own {
                    one_case(*place, effect, is_sticky);
                }
            }
        }
    }
}

/// The disk is full for real: appends store what fits.
#[test]
fn a_full_disk_stops_writes_loses_nothing_and_heals_by_itself() {
    for threads in [false, true] {
        let mut lab = if threads { Lab::with_threads() } else { Lab::new() };
        lab.options.family.write_buffer_size = 16 << 10;
        let db = lab.open();
        db.create_column_family("side").expect("new");
        let mut truth = Truth::default();
        truth.writes(&db, 50);
        for round in 0..6u64 {
            lab.fs.set_capacity(Some(lab.fs.used_bytes() + 700 + round * 900));
            let error = loop {
                if let Err(error) = truth.write(&db, Durability::Os) {
                    break error;
                }
                if !threads {
                    db.run_background_step();
                }
            };
            assert!(matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::ReadOnly), "{error}");
            truth.check(&db, false, "full");
            if !threads {
                for _ in 0..5 {
                    lab.clock.advance(Duration::from_secs(7));
                    settle(&db);
                }
                check_images(&lab, &truth, &Truth::default(), "full");
            }
            lab.fs.set_capacity(None);
            // No reopen, no call: space is all that it takes.
            eventually("writes go on", || {
                if !threads {
                    lab.clock.advance(Duration::from_secs(61));
                    settle(&db);
                }
                db.health().state == HealthState::Healthy
            });
            truth.writes(&db, 30);
            truth.check(&db, false, "healed");
        }
        db.close().expect("nothing is open");
        lab.assert_disk_is_manifest();
        lab.verify();
        truth.check(&lab.open(), false, "opened again");
    }
}

#[test]
fn a_group_of_writers_whose_append_failed_half_way_is_told_that_nobody_knows() {
    // Nobody sees from outside who stands in line already: one that came too late, to stopped writes, is another try.
    let is_group = |results: &[firndb::Result<()>]| {
        let late =
            |result: &firndb::Result<()>| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnly);
        !results.iter().any(late)
    };
    assert!((0..20).any(|_| is_group(&write_a_group_that_fails())), "there is never a group");
}

/// What the five writers of a group are told whose append fails half way; checks what is there afterwards if it was one.
fn write_a_group_that_fails() -> Vec<firndb::Result<()>> {
    let lab = Lab::new();
    let db = lab.open();
    db.put("before", "x").expect("written");
    let lab_fs = lab.fs.clone();
    let is_first = Mutex::new(true);
    let (is_in, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (mark, seen) = (Arc::clone(&is_in), Arc::clone(&waiting));
    lab.hook.set(move |op, path| {
        let is_log = path.extension().is_some_and(|ending| ending == "log");
        if op == FsOp::Append && is_log && std::mem::take(&mut *is_first.lock().expect("whole")) {
            // The first writer is in the middle of its append while the others line up behind it.
            mark.store(true, Ordering::Release);
            eventually("others wait", || seen.load(Ordering::Acquire) == 5);
            // For their last step, into the line.
            std::thread::sleep(Duration::from_millis(20));
            lab_fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::ShortWrite).skip(1));
        }
    });
    let results: Vec<_> = std::thread::scope(|scope| {
        let first = scope.spawn(|| db.put("w0", "x".repeat(100)));
        eventually("it is in the middle of its append", || is_in.load(Ordering::Acquire));
        let others: Vec<_> = (1..6)
            .map(|number| {
                let (db, waiting) = (&db, &waiting);
                scope.spawn(move || {
                    waiting.fetch_add(1, Ordering::AcqRel);
                    db.put(format!("w{number}"), "x".repeat(100))
                })
            })
            .collect();
        first.join().expect("no panic").expect("its own append went well");
        others.into_iter().map(|other| other.join().expect("no panic")).collect()
    });
    if results.iter().any(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnly)) {
        return results;
    }
    let unknown = results
        .iter()
        .filter(|result| result.as_ref().is_err_and(|error| error.kind() == ErrorKind::DurabilityUnknown));
    assert_eq!(unknown.count(), 5, "{results:?}");
    assert!(results.iter().flat_map(|result| result.as_ref().err()).all(|error| error.to_string().contains(".log")));
    assert_eq!(all(&db).len(), 2, "none of them is seen");
    // Some of them did arrive: that is what the word is for.
    let after = lab.crash(CrashPolicy::KeepAll, 0).open();
    let survivors = all(&after).len();
    assert!((3..7).contains(&survivors), "{survivors}");
    results
}

#[test]
fn writes_go_on_as_soon_as_there_is_space_however_long_the_wait_for_the_next_try() {
    let mut lab = Lab::with_threads();
    lab.options.background_retry = Duration::from_secs(60);
    let db = lab.open();
    db.create_column_family("side").expect("new");
    let mut truth = Truth::default();
    truth.writes(&db, 50);
    lab.fs.set_capacity(Some(lab.fs.used_bytes() + 300));
    while truth.write(&db, Durability::Os).is_ok() {}
    eventually("a first try has failed", || db.health().next_try.is_some_and(|wait| wait > Duration::from_secs(40)));
    lab.fs.set_capacity(None);
    let begin = std::time::Instant::now();
    eventually("writes go on", || db.health().state == HealthState::Healthy);
    // Far from the time of the next try, also on a busy machine.
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());
    truth.writes(&db, 10);
    truth.check(&db, false, "healed");
}

#[test]
fn work_that_failed_and_is_not_wanted_any_more_is_no_illness() {
    let lab = Lab::new().change(|options| options.family.level0_file_num_compaction_trigger = 2);
    let db = lab.open();
    let family = db.create_column_family("side").expect("new");
    lab.fs.inject(Fault::on(FsOp::Create, "*.sst", FaultEffect::NoSpace).skip(2).sticky());
    for _ in 0..2 {
        family.put("a", "b").expect("written");
        family.flush().expect("flushed");
    }
    settle(&db);
    assert_eq!(db.health().state, HealthState::Degraded);
    lab.fs.clear_faults();
    drop(family);
    db.drop_column_family("side").expect("dropped");
    lab.clock.advance(Duration::from_secs(61));
    settle(&db);
    assert_eq!(db.health().state, HealthState::Healthy);
}

#[test]
fn what_a_failed_job_could_not_remove_goes_as_soon_as_the_disk_allows() {
    for is_flush in [true, false] {
        let lab = Lab::new();
        let db = lab.open();
        fill(&db, 50, "first");
        db.flush().expect("flushed");
        fill(&db, 50, "second");
        if !is_flush {
            db.flush().expect("flushed");
        }
        lab.fs.inject(Fault::on(FsOp::Sync, "*.sst", FaultEffect::Eio));
        lab.fs.inject(Fault::on(FsOp::Remove, "*.sst", FaultEffect::Eio));
        let failed = if is_flush { db.flush() } else { db.compact_range::<&[u8]>(..) };
        failed.expect_err("the disk refuses");
        let (live, _) = manifest_tables(&lab.fs);
        assert_ne!(lab.tables(), live, "a table was left behind");
        lab.fs.clear_faults();
        lab.clock.advance(Duration::from_secs(61));
        settle(&db);
        db.compact_range::<&[u8]>(..).expect("compacted");
        lab.clock.advance(Duration::from_secs(61));
        settle(&db);
        lab.assert_disk_is_manifest();
        db.close().expect("closes");
    }
}
