//! A bit flips somewhere in the directory: `verify` finds it, or it changes nothing that can be read.

use super::Place;
use firndb_testkit::Random;

use super::harness::change;

/// Two families, tables on two levels, a log.
fn filled() -> Place {
    let place = Place::new();
    place.load(&(0..300).map(|number| format!("key{number:05}\tvalue {number}\n")).collect::<String>());
    place.run("compact", &[]).is_silent();
    place.load(&(200..400).map(|number| format!("key{number:05}\tother {number}\n")).collect::<String>());
    place.run("flush", &[]).is_silent();
    let db = place.db();
    super::firn(&["cf", "create", db.to_str().expect("text"), "two"]).is_silent();
    place.lines("in two\t1\nalso in two\t2\n", &["--cf", "two"]).is_silent();
    place.lines("only in the log\t1\n", &["--cf", "two"]).is_silent();
    place
}

/// Exit codes and results of everything that reads.
fn read(place: &Place) -> Vec<(i32, Vec<u8>)> {
    let both = [place.run("scan", &[]), place.run("scan", &["--cf", "two"])];
    both.into_iter().map(|ran| (ran.code, ran.out)).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_found_by_verify_or_harmless_and_never_a_panic_or_a_wrong_answer() {
    let place = filled();
    let sound = read(&place);
    assert_eq!(place.run("verify", &[]).code, 0);
    let mut random = Random::new(42);
    let mut found = 0;
    for file in place.files("") {
        let whole = std::fs::read(&file).expect("readable");
        if whole.is_empty() {
            continue;
        }
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        for _ in 0..24 {
            let (at, bit) = (random.index(whole.len()), random.index(8));
            change(&file, |bytes| bytes[at] ^= 1 << bit);
            let label = format!("bit {bit} of byte {at} of {name}");
            let verified = place.run("verify", &[]);
            assert!(!verified.err.contains("panicked") && [0, 3, 5].contains(&verified.code), "{label}: {verified:?}");
            let after = read(&place);
            for ((code, out), (_, right)) in after.iter().zip(&sound) {
                assert!([0, 2, 3, 5].contains(code), "{label}: {code}");
                // What is printed before the damage is right; a log is recovered up to it.
                let is_log = name.ends_with(".log");
                assert!(right.starts_with(out) || is_log, "{label}: {}", String::from_utf8_lossy(out));
            }
            if verified.code == 0 {
                assert_eq!(after, sound, "{label}: verify says nothing");
            } else {
                assert!(!verified.err.is_empty(), "{label}");
                found += 1;
            }
            std::fs::write(&file, &whole).expect("writable");
        }
    }
    assert!(found > 80, "{found} found");
    assert_eq!(place.run("verify", &[]).code, 0);
}

#[test]
fn every_byte_of_a_short_log_is_covered() {
    let place = Place::new();
    place.lines("a\t1\nb\t2\nc\t3\n", &["--batch", "1"]).is_silent();
    let log = place.files(".log").pop().expect("a log");
    let whole = std::fs::read(&log).expect("readable");
    for at in 0..whole.len() {
        change(&log, |bytes| bytes[at] ^= 1 << (at % 8));
        let verified = place.run("verify", &[]);
        assert!(verified.code == 3 && verified.err.contains(".log"), "byte {at}: {verified:?}");
        let read = place.run("scan", &[]);
        assert!(read.code == 0 && b"a\t1\nb\t2\nc\t3\n".starts_with(&read.out[..]), "byte {at}: {read:?}");
        std::fs::write(&log, &whole).expect("writable");
    }
    // Cut off anywhere, it holds the batches that are whole.
    for len in (0..whole.len()).rev() {
        change(&log, |bytes| bytes.truncate(len));
        assert_eq!(place.run("verify", &[]).code, 0, "an end that was not written is a note, not damage");
        let read = place.run("scan", &[]);
        assert!(read.code == 0 && read.out.len() == len / (whole.len() / 3) * 4, "{len} bytes: {read:?}");
    }
}

#[test]
fn a_manifest_that_lost_an_edit_which_somebody_was_told_of_is_damaged_and_one_cut_in_a_crash_is_not() {
    let place = Place::new();
    place.load("a\t1\nb\t2\n");
    let manifest = || {
        let current = std::fs::read_to_string(place.db().join("CURRENT")).expect("CURRENT");
        place.db().join(current.trim_end())
    };
    // Half of an edit, as a crash leaves it: the log still has everything.
    let whole = std::fs::read(manifest()).expect("readable");
    change(&manifest(), |bytes| bytes.extend_from_slice(&[1, 2, 3, 4, 50, 0, 1, 9]));
    let ran = place.run("verify", &[]);
    assert!(ran.code == 0 && String::from_utf8_lossy(&ran.out).contains("cut off"), "{ran:?}");
    place.run("count", &[]).prints("2\n");
    std::fs::write(manifest(), whole).expect("writable");
    // The edit of a flush, whose log is gone.
    place.run("flush", &[]).is_silent();
    let whole = std::fs::read(manifest()).expect("readable");
    for cut in [1, 10, 40] {
        change(&manifest(), |bytes| bytes.truncate(whole.len() - cut));
        let ran = place.run("verify", &[]);
        assert!(ran.code == 3 && ran.err.contains("MANIFEST-") && ran.err.contains(".sst"), "{cut}: {ran:?}");
        std::fs::write(manifest(), &whole).expect("writable");
    }
    // A damaged length that makes the last edit look cut off.
    let last: usize = super::harness::log_payloads(&whole).iter().rev().skip(1).map(|payload| payload.len() + 7).sum();
    change(&manifest(), |bytes| bytes[last + 4] ^= 0x80);
    place.run("count", &[]).fails(3, "MANIFEST-");
    assert_eq!(place.run("verify", &[]).code, 3);
}
