//! What an open database is made of: owners, each with its own lock, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::background::error_state::ErrorState;
use crate::background::scheduler::Scheduler;
use crate::cache::BlockCache;
use crate::clock::{CancelToken, Clock};
use crate::compaction::picker::LevelConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::fs::{FileLock, Fs};
use crate::metrics::{BackgroundErrorEvent, LogLevel, Statistics};
use crate::options::{CompactionStyle, FamilyOptions, Options};
use crate::recovery::RecoveryReport;
use crate::superversion::purge::Janitor;
use crate::superversion::{FamilyState, PinRegistry};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::table::builder::TableConfig;
use crate::version::set::VersionSet;
use crate::version::table_cache::TableCache;
use crate::write::{StallConfig, WriteQueue};

use super::close::Closing;
use super::options_text::OptionsText;

/// The directory's lock, given back when the database and all of its readers are gone.
pub(super) type LockHolder = Arc<Mutex<Option<Box<dyn FileLock>>>>;

/// A column family and what its jobs need.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) state: Arc<FamilyState>,
    pub(super) options: FamilyOptions,
    /// One compaction of a family at a time.
    pub(super) compacting: Mutex<()>,
    /// A compaction waits for its turn.
    pub(super) is_scheduled: AtomicBool,
}

impl Family {
    pub(super) fn new(state: Arc<FamilyState>, options: FamilyOptions) -> Arc<Family> {
        Arc::new(Family { state, options, compacting: Mutex::new(()), is_scheduled: AtomicBool::new(false) })
    }

    #[inline]
    pub(super) fn check_not_dropped(&self) -> Result<()> {
        match self.state.is_dropped() {
            false => Ok(()),
            true => {
                let name = &self.state.config.name;
                Err(Error::new(ErrorKind::ColumnFamilyDropped, format!("column family {name:?} was dropped")))
            }
        }
    }

    pub(super) fn compacts_automatically(&self) -> bool {
        !self.options.disable_auto_compactions && self.options.compaction_style == CompactionStyle::Level
    }

    pub(super) fn levels(&self) -> LevelConfig {
        let options = &self.options;
        LevelConfig {
            num_levels: match options.compaction_style {
                // All of a FIFO family is in level 0: RocksDB's own compactions of it count on that.
                CompactionStyle::Fifo => 1,
                // As in RocksDB: there must be a level to fill.
                CompactionStyle::Level => (options.num_levels as usize).max(2),
                _ => options.num_levels as usize,
            },
            level0_trigger: options.level0_file_num_compaction_trigger,
            base_bytes: options.max_bytes_for_level_base,
            multiplier: options.max_bytes_for_level_multiplier,
            target_file_size: options.target_file_size_base,
            dynamic_level_bytes: options.level_compaction_dynamic_level_bytes,
        }
    }

    pub(super) fn table(&self) -> TableConfig {
        let options = &self.options;
        TableConfig {
            block_size: options.block_size,
            restart_interval: options.block_restart_interval,
            compression: options.compression,
            bloom_bits_per_key: options.bloom_bits_per_key,
            format_version: options.format_version,
            ..TableConfig::default()
        }
    }

    pub(super) fn stall(&self) -> StallConfig {
        let options = &self.options;
        StallConfig {
            max_write_buffer_number: options.max_write_buffer_number,
            level0_slowdown: options.level0_slowdown_writes_trigger,
            level0_stop: options.level0_stop_writes_trigger,
            soft_pending_bytes: options.soft_pending_compaction_bytes_limit,
            hard_pending_bytes: options.hard_pending_compaction_bytes_limit,
            compacts_automatically: self.compacts_automatically(),
        }
    }
}

/// See the module's text. Lock order: `closing`, `changing`, a family's `compacting`, `flushing`, `families`; none but
/// `closing` is held across a user's callback.
pub(super) struct Core {
    pub(super) dir: PathBuf,
    pub(super) fs: Arc<dyn Fs>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) statistics: Arc<Statistics>,
    pub(super) cache: Arc<BlockCache>,
    pub(super) versions: Arc<VersionSet>,
    pub(super) tables: Arc<TableCache>,
    pub(super) pins: Arc<PinRegistry>,
    pub(super) janitor: Arc<Janitor>,
    pub(super) visible: Arc<AtomicU64>,
    /// `None` if the database was opened for reading.
    pub(super) queue: Option<Arc<WriteQueue>>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) errors: ErrorState,
    pub(super) cancel: CancelToken,
    pub(super) families: Mutex<BTreeMap<ColumnFamilyId, Arc<Family>>>,
    /// One family comes or goes at a time.
    pub(super) changing: Mutex<()>,
    /// One flush at a time.
    pub(super) flushing: Mutex<()>,
    pub(super) is_flush_scheduled: AtomicBool,
    /// When failed work is tried again, in microseconds on the clock; 0: nothing failed.
    pub(super) retry_at_us: AtomicU64,
    /// If the last failure was a full disk: the bytes that were free then; else all ones.
    pub(super) free_when_full: AtomicU64,
    /// Failures that listeners have not heard of: told when no lock is held.
    pub(super) untold: Mutex<Vec<BackgroundErrorEvent>>,
    pub(super) options_text: Mutex<OptionsText>,
    pub(super) report: RecoveryReport,
    pub(super) lock: LockHolder,
    pub(super) is_closed: AtomicBool,
    pub(super) closing: Closing,
    /// Bytes of tables written by flushes and by compactions since open.
    pub(super) bytes_flushed: AtomicU64,
    pub(super) bytes_compacted: AtomicU64,
}

impl Core {
    /// An error once the database was closed.
    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        // Relaxed: a read that races with `close` may do either.
        match self.is_closed.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(closed()),
        }
    }

    /// The write queue, if writes are possible at all.
    #[inline]
    pub(super) fn writes(&self) -> Result<&Arc<WriteQueue>> {
        self.queue.as_ref().ok_or_else(read_only)
    }

    pub(super) fn family(&self, id: ColumnFamilyId) -> Option<Arc<Family>> {
        self.families.lock().get(&id).cloned()
    }

    pub(super) fn all_families(&self) -> Vec<Arc<Family>> {
        self.families.lock().values().cloned().collect()
    }

    pub(super) fn log(&self, level: LogLevel, message: impl FnOnce() -> String) {
        if let Some(logger) = &self.options.logger {
            logger.log(level, &message());
        }
    }

    /// Hands obsolete tables to the janitor.
    pub(super) fn obsolete_tables(&self, files: impl IntoIterator<Item = (FileNumber, u64)>) {
        for (number, bytes) in files {
            self.janitor.obsolete(crate::format::file_name::FileKind::Table, number, bytes);
        }
    }
}

#[cold]
fn read_only() -> Error {
    Error::new(ErrorKind::ReadOnly, "the database was opened for reading only")
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}
