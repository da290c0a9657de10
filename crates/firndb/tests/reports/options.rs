//! Options that are lost, or that are not in effect, at a reopen, at a crash, or at once.

use std::collections::BTreeSet;

use firndb::{Compression, CrashPolicy, Db, ErrorKind, FamilyOptions, KeyOrder};

use crate::lab::{Lab, ORDERLY, settle};

/// Options that are none of the defaults.
fn special() -> FamilyOptions {
    let mut options = Lab::new().options.family;
    options.compression = Compression::Lz4;
    options.bloom_bits_per_key = Some(10.0);
    options.block_size = 1024;
    options.write_buffer_size = 123_456;
    options.key_order = KeyOrder::ReverseBytewise;
    options
}

fn assert_is_special(options: &FamilyOptions, when: &str) {
    assert_eq!(options.compression, Compression::Lz4, "{when}");
    assert_eq!(options.bloom_bits_per_key, Some(10.0), "{when}");
    assert_eq!((options.block_size, options.write_buffer_size), (1024, 123_456), "{when}");
    assert_eq!(options.key_order.name(), KeyOrder::ReverseBytewise.name(), "{when}");
}

/// facebook/rocksdb#14267: a crash while a family was made left it in MANIFEST, and its options in a temporary file.
#[test]
fn a_crash_while_a_family_is_made_leaves_it_with_its_options_or_not_at_all() {
    let mut outcomes = BTreeSet::new();
    for policy in ORDERLY {
        for index in 0.. {
            let lab = Lab::new();
            let db = lab.open();
            db.put("key", "value").expect("written");
            lab.fs.crash_after(lab.fs.op_count() + index);
            let made = db.create_column_family_with("special", special()).map(drop);
            let lab = lab.crash(policy, index);
            let mut options = lab.options.clone();
            // The next program knows nothing of the family.
            options.family = FamilyOptions::default();
            let reopened = Db::open_with(crate::lab::DIR, options).expect("it opens");
            let family = reopened.column_family("special").ok();
            if let Some(family) = &family {
                assert_is_special(&family.options(), &format!("{policy:?}, call {index}, made: {made:?}"));
                family.put("a", "value").expect("written");
            }
            outcomes.insert(family.is_some());
            drop(family);
            let other = reopened.create_column_family("another").expect("new");
            other.put("key", "value").expect("written");
            drop(other);
            reopened.close().expect("closes");
            if made.is_ok() {
                break;
            }
        }
    }
    assert_eq!(outcomes.len(), 2, "both happen");
}

/// The same where the disk fails: whoever is told of an error finds things as they were, in OPTIONS as well.
#[test]
fn a_family_that_could_not_be_made_is_neither_in_manifest_nor_in_options() {
    let mut failures = 0;
    for index in 0.. {
        let lab = Lab::new();
        let db = lab.open();
        lab.fs.inject(firndb::Fault::at(lab.fs.op_count() + index, firndb::FaultEffect::Eio));
        let made = db.create_column_family_with("special", special()).map(drop);
        lab.fs.clear_faults();
        for _ in 0..5 {
            lab.clock.advance(std::time::Duration::from_secs(2));
            settle(&db);
        }
        match &made {
            Err(_) => {
                failures += 1;
                assert!(db.column_family("special").is_err());
                // Again, with other options, which are not those of the first time.
                let plain = db.create_column_family("special").expect("it can be made now");
                assert_eq!(plain.options().compression, Compression::None);
            }
            Ok(()) => assert_is_special(&db.column_family("special").expect("there").options(), "now"),
        }
        db.close().expect("closes");
        let mut silent = lab.options.clone();
        silent.family = FamilyOptions::default();
        let db = Db::open_with(crate::lab::DIR, silent).expect("it opens");
        let options = db.column_family("special").expect("there").options();
        match &made {
            Err(_) => assert_eq!((options.compression, options.bloom_bits_per_key), (Compression::None, None)),
            Ok(()) => assert_is_special(&options, &format!("call {index}")),
        }
        db.close().expect("closes");
        lab.verify();
        if made.is_ok() && index > 20 {
            break;
        }
    }
    assert!(failures > 3, "{failures}");
}

/// facebook/mysql-5.6#888, apache/incubator-pegasus#571: what was set at run time was overwritten with defaults at the next
/// start. quixio/quix-streams#1136: filters and cache sizes were those of families that are made, not of those there are.
#[test]
fn what_was_set_at_run_time_outlives_restarts_that_do_not_mention_it() {
    let lab = Lab::new();
    let db = lab.open();
    let family = db.create_column_family("tuned").expect("new");
    let changes = [("write_buffer_size", "777k"), ("compression", "kZSTD"), ("filter_policy", "bloomfilter:12:false")];
    family.set_options(&changes).expect("changed");
    db.set_options(&[("block_size", "2048")]).expect("changed");
    drop(family);
    db.close().expect("closes");
    for restart in 0..3 {
        let mut options = lab.options.clone();
        options.family = FamilyOptions::default();
        let db = match restart {
            // By a crash in between, too.
            1 => {
                let crashed = lab.crash(CrashPolicy::KeepAll, 3);
                options.fs = crashed.options.fs.clone();
                Db::open_with(crate::lab::DIR, options).expect("it opens")
            }
            _ => Db::open_with(crate::lab::DIR, options).expect("it opens"),
        };
        let tuned = db.column_family("tuned").expect("there").options();
        assert_eq!((tuned.write_buffer_size, tuned.compression), (777 << 10, Compression::Zstd));
        assert_eq!(tuned.bloom_bits_per_key, Some(12.0));
        assert_eq!(db.default_column_family().options().block_size, 2048);
        db.close().expect("closes");
    }
}

/// facebook/rocksdb#1242: what was set was in effect and in the file, but asking for it gave the old value.
#[test]
fn whoever_asks_after_a_change_is_told_the_new_value_whichever_handle_they_ask() {
    let lab = Lab::new();
    let db = lab.open();
    let one = db.create_column_family("family").expect("new");
    let two = db.column_family("family").expect("there");
    one.set_options(&[("disable_auto_compactions", "true"), ("level0_stop_writes_trigger", "2000")]).expect("changed");
    for handle in [one, two, db.column_family("family").expect("there")] {
        assert!(handle.options().disable_auto_compactions);
        assert_eq!(handle.options().level0_stop_writes_trigger, 2000);
    }
    // Of several changes of which one is refused none is made.
    let refused = db.set_options(&[("block_size", "8192"), ("num_levels", "3")]).expect_err("cannot change");
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    assert_ne!(db.default_column_family().options().block_size, 8192);
    db.close().expect("closes");
}

/// apache/kvrocks#3034: a slowdown trigger of 0, which was meant as "off", slowed every write down.
#[test]
fn triggers_of_zero_hold_no_writer_up_and_are_refused_or_put_in_order() {
    for field in ["level0_file_num_compaction_trigger", "level0_slowdown_writes_trigger", "level0_stop_writes_trigger"]
    {
        let lab = Lab::new().change(|options| match field {
            "level0_file_num_compaction_trigger" => options.family.level0_file_num_compaction_trigger = 0,
            "level0_slowdown_writes_trigger" => options.family.level0_slowdown_writes_trigger = 0,
            _ => options.family.level0_stop_writes_trigger = 0,
        });
        let db = match lab.try_open() {
            Ok(db) => db,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{field}: {error}");
                assert!(error.to_string().contains(field), "{error}");
                continue;
            }
        };
        for number in 0..5 {
            db.put(format!("{number}"), "value").expect("nobody waits");
            assert!(db.stats().stall_reason.is_none(), "{field}: {:?}", db.stats().stall_reason);
        }
        db.flush().expect("flushed");
        settle(&db);
        db.put("after", "value").expect("nobody waits");
        assert!(db.stats().stall_reason.is_none(), "{field}");
        db.close().expect("closes");
    }
}
