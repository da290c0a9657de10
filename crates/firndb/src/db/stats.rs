//! Figures of an open database.

use crate::compaction::picker::{self, LevelTargets};
use crate::format::key::SequenceNumber;
use crate::metrics::{Statistics, Ticker};
use crate::superversion::PinReport;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

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
    /// Figures of the moment.
    pub fn stats(&self) -> DbStats {
        let core = self.core();
        let families = core.all_families().into_iter().map(|family| {
            let view = family.state.load_full();
            let config = family.levels();
            let targets = LevelTargets::of(&view.version, &config);
            let scores = picker::scores(&view.version, &config, &targets);
            let level = |(number, level): (usize, &Arc<crate::version::Level>)| LevelStats {
                level: number,
                files: level.len(),
                bytes: level.bytes(),
                target_bytes: targets.bytes.get(number).copied().unwrap_or(0),
                score: scores.iter().find(|(level, _)| *level == number).map_or(0.0, |(_, score)| *score),
            };
            FamilyStats {
                name: family.state.config.name.clone(),
                levels: view.version.levels.iter().enumerate().map(level).collect(),
                memtable_bytes: view.memtable.approximate_bytes() as u64,
                memtable_entries: view.memtable.entry_count(),
                immutable_memtables: view.immutables.len(),
                pending_compaction_bytes: picker::pending_bytes(&view.version, &config, &targets),
            }
        });
        DbStats {
            families: families.collect(),
            cache_bytes: (core.cache.usage(), core.cache.capacity()),
            table_readers_bytes: core.all_families().iter().map(|family| readers_memory(family)).sum(),
            wal_bytes: core.queue.as_ref().map_or(core.report.bytes, |queue| queue.wal_bytes()),
            bytes_flushed: core.bytes_flushed.load(Ordering::Relaxed),
            bytes_compacted: core.bytes_compacted.load(Ordering::Relaxed),
            stall_reason: core
                .queue
                .as_ref()
                .and_then(|queue| queue.gate().stall_state().reason())
                .map(|why| why.to_string()),
            stalled_micros: core.queue.as_ref().map_or(0, |queue| queue.gate().stalled_micros()),
            pins: core.pin_reports(),
            obsolete_files: core.janitor.waiting_files().len(),
            files_deleted: core.janitor.unlinked(),
            files_missing: core.janitor.missing(),
            latest_sequence: self.latest_sequence(),
            health: self.health(),
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
