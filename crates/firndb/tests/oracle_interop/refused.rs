//! What this version cannot read is refused by its name, in tables and in logs; nothing is guessed, nothing is changed.

use std::path::Path;

use firndb::{Db, Error, ErrorKind, Options};

use super::sides::drive;

/// The error with which FirnDB refuses the directory or its contents.
fn refusal(dir: &Path) -> Error {
    let attempt = || -> firndb::Result<()> {
        let db = Db::open_with(dir, Options::default())?;
        let outcome = firndb_testkit::contents(&db).map(drop);
        db.close()?;
        outcome
    };
    attempt().expect_err("it holds what cannot be read")
}

fn filled() -> String {
    (0..300).map(|number| format!("put\tdefault\t{number:08x}\t{}\n", "61".repeat(50))).collect()
}

#[test]
#[ignore = "needs RocksDB 9.8.4 (cargo xtask oracles)"]
fn oracle_features_of_later_versions_are_refused_by_name() {
    let flush = "flush\tdefault\n";
    let compact = "compact\tdefault\n";
    let leave = "leave\n";
    let range = "delete_range\tdefault\t00000010\t00000020\n";
    let entity = "entity\tdefault\t00000010\t6161\n";
    let cases: [(&str, &[&str], &str, &str); 8] = [
        ("a range tombstone in a log", &[], &format!("{range}{leave}"), "range"),
        ("a range tombstone in a table", &[], &format!("{range}{flush}"), "range"),
        ("a wide column in a log", &[], &format!("{entity}{leave}"), "wide"),
        ("a wide column in a table", &[], &format!("{entity}{flush}"), "wide"),
        ("a compression dictionary", &["codec=zstd", "dictionary=4096"], &format!("{flush}{compact}"), "dictionary"),
        ("a two-level index", &["index=two_level"], flush, "two-level"),
        ("blob files", &["blobs=10"], flush, "blob"),
        ("format version 5 of plain entries", &[], flush, ""),
    ];
    for (what, options, script, named) in cases {
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("db");
        let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
        drive("9.8", &dir, &options, &format!("{}{script}", filled()));
        if named.is_empty() {
            let db = Db::open_with(&dir, Options::default()).expect("the control case opens");
            assert_eq!(firndb_testkit::contents(&db).expect("readable")["default"].len(), 300);
            db.close().expect("closes");
            continue;
        }
        let error = refusal(&dir);
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{what}: {error}");
        assert!(error.to_string().to_lowercase().contains(named), "{what}: {error}");
        // RocksDB still reads all of it.
        drive("9.8", &dir, &options, "dump\n");
    }
}
