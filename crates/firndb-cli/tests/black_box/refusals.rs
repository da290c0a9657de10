//! Refusals with exit codes 2, 5 and 6, messages that cannot be delivered, arguments that look like options.

use std::path::Path;
use std::process::Stdio;

use super::harness::{change, log_payloads, log_record};
use super::{Place, command, files, firn};

fn manifest(place: &Place) -> std::path::PathBuf {
    let current = std::fs::read_to_string(place.db().join("CURRENT")).expect("CURRENT");
    place.db().join(current.trim_end())
}

/// Everything that needs an entry, or would write, says so with exit code 5, and `verify` ends with `verified`; what needs
/// none works.
#[track_caller]
fn is_incompatible(place: &Place, words: &str, verified: i32) {
    let before: Vec<_> = files(&place.db(), "").iter().map(|file| std::fs::read(file).expect("readable")).collect();
    for (verb, arguments) in [
        ("get", &["k"][..]),
        ("scan", &[]),
        ("count", &[]),
        ("put", &["k", "v"]),
        ("delete", &["k"]),
        ("load", &[]),
        ("flush", &[]),
        ("compact", &[]),
    ] {
        place.run(verb, arguments).fails(5, words);
    }
    let stats = place.run("stats", &[]);
    assert!(stats.code == 0 && stats.says("default"), "{stats:?}");
    let listed = firn(&["cf", "list", place.db().to_str().expect("text")]);
    listed.prints("default\n");
    let verify = place.run("verify", &["--json"]);
    assert_eq!(verify.code, verified, "{verify:?}");
    assert!(verify.says("\"ok\":true"), "{verify:?}");
    assert_eq!(verify.err.contains(words), verified == 5, "{verify:?}");
    let after: Vec<_> = files(&place.db(), "").iter().map(|file| std::fs::read(file).expect("readable")).collect();
    assert_eq!(before, after, "what cannot be read is not touched");
}

#[test]
fn keys_in_an_order_that_is_not_ours_are_5() {
    let place = Place::new();
    place.load("k\tv\n");
    change(&manifest(&place), |bytes| {
        let ours = b"leveldb.BytewiseComparator";
        let records = log_payloads(bytes).into_iter().map(|mut payload| {
            if let Some(at) = payload.windows(ours.len()).position(|window| window == ours) {
                payload[at..at + ours.len()].copy_from_slice(b"someone.elses.comparator.1");
            }
            log_record(&payload)
        });
        *bytes = records.collect::<Vec<_>>().concat();
    });
    for options in place.files("").iter().filter(|path| path.to_string_lossy().contains("OPTIONS-")) {
        change(options, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            *bytes = text.replace("leveldb.BytewiseComparator", "someone.elses.comparator.1").into_bytes();
        });
    }
    is_incompatible(&place, "someone.elses.comparator.1", 5);
}

#[test]
fn a_timed_put_in_the_log_is_refused_by_name_with_5() {
    let place = Place::new();
    place.load("k\tv\n");
    let log = place.files(".log").pop().expect("a log");
    // Sequence number 2, one operation: `k` is put with a time.
    let batch = [&2u64.to_le_bytes()[..], &1u32.to_le_bytes(), &[0x18, 1, b'k', 1, b'x']].concat();
    change(&log, |bytes| bytes.extend_from_slice(&log_record(&batch)));
    is_incompatible(&place, "timed put", 0);
    let dumped = firn(&["dump", "wal", log.to_str().expect("text")]);
    assert!(dumped.code == 0 && dumped.says("ValuePreferredSeqno"), "{dumped:?}");
}

#[test]
fn an_options_file_that_makes_no_sense_stops_writers_and_no_reader() {
    let place = Place::new();
    place.load("k\tv\n");
    place.run("flush", &[]).is_silent();
    place.load("in the log\tv\n");
    for options in place.files("").iter().filter(|path| path.to_string_lossy().contains("OPTIONS-")) {
        change(options, |bytes| bytes.truncate(bytes.len() / 2));
        change(options, |bytes| bytes.extend_from_slice(b"\nhalf a line"));
    }
    for (verb, arguments, out) in
        [("get", &["k"][..], "v\n"), ("scan", &[], "in the log\tv\nk\tv\n"), ("count", &[], "2\n")]
    {
        let ran = place.run(verb, arguments);
        assert_eq!((ran.code, &ran.out[..]), (0, out.as_bytes()), "{ran:?}");
        assert!(ran.err.contains("warning:") && ran.err.contains("OPTIONS-"), "{ran:?}");
    }
    assert_eq!(place.run("stats", &[]).code, 0);
    for arguments in [&["put", "k", "w"][..], &["flush"], &["compact"]] {
        place.run(arguments[0], &arguments[1..]).fails(3, "OPTIONS-");
    }
    let ran = place.run("verify", &[]);
    assert!(ran.code == 3 && ran.err.contains("OPTIONS-"), "{ran:?}");
}

#[test]
fn an_operand_without_its_operator_is_5_for_those_who_need_it_and_for_nobody_else() {
    let place = Place::new();
    place.load("k\tv\nother\tvalue\n");
    let log = place.files(".log").pop().expect("a log");
    // Sequence number 3, one operation: a merge of `k` with `x`.
    let batch = [&3u64.to_le_bytes()[..], &1u32.to_le_bytes(), &[2, 1, b'k', 1, b'x']].concat();
    change(&log, |bytes| bytes.extend_from_slice(&log_record(&batch)));
    assert_eq!(place.run("get", &["other"]).text(), "value\n");
    place.run("get", &["k"]).fails(5, "merge operator");
    place.run("scan", &[]).fails(5, "merge operator");
    place.run("compact", &[]).is_silent();
    assert_eq!(place.run("verify", &[]).code, 0);
    place.run("get", &["k"]).fails(5, "merge operator");
}

#[test]
fn a_table_of_a_kind_that_is_not_ours_is_5_for_writers_too_and_nothing_is_touched() {
    let place = Place::new();
    place.load("k\tv\n");
    place.run("flush", &[]).is_silent();
    place.load("in the log\tv\n");
    change(&place.files(".sst").pop().expect("a table"), |bytes| {
        let magic = bytes.len() - 8;
        bytes[magic..].copy_from_slice(&0x8242_2296_63bf_9564_u64.to_le_bytes());
    });
    is_incompatible(&place, "plain table", 5);
}

#[test]
fn what_is_no_directory_or_cannot_be_made_is_6_and_named() {
    let place = Place::new();
    let file = place.temporary.path().join("a file");
    std::fs::write(&file, "x").expect("written");
    let inside = file.join("db");
    for dir in [file.as_path(), inside.as_path(), Path::new("/proc/firn")] {
        let dir = dir.to_str().expect("text");
        for arguments in [
            &["put", dir, "k", "v"][..],
            &["get", dir, "k"],
            &["scan", dir],
            &["verify", dir],
            &["flush", dir],
            &["cf", "create", dir, "x"],
            &["cf", "list", dir],
            &["stats", dir],
        ] {
            firn(arguments).fails(6, dir);
        }
    }
    firn(&["tour", file.to_str().expect("text")]).fails(6, "a file");
    let used = place.temporary.path().to_str().expect("text").to_owned();
    firn(&["tour", &used]).fails(2, "not empty");
    firn(&["bench", "--dir", &used]).fails(2, "not empty");
}

/// Runs with stdout or stderr that takes nothing.
fn with_full_device(arguments: &[&str], is_stdout: bool) -> Option<i32> {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut command = command();
    command.args(arguments).stdin(Stdio::null());
    if is_stdout {
        command.stdout(full)
    } else {
        command.stderr(full)
    };
    let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("it runs");
    output.status.code()
}

#[test]
fn results_that_cannot_be_written_are_6_and_messages_that_cannot_change_nothing() {
    let place = Place::new();
    place.load("k\tv\n");
    let db = place.db();
    let db = db.to_str().expect("text");
    let log = place.files(".log").pop().expect("a log");
    for arguments in [
        &["get", db, "k"][..],
        &["get", db, "k", "--raw"],
        &["scan", db],
        &["count", db],
        &["stats", db],
        &["verify", db],
        &["cf", "list", db],
        &["dump", "wal", log.to_str().expect("text")],
        &["--help"],
    ] {
        assert_eq!(with_full_device(arguments, true), Some(6), "{arguments:?}");
    }
    assert_eq!(with_full_device(&["get", db, "absent"], true), Some(1));
    assert_eq!(with_full_device(&["put", db, "k", "w"], true), Some(0), "nothing is to be printed");
    assert_eq!(with_full_device(&["get", db, "k", "--cf", "nobody"], false), Some(2));
    assert_eq!(with_full_device(&["get", "nowhere", "k"], false), Some(6));
    assert_eq!(with_full_device(&["frobnicate"], false), Some(2));
}

#[test]
fn every_verb_that_prints_takes_a_closed_pipe_for_enough() {
    let place = Place::new();
    place.load(&(0..30_000).map(|number| format!("key{number}\tvalue\n")).collect::<String>());
    let db = place.db();
    let log = place.files(".log").pop().expect("a log");
    for arguments in [
        &["scan", db.to_str().expect("text")][..],
        &["scan", db.to_str().expect("text"), "--json", "--reverse"],
        &["dump", "wal", log.to_str().expect("text")],
        &["get", db.to_str().expect("text"), "key1"],
        &["count", db.to_str().expect("text")],
        &["--help"],
    ] {
        let mut child = command().args(arguments).spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments:?}");
    }
}

#[test]
fn a_limit_on_file_sizes_is_6_and_earlier_batches_stay() {
    let place = Place::new();
    place.load("before\t1\n");
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" load \"$1\" --batch 10 --ack";
    let mut child = std::process::Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_firn")])
        .arg(place.db())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        let lines: String = (0..2000).map(|n| format!("{n:06}\t{}\n", "v".repeat(100))).collect();
        // It stops reading when the limit is reached.
        drop(std::io::Write::write_all(&mut stdin, lines.as_bytes()));
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{err}");
    assert!(err.contains("firn: "), "{err}");
    let acknowledged = String::from_utf8(output.stdout).expect("text");
    let acknowledged: u64 = acknowledged.lines().last().expect("some fit").parse().expect("a number");
    let count: u64 = place.run("count", &[]).text().trim().parse().expect("a number");
    assert!(count > acknowledged, "{count} of {acknowledged} and the one from before");
    assert_eq!((count - 1) % 10, 0, "whole batches");
    assert_eq!(place.run("verify", &[]).code, 0);
}

#[test]
fn arguments_that_look_like_options_are_keys_and_values_behind_two_dashes() {
    let place = Place::new();
    place.run("put", &["--", "--raw", "--hex"]).is_silent();
    place.run("put", &["--", "-", "--"]).is_silent();
    place.run("get", &["--", "--raw"]).prints("--hex\n");
    place.run("get", &["--raw", "--", "--raw"]).prints("--hex");
    place.run("get", &["--", "-"]).prints("--\n");
    place.run("scan", &["--from=--", "--to=--z"]).prints("--raw\t--hex\n");
    place.run("scan", &["--prefix=--"]).prints("--raw\t--hex\n");
    place.run("delete", &["--", "--raw"]).is_silent();
    place.run("count", &[]).prints("1\n");
    // Options may stand anywhere before them.
    let db = place.db();
    firn(&["--hex", "get", "--raw", db.to_str().expect("text"), "2d"]).prints("--");
    firn(&["--cf", "default", "count", db.to_str().expect("text"), "--json"]).prints("{\"count\":1}\n");
}

#[test]
fn misuse_of_every_verb_is_2_and_makes_nothing() {
    let place = Place::new();
    let db = place.db();
    let db = db.to_str().expect("text");
    for arguments in [
        &["put", db][..],
        &["put", db, "k"],
        &["put", db, "k", "v", "w"],
        &["get", db, "k", "l"],
        &["get", db],
        &["delete", db],
        &["scan"],
        &["scan", db, "k"],
        &["scan", db, "--limit", "1.5"],
        &["scan", db, "--limit", "-1"],
        &["scan", db, "--limit", "99999999999999999999"],
        &["scan", db, "--from"],
        &["count"],
        &["load"],
        &["load", db, "--batch", "0"],
        &["load", db, "--batch", "x"],
        &["flush"],
        &["compact", db, "x"],
        &["verify"],
        &["verify", db, "--cf", "default"],
        &["stats"],
        &["cf"],
        &["cf", "list"],
        &["cf", "list", db, "x"],
        &["cf", "create", db],
        &["cf", "drop", db],
        &["cf", "rename", db, "x"],
        &["dump"],
        &["dump", "sst"],
        &["dump", "log", "x"],
        &["bench", "--num", "0"],
        &["bench", "--workloads", ""],
        &["--nonsense"],
    ] {
        let ran = firn(arguments);
        assert!(ran.code == 2 && ran.out.is_empty() && !ran.err.is_empty(), "{arguments:?}: {ran:?}");
        assert!(!place.db().exists(), "{arguments:?}");
    }
    for verb in
        ["put", "get", "delete", "scan", "count", "load", "flush", "compact", "verify", "stats", "cf", "dump", "tour"]
    {
        let ran = firn(&[verb, "--help"]);
        assert!(ran.code == 0 && ran.err.is_empty() && !ran.out.is_empty(), "{ran:?}");
    }
}
