//! Live files: what is copied of them is the database at their moment, whatever goes on beside: T21.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use firndb::{
    CloseMode, ColumnFamily, CreateMode, Db, Durability, ErrorKind, Fault, FaultEffect, Fs, FsOp, LiveFiles, MemoryFs,
    Options, PinKind, WriteBatch, WriteOptions, verify_directory,
};

use crate::lab::{DIR, Lab, Map, ORDERLY, Random, all, contents, eventually, fill, manifest_tables, settle};

/// Every family's entries.
type State = BTreeMap<String, Map>;

fn state(db: &Db) -> State {
    db.column_families().iter().map(|family| (family.name().to_owned(), contents(family))).collect()
}

/// The first `bytes` of a file, which must have them.
fn piece(fs: &MemoryFs, path: &Path, bytes: u64) -> Vec<u8> {
    let mut piece = vec![0; bytes as usize];
    let file = fs.open_random(path).unwrap_or_else(|error| panic!("it is gone: {error}"));
    assert_eq!(file.read_at(0, &mut piece).expect("memory"), piece.len(), "{} is too short", path.display());
    piece
}

/// Copies some of the files to another disk, as many bytes as the list says.
fn copy_some(fs: &MemoryFs, files: &LiveFiles, to: &MemoryFs, is_wanted: impl Fn(&str) -> bool) {
    to.create_dir_all(DIR.as_ref()).expect("memory");
    for file in files.files() {
        let name = file.path.file_name().and_then(|name| name.to_str()).expect("a name");
        if is_wanted(name) {
            let bytes = match &file.contents {
                Some(contents) => contents.clone().into_bytes(),
                None => piece(fs, &file.path, file.bytes),
            };
            assert_eq!(bytes.len() as u64, file.bytes, "{name}");
            if file.is_final {
                assert_eq!(fs.file_size(&file.path).expect("there"), file.bytes, "{name} never changes");
            }
            to.create(&Path::new(DIR).join(name), CreateMode::New).expect("once").append(&bytes).expect("memory");
        }
    }
}

/// The copy opens as `expected`, is sound, and has the writes up to the number that was named.
fn assert_copy_is(files: &LiveFiles, copy: &MemoryFs, expected: &State, options: &Options) {
    let options = Options { fs: Arc::new(copy.clone()), create_if_missing: false, ..options.clone() };
    let db = Db::open_with(DIR, options.clone()).expect("the copy opens");
    assert_eq!(&state(&db), expected, "{files:?}");
    assert_eq!(db.latest_sequence(), files.sequence());
    let report = db.recovery_report();
    assert!(report.dropped.is_empty() && report.set_aside.is_empty(), "{report:?}");
    db.close().expect("closed");
    let report = verify_directory(DIR, &options, &mut |_| {}).expect("readable");
    assert!(report.damages.is_empty() && report.notes.is_empty(), "{report:?}");
}

/// Copies all files and checks the copy.
fn check_copy(lab: &Lab, files: &LiveFiles, expected: &State) {
    let copy = MemoryFs::new();
    copy_some(&lab.fs, files, &copy, |_| true);
    files.check().expect("kept until now");
    assert_copy_is(files, &copy, expected, &lab.options);
}

fn names(lab: &Lab, start: &str) -> Vec<String> {
    let paths = lab.fs.paths().into_iter().filter(|path| path.starts_with(DIR));
    paths
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| name.starts_with(start))
        .collect()
}

/// Bytes of everything in the directory.
fn bytes(lab: &Lab) -> u64 {
    let paths = lab.fs.paths().into_iter().filter(|path| path.starts_with(DIR));
    paths.filter_map(|path| lab.fs.file_size(&path).ok()).sum()
}

/// Makes MANIFEST fail once and be replaced.
fn replace_manifest(lab: &Lab, db: &Db) {
    let before = names(lab, "MANIFEST-");
    lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio));
    db.put("before MANIFEST fails", "x").expect("written");
    db.flush().expect_err("MANIFEST fails");
    for _ in 0..20 {
        lab.clock.advance(Duration::from_secs(5));
        settle(db);
    }
    db.put("after MANIFEST failed", "x").expect("writes go on");
    assert_ne!(names(lab, "MANIFEST-"), before);
}

/// No obsolete file is left: nobody holds anything, and every memtable is a table.
fn assert_nothing_is_left(lab: &Lab, db: &Db) {
    db.column_families().iter().for_each(|family| family.flush().expect("flushed"));
    settle(db);
    lab.assert_disk_is_manifest();
    assert_eq!((lab.files(".log").len(), names(lab, "OPTIONS-").len()), (1, 1), "{:?}", names(lab, ""));
    lab.assert_no_bugs();
}

#[test]
fn t21_files_of_a_moment_stay_whatever_becomes_of_tables_logs_manifest_options_and_families() {
    let lab = Lab::new();
    let db = lab.open();
    let other = db.create_column_family("other").expect("made");
    fill(&db, 200, "first");
    other.put("key", "in a table").expect("written");
    db.compact_range::<&[u8]>(..).expect("compacted");
    other.flush().expect("flushed");
    fill(&db, 100, "second");
    db.flush().expect("flushed");
    fill(&db, 50, "in the log");
    other.put("log", "x").expect("written");
    let mut buffered = WriteBatch::new();
    buffered.put("buffered", "x");
    db.write_with(&mut buffered, &WriteOptions::with_durability(Durability::Buffered)).expect("written");
    let expected = state(&db);
    let files = db.live_files().expect("live files");
    assert_eq!(files.sequence(), db.latest_sequence());
    let before: Vec<_> = files.files().to_vec();

    fill(&db, 250, "third");
    db.delete("key0000").expect("deleted");
    db.compact_range::<&[u8]>(..).expect("compacted");
    replace_manifest(&lab, &db);
    db.set_options(&[("write_buffer_size", "2m")]).expect("changed");
    drop(other);
    db.drop_column_family("other").expect("dropped");
    let young = db.create_column_family("young").expect("made");
    young.put("key", "x").expect("written");
    fill(&db, 300, "fourth");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    drop(young);
    let copied = lab.fs.paths().into_iter().filter(|path| before.iter().any(|file| &file.path == path)).count();
    assert_eq!(copied, before.len(), "all of them are there");
    let live = names(&lab, "MANIFEST-");
    assert_eq!(live.len(), 2, "the one that was replaced stays: {live:?}");
    check_copy(&lab, &files, &expected);

    drop(files);
    settle(&db);
    let gone = before.iter().filter(|file| !lab.fs.exists(&file.path).expect("memory")).count();
    assert_eq!(gone, before.len() - 1, "all but CURRENT are obsolete");
    assert_nothing_is_left(&lab, &db);
    let expected = all(&db);
    db.close().expect("nothing is open");
    lab.verify();
    assert_eq!(all(&lab.open()), expected);
}

struct Held {
    files: LiveFiles,
    expected: State,
    copy: MemoryFs,
    has_logs: bool,
}

/// A database under random work, and several sets of its live files.
struct Work {
    lab: Lab,
    db: Db,
    model: State,
    held: Vec<Held>,
    random: Random,
    copies: usize,
    kept_bytes: u64,
}

impl Work {
    fn new(seed: u64) -> Work {
        let lab = Lab::new().change(|options| {
            options.max_manifest_file_size = 3000;
            options.family.write_buffer_size = 4096;
        });
        let db = lab.open();
        let model = State::from([("default".to_owned(), Map::new())]);
        Work { lab, db, model, held: Vec::new(), random: Random(seed), copies: 0, kept_bytes: 0 }
    }

    fn some_family(&mut self) -> String {
        let at = self.random.below(self.model.len() as u64) as usize;
        self.model.keys().nth(at).expect("there is the default one").clone()
    }

    fn some_handle(&mut self) -> ColumnFamily {
        let name = self.some_family();
        self.db.column_family(&name).expect("there")
    }

    fn write(&mut self) {
        let mut batch = WriteBatch::new();
        let mut next = self.model.clone();
        for _ in 0..=self.random.below(8) {
            let name = self.some_family();
            let family = self.db.column_family(&name).expect("there");
            let map = next.get_mut(&name).expect("there");
            let key = format!("key{:02}", self.random.below(60)).into_bytes();
            if self.random.below(4) == 0 {
                batch.delete_cf(&family, &key);
                map.remove(&key);
            } else {
                let value = format!("{} {}", self.random.below(1000), "x".repeat(self.random.below(60) as usize));
                batch.put_cf(&family, &key, &value);
                map.insert(key, value.into_bytes());
            }
        }
        let class = [Durability::Os, Durability::Buffered, Durability::Synced, Durability::NoWal];
        let durability = class[self.random.below(4) as usize];
        // Refused for a while after MANIFEST failed.
        match self.db.write_with(&mut batch, &WriteOptions::with_durability(durability)) {
            Ok(()) => self.model = next,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ReadOnly),
        }
    }

    fn family_comes_or_goes(&mut self) {
        let name = format!("family{}", self.random.below(3));
        let done = match self.model.contains_key(&name) {
            true => self.db.drop_column_family(&name),
            false => self.db.create_column_family(&name).map(drop),
        };
        if let Err(error) = done {
            assert!(matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Io), "{error}");
        }
        // OPTIONS may have failed, with the family gone.
        match self.db.column_family(&name) {
            Ok(_) => _ = self.model.entry(name).or_default(),
            Err(_) => drop(self.model.remove(&name)),
        }
    }

    fn hold(&mut self) {
        match self.db.live_files() {
            Ok(files) => {
                self.copies += 1;
                let copy = MemoryFs::new();
                self.held.push(Held { files, expected: self.model.clone(), copy, has_logs: false });
            }
            Err(error) => assert!(matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Io), "{error}"),
        }
    }

    fn some_held(&mut self) -> Option<usize> {
        (!self.held.is_empty()).then(|| self.random.below(self.held.len() as u64) as usize)
    }

    fn copy_logs(&mut self) {
        let Some(at) = self.some_held() else { return };
        let held = &mut self.held[at];
        if !held.has_logs {
            copy_some(&self.lab.fs, &held.files, &held.copy, |name| name.ends_with(".log"));
            held.files.release_logs();
            held.has_logs = true;
        }
    }

    /// Copies the rest, and lets the files go: as many bytes are free then as the pin says.
    fn copy_rest(&mut self) {
        let Some(at) = self.some_held() else { return };
        let held = self.held.remove(at);
        copy_some(&self.lab.fs, &held.files, &held.copy, |name| !(held.has_logs && name.ends_with(".log")));
        held.files.check().expect("kept until now");
        assert_copy_is(&held.files, &held.copy, &held.expected, &self.lab.options);
        settle(&self.db);
        let pins = self.db.pins();
        assert!(pins.iter().all(|pin| pin.kind == PinKind::LiveFiles) && pins.len() == self.held.len() + 1);
        let own = pins.iter().find(|pin| pin.id == self.id_of(&held)).expect("listed").exclusive_bytes;
        let before = bytes(&self.lab);
        drop(held);
        settle(&self.db);
        assert_eq!(before - bytes(&self.lab), own, "{pins:?}");
        self.kept_bytes += own;
    }

    /// The pins are in the order of their making, as the held files are: by the sequence number, which both have.
    fn id_of(&self, held: &Held) -> u64 {
        let pins = self.db.pins();
        let same = pins.iter().filter(|pin| pin.sequence == held.files.sequence());
        same.map(|pin| pin.id).next().expect("listed")
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.write(),
            // Either may be refused, or fail.
            50..56 => drop(self.some_handle().flush()),
            56..60 => drop(self.some_handle().compact_range::<&[u8]>(..)),
            60..70 => drop(self.db.run_background_step()),
            70..73 => self.family_comes_or_goes(),
            73..75 => self.lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio)),
            75..77 => self.lab.fs.inject(Fault::on(FsOp::Rename, "*.dbtmp", FaultEffect::Eio)),
            77..82 => self.lab.clock.advance(Duration::from_secs(5)),
            82..84 => {
                let size = format!("{}", 3000 + self.random.below(3000));
                drop(self.db.set_options(&[("write_buffer_size", &size)]));
            }
            84..88 if self.held.len() < 4 && !self.has_sequence() => self.hold(),
            88..94 => self.copy_logs(),
            94..97 => self.copy_rest(),
            _ => settle(&self.db),
        }
    }

    /// True if files of just this moment are held already.
    fn has_sequence(&self) -> bool {
        self.held.iter().any(|held| held.files.sequence() == self.db.latest_sequence())
    }
}

#[test]
fn t21_copies_made_under_random_work_are_the_model_at_their_moments_and_what_a_pin_keeps_is_what_its_end_frees() {
    let seed = std::env::var("FIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut copies, mut kept) = (0, 0);
    for seed in seed..seed + 12 {
        println!("FIRN_SEED={seed}");
        let mut work = Work::new(seed);
        (0..700).for_each(|_| work.step());
        work.lab.fs.clear_faults();
        while !work.held.is_empty() {
            work.copy_rest();
        }
        for _ in 0..20 {
            work.lab.clock.advance(Duration::from_secs(60));
            settle(&work.db);
        }
        assert_eq!(state(&work.db), work.model);
        assert_nothing_is_left(&work.lab, &work.db);
        work.db.close().expect("nothing is open");
        work.lab.verify();
        (copies, kept) = (copies + work.copies, kept + work.kept_bytes);
    }
    assert!(copies > 100 && kept > 100_000, "{copies} copies, {kept} bytes kept");
}

#[test]
fn a_log_that_is_held_keeps_those_after_it_until_the_logs_are_released() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 50, "first");
    let expected = state(&db);
    let files = db.live_files().expect("live files");
    for round in ["second", "third", "fourth"] {
        fill(&db, 50, round);
        db.flush().expect("flushed");
    }
    settle(&db);
    assert_eq!(lab.files(".log").len(), 4, "logs go in their order");
    let pins = db.pins();
    let logs: Vec<_> = lab.files(".log").into_iter().take(3).collect();
    assert_eq!(pins[0].files.iter().map(|file| file.0).collect::<Vec<_>>(), logs);
    assert!(logs.iter().all(|log| db.why_alive(firndb::FileNumber(*log)).len() == 1));
    let copy = MemoryFs::new();
    copy_some(&lab.fs, &files, &copy, |name| name.ends_with(".log"));
    let before = bytes(&lab);
    files.release_logs();
    settle(&db);
    assert_eq!(lab.files(".log").len(), 1);
    assert_eq!(before - bytes(&lab), pins[0].exclusive_bytes);
    copy_some(&lab.fs, &files, &copy, |name| !name.ends_with(".log"));
    files.check().expect("the rest is kept still");
    assert_copy_is(&files, &copy, &expected, &lab.options);
}

#[test]
fn two_lists_of_one_moment_share_what_they_keep_until_one_of_them_goes() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 100, "first");
    db.flush().expect("flushed");
    let (first, line) = (db.live_files().expect("live files"), line!());
    let second = db.live_files().expect("live files");
    let pins = db.pins();
    assert!(pins.iter().all(|pin| pin.kind == PinKind::LiveFiles && pin.family.is_none()));
    assert!(pins.iter().all(|pin| (pin.exclusive_bytes, pin.shared_bytes, pin.sequence) == (0, 0, first.sequence())));
    assert!(pins[0].to_string().starts_with("live files made at"), "{}", pins[0]);
    assert!(pins[0].site.file().ends_with("scenarios/live_files.rs") && pins[0].site.line() == line);
    fill(&db, 100, "second");
    db.compact_range::<&[u8]>(..).expect("compacted");
    replace_manifest(&lab, &db);
    settle(&db);
    let shared: Vec<_> = db.pins().iter().map(|pin| (pin.exclusive_bytes, pin.shared_bytes)).collect();
    assert!(shared[0].1 > 0 && shared[0].0 == 0 && shared[0] == shared[1], "{shared:?}");
    let before = bytes(&lab);
    drop(first);
    settle(&db);
    assert_eq!(bytes(&lab), before);
    let pins = db.pins();
    assert_eq!((pins[0].exclusive_bytes, pins[0].shared_bytes), (shared[0].1, 0));
    // Memory is not kept: the memtables of the moment are nobody's.
    assert_eq!((pins[0].exclusive_memtable_bytes, pins[0].shared_memtable_bytes), (0, 0));
    drop(second);
    settle(&db);
    assert_eq!(before - bytes(&lab), pins[0].exclusive_bytes);
    assert_nothing_is_left(&lab, &db);
}

#[test]
fn files_are_kept_over_a_crash_of_the_database_that_lists_them_and_are_gone_after_its_recovery() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 100, "first");
    db.flush().expect("flushed");
    let files = db.live_files().expect("live files");
    fill(&db, 150, "second");
    db.compact_range::<&[u8]>(..).expect("compacted");
    replace_manifest(&lab, &db);
    fill(&db, 50, "third");
    db.flush_wal(true).expect("synced");
    settle(&db);
    let expected = all(&db);
    for policy in ORDERLY {
        let image = lab.crash(policy, 3);
        let again = image.open();
        assert_eq!(all(&again), expected, "{policy:?}");
        settle(&again);
        image.assert_disk_is_manifest();
        again.close().expect("nothing is open");
        image.verify();
    }
    files.check().expect("kept until now");
}

#[test]
fn writes_that_are_in_no_log_are_in_the_files() {
    let lab = Lab::new();
    let db = lab.open();
    let other = db.create_column_family("other").expect("made");
    for durability in [Durability::NoWal, Durability::Buffered, Durability::NoWal] {
        for family in [db.default_column_family(), &other] {
            let mut batch = WriteBatch::new();
            batch.put_cf(family, format!("{durability:?} {}", db.latest_sequence()), "x");
            db.write_with(&mut batch, &WriteOptions::with_durability(durability)).expect("written");
        }
        let files = db.live_files().expect("live files");
        check_copy(&lab, &files, &state(&db));
    }
}

#[test]
fn what_a_copy_reads_goes_on_while_threads_write_flush_and_compact_and_is_let_go_on_another_thread() {
    let lab = Lab::with_threads().change(|options| {
        options.max_manifest_file_size = 2000;
        options.family.write_buffer_size = 4096;
        options.family.level0_file_num_compaction_trigger = 2;
    });
    let db = lab.open();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (shared, done) = (&db, &is_done);
        // Two keys always have the same value: a copy in which they differ is of no moment.
        let writer = scope.spawn(move || {
            let mut batch = WriteBatch::new();
            for round in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return round;
                }
                let value = format!("{round} {}", "x".repeat(100));
                batch.put(format!("left{}", round % 5), &value).put(format!("right{}", round % 5), &value);
                shared.write(&mut batch).expect("written");
            }
            0
        });
        for number in 0..25 {
            let copy = MemoryFs::new();
            let files = db.live_files().expect("live files");
            let snapshot = db.snapshot();
            copy_some(&lab.fs, &files, &copy, |name| name.ends_with(".log"));
            files.release_logs();
            copy_some(&lab.fs, &files, &copy, |name| !name.ends_with(".log"));
            files.check().expect("kept until now");
            let options = Options { fs: Arc::new(copy), ..lab.options.clone() };
            let again = Db::open_read_only(DIR, options).expect("the copy opens");
            assert_eq!(again.latest_sequence(), files.sequence());
            assert!(files.sequence() <= snapshot.sequence());
            let entries = all(&again);
            for at in 0..5 {
                let value = |side: &str| entries.get(format!("{side}{at}").as_bytes());
                assert_eq!(value("left"), value("right"), "copy {number}");
            }
            scope.spawn(move || drop(files)).join().expect("no panic");
        }
        is_done.store(true, Ordering::Relaxed);
        assert!(writer.join().expect("no panic") > 25);
    });
    db.flush().expect("flushed");
    eventually("everything obsolete is gone", || {
        let tables = manifest_tables(&lab.fs).0;
        lab.tables() == tables && lab.files(".log").len() == 1 && names(&lab, "MANIFEST-").len() == 1
    });
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn within_a_second_of_the_drop_everything_obsolete_is_gone_without_another_call() {
    let lab = Lab::with_threads();
    let db = lab.open();
    for _ in 0..5 {
        fill(&db, 100, "first");
        db.flush().expect("flushed");
        let files = db.live_files().expect("live files");
        fill(&db, 100, "second");
        db.compact_range::<&[u8]>(..).expect("compacted");
        db.set_options(&[("write_buffer_size", &(4096 + db.latest_sequence().0).to_string())]).expect("changed");
        lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST-*", FaultEffect::Eio));
        db.put("key", "x").expect("written");
        drop(db.flush());
        eventually("writes go on", || db.put("key", "y").is_ok() && db.flush().is_ok());
        let obsolete: Vec<_> = files.files().iter().filter(|file| file.contents.is_none()).cloned().collect();
        assert!(obsolete.iter().all(|file| lab.fs.exists(&file.path).expect("memory")));
        // The writes that go on are over: nobody but the janitor is at work.
        let dropped = Instant::now();
        std::thread::spawn(move || drop(files)).join().expect("no panic");
        eventually("all are gone", || obsolete.iter().all(|file| !lab.fs.exists(&file.path).expect("memory")));
        // A second, and what a busy machine takes.
        assert!(dropped.elapsed() < Duration::from_secs(3), "{:?}", dropped.elapsed());
    }
}

#[test]
fn closing_treats_live_files_as_it_treats_readers() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 100, "first");
    let expected = state(&db);
    let (files, line) = (db.live_files().expect("live files"), line!());
    let error = db.close().expect_err("they are open");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(
        error.to_string().contains(&format!("live files made at crates/firndb/tests/scenarios/live_files.rs:{line}"))
    );
    assert_eq!(db.assert_no_pins().expect_err("the same").to_string(), error.to_string());
    check_copy(&lab, &files, &expected);
    assert!(db.oust(db.pins()[0].id));
    assert_eq!(files.check().expect_err("ousted").kind(), ErrorKind::PinEvicted);
    drop(files);

    let files = db.live_files().expect("live files");
    db.close_with(CloseMode::Oust).expect("closed");
    assert_eq!(files.check().expect_err("ousted").kind(), ErrorKind::PinEvicted);
    assert_eq!(db.live_files().expect_err("closed").kind(), ErrorKind::Closed);
    let db = lab.open();
    assert_eq!(state(&db), expected, "the directory is free");
    drop(files);
    db.put("later", "x").expect("written");
    assert_nothing_is_left(&lab, &db);
}

#[test]
fn live_files_that_outlive_every_handle_stay_and_keep_the_directory_until_they_are_dropped() {
    for lab in [Lab::new(), Lab::with_threads()] {
        let db = lab.open();
        fill(&db, 100, "first");
        let expected = state(&db);
        let files = db.live_files().expect("live files");
        fill(&db, 100, "second");
        db.compact_range::<&[u8]>(..).expect("compacted");
        let after = state(&db);
        drop(db);
        assert_eq!(lab.try_open().expect_err("the files are listed").kind(), ErrorKind::Locked);
        check_copy(&lab, &files, &expected);
        drop(files);
        eventually("the directory is free", || lab.try_open().is_ok());
        let db = lab.open();
        assert_eq!(state(&db), after);
        settle(&db);
        lab.assert_disk_is_manifest();
    }
}

#[test]
fn where_files_cannot_be_kept_or_are_of_no_known_moment_live_files_are_refused_with_the_cause() {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 100, "first");
    let reader = Db::open_read_only(DIR, lab.options.clone()).expect("it opens");
    let error = reader.live_files().expect_err("a writer beside it removes what it likes");
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    drop(reader);
    lab.fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::Eio));
    db.put("key", "lost").expect_err("the log fails");
    let error = db.live_files().expect_err("nobody knows what the log holds");
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert!(error.to_string().contains(".log"), "{error}");
    assert!(db.pins().is_empty());
    for _ in 0..20 {
        lab.clock.advance(Duration::from_secs(5));
        settle(&db);
    }
    let files = db.live_files().expect("writes go on");
    check_copy(&lab, &files, &state(&db));
    drop(files);

    // What is buffered does not come to the log: the same.
    let mut buffered = WriteBatch::new();
    buffered.put("buffered", "x");
    db.write_with(&mut buffered, &WriteOptions::with_durability(Durability::Buffered)).expect("written");
    lab.fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::Eio));
    assert_eq!(db.live_files().expect_err("the log fails").kind(), ErrorKind::Io);
    for _ in 0..20 {
        lab.clock.advance(Duration::from_secs(5));
        settle(&db);
    }
    let files = db.live_files().expect("writes go on");
    check_copy(&lab, &files, &state(&db));
    drop(files);
    assert_nothing_is_left(&lab, &db);
}
