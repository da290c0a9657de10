//! Compaction filters, values that expire, and files that go whole: what they free, and what readers who are there see.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    Columns, CompactionFilter, CompactionFilterFactory, Db, ErrorKind, FilterContext, FilterDecision, FilterEntry,
    FilterReason, FilterRule, FsOp, MergeRule, ReadOptions, Snapshot, TtlDb,
};

use crate::lab::{Lab, all, fill, settle};

/// Removes what is worth nothing, and changes what is old; notes what jobs there were.
#[derive(Default)]
struct Sweep {
    in_flushes: bool,
    jobs: Mutex<Vec<FilterContext>>,
    shown: Arc<AtomicUsize>,
}

impl CompactionFilterFactory for Sweep {
    fn name(&self) -> &str {
        "test.Sweep"
    }

    fn filters(&self, reason: FilterReason) -> bool {
        reason == FilterReason::Compaction || self.in_flushes
    }

    fn create(&self, context: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
        self.jobs.lock().expect("whole").push(context.clone());
        let shown = Arc::clone(&self.shown);
        Some(Box::new(move |_: &[u8], entry: FilterEntry<'_>| {
            shown.fetch_add(1, Ordering::SeqCst);
            match entry.bytes() {
                b"worthless" => FilterDecision::Remove,
                b"old" => FilterDecision::Change(b"new".to_vec()),
                _ => FilterDecision::Keep,
            }
        }))
    }
}

fn swept(sweep: &Arc<Sweep>) -> Lab {
    let rule = FilterRule::Custom(Arc::clone(sweep) as _);
    Lab::new().change(|options| options.family.compaction_filter_factory = Some(rule))
}

fn put(db: &Db, entries: &[(&str, &str)]) {
    entries.iter().for_each(|(key, value)| db.put(key, value).expect("written"));
}

fn shows(db: &Db) -> String {
    let entries = all(db).into_iter();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    entries.map(|(key, value)| format!("{}={}", text(key), text(value))).collect::<Vec<_>>().join(" ")
}

fn at(db: &Db, snapshot: &Snapshot, key: &str) -> Option<Vec<u8>> {
    let options = ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
    db.default_column_family().get_with(key, &options).expect("readable").map(|value| value.to_vec())
}

#[test]
fn a_filter_removes_and_changes_what_compactions_rewrite_and_flushes_if_it_asks_for_them() {
    for in_flushes in [false, true] {
        let sweep = Arc::new(Sweep { in_flushes, ..Sweep::default() });
        let lab = swept(&sweep);
        let db = lab.open();
        put(&db, &[("a", "kept"), ("b", "worthless"), ("c", "old")]);
        db.flush().expect("flushed");
        assert_eq!(shows(&db), if in_flushes { "a=kept c=new" } else { "a=kept b=worthless c=old" });
        db.compact_range::<&str>(..).expect("compacted");
        assert_eq!(shows(&db), "a=kept c=new");
        let jobs = sweep.jobs.lock().expect("whole").clone();
        let last = jobs.last().expect("at least one");
        assert!(last.is_full && last.is_manual && last.reason == FilterReason::Compaction, "{jobs:?}");
        assert!(last.output_level > 0, "{jobs:?}");
        assert_eq!(jobs.iter().filter(|job| job.reason == FilterReason::Flush).count(), usize::from(in_flushes));
        db.close().expect("nothing is open");
        // The name is in OPTIONS, and who does not give the filter goes on without.
        let without = Lab::on(lab.fs.clone());
        let db = without.open();
        let options = db.default_column_family().options();
        assert_eq!(options.compaction_filter_factory.as_ref().map(FilterRule::name), Some("test.Sweep"));
        put(&db, &[("b", "worthless")]);
        db.compact_range::<&str>(..).expect("compacted");
        assert_eq!(shows(&db), "a=kept b=worthless c=new");
        db.close().expect("nothing is open");
        // One that has the filter needs to be told of it by nobody.
        let db = lab.open();
        db.compact_range::<&str>(..).expect("compacted");
        db.close().expect("nothing is open");
        lab.verify();
    }
}

/// RocksDB takes from a snapshot what a filter removes.
#[test]
fn what_a_snapshot_or_an_iterator_sees_is_not_changed_by_a_filter() {
    let sweep = Arc::new(Sweep::default());
    let lab = swept(&sweep);
    let db = lab.open();
    put(&db, &[("b", "worthless"), ("c", "old")]);
    let (snapshot, iter) = (db.snapshot(), db.iter().expect("it opens"));
    put(&db, &[("b", "worthless"), ("d", "worthless")]);
    db.compact_range::<&str>(..).expect("compacted");
    // The newer ones are nobody's.
    assert_eq!(shows(&db), "c=old");
    assert_eq!(at(&db, &snapshot, "b").as_deref(), Some(&b"worthless"[..]));
    assert_eq!(at(&db, &snapshot, "c").as_deref(), Some(&b"old"[..]));
    assert_eq!(iter.count(), 2);
    drop(snapshot);
    put(&db, &[("e", "kept")]);
    db.compact_range::<&str>(..).expect("compacted");
    assert_eq!(shows(&db), "c=new e=kept");
    db.close().expect("nothing is open");
    lab.verify();
}

#[test]
fn a_snapshot_made_in_the_middle_of_a_filtered_job_sees_all_its_life_what_it_saw_first() {
    for in_flushes in [false, true] {
        let sweep = Arc::new(Sweep { in_flushes, ..Sweep::default() });
        let lab = swept(&sweep);
        let db = lab.open();
        if !in_flushes {
            put(&db, &[("b", "worthless"), ("c", "old")]);
            db.flush().expect("flushed");
        }
        type Made = Option<(Snapshot, Option<Vec<u8>>)>;
        let made: Arc<Mutex<Made>> = Arc::default();
        let (maker, kept) = (db.clone(), Arc::clone(&made));
        let arm = || {
            lab.hook.set(move |op, path| {
                let is_table = path.extension().is_some_and(|name| name == "sst");
                if op == FsOp::Sync && is_table && kept.lock().expect("whole").is_none() {
                    let snapshot = maker.snapshot();
                    let seen = at(&maker, &snapshot, "b");
                    *kept.lock().expect("whole") = Some((snapshot, seen));
                }
            });
        };
        if in_flushes {
            put(&db, &[("b", "worthless"), ("c", "old")]);
            arm();
            db.flush().expect("flushed");
        } else {
            arm();
            db.compact_range::<&str>(..).expect("compacted");
        }
        lab.hook.clear();
        let (snapshot, seen) = made.lock().expect("whole").take().expect("the job wrote a table");
        assert_eq!(seen.as_deref(), Some(&b"worthless"[..]));
        assert_eq!(shows(&db), "c=new");
        assert_eq!(at(&db, &snapshot, "b"), seen);
        let later = db.snapshot();
        assert_eq!(at(&db, &later, "b"), None, "one that is made afterwards never saw it");
        drop((snapshot, later));
        db.close().expect("nothing is open");
        lab.verify();
    }
}

#[test]
fn values_expire_in_compactions_and_carry_their_time_in_front_of_nobody() {
    let lab = Lab::new().change(|options| {
        options.family.merge_operator = Some(MergeRule::StringAppend { delimiter: b",".to_vec() });
    });
    let open = || TtlDb::open(crate::lab::DIR, lab.options.clone(), Duration::from_secs(100)).expect("it opens");
    let db = open();
    db.put("a", "1").expect("written");
    db.put("m", "x").expect("written");
    lab.clock.advance(Duration::from_secs(60));
    db.put("b", "2").expect("written");
    db.merge("m", "y").expect("written");
    let found: Vec<_> = db.iter().expect("it opens").map(|entry| entry.expect("readable")).collect();
    assert_eq!(found.iter().map(|(_, value)| value.to_vec()).collect::<Vec<_>>(), [&b"1"[..], b"2", b"x,y"]);
    assert_eq!(found[1].1.written_s() - found[0].1.written_s(), 60);
    assert_eq!(db.db().get("a").expect("readable").expect("there").len(), 5, "four bytes of time");
    lab.clock.advance(Duration::from_secs(60));
    assert_eq!(db.get("a").expect("readable").as_deref(), Some(&b"1"[..]), "too old, but nobody has removed it");
    db.db().compact_range::<&str>(..).expect("compacted");
    assert!(db.get("a").expect("readable").is_none());
    assert_eq!(db.get("m").expect("readable").as_deref(), Some(&b"x,y"[..]), "as old as its newest operand");
    // A limit that changes counts from the next job on.
    db.set_ttl(Duration::ZERO);
    lab.clock.advance(Duration::from_secs(1000));
    db.put("c", "3").expect("written");
    db.db().compact_range::<&str>(..).expect("compacted");
    assert_eq!(db.iter().expect("it opens").count(), 3);
    db.db().put("d", "raw").expect("written");
    assert_eq!(db.get("d").expect_err("no time").kind(), ErrorKind::Corruption);
    db.delete("d").expect("written");
    db.close().expect("nothing is open");
    let db = open();
    db.db().compact_range::<&str>(..).expect("compacted");
    assert_eq!(db.iter().expect("it opens").rev().count(), 1);
    db.close().expect("nothing is open");
    // Without a ttl the operator has another name.
    Lab::on(lab.fs.clone()).verify();
}

/// Three levels of small tables.
fn levels_of_tables() -> (Lab, Db) {
    let lab = Lab::new();
    let db = lab.open();
    fill(&db, 1000, "first");
    db.compact_range::<&str>(..).expect("compacted");
    (lab, db)
}

#[test]
fn t6_files_in_a_range_go_whole_but_not_from_a_snapshot() {
    let (lab, db) = levels_of_tables();
    let before = all(&db);
    let (snapshot, iter) = (db.snapshot(), db.iter().expect("it opens"));
    let range = || "key0100".."key0900";
    let kept = db.delete_files_in_range(range()).expect("nothing fails");
    assert!(kept.files == 0 && kept.kept_for_snapshots > 5, "{kept:?}");
    assert_eq!(all(&db), before);
    assert_eq!(at(&db, &snapshot, "key0500").as_ref(), before.get(&b"key0500"[..]));
    drop(snapshot);
    let bytes = lab.bytes_of_tables();
    let gone = db.delete_files_in_range(range()).expect("nothing fails");
    assert_eq!((gone.files, gone.kept_for_snapshots), (kept.kept_for_snapshots, 0));
    let after = all(&db);
    assert!(!after.contains_key(&b"key0500"[..]) && after.len() < 300, "{}", after.len());
    let is_outside = |key: &[u8]| key < &b"key0100"[..] || key >= &b"key0900"[..];
    for (key, value) in &before {
        assert!(after.get(key) == Some(value) || (!is_outside(key) && !after.contains_key(key)));
    }
    assert_eq!(crate::lab::collect(iter), before, "an iterator goes on with its view");
    settle(&db);
    assert!(lab.bytes_of_tables() + gone.bytes <= bytes, "their space is free");
    db.close().expect("nothing is open");
    assert_eq!(all(&lab.open()), after);
    lab.verify();
    lab.assert_disk_is_manifest();
}

/// The snapshot is made when nothing can stop the deletion any more.
#[test]
fn t6_a_snapshot_made_while_files_go_sees_all_its_life_what_it_saw_first() {
    let (lab, db) = levels_of_tables();
    type Made = Option<(Snapshot, Option<Vec<u8>>)>;
    let made: Arc<Mutex<Made>> = Arc::default();
    let (maker, kept) = (db.clone(), Arc::clone(&made));
    lab.hook.set(move |op, path| {
        let is_manifest = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"));
        if op == FsOp::Append && is_manifest && kept.lock().expect("whole").is_none() {
            let snapshot = maker.snapshot();
            let seen = at(&maker, &snapshot, "key0500");
            *kept.lock().expect("whole") = Some((snapshot, seen));
        }
    });
    let gone = db.delete_files_in_range::<&str>(..).expect("nothing fails");
    lab.hook.clear();
    assert!(gone.files > 5, "{gone:?}");
    let (snapshot, seen) = made.lock().expect("whole").take().expect("it came to its edit");
    assert!(seen.is_some());
    assert!(all(&db).is_empty());
    assert_eq!(at(&db, &snapshot, "key0500"), seen);
    drop(snapshot);
    settle(&db);
    assert!(lab.tables().is_empty());
}

#[test]
fn what_files_that_go_hid_does_not_come_back_and_what_is_above_them_stays() {
    let (lab, db) = levels_of_tables();
    // Newer values and a deletion in level 0, and in memory.
    db.put("key0500", "newer").expect("written");
    db.delete("key0600").expect("written");
    db.flush().expect("flushed");
    db.put("key0700", "newest").expect("written");
    let inclusive = (Bound::Included("key0000"), Bound::Included("key0999"));
    let gone = db.default_column_family().delete_files_in_ranges(&[inclusive]).expect("nothing fails");
    assert!(gone.files > 5 && gone.kept_above_older == 0, "{gone:?}");
    assert_eq!(shows(&db), "key0500=newer key0700=newest");
    db.compact_range::<&str>(..).expect("compacted");
    assert_eq!(shows(&db), "key0500=newer key0700=newest");
    db.close().expect("nothing is open");
    lab.verify();
    let db = Db::open_read_only(crate::lab::DIR, lab.options.clone()).expect("it opens");
    assert_eq!(db.delete_files_in_range::<&str>(..).expect_err("refused").kind(), ErrorKind::ReadOnly);
}

/// Removes people of nowhere, moves those of Oslo, and makes a plain value of those of Rome.
struct Movers;

struct Mover;

impl CompactionFilter for Mover {
    fn filter(&mut self, _: &[u8], entry: FilterEntry<'_>) -> FilterDecision {
        match entry {
            FilterEntry::Value(b"plain") => FilterDecision::ChangeColumns(vec![(b"city".to_vec(), b"Bern".to_vec())]),
            _ => FilterDecision::Keep,
        }
    }

    fn filter_entity(&mut self, _: &[u8], columns: &Columns) -> FilterDecision {
        match columns.get("city") {
            None => FilterDecision::Remove,
            Some(b"Oslo") => {
                FilterDecision::ChangeColumns(vec![(b"city".to_vec(), b"Bergen".to_vec()), (Vec::new(), b"x".to_vec())])
            }
            Some(b"Rome") => FilterDecision::Change(b"of Rome".to_vec()),
            Some(_) => FilterDecision::Keep,
        }
    }
}

impl CompactionFilterFactory for Movers {
    fn name(&self) -> &str {
        "test.Movers"
    }

    fn create(&self, _: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
        Some(Box::new(Mover))
    }
}

#[test]
fn a_filter_sees_the_columns_of_an_entity_and_may_change_them() {
    let rule = FilterRule::Custom(Arc::new(Movers));
    let lab = Lab::new().change(|options| options.family.compaction_filter_factory = Some(rule));
    let db = lab.open();
    db.put_entity("a", [("name", "Ann")]).expect("written");
    db.put_entity("b", [("city", "Oslo"), ("name", "Bo")]).expect("written");
    db.put_entity("c", [("city", "Rome")]).expect("written");
    db.put_entity("d", [("city", "Paris"), ("", "d")]).expect("written");
    put(&db, &[("e", "plain"), ("f", "other")]);
    let snapshot = db.snapshot();
    let before: Vec<_> = ["a", "b", "c", "d", "e"].map(|key| db.get_entity(key).expect("readable")).into();
    db.compact_range::<&str>(..).expect("compacted");
    let options = ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
    let family = db.default_column_family();
    let seen: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|key| family.get_entity_with(key, &options).expect("readable")).into();
    assert_eq!(seen, before, "a snapshot sees what it saw");
    drop((snapshot, options));
    db.put_entity("z", [("city", "Bonn")]).expect("written");
    db.compact_range::<&str>(..).expect("compacted");
    let shown = |key: &str| db.get_entity(key).expect("readable").map(|columns| format!("{columns:?}"));
    assert_eq!(shown("a"), None);
    assert_eq!(shown("b").as_deref(), Some(r#"{"": "x", "city": "Bergen"}"#));
    assert_eq!(shown("c").as_deref(), Some(r#"{"": "of Rome"}"#));
    assert_eq!(shown("d").as_deref(), Some(r#"{"": "d", "city": "Paris"}"#));
    assert_eq!(shown("e").as_deref(), Some(r#"{"city": "Bern"}"#));
    assert_eq!(shown("f").as_deref(), Some(r#"{"": "other"}"#));
    assert_eq!(db.get("e").expect("readable").as_deref(), Some(&b""[..]), "no default column");
}
