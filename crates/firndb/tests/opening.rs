//! An opening that fails, wherever, leaves nothing behind: no thread, no lock, no family that is half made.
//!
//! One test alone in its process: it counts the engine's threads.

use std::sync::Arc;

use firndb::{Db, Error, ErrorKind, Fault, FaultEffect, MemoryFs, Options};
use firndb_testkit::eventually;

fn options(fs: &MemoryFs) -> Options {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.fs = Arc::new(fs.clone());
    options.create_column_families = vec!["first".into(), "second".into()];
    options
}

/// Threads of this process that are the engine's; none where nobody can tell.
fn threads() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let names = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("firndb-")).collect()
}

fn assert_nothing_runs(after: &str) {
    // A thread that was joined may be listed for a moment longer.
    eventually(&format!("no thread after {after}"), || threads().is_empty());
}

#[test]
fn a_failed_opening_leaves_no_thread_no_lock_and_no_half_made_family() {
    let fs = MemoryFs::new();
    for names in [vec![String::new()], vec!["good".to_owned(), String::new()]] {
        let refused = Options { create_column_families: names, ..options(&fs) };
        let error = Db::open_with("/db", refused).map(drop).expect_err("a family needs a name");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert_nothing_runs("a name that is none");
        assert!(fs.paths().is_empty(), "refused before anything was made: {:?}", fs.paths());
    }

    let mut failed = 0;
    for index in 0.. {
        let fs = MemoryFs::new();
        fs.inject(Fault::at(index, FaultEffect::Eio));
        let outcome: Result<(), Error> = Db::open_with("/db", options(&fs)).map(drop);
        let is_struck = fs.faults_struck() > 0;
        fs.clear_faults();
        assert_nothing_runs(&format!("call {index}: {outcome:?}"));
        failed += u32::from(outcome.is_err());
        let db = Db::open_with("/db", options(&fs)).unwrap_or_else(|error| panic!("after call {index}: {error}"));
        let names: Vec<_> = db.column_families().iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names.len(), 3, "after call {index}: {names:?}");
        for family in db.column_families() {
            family.put("key", "value").expect("written");
            family.flush().expect("flushed");
        }
        db.close().expect("closes");
        drop(db);
        if !is_struck {
            break;
        }
    }
    assert!(failed > 20, "{failed} calls failed");
}
