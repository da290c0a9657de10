//! Tables as a whole: what is written is read back, whatever the options; damage is reported, never returned.

mod oracle;

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
    ColumnFamilyId, FileNumber, SequenceNumber, ValueKind, internal_key, trailer, trailer_sequence, user_key,
};
use crate::fs::{CreateMode, Fault, FaultEffect, Fs, FsOp, MemoryFs};
use crate::iter::InternalIterator;
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
    ]);
    (codec, 64usize..400, 1usize..20, 1usize..5, prop::option::of(1.0..20.0f64), 2u32..6).prop_map(
        |(compression, block_size, restart_interval, index_restart_interval, bloom_bits_per_key, format_version)| {
            TableConfig {
                block_size,
                restart_interval,
                index_restart_interval,
                compression,
                bloom_bits_per_key,
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
    let verified = table.verify(&mut |_| {});
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
        let counts = table.verify(&mut |_| {}).expect("sound");
        prop_assert_eq!((counts.entries, &counts.smallest, &counts.largest), (built.entries, &built.smallest, &built.largest));
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
    for format_version in 2..=5 {
        let fs = MemoryFs::new();
        let all: Entries = (0..40u64)
            .map(|i| (internal_key(format!("key{i:03}").as_bytes(), SequenceNumber(i + 1), 1), vec![i as u8; 20]))
            .collect();
        let config =
            TableConfig { block_size: 200, bloom_bits_per_key: Some(10.0), format_version, ..TableConfig::default() };
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
    let config = TableConfig { block_size: 200, checksum: ChecksumType::None, ..TableConfig::default() };
    build(&fs, KeyOrder::Bytewise, config, &all).expect("builds");
    let path = Path::new(PATH);
    let sound = fs.read_whole(path, 1 << 20).expect("there");
    for at in 0..sound.len() {
        for change in [0x01, 0x80, 0xFF] {
            fs.damage(path, |bytes| {
                bytes.clone_from(&sound);
                bytes[at] ^= change;
            })
            .expect("there");
            let Ok(table) = open_file(&fs, path, 100, false) else { continue };
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
            let _ = (table.verify(&mut |_| {}), table.memory());
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
    for compression in [Compression::Snappy, Compression::Lz4, Compression::Zlib, Compression::Zstd] {
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
