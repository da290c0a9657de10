//! What RocksDB's tools say of a damaged directory: the tests that ask whether ours is whole can fail.

use std::path::{Path, PathBuf};

use firndb::{Compression, Db, Fs, Options, PosixFs};
use firndb_testkit::rocksdb::verify_tables;

use crate::rocks::{Release, check_consistency, files};

/// A database of one table, and the table.
fn one_table(dir: &Path, compression: Compression) -> PathBuf {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.family.compression = compression;
    let db = Db::open_with(dir, options).expect("opens");
    (0..2000).for_each(|i| db.put(format!("key{i:05}"), format!("value{i}").repeat(9)).expect("written"));
    db.flush().expect("flushed");
    db.close().expect("closes");
    let tables = files(dir, ".sst");
    assert_eq!(tables.len(), 1);
    tables.into_iter().next().expect("one")
}

fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = PosixFs.read_whole(path, 1 << 30).expect("readable");
    change(&mut bytes);
    PosixFs.write_atomically(path, &path.with_extension("new"), &bytes).expect("written");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_sst_dump_finds_one_flipped_bit_anywhere_in_our_tables() {
    for compression in [Compression::None, Compression::Zstd] {
        let temp = tempfile::tempdir().expect("a directory");
        let table = one_table(&temp.path().join("db"), compression);
        assert_eq!(verify_tables(&table), Ok(1));
        let size = PosixFs.file_size(&table).expect("there") as usize;
        // Blocks of data first, then index and properties; the footer's last bytes are padding.
        for at in (0..12).map(|part| part * (size - 53) / 12) {
            rewrite(&table, |bytes| bytes[at] ^= 1 << (at % 8));
            verify_tables(&table).expect_err("a table with a flipped bit is not whole");
            verify_tables(table.parent().expect("a directory")).expect_err("nor is its directory");
            rewrite(&table, |bytes| bytes[at] ^= 1 << (at % 8));
        }
        assert_eq!(verify_tables(&table), Ok(1));
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_both_ldbs_find_tables_that_are_gone_or_of_another_size() {
    for release in [Release::Seven, Release::Eleven] {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let table = one_table(&dir, Compression::None);
        check_consistency(release, &dir).expect("consistent");
        rewrite(&table, |bytes| bytes.push(0));
        check_consistency(release, &dir).expect_err("a byte too many");
        PosixFs.remove_file(&table).expect("removed");
        check_consistency(release, &dir).expect_err("no table");
    }
}
