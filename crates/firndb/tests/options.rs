//! What becomes of options: given at open, kept by the directory, changed meanwhile, refused, put in order.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firndb::inspect::{self, Field};
use firndb::{
    BackgroundMode, CompactionStyle, Comparator, Compression, Db, ErrorKind, FamilyDescriptor, FamilyOptions, Fault,
    FaultEffect, Fs, FsOp, IndexType, KeyOrder, LogLevel, Logger, MemoryFs, Options, PrefixExtractor, verify_directory,
};
use firndb_testkit::{Random, decimal_key, from_environment, small_options};

/// Longer keys first; a name of its own.
struct ByLength(&'static str);

impl Comparator for ByLength {
    fn name(&self) -> &str {
        self.0
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        b.len().cmp(&a.len()).then_with(|| a.cmp(b))
    }
}

fn by_length() -> Arc<dyn Comparator> {
    Arc::new(ByLength("test.ByLength"))
}

fn plain(fs: &MemoryFs) -> Options {
    Options {
        create_if_missing: true,
        fs: Arc::new(fs.clone()),
        background: BackgroundMode::Manual,
        ..Options::default()
    }
}

fn options_files(fs: &MemoryFs) -> Vec<PathBuf> {
    let is_options = |path: &PathBuf| path.to_string_lossy().contains("/OPTIONS-");
    let mut found: Vec<_> = fs.paths().into_iter().filter(is_options).collect();
    found.sort();
    found
}

/// A value of the newest OPTIONS file.
fn in_file(fs: &MemoryFs, section: &str, key: &str) -> Option<String> {
    let newest = options_files(fs).pop().expect("there is one");
    let mut found = None;
    inspect::options(fs, &newest, &mut |item| {
        let get = |wanted: &str| item.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        if get("section") == Some(Field::Text(section.to_owned()))
            && let Some(Field::Text(value)) = get(key)
        {
            found = Some(value);
        }
        Ok(())
    })
    .expect("readable");
    found
}

fn in_section(fs: &MemoryFs, family: &str, key: &str) -> Option<String> {
    let of_table = format!("TableOptions/BlockBasedTable \"{family}\"");
    in_file(fs, &format!("CFOptions \"{family}\""), key).or_else(|| in_file(fs, &of_table, key))
}

fn first_keys(db: &Db, family: &str) -> Vec<Vec<u8>> {
    let family = db.column_family(family).expect("there");
    family.iter().expect("opens").map(|entry| entry.expect("whole").0.to_vec()).collect()
}

#[test]
fn a_family_with_a_comparator_of_its_own_reopens_beside_a_bytewise_default() {
    let fs = MemoryFs::new();
    let db = Db::open_with("/db", plain(&fs)).expect("new");
    let ordered = FamilyOptions { key_order: KeyOrder::Custom(by_length()), ..FamilyOptions::default() };
    let family = db.create_column_family_with("ordered", ordered.clone()).expect("new");
    for key in ["a", "bbb", "cc"] {
        family.put(key, "1").expect("written");
        db.put(key, "1").expect("written");
    }
    drop(family);
    db.close().expect("closes");

    let error = Db::open_with("/db", plain(&fs)).map(drop).expect_err("nobody knows the comparator");
    assert_eq!(error.kind(), ErrorKind::NotSupported);
    assert!(error.to_string().contains("test.ByLength") && error.to_string().contains("comparators"), "{error}");

    let registered = Options { comparators: vec![by_length()], ..plain(&fs) };
    let described = Options { families: vec![FamilyDescriptor::new("ordered").options(ordered.clone())], ..plain(&fs) };
    let of_all = Options { family: ordered.clone(), ..plain(&fs) };
    for options in [registered, described, of_all] {
        let db = Db::open_with("/db", options.clone()).expect("the comparator is known");
        assert_eq!(first_keys(&db, "ordered"), [&b"bbb"[..], b"cc", b"a"]);
        assert_eq!(first_keys(&db, "default"), [&b"a"[..], b"bbb", b"cc"], "it is not imposed on others");
        db.column_family("ordered").expect("there").flush().expect("flushed");
        db.close().expect("closes");
        drop(Db::open_read_only("/db", options.clone()).expect("for reading, too"));
        let report = verify_directory("/db", &options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
    }

    let insists = |name| Options { families: vec![FamilyDescriptor::new(name).options(ordered.clone())], ..plain(&fs) };
    let error = Db::open_with("/db", insists("default")).map(drop).expect_err("it is bytewise");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    let stranger = KeyOrder::Custom(Arc::new(ByLength("test.Stranger")));
    let family = FamilyOptions { key_order: stranger, ..FamilyOptions::default() };
    let options = Options { family, comparators: vec![by_length()], ..plain(&fs) };
    let error = Db::open_with("/db", options).map(drop).expect_err("no family has it");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("test.Stranger"), "{error}");
}

#[test]
fn what_the_program_does_not_say_stays_as_the_directory_says() {
    let fs = MemoryFs::new();
    let db = Db::open_with("/db", plain(&fs)).expect("new");
    let packed = FamilyOptions {
        compression: Compression::Zstd,
        bloom_bits_per_key: Some(9.5),
        block_size: 8192,
        block_restart_interval: 4,
        format_version: 4,
        level0_file_num_compaction_trigger: 7,
        max_write_buffer_number: 5,
        write_buffer_size: 3 << 20,
        target_file_size_base: 5 << 20,
        compaction_style: CompactionStyle::Universal,
        num_levels: 5,
        ..FamilyOptions::default()
    };
    drop(db.create_column_family_with("packed", packed.clone()).expect("new"));
    db.close().expect("closes");
    for (key, value) in [
        ("compression", "kZSTD"),
        ("filter_policy", "bloomfilter:9.5:false"),
        ("block_size", "8192"),
        ("block_restart_interval", "4"),
        ("format_version", "4"),
        ("compaction_style", "kCompactionStyleUniversal"),
        ("max_bytes_for_level_base", "268435456"),
    ] {
        assert_eq!(in_section(&fs, "packed", key).as_deref(), Some(value), "{key}");
    }

    let all = |db: &Db, name: &str| format!("{:?}", db.column_family(name).expect("there").options());
    let db = Db::open_with("/db", plain(&fs)).expect("opens");
    assert_eq!(all(&db, "packed"), format!("{packed:?}"), "nothing was said");
    db.close().expect("closes");

    // One thing is said, of all families.
    let family = FamilyOptions { bloom_bits_per_key: Some(12.0), ..FamilyOptions::default() };
    let db = Db::open_with("/db", Options { family, ..plain(&fs) }).expect("opens");
    let expected = FamilyOptions { bloom_bits_per_key: Some(12.0), ..packed.clone() };
    assert_eq!(all(&db, "packed"), format!("{expected:?}"));
    assert_eq!(db.default_column_family().options().bloom_bits_per_key, Some(12.0));
    assert_eq!(db.default_column_family().options().compression, Compression::None);
    db.close().expect("closes");
    assert_eq!(in_section(&fs, "default", "filter_policy").as_deref(), Some("bloomfilter:12:false"));

    // Of one family, default values too.
    let change = |options: &mut FamilyOptions| {
        (options.bloom_bits_per_key, options.compression) = (None, Compression::None);
    };
    let families = vec![FamilyDescriptor::new("packed").change(change)];
    let db = Db::open_with("/db", Options { families, ..plain(&fs) }).expect("opens");
    let expected = FamilyOptions { bloom_bits_per_key: None, compression: Compression::None, ..packed.clone() };
    assert_eq!(all(&db, "packed"), format!("{expected:?}"));
    assert_eq!(db.default_column_family().options().bloom_bits_per_key, Some(12.0));
    db.close().expect("closes");

    // All of them, as RocksDB does; how the files lie is the directory's still.
    let db = Db::open_with("/db", Options { options_are_complete: true, ..plain(&fs) }).expect("opens");
    let expected =
        FamilyOptions { num_levels: 5, compaction_style: CompactionStyle::Universal, ..FamilyOptions::default() };
    assert_eq!(all(&db, "packed"), format!("{expected:?}"));
    db.close().expect("closes");
}

#[test]
fn the_databases_own_options_are_kept_as_well_but_not_those_of_one_opening() {
    let fs = MemoryFs::new();
    let chosen = Options {
        max_background_jobs: 5,
        max_open_files: 77,
        max_total_wal_size: 12345,
        db_write_buffer_size: 1 << 20,
        atomic_flush: true,
        cache_index_and_filter_blocks: Some(true),
        avoid_flush_during_shutdown: true,
        ..plain(&fs)
    };
    Db::open_with("/db", chosen).expect("new").close().expect("closes");
    assert_eq!(in_file(&fs, "DBOptions", "max_background_jobs").as_deref(), Some("5"));
    let files = options_files(&fs);
    let db = Db::open_with("/db", plain(&fs)).expect("opens");
    let options = db.options();
    assert_eq!((options.max_background_jobs, options.max_open_files), (5, 77));
    assert_eq!((options.max_total_wal_size, options.db_write_buffer_size), (12345, 1 << 20));
    assert!(options.atomic_flush && !options.avoid_flush_during_shutdown);
    assert_eq!(options.cache_index_and_filter_blocks, Some(true));
    db.close().expect("closes");
    assert_eq!(options_files(&fs), files, "what says the same is not written again");
    let db = Db::open_with("/db", Options { max_background_jobs: 3, ..plain(&fs) }).expect("opens");
    assert_eq!((db.options().max_background_jobs, db.options().max_open_files), (3, 77));
    db.close().expect("closes");
    // What was on once goes off again if the program says so, and stays off.
    let off = Options { cache_index_and_filter_blocks: Some(false), ..plain(&fs) };
    for options in [off, plain(&fs)] {
        let db = Db::open_with("/db", options).expect("opens");
        assert_eq!(db.options().cache_index_and_filter_blocks, Some(false));
        db.close().expect("closes");
    }
    let damaged = options_files(&fs).pop().expect("there is one");
    fs.damage(&damaged, |bytes| {
        let text = String::from_utf8(bytes.clone())
            .expect("text")
            .replace("max_background_jobs=3", "max_background_jobs=many");
        *bytes = text.into_bytes();
    })
    .expect("damaged");
    let error = Db::open_with("/db", plain(&fs)).map(drop).expect_err("nobody wrote that");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    let (text, name) = (error.to_string(), damaged.file_name().and_then(|name| name.to_str()).expect("a name"));
    assert!(text.contains(name) && text.contains("max_background_jobs"), "{text}");
}

#[test]
fn a_described_family_that_is_missing_is_made_only_if_that_is_asked_for() {
    let fs = MemoryFs::new();
    Db::open_with("/db", plain(&fs)).expect("new").close().expect("closes");
    let logs = FamilyOptions { write_buffer_size: 8 << 20, ..FamilyOptions::default() };
    let options = Options { families: vec![FamilyDescriptor::new("logs").options(logs)], ..plain(&fs) };
    let error = Db::open_with("/db", options.clone()).map(drop).expect_err("there is none");
    assert_eq!(error.kind(), ErrorKind::NoSuchColumnFamily);
    assert!(error.to_string().contains("logs"), "{error}");
    let db = Db::open_with("/db", Options { create_missing_column_families: true, ..options.clone() }).expect("made");
    assert_eq!(db.column_family("logs").expect("made").options().write_buffer_size, 8 << 20);
    db.drop_column_family("logs").expect("dropped");
    let again = db.create_column_family("logs").expect("made again");
    assert_eq!(again.options().write_buffer_size, 8 << 20, "its descriptor is still good");
    drop(again);
    db.close().expect("closes");
    let twice = vec![FamilyDescriptor::new("logs"), FamilyDescriptor::new("logs")];
    let error = Db::open_with("/db", Options { families: twice, ..plain(&fs) }).map(drop).expect_err("which one?");
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[test]
fn options_that_change_at_run_time_are_in_effect_at_once_and_survive_a_reopen() {
    let fs = MemoryFs::new();
    let mut options = small_options(&fs);
    options.family.level0_file_num_compaction_trigger = 50;
    options.family.max_bytes_for_level_base = 64 << 20;
    let db = Db::open_with("/db", options.clone()).expect("new");
    let flush_some = |db: &Db, rounds: u64| {
        for round in 0..rounds {
            (0..10).for_each(|number| db.put(decimal_key(number * 10 + round), [b'v'; 30]).expect("written"));
            db.flush().expect("flushed");
        }
    };
    flush_some(&db, 6);
    let level0 = |db: &Db| db.stats().families[0].levels[0].files;
    while db.run_background_step() {}
    assert_eq!(level0(&db), 6);

    // Writers are stopped at once, and let go at once.
    db.set_options(&[
        ("level0_file_num_compaction_trigger", "6"),
        ("level0_slowdown_writes_trigger", "6"),
        ("level0_stop_writes_trigger", "6"),
    ])
    .expect("they can change");
    assert!(db.stats().stall_reason.is_some());
    assert_eq!(db.put("key", "value").expect_err("nothing runs by itself").kind(), ErrorKind::Busy);
    db.set_options(&[("level0_stop_writes_trigger", "60"), ("level0_slowdown_writes_trigger", "60")]).expect("changed");
    assert!(db.stats().stall_reason.is_none());
    db.put("key", "value").expect("nothing in the way");
    // The compaction is due since the trigger changed.
    while db.run_background_step() {}
    assert_eq!(level0(&db), 0, "compacted");

    assert_eq!(in_section(&fs, "default", "level0_stop_writes_trigger").as_deref(), Some("60"), "before it returned");
    db.default_column_family()
        .change_options(|options| {
            (options.compression, options.bloom_bits_per_key, options.block_size) = (Compression::Lz4, Some(10.0), 512);
        })
        .expect("they can change");
    db.set_options(&[("disable_auto_compactions", "true")]).expect("it can change");
    flush_some(&db, 1);
    let newest =
        fs.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).max().expect("some");
    assert_eq!(property(&fs, &newest, "compression"), Field::Text("LZ4".to_owned()));
    assert_ne!(property(&fs, &newest, "filter_bytes"), Field::Number(0));

    // All or nothing.
    for refused in [
        &[("write_buffer_size", "1m"), ("num_levels", "3")][..],
        &[("write_buffer_size", "1m"), ("no_such_option", "3")],
        &[("write_buffer_size", "1m"), ("block_size", "1")],
    ] {
        let error = db.set_options(refused).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(refused[1].0), "{error}");
    }
    fs.inject(Fault::on(FsOp::Rename, "OPTIONS*", FaultEffect::Eio));
    db.set_options(&[("write_buffer_size", "1m")]).expect_err("OPTIONS cannot be written");
    fs.clear_faults();
    assert_eq!(db.default_column_family().options().write_buffer_size, 2048, "nothing changed");
    db.close().expect("closes");

    let db = Db::open_with("/db", plain(&fs)).expect("opens");
    let kept = db.default_column_family().options();
    assert_eq!((kept.compression, kept.bloom_bits_per_key, kept.block_size), (Compression::Lz4, Some(10.0), 512));
    assert_eq!((kept.level0_stop_writes_trigger, kept.level0_file_num_compaction_trigger), (60, 6));
    assert!(!kept.disable_auto_compactions, "that one is of each opening");
    db.close().expect("closes");
}

fn property(fs: &dyn Fs, table: &Path, wanted: &str) -> Field {
    let mut found = None;
    inspect::sst(fs, table, &mut |item| {
        if item.title == "properties" {
            found = item.fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        }
        Ok(())
    })
    .expect("readable");
    found.expect("it has that property")
}

#[test]
fn each_level_has_its_codec_and_the_last_one_may_have_another() {
    let fs = MemoryFs::new();
    let newest = |db: &Db| {
        db.put("key", "value".repeat(50)).expect("written");
        db.flush().expect("flushed");
        codec_of_newest(&fs)
    };
    let compacted = |db: &Db| {
        db.compact_range::<&[u8]>(..).expect("compacted");
        codec_of_newest(&fs)
    };
    let family = FamilyOptions {
        compression: Compression::Zlib,
        bottommost_compression: Some(Compression::Zstd),
        ..FamilyOptions::default()
    };
    let db = Db::open_with("/db", Options { family, ..plain(&fs) }).expect("new");
    assert_eq!(newest(&db), "Zlib");
    newest(&db);
    assert_eq!(compacted(&db), "ZSTD");
    db.close().expect("closes");
    assert_eq!(in_section(&fs, "default", "bottommost_compression").as_deref(), Some("kZSTD"));
    // The directory says so, and the names are RocksDB's.
    let db = Db::open_with("/db", plain(&fs)).expect("opens");
    newest(&db);
    assert_eq!(compacted(&db), "ZSTD");
    let levels = "kNoCompression:kLZ4Compression";
    let changes = [("bottommost_compression", "kDisableCompressionOption"), ("compression_per_level", levels)];
    db.set_options(&changes).expect("they can change");
    assert_eq!(newest(&db), "NoCompression");
    newest(&db);
    assert_eq!(compacted(&db), "LZ4");
    db.close().expect("closes");
    assert_eq!(in_section(&fs, "default", "compression_per_level").as_deref(), Some(levels));
}

fn codec_of_newest(fs: &MemoryFs) -> String {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "sst");
    let newest = fs.paths().into_iter().filter(is_table).max().expect("some");
    match property(fs, &newest, "compression") {
        Field::Text(name) => name,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_descriptors_change_says_what_it_may_not_change() {
    let fs = MemoryFs::new();
    type Change = fn(&mut FamilyOptions);
    let with = |change: Change| Options {
        create_missing_column_families: true,
        families: vec![FamilyDescriptor::new("logs").change(change)],
        ..plain(&fs)
    };
    let made: Change = |options| {
        (options.num_levels, options.compaction_style) = (4, CompactionStyle::None);
    };
    // A family that is made gets them, and saying the same again is no change.
    for _ in 0..2 {
        let db = Db::open_with("/db", with(made)).expect("opens");
        let options = db.column_family("logs").expect("there").options();
        assert_eq!((options.num_levels, options.compaction_style), (4, CompactionStyle::None));
        db.close().expect("closes");
    }
    let others: [(Change, &str); 2] = [
        (|options| options.num_levels = 5, "num_levels 5"),
        (|options| *options = FamilyOptions::default(), "num_levels 7"),
    ];
    for (change, said) in others {
        for options_are_complete in [false, true] {
            let options = Options { options_are_complete, ..with(change) };
            let error = Db::open_with("/db", options).map(drop).expect_err(said);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(said) && error.to_string().contains("logs"), "{error}");
        }
    }
}

/// What the logger was told.
#[derive(Debug, Default)]
struct Lines(Mutex<Vec<String>>);

impl Logger for Lines {
    fn log(&self, _: LogLevel, message: &str) {
        self.0.lock().expect("whole").push(message.to_owned());
    }
}

#[test]
fn a_change_that_alters_its_neighbours_says_so() {
    let fs = MemoryFs::new();
    let lines = Arc::new(Lines::default());
    let db = Db::open_with("/db", Options { logger: Some(Arc::clone(&lines) as _), ..plain(&fs) }).expect("new");
    db.set_options(&[("level0_slowdown_writes_trigger", "50")]).expect("changed");
    let options = db.default_column_family().options();
    assert_eq!((options.level0_slowdown_writes_trigger, options.level0_stop_writes_trigger), (50, 50));
    let said = lines.0.lock().expect("whole").join("\n");
    assert!(said.contains("\"default\": level0_stop_writes_trigger is 50 instead of 36"), "{said}");
    db.close().expect("closes");
}

#[test]
fn options_that_contradict_each_other_are_put_in_order_as_rocksdb_does() {
    let fs = MemoryFs::new();
    let family = FamilyOptions {
        level0_file_num_compaction_trigger: 8,
        level0_slowdown_writes_trigger: 2,
        level0_stop_writes_trigger: 4,
        soft_pending_compaction_bytes_limit: 100 << 20,
        hard_pending_compaction_bytes_limit: 50 << 20,
        target_file_size_base: u64::MAX,
        max_bytes_for_level_base: u64::MAX,
        max_bytes_for_level_multiplier: f64::MAX,
        max_write_buffer_number: usize::MAX,
        ..FamilyOptions::default()
    };
    let db = Db::open_with("/db", Options { family, ..plain(&fs) }).expect("there is an order");
    let options = db.default_column_family().options();
    assert_eq!((options.level0_slowdown_writes_trigger, options.level0_stop_writes_trigger), (8, 8));
    assert_eq!(options.soft_pending_compaction_bytes_limit, 50 << 20);
    for number in 0..20u32 {
        db.put(number.to_be_bytes(), "v").expect("written");
        db.flush().expect("flushed");
        while db.run_background_step() {}
    }
    db.close().expect("closes");

    type Spoil = fn(&mut Options);
    let nonsense: [(&str, Spoil); 16] = [
        ("num_levels", |options| options.family.num_levels = 0),
        ("write_buffer_size", |options| options.family.write_buffer_size = 0),
        ("write_buffer_size", |options| options.family.write_buffer_size = u64::MAX),
        ("max_write_buffer_number", |options| options.family.max_write_buffer_number = 1),
        ("level0_file_num_compaction_trigger", |options| options.family.level0_file_num_compaction_trigger = 0),
        ("target_file_size_base", |options| options.family.target_file_size_base = 0),
        ("max_bytes_for_level_base", |options| options.family.max_bytes_for_level_base = 0),
        ("max_bytes_for_level_multiplier", |options| options.family.max_bytes_for_level_multiplier = 0.5),
        ("max_bytes_for_level_multiplier", |options| options.family.max_bytes_for_level_multiplier = f64::NAN),
        ("block_size", |options| options.family.block_size = 0),
        ("block_restart_interval", |options| options.family.block_restart_interval = 0),
        ("bloom_bits_per_key", |options| options.family.bloom_bits_per_key = Some(f64::NAN)),
        ("metadata_block_size", |options| options.family.metadata_block_size = 0),
        ("format_version", |options| options.family.format_version = 8),
        ("max_background_jobs", |options| options.max_background_jobs = 0),
        ("max_open_files", |options| options.max_open_files = 0),
    ];
    for (name, spoil) in nonsense {
        let mut options = plain(&fs);
        spoil(&mut options);
        let error = Db::open_with("/db", options.clone()).map(drop).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        if ["max_background_jobs", "max_open_files"].contains(&name) {
            continue;
        }
        let db = Db::open_with("/db", plain(&fs)).expect("opens");
        let error = db.create_column_family_with("spoilt", options.family).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
        db.close().expect("closes");
    }
}

/// Some values make sense, others do not; together they may contradict each other.
fn random_options(random: &mut Random, fs: &MemoryFs) -> Options {
    let counts = [0, 1, 2, 3, 4, 8, 20, 36, usize::MAX];
    let sizes = [0, 1, 1023, 1024, 2048, 4096, 64 << 10, 1 << 20, 64 << 30, u64::MAX];
    let small = [1, 2, 4, 8];
    let mut count = |usual: usize| if random.below(3) > 0 { usual } else { random.one_of(&counts) };
    let mut family = FamilyOptions {
        max_write_buffer_number: count(2),
        level0_file_num_compaction_trigger: count(4),
        level0_slowdown_writes_trigger: count(20),
        level0_stop_writes_trigger: count(36),
        ..FamilyOptions::default()
    };
    let mut size = |usual: u64| if random.below(2) > 0 { usual } else { random.one_of(&sizes) };
    family.write_buffer_size = size(2048);
    family.soft_pending_compaction_bytes_limit = size(64 << 30);
    family.hard_pending_compaction_bytes_limit = size(256 << 30);
    family.target_file_size_base = size(4096);
    family.max_bytes_for_level_base = size(8192);
    let (max_total_wal_size, db_write_buffer_size, max_manifest_file_size) = (size(0), size(0), size(1 << 30));
    family.max_bytes_for_level_multiplier = random.one_of(&[0.0, 1.0, 2.5, 10.0, f64::MAX, f64::INFINITY]);
    family.num_levels = random.one_of(&[0, 1, 2, 3, 7, 64, 65]);
    family.level_compaction_dynamic_level_bytes = random.below(2) == 0;
    family.disable_auto_compactions = random.below(6) == 0;
    let styles = [CompactionStyle::Level, CompactionStyle::Universal, CompactionStyle::Fifo, CompactionStyle::None];
    family.compaction_style = if random.below(3) > 0 { CompactionStyle::Level } else { random.one_of(&styles) };
    family.block_size = random.one_of(&[0, 64, 256, 4096, 64 << 20]);
    family.block_restart_interval = random.one_of(&[0, 1, 16, 1024]);
    family.bloom_bits_per_key = random.one_of(&[None, Some(0.0), Some(0.5), Some(10.0), Some(100.0)]);
    family.format_version = random.one_of(&[1, 2, 4, 5, 5, 6, 7]);
    family.bloom_before_level = random.one_of(&[None, Some(-1), Some(1)]);
    family.index_type = random.one_of(&[IndexType::BinarySearch, IndexType::TwoLevel]);
    family.metadata_block_size = random.one_of(&[0, 64, 4096, 4096]);
    family.partition_filters = random.below(2) == 0;
    family.whole_key_filtering = random.below(3) > 0;
    family.prefix_extractor = random.one_of(&[None, Some(PrefixExtractor::Fixed(2)), Some(PrefixExtractor::Capped(9))]);
    Options {
        create_if_missing: true,
        fs: Arc::new(fs.clone()),
        family,
        max_total_wal_size,
        db_write_buffer_size,
        max_manifest_file_size,
        max_background_jobs: random.one_of(&small),
        max_open_files: random.one_of(&[16, 100, 4096]),
        atomic_flush: random.below(3) == 0,
        background_retry: Duration::ZERO,
        ..Options::default()
    }
}

/// The options of a family and of the database; an error that refuses has one of these names in it.
const NAMES: [&str; 20] = [
    "max_write_buffer_number",
    "level0_file_num_compaction_trigger",
    "level0_slowdown_writes_trigger",
    "level0_stop_writes_trigger",
    "write_buffer_size",
    "soft_pending_compaction_bytes_limit",
    "hard_pending_compaction_bytes_limit",
    "target_file_size_base",
    "max_bytes_for_level_base",
    "max_bytes_for_level_multiplier",
    "num_levels",
    "block_size",
    "block_restart_interval",
    "metadata_block_size",
    "bloom_bits_per_key",
    "format_version",
    "max_background_jobs",
    "max_open_files",
    "compression",
    "compaction_style",
];

#[test]
fn whatever_the_options_opening_refuses_by_name_or_writes_never_hang() {
    let seed = from_environment("FIRN_SEED").unwrap_or(11);
    let rounds = from_environment("FIRN_OPS").unwrap_or(400);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut ran = 0;
    for round in 0..rounds {
        let fs = MemoryFs::new();
        let options = random_options(&mut random, &fs);
        let said = format!("round {round} of seed {seed}: {:?}", options.family);
        let db = match Db::open_with("/db", options) {
            Ok(db) => db,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{said}: {error}");
                let text = error.to_string();
                assert!(NAMES.iter().any(|name| text.contains(name)), "{said}: {text}");
                continue;
            }
        };
        ran += 1;
        let (done, finished) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            for number in 0..200u64 {
                db.put(decimal_key(number * 7 % 100), [b'v'; 50]).expect("written");
                if number % 3 == 0 {
                    db.flush().expect("flushed");
                }
            }
            db.close().expect("closes");
            done.send(()).expect("somebody waits");
        });
        match finished.recv_timeout(Duration::from_secs(60)) {
            Ok(()) => writer.join().expect("it ended"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{said}: {:?}", writer.join()),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{said}: hangs"),
        }
    }
    assert!(ran * 20 > rounds, "{ran} of {rounds} were opened");
}

#[test]
fn a_comparator_may_have_any_name_and_its_database_opens_again() {
    struct Named(&'static str);
    impl firndb::Comparator for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn compare(&self, a: &[u8], b: &[u8]) -> std::cmp::Ordering {
            b.cmp(a)
        }
    }
    for name in [
        "my#order",
        "#",
        "a:b",
        "back\\slash",
        "\\#",
        " blank ",
        "two\nlines",
        "\u{85}x",
        "=",
        "[x]",
        "\"q\"",
        "ümlaut",
    ] {
        let fs = MemoryFs::new();
        let open = || {
            let mut options = plain(&fs);
            options.family.key_order = KeyOrder::Custom(Arc::new(Named(name)));
            Db::open_with("/db", options)
        };
        for round in 0..3 {
            let db = open().unwrap_or_else(|error| panic!("{name:?}, opening {round}: {error}"));
            db.put(format!("key{round}"), "value").expect("written");
            db.set_options(&[("write_buffer_size", if round == 1 { "1m" } else { "2m" })]).expect("changed");
            db.close().expect("closes");
        }
        assert_eq!(open().expect("opens").iter().expect("opens").count(), 3, "{name:?}");
    }
}
