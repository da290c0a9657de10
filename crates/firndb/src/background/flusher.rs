//! Flushes: which family's turn it is, one flush from pick to install, and what its failure leads to.
//!
//! Flow: the write queue switches a memtable -> [`Flusher::schedule`] -> the scheduler, one flush a job -> `flush` (pick,
//! run, install) -> events, stalls, compactions. [`Flusher::flush`] does the same on its caller's thread.
//!
//! Invariants
//! 1. Exclusion is a claim on a family: its memtables become tables in their order, by one job at a time. Flushes of
//!    different families run side by side. With atomic flush, and in [`Flusher::resume`], one claim is on all families.
//! 2. A job never waits for a claim. Whoever gives a claim back schedules what came meanwhile: no wake-up is lost.
//! 3. A job takes the memtables that are full when it begins, and goes to the end of the line for those after: a busy
//!    family does not keep the others waiting. [`Flusher::flush`] waits for the memtables that there were when it was
//!    called, and for no later ones.
//! 4. While writes are refused nothing is flushed but by [`Flusher::resume`]: one edit makes all families durable.
//!
//! Threads: any. Locks: `claims`, briefly, with none inside it; `installing`, around MANIFEST's own. Neither is held
//! while a table is written or a callback runs.

use std::collections::BTreeSet;

use crate::background::scheduler::{Priority, Scheduler};
use crate::clock::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{self, FlushContext, FlushJob, FlushOutput, Reached};
use crate::format::file_name::FileKind;
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::iter::filter::JobFilter;
use crate::metrics::outbox::Event;
use crate::metrics::{FlushEvent, LogLevel, Ticker};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::version::edit::VersionEdit;
use crate::write::{BudgetMember, WriteQueue};

use super::compactor::Compactor;
use super::failures::Failures;
use super::family::Family;
use super::resources::Resources;

/// See the module documentation.
pub(crate) struct Flusher {
    resources: Arc<Resources>,
    context: FlushContext,
    queue: Arc<WriteQueue>,
    compactor: Arc<Compactor>,
    failures: Arc<Failures>,
    scheduler: Arc<Scheduler>,
    /// All families are flushed together.
    is_atomic: bool,
    claims: Mutex<Claims>,
    given_back: Condvar,
    /// One edit at a time, so that each knows which logs the one before it made needless.
    installing: Mutex<()>,
    /// Bytes of tables written by flushes since open.
    bytes: AtomicU64,
}

#[derive(Default)]
struct Claims {
    /// The families that are being flushed.
    families: BTreeSet<ColumnFamilyId>,
    are_all: bool,
    /// The families whose job waits in the scheduler.
    queued: BTreeSet<ColumnFamilyId>,
    /// To be called once no claim is left.
    when_idle: Option<Box<dyn FnOnce() + Send>>,
}

/// The right to flush families, until it is dropped.
struct Claim<'f> {
    flusher: &'f Arc<Flusher>,
    /// `None`: all of them.
    family: Option<ColumnFamilyId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claims = self.flusher.claims.lock();
        match self.family {
            Some(family) => {
                claims.families.remove(&family);
            }
            None => claims.are_all = false,
        }
        let is_idle = claims.families.is_empty() && !claims.are_all;
        let when_idle = if is_idle { claims.when_idle.take() } else { None };
        drop(claims);
        self.flusher.given_back.notify_all();
        if let Some(when_idle) = when_idle {
            when_idle();
        }
        self.flusher.schedule_waiting();
    }
}

impl Flusher {
    pub(crate) fn new(
        resources: Arc<Resources>,
        context: FlushContext,
        queue: Arc<WriteQueue>,
        compactor: Arc<Compactor>,
        failures: Arc<Failures>,
        scheduler: Arc<Scheduler>,
        is_atomic: bool,
    ) -> Arc<Flusher> {
        Arc::new(Flusher {
            resources,
            context,
            queue,
            compactor,
            failures,
            scheduler,
            is_atomic,
            claims: Mutex::default(),
            given_back: Condvar::new(),
            installing: Mutex::default(),
            bytes: AtomicU64::new(0),
        })
    }

    /// Bytes of tables written by flushes since open.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Queues a flush of each of these families.
    pub(crate) fn schedule(self: &Arc<Self>, families: &[ColumnFamilyId]) {
        for family in families.iter().copied() {
            if self.claims.lock().queued.insert(family) {
                // A job must not keep the database alive: its handles decide.
                let flusher = Arc::downgrade(self);
                self.scheduler.submit(
                    Priority::Flush,
                    Box::new(move || {
                        if let Some(flusher) = flusher.upgrade() {
                            flusher.claims.lock().queued.remove(&family);
                            flusher.run_scheduled(family);
                        }
                    }),
                );
            }
        }
    }

    /// Queues whatever has full memtables.
    fn schedule_waiting(self: &Arc<Self>) {
        // While writes are stopped everything waits for `resume`, which flushes all families in one step.
        if self.resources.cancel.check().is_err() || self.queue.gate().is_refusing() {
            return;
        }
        let has_full = |family: &Arc<Family>| !family.state.load().immutables.is_empty() && !family.state.is_dropped();
        let waiting: Vec<_> = self.resources.families.all().iter().filter(|f| has_full(f)).map(|f| f.id()).collect();
        self.schedule(&waiting);
    }

    fn run_scheduled(self: &Arc<Self>, family: ColumnFamilyId) {
        if self.resources.cancel.check().is_err() || self.queue.gate().is_refusing() {
            return;
        }
        // Whoever has the claim schedules again what it leaves.
        let Some(claim) = self.try_claim(self.is_atomic, family) else { return };
        let flushed = self.flush_claimed(&claim, &self.resources.cancel);
        self.note(&flushed);
    }

    fn try_claim(self: &Arc<Self>, all: bool, family: ColumnFamilyId) -> Option<Claim<'_>> {
        let mut claims = self.claims.lock();
        if claims.are_all || (all && !claims.families.is_empty()) {
            return None;
        }
        if all {
            claims.are_all = true;
        } else if !claims.families.insert(family) {
            return None;
        }
        drop(claims);
        Some(Claim { flusher: self, family: (!all).then_some(family) })
    }

    /// Waits for a claim on one family. Not for a job.
    pub(crate) fn exclude(self: &Arc<Self>, family: ColumnFamilyId) -> impl Drop {
        self.claim(false, family)
    }

    /// Waits for a claim on all families. Not for a job.
    fn exclude_all(self: &Arc<Self>) -> impl Drop {
        self.claim(true, ColumnFamilyId::DEFAULT)
    }

    fn claim(self: &Arc<Self>, all: bool, family: ColumnFamilyId) -> Claim<'_> {
        loop {
            if let Some(claim) = self.try_claim(all, family) {
                return claim;
            }
            self.wait_for_claim(all, family);
        }
    }

    fn wait_for_claim(&self, all: bool, family: ColumnFamilyId) {
        let mut claims = self.claims.lock();
        while claims.are_all || claims.families.contains(&family) || (all && !claims.families.is_empty()) {
            claims = self.given_back.wait(claims);
        }
    }

    /// Makes everything that was written to `families` so far durable in tables, on the caller's thread or by waiting for
    /// the job that has the family.
    ///
    /// # Errors
    /// What the file system says, after which writes are stopped until a later try succeeds; `ReadOnly` while they are;
    /// `Closed`.
    pub(crate) fn flush(self: &Arc<Self>, families: &[ColumnFamilyId]) -> Result<()> {
        self.queue.switch_memtables(families)?;
        let families: Vec<_> = match self.is_atomic {
            true => self.resources.families.all(),
            false => families.iter().filter_map(|id| self.resources.families.get(*id)).collect(),
        };
        let with_newest = |family: Arc<Family>| {
            let newest = family.state.load().immutables.first().map(|memtable| memtable.id);
            newest.map(|newest| (family, newest))
        };
        let waited_for: Vec<_> = families.into_iter().filter_map(with_newest).collect();
        waited_for.iter().try_for_each(|(family, newest)| self.flush_up_to(family, *newest))
    }

    /// Flushes until the memtable `newest` and all before it are tables.
    fn flush_up_to(self: &Arc<Self>, family: &Family, newest: u64) -> Result<()> {
        let is_done = || {
            let is_left = family.state.load().immutables.iter().any(|memtable| memtable.id <= newest);
            !is_left || family.state.is_dropped()
        };
        while !is_done() {
            self.queue.gate().refusal()?;
            let Some(claim) = self.try_claim(self.is_atomic, family.id()) else {
                self.wait_for_claim(self.is_atomic, family.id());
                continue;
            };
            // The one before may have done it.
            if !is_done() {
                let flushed = self.flush_claimed(&claim, &self.resources.cancel);
                self.note(&flushed);
                flushed?;
            }
        }
        Ok(())
    }

    /// What a flush leads to if it failed: writes stop, and it is tried again. Before its claim is given back, so that
    /// nothing is scheduled in between.
    fn note(&self, flushed: &Result<()>) {
        let Err(error) = flushed else { return };
        // Read-only: writes had stopped before, and what stopped them is known.
        if !matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed | ErrorKind::ReadOnly) {
            self.failures.stopped_writes("a flush", error, self.resources.free_if_full(error));
        }
    }

    /// One flush of what is claimed.
    fn flush_claimed(self: &Arc<Self>, claim: &Claim<'_>, cancel: &CancelToken) -> Result<()> {
        cancel.check()?;
        self.queue.gate().refusal()?;
        self.flush_picked(claim, cancel)
    }

    fn flush_picked(self: &Arc<Self>, claim: &Claim<'_>, cancel: &CancelToken) -> Result<()> {
        let jobs = self.pick(claim)?;
        if jobs.is_empty() {
            return Ok(());
        }
        self.run(jobs, Vec::new(), cancel)
    }

    /// The full memtables of what is claimed.
    fn pick(&self, claim: &Claim<'_>) -> Result<Vec<(Arc<Family>, FlushJob)>> {
        let pick = |family: Arc<Family>| FlushJob::pick(&family.state).map(|job| (family, job));
        let all = || self.resources.families.all().into_iter().filter_map(pick).collect();
        match claim.family {
            Some(id) => Ok(self.resources.families.get(id).and_then(pick).into_iter().collect()),
            // Between two switches: one in the middle would part what was written together, and a family that was made
            // before it has to be among those that are asked.
            None if self.is_atomic => self.queue.exclusive(|_, _| Ok(all())),
            None => Ok(all()),
        }
    }

    /// Runs flushes, and makes them and `further` durable in one step.
    fn run(
        self: &Arc<Self>,
        jobs: Vec<(Arc<Family>, FlushJob)>,
        further: Vec<VersionEdit>,
        cancel: &CancelToken,
    ) -> Result<()> {
        self.failures.watch("a flush", || self.run_and_install(jobs, further, cancel))
    }

    fn run_and_install(
        self: &Arc<Self>,
        jobs: Vec<(Arc<Family>, FlushJob)>,
        further: Vec<VersionEdit>,
        cancel: &CancelToken,
    ) -> Result<()> {
        let resources = &self.resources;
        // Half of a batch, whose write did not end, must not become durable, whatever led here.
        let largest = jobs.iter().map(|(_, job)| job.largest_sequence()).max().unwrap_or_default();
        if resources.visible.load(Ordering::Acquire) < largest.0 {
            return Err(Error::new(ErrorKind::Internal, "a full memtable has writes that are not visible"));
        }
        let filters: Vec<Option<JobFilter>> = jobs.iter().map(|(family, _)| family.filter_of_flush()).collect();
        // What a filter changes is kept for the snapshots that are there, and for those that come before the result does.
        let _announced = filters.iter().any(Option::is_some).then(|| resources.pins.announce_drop());
        let frozen = resources.pins.freeze(&resources.visible);
        let mut outputs = Vec::new();
        for ((family, job), filter) in jobs.into_iter().zip(&filters) {
            let _pin = resources.pin_job(&family, "flush");
            match job.run(&self.context, family.flush_output(), filter.as_ref(), &frozen, cancel) {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    flush::discard(&resources.versions, &outputs);
                    return Err(error);
                }
            }
        }
        let installing = self.installing.lock();
        let flushed: Vec<u64> = outputs.iter().flat_map(|output| output.flushed().iter().copied()).collect();
        let needed_log = self.queue.needed_log(&flushed, None)?;
        let reached = Reached { last_sequence: frozen.sequences.last().copied(), needed_log };
        let outputs = flush::install(&resources.versions, outputs, further, reached)?;
        drop(installing);
        outputs.iter().for_each(|output| self.installed(output));
        drop(outputs);
        self.release_wals()?;
        resources.take_orphans();
        Ok(())
    }

    fn installed(&self, output: &FlushOutput) {
        self.resources.statistics.add(Ticker::FlushWriteBytes, output.bytes);
        self.bytes.fetch_add(output.bytes, Ordering::Relaxed);
        let Some(family) = self.resources.families.get(output.family_id()) else { return };
        self.resources.outbox.post(Event::Flush(FlushEvent {
            column_family: family.state.config.name.clone(),
            file: output.file,
            bytes: output.bytes,
            entries: (output.entries_read, output.entries_written),
        }));
        self.queue.report_memory();
        self.compactor.update_stall(&family);
        self.compactor.schedule(&family);
    }

    /// Gives up the logs that MANIFEST says nobody needs.
    pub(crate) fn release_wals(&self) -> Result<()> {
        for (number, bytes) in self.queue.release_wals(self.resources.versions.first_needed_log())? {
            self.resources.janitor.obsolete(FileKind::Wal, number, bytes);
        }
        Ok(())
    }

    /// The budget of several databases is exceeded, and this one has most: its largest memtable goes.
    pub(crate) fn relieve_memory(self: &Arc<Self>, member: &Arc<BudgetMember>) {
        let (flusher, member) = (Arc::downgrade(self), Arc::clone(member));
        self.scheduler.submit(
            Priority::Flush,
            Box::new(move || {
                let mut answer = Answer { member, is_done: false };
                if let Some(flusher) = flusher.upgrade() {
                    let bytes = |family: &Arc<Family>| family.state.load().memtable.approximate_bytes();
                    let largest = flusher.resources.families.all().into_iter().max_by_key(bytes);
                    // Refused while writes are: then the flush that lets them go on relieves the memory, too.
                    let switched = largest.map(|family| flusher.queue.switch_memtables(&[family.id()]));
                    if let Some(Ok(switched)) = switched {
                        flusher.schedule(&switched);
                        answer.is_done = true;
                    }
                }
            }),
        );
    }

    /// Calls `then` once no flush runs: at once if none does.
    pub(super) fn when_idle(&self, then: Box<dyn FnOnce() + Send>) {
        let mut claims = self.claims.lock();
        if claims.families.is_empty() && !claims.are_all {
            drop(claims);
            then();
        } else {
            claims.when_idle = Some(then);
        }
    }

    /// After a failure that stopped writes: a MANIFEST that is known to be whole, a new log, everything in memory into
    /// tables; then writes go on. False if a flush is running: then nothing was done.
    ///
    /// The failed log may hold batches whose writers were told that nobody knows, or end in a half of one. No later
    /// recovery may read it beside newer logs: one edit makes all families' tables durable together and says that
    /// nothing before the new log is needed.
    pub(super) fn resume(self: &Arc<Self>) -> Result<bool> {
        let Some(claim) = self.try_claim(true, ColumnFamilyId::DEFAULT) else { return Ok(false) };
        self.resources.cancel.check()?;
        let stops = self.queue.gate().stops();
        self.flush_after_failure(&claim, &self.resources.cancel)?;
        if !self.queue.gate().resume(stops) {
            return Err(Error::new(ErrorKind::Io, "writes were stopped again meanwhile"));
        }
        self.failures.writes_go_on();
        self.resources.outbox.log(LogLevel::Info, || "writes go on".to_owned());
        Ok(true)
    }

    fn flush_after_failure(self: &Arc<Self>, _all: &Claim<'_>, cancel: &CancelToken) -> Result<()> {
        self.resources.versions.recover_manifest()?;
        let log_number: FileNumber = self.queue.seal_for_resume()?;
        let families = self.resources.families.all();
        let job = |family: &Arc<Family>| FlushJob::pick(&family.state).map(|job| (Arc::clone(family), job));
        let jobs: Vec<_> = families.iter().filter_map(job).collect();
        let is_flushed = |id| jobs.iter().any(|(_, job)| job.family() == id);
        let mut further: Vec<_> = families
            .iter()
            .map(|family| family.id())
            .filter(|id| !is_flushed(*id))
            .map(|family| VersionEdit { family, log_number: Some(log_number), ..VersionEdit::default() })
            .collect();
        further.push(VersionEdit { min_log_to_keep: Some(log_number), ..VersionEdit::default() });
        self.run(jobs, further, cancel)
    }

    /// The last flush, of a database that is closing: no job runs any more, and no new write comes in. `is_wanted`: also of
    /// what a log has. `had_failed`: writes were refused before.
    ///
    /// # Errors
    /// What the file system says; the log still has what was written to it.
    pub(crate) fn flush_at_end(self: &Arc<Self>, is_wanted: bool, had_failed: bool) -> Result<()> {
        if let Some(error) = self.failures.fatal() {
            // Nothing more is to be written, whoever asks.
            drop(self.exclude_all());
            return Err(error);
        }
        let families: Vec<_> = if is_wanted {
            self.resources.families.all().iter().map(|family| family.id()).collect()
        } else {
            // Writes that are in no log would be lost.
            self.queue.unlogged_families()?
        };
        // One that is running has to end first.
        let claim = self.claim(true, ColumnFamilyId::DEFAULT);
        if families.is_empty() && !had_failed {
            return Ok(());
        }
        // The database's own token has ended the jobs; this flush is the close's own.
        let cancel = CancelToken::default();
        if had_failed {
            // Writes that are in no log, or in one that failed, have this last chance.
            return self.flush_after_failure(&claim, &cancel);
        }
        match self.queue.switch_at_end(&families) {
            Ok(_) => self.flush_picked(&claim, &cancel),
            Err(error) if self.failures.fatal().is_some() => Err(error),
            // The log failed just now: what is in it, or in none, goes to tables without it.
            Err(_) => self.flush_after_failure(&claim, &cancel),
        }
    }
}

/// Answers the budget, also if what it asked for panics.
struct Answer {
    member: Arc<BudgetMember>,
    is_done: bool,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.member.answered(self.is_done);
    }
}
