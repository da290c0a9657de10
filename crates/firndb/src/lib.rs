//! FirnDB: an embedded LSM key-value engine whose readers never lose their footing, and which speaks RocksDB's files.
//!
//! [`Db`] is where to begin; the project's ARCHITECTURE.md says how it works, and what is not here yet.

// Rows of ARCHITECTURE.md, lowest first: a module uses lower rows only.
mod error;
mod process;
mod sync;

mod clock;
mod format;
mod threads;

mod metrics;

mod fs;

mod cache;
mod iter;

mod blob;
mod memtable;
mod table;
mod wal;

mod version;

mod superversion;

mod compaction;
mod flush;
mod read;
mod write;

mod options;

mod background;
mod indexed;
mod recovery;

mod opening;

mod db;
mod offline;

pub use cache::BlockCache;
pub use clock::{Clock, ManualClock, SystemClock};
pub use compaction::request::{BottommostLevelCompaction, CompactRangeOptions, CompactionCanceller};
pub use db::{
    CloseMode, ColumnFamily, Db, DbStats, DeletedFiles, FamilyStats, Health, HealthState, LevelStats, LiveFile,
    LiveFiles, TtlColumnFamily, TtlDb, TtlIter, TtlValue, WaitingDrops,
};
pub use error::{Corruption, CorruptionKind, Error, ErrorKind, IoFailure, Result};
pub use format::comparator::{Comparator, KeyOrder};
pub use format::compression::Compression;
pub use format::entity::Columns;
pub use format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind};
pub use format::merge::{MergeFailure, MergeOperator, MergeRule};
pub use format::prefix::PrefixExtractor;
pub use fs::*;
pub use indexed::{BatchLookup, IndexedBatch, IndexedCursor, IndexedIter};
pub use iter::filter::{
    CompactionFilter, CompactionFilterFactory, FilterContext, FilterDecision, FilterEntry, FilterReason, FilterRule,
};
pub use metrics::*;
pub use offline::{
    Compatibility, Release, Requirement, VerifyProgress, VerifyReport, column_families_in, compatibility, inspect,
    verify_directory,
};
pub use options::{
    BackgroundMode, CompactionOptionsFifo, CompactionOptionsUniversal, CompactionPri, CompactionStopStyle,
    CompactionStyle, FamilyDescriptor, FamilyOptions, IndexType, Options,
};
pub use read::{Cursor, Iter, ReadOptions, Slice};
pub use recovery::{DroppedLogPiece, RecoveryReport, SetAsideTable};
pub use superversion::{PinKind, PinReport, Snapshot};
pub use threads::ThreadPool;
pub use wal::WalRecoveryMode;
pub use write::batch::{FamilyRef, WriteBatch, WriteOperation, WriteOperations};
pub use write::{Durability, WriteBufferManager, WriteOptions};
