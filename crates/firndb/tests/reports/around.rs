//! The world around a directory: other processes, other names of it, and those who only read.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use firndb::{Db, ErrorKind, Fs, Options};

use crate::lab::{DIR, Lab, all, eventually, fill, settle};
use crate::patience::in_time;

/// Says to another process of this program which directory to open.
const ASKED: &str = "FIRN_REPORTS_OPEN";

fn options() -> Options {
    let mut options = Options::default();
    options.create_if_missing = true;
    options
}

/// What another process is: this test alone, which opens the directory that it is told and says how that went.
#[test]
fn another_process_opens_what_it_is_told() {
    if let Some(dir) = std::env::var_os(ASKED) {
        std::process::exit(match Db::open_with(dir, options()) {
            Ok(db) => {
                for number in 0..30 {
                    db.put(format!("theirs{number}"), "value").expect("written");
                    if number % 10 == 9 {
                        db.flush().expect("flushed");
                    }
                }
                db.put("in a log", "value").expect("written");
                // And ends without closing: tables and a log stay.
                10
            }
            Err(error) if error.kind() == ErrorKind::Locked => 11,
            Err(_) => 12,
        });
    }
}

fn ask_another_process(dir: &Path) -> i32 {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "around::another_process_opens_what_it_is_told"]).env(ASKED, dir);
    command.output().expect("it runs").status.code().expect("it ends")
}

/// facebook/rocksdb#1780: a second open in the same process failed, but closed the lock's file, and with that gave the lock
/// away: then another process could open the directory.
#[test]
fn a_second_open_of_the_same_process_fails_and_gives_no_lock_away() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path().join("db");
    let db = Db::open_with(&dir, options()).expect("opened");
    db.put("key", "value").expect("written");
    symlink(&dir, scratch.path().join("link")).expect("made");
    std::fs::hard_link(dir.join("LOCK"), scratch.path().join("another name")).expect("made");
    let names = [dir.clone(), scratch.path().join("link"), scratch.path().join("link/../db/."), dir.join("")];
    for name in &names {
        let refused = Db::open_with(name, options()).map(drop).expect_err("it is open");
        assert_eq!(refused.kind(), ErrorKind::Locked, "{}: {refused}", name.display());
        Db::open_read_only(name, options()).expect("readers need no lock").close().expect("closes");
        firndb::verify_directory(name, &options(), &mut |_| {}).expect("readable");
        assert_eq!(ask_another_process(&dir), 11, "after an open of {}", name.display());
    }
    // Whoever else of this process reads the file and closes it.
    std::fs::read(dir.join("LOCK")).expect("read");
    std::fs::read(scratch.path().join("another name")).expect("read");
    std::fs::copy(dir.join("LOCK"), scratch.path().join("copy")).expect("copied");
    assert_eq!(ask_another_process(&dir), 11);
    db.close().expect("closes");
    assert_eq!(ask_another_process(&dir), 10);
    let db = Db::open_with(&dir, options()).expect("it is free again");
    assert_eq!(db.get("key").expect("read").as_deref(), Some(&b"value"[..]));
    db.close().expect("closes");
}

/// dgraph-io/badger#763: a database that was opened for reading only compacted when it was closed, and failed.
/// cockroachdb/pebble#757: it took the lock, so that nobody could read beside a writer.
#[test]
fn whoever_opens_for_reading_only_makes_no_change_at_all_however_much_there_is_to_do() {
    let lab = Lab::new().change(|options| options.family.level0_file_num_compaction_trigger = 2);
    let db = lab.open();
    for round in 0..5 {
        fill(&db, 50, &format!("{round}"));
        db.flush().expect("flushed");
    }
    let map = fill(&db, 80, "in a log");
    // A crash: logs to replay, orphans to remove, level 0 to compact.
    let crashed = lab.crash(firndb::CrashPolicy::KeepAll, 1);
    let orphan = Path::new(DIR).join("000777.sst");
    crashed.fs.create(&orphan, firndb::CreateMode::New).expect("made").append(b"no table").expect("written");
    let before = crashed.fs.paths();
    crashed.fs.clear_ops();
    for _ in 0..2 {
        let reader = Db::open_read_only(DIR, crashed.options.clone()).expect("it opens");
        assert_eq!(all(&reader), map);
        settle(&reader);
        for refused in [reader.put("key", "value"), reader.flush(), reader.compact_range::<&[u8]>(..)] {
            assert_eq!(refused.expect_err("for reading").kind(), ErrorKind::ReadOnly);
        }
        assert!(reader.set_options(&[("block_size", "512")]).is_err());
        assert!(reader.create_column_family("new").is_err());
        reader.close().expect("closes");
    }
    let changes: Vec<_> = crashed.fs.ops().into_iter().filter(|op| op.op.changes_disk()).collect();
    assert!(changes.is_empty(), "{changes:?}");
    assert_eq!(crashed.fs.paths(), before);
    db.close().expect("closes");
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path()).expect("read")))
        .collect()
}

/// facebook/rocksdb#10353, ClickHouse/ClickHouse#111958: the directory was renamed while the database was open, and another
/// database was made in its place: both wrote and removed files of the same names there.
#[test]
fn a_database_whose_directory_was_moved_away_leaves_the_one_that_is_there_now_alone() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (here, moved) = (scratch.path().join("db"), scratch.path().join("moved"));
    let mut options = options();
    options.background_retry = Duration::from_millis(20);
    options.family.write_buffer_size = 4096;
    options.family.level0_file_num_compaction_trigger = 2;
    let db = Db::open_with(&here, options.clone()).expect("opened");
    let fill = |from: usize, to: usize| (from..to).try_for_each(|number| db.put(format!("{number:05}"), [b'v'; 100]));
    fill(0, 100).expect("written");
    db.flush().expect("flushed");
    assert!(db.get("00007").expect("read").is_some());
    std::fs::rename(&here, &moved).expect("moved");
    assert_eq!(ask_another_process(&here), 10, "there is a database of the same path now");
    let theirs = files(&here);
    assert!(theirs.keys().any(|name| name.ends_with(".sst")) && theirs.keys().any(|name| name.ends_with(".log")));

    assert!(fill(100, 400).is_err(), "a new table, or a new log, has no place");
    for refused in [db.flush(), db.compact_range::<&[u8]>(..), db.create_column_family("new").map(drop)] {
        refused.expect_err("refused");
    }
    let cause = db.health().cause.expect("it is ill");
    assert!(cause.to_string().contains("was moved away, and another directory is there"), "{cause}");
    assert!(db.get("00007").expect("open tables are read").is_some());
    assert!(files(&here) == theirs, "not one file made, removed or changed");
    // Back again, everything goes on.
    std::fs::rename(&here, scratch.path().join("theirs")).expect("moved");
    std::fs::rename(&moved, &here).expect("moved");
    eventually("writes go on", || db.put("again", "value").is_ok());
    fill(400, 500).expect("written");
    db.flush().expect("flushed");
    // Away for good: closing says what it could not do, and touches nothing.
    std::fs::rename(&here, &moved).expect("moved");
    std::fs::rename(scratch.path().join("theirs"), &here).expect("moved");
    db.put("last", "value").expect("the log is open");
    let own = db.clone();
    in_time("close", move || own.close()).expect_err("the last flush has no place");
    drop(db);
    assert!(files(&here) == theirs);
    let db = Db::open_with(&moved, options).expect("opened by its new name");
    assert!(db.get("last").expect("read").is_some() && db.get("00499").expect("read").is_some());
    db.close().expect("closes");
}

/// facebook/rocksdb#7326 is what the same leaves when the directory is simply gone.
#[test]
fn a_database_whose_directory_was_removed_says_so_and_can_be_closed_and_made_again() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path().join("db");
    for _ in 0..3 {
        let db = Db::open_with(&dir, options()).expect("opened");
        db.put("key", "value").expect("written");
        std::fs::remove_dir_all(&dir).expect("removed");
        let refused = db.flush().expect_err("there is no place for a table");
        assert!(refused.to_string().contains("was moved or removed"), "{refused}");
        let own = db.clone();
        in_time("close", move || own.close()).expect_err("the last flush failed");
        assert!(!dir.exists(), "nothing is made anew behind the user's back");
    }
}

/// cockroachdb/pebble#3399: a directory's lock was known under one spelling of its path only.
#[test]
fn a_directory_has_one_name_whatever_it_was_called_when_it_was_opened() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path().join("db");
    std::fs::create_dir(&dir).expect("made");
    symlink("db", scratch.path().join("link")).expect("made");
    for name in ["db", "link", "./db", "link/", "db/../link/."] {
        let db = Db::open_with(scratch.path().join(name), options()).expect("opened");
        db.put("key", name).expect("written");
        for other in ["db", "link", "./link/../db"] {
            let refused = Db::open_with(scratch.path().join(other), options()).map(drop).expect_err("it is open");
            assert_eq!(refused.kind(), ErrorKind::Locked, "{name}, {other}: {refused}");
        }
        db.close().expect("closes");
    }
    let entries = std::fs::read_dir(scratch.path()).expect("a directory").count();
    assert_eq!(entries, 2, "the directory and the link");
}

/// google/leveldb#181: five databases of one program kept to their limits of open files each, and not together to that of the
/// process: reads failed.
#[test]
fn databases_that_have_all_of_the_processs_descriptors_together_give_some_to_one_that_has_none() {
    let lab = Lab::new();
    let name = |number: usize| format!("/descriptors{number}");
    for number in 0..4 {
        let db = Db::open_with(name(number), lab.options.clone()).expect("it opens");
        for table in 0..40 {
            db.put(format!("{table:02}"), "value").expect("written");
            db.flush().expect("flushed");
        }
        db.close().expect("closes");
    }
    lab.fs.set_open_files_max(Some(100));
    let open =
        |number: usize| Db::open_with(name(number), lab.options.clone()).expect("it opens, whoever has descriptors");
    let first = open(0);
    let databases: Vec<Db> = std::iter::once(first).chain((1..4).map(open)).collect();
    for _ in 0..3 {
        for db in &databases {
            assert_eq!(all(db).len(), 40);
            db.put("more", "value").expect("written");
            db.flush().expect("flushed");
            db.delete("more").expect("written");
            db.create_column_family("new").expect("made");
            db.drop_column_family("new").expect("dropped");
        }
    }
    for db in databases {
        db.compact_range::<&[u8]>(..).expect("compacted");
        assert_eq!(all(&db).len(), 40);
        db.close().expect("closes");
    }
    lab.assert_no_bugs();
}
