//! Options of the database and of reads, as their users see them.

use std::path::Path;

use firndb::{Db, FsOp, ReadOptions};

use crate::lab::{DIR, Lab, fill, settle};

#[test]
fn db_write_buffer_size_bounds_the_memtables_of_all_families_together_and_flushes_the_largest() {
    const BYTES: u64 = 128 << 10;
    let lab = Lab::new().change(|options| {
        options.family.write_buffer_size = 64 << 20;
        options.db_write_buffer_size = BYTES;
    });
    let db = lab.open();
    let small = db.create_column_family("small").expect("new");
    let large = db.create_column_family("large").expect("new");
    let in_memory = |db: &Db| db.stats().families.iter().map(|family| family.memtable_bytes).sum::<u64>();
    for number in 0..2000 {
        small.put(format!("key{number}"), "x".repeat(10)).expect("written");
        large.put(format!("key{number}"), "x".repeat(200)).expect("written");
        settle(&db);
        assert!(in_memory(&db) < BYTES + (64 << 10), "{} bytes after {number}", in_memory(&db));
    }
    let levels = |name: &str| {
        let stats = db.stats();
        let family = stats.families.iter().find(|family| family.name == name).expect("there");
        family.levels.iter().map(|level| level.files).sum::<usize>()
    };
    assert!(levels("large") >= 3, "{:?}", db.stats().families);
    assert!(levels("small") < levels("large"), "{:?}", db.stats().families);
    drop((small, large));
    db.close().expect("nothing is open");
    lab.verify();
}

/// A database of one level without anything in its cache.
fn tables() -> (Lab, Db) {
    let lab = Lab::new().change(|options| options.family.target_file_size_base = 1 << 20);
    let db = lab.open();
    fill(&db, 2000, "first");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    db.close().expect("nothing is open");
    let db = lab.open();
    (lab, db)
}

fn options(fill_cache: bool, readahead_size: usize) -> ReadOptions {
    let mut options = ReadOptions::default();
    (options.fill_cache, options.readahead_size) = (fill_cache, readahead_size);
    options
}

fn scan(db: &Db, options: &ReadOptions) -> usize {
    let all = db.default_column_family().range_with::<&[u8]>(.., options.clone()).expect("it opens");
    all.fold(0, |count, entry| count + usize::from(entry.is_ok()))
}

#[test]
fn a_scan_that_is_not_to_fill_the_cache_leaves_it_as_it_is() {
    let (_lab, db) = tables();
    let cached = |db: &Db| db.stats().cache_bytes.0;
    assert_eq!(scan(&db, &options(false, 0)), 2000);
    let before = cached(&db);
    assert_eq!(scan(&db, &options(true, 0)), 2000);
    assert!(cached(&db) > before + 10_000, "{} bytes, {before} before", cached(&db));
    db.close().expect("nothing is open");
}

#[test]
fn a_scan_with_read_ahead_reads_the_same_in_fewer_pieces() {
    let (lab, db) = tables();
    lab.fs.log_reads(true);
    let reads = |readahead_size: usize| {
        let options = options(false, readahead_size);
        // Tables are open, and indexes in memory.
        scan(&db, &options);
        lab.fs.clear_ops();
        assert_eq!(scan(&db, &options), 2000);
        let is_table = |path: &Path| path.starts_with(DIR) && path.extension().is_some_and(|kind| kind == "sst");
        lab.fs.ops().iter().filter(|logged| logged.op == FsOp::Read && is_table(&logged.path)).count()
    };
    // Without being told, a scan reads ahead in pieces that grow.
    let (by_itself, ahead) = (reads(0), reads(1 << 20));
    assert!(ahead == 1 && by_itself > 2, "{ahead} reads with, {by_itself} without");
    db.close().expect("nothing is open");
}
