//! All options in one place, under RocksDB's names and with RocksDB's defaults where the meaning is the same.
//!
//! Options flow down in pieces: this module is the only one that sees all of them; each owner below is handed the
//! small config that it needs.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::BlockCache;
use crate::clock::{Clock, SystemClock};
use crate::format::comparator::Comparator;
use crate::format::compression::Compression;
use crate::fs::{Fs, PosixFs, RateLimiter};
use crate::metrics::{EventListener, Logger, Statistics};
use crate::threads::ThreadPool;
use crate::wal::WalRecoveryMode;
use crate::write::WriteBufferManager;

mod at_open;
mod change;
mod configs;
mod descriptor;
mod family;
pub(crate) mod file;
pub(crate) mod keys;
mod limits;
mod nested;

pub use crate::compaction::styles::{
    CompactionOptionsFifo, CompactionOptionsUniversal, CompactionPri, CompactionStopStyle,
};
pub use descriptor::FamilyDescriptor;
pub use family::{FamilyOptions, IndexType};

/// Bytes of a database's own block cache.
pub(crate) const BLOCK_CACHE_BYTES: usize = 32 << 20;

/// How sorted runs are merged.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionStyle {
    /// Leveled: one sorted run a level, each about ten times the one above.
    #[default]
    Level,
    /// Size-tiered: neighbours in age are merged when they are of like size. Writes less than the leveled style, and takes more
    /// space and more reads; see [`CompactionOptionsUniversal`].
    Universal,
    /// The oldest tables are dropped when there is too much, or when they are too old; see [`CompactionOptionsFifo`]. A table
    /// that a snapshot sees something of waits until the snapshot is gone; `Db::health` shows that.
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
///
/// All fields are public. Later versions add fields: end a literal with `..Options::default()`.
///
/// ```
/// use firndb::{Compression, FamilyOptions, Options};
/// let options = Options {
///     create_if_missing: true,
///     family: FamilyOptions { compression: Compression::Lz4, ..FamilyOptions::default() },
///     ..Options::default()
/// };
/// # drop(options);
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// Make the database if there is none. Default: false, as in RocksDB; `Db::open` makes it.
    pub create_if_missing: bool,
    /// Fail if there is a database already. Default: false.
    pub error_if_exists: bool,
    /// Column families (beside `default`) to make if they are missing. Default: none.
    pub create_column_families: Vec<String>,
    /// Options of every column family. A field that differs from `FamilyOptions::default()` is in effect; of one that does
    /// not, what the directory's OPTIONS file says, so that nobody has to repeat what was chosen once. New families get all
    /// fields. What OPTIONS says of `num_levels` wins, and so does MANIFEST's key order, which must be that of some family if it is
    /// not the default.
    pub family: FamilyOptions,
    /// What is different in some families, over `family` and OPTIONS: RocksDB's column family descriptors. Default: nothing.
    pub families: Vec<FamilyDescriptor>,
    /// Make the families of `families` that are missing. Default: false, as in RocksDB: opening is refused then.
    pub create_missing_column_families: bool,
    /// Comparators that families may have been made with; each is found by its name, so that a program that opens all
    /// families needs no descriptor of each. Default: none.
    pub comparators: Vec<Arc<dyn Comparator>>,
    /// The options here are all that is meant, defaults too: of the directory's OPTIONS file only `num_levels` and
    /// `compaction_style` are in effect. RocksDB's way, by which a program that does not repeat a codec loses it. Default:
    /// false.
    pub options_are_complete: bool,
    /// Damage in write-ahead logs. Default: point in time.
    pub wal_recovery_mode: WalRecoveryMode,
    /// Table files held open at most, at least 16; idle ones are closed first, and opened again when they are read. Default:
    /// 4096 (RocksDB: unlimited). No more than three quarters of what the process may have open, less a few: a larger number
    /// is put in order when the database is opened, with a line to the logger.
    pub max_open_files: usize,
    /// Concurrent flushes and compactions. Default: 2.
    pub max_background_jobs: usize,
    /// Bytes of all write-ahead logs beyond which the memtables that keep the oldest alive are flushed. 0, the default:
    /// four times the sum of `write_buffer_size` times `max_write_buffer_number` over the families there are.
    pub max_total_wal_size: u64,
    /// Codec of records in write-ahead logs, each by itself: none, the default, or zstd. RocksDB 7.4 and newer read such logs.
    pub wal_compression: Compression,
    /// Bytes of all memtables beyond which the largest is flushed. 0, the default: no limit beside each family's own.
    pub db_write_buffer_size: u64,
    /// A budget for the memtables of several databases: over it, the one that has most flushes its largest. Default:
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
    /// make room for blocks, and read again when needed. Else they stay in memory beside the cache for as long as their file
    /// is open. Default: `None`, as the directory's OPTIONS file says of the default family, and false if it says nothing;
    /// `Some(false)` switches it off. RocksDB has it for each family.
    pub cache_index_and_filter_blocks: Option<bool>,
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
            families: Vec::new(),
            create_missing_column_families: false,
            comparators: Vec::new(),
            options_are_complete: false,
            wal_recovery_mode: WalRecoveryMode::default(),
            max_open_files: 4096,
            max_background_jobs: 2,
            max_total_wal_size: 0,
            wal_compression: Compression::None,
            db_write_buffer_size: 0,
            write_buffer_manager: None,
            rate_limiter: None,
            max_manifest_file_size: 1 << 30,
            avoid_flush_during_shutdown: false,
            atomic_flush: false,
            cache_index_and_filter_blocks: None,
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
