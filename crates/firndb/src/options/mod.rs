//! All options in one place, under RocksDB's names and with RocksDB's defaults where the meaning is the same.
//!
//! Options flow down in pieces: this module is the only one that sees all of them; each owner below is handed the
//! small config that it needs.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::BlockCache;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::fs::{Fs, PosixFs, RateLimiter};
use crate::metrics::{EventListener, Logger, Statistics};
use crate::threads::ThreadPool;
use crate::wal::WalRecoveryMode;
use crate::write::WriteBufferManager;

pub(crate) mod file;

/// Bytes of a database's own block cache.
pub(crate) const BLOCK_CACHE_BYTES: usize = 32 << 20;

/// How sorted runs are merged. This version compacts by itself only under [`CompactionStyle::Level`].
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionStyle {
    /// Leveled: one sorted run a level, each about ten times the one above.
    #[default]
    Level,
    /// Size-tiered. Read and written, but not compacted automatically by this version.
    Universal,
    /// Oldest files are dropped. Read and written, but nothing is dropped by this version.
    Fifo,
    /// No automatic compaction.
    None,
}

/// Who runs flushes and compactions.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackgroundMode {
    /// A pool of threads of the database's own.
    #[default]
    Threads,
    /// Nobody, until `Db::run_background_step` is called: tests drive every step. A write that would have to wait for
    /// background work fails with `Busy` instead.
    Manual,
}

/// Options of a whole database.
///
/// ```
/// let mut options = firndb::Options::default();
/// options.create_if_missing = true;
/// options.family.bloom_bits_per_key = Some(10.0);
/// assert_eq!(options.family.write_buffer_size, 64 << 20);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Make the database if there is none. Default: false, as in RocksDB; `Db::open` makes it.
    pub create_if_missing: bool,
    /// Fail if there is a database already. Default: false.
    pub error_if_exists: bool,
    /// Column families (beside `default`) to make if they are missing. Default: none.
    pub create_column_families: Vec<String>,
    /// Options of every column family. What an OPTIONS file says of `num_levels` and `compaction_style` wins.
    pub family: FamilyOptions,
    /// Damage in write-ahead logs. Default: point in time.
    pub wal_recovery_mode: WalRecoveryMode,
    /// Table files held open at most, at least 16; idle ones are closed first. Default: 4096 (RocksDB: unlimited).
    pub max_open_files: usize,
    /// Concurrent flushes and compactions. Default: 2.
    pub max_background_jobs: usize,
    /// Bytes of all write-ahead logs beyond which the memtables that keep the oldest alive are flushed. 0, the default:
    /// four times the sum of `write_buffer_size` times `max_write_buffer_number` over the families there are.
    pub max_total_wal_size: u64,
    /// Bytes of all memtables beyond which the largest is flushed. 0, the default: no limit beside each family's own.
    pub db_write_buffer_size: u64,
    /// A budget for the active memtables of several databases: over it, the one that has most flushes its largest. Default:
    /// none.
    pub write_buffer_manager: Option<Arc<WriteBufferManager>>,
    /// How fast flushes and compactions write, over several databases. Default: no limit.
    pub rate_limiter: Option<Arc<RateLimiter>>,
    /// A MANIFEST larger than this many bytes is replaced by a new one. Default: 1 GiB.
    pub max_manifest_file_size: u64,
    /// Do not flush memtables on close: the write-ahead log keeps them. Data written with `NoWal` is flushed all the
    /// same. Default: false.
    pub avoid_flush_during_shutdown: bool,
    /// Flush all families together when one is flushed, so that `NoWal` writes over several families stay whole.
    /// Default: false.
    pub atomic_flush: bool,
    /// Count the indexes and filters of open tables against the block cache's budget: those not used lately are closed to
    /// make room for blocks, and read again when needed. Default: false, as in RocksDB: they stay in memory beside the
    /// cache for as long as their file is open.
    pub cache_index_and_filter_blocks: bool,
    /// Verify block checksums on every read from a file. Default: true.
    pub verify_checksums: bool,
    /// The file system. Default: the machine's.
    pub fs: Arc<dyn Fs>,
    /// Time and randomness. Default: the machine's.
    pub clock: Arc<dyn Clock>,
    /// Who runs flushes and compactions. Default: threads.
    pub background: BackgroundMode,
    /// Threads for flushes and compactions; several databases may share them. Default: its own, as many as
    /// `max_background_jobs`.
    pub thread_pool: Option<Arc<ThreadPool>>,
    /// Cache of blocks; several databases may share it. Default: its own of 32 MiB, as in RocksDB.
    pub block_cache: Option<Arc<BlockCache>>,
    /// Counters; several databases may share them. Default: its own.
    pub statistics: Option<Arc<Statistics>>,
    /// Told of flushes, compactions, deletions, stalls and errors.
    pub listeners: Vec<Arc<dyn EventListener>>,
    /// Where messages go. Default: nowhere.
    pub logger: Option<Arc<dyn Logger>>,
    /// How long a failed background job waits before its first retry; doubles up to a minute. Default: one second.
    pub background_retry: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            create_if_missing: false,
            error_if_exists: false,
            create_column_families: Vec::new(),
            family: FamilyOptions::default(),
            wal_recovery_mode: WalRecoveryMode::default(),
            max_open_files: 4096,
            max_background_jobs: 2,
            max_total_wal_size: 0,
            db_write_buffer_size: 0,
            write_buffer_manager: None,
            rate_limiter: None,
            max_manifest_file_size: 1 << 30,
            avoid_flush_during_shutdown: false,
            atomic_flush: false,
            cache_index_and_filter_blocks: false,
            verify_checksums: true,
            fs: Arc::new(PosixFs::new()),
            clock: Arc::new(SystemClock::default()),
            background: BackgroundMode::Threads,
            thread_pool: None,
            block_cache: None,
            statistics: None,
            listeners: Vec::new(),
            logger: None,
            background_retry: Duration::from_secs(1),
        }
    }
}

/// Options of a column family.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FamilyOptions {
    /// The order of keys; its name must be the one in the files. Default: bytewise.
    pub key_order: KeyOrder,
    /// Bytes of a memtable before it is flushed. Default: 64 MiB.
    pub write_buffer_size: u64,
    /// Memtables, active and waiting, before writes stop. Default: 2.
    pub max_write_buffer_number: usize,
    /// Level-0 files that start a compaction. Default: 4.
    pub level0_file_num_compaction_trigger: usize,
    /// Level-0 files that slow writers down. Default: 20.
    pub level0_slowdown_writes_trigger: usize,
    /// Level-0 files that stop writers. Default: 36.
    pub level0_stop_writes_trigger: usize,
    /// Bytes waiting for compaction that slow writers down. Default: 64 GiB.
    pub soft_pending_compaction_bytes_limit: u64,
    /// Bytes waiting for compaction that stop writers. Default: 256 GiB.
    pub hard_pending_compaction_bytes_limit: u64,
    /// Levels, 1 to 64; leveled compaction takes 1 for 2. RocksDB's default, 7, is what its tools open without being told.
    pub num_levels: u32,
    /// Bytes of a table file made by compaction. Default: 64 MiB.
    pub target_file_size_base: u64,
    /// Bytes of the first level below level 0. Default: 256 MiB.
    pub max_bytes_for_level_base: u64,
    /// How much larger each level is than the one above. Default: 10.
    pub max_bytes_for_level_multiplier: f64,
    /// Derive level sizes from the last level upwards, so that most data is in it. Default: true.
    pub level_compaction_dynamic_level_bytes: bool,
    /// No compaction but by `Db::compact_range`. Default: false.
    pub disable_auto_compactions: bool,
    /// How sorted runs are merged. Default: leveled.
    pub compaction_style: CompactionStyle,
    /// Codec of data and index blocks. Default: none, as in RocksDB 11.
    pub compression: Compression,
    /// Bytes of a data block before compression. Default: 4096.
    pub block_size: usize,
    /// Entries between restart points of a data block. Default: 16.
    pub block_restart_interval: usize,
    /// Bits a key of the Bloom filter; `None`, the default, writes no filter. 10 gives about 1 % false positives.
    pub bloom_bits_per_key: Option<f64>,
    /// Version of the table format written, 2 to 5; 5, the default, is the newest that RocksDB 7.8 reads.
    pub format_version: u32,
}

impl Default for FamilyOptions {
    fn default() -> Self {
        FamilyOptions {
            key_order: KeyOrder::Bytewise,
            write_buffer_size: 64 << 20,
            max_write_buffer_number: 2,
            level0_file_num_compaction_trigger: 4,
            level0_slowdown_writes_trigger: 20,
            level0_stop_writes_trigger: 36,
            soft_pending_compaction_bytes_limit: 64 << 30,
            hard_pending_compaction_bytes_limit: 256 << 30,
            num_levels: 7,
            target_file_size_base: 64 << 20,
            max_bytes_for_level_base: 256 << 20,
            max_bytes_for_level_multiplier: 10.0,
            level_compaction_dynamic_level_bytes: true,
            disable_auto_compactions: false,
            compaction_style: CompactionStyle::Level,
            compression: Compression::None,
            block_size: 4096,
            block_restart_interval: 16,
            bloom_bits_per_key: None,
            format_version: 5,
        }
    }
}

impl FamilyOptions {
    fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &str| match ok {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidArgument, what)),
        };
        check((1..=64).contains(&self.num_levels), "num_levels must be 1 to 64")?;
        check(self.write_buffer_size >= 1024, "write_buffer_size must be at least 1024 bytes")?;
        check(self.write_buffer_size <= 1 << 40, "write_buffer_size must be at most 1 TiB")?;
        check(self.max_write_buffer_number >= 2, "max_write_buffer_number must be at least 2")?;
        check((64..=64 << 20).contains(&self.block_size), "block_size must be 64 bytes to 64 MiB")?;
        check((1..=1024).contains(&self.block_restart_interval), "block_restart_interval must be 1 to 1024")?;
        check(self.target_file_size_base >= 1024, "target_file_size_base must be at least 1024 bytes")?;
        check(self.max_bytes_for_level_base >= 1024, "max_bytes_for_level_base must be at least 1024 bytes")?;
        check(self.max_bytes_for_level_multiplier >= 1.0, "max_bytes_for_level_multiplier must be at least 1")?;
        check(self.level0_file_num_compaction_trigger >= 1, "level0_file_num_compaction_trigger must be at least 1")?;
        check((2..=5).contains(&self.format_version), "format_version must be 2 to 5")?;
        let bits = self.bloom_bits_per_key.unwrap_or(10.0);
        check((0.5..=100.0).contains(&bits), "bloom_bits_per_key must be 0.5 to 100")?;
        check(self.compression.is_writable(), "this build cannot write the chosen compression")
    }
}

impl Options {
    /// Refuses values that make no sense, by name.
    ///
    /// # Errors
    /// `InvalidArgument` names the option and its range.
    pub fn validate(&self) -> Result<()> {
        self.family.validate()?;
        if self.max_background_jobs == 0 || self.max_background_jobs > 1024 {
            return Err(Error::new(ErrorKind::InvalidArgument, "max_background_jobs must be 1 to 1024"));
        }
        if self.max_open_files < 16 {
            return Err(Error::new(ErrorKind::InvalidArgument, "max_open_files must be at least 16"));
        }
        Ok(())
    }
}
