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

use super::keys::{DATABASE, FAMILY, Place, Unfit};
use super::{FamilyOptions, Options, nested};

const DATABASE_TITLE: &str = "DBOptions";
const DEFAULT_FAMILY: &str = "default";
const BLOCK_BASED: &str = "BlockBasedTable";
/// Not the directory's, but of each opening: what the file says of it is carried on as it is.
const OF_ONE_OPENING: &str = "disable_auto_compactions";
const ARENA_BLOCK_SIZE: &str = "arena_block_size";
/// What RocksDB takes for "as follows from the others".
const DERIVED: &str = "0";
/// RocksDB has it in each family; here it is of the whole database.
const CACHE_INDEXES: &str = "cache_index_and_filter_blocks";

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

    /// Gives a key a value, where it stands or at the end.
    fn set(&mut self, key: &str, value: String) {
        match self.entries.iter_mut().rev().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.entries.push((key.to_owned(), value)),
        }
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
        let mut sections = Vec::new();
        OptionsFile::parse_into(text, &mut sections)?;
        let file = OptionsFile { sections };
        if file.section("Version").is_none() {
            return Err(Error::corrupt(CorruptionKind::Malformed, "there is no [Version] section"));
        }
        Ok(file)
    }

    /// Reads sections; after an error, those before it are there.
    pub(crate) fn parse_into(text: &str, sections: &mut Vec<Section>) -> Result<()> {
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
        Ok(())
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

    /// Says what the options of a family are; makes the sections if there are none. What stands there and means the same
    /// stays as it is.
    pub(crate) fn say_family(&mut self, name: &str, options: &FamilyOptions, database: &Options) {
        // What cannot be read is replaced.
        let stored = self.family_options(name).ok().flatten();
        let has_table = self.make_sections(name, options.key_order.name());
        for key in FAMILY.iter().filter(|key| has_table || key.place == Place::Family) {
            let value = (key.show)(options);
            let is_said =
                stored.as_ref().is_some_and(|stored| (key.show)(stored) == value || key.name == OF_ONE_OPENING);
            self.say(name, key.place, key.name, value, is_said);
        }
        if stored.is_some_and(|stored| stored.write_buffer_size != options.write_buffer_size) {
            // RocksDB derived it from the old size. One block larger than the whole buffer is more than it can bear.
            let title = family_title(name);
            let section = self.sections.iter_mut().find(|section| section.title == title);
            if let Some(section) = section.filter(|section| section.get(ARENA_BLOCK_SIZE).is_some()) {
                section.set(ARENA_BLOCK_SIZE, DERIVED.to_owned());
            }
        }
        if has_table {
            let value = database.cache_index_and_filter_blocks.unwrap_or(false).to_string();
            self.say(name, Place::Table, CACHE_INDEXES, value, false);
        }
    }

    /// Puts a value into a section of a family, unless there is one and it means the same.
    fn say(&mut self, name: &str, place: Place, key: &str, value: String, is_said: bool) {
        let title = if place == Place::Table { table_title(name) } else { family_title(name) };
        let Some(section) = self.sections.iter_mut().find(|section| section.title == title) else { return };
        match section.get(key) {
            Some(_) if is_said => {}
            Some(old) if value.starts_with('{') => section.set(key, nested::carried_on(old, &value)),
            _ => section.set(key, value),
        }
    }

    /// Makes the sections of a family that has none; false if its tables are of a kind that has no section here.
    fn make_sections(&mut self, name: &str, comparator: &str) -> bool {
        let title = family_title(name);
        let at = match self.sections.iter().position(|section| section.title == title) {
            Some(at) => at,
            None => {
                // The default family must come before every other one.
                let first = self.sections.iter().position(|s| s.title.starts_with("CFOptions"));
                let at = first.filter(|_| name == DEFAULT_FAMILY).unwrap_or(self.sections.len());
                let entries = vec![("comparator".to_owned(), escape(comparator))];
                self.sections.insert(at, Section { title, entries });
                at
            }
        };
        let kind = self.sections[at].get("table_factory").unwrap_or(BLOCK_BASED);
        if kind != BLOCK_BASED {
            return false;
        }
        let title = table_title(name);
        if self.section(&title).is_none() {
            self.sections.insert(at + 1, Section { title, entries: Vec::new() });
        }
        true
    }

    /// Says what the options of the database are, as [`OptionsFile::say_family`] does.
    pub(crate) fn say_database(&mut self, options: &Options) {
        let mut stored = Options::default();
        let is_readable = self.database_options(&mut stored).is_ok();
        if self.section(DATABASE_TITLE).is_none() {
            let at = self.sections.len().min(1);
            self.sections.insert(at, Section { title: DATABASE_TITLE.to_owned(), entries: Vec::new() });
        }
        let Some(section) = self.sections.iter_mut().find(|section| section.title == DATABASE_TITLE) else { return };
        for key in DATABASE {
            let value = (key.show)(options);
            if !is_readable || section.get(key.name).is_none() || (key.show)(&stored) != value {
                section.set(key.name, value);
            }
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

    /// What the file says of a family, in values that this version takes; `None` if it does not say anything of it.
    ///
    /// # Errors
    /// `Corruption` naming a key whose value no RocksDB writes; `NotSupported`.
    pub(crate) fn family_options(&self, name: &str) -> Result<Option<FamilyOptions>> {
        let Some(family) = self.family(name) else { return Ok(None) };
        let table = self.section(&table_title(name));
        let mut options = FamilyOptions::default();
        for key in FAMILY {
            let section = if key.place == Place::Table { table } else { Some(family) };
            if let Some(value) = section.and_then(|section| section.get(key.name)) {
                (key.take)(&mut options, value).map_err(|unfit| {
                    let place = format!("family {name}: {}={value}", key.name);
                    unfit_value(&place, unfit)
                })?;
            }
        }
        options.fit();
        Ok(Some(options))
    }

    /// Puts what the file says of the database into `options`, in values that this version takes.
    ///
    /// # Errors
    /// As [`OptionsFile::family_options`].
    pub(crate) fn database_options(&self, options: &mut Options) -> Result<()> {
        let section = self.section(DATABASE_TITLE);
        for key in DATABASE {
            if let Some(value) = section.and_then(|section| section.get(key.name)) {
                let place = || format!("{}={value}", key.name);
                (key.take)(options, value).map_err(|unfit| unfit_value(&place(), unfit))?;
            }
        }
        let table = self.section(&table_title(DEFAULT_FAMILY));
        let cache_indexes = table.and_then(|table| table.get(CACHE_INDEXES));
        options.cache_index_and_filter_blocks = cache_indexes.map(|said| matches!(said, "true" | "1"));
        options.fit();
        Ok(())
    }

    /// The comparator that the file names for a family, if that cannot be `own`. A name may be there as it is, escaped, or as
    /// the text leaves it that RocksDB writes as it is: without what looks like a comment, or like a blank at an end.
    pub(crate) fn other_comparator(&self, family: &str, own: &str) -> Option<&str> {
        let named = self.family(family)?.get("comparator")?;
        let left = strip_comment(own.lines().next().unwrap_or_default()).trim();
        let is_own = named == own || unescape(named) == own || unescape(named) == own.trim() || named == left;
        (!is_own).then_some(named)
    }
}

/// Refuses, by name, a database whose data lies in more than its own directory.
///
/// RocksDB before 7 wrote the database's own path into `wal_dir`, and that path is stale once the directory was moved;
/// so a foreign `wal_dir` is believed only if no WAL lies in `dir`, or if there are WALs over there.
pub(crate) fn refuse_foreign_paths(file: &OptionsFile, fs: &dyn Fs, dir: &std::path::Path) -> Result<()> {
    if let Some(elsewhere) = foreign_wal_dir(file, fs, dir) {
        return refuse_foreign("wal_dir", &elsewhere.to_string_lossy(), dir);
    }
    refuse_foreign_tables(file, dir)
}

fn refuse_foreign(key: &str, value: &str, dir: &std::path::Path) -> Result<()> {
    let dir = dir.display();
    let message = format!("{key}={value}: the database keeps files outside of {dir}, which this version cannot follow");
    Err(Error::new(crate::error::ErrorKind::NotSupported, message))
}

/// Where the write-ahead logs are, if that is not the database's own directory.
pub(crate) fn foreign_wal_dir(file: &OptionsFile, fs: &dyn Fs, dir: &std::path::Path) -> Option<std::path::PathBuf> {
    let value = file.section("DBOptions")?.get("wal_dir").filter(|value| !value.is_empty())?;
    let foreign = std::path::Path::new(value);
    let is_believed = !same_directory(foreign, dir) && (has_wals(fs, foreign) || !has_wals(fs, dir));
    is_believed.then(|| foreign.to_owned())
}

/// Refuses, by name, a database whose tables lie in more than its own directory.
pub(crate) fn refuse_foreign_tables(file: &OptionsFile, dir: &std::path::Path) -> Result<()> {
    for section in &file.sections {
        for key in ["db_paths", "cf_paths"] {
            if let Some(value) = section.get(key) {
                let paths = value.matches("path=").count();
                let own = value.is_empty() || value == "{}" || (paths == 1 && value.contains(&*dir.to_string_lossy()));
                if !own {
                    return refuse_foreign(key, value, dir);
                }
            }
        }
    }
    Ok(())
}

fn unfit_value(place: &str, unfit: Unfit) -> Error {
    match unfit {
        Unfit::Nonsense => {
            Error::corrupt(CorruptionKind::Malformed, format!("{place} is not a value that makes sense"))
        }
        Unfit::NotSupported(why) => Error::new(ErrorKind::NotSupported, format!("{place}; {why}")),
    }
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
    use crate::format::compression::Compression;
    use crate::options::CompactionStyle;

    const REAL: &str = "# comment\n[Version]\n  rocksdb_version=9.8.4\n  options_file_version=1.1\n\n[DBOptions]\n  \
        new_key_of_the_future=abc\n  wal_dir=\n\n[CFOptions \"default\"]\n  comparator=leveldb.BytewiseComparator\n  \
        num_levels=4\n  compaction_style=kCompactionStyleUniversal\n  sep=a\\#b # note\n\
        [TableOptions/BlockBasedTable \"default\"]\n  filter_policy=bloomfilter:10:false\n";

    #[test]
    fn unknown_sections_and_keys_survive_a_round_trip() {
        let mut file = OptionsFile::parse(REAL).expect("valid");
        assert_eq!(file.family("default").and_then(|s| s.get("sep")), Some("a\\#b"));
        file.say_family("logs", &FamilyOptions::default(), &Options::default());
        let again = OptionsFile::parse(&file.to_text()).expect("own text is valid");
        assert_eq!(again, file);
        assert_eq!(again.section("DBOptions").and_then(|s| s.get("new_key_of_the_future")), Some("abc"));
        let options = again.family_options("default").expect("known values").expect("there");
        assert_eq!((options.num_levels, options.compaction_style), (4, CompactionStyle::Universal));
        assert_eq!(options.bloom_bits_per_key, Some(10.0));
        for (value, kind) in
            [("65", ErrorKind::NotSupported), ("0", ErrorKind::Corruption), ("x", ErrorKind::Corruption)]
        {
            let file =
                OptionsFile::parse(&REAL.replace("num_levels=4", &format!("num_levels={value}"))).expect("valid");
            let error = file.family_options("default").expect_err("not for us");
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains("num_levels"), "{error}");
        }
    }

    #[test]
    fn what_means_the_same_keeps_its_text_and_everything_else_is_said() {
        let text = REAL
            .replace("bloomfilter:10:false", "{id=ribbonfilter:10:2;bloom_before_level=2;}\n  format_version=9")
            .replace("num_levels=4", "num_levels=4\n  write_buffer_size=64m\n  level0_stop_writes_trigger=2");
        let mut file = OptionsFile::parse(&text).expect("valid");
        let mut options = file.family_options("default").expect("known values").expect("there");
        assert_eq!((options.format_version, options.write_buffer_size), (7, 64 << 20));
        assert_eq!((options.bloom_bits_per_key, options.bloom_before_level), (Some(10.0), Some(2)));
        assert_eq!(options.level0_stop_writes_trigger, 20, "in order");
        options.compression = Compression::None;
        options.block_size = 8192;
        file.say_family("default", &options, &Options::default());
        file.say_database(&Options::default());
        let (family, table) = (file.family("default").expect("there"), &file.sections[3]);
        assert_eq!(family.get("write_buffer_size"), Some("64m"));
        assert_eq!(family.get("level0_stop_writes_trigger"), Some("2"));
        assert_eq!(family.get("compression"), Some("kNoCompression"));
        assert_eq!(table.get("filter_policy"), Some("{id=ribbonfilter:10:2;bloom_before_level=2;}"));
        assert_eq!((table.get("format_version"), table.get("block_size")), (Some("9"), Some("8192")));
        assert_eq!(file.section("DBOptions").and_then(|section| section.get("max_background_jobs")), Some("2"));
        let again = OptionsFile::parse(&file.to_text()).expect("own text is valid");
        assert_eq!(again, file);
        let mut unchanged = again.clone();
        unchanged.say_family("default", &options, &Options::default());
        assert_eq!(unchanged, file, "saying it again changes nothing");
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        for (text, line) in [("x=1", "line 1"), ("[Version\n", "line 1"), ("[Version]\nfoo\n", "line 2")] {
            assert!(OptionsFile::parse(text).expect_err("bad").to_string().contains(line), "{text}");
        }
        assert!(OptionsFile::parse("[DBOptions]\n").is_err());
    }
}
