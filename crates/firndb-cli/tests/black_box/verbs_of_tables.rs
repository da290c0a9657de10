//! Operands, parts of a database, parts of an entry, and single tables.

use super::{Place, firn};

#[test]
fn load_merges_with_an_operator_that_the_database_keeps() {
    let place = Place::new();
    place.run_with("load", &["--merge", "stringappend"], b"k\ta\nk\tb\nother\tx\n").is_silent();
    assert_eq!(place.run("get", &["k"]).text(), "a,b\n");
    place
        .run_with("load", &["--merge", "StringAppendOperator", "--json"], b"{\"key\":\"k\",\"value\":\"c\"}\n")
        .is_silent();
    // Without it, values are values, and a line without a TAB deletes.
    place.load("other\n");
    assert_eq!(place.run("scan", &[]).text(), "k\ta,b,c\n");
    // What is there would mean something else.
    place.run_with("load", &["--merge", "max"], b"k\tz\n").fails(2, "StringAppendOperator");
    place.run_with("load", &["--merge", "nonsense"], b"k\tz\n").fails(2, "nonsense");
    firn(&["cf", "create", place.db().to_str().expect("text"), "sums"]).is_silent();
    let one = "01\t0100000000000000\n";
    let arguments = ["--cf", "sums", "--hex", "--merge", "uint64add"];
    place.run_with("load", &arguments, one.repeat(3).as_bytes()).is_silent();
    assert_eq!(place.run("get", &["01", "--cf", "sums", "--hex"]).text(), "0300000000000000\n");
    assert_eq!(place.run("get", &["k"]).text(), "a,b,c\n");
}

#[test]
fn compact_takes_the_files_of_a_range_and_leaves_the_others() {
    let place = Place::new();
    for first in ["a", "m"] {
        let lines: String = (0..100).map(|i| format!("{first}{i:03}\tvalue\n")).collect();
        place.load(&lines);
        place.run("flush", &[]).is_silent();
    }
    let levels = || {
        let stats: serde_json::Value = serde_json::from_str(&place.run("stats", &["--json"]).text()).expect("JSON");
        let levels = stats["families"][0]["levels"].as_array().expect("levels").clone();
        levels
            .iter()
            .filter(|l| l["files"] != 0)
            .map(|l| (l["level"].as_u64(), l["files"].as_u64()))
            .collect::<Vec<_>>()
    };
    assert_eq!(levels(), [(Some(0), Some(2))]);
    place.run("compact", &["--from", "a", "--to", "b"]).is_silent();
    let after = levels();
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!(after[0], (Some(0), Some(1)), "{after:?}");
    place.run("compact", &["--from", "7a", "--hex"]).is_silent();
    assert_eq!(levels(), after, "nothing lies there");
    place.run("compact", &["--from", "zz", "--to"]).fails(2, "--to");
    assert_eq!(place.run("count", &[]).text(), "200\n");
}

#[test]
fn scan_prints_keys_or_values_alone_and_reads_as_it_is_told() {
    let place = Place::new();
    place.load("a\t1\nb\t\\xff\nc\t3\n");
    assert_eq!(place.run("scan", &["--keys"]).text(), "a\nb\nc\n");
    assert_eq!(place.run("scan", &["--values", "--reverse", "--limit", "2"]).text(), "3\n\\xff\n");
    assert_eq!(place.run("scan", &["--keys", "--hex", "--from", "62"]).text(), "62\n63\n");
    assert_eq!(
        place.run("scan", &["--values", "--json"]).text(),
        "{\"value\":\"1\"}\n{\"value_hex\":\"ff\"}\n{\"value\":\"3\"}\n"
    );
    assert_eq!(place.run("scan", &["--keys", "--json", "--limit", "1"]).text(), "{\"key\":\"a\"}\n");
    place.run("scan", &["--keys", "--values"]).fails(2, "--values");
    let options = "fill_cache=false; verify_checksums=false;readahead_size=2m;";
    assert_eq!(place.run("scan", &["--read-options", options, "--keys"]).text(), "a\nb\nc\n");
    for bad in ["fill_cache", "fill_cache=maybe", "snapshot=1", "readahead_size=much", "readahead_size=99999999999g"] {
        place.run("scan", &["--read-options", bad]).fails(2, "--read-options");
    }
    // A checksum that is not looked at is not missed.
    place.run("flush", &[]).is_silent();
    super::harness::change(&place.files(".sst").remove(0), |bytes| {
        let at = bytes.windows(2).position(|two| two == b"\x08\x01").unwrap_or(3).min(3);
        bytes[at] ^= 1;
    });
    place.run("scan", &["--keys"]).fails(3, ".sst");
    assert_eq!(place.run("scan", &["--keys", "--read-options", "verify_checksums=false"]).text().lines().count(), 3);
}

#[test]
fn sst_shows_a_table_a_part_of_it_and_what_it_would_take_under_each_codec() {
    let place = Place::new();
    let lines: String = (0..500).map(|i| format!("key{i:04}\tvalue value value value {}\n", i % 7)).collect();
    place.load(&format!("{lines}key0300\n"));
    place.run("flush", &[]).is_silent();
    let table = place.files(".sst").remove(0);
    let table = table.to_str().expect("text");
    let other = Place::new();
    other.run("delete-range", &["a", "b"]).fails(6, "no such database");
    other.load("key0099\tkept\n");
    other.run("delete-range", &["key0100", "key0200"]).is_silent();
    // It takes the log for a table first.
    other.run("flush", &[]).is_silent();
    let ranges = other.files(".sst").pop().expect("a table");
    let ranges = ranges.to_str().expect("text");
    let properties = firn(&["sst", "properties", table, "--json"]).text();
    let properties: serde_json::Value = serde_json::from_str(&properties).expect("JSON");
    assert_eq!((&properties["format_version"], &properties["deletions"]), (&5.into(), &1.into()));
    let scanned = firn(&["sst", "scan", table, "--from", "key0299", "--to", "key0302"]).text();
    let lines: Vec<&str> = scanned.lines().collect();
    assert_eq!(lines.len(), 3, "{scanned}");
    assert!(lines[0].starts_with("entry\tkey=key0299\t") && lines[1].contains("kind=Deletion"), "{scanned}");
    let scanned = firn(&["sst", "scan", ranges, "--from", "key0150", "--to", "key0151", "--json"]).text();
    assert!(scanned.starts_with("{\"type\":\"range tombstone\",\"begin\":\"key0100\""), "{scanned}");
    assert_eq!(firn(&["sst", "scan", table, "--limit", "3"]).text().lines().count(), 3);
    assert_eq!(firn(&["sst", "scan", ranges, "--from", "key0200"]).text(), "");
    assert_eq!(firn(&["sst", "scan", table, "--from", "7a", "--hex"]).text(), "");
    let sizes = firn(&["sst", "recompress", table, "--json"]).text();
    let size = |codec: &str| {
        let lines = sizes.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        let found = lines.into_iter().find(|line| line["codec"] == codec).expect("there");
        (found["data_bytes"].as_u64().expect("a number"), found["compressed_blocks"].as_u64().expect("a number"))
    };
    assert_eq!(Some(size("None").0), properties["data_bytes"].as_u64());
    assert_eq!(size("None").1, 0);
    for codec in ["Zstd", "Lz4", "Snappy", "Zlib"] {
        assert!(size(codec).0 < size("None").0 / 2 && size(codec).1 > 0, "{sizes}");
    }
    firn(&["sst", "properties", "/nowhere.sst"]).fails(6, "/nowhere.sst");
    firn(&["sst", "properties", table, "--cf", "default"]).fails(2, "--cf");
}
