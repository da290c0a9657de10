//! Which releases of RocksDB can open a directory as it is now, and what keeps others from it.
//!
//! Flow: [`compatibility`] -> MANIFEST, the footer and the properties of each table, the records of each log that is needed, the
//! header of nothing else -> a [`Compatibility`]: what a release must know, of which file. Entries of tables are not read.
//!
//! What may keep a release away, and since when releases know it, is in one table ([`Feature`]). Where it is not known in which
//! release a feature came, the first one stands there that was seen to have it, so that a release is never promised too much.
//!
//! Source: RocksDB's release notes; releases 7.8.3, 9.8.4 and 11.1.2, which the tests ask.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::ChecksumType;
use crate::format::file_name;
use crate::format::key::{FileNumber, ValueKind};
use crate::fs::Fs;
use crate::options::Options;
use crate::recovery::listing::{Listing, needed_logs, table_path};
use crate::version::set::Recovered;
use crate::wal::reader::{LogReader, ReadOutcome};
use crate::write::batch::{Record, WriteBatch};

use super::table::OfflineTable;
use super::verify::recover;

/// A release of RocksDB, by major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Something that a release must know to open a directory.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What it is.
    pub feature: &'static str,
    /// Where it was found.
    pub file: PathBuf,
    /// The first release that knows it.
    pub since: Release,
    /// The first release that does not know it any more.
    pub until: Option<Release>,
}

impl Requirement {
    /// True if `release` knows it.
    pub fn is_met_by(&self, release: Release) -> bool {
        self.since <= release && self.until.is_none_or(|until| release < until)
    }
}

/// What is known of who can open a directory.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct Compatibility {
    /// What a release must know, in the order in which it was met: of MANIFEST, tables, logs.
    pub requirements: Vec<Requirement>,
    /// What depends on how RocksDB was built, or on what the program gives it: codecs, comparators, merge operators.
    pub conditions: BTreeSet<String>,
    /// Files that could not be judged, and why.
    pub not_judged: Vec<Error>,
}

impl Compatibility {
    /// True if nothing that was found keeps `release` from opening the directory.
    pub fn opens(&self, release: Release) -> bool {
        self.obstacles(release).next().is_none()
    }

    /// What keeps `release` from opening the directory.
    pub fn obstacles(&self, release: Release) -> impl Iterator<Item = &Requirement> {
        self.requirements.iter().filter(move |requirement| !requirement.is_met_by(release))
    }

    /// The first release that knows everything that was found.
    pub fn since(&self) -> Release {
        self.requirements.iter().map(|requirement| requirement.since).max().unwrap_or(OLDEST)
    }

    /// The first release that does not know something any more.
    pub fn until(&self) -> Option<Release> {
        self.requirements.iter().filter_map(|requirement| requirement.until).min()
    }
}

const fn release(major: u32, minor: u32) -> Release {
    Release { major, minor }
}

/// Nothing is asked of older ones: what MANIFEST says of a table was different.
const OLDEST: Release = release(5, 0);

/// What a release may not know: its name, and the releases that do.
type Feature = (&'static str, Release, Option<Release>);

const OLD_TABLE: Feature = ("format_version 0 or 1 of tables", OLDEST, Some(release(11, 0)));
const TABLES_3: Feature = ("format_version 3 of tables", release(5, 15), None);
const TABLES_4: Feature = ("format_version 4 of tables", release(5, 16), None);
const TABLES_5: Feature = ("format_version 5 of tables", release(6, 6), None);
const TABLES_6: Feature = ("format_version 6 of tables", release(8, 6), None);
const TABLES_7: Feature = ("format_version 7 of tables", release(10, 4), None);
const XXH3: Feature = ("XXH3 checksums of blocks", release(6, 27), None);
const FIRST_KEYS: Feature = ("first keys in the index", release(6, 3), None);
const APART: Feature = ("values apart from keys in data blocks", release(11, 1), None);
const UNIFORM: Feature = ("data blocks marked as uniform", release(11, 1), None);
const DECOUPLED: Feature = ("filter partitions apart from those of the index", release(9, 8), None);
const BLOB_FILES: Feature = ("blob files", release(6, 18), None);
const MEMTABLE_TIMES: Feature = ("user-defined timestamps that are not persisted", release(8, 5), None);
const COMPRESSED_LOG: Feature = ("a compressed log", release(7, 4), None);
const LOG_TIMES: Feature = ("sizes of user-defined timestamps in a log", release(8, 1), None);
const LOG_SKIPPED: Feature = ("log records that may be skipped", release(9, 8), None);
const ENTITIES: Feature = ("wide-column entities in a log", release(7, 8), None);
const TIMED_PUTS: Feature = ("timed puts in a log", release(9, 8), None);
const TRANSACTIONS: Feature = ("two-phase transactions in a log", release(5, 0), None);

/// What is on the disk in `dir`, as far as it decides which releases of RocksDB can open it. Takes no lock and writes nothing.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-compat-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "value")?;
/// db.flush()?;
/// db.close()?;
/// let found = firndb::compatibility(&dir, &firndb::Options::default())?;
/// assert!(found.opens(firndb::Release { major: 7, minor: 8 }));
/// // Its tables are of format_version 5.
/// assert!(!found.opens(firndb::Release { major: 6, minor: 0 }));
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
///
/// # Errors
/// `NoSuchDatabase`; `Corruption` of MANIFEST; `Io`.
pub fn compatibility(dir: impl AsRef<Path>, options: &Options) -> Result<Compatibility> {
    let fs = &*options.fs;
    let dir = &*fs.canonical(dir.as_ref())?;
    let recovered = recover(dir, options)?;
    let mut found = Compatibility::default();
    judge_manifest(dir, &recovered, &mut found);
    for family in &recovered.families {
        for (_, file) in family.version.files() {
            let judged = OfflineTable::of(fs, dir, &family.order, &file.meta)
                .map(|table| judge_table(table_path(fs, dir, file.number()), &table, &mut found));
            match judged {
                Err(error) => found.not_judged.push(error),
                Ok(judged) => judged?,
            }
        }
    }
    for log in needed_logs(&recovered, &Listing::of(fs, dir)?.logs()) {
        match judge_log(fs, dir, log, &mut found) {
            // A writer beside us.
            Err(error) if error.is_not_found() => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::Corruption) => {
                found.not_judged.push(error);
            }
            other => other?,
        }
    }
    Ok(found)
}

impl Compatibility {
    fn add(&mut self, (feature, since, until): Feature, file: &Path) {
        if !self.requirements.iter().rev().any(|known| known.feature == feature && known.file == file) {
            self.requirements.push(Requirement { feature, file: file.to_owned(), since, until });
        }
    }
}

fn judge_manifest(dir: &Path, recovered: &Recovered, found: &mut Compatibility) {
    let path = dir.join(file_name::manifest(recovered.manifest_number));
    for family in &recovered.families {
        if !family.version.blobs.is_empty() {
            found.add(BLOB_FILES, &path);
        }
        let order = family.order.name();
        if !["leveldb.BytewiseComparator", "rocksdb.ReverseBytewiseComparator"].contains(&order) {
            found.conditions.insert(format!("column family {:?} needs the comparator {order}", family.name));
        }
        let deepest = family.version.files().map(|(level, _)| level).max().unwrap_or(0);
        if deepest >= 7 {
            found.conditions.insert(format!("column family {:?} needs num_levels={}", family.name, deepest + 1));
        }
    }
}

fn judge_table(path: Result<PathBuf>, table: &OfflineTable, found: &mut Compatibility) -> Result<()> {
    let path = &path?;
    let (properties, (format_version, checksum)) = (table.properties(), table.form());
    match format_version {
        0 | 1 => found.add(OLD_TABLE, path),
        2 => {}
        3 => found.add(TABLES_3, path),
        4 => found.add(TABLES_4, path),
        5 => found.add(TABLES_5, path),
        6 => found.add(TABLES_6, path),
        _ => found.add(TABLES_7, path),
    }
    let features = [
        (checksum == ChecksumType::Xxh3, XXH3),
        (properties.index_type == Some(3), FIRST_KEYS),
        (properties.has_values_apart, APART),
        (properties.uniform_blocks > 0, UNIFORM),
        (properties.has_decoupled_filters, DECOUPLED),
        (properties.has_times_in_memtables_only, MEMTABLE_TIMES),
    ];
    features.into_iter().filter(|(is_there, _)| *is_there).for_each(|(_, feature)| found.add(feature, path));
    for codec in codecs(properties.compression.as_deref().unwrap_or_default()) {
        found.conditions.insert(format!("the build has {codec}"));
    }
    if !properties.merge_operator.is_empty() && properties.merge_operands > 0 {
        found.conditions.insert(format!(
            "column family {:?} needs the merge operator {}",
            properties.family_name, properties.merge_operator
        ));
    }
    Ok(())
}

/// The codecs that the property of a table names.
fn codecs(property: &str) -> Vec<String> {
    let Some((_, rest)) = property.split_once(';') else {
        let is_codec = !["", "NoCompression"].contains(&property);
        return is_codec.then(|| property.to_owned()).into_iter().collect();
    };
    // format_version 7: two digits for each.
    let name = |digits: &[u8]| match digits {
        b"01" => "Snappy".to_owned(),
        b"02" => "Zlib".to_owned(),
        b"03" => "BZip2".to_owned(),
        b"04" => "LZ4".to_owned(),
        b"05" => "LZ4HC".to_owned(),
        b"06" => "Xpress".to_owned(),
        b"07" => "ZSTD".to_owned(),
        other => format!("codec {}", String::from_utf8_lossy(other)),
    };
    rest.trim_end_matches(';').as_bytes().chunks(2).map(name).collect()
}

fn judge_log(fs: &dyn Fs, dir: &Path, log: FileNumber, found: &mut Compatibility) -> Result<()> {
    let path = dir.join(file_name::wal(log));
    let mut reader = LogReader::new(fs.open_random(&path)?, path.clone(), log.0);
    let mut record = Vec::new();
    let mut features = Vec::new();
    loop {
        let outcome = reader.next(&mut record);
        features.extend(reader.is_compressed().then_some(COMPRESSED_LOG));
        features.extend(reader.has_timestamps().then_some(LOG_TIMES));
        features.extend(reader.has_skipped().then_some(LOG_SKIPPED));
        if let Ok(ReadOutcome::Record { .. }) = outcome {
            let read = WriteBatch::read(&record, &mut |part, _| {
                features.extend(match part {
                    Record::Transaction(_) => Some(TRANSACTIONS),
                    Record::Operation(operation) => match operation.kind {
                        ValueKind::WideColumnEntity => Some(ENTITIES),
                        ValueKind::ValuePreferredSeqno => Some(TIMED_PUTS),
                        _ => None,
                    },
                    Record::Nothing => None,
                });
                Ok(())
            });
            read.map_err(|error| error.in_file(&path, None))?;
        }
        features.drain(..).for_each(|feature| found.add(feature, &path));
        match outcome? {
            ReadOutcome::Record { .. } => {}
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_opens_what_it_knows_everything_of() {
        let mut found = Compatibility::default();
        assert_eq!((found.since(), found.until()), (OLDEST, None));
        for (feature, file) in [(TABLES_5, "1.sst"), (TABLES_6, "2.sst"), (TABLES_6, "2.sst"), (OLD_TABLE, "3.sst")] {
            found.add(feature, Path::new(file));
        }
        assert_eq!(found.requirements.len(), 3);
        assert_eq!((found.since(), found.until()), (release(8, 6), Some(release(11, 0))));
        let opens = |major, minor| found.opens(release(major, minor));
        assert!(!opens(7, 8) && !opens(8, 5) && opens(8, 6) && opens(10, 9) && !opens(11, 0));
        let why: Vec<_> = found.obstacles(release(11, 1)).map(|why| why.file.display().to_string()).collect();
        assert_eq!(why, ["3.sst"]);
    }

    #[test]
    fn codecs_are_named_whichever_way_a_table_says_them() {
        assert!(codecs("").is_empty() && codecs("NoCompression").is_empty() && codecs(";;").is_empty());
        assert_eq!(codecs("LZ4HC"), ["LZ4HC"]);
        assert_eq!(codecs("BuiltinV2;0407;"), ["LZ4", "ZSTD"]);
        assert_eq!(codecs("BuiltinV2;8A;"), ["codec 8A"]);
    }
}
