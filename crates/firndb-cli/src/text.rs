//! How keys and values look as text: escaped for people, hex or JSON for machines.
//!
//! Escaped: valid UTF-8 from U+00A0 up and 0x20 to 0x7e stand for themselves; `\\`, `\t`, `\n`; every other byte is
//! `\xNN`. Each byte string has exactly one escaped form; [`unescape`] takes that, and tabs and carriage returns as they are.

use serde_json::{Map, Value};

/// True for bytes that stand for themselves: most keys and values are nothing else.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~' if byte != b'\\')
}

/// Appends the escaped form of `bytes`.
pub(crate) fn escape_into(bytes: &[u8], out: &mut String) {
    if bytes.iter().copied().all(is_plain)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return out.push_str(text);
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\t' => out.push_str("\\t"),
                '\n' => out.push_str("\\n"),
                ' '..='~' | '\u{a0}'.. => out.push(c),
                _ => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| hex_escape(byte, out)),
            }
        }
        chunk.invalid().iter().for_each(|byte| hex_escape(*byte, out));
    }
}

fn hex_escape(byte: u8, out: &mut String) {
    out.push_str("\\x");
    hex_digits(byte, out);
}

fn hex_digits(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The bytes of an escaped text; the error says what is wrong with it.
pub(crate) fn unescape(text: &[u8]) -> Result<Vec<u8>, String> {
    if text.iter().copied().all(is_plain) {
        return Ok(text.to_vec());
    }
    let mut out = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        let mut chars = chunk.valid().chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('\\') => out.push(b'\\'),
                    Some('t') => out.push(b'\t'),
                    Some('n') => out.push(b'\n'),
                    Some('x') => {
                        // Lower case only, as it is written: what is accepted is what is printed.
                        let digit =
                            |c: Option<char>| c.filter(|c| !c.is_ascii_uppercase()).and_then(|c| c.to_digit(16));
                        match (digit(chars.next()), digit(chars.next())) {
                            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
                            _ => return Err("\\x needs two lower-case hex digits".to_owned()),
                        }
                    }
                    Some(c) => return Err(format!("\\{} is not an escape", c.escape_default())),
                    None => return Err("a lone \\ at the end".to_owned()),
                },
                // Tabs after the first of a line, and carriage returns, are data.
                '\t' | '\r' | ' '..='~' | '\u{a0}'.. => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => return Err(format!("{} must be escaped, byte by byte, as \\xNN", c.escape_default())),
            }
        }
        if !chunk.invalid().is_empty() {
            return Err("bytes that are not UTF-8 must be written as \\xNN".to_owned());
        }
    }
    Ok(out)
}

/// Lower-case hex.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|byte| hex_digits(*byte, &mut out));
    out
}

/// The bytes of hex text, with or without `0x`, in either case.
pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text).as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err("hex needs an even number of digits".to_owned());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(|| "not hex digits".to_owned());
    digits.chunks_exact(2).map(|pair| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8)).collect()
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Form {
    pub(crate) json: bool,
    pub(crate) hex: bool,
}

impl Form {
    /// A key or value as it was given on the command line: literal, or hex.
    pub(crate) fn argument(self, text: &std::ffi::OsStr) -> Result<Vec<u8>, String> {
        use std::os::unix::ffi::OsStrExt;
        match self.hex {
            false => Ok(text.as_bytes().to_vec()),
            true => from_hex(text.to_str().ok_or("not hex digits")?).map_err(|why| format!("{text:?}: {why}")),
        }
    }

    /// A field of a text line: escaped, or hex.
    pub(crate) fn field(self, text: &[u8]) -> Result<Vec<u8>, String> {
        match self.hex {
            false => unescape(text),
            true => from_hex(std::str::from_utf8(text).map_err(|_| "not hex digits")?),
        }
    }

    /// Appends a key or value to a line of plain text.
    pub(crate) fn push(self, bytes: &[u8], out: &mut String) {
        match self.hex {
            false => escape_into(bytes, out),
            true => bytes.iter().for_each(|byte| hex_digits(*byte, out)),
        }
    }

    /// Puts a key or value into a JSON object under `name`, or `name_hex` if it is not text.
    pub(crate) fn insert(self, object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        let (name, text) = match (self.hex, std::str::from_utf8(bytes)) {
            (true, _) => (name.to_owned(), to_hex(bytes)),
            (false, Ok(text)) => (name.to_owned(), text.to_owned()),
            (false, Err(_)) => (format!("{name}_hex"), to_hex(bytes)),
        };
        object.insert(name, Value::String(text));
    }

    /// Takes a key or value out of a JSON object: `Some(None)` for null, `None` if it is not there.
    pub(crate) fn take(self, object: &Map<String, Value>, name: &str) -> Result<Option<Option<Vec<u8>>>, String> {
        let hex_name = format!("{name}_hex");
        match (object.get(name), object.get(&hex_name)) {
            (Some(_), Some(_)) => Err(format!("both {name} and {hex_name}")),
            (Some(Value::Null), None) | (None, Some(Value::Null)) => Ok(Some(None)),
            (Some(Value::String(text)), None) if !self.hex => Ok(Some(Some(text.clone().into_bytes()))),
            (Some(Value::String(text)), None) | (None, Some(Value::String(text))) => {
                from_hex(text).map(|bytes| Some(Some(bytes))).map_err(|why| format!("{name}: {why}"))
            }
            (None, None) => Ok(None),
            _ => Err(format!("{name} is not a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = String::new();
        escape_into(bytes, &mut out);
        out
    }

    #[test]
    fn text_stands_for_itself_and_every_other_byte_is_escaped() {
        assert_eq!(escaped(b"a b~"), "a b~");
        assert_eq!(escaped("\u{a0}\u{e9}\u{1f600}".as_bytes()), "\u{a0}\u{e9}\u{1f600}");
        assert_eq!(escaped(b"\\\t\n\r\x00\x7f\xff"), "\\\\\\t\\n\\x0d\\x00\\x7f\\xff");
        assert_eq!(escaped("\u{80}\u{9f}".as_bytes()), "\\xc2\\x80\\xc2\\x9f");
        // A cut-off character is bytes, not text.
        assert_eq!(escaped(&"\u{e9}".as_bytes()[..1]), "\\xc3");
    }

    #[test]
    fn every_byte_string_survives_both_forms() {
        for len in 0..4usize {
            for seed in 0..2000u64 {
                let bytes: Vec<u8> =
                    (0..len).map(|i| (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (i * 13 + 5)) as u8).collect();
                assert_eq!(unescape(escaped(&bytes).as_bytes()).as_deref(), Ok(&bytes[..]));
                assert_eq!(from_hex(&to_hex(&bytes)).as_deref(), Ok(&bytes[..]));
            }
        }
        assert_eq!(from_hex("0xABcd").as_deref(), Ok(&[0xab, 0xcd][..]));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in ["\u{1}", "\u{7f}", "\u{85}", "a\nb", "\\", "\\q", "\\x", "\\x0", "\\xg0", "\\x+1", "\\xFF"] {
            assert!(unescape(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(unescape(b"a\tb\r").as_deref(), Ok(&b"a\tb\r"[..]));
        assert!(unescape(b"\xff").is_err() && unescape(b"\0").is_err() && unescape(b"\xc2\x80").is_err());
        assert!(from_hex("abc").is_err() && from_hex("zz").is_err());
    }
}
