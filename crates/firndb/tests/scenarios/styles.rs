//! Families of the other compaction styles, and of few levels: what a compaction by hand makes of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use firndb::{
    CompactionOptionsUniversal, CompactionStyle, Db, ErrorKind, FamilyDescriptor, FsOp, HealthState, ManualClock,
    Options, PinKind, ReadOptions, Snapshot, verify_directory,
};
use firndb_testkit::Random;

use crate::lab::{DIR, Lab, Map, all, fill, settle};

fn files(db: &Db) -> Vec<usize> {
    db.stats().families[0].levels.iter().map(|level| level.files).collect()
}

/// RocksDB opens no level 0 in which a table has older and newer entries than another one.
#[test]
fn a_family_that_is_not_leveled_is_merged_whole_whatever_range_was_asked_for() {
    for (style, levels, last) in
        [(CompactionStyle::Universal, 1, 0), (CompactionStyle::Universal, 4, 3), (CompactionStyle::None, 4, 3)]
    {
        let lab = Lab::new().change(|options| {
            options.family.compaction_style = style;
            options.family.disable_auto_compactions = true;
            options.family.num_levels = levels;
        });
        let db = lab.open();
        for key in ["a", "m", "a"] {
            db.put(key, "v").expect("written");
            db.flush().expect("flushed");
        }
        let before = all(&db);
        db.compact_range("a".."b").expect("compacted");
        settle(&db);
        let files = files(&db);
        assert_eq!(files.iter().sum::<usize>(), 1, "{style:?} {levels}: {files:?}");
        assert_eq!(files[last], 1, "{style:?} {levels}: {files:?}");
        assert_eq!(all(&db), before);
        // Newer tables lie above it.
        db.put("a", "new").expect("written");
        db.flush().expect("flushed");
        assert_eq!(db.get("a").expect("read").as_deref(), Some(&b"new"[..]));
    }
}

#[test]
fn leveled_compaction_has_a_level_to_fill() {
    let lab = Lab::new().change(|options| {
        options.family.num_levels = 1;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_stop_writes_trigger = 4;
    });
    let db = lab.open();
    for key in ["a", "b", "c", "d", "e"] {
        db.put(key, "v").expect("written");
        db.flush().expect("flushed");
        settle(&db);
    }
    assert!(files(&db)[0] < 2, "{:?}", files(&db));
    assert_eq!(all(&db).len(), 5);
    db.close().expect("nothing is open");
    assert_eq!(all(&lab.open()).len(), 5);
}

fn universal(change: impl FnOnce(&mut Options)) -> Lab {
    Lab::new().change(|options| {
        options.family.compaction_style = CompactionStyle::Universal;
        options.family.level0_file_num_compaction_trigger = 4;
        change(options);
    })
}

/// Tables of level 0, and levels that hold something.
fn runs(db: &Db) -> usize {
    let files = files(db);
    files[0] + files[1..].iter().filter(|files| **files > 0).count()
}

#[test]
fn a_universal_family_keeps_its_runs_few_and_its_space_near_its_data() {
    for (levels, is_moving) in [(1, false), (2, false), (7, false), (7, true)] {
        let lab = universal(|options| {
            options.family.num_levels = levels;
            options.family.compaction_options_universal.allow_trivial_move = is_moving;
        });
        let db = lab.open();
        let mut random = Random::new(u64::from(levels));
        let (mut expected, mut snapshots) = (Map::new(), Vec::new());
        for round in 0..120u64 {
            for _ in 0..40 {
                let (key, value) = (format!("key{:04}", random.below(400)).into_bytes(), vec![round as u8; 90]);
                db.put(&key, &value).expect("written");
                expected.insert(key, value);
            }
            if round % 20 == 10 {
                snapshots.push((db.snapshot(), expected.clone()));
            }
            db.flush().expect("flushed");
            settle(&db);
            assert!(runs(&db) <= 5, "{levels} levels, round {round}: {:?}", files(&db));
        }
        assert_eq!(all(&db), expected);
        for (snapshot, expected) in snapshots {
            let options = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
            let found = db.default_column_family().range_with::<&[u8]>(.., options).expect("it opens");
            assert_eq!(crate::lab::collect(found), expected);
        }
        settle(&db);
        let (bytes, data) = (lab.bytes_of_tables(), expected.len() as u64 * 100);
        assert!(bytes < data * 7 / 2, "{levels} levels: {bytes} bytes of tables for {data} of data");
        db.close().expect("nothing is open");
        assert_eq!(all(&lab.open()), expected);
        lab.verify();
    }
}

#[test]
fn a_universal_family_whose_every_key_was_deleted_shrinks_to_nothing() {
    for levels in [1, 7] {
        let lab = universal(|options| options.family.num_levels = levels);
        let db = lab.open();
        fill(&db, 1000, "doomed");
        db.flush().expect("flushed");
        let snapshot = db.snapshot();
        for number in 0..1000 {
            db.delete(format!("key{number:04}")).expect("deleted");
        }
        db.flush().expect("flushed");
        settle(&db);
        assert!(lab.bytes_of_tables() > 10_000, "a snapshot sees it all");
        drop(snapshot);
        settle(&db);
        assert_eq!(lab.tables().len(), 0, "{levels} levels: {:?}", files(&db));
        assert!(!db.run_background_step(), "nothing is left to do");
    }
}

#[test]
fn a_universal_family_is_written_anew_when_a_table_is_too_old() {
    let clock = Arc::new(ManualClock::new(1));
    let lab = universal(|options| {
        options.clock = clock.clone();
        options.family.ttl = 1000;
    });
    let db = lab.open();
    let expected = fill(&db, 100, "old");
    db.flush().expect("flushed");
    settle(&db);
    let before = lab.tables();
    clock.advance(Duration::from_secs(999));
    settle(&db);
    assert_eq!(lab.tables(), before, "not yet");
    clock.advance(Duration::from_secs(2));
    settle(&db);
    assert!(lab.tables().is_disjoint(&before), "{:?}", lab.tables());
    assert_eq!(files(&db)[..6], [0; 6], "all of it is at the bottom");
    assert_eq!(all(&db), expected);
    assert!(!db.run_background_step(), "once");
    // It can change while the database is open.
    let before = lab.tables();
    db.set_options(&[("ttl", "0"), ("periodic_compaction_seconds", "50")]).expect("changed");
    clock.advance(Duration::from_secs(49));
    settle(&db);
    assert_eq!(lab.tables(), before);
    clock.advance(Duration::from_secs(2));
    settle(&db);
    assert!(lab.tables().is_disjoint(&before));
}

#[test]
fn options_of_a_style_change_one_by_one_and_are_kept() {
    let lab = universal(|options| options.family.compaction_options_universal.size_ratio = 7);
    let db = lab.open();
    let limits = |db: &Db| db.default_column_family().options().compaction_options_universal;
    let one = [("compaction_options_universal", "{min_merge_width=3;stop_style=kCompactionStopStyleSimilarSize;}")];
    db.set_options(&one).expect("changed");
    assert_eq!((limits(&db).size_ratio, limits(&db).min_merge_width), (7, 3));
    for (text, named) in [("{size_ratios=1;}", "size_ratios"), ("{min_merge_width=1;}", "min_merge_width"), ("7", "7")]
    {
        let error = db.set_options(&[("compaction_options_universal", text)]).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let before = limits(&db);
    db.close().expect("nothing is open");
    // A program that says one thing does not take back the others.
    let moving = CompactionOptionsUniversal { allow_trivial_move: true, ..CompactionOptionsUniversal::default() };
    let lab = lab.change(|options| options.family.compaction_options_universal = moving);
    let expected = CompactionOptionsUniversal { allow_trivial_move: true, ..before };
    assert_eq!(limits(&lab.open()), expected);
}

#[test]
fn a_family_changes_its_style_if_its_tables_lie_as_the_new_one_needs_them() {
    let lab = Lab::new();
    let db = lab.open();
    let expected = fill(&db, 500, "leveled");
    db.flush().expect("flushed");
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close().expect("nothing is open");
    let style = |db: &Db| db.default_column_family().options().compaction_style;
    let to = |style| {
        let change = FamilyDescriptor::new("default").change(move |options| options.compaction_style = style);
        Options { families: vec![change], ..lab.options.clone() }
    };
    // A level of tables is a run, and the other way round.
    for next in [CompactionStyle::Universal, CompactionStyle::Level, CompactionStyle::Universal] {
        let db = Db::open_with(DIR, to(next)).expect("opens");
        assert_eq!((style(&db), all(&db)), (next, expected.clone()));
        db.put("key0000", format!("{next:?}")).expect("written");
        db.put("key0000", &expected[&b"key0000"[..]]).expect("written");
        db.flush().expect("flushed");
        settle(&db);
        db.close().expect("nothing is open");
        // The directory remembers it.
        assert_eq!(style(&lab.open()), next);
    }
    let error = Db::open_with(DIR, to(CompactionStyle::Fifo)).map(drop).expect_err("what is oldest in a level?");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("compaction_style"), "{error}");
    assert_eq!(style(&lab.open()), CompactionStyle::Universal);
    verify_directory(DIR, &lab.options, &mut |_| {}).expect("sound");
}

/// Five tables of about 2000 bytes, `0` the oldest, with ten keys each; three of them may be.
fn fifo(change: impl FnOnce(&mut Options)) -> Lab {
    Lab::new().change(|options| {
        options.family.compaction_style = CompactionStyle::Fifo;
        options.family.compaction_options_fifo.max_table_files_size = 7000;
        options.family.level0_file_num_compaction_trigger = 4;
        change(options);
    })
}

fn add_table(db: &Db, round: usize) {
    for number in 0..10 {
        db.put(format!("{round}-{number}"), vec![b'a' + round as u8; 100]).expect("written");
    }
    db.flush().expect("flushed");
}

fn rounds(db: &Db) -> String {
    let mut firsts: Vec<char> = all(db).keys().map(|key| char::from(key[0])).collect();
    firsts.dedup();
    firsts.into_iter().collect()
}

fn at(db: &Db, snapshot: &Snapshot, key: &str) -> Option<Vec<u8>> {
    let options = ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
    let found = db.default_column_family().get_with(key, &options).expect("readable").map(|value| value.to_vec());
    let mut range = db.default_column_family().range_with(key..=key, options).expect("it opens");
    assert_eq!(range.next().map(|entry| entry.expect("readable").1.to_vec()), found, "both ways of reading");
    found
}

#[test]
fn a_fifo_family_drops_its_oldest_tables_and_iterators_keep_what_they_see() {
    let lab = fifo(|_| {});
    let db = lab.open();
    (0..3).for_each(|round| add_table(&db, round));
    settle(&db);
    assert!(lab.bytes_of_tables() > 4000, "{}", lab.bytes_of_tables());
    let view = db.iter().expect("it opens");
    let before = all(&db);
    (3..9).for_each(|round| {
        add_table(&db, round);
        settle(&db);
    });
    let left = rounds(&db);
    assert!(left.ends_with("78") && !left.contains('0') && left.len() < 6, "{left}");
    assert_eq!(crate::lab::collect(view), before);
    settle(&db);
    assert!(lab.bytes_of_tables() <= 7000, "{}", lab.bytes_of_tables());
    assert!(db.compact_range::<&[u8]>(..).is_ok() && rounds(&db) == left, "by hand there is nothing else to do");
    db.set_options(&[("compaction_options_fifo", "{max_table_files_size=2500;}")]).expect("changed");
    db.compact_range::<&[u8]>(..).expect("what is due is done");
    assert_eq!(rounds(&db), "8");
    db.close().expect("nothing is open");
    assert_eq!(rounds(&lab.open()), "8");
    lab.verify();
    lab.assert_disk_is_manifest();
}

#[test]
fn a_fifo_family_drops_what_is_too_old_and_merging_keeps_nothing_alive() {
    for is_merging in [false, true] {
        let lab = fifo(|options| {
            options.family.ttl = 1000;
            options.family.compaction_options_fifo.max_table_files_size = 1 << 20;
            options.family.compaction_options_fifo.allow_compaction = is_merging;
        });
        let db = lab.open();
        for round in 0..8 {
            add_table(&db, round);
            settle(&db);
            lab.clock.advance(Duration::from_secs(100));
        }
        assert_eq!(files(&db)[0], if is_merging { 2 } else { 8 }, "{:?}", files(&db));
        assert_eq!(rounds(&db), "01234567");
        // Round n was written at 100 n; it is 800 now.
        lab.clock.advance(Duration::from_secs(250));
        settle(&db);
        assert_eq!(rounds(&db), if is_merging { "01234567" } else { "1234567" });
        lab.clock.advance(Duration::from_secs(255));
        settle(&db);
        assert_eq!(rounds(&db), "4567", "the newest of the first four is of 300");
        db.close().expect("nothing is open");
        lab.clock.advance(Duration::from_secs(1000));
        let db = lab.open();
        settle(&db);
        assert_eq!(rounds(&db), "", "also while nobody looked");
        lab.verify();
    }
}

/// A drop that would take from a snapshot what it sees waits, and says so.
#[test]
fn a_snapshot_keeps_what_a_fifo_family_would_drop_until_it_is_gone() {
    let lab = fifo(|_| {});
    let db = lab.open();
    add_table(&db, 0);
    let snapshot = db.snapshot();
    (1..6).for_each(|round| {
        add_table(&db, round);
        settle(&db);
    });
    assert_eq!(rounds(&db), "012345");
    assert_eq!(at(&db, &snapshot, "0-3").as_deref(), Some(&[b'a'; 100][..]));
    let health = db.health();
    assert_eq!(health.state, HealthState::Healthy);
    assert_eq!(health.waiting_drops.len(), 1, "{health:?}");
    let waiting = &health.waiting_drops[0];
    assert!(waiting.column_family == "default" && waiting.tables >= 2 && waiting.bytes > 3000, "{waiting:?}");
    let lines = lab.lines.take();
    let said: Vec<_> = lines.iter().filter(|line| line.contains("kept for 1 snapshots")).collect();
    assert!(said.len() == 1 && said[0].contains("styles.rs:"), "once: {lines:?}");
    drop(snapshot);
    settle(&db);
    assert!(!rounds(&db).contains('0'), "{}", rounds(&db));
    assert!(db.health().waiting_drops.is_empty());
    assert!(lab.bytes_of_tables() <= 7000);
}

/// The snapshot is made when nothing can stop the drop any more: it reads through the view that it was made with.
#[test]
fn a_snapshot_made_in_the_middle_of_a_drop_sees_all_its_life_what_it_saw_first() {
    let lab = fifo(|_| {});
    let db = lab.open();
    (0..6).for_each(|round| add_table(&db, round));
    type Made = Option<(Snapshot, Option<Vec<u8>>)>;
    let made: Arc<Mutex<Made>> = Arc::default();
    let (maker, kept) = (db.clone(), Arc::clone(&made));
    lab.hook.set(move |op, path| {
        let is_manifest = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"));
        // Reads go through the hook, too.
        if op == FsOp::Append && is_manifest && kept.lock().expect("whole").is_none() {
            let snapshot = maker.snapshot();
            let seen = at(&maker, &snapshot, "0-3");
            *kept.lock().expect("whole") = Some((snapshot, seen));
        }
    });
    settle(&db);
    lab.hook.clear();
    let (snapshot, seen) = made.lock().expect("whole").take().expect("the drop came to its edit");
    assert_eq!(seen.as_deref(), Some(&[b'a'; 100][..]));
    assert_eq!(db.get("0-3").expect("readable"), None, "it was dropped");
    assert_eq!(at(&db, &snapshot, "0-3"), seen);
    let later = db.snapshot();
    assert_eq!(at(&db, &later, "0-3"), None, "one that is made afterwards never saw it");
    // Whose the files are is no secret.
    let pins = db.pins();
    let holder = pins.iter().find(|pin| pin.kind == PinKind::Iterator).expect("listed");
    assert!(holder.exclusive_bytes > 2000 && holder.site.file().ends_with("styles.rs"), "{holder}");
    assert!(lab.bytes_of_tables() > 7000);
    drop((snapshot, later));
    settle(&db);
    assert!(lab.bytes_of_tables() <= 7000);
    assert!(db.pins().is_empty());
}

#[test]
fn a_family_with_all_tables_in_level_0_may_become_a_fifo_one() {
    let lab = Lab::new();
    let db = lab.open();
    (0..4).for_each(|round| add_table(&db, round));
    db.close().expect("nothing is open");
    let lab = lab.change(|options| {
        options.family.compaction_style = CompactionStyle::Fifo;
        options.family.compaction_options_fifo.max_table_files_size = 5000;
    });
    let db = lab.open();
    settle(&db);
    assert_eq!(rounds(&db), "23");
    db.close().expect("nothing is open");
}
