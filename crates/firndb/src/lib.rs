//! FirnDB: an embedded LSM key-value engine whose readers never lose their footing, and which speaks RocksDB's files.

mod error;
mod sync;

mod clock;
mod format;

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

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{Corruption, CorruptionKind, Error, ErrorKind, IoFailure, Result};
pub use format::comparator::{Comparator, KeyOrder};
pub use format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind};
pub use fs::*;
pub use metrics::*;
