//! Tables as a whole: what is written is read back, whatever the options; damage is reported, never returned.

mod oracle;

use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use crate::cache::BlockCache;
use crate::error::ErrorKind;
use crate::error::Result;
use crate::format::checksum::ChecksumType;
use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::format::key::{
    ColumnFamilyId, FileNumber, SEEK_KIND, SequenceNumber, ValueKind, internal_key, trailer, trailer_sequence, user_key,
};
use crate::format::prefix::PrefixExtractor;
use crate::fs::{CreateMode, Fault, FaultEffect, Fs, FsOp, MemoryFs};
use crate::iter::InternalIterator;
use crate::iter::bounds::Bounds;
use crate::metrics::Statistics;

use super::builder::{BuiltTable, TableBuildContext, TableBuilder, TableConfig};
use super::filter::KeyHash;
use super::reader::{TableOpenContext, TableReadOptions, TableReader};

const PATH: &str = "/db/000007.sst";

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn build(fs: &dyn Fs, order: KeyOrder, config: TableConfig, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<BuiltTable> {
    fs.create_dir_all(Path::new("/db"))?;
    let context = TableBuildContext {
        order,
        family_id: ColumnFamilyId::DEFAULT,
        family_name: "default".to_owned(),
        file_number: FileNumber(7),
        db_id: "41cf9a8c-5f5b-4b3a-8a8c-1d2c3b4a5f60".to_owned(),
        session_id: "ABCDEFGHIJKLMNOPQRST".to_owned(),
        oldest_key_time: 5,
        creation_time: 6,
        is_all_logged: true,
    };
    let mut builder = TableBuilder::new(fs.create(Path::new(PATH), CreateMode::Truncate)?, config, context);
    for (key, value) in entries {
        builder.add(key, value)?;
    }
    builder.finish()
}

fn open(fs: &dyn Fs, order: KeyOrder, built: &BuiltTable) -> Result<Arc<TableReader>> {
    let context = TableOpenContext {
        path: PATH.into(),
        order,
        cache: BlockCache::new(1 << 20),
        statistics: Arc::new(Statistics::default()),
        largest_seq: built.largest_seq,
        unique_id: built.unique_id,
        verify_checksums: true,
        bounds: None,
    };
    TableReader::open(fs.open_random(Path::new(PATH))?, built.size, context)
}

fn collect(table: &Arc<TableReader>, options: TableReadOptions) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut iter = table.iter(options);
    let mut all = Vec::new();
    iter.seek_to_first()?;
    while iter.valid() {
        all.push((iter.key().to_vec(), iter.value().to_vec()));
        iter.next()?;
    }
    Ok(all)
}

/// Entries with several versions a key, in order.
fn entries(order: &KeyOrder, raw: Vec<(Vec<u8>, u64, bool, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = raw
        .into_iter()
        .map(|(key, sequence, is_deletion, value)| {
            let kind = if is_deletion { ValueKind::Deletion } else { ValueKind::Value };
            (internal_key(&key, SequenceNumber(sequence), kind as u8), if is_deletion { Vec::new() } else { value })
        })
        .collect();
    all.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
    all.dedup_by(|a, b| {
        user_key(&a.0) == user_key(&b.0) && trailer_sequence(trailer(&a.0)) == trailer_sequence(trailer(&b.0))
    });
    all
}

fn config() -> impl Strategy<Value = TableConfig> {
    let codec = prop::sample::select(vec![
        Compression::None,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zlib,
        Compression::Zstd,
        Compression::Bzip2,
    ]);
    let index = prop::option::of(16usize..300);
    let prefixes = prop::sample::select(vec![
        None,
        Some(PrefixExtractor::Fixed(1)),
        Some(PrefixExtractor::Fixed(2)),
        Some(PrefixExtractor::Capped(2)),
        Some(PrefixExtractor::Noop),
    ]);
    let filter = (prop::option::of(1.0..20.0f64), any::<bool>(), any::<bool>(), any::<bool>(), prefixes);
    (codec, 64usize..400, 1usize..20, 1usize..5, filter, 2u32..8, index).prop_map(
        |(compression, block_size, restart_interval, index_restart_interval, filter, format_version, index)| {
            let (bloom_bits_per_key, is_ribbon, whole_key_filtering, partition_filters, prefixes) = filter;
            TableConfig {
                block_size,
                restart_interval,
                index_restart_interval,
                compression,
                bloom_bits_per_key,
                is_ribbon,
                whole_key_filtering,
                partition_filters,
                prefixes,
                index_part_bytes: index,
                format_version,
                ..TableConfig::default()
            }
        },
    )
}

fn open_file(fs: &dyn Fs, path: &Path, largest: u64, verify_checksums: bool) -> Result<Arc<TableReader>> {
    let context = TableOpenContext {
        path: path.to_owned(),
        order: KeyOrder::Bytewise,
        cache: BlockCache::new(1 << 20),
        statistics: Arc::new(Statistics::default()),
        largest_seq: SequenceNumber(largest),
        unique_id: None,
        verify_checksums,
        bounds: None,
    };
    TableReader::open(fs.open_random(path)?, fs.file_size(path)?, context)
}

/// Every way of reading agrees with the scan forward, which is returned.
fn read_in_every_way(table: &Arc<TableReader>) -> Result<Entries> {
    let all = collect(table, TableReadOptions::default())?;
    let mut iter = table.iter(TableReadOptions { fill_cache: false, read_ahead: 700, ..TableReadOptions::default() });
    iter.seek_to_last()?;
    for (key, value) in all.iter().rev() {
        assert_eq!((iter.valid(), iter.key(), iter.value()), (true, &key[..], &value[..]));
        iter.prev()?;
    }
    assert!(!iter.valid());
    for (at, (key, value)) in all.iter().enumerate() {
        let hit = table.get(user_key(key), trailer_sequence(trailer(key)), &mut KeyHash::default(), &<_>::default())?;
        let hit = hit.expect("a key that a scan shows is found");
        assert_eq!((hit.sequence, hit.kind as u8), (trailer_sequence(trailer(key)), trailer(key) as u8));
        assert_eq!(&*hit.value, &value[..]);
        iter.seek(key)?;
        assert_eq!((iter.key(), iter.value()), (&key[..], &value[..]));
        iter.seek_for_prev(key)?;
        assert_eq!(iter.key(), &key[..]);
        // A target just after the entry is not met by it.
        let Some(after) = trailer(key).checked_sub(1) else { continue };
        let target = [user_key(key), &after.to_le_bytes()].concat();
        iter.seek(&target)?;
        assert_eq!(iter.valid().then(|| iter.key().to_vec()), all.get(at + 1).map(|(key, _)| key.clone()));
        iter.seek_for_prev(&target)?;
        assert_eq!((iter.valid(), iter.key()), (true, &key[..]));
    }
    Ok(all)
}

/// Reads what can be read; every value that comes back is one of `sound`'s.
fn read_damaged(fs: &dyn Fs, path: &Path, sound: &Entries) -> Result<()> {
    let table = open_file(fs, path, 1 << 40, true)?;
    let found = collect(&table, TableReadOptions::default());
    if let Ok(found) = &found {
        assert!(found == sound, "other entries, and no error");
    }
    let mut iter = table.iter(TableReadOptions::default());
    let mut back = || -> Result<()> {
        iter.seek_to_last()?;
        for (key, value) in sound.iter().rev() {
            assert_eq!((iter.valid(), iter.key(), iter.value()), (true, &key[..], &value[..]), "backward");
            iter.prev()?;
        }
        assert!(!iter.valid(), "more entries backward, and no error");
        Ok(())
    };
    let back = back();
    for (key, value) in sound.iter().step_by(5) {
        let sequence = trailer_sequence(trailer(key));
        if let Ok(hit) = table.get(user_key(key), sequence, &mut KeyHash::default(), &TableReadOptions::default()) {
            assert_eq!(hit.as_ref().map(|hit| &*hit.value), Some(&value[..]), "get");
        }
    }
    let verified = table.verify(true, &mut |_| {});
    assert_eq!(found.is_ok(), back.is_ok(), "both ways or none");
    assert!(verified.is_err() || found.is_ok(), "verify saw nothing where a scan failed");
    found.and(back).and(verified).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_is_built_is_read_back(
        config in config(),
        reverse in any::<bool>(),
        raw in prop::collection::vec(
            (prop::collection::vec(prop::sample::select(b"ab\x00\xff".to_vec()), 0..6), 1u64..40, any::<bool>(),
             prop::collection::vec(any::<u8>(), 0..40)), 1..120),
    ) {
        let order = if reverse { KeyOrder::ReverseBytewise } else { KeyOrder::Bytewise };
        let all = entries(&order, raw);
        let fs = MemoryFs::new();
        let built = build(&fs, order.clone(), config, &all).expect("builds");
        let table = open(&fs, order.clone(), &built).expect("opens");
        prop_assert_eq!(&collect(&table, TableReadOptions::default()).expect("sound"), &all);
        prop_assert_eq!(&collect(&table, TableReadOptions { fill_cache: false, read_ahead: 1000, ..Default::default() }).expect("sound"), &all);
        let counts = table.verify(true, &mut |_| {}).expect("sound");
        prop_assert_eq!((counts.entries, &counts.smallest, &counts.largest), (built.counts.entries, &built.smallest, &built.largest));
        let mut back = table.iter(TableReadOptions::default());
        back.seek_to_last().expect("sound");
        for (key, value) in all.iter().rev() {
            prop_assert_eq!((back.key(), back.value()), (&key[..], &value[..]));
            back.prev().expect("sound");
        }
        prop_assert!(!back.valid());
        for (key, _) in &all {
            for snapshot in [0u64, 5, 20, 39, 100] {
                let snapshot = SequenceNumber(snapshot);
                let expected = all.iter()
                    .find(|(k, _)| user_key(k) == user_key(key) && trailer_sequence(trailer(k)) <= snapshot);
                let hit = table.get(user_key(key), snapshot, &mut KeyHash::default(), &TableReadOptions::default()).expect("sound");
                prop_assert_eq!(hit.as_ref().map(|hit| (hit.sequence, &*hit.value)),
                    expected.map(|(k, v)| (trailer_sequence(trailer(k)), &v[..])));
            }
            // Within bounds, where filters of prefixes are asked.
            for (from, to) in [(0, 1), (0, 2), (1, 1), (1, 9)] {
                let mut upper = user_key(key)[..user_key(key).len().min(from)].to_vec();
                upper.resize(to, 0xFF);
                let bounds = Bounds { lower: Bound::Unbounded, upper: Bound::Excluded(upper.clone()) };
                let mut bounded = table.iter_within(TableReadOptions::default(), Some(Arc::new(bounds)));
                bounded.seek(key).expect("sound");
                let is_within = |key: &[u8]| order.compare(user_key(key), &upper).is_lt();
                prop_assert_eq!(bounded.valid() && is_within(bounded.key()), is_within(key));
            }
            let mut seek = table.iter(TableReadOptions::default());
            seek.seek(key).expect("sound");
            prop_assert_eq!(seek.key(), &key[..]);
            seek.seek_for_prev(key).expect("sound");
            prop_assert_eq!(seek.key(), &key[..]);
        }
    }
}

#[test]
fn every_flip_and_every_cut_is_reported_or_changes_nothing() {
    let plain = TableConfig { block_size: 200, bloom_bits_per_key: Some(10.0), ..TableConfig::default() };
    let versions = (2..=7).map(|format_version| TableConfig { format_version, ..plain.clone() });
    let parts = (2..=7).map(|format_version| TableConfig {
        index_part_bytes: Some(48),
        partition_filters: format_version != 4,
        prefixes: Some(PrefixExtractor::Fixed(5)),
        whole_key_filtering: format_version % 2 == 0,
        is_ribbon: format_version == 5,
        format_version,
        ..plain.clone()
    });
    for config in versions.chain(parts) {
        let fs = MemoryFs::new();
        let all: Entries = (0..40u64)
            .map(|i| (internal_key(format!("key{i:03}").as_bytes(), SequenceNumber(i + 1), 1), vec![i as u8; 20]))
            .collect();
        build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
        let path = Path::new(PATH);
        let sound = fs.read_whole(path, 1 << 20).expect("there");
        read_damaged(&fs, path, &all).expect("not damaged yet");
        let mut reported = 0;
        for at in 0..sound.len() {
            fs.damage(path, |bytes| {
                bytes.clone_from(&sound);
                bytes[at] ^= 1 << (at % 8);
            })
            .expect("there");
            if let Err(error) = read_damaged(&fs, path, &all) {
                reported += 1;
                assert!(error.to_string().contains("000007.sst"), "byte {at}: {error}");
            }
            fs.damage(path, |bytes| bytes.truncate(at)).expect("there");
            assert!(read_damaged(&fs, path, &all).is_err(), "cut at {at}");
        }
        assert!(reported * 10 > sound.len() * 9, "{reported} of {} flips reported", sound.len());
    }
}

#[test]
fn without_checksums_damage_never_panics_and_never_loops() {
    let fs = MemoryFs::new();
    let all: Entries = (0..40u64)
        .map(|i| (internal_key(format!("key{i:03}").as_bytes(), SequenceNumber(i + 1), 1), vec![i as u8; 20]))
        .collect();
    let plain = TableConfig { block_size: 200, checksum: ChecksumType::None, ..TableConfig::default() };
    let parts = TableConfig {
        index_part_bytes: Some(40),
        partition_filters: true,
        bloom_bits_per_key: Some(5.0),
        prefixes: Some(PrefixExtractor::Capped(5)),
        index_restart_interval: 3,
        ..plain.clone()
    };
    for config in [plain, parts] {
        damage_without_checksums(&fs, config, &all);
    }
}

fn damage_without_checksums(fs: &MemoryFs, config: TableConfig, all: &Entries) {
    build(fs, KeyOrder::Bytewise, config, all).expect("builds");
    let path = Path::new(PATH);
    let sound = fs.read_whole(path, 1 << 20).expect("there");
    for at in 0..sound.len() {
        for change in [0x01, 0x80, 0xFF] {
            fs.damage(path, |bytes| {
                bytes.clone_from(&sound);
                bytes[at] ^= change;
            })
            .expect("there");
            let Ok(table) = open_file(fs, path, 100, false) else { continue };
            let mut iter = table.iter(TableReadOptions::default());
            // No entry takes less than 3 bytes.
            let most = sound.len();
            let mut steps = 0;
            let _ = iter.seek_to_first();
            while iter.valid() && iter.next().is_ok() {
                steps += 1;
                assert!(steps < most, "byte {at}: forward without end");
            }
            let _ = iter.seek_to_last();
            while iter.valid() && iter.prev().is_ok() {
                steps += 1;
                assert!(steps < 2 * most, "byte {at}: backward without end");
            }
            for (key, _) in all.iter().step_by(9) {
                let _ = iter.seek(key);
                let _ = iter.seek_for_prev(key);
                let _ = table.get(user_key(key), SequenceNumber::MAX, &mut KeyHash::default(), &<_>::default());
            }
            let _ = (table.verify(true, &mut |_| {}), table.memory());
        }
    }
}

#[test]
fn keys_out_of_order_are_refused() {
    let fs = MemoryFs::new();
    let key = internal_key(b"a", SequenceNumber(1), 1);
    let all = vec![(key.clone(), Vec::new()), (key, Vec::new())];
    assert!(build(&fs, KeyOrder::Bytewise, TableConfig::default(), &all).is_err());
}

#[test]
fn a_table_without_entries_and_one_with_huge_entries_are_read_back() {
    let fs = MemoryFs::new();
    for all in [vec![], vec![(internal_key(&vec![b'k'; 100_000], SequenceNumber(3), 1), vec![7; 300_000])]] {
        let built = build(&fs, KeyOrder::Bytewise, TableConfig::default(), &all).expect("builds");
        let table = open(&fs, KeyOrder::Bytewise, &built).expect("opens");
        assert_eq!(collect(&table, TableReadOptions::default()).expect("sound"), all);
        let missing = table.get(b"x", SequenceNumber::MAX, &mut KeyHash::default(), &TableReadOptions::default());
        assert!(missing.expect("sound").is_none());
    }
}

#[test]
fn values_that_compress_extremely_well_are_read_back() {
    // zstd stores 128 KiB of one byte in 4 bytes. The bound on what a block may claim was half of that: such values
    // could be written, by RocksDB as by us, and not be read again.
    for compression in [Compression::Snappy, Compression::Lz4, Compression::Zlib, Compression::Zstd, Compression::Bzip2]
    {
        let fs = MemoryFs::new();
        let all = vec![(internal_key(b"zeros", SequenceNumber(3), 1), vec![0; 4 << 20])];
        let config = TableConfig { compression, ..TableConfig::default() };
        let built = build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
        let table = open(&fs, KeyOrder::Bytewise, &built).expect("opens");
        let found = collect(&table, TableReadOptions::default()).unwrap_or_else(|e| panic!("{compression:?}: {e}"));
        assert!(found == all, "{compression:?}");
    }
}

#[test]
fn a_read_ahead_that_failed_leaves_nothing_behind_to_be_taken_for_blocks() {
    // The window was announced before it was read: after a passing I/O error, its bytes were taken for the file's.
    for checksum in [ChecksumType::None, ChecksumType::Crc32c] {
        let fs = MemoryFs::new();
        let all: Vec<_> = (0..400u64)
            .map(|i| (internal_key(format!("key{i:03}").as_bytes(), SequenceNumber(i + 1), 1), vec![i as u8; 20]))
            .collect();
        let config = TableConfig { block_size: 200, checksum, ..TableConfig::default() };
        let built = build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
        let table = open(&fs, KeyOrder::Bytewise, &built).expect("opens");
        let options = TableReadOptions { fill_cache: false, read_ahead: 1000, ..TableReadOptions::default() };
        let mut iter = table.iter(options);
        iter.seek_to_first().expect("sound");
        fs.inject(Fault::on(FsOp::Read, "*.sst", FaultEffect::Eio));
        let mut good = 1;
        let failed = loop {
            match iter.next() {
                Ok(()) => good += 1,
                Err(error) => break error,
            }
        };
        assert_eq!((failed.kind(), iter.valid()), (ErrorKind::Io, false));
        // As whoever retries would: on from where it failed.
        for (key, value) in all[good..].iter().chain(&all) {
            iter.seek(key).unwrap_or_else(|error| panic!("{checksum:?}: the disk is well again: {error}"));
            assert_eq!((iter.key(), iter.value()), (&key[..], &value[..]), "{checksum:?}");
        }
    }
}

#[test]
fn reading_ahead_ends_with_the_last_block_within_the_bounds_and_does_not_go_backward() {
    let fs = MemoryFs::new();
    let key = |i: u64| format!("key{i:03}").into_bytes();
    let all: Vec<_> =
        (0..400u64).map(|i| (internal_key(&key(i), SequenceNumber(i + 1), 1), vec![i as u8; 20])).collect();
    let config = TableConfig { block_size: 200, ..TableConfig::default() };
    let built = build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
    let table = open(&fs, KeyOrder::Bytewise, &built).expect("opens");
    let options = TableReadOptions { fill_cache: false, read_ahead: 1 << 20, ..TableReadOptions::default() };
    let bounds = Bounds { lower: Bound::Included(key(100)), upper: Bound::Excluded(key(140)) };
    let mut iter = table.iter_within(options, Some(Arc::new(bounds)));
    iter.seek(&internal_key(&key(100), SequenceNumber::MAX, SEEK_KIND)).expect("sound");
    let read = iter.bytes_ahead();
    assert!(read > 40 * 20 && read < 80 * 40, "{read} bytes were read for 40 entries");
    let mut entries = 0;
    while iter.valid() {
        entries += 1;
        iter.next().expect("sound");
    }
    assert!((40..60).contains(&entries), "{entries}: up to the end of the block that the bound is in");
    let mut back = table.iter(options);
    back.seek_to_last().expect("sound");
    while back.valid() {
        back.prev().expect("sound");
    }
    assert_eq!(back.bytes_ahead(), 0);
}

#[test]
fn parts_of_an_index_and_a_filter_are_read_when_needed_and_given_up_with_the_blocks_below_them() {
    let fs = MemoryFs::new();
    let key = |i: u64| format!("key{i:05}").into_bytes();
    let all: Vec<_> = (0..2000).map(|i| (internal_key(&key(i), SequenceNumber(i + 1), 1), vec![i as u8; 20])).collect();
    let config = TableConfig {
        block_size: 200,
        bloom_bits_per_key: Some(10.0),
        index_part_bytes: Some(256),
        partition_filters: true,
        ..TableConfig::default()
    };
    let built = build(&fs, KeyOrder::Bytewise, config.clone(), &all).expect("builds");
    let whole = TableConfig { index_part_bytes: None, ..config };
    let cache = BlockCache::new(6000);
    let context = TableOpenContext {
        path: PATH.into(),
        order: KeyOrder::Bytewise,
        cache: Arc::clone(&cache),
        statistics: Arc::new(Statistics::default()),
        largest_seq: built.largest_seq,
        unique_id: built.unique_id,
        verify_checksums: true,
        bounds: None,
    };
    let table = TableReader::open(fs.open_random(Path::new(PATH)).expect("there"), built.size, context).expect("opens");
    assert_eq!(cache.usage(), 0, "no part was read");
    let get = |table: &TableReader, i: u64| {
        let hit = table.get(&key(i), SequenceNumber::MAX, &mut KeyHash::default(), &<_>::default()).expect("sound");
        hit.map(|hit| hit.value.to_vec())
    };
    assert_eq!(get(&table, 700), Some(vec![700u64 as u8; 20]));
    let one = cache.usage();
    assert!((400..3000).contains(&one), "a part of each and a block: {one} bytes");
    // An iterator keeps its part while the cache gives up everything.
    let mut iter = table.iter(TableReadOptions::default());
    iter.seek(&internal_key(&key(1000), SequenceNumber::MAX, SEEK_KIND)).expect("sound");
    for i in (0..2000).rev().step_by(3) {
        assert_eq!(get(&table, i), Some(vec![i as u8; 20]));
        assert!(cache.usage() <= 6000, "{cache:?}");
    }
    for i in 1000..1100 {
        assert_eq!(user_key(iter.key()), key(i));
        iter.next().expect("sound");
    }
    for i in (900..1100).rev() {
        iter.prev().expect("sound");
        assert_eq!(user_key(iter.key()), key(i));
    }
    assert_eq!(get(&table, 5000), None);
    let resident = table.memory();
    drop((iter, table));
    assert_eq!(cache.usage(), 0, "every byte is given back");
    let built = build(&fs, KeyOrder::Bytewise, whole, &all).expect("builds");
    let plain = open(&fs, KeyOrder::Bytewise, &built).expect("opens").memory();
    assert!(resident * 3 < plain, "{resident} bytes stay, {plain} of a plain index");
}

#[test]
fn a_filter_of_prefixes_saves_reads_and_never_hides_a_key() {
    for (partition_filters, whole_key_filtering) in [(false, false), (false, true), (true, false), (true, true)] {
        let fs = MemoryFs::new();
        let key = |user: u64, i: u64| format!("u{user:04}:{i}").into_bytes();
        let keys = (0..500u64).flat_map(|user| (0..4).map(move |i| key(user * 2, i)));
        let all: Vec<_> = keys.map(|key| (internal_key(&key, SequenceNumber(5), 1), vec![7; 20])).collect();
        let config = TableConfig {
            block_size: 100,
            bloom_bits_per_key: Some(12.0),
            prefixes: Some(PrefixExtractor::Fixed(5)),
            whole_key_filtering,
            index_part_bytes: Some(128),
            partition_filters,
            ..TableConfig::default()
        };
        let built = build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
        let table = open(&fs, KeyOrder::Bytewise, &built).expect("opens");
        let ruled_out = |ticker| table.source.context.statistics.ticker(ticker);
        for user in 0..1000u64 {
            let (from, to) = (format!("u{user:04}"), format!("u{user:04};"));
            let bounds = Bounds { lower: Bound::Included(from.clone().into()), upper: Bound::Excluded(to.into()) };
            let mut iter = table.iter_within(TableReadOptions::default(), Some(Arc::new(bounds)));
            iter.seek(&internal_key(from.as_bytes(), SequenceNumber::MAX, SEEK_KIND)).expect("sound");
            let is_there = iter.valid() && user_key(iter.key()).starts_with(from.as_bytes());
            assert_eq!(is_there, user % 2 == 0, "user {user}");
            let last = format!("u{user:04}:9");
            iter.seek_for_prev(&internal_key(last.as_bytes(), SequenceNumber::ZERO, 0)).expect("sound");
            let is_there = iter.valid() && user_key(iter.key()).starts_with(from.as_bytes());
            assert_eq!(is_there, user % 2 == 0, "user {user}, backward");
            let hit = table.get(&key(user, 3), SequenceNumber::MAX, &mut KeyHash::default(), &<_>::default());
            assert_eq!(hit.expect("sound").is_some(), user % 2 == 0);
        }
        let useful = ruled_out(crate::metrics::Ticker::BloomFilterPrefixUseful);
        assert!((900..=1000).contains(&useful), "{useful} of 1,000 scans of absent users were ruled out");
        let useful = ruled_out(crate::metrics::Ticker::BloomFilterUseful);
        assert!((450..=500).contains(&useful), "{useful} of 500 absent keys were ruled out");
        // A range over more than one prefix is not asked for.
        let bounds = Bounds { lower: Bound::Unbounded, upper: Bound::Excluded(b"u0005".to_vec()) };
        let mut iter = table.iter_within(TableReadOptions::default(), Some(Arc::new(bounds)));
        iter.seek(&internal_key(b"u0003:x", SequenceNumber::MAX, SEEK_KIND)).expect("sound");
        assert_eq!((iter.valid(), user_key(iter.key())), (true, &key(4, 0)[..]));
    }
}
