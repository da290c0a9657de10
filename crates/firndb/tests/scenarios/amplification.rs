//! How often each byte is written, and how much space data takes, beside what theory says of each compaction style.
//!
//! `cargo test -p firndb --test scenarios amplification -- --nocapture` prints the figures.

use firndb::{CompactionStyle, Db, Options};
use firndb_testkit::Random;

use crate::lab::{Lab, all, settle};

const FLUSHES: u64 = 128;
const ENTRIES: u64 = 100;
const VALUE_BYTES: usize = 100;

/// What a load did.
#[derive(Debug)]
struct Amplification {
    /// Bytes written for each byte flushed.
    write: f64,
    /// Bytes of tables for each byte of live data, and at the worst moment.
    space: f64,
    space_max: f64,
    /// Sorted runs that a read has to look into, in the mean.
    runs: f64,
}

fn runs(db: &Db) -> usize {
    let levels = &db.stats().families[0].levels;
    levels[0].files + levels[1..].iter().filter(|level| level.files > 0).count()
}

/// Memtables of [`ENTRIES`] random keys out of `keys`, flushed one after the other, with everything compacted that is due.
fn load(keys: u64, change: impl FnOnce(&mut Options)) -> Amplification {
    let lab = Lab::new().change(|options| {
        let memtable = ENTRIES * (VALUE_BYTES as u64 + 20);
        options.family.level0_file_num_compaction_trigger = 4;
        options.family.max_bytes_for_level_base = 4 * memtable;
        options.family.target_file_size_base = memtable;
        options.family.block_size = 4096;
        change(options);
    });
    let db = lab.open();
    let mut random = Random::new(3);
    let (mut seen, mut entry_bytes) = (0, 0.0);
    let mut space_max: f64 = 0.0;
    for flush in 0..FLUSHES {
        for _ in 0..ENTRIES {
            db.put(format!("{:010}", random.below(keys)), [b'v'; VALUE_BYTES]).expect("written");
        }
        db.flush().expect("flushed");
        settle(&db);
        seen += runs(&db);
        if flush == 0 {
            entry_bytes = lab.bytes_of_tables() as f64 / all(&db).len() as f64;
        }
        // Not while everything fits into some memtables.
        if flush % 8 == 7 && flush > FLUSHES / 2 {
            space_max = space_max.max(lab.bytes_of_tables() as f64 / (all(&db).len() as f64 * entry_bytes));
        }
    }
    let (flushed, compacted) = (db.stats().bytes_flushed as f64, db.stats().bytes_compacted as f64);
    Amplification {
        write: (flushed + compacted) / flushed,
        space: lab.bytes_of_tables() as f64 / (all(&db).len() as f64 * entry_bytes),
        space_max,
        runs: seen as f64 / FLUSHES as f64,
    }
}

fn leveled(options: &mut Options) {
    options.family.compaction_style = CompactionStyle::Level;
}

fn universal(options: &mut Options) {
    options.family.compaction_style = CompactionStyle::Universal;
}

/// New keys all the time: nothing can be dropped, and each byte is written as often as its run or level is merged.
#[test]
fn amplification_of_writes_is_as_theory_says() {
    let (leveled, universal) = (load(u64::MAX, leveled), load(u64::MAX, universal));
    println!("new keys: leveled {leveled:?}, universal {universal:?}");
    // A byte is merged when its run meets one of like size, and the run is twice as large then, or more.
    let doublings = (FLUSHES as f64).log2();
    assert!((2.0..=1.0 + doublings).contains(&universal.write), "{universal:?}, at most {doublings} doublings");
    // Level 0 goes into a base level of its own size; each level below is ten times as large, and a byte that comes in
    // rewrites ten there, and itself, at most.
    let levels = (FLUSHES as f64 / 4.0).log10().ceil();
    let most = 1.0 + 2.0 + levels * 11.0;
    assert!((3.0..=most).contains(&leveled.write), "{leveled:?}, at most {most}");
    assert!(universal.write < leveled.write, "{universal:?} {leveled:?}");
    assert!(universal.runs < 6.0 && leveled.runs < 6.0, "{universal:?} {leveled:?}");
}

/// The same keys over and over: what is not merged yet takes space twice.
#[test]
fn amplification_of_space_is_as_theory_says() {
    let keys = FLUSHES * ENTRIES / 8;
    let (leveled, universal) = (load(keys, leveled), load(keys, universal));
    let tight = load(keys, |options| {
        options.family.compaction_style = CompactionStyle::Universal;
        options.family.compaction_options_universal.max_size_amplification_percent = 25;
    });
    println!("old keys: leveled {leveled:?}, universal {universal:?}, universal with 25 percent {tight:?}");
    // Nine tenths are in the last level; the levels above have a tenth of it, and level 0 as much as the base level.
    assert!(leveled.space_max < 1.6, "{leveled:?}");
    // By default the newer runs may have twice the bytes of the oldest.
    assert!(universal.space_max < 3.2, "{universal:?}");
    assert!(tight.space_max < 1.6 && tight.space_max < universal.space_max, "{tight:?} {universal:?}");
}

/// What is oldest goes unread.
#[test]
fn amplification_of_a_fifo_family_is_one() {
    let fifo = load(u64::MAX, |options| {
        options.family.compaction_style = CompactionStyle::Fifo;
        options.family.compaction_options_fifo.max_table_files_size = 1 << 20;
    });
    println!("new keys: FIFO {fifo:?}");
    assert!(fifo.write == 1.0 && fifo.space < 1.05, "{fifo:?}");
}
