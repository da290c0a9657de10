//! From the logs of a directory back to memtables.
//!
//! A log is read record by record; each record is one batch, applied as a whole to the memtables of the families that
//! still need it. What happens at damage is the recovery mode's choice, and what was left out is in the report.
//!
//! Source: RocksDB wiki "WAL Recovery Modes"; `DBImpl::RecoverLogFiles`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{CorruptionKind, Error, Result};
use crate::format::file_name;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::memtable::MemTable;
use crate::sync::Arc;
use crate::wal::WalRecoveryMode;
use crate::wal::reader::{LogReader, ReadOutcome};
use crate::write::apply;
use crate::write::batch::WriteBatch;

/// A piece of a write-ahead log that was left out when the database was opened.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedLogPiece {
    /// The log.
    pub log: FileNumber,
    /// Where the piece starts, in bytes from the start of the log.
    pub offset: u64,
    /// What was found there.
    pub reason: String,
}

/// What was replayed from write-ahead logs when the database was opened, and what was not.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-recovery-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// assert_eq!(db.recovery_report().batches, 0);
/// assert!(db.recovery_report().dropped.is_empty());
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Logs that were read.
    pub logs: Vec<FileNumber>,
    /// Batches that were applied.
    pub batches: u64,
    /// Operations in them.
    pub operations: u64,
    /// What was left out: a record that was cut off by a crash, or damage.
    pub dropped: Vec<DroppedLogPiece>,
}

/// Where the entries of a family go, and from which log on.
#[derive(Debug)]
pub(crate) struct ReplayTarget {
    pub(crate) log_number: FileNumber,
    pub(crate) memtable: Arc<MemTable>,
}

/// What replaying found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) last_sequence: SequenceNumber,
    pub(crate) report: RecoveryReport,
}

/// Replays `logs`, which ascend, into the memtables of `families`.
///
/// # Errors
/// `Corruption` where the mode does not tolerate what was found; `NotSupported` naming a feature.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    logs: &[FileNumber],
    mode: WalRecoveryMode,
    last_sequence: SequenceNumber,
    families: &BTreeMap<ColumnFamilyId, ReplayTarget>,
) -> Result<Replayed> {
    let mut replay =
        Replay { mode, families, found: Replayed { last_sequence, ..Replayed::default() }, has_stopped: false };
    for (index, log) in logs.iter().enumerate() {
        let is_last = index + 1 == logs.len();
        replay.log(fs, dir.join(file_name::wal(*log)), *log, is_last)?;
    }
    Ok(replay.found)
}

struct Replay<'a> {
    mode: WalRecoveryMode,
    families: &'a BTreeMap<ColumnFamilyId, ReplayTarget>,
    found: Replayed,
    /// Point in time: damage was met, and only a log that goes on exactly there may follow.
    has_stopped: bool,
}

impl Replay<'_> {
    fn log(&mut self, fs: &dyn Fs, path: PathBuf, log: FileNumber, is_last: bool) -> Result<()> {
        let file = fs.open_random(&path)?;
        // Records of recycled logs carry the low half of their log's number.
        let mut reader = LogReader::new(file, path.clone(), log.0);
        let mut record = Vec::new();
        self.found.report.logs.push(log);
        loop {
            let (offset, reason, is_cut_off) = match reader.next(&mut record)? {
                ReadOutcome::Record { offset } => match self.batch(&record, log, &path, offset) {
                    Ok(true) => continue,
                    Ok(false) => {
                        self.drop_piece(log, offset, "records after damage in an earlier log".to_owned());
                        return Ok(());
                    }
                    Err(error) if error.corruption().is_some() => (offset, error.to_string(), false),
                    Err(error) => return Err(error),
                },
                ReadOutcome::End | ReadOutcome::OldRecord { in_record: false, .. } => return Ok(()),
                ReadOutcome::OldRecord { offset, in_record: true } => {
                    (offset, "a record goes over into an older one".to_owned(), true)
                }
                ReadOutcome::TruncatedTail { offset } => (offset, "a record is cut off".to_owned(), true),
                ReadOutcome::Corrupt { offset, reason } => (offset, reason, false),
            };
            let refused = match self.mode {
                WalRecoveryMode::AbsoluteConsistency => true,
                WalRecoveryMode::TolerateCorruptedTailRecords => !(is_cut_off && is_last),
                WalRecoveryMode::PointInTime | WalRecoveryMode::SkipAnyCorruptedRecords => false,
            };
            if refused {
                return Err(Error::corrupt_at(CorruptionKind::Malformed, &path, offset, reason));
            }
            self.drop_piece(log, offset, reason);
            match self.mode {
                WalRecoveryMode::SkipAnyCorruptedRecords if !is_cut_off => {}
                WalRecoveryMode::PointInTime => {
                    self.has_stopped = true;
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    fn drop_piece(&mut self, log: FileNumber, offset: u64, reason: String) {
        self.found.report.dropped.push(DroppedLogPiece { log, offset, reason });
    }

    /// Applies one record; false if it lies beyond the point where recovery stopped.
    fn batch(&mut self, record: &[u8], log: FileNumber, path: &Path, offset: u64) -> Result<bool> {
        let batch = WriteBatch::from_bytes(record).map_err(|error| error.in_file(path, Some(offset)))?;
        let first = batch.sequence();
        let count = u64::from(batch.count());
        if self.has_stopped {
            // A log whose first record follows what was replayed last was written by a later life of the database: what
            // was cut off before was never acknowledged.
            if first.0 != self.found.last_sequence.0 + 1 {
                return Ok(false);
            }
            self.has_stopped = false;
        }
        if first.0.checked_add(count).is_none_or(|end| end > SequenceNumber::MAX.0) {
            let what = format!("a batch of {count} operations from sequence number {first} on");
            return Err(Error::corrupt_at(CorruptionKind::BadLength, path, offset, what));
        }
        apply(&batch, first, |id| {
            // Older logs may hold what is in the family's tables already.
            self.families.get(&id).filter(|family| log >= family.log_number).map(|family| &*family.memtable)
        })
        .map_err(|error| error.in_file(path, Some(offset)))?;
        if count > 0 {
            self.found.last_sequence = self.found.last_sequence.max(SequenceNumber(first.0 + count - 1));
        }
        self.found.report.batches += 1;
        self.found.report.operations += count;
        Ok(true)
    }
}
