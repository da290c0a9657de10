//! The edges of `load`: ends of input, batches, families, JSON, readers of acknowledgements who leave.

use std::io::Write;

use super::{Place, command, firn};

#[test]
fn the_last_newline_is_optional_and_nothing_is_read_into_its_absence() {
    for (input, scan) in [
        ("a\t1", "a\t1\n"),
        ("a\t1\n", "a\t1\n"),
        ("a\t", "a\t\n"),
        ("\t", "\t\n"),
        ("\tv", "\tv\n"),
        ("a\t1\na", ""),
        ("", ""),
    ] {
        let place = Place::new();
        place.lines(input, &[]).is_silent();
        place.run("scan", &[]).prints(scan);
    }
    for (input, line) in [("\n", "line 1"), ("a\t1\n\n", "line 2"), ("a\t1\n\nb\t2\n", "line 2")] {
        let place = Place::new();
        place.lines(input, &[]).fails(2, line);
        place.run("count", &[]).prints("0\n");
    }
}

#[test]
fn a_bad_line_in_the_third_batch_leaves_the_first_two_in_every_way_of_loading() {
    for arguments in [&[][..], &["--sync"], &["--ack"], &["--sync", "--ack"]] {
        for bad in ["", "\\q", "k\t\\xZZ"] {
            for position in [2001, 2500, 3000] {
                let place = Place::new();
                let lines: String = (1..=3500)
                    .map(|number| if number == position { format!("{bad}\n") } else { format!("{number:04}\tv\n") })
                    .collect();
                let ran = place.lines(lines, arguments);
                let acks = if arguments.contains(&"--ack") { "1000\n2000\n" } else { "" };
                assert_eq!((ran.code, ran.out.as_slice()), (2, acks.as_bytes()), "{ran:?}");
                assert!(ran.err.contains(&format!("line {position}")) && ran.err.lines().count() == 1, "{ran:?}");
                place.run("count", &[]).prints("2000\n");
                place.run("scan", &["--reverse", "--limit", "1"]).prints("2000\tv\n");
            }
        }
    }
}

#[test]
fn a_bad_last_line_without_a_newline_takes_its_batch_with_it() {
    let place = Place::new();
    place.lines("a\t1\nb\t2\nc\t3\n\\", &["--batch", "2"]).fails(2, "line 4");
    place.run("scan", &[]).prints("a\t1\nb\t2\n");
}

#[test]
fn json_lines_are_objects_with_a_key_and_a_value_and_errors_name_the_line() {
    let place = Place::new();
    for bad in [
        "",
        " ",
        "null",
        "[]",
        "\"a\"",
        "{\"key\":null,\"value\":\"1\"}",
        "{\"value\":\"1\"}",
        "{\"key\":\"a\"}",
        "{\"key\":[],\"value\":\"1\"}",
        "{\"key\":\"a\",\"value\":{}}",
        "{\"key\":\"a\",\"value\":true}",
        "{\"key\":\"a\",\"key_hex\":\"61\",\"value\":\"1\"}",
        "{\"key\":\"a\",\"value\":\"1\",\"value_hex\":\"31\"}",
        "{\"key_hex\":\"6\",\"value\":\"1\"}",
        "{\"key_hex\":\"zz\",\"value\":\"1\"}",
        "{\"key\":\"a\",\"value\":\"1\"} x",
        "{\"key\":\"a\",\"value\":\"1\"}{\"key\":\"b\",\"value\":\"1\"}",
        "{\"key\":\"\\ud800\",\"value\":\"1\"}",
        "{\"key\":\"a\",\"value\":\"1\"",
        "a\tb",
    ] {
        place.lines(format!("{{\"key\":\"good\",\"value\":\"1\"}}\n{bad}\n"), &["--json"]).fails(2, "line 2");
    }
    place.lines(b"{\"key\":\"\xff\",\"value\":\"\"}", &["--json"]).fails(2, "line 1");
    place.run("count", &[]).prints("0\n");
    let lines = concat!(
        "{\"key\":\"a\",\"value\":\"\\u0000\\\\t\\ud83d\\ude00\"}\r\n",
        "\t{\"value_hex\":\"0xFF\",\"key_hex\":\"62\"}\n",
        "{\"key\":\"\",\"value\":\"\"}\n",
        "{\"key\":\"gone\",\"value\":\"1\"}\n",
        "{\"key\":\"gone\",\"value\":null}"
    );
    place.lines(lines, &["--json"]).is_silent();
    place.run("scan", &[]).prints("\t\na\t\\x00\\\\t😀\nb\t\\xff\n");
    let lines = "{\"key\":\"0xAA\",\"value\":\"Bb\"}\n{\"key\":\"61\",\"value\":null}\n";
    place.lines(lines, &["--json", "--hex"]).is_silent();
    place.run("scan", &["--json"]).prints(concat!(
        "{\"key\":\"\",\"value\":\"\"}\n",
        "{\"key\":\"b\",\"value_hex\":\"ff\"}\n",
        "{\"key_hex\":\"aa\",\"value_hex\":\"bb\"}\n"
    ));
    place
        .run("scan", &["--json", "--hex", "--from", "62"])
        .prints(concat!("{\"key\":\"62\",\"value\":\"ff\"}\n", "{\"key\":\"aa\",\"value\":\"bb\"}\n"));
    place.lines("{\"key\":\"a\",\"value\":\"not hex\"}\n", &["--json", "--hex"]).fails(2, "line 1");
}

#[test]
fn what_is_loaded_stays_in_the_log_and_no_table_is_made() {
    let place = Place::new();
    for arguments in [&[][..], &["--sync"], &["--batch", "1"]] {
        let place = Place::new();
        place.lines((0..3000).map(|n| format!("{n}\tv\n")).collect::<String>(), arguments).is_silent();
        assert_eq!(place.files(".sst").len(), 0);
        place.run("count", &[]).prints("3000\n");
        assert_eq!(place.files(".sst").len(), 0, "readers write nothing");
    }
    place.run("put", &["k", "v"]).is_silent();
    assert_eq!((place.files(".sst").len(), place.files(".log").len()), (0, 1));
    let before = std::fs::read(&place.files(".log")[0]).expect("readable");
    for (verb, arguments) in
        [("get", &["k"][..]), ("scan", &[]), ("count", &[]), ("verify", &[]), ("stats", &[]), ("stats", &["--json"])]
    {
        assert_eq!(place.run(verb, arguments).code, 0);
    }
    assert_eq!(std::fs::read(&place.files(".log")[0]).expect("readable"), before);
    assert!(place.run("stats", &[]).text().contains(&format!("write-ahead logs: {} B", before.len())));
}

#[test]
fn who_stops_reading_the_acknowledgements_does_not_stop_the_load() {
    let place = Place::new();
    let mut child = command().arg("load").arg(place.db()).args(["--ack", "--batch", "10"]).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    drop(child.stdout.take());
    stdin.write_all((0..5000).map(|n| format!("{n}\tv\n")).collect::<String>().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    place.run("count", &[]).prints("5000\n");
}

#[test]
fn long_keys_and_values_and_long_lines_pass() {
    let place = Place::new();
    let (key, value) = ("k".repeat(100_000), "v".repeat(3_000_000));
    place.lines(format!("{key}\t{value}\n"), &[]).is_silent();
    place.run("scan", &[]).prints(format!("{key}\t{value}\n"));
    place.run("flush", &[]).is_silent();
    place.run("get", &[&key]).prints(format!("{value}\n"));
    place.lines("\\x00".repeat(200_000), &[]).is_silent();
    place.run("count", &[]).prints("1\n");
}

#[test]
fn families_are_loaded_flushed_and_counted_apart() {
    let place = Place::new();
    let db = place.db();
    let db = db.to_str().expect("text");
    for name in ["two", "-dash", "with space", "ünïcode\n"] {
        firn(&["cf", "create", db, "--", name]).is_silent();
        place.lines("k\tv\nl\tw\nk", &[&format!("--cf={name}")]).is_silent();
        place.run("scan", &[&format!("--cf={name}")]).prints("l\tw\n");
    }
    firn(&["cf", "list", db]).prints("default\ntwo\n-dash\nwith space\nünïcode\\n\n");
    place.run("count", &[]).prints("0\n");
    place.run("count", &["--cf", "default"]).prints("0\n");
    place.run("flush", &["--cf", "two"]).is_silent();
    place.run("stats", &["--cf", "two"]).text();
    assert_eq!(place.run("stats", &["--cf", "nobody"]).code, 2);
    firn(&["cf", "drop", db, "two"]).is_silent();
    place.run("scan", &["--cf", "two"]).fails(2, "two");
    firn(&["cf", "create", db, ""]).fails(2, "name");
}
