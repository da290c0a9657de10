//! A MANIFEST that lost its last edit, and the table that only that edit named.

use std::path::PathBuf;

use super::harness::{change, log_payloads};
use super::{Place, firn};

fn manifest(place: &Place) -> PathBuf {
    let current = std::fs::read_to_string(place.db().join("CURRENT")).expect("CURRENT");
    place.db().join(current.trim_end())
}

/// Names in a directory with this ending.
fn names(dir: PathBuf, ending: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    names.filter(|name| name.ends_with(ending)).collect()
}

#[test]
fn the_table_of_a_lost_edit_is_damage_for_verify_and_goes_to_lost_when_somebody_writes() {
    // At the border of the edit, and inside of it.
    for extra in [0, 1, 9] {
        let place = Place::new();
        place.load("a\t1\nb\t2\n");
        place.run("flush", &[]).is_silent();
        let tables = names(place.db(), ".sst");
        let [table] = &tables[..] else { panic!("{tables:?}") };
        change(&manifest(&place), |bytes| {
            let records: Vec<usize> = log_payloads(bytes).iter().map(|payload| payload.len() + 7).collect();
            bytes.truncate(records[..records.len() - 1].iter().sum::<usize>() + extra);
        });

        let ran = place.run("verify", &[]);
        assert!(ran.code == 3 && ran.err.contains(table.as_str()), "{ran:?}");
        assert!(ran.err.contains("MANIFEST-") && ran.err.contains("writes 1 to 2 "), "{ran:?}");
        place.run("count", &[]).prints("0\n");
        assert_eq!(names(place.db(), ".sst"), tables, "reading changes nothing");

        let ran = place.run("put", &["c", "3"]);
        assert!(ran.code == 0 && ran.out.is_empty(), "{ran:?}");
        assert!(ran.err.contains("warning: ") && ran.err.contains(&format!("lost/{table}")), "{ran:?}");
        let lost = place.db().join("lost").join(table);
        let text = firn(&["dump", "sst", lost.to_str().expect("text")]).text();
        assert_eq!(text.lines().filter(|line| line.starts_with("entry")).count(), 2, "{text}");

        // It is said once; `verify` goes on mentioning the directory.
        place.run("put", &["d", "4"]).is_silent();
        place.run("count", &[]).prints("2\n");
        let ran = place.run("verify", &[]);
        assert!(ran.code == 0 && String::from_utf8_lossy(&ran.out).contains("lost/ has 1 "), "{ran:?}");
    }
}

#[test]
fn a_load_that_is_killed_leaves_nothing_for_lost() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let line = |number: u32| format!("key{number:08}\t{}\n", "v".repeat(100));
    let mut found = 0;
    for round in 0..6u32 {
        let place = Place::new();
        let mut child = Command::new(env!("CARGO_BIN_EXE_firn"))
            .arg("load")
            .arg(place.db())
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("piped");
        let lines: String = (0..300_000 + round * 140_000).map(line).collect();
        stdin.write_all(lines.as_bytes()).expect("it reads");
        child.kill().expect("it is running");
        child.wait().expect("it ends");
        drop(stdin);
        let ran = place.run("verify", &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        found += names(place.db(), ".sst").len();
        assert_eq!(place.run("put", &["after", "x"]).code, 0);
        assert!(!place.db().join("lost").exists(), "round {round}");
    }
    assert!(found > 0, "no load came as far as a table");
}
