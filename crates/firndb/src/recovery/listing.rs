//! What lies in a directory, by names; and which of it recovery has to read.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::version::set::Recovered;

/// Kinds and numbers of the files of a directory.
#[derive(Debug)]
pub(crate) struct Listing(pub(crate) Vec<(FileKind, FileNumber)>);

impl Listing {
    pub(crate) fn of(fs: &dyn Fs, dir: &Path) -> Result<Listing> {
        let entries = fs.list(dir)?;
        Ok(Listing(entries.iter().filter(|e| !e.is_dir).filter_map(|entry| file_name::parse(&entry.name)).collect()))
    }

    /// The same, but the logs are those of `wal_dir`.
    pub(crate) fn with_logs_in(fs: &dyn Fs, dir: &Path, wal_dir: &Path) -> Result<Listing> {
        let mut own = Listing::of(fs, dir)?;
        if wal_dir != dir {
            own.0.retain(|(kind, _)| *kind != FileKind::Wal);
            own.0.extend(Listing::of(fs, wal_dir)?.0.into_iter().filter(|(kind, _)| *kind == FileKind::Wal));
        }
        Ok(own)
    }

    pub(crate) fn logs(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Wal)
    }

    pub(crate) fn tables(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Table)
    }

    fn ascending(&self, wanted: FileKind) -> Vec<FileNumber> {
        let mut found: Vec<_> = self.0.iter().filter(|(kind, _)| *kind == wanted).map(|(_, number)| *number).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// Where a table is: the first RocksDBs called it otherwise.
pub(crate) fn table_path(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<PathBuf> {
    let path = dir.join(file_name::table(number));
    let old = dir.join(file_name::old_table(number));
    Ok(if !fs.exists(&path)? && fs.exists(&old)? { old } else { path })
}

/// The logs that may hold what is in no table.
pub(crate) fn needed_logs(recovered: &Recovered, logs: &[FileNumber]) -> Vec<FileNumber> {
    let needed = recovered.first_needed_log();
    logs.iter().copied().filter(|log| *log >= needed).collect()
}

/// The last sequence number that is known without logs.
pub(crate) fn last_in_tables(recovered: &Recovered) -> SequenceNumber {
    // RocksDB notes the number with every edit; a table that says more is believed.
    let in_tables = recovered.families.iter().flat_map(|family| family.version.files());
    in_tables.map(|(_, file)| file.meta.largest_seq).fold(recovered.last_sequence, SequenceNumber::max)
}
