//! Events for listeners, and the logger: called by the outbox, with no lock held.

use std::fmt::Debug;

use crate::error::Error;
use crate::format::key::FileNumber;

/// How urgent a log line is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Of use when following the engine's steps.
    Debug,
    /// Normal life: flushes, compactions, opens.
    Info,
    /// Something that a person may want to look at.
    Warn,
    /// Something failed.
    Error,
}

/// Where the engine's own messages go. Messages never hold keys or values. Called like an [`EventListener`].
pub trait Logger: Send + Sync + Debug + 'static {
    /// One line, without a newline.
    fn log(&self, level: LogLevel, message: &str);
}

/// A finished flush.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct FlushEvent {
    /// The column family's name.
    pub column_family: String,
    /// The new level-0 file; `None` if nothing had to be written.
    pub file: Option<FileNumber>,
    /// Bytes written.
    pub bytes: u64,
    /// Entries read from memtables, and written.
    pub entries: (u64, u64),
}

/// A finished compaction.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct CompactionEvent {
    /// The column family's name.
    pub column_family: String,
    /// Why it ran.
    pub reason: String,
    /// Input files, as level and number.
    pub inputs: Vec<(u32, FileNumber)>,
    /// Output files, and their level.
    pub outputs: (u32, Vec<FileNumber>),
    /// Bytes read and written.
    pub bytes: (u64, u64),
    /// Entries read and written.
    pub entries: (u64, u64),
}

/// A table file was made or unlinked.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct TableFileEvent {
    /// The file.
    pub file: FileNumber,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Writers are being held up, or no longer.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct StallEvent {
    /// The reason in words; `None` when writes run freely again.
    pub reason: Option<String>,
}

/// A background job failed.
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct BackgroundErrorEvent {
    /// The error.
    pub error: Error,
    /// True if writes are stopped.
    pub stops_writes: bool,
}

/// Gets told of what happens in the background. All methods do nothing by default.
///
/// They are called with no lock held, in the order of what happened, one at a time, so that they may do with the database
/// whatever they like: read, write, flush, compact, make and drop families, close it. What happens because of that is told
/// by a later call. A call that ends something tells of it before it returns, or leaves that to the thread that is telling
/// something at that moment, which it does not wait for. Mind:
/// - They run on the engine's threads, or on the thread of a call that ends something: a slow one holds that thread up.
/// - On the engine's own threads a write that would have to wait in a stall fails with `Busy`, since the work that it waits
///   for may need that thread; where writers are only slowed down it goes straight on.
/// - `close` waits for those that are being called, and calls the last ones itself when the database is closed: other calls
///   fail with `Closed` then. A `close` from within a callback that another `close` waits for returns at once; but a callback
///   must not wait for *another thread* that closes.
/// - A panic in one is caught; writes are then refused until the database is opened again, and
///   [`health`](crate::Db::health) says why.
#[allow(unused_variables, reason = "default methods name their arguments for documentation")]
pub trait EventListener: Send + Sync + Debug + 'static {
    /// A flush ended well.
    fn flush_completed(&self, event: &FlushEvent) {}
    /// A compaction ended well.
    fn compaction_completed(&self, event: &CompactionEvent) {}
    /// An obsolete table file was unlinked.
    fn table_file_deleted(&self, event: &TableFileEvent) {}
    /// Writers are slowed down, stopped or freed.
    fn stall_changed(&self, event: &StallEvent) {}
    /// A background job failed.
    fn background_error(&self, event: &BackgroundErrorEvent) {}
}
