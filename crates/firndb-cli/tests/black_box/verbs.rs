//! The verbs one by one, and their exit codes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};

use super::{Place, command, firn};

#[test]
fn what_is_put_is_got_until_it_is_deleted() {
    let place = Place::new();
    assert_eq!(place.run("put", &["key", "value"]).text(), "");
    assert_eq!(place.run("get", &["key"]).text(), "value\n");
    assert_eq!(place.run("put", &["key", ""]).text(), "");
    assert_eq!(place.run("get", &["key"]).text(), "\n");
    assert_eq!(place.run("get", &["key", "--raw"]).text(), "");
    assert_eq!(place.run("delete", &["key"]).text(), "");
    assert_eq!(place.run("delete", &["key"]).text(), "", "deleting an absent key is no failure");
    let absent = place.run("get", &["key"]);
    assert!(absent.code == 1 && absent.out.is_empty() && absent.err.is_empty(), "{absent:?}");
    assert_eq!(place.run("put", &["", "empty key"]).text(), "");
    assert_eq!(place.run("get", &[""]).text(), "empty key\n");
    assert_eq!(place.run("put", &["-k", "--v"]).text(), "");
    assert_eq!(place.run("get", &["-k"]).text(), "--v\n");
    assert_eq!(place.run("scan", &[]).text(), "\tempty key\n-k\t--v\n");
}

#[test]
fn the_columns_of_an_entity_are_shown_a_line_each() {
    let place = Place::new();
    place.run("put", &["plain", "value"]).is_silent();
    let db = firndb::Db::open(place.db()).expect("opens");
    db.put_entity("alice", [("city", "Oslo\n"), ("", "a"), ("age", "31")]).expect("written");
    db.close().expect("closed");
    assert_eq!(place.run("get", &["alice"]).text(), "a\n");
    assert_eq!(place.run("get", &["alice", "--columns"]).text(), "\ta\nage\t31\ncity\tOslo\\n\n");
    assert_eq!(place.run("get", &["plain", "--columns"]).text(), "\tvalue\n");
    let lines = place.run("get", &["alice", "--columns", "--json"]).text();
    assert_eq!(lines.lines().nth(1), Some(r#"{"name":"age","value":"31"}"#));
    assert_eq!(place.run("get", &["nobody", "--columns"]).code, 1);
    place.run("get", &["alice", "--columns", "--raw"]).fails(2, "cannot be used with");
    assert_eq!(place.run("scan", &[]).text(), "alice\ta\nplain\tvalue\n");
}

#[test]
fn a_range_is_deleted_up_to_its_end_and_not_beyond() {
    let place = Place::new();
    for key in ["a", "b", "c", "-d"] {
        place.run("put", &[key, "value"]).is_silent();
    }
    place.run("delete-range", &["a", "c"]).is_silent();
    assert_eq!(place.run("scan", &[]).text(), "-d\tvalue\nc\tvalue\n");
    place.run("delete-range", &["--hex", "2d", "2e"]).is_silent();
    assert_eq!(place.run("scan", &[]).text(), "c\tvalue\n");
    place.run("delete-range", &["z", "a"]).fails(2, "ends before it begins");
    assert_eq!(place.run("scan", &[]).text(), "c\tvalue\n");
}

/// The levels that have files, and how many.
fn levels(place: &Place) -> Vec<(u64, u64)> {
    let stats: serde_json::Value = serde_json::from_str(&place.run("stats", &["--json"]).text()).expect("one object");
    let all = stats["families"][0]["levels"].as_array().expect("levels").clone();
    let used =
        all.iter().map(|level| (level["level"].as_u64().expect("a level"), level["files"].as_u64().expect("files")));
    used.filter(|(_, files)| *files > 0).collect()
}

#[test]
fn a_compaction_goes_to_the_level_that_is_asked_for_and_writes_the_last_one_anew_if_it_must() {
    let place = Place::new();
    place.load("a\t1\nb\t2\n");
    place.run("compact", &[]).is_silent();
    assert_eq!(levels(&place), [(6, 1)]);
    let before = place.files(".sst");
    place.run("compact", &[]).is_silent();
    assert_eq!(place.files(".sst"), before, "nothing to do");
    place.run("compact", &["--force"]).is_silent();
    assert_ne!(place.files(".sst"), before, "written anew");
    place.run("compact", &["--level", "2"]).is_silent();
    assert_eq!(levels(&place), [(2, 1)]);
    place.load("c\t3\n");
    place.run("compact", &["--from", "c", "--to", "d", "--level", "4"]).is_silent();
    assert_eq!(levels(&place), [(2, 1), (4, 1)], "only the range");
    assert_eq!(place.run("scan", &[]).text(), "a\t1\nb\t2\nc\t3\n");
    place.run("compact", &["--level", "99"]).fails(2, "level");
}

#[test]
fn only_put_load_and_cf_create_make_a_database() {
    for verb in ["get", "delete"] {
        Place::new().run(verb, &["k"]).fails(6, "no database");
    }
    Place::new().run("delete-range", &["a", "b"]).fails(6, "no database");
    for verb in ["scan", "count", "flush", "compact", "verify", "stats"] {
        let place = Place::new();
        place.run(verb, &[]).fails(6, "no database");
        assert!(!place.db().exists(), "{verb} leaves nothing behind");
    }
    for verb in ["list", "drop"] {
        let place = Place::new();
        let (db, name) = (place.db(), "x".into());
        let all: Vec<std::ffi::OsString> = match verb {
            "list" => vec!["cf".into(), verb.into(), db.into()],
            _ => vec!["cf".into(), verb.into(), db.into(), name],
        };
        firn(&all).fails(6, "no database");
        assert!(!place.db().exists());
    }
    let place = Place::new();
    std::fs::create_dir(place.db()).expect("made");
    place.run("count", &[]).fails(6, "no database");
    assert_eq!(place.run_with("load", &[], b"").text(), "", "an empty load makes an empty database");
    assert_eq!(place.run("count", &[]).text(), "0\n");
}

#[test]
fn scans_cut_by_from_to_and_prefix_reversed_and_limited_are_what_a_sorted_map_says() {
    let place = Place::new();
    let keys: Vec<String> =
        ["", "a", "aa", "ab", "abc", "abd", "b", "ba", "c", "ca", "cab", "d"].map(str::to_owned).into();
    let model: BTreeMap<String, String> = keys.iter().map(|key| (key.clone(), format!("v{key}"))).collect();
    place.load(&model.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect::<String>());
    let some = |options: &[&str]| -> Vec<Option<String>> {
        std::iter::once(None).chain(options.iter().map(|text| Some((*text).to_owned()))).collect()
    };
    for from in some(&["", "ab", "b", "bb", "z"]) {
        for to in some(&["", "ab", "abd", "c"]) {
            for prefix in some(&["", "a", "ab", "x"]) {
                for limit in [None, Some(0), Some(2)] {
                    for is_reverse in [false, true] {
                        let mut arguments: Vec<String> = Vec::new();
                        for (name, value) in [("--from", &from), ("--to", &to), ("--prefix", &prefix)] {
                            arguments.extend(value.iter().flat_map(|value| [name.to_owned(), value.clone()]));
                        }
                        arguments.extend(limit.iter().flat_map(|limit| ["--limit".to_owned(), limit.to_string()]));
                        arguments.extend(is_reverse.then(|| "--reverse".to_owned()));
                        // A run of the command for each is slow; one in five will do.
                        if !(arguments.len() + arguments.concat().len()).is_multiple_of(5) {
                            continue;
                        }
                        let mut expected: Vec<String> = model
                            .iter()
                            .filter(|(key, _)| from.as_ref().is_none_or(|from| *key >= from))
                            .filter(|(key, _)| to.as_ref().is_none_or(|to| *key < to))
                            .filter(|(key, _)| prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix)))
                            .map(|(key, value)| format!("{key}\t{value}\n"))
                            .collect();
                        if is_reverse {
                            expected.reverse();
                        }
                        expected.truncate(limit.unwrap_or(usize::MAX));
                        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
                        assert_eq!(place.run("scan", &words).text(), expected.concat(), "{arguments:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn families_are_listed_by_id_kept_apart_and_unknown_ones_are_the_callers_mistake() {
    let place = Place::new();
    let db = place.db();
    let db = db.to_str().expect("text");
    assert_eq!(firn(&["cf", "create", db, "zebra"]).text(), "", "it makes the database too");
    assert_eq!(firn(&["cf", "create", db, "ant"]).text(), "");
    assert_eq!(firn(&["cf", "list", db]).text(), "default\nzebra\nant\n");
    let json = firn(&["cf", "list", db, "--json"]).text();
    assert_eq!(json.lines().count(), 3);
    assert_eq!(place.run("put", &["k", "in zebra", "--cf", "zebra"]).text(), "");
    assert_eq!(place.run("get", &["k", "--cf", "zebra"]).text(), "in zebra\n");
    assert_eq!(place.run("get", &["k"]).code, 1);
    assert_eq!(place.run_with("load", &["--cf", "ant"], b"a\tb\n").text(), "");
    assert_eq!(place.run("scan", &["--cf", "ant"]).text(), "a\tb\n");
    assert_eq!(place.run("count", &["--cf", "zebra"]).text(), "1\n");
    for arguments in
        [&["get", "k"][..], &["put", "k", "v"], &["delete", "k"], &["scan"], &["count"], &["load"], &["flush"]]
    {
        let with_family = [&arguments[1..], &["--cf", "nobody"]].concat();
        place.run(arguments[0], &with_family).fails(2, "nobody");
    }
    Place::new().run("put", &["k", "v", "--cf", "nobody"]).fails(2, "nobody");
    firn(&["cf", "create", db, "ant"]).fails(2, "ant");
    firn(&["cf", "drop", db, "nobody"]).fails(2, "nobody");
    firn(&["cf", "drop", db, "default"]).fails(2, "default");
    assert_eq!(firn(&["cf", "drop", db, "zebra"]).text(), "");
    assert_eq!(firn(&["cf", "list", db]).text(), "default\nant\n");
    assert_eq!(firn(&["cf", "create", db, "zebra"]).text(), "");
    assert_eq!(place.run("count", &["--cf", "zebra"]).text(), "0\n", "a new family of an old name is empty");
}

#[test]
fn writing_leaves_the_log_and_flush_and_compact_work_on_all_families_unless_told_which() {
    let place = Place::new();
    let db = place.db();
    place.load("a\t1\nb\t2\n");
    assert_eq!(firn(&["cf", "create", db.to_str().expect("text"), "two"]).text(), "");
    assert_eq!(place.run("put", &["c", "3", "--cf", "two"]).text(), "");
    assert_eq!(place.run("delete", &["a"]).text(), "");
    let before = place.files(".sst").len();
    assert_eq!(place.run("put", &["d", "4"]).text(), "");
    assert!(std::fs::metadata(place.files(".log").last().expect("a log")).expect("its size").len() > 0);
    assert_eq!(place.run("flush", &[]).text(), "");
    assert!(place.files(".sst").len() > before, "flushed");
    assert_eq!(place.run("put", &["e", "5", "--cf", "two"]).text(), "");
    assert_eq!(place.run("flush", &["--cf", "default"]).text(), "");
    assert_eq!(place.run("compact", &["--cf", "two"]).text(), "");
    assert_eq!(place.run("compact", &[]).text(), "");
    // What was at the bottom already is not written anew for its size alone.
    assert!((2..=3).contains(&place.files(".sst").len()), "{:?}", place.files(".sst"));
    assert_eq!(place.run("scan", &[]).text(), "b\t2\nd\t4\n");
    assert_eq!(place.run("scan", &["--cf", "two"]).text(), "c\t3\ne\t5\n");
}

#[test]
fn a_writer_shuts_other_writers_out_and_no_reader() {
    let place = Place::new();
    place.load("a\t1\n");
    let mut child = command().arg("load").arg(place.db()).args(["--batch", "1", "--ack"]).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut acks = BufReader::new(child.stdout.take().expect("piped"));
    stdin.write_all(b"b\t2\n").expect("it reads");
    let mut line = String::new();
    acks.read_line(&mut line).expect("acknowledged");
    assert_eq!(line, "1\n");
    place.run("put", &["c", "3"]).fails(4, "LOCK");
    place.run("delete", &["a"]).fails(4, "LOCK");
    place.run("flush", &[]).fails(4, "LOCK");
    place.run("compact", &[]).fails(4, "LOCK");
    place.run_with("load", &[], b"x\ty\n").fails(4, "LOCK");
    assert_eq!(place.run("scan", &[]).text(), "a\t1\nb\t2\n", "readers see what was acknowledged");
    assert_eq!(place.run("count", &[]).text(), "2\n");
    assert_eq!(place.run("get", &["b"]).text(), "2\n");
    assert_eq!(place.run("verify", &[]).code, 0);
    assert_eq!(place.run("stats", &[]).code, 0);
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(place.run("put", &["c", "3"]).text(), "");
}

#[test]
fn a_reader_of_the_output_who_has_seen_enough_is_no_failure() {
    let place = Place::new();
    place.load(&(0..20_000).map(|number| format!("key{number}\tvalue\n")).collect::<String>());
    let mut child = command().arg("scan").arg(place.db()).spawn().expect("it starts");
    let mut first = [0; 10];
    let mut out = child.stdout.take().expect("piped");
    out.read_exact(&mut first).expect("the beginning");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn misuse_is_2_and_help_is_not_misuse() {
    for arguments in
        [&[][..], &["frobnicate"], &["get"], &["get", "db"], &["put", "db", "k"], &["scan", "db", "--limit", "x"]]
    {
        let ran = firn(arguments);
        assert!(ran.code == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{ran:?}");
    }
    for arguments in [&["--help"][..], &["scan", "--help"], &["--version"]] {
        let ran = firn(arguments);
        assert!(ran.code == 0 && !ran.out.is_empty() && ran.err.is_empty(), "{ran:?}");
    }
    let place = Place::new();
    place.run("load", &["--batch", "0"]).fails(2, "--batch");
    place.run("put", &["zz", "00", "--hex"]).fails(2, "hex");
    assert!(!place.db().exists(), "bad arguments are found before anything is made");
}
