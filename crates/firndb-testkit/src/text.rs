//! Text tests: a file of pictures, each with what is to come of it.
//!
//! A case is some lines, a line `----`, and the expected answer; an empty line ends it. Lines that begin with `#` say what
//! the case is about. With `FIRN_REWRITE=1` in the environment the answers of today are written into the file: the diff
//! is then read like code.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What parts a question from its answer.
const BAR: &str = "----";

struct Case {
    line: usize,
    remarks: Vec<String>,
    question: String,
    answer: String,
}

fn parse(text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, first)) = lines.next() {
        if first.trim().is_empty() {
            continue;
        }
        let mut case = Case { line: number + 1, remarks: Vec::new(), question: String::new(), answer: String::new() };
        let mut next = Some(first);
        while let Some(line) = next.filter(|line| *line != BAR) {
            if line.starts_with('#') {
                case.remarks.push(line.to_owned());
            } else if !line.is_empty() {
                case.question += line;
                case.question.push('\n');
            }
            next = lines.next().map(|(_, line)| line);
        }
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            case.answer += line;
            case.answer.push('\n');
        }
        if !case.question.is_empty() {
            cases.push(case);
        }
    }
    cases
}

/// Asks `answer` the question of every case in the file at `path`, and compares.
///
/// # Panics
/// If an answer is another than the file says, if an answer has an empty line, or if the file cannot be read.
#[track_caller]
pub fn check(path: impl AsRef<Path>, mut answer: impl FnMut(&str) -> String) {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut all, mut wrong) = (String::new(), String::new());
    for case in parse(&text) {
        let mut found = answer(&case.question);
        if !found.is_empty() && !found.ends_with('\n') {
            found.push('\n');
        }
        assert!(!found.lines().any(str::is_empty), "an answer has an empty line: {found:?}");
        if found != case.answer {
            let place = format!("{}:{}", path.display(), case.line);
            let remarks = case.remarks.join("\n");
            let (question, expected) = (&case.question, &case.answer);
            writeln!(wrong, "{place}\n{remarks}\n{question}expected\n{expected}found\n{found}").expect("memory");
        }
        let gap = if all.is_empty() { "" } else { "\n" };
        let remarks: String = case.remarks.iter().map(|line| format!("{line}\n")).collect();
        write!(all, "{gap}{remarks}{}{BAR}\n{found}", case.question).expect("memory");
    }
    assert!(!all.is_empty(), "{} has no case", path.display());
    if std::env::var_os("FIRN_REWRITE").is_some() {
        fs::write(path, all).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    assert!(wrong.is_empty(), "\n{wrong}\nFIRN_REWRITE=1 writes the answers found into the file");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_cut_at_bars_and_empty_lines() {
        let cases = parse("# about\none\ntwo\n----\n2 lines\n\n\nthree\n----\n\n");
        let parts: Vec<_> = cases.iter().map(|case| (&*case.question, &*case.answer, case.line)).collect();
        assert_eq!(parts, [("one\ntwo\n", "2 lines\n", 1), ("three\n", "", 8)]);
        assert_eq!(cases[0].remarks, ["# about"]);
    }

    #[test]
    #[should_panic(expected = "found\n3")]
    fn a_wrong_answer_is_shown() {
        let path = std::env::temp_dir().join(format!("firndb-text-{}", std::process::id()));
        fs::write(&path, "abc\n----\n4\n").expect("written");
        check(&path, |question| question.trim().len().to_string());
    }
}
