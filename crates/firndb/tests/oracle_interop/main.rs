//! Databases that real RocksDBs (7.8.3, 9.8.4 and 11.1.2) and this engine write in turns: every key and value is compared
//! after every turn, on both sides, and RocksDB's own tools check what lies on the disk.
//!
//! `FIRN_SEED` chooses the run and `FIRN_OPS` how much each turn writes; a failure says its seed. Needs what
//! `cargo xtask oracles` installs, with `FIRNDB_PYTHON` naming its interpreter.

mod blobs;
mod compat;
mod copies;
mod damage;
mod entities;
mod filters;
mod firn;
mod forms;
mod live;
mod looking;
mod lost;
mod merges;
mod model;
mod options;
mod others;
mod refused;
mod relay;
mod rocks;
mod tools;
mod ttl;

use crate::relay::{Codec, End, LZ4, LZ4HC, NONE, Relay, SNAPPY, Seen, ZLIB, ZSTD};
use crate::rocks::{Release, compare_with_ldb};

fn codecs(release: Release) -> &'static [Codec] {
    match release {
        Release::Seven => &[NONE, SNAPPY, ZLIB, LZ4, LZ4HC, ZSTD],
        // The package has no zlib: it stores such blocks raw.
        Release::Nine => &[NONE, SNAPPY, LZ4, LZ4HC, ZSTD],
        Release::Eleven => &[NONE, ZSTD],
    }
}

fn in_turns(release: Release, rocks_first: bool) {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    for codec in codecs(release) {
        let name = format!("{}-{rocks_first}", codec.theirs);
        let mut relay = Relay::new(&name, temp.path(), release.knows_families(), *codec, &mut seen);
        let bloom = relay.random.one_of(&[None, Some(10), Some(6)]);
        let block_size = relay.random.one_of(&[256, 1024, 4096, 16384]);
        let options = release.options(codec.theirs, bloom, block_size, "");
        if rocks_first {
            relay.rocks(release, &options, End::LeaveLog);
        }
        relay.firn(*codec, End::Close);
        relay.rocks(release, &options, End::LeaveLog);
        relay.firn(*codec, End::LeaveLog);
        relay.rocks(release, &options, End::Close);
    }
    println!("{release:?}: {seen:?}");
    let count = codecs(release).len();
    seen.require("dumps of RocksDB compared", 2 * count);
    seen.require("logs left behind", 2 * count);
    seen.require("several levels left", 1);
    seen.require("tables verified by sst_dump", 2 * count);
    if release == Release::Eleven {
        seen.require("tables of format_version 7", count);
    } else {
        seen.require("several levels found", count / 2);
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_that_rocksdb_7_8_began_go_from_hand_to_hand_whole() {
    in_turns(Release::Seven, true);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_that_rocksdb_9_8_began_go_from_hand_to_hand_whole() {
    in_turns(Release::Nine, true);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_databases_that_rocksdb_11_1_began_go_from_hand_to_hand_whole() {
    in_turns(Release::Eleven, true);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_new_databases_are_read_and_extended_by_rocksdb_7_8() {
    in_turns(Release::Seven, false);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_new_databases_are_read_and_extended_by_rocksdb_9_8() {
    in_turns(Release::Nine, false);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_new_databases_are_read_and_extended_by_rocksdb_11_1() {
    in_turns(Release::Eleven, false);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_one_database_goes_through_all_releases_and_back() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    let mut relay = Relay::new("all", temp.path(), true, ZSTD, &mut seen);
    for codec in [NONE, ZSTD] {
        for release in [Release::Seven, Release::Nine] {
            relay.firn(codec, End::LeaveLog);
            let options = release.options(codec.theirs, Some(10), 1024, "");
            relay.rocks(release, &options, End::LeaveLog);
            compare_with_ldb("all", Release::Seven, &relay.dir, &relay.model);
            compare_with_ldb("all", Release::Eleven, &relay.dir, &relay.model);
        }
    }
    seen.require("logs left behind", 6);
}
