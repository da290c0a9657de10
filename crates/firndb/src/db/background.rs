//! Flushes and compactions: scheduling, running, what failures lead to.
//!
//! Jobs are picked, run and installed by a thread of the pool, or by a caller that waits for them; one flush at a time,
//! and one compaction a family. A failed flush or MANIFEST write stops writes until a later try succeeds; a failed
//! compaction is tried again. The janitor's tick starts the tries.

use crate::background::error_state::Job;
use crate::background::scheduler::Priority;
use crate::clock::CancelToken;
use crate::compaction::job::{self, CompactionContext, CompactionOutput};
use crate::compaction::picker::{self, Compaction, LevelTargets, Manual};
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{self, FlushContext, FlushJob, Reached};
use crate::format::file_name::FileKind;
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::metrics::{BackgroundErrorEvent, CompactionEvent, FlushEvent, LogLevel, Ticker};
use crate::options::CompactionStyle;
use crate::superversion::{PinKind, PinSpec};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::version::Version;
use crate::version::edit::VersionEdit;
use crate::write::{BudgetMember, StallInputs, WriteQueue};

use super::core::{Core, Family};

/// Bytes that have to be free beyond what waits in memory before a full disk counts as one with room.
const SPACE_RESERVE: u64 = 1 << 20;

/// True if the disk had no room.
fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    error.kind() == ErrorKind::NoSpace || error.io().is_some_and(|io| matches!(io.kind, StorageFull | QuotaExceeded))
}

impl Core {
    /// Has full memtables flushed soon.
    pub(super) fn schedule_flush(self: &Arc<Self>) {
        // AcqRel: the job that clears the mark sees what was full when it was set.
        if self.is_flush_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        // A job must not keep the database alive: its handles decide.
        let core = Arc::downgrade(self);
        self.scheduler.submit(
            Priority::Flush,
            Box::new(move || {
                if let Some(core) = core.upgrade() {
                    core.is_flush_scheduled.store(false, Ordering::Release);
                    core.flush_in_background();
                }
            }),
        );
    }

    fn flush_in_background(self: &Arc<Self>) {
        // While writes are stopped everything waits for `resume`, which flushes all families in one step.
        if self.is_closed.load(Ordering::Relaxed) || self.queue.as_ref().is_some_and(|queue| queue.gate().is_refusing())
        {
            return;
        }
        if let Err(error) = self.flush_full_memtables() {
            self.flush_failed(&error);
        }
    }

    /// What a failed flush leads to: writes stop, and it is tried again.
    fn flush_failed(&self, error: &Error) {
        // Read-only: writes had stopped before, and what stopped them is known.
        if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed | ErrorKind::ReadOnly) {
            return;
        }
        if let Some(queue) = &self.queue {
            queue.gate().stop_writes(error);
        }
        self.job_failed(Job::Flush, "a flush", error, true);
    }

    /// For a caller that holds no lock.
    fn job_failed(&self, job: Job, what: &str, error: &Error, stops_writes: bool) {
        self.note_failure(job, what, error, stops_writes);
        self.tell_of_failures();
    }

    fn note_failure(&self, job: Job, what: &str, error: &Error, stops_writes: bool) {
        let now = self.clock.monotonic_micros();
        let wait = self.errors.failed(job, error, self.options.background_retry, now);
        let at = now + wait.as_micros() as u64;
        let free = if is_full(error) { self.fs.free_space(&self.dir).unwrap_or(u64::MAX) } else { u64::MAX };
        self.free_when_full.store(free, Ordering::Relaxed);
        self.retry_at_us.store(at.max(1), Ordering::Release);
        self.log(LogLevel::Error, || format!("{what} failed, next try in {wait:?}: {error}"));
        self.untold.lock().push(BackgroundErrorEvent { error: error.clone(), stops_writes });
    }

    /// For a caller that holds no lock: a listener may ask, write, flush or make a family.
    pub(super) fn tell_of_failures(&self) {
        let events = std::mem::take(&mut *self.untold.lock());
        for event in events {
            self.options.listeners.iter().for_each(|listener| listener.background_error(&event));
        }
    }

    /// An edit failed. MANIFEST may have it or not, and a crash would bring out which: a new MANIFEST without it comes
    /// first, or else writes stop until there is one. True if they did.
    fn settle_manifest(&self, error: &Error) -> bool {
        if self.versions.recover_manifest().is_ok() {
            self.take_orphans();
            return false;
        }
        if let Some(queue) = &self.queue {
            queue.gate().stop_writes(error);
        }
        true
    }

    /// As [`Core::settle_manifest`], for a change that a caller asked for, and who hears of it; listeners do when
    /// [`Core::tell_of_failures`] is called.
    pub(super) fn edit_failed(&self, what: &str, error: &Error) {
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) && self.settle_manifest(error) {
            self.note_failure(Job::Flush, what, error, true);
        }
    }

    /// Called by the janitor's tick, or by a test's step: tries again what failed, when its time has come.
    pub(super) fn retry_if_due(self: &Arc<Self>) {
        let at = self.retry_at_us.load(Ordering::Acquire);
        let now = self.clock.monotonic_micros();
        if at == 0 || (now < at && !self.has_space_again()) || self.is_closed.load(Ordering::Relaxed) {
            let refusal = self.queue.as_ref().and_then(|queue| queue.gate().refusal_cause());
            if let (0, Some(error)) = (at, refusal)
                && !self.is_closed.load(Ordering::Relaxed)
            {
                // A failed log stopped writes, and no job failed that could have said so.
                self.retry_at_us.store(now + 1, Ordering::Release);
                self.log(LogLevel::Error, || error.to_string());
                let event = BackgroundErrorEvent { error, stops_writes: true };
                self.options.listeners.iter().for_each(|listener| listener.background_error(&event));
            }
            return;
        }
        self.retry_at_us.store(0, Ordering::Release);
        self.free_when_full.store(u64::MAX, Ordering::Relaxed);
        let core = Arc::downgrade(self);
        self.scheduler.submit(
            Priority::Flush,
            Box::new(move || {
                if let Some(core) = core.upgrade() {
                    core.retry();
                }
            }),
        );
    }

    /// True if the disk was full, and has come to have room for what waits: nobody should wait for the next try then.
    fn has_space_again(&self) -> bool {
        let then = self.free_when_full.load(Ordering::Relaxed);
        if then == u64::MAX {
            return false;
        }
        let waiting = |family: &Arc<Family>| -> u64 {
            family.state.load_full().memtables().map(|memtable| memtable.approximate_bytes() as u64).sum()
        };
        let needed: u64 = self.all_families().iter().map(waiting).sum();
        self.fs.free_space(&self.dir).is_ok_and(|now| now >= then.saturating_add(needed).saturating_add(SPACE_RESERVE))
    }

    fn retry(self: &Arc<Self>) {
        let Some(queue) = &self.queue else { return };
        if self.is_closed.load(Ordering::Relaxed) || self.errors.fatal().is_some() {
            return;
        }
        if queue.gate().is_refusing() {
            if let Err(error) = self.resume(&self.cancel) {
                self.job_failed(Job::Flush, "resuming writes", &error, true);
                return;
            }
        } else if let Err(error) = self.flush_full_memtables() {
            self.flush_failed(&error);
            return;
        }
        let families = self.all_families();
        let are_due = families.iter().filter(|family| self.schedule_compaction(family)).count();
        if are_due == 0 {
            // What failed is not wanted any more: its family went, or somebody did the work by hand.
            self.errors.succeeded(Job::Compaction);
        }
    }

    /// After a failure that stopped writes: a MANIFEST that is known to be whole, a new log, everything in memory into
    /// tables; then writes go on.
    ///
    /// The failed log may hold batches whose writers were told that nobody knows, or end in a half of one. No later
    /// recovery may read it beside newer logs: one edit makes all families' tables durable together and says that
    /// nothing before the new log is needed.
    pub(super) fn resume(self: &Arc<Self>, cancel: &CancelToken) -> Result<()> {
        let mut done = Vec::new();
        let result = self.resume_writes(cancel, &mut done);
        self.tell_of_flushes(done);
        result
    }

    fn resume_writes(self: &Arc<Self>, cancel: &CancelToken, done: &mut Vec<FlushEvent>) -> Result<()> {
        let queue = self.writes()?;
        let _one_at_a_time = self.flushing.lock();
        // Looked at under the lock, which `close` waits for.
        cancel.check()?;
        self.versions.recover_manifest()?;
        let log_number = queue.seal_for_resume()?;
        let families = self.all_families();
        let job = |family: &Arc<Family>| FlushJob::pick(&family.state).map(|job| (Arc::clone(family), job));
        let jobs: Vec<_> = families.iter().filter_map(job).collect();
        let is_flushed = |id| jobs.iter().any(|(_, job)| job.family() == id);
        let mut further: Vec<_> = families
            .iter()
            .map(|family| family.state.id())
            .filter(|id| !is_flushed(*id))
            .map(|family| VersionEdit { family, log_number: Some(log_number), ..VersionEdit::default() })
            .collect();
        further.push(VersionEdit { min_log_to_keep: Some(log_number), ..VersionEdit::default() });
        self.run_flushes(jobs, further, cancel, done)?;
        self.errors.succeeded(Job::Flush);
        queue.gate().resume();
        self.log(LogLevel::Info, || "writes go on".to_owned());
        Ok(())
    }

    /// Flushes all full memtables, those of one family together, and families together if they must be.
    pub(super) fn flush_full_memtables(self: &Arc<Self>) -> Result<()> {
        self.flush_full_memtables_with(&self.cancel)
    }

    pub(super) fn flush_full_memtables_with(self: &Arc<Self>, cancel: &CancelToken) -> Result<()> {
        let mut done = Vec::new();
        let result = self.flush_one_by_one(cancel, &mut done);
        self.tell_of_flushes(done);
        result
    }

    /// Listeners hear of flushes when the flush's lock is free again: they may flush and compact themselves.
    fn tell_of_flushes(&self, done: Vec<FlushEvent>) {
        for event in done {
            self.options.listeners.iter().for_each(|listener| listener.flush_completed(&event));
        }
        self.tell_of_stalls();
    }

    /// As [`Core::tell_of_flushes`].
    pub(super) fn tell_of_stalls(&self) {
        if let Some(queue) = &self.queue {
            queue.gate().tell_listeners();
        }
    }

    fn flush_one_by_one(self: &Arc<Self>, cancel: &CancelToken, done: &mut Vec<FlushEvent>) -> Result<()> {
        let _one_at_a_time = self.flushing.lock();
        let queue = self.writes()?;
        loop {
            // Looked at under the lock, which `close` waits for.
            cancel.check()?;
            queue.gate().refusal()?;
            let jobs = self.pick_flushes(queue)?;
            if jobs.is_empty() {
                break;
            }
            let largest = jobs.iter().map(|(_, job)| job.largest_sequence()).max().unwrap_or_default();
            if self.visible.load(Ordering::Acquire) < largest.0 {
                return Err(Error::new(ErrorKind::Internal, "a full memtable has writes that are not visible yet"));
            }
            self.run_flushes(jobs, Vec::new(), cancel, done)?;
        }
        Ok(())
    }

    /// The full memtables of one family, or of all families if they go together.
    fn pick_flushes(&self, queue: &WriteQueue) -> Result<Vec<(Arc<Family>, FlushJob)>> {
        let pick = |family: Arc<Family>| FlushJob::pick(&family.state).map(|job| (family, job));
        let all = || self.all_families().into_iter().filter_map(pick);
        match self.options.atomic_flush {
            // Between two switches: one in the middle would part what was written together, and a family that was made
            // before it has to be among those that are asked.
            true => queue.exclusive(|_, _| Ok(all().collect())),
            false => Ok(all().next().into_iter().collect()),
        }
    }

    /// Runs flushes, and makes them and `further` durable in one step; `done` gets what listeners are to hear of.
    #[track_caller]
    fn run_flushes(
        self: &Arc<Self>,
        jobs: Vec<(Arc<Family>, FlushJob)>,
        further: Vec<VersionEdit>,
        cancel: &CancelToken,
        done: &mut Vec<FlushEvent>,
    ) -> Result<()> {
        let queue = self.writes()?;
        let frozen = self.pins.freeze(&self.visible);
        let mut outputs = Vec::new();
        for (family, job) in jobs {
            let _pin = self.pins.claim(job_pin(job.family(), family.state.load_full().number, "flush"));
            match job.run(&self.flush_context(&family), &frozen, cancel) {
                Ok(output) => outputs.push(output),
                Err(error) => {
                    flush::discard(&*self.fs, &outputs);
                    return Err(error);
                }
            }
        }
        let flushed: Vec<u64> = outputs.iter().flat_map(|output| output.flushed().iter().copied()).collect();
        let reached =
            Reached { last_sequence: frozen.sequences.last().copied(), needed_log: queue.needed_log(&flushed, None)? };
        let outputs = flush::install(&*self.fs, &self.versions, outputs, further, reached)?;
        self.errors.succeeded(Job::Flush);
        for output in &outputs {
            self.statistics.add(Ticker::FlushWriteBytes, output.bytes);
            self.bytes_flushed.fetch_add(output.bytes, Ordering::Relaxed);
            let Some(family) = self.family(output.family_id()) else { continue };
            done.push(FlushEvent {
                column_family: family.state.config.name.clone(),
                file: output.file,
                bytes: output.bytes,
                entries: (output.entries_read, output.entries_written),
            });
            self.update_stall(&family);
            self.schedule_compaction(&family);
        }
        drop(outputs);
        self.release_wals(queue)?;
        self.take_orphans();
        Ok(())
    }

    /// Gives up the logs that MANIFEST says nobody needs.
    pub(super) fn release_wals(&self, queue: &WriteQueue) -> Result<()> {
        for (number, bytes) in queue.release_wals(self.versions.first_needed_log())? {
            self.janitor.obsolete(FileKind::Wal, number, bytes);
        }
        Ok(())
    }

    /// Files that a failed edit left behind, and that turned out not to be needed.
    fn take_orphans(&self) {
        let orphans = self.versions.take_orphans();
        self.obsolete_tables(orphans.into_iter().map(|number| (number, 0)));
    }

    /// The budget of several databases is exceeded, and this one has most: its largest memtable goes.
    pub(super) fn relieve_memory(self: &Arc<Self>, member: &Arc<BudgetMember>) {
        let (core, member) = (Arc::downgrade(self), Arc::clone(member));
        self.scheduler.submit(
            Priority::Flush,
            Box::new(move || {
                let Some(core) = core.upgrade() else { return };
                let bytes = |family: &Arc<Family>| family.state.load_full().memtable.approximate_bytes();
                if let Some(family) = core.all_families().into_iter().max_by_key(bytes)
                    && !core.is_closed.load(Ordering::Relaxed)
                {
                    // A failed flush is tried again like any other: `flush_families` has seen to that.
                    let _ = core.flush_families(&[family.state.id()]);
                }
                member.answered();
            }),
        );
    }

    fn flush_context(&self, family: &Family) -> FlushContext {
        FlushContext {
            fs: Arc::clone(&self.fs),
            dir: self.dir.clone(),
            clock: Arc::clone(&self.clock),
            rate_limiter: self.options.rate_limiter.clone(),
            versions: Arc::clone(&self.versions),
            table: family.table(),
        }
    }

    fn compaction_context(&self, family: &Family) -> CompactionContext {
        CompactionContext {
            fs: Arc::clone(&self.fs),
            dir: self.dir.clone(),
            clock: Arc::clone(&self.clock),
            rate_limiter: self.options.rate_limiter.clone(),
            versions: Arc::clone(&self.versions),
            tables: Arc::clone(&self.tables),
            statistics: Arc::clone(&self.statistics),
            table: family.table(),
            levels: family.levels(),
        }
    }

    /// Makes everything that was written to `families` so far durable in tables; waits for it.
    pub(super) fn flush_families(self: &Arc<Self>, families: &[ColumnFamilyId]) -> Result<()> {
        self.check_open()?;
        self.writes()?.switch_memtables(families)?;
        self.flush_full_memtables().inspect_err(|error| self.flush_failed(error))
    }

    /// Tells the write queue where a family stands.
    pub(super) fn update_stall(&self, family: &Family) {
        let Some(queue) = &self.queue else { return };
        queue.update_stall(family.state.id(), || {
            let view = family.state.load_full();
            let levels = family.levels();
            let targets = LevelTargets::of(&view.version, &levels);
            StallInputs {
                immutables: view.immutables.len(),
                level0_files: view.version.level(0).map_or(0, |level| level.len()),
                pending_compaction_bytes: picker::pending_bytes(&view.version, &levels, &targets),
            }
        });
    }

    /// Has a family compacted soon, if it needs it; says whether it does.
    pub(super) fn schedule_compaction(self: &Arc<Self>, family: &Arc<Family>) -> bool {
        if self.queue.is_none() || !family.compacts_automatically() || family.state.is_dropped() {
            return false;
        }
        let view = family.state.load_full();
        let levels = family.levels();
        let targets = LevelTargets::of(&view.version, &levels);
        let is_due = picker::scores(&view.version, &levels, &targets).first().is_some_and(|(_, score)| *score >= 1.0);
        if !is_due || family.is_scheduled.swap(true, Ordering::AcqRel) {
            return is_due;
        }
        let (core, family) = (Arc::downgrade(self), Arc::clone(family));
        self.scheduler.submit(
            Priority::Compaction,
            Box::new(move || {
                family.is_scheduled.store(false, Ordering::Release);
                if let Some(core) = core.upgrade() {
                    core.compact_in_background(&family);
                }
            }),
        );
        true
    }

    fn compact_in_background(self: &Arc<Self>, family: &Arc<Family>) {
        let result = {
            let Some(_one_at_a_time) = family.compacting.try_lock() else {
                // A compaction by hand is running; it schedules the next one.
                return;
            };
            // Looked at under the lock, which whoever closes or drops the family waits for.
            if self.is_closed.load(Ordering::Relaxed) || family.state.is_dropped() {
                return;
            }
            let version = Arc::clone(&family.state.load_full().version);
            match picker::pick(&version, &family.levels()) {
                Some(picked) => self.run_compaction(family, picked),
                None => return,
            }
        };
        match result {
            Ok(event) => {
                self.tell_of_compaction(&event);
                self.schedule_compaction(family);
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {}
            Err(error) => {
                let mut stops_writes = self.settle_manifest(&error);
                if self.errors.fatal().is_some()
                    && let Some(queue) = &self.queue
                {
                    queue.gate().stop_writes(&error);
                    stops_writes = true;
                }
                self.job_failed(Job::Compaction, "a compaction", &error, stops_writes);
            }
        }
    }

    /// Has inputs that compactions cannot get through left alone.
    fn judge_inputs(&self, picked: &Compaction, error: &Error) {
        let inputs: Vec<FileNumber> = picked.files().map(|(_, file)| file.number()).collect();
        let aside = self.errors.to_set_aside(&inputs, error);
        self.errors.is_second_miscount(&inputs, error);
        for (_, file) in picked.files().filter(|(_, file)| aside.contains(&file.number())) {
            file.set_aside();
            self.log(LogLevel::Error, || format!("table {} is left out of compactions: {error}", file.number()));
        }
    }

    #[track_caller]
    fn run_compaction(self: &Arc<Self>, family: &Arc<Family>, picked: Compaction) -> Result<CompactionEvent> {
        let context = self.compaction_context(family);
        let pin = self.pins.claim(job_pin(family.state.id(), family.state.load_full().number, "compaction"));
        let frozen = self.pins.freeze(&self.visible);
        let output = job::run(&context, &family.state, &picked, &frozen, &self.cancel)
            .inspect_err(|error| self.judge_inputs(&picked, error))?;
        let output = job::install(&context, &family.state, output)?;
        // The inputs may be picked again, and the old version may go, from here on.
        let reason = picked.reason.clone();
        drop(picked);
        drop(pin);
        self.errors.succeeded(Job::Compaction);
        Ok(self.compaction_done(family, reason, &output))
    }

    /// When the family's lock is free again, as with flushes.
    fn tell_of_compaction(&self, event: &CompactionEvent) {
        self.options.listeners.iter().for_each(|listener| listener.compaction_completed(event));
        self.tell_of_stalls();
    }

    fn compaction_done(
        self: &Arc<Self>,
        family: &Arc<Family>,
        reason: String,
        output: &CompactionOutput,
    ) -> CompactionEvent {
        if !output.is_trivial_move {
            self.obsolete_tables(output.inputs.iter().map(|(_, number, bytes)| (*number, *bytes)));
        }
        self.statistics.add(Ticker::CompactReadBytes, output.bytes_read);
        self.statistics.add(Ticker::CompactWriteBytes, output.bytes_written);
        self.bytes_compacted.fetch_add(output.bytes_written, Ordering::Relaxed);
        self.update_stall(family);
        self.take_orphans();
        CompactionEvent {
            column_family: family.state.config.name.clone(),
            reason,
            inputs: output.inputs.iter().map(|(level, number, _)| (*level, *number)).collect(),
            outputs: (output.output_level, output.outputs.clone()),
            bytes: (output.bytes_read, output.bytes_written),
            entries: (output.entries_read, output.entries_written),
        }
    }

    /// Merges a range of a family down to its last level, or all of it if it is not leveled; waits for it.
    pub(super) fn compact_range(
        self: &Arc<Self>,
        family: &Arc<Family>,
        begin: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Result<()> {
        self.flush_families(&[family.state.id()])?;
        let result = {
            let _one_at_a_time = family.compacting.lock();
            // Looked at under the lock, which whoever closes or drops the family waits for.
            self.check_open()?;
            family.check_not_dropped()?;
            let version = Arc::clone(&family.state.load_full().version);
            // The tables of the other styles are ordered by age: one merged from some of them, with younger and older
            // ones left, would have no place among them. RocksDB does not open that.
            let is_leveled = family.options.compaction_style == CompactionStyle::Level;
            let (begin, end) = if is_leveled { (begin, end) } else { (None, None) };
            match picker::pick_manual(&version, &family.levels(), begin, end) {
                Manual::Nothing => Ok(None),
                Manual::Busy => Err(self.why_busy(&version)),
                Manual::Picked(picked) => self.run_compaction(family, picked).map(Some),
            }
        };
        match &result {
            Ok(event) => event.iter().for_each(|event| self.tell_of_compaction(event)),
            Err(error) => self.edit_failed("a compaction", error),
        }
        self.tell_of_failures();
        self.schedule_compaction(family);
        result.map(drop)
    }

    /// Why a compaction by hand cannot have its inputs.
    fn why_busy(&self, version: &Version) -> Error {
        let Some((_, file)) = version.files().find(|(_, file)| file.is_set_aside()) else {
            return Error::new(ErrorKind::Busy, "another compaction has some of the files");
        };
        let what = format!("table {} is left out of compactions, since they failed on it", file.number());
        match self.errors.why_set_aside(file.number()) {
            Some(cause) if cause.kind() == ErrorKind::Corruption => cause.because(ErrorKind::Corruption, what),
            Some(cause) => cause.because(ErrorKind::Busy, what),
            None => Error::new(ErrorKind::Busy, what),
        }
    }
}

#[track_caller]
fn job_pin(family: ColumnFamilyId, super_version: u64, label: &'static str) -> PinSpec {
    PinSpec {
        kind: PinKind::Job,
        site: std::panic::Location::caller(),
        label: Some(label),
        family: Some(family),
        sequence: Default::default(),
        super_version,
    }
}
