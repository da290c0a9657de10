//! The crash matrix: every workload is cut off at its file-system calls, the disk is left as each policy says, and the
//! database must open and hold a prefix of its history, whole batches only, with everything that was acknowledged as
//! durable. Then it goes on: writes, a flush, a compaction, a second crash inside the recovery.
//!
//! Every call is cut, under every policy, with one seed; `FIRN_CRASH_ROUNDS` runs more seeds, from `FIRN_SEED` on.

use std::path::Path;
use std::sync::Arc;

use firndb::{
    CloseMode, CompactionStyle, Compression, CrashPolicy, Db, Durability, ErrorKind, Hazard, HazardKind, LiveFiles,
    MemoryFs, Options, Result, WriteBatch, WriteOptions, verify_directory,
};
use firndb_testkit::{State, from_environment, small_options};

type Operation = (String, Vec<u8>, Option<Vec<u8>>);

const DIR: &str = "/db";

/// A run of a workload: what was tried, and what must survive.
struct Driver {
    options: Options,
    db: Option<Db>,
    /// Every batch that was tried, in order.
    history: Vec<Vec<Operation>>,
    /// So many of them were acknowledged as durable.
    durable: usize,
    /// Some writes are in no log, or not when the process ends.
    has_unlogged: bool,
    families: Vec<String>,
    /// Families whose drop was tried: they may be there or not, with whatever they hold.
    dropped: Vec<String>,
    /// Files that somebody copies.
    held: Vec<LiveFiles>,
    counter: u64,
}

impl Driver {
    fn new(fs: &MemoryFs, change: fn(&mut Options)) -> Driver {
        let mut options = small_options(fs);
        change(&mut options);
        Driver {
            options,
            db: None,
            history: Vec::new(),
            durable: 0,
            has_unlogged: false,
            families: vec!["default".into()],
            dropped: Vec::new(),
            held: Vec::new(),
            counter: 0,
        }
    }

    fn open(&mut self) -> Result<()> {
        self.db = Some(Db::open_with(DIR, self.options.clone())?);
        Ok(())
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    /// A batch over all families: some keys are new, some are overwritten, some are deleted, alone or in a range.
    fn write(&mut self, durability: Durability) -> Result<()> {
        let mut batch = WriteBatch::new();
        let mut operations = Vec::new();
        for name in self.families.clone() {
            let family = self.db().column_family(&name)?;
            for part in 0..2u64 {
                self.counter += 1;
                let n = self.counter;
                let number = (n * 7 + part) % 23;
                let key = format!("key{number:03}").into_bytes();
                if n % 9 == 5 {
                    batch.delete_range_cf(&family, &key, format!("key{:03}", number + 4));
                    let deleted = (number..number + 4).map(|n| format!("key{n:03}").into_bytes());
                    operations.extend(deleted.map(|key| (name.clone(), key, None)));
                } else if n % 4 == 3 {
                    batch.delete_cf(&family, &key);
                    operations.push((name.clone(), key, None));
                } else {
                    let value = format!("value {n} {}", "x".repeat((n % 50) as usize)).into_bytes();
                    batch.put_cf(&family, &key, &value);
                    operations.push((name.clone(), key, Some(value)));
                }
            }
        }
        self.history.push(operations);
        self.has_unlogged |= matches!(durability, Durability::NoWal | Durability::Buffered);
        self.steps()?;
        self.db().write_with(&mut batch, &WriteOptions::with_durability(durability))?;
        if durability == Durability::Synced {
            self.durable = self.history.len();
        }
        Ok(())
    }

    fn writes(&mut self, count: usize, durability: Durability) -> Result<()> {
        (0..count).try_for_each(|_| self.write(durability))
    }

    /// Background work, step by step.
    fn steps(&mut self) -> Result<()> {
        for _ in 0..50 {
            if !self.db().run_background_step() {
                break;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for family in self.db().column_families() {
            family.flush()?;
        }
        self.durable = self.history.len();
        Ok(())
    }

    fn compact(&mut self) -> Result<()> {
        for family in self.db().column_families() {
            family.compact_range::<&[u8]>(..)?;
        }
        self.durable = self.history.len();
        Ok(())
    }

    fn sync_wal(&mut self) -> Result<()> {
        self.db().flush_wal(true)?;
        self.durable = self.history.len();
        Ok(())
    }

    fn hold(&mut self) -> Result<()> {
        self.held.push(self.db().live_files()?);
        Ok(())
    }

    fn let_go(&mut self) -> Result<()> {
        self.held.clear();
        self.steps()
    }

    fn create_family(&mut self, name: &str) -> Result<()> {
        self.db().create_column_family(name)?;
        self.families.push(name.to_owned());
        Ok(())
    }

    fn drop_family(&mut self, name: &str) -> Result<()> {
        // From the first try on nobody may rely on it.
        self.families.retain(|family| family != name);
        self.dropped.push(name.to_owned());
        for operations in &mut self.history {
            operations.retain(|(family, ..)| family != name);
        }
        self.db().drop_column_family(name)
    }

    fn close(&mut self) -> Result<()> {
        if let Some(db) = self.db.take() {
            db.close_with(CloseMode::Refuse)?;
        }
        if !self.options.avoid_flush_during_shutdown {
            self.durable = self.history.len();
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.close()?;
        self.open()
    }

    /// What the database holds after the first `count` batches.
    fn state(&self, count: usize) -> State {
        let mut state = State::new();
        for (family, key, value) in self.history[..count].iter().flatten() {
            let map = state.entry(family.clone()).or_default();
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
        state.retain(|_, map| !map.is_empty());
        state
    }
}

fn contents(db: &Db, dropped: &[String]) -> Result<State> {
    let mut state = firndb_testkit::contents(db)?;
    state.retain(|name, map| !map.is_empty() && !dropped.contains(name));
    Ok(state)
}

struct Workload {
    name: &'static str,
    options: fn(&mut Options),
    script: fn(&mut Driver) -> Result<()>,
}

const fn plain(_: &mut Options) {}

const WORKLOADS: &[Workload] = &[
    Workload { name: "create and close", options: plain, script: |d| d.open().and_then(|()| d.close()) },
    Workload {
        name: "writes into the log",
        options: plain,
        script: |d| {
            d.open()?;
            d.writes(12, Durability::Os)
        },
    },
    Workload {
        name: "compressed logs",
        options: |o| {
            o.wal_compression = Compression::Zstd;
            o.avoid_flush_during_shutdown = true;
        },
        script: |d| {
            d.open()?;
            d.writes(3, Durability::Os)?;
            d.write(Durability::Synced)?;
            d.writes(2, Durability::Buffered)?;
            d.sync_wal()?;
            d.reopen()?;
            d.writes(2, Durability::Os)
        },
    },
    Workload {
        name: "synced writes among others",
        options: plain,
        script: |d| {
            d.open()?;
            for _ in 0..5 {
                d.writes(2, Durability::Os)?;
                d.write(Durability::Synced)?;
            }
            Ok(())
        },
    },
    Workload {
        name: "batches over three families",
        options: plain,
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            d.create_family("b")?;
            d.writes(6, Durability::Os)?;
            d.write(Durability::Synced)?;
            d.writes(4, Durability::Os)
        },
    },
    Workload {
        name: "no log, flushed together",
        options: |o| o.atomic_flush = true,
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            d.writes(6, Durability::NoWal)?;
            d.flush()?;
            d.writes(6, Durability::NoWal)?;
            d.close()
        },
    },
    Workload {
        name: "buffered log",
        options: plain,
        script: |d| {
            d.open()?;
            d.writes(5, Durability::Buffered)?;
            d.sync_wal()?;
            d.writes(5, Durability::Buffered)?;
            d.write(Durability::Os)?;
            d.close()
        },
    },
    Workload {
        name: "flushes",
        options: plain,
        script: |d| {
            d.open()?;
            for _ in 0..3 {
                d.writes(4, Durability::Os)?;
                d.flush()?;
            }
            Ok(())
        },
    },
    Workload {
        name: "automatic compactions",
        options: |o| o.family.write_buffer_size = 1024,
        script: |d| {
            d.open()?;
            d.writes(40, Durability::Os)?;
            d.steps()
        },
    },
    Workload {
        name: "universal compactions",
        options: |o| {
            o.family.write_buffer_size = 1024;
            o.family.compaction_style = CompactionStyle::Universal;
            o.family.compaction_options_universal.allow_trivial_move = true;
        },
        script: |d| {
            d.open()?;
            d.writes(30, Durability::Os)?;
            d.steps()
        },
    },
    Workload {
        name: "compaction by hand, deletions",
        options: plain,
        script: |d| {
            d.open()?;
            d.writes(10, Durability::Os)?;
            d.compact()?;
            d.writes(10, Durability::Os)?;
            d.compact()
        },
    },
    Workload {
        name: "families come and go",
        options: plain,
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            d.writes(4, Durability::Os)?;
            d.flush()?;
            d.drop_family("a")?;
            d.writes(3, Durability::Os)?;
            d.create_family("b")?;
            d.writes(3, Durability::Synced)
        },
    },
    Workload {
        name: "manifest rolls",
        options: |o| o.max_manifest_file_size = 300,
        script: |d| {
            d.open()?;
            for _ in 0..4 {
                d.writes(3, Durability::Os)?;
                d.flush()?;
            }
            d.compact()
        },
    },
    Workload {
        name: "live files held while tables, logs and manifests are replaced",
        options: |o| o.max_manifest_file_size = 300,
        script: |d| {
            d.open()?;
            d.write(Durability::Buffered)?;
            for _ in 0..2 {
                d.hold()?;
                d.writes(3, Durability::Os)?;
                d.flush()?;
                d.hold()?;
                d.compact()?;
                d.write(Durability::Synced)?;
            }
            d.let_go()?;
            d.writes(2, Durability::Os)?;
            d.flush()?;
            d.close()
        },
    },
    Workload {
        name: "blob files, made and collected",
        options: |o| {
            o.family.enable_blob_files = true;
            o.family.min_blob_size = 25;
            o.family.blob_file_size = 1024;
            o.family.enable_blob_garbage_collection = true;
            o.family.blob_garbage_collection_age_cutoff = 0.5;
            o.family.blob_garbage_collection_force_threshold = 0.3;
        },
        script: |d| {
            d.open()?;
            for _ in 0..3 {
                d.writes(5, Durability::Os)?;
                d.flush()?;
            }
            d.compact()?;
            d.writes(5, Durability::Os)?;
            d.reopen()?;
            d.compact()?;
            d.steps()
        },
    },
    Workload {
        name: "blob files of replayed logs, families come and go",
        options: |o| {
            o.family.enable_blob_files = true;
            o.avoid_flush_during_shutdown = true;
            o.max_manifest_file_size = 300;
        },
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            d.writes(3, Durability::Os)?;
            d.write(Durability::Synced)?;
            d.reopen()?;
            d.drop_family("a")?;
            d.writes(3, Durability::Os)?;
            d.flush()?;
            d.writes(2, Durability::Os)?;
            d.compact()?;
            d.reopen()
        },
    },
    Workload {
        name: "reopened with logs to replay",
        options: |o| o.avoid_flush_during_shutdown = true,
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            for _ in 0..3 {
                d.writes(4, Durability::Os)?;
                d.write(Durability::Synced)?;
                d.reopen()?;
            }
            Ok(())
        },
    },
    Workload {
        name: "memtables switch over families",
        options: |o| o.family.write_buffer_size = 1024,
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            for _ in 0..6 {
                d.writes(4, Durability::Os)?;
                d.write(Durability::Synced)?;
            }
            Ok(())
        },
    },
    Workload {
        name: "atomic flush over families",
        options: |o| {
            o.atomic_flush = true;
            o.family.write_buffer_size = 1024;
        },
        script: |d| {
            d.open()?;
            d.create_family("a")?;
            d.writes(16, Durability::Os)?;
            d.flush()?;
            d.close()
        },
    },
];

struct Checked {
    images: u64,
    nested: u64,
}

/// A garbled end of MANIFEST that was never synced cannot be told from damage: the strict reader says so. Nothing that
/// was acknowledged lies there, but somebody has to look.
fn may_refuse(policy: &CrashPolicy, error: &firndb::Error) -> bool {
    let is_manifest = error.corruption().and_then(|found| found.file.as_ref()).is_some_and(|file| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("MANIFEST-"))
    });
    is_manifest
        && error.kind() == ErrorKind::Corruption
        && matches!(
            policy,
            CrashPolicy::RandomSectors
                | CrashPolicy::LengthOnlyGarbage
                | CrashPolicy::LengthOnlyZeros
                | CrashPolicy::Mixed
        )
}

/// Opens an image and checks what it holds; returns the number of batches it holds.
fn check(driver: &Driver, image: &MemoryFs, policy: &CrashPolicy, place: &str, crashes: usize) -> Option<usize> {
    let mut options = driver.options.clone();
    options.fs = Arc::new(image.clone());
    // A crash before CURRENT leaves no database, which is a prefix too.
    let db = match Db::open_with(DIR, options) {
        Ok(db) => db,
        Err(error) if may_refuse(policy, &error) => return None,
        Err(error) => panic!("{place}: open: {error}"),
    };
    let found = contents(&db, &driver.dropped).unwrap_or_else(|error| panic!("{place}: read: {error}"));
    let prefix = (driver.durable..=driver.history.len()).rev().find(|count| driver.state(*count) == found);
    assert!(
        prefix.is_some(),
        "{place}: not a prefix of at least {} of {} batches: {:?}",
        driver.durable,
        driver.history.len(),
        db.recovery_report()
    );
    // A table that is kept holds what the logs lost, or is damaged. A process that ends loses no log; one more that ends
    // before the first edit of its MANIFEST takes along the knowledge of what is old.
    let set_aside = &db.recovery_report().set_aside;
    if crashes == 1 && matches!(policy, CrashPolicy::KeepAll) && !driver.has_unlogged {
        assert!(set_aside.is_empty(), "{place}: {set_aside:?}");
    }
    for family in &driver.families {
        assert!(db.column_family(family).is_ok(), "{place}: family {family} is gone");
    }
    // Life goes on.
    db.put("after", "the crash").unwrap_or_else(|error| panic!("{place}: write: {error}"));
    db.flush().unwrap_or_else(|error| panic!("{place}: flush: {error}"));
    db.compact_range::<&[u8]>(..).unwrap_or_else(|error| panic!("{place}: compact: {error}"));
    while db.run_background_step() {}
    let mut expected = found;
    expected.entry("default".to_owned()).or_default().insert(b"after".to_vec(), b"the crash".to_vec());
    assert_eq!(contents(&db, &driver.dropped).expect("reads"), expected, "{place}: after more work");
    db.close().unwrap_or_else(|error| panic!("{place}: close: {error}"));
    drop(db);
    let mut options = driver.options.clone();
    options.fs = Arc::new(image.clone());
    let report = verify_directory(DIR, &options, &mut |_| {}).expect("readable");
    assert!(report.damages.is_empty(), "{place}: {:?}", report.damages);
    // A lost table may refer to blob files.
    let has_lost = report.notes.iter().any(|note| note.starts_with("lost/ has "));
    let is_expected =
        |note: &String| note.starts_with("lost/ has ") || (has_lost && note.ends_with(".blob is in no version"));
    assert!(report.notes.iter().all(is_expected), "{place}: {:?}", report.notes);
    prefix
}

/// Cuts a workload off at call `index`; `None` if it ends before.
fn cut(workload: &Workload, index: u64) -> Option<(Driver, MemoryFs)> {
    let fs = MemoryFs::new();
    fs.crash_after(index);
    let mut driver = Driver::new(&fs, workload.options);
    let result = (workload.script)(&mut driver);
    let is_cut = result.is_err();
    driver.db = None;
    is_cut.then_some((driver, fs))
}

fn run(workload: &Workload, seed: u64, checked: &mut Checked) {
    let fs = MemoryFs::new();
    fs.lint(true);
    let mut driver = Driver::new(&fs, workload.options);
    (workload.script)(&mut driver).unwrap_or_else(|error| panic!("{}: without a crash: {error}", workload.name));
    drop(driver.db.take());
    // Records of a log that nobody asked to sync replace no file: removing one beside them loses nothing.
    let only_logs = |hazard: &Hazard| match &hazard.kind {
        HazardKind::RemovedBeforeDurable(names) => names.iter().all(|name| name.ends_with(".log")),
        _ => false,
    };
    let hazards: Vec<Hazard> = fs.hazards().into_iter().filter(|hazard| !only_logs(hazard)).collect();
    assert!(hazards.is_empty(), "{}: {hazards:?}", workload.name);
    let calls: Vec<u64> = fs.ops().iter().map(|op| op.index).collect();
    for (position, index) in calls.iter().enumerate() {
        let Some((driver, crashed)) = cut(workload, *index) else { continue };
        for (number, policy) in CrashPolicy::ALL.iter().enumerate() {
            let image_seed = seed * 100_000 + index * 10 + number as u64;
            let image = crashed.crash_image(policy, image_seed);
            let place = format!("{}, cut at call {index}, {policy:?}, seed {image_seed}", workload.name);
            // A second crash, inside of the recovery from the first.
            if (position + number) % 7 == 0 {
                nested(&driver, &image, policy, &place, checked);
            }
            check(&driver, &image, policy, &place, 1);
            checked.images += 1;
        }
    }
}

fn nested(driver: &Driver, image: &MemoryFs, policy: &CrashPolicy, place: &str, checked: &mut Checked) {
    let copy = image.crash_image(&CrashPolicy::KeepAll, 0);
    copy.clear_ops();
    let mut options = driver.options.clone();
    options.fs = Arc::new(copy.clone());
    drop(Db::open_with(DIR, options));
    let calls: Vec<u64> = copy.ops().iter().map(|op| op.index).collect();
    for index in calls.iter().step_by((calls.len() / 4).max(1)) {
        let again = image.crash_image(&CrashPolicy::KeepAll, 0);
        again.crash_after(*index);
        let mut options = driver.options.clone();
        options.fs = Arc::new(again.clone());
        drop(Db::open_with(DIR, options));
        let second = again.crash_image(policy, *index);
        check(driver, &second, policy, &format!("{place}, then at call {index} of the recovery"), 2);
        checked.nested += 1;
    }
}

#[test]
fn every_crash_leaves_a_prefix_of_the_history() {
    let mut checked = Checked { images: 0, nested: 0 };
    let first = from_environment("FIRN_SEED").unwrap_or(1);
    for seed in first..first + from_environment("FIRN_CRASH_ROUNDS").unwrap_or(1) {
        for workload in WORKLOADS {
            run(workload, seed, &mut checked);
        }
    }
    println!("{} crash images, {} of crashes inside of a recovery", checked.images, checked.nested);
    assert!(checked.images > 20_000, "{} images are too few to mean something", checked.images);
    assert!(Path::new(DIR).is_absolute());
}
