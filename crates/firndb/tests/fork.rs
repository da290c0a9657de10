//! A process that forks: the child has a copy of every handle, and nothing that it does with them reaches the parent's
//! database.
#![expect(unsafe_code, reason = "a fork, and waiting for what it made, have no safe interface")]

use std::collections::BTreeMap;
use std::fs::DirEntry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use firndb::{CloseMode, Db, Durability, ErrorKind, Options, ReadOptions, Result, WriteBatch, WriteOptions};
use firndb_testkit::eventually;

/// How long a child may take, in seconds: it is killed then, and has failed.
const CHILD_SECONDS: u32 = 60;

/// Runs `work` in a forked child, which then ends as programs do; true if it did not fail, and ended by itself.
fn in_child(work: impl FnOnce()) -> bool {
    // SAFETY: the child calls nothing that the handlers of `fork` have not made ready: the allocator, and what is tested here.
    match unsafe { libc::fork() } {
        -1 => panic!("no process to be had"),
        0 => {
            // SAFETY: takes a number, and kills this child later.
            unsafe { libc::alarm(CHILD_SECONDS) };
            let failed = catch_unwind(AssertUnwindSafe(work)).is_err();
            // SAFETY: ends the process.
            unsafe { libc::exit(i32::from(failed)) }
        }
        child => {
            let mut status = 0;
            // SAFETY: the child is ours, and `status` outlives the call.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status == 0
        }
    }
}

/// Every file of a directory, and a hash of what is in it.
fn files(dir: &Path) -> BTreeMap<String, u64> {
    let hashed = |entry: std::io::Result<DirEntry>| {
        let path = entry.expect("an entry").path();
        let mut hasher = DefaultHasher::new();
        std::fs::read(&path).unwrap_or_default().hash(&mut hasher);
        (path.file_name().expect("a name").to_string_lossy().into_owned(), hasher.finish())
    };
    std::fs::read_dir(dir).expect("a directory").map(hashed).collect()
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing = true;
    options
}

fn key(number: u32) -> String {
    format!("key{number:06}")
}

/// A database with tables, a family, a memtable, and records in the log's buffer.
fn filled(dir: &Path) -> Db {
    let db = Db::open_with(dir, options()).expect("opened");
    db.create_column_family("other").expect("made");
    for number in 0..300 {
        db.put(key(number), "value").expect("written");
        if number % 100 == 99 {
            db.flush().expect("flushed");
        }
    }
    let mut buffered = WriteOptions::default();
    buffered.durability = Durability::Buffered;
    for number in 300..350 {
        let mut batch = WriteBatch::new();
        batch.put(key(number), "value");
        db.write_with(&mut batch, &buffered).expect("written");
    }
    // The parent's own janitor is done with what was replaced: logs, OPTIONS.
    let is_one_log = || files(dir).keys().filter(|name| name.ends_with(".log")).count() <= 1;
    eventually("the janitor is through", || is_one_log() && db.stats().obsolete_files == 0);
    db
}

/// Goes on writing, closes, and finds everything at the next open.
fn go_on(db: Db, dir: &Path) {
    for number in 350..500 {
        db.put(key(number), "value").expect("written");
    }
    db.flush().expect("flushed");
    for number in 500..550 {
        db.put(key(number), "value").expect("written");
    }
    db.close().expect("closed");
    drop(db);
    let db = Db::open_with(dir, options()).expect("opened again");
    let keys: Vec<_> = db.iter().expect("opened").map(|entry| entry.expect("sound").0.to_vec()).collect();
    let expected: Vec<_> = (0..550).map(|number| key(number).into_bytes()).collect();
    assert_eq!(keys, expected);
    assert!(db.recovery_report().dropped.is_empty());
    db.close().expect("closed");
    let report = firndb::verify_directory(dir, &Options::default(), &mut |_| {}).expect("verified");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
}

#[test]
fn a_child_that_drops_what_it_inherited_leaves_the_parents_database_alone() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("db");
    let db = filled(&dir);
    let mut cursor = db.cursor(ReadOptions::default()).expect("opened");
    assert!(cursor.seek_to_first().expect("sound"));
    let (snapshot, value) = (db.snapshot(), db.get(key(7)).expect("sound"));
    let live = db.live_files().expect("live files");
    let before = files(&dir);
    assert!(in_child(|| drop((cursor, snapshot, value, live, db.clone(), db.default_column_family().clone()))));
    assert_eq!(files(&dir), before, "the child touched files");
    let mut db = Some(db);
    assert!(in_child(|| drop(db.take())));
    assert_eq!(files(&dir), before, "the child touched files");
    // The lock is the parent's still.
    assert!(in_child(|| assert_eq!(Db::open(&dir).expect_err("in use").kind(), ErrorKind::Locked)));
    go_on(db.expect("the parent's own"), &dir);
}

#[test]
fn a_child_is_refused_by_name_whatever_it_asks_for() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("db");
    let db = filled(&dir);
    let other = db.column_family("other").expect("made");
    let live = db.live_files().expect("live files");
    let before = files(&dir);
    let parent = std::process::id();
    assert!(in_child(|| {
        let refused = |what: &str, outcome: Result<()>| {
            let error = outcome.expect_err(what);
            assert_eq!(error.kind(), ErrorKind::ForkedProcess, "{what}: {error}");
            let text = error.to_string();
            assert!(text.contains(&parent.to_string()) && text.contains(&std::process::id().to_string()), "{text}");
        };
        let mut batch = WriteBatch::new();
        batch.put("child", "child");
        refused("put", db.put("child", "child"));
        refused("delete", other.delete("child"));
        refused("write", db.write(&mut batch));
        refused("an empty write", db.write(&mut WriteBatch::new()));
        refused("flush", db.flush());
        refused("flush_wal", db.flush_wal(true));
        refused("compact_range", db.compact_range::<&[u8]>(..));
        refused("create_column_family", db.create_column_family("child").map(drop));
        refused("drop_column_family", db.drop_column_family("other"));
        refused("close", db.close());
        refused("close, with readers ousted", db.close_with(CloseMode::Oust));
        refused("get", db.get("key000001").map(drop));
        refused("multi_get", db.multi_get(&["key000001"]).remove(0).map(drop));
        refused("iter", db.iter().map(drop));
        refused("live_files", db.live_files().map(drop));
        refused("a look at live files", live.check());
        assert!(!db.run_background_step());
        db.pause_background_work();
        db.continue_background_work();
    }));
    assert_eq!(files(&dir), before, "the child touched files");
    live.check().expect("the parent's own");
    drop((other, live));
    go_on(db, &dir);
}

#[test]
fn a_child_makes_databases_of_its_own_and_reads_beside_its_parent() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("db");
    let db = filled(&dir);
    db.flush_wal(false).expect("handed over");
    assert!(in_child(|| {
        let own = Db::open(scratch.path().join("own")).expect("opened");
        own.put("key", "value").expect("written");
        own.flush().expect("flushed");
        let beside = Db::open_read_only(&dir, Options::default()).expect("opened");
        assert_eq!(beside.iter().expect("opened").count(), 350);
        own.close().expect("closed");
    }));
    let own = Db::open(scratch.path().join("own")).expect("opened");
    assert!(own.get("key").expect("sound").is_some());
    go_on(db, &dir);
}

#[test]
fn a_child_of_a_parent_whose_threads_are_at_work_waits_for_none_of_them() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let dir = scratch.path().join("db");
    let mut small = options();
    small.family.write_buffer_size = 64 << 10;
    let db = Db::open_with(&dir, small).expect("opened");
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3u32 {
            let (db, is_done) = (&db, &is_done);
            scope.spawn(move || {
                for number in 0.. {
                    if is_done.load(Ordering::Relaxed) {
                        return;
                    }
                    db.put(format!("{thread}-{:06}", number % 5000), vec![7; 200]).expect("written");
                    db.get(format!("{thread}-{:06}", number / 2 % 5000)).expect("sound");
                }
            });
        }
        let all_ended = (0..40).all(|_| {
            let iter = db.iter().expect("opened");
            let handle = db.clone();
            in_child(|| {
                assert_eq!(handle.put("child", "child").expect_err("refused").kind(), ErrorKind::ForkedProcess);
                assert_eq!(handle.get("0-000001").expect_err("refused").kind(), ErrorKind::ForkedProcess);
                // What is in memory may be had, and what is not is refused.
                for entry in iter.take(2000) {
                    match entry {
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.kind(), ErrorKind::ForkedProcess, "{error}"),
                    }
                }
                assert_eq!(handle.close().expect_err("refused").kind(), ErrorKind::ForkedProcess);
                drop(handle);
            })
        });
        is_done.store(true, Ordering::Relaxed);
        assert!(all_ended, "a child failed, or did not end");
    });
    db.close().expect("closed");
    drop(db);
    let db = Db::open_with(&dir, options()).expect("opened again");
    assert!(db.get("child").expect("sound").is_none());
}
