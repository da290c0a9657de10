//! What the write queue works with, handed down by whoever opens the database.

use std::path::PathBuf;

use crate::clock::Clock;
use crate::error::Error;
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::fs::Fs;
use crate::metrics::Statistics;
use crate::metrics::outbox::Outbox;
use crate::sync::Arc;

use super::budget::BudgetMember;
use super::gate::WriteGate;

/// Where the full memtables go: tells the background that these families have something to flush.
pub(crate) type OnFull = Box<dyn Fn(&[ColumnFamilyId]) + Send + Sync>;
/// Hears of the failures after which nothing is written, and whether they are a panic.
pub(crate) type OnFailure = Box<dyn Fn(&Error, Severity) + Send + Sync>;

/// Whether a failure can be mended while the database is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Retryable,
    /// A batch may be in the memtables in part: a panic in the middle of a write.
    Fatal,
}

/// A number that no file has.
pub(crate) type NewFileNumber = Box<dyn Fn() -> FileNumber + Send + Sync>;

/// What the queue works with.
pub(crate) struct WriteConfig {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) statistics: Arc<Statistics>,
    /// What keeps writers from going straight on.
    pub(crate) gate: Arc<WriteGate>,
    pub(crate) new_file_number: NewFileNumber,
    pub(crate) on_full: OnFull,
    /// The log, or a memtable, failed; writes are stopped already.
    pub(crate) on_failure: OnFailure,
    /// What waits for listeners is delivered; called with no lock held.
    pub(crate) outbox: Arc<Outbox>,
    /// Bytes of all logs beyond which something is flushed; 0: four times what the memtables of all families may hold,
    /// RocksDB's rule.
    pub(crate) wal_bytes_max: u64,
    /// Records in logs are compressed.
    pub(crate) compresses_log: bool,
    /// Bytes of all memtables beyond which something is flushed; 0: no limit.
    pub(crate) memtable_bytes_max: u64,
    /// The database's part in a budget of several.
    pub(crate) budget: Option<Arc<BudgetMember>>,
    /// Full memtables of all families are switched together.
    pub(crate) atomic_flush: bool,
}

impl WriteConfig {
    /// Refuses writes from now on: the log or a memtable failed.
    #[cold]
    pub(super) fn stop_writes(&self, error: &Error) {
        self.gate.stop_writes(error);
        (self.on_failure)(error, Severity::Retryable);
    }

    /// Refuses writes until the database is opened anew: what was about to be written is not known to be whole.
    #[cold]
    pub(super) fn fatal(&self, error: &Error) {
        self.gate.stop_writes_for_good(error);
        (self.on_failure)(error, Severity::Fatal);
    }
}
