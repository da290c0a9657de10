//! Workloads for counting instructions: `cargo xtask instructions` runs them under callgrind.
//!
//! A counter cannot be told where a workload starts, so each is run at two lengths over the same prepared directory: the
//! difference of the two counts, over the difference of the lengths, is the cost of one operation, without the cost of
//! opening. Keys of 16 bytes, values of 100, Bloom filters of 10 bits, no compression, one thread, a warm cache: what the
//! RocksDB figures in docs/performance.md were taken with.
//!
//!     instructions prepare DIR        makes the directories that the workloads read
//!     instructions WORKLOAD DIR N     runs one of them

use std::path::Path;

use firndb::{BackgroundMode, BlockCache, CloseMode, Db, Options, PinKind, ReadOptions};
use firndb_testkit::{Random, decimal_key as key};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Keys of a prepared directory: even numbers. Odd ones are missing from within the range.
const KEYS: u64 = 200_000;

const VALUE: [u8; 100] = [b'v'; 100];

/// Nothing runs beside the workload, and nothing is compacted unless it says so.
fn open(dir: &Path) -> Result<Db, firndb::Error> {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.background = BackgroundMode::Manual;
    options.block_cache = Some(BlockCache::new(1 << 30));
    options.family.bloom_bits_per_key = Some(10.0);
    options.family.disable_auto_compactions = true;
    options.family.target_file_size_base = 1 << 30;
    Db::open_with(dir, options)
}

/// Reads everything, so that every block is cached.
fn warm(db: &Db) -> Outcome {
    let mut cursor = db.cursor(ReadOptions::default())?;
    let mut more = cursor.seek_to_first()?;
    while more {
        more = cursor.next()?;
    }
    Ok(())
}

/// `one`: one table on the last level. `four`: the same keys over four tables of level 0, each of
/// which spans the whole range. `two`: two
/// overlapping tables of level 0, for a compaction.
fn prepare(dir: &Path) -> Outcome {
    std::fs::create_dir_all(dir)?;
    let all: Vec<u64> = (0..KEYS).map(|number| number * 2).collect();
    let db = open(&dir.join("one"))?;
    all.iter().try_for_each(|number| db.put(key(*number), VALUE))?;
    db.flush()?;
    db.compact_range::<&[u8]>(..)?;
    db.close()?;

    let db = open(&dir.join("four"))?;
    for part in 0..4 {
        all.iter().filter(|number| *number / 2 % 4 == part).try_for_each(|number| db.put(key(*number), VALUE))?;
        db.flush()?;
    }
    db.close()?;

    let db = open(&dir.join("two"))?;
    let mut random = Random::new(7);
    for _ in 0..2 {
        (0..KEYS / 2).try_for_each(|_| db.put(key(random.below(KEYS) * 2), VALUE))?;
        db.flush()?;
    }
    Ok(db.close()?)
}

fn run(workload: &str, dir: &Path, count: u64) -> Outcome {
    let mut random = Random::new(42);
    let source = match workload {
        "miss" | "seek-four" | "next-four" | "get-four" => "four",
        "compaction" => "two",
        _ => "one",
    };
    match workload {
        "get" | "get-four" | "miss" => {
            let db = open(&dir.join(source))?;
            warm(&db)?;
            let odd = u64::from(workload == "miss");
            for _ in 0..count {
                let found = db.get(key(random.below(KEYS) * 2 + odd))?.is_some();
                assert!(found != (odd == 1));
            }
        }
        "next" | "next-four" | "seek" | "seek-four" => {
            let db = open(&dir.join(source))?;
            warm(&db)?;
            let mut cursor = db.cursor(ReadOptions::default())?;
            cursor.seek_to_first()?;
            for _ in 0..count {
                let stands = match workload {
                    "next" | "next-four" => cursor.next()?,
                    _ => cursor.seek(key(random.below(KEYS) * 2))?,
                };
                assert!(stands);
                std::hint::black_box((cursor.key(), cursor.value()));
            }
        }
        "iterator" => {
            let db = open(&dir.join(source))?;
            warm(&db)?;
            for _ in 0..count {
                std::hint::black_box(db.cursor(ReadOptions::default())?);
            }
            assert!(db.pins().iter().all(|pin| pin.kind != PinKind::Iterator));
        }
        "snapshot" => {
            let db = open(&dir.join(source))?;
            for _ in 0..count {
                std::hint::black_box(db.snapshot());
            }
        }
        "memtable-get" => {
            let db = open(&fresh(dir, "memtable-get"))?;
            (0..20_000).try_for_each(|number| db.put(key(number * 7919 % 20_000), VALUE))?;
            for _ in 0..count {
                assert!(db.get(key(random.below(20_000)))?.is_some());
            }
            db.close_with(CloseMode::Refuse)?;
        }
        "put" | "put-sequential" | "flush" => {
            let db = open(&fresh(dir, workload))?;
            for number in 0..count {
                let number = if workload == "put-sequential" { number } else { random.below(KEYS * 100) };
                db.put(key(number), VALUE)?;
            }
            if workload == "flush" {
                db.flush()?;
            }
            // No flush on the way out, which would be counted.
            std::process::exit(0);
        }
        "compaction" => {
            let from = dir.join(source);
            let to = fresh(dir, workload);
            std::fs::create_dir_all(&to)?;
            for entry in std::fs::read_dir(from)? {
                let entry = entry?;
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
            let db = open(&to)?;
            if count > 0 {
                db.compact_range::<&[u8]>(..)?;
            }
        }
        other => return Err(format!("no workload {other}").into()),
    }
    Ok(())
}

/// A directory of that name with nothing in it.
fn fresh(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(format!("run-{name}"));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [verb, dir] if verb == "prepare" => prepare(Path::new(dir)),
        [workload, dir, count] => run(workload, Path::new(dir), count.parse()?),
        _ => Err("usage: instructions prepare DIR | instructions WORKLOAD DIR N".into()),
    }
}
