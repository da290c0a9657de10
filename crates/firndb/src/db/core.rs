//! What an open database is made of: owners, each with its own lock, and nothing else.
//!
//! Lock order: `closing`, `changing`, a family's registry of claims, its claim in the flusher, the registry of
//! families. None of them is held while a user's callback runs.

use crate::background::compactor::Compactor;
use crate::background::failures::Failures;
use crate::background::flusher::Flusher;
use crate::background::resources::Resources;
use crate::background::retry::Retry;
use crate::background::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::check_process;
use crate::metrics::Statistics;
use crate::opening::LockHolder;
use crate::opening::options_text::OptionsText;
use crate::options::Options;
use crate::process::Process;
use crate::recovery::RecoveryReport;
use crate::superversion::PinRegistry;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::table_cache::TableCache;
use crate::write::WriteQueue;

use super::closing::Closing;
use super::handles::Handles;

pub(super) use crate::background::family::Family;

/// See the module documentation.
pub(super) struct Core {
    /// Nobody else may do anything: a forked process has a copy of everything here, locks that nobody will open included.
    pub(super) opener: Process,
    // What every read touches, beside the rest that it seldom does.
    pub(super) tables: Arc<TableCache>,
    pub(super) visible: Arc<AtomicU64>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) pins: Arc<PinRegistry>,
    pub(super) is_closed: AtomicBool,
    pub(super) options: Options,
    /// `None` if the database was opened for reading.
    pub(super) writer: Option<Writer>,
    pub(super) resources: Arc<Resources>,
    pub(super) options_text: Mutex<OptionsText>,
    pub(super) report: RecoveryReport,
    pub(super) lock: LockHolder,
    pub(super) closing: Closing,
    /// Whoever keeps the database open.
    pub(super) handles: Handles,
}

/// What writes, and works in the background.
pub(super) struct Writer {
    pub(super) queue: Arc<WriteQueue>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) failures: Arc<Failures>,
    pub(super) compactor: Arc<Compactor>,
    pub(super) flusher: Arc<Flusher>,
    pub(super) retry: Arc<Retry>,
    /// One family comes or goes at a time, or has its options changed.
    pub(super) changing: Mutex<()>,
}

impl Core {
    /// An error in another process than the opener's. Comes before every lock.
    #[inline]
    pub(super) fn check_process(&self) -> Result<()> {
        check_process(&self.opener)
    }

    /// An error once the database was closed, and in another process than the opener's.
    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        self.check_process()?;
        // Relaxed: a read that races with `close` may do either.
        if self.is_closed.load(Ordering::Relaxed) { Err(closed()) } else { Ok(()) }
    }

    /// The same for a reader that has its pin: if it may begin, whoever closes sees the pin.
    #[inline]
    pub(super) fn check_open_pinned(&self) -> Result<()> {
        // A forked process may have been made in the middle of a decision.
        self.closing.await_decision(|| self.check_process())?;
        self.check_open()
    }

    /// What writes, if writes are possible at all.
    #[inline]
    pub(super) fn writer(&self) -> Result<&Writer> {
        self.check_process()?;
        self.writer.as_ref().ok_or_else(read_only)
    }

    /// Runs a change that a caller asked for; a panic in it is noted before it goes on.
    pub(super) fn watched<T>(&self, what: &str, change: impl FnOnce() -> T) -> T {
        match &self.writer {
            Some(writer) => writer.failures.watch(what, change),
            None => change(),
        }
    }

    /// Called by the janitor's thread now and then.
    pub(super) fn tick(&self) {
        if let Some(writer) = &self.writer {
            writer.retry.tick();
        }
        self.resources.outbox.deliver();
    }
}

#[cold]
fn read_only() -> Error {
    Error::new(ErrorKind::ReadOnly, "the database was opened for reading only")
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the database is closed")
}
