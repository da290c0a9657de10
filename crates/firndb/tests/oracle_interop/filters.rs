//! Filters: each side's spare the other the tables that do not hold a key, and what is not known is no filter.

use std::path::Path;
use std::sync::Arc;

use firndb::{Db, FamilyOptions, Fs, IndexType, Options, PosixFs, PrefixExtractor, ReadOptions, Statistics, Ticker};

use crate::rocks::{Release, drive, files, ldb, word};

const KEYS: u32 = 2000;
const USEFUL: &str = "rocksdb.bloom.filter.useful";

fn key(i: u32) -> Vec<u8> {
    format!("key{i:05}").into_bytes()
}

/// Between two keys, and no key.
fn gap(i: u32) -> Vec<u8> {
    format!("key{i:05}.").into_bytes()
}

fn puts() -> String {
    (0..KEYS).map(|i| format!("put default {} 76\n", word(&key(i)))).collect()
}

/// How often a filter of the directory made a read of a table unnecessary, of `KEYS - 1` times.
fn gaps_that_we_need_not_look_into(dir: &Path) -> u64 {
    let statistics = Arc::new(Statistics::default());
    let mut options = Options::default();
    options.statistics = Some(Arc::clone(&statistics));
    let db = Db::open_read_only(dir, options).expect("opens");
    for i in 0..KEYS {
        assert_eq!(db.get(key(i)).expect("readable").as_deref(), Some(&b"v"[..]), "a filter denied key {i}");
    }
    let before = statistics.ticker(Ticker::BloomFilterUseful);
    for i in 0..KEYS - 1 {
        assert!(db.get(gap(i)).expect("readable").is_none());
    }
    db.close().expect("closes");
    statistics.ticker(Ticker::BloomFilterUseful) - before
}

/// How tables are written: a change of the options.
type Form = fn(&mut FamilyOptions);

const FORMS: [Form; 4] = [
    |_| (),
    |family| family.bloom_before_level = Some(-1),
    |family| {
        (family.index_type, family.metadata_block_size, family.partition_filters) = (IndexType::TwoLevel, 512, true);
    },
    |family| {
        (family.index_type, family.metadata_block_size, family.partition_filters) = (IndexType::TwoLevel, 512, true);
        (family.bloom_before_level, family.prefix_extractor) = (Some(-1), Some(PrefixExtractor::Fixed(6)));
    },
];

/// A database of ours with one table, of 2000 keys.
fn ours(dir: &Path, format_version: u32, form: Form) {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.family.bloom_bits_per_key = Some(10.0);
    options.family.format_version = format_version;
    form(&mut options.family);
    let db = Db::open_with(dir, options).expect("opens");
    (0..KEYS).for_each(|i| db.put(key(i), "v").expect("written"));
    db.flush().expect("flushed");
    db.close().expect("closes");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_filters_of_ours_spare_rocksdb_reads_in_every_format_version() {
    for (release, versions) in [(Release::Seven, 2..=5), (Release::Nine, 2..=6)] {
        for (format_version, form) in versions.flat_map(|version| FORMS.iter().map(move |form| (version, *form))) {
            let temp = tempfile::tempdir().expect("a directory");
            let dir = temp.path().join("db");
            ours(&dir, format_version, form);
            let gaps: String = (0..KEYS - 1).map(|i| format!("absent default {}\n", word(&gap(i)))).collect();
            let options = release.options("kNoCompression", Some(10), 4096, "statistics=true;");
            // The dump gets every key, so that no filter may deny one.
            let said = drive(release, &dir, &format!("open {options}\ndump\n{gaps}ticker {USEFUL}\nexit\n"));
            assert_eq!(said.lines().count() as u32, 1 + KEYS + 1);
            let useful: u32 = said.lines().last().and_then(|count| count.parse().ok()).expect("a count");
            assert!(useful > KEYS * 9 / 10, "{release:?}, format_version {format_version}: useful {useful} times");
        }
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_tables_of_ours_in_every_format_version_are_read_and_compacted_by_11_1() {
    for (format_version, form) in (2..=7).flat_map(|version| FORMS.iter().map(move |form| (version, *form))) {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        ours(&dir, format_version, form);
        let scan = |what: &str| {
            let said = ldb(Release::Eleven, &dir, &["--try_load_options", "scan"], "");
            let found = said.lines().filter(|line| line.ends_with(" ==> v")).count();
            assert_eq!(found as u32, KEYS, "format_version {format_version}: {what}");
        };
        scan("ours");
        for i in (0..KEYS).step_by(199) {
            let key = String::from_utf8(key(i)).expect("text");
            assert_eq!(ldb(Release::Eleven, &dir, &["--try_load_options", "get", &key], "").trim(), "v");
        }
        ldb(Release::Eleven, &dir, &["--try_load_options", "put", "key00000", "v"], "");
        ldb(Release::Eleven, &dir, &["--try_load_options", "compact"], "");
        scan("theirs");
        assert!(
            gaps_that_we_need_not_look_into(&dir) > u64::from(KEYS) * 9 / 10,
            "with the options that are in OPTIONS"
        );
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_filters_of_every_release_spare_us_reads() {
    let temp = tempfile::tempdir().expect("a directory");
    let ours = |what: &str, dir: &Path| {
        let useful = gaps_that_we_need_not_look_into(dir);
        assert!(useful > u64::from(KEYS) * 9 / 10, "{what}: useful {useful} times");
    };
    let forms = [
        // Until format_version 5, the older Bloom filter.
        (Release::Seven, "block_based_table_factory={format_version=4;filter_policy=bloomfilter:10:false;};"),
        (Release::Seven, "block_based_table_factory={format_version=5;filter_policy=bloomfilter:10:false;};"),
        (Release::Seven, "block_based_table_factory={filter_policy=ribbonfilter:10:-1;};"),
        (Release::Nine, "format_version=2;bloom=10"),
        (Release::Nine, "format_version=6;bloom=10"),
    ];
    for (index, (release, form)) in forms.into_iter().enumerate() {
        let dir = temp.path().join(format!("{index}"));
        drive(release, &dir, &format!("open {form}\n{}flush default\nexit\n", puts()));
        ours(&format!("{release:?}, {form}"), &dir);
    }
    let dir = temp.path().join("11.1");
    let lines: String = (0..KEYS).map(|i| format!("key{i:05} ==> v\n")).collect();
    ldb(Release::Eleven, &dir, &["--create_if_missing", "--bloom_bits=10", "load"], &lines);
    ldb(Release::Eleven, &dir, &["--bloom_bits=10", "compact"], "");
    ours("11.1", &dir);
}

/// A number as varints are written, and what is behind it.
fn varint(bytes: &[u8]) -> (usize, &[u8]) {
    let last = bytes.iter().position(|byte| *byte < 0x80).expect("it ends");
    let number = bytes[..=last].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    (number, &bytes[last + 1..])
}

/// Makes the filter of a table without checksums deny every key, and calls it what it is called.
fn deny_everything(table: &Path, name: &str) {
    const KNOWN: &str = "fullfilter.rocksdb.BuiltinBloomFilter";
    assert_eq!(name.len(), KNOWN.len());
    let mut bytes = PosixFs.read_whole(table, 1 << 30).expect("readable");
    let at = bytes.windows(KNOWN.len()).rposition(|window| window == KNOWN.as_bytes()).expect("it has a filter");
    let (offset, rest) = varint(&bytes[at + KNOWN.len()..]);
    let (size, _) = varint(rest);
    bytes[at..at + KNOWN.len()].copy_from_slice(name.as_bytes());
    // The last five bytes say which sort of filter it is.
    bytes[offset..offset + size - 5].fill(0);
    let beside = table.with_extension("new");
    PosixFs.write_atomically(table, &beside, &bytes).expect("written");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_filter_that_is_not_known_denies_nothing() {
    let temp = tempfile::tempdir().expect("a directory");
    let make = |dir: &Path, name: &str| {
        let form = "block_based_table_factory={filter_policy=bloomfilter:10:false;checksum=kNoChecksum;};";
        drive(Release::Seven, dir, &format!("open {form}\n{}flush default\nexit\n", puts()));
        for table in files(dir, ".sst") {
            deny_everything(&table, name);
        }
    };
    let dir = temp.path().join("foreign");
    make(&dir, "fullfilter.someone.elses.Bloom.Filter");
    assert_eq!(gaps_that_we_need_not_look_into(&dir), 0);
    // Under its own name it is believed, or this would prove nothing.
    let dir = temp.path().join("own");
    make(&dir, "fullfilter.rocksdb.BuiltinBloomFilter");
    let db = Db::open_read_only(&dir, Options::default()).expect("opens");
    assert!(db.get(key(7)).expect("readable").is_none());
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_walk_among_the_keys_of_one_prefix_ends_where_that_of_rocksdb_does() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    // Keys of up to four of three bytes: shorter ones than the prefix, whole prefixes, and some behind the last byte.
    let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
    for len in 0..4 {
        let longer =
            keys.iter().filter(|key| key.len() == len).flat_map(|key| [0, b'a', 255].map(|b| [key, &[b][..]].concat()));
        keys.extend(longer.collect::<Vec<_>>());
    }
    let open = "open bloom=10;prefix=2\n";
    let puts = |third: usize| -> String {
        let some = keys.iter().enumerate().filter(|(i, _)| i % 3 == third);
        some.map(|(_, key)| format!("put default {} 76\n", word(key))).collect()
    };
    let walks: String = keys.iter().map(|key| format!("walk default {}\n", word(key))).collect();
    // Two of three are there, in a table and in the log.
    let script = format!("{open}{}flush default\n{}{walks}", puts(0), puts(1));
    let theirs = drive(Release::Nine, &dir, &script);
    let mut theirs = theirs.lines();

    let mut options = Options::default();
    options.family.prefix_extractor = Some(PrefixExtractor::Capped(2));
    let db = Db::open_read_only(&dir, options).expect("opens");
    let reading = ReadOptions { prefix_same_as_start: true, ..ReadOptions::default() };
    let mut cursor = db.cursor(reading).expect("a cursor");
    let mut seen = 0;
    for key in &keys {
        for is_forward in [true, false] {
            let mut found: Vec<String> = Vec::new();
            let mut valid = if is_forward { cursor.seek(key) } else { cursor.seek_for_prev(key) }.expect("readable");
            while valid {
                found.push(word(cursor.key()));
                valid = if is_forward { cursor.next() } else { cursor.prev() }.expect("readable");
            }
            seen += found.len();
            assert_eq!(found.join(" "), theirs.next().expect("a line"), "{key:?}, forward: {is_forward}");
        }
    }
    assert!(seen > keys.len(), "{seen} steps");
}
