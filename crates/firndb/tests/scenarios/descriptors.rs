//! A process that may have few files open: tables give their descriptors back when others need one, and reading goes on.

use std::sync::Arc;

use firndb::{
    BlockCache, CreateMode, Db, Error, ErrorKind, Fault, FaultEffect, Fs, FsOp, MemoryFs, Options, ReadOptions,
};

use crate::lab::{DIR, Lab, contents, settle};

const TABLES: u32 = 120;
const LIMIT: usize = 40;

fn key(table: u32, entry: u32) -> String {
    format!("{entry:02}-{table:04}")
}

/// A closed database of many level-0 tables whose ranges all overlap, and few descriptors from now on.
fn many_tables() -> Lab {
    let lab = Lab::new().change(|options| {
        options.family.disable_auto_compactions = true;
        options.family.level0_stop_writes_trigger = 1000;
        options.family.level0_slowdown_writes_trigger = 1000;
    });
    let db = lab.open();
    for table in 0..TABLES {
        (0..20).for_each(|entry| db.put(key(table, entry), vec![7; 500]).expect("written"));
        db.flush().expect("flushed");
    }
    db.close().expect("closed");
    lab.fs.set_open_files_max(Some(LIMIT));
    lab
}

fn assert_all_is_read(db: &Db) {
    for table in 0..TABLES {
        assert!(db.get(key(table, 3)).expect("readable").is_some(), "table {table}");
    }
    let expected = TABLES as usize * 20;
    assert_eq!(
        db.iter().expect("opened").map(|entry| entry.expect("readable")).fold(0, |count, _| count + 1),
        expected
    );
    let mut cursor = db.cursor(ReadOptions::default()).expect("opened");
    let (mut is_valid, mut count) = (cursor.seek_to_last().expect("readable"), 0);
    while is_valid {
        count += 1;
        is_valid = cursor.prev().expect("readable");
    }
    assert_eq!(count, expected);
}

#[test]
fn a_database_of_more_tables_than_descriptors_reads_scans_writes_and_compacts() {
    let lab = many_tables();
    let db = lab.open();
    assert_all_is_read(&db);
    let mut open: Vec<_> = (0..3).map(|_| db.cursor(ReadOptions::default()).expect("opened")).collect();
    open.iter_mut().for_each(|cursor| assert!(cursor.seek_to_first().expect("readable")));
    (0..100).for_each(|entry| db.put(format!("new{entry}"), "value").expect("written"));
    db.flush().expect("flushed");
    db.create_column_family("more").expect("made");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    for cursor in &mut open {
        let (mut is_valid, mut count) = (cursor.valid(), 0);
        while is_valid {
            count += 1;
            is_valid = cursor.next().expect("readable");
        }
        assert_eq!(count, TABLES as usize * 20, "the view of before");
    }
    drop(open);
    db.close().expect("closed");
    lab.verify();
}

#[test]
fn more_tables_than_descriptors_are_read_beside_a_writer_until_it_removes_them() {
    // No cache: every block is read from its file.
    let lab = many_tables().change(|options| options.block_cache = Some(BlockCache::new(0)));
    let reader = Db::open_read_only(DIR, lab.options.clone()).expect("opened");
    assert_all_is_read(&reader);
    let mut cursor = reader.cursor(ReadOptions::default()).expect("opened");
    assert!(cursor.seek_to_first().expect("readable"));
    lab.fs.set_open_files_max(None);
    let writer = lab.open();
    writer.compact_range::<&[u8]>(..).expect("compacted");
    settle(&writer);
    let mut outcome = Ok(true);
    while let Ok(true) = outcome {
        outcome = cursor.next();
    }
    // Not all of its tables could be kept open, and those that were not are gone now.
    let error = outcome.expect_err("gone");
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().contains("open the database again"), "{error}");
    assert_all_is_read(&Db::open_read_only(DIR, lab.options.clone()).expect("opened again"));
    writer.close().expect("closed");
}

#[test]
fn what_writes_has_descriptors_in_reserve_though_the_program_took_all_others() {
    let lab = Lab::new();
    lab.fs.create("/other".as_ref(), CreateMode::New).expect("made");
    lab.fs.set_open_files_max(Some(LIMIT));
    let db = lab.open();
    for round in 0..3 {
        let mut others = Vec::new();
        while let Ok(file) = lab.fs.open_random("/other".as_ref()) {
            others.push(file);
        }
        assert!(others.len() > 10, "round {round}");
        // Twice, with tables open from the second time on.
        for _ in 0..2 {
            db.put(format!("key{round}"), "value").expect("written");
            db.flush().expect("flushed");
            assert!(db.get(format!("key{round}")).expect("readable").is_some());
        }
        drop(others);
        // The reserve is filled again by what finds descriptors free.
        db.compact_range::<&[u8]>(..).expect("compacted");
        settle(&db);
    }
    assert_eq!(contents(db.default_column_family()).len(), 3);
    db.close().expect("closed");
    drop(db);
    assert_eq!(lab.fs.open_files(), 0, "everything was given back");
}

#[test]
fn a_refusal_for_want_of_a_descriptor_is_met_by_closing_a_table_whatever_is_opened() {
    let lab = Lab::new();
    lab.fs.set_open_files_max(Some(200));
    let db = lab.open();
    for number in 0..4 {
        db.put(format!("key{number}"), "value").expect("written");
        db.flush().expect("flushed");
        assert!(db.get(format!("key{number}")).expect("readable").is_some());
    }
    for op in [FsOp::Open, FsOp::Create, FsOp::SyncDir] {
        lab.fs.inject(Fault::on(op, "*", FaultEffect::TooManyOpen));
        db.put("key", "value").expect("written");
        db.flush().expect("flushed");
        db.compact_range::<&[u8]>(..).expect("compacted");
        lab.fs.clear_faults();
        assert!(db.get("key").expect("readable").is_some(), "{op:?}");
    }
    assert!(lab.fs.faults_struck() >= 3);
    db.close().expect("closed");
}

#[test]
fn a_bound_on_open_tables_beyond_what_the_process_may_have_is_put_in_order_and_said() {
    let mut lab = many_tables().change(|options| options.max_open_files = 100_000);
    let about =
        |lab: &Lab| lab.lines.take().into_iter().filter(|line| line.contains("max_open_files")).collect::<Vec<_>>();
    assert_all_is_read(&lab.open());
    let said = about(&lab);
    assert!(said.len() == 1 && said[0].contains("100000") && said[0].contains("40 files"), "{said:?}");
    lab.fs.set_open_files_max(None);
    lab = lab.change(|options| options.max_open_files = 1000);
    assert_all_is_read(&lab.open());
    assert!(about(&lab).is_empty());
}

#[test]
fn dropping_a_cursor_closes_no_file() {
    let lab = many_tables().change(|options| options.max_open_files = 16);
    let db = lab.open();
    let mut cursor = db.cursor(ReadOptions::default()).expect("opened");
    assert!(cursor.seek_to_first().expect("readable"));
    let open = lab.fs.open_files();
    drop(cursor);
    assert_eq!(lab.fs.open_files(), open, "the janitor closes, not the reader");
    // Table after table has been closed meanwhile: no more than allowed are open, beside log, MANIFEST and reserve.
    assert!(open <= 16 + 10, "{open}");
    settle(&db);
    assert_all_is_read(&db);
}

#[test]
fn without_any_descriptor_an_error_says_so_and_nothing_is_called_damaged() {
    let fs = MemoryFs::new();
    fs.set_open_files_max(Some(2));
    let mut options = Options::default();
    options.create_if_missing = true;
    options.fs = Arc::new(fs.clone());
    let refused: Error = Db::open_with(DIR, options.clone()).expect_err("no descriptors");
    assert_eq!(refused.kind(), ErrorKind::Io, "{refused}");
    fs.set_open_files_max(None);
    Db::open_with(DIR, options).expect("nothing is in the way").close().expect("closed");
}
