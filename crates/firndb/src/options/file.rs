//! The OPTIONS file: RocksDB's ini text, carried on with every section and key.
//!
//! RocksDB's tools take the OPTIONS file with the highest number. What stands in one is kept as it is, in its order,
//! including what this engine does not know; only sections of families that come and go change. Keys that this engine
//! adds are keys that RocksDB 7.8 knows.
//!
//! Form: `[Section "argument"]`, then `  name=value` lines; `#` starts a comment; a `TableOptions` section follows its
//! own `CFOptions` section, and the default family comes first. Source: RocksDB `options/options_parser.cc`, docs.

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::fs::Fs;

use super::{CompactionStyle, FamilyOptions};
use crate::version::edit::LEVELS_MAX;

/// The largest OPTIONS file that is read.
pub(crate) const MAX_OPTIONS_FILE_BYTES: u64 = 16 << 20;

/// One `[...]` section: its title without the brackets, and its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) entries: Vec<(String, String)>,
}

impl Section {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.entries.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OptionsFile {
    pub(crate) sections: Vec<Section>,
}

impl OptionsFile {
    /// Reads the text; an error names the line.
    pub(crate) fn parse(text: &str) -> Result<OptionsFile> {
        let mut sections: Vec<Section> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let line = strip_comment(raw).trim();
            if line.is_empty() {
                continue;
            }
            let bad = |why: &str| Error::corrupt(CorruptionKind::Malformed, format!("line {}: {why}", index + 1));
            if let Some(title) = line.strip_prefix('[') {
                let title = title.strip_suffix(']').ok_or_else(|| bad("a section without its closing bracket"))?;
                sections.push(Section { title: title.trim().to_owned(), entries: Vec::new() });
            } else {
                let (key, value) = line.split_once('=').ok_or_else(|| bad("neither a section nor name=value"))?;
                let section = sections.last_mut().ok_or_else(|| bad("an option before the first section"))?;
                section.entries.push((key.trim().to_owned(), value.trim().to_owned()));
            }
        }
        let file = OptionsFile { sections };
        if file.section("Version").is_none() {
            return Err(Error::corrupt(CorruptionKind::Malformed, "there is no [Version] section"));
        }
        Ok(file)
    }

    /// The smallest file that RocksDB's tools accept.
    pub(crate) fn minimal() -> OptionsFile {
        let section = |title: &str, entries: &[(&str, &str)]| Section {
            title: title.to_owned(),
            entries: entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        OptionsFile {
            sections: vec![
                section("Version", &[("rocksdb_version", "7.8.3"), ("options_file_version", "1.1")]),
                section("DBOptions", &[]),
            ],
        }
    }

    pub(crate) fn section(&self, title: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.title == title)
    }

    /// The `CFOptions` section of a family.
    pub(crate) fn family(&self, name: &str) -> Option<&Section> {
        self.section(&family_title(name))
    }

    /// Adds the sections of a family that has none.
    pub(crate) fn add_family(&mut self, name: &str, options: &FamilyOptions) {
        if self.family(name).is_some() {
            return;
        }
        let mut family = vec![("comparator".to_owned(), options.key_order.name().to_owned())];
        let defaults = FamilyOptions::default();
        let mut add = |key: &str, value: u64, default: u64| {
            if value != default {
                family.push((key.to_owned(), value.to_string()));
            }
        };
        add("write_buffer_size", options.write_buffer_size, defaults.write_buffer_size);
        add("num_levels", u64::from(options.num_levels), u64::from(defaults.num_levels));
        add("target_file_size_base", options.target_file_size_base, defaults.target_file_size_base);
        add("max_bytes_for_level_base", options.max_bytes_for_level_base, defaults.max_bytes_for_level_base);
        let mut table = Vec::new();
        if let Some(bits) = options.bloom_bits_per_key {
            table.push(("filter_policy".to_owned(), format!("bloomfilter:{bits}:false")));
        }
        let family = Section { title: family_title(name), entries: family };
        let table = Section { title: table_title(name), entries: table };
        if name == "default" {
            // The default family must come before every other one.
            let at = self.sections.iter().position(|s| s.title.starts_with("CFOptions")).unwrap_or(self.sections.len());
            self.sections.splice(at..at, [family, table]);
        } else {
            self.sections.extend([family, table]);
        }
    }

    /// Removes the sections of a dropped family.
    pub(crate) fn remove_family(&mut self, name: &str) {
        let (family, table) = (family_title(name), table_title(name));
        self.sections.retain(|section| section.title != family && section.title != table);
    }

    /// The families that have a section, as they are written there.
    pub(crate) fn family_names(&self) -> Vec<String> {
        let title = |section: &Section| {
            let name = section.title.strip_prefix("CFOptions \"")?.strip_suffix('"')?;
            Some(unescape(name))
        };
        self.sections.iter().filter_map(title).collect()
    }

    /// The text as it is written.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::from("# An OPTIONS file in RocksDB's form, written by FirnDB.\n");
        for section in &self.sections {
            out.push_str(&format!("\n[{}]\n", section.title));
            for (key, value) in &section.entries {
                out.push_str(&format!("  {key}={value}\n"));
            }
        }
        out
    }

    /// What the file says of a family, over `options`: the keys that decide which files may be written.
    pub(crate) fn apply_to(&self, name: &str, options: &mut FamilyOptions) -> Result<()> {
        let Some(family) = self.family(name) else { return Ok(()) };
        let bad = |key: &str, value: &str| {
            let detail = format!("family {name}: {key}={value} is not a value that makes sense");
            Error::corrupt(CorruptionKind::Malformed, detail)
        };
        if let Some(value) = family.get("num_levels") {
            options.num_levels = match value.parse::<u32>() {
                Ok(levels) if (1..=LEVELS_MAX).contains(&levels) => levels,
                Ok(levels) if levels > LEVELS_MAX => {
                    let what =
                        format!("family {name}: num_levels={value}; this version has at most {LEVELS_MAX} levels");
                    return Err(Error::new(ErrorKind::NotSupported, what));
                }
                _ => return Err(bad("num_levels", value)),
            };
        }
        if let Some(value) = family.get("compaction_style") {
            options.compaction_style = match value {
                "kCompactionStyleLevel" => CompactionStyle::Level,
                "kCompactionStyleUniversal" => CompactionStyle::Universal,
                "kCompactionStyleFIFO" => CompactionStyle::Fifo,
                "kCompactionStyleNone" => CompactionStyle::None,
                _ => return Err(bad("compaction_style", value)),
            };
        }
        Ok(())
    }

    /// The comparator that the file names for a family.
    pub(crate) fn comparator(&self, name: &str) -> Option<&str> {
        self.family(name)?.get("comparator")
    }
}

/// Refuses, by name, a database whose data lies in more than its own directory.
///
/// RocksDB before 7 wrote the database's own path into `wal_dir`, and that path is stale once the directory was moved;
/// so a foreign `wal_dir` is believed only if no WAL lies in `dir`, or if there are WALs over there.
pub(crate) fn refuse_foreign_paths(file: &OptionsFile, fs: &dyn Fs, dir: &std::path::Path) -> Result<()> {
    let Some(options) = file.section("DBOptions") else { return Ok(()) };
    let refuse = |key: &str, value: &str| {
        Err(Error::new(
            crate::error::ErrorKind::NotSupported,
            format!(
                "{key}={value}: the database keeps files outside of {}, which this version cannot follow",
                dir.display()
            ),
        ))
    };
    if let Some(value) = options.get("wal_dir").filter(|value| !value.is_empty()) {
        let foreign = std::path::Path::new(value);
        if !same_directory(foreign, dir) && (has_wals(fs, foreign) || !has_wals(fs, dir)) {
            return refuse("wal_dir", value);
        }
    }
    for section in &file.sections {
        for key in ["db_paths", "cf_paths"] {
            if let Some(value) = section.get(key) {
                let paths = value.matches("path=").count();
                let own = value.is_empty() || value == "{}" || (paths == 1 && value.contains(&*dir.to_string_lossy()));
                if !own {
                    return refuse(key, value);
                }
            }
        }
    }
    Ok(())
}

fn has_wals(fs: &dyn Fs, dir: &std::path::Path) -> bool {
    fs.list(dir).is_ok_and(|entries| entries.iter().any(|entry| entry.name.ends_with(".log")))
}

fn same_directory(a: &std::path::Path, b: &std::path::Path) -> bool {
    a.components().eq(b.components()) || a.components().next_back().is_some() && b.ends_with(a)
}

fn strip_comment(line: &str) -> &str {
    let mut escaped = false;
    for (index, byte) in line.bytes().enumerate() {
        match byte {
            b'\\' => escaped = !escaped,
            b'#' if !escaped => return &line[..index],
            _ => escaped = false,
        }
    }
    line
}

fn family_title(name: &str) -> String {
    format!("CFOptions \"{}\"", escape(name))
}

fn table_title(name: &str) -> String {
    format!("TableOptions/BlockBasedTable \"{}\"", escape(name))
}

/// RocksDB escapes what would end a line or start a comment.
fn escape(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' | '#' | ':' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const REAL: &str = "# comment\n[Version]\n  rocksdb_version=9.8.4\n  options_file_version=1.1\n\n[DBOptions]\n  \
        new_key_of_the_future=abc\n  wal_dir=\n\n[CFOptions \"default\"]\n  comparator=leveldb.BytewiseComparator\n  \
        num_levels=4\n  compaction_style=kCompactionStyleUniversal\n  sep=a\\#b # note\n\
        [TableOptions/BlockBasedTable \"default\"]\n  filter_policy=bloomfilter:10:false\n";

    #[test]
    fn unknown_sections_and_keys_survive_a_round_trip() {
        let mut file = OptionsFile::parse(REAL).expect("valid");
        assert_eq!(file.family("default").and_then(|s| s.get("sep")), Some("a\\#b"));
        file.add_family("logs", &FamilyOptions::default());
        let again = OptionsFile::parse(&file.to_text()).expect("own text is valid");
        assert_eq!(again, file);
        assert_eq!(again.section("DBOptions").and_then(|s| s.get("new_key_of_the_future")), Some("abc"));
        let mut options = FamilyOptions::default();
        again.apply_to("default", &mut options).expect("known values");
        assert_eq!((options.num_levels, options.compaction_style), (4, CompactionStyle::Universal));
        for (value, kind) in
            [("65", ErrorKind::NotSupported), ("0", ErrorKind::Corruption), ("x", ErrorKind::Corruption)]
        {
            let file =
                OptionsFile::parse(&REAL.replace("num_levels=4", &format!("num_levels={value}"))).expect("valid");
            let error = file.apply_to("default", &mut options).expect_err("not for us");
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, line) in [("x=1", "line 1"), ("[Version\n", "line 1"), ("[Version]\nfoo\n", "line 2")] {
            assert!(OptionsFile::parse(text).expect_err("bad").to_string().contains(line), "{text}");
        }
        assert!(OptionsFile::parse("[DBOptions]\n").is_err());
    }
}
