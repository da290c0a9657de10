//! How a write writes.

/// When a write counts as done.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// In the memtable only: survives nothing until it is flushed (RocksDB: `disableWAL`).
    NoWal,
    /// In a buffer of the write-ahead log: survives a crash of the process after `Db::flush_wal` or any later stronger
    /// write (RocksDB: `manual_wal_flush`).
    Buffered,
    /// Handed to the operating system: survives a crash of the process, not of the machine. The default.
    #[default]
    Os,
    /// On the device: survives a power loss (RocksDB: `sync`).
    Synced,
}

/// Options of a single write.
///
/// ```
/// use firndb::{Durability, WriteOptions};
/// assert_eq!(WriteOptions::default().durability, Durability::Os);
/// assert_eq!(WriteOptions::synced().durability, Durability::Synced);
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOptions {
    /// When the write counts as done.
    pub durability: Durability,
    /// Fail with [`ErrorKind::Busy`](crate::ErrorKind::Busy) instead of waiting when writes are slowed down or stopped.
    pub no_slowdown: bool,
}

impl WriteOptions {
    /// A write of this durability.
    pub fn with_durability(durability: Durability) -> WriteOptions {
        WriteOptions { durability, no_slowdown: false }
    }

    /// Returns only once the write survives a power loss.
    pub fn synced() -> WriteOptions {
        WriteOptions::with_durability(Durability::Synced)
    }
}
