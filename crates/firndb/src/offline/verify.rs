//! Checks a whole directory against everything that the format promises, without opening it for anything else.
//!
//! Flow: [`verify_directory`] -> MANIFEST as recovery reads it -> every table that it names, OPTIONS, every log that it
//! needs -> the logs together, as recovery would replay them -> the tables that it does not name -> [`VerifyReport`].
//!
//! Invariants
//! 1. Damage does not end it: what is found is in the report, each with its file and place, and once.
//! 2. Damages are what opening would refuse or set aside; notes are what it would put in order.
//! 3. A writer beside us moves on: damage of a file that MANIFEST has let go of meanwhile is forgotten.
//!
//! Threads: the caller's, which waits only for a writer that seems to be between a table and its edit.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::blob;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind, LOST};
use crate::format::key::{FileNumber, SequenceNumber, user_key};
use crate::fs::Fs;
use crate::opening::options_text::OptionsText;
use crate::options::Options;
use crate::recovery::listing::{Listing, last_in_tables, needed_logs, table_path};
use crate::recovery::lost::{self, Evidence};
use crate::recovery::replay;
use crate::recovery::transactions::Purpose;
use crate::sync::Arc;
use crate::version::manifest::without_current;
use crate::version::set::{Recovered, VersionSet, VersionSetConfig};
use crate::wal::WalRecoveryMode;
use crate::write::batch::WriteBatch;

use super::log::{LogEnd, walk};
use super::table::OfflineTable;

/// How often a table that seems lost is looked at again, and how long after: a flush beside us is one sync away from its
/// edit.
const WRITER_TRIES: usize = 5;
const WRITER_WAIT: Duration = Duration::from_millis(40);

/// How far a verification is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes of tables read so far.
    pub bytes_done: u64,
    /// Bytes of all tables.
    pub bytes_total: u64,
}

/// What a verification found.
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Tables that were read in full.
    pub tables: u64,
    /// Their entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records of write-ahead logs.
    pub log_records: u64,
    /// Everything that is wrong, with its file and place.
    pub damages: Vec<Error>,
    /// What could not be checked, since this version cannot read it, each with its file. Nothing is known to be wrong with it.
    pub unchecked: Vec<Error>,
    /// What is not as it was left, but not wrong: files that nobody needs, a log that ends in a cut-off record.
    pub notes: Vec<String>,
}

/// Checks every file of a directory: checksums, order, overlaps, counts, filters, bounds, logs, MANIFEST against the
/// directory. Takes no lock and writes nothing. `progress` is called every now and then.
///
/// Damage does not end it: everything that is found is in the report.
///
/// # Errors
/// `NoSuchDatabase`; `Io`; `NotSupported` for a MANIFEST of a newer RocksDB. A MANIFEST that cannot be read is damage, and in
/// the report; a feature of a table or log that this version does not know is there as well, and everything else is checked.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-verify-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "value")?;
/// db.flush()?;
/// db.close()?;
/// let report = firndb::verify_directory(&dir, &firndb::Options::default(), &mut |_| {})?;
/// assert!(report.damages.is_empty());
/// assert_eq!(report.entries, 1);
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
pub fn verify_directory(
    dir: impl AsRef<Path>,
    options: &Options,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport> {
    let fs = &options.fs;
    let dir = &*fs.canonical(dir.as_ref())?;
    let mut report = VerifyReport::default();
    let files = match Listing::of(&**fs, dir) {
        Err(error) if error.is_not_found() => return Err(without_current(&**fs, dir)),
        other => other?.0,
    };
    let recovered = match recover(dir, options) {
        Ok(recovered) => recovered,
        Err(error) if error.kind() == ErrorKind::Corruption => {
            report.damages.push(error);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let total = recovered.families.iter().map(|family| family.version.bytes()).sum();
    let mut live = Vec::new();
    let mut orphans = Vec::new();
    for family in &recovered.families {
        let is_order_known = family.version.obstacle().is_none();
        report.unchecked.extend(family.version.obstacle().cloned());
        for (_, file) in family.version.files() {
            live.push(file.number());
            let before = report.bytes;
            let mut on_bytes = |done: u64| {
                report.bytes += done;
                progress(VerifyProgress { bytes_done: report.bytes, bytes_total: total });
            };
            let checked = OfflineTable::of(&**fs, dir, &family.order, &file.meta)
                .and_then(|table| table.check(&file.meta, is_order_known, &mut on_bytes));
            report.bytes = before + file.meta.size;
            match checked {
                Ok(entries) => {
                    report.tables += 1;
                    report.entries += entries;
                }
                Err(error) if error.kind() == ErrorKind::NotSupported => report.unchecked.push(error),
                Err(error) => report.damages.push(error),
            }
        }
        if is_order_known {
            verify_levels(dir, &family.version, &mut report);
        }
    }
    verify_blob_files(&**fs, &recovered, &files, dir, &mut report);
    verify_options(dir, options, &recovered, &mut report)?;
    let needed = recovered.first_needed_log();
    let mut first_records = BTreeMap::new();
    let is_live_blob = |number| recovered.families.iter().any(|family| family.version.blobs.contains(number));
    for (kind, number) in &files {
        match kind {
            FileKind::Blob if !is_live_blob(*number) => {
                report.notes.push(format!("{} is in no version", file_name::blob(*number)));
            }
            FileKind::Table if !live.contains(number) => {
                orphans.push(*number);
                report.notes.push(format!("{} is in no version", file_name::table(*number)));
            }
            FileKind::Wal if *number >= needed => {
                first_records.extend(verify_log(dir, options, *number, &mut report)?.map(|first| (*number, first)));
            }
            FileKind::Wal => report.notes.push(format!("{} is not needed any more", file_name::wal(*number))),
            FileKind::Manifest if *number != recovered.manifest_number => {
                report.notes.push(format!("{} is not the current one", file_name::manifest(*number)));
            }
            FileKind::Temp => report.notes.push(format!("a temporary file with number {number} was left behind")),
            _ => {}
        }
    }
    // As in a copy that left the logs out, or after a crash on open; whether there was something in it, nobody knows.
    match files.iter().filter(|(kind, number)| *kind == FileKind::Wal && *number >= needed).map(|file| file.1).min() {
        None => report.notes.push(format!("there is no log from {} on", file_name::wal(needed))),
        Some(first) if first > needed && !is_next(&recovered, first_records.values().next()) => {
            // After a recovery RocksDB asks for a log that it never makes.
            let nothing = if first_records.is_empty() { ", and is empty, as after an opening by RocksDB" } else { "" };
            report.notes.push(format!(
                "there is no {}, the first log that MANIFEST asks for; {} is the first there is{nothing}",
                file_name::wal(needed),
                file_name::wal(first)
            ));
        }
        Some(_) => {}
    }
    verify_history(dir, options, &recovered, &mut report)?;
    if recovered.is_cut_off {
        let path = dir.join(file_name::manifest(recovered.manifest_number));
        report.notes.push(format!("{}: the last edit is cut off", path.display()));
    }
    let set_aside = lost::numbers_in_lost(&**fs, dir)?.len();
    if set_aside > 0 {
        let tables = if set_aside == 1 { "table" } else { "tables" };
        report.notes.push(format!("{LOST}/ has {set_aside} {tables} whose writes may be nowhere else"));
    }
    if !report.damages.is_empty() {
        forget_what_moved(dir, options, &mut report);
    }
    verify_orphans(dir, options, &orphans, &mut report)?;
    Ok(report)
}

pub(super) fn recover(dir: &Path, options: &Options) -> Result<Recovered> {
    let config = VersionSetConfig {
        fs: Arc::clone(&options.fs),
        dir: dir.to_owned(),
        clock: Arc::clone(&options.clock),
        levels: options.family.num_levels as usize,
        manifest_bytes_max: options.max_manifest_file_size,
    };
    let orders = |family: &str, stored: &str| options.order_of(family, stored);
    VersionSet::recover(config, true, &orders).map(|(_, recovered)| recovered)
}

/// True if the first record of all logs that there are comes right after what is in tables: no log between the two had
/// anything. That is known if all families need the same logs, since tables then have what came before those, and nothing
/// else. What an edit says of the last number would not do: it may be of writes that are in logs only.
fn is_next(recovered: &Recovered, first_record: Option<&SequenceNumber>) -> bool {
    let needed = recovered.first_needed_log();
    let in_tables = recovered.families.iter().flat_map(|family| family.version.files());
    let last = in_tables.map(|(_, file)| file.meta.largest_seq).max().unwrap_or_default();
    let are_even = recovered.families.iter().all(|family| family.log_number <= needed);
    are_even && first_record.is_some_and(|first| first.0 <= last.0.saturating_add(1))
}

/// A writer beside us may have removed files between our look at MANIFEST and at them: only what MANIFEST still names
/// is damaged.
fn forget_what_moved(dir: &Path, options: &Options, report: &mut VerifyReport) {
    let Ok(now) = recover(dir, options) else { return };
    report.damages.retain(|damage| {
        let in_bytes = damage.corruption().and_then(|found| found.file.as_deref());
        let path = in_bytes.or_else(|| damage.io().map(|found| found.path.as_path()));
        let name = path.and_then(Path::file_name).and_then(|name| name.to_str());
        match name.and_then(file_name::parse) {
            Some((FileKind::Table, number)) => now.families.iter().any(|family| family.version.contains(number)),
            Some((FileKind::Blob, number)) => now.families.iter().any(|family| family.version.blobs.contains(number)),
            Some((FileKind::Wal, number)) => number >= now.first_needed_log(),
            _ => true,
        }
    });
}

/// Orphans that hold, or may hold, what nothing else holds: those that opening for writing sets aside. Either MANIFEST
/// lost the edit that named them, or a crash came between a flush and its edit and took the writes' log along.
fn verify_orphans(dir: &Path, options: &Options, orphans: &[FileNumber], report: &mut VerifyReport) -> Result<()> {
    let mut lost = lost_tables(dir, options, orphans)?;
    for _ in 0..WRITER_TRIES {
        if lost.damages.is_empty() {
            break;
        }
        // A writer beside us may have the edit underway.
        options.clock.sleep(WRITER_WAIT);
        lost = lost_tables(dir, options, orphans)?;
    }
    report.damages.append(&mut lost.damages);
    report.notes.append(&mut lost.notes);
    Ok(())
}

#[derive(Default)]
struct Findings {
    damages: Vec<Error>,
    notes: Vec<String>,
}

/// Looks for orphans that hold what nothing else does, as MANIFEST and the logs are now.
fn lost_tables(dir: &Path, options: &Options, orphans: &[FileNumber]) -> Result<Findings> {
    let mut found = Findings::default();
    let fs = &*options.fs;
    if orphans.is_empty() {
        return Ok(found);
    }
    let recovered = recover(dir, options)?;
    let is_live = |number| recovered.families.iter().any(|family| family.version.contains(number));
    let is_suspect = |number: &FileNumber| !is_live(*number) && !lost::is_past(*number, &recovered);
    let suspects: Vec<FileNumber> = orphans.iter().copied().filter(is_suspect).collect();
    if suspects.is_empty() {
        return Ok(found);
    }
    let logs = needed_logs(&recovered, &Listing::of(fs, dir)?.logs());
    let mode = (WalRecoveryMode::PointInTime, Purpose::Reading);
    let replayed = match replay(fs, dir, &logs, mode, last_in_tables(&recovered), &mut BTreeMap::new(), None) {
        // A writer removed a log: what was in it is in a table, and MANIFEST says so by now.
        Err(error) if error.is_not_found() => return Ok(found),
        // `verify_history` has said so.
        Err(error) if error.corruption().is_some() => return Ok(found),
        other => other?,
    };
    if replayed.obstacle.is_some() {
        // What is in the logs is not known, and so is not what is in no log.
        return Ok(found);
    }
    let evidence = Evidence::new(&recovered, &logs, &replayed);
    for number in suspects {
        let path = table_path(fs, dir, number)?;
        match lost::lost_writes(fs, &path, number, evidence) {
            Ok(None) => {}
            Ok(Some(lost)) if !lost.is_damage => {
                let name = file_name::table(number);
                found.notes.push(format!("{name} is in no version, as after a crash in a flush: {}", lost.reason));
            }
            Ok(Some(lost)) => {
                let kind = if recovered.is_cut_off { CorruptionKind::Truncated } else { CorruptionKind::Missing };
                let manifest = dir.join(file_name::manifest(recovered.manifest_number));
                let what = format!("{} is in no version: {}", file_name::table(number), lost.reason);
                found.damages.push(Error::corrupt_at(kind, &manifest, 0, what));
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => found.damages.push(error),
        }
    }
    Ok(found)
}

/// OPTIONS must be readable, and agree with MANIFEST: no open gets past it otherwise.
fn verify_options(dir: &Path, options: &Options, recovered: &Recovered, report: &mut VerifyReport) -> Result<()> {
    let checked = OptionsText::read(&*options.fs, dir).and_then(|text| {
        text.of_database(options)?;
        recovered.families.iter().try_for_each(|family| text.of_family(options, family).map(drop))
    });
    match checked {
        Err(error) if error.kind() == ErrorKind::Corruption => report.damages.push(error),
        Err(error) if matches!(error.kind(), ErrorKind::NotSupported | ErrorKind::Limit) => {
            report.unchecked.push(error)
        }
        // A writer beside us replaced it.
        Err(error) if error.is_not_found() => {}
        other => other?,
    }
    Ok(())
}

/// Every blob file that MANIFEST has is there, and whole.
fn verify_blob_files(
    fs: &dyn Fs,
    recovered: &Recovered,
    files: &[(FileKind, FileNumber)],
    dir: &Path,
    report: &mut VerifyReport,
) {
    for blob in recovered.families.iter().flat_map(|family| family.version.blobs.iter()) {
        let number = blob.file.meta.number;
        let path = dir.join(file_name::blob(number));
        if !files.contains(&(FileKind::Blob, number)) {
            let detail = "MANIFEST names this blob file, but it does not exist";
            report.damages.push(Error::corrupt(CorruptionKind::Missing, detail).in_file(&path, None));
            continue;
        }
        let meta = &blob.file.meta;
        let checked = fs.open_random(&path).and_then(|file| blob::verify(&*file, &path, meta.count, meta.bytes));
        report.damages.extend(checked.err());
    }
}

/// Levels below the first are sorted, and their files do not overlap.
fn verify_levels(dir: &Path, version: &crate::version::Version, report: &mut VerifyReport) {
    for level in version.levels.iter().skip(1) {
        for pair in level.files().windows(2) {
            let (a, b) = (&pair[0].meta, &pair[1].meta);
            let ordering = version.order.compare(user_key(&a.largest), user_key(&b.smallest));
            if ordering.is_gt() {
                let path = dir.join(file_name::table(b.number));
                let what = format!("level {}: overlaps {}", level.number(), file_name::table(a.number));
                report.damages.push(Error::corrupt_at(CorruptionKind::Order, &path, 0, what));
            }
        }
    }
}

/// The logs together: what recovery by default refuses, though each record is as it was written, or only cut off.
fn verify_history(dir: &Path, options: &Options, recovered: &Recovered, report: &mut VerifyReport) -> Result<()> {
    let fs = &*options.fs;
    let logs = needed_logs(recovered, &Listing::of(fs, dir)?.logs());
    let mode = (WalRecoveryMode::PointInTime, Purpose::Reading);
    let last = last_in_tables(recovered);
    let checked = replay(fs, dir, &logs, mode, last, &mut BTreeMap::new(), None)
        .and_then(|replayed| replayed.check_is_one_moment(dir, recovered));
    let file = |error: &Error| error.corruption().and_then(|found| found.file.clone());
    match checked {
        // A writer beside us removed a log.
        Err(error) if error.is_not_found() => {}
        Err(error) if error.corruption().is_some() => {
            // Damage that was found in this log is not said twice.
            if report.damages.iter().all(|damage| file(damage) != file(&error)) {
                report.damages.push(error);
            }
        }
        other => other?,
    }
    Ok(())
}

/// Checks one log; returns the number of its first write.
fn verify_log(
    dir: &Path,
    options: &Options,
    number: FileNumber,
    report: &mut VerifyReport,
) -> Result<Option<SequenceNumber>> {
    let path = dir.join(file_name::wal(number));
    let (mut records, mut damages, mut first) = (0, Vec::new(), None);
    let end = walk(&*options.fs, &path, number, &mut |offset, record| {
        records += 1;
        match WriteBatch::read(record, &mut |_, _| Ok(())) {
            Err(error) => damages.push(error.in_file(&path, Some(offset))),
            Ok((sequence, _)) => drop(first.get_or_insert(sequence)),
        }
        Ok(())
    });
    report.log_records += records;
    report.damages.append(&mut damages);
    match end {
        Err(error) if error.is_not_found() => report.damages.push(error),
        Err(error) if error.kind() == ErrorKind::NotSupported => report.unchecked.push(error),
        Err(error) => return Err(error),
        Ok(LogEnd::Whole) => {}
        Ok(LogEnd::CutOff { offset }) => {
            report.notes.push(format!("{}: the last record, at {offset}, is cut off", path.display()));
        }
        Ok(LogEnd::Recycled { offset }) => {
            let what = "is the end; what follows is of the log that this file was before";
            report.notes.push(format!("{}: {offset} {what}", path.display()));
        }
        Ok(LogEnd::Damaged(error)) => report.damages.push(error),
    }
    Ok(first)
}
