//! `stats`, `dump`, `bench`, `tour`.

use super::{Place, files, firn};

#[test]
fn stats_shows_levels_memtables_cache_and_pins_and_as_one_json_object() {
    let place = Place::new();
    place.load(&(0..100).map(|number| format!("key{number}\tv\n")).collect::<String>());
    assert_eq!(place.run("flush", &[]).text(), "");
    let text = place.run("stats", &[]).text();
    for word in ["default", "level", "amplification", "cache", "pins", "stall"] {
        assert!(text.to_lowercase().contains(word), "{word}: {text}");
    }
    let json = place.run("stats", &["--json"]).text();
    assert_eq!(json.lines().count(), 1);
    let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(value.is_object());
}

#[test]
fn dump_shows_every_kind_of_file_and_says_what_it_cannot_read() {
    let place = Place::new();
    place.load("alpha\tone\nbeta\ttwo\n");
    let log = place.files(".log").pop().expect("a log");
    let path = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let text = firn(&["dump", "wal", &path(&log)]).text();
    assert!(text.contains("alpha") && text.contains("two"), "{text}");
    assert_eq!(place.run("flush", &[]).text(), "");
    let table = place.files(".sst").pop().expect("a table");
    let text = firn(&["dump", "sst", &path(&table)]).text();
    assert!(text.contains("alpha") && text.contains("two"), "{text}");
    let named = |start: &str| {
        files(&place.db(), "").into_iter().find(|path| path.to_string_lossy().contains(start)).expect("there is one")
    };
    let text = firn(&["dump", "manifest", &path(&named("MANIFEST-"))]).text();
    assert!(text.contains("leveldb.BytewiseComparator"), "{text}");
    let text = firn(&["dump", "options", &path(&named("OPTIONS-"))]).text();
    assert!(text.contains("CFOptions"), "{text}");
    for kind in ["wal", "sst", "manifest", "options"] {
        let file = match kind {
            "wal" => place.files(".log").pop().expect("a log"),
            "sst" => table.clone(),
            "manifest" => named("MANIFEST-"),
            _ => named("OPTIONS-"),
        };
        for line in firn(&["dump", kind, &path(&file), "--json"]).text().lines() {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert!(value.is_object(), "{kind}: {line}");
        }
        firn(&["dump", kind, "/nonexistent/file"]).fails(6, "/nonexistent/file");
    }
    firn(&["dump", "sst", &path(&named("MANIFEST-"))]).fails(3, "MANIFEST");
    firn(&["dump", "nonsense", &path(&table)]).fails(2, "nonsense");
    let junk = place.db().join("junk");
    for (kind, content) in [
        ("wal", &b"hello, this is no log, but some text\n"[..]),
        ("manifest", b"hello, this is no MANIFEST, but some text\n"),
        ("manifest", b""),
        ("manifest", b"cut"),
        ("manifest", &[0; 40_000]),
        ("sst", b""),
    ] {
        std::fs::write(&junk, content).expect("writable");
        let ran = firn(&["dump", kind, &path(&junk)]);
        assert!(ran.code == 3 && ran.err.contains("junk"), "{kind}: {ran:?}");
    }
}

#[test]
fn bench_runs_every_workload_and_reports_each() {
    let names = "fillseq,fillrandom,overwrite,readrandom,readmissing,readseq,seekrandom,readwhilewriting";
    let ran = firn(&["bench", "--num", "2000", "--json", "--workloads", names]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let json = String::from_utf8(ran.out).expect("text");
    let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 8);
    for (line, name) in lines.iter().zip(names.split(',')) {
        assert!(line.to_string().contains(name), "{line}");
    }
    assert_eq!(firn(&["bench", "--num", "1000", "--workloads", "fillseq,readseq"]).code, 0);
    firn(&["bench", "--workloads", "dance"]).fails(2, "dance");
}

#[test]
fn the_tour_tells_its_story_in_a_directory_of_the_callers_choice() {
    let place = Place::new();
    let dir = place.db();
    let ran = firn(&["tour", dir.to_str().expect("text")]);
    let text = String::from_utf8_lossy(&ran.out);
    assert_eq!(ran.code, 0, "{text}{}", ran.err);
    for word in ["tour.rs:", "iterator", "snapshot", "9.8.4"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    for database in ["unicode", "rocksdb"] {
        let database = dir.join(database);
        assert_eq!(firn(&["verify", database.to_str().expect("text")]).code, 0);
    }
    // Without a directory, nothing stays behind.
    let temporary = place.temporary.path().join("tmp");
    std::fs::create_dir(&temporary).expect("made");
    let output = super::command().arg("tour").env("TMPDIR", &temporary).output().expect("it runs");
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(files(&temporary, "").is_empty());
}
