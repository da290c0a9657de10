//! Figures of an open database.
//!
//! Flow: [`Db::stats`] asks each owner (families, queue, flusher, compactor, janitor, caches, pins) for what it counts.
//!
//! The figures are of about one moment: each owner is asked under its own lock, one after the other.

use crate::format::key::SequenceNumber;
use crate::metrics::{Statistics, Ticker};
use crate::superversion::PinReport;
use crate::sync::Arc;

use super::Db;
use super::core::Family;
use super::health::Health;

/// One level of a column family.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct LevelStats {
    /// The level's number.
    pub level: usize,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that it should have at most; 0 where that is not what counts (level 0, levels left out).
    pub target_bytes: u64,
    /// How many times too large it is; a compaction is due from 1 on.
    pub score: f64,
}

/// One column family.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyStats {
    /// Its name.
    pub name: String,
    /// Its levels.
    pub levels: Vec<LevelStats>,
    /// Bytes of the active memtable.
    pub memtable_bytes: u64,
    /// Entries of the active memtable.
    pub memtable_entries: u64,
    /// Full memtables that wait for their flush.
    pub immutable_memtables: usize,
    /// Bytes that have to be rewritten until every level has its size, about.
    pub pending_compaction_bytes: u64,
}

/// Figures of an open database.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-stats-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "value")?;
/// let stats = db.stats();
/// assert_eq!(stats.families[0].memtable_entries, 1);
/// assert!(stats.stall_reason.is_none());
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct DbStats {
    /// All column families, in the order of their ids.
    pub families: Vec<FamilyStats>,
    /// Bytes of the block cache, and its budget.
    pub cache_bytes: (usize, usize),
    /// Bytes of the indexes and filters of open tables.
    pub table_readers_bytes: u64,
    /// Bytes of all write-ahead logs that are needed.
    pub wal_bytes: u64,
    /// Bytes of tables written by flushes since open.
    pub bytes_flushed: u64,
    /// Bytes of tables written by compactions since open.
    pub bytes_compacted: u64,
    /// Why writers wait now; `None` if they do not.
    pub stall_reason: Option<String>,
    /// Microseconds that writers were held up since open.
    pub stalled_micros: u64,
    /// Every pin.
    pub pins: Vec<PinReport>,
    /// Obsolete files that wait to be unlinked.
    pub obsolete_files: usize,
    /// Files unlinked since open.
    pub files_deleted: u64,
    /// Files that were gone already when they were to be unlinked: somebody else removes files of this directory.
    pub files_missing: u64,
    /// The number of the last write that reads see.
    pub latest_sequence: SequenceNumber,
    /// What failed, if anything, and what happens about it.
    pub health: Health,
}

impl DbStats {
    /// No figures: in a forked process the owners cannot be asked.
    fn nothing(health: Health) -> DbStats {
        DbStats {
            families: Vec::new(),
            cache_bytes: (0, 0),
            table_readers_bytes: 0,
            wal_bytes: 0,
            bytes_flushed: 0,
            bytes_compacted: 0,
            stall_reason: None,
            stalled_micros: 0,
            pins: Vec::new(),
            obsolete_files: 0,
            files_deleted: 0,
            files_missing: 0,
            latest_sequence: SequenceNumber::ZERO,
            health,
        }
    }

    /// Bytes written to tables for each byte flushed: 1 without compactions; `None` before the first flush.
    pub fn write_amplification(&self) -> Option<f64> {
        (self.bytes_flushed > 0).then(|| (self.bytes_flushed + self.bytes_compacted) as f64 / self.bytes_flushed as f64)
    }

    /// Bytes of all tables for each byte of the last levels: 1 is ideal; `None` without tables.
    pub fn space_amplification(&self) -> Option<f64> {
        let total: u64 = self.families.iter().flat_map(|family| &family.levels).map(|level| level.bytes).sum();
        let last = |family: &FamilyStats| family.levels.iter().rev().map(|level| level.bytes).find(|bytes| *bytes > 0);
        let last: u64 = self.families.iter().filter_map(last).sum();
        (last > 0).then(|| total as f64 / last as f64)
    }

    /// Sorted runs that a point lookup may have to look into, at most over all families.
    pub fn read_amplification(&self) -> usize {
        let runs = |family: &FamilyStats| {
            let below = family.levels.iter().skip(1).filter(|level| level.files > 0).count();
            1 + family.immutable_memtables + family.levels.first().map_or(0, |level| level.files) + below
        };
        self.families.iter().map(runs).max().unwrap_or(0)
    }
}

fn readers_memory(family: &Family) -> u64 {
    family.state.load_full().version.files().map(|(_, file)| file.reader_memory() as u64).sum()
}

impl Db {
    /// Figures of the moment. In a forked process there are none, and `health` says why.
    pub fn stats(&self) -> DbStats {
        let core = self.core();
        let health = self.health();
        if core.check_process().is_err() {
            return DbStats::nothing(health);
        }
        let families = core.resources.families.all().into_iter().map(|family| {
            let view = family.state.load_full();
            let picker = family.picker();
            let targets = picker.target_bytes(&view.version);
            let scores = family.claims.look(|claims| picker.scores(&view.version, claims));
            let level = |(number, level): (usize, &Arc<crate::version::Level>)| LevelStats {
                level: number,
                files: level.len(),
                bytes: level.bytes(),
                target_bytes: targets.get(number).copied().unwrap_or(0),
                score: scores.iter().find(|(level, _)| *level == number).map_or(0.0, |(_, score)| *score),
            };
            FamilyStats {
                name: family.state.config.name.clone(),
                levels: view.version.levels.iter().enumerate().map(level).collect(),
                memtable_bytes: view.memtable.approximate_bytes() as u64,
                memtable_entries: view.memtable.entry_count() + view.memtable.range_tombstone_count(),
                immutable_memtables: view.immutables.len(),
                pending_compaction_bytes: picker.stall_counts(&view.version).pending_bytes,
            }
        });
        let writer = core.writer.as_ref();
        DbStats {
            families: families.collect(),
            cache_bytes: (core.resources.cache.usage(), core.resources.cache.capacity()),
            table_readers_bytes: core.resources.families.all().iter().map(|family| readers_memory(family)).sum(),
            wal_bytes: writer.map_or(core.report.bytes, |writer| writer.queue.wal_bytes()),
            bytes_flushed: writer.map_or(0, |writer| writer.flusher.bytes_written()),
            bytes_compacted: writer.map_or(0, |writer| writer.compactor.bytes_written()),
            stall_reason: writer
                .and_then(|writer| writer.queue.gate().stall_state().reason())
                .map(|why| why.to_string()),
            stalled_micros: writer.map_or(0, |writer| writer.queue.gate().stalled_micros()),
            pins: core.resources.pin_reports(),
            obsolete_files: core.resources.janitor.waiting_files().len(),
            files_deleted: core.resources.janitor.unlinked(),
            files_missing: core.resources.janitor.missing(),
            latest_sequence: self.latest_sequence(),
            health,
        }
    }

    /// The counters.
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.core().statistics
    }

    /// One counter's value.
    pub fn ticker(&self, ticker: Ticker) -> u64 {
        self.core().statistics.ticker(ticker)
    }
}
