//! The rules that no compiler knows. Every complaint names its remedy.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::circles::Files;
use crate::source::{code_only, functions, line_of, paths, without_tests, words};

/// The module table: a module uses modules of lower rows only.
const ROWS: [&[&str]; 13] = [
    &["error", "process", "sync"],
    &["format", "clock", "threads"],
    &["metrics"],
    &["fs"],
    &["iter", "cache"],
    &["memtable", "wal", "table", "blob"],
    &["version"],
    &["superversion"],
    &["write", "read", "flush", "compaction"],
    &["options"],
    &["transaction", "background", "recovery", "indexed"],
    &["opening"],
    &["db", "offline"],
];

/// The files that may contain unsafe code.
const UNSAFE_FENCE: [&str; 6] = [
    "crates/firndb/src/process.rs",
    "crates/firndb/src/memtable/arena.rs",
    "crates/firndb/src/memtable/skiplist.rs",
    "crates/firndb/src/fs/lock.rs",
    "crates/firndb/src/fs/posix.rs",
    "crates/firndb/tests/fork.rs",
];

/// What the engine reaches only through one of its modules: the path in `std`, who may use it (a module, or one file of
/// it), what others use.
const DOORS: [(&str, &[&str], &str); 7] = [
    ("fs", &["fs"], "use the `Fs` that was handed down"),
    ("time::Instant", &["clock"], "use the `Clock` that was handed down"),
    ("time::SystemTime", &["clock"], "use the `Clock` that was handed down"),
    ("thread::spawn", &["sync", "threads"], "let `threads` own the thread"),
    // The janitor outlives the handles of the database, and so the scheduler.
    ("thread::Builder", &["sync", "threads", "superversion/purge.rs"], "let `threads` own the thread"),
    ("thread::sleep", &["clock"], "use `Clock::sleep` or a condition variable"),
    ("process", &[], "return an `Error`"),
];

/// What of `std::sync` orders nothing and may be used anywhere; the rest comes from `crate::sync`.
const FREE_OF_SYNC: [&str; 4] = ["sync::Arc", "sync::Weak", "sync::OnceLock", "sync::LazyLock"];

/// Files longer than this have a head of more than one line: place, flow, invariants, threads.
const LINES_WITHOUT_HEAD: usize = 150;
/// How many of them have none today. A number that only goes down.
const WITHOUT_HEAD_MAX: usize = 1;

const LARGEST_BLOB: u64 = 512 << 10;

struct Tidy {
    root: PathBuf,
    complaints: Vec<String>,
    largest_file: (usize, String),
    longest_function: (usize, String),
    unsafe_uses: usize,
    engine: Files,
    /// Long files whose head is one line.
    without_head: Vec<String>,
}

/// Checks the whole workspace.
pub(crate) fn run(root: &Path) -> Outcome {
    let mut tidy = Tidy {
        root: root.to_owned(),
        complaints: Vec::new(),
        largest_file: (0, String::new()),
        longest_function: (0, String::new()),
        unsafe_uses: 0,
        engine: Files::default(),
        without_head: Vec::new(),
    };
    let mut files = Vec::new();
    collect(root, &mut files).map_err(|e| format!("tidy: cannot list {}: {e}", root.display()))?;
    files.sort();
    for file in &files {
        tidy.check(file).map_err(|e| format!("tidy: {}: {e}", file.display()))?;
    }
    tidy.check_circles();
    tidy.check_heads();
    println!("tidy: {} files", files.len());
    println!("  largest file:      {:5} lines  {}", tidy.largest_file.0, tidy.largest_file.1);
    println!("  longest function:  {:5} lines  {}", tidy.longest_function.0, tidy.longest_function.1);
    println!("  `unsafe`:          {:5} uses", tidy.unsafe_uses);
    println!("  heads of one line: {:5} files  {}", tidy.without_head.len(), tidy.without_head.join(" "));
    match tidy.complaints.as_slice() {
        [] => Ok(()),
        complaints => Err(format!("{}\ntidy: {} complaints", complaints.join("\n"), complaints.len())),
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !name.starts_with("target") && name != ".git" && name != ".venv" {
                collect(&entry.path(), files)?;
            }
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

impl Tidy {
    fn complain(&mut self, place: &str, line: usize, what: impl AsRef<str>) {
        self.complaints.push(format!("{place}:{line}: {}", what.as_ref()));
    }

    fn check(&mut self, file: &Path) -> std::io::Result<()> {
        let place = file.strip_prefix(&self.root).unwrap_or(file).to_string_lossy().replace('\\', "/");
        let size = fs::metadata(file)?.len();
        if size > LARGEST_BLOB && !place.ends_with("Cargo.lock") {
            self.complain(&place, 1, format!("{size} bytes: make it smaller, or generate it"));
        }
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => self.check_rust(&place, &fs::read_to_string(file)?),
            Some("md") => self.check_markdown(&place, file, &fs::read_to_string(file)?),
            _ => {}
        }
        Ok(())
    }

    fn check_rust(&mut self, place: &str, text: &str) {
        self.check_todos(place, text);
        let code = code_only(text);
        let lines = text.lines().count();
        if lines > self.largest_file.0 {
            self.largest_file = (lines, place.to_owned());
        }
        for (name, first, len) in functions(&code) {
            if len > self.longest_function.0 {
                self.longest_function = (len, format!("{place}:{first} `{name}`"));
            }
        }
        self.check_unsafe(place, &code);
        if place.contains("/tests/") || place.ends_with("/tests.rs") || place.contains("/benches/") {
            return;
        }
        let code = without_tests(&code);
        for at in code.match_indices(".unwrap()").map(|(at, _)| at) {
            self.complain(place, line_of(&code, at), "`unwrap`: use `?`, or `expect` with the invariant as its text");
        }
        for name in ["todo", "unimplemented", "dbg"] {
            for at in words(&code, name).filter(|at| code[at + name.len()..].starts_with("!(")) {
                self.complain(place, line_of(&code, at), format!("`{name}!`: finish it, or return an `Error`"));
            }
        }
        if let Some(inside) = place.strip_prefix("crates/firndb/src/") {
            self.check_doors(place, inside, &code);
            self.check_order(place, inside, &code);
            self.engine.add(inside, &code);
            let head = text.lines().take_while(|line| line.starts_with("//!")).count();
            if lines > LINES_WITHOUT_HEAD && head < 2 {
                self.without_head.push(inside.to_owned());
            }
        }
    }

    fn check_todos(&mut self, place: &str, text: &str) {
        let word = concat!("TO", "DO");
        for (at, _) in text.match_indices(word) {
            let issue = text[at + word.len()..].strip_prefix("(#").and_then(|rest| rest.split_once(')'));
            if !issue.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())) {
                self.complain(
                    place,
                    line_of(text, at),
                    format!("{word} without an issue: write `{word}(#12)`, or do it"),
                );
            }
        }
    }

    fn check_unsafe(&mut self, place: &str, code: &str) {
        let uses: Vec<usize> = words(code, "unsafe").collect();
        self.unsafe_uses += uses.len();
        if UNSAFE_FENCE.contains(&place) {
            return;
        }
        for at in uses {
            self.complain(
                place,
                line_of(code, at),
                "`unsafe` outside of the fence: see ARCHITECTURE.md and `UNSAFE_FENCE` in xtask/src/tidy.rs",
            );
        }
        for attribute in ["allow(unsafe_code", "expect(unsafe_code"] {
            if let Some(at) = code.find(attribute) {
                self.complain(place, line_of(code, at), "only the files of the fence may lift `unsafe_code`");
            }
        }
    }

    fn check_doors(&mut self, place: &str, inside: &str, code: &str) {
        let module = module_of(inside);
        for (at, path) in paths(code, "std") {
            let line = line_of(code, at);
            for (door, owners, remedy) in DOORS {
                if within(&path, door) && !owners.contains(&module) && !owners.contains(&inside) {
                    self.complain(place, line, format!("`std::{path}`: {remedy}"));
                }
            }
            let is_free = FREE_OF_SYNC.iter().any(|free| within(&path, free));
            // `metrics` numbers threads and `process` counts forks with a static counter, and `fs` has a static lock: none
            // orders anything that a model checker would look at, and its own types cannot be static.
            if within(&path, "sync") && !is_free && !["sync", "process", "fs", "metrics"].contains(&module) {
                self.complain(
                    place,
                    line,
                    format!("`std::{path}`: take it from `crate::sync`, which can be model-checked"),
                );
            }
        }
        if !["sync", "background", "clock"].contains(&module) {
            for spawn in ["thread::spawn", "thread::Builder"] {
                for at in words(code, spawn).filter(|at| !code[..*at].ends_with("std::")) {
                    self.complain(place, line_of(code, at), format!("`{spawn}`: let `background` own the thread"));
                }
            }
        }
    }

    fn check_order(&mut self, place: &str, inside: &str, code: &str) {
        let module = module_of(inside);
        if module == "lib" {
            return;
        }
        let Some(row) = row_of(module) else {
            self.complain(
                place,
                1,
                format!("module `{module}` has no row: give it one in xtask/src/tidy.rs and ARCHITECTURE.md"),
            );
            return;
        };
        let mut uses = paths(code, "crate");
        uses.extend(uses_by_super(inside, code));
        for (at, path) in uses {
            let used = path.split("::").next().unwrap_or_default();
            if used == module || used == "self" {
                continue;
            }
            let line = line_of(code, at);
            match row_of(used) {
                Some(lower) if lower < row => {}
                Some(other) => self.complain(
                    place,
                    line,
                    format!(
                        "`{module}` (row {row}) uses `{used}` (row {other}): hand it in as a value, trait or closure; only lower rows may be used"
                    ),
                ),
                None => self.complain(
                    place,
                    line,
                    format!("`crate::{used}` is no module: name the module it comes from, so that the order shows"),
                ),
            }
        }
    }

    fn check_circles(&mut self) {
        for circle in self.engine.circles() {
            for (user, line, used) in circle.uses {
                let what = format!("uses {used}, which leads back to it: move what both need into a file of its own");
                self.complain(&format!("crates/firndb/src/{user}"), line, what);
            }
        }
    }

    fn check_heads(&mut self) {
        if self.without_head.len() > WITHOUT_HEAD_MAX {
            let (found, files) = (self.without_head.len(), self.without_head.join(", "));
            let what = format!(
                "{found} files of more than {LINES_WITHOUT_HEAD} lines have a head of one line, {WITHOUT_HEAD_MAX} at most \
                 are allowed: say place, flow, invariants and threads in one of {files}"
            );
            self.complain("crates/firndb/src", 1, what);
        }
    }

    fn check_markdown(&mut self, place: &str, file: &Path, text: &str) {
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            for part in line.split("](").skip(1) {
                let Some((target, _)) = part.split_once(')') else { continue };
                let target = target.split(['#', ' ']).next().unwrap_or_default();
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let base = if target.starts_with('/') { &self.root } else { file.parent().unwrap_or(&self.root) };
                if !base.join(target.trim_start_matches('/')).exists() {
                    self.complain(place, index + 1, format!("dead link `{target}`: correct it, or remove it"));
                }
            }
        }
    }
}

fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The top module of a file, given by its path inside `src`.
fn module_of(inside: &str) -> &str {
    inside.split(['/', '.']).next().unwrap_or(inside)
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// Paths through `super` that reach the root of the crate.
fn uses_by_super(inside: &str, code: &str) -> Vec<(usize, String)> {
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = inside.split('/').count();
    let climbs = |path: &str| path.split("::").take_while(|part| *part == "super").count() + 1;
    paths(code, "super")
        .into_iter()
        .filter(|(_, path)| climbs(path) == depth)
        .map(|(at, path)| (at, path.split("::").skip(depth - 1).collect::<Vec<_>>().join("::")))
        .filter(|(_, path)| !path.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(place: &str, text: &str) -> Vec<String> {
        let mut tidy = Tidy {
            root: PathBuf::from("."),
            complaints: Vec::new(),
            largest_file: (0, String::new()),
            longest_function: (0, String::new()),
            unsafe_uses: 0,
            engine: Files::default(),
            without_head: Vec::new(),
        };
        tidy.check_rust(place, text);
        tidy.complaints
    }

    #[test]
    fn a_module_uses_lower_rows_only_by_whatever_path() {
        let table = "crates/firndb/src/table/block/mod.rs";
        for bad in [
            "use crate::version::Level;",
            "use crate::{error::Error, db::Db};",
            "fn f() { crate::wal::x() }",
            "use super::super::read::get;",
            "use crate::Error;",
            "use crate::nowhere::X;",
        ] {
            assert_eq!(complaints(table, bad).len(), 1, "{bad}");
        }
        for good in [
            "use crate::{error::{Error, Result}, cache::BlockCache};",
            "use super::super::error::Error;",
            "use super::footer;",
            "use crate::table::x;",
            "// crate::db",
            "#[cfg(test)]\nmod tests { use crate::db::Db; }",
        ] {
            assert_eq!(complaints(table, good), Vec::<String>::new(), "{good}");
        }
        assert_eq!(complaints("crates/firndb/src/util.rs", "").len(), 1, "a module without a row");
    }

    #[test]
    fn the_disk_the_clock_threads_and_locks_have_one_door_each() {
        for bad in [
            "use std::fs::File;",
            "use std::{io, fs};",
            "use std::time::{Duration, Instant};",
            "use std::sync::Mutex;",
            "use std::sync::{Arc, atomic::AtomicU64};",
            "fn f() { std::thread::spawn(g); }",
            "use crate::sync::thread; fn f() { thread::spawn(g); }",
        ] {
            assert_eq!(complaints("crates/firndb/src/wal/writer.rs", bad).len(), 1, "{bad}");
        }
        assert!(complaints("crates/firndb/src/fs/posix.rs", "use std::fs::File; use std::sync::Mutex;").is_empty());
        assert!(complaints("crates/firndb/src/clock.rs", "use std::time::Instant;").is_empty());
        let spawns = "fn f() { std::thread::Builder::new(); }";
        assert!(complaints("crates/firndb/src/superversion/purge.rs", spawns).is_empty());
        assert_eq!(complaints("crates/firndb/src/superversion/pins.rs", spawns).len(), 1);
        assert!(complaints("crates/firndb/src/wal/mod.rs", "use std::sync::Arc; use std::time::Duration;").is_empty());
    }

    #[test]
    fn unsafe_unwraps_and_promises_are_found() {
        let wal = "crates/firndb/src/wal/mod.rs";
        assert_eq!(complaints(wal, "fn f() { unsafe { g() } }").len(), 1);
        assert_eq!(complaints(wal, "#![allow(unsafe_code)]").len(), 1);
        assert!(complaints("crates/firndb/src/fs/posix.rs", "fn f() { unsafe { g() } }").is_empty());
        assert_eq!(complaints(wal, "fn f() { g().unwrap(); todo!() }").len(), 2);
        assert_eq!(complaints(wal, concat!("// TO", "DO: later")).len(), 1);
        assert!(complaints(wal, concat!("// TO", "DO(#12): later")).is_empty());
    }
}
