//! Values that expire: `TtlDb` and RocksDB's `DBWithTTL` read, write and remove each other's.

use std::time::Duration;

use firndb::{Options, TtlDb};
use firndb_testkit::rocksdb;

use crate::rocks::{Release, try_ldb};

/// RocksDB 9.8, opened with a ttl: what it finds, and then a value more.
const NINE: &str = "\
import sys, rocksdict as r
o = r.Options(raw_mode=True)
db = r.Rdict(sys.argv[1], o, access_type=r.AccessType.with_ttl(int(sys.argv[2])))
db.compact_range(None, None)
for key, value in db.items():
    print(key.decode(), value.decode())
db[b'nine'] = b'of 9.8'
db.close()
";

fn open(dir: &std::path::Path, ttl_s: u64) -> TtlDb {
    let options = Options { create_if_missing: true, ..Options::default() };
    TtlDb::open(dir, options, Duration::from_secs(ttl_s)).expect("it opens")
}

fn found(db: &TtlDb) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let entries = db.iter().expect("it opens").map(|entry| entry.expect("readable"));
    entries.map(|(key, value)| (text(&key), text(&value))).collect()
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_values_that_expire_go_both_ways() {
    let scratch = tempfile::tempdir().expect("a directory");
    let dir = scratch.path().join("db");
    let db = open(&dir, 1 << 20);
    db.put("ours", "of FirnDB").expect("written");
    // As if written in 2013.
    db.db().put("past", [&b"over"[..], &1_368_146_500u32.to_le_bytes()].concat()).expect("written");
    db.close().expect("nothing is open");
    // `ldb` shows them without their times; then it says that it has opened a database whose families it could list.
    let shown = try_ldb(Release::Seven, &dir, &["--ttl", "scan"], "").unwrap_or_else(|error| error);
    assert!(shown.contains("ours : of FirnDB\n") && shown.contains("past : over\n"), "{shown}");
    let mut python = rocksdb::python();
    let said = rocksdb::run(python.arg("-c").arg(NINE).arg(&dir).arg("1000000"), "").expect("it runs");
    // Its compaction removed what is too old.
    assert_eq!(said, "ours of FirnDB\n");
    let db = open(&dir, 1 << 20);
    let all = [("nine", "of 9.8"), ("ours", "of FirnDB")];
    assert_eq!(found(&db), all.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let value = db.get("nine").expect("readable").expect("there");
    assert!(value.written_s() > 1_700_000_000, "{value:?}");
    // And ours removes what RocksDB wrote.
    db.db().put("past", [&b"over"[..], &1_368_146_500u32.to_le_bytes()].concat()).expect("written");
    db.db().compact_range::<&str>(..).expect("compacted");
    assert_eq!(found(&db).len(), 2);
    db.close().expect("nothing is open");
}
