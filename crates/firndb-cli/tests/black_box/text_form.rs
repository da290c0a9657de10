//! The text form: what stands for itself, what is escaped, and what `load` takes back.

use super::Place;
use firndb_testkit::{Random, hex};

use super::harness::escaped;

/// Every byte, characters at the borders of what is escaped, and text that is no UTF-8.
fn specimens() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    for code in [0x7f, 0x80, 0x85, 0x9f, 0xa0, 0xa1, 0xad, 0xff, 0x100, 0x7ff, 0x800, 0x2028, 0xfeff, 0xffff, 0x10ffff]
    {
        all.push(char::from_u32(code).expect("a character").to_string().into_bytes());
    }
    all.push("größe \u{1f600} äöü".as_bytes().to_vec());
    for broken in [
        &b"\xc3"[..],
        b"a\xe2\x82z",
        b"\xf0\x9f\x98",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"\xffend",
        b"\\x41",
        b"\\\\n",
        b"\r\n",
        b"a\tb\nc",
    ] {
        all.push(broken.to_vec());
    }
    let mut random = Random::new(7);
    all.extend((0..200).map(|_| random.bytes_up_to(12)).filter(|bytes| !bytes.is_empty()));
    all.sort();
    all.dedup();
    all
}

#[test]
fn text_from_0xa0_up_and_printable_ascii_stand_for_themselves_and_all_else_is_escaped() {
    let place = Place::new();
    for (value, text) in [
        (&b"plain ~"[..], "plain ~"),
        (b"\\", "\\\\"),
        (b"\t", "\\t"),
        (b"\n", "\\n"),
        (b"\r", "\\x0d"),
        (b"\x01\x1f\x7f", "\\x01\\x1f\\x7f"),
        ("\u{80}\u{9f}".as_bytes(), "\\xc2\\x80\\xc2\\x9f"),
        ("\u{a0}".as_bytes(), "\u{a0}"),
        ("é\u{ad}\u{200b}\u{10ffff}".as_bytes(), "é\u{ad}\u{200b}\u{10ffff}"),
        (b"\xff\xc3", "\\xff\\xc3"),
        (b"\"'", "\"'"),
    ] {
        place.run_bytes("put", &[b"k", value]).is_silent();
        place.run("get", &["k"]).prints(format!("{text}\n"));
        place.run("scan", &[]).prints(format!("k\t{text}\n"));
    }
}

#[test]
fn every_byte_string_survives_load_and_scan_as_key_and_as_value() {
    let place = Place::new();
    let all = specimens();
    let line = |bytes: &Vec<u8>| format!("{}\t{}\n", escaped(bytes), escaped(bytes));
    let text: String = all.iter().map(line).collect();
    place.lines(&text, &[]).is_silent();
    place.run("count", &[]).prints(format!("{}\n", all.len()));
    // The keys are sorted as bytes, and so is `all`.
    place.run("scan", &[]).prints(&text);
    let in_hex: String = all.iter().map(|bytes| format!("{0}\t{0}\n", hex(bytes))).collect();
    place.run("scan", &["--hex"]).prints(&in_hex);

    let copy = Place::new();
    copy.lines(&in_hex, &["--hex"]).is_silent();
    copy.run("scan", &[]).prints(&text);
    let json = place.run("scan", &["--json"]);
    let copy = Place::new();
    copy.lines(json.text(), &["--json"]).is_silent();
    copy.run("scan", &[]).prints(&text);
    let json = place.run("scan", &["--json", "--hex"]);
    let copy = Place::new();
    copy.lines(json.text(), &["--json", "--hex"]).is_silent();
    copy.run("scan", &[]).prints(&text);
}

#[test]
fn load_takes_what_is_printed_and_refuses_anything_else() {
    let place = Place::new();
    for bad in [
        &b"\\q"[..],
        b"\\",
        b"\\x",
        b"\\x4",
        b"\\xg0",
        b"\\x0g",
        b"\\x+1",
        b"\\xFF",
        b"\\xfF",
        b"\\X41",
        b"\\r",
        b"\\0",
        b"\\u0041",
        b"\\\"",
        b"\\ ",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\x00",
        b"\x01",
        b"\x1b",
        b"\x7f",
        b"\xc2\x80",
        b"\xc2\x9f",
    ] {
        for line in [[b"a", bad].concat(), [b"a", bad, b"\tv"].concat(), [b"k\ta", bad].concat()] {
            let input = [b"good\t1\n", &line[..], b"\n"].concat();
            place.lines(&input, &[]).fails(2, "line 2");
        }
    }
    place.run("count", &[]).prints("0\n");
    place.lines("\\x41\\\\\\t\\n\\xff\t\\x00\\x09", &[]).is_silent();
    place.run("scan", &[]).prints("A\\\\\\t\\n\\xff\t\\x00\\t\n");
}

#[test]
fn a_carriage_return_is_data() {
    let place = Place::new();
    place.lines("a\t1\r\nb\rc\t\r\nd\re\t2\nd\re\n", &[]).is_silent();
    place.run("scan", &[]).prints("a\t1\\x0d\nb\\x0dc\t\\x0d\n");
    // A line with nothing but a carriage return deletes that key.
    place.lines("\r\tx\n", &[]).is_silent();
    place.run("get", &["\r"]).prints("x\n");
    place.lines("\r\n", &[]).is_silent();
    place.run("get", &["\r"]).is_absent();
}

#[test]
fn a_line_is_split_at_its_first_tab() {
    let place = Place::new();
    place.lines("k\ta\tb\t\n", &[]).is_silent();
    place.run("get", &["k"]).prints("a\\tb\\t\n");
    place.run("get", &["k", "--raw"]).prints("a\tb\t");
}

#[test]
fn keys_and_values_on_the_command_line_are_literal() {
    let place = Place::new();
    place.run("put", &["\\t\\x41", "a\\nb"]).is_silent();
    place.run("get", &["\\t\\x41"]).prints("a\\\\nb\n");
    place.run("get", &["\\t\\x41", "--raw"]).prints("a\\nb");
    place.run("get", &["\tA"]).is_absent();
    place.run("put", &["a\tb", "line\nline"]).is_silent();
    place.run("get", &["a\tb"]).prints("line\\nline\n");
    place.run_bytes("put", &[b"\xff\xfe", b"\xfd"]).is_silent();
    place.run_bytes("get", &[b"\xff\xfe"]).prints("\\xfd\n");
    place.run_bytes("get", &[b"\xff\xfe", b"--raw"]).prints(b"\xfd");
}

#[test]
fn hex_is_taken_in_either_case_with_or_without_0x_and_printed_in_lower_case() {
    let place = Place::new();
    place.run("put", &["--hex", "0xABcd", "0X00fF"]).is_silent();
    for key in ["abcd", "ABCD", "0xabcd", "0XaBcD"] {
        place.run("get", &["--hex", key]).prints("00ff\n");
        place.run("get", &["--hex", "--raw", key]).prints(b"\x00\xff");
    }
    place.lines("0xABCE\t0x0A\nabcf\t\n", &["--hex"]).is_silent();
    place.run("scan", &["--hex"]).prints("abcd\t00ff\nabce\t0a\nabcf\t\n");
    place.run("scan", &["--hex", "--from", "0xABCE", "--to", "abCF"]).prints("abce\t0a\n");
    place.run("scan", &["--hex", "--prefix", "0xAB", "--reverse", "--limit", "1"]).prints("abcf\t\n");
    place.run("delete", &["--hex", "0xABCD"]).is_silent();
    place.lines("0xABCE\n", &["--hex"]).is_silent();
    place.run("count", &["--hex"]).prints("1\n");
    // Nothing, with and without `0x`, is the empty key.
    place.run("put", &["--hex", "0x", ""]).is_silent();
    place.run("scan", &["--hex"]).prints("\t\nabcf\t\n");
    place.lines("0x\n", &["--hex"]).is_silent();
    place.run("count", &[]).prints("1\n");
}

#[test]
fn what_is_no_hex_is_a_usage_error() {
    let place = Place::new();
    for bad in ["0", "abc", "0xabc", "zz", "0x0x00", "+1", "a b", " 00", "é", "x00", "00x"] {
        place.run("put", &["--hex", bad, "00"]).fails(2, "hex");
        place.run("put", &["--hex", "00", bad]).fails(2, "hex");
        assert!(!place.db().exists(), "a usage error makes no database");
    }
    place.run("put", &["k", "v"]).is_silent();
    place.run("get", &["--hex", "zz"]).fails(2, "zz");
    place.run("delete", &["--hex", "zz"]).fails(2, "zz");
    for bound in ["--from", "--to", "--prefix"] {
        place.run("scan", &["--hex", bound, "zz"]).fails(2, "zz");
    }
    for bad in ["zz\t00\n", "00\tzz\n", "0\n", "00\t0\r\n", "00\t00\t00\n"] {
        place.lines(bad, &["--hex"]).fails(2, "line 1");
    }
    place.run("scan", &[]).prints("k\tv\n");
}
