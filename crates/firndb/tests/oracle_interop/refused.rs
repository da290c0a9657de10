//! What RocksDB may write that must be refused: by name, guessing nothing and changing nothing.

use std::path::Path;

use firndb::{Db, ErrorKind, Options};
use firndb_testkit::hex;

use crate::rocks::{Release, drive};

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
const REFUSED: [Refused; 3] = [
    refused(
        "plain table",
        Release::Seven,
        "table_factory=PlainTable;prefix_extractor=rocksdb.FixedPrefix.2;",
        "PUTS\nflush default\n",
    ),
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
    let read = use_it(Db::open_read_only(dir, Options::default()));
    if case.script == PREPARED {
        // Who only reads does not see what is not decided.
        assert_eq!(read.expect("readable"), 600);
    } else {
        assert_refused(case, "read-only", read);
    }
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
    // What is the same in all cases is not what is refused.
    for (release, script) in [(Release::Seven, "PUTS\n"), (Release::Nine, "PUTS\nflush default\n")] {
        let dir = temp.path().join(format!("control{release:?}"));
        drive(release, &dir, &format!("open \n{}exit\n", script.replace("PUTS\n", &puts())));
        assert_eq!(use_it(Db::open_with(&dir, Options::default())).expect("nothing to refuse"), 600);
    }
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
