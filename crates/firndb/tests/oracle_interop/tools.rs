//! `ldb` and `sst_dump`, as a person at a terminal uses them.

use std::process::Command;

use firndb_testkit::hex;
use firndb_testkit::rocksdb::run;

use crate::model::{Change, FAMILIES, Op};
use crate::relay::{Codec, End, LZ4, LZ4HC, NONE, Relay, SNAPPY, Seen, ZLIB, ZSTD};
use crate::rocks::{Release, compare_with_ldb, files, try_ldb};

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex(bytes).to_uppercase())
}

/// `ldb` goes on writing: whole files of lines, batches, deletions, families, a compaction.
fn write_with_ldb(relay: &mut Relay<'_>, release: Release, codec: &str) {
    let label = relay.label(&format!("ldb of RocksDB {release:?}"));
    let say = |arguments: &[&str], input: &str| {
        try_ldb(release, &relay.dir, arguments, input).unwrap_or_else(|error| panic!("{label}: {error}"));
    };
    let codec = format!("--compression_type={codec}");
    let missing = FAMILIES.into_iter().find(|name| !relay.model.families.contains_key(*name));
    if let Some(name) = missing {
        say(&["--create_if_missing", &codec, "batchput", "first", "1"], "");
        say(&["create_column_family", name], "");
        let first = Change { family: "default".to_owned(), key: b"first".to_vec(), value: Some(b"1".to_vec()) };
        relay.model.apply(&Op::Write(vec![first]));
        relay.model.apply(&Op::Create(name.to_owned()));
    } else {
        say(&["drop_column_family", FAMILIES[0]], "");
        relay.model.apply(&Op::Drop(FAMILIES[0].to_owned()));
    }
    for name in relay.model.names().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        let family = format!("--column_family={name}");
        let changes: Vec<Change> =
            (0..60).map(|_| Change { family: name.clone(), ..relay.model.random_change(&mut relay.random) }).collect();
        let (mut puts, deletions): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.value.is_some());
        let value = |change: &Change| hexed(change.value.as_deref().expect("a put"));
        // The system has a limit to the length of an argument.
        puts.sort_by_key(|put| put.value.as_ref().is_some_and(|value| value.len() > 1000));
        let (batch, lines) = puts.split_at(5);
        let text: String = lines.iter().map(|put| format!("{} ==> {}\n", hexed(&put.key), value(put))).collect();
        say(&[&codec, &family, "--hex", "load"], &text);
        let words: Vec<String> = batch.iter().flat_map(|put| [hexed(&put.key), value(put)]).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        say(&[&["--hex", &codec, &family, "batchput"], &words[..]].concat(), "");
        relay.model.apply(&Op::Write(lines.to_vec()));
        relay.model.apply(&Op::Write(batch.to_vec()));
        for deletion in deletions.iter().take(2) {
            say(&["--hex", &family, "delete", &hexed(&deletion.key)], "");
            relay.model.apply(&Op::Write(vec![deletion.clone()]));
        }
        if relay.random.below(2) == 0 {
            say(&[&codec, &family, "compact"], "");
        }
    }
    relay.check(&label, End::LeaveLog);
}

/// What `ldb` lists, gets and counts, and what `sst_dump` lists, is what there is.
fn read_with_tools(relay: &mut Relay<'_>, release: Release) {
    let label = relay.label(&format!("ldb of RocksDB {release:?} reads"));
    compare_with_ldb(&label, release, &relay.dir, &relay.model);
    let say = |arguments: &[&str]| {
        try_ldb(release, &relay.dir, arguments, "").unwrap_or_else(|error| panic!("{label}: {error}"))
    };
    for (name, map) in &relay.model.families {
        let family = format!("--column_family={name}");
        if let Some((key, value)) = map.iter().next_back() {
            assert_eq!(say(&["get", "--hex", &family, &hexed(key)]).trim(), hexed(value), "{label}: family {name}");
        }
        let counted = say(&["dump", "--count_only", &family]);
        assert!(counted.contains(&format!("Keys in range: {}\n", map.len())), "{label}: family {name}: {counted}");
        let internal = say(&["idump", "--hex", &family]);
        let count = internal.lines().filter(|line| line.starts_with('\'')).count();
        assert!(count >= map.len(), "{label}: family {name}: {internal}");
    }
}

fn by_hand(release: Release, codecs: &[(Codec, &str)]) {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    for (index, (codec, name)) in codecs.iter().enumerate() {
        let mut relay = Relay::new(&format!("ldb-{name}"), temp.path(), true, *codec, &mut seen);
        relay.ops_max = 100;
        // Where it is not told a codec, `ldb` of 7.8 takes Snappy, whatever the database has.
        relay.eleven_has_codec = release == Release::Eleven;
        if index % 2 == 0 {
            write_with_ldb(&mut relay, release, name);
        }
        relay.firn(*codec, End::LeaveLog);
        compare_with_ldb(&format!("{release:?}, {name}"), release, &relay.dir, &relay.model);
        write_with_ldb(&mut relay, release, name);
        relay.firn(*codec, End::Close);
        read_with_tools(&mut relay, release);
    }
    println!("{release:?}: {seen:?}");
    seen.require("logs left behind", codecs.len());
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_ldb_of_7_8_reads_and_writes_beside_us_as_by_hand() {
    by_hand(
        Release::Seven,
        &[(NONE, "no"), (SNAPPY, "snappy"), (ZLIB, "zlib"), (LZ4, "lz4"), (LZ4HC, "lz4hc"), (ZSTD, "zstd")],
    );
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_ldb_of_11_1_reads_and_writes_families_beside_us_as_by_hand() {
    by_hand(Release::Eleven, &[(NONE, "no"), (ZSTD, "zstd")]);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_sst_dump_lists_our_tables_and_what_it_leaves_behind_does_no_harm() {
    let temp = tempfile::tempdir().expect("a directory");
    let mut seen = Seen::default();
    let mut relay = Relay::new("sst_dump", temp.path(), true, ZSTD, &mut seen);
    relay.firn(ZSTD, End::Close);
    for table in files(&relay.dir, ".sst") {
        let say = |command: &str| {
            let file = format!("--file={}", table.display());
            run(Command::new("sst_dump").args([&file, command, "--output_hex", "--show_properties"]), "")
                .expect("readable")
        };
        let entries = say("--command=scan").lines().filter(|line| line.starts_with('\'')).count();
        let properties = say("--command=scan");
        let count = |name: &str| -> usize {
            let named = properties.lines().find_map(|line| line.trim().strip_prefix(name)).expect("a property");
            named.trim_start_matches(": ").parse().expect("a number")
        };
        // It does not list range tombstones, and they are among the entries.
        let (all, ranges) = (count("# entries"), count("# range deletions"));
        assert!(all > 0 && all == entries + ranges, "{entries} entries and {ranges}, the property says {all}");
        assert!(properties.contains("ZSTD") || properties.contains("NoCompression"), "{properties}");
        // Beside the table, a text of everything in it.
        say("--command=raw");
    }
    assert!(!files(&relay.dir, "_dump.txt").is_empty());
    relay.firn(ZSTD, End::LeaveLog);
    assert!(!files(&relay.dir, "_dump.txt").is_empty(), "what is not the database's is left alone");
}
