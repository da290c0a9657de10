//! What options make RocksDB write differently, and what it may write that must be refused.

use std::path::Path;

use firndb::{Db, ErrorKind, Options};

use crate::model::hex;
use crate::rocks::{Release, drive};
use crate::{End, LZ4, Relay, Seen};

/// Options of 7.8 under which it writes other files, in other orders, or with other contents.
const FORMS: [&str; 34] = [
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
    "recycle_log_file_num=4;",
    "manual_wal_flush=true;",
    "unordered_write=true;",
    "enable_pipelined_write=true;",
    "two_write_queues=true;allow_2pc=true;",
    "atomic_flush=true;",
    "avoid_flush_during_recovery=true;",
    "track_and_verify_wals_in_manifest=true;write_dbid_to_manifest=true;max_manifest_file_size=1000;",
    "inplace_update_support=true;allow_concurrent_memtable_write=false;",
    "WAL_ttl_seconds=3600;min_write_buffer_number_to_merge=2;max_write_buffer_number=6;\
     file_checksum_gen_factory=FileChecksumGenCrc32cFactory;",
];

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_of_rocksdb_7_8_under_many_options_go_from_hand_to_hand_whole() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    for (index, form) in FORMS.into_iter().enumerate() {
        let mut relay = Relay::new(&format!("form{index}"), temp.path(), true, LZ4, &mut seen);
        relay.label = format!("form {form}");
        relay.ops_max = 100;
        let levels = form.split(';').find_map(|option| option.strip_prefix("num_levels="));
        relay.num_levels = levels.map_or(7, |levels| levels.parse().expect("a number"));
        let options = Release::Seven.options(LZ4.theirs, None, 1024, form);
        relay.rocks(Release::Seven, &options, End::LeaveLog);
        relay.firn(LZ4, if index % 2 == 0 { End::LeaveLog } else { End::Close });
        relay.rocks(Release::Seven, &options, End::LeaveLog);
    }
    println!("{seen:?}");
    seen.require("logs left behind", FORMS.len());
}

/// What must be refused: its name in the message, and what makes it.
struct Refused {
    name: &'static str,
    release: Release,
    options: &'static str,
    script: &'static str,
}

const fn refused(name: &'static str, release: Release, options: &'static str, script: &'static str) -> Refused {
    Refused { name, release, options, script }
}

const PREPARED: &str = "PUTS\nclose\nopen two_phase;\nprepare 61 62\n";

/// `PUTS` stands for many puts; the others are done as they are.
const REFUSED: [Refused; 18] = [
    refused("merge", Release::Seven, "uint64add;", "merge default 61 0100000000000000\n"),
    refused("merge", Release::Seven, "uint64add;", "merge default 61 0100000000000000\nflush default\n"),
    refused("range tombstone", Release::Seven, "", "PUTS\nrange default 6b31 6b33\n"),
    refused("range tombstone", Release::Seven, "", "PUTS\nflush default\nrange default 6b31 6b33\nflush default\n"),
    refused("range tombstone", Release::Nine, "", "PUTS\nflush default\nrange default 6b31 6b33\nflush default\n"),
    refused("entity", Release::Nine, "", "entity default 61 6262\n"),
    refused("entity", Release::Nine, "", "entity default 61 6262\nflush default\n"),
    refused(
        "dictionary",
        Release::Seven,
        "compression=kZSTD;compression_opts={max_dict_bytes=4096;zstd_max_train_bytes=40960};\
         block_based_table_factory={block_size=300};",
        "PUTS\nflush default\ncompact default\n",
    ),
    refused(
        "dictionary",
        Release::Nine,
        "compression=kZSTD;dictionary=4096;block_size=300",
        "PUTS\nflush default\ncompact default\n",
    ),
    refused(
        "two-level",
        Release::Seven,
        "block_based_table_factory={index_type=kTwoLevelIndexSearch;metadata_block_size=200;block_size=200};",
        "PUTS\nflush default\n",
    ),
    refused("two-level", Release::Nine, "partitioned=1;bloom=10;block_size=200", "PUTS\nflush default\n"),
    refused("blob", Release::Seven, "enable_blob_files=true;min_blob_size=2;", "PUTS\nflush default\n"),
    refused("blob", Release::Nine, "enable_blob_files=true;min_blob_size=2", "PUTS\nflush default\n"),
    refused("bzip2", Release::Seven, "compression=kBZip2Compression;", "PUTS\nflush default\n"),
    refused(
        "plain table",
        Release::Seven,
        "table_factory=PlainTable;prefix_extractor=rocksdb.FixedPrefix.2;",
        "PUTS\nflush default\n",
    ),
    refused("log is compressed", Release::Seven, "wal_compression=kZSTD;", "PUTS\n"),
    refused(
        "bytewisecomparator.u64ts",
        Release::Seven,
        "comparator=leveldb.BytewiseComparator.u64ts;",
        "flush default\n",
    ),
    refused("two-phase", Release::Seven, "", PREPARED),
];

/// Everything that can be done with a directory; the error that ends it.
fn use_it(db: firndb::Result<Db>) -> firndb::Result<usize> {
    let db = db?;
    let mut entries = 0;
    for family in db.column_families() {
        for entry in family.iter()? {
            entry?;
            entries += 1;
        }
    }
    Ok(entries)
}

fn assert_refused(case: &Refused, what: &str, result: firndb::Result<usize>) {
    let label = format!("{} of {:?}: {what}", case.name, case.release);
    let error = result.map_or_else(|error| error, |entries| panic!("{label}: {entries} entries were read"));
    assert_eq!(error.kind(), ErrorKind::NotSupported, "{label}: {error}");
    assert!(error.to_string().to_lowercase().contains(case.name), "{label} is not named: {error}");
}

fn puts() -> String {
    let put = |i: u32| format!("put default {} {}\n", hex(format!("k{i:05}").as_bytes()), hex(&[i as u8; 40]));
    (0..600).map(put).collect()
}

fn refuse(case: &Refused, dir: &Path) {
    let script = case.script.replace("PUTS\n", &puts());
    drive(case.release, dir, &format!("open {}\n{script}sync\nexit\n", case.options));
    assert_refused(case, "read-only", use_it(Db::open_read_only(dir, Options::default())));
    let report = firndb::verify_directory(dir, &Options::default(), &mut |_| {});
    let report = report.map(|report| report.damages);
    assert!(!matches!(&report, Ok(damages) if !damages.is_empty()), "{}: called damage: {report:?}", case.name);
    assert_refused(case, "read-write", use_it(Db::open_with(dir, Options::default())));
    let compacted = Db::open_with(dir, Options::default()).and_then(|db| {
        db.put("zz", "later")?;
        let done = db.flush().and_then(|()| db.compact_range::<&[u8]>(..));
        db.close()?;
        done.map(|()| 0)
    });
    assert_refused(case, "compaction", compacted);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_what_cannot_be_read_is_refused_by_name_and_stays_whole() {
    let temp = tempfile::tempdir().expect("a directory");
    for (index, case) in REFUSED.iter().enumerate() {
        let dir = temp.path().join(format!("refused{index}"));
        let script = case.script.replace("PUTS\n", &puts());
        let dump = |dir: &Path| {
            // Nothing else can be done with a log that holds an undecided transaction.
            if case.script == PREPARED {
                drive(case.release, dir, "open two_phase;\nrollback\nexit\n");
            }
            if ["plain table", "bytewisecomparator.u64ts"].contains(&case.name) {
                // RocksDB itself cannot walk the one backwards, nor the other without a time.
                return String::new();
            }
            drive(case.release, dir, &format!("open {}\ndump\nexit\n", case.options))
        };
        let twin = temp.path().join(format!("twin{index}"));
        drive(case.release, &twin, &format!("open {}\n{script}sync\nexit\n", case.options));
        let expected = dump(&twin);
        refuse(case, &dir);
        let found = dump(&dir);
        let found: String = found.lines().filter(|l| !l.starts_with("7a7a ")).map(|line| format!("{line}\n")).collect();
        assert!(found == expected, "{} of {:?}: not what it was before we were asked", case.name, case.release);
    }
}
