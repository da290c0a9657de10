//! A MANIFEST of a real RocksDB that lost the edit of its last flush: we keep the table in `lost/`, and every RocksDB goes
//! on with the directory beside it.

use std::path::{Path, PathBuf};
use std::process::Command;

use firndb::inspect::{self, Field};
use firndb::{Db, Options, PosixFs, SequenceNumber, verify_directory};
use firndb_testkit::hex;
use firndb_testkit::rocksdb::run;

use crate::firn::dump_of;
use crate::rocks::{Release, assert_same_dump, check_consistency, drive, files, ldb};

/// The package of 11.1 has no Snappy.
const OPEN: &str = "open compression=kNoCompression;\n";

fn puts(name: &str, count: usize) -> String {
    (0..count).map(|i| format!("put default {} {}\n", hex(format!("{name}{i:04}").as_bytes()), hex(b"value"))).collect()
}

/// Cuts MANIFEST where the last edit begins that adds a file.
fn cut_at_last_new_file(dir: &Path) {
    let manifest: PathBuf = dir.join(std::fs::read_to_string(dir.join("CURRENT")).expect("CURRENT").trim());
    let (mut edit, mut adding) = (0, 0);
    inspect::manifest(&PosixFs, &manifest, &mut |item| {
        if let ("edit", Some((_, Field::Number(offset)))) = (item.title, item.fields.first()) {
            edit = *offset;
        }
        if item.title == "new file" {
            adding = edit;
        }
        Ok(())
    })
    .expect("whole");
    let bytes = std::fs::read(&manifest).expect("readable");
    std::fs::write(&manifest, &bytes[..adding as usize]).expect("writable");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_flush_that_manifest_of_rocksdb_lost_is_kept_and_rocksdb_opens_the_directory_beside_it() {
    for release in [Release::Seven, Release::Nine, Release::Eleven] {
        let label = format!("{release:?}");
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let script = format!("{}flush default\n{}flush default\nclose\n", puts("first", 100), puts("second", 50));
        drive(release, &dir, &format!("{OPEN}{script}"));
        let tables = files(&dir, ".sst");
        let newest = tables.last().expect("two tables").file_name().expect("a name").to_owned();
        cut_at_last_new_file(&dir);

        let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("readable");
        let said = format!("{:?}", report.damages);
        assert!(report.damages.len() == 1 && said.contains(newest.to_str().expect("text")), "{label}: {said}");
        let db = Db::open_with(&dir, Options::default()).expect("opens");
        assert_eq!(db.iter().expect("an iterator").count(), 100, "{label}");
        let lost = dir.join("lost").join(&newest);
        let set_aside = &db.recovery_report().set_aside;
        assert_eq!(set_aside.len(), 1, "{label}: {set_aside:?}");
        assert_eq!(set_aside[0].path, lost);
        assert_eq!(set_aside[0].sequences, Some(SequenceNumber(101)..=SequenceNumber(150)), "{label}");
        db.put("third", "value").expect("written");
        // What 11.1 writes, the older ones cannot read: only what we rewrite.
        db.compact_range::<&[u8]>(..).expect("compacted");
        let expected = dump_of(&db);
        db.close().expect("nothing is open");

        for opener in [Release::Seven, Release::Nine, Release::Eleven] {
            let found = drive(opener, &dir, &format!("{OPEN}dump\nflush default\ncompact default\nclose\n"));
            assert_same_dump(&format!("{label}, opened by {opener:?}"), &found, &expected);
            assert!(lost.exists(), "{label}: {opener:?} removed it");
            let db = Db::open_with(&dir, Options::default()).expect("opens");
            assert_same_dump(&label, &dump_of(&db), &expected);
            assert_eq!(db.recovery_report().set_aside, [], "{label}, after {opener:?}");
            db.compact_range::<&[u8]>(..).expect("compacted");
            db.close().expect("nothing is open");
        }
        for tool in [Release::Seven, Release::Eleven] {
            let counted = ldb(tool, &dir, &["dump", "--count_only"], "");
            assert!(counted.contains("Keys in range: 101\n"), "{label}: {counted}");
            check_consistency(tool, &dir).expect("consistent");
        }
        if release == Release::Seven {
            let file = format!("--file={}", lost.display());
            let text = run(Command::new("sst_dump").args([&*file, "--command=scan"]), "").expect("readable");
            assert_eq!(text.lines().filter(|line| line.starts_with('\'')).count(), 50, "{text}");
        }
    }
}
