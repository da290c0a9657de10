//! Just enough of Rust's grammar to ask where a file uses what: no comments, no strings, no tests, paths written out.

/// The text with comments, strings and characters blanked out, byte for byte, so that offsets and lines stay.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !is_word_before(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match char_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_word_before(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_word(bytes[at - 1])
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of `r"…"`, `r#"…"#`, `br"…"` and the like; `None` if no raw string starts here.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let r = if bytes[start] == b'r' { start } else { start + 1 };
    if bytes.get(r) != Some(&b'r') {
        return None;
    }
    let hashes = bytes[r + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(r + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    Some(find(bytes, r + 2 + hashes, &closing).map_or(bytes.len(), |at| at + closing.len()))
}

/// The end of a character; `None` for a lifetime.
fn char_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        // The escaped byte itself may be a quote.
        return find(bytes, (start + 3).min(bytes.len()), b"'").map(|at| at + 1);
    }
    let text = std::str::from_utf8(bytes.get(start + 1..(start + 5).min(bytes.len()))?)
        .or_else(|e| std::str::from_utf8(&bytes[start + 1..start + 1 + e.valid_up_to()]))
        .ok()?;
    let character = text.chars().next()?;
    let close = start + 1 + character.len_utf8();
    (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
}

/// Code with every item under `#[cfg(test)]` blanked out.
pub(crate) fn without_tests(code: &str) -> String {
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(start) = ["#[cfg(test)]", "#[cfg(all(test", "#[test]"]
        .iter()
        .filter_map(|attribute| code[from..].find(attribute).map(|at| from + at))
        .min()
    {
        let end = item_end(code.as_bytes(), start);
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The end of the item whose attributes start at `start`: its closing brace or semicolon.
fn item_end(code: &[u8], start: usize) -> usize {
    let (mut depth, mut round) = (0, 0);
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => round += 1,
            b')' | b']' => round -= 1,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 && round == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// The line, from 1, of a byte offset.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// Every use of `word` as a whole word.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        !is_word_before(bytes, *at) && !bytes.get(at + word.len()).is_some_and(|byte| is_word(*byte))
    })
}

/// Every path that starts with `root::`, groups in braces written out: `std::{fs, time::Instant}` gives `fs` and
/// `time::Instant`. With the offset of its root.
pub(crate) fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, root) {
        // `other::std::…` is not ours.
        if code[..at].trim_end().ends_with("::") {
            continue;
        }
        let rest = code[at + root.len()..].trim_start();
        if let Some(tree) = rest.strip_prefix("::") {
            let mut ends = Vec::new();
            use_tree(tree, "", &mut ends);
            found.extend(ends.into_iter().map(|path| (at, path)));
        }
    }
    found
}

/// Reads one path or group, adds the paths it names, returns what follows it.
fn use_tree<'a>(code: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let mut code = code.trim_start();
    let mut path = prefix.to_owned();
    loop {
        if let Some(mut rest) = code.strip_prefix('{') {
            loop {
                rest = rest.trim_start();
                if let Some(after) = rest.strip_prefix('}') {
                    return after;
                }
                let after = use_tree(rest, &path, found).trim_start();
                // Over ` as name` and the comma, to the next branch; anything else ends the group.
                let stop = after.find([',', '}']).unwrap_or(after.len());
                rest = after[stop..].strip_prefix(',').unwrap_or(&after[stop..]);
                if rest.is_empty() {
                    return rest;
                }
            }
        }
        let len = code.bytes().take_while(|byte| is_word(*byte) || *byte == b'*').count();
        if len == 0 {
            return code;
        }
        if !path.is_empty() {
            path.push_str("::");
        }
        path.push_str(&code[..len]);
        code = &code[len..];
        match code.trim_start().strip_prefix("::") {
            // Not a turbofish.
            Some(rest) if !rest.trim_start().starts_with('<') => code = rest.trim_start(),
            _ => {
                let is_macro = code.starts_with('!');
                if !is_macro {
                    found.push(path);
                }
                return code;
            }
        }
    }
}

/// The functions of a file: name, first line, number of lines.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String = code[at + 2..].trim_start().bytes().take_while(|b| is_word(*b)).map(char::from).collect();
        if name.is_empty() {
            continue;
        }
        let (first, last) = (line_of(code, at), line_of(code, item_end(code.as_bytes(), at).max(1) - 1));
        found.push((name, first, last - first + 1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_blanked_and_lifetimes_are_not() {
        let text = "a // unsafe\n/* x /* y */ unsafe */ b \"un\\\"safe\" 'x' '\\'' &'a c r#\"\"unsafe\"# é";
        let code = code_only(text);
        assert_eq!(code.len(), text.len());
        assert!(!code.contains("unsafe") && !code.contains("un\\"), "{code}");
        assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "b", "&'a", "c", "é"]);
    }

    #[test]
    fn groups_are_written_out() {
        let code = "use std::{fs, io::{self, Read as R}, time::Instant}; std::thread::spawn(x); other::std::fs; \
                    std::vec::Vec::<u8>::new()";
        let found: Vec<String> = paths(code, "std").into_iter().map(|(_, path)| path).collect();
        assert_eq!(found, ["fs", "io::self", "io::Read", "time::Instant", "thread::spawn", "vec::Vec"]);
    }

    #[test]
    fn tests_are_cut_out() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { x.unwrap() } }\n#[cfg(test)]\nmod t;\nfn c() {}";
        let names: Vec<String> = functions(&without_tests(code)).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(functions("fn a(x: [u8; 2]) {\n\n}"), [("a".to_owned(), 1, 3)]);
    }
}
