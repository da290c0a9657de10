//! FirnDB: an embedded LSM key-value engine whose readers never lose their footing, and which speaks RocksDB's files.
//!
//! The engine is being built bottom up; see the project's ARCHITECTURE.md for what stands and what does not yet.

// Rows of ARCHITECTURE.md, lowest first: a module uses lower rows only.
mod error;
mod sync;

mod clock;
mod format;
mod threads;

mod metrics;

mod fs;

mod cache;
mod iter;

mod memtable;
mod table;
mod wal;

mod version;

mod superversion;

mod compaction;
mod flush;
mod read;
mod write;

mod background;
mod options;
mod recovery;

mod db;

pub use cache::BlockCache;
pub use clock::{Clock, ManualClock, SystemClock};
pub use db::inspect;
pub use db::{
    CloseMode, ColumnFamily, Db, DbStats, FamilyStats, Health, HealthState, LevelStats, VerifyProgress, VerifyReport,
    verify_directory,
};
pub use error::{Corruption, CorruptionKind, Error, ErrorKind, IoFailure, Result};
pub use format::comparator::{Comparator, KeyOrder};
pub use format::compression::Compression;
pub use format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind};
pub use fs::*;
pub use metrics::*;
pub use options::{BackgroundMode, CompactionStyle, FamilyOptions, Options};
pub use read::{Cursor, Iter, ReadOptions, Slice};
pub use recovery::{DroppedLogPiece, RecoveryReport, SetAsideTable};
pub use superversion::{PinKind, PinReport, Snapshot};
pub use threads::ThreadPool;
pub use wal::WalRecoveryMode;
pub use write::batch::WriteBatch;
pub use write::{Durability, WriteBufferManager, WriteOptions};
