//! Layout rules that the compiler does not know: module order, the unsafe fence, the one door to the disk.

use std::fs;
use std::path::{Path, PathBuf};

/// Rows of ARCHITECTURE.md. A module uses strictly lower rows; modules of one row do not know each other.
const ROWS: &[(&str, u32)] = &[
    ("error", 0),
    ("sync", 0),
    ("clock", 1),
    ("format", 1),
    ("metrics", 2),
    ("fs", 3),
    ("cache", 4),
    ("iter", 4),
    ("memtable", 5),
    ("table", 5),
    ("wal", 5),
    ("version", 6),
    ("superversion", 7),
    ("compaction", 8),
    ("flush", 8),
    ("read", 8),
    ("write", 8),
    ("background", 9),
    ("options", 9),
    ("recovery", 9),
    ("db", 10),
];

/// The only files that may lift `unsafe_code`.
const UNSAFE_FENCE: &[&str] = &["memtable/arena.rs", "memtable/skiplist.rs", "fs/posix.rs"];

/// What may be named only in some places: the words, the places, the remedy.
const DOORS: &[(&str, &[&str], &str)] = &[
    ("std::fs", &["fs/"], "go through the `Fs` trait"),
    ("SystemTime::now", &["clock.rs"], "take time from `Clock`"),
    ("Instant::now", &["clock.rs"], "take time from `Clock`"),
    ("thread::sleep", &["clock.rs"], "sleep through `Clock`"),
    ("thread::spawn", &["background/"], "give the job to the scheduler"),
    ("std::sync::Mutex", &["sync.rs"], "use `crate::sync`"),
    ("std::sync::RwLock", &["sync.rs"], "use `crate::sync`"),
];

pub(crate) fn run(root: &Path) -> Result<(), String> {
    println!("== tidy");
    let source = root.join("crates/firndb/src");
    let mut files = Vec::new();
    collect(&source, "rs", &mut files)?;
    let mut problems = Vec::new();
    let mut largest = (0, String::new());
    let mut unsafe_blocks = 0;
    for path in &files {
        let name = path.strip_prefix(&source).unwrap_or(path).to_string_lossy().into_owned();
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        largest = largest.max((text.lines().count(), name.clone()));
        unsafe_blocks += text.matches("unsafe {").count();
        check_file(&name, &text, &mut problems);
    }
    check_links(root, &mut problems)?;
    println!("   {} files, largest {} ({} lines), {unsafe_blocks} unsafe blocks", files.len(), largest.1, largest.0);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

fn row(module: &str) -> Option<u32> {
    ROWS.iter().find(|(name, _)| *name == module).map(|(_, row)| *row)
}

fn check_file(name: &str, text: &str, problems: &mut Vec<String>) {
    let module = name.split(['/', '.']).next().unwrap_or_default();
    let own = row(module);
    if own.is_none() && module != "lib" {
        problems.push(format!("{name}: module `{module}` has no row; add it to ROWS and to ARCHITECTURE.md"));
    }
    for (index, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", index + 1);
        let code = line.trim_start();
        if code.starts_with("#[cfg(test)]") {
            // Tests come last in a file, and may wait, spawn and look where they like.
            break;
        }
        if code.starts_with("//") {
            if code.contains("TODO") && !code.contains("TODO(#") {
                problems.push(format!("{place}: a TODO carries an issue number, `TODO(#12)`, or is not written"));
            }
            continue;
        }
        check_order(&place, module, own, code, problems);
        for (word, places, remedy) in DOORS {
            if code.contains(word) && !places.iter().any(|at| name.starts_with(at)) {
                problems.push(format!("{place}: `{word}` is not for this module; {remedy}"));
            }
        }
        if code.contains("unsafe_code") && code.starts_with("#!") && !UNSAFE_FENCE.contains(&name) {
            problems.push(format!("{place}: lifts `unsafe_code`, but is not in the fence {UNSAFE_FENCE:?}"));
        }
    }
}

fn check_order(place: &str, module: &str, own: Option<u32>, code: &str, problems: &mut Vec<String>) {
    let Some(own) = own else { return };
    for rest in code.split("crate::").skip(1) {
        let used: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if let Some(theirs) = row(&used).filter(|theirs| used != module && *theirs >= own) {
            problems.push(format!(
                "{place}: `{module}` (row {own}) uses `{used}` (row {theirs}); a module uses lower rows only"
            ));
        }
    }
}

/// Relative links of the documents must lead somewhere.
fn check_links(root: &Path, problems: &mut Vec<String>) -> Result<(), String> {
    let mut documents = Vec::new();
    collect(&root.join("docs"), "md", &mut documents)?;
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        documents.push(root.join(name));
    }
    for path in documents {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            let is_file = !target.is_empty() && !target.contains("://");
            if is_file && !path.parent().unwrap_or(root).join(target).exists() {
                problems.push(format!("{}: the link to `{target}` leads nowhere", path.display()));
            }
        }
    }
    Ok(())
}

fn collect(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            collect(&path, extension, into)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
    into.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        check_file(name, text, &mut problems);
        problems
    }

    #[test]
    fn an_upward_or_sideways_use_is_named() {
        assert_eq!(problems("table/reader.rs", "use crate::format::key;\n"), Vec::<String>::new());
        assert!(problems("table/reader.rs", "use crate::version::Version;\n")[0].contains("row 6"));
        assert!(problems("wal/mod.rs", "use crate::table::Block;\n")[0].contains("lower rows only"));
        assert!(problems("helpers.rs", "")[0].contains("no row"));
    }

    #[test]
    fn the_disk_the_clock_and_unsafe_have_one_door_each() {
        assert!(problems("wal/mod.rs", "let f = std::fs::File::open(p);")[0].contains("Fs"));
        assert!(problems("wal/mod.rs", "#![expect(unsafe_code, reason = \"fast\")]")[0].contains("fence"));
        assert_eq!(problems("fs/posix.rs", "#![expect(unsafe_code, reason = \"fcntl\")]\nuse std::fs::File;").len(), 0);
        assert_eq!(problems("wal/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; }").len(), 0);
        assert!(problems("wal/mod.rs", "// TODO later")[0].contains("issue number"));
    }
}
