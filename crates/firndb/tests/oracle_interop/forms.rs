//! What options make RocksDB write differently.

use firndb::CompactionStyle;

use crate::relay::{Codec, End, LZ4, Relay, Seen, ZSTD};
use crate::rocks::Release;

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

/// The same of 9.8: tables that 7.8 cannot read.
const FORMS_OF_NINE: [&str; 8] = [
    "format_version=6;bloom=10;block_size=300",
    "format_version=6;checksum=no_checksum;block_size=300",
    "format_version=6;checksum=crc32c;block_size=300",
    "format_version=6;checksum=xxhash;block_size=300",
    "format_version=6;checksum=xxhash64;block_size=300",
    "format_version=6;index_block_restart_interval=16;block_restart_interval=2;block_size=300",
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
