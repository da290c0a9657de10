//! From the logs of a directory back to memtables.
//!
//! A log is read record by record; each record is one batch, applied as a whole to the memtables of the families that
//! still need it. What happens at damage is the recovery mode's choice, and what was left out is in the report. Whether what
//! was left out parts the families is asked afterwards ([`Replayed::check_is_one_moment`]).
//!
//! [`lost`] looks after the tables that logs and MANIFEST do not account for.
//!
//! Source: RocksDB wiki "WAL Recovery Modes"; `DBImpl::RecoverLogFiles`.

pub(crate) mod listing;
pub(crate) mod lost;
pub(crate) mod transactions;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::sequence_ranges::SequenceRanges;
use crate::fs::Fs;
use crate::memtable::MemTable;
use crate::sync::Arc;
use crate::version::set::{FamilySnapshot, Recovered};
use crate::wal::WalRecoveryMode;
use crate::wal::reader::{LogReader, ReadOutcome};
use crate::write::apply;

use transactions::{Purpose, Undecided, end_of};

pub use lost::SetAsideTable;

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
    /// The log ends inside a record: a write that was underway in a crash, or is now. Anything else is damage.
    pub is_cut_off: bool,
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
    /// Their bytes.
    pub bytes: u64,
    /// Batches that were applied.
    pub batches: u64,
    /// Operations in them.
    pub operations: u64,
    /// What was left out: a record that was cut off by a crash, or damage.
    pub dropped: Vec<DroppedLogPiece>,
    /// Tables that hold writes which nothing else holds, and that MANIFEST does not know of: it lost its end, or a crash
    /// came between a flush and its edit. They were moved into the directory `lost` inside of the database's; what is in
    /// them is not in the database.
    pub set_aside: Vec<SetAsideTable>,
    /// What could not be read when the directory was opened for reading, and what was done instead: each says the file and
    /// why. Whoever reads what depends on it gets the same as an error.
    pub not_read: Vec<String>,
}

/// Where the entries of a family go, and from which log on.
#[derive(Debug)]
pub(crate) struct ReplayTarget {
    pub(crate) log_number: FileNumber,
    pub(crate) memtable: Arc<MemTable>,
    /// A memtable of more bytes is full.
    pub(crate) bytes_max: usize,
}

/// Takes a memtable that is full before all logs are read, and gives an empty one.
pub(crate) type OnFull<'a> = &'a mut dyn FnMut(ColumnFamilyId, &Arc<MemTable>) -> Result<Arc<MemTable>>;

/// Full memtables are looked for after so many bytes of records.
const CHECK_BYTES: usize = 1 << 18;

/// What replaying found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub(crate) last_sequence: SequenceNumber,
    /// The numbers of all writes that were replayed.
    pub(crate) sequences: SequenceRanges,
    pub(crate) report: RecoveryReport,
    /// Point in time: damage was met, and only a log that goes on exactly there may follow.
    pub(crate) stop: Option<Stop>,
    /// For reading: the log from which on nothing could be read, and why.
    pub(crate) obstacle: Option<(FileNumber, Error)>,
}

impl Replayed {
    /// A point in time is one of all families: `Corruption` if recovery stopped at damage, and a family has in its tables
    /// what comes after it. Source: what RocksDB refuses as "SST file is ahead of WALs".
    pub(crate) fn check_is_one_moment(&self, dir: &Path, recovered: &Recovered) -> Result<()> {
        let Some(stop) = self.stop else { return Ok(()) };
        let Some(ahead) = recovered.families.iter().find(|family| stop.is_before(family)) else { return Ok(()) };
        let at_stop = |piece: &&DroppedLogPiece| piece.log == stop.log && piece.offset == stop.offset;
        let reason = self.report.dropped.iter().find(at_stop).map_or("", |piece| &piece.reason);
        let detail = format!(
            "{reason}; column family {:?} has later writes in its tables, so that what comes before the damage is not one \
             moment of the database (recovery that skips damaged records takes what there is)",
            ahead.name
        );
        let path = dir.join(file_name::wal(stop.log));
        Err(Error::corrupt_at(CorruptionKind::Malformed, &path, stop.offset, detail))
    }
}

/// Where recovery to a point in time ended, because nothing whole follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) log: FileNumber,
    pub(crate) offset: u64,
    /// The sequence number after the last one read; `None`: nothing was read.
    next: Option<u64>,
}

impl Stop {
    /// True if `family` has writes in its tables that come after the stop: with those and without what is lost, the
    /// families would be of two different moments.
    fn is_before(&self, family: &FamilySnapshot) -> bool {
        let next = self.next.unwrap_or(0);
        // Zero is what a compaction gives to old entries, however new they are.
        let is_behind = |largest: SequenceNumber| largest == SequenceNumber::ZERO || largest.0 >= next;
        family.log_number > self.log && family.version.files().any(|(_, file)| is_behind(file.meta.largest_seq))
    }
}

/// Replays `logs`, which ascend, into the memtables of `families`; those that are full go to `on_full`, if there is one.
///
/// # Errors
/// `Corruption` where the mode does not tolerate what was found, or a record with the right checksum is no batch;
/// `NotSupported` naming a feature, for writing; what `on_full` says.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    logs: &[FileNumber],
    (mode, purpose): (WalRecoveryMode, Purpose),
    last_sequence: SequenceNumber,
    families: &mut BTreeMap<ColumnFamilyId, ReplayTarget>,
    on_full: Option<OnFull<'_>>,
) -> Result<Replayed> {
    let mut replay = Replay {
        mode,
        purpose,
        undecided: Undecided::default(),
        families,
        on_full,
        unchecked: 0,
        found: Replayed { last_sequence, ..Replayed::default() },
        next: None,
    };
    for (index, log) in logs.iter().enumerate() {
        let is_last = index + 1 == logs.len();
        match replay.log(fs, dir.join(file_name::wal(*log)), *log, is_last) {
            Err(error) if purpose == Purpose::Reading && error.kind() == ErrorKind::NotSupported => {
                replay.found.obstacle = Some((*log, error));
                break;
            }
            other => other?,
        }
    }
    if purpose == Purpose::Writing {
        replay.undecided.refuse(|log| dir.join(file_name::wal(log)).display().to_string())?;
    }
    Ok(replay.found)
}

struct Replay<'a, 'f> {
    mode: WalRecoveryMode,
    purpose: Purpose,
    undecided: Undecided,
    families: &'a mut BTreeMap<ColumnFamilyId, ReplayTarget>,
    on_full: Option<OnFull<'f>>,
    /// Bytes of records since the last look at the memtables.
    unchecked: usize,
    found: Replayed,
    /// The number that follows the last record read. Not the last number that tables or MANIFEST know of: that one may
    /// be of a write to another family, behind the damage.
    next: Option<u64>,
}

impl Replay<'_, '_> {
    fn log(&mut self, fs: &dyn Fs, path: PathBuf, log: FileNumber, is_last: bool) -> Result<()> {
        let file = fs.open_random(&path)?;
        self.found.report.bytes += file.size()?;
        // Records of recycled logs carry the low half of their log's number.
        let mut reader = LogReader::new(file, path.clone(), log.0);
        let mut record = Vec::new();
        self.found.report.logs.push(log);
        loop {
            let outcome = reader.next(&mut record)?;
            if self.purpose == Purpose::Writing {
                reader.refuse_timestamps()?;
            }
            let (offset, reason, is_cut_off) = match outcome {
                ReadOutcome::Record { offset } => match self.batch(&record, log, &path, offset) {
                    Ok(true) => {
                        self.hand_on_full(record.len())?;
                        continue;
                    }
                    Ok(false) => {
                        self.drop_piece(log, offset, "records after damage in an earlier log".to_owned(), false);
                        return Ok(());
                    }
                    // The checksum of the record is right: it is as it was written, and no crash made it wrong.
                    Err(error)
                        if error.corruption().is_some() && self.mode == WalRecoveryMode::SkipAnyCorruptedRecords =>
                    {
                        (offset, error.to_string(), false)
                    }
                    Err(error) => return Err(error),
                },
                ReadOutcome::End | ReadOutcome::OldRecord { in_record: false, .. } => return Ok(()),
                ReadOutcome::OldRecord { offset, in_record: true } => {
                    (offset, "a record goes over into an older one".to_owned(), true)
                }
                ReadOutcome::Corrupt { offset, .. } if reader.is_end_of_recycled(offset)? => return Ok(()),
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
            self.drop_piece(log, offset, reason, is_cut_off);
            match self.mode {
                WalRecoveryMode::SkipAnyCorruptedRecords if !is_cut_off => {}
                WalRecoveryMode::PointInTime => {
                    self.found.stop = Some(Stop { log, offset, next: self.next });
                    return Ok(());
                }
                _ => return Ok(()),
            }
        }
    }

    fn hand_on_full(&mut self, record_bytes: usize) -> Result<()> {
        self.unchecked += record_bytes;
        if self.unchecked < CHECK_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        let Some(on_full) = &mut self.on_full else { return Ok(()) };
        for (id, target) in self.families.iter_mut() {
            if target.memtable.approximate_bytes() > target.bytes_max {
                target.memtable = on_full(*id, &target.memtable)?;
            }
        }
        Ok(())
    }

    fn drop_piece(&mut self, log: FileNumber, offset: u64, reason: String, is_cut_off: bool) {
        self.found.report.dropped.push(DroppedLogPiece { log, offset, reason, is_cut_off });
    }

    /// Applies one record; false if it lies beyond the point where recovery stopped.
    fn batch(&mut self, record: &[u8], log: FileNumber, path: &Path, offset: u64) -> Result<bool> {
        let in_log = |error: Error| match error.kind() {
            ErrorKind::NotSupported => {
                let place = format!("{}, offset {offset}", path.display());
                error.because(ErrorKind::NotSupported, place)
            }
            _ => error.in_file(path, Some(offset)),
        };
        let batch = self.undecided.effects(record, log, self.purpose).map_err(in_log)?;
        let first = batch.sequence();
        let count = u64::from(batch.count());
        if self.found.stop.is_some() {
            // A log whose first record follows what was replayed last was written by a later life of the database: what
            // was cut off before was never acknowledged.
            if self.next != Some(first.0) {
                return Ok(false);
            }
            self.found.stop = None;
        }
        // The numbers of a sound log rise. A record that goes back might hold an entry that is there, and would be left in
        // the memtable half applied.
        if let Some(next) = self.next.filter(|next| first.0 < *next) {
            let what =
                format!("a batch that begins with sequence number {first}, behind one that ended with {}", next - 1);
            return Err(Error::corrupt_at(CorruptionKind::Order, path, offset, what));
        }
        if end_of(&batch).is_none() {
            let what = format!("a batch of {count} operations from sequence number {first} on");
            return Err(Error::corrupt_at(CorruptionKind::BadLength, path, offset, what));
        }
        apply(&batch, first, |id| {
            // Older logs may hold what is in the family's tables already.
            self.families.get(&id).filter(|family| log >= family.log_number).map(|family| &*family.memtable)
        })
        .map_err(|error| error.in_file(path, Some(offset)))?;
        if count > 0 {
            let last = SequenceNumber(first.0 + count - 1);
            self.found.last_sequence = self.found.last_sequence.max(last);
            self.found.sequences.insert(first..=last);
        }
        self.next = Some(first.0 + count);
        self.found.report.batches += 1;
        self.found.report.operations += count;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::format::comparator::KeyOrder;
    use crate::fs::{CreateMode, MemoryFs};
    use crate::wal::writer::LogWriter;
    use crate::write::batch::WriteBatch;

    /// Logs with one batch a number, each of one operation; a log that ends in `torn` has half of a record behind them.
    fn replayed(logs: &[(u64, &[u64], bool)], last_sequence: u64) -> (Vec<u64>, usize) {
        let fs = MemoryFs::new();
        for (number, sequences, is_torn) in logs {
            let path = Path::new("/").join(file_name::wal(FileNumber(*number)));
            let file = fs.create(&path, CreateMode::New).expect("new");
            let mut log = LogWriter::new(Arc::clone(&file), None);
            for sequence in *sequences {
                let mut batch = WriteBatch::new();
                batch.put(format!("{sequence:03}"), "value");
                batch.set_sequence(SequenceNumber(*sequence));
                log.add_record(batch.as_bytes()).expect("memory");
            }
            if *is_torn {
                file.append(&[1, 2, 3, 4, 200, 0, 1, 7, 7]).expect("memory");
            }
        }
        let memtable = MemTable::new(1, KeyOrder::Bytewise, 4096, FileNumber(1), 0);
        let target = ReplayTarget { log_number: FileNumber(1), memtable: Arc::clone(&memtable), bytes_max: usize::MAX };
        let numbers: Vec<FileNumber> = logs.iter().map(|(number, ..)| FileNumber(*number)).collect();
        let mut families = BTreeMap::from([(ColumnFamilyId::DEFAULT, target)]);
        let last = SequenceNumber(last_sequence);
        let found = replay(
            &fs,
            Path::new("/"),
            &numbers,
            (WalRecoveryMode::PointInTime, Purpose::Writing),
            last,
            &mut families,
            None,
        );
        let found = found.expect("point in time takes what it gets");
        let is_there =
            |sequence: &u64| memtable.get(format!("{sequence:03}").as_bytes(), SequenceNumber::MAX).is_some();
        ((1..20).filter(is_there).collect(), found.report.dropped.len())
    }

    #[test]
    fn of_a_batch_whose_numbers_go_back_nothing_is_applied() {
        for mode in [WalRecoveryMode::PointInTime, WalRecoveryMode::SkipAnyCorruptedRecords] {
            let fs = MemoryFs::new();
            let file = fs.create(&Path::new("/").join(file_name::wal(FileNumber(5))), CreateMode::New).expect("new");
            let mut log = LogWriter::new(file, None);
            for (sequence, keys) in [(10, &["a"][..]), (9, &["z", "a"]), (11, &["b"])] {
                let mut batch = WriteBatch::new();
                for key in keys {
                    batch.put(key, sequence.to_string());
                }
                batch.set_sequence(SequenceNumber(sequence));
                log.add_record(batch.as_bytes()).expect("memory");
            }
            let memtable = MemTable::new(1, KeyOrder::Bytewise, 4096, FileNumber(1), 0);
            let target =
                ReplayTarget { log_number: FileNumber(1), memtable: Arc::clone(&memtable), bytes_max: usize::MAX };
            let mut families = BTreeMap::from([(ColumnFamilyId::DEFAULT, target)]);
            let found = replay(
                &fs,
                Path::new("/"),
                &[FileNumber(5)],
                (mode, Purpose::Writing),
                SequenceNumber(0),
                &mut families,
                None,
            );
            let there = |key: &str| memtable.get(key.as_bytes(), SequenceNumber::MAX).is_some();
            let skips = mode == WalRecoveryMode::SkipAnyCorruptedRecords;
            assert_eq!((there("a"), there("z"), there("b")), (true, false, skips), "{mode:?}");
            match found {
                Ok(found) => assert!(skips && found.report.dropped.len() == 1, "{mode:?}"),
                // Its checksum is right: no crash made it so.
                Err(error) => assert!(!skips && error.kind() == ErrorKind::Corruption, "{error}"),
            }
        }
    }

    #[test]
    fn a_log_behind_damage_counts_only_if_it_goes_on_where_the_damage_is() {
        assert_eq!(replayed(&[(5, &[1, 2, 3], false), (6, &[4, 5], false)], 0), (vec![1, 2, 3, 4, 5], 0));
        // A later life went on behind a torn end that nobody had been told of.
        assert_eq!(replayed(&[(5, &[1, 2], true), (6, &[3, 4], false)], 0), (vec![1, 2, 3, 4], 1));
        // Number 3 is lost, and 4 must not be there without it.
        assert_eq!(replayed(&[(5, &[1, 2], true), (6, &[4, 5], false)], 0), (vec![1, 2], 2));
        // Even if MANIFEST knows of 3, from a flush of another family that came behind it.
        assert_eq!(replayed(&[(5, &[1, 2], true), (6, &[4, 5], false)], 3), (vec![1, 2], 2));
        assert_eq!(replayed(&[(5, &[], true), (6, &[4, 5], false)], 3), (vec![], 2));
    }
}
