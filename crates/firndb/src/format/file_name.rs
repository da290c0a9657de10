//! Names of the files of a database directory. Names are parsed to numbers and made from numbers, never joined as read.
//!
//! A name with a number that no database gives is no name of ours: the file is left alone, like any other that is foreign.
//!
//! Source: RocksDB `file/filename.h`. The numeric part has at least six digits when written, any run when read.

use super::key::FileNumber;
use super::limits::FILE_NUMBER_MAX;

/// What a file of the directory is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileKind {
    Wal,
    Table,
    Manifest,
    Options,
    Temp,
    Blob,
    Current,
    Identity,
    Lock,
    InfoLog,
}

pub(crate) const CURRENT: &str = "CURRENT";
pub(crate) const IDENTITY: &str = "IDENTITY";
pub(crate) const LOCK: &str = "LOCK";
/// The directory for files that belong to nothing but may be worth something; RocksDB's repair calls it the same.
pub(crate) const LOST: &str = "lost";

pub(crate) fn wal(number: FileNumber) -> String {
    format!("{number}.log")
}

pub(crate) fn table(number: FileNumber) -> String {
    format!("{number}.sst")
}

/// The suffix that LevelDB and the first RocksDBs gave to tables; only ever read.
pub(crate) fn old_table(number: FileNumber) -> String {
    format!("{number}.ldb")
}

pub(crate) fn blob(number: FileNumber) -> String {
    format!("{number}.blob")
}

pub(crate) fn manifest(number: FileNumber) -> String {
    format!("MANIFEST-{number}")
}

/// What CURRENT says while the MANIFEST `number` is in use.
pub(crate) fn current(number: FileNumber) -> String {
    format!("{}\n", manifest(number))
}

pub(crate) fn options(number: FileNumber) -> String {
    format!("OPTIONS-{number}")
}

pub(crate) fn temp(number: FileNumber) -> String {
    format!("{number}.dbtmp")
}

pub(crate) fn options_temp(number: FileNumber) -> String {
    format!("OPTIONS-{number}.dbtmp")
}

/// What `name` is and its number (0 for those without); `None` for a name that is not of the database.
pub(crate) fn parse(name: &str) -> Option<(FileKind, FileNumber)> {
    let fixed = match name {
        CURRENT => Some(FileKind::Current),
        IDENTITY => Some(FileKind::Identity),
        LOCK => Some(FileKind::Lock),
        "LOG" => Some(FileKind::InfoLog),
        _ => None,
    };
    if let Some(kind) = fixed {
        return Some((kind, FileNumber(0)));
    }
    if let Some(rest) = name.strip_prefix("LOG.old.") {
        return Some((FileKind::InfoLog, number(rest)?));
    }
    if let Some(rest) = name.strip_prefix("MANIFEST-") {
        return Some((FileKind::Manifest, number(rest)?));
    }
    if let Some(rest) = name.strip_prefix("OPTIONS-") {
        return match rest.strip_suffix(".dbtmp") {
            Some(rest) => Some((FileKind::Temp, number(rest)?)),
            None => Some((FileKind::Options, number(rest)?)),
        };
    }
    let (digits, suffix) = name.split_once('.')?;
    let kind = match suffix {
        "log" => FileKind::Wal,
        "sst" | "ldb" => FileKind::Table,
        "blob" => FileKind::Blob,
        "dbtmp" => FileKind::Temp,
        _ => return None,
    };
    Some((kind, number(digits)?))
}

fn number(digits: &str) -> Option<FileNumber> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number <= FILE_NUMBER_MAX).map(FileNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_foreign_names_are_not_ours() {
        let n = FileNumber(12);
        assert_eq!(wal(n), "000012.log");
        for (name, kind) in [
            (wal(n), FileKind::Wal),
            (table(n), FileKind::Table),
            (old_table(n), FileKind::Table),
            (manifest(n), FileKind::Manifest),
            (options(n), FileKind::Options),
            (options_temp(n), FileKind::Temp),
            (temp(n), FileKind::Temp),
        ] {
            assert_eq!(parse(&name), Some((kind, n)), "{name}");
        }
        for name in [
            "",
            "foo",
            "12",
            "MANIFEST-",
            "MANIFEST-1x",
            "a.sst",
            "1.sst.bak",
            "../1.sst",
            "+1.sst",
            "99999999999999999999.sst",
            "18446744073709551615.sst",
            "18446744073709551615.log",
            "MANIFEST-9223372036854775807",
            "OPTIONS-4611686018427387904",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
