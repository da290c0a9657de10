//! Verbs that only look work on every directory that RocksDB opens: what cannot be read fails alone, and by name.

use std::path::Path;

use firndb::{Compression, Db, ErrorKind, Fs, Options, PosixFs, column_families_in, inspect, verify_directory};
use firndb_testkit::hex;

use crate::forms::change_options;
use crate::rocks::{Release, assert_same_dump, drive, files, ldb};

/// What a reader of all entries gets.
#[derive(Clone, Copy)]
enum Reads {
    /// So many entries.
    All(usize),
    /// An error that names this; `k00000` is readable, or not.
    Fails(&'static str, bool),
}

struct Case {
    release: Release,
    options: &'static str,
    /// `PUTS` stands for 300 puts of `k00000` and on.
    script: &'static str,
    reads: Reads,
    /// What a verification says it could not check.
    unchecked: Option<&'static str>,
}

const fn case(release: Release, options: &'static str, script: &'static str, reads: Reads) -> Case {
    Case { release, options, script, reads, unchecked: None }
}

const PREPARE: &str = "close\nopen two_phase;\nprepare 61 62\n";

fn cases() -> Vec<Case> {
    use Reads::{All, Fails};
    use Release::{Nine, Seven};
    let mut all = vec![
        case(Nine, "", "PUTS\nentity default 7a 6262\n", All(301)),
        case(Nine, "", "PUTS\nentity default 7a 6262\nflush default\n", All(301)),
        case(Seven, "enable_blob_files=true;min_blob_size=100;", "PUTS\nflush default\n", All(300)),
        case(
            Nine,
            "enable_blob_files=true;min_blob_size=100",
            "PUTS\nflush default\nput default 6b3030303032 31\n",
            All(300),
        ),
        case(Seven, "", "PUTS\nPREPARE", All(300)),
    ];
    all.push(Case {
        unchecked: Some("plain table"),
        ..case(
            Seven,
            "table_factory=PlainTable;prefix_extractor=rocksdb.FixedPrefix.2;",
            "PUTS\nflush default\nput default 6b3030303030 31\n",
            Fails("plain table", true),
        )
    });
    all.push(case(Seven, "wal_compression=kZSTD;", "PUTS\n", All(300)));
    all.push(Case {
        unchecked: Some("u64ts"),
        ..case(Seven, "comparator=leveldb.BytewiseComparator.u64ts;", "flush default\n", Fails("u64ts", false))
    });
    all
}

fn made(case: &Case, dir: &Path) {
    let puts: String = (0..300)
        .map(|i| {
            // Every third is long.
            let value = vec![i as u8; if i % 3 == 2 { 200 } else { 20 }];
            format!("put default {} {}\n", hex(format!("k{i:05}").as_bytes()), hex(&value))
        })
        .collect();
    let script = case.script.replace("PUTS\n", &puts).replace("PREPARE", PREPARE);
    drive(case.release, dir, &format!("open {}\n{script}sync\nexit\n", case.options));
}

fn count(db: &Db) -> firndb::Result<usize> {
    db.iter()?.try_fold(0, |count, entry| entry.map(|_| count + 1))
}

/// Every verb that only looks; what one says by name is compared.
fn look(label: &str, dir: &Path, reads: Reads, unchecked: Option<&str>) {
    let families = column_families_in(dir, &Options::default()).expect("families");
    assert_eq!(families.len(), 1, "{label}");
    let db = Db::open_read_only(dir, Options::default()).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert_eq!(db.stats().families.len(), 1, "{label}");
    match (count(&db), reads) {
        (Ok(found), Reads::All(expected)) => assert_eq!(found, expected, "{label}"),
        (Err(error), Reads::Fails(name, is_first_readable)) => {
            assert_eq!(error.kind(), ErrorKind::NotSupported, "{label}: {error}");
            assert!(error.to_string().to_lowercase().contains(name), "{label}: {error}");
            let first = db.get("k00000");
            assert_eq!(first.is_ok(), is_first_readable, "{label}: {first:?}");
            assert!(!is_first_readable || first.expect("readable").is_some(), "{label}");
        }
        (found, _) => panic!("{label}: a scan ended with {found:?}"),
    }
    db.close().expect("closes");
    let report = verify_directory(dir, &Options::default(), &mut |_| {}).expect("verified");
    assert!(report.damages.is_empty(), "{label}: {:?}", report.damages);
    let said: Vec<String> = report.unchecked.iter().map(ToString::to_string).collect();
    match unchecked {
        None => assert!(said.is_empty(), "{label}: {said:?}"),
        Some(name) => assert!(said.iter().any(|said| said.to_lowercase().contains(name)), "{label}: {said:?}"),
    }
    for path in files(dir, "") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let each = &mut |_| Ok(());
        let dumped = match () {
            () if name.starts_with("MANIFEST-") => inspect::manifest(&PosixFs, &path, each),
            () if name.ends_with(".log") => inspect::wal(&PosixFs, &path, each),
            () if name.ends_with(".sst") => inspect::sst(&PosixFs, &path, each),
            () => continue,
        };
        match dumped {
            Ok(()) => {}
            Err(error) if unchecked.is_some() && error.kind() == ErrorKind::NotSupported => {}
            Err(error) => panic!("{label}: {name}: {error}"),
        }
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_verbs_that_look_refuse_nothing_that_they_need_not_read() {
    let temp = tempfile::tempdir().expect("a directory");
    for (index, case) in cases().iter().enumerate() {
        let dir = temp.path().join(index.to_string());
        made(case, &dir);
        look(&format!("{:?} {} {}", case.release, case.options, case.script), &dir, case.reads, case.unchecked);
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_an_options_file_keeps_nobody_from_reading_whatever_is_in_it() {
    let temp = tempfile::tempdir().expect("a directory");
    let plain = case(Release::Seven, "", "PUTS\nflush default\nput default 61 62\n", Reads::All(301));
    let spoil = |name: &str, change: &dyn Fn(String) -> Option<String>| {
        let dir = temp.path().join(name);
        made(&plain, &dir);
        for path in files(&dir, "").into_iter().filter(|path| path.to_string_lossy().contains("OPTIONS-")) {
            let text = String::from_utf8(PosixFs.read_whole(&path, 1 << 20).expect("readable")).expect("text");
            match change(text) {
                Some(text) => PosixFs.write_atomically(&path, &path.with_extension("new"), text.as_bytes()),
                None => PosixFs.remove_file(&path),
            }
            .expect("changed");
        }
        let db = Db::open_read_only(&dir, Options::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(count(&db).expect("readable"), 301, "{name}");
        let said = db.recovery_report().not_read.len();
        assert_eq!(column_families_in(&dir, &Options::default()).expect("families").len(), 1);
        let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("verified");
        let is_named = |error: &firndb::Error| error.to_string().contains("OPTIONS-");
        assert!(report.damages.iter().all(is_named), "{name}: {:?}", report.damages);
        (said, report.damages.len())
    };
    assert_eq!(spoil("gone", &|_| None), (0, 0));
    assert_eq!(spoil("empty", &|_| Some(String::new())), (1, 1));
    assert_eq!(spoil("cut", &|text| Some(text[..text.len() / 2].to_owned() + "\nhalf")), (1, 1));
    assert_eq!(spoil("garbage", &|_| Some("\u{1}\u{2}\u{3}".to_owned())), (1, 1));
    let unknown = "[DBOptions]\n  not_yet_thought_of={a=b;c={d=e}}";
    assert_eq!(spoil("unknown", &|text| Some(text.replacen("[DBOptions]", unknown, 1))), (0, 0));
    let nonsense = |text: String| Some(text.replacen("write_buffer_size=67108864", "write_buffer_size=much", 1));
    assert_eq!(spoil("nonsense", &nonsense), (1, 1));
    let other = |text: String| Some(text.replacen("comparator=leveldb.", "comparator=other.", 1));
    assert_eq!(spoil("order", &other), (1, 1));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_logs_in_another_directory_are_read() {
    let temp = tempfile::tempdir().expect("a directory");
    let (dir, wals) = (temp.path().join("db"), temp.path().join("wals"));
    let options = format!("wal_dir={};", wals.display());
    drive(Release::Seven, &dir, &format!("open {options}\nput default 61 62\nsync\nexit\n"));
    look("wal_dir", &dir, Reads::All(1), Some("wal_dir"));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_merge_operator_that_nobody_knows_keeps_nobody_from_other_keys() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    drive(
        Release::Seven,
        &dir,
        "open uint64add;\nmerge default 7a 0100000000000000\nput default 6b3030303030 31\nflush default\nexit\n",
    );
    change_options(&dir, &[("merge_operator", "somebodys.Operator")]);
    look("merge operator", &dir, Reads::Fails("somebodys.operator", true), None);
    // Eleven has tags and fields of its own in MANIFEST.
    let dir = temp.path().join("eleven");
    ldb(Release::Eleven, &dir, &["--create_if_missing", "put", "a", "1"], "");
    ldb(Release::Eleven, &dir, &["put", "b", "1"], "");
    look("eleven", &dir, Reads::All(2), None);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_compressed_logs_are_recovered_as_rocksdb_recovers_them_wherever_they_are_cut() {
    let temp = tempfile::tempdir().expect("a directory");
    let seed = firndb_testkit::from_environment("FIRN_SEED").unwrap_or(1);
    let mut random = firndb_testkit::Random::new(seed);
    for (release, options) in [
        (Release::Seven, "wal_compression=kZSTD;write_buffer_size=100000000;"),
        (Release::Seven, "wal_compression=kZSTD;recycle_log_file_num=2;write_buffer_size=100000000;"),
    ] {
        let dir = temp.path().join(format!("{release:?}{}", options.len()));
        let mut script = format!("open {options}\n");
        for i in 0..60 {
            let len = random.one_of(&[0, 10, 1000, 30_000, 100_000]);
            // Half of it compresses.
            let value: Vec<u8> = (0..len).map(|at| if at % 2 == 0 { random.below(256) as u8 } else { 7 }).collect();
            script += &format!("put default {} {}\n", hex(format!("k{i:05}").as_bytes()), crate::rocks::word(&value));
        }
        drive(release, &dir, &(script + "sync\nexit\n"));
        let log = files(&dir, ".log").pop().expect("a log");
        let whole = PosixFs.read_whole(&log, 1 << 30).expect("readable");
        assert_eq!(whole[6], 9, "compressed");
        let mut cuts: Vec<usize> = (0..12).map(|_| random.below(whole.len() as u64) as usize).collect();
        cuts.push(whole.len());
        for cut in cuts {
            let copy = temp.path().join(format!("{release:?}{}-{cut}", options.len()));
            crate::compat::copy_of(&dir, &copy);
            let log = copy.join(log.file_name().expect("a name"));
            PosixFs.write_atomically(&log, &log.with_extension("cut"), &whole[..cut]).expect("written");
            let db = Db::open_read_only(&copy, Options::default()).expect("opens");
            let ours = crate::firn::dump_of(&db);
            db.close().expect("closes");
            let report = verify_directory(&copy, &Options::default(), &mut |_| {}).expect("verified");
            assert!(report.damages.is_empty() && report.unchecked.is_empty(), "cut at {cut}: {report:?}");
            let db = Db::open_with(&copy, Options::default()).expect("opens");
            assert_eq!(crate::firn::dump_of(&db), ours, "cut at {cut}");
            drop(db);
            crate::compat::copy_of(&dir, &copy.with_extension("theirs"));
            let log = copy.with_extension("theirs").join(log.file_name().expect("a name"));
            PosixFs.write_atomically(&log, &log.with_extension("cut"), &whole[..cut]).expect("written");
            let theirs = drive(release, &copy.with_extension("theirs"), "open \ndump\nexit\n");
            crate::rocks::assert_same_dump(
                &format!("FIRN_SEED={seed}: {release:?} {options} cut at {cut}"),
                &ours,
                &theirs,
            );
        }
    }
    let dir = temp.path().join("eleven");
    ldb(Release::Eleven, &dir, &["--create_if_missing", "put", "first", "1"], "");
    change_options(&dir, &[("wal_compression", "kZSTD")]);
    let rows: String = (0..500).map(|i| format!("key{i:05} ==> value {i}\n")).collect();
    ldb(Release::Eleven, &dir, &["--try_load_options", "load"], &rows);
    let log = files(&dir, ".log").pop().expect("a log");
    assert_eq!(PosixFs.read_whole(&log, 1 << 30).expect("readable")[6], 9, "compressed");
    look("11.1", &dir, Reads::All(501), None);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_compressed_logs_of_ours_are_recovered_by_every_rocksdb_whole_and_cut() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let options = || {
        let mut options = Options { create_if_missing: true, ..Options::default() };
        options.wal_compression = Compression::Zstd;
        options.avoid_flush_during_shutdown = true;
        options
    };
    let db = Db::open_with(&dir, options()).expect("opens");
    for i in 0..200u32 {
        // Some over more than one block of the log, and some that do not shrink.
        let value: Vec<u8> = match i % 20 {
            0 => (0..90_000u32).map(|j| (j.wrapping_mul(j ^ 0x9E37_79B9) >> 13) as u8).collect(),
            _ => format!("value {i} ").repeat(i as usize % 40).into_bytes(),
        };
        db.put(format!("key{i:05}"), value).expect("written");
    }
    db.delete_range("key00050", "key00060").expect("written");
    db.close().expect("closes");
    let log = files(&dir, ".log").pop().expect("a log");
    let whole = PosixFs.read_whole(&log, 1 << 30).expect("readable");
    assert_eq!(whole[6], 9, "compressed");
    assert!(whole.len() < 1_200_000, "{} bytes", whole.len());
    let name = log.file_name().expect("a name");
    for (step, cut) in [whole.len(), whole.len() - 3, whole.len() / 2, whole.len() / 7].into_iter().enumerate() {
        for release in [Release::Seven, Release::Nine] {
            let copy = temp.path().join(format!("{step}{release:?}"));
            let (ours, theirs) = (copy.with_extension("ours"), copy.with_extension("theirs"));
            for copy in [&ours, &theirs] {
                crate::compat::copy_of(&dir, copy);
                let log = copy.join(name);
                PosixFs.write_atomically(&log, &log.with_extension("cut"), &whole[..cut]).expect("written");
            }
            let theirs = drive(release, &theirs, "open \ndump\nexit\n");
            let db = Db::open_with(&ours, options()).expect("opens");
            let ours = crate::firn::dump_of(&db);
            assert_same_dump(&format!("{release:?}, cut at {cut} of {}", whole.len()), &theirs, &ours);
            assert!(ours.lines().count() > 20, "{cut}: {} lines", ours.lines().count());
        }
    }
    let scan = ldb(Release::Eleven, &dir, &["--try_load_options", "scan"], "");
    assert_eq!(scan.lines().filter(|line| line.contains(" ==> ")).count(), 190);
}
