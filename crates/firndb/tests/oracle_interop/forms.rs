//! What options make RocksDB write differently.

use std::path::Path;

use firndb::{CompactionStyle, Db, Fs, Options, PosixFs, verify_directory};

use crate::relay::{Codec, End, LZ4, Relay, Seen, ZSTD};
use crate::rocks::{Release, files, ldb};

/// Options of 7.8 under which it writes other files, in other orders, or with other contents.
const FORMS: [&str; 46] = [
    "enable_blob_files=true;min_blob_size=8;",
    "enable_blob_files=true;min_blob_size=16;blob_file_size=2048;blob_compression_type=kLZ4Compression;",
    "enable_blob_files=true;min_blob_size=0;blob_file_size=4096;blob_compression_type=kZSTD;\
     enable_blob_garbage_collection=true;blob_garbage_collection_age_cutoff=0.5;",
    "wal_compression=kZSTD;",
    "wal_compression=kZSTD;recycle_log_file_num=4;two_write_queues=true;",
    "compaction_style=kCompactionStyleUniversal;",
    "compaction_style=kCompactionStyleUniversal;num_levels=1;",
    "compaction_style=kCompactionStyleFIFO;",
    "num_levels=3;",
    "num_levels=12;",
    "level_compaction_dynamic_level_bytes=true;",
    "prefix_extractor=rocksdb.FixedPrefix.3;memtable_prefix_bloom_size_ratio=0.1;",
    "prefix_extractor=rocksdb.CappedPrefix.4;block_based_table_factory={filter_policy=bloomfilter:10:false;\
     whole_key_filtering=false};",
    "block_based_table_factory={filter_policy=ribbonfilter:10:-1};",
    "block_based_table_factory={filter_policy=bloomfilter:10:false;optimize_filters_for_memory=true;block_size=300};",
    "prefix_extractor=rocksdb.CappedPrefix.3;block_based_table_factory={index_type=kHashSearch};",
    "block_based_table_factory={data_block_index_type=kDataBlockBinaryAndHash;block_size=300};",
    "block_based_table_factory={index_type=kBinarySearchWithFirstKey;block_size=300};",
    "block_based_table_factory={index_type=kTwoLevelIndexSearch;metadata_block_size=128;block_size=200};",
    "block_based_table_factory={index_type=kTwoLevelIndexSearch;metadata_block_size=128;block_size=200;\
     partition_filters=true;filter_policy=bloomfilter:10:false};",
    "block_based_table_factory={index_type=kTwoLevelIndexSearch;metadata_block_size=128;block_size=200;\
     partition_filters=true;filter_policy=ribbonfilter:10:-1;cache_index_and_filter_blocks=true;format_version=3};",
    "block_based_table_factory={index_block_restart_interval=16;block_restart_interval=2;block_size=300};",
    "block_based_table_factory={enable_index_compression=false;index_shortening=kNoShortening;block_size=300};",
    "block_based_table_factory={index_shortening=kShortenSeparatorsAndSuccessor;block_size=300};",
    "block_based_table_factory={format_version=2;checksum=kCRC32c;block_size=300};",
    "block_based_table_factory={format_version=3;checksum=kxxHash;block_size=300};",
    "block_based_table_factory={format_version=4;checksum=kxxHash64;block_size=300};",
    "block_based_table_factory={format_version=5;checksum=kNoChecksum;block_size=300};",
    "block_based_table_factory={block_align=true};compression=kNoCompression;",
    "compression_per_level=kNoCompression:kSnappyCompression:kZSTD:kLZ4Compression;",
    "bottommost_compression=kZSTD;bottommost_compression_opts={level=7;enabled=true};",
    "compression_opts={parallel_threads=2};",
    "compression=kBZip2Compression;block_based_table_factory={block_size=300};",
    "compression=kZSTD;compression_opts={max_dict_bytes=2048;zstd_max_train_bytes=20480};\
     block_based_table_factory={block_size=300};",
    "compression=kZlibCompression;compression_opts={max_dict_bytes=2048};block_based_table_factory={block_size=300};",
    "compression=kLZ4Compression;compression_opts={max_dict_bytes=2048};block_based_table_factory={block_size=300};",
    "recycle_log_file_num=4;",
    "manual_wal_flush=true;",
    "unordered_write=true;",
    "enable_pipelined_write=true;",
    "two_write_queues=true;allow_2pc=true;",
    "atomic_flush=true;",
    "avoid_flush_during_recovery=true;",
    "track_and_verify_wals_in_manifest=true;write_dbid_to_manifest=true;max_manifest_file_size=1000;",
    "inplace_update_support=true;allow_concurrent_memtable_write=false;",
    // Not min_write_buffer_number_to_merge: with two to merge, a flush by hand of 7.8 was seen to wait for ever for a third
    // memtable, which came while a job was at the first two.
    "WAL_ttl_seconds=3600;max_write_buffer_number=6;file_checksum_gen_factory=FileChecksumGenCrc32cFactory;",
];

/// The same of 9.8: tables that 7.8 cannot read.
const FORMS_OF_NINE: [&str; 12] = [
    "format_version=6;enable_blob_files=true;min_blob_size=8;blob_file_size=4096",
    "format_version=6;enable_blob_files=true;min_blob_size=0;blob_file_size=2048;enable_blob_gc=true;blob_compression=zstd",
    "format_version=6;bloom=10;block_size=300",
    "format_version=6;checksum=no_checksum;block_size=300",
    "format_version=6;checksum=crc32c;block_size=300",
    "format_version=6;checksum=xxhash;block_size=300",
    "format_version=6;checksum=xxhash64;block_size=300",
    "format_version=6;index_block_restart_interval=16;block_restart_interval=2;block_size=300",
    "format_version=6;dictionary=2048;block_size=300",
    "format_version=6;partitioned=1;bloom=10;block_size=200",
    "format_version=6;prefix=3;index_type=hash_search;block_size=300",
    "format_version=6;data_block_index_type=binary_and_hash;block_size=300",
];

fn under(release: Release, forms: &[&str], codec: Codec) -> Seen {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    for (index, form) in forms.iter().enumerate() {
        let mut relay = Relay::new(&format!("form{index}"), temp.path(), true, codec, &mut seen);
        relay.label = format!("form {form}");
        relay.ops_max = 100;
        // RocksDB opens every family with these, ours too.
        let value_of = |name: &str| form.split(';').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        relay.num_levels = value_of("num_levels").map_or(7, |levels| levels.parse().expect("a number"));
        relay.style = match value_of("compaction_style") {
            Some("kCompactionStyleUniversal") => CompactionStyle::Universal,
            Some("kCompactionStyleFIFO") => CompactionStyle::Fifo,
            _ => CompactionStyle::Level,
        };
        let options = release.options(codec.theirs, None, 1024, form);
        relay.rocks(release, &options, End::LeaveLog);
        relay.firn(codec, if index % 2 == 0 { End::LeaveLog } else { End::Close });
        relay.rocks(release, &options, End::LeaveLog);
    }
    println!("{seen:?}");
    seen.require("logs left behind", forms.len());
    seen
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_of_rocksdb_7_8_under_many_options_go_from_hand_to_hand_whole() {
    let seen = under(Release::Seven, &FORMS, LZ4);
    for version in 2..=5 {
        seen.require(&format!("tables of format_version {version}"), 1);
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_of_rocksdb_9_8_in_tables_of_its_own_go_from_hand_to_hand_whole() {
    under(Release::Nine, &FORMS_OF_NINE, ZSTD).require("tables of format_version 6", FORMS_OF_NINE.len());
}

/// Makes every OPTIONS file of a directory say something else.
pub(crate) fn change_options(dir: &Path, changes: &[(&str, &str)]) {
    for path in files(dir, "").into_iter().filter(|path| path.to_string_lossy().contains("OPTIONS-")) {
        let text = String::from_utf8(PosixFs.read_whole(&path, 1 << 20).expect("readable")).expect("text");
        let line = |line: &str| match line.trim().split_once('=') {
            Some((key, _)) => match changes.iter().find(|(name, _)| *name == key) {
                Some((_, value)) => format!("  {key}={value}\n"),
                None => format!("{line}\n"),
            },
            None => format!("{line}\n"),
        };
        let changed: String = text.lines().map(line).collect();
        PosixFs.write_atomically(&path, &path.with_extension("new"), changed.as_bytes()).expect("written");
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_tables_of_11_1_in_forms_of_its_own_are_read_and_written_on() {
    let block = ("block_size", "300");
    let forms: [&[(&str, &str)]; 5] = [
        &[block, ("separate_key_value_in_data_block", "true")],
        &[
            block,
            ("separate_key_value_in_data_block", "true"),
            ("data_block_index_type", "kDataBlockBinaryAndHash"),
            ("data_block_hash_table_util_ratio", "0.75"),
            ("block_restart_interval", "3"),
        ],
        &[block, ("uniform_cv_threshold", "0.9"), ("index_block_search_type", "kInterpolation")],
        &[("block_size", "4096"), ("super_block_alignment_size", "16384")],
        &[
            block,
            ("index_type", "kTwoLevelIndexSearch"),
            ("metadata_block_size", "128"),
            ("partition_filters", "true"),
            ("filter_policy", "ribbonfilter:10:-1"),
            ("compression", "kZSTD"),
            ("compression_opts", "{max_dict_bytes=2048;zstd_max_train_bytes=0;}"),
        ],
    ];
    for form in forms {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        ldb(Release::Eleven, &dir, &["--create_if_missing", "put", "first", "1"], "");
        change_options(&dir, form);
        let value = |i: u32| format!("value {i} ").repeat(i as usize % 9);
        let rows: String = (0..2000).map(|i| format!("key{i:05} ==> {}|\n", value(i))).collect();
        ldb(Release::Eleven, &dir, &["--try_load_options", "load"], &rows);
        ldb(Release::Eleven, &dir, &["--try_load_options", "delete", "key00007"], "");
        ldb(Release::Eleven, &dir, &["--try_load_options", "compact"], "");
        let tables = files(&dir, ".sst");
        let has = |needle: &[u8]| {
            let bytes = PosixFs.read_whole(&tables[0], 1 << 30).expect("readable");
            bytes.windows(needle.len()).any(|window| window == needle)
        };
        if form.iter().all(|(name, _)| *name != "compression") {
            // The value behind its key.
            let is_apart = !has(b"key00000\x01\0\0\0\0\0\0\0|");
            let is_asked = form.iter().any(|(name, _)| *name == "separate_key_value_in_data_block");
            assert_eq!(is_apart, is_asked, "{form:?}");
        }
        let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{form:?}: {:?}", report.damages);
        let compare = |db: &Db, what: &str| {
            assert_eq!(db.iter().expect("an iterator").count(), 2000, "{form:?}, {what}");
            assert_eq!(db.iter().expect("an iterator").rev().count(), 2000, "{form:?}, {what}");
            for i in (0..2000).filter(|i| *i != 7) {
                let found = db.get(format!("key{i:05}")).expect("readable").expect("there");
                assert_eq!(&found[..], format!("{}|", value(i)).as_bytes(), "{form:?}, {what}");
            }
            assert!(db.get("key00007").expect("readable").is_none());
        };
        let db = Db::open_with(&dir, Options::default()).expect("opens");
        compare(&db, "theirs");
        db.put("first", "2").expect("written");
        db.compact_range::<&[u8]>(..).expect("compacted");
        compare(&db, "ours");
        db.close().expect("closes");
        let scan = ldb(Release::Eleven, &dir, &["--try_load_options", "scan"], "");
        assert_eq!(scan.lines().filter(|line| line.contains(" ==> ")).count(), 2000, "{form:?}");
    }
}
