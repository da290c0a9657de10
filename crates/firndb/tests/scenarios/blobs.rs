//! Blob files: what goes into them, how long they live, what empties them, and what happens where they cannot be written or read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use firndb::{
    CompactionFilter, CompactionFilterFactory, Db, ErrorKind, Fault, FaultEffect, FilterContext, FilterDecision,
    FilterEntry, FilterRule, Fs, FsOp, MergeRule, ReadOptions,
};

use crate::lab::{DIR, Lab, settle};

fn lab() -> Lab {
    Lab::new().change(|options| {
        options.family.enable_blob_files = true;
        options.family.min_blob_size = 100;
        options.family.blob_file_size = 4096;
        options.family.merge_operator = Some(MergeRule::StringAppend { delimiter: b",".to_vec() });
    })
}

fn value(key: u32, round: u32) -> Vec<u8> {
    format!("{round} of {key} ").repeat(30).into_bytes()
}

fn fill(db: &Db, keys: impl Iterator<Item = u32>, round: u32) {
    keys.for_each(|key| db.put(format!("key{key:04}"), value(key, round)).expect("written"));
}

fn files(lab: &Lab, suffix: &str) -> Vec<String> {
    let listed = lab.fs.list(Path::new(DIR)).expect("lists").into_iter().map(|entry| entry.name);
    let mut names: Vec<_> = listed.filter(|name| name.ends_with(suffix)).collect();
    names.sort();
    names
}

fn bytes(lab: &Lab, suffix: &str) -> u64 {
    let size = |name: &String| lab.fs.file_size(&Path::new(DIR).join(name)).expect("there");
    files(lab, suffix).iter().map(size).sum()
}

/// Lets the next try come.
fn recover(lab: &Lab, db: &Db) {
    lab.clock.advance(Duration::from_secs(61));
    settle(db);
}

#[test]
fn long_values_leave_tables_and_short_ones_stay() {
    let lab = lab();
    let db = lab.open();
    fill(&db, 0..100, 1);
    db.put("short", "x".repeat(99)).expect("written");
    db.put("long", "x".repeat(100)).expect("written");
    db.flush().expect("flushed");
    assert!(files(&lab, ".blob").len() > 3, "files end at 4 KiB: {:?}", files(&lab, ".blob"));
    assert!(bytes(&lab, ".sst") * 3 < bytes(&lab, ".blob"), "{} {}", bytes(&lab, ".sst"), bytes(&lab, ".blob"));
    for key in 0..100 {
        assert_eq!(db.get(format!("key{key:04}")).expect("reads").as_deref(), Some(&value(key, 1)[..]));
    }
    let (short, long) = (db.get("short").expect("reads"), db.get("long").expect("reads"));
    assert_eq!((short.expect("there").len(), long.expect("there").len()), (99, 100));
    // Compactions carry references: the files stay as they are.
    let before = files(&lab, ".blob");
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(files(&lab, ".blob"), before);
    let number = db.default_column_family();
    number.set_options(&[("enable_blob_files", "false")]).expect("set");
    db.put("later", "x".repeat(1000)).expect("written");
    db.flush().expect("flushed");
    assert_eq!(files(&lab, ".blob"), before, "switched off at run time");
}

#[test]
fn a_reader_keeps_the_blob_files_that_it_sees_and_is_listed_with_their_bytes() {
    let lab = lab();
    let db = lab.open();
    fill(&db, 0..50, 1);
    db.flush().expect("flushed");
    let made = files(&lab, ".blob");
    let mut cursor = db.cursor(ReadOptions::default()).expect("a cursor");
    assert!(cursor.seek_to_first().expect("reads"));
    db.delete_range("", "z").expect("deleted");
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert_eq!(files(&lab, ".blob"), made, "they are in use");
    let pins = db.pins();
    let held = pins.iter().map(|pin| pin.exclusive_bytes).sum::<u64>();
    assert!(held > bytes(&lab, ".blob") * 9 / 10, "{held} of {}: {pins:?}", bytes(&lab, ".blob"));
    let mut count = 1;
    while cursor.next().expect("reads") {
        assert_eq!(cursor.value(), value(count, 1));
        count += 1;
    }
    assert_eq!(count, 50);
    drop(cursor);
    settle(&db);
    assert_eq!(files(&lab, ".blob"), Vec::<String>::new());
}

#[test]
fn compactions_empty_the_oldest_files_and_begin_by_themselves_where_they_are_mostly_garbage() {
    let lab = lab().change(|options| {
        options.family.enable_blob_garbage_collection = true;
        options.family.blob_garbage_collection_age_cutoff = 1.0;
        options.family.blob_garbage_collection_force_threshold = 0.3;
        options.family.level0_file_num_compaction_trigger = 100;
    });
    let db = lab.open();
    fill(&db, 0..60, 1);
    db.compact_range::<&[u8]>(..).expect("compacted");
    let first = files(&lab, ".blob");
    // Most of it becomes garbage once the new values have met the old ones.
    fill(&db, (0..60).filter(|key| key % 5 > 0), 2);
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let left = files(&lab, ".blob");
    assert!(first.iter().all(|file| !left.contains(file)), "{first:?} {left:?}");
    for key in 0..60 {
        let round = if key % 5 > 0 { 2 } else { 1 };
        assert_eq!(db.get(format!("key{key:04}")).expect("reads").as_deref(), Some(&value(key, round)[..]));
    }
    // Now without a call: garbage is made by a compaction that is not allowed to collect, and then it is.
    let family = db.default_column_family();
    family.set_options(&[("enable_blob_garbage_collection", "false")]).expect("set");
    fill(&db, (0..60).filter(|key| key % 5 > 0), 3);
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    let before = files(&lab, ".blob");
    assert!(left.iter().any(|file| before.contains(file)), "they are still there");
    family.set_options(&[("enable_blob_garbage_collection", "true")]).expect("set");
    db.put("a", "nudge").expect("written");
    db.flush().expect("flushed");
    settle(&db);
    let after = files(&lab, ".blob");
    assert!(left.iter().all(|file| !after.contains(file)), "{left:?} {after:?}");
}

struct Even {
    shown: Arc<AtomicUsize>,
}

struct EvenFilter {
    shown: Arc<AtomicUsize>,
}

impl CompactionFilter for EvenFilter {
    fn filter(&mut self, _: &[u8], entry: FilterEntry<'_>) -> FilterDecision {
        self.shown.fetch_add(1, Ordering::SeqCst);
        match entry.bytes() {
            bytes if bytes.starts_with(b"1 of 7 ") => FilterDecision::Change(b"changed".to_vec()),
            bytes if bytes.starts_with(b"1 of 9 ") => FilterDecision::Change(vec![b'y'; 200]),
            _ => FilterDecision::Keep,
        }
    }

    fn filter_by_key(&mut self, key: &[u8]) -> Option<FilterDecision> {
        match key.last().map(|digit| (digit - b'0') % 2) {
            Some(0) => Some(FilterDecision::Remove),
            _ => None,
        }
    }
}

impl CompactionFilterFactory for Even {
    fn name(&self) -> &str {
        "test.Even"
    }

    fn create(&self, _: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
        Some(Box::new(EvenFilter { shown: Arc::clone(&self.shown) }))
    }
}

#[test]
fn a_filter_decides_by_the_key_alone_or_is_shown_the_value() {
    let shown = Arc::new(AtomicUsize::new(0));
    let rule = FilterRule::custom(Even { shown: Arc::clone(&shown) });
    let lab = lab().change(|options| options.family.compaction_filter_factory = Some(rule));
    let db = lab.open();
    fill(&db, 0..20, 1);
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(shown.load(Ordering::SeqCst), 10, "half of them are decided by their keys");
    assert_eq!(db.iter().expect("opens").count(), 10);
    assert_eq!(db.get("key0007").expect("reads").as_deref(), Some(&b"changed"[..]));
    assert_eq!(db.get("key0009").expect("reads").map(|value| value.len()), Some(200));
    assert_eq!(db.get("key0011").expect("reads").as_deref(), Some(&value(11, 1)[..]));
}

#[test]
fn operands_are_merged_with_values_in_blob_files_by_readers_and_by_compactions() {
    let lab = lab();
    let db = lab.open();
    fill(&db, 0..3, 1);
    db.flush().expect("flushed");
    db.merge("key0001", "more").expect("written");
    let expected = [&value(1, 1)[..], b",more"].concat();
    assert_eq!(db.get("key0001").expect("reads").as_deref(), Some(&expected[..]));
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(db.get("key0001").expect("reads").as_deref(), Some(&expected[..]));
    let operands = db.default_column_family().merge_operands("key0001", &ReadOptions::default()).expect("reads");
    assert_eq!(operands.len(), 1, "the compaction made one value of them");
}

#[test]
fn a_blob_file_that_cannot_be_written_fails_the_job_which_leaves_nothing_and_is_tried_again() {
    for (op, skipped) in [(FsOp::Create, 0), (FsOp::Append, 0), (FsOp::Append, 1), (FsOp::Sync, 0)] {
        let lab = lab();
        let db = lab.open();
        fill(&db, 0..40, 1);
        lab.fs.inject(Fault::on(op, "*.blob", FaultEffect::Eio).skip(skipped));
        let error = db.flush().expect_err("it fails");
        assert_eq!(error.kind(), ErrorKind::Io, "{op:?} {error}");
        assert!(error.to_string().contains(".blob"), "{op:?} {error}");
        lab.fs.clear_faults();
        assert_eq!(files(&lab, ".blob"), Vec::<String>::new(), "{op:?}");
        recover(&lab, &db);
        for key in 0..40 {
            assert_eq!(db.get(format!("key{key:04}")).expect("reads").as_deref(), Some(&value(key, 1)[..]), "{op:?}");
        }
        fill(&db, 0..40, 2);
        db.flush().expect("flushed");
        assert!(!files(&lab, ".blob").is_empty());
        db.close().expect("closes");
    }
}

#[test]
fn an_edit_of_unknown_outcome_keeps_its_blob_files_until_it_is_known() {
    let lab = lab();
    let db = lab.open();
    fill(&db, 0..40, 1);
    lab.fs.inject(Fault::on(FsOp::Sync, "MANIFEST*", FaultEffect::Eio));
    db.flush().expect_err("nobody knows");
    lab.fs.clear_faults();
    recover(&lab, &db);
    for key in 0..40 {
        assert_eq!(db.get(format!("key{key:04}")).expect("reads").as_deref(), Some(&value(key, 1)[..]));
    }
    let listed = db.live_files().expect("listed");
    let live = listed.files().iter().filter(|file| file.path.extension().is_some_and(|end| end == "blob")).count();
    drop(listed);
    assert_eq!(files(&lab, ".blob").len(), live, "the files of the first try are gone");
    assert!(live > 0);
}

#[test]
fn a_value_that_cannot_be_read_stays_where_it_is_and_fails_its_readers_alone() {
    let lab = lab().change(|options| {
        options.family.enable_blob_garbage_collection = true;
        options.family.blob_garbage_collection_age_cutoff = 1.0;
    });
    let db = lab.open();
    fill(&db, 0..5, 1);
    db.flush().expect("flushed");
    let path = Path::new(DIR).join(&files(&lab, ".blob")[0]);
    // Inside of the first value.
    lab.fs.damage(&path, |bytes| bytes[30 + 32 + 7 + 20] ^= 1).expect("it is there");
    fill(&db, 5..10, 1);
    db.compact_range::<&[u8]>(..).expect("the job goes on around it");
    let error = db.get("key0000").expect_err("damaged");
    assert!(error.kind() == ErrorKind::Corruption && error.to_string().contains(".blob"), "{error}");
    for key in 1..10 {
        assert_eq!(db.get(format!("key{key:04}")).expect("reads").as_deref(), Some(&value(key, 1)[..]));
    }
    assert!(files(&lab, ".blob").iter().any(|name| path.ends_with(name)), "it still has that value");
}
