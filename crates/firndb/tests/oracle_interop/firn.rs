//! The engine's own side: opened, compared in every way, and extended.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use firndb::{
    BlockCache, ColumnFamily, Compression, Db, IndexType, Options, PrefixExtractor, WriteBatch, verify_directory,
};
use firndb_testkit::Random;

use crate::model::{Model, Op, assert_same};
use crate::rocks::{files, word};

/// Small buffers and files, and everything that may be chosen about tables at random.
pub(crate) fn options(random: &mut Random, codec: Compression) -> Options {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.block_cache = Some(BlockCache::new(1 << 20));
    let family = &mut options.family;
    family.compression = codec;
    family.write_buffer_size = random.one_of(&[16 << 10, 64 << 10, 1 << 20]);
    family.target_file_size_base = random.one_of(&[4 << 10, 16 << 10, 1 << 20]);
    family.max_bytes_for_level_base = random.one_of(&[16 << 10, 64 << 10]);
    family.max_bytes_for_level_multiplier = 4.0;
    family.level0_file_num_compaction_trigger = 3;
    family.level_compaction_dynamic_level_bytes = random.below(2) == 0;
    family.block_size = random.one_of(&[128, 1024, 4096, 32 << 10]);
    family.block_restart_interval = random.one_of(&[1, 4, 16]);
    family.bloom_bits_per_key = random.one_of(&[None, Some(10.0), Some(5.5)]);
    family.format_version = random.one_of(&[2, 3, 4, 5, 5, 5]);
    family.bloom_before_level = random.one_of(&[None, None, Some(-1), Some(1)]);
    family.index_type = random.one_of(&[IndexType::BinarySearch, IndexType::TwoLevel]);
    family.metadata_block_size = random.one_of(&[64, 256, 4096]);
    family.partition_filters = random.below(2) == 0;
    family.whole_key_filtering = random.below(3) > 0;
    family.prefix_extractor = random.one_of(&[None, Some(PrefixExtractor::Fixed(3)), Some(PrefixExtractor::Capped(4))]);
    options
}

fn pair(entry: firndb::Result<(firndb::Slice, firndb::Slice)>) -> (firndb::Slice, firndb::Slice) {
    entry.expect("entries are readable")
}

fn compare_family(label: &str, family: &ColumnFamily, model: &Model) {
    let map = &model.families[family.name()];
    let label = format!("{label}: family {}", family.name());
    let forwards: Vec<_> = family.iter().expect("an iterator").map(pair).collect();
    assert_same(&label, forwards.iter().map(|(k, v)| (&k[..], &v[..])), map);
    let backwards: Vec<_> = family.iter().expect("an iterator").rev().map(pair).collect();
    assert_same(&format!("{label}, backwards"), backwards.iter().rev().map(|(k, v)| (&k[..], &v[..])), map);
    for (key, value) in map {
        let found = family.get(key).expect("a key is readable");
        assert!(found.as_deref() == Some(&value[..]), "{label}: get of {key:02x?}");
        let neighbour = [&key[..], &[0]].concat();
        let found = family.get(&neighbour).expect("a key is readable");
        assert!(found.as_deref() == map.get(&neighbour).map(|value| &value[..]), "{label}: get of {neighbour:02x?}");
    }
    let keys: Vec<_> = map.keys().collect();
    for ((key, value), found) in map.iter().zip(family.multi_get(&keys)) {
        assert!(found.expect("keys are readable").as_deref() == Some(&value[..]), "{label}: multi_get of {key:02x?}");
    }
}

/// Every family forwards and backwards, every key got, every deleted key missed.
pub(crate) fn compare(label: &str, db: &Db, model: &Model) {
    let families = db.column_families();
    let mut names: Vec<_> = families.iter().map(ColumnFamily::name).collect();
    names.sort_unstable();
    assert_eq!(names, model.names(), "{label}: families");
    families.iter().for_each(|family| compare_family(label, family, model));
    for (family, key) in model.absent() {
        let found = db.column_family(family).expect("it is there").get(key).expect("a key is readable");
        assert!(found.is_none(), "{label}: family {family}: {key:02x?} was deleted");
    }
}

/// Nothing is wrong with the directory, and a reader that takes no lock sees everything. The tables in use.
pub(crate) fn check(label: &str, dir: &Path, model: &Model) -> Vec<PathBuf> {
    let report = verify_directory(dir, &Options::default(), &mut |_| {});
    let report = report.unwrap_or_else(|error| panic!("{label}: verify: {error}"));
    assert!(report.damages.is_empty(), "{label}: {:?}", report.damages);
    let db = Db::open_read_only(dir, Options::default());
    let db = db.unwrap_or_else(|error| panic!("{label}: read-only: {error}"));
    compare(&format!("{label}, read-only"), &db, model);
    db.close().unwrap_or_else(|error| panic!("{label}: {error}"));
    // A process that ends in the middle of a compaction leaves half a table behind.
    let is_stray = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        report.notes.iter().any(|note| note.contains(&*name))
    };
    files(dir, ".sst").into_iter().filter(|path| !is_stray(path)).collect()
}

/// Opens for writing, and compares.
pub(crate) fn open(label: &str, dir: &Path, options: Options, model: &Model) -> Db {
    let db = Db::open_with(dir, options).unwrap_or_else(|error| panic!("{label}: open: {error}"));
    assert!(db.recovery_report().dropped.is_empty(), "{label}: {:?}", db.recovery_report());
    assert!(db.recovery_report().set_aside.is_empty(), "{label}: {:?}", db.recovery_report());
    compare(label, &db, model);
    db
}

pub(crate) fn apply(label: &str, db: &Db, ops: &[Op]) {
    for op in ops {
        let family = |name: &str| db.column_family(name);
        let done = match op {
            Op::Write(changes) => {
                let mut batch = WriteBatch::new();
                for change in changes {
                    let family = family(&change.family).expect("operations are made for families that are there");
                    match &change.value {
                        Some(value) => batch.put_cf(&family, &change.key, value),
                        None => batch.delete_cf(&family, &change.key),
                    };
                }
                db.write(&mut batch)
            }
            Op::DeleteRange(name, begin, end) => family(name).and_then(|family| family.delete_range(begin, end)),
            Op::Create(name) => db.create_column_family(name).map(drop),
            Op::Drop(name) => db.drop_column_family(name),
            Op::Flush(name) => family(name).and_then(|family| family.flush()),
            Op::Compact(name) => family(name).and_then(|family| family.compact_range::<&[u8]>(..)),
        };
        done.unwrap_or_else(|error| panic!("{label}: {error}"));
    }
}

/// How many levels have files in the family that has most.
pub(crate) fn levels(db: &Db) -> usize {
    let families = db.stats().families;
    let count = |family: &firndb::FamilyStats| family.levels.iter().filter(|level| level.files > 0).count();
    families.iter().map(count).max().unwrap_or_default()
}

/// Every family in its own order, as a driver of RocksDB dumps it.
pub(crate) fn dump_of(db: &Db) -> String {
    let mut families = db.column_families();
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::new();
    for family in families {
        writeln!(text, "family {}", family.name()).expect("a string");
        for entry in family.iter().expect("an iterator") {
            let (key, value) = entry.expect("entries are readable");
            assert_eq!(family.get(&key).expect("readable").as_deref(), Some(&value[..]), "get of {key:02x?}");
            writeln!(text, "{} {}", word(&key), word(&value)).expect("a string");
        }
    }
    text
}
