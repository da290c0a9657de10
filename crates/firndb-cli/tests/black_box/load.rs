//! `load`: lines, batches, acknowledgements, and what a kill leaves.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use super::{Place, command};

#[test]
fn lines_put_delete_and_mean_exactly_what_they_say() {
    let place = Place::new();
    place.load("a\tb\tc\nempty\t\ncr\tv\r\nlast\tno newline");
    assert_eq!(place.run("scan", &[]).text(), "a\tb\\tc\ncr\tv\\x0d\nempty\t\nlast\tno newline\n");
    place.load("a\nlast\nnever was\n");
    assert_eq!(place.run("scan", &[]).text(), "cr\tv\\x0d\nempty\t\n");
    place.load("t\\ta\\nb\\\\\t\\x00\\xff\n");
    assert_eq!(place.run("scan", &["--hex", "--prefix", "74"]).text(), "7409610a625c\t00ff\n");
    place.load("twice\t1\ntwice\t2\ntwice\ntwice\t3\n");
    assert_eq!(place.run("get", &["twice"]).text(), "3\n", "within a batch the last line wins");
}

#[test]
fn json_lines_put_and_delete() {
    let place = Place::new();
    let lines = concat!(
        "{\"key\":\"a\",\"value\":\"1\"}\n{\"key_hex\":\"00FF\",\"value_hex\":\"\"}\n",
        " {\"value\":\"\\u00e9\\n\", \"key\":\"b\"} \n{\"key\":\"a\",\"value\":null}\n"
    );
    assert_eq!(place.run_with("load", &["--json"], lines.as_bytes()).text(), "");
    assert_eq!(place.run("scan", &[]).text(), "\\x00\\xff\t\nb\té\\n\n");
    for bad in
        ["{}", "[]", "{\"key\":\"a\"}", "{\"key\":1,\"value\":\"\"}", "{\"key\":\"a\",\"value\":1}", "nonsense", ""]
    {
        place.run_with("load", &["--json"], format!("{bad}\n").as_bytes()).fails(2, "line 1");
    }
}

#[test]
fn a_bad_line_is_named_earlier_batches_stay_and_its_own_does_not() {
    for bad in ["", "k\t\\q", "k\\x0\tv", "k\t\\xFF", "\\", "k\t\u{1}"] {
        let place = Place::new();
        let lines = format!("a\t1\nb\t2\nc\t3\nd\t4\ne\t5\n{bad}\ng\t7\n");
        let ran = place.run_with("load", &["--batch", "2", "--ack"], lines.as_bytes());
        assert_eq!((ran.code, ran.out.as_slice()), (2, &b"2\n4\n"[..]), "{bad:?}: {ran:?}");
        assert!(ran.err.contains("line 6"), "{ran:?}");
        assert_eq!(place.run("scan", &[]).text(), "a\t1\nb\t2\nc\t3\nd\t4\n", "{bad:?}");
    }
    let place = Place::new();
    place.run_with("load", &[], b"a\t1\nb\t\xff\n").fails(2, "line 2");
    assert_eq!(place.run("count", &[]).text(), "0\n");
}

#[test]
fn acknowledgements_are_the_numbers_of_the_last_lines_of_batches() {
    for sync in [&[][..], &["--sync"]] {
        let place = Place::new();
        let lines: String = (0..7).map(|number| format!("k{number}\tv\n")).collect();
        let arguments = [&["--batch", "3", "--ack"], sync].concat();
        assert_eq!(place.run_with("load", &arguments, lines.as_bytes()).text(), "3\n6\n7\n");
        let lines: String = (0..2500).map(|number| format!("k{number}\tv\n")).collect();
        let arguments = [&["--ack"], sync].concat();
        assert_eq!(place.run_with("load", &arguments, lines.as_bytes()).text(), "1000\n2000\n2500\n");
        assert_eq!(place.run("count", &[]).text(), "2500\n");
    }
}

#[test]
fn batches_are_not_cut_by_time() {
    let place = Place::new();
    let mut child = command().arg("load").arg(place.db()).args(["--batch", "3", "--ack"]).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    for number in 0..4 {
        stdin.write_all(format!("k{number}\tv\n").as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    drop(stdin);
    assert_eq!(child.wait_with_output().expect("it ends").stdout, b"3\n4\n");
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged_and_tears_no_batch() {
    for (round, arguments) in
        [&["--batch", "10", "--ack"][..], &["--batch", "7", "--ack", "--sync"]].into_iter().enumerate()
    {
        let place = Place::new();
        let batch: u64 = if round == 0 { 10 } else { 7 };
        for run in 0..3u64 {
            let mut child = command().arg("load").arg(place.db()).args(arguments).spawn().expect("it starts");
            let mut stdin = child.stdin.take().expect("piped");
            let writer = std::thread::spawn(move || {
                // Until it is killed.
                for number in 0u64.. {
                    let line = format!("run{run}-{number:08}\t{}\n", "v".repeat((number % 50) as usize));
                    if stdin.write_all(line.as_bytes()).is_err() {
                        break;
                    }
                }
            });
            let mut acks = BufReader::new(child.stdout.take().expect("piped"));
            let mut acknowledged = 0u64;
            let mut line = String::new();
            for _ in 0..40 + 30 * run {
                line.clear();
                acks.read_line(&mut line).expect("acknowledged");
                acknowledged = line.trim().parse().expect("a number");
            }
            child.kill().expect("killed");
            child.wait().expect("gone");
            writer.join().expect("no panic");
            let found = place.run("scan", &["--prefix", &format!("run{run}-")]).text();
            let count = found.lines().count() as u64;
            assert!(count >= acknowledged, "{count} of {acknowledged} acknowledged");
            assert_eq!(count % batch, 0, "whole batches only");
            for (number, line) in found.lines().enumerate() {
                assert_eq!(line, format!("run{run}-{number:08}\t{}", "v".repeat(number % 50)));
            }
        }
        assert_eq!(place.run("verify", &[]).code, 0);
    }
}

#[test]
fn a_file_that_may_grow_no_further_is_a_failed_write_and_loses_nothing() {
    let place = Place::new();
    let mut child = std::process::Command::new("sh");
    child.args(["-c", "ulimit -f 200; exec \"$0\" load \"$1\" --ack --batch 10", env!("CARGO_BIN_EXE_firn")]);
    let child = child.arg(place.db()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        (0..40_000).all(|number| stdin.write_all(format!("k{number:05}\t{}\n", "v".repeat(50)).as_bytes()).is_ok())
    });
    let ran = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(6), "{said}");
    assert!(said.contains(".log"), "the file is named: {said}");
    let acknowledged = String::from_utf8_lossy(&ran.stdout).lines().last().map(str::to_owned).expect("some");
    assert_eq!(place.run("count", &[]).text().trim(), acknowledged);
    assert_eq!(place.run("verify", &[]).code, 0);
}
