//! How keys and values look: escaped, hex, JSON.

use super::Place;

/// All 256 bytes, one a line of `load`, as hex.
fn every_byte() -> String {
    (0..=255u8).map(|byte| format!("{byte:02x}\t{byte:02x}{byte:02x}\n")).collect()
}

#[test]
fn every_byte_survives_every_form_and_looks_as_documented() {
    let place = Place::new();
    assert_eq!(place.run_with("load", &["--hex"], every_byte().as_bytes()).text(), "");
    assert_eq!(place.run("scan", &["--hex"]).text(), every_byte());
    let plain = place.run("scan", &[]).text();
    let expected: String = (0..=255u8)
        .map(|byte| {
            let one = match byte {
                b'\\' => "\\\\".to_owned(),
                b'\t' => "\\t".to_owned(),
                b'\n' => "\\n".to_owned(),
                0x20..=0x7e => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            };
            format!("{one}\t{one}{one}\n")
        })
        .collect();
    assert_eq!(plain, expected);
    for arguments in [&[][..], &["--json"], &["--json", "--hex"], &["--hex"]] {
        let copy = Place::new();
        let out = place.run("scan", arguments).text();
        assert_eq!(copy.run_with("load", arguments, out.as_bytes()).text(), "");
        assert_eq!(copy.run("scan", &["--hex"]).text(), every_byte(), "{arguments:?}");
    }
}

#[test]
fn text_from_u00a0_up_stands_for_itself_and_c1_controls_and_broken_utf8_do_not() {
    let place = Place::new();
    for (key, shown) in [("\u{a0}é€😀", "\u{a0}é€😀"), ("\u{80}\u{9f}", "\\xc2\\x80\\xc2\\x9f"), ("a\r", "a\\x0d")]
    {
        assert_eq!(place.run("put", &["k", key]).text(), "");
        assert_eq!(place.run("get", &["k"]).text(), format!("{shown}\n"));
        assert_eq!(place.run("get", &["k", "--raw"]).text(), key);
    }
    assert_eq!(place.run("put", &["6b", "e282", "--hex"]).text(), "");
    assert_eq!(place.run("get", &["k"]).text(), "\\xe2\\x82\n");
    // On the command line, text is literal.
    assert_eq!(place.run("put", &["a\\tb", "\\x41"]).text(), "");
    assert_eq!(place.run("get", &["a\\tb"]).text(), "\\\\x41\n");
    assert_eq!(place.run("scan", &["--prefix", "a"]).text(), "a\\\\tb\t\\\\x41\n");
}

#[test]
fn hex_is_lower_case_without_0x_and_takes_both() {
    let place = Place::new();
    assert_eq!(place.run("put", &["0xAB", "0XcD", "--hex"]).text(), "");
    assert_eq!(place.run("get", &["aB", "--hex"]).text(), "cd\n");
    assert_eq!(place.run("scan", &["--hex", "--from", "0xab", "--to", "AC"]).text(), "ab\tcd\n");
    assert_eq!(place.run("scan", &["--hex", "--prefix", "AB"]).text(), "ab\tcd\n");
    assert_eq!(place.run_with("load", &["--hex"], b"0x00\t0xFF\nAB\n\t\n").text(), "");
    assert_eq!(place.run("scan", &["--hex"]).text(), "\t\n00\tff\n");
    assert_eq!(place.run("delete", &["0x", "--hex"]).text(), "");
    assert_eq!(place.run("count", &[]).text(), "1\n");
    for bad in ["0", "0x0", "0y00", "zz"] {
        place.run("get", &[bad, "--hex"]).fails(2, "hex");
    }
}

#[test]
fn json_has_strings_for_text_and_hex_for_the_rest() {
    let place = Place::new();
    assert_eq!(place.run_with("load", &[], b"a\"b\tq\\n\nb\t\\xff\n\\xfe\ttext\n").text(), "");
    assert_eq!(
        place.run("scan", &["--json"]).text(),
        concat!(
            "{\"key\":\"a\\\"b\",\"value\":\"q\\n\"}\n",
            "{\"key\":\"b\",\"value_hex\":\"ff\"}\n",
            "{\"key_hex\":\"fe\",\"value\":\"text\"}\n"
        )
    );
    assert_eq!(place.run("get", &["b", "--json"]).text(), "{\"key\":\"b\",\"value_hex\":\"ff\"}\n");
    assert_eq!(place.run("get", &["62", "--json", "--hex"]).text(), "{\"key\":\"62\",\"value\":\"ff\"}\n");
    assert_eq!(place.run("count", &["--json"]).text(), "{\"count\":3}\n");
    assert_eq!(place.run("get", &["nothing", "--json"]).code, 1);
}
