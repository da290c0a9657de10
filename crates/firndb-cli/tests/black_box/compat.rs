//! `compat`: who can open a directory.

use super::Place;
use super::harness::change;

#[test]
fn compat_names_the_releases_that_open_a_directory_and_the_file_that_keeps_others_away() {
    let place = Place::new();
    place.load("k\tv\n");
    place.run("flush", &[]).is_silent();
    let text = place.run("compat", &[]).text();
    assert!(text.starts_with("RocksDB 6.27 and newer\n"), "{text}");
    for release in ["7.8", "9.8", "11.1"] {
        assert!(text.contains(&format!("\n{release}\tyes\n")), "{text}");
    }
    // A log with a record that says that keys have timestamps, which 7.8 does not know.
    let log = place.files(".log").pop().expect("a log");
    change(&log, |bytes| {
        *bytes = super::harness::log_record(&[0, 0, 0, 0, 8, 0]);
        bytes[6] = 10;
        let crc = super::harness::masked_crc(&bytes[6..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
    });
    let text = place.run("compat", &[]).text();
    let name = log.file_name().expect("a name").to_string_lossy().into_owned();
    let line = text.lines().find(|line| line.starts_with("7.8\t")).expect("a line");
    assert!(line.contains("no: ") && line.contains("timestamps") && line.contains(&name), "{text}");
    let json = place.run("compat", &["--json"]).text();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["since"], "8.1");
    assert_eq!((&json["opens"]["7.8"], &json["opens"]["9.8"]), (&false.into(), &true.into()));
    let named = json["requirements"].as_array().expect("a list").iter();
    assert!(named.clone().any(|one| one["since"] == "8.1" && one["file"].as_str().is_some_and(|f| f.ends_with(&name))));
}
