//! Events for listeners, and the logger. Callbacks run on the engine's threads with no lock held.

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

/// Where the engine's own messages go. Messages never hold keys or values.
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
/// They are called with no lock held that a call to the database would wait for, so that they may read, write, flush and
/// make families; with one exception: `close` waits for the listeners of its own last flush, and one of those must not wait
/// for another thread that closes the same database.
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
