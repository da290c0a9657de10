//! Tries of what failed, when their time has come.
//!
//! Flow: the janitor's tick, or a test's step -> [`Retry::tick`] -> `failures` (what is due) -> a job that resumes writes
//! ([`Flusher::resume`]), a compaction, or another look at a damaged table; and compactions that waited for a
//! snapshot to go, or for a time to come.
//!
//! Invariants: (1) One try at a time: work that is being tried is not due. (2) A try that cannot run yet, since a flush
//! runs, comes right after it. (3) Work counts as done if it succeeded, or if its picker has nothing to do any more. A table that was set aside
//! is no such work: `health` shows it until a look at it succeeds.
//!
//! Threads: any. No lock is held.

use crate::background::scheduler::{Priority, Scheduler};
use crate::sync::Arc;

use super::compactor::Compactor;
use super::failures::{Failures, Work};
use super::family::Family;
use super::flusher::Flusher;
use super::resources::Resources;

/// Bytes that have to be free beyond what waits in memory before a full disk counts as one with room.
const SPACE_RESERVE: u64 = 1 << 20;

/// See the module documentation.
pub(crate) struct Retry {
    resources: Arc<Resources>,
    failures: Arc<Failures>,
    flusher: Arc<Flusher>,
    compactor: Arc<Compactor>,
    scheduler: Arc<Scheduler>,
}

impl Retry {
    pub(crate) fn new(
        resources: Arc<Resources>,
        failures: Arc<Failures>,
        flusher: Arc<Flusher>,
        compactor: Arc<Compactor>,
        scheduler: Arc<Scheduler>,
    ) -> Arc<Retry> {
        Arc::new(Retry { resources, failures, flusher, compactor, scheduler })
    }

    /// Starts what is due. Called a few times a second at most.
    pub(crate) fn tick(self: &Arc<Self>) {
        if self.resources.cancel.check().is_err() {
            return;
        }
        let has_space = self.failures.free_when_full().is_some_and(|then| self.has_space_again(then));
        for work in self.failures.take_due(has_space) {
            match work {
                Work::Writes => self.submit_resume(),
                Work::Compaction(family) => {
                    if let Some(family) = self.resources.families.get(family) {
                        self.compactor.retry(&family);
                    }
                }
            }
        }
        for probe in self.failures.take_due_probes() {
            self.compactor.schedule_probe(probe);
        }
        self.compactor.look_for_what_was_awaited();
    }

    fn submit_resume(self: &Arc<Self>) {
        let retry = Arc::downgrade(self);
        self.scheduler.submit(
            Priority::Flush,
            Box::new(move || {
                if let Some(retry) = retry.upgrade() {
                    retry.resume();
                }
            }),
        );
    }

    fn resume(self: &Arc<Self>) {
        if self.resources.cancel.check().is_err() || self.failures.fatal().is_some() {
            return;
        }
        if !self.failures.gate().is_refusing() {
            // Another try came first.
            self.failures.writes_go_on();
            return;
        }
        match self.flusher.resume() {
            Ok(true) => self.resources.families.all().iter().for_each(|family| {
                self.compactor.schedule(family);
            }),
            Ok(false) => {
                let retry = Arc::downgrade(self);
                let again = move || {
                    if let Some(retry) = retry.upgrade() {
                        retry.submit_resume();
                    }
                };
                self.flusher.when_idle(Box::new(again));
            }
            Err(error) => {
                let free = self.resources.free_if_full(&error);
                self.failures.failed(Work::Writes, "resuming writes", &error, free);
            }
        }
    }

    /// True if the disk was full, with so many bytes free then, and has come to have room for what waits.
    fn has_space_again(&self, then: u64) -> bool {
        let bytes = |family: &Arc<Family>| -> u64 {
            family.state.load_full().memtables().map(|memtable| memtable.approximate_bytes() as u64).sum()
        };
        let needed: u64 = self.resources.families.all().iter().map(bytes).sum();
        let wanted = then.saturating_add(needed).saturating_add(SPACE_RESERVE);
        self.resources.fs.free_space(&self.resources.dir).is_ok_and(|now| now >= wanted)
    }
}
