//! RocksDB's tools read what `firn` wrote.

use std::process::Command;

use super::Place;

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_ldb_scans_what_firn_loaded_flushed_and_compacted() {
    let place = Place::new();
    let lines: String = (0..5000u32)
        .map(|n| format!("{:08x}\t{}\n", n.wrapping_mul(2_654_435_761), "ab".repeat(n as usize % 60)))
        .collect();
    assert_eq!(place.run_with("load", &["--hex"], lines.as_bytes()).text(), "");
    for verb in [None, Some("flush"), Some("compact")] {
        if let Some(verb) = verb {
            assert_eq!(place.run(verb, &[]).text(), "");
        }
        let ours = place.run("scan", &["--hex"]).text();
        // A copy, since ldb writes to what it opens.
        let copy = place.temporary.path().join(format!("copy-{}", verb.unwrap_or("log")));
        std::fs::create_dir(&copy).expect("made");
        for file in super::files(&place.db(), "") {
            std::fs::copy(&file, copy.join(file.file_name().expect("a name"))).expect("copied");
        }
        let output = Command::new("ldb").arg(format!("--db={}", copy.display())).args(["scan", "--hex"]).output();
        let theirs = String::from_utf8(output.expect("it is installed").stdout).expect("text");
        let theirs: String =
            theirs.lines().map(|line| line.replace(" : ", "\t").replace("0x", "").to_lowercase() + "\n").collect();
        assert_eq!(ours, theirs, "after {verb:?}");
        assert_eq!(ours.lines().count(), 5000);
    }
}
