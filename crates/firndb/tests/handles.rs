//! Handles and batches belong to one open database, and what was written is not written twice.

use std::sync::Arc;

use firndb::{
    BackgroundMode, ColumnFamilyId, Db, ErrorKind, Fault, FaultEffect, FsOp, MemoryFs, Options, ReadOptions,
    WriteBatch, WriteOptions,
};

fn options(fs: &MemoryFs) -> Options {
    Options {
        create_if_missing: true,
        fs: Arc::new(fs.clone()),
        background: BackgroundMode::Manual,
        ..Options::default()
    }
}

fn open(fs: &MemoryFs, dir: &str) -> Db {
    Db::open_with(dir, options(fs)).expect("opens")
}

#[test]
fn a_batch_with_a_handle_of_another_database_is_refused_even_if_the_numbers_fit() {
    let fs = MemoryFs::new();
    let (one, two) = (open(&fs, "/one"), open(&fs, "/two"));
    let (in_one, in_two) = (one.create_column_family("a").expect("new"), two.create_column_family("b").expect("new"));
    assert_eq!(in_one.id(), in_two.id());
    let refused = |db: &Db, batch: &mut WriteBatch| {
        let count = batch.count();
        let error = db.write(batch).expect_err("it is another database's");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains("another database"), "{error}");
        assert_eq!(batch.count(), count, "it is as it was");
    };
    let mut batch = WriteBatch::new();
    batch.put("by", "name").put_cf(&in_two, "key", "value");
    refused(&one, &mut batch);
    batch.delete_cf(&in_one, "key");
    refused(&one, &mut batch);
    refused(&two, &mut batch);
    let mut batch = WriteBatch::new();
    batch.put_cf(one.default_column_family(), "key", "value");
    refused(&two, &mut batch);
    one.write(&mut batch).expect("its own");
    assert!(batch.is_empty());
    batch.put_cf(&in_two, "key", "value");
    two.write(&mut batch).expect("an emptied batch belongs to nobody");
    // A number is a number.
    batch.put_cf(ColumnFamilyId(1), "number", "value").put("plain", "value");
    batch.single_delete_cf(in_one.id(), "number");
    one.write(&mut batch.clone()).expect("by number");
    two.write(&mut batch).expect("by number");
    assert!(in_one.get("key").expect("readable").is_none() && in_two.get("key").expect("readable").is_some());
    // One database, opened again, is another one to the old handles.
    let mut late = WriteBatch::new();
    late.put_cf(&in_two, "late", "value");
    drop((in_one, in_two));
    two.close().expect("closes");
    refused(&open(&fs, "/two"), &mut late);
    let foreign = one.snapshot();
    let mut read = ReadOptions::default();
    read.snapshot = Some(foreign);
    let error = open(&fs, "/three").get_with("key", &read).expect_err("of another database");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn a_batch_is_empty_once_it_is_written_and_whole_if_it_was_not() {
    let fs = MemoryFs::new();
    let db = open(&fs, "/db");
    let mut batch = WriteBatch::new();
    batch.put("a", "1").delete("b");
    let before = db.latest_sequence();
    db.write(&mut batch).expect("written");
    assert!(batch.is_empty());
    db.write(&mut batch).expect("nothing to write");
    assert_eq!(db.latest_sequence().0, before.0 + 2, "once");

    batch.put("c", "3");
    fs.inject(Fault::on(FsOp::Append, "*.log", FaultEffect::NoSpace));
    assert_eq!(db.write(&mut batch).expect_err("no room").kind(), ErrorKind::NoSpace);
    assert_eq!(batch.count(), 1, "for another try");
    while db.run_background_step() {}
    db.close().expect("closes");

    let db = open(&fs, "/db");
    db.write(&mut batch).expect("there is room");
    assert_eq!(db.get("c").expect("readable").as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_batch_whose_fate_nobody_knows_is_not_written_again_unless_that_is_allowed() {
    let fs = MemoryFs::new();
    let db = open(&fs, "/db");
    let mut batch = WriteBatch::new();
    batch.put("a", "1");
    fs.inject(Fault::on(FsOp::Sync, "*.log", FaultEffect::Eio));
    let error = db.write_with(&mut batch, &WriteOptions::synced()).expect_err("who knows");
    assert_eq!(error.kind(), ErrorKind::DurabilityUnknown, "{error}");
    fs.clear_faults();
    drop(db);
    let db = open(&fs, "/db");
    let error = db.write(&mut batch).expect_err("it may be there");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("nobody knows"), "{error}");
    assert_eq!(batch.count(), 1);
    batch.allow_repeat();
    db.write(&mut batch).expect("a second time is harmless");
    assert_eq!(db.get("a").expect("readable").as_deref(), Some(&b"1"[..]));
    assert!(batch.is_empty());
}

#[test]
fn a_handle_of_a_dropped_family_reads_on_and_keeps_nothing_open() {
    let fs = MemoryFs::new();
    let db = open(&fs, "/db");
    let doomed = db.create_column_family("doomed").expect("new");
    let kept = db.create_column_family("kept").expect("new");
    doomed.put("key", "value").expect("written");
    db.drop_column_family("doomed").expect("dropped");
    let another = doomed.clone();
    assert_eq!(doomed.get("key").expect("it reads on").as_deref(), Some(&b"value"[..]));
    drop(db);
    // A handle of a living family is one.
    assert_eq!(Db::open_with("/db", options(&fs)).map(drop).expect_err("open still").kind(), ErrorKind::Locked);
    kept.put("key", "value").expect("written");
    drop(kept);
    let db = open(&fs, "/db");
    for handle in [&doomed, &another] {
        assert_eq!(handle.get("key").expect_err("its database is closed").kind(), ErrorKind::Closed);
    }
    drop((doomed, another));
    db.put("key", "this one is open").expect("written");
    let again = db.clone();
    drop(db);
    again.put("key", "still").expect("written");
    drop(again);
    drop(open(&fs, "/db"));
}
