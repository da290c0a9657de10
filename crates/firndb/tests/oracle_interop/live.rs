//! Two processes at one directory: the lock keeps writers apart both ways, and a reader beside a RocksDB that goes on
//! writing sees what was written when it opened, and stays with it.

use std::path::Path;
use std::time::Duration;

use firndb::{Db, ErrorKind, Options, verify_directory};
use firndb_testkit::{Random, from_environment, hex};

use crate::firn::dump_of;
use crate::rocks::{Live, Release, assert_same_dump, drive, try_drive};

const RELEASES: [Release; 3] = [Release::Seven, Release::Nine, Release::Eleven];

fn puts(round: u32) -> String {
    let key = |i: u32| hex(format!("key{i:04}").as_bytes());
    let value = hex(format!("{round:04}").repeat(50).as_bytes());
    (0..300).map(|i| format!("put default {} {value}\n", key(i))).collect()
}

/// Every key has the value of one round.
fn assert_round(label: &str, db: &Db, round: u32) {
    let mut count = 0;
    for entry in db.iter().expect("an iterator") {
        let (key, value) = entry.expect("entries are readable");
        assert!(
            value.starts_with(format!("{round:04}").as_bytes()),
            "{label}: {key:02x?} of another round than {round}"
        );
        count += 1;
    }
    assert_eq!(count, 300, "{label}: round {round}");
}

fn read_only(dir: &Path) -> Db {
    Db::open_read_only(dir, Options::default()).expect("a reader takes no lock")
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_readers_beside_a_live_rocksdb_see_what_was_written_and_stay_with_it() {
    for release in RELEASES {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let mut writer = Live::start(release, &dir);
        writer.tell(&format!("open write_buffer_size=65536\n{}", puts(0)));
        let mut readers = vec![read_only(&dir)];
        for round in 1..8 {
            writer.tell(&format!(
                "{}{}",
                puts(round),
                ["", "flush default\n", "compact default\n"][round as usize % 3]
            ));
            readers.push(read_only(&dir));
            for (then, reader) in readers.iter().enumerate() {
                assert_round(&format!("{release:?} at {round}"), reader, then as u32);
            }
        }
        writer.end();
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_the_lock_keeps_us_and_rocksdb_apart_both_ways() {
    for release in RELEASES {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let mut writer = Live::start(release, &dir);
        writer.tell(&format!("open \n{}", puts(0)));
        let error = Db::open_with(&dir, Options::default()).expect_err("RocksDB has it");
        assert_eq!(error.kind(), ErrorKind::Locked, "{release:?}: {error}");
        writer.tell(&puts(1));
        writer.end();
        let db = Db::open_with(&dir, Options::default()).expect("RocksDB is gone");
        assert_round("opened", &db, 1);
        let said = try_drive(release, &dir, "open \nexit\n").expect_err("we have it");
        assert!(said.to_lowercase().contains("lock"), "{release:?}: {said}");
        db.put("key0000", "0001 of ours").expect("what was refused did no harm");
        assert_round("written", &db, 1);
        db.close().expect("closed");
        let dump = drive(release, &dir, "open \ndump\nexit\n");
        assert!(dump.contains(&hex(b"0001 of ours")), "{release:?}: {dump}");
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_what_a_killed_rocksdb_leaves_is_read_as_rocksdb_recovers_it() {
    let seed = from_environment("FIRN_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let script: String = (0..20).flat_map(|round| [puts(round), "flush default\n".to_owned()]).collect();
    let options = "write_buffer_size=65536;level0_file_num_compaction_trigger=2;";
    for release in RELEASES {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let mut cut = 0;
        for round in 0..4 {
            let label = format!("FIRN_SEED={seed}: {release:?}, round {round}");
            let mut writer = Live::start(release, &dir);
            writer.tell(&format!("open {options}\n"));
            writer.kill_while(&script, Duration::from_millis(5 + random.below(150)));
            let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("readable");
            assert!(report.damages.is_empty(), "{label}: {:?}", report.damages);
            let ours = dump_of(&read_only(&dir));
            cut += usize::from(ours.lines().count() > 1);
            if round % 2 == 0 {
                // Whoever opens it first: we, and then RocksDB finds what we found.
                let db = Db::open_with(&dir, Options::default()).expect("opens");
                assert_same_dump(&label, &dump_of(&db), &ours);
                assert_eq!(db.recovery_report().set_aside, [], "{label}: its log has all of it");
                db.close().expect("closed");
            }
            assert_same_dump(&label, &ours, &drive(release, &dir, &format!("open {options}\ndump\nexit\n")));
        }
        assert!(cut > 0, "{release:?} was always killed before it wrote anything");
    }
}
