//! OPTIONS goes from RocksDB through this engine, which knows few of its keys, and back: nothing is lost on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use firndb::inspect::Field;
use firndb::{Compression, Db, FamilyOptions, Fs, IndexType, Options, PosixFs, PrefixExtractor};
use firndb_testkit::rocksdb;

use crate::rocks::{Release, drive, files, ldb, word};

type Section = BTreeMap<String, String>;

/// The newest OPTIONS file's sections: keys and values.
fn options_of(dir: &Path) -> BTreeMap<String, Section> {
    let is_options = |path: &PathBuf| path.to_string_lossy().contains("/OPTIONS-");
    let newest = files(dir, "").into_iter().rfind(is_options).expect("an OPTIONS file");
    let text = String::from_utf8(PosixFs.read_whole(&newest, 1 << 20).expect("readable")).expect("text");
    let mut sections = BTreeMap::<String, Section>::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            name = section.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            sections.entry(name.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    sections
}

/// This engine opens, makes a family, drops another, and so writes the file anew.
fn make_and_drop_families(dir: &Path) {
    let db = Db::open_with(dir, Options::default()).expect("opens");
    db.create_column_family("of ours").expect("created");
    db.drop_column_family("two").expect("dropped");
    db.close().expect("closes");
}

/// Sections of families come and go; the others are whole. But tables that RocksDB 7.8 cannot read are written only while a
/// program asks for them, and OPTIONS says what is written.
fn assert_carried_on(label: &str, before: &BTreeMap<String, Section>, after: &BTreeMap<String, Section>) {
    for (name, section) in before {
        if name == "Version" || name.contains("\"two\"") {
            continue;
        }
        let after = after.get(name).unwrap_or_else(|| panic!("{label}: [{name}] is gone"));
        let is_changed = |(key, value): &(&String, &String)| match (key.as_str(), value.as_str()) {
            ("format_version", "6" | "7") => after.get(*key).is_none_or(|version| version != "5"),
            _ => after.get(*key) != Some(*value),
        };
        let changed: Vec<_> =
            section.iter().filter(is_changed).map(|(key, value)| (key, value, after.get(key))).collect();
        assert!(changed.is_empty(), "{label}: [{name}]: {changed:?}");
    }
    assert!(after.contains_key("CFOptions \"of ours\"") && !after.contains_key("CFOptions \"two\""), "{label}");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_options_that_rocksdb_chose_are_still_there_when_it_loads_what_we_wrote() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("7.8");
    let chosen = "write_buffer_size=123456;max_background_jobs=7;WAL_ttl_seconds=77;num_levels=5;prefix_extractor=\
                  rocksdb.CappedPrefix.4;compaction_options_universal={size_ratio=13;};compression=kLZ4Compression;\
                  block_based_table_factory={block_size=777;filter_policy=ribbonfilter:9:2;};";
    drive(Release::Seven, &dir, &format!("open {chosen}\nfamily two\nput default 61 62\nexit\n"));
    let mut before = options_of(&dir);
    assert_eq!(before["CFOptions \"default\""]["write_buffer_size"], "123456");
    make_and_drop_families(&dir);
    assert_carried_on("ours of 7.8", &before, &options_of(&dir));
    drive(Release::Seven, &dir, "options default\tof ours\nexit\n");
    // It takes them all from our file, and writes them into its own.
    ldb(Release::Seven, &dir, &["--try_load_options", "put", "c", "d"], "");
    // Two that `ldb` sets itself.
    for (section, key) in [("DBOptions", "create_if_missing"), ("CFOptions \"default\"", "merge_operator")] {
        before.get_mut(section).and_then(|section| section.remove(key)).expect("there");
    }
    assert_carried_on("7.8 again", &before, &options_of(&dir));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_options_of_later_releases_are_carried_on_unknown_keys_and_all() {
    let temp = tempfile::tempdir().expect("a directory");
    for release in [Release::Nine, Release::Eleven] {
        let dir = temp.path().join(format!("{release:?}"));
        match release {
            Release::Nine => {
                let chosen = "write_buffer_size=123456;bloom=9;format_version=6;block_size=777";
                drive(release, &dir, &format!("open {chosen}\nfamily two\nput default {} 62\nexit\n", word(b"a")));
            }
            _ => {
                ldb(release, &dir, &["--create_if_missing", "put", "a", "b"], "");
                ldb(release, &dir, &["create_column_family", "two"], "");
                ldb(release, &dir, &["--write_buffer_size=123456", "put", "a", "b"], "");
            }
        }
        let before = options_of(&dir);
        assert_eq!(before["CFOptions \"default\""]["write_buffer_size"], "123456", "{release:?}");
        make_and_drop_families(&dir);
        assert_carried_on(&format!("ours of {release:?}"), &before, &options_of(&dir));
        if release == Release::Nine {
            drive(release, &dir, "options default\tof ours\nexit\n");
        }
        // The newest release takes them all from our file, and writes them into its own.
        let said = ldb(Release::Eleven, &dir, &["--try_load_options", "get", "a"], "");
        assert_eq!(said.trim(), "b", "{release:?}");
        if release == Release::Eleven {
            ldb(release, &dir, &["--try_load_options", "put", "c", "d"], "");
            assert_carried_on("11.1 again", &before, &options_of(&dir));
        }
    }
}

/// What `sst_dump` says of how a table was made: codec, filter, comparator.
fn how_made(table: &Path) -> Vec<String> {
    let arguments = [&*format!("--file={}", table.display()), "--show_properties", "--command=none"];
    let said = rocksdb::run(Command::new("sst_dump").args(arguments), "").expect("sst_dump reads it");
    let wanted = ["SST file compression algo", "filter policy name", "comparator name"];
    let is_wanted = |line: &&str| wanted.iter().any(|wanted| line.trim_start_matches(['#', ' ']).starts_with(wanted));
    said.lines().filter(is_wanted).map(|line| line.trim().to_owned()).collect()
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_compacting_what_rocksdb_made_keeps_codec_filter_and_block_size() {
    let temp = tempfile::tempdir().expect("a directory");
    for (name, codec, table) in [
        ("bloom", "kZSTD", "block_size=16384;filter_policy=bloomfilter:10:false;"),
        ("bottom", "kLZ4Compression;bottommost_compression=kLZ4HCCompression", ""),
        ("none", "kLZ4Compression", "block_size=1024;"),
        ("snappy", "kSnappyCompression", "filter_policy=bloomfilter:14:false;"),
    ] {
        let dir = temp.path().join(name);
        let mut script = format!("open compression={codec};block_based_table_factory={{{table}}};\nfamily two\n");
        for family in ["default", "two"] {
            for number in 0..2000 {
                let value = format!("value {number} which compresses well").into_bytes();
                script += &format!("put {family} {} {}\n", word(format!("key{number:05}").as_bytes()), word(&value));
            }
            script += &format!("flush {family}\ncompact {family}\n");
        }
        drive(Release::Seven, &dir, &(script + "close\n"));
        let before: Vec<_> = files(&dir, ".sst").iter().map(|table| how_made(table)).collect();
        assert_eq!(before.len(), 2);
        let blocks_before = data_blocks(&dir);
        let db = Db::open_with(&dir, Options::default()).expect("opens");
        for family in db.column_families() {
            family.put("key00000", "changed").expect("written");
            family.compact_range::<&[u8]>(..).expect("compacted");
        }
        db.close().expect("closes");
        let after: Vec<_> = files(&dir, ".sst").iter().map(|table| how_made(table)).collect();
        assert_eq!(before, after, "{name}");
        let blocks = data_blocks(&dir);
        assert!(blocks.abs_diff(blocks_before) <= 2 + blocks / 10, "{name}: {blocks} blocks, {blocks_before} before");
        drive(Release::Seven, &dir, "options default\ttwo\nexit\n");
    }
}

/// The data blocks of all tables.
fn data_blocks(dir: &Path) -> u64 {
    let mut found = 0;
    for table in files(dir, ".sst") {
        let blocks = &mut found;
        firndb::inspect::sst(&PosixFs, &table, &mut |item| {
            let blocks_of = |(name, value): &(String, Field)| match value {
                Field::Number(number) if name == "data_blocks" => Some(*number),
                _ => None,
            };
            *blocks += item.fields.iter().find_map(blocks_of).unwrap_or(0);
            Ok(())
        })
        .expect("readable");
    }
    found
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_every_release_loads_all_the_options_that_we_write_and_writes_them_again() {
    let temp = tempfile::tempdir().expect("a directory");
    let family = FamilyOptions {
        write_buffer_size: 123_456,
        max_write_buffer_number: 5,
        level0_file_num_compaction_trigger: 3,
        level0_slowdown_writes_trigger: 7,
        level0_stop_writes_trigger: 9,
        soft_pending_compaction_bytes_limit: 11 << 30,
        hard_pending_compaction_bytes_limit: 13 << 30,
        num_levels: 5,
        target_file_size_base: 4_321_000,
        max_bytes_for_level_base: 54_321_000,
        max_bytes_for_level_multiplier: 4.25,
        level_compaction_dynamic_level_bytes: false,
        compression: Compression::Lz4,
        bottommost_compression: Some(Compression::None),
        compression_per_level: vec![Compression::None; 3],
        block_size: 7777,
        block_restart_interval: 3,
        bloom_bits_per_key: Some(5.5),
        bloom_before_level: Some(-1),
        whole_key_filtering: false,
        prefix_extractor: Some(PrefixExtractor::Capped(7)),
        index_type: IndexType::TwoLevel,
        metadata_block_size: 5555,
        partition_filters: true,
        format_version: 4,
        ..FamilyOptions::default()
    };
    let options = Options {
        create_if_missing: true,
        create_column_families: vec!["two".to_owned()],
        max_background_jobs: 7,
        max_open_files: 123,
        max_total_wal_size: 99 << 20,
        db_write_buffer_size: 77 << 20,
        max_manifest_file_size: 55 << 20,
        family,
        ..Options::default()
    };
    for release in [Release::Seven, Release::Eleven] {
        let dir = temp.path().join(format!("{release:?}"));
        let mut options = options.clone();
        if release == Release::Eleven {
            // Its build knows no LZ4.
            options.family.compression = Compression::None;
        }
        let db = Db::open_with(&dir, options.clone()).expect("new");
        db.put("a", "b").expect("written");
        db.close().expect("closes");
        let ours = options_of(&dir);
        if release == Release::Seven {
            drive(Release::Seven, &dir, "options default\ttwo\nexit\n");
            drive(Release::Nine, &dir, "options default\ttwo\nexit\n");
        }
        // It takes them from our file, and writes them into its own.
        ldb(release, &dir, &["--try_load_options", "put", "c", "d"], "");
        let theirs = options_of(&dir);
        assert!(theirs["DBOptions"].len() > ours["DBOptions"].len(), "{release:?} wrote its own");
        for (section, entries) in ours.iter().filter(|(section, _)| *section != "Version") {
            for (key, value) in entries {
                let found =
                    theirs[section].get(key).unwrap_or_else(|| panic!("{release:?}: [{section}] {key} is gone"));
                let number = |text: &str| text.parse::<f64>().ok();
                // Options in options: it knows more of them, and has its own order.
                let inner = |text: &str| -> Option<Vec<String>> {
                    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
                    Some(inner.split(';').map(str::to_owned).collect())
                };
                let holds = |(ours, theirs): (Vec<String>, Vec<String>)| ours.iter().all(|pair| theirs.contains(pair));
                let is_same = found == value
                    // `ldb` gives every family one.
                    || key == "merge_operator"
                    || inner(value).zip(inner(found)).is_some_and(holds)
                    || (number(found).is_some() && number(found) == number(value))
                    || (key == "filter_policy" && found.starts_with("ribbonfilter:5.5"))
                    || (key == "filter_policy" && found.contains("id=ribbonfilter:5.5"));
                assert!(is_same, "{release:?}: [{section}] {key} was {value}, is {found}");
            }
        }
        // And we take theirs.
        let db = Db::open_with(&dir, Options::default()).expect("opens");
        let two = db.column_family("two").expect("there").options();
        options.family.merge_operator = two.merge_operator.clone();
        assert_eq!(format!("{two:?}"), format!("{:?}", options.family), "{release:?}");
        assert_eq!(db.options().max_background_jobs, 7);
    }
}
