//! Damaged and foreign directories: exit codes 3, 5 and 6, with the file's name.

use super::harness::change;
use super::{Place, files};

fn filled() -> Place {
    let place = Place::new();
    for part in 0..3 {
        place.load(&(0..500).map(|number| format!("key{part}{number:05}\tvalue {number}\n")).collect::<String>());
        assert_eq!(place.run("flush", &[]).text(), "");
    }
    place.load("in the log\tonly\n");
    place
}

#[track_caller]
fn verify_finds(place: &Place, name: &str) {
    let ran = place.run("verify", &[]);
    assert!(ran.code == 3 && ran.err.contains(name) && !ran.err.contains("panicked"), "{name}: {ran:?}");
}

#[test]
fn verify_finds_a_flipped_bit_wherever_it_is_in_a_table() {
    let place = filled();
    assert_eq!(place.run("verify", &[]).code, 0);
    let table = place.files(".sst").remove(0);
    let name = table.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let whole = std::fs::read(&table).expect("readable");
    for at in (0..whole.len()).step_by(whole.len() / 37) {
        change(&table, |bytes| bytes[at] ^= 0x20);
        verify_finds(&place, &name);
        std::fs::write(&table, &whole).expect("writable");
    }
    assert_eq!(place.run("verify", &[]).code, 0);
}

#[test]
fn tables_that_are_cut_missing_or_swapped_are_named() {
    let place = filled();
    let tables = place.files(".sst");
    let name = tables[0].file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let whole = std::fs::read(&tables[0]).expect("readable");
    change(&tables[0], |bytes| bytes.truncate(bytes.len() / 2));
    verify_finds(&place, &name);
    place.run("scan", &[]).fails(3, &name);
    change(&tables[0], Vec::clear);
    verify_finds(&place, &name);
    std::fs::remove_file(&tables[0]).expect("removed");
    verify_finds(&place, &name);
    place.run("get", &["key000001"]).fails(3, &name);
    // The table of another number is not the one that MANIFEST means, however whole it is.
    std::fs::copy(&tables[1], &tables[0]).expect("copied");
    verify_finds(&place, &name);
    std::fs::write(&tables[0], &whole).expect("writable");
    assert_eq!(place.run("verify", &[]).code, 0);
    // What nobody names is noted, and no damage.
    std::fs::write(place.db().join("999999.sst"), b"stray").expect("written");
    let ran = place.run("verify", &[]);
    assert!(ran.code == 0 && String::from_utf8_lossy(&ran.out).contains("999999.sst"), "{ran:?}");
}

#[test]
fn options_that_no_writer_gets_past_and_logs_that_are_gone_are_not_passed_over_by_verify() {
    let place = Place::new();
    place.load("k\tv\n");
    let options = files(&place.db(), "").into_iter().find(|path| path.to_string_lossy().contains("OPTIONS-"));
    let options = options.expect("there is one");
    let whole = std::fs::read(&options).expect("readable");
    const LEVELS: &[u8] = b"[CFOptions \"default\"]\n  num_levels=x7\n";
    for bad in [&b"nonsense"[..], b"\xff\xfe", b"[CFOptions \"default\"]\n  comparator=rev.comparator\n", LEVELS] {
        std::fs::write(&options, bad).expect("writable");
        // Whoever only reads does without, and says so.
        let ran = place.run("count", &[]);
        assert!(ran.code == 0 && ran.says("1\n") && ran.err.contains("warning: "), "{ran:?}");
        place.run("put", &["k", "v"]).fails(3, "OPTIONS");
        verify_finds(&place, "OPTIONS");
    }
    std::fs::write(&options, &whole).expect("writable");
    std::fs::remove_file(place.files(".log").remove(0)).expect("removed");
    let ran = place.run("verify", &[]);
    assert!(ran.code == 0 && String::from_utf8_lossy(&ran.out).contains("there is no log from"), "{ran:?}");
}

#[test]
fn a_log_that_is_garbage_is_damage_and_no_cut_off_end() {
    let place = Place::new();
    place.load("a\t1\n");
    let log = place.files(".log").pop().expect("a log");
    // A length that reaches past the end, and a type that does not exist.
    change(&log, |bytes| *bytes = [&[1, 2, 3, 4, 0xff, 0x0f, 0x5a][..], &[0x77; 90]].concat());
    verify_finds(&place, ".log");
}

#[test]
fn a_compaction_of_a_damaged_table_is_3_whether_or_not_the_background_met_it_first() {
    let place = filled();
    // Damaged before there are four tables in one level: those start a compaction as soon as the database is open, and what has
    // come through one, all the way down, is not read by another.
    change(&place.files(".sst").remove(0), |bytes| bytes[10] ^= 1);
    place.load("one more\tvalue\n");
    for _ in 0..3 {
        place.run("compact", &[]).fails(3, ".sst");
    }
    place.run("get", &["one more"]).prints("value\n");
}

#[test]
fn a_table_that_may_not_be_read_is_6_and_no_damage() {
    let place = filled();
    let table = place.files(".sst").remove(0);
    let aside = place.db().join("aside");
    std::fs::rename(&table, &aside).expect("renamed");
    std::fs::create_dir(&table).expect("made");
    for verb in ["verify", "scan"] {
        let ran = place.run(verb, &[]);
        assert!(ran.code == 6 && ran.err.contains(".sst"), "{verb}: {ran:?}");
    }
    // Another one that is damaged is still found.
    change(&place.files(".sst")[1], |bytes| bytes[10] ^= 1);
    assert_eq!(place.run("verify", &[]).code, 3);
}

#[test]
fn a_directory_that_lost_its_current_is_damaged_and_no_missing_database() {
    let place = filled();
    let current = place.db().join("CURRENT");
    std::fs::remove_file(&current).expect("removed");
    let before = files(&place.db(), "");
    let verbs: [(&str, &[&str]); 10] = [
        ("get", &["k"]),
        ("put", &["k", "v"]),
        ("delete", &["k"]),
        ("scan", &[]),
        ("count", &[]),
        ("load", &[]),
        ("flush", &[]),
        ("compact", &[]),
        ("verify", &[]),
        ("stats", &[]),
    ];
    for (verb, rest) in verbs {
        let ran = place.run(verb, rest);
        assert!(ran.code == 3 && ran.err.contains("CURRENT"), "{verb}: {ran:?}");
    }
    let lock = place.db().join("LOCK");
    assert_eq!(
        files(&place.db(), "").iter().filter(|path| **path != lock).count(),
        before.len() - usize::from(before.contains(&lock))
    );
    // Without data it is no database.
    for path in [place.files(".sst"), place.files(".log")].concat() {
        std::fs::remove_file(path).expect("removed");
    }
    for (verb, rest) in [("get", &["k"][..]), ("delete", &["k"]), ("verify", &[]), ("compact", &[])] {
        place.run(verb, rest).fails(6, "no such database");
    }
}

#[test]
fn a_damaged_manifest_or_current_is_3_and_a_log_is_recovered_to_a_point_and_reported_by_verify() {
    let place = filled();
    let manifest =
        files(&place.db(), "").into_iter().find(|path| path.to_string_lossy().contains("MANIFEST-")).expect("one");
    let whole = std::fs::read(&manifest).expect("readable");
    change(&manifest, |bytes| bytes[20] ^= 1);
    verify_finds(&place, "MANIFEST");
    place.run("count", &[]).fails(3, "MANIFEST");
    place.run("put", &["k", "v"]).fails(3, "MANIFEST");
    std::fs::write(&manifest, &whole).expect("writable");
    let current = place.db().join("CURRENT");
    for bad in ["", "MANIFEST-999999\n", "nonsense\n", "MANIFEST-000001", &"x".repeat(10_000)] {
        std::fs::write(&current, bad).expect("writable");
        assert_eq!(place.run("verify", &[]).code, 3, "{bad:?}");
        let ran = place.run("count", &[]);
        assert!(ran.code == 3 && ran.out.is_empty(), "{bad:?}: {ran:?}");
    }
    let name = manifest.file_name().and_then(|name| name.to_str()).expect("a name");
    std::fs::write(&current, format!("{name}\n")).expect("writable");
    let log = place.files(".log").pop().expect("a log");
    change(&log, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    assert_eq!(place.run("verify", &[]).code, 3, "a record whose checksum is wrong is damage");
    let ran = place.run("count", &[]);
    assert_eq!((ran.code, ran.out.as_slice()), (0, &b"1500\n"[..]), "point in time: everything before it");
    assert!(ran.err.contains("warning") && ran.err.contains(".log"), "and a word about the rest: {ran:?}");
}
