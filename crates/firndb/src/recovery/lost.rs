//! Tables that no family has, and that hold writes which nothing else holds.
//!
//! Such a table is what stays of a flush when MANIFEST lost the edit that named it: the log of its writes is gone, and so
//! the table is the only copy. The same table is left by a crash between its sync and its edit, if its writes were in no
//! log, or in a piece of one that did not survive. It is never removed, but moved into the directory [`LOST`].
//!
//! An orphan is worthless if there is one of these proofs:
//! 1. The file has no footer: nobody finished it, so no edit ever named it.
//! 2. MANIFEST named the table once: the edit that removed it is durable.
//! 3. Its number is below its family's first needed log: a memtable that is not in a table yet has its log from there on,
//!    and its table gets a number after that.
//! 4. Its family was dropped.
//! 5. It says that all its entries were in a log, as tables that we wrote do unless there were writes without one, and
//!    the logs have everything that tables do not. That is so after all but strange crashes.
//! 6. Each of its sequence numbers was replayed from a log, or lies in a table that MANIFEST named for its family, as
//!    everything in an unfinished compaction does; tables of memtables come in the order of their numbers. Zero is what a
//!    compaction gives to old entries. All of the table is read for this.
//!
//! Anything that cannot be read to its end is kept: damage proves nothing. What was kept may still be worthless: a MANIFEST
//! that a crash cut off before its first edit does not know what the one before it had named.
//!
//! No property says which sequence numbers a table holds, so that its entries are read.
//!
//! Source: the name of the directory is that of RocksDB's `RepairDB`.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, LOST};
use crate::format::key::{ColumnFamilyId, FileNumber, ParsedKey, SequenceNumber};
use crate::format::sequence_ranges::SequenceRanges;
use crate::fs::Fs;
use crate::iter::InternalIterator;
use crate::metrics::Statistics;
use crate::sync::Arc;
use crate::table::properties::TableProperties;
use crate::table::reader::{TableOpenContext, TableReadOptions, TableReader, properties_of};
use crate::version::set::Recovered;

use super::{DroppedLogPiece, Replayed};

/// Bytes that a scan reads at once.
const READ_AHEAD: usize = 1 << 20;
/// So many files of one name may be in the directory.
const SAME_NAME_MAX: u32 = 1000;

/// A table that was in no family when the database was opened for writing, and holds, or may hold, writes that nothing
/// else holds. It was moved out of the way.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAsideTable {
    /// Its number, which no other file gets.
    pub table: FileNumber,
    /// Where it is now.
    pub path: PathBuf,
    /// The first and the last sequence number of what nothing else holds; `None` if the table cannot be read.
    pub sequences: Option<RangeInclusive<SequenceNumber>>,
    /// Why it was kept.
    pub reason: String,
}

/// Why an orphan is not worthless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) sequences: Option<RangeInclusive<SequenceNumber>>,
    pub(crate) reason: String,
    /// Something was there that is not any more; else it may be what a crash left between a table and its edit.
    pub(crate) is_damage: bool,
}

/// What an orphan is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    recovered: &'a Recovered,
    replayed: &'a Replayed,
    /// Nothing that ever was in a log is in neither a log nor a table of a version.
    logs_have_all: bool,
}

impl<'a> Evidence<'a> {
    /// `logs` are those that are needed, ascending.
    ///
    /// They have all that tables do not if the oldest that MANIFEST needs is there, and all are whole but for the end of
    /// the last: logs go in their order, and only after an edit that needs them no longer, so none has gone, and no such
    /// edit was lost. RocksDB does not always make a log with just the number that it says is needed.
    pub(crate) fn new(recovered: &'a Recovered, logs: &[FileNumber], replayed: &'a Replayed) -> Evidence<'a> {
        let is_end = |piece: &DroppedLogPiece| piece.is_cut_off && Some(&piece.log) == logs.last();
        let is_first_there = logs.first() == Some(&recovered.first_needed_log());
        let logs_have_all = is_first_there && replayed.report.dropped.iter().all(is_end);
        Evidence { recovered, replayed, logs_have_all }
    }
}

/// True for an orphan whose number alone says that it is worthless.
pub(crate) fn is_past(number: FileNumber, recovered: &Recovered) -> bool {
    let first_needed = recovered.families.iter().map(|family| family.log_number).min().unwrap_or_default();
    recovered.past.tables.contains(&number) || number < first_needed
}

/// Looks at the orphan `number`, which is at `path`: `None` if it is worthless.
///
/// # Errors
/// `Io`: the file system does not let us look.
pub(crate) fn lost_writes(
    fs: &dyn Fs,
    path: &Path,
    number: FileNumber,
    evidence: Evidence<'_>,
) -> Result<Option<Lost>> {
    if is_past(number, evidence.recovered) {
        return Ok(None);
    }
    let mut found = Unknown::default();
    let is_worthless = scan(fs, path, number, evidence, &mut found);
    let reason = match (is_worthless, found.sequences()) {
        (Ok(true), _) | (Ok(false), None) => return Ok(None),
        (Ok(false), Some(_)) if found.is_ingested => "an ingested table that MANIFEST does not know of".to_owned(),
        (Ok(false), Some(sequences)) => format!(
            "its writes {} to {} are in no log and in no other table; {} is the last that those know of",
            sequences.start(),
            sequences.end(),
            evidence.replayed.last_sequence
        ),
        (Err(error), _) if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotSupported) => {
            format!("it cannot be read, and may hold writes that are nowhere else: {error}")
        }
        (Err(error), _) => return Err(error),
    };
    let sequences = found.sequences().filter(|_| !found.is_ingested);
    Ok(Some(Lost { sequences, reason, is_damage: !evidence.logs_have_all }))
}

/// What a table holds that nothing else does.
#[derive(Debug, Default)]
struct Unknown {
    smallest: Option<SequenceNumber>,
    largest: Option<SequenceNumber>,
    is_ingested: bool,
}

impl Unknown {
    fn push(&mut self, sequence: SequenceNumber) {
        self.smallest = Some(self.smallest.map_or(sequence, |smallest| smallest.min(sequence)));
        self.largest = self.largest.max(Some(sequence));
    }

    fn sequences(&self) -> Option<RangeInclusive<SequenceNumber>> {
        Some(self.smallest?..=self.largest?)
    }
}

/// Reads the table, and adds what nothing else holds to `unknown`; true if it is worthless whatever it holds.
fn scan(
    fs: &dyn Fs,
    path: &Path,
    number: FileNumber,
    Evidence { recovered, replayed, logs_have_all }: Evidence<'_>,
    unknown: &mut Unknown,
) -> Result<bool> {
    let file = fs.open_random(path)?;
    let size = file.size()?;
    let Some(properties) = properties_of(&*file, path, size)? else { return Ok(true) };
    let id = ColumnFamilyId(properties.family_id);
    let family = recovered.families.iter().find(|family| family.id == id);
    let is_past = match family {
        Some(family) => number < family.log_number,
        None => id <= recovered.past.max_family,
    };
    if is_past || (logs_have_all && properties.is_all_logged) {
        return Ok(true);
    }
    let context = TableOpenContext {
        path: path.to_owned(),
        order: family.map_or_else(|| built_in_order(&properties), |family| family.order.clone()),
        cache: BlockCache::new(0),
        statistics: Arc::new(Statistics::default()),
        largest_seq: SequenceNumber(properties.external_sequence.unwrap_or(0)),
        unique_id: None,
        verify_checksums: true,
        bounds: None,
    };
    let table = TableReader::open(file, size, context)?;
    unknown.is_ingested = properties.external_version.is_some() && properties.external_sequence.unwrap_or(0) == 0;
    let none = SequenceRanges::default();
    let in_tables = recovered.past.sequences.get(&id).unwrap_or(&none);
    let is_ingested = unknown.is_ingested;
    let mut look_at = |sequence| {
        let is_known = match sequence {
            SequenceNumber::ZERO => !is_ingested,
            _ => replayed.sequences.contains(sequence) || in_tables.contains(sequence),
        };
        if !is_known {
            unknown.push(sequence);
        }
    };
    for tombstone in table.range_tombstones().iter().flat_map(|tombstones| tombstones.iter()) {
        look_at(tombstone.sequence);
    }
    let mut iter = table.iter(TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: READ_AHEAD });
    iter.seek_to_first()?;
    while iter.valid() {
        look_at(ParsedKey::parse(iter.key()).map_err(|error| error.in_file(path, None))?.sequence);
        iter.next()?;
    }
    Ok(false)
}

fn built_in_order(properties: &TableProperties) -> KeyOrder {
    let orders = [KeyOrder::Bytewise, KeyOrder::ReverseBytewise];
    orders.into_iter().find(|order| order.name() == properties.comparator).unwrap_or(KeyOrder::Bytewise)
}

/// Moves a table into [`LOST`], durably, and over nothing that is there. Returns where it is then.
///
/// Two names for a moment, since a file that is renamed from one directory into another may be in neither after a power
/// loss. If there was one in between, the next open gives it a third name.
pub(crate) fn set_aside(fs: &dyn Fs, dir: &Path, path: &Path) -> Result<PathBuf> {
    let lost = dir.join(LOST);
    fs.create_dir_all(&lost)?;
    let target = free_name(fs, &lost, path)?;
    match fs.hard_link(path, &target) {
        Ok(()) => {
            fs.sync_dir(&lost)?;
            fs.remove_file(path)?;
        }
        // Not every file system has second names; Linux says EPERM then.
        Err(error) if has_no_links(&error) => {
            fs.rename(path, &target)?;
            fs.sync_dir(&lost)?;
        }
        Err(error) => return Err(error),
    }
    fs.sync_dir(dir)?;
    Ok(target)
}

fn has_no_links(error: &Error) -> bool {
    let kinds =
        [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::Unsupported, std::io::ErrorKind::TooManyLinks];
    error.io().is_some_and(|io| kinds.contains(&io.kind))
}

/// `000012.sst`, or `000012.2.sst` if there is one already, and so on.
fn free_name(fs: &dyn Fs, lost: &Path, path: &Path) -> Result<PathBuf> {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (stem, ending) = (part(path.file_stem()), part(path.extension()));
    for copy in 1..SAME_NAME_MAX {
        let name = if copy == 1 { format!("{stem}.{ending}") } else { format!("{stem}.{copy}.{ending}") };
        let target = lost.join(name);
        if !fs.exists(&target)? {
            return Ok(target);
        }
    }
    let what = format!("{} has too many files called {stem}.{ending}", lost.display());
    Err(Error::new(ErrorKind::Limit, what))
}

/// The numbers of the files in [`LOST`]: taken.
pub(crate) fn numbers_in_lost(fs: &dyn Fs, dir: &Path) -> Result<Vec<FileNumber>> {
    match fs.list(&dir.join(LOST)) {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        // Somebody's file.
        Err(error) if error.io().is_some_and(|io| io.kind == std::io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => {
            Ok(entries.iter().filter_map(|entry| file_name::parse(&entry.name)).map(|(_, number)| number).collect())
        }
    }
}
