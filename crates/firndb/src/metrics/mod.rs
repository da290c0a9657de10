//! What the engine counts: tickers under RocksDB's names, histograms, events.
//!
//! A ticker is one relaxed atomic addition, spread over a few cache lines so that threads do not meet.

use crate::sync::atomic::{AtomicU64, Ordering};

pub(crate) mod events;
pub(crate) mod outbox;
pub use events::{
    BackgroundErrorEvent, CompactionEvent, EventListener, FlushEvent, LogLevel, Logger, StallEvent, TableFileEvent,
};

macro_rules! tickers {
    ($($variant:ident = $name:literal, $doc:literal;)*) => {
        /// A counter. Names are RocksDB's where it has one.
        #[non_exhaustive]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(usize)]
        pub enum Ticker { $(#[doc = $doc] $variant,)* }

        impl Ticker {
            /// All tickers, in a fixed order.
            pub const ALL: &'static [Ticker] = &[$(Ticker::$variant,)*];
            /// The name, such as `rocksdb.block.cache.hit`.
            pub fn name(self) -> &'static str {
                match self { $(Ticker::$variant => $name,)* }
            }
        }
    };
}

tickers! {
    BlockCacheHit = "rocksdb.block.cache.hit", "Blocks found in the block cache.";
    BlockCacheMiss = "rocksdb.block.cache.miss", "Blocks that had to be read from a file.";
    BlockCacheAdd = "rocksdb.block.cache.add", "Blocks put into the block cache.";
    BlockCacheEvict = "firndb.block.cache.evict", "Blocks put out of the block cache to make room.";
    BlockChecksumMismatchCount = "rocksdb.block.checksum.mismatch.count", "Blocks whose checksum was wrong when read.";
    BloomFilterUseful = "rocksdb.bloom.filter.useful", "Table reads that a filter saved.";
    BloomFilterPrefixChecked = "rocksdb.bloom.filter.prefix.checked", "Bounded scans of tables with a filter of prefixes.";
    BloomFilterPrefixUseful = "rocksdb.bloom.filter.prefix.useful", "Scans of tables that a filter of prefixes saved.";
    BloomFilterFullPositive = "rocksdb.bloom.filter.full.positive", "Table reads that a filter let through.";
    MemtableHit = "rocksdb.memtable.hit", "Gets answered by a memtable.";
    MemtableMiss = "rocksdb.memtable.miss", "Gets that had to look into tables.";
    NumberKeysWritten = "rocksdb.number.keys.written", "Operations written.";
    NumberKeysRead = "rocksdb.number.keys.read", "Gets.";
    BytesWritten = "rocksdb.bytes.written", "Bytes of write batches.";
    BytesRead = "rocksdb.bytes.read", "Bytes of values returned by gets.";
    NumberDbSeek = "rocksdb.number.db.seek", "Cursor seeks.";
    NumberDbNext = "rocksdb.number.db.next", "Cursor steps forward.";
    NumberDbPrev = "rocksdb.number.db.prev", "Cursor steps back.";
    NoIteratorCreated = "rocksdb.num.iterator.created", "Iterators made.";
    NoIteratorDeleted = "rocksdb.num.iterator.deleted", "Iterators dropped.";
    WalFileSynced = "rocksdb.wal.synced", "WAL syncs.";
    WalFileBytes = "rocksdb.wal.bytes", "Bytes appended to WALs.";
    WriteDoneBySelf = "rocksdb.write.self", "Batches that their own writer's group carried.";
    WriteDoneByOther = "rocksdb.write.other", "Batches that another writer's group carried.";
    WriteWithWal = "rocksdb.write.wal", "Batches that went through a WAL.";
    StallMicros = "rocksdb.stall.micros", "Microseconds that writers were held up.";
    FlushWriteBytes = "rocksdb.flush.write.bytes", "Bytes of tables written by flushes.";
    CompactReadBytes = "rocksdb.compact.read.bytes", "Bytes of tables read by compactions.";
    CompactWriteBytes = "rocksdb.compact.write.bytes", "Bytes of tables written by compactions.";
    CompactionKeyDropNewerEntry = "rocksdb.compaction.key.drop.new", "Entries dropped because a newer one hides them.";
    CompactionKeyDropObsolete = "rocksdb.compaction.key.drop.obsolete", "Tombstones dropped at the bottom.";
    CompactionKeyDropUser = "rocksdb.compaction.key.drop.user", "Entries that compaction filters removed.";
    FilesDeleted = "firndb.files.deleted", "Obsolete files unlinked by the janitor.";
    NoFileOpens = "rocksdb.no.file.opens", "Table files opened.";
    NoFileErrors = "rocksdb.no.file.errors", "Table files that could not be opened.";
    SuperversionAcquires = "rocksdb.superversion_acquires", "SuperVersions taken by iterators.";
    SuperversionInstalls = "firndb.superversion.installs", "SuperVersions published.";
}

const STRIPES: usize = 8;

/// One stripe: its counters are written by about an eighth of the threads.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe([AtomicU64; Ticker::ALL.len()]);

/// The counters of one database (or of several that share them).
///
/// ```
/// use firndb::{Statistics, Ticker};
/// let statistics = Statistics::default();
/// assert_eq!(statistics.ticker(Ticker::BlockCacheHit), 0);
/// ```
#[derive(Debug)]
pub struct Statistics {
    stripes: Box<[Stripe]>,
}

impl Default for Statistics {
    fn default() -> Self {
        let stripe = |_| Stripe(std::array::from_fn(|_| AtomicU64::new(0)));
        Statistics { stripes: (0..STRIPES).map(stripe).collect() }
    }
}

impl Statistics {
    /// Adds `count` to a ticker.
    #[inline]
    pub fn add(&self, ticker: Ticker, count: u64) {
        // Relaxed: counters order nothing.
        self.stripes[stripe_index()].0[ticker as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// The sum of a ticker over all threads.
    pub fn ticker(&self, ticker: Ticker) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0[ticker as usize].load(Ordering::Relaxed)).sum()
    }
}

/// A small number that differs between threads, fixed for a thread's life.
#[inline]
pub(crate) fn thread_number() -> usize {
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

#[inline]
fn stripe_index() -> usize {
    thread_number() % STRIPES
}
