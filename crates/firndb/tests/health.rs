//! What the database does and says when files are damaged underneath it.

use firndb::{Db, ErrorKind, Fault, FaultEffect, FsOp, HealthState, MemoryFs, Ticker};
use firndb_testkit::{decimal_key, small_options};

fn filled(fs: &MemoryFs) -> Db {
    let mut options = small_options(fs);
    options.family.disable_auto_compactions = true;
    let db = Db::open_with("/db", options).expect("opens");
    for part in 0..3 {
        (0..20).for_each(|number| db.put(decimal_key(number * 3 + part), [b'v'; 30]).expect("written"));
        db.flush().expect("flushed");
    }
    db
}

#[test]
fn a_damaged_table_is_left_out_of_compactions_named_and_everything_else_goes_on() {
    let fs = MemoryFs::new();
    filled(&fs).close().expect("closes");
    let tables: Vec<_> = fs.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    fs.damage(&tables[0], |bytes| bytes[40] ^= 0x10).expect("damaged");
    let db = Db::open_with("/db", small_options(&fs)).expect("tables are opened when they are needed");
    while db.run_background_step() {}
    let health = db.health();
    assert_eq!(health.state, HealthState::Degraded);
    assert_eq!(health.bad_files.len(), 1);
    let cause = health.cause.expect("there is one").to_string();
    assert!(cause.contains(tables[0].file_name().and_then(|name| name.to_str()).expect("a name")), "{cause}");
    // No loop: the damaged file keeps its level from being picked.
    assert!(!db.run_background_step());
    let error = db.compact_range::<&[u8]>(..).expect_err("it would have to read the damaged table");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains("left out of compactions"), "{error}");
    db.put("new", "value").expect("writes go on");
    db.flush().expect("flushes go on");
    assert_eq!(db.get("new").expect("readable").as_deref(), Some(&b"value"[..]));
    let outcomes: Vec<_> = (0..60).map(|number| db.get(decimal_key(number))).collect();
    assert!(outcomes.iter().any(|outcome| matches!(outcome, Ok(Some(_)))), "other tables are readable");
    let damage = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).expect("the damage is reported");
    assert_eq!(damage.kind(), ErrorKind::Corruption);
    assert!(db.ticker(Ticker::BlockChecksumMismatchCount) > 0);
    db.close().expect("closes");
    assert!(fs.paths().contains(&tables[0]), "damaged files are kept for whoever repairs");
}

#[test]
fn an_outage_sets_nothing_aside_however_long_and_everything_goes_on_when_it_ends() {
    for op in [FsOp::Append, FsOp::Read, FsOp::Sync] {
        let fs = MemoryFs::new();
        filled(&fs).close().expect("closes");
        let before = fs.paths();
        let mut options = small_options(&fs);
        let clock = std::sync::Arc::new(firndb::ManualClock::new(9));
        options.clock = clock.clone();
        let db = Db::open_with("/db", options).expect("opens");
        fs.inject(Fault::on(op, "*.sst", FaultEffect::Eio).sticky());
        let mut tries = Vec::new();
        for _ in 0..200 {
            while db.run_background_step() {}
            if tries.last() != Some(&db.health().tries) {
                tries.push(db.health().tries);
            }
            clock.advance(std::time::Duration::from_millis(500));
        }
        assert_eq!(tries, [1, 2, 3, 4, 5, 6, 7], "with waits of 1, 2, 4, 8, 16, 32 and 60 seconds");
        assert_eq!((db.health().state, db.health().bad_files.len()), (HealthState::Degraded, 0), "{op:?}");
        let tables = |paths: &[std::path::PathBuf]| -> Vec<std::path::PathBuf> {
            paths.iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).cloned().collect()
        };
        assert_eq!(tables(&fs.paths()), tables(&before), "outputs of failed tries are removed");
        fs.clear_faults();
        clock.advance(std::time::Duration::from_secs(60));
        while db.run_background_step() {}
        assert_eq!(db.health().state, HealthState::Healthy);
        assert!(db.stats().families[0].levels[0].files == 0, "compacted");
        assert_eq!(firndb_testkit::contents(&db).expect("readable")["default"].len(), 60);
        db.close().expect("closes");
    }
}

#[test]
fn a_table_that_is_damaged_and_then_is_not_takes_part_in_compactions_again() {
    let fs = MemoryFs::new();
    filled(&fs).close().expect("closes");
    let table = fs.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).expect("three");
    fs.damage(&table, |bytes| bytes[40] ^= 0x10).expect("damaged");
    let mut options = small_options(&fs);
    let clock = std::sync::Arc::new(firndb::ManualClock::new(9));
    options.clock = clock.clone();
    let db = Db::open_with("/db", options).expect("opens");
    for _ in 0..10 {
        while db.run_background_step() {}
        clock.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!((db.health().state, db.health().bad_files.len()), (HealthState::Degraded, 1));
    // A cable was loose.
    fs.damage(&table, |bytes| bytes[40] ^= 0x10).expect("mended");
    for _ in 0..20 {
        while db.run_background_step() {}
        clock.advance(std::time::Duration::from_secs(1));
    }
    assert_eq!(db.health().state, HealthState::Healthy, "{:?}", db.health());
    assert_eq!(db.stats().families[0].levels[0].files, 0, "compacted");
    assert_eq!(firndb_testkit::contents(&db).expect("readable")["default"].len(), 60);
    db.close().expect("closes");
}

#[test]
fn a_bit_that_flips_on_the_way_from_the_disk_is_read_again_and_counted() {
    let fs = MemoryFs::new();
    let db = filled(&fs);
    (0..3).for_each(|number| assert!(db.get(decimal_key(number)).expect("opens a table").is_some()));
    fs.inject(Fault::on(FsOp::Read, "*.sst", FaultEffect::BitFlip));
    for number in 3..60 {
        assert!(db.get(decimal_key(number)).expect("read again").is_some());
    }
    assert_eq!((fs.faults_struck(), db.ticker(Ticker::BlockChecksumMismatchCount)), (1, 1));
    db.close().expect("closes");
}
