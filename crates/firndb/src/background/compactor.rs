//! Compactions: which family's turn it is, one job from pick to install, and what its failure leads to.
//!
//! Flow: a flush, a compaction, a retry -> [`Compactor::schedule`] -> the scheduler -> `compaction::picker` (pure) ->
//! `compaction::claims` -> `compaction::job` (run, install) -> events, stalls, the next one. [`Compactor::compact_range`]
//! does the same on its caller's thread, step by step.
//!
//! Invariants
//! 1. A job is picked, claimed, run and installed by one thread, which waits for no other job. Jobs of one family run
//!    side by side if they have no files and no keys in common.
//! 2. A family whose compaction failed waits for its next try (`failures`), whoever schedules it meanwhile; unless it met
//!    damage that was set aside, which the next job goes around at once.
//!
//! Threads: any. The registry of claims is locked while a job is picked, and never while one runs or a callback does.

mod by_hand;
mod delete_files;
mod switches;

use crate::background::scheduler::{Priority, Scheduler};
use crate::clock::CancelToken;
use crate::compaction::claims::{Attempt, Claim, Claims};
use crate::compaction::job::{self, CompactionContext, CompactionOutput};
use crate::compaction::picker::{Compaction, NO_CURSORS, Picker, View, WaitingDrop};
use crate::compaction::styles::CompactionPri;
use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::iter::InternalIterator;
use crate::metrics::outbox::Event;
use crate::metrics::{CompactionEvent, LogLevel, Ticker};
use crate::options::CompactionStyle;
use crate::superversion::PinKind;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::reader::TableReadOptions;
use crate::version::{TableFile, Version};
use crate::write::{StallInputs, WriteQueue};

use super::failures::{Failures, Probe, Work};
use super::family::Family;
use super::resources::Resources;

use self::switches::Switches;

/// See the module documentation.
pub(crate) struct Compactor {
    resources: Arc<Resources>,
    queue: Arc<WriteQueue>,
    failures: Arc<Failures>,
    scheduler: Arc<Scheduler>,
    /// Bytes of tables written by compactions since open.
    bytes: AtomicU64,
    switches: Switches,
}

impl Compactor {
    pub(crate) fn new(
        resources: Arc<Resources>,
        queue: Arc<WriteQueue>,
        failures: Arc<Failures>,
        scheduler: Arc<Scheduler>,
    ) -> Arc<Compactor> {
        let switches = Switches::new(&resources.cancel);
        Arc::new(Compactor { resources, queue, failures, scheduler, bytes: AtomicU64::new(0), switches })
    }

    /// Bytes of tables written by compactions since open.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Queues a compaction of the family if it needs one; says whether it does.
    pub(crate) fn schedule(self: &Arc<Self>, family: &Arc<Family>) -> bool {
        if !family.compacts_automatically() || family.state.is_dropped() || self.failures.fatal().is_some() {
            return false;
        }
        let is_due = family.claims.look(|claims| self.pick(family, claims).is_some());
        if !is_due {
            self.note_awaited(family);
        }
        let must_wait = self.failures.is_waiting(Work::Compaction(family.id()));
        if !is_due || must_wait || family.is_scheduled.swap(true, Ordering::AcqRel) {
            return is_due;
        }
        // A job must not keep the database alive: its handles decide.
        let (compactor, family) = (Arc::downgrade(self), Arc::clone(family));
        self.scheduler.submit(
            Priority::Compaction,
            Box::new(move || {
                family.is_scheduled.store(false, Ordering::Release);
                if let Some(compactor) = compactor.upgrade() {
                    compactor.run_scheduled(&family);
                }
            }),
        );
        true
    }

    /// Nothing can be picked: says what number the oldest snapshot has to reach, or what time has to come, for that to
    /// change.
    fn note_awaited(&self, family: &Family) {
        let oldest = self.resources.pins.oldest(&self.resources.visible);
        let (picker, view) = (family.picker(), family.state.load_full());
        let awaited = picker.awaited_snapshot(&view.version, oldest);
        // Relaxed, both: who misses it looks again at the next tick.
        family.awaited_snapshot.store(awaited.map_or(u64::MAX, |sequence| sequence.0), Ordering::Relaxed);
        family.awaited_time_s.store(picker.awaited_time(&view.version).unwrap_or(u64::MAX), Ordering::Relaxed);
        let waiting = self.waiting_drop(family);
        let has_waited = family.has_waiting_drop.swap(waiting.is_some(), Ordering::Relaxed);
        if let Some(waiting) = waiting.filter(|_| !has_waited) {
            let name = &family.state.config.name;
            let (files, bytes) = (waiting.files, waiting.bytes);
            let snapshots = self.resources.pins.pins().into_iter().filter(|pin| pin.kind == PinKind::Snapshot);
            let sites: Vec<_> = snapshots.map(|pin| format!("{}:{}", pin.site.file(), pin.site.line())).collect();
            let oldest = sites.first().map_or("nowhere", String::as_str);
            self.resources.outbox.log(LogLevel::Warn, || {
                format!(
                    "column family {name:?}: {files} tables with {bytes} bytes should be dropped, and are kept for {} \
                     snapshots, the oldest made at {oldest}",
                    sites.len()
                )
            });
        }
    }

    /// What should have been dropped of a family, and is kept for snapshots.
    pub(crate) fn waiting_drop(&self, family: &Family) -> Option<WaitingDrop> {
        let options = family.options();
        if options.compaction_style != CompactionStyle::Fifo || !options.compacts_automatically() {
            return None;
        }
        family.claims.look(|claims| self.look(family, claims, |picker, view| picker.waiting_drop(view)))
    }

    /// Called now and then: the snapshot that kept something back may be gone, or something may be too old by now. The
    /// release of a snapshot itself does nothing about it.
    pub(crate) fn look_for_what_was_awaited(self: &Arc<Self>) {
        if self.resources.cancel.check().is_err() {
            return;
        }
        let mut waiting = self.resources.families.all();
        let now_s = self.resources.clock.unix_seconds();
        let snapshot = |family: &Family| family.awaited_snapshot.load(Ordering::Relaxed);
        let is_time = |family: &Family| family.awaited_time_s.load(Ordering::Relaxed) <= now_s;
        let has_drop = |family: &Family| family.has_waiting_drop.load(Ordering::Relaxed);
        waiting.retain(|family| snapshot(family) != u64::MAX || is_time(family) || has_drop(family));
        if waiting.is_empty() {
            return;
        }
        let oldest = self.resources.pins.oldest(&self.resources.visible);
        let is_worth_it = |family: &Family| snapshot(family) <= oldest.0 || is_time(family) || has_drop(family);
        for family in waiting.iter().filter(|family| is_worth_it(family)) {
            self.schedule(family);
        }
    }

    /// The next automatic compaction of a family, beside those that run. Compares keys, on whatever thread.
    fn pick(&self, family: &Family, claims: &Claims) -> Option<Compaction> {
        self.failures.watch("picking a compaction", || self.pick_unwatched(family, claims))
    }

    fn pick_unwatched(&self, family: &Family, claims: &Claims) -> Option<Compaction> {
        self.look(family, claims, |picker, view| picker.pick(view))
    }

    /// Shows a family's picker what it decides by.
    fn look<T>(&self, family: &Family, claims: &Claims, look: impl FnOnce(&Picker, &View<'_>) -> T) -> T {
        // Loaded while nobody claims or gives back: it has the results of all claims that were given back.
        let current = family.state.load_full();
        self.look_at(family, &current.version, claims, look)
    }

    /// The same for a version that was taken before.
    fn look_at<T>(
        &self,
        family: &Family,
        version: &Arc<Version>,
        claims: &Claims,
        look: impl FnOnce(&Picker, &View<'_>) -> T,
    ) -> T {
        let (resources, picker) = (&self.resources, family.picker());
        let snapshots = resources.pins.snapshots(&resources.visible);
        let cursors = if picker.levels().pri == CompactionPri::RoundRobin {
            &resources.versions.cursors(family.id())
        } else {
            &NO_CURSORS
        };
        let suggested = family.suggested.lock().clone();
        let view = View {
            version,
            claims,
            oldest_snapshot: snapshots.oldest,
            newest_snapshot: snapshots.newest,
            now_s: resources.clock.unix_seconds(),
            cursors,
            suggested: &suggested,
        };
        look(&picker, &view)
    }

    fn run_scheduled(self: &Arc<Self>, family: &Arc<Family>) {
        if self.resources.cancel.check().is_err() || self.failures.fatal().is_some() {
            return;
        }
        let attempt = family.claims.try_claim(&family.state.config.order, |claims| {
            self.pick(family, claims).map(|job| {
                let wanted = job.wanted();
                (job, wanted)
            })
        });
        let Attempt::Taken(job, claim) = attempt else {
            self.forget_failure_unless_due(family);
            return;
        };
        // Another thread may find more to do beside it.
        self.schedule(family);
        match self.run(family, &job, claim, &self.switches.automatic()) {
            Ok(()) => {
                self.schedule(family);
            }
            // Called off: what lets compactions start again schedules it.
            Err(error) => self.failed(family, &error),
        }
    }

    /// Tries again what failed, if it is still wanted.
    pub(crate) fn retry(self: &Arc<Self>, family: &Arc<Family>) {
        if !self.schedule(family) {
            self.forget_failure_unless_due(family);
        }
    }

    /// If nothing is due, not even without the claims of running jobs, what failed is not wanted any more. Otherwise the
    /// job in the way schedules the family when it ends.
    fn forget_failure_unless_due(&self, family: &Family) {
        if !family.compacts_automatically() || self.pick(family, &Claims::default()).is_none() {
            self.failures.compaction_succeeded(family.id());
        }
        self.update_stall(family);
    }

    /// What a failed compaction leads to. Its inputs have been judged.
    fn failed(self: &Arc<Self>, family: &Arc<Family>, error: &Error) {
        if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Closed) {
            return;
        }
        let free = self.resources.free_if_full(error);
        // If writes stop, what resumes them schedules compactions, too.
        if self.resources.settle_manifest(&self.failures, "a compaction", error) {
            let work = Work::Compaction(family.id());
            if self.failures.has_set_aside(error) {
                self.failures.failed_and_goes_around(work, "a compaction", error);
                self.retry(family);
            } else {
                self.failures.failed(work, "a compaction", error, free);
            }
        }
        self.update_stall(family);
    }

    /// One job, from its inputs to the published version.
    fn run(
        self: &Arc<Self>,
        family: &Arc<Family>,
        picked: &Compaction,
        claim: Claim,
        cancel: &CancelToken,
    ) -> Result<()> {
        self.failures.watch("a compaction", || self.run_and_install(family, picked, claim, cancel))
    }

    fn run_and_install(
        self: &Arc<Self>,
        family: &Arc<Family>,
        picked: &Compaction,
        claim: Claim,
        cancel: &CancelToken,
    ) -> Result<()> {
        let context = self.context(family, picked);
        // What goes is kept for the snapshots that are there, and for those that come before the result does.
        let takes_away = picked.is_drop || context.filter.is_some();
        let _announced = takes_away.then(|| self.resources.pins.announce_drop());
        if picked.is_drop && !self.may_drop(picked) {
            // A snapshot was made since it was picked: it waits.
            return Ok(());
        }
        let pin = self.resources.pin_job(family, "compaction");
        let frozen = self.resources.pins.freeze(&self.resources.visible);
        let output = job::run(&context, &family.state, picked, &frozen, cancel)
            .inspect_err(|error| self.judge_inputs(family, picked, error))?;
        let output = job::install(&context, &family.state, output)?;
        // The inputs may be picked again, and the old version may go, from here on.
        drop(claim);
        drop(pin);
        self.failures.compaction_succeeded(family.id());
        if !picked.version.blobs.is_empty() {
            self.resources.obsolete_blobs(&picked.version, Some(&family.state.load_full().version));
        }
        self.done(family, picked.reason.clone(), &output);
        Ok(())
    }

    /// True if no snapshot sees anything of the job's files. To be asked once the drop is announced.
    fn may_drop(&self, picked: &Compaction) -> bool {
        let newest = self.resources.pins.snapshots(&self.resources.visible).newest;
        newest.is_none_or(|newest| newest < picked.smallest_sequence())
    }

    fn judge_inputs(&self, family: &Family, picked: &Compaction, error: &Error) {
        let inputs: Vec<Arc<TableFile>> = picked.files().map(|(_, file)| Arc::clone(file)).collect();
        if self.failures.judge(family.id(), &inputs, error) {
            self.failures.fatal_failure(error);
        }
    }

    fn done(self: &Arc<Self>, family: &Arc<Family>, reason: String, output: &CompactionOutput) {
        let resources = &self.resources;
        if !output.is_trivial_move {
            resources.obsolete_tables(output.inputs.iter().map(|(_, number, bytes)| (*number, *bytes)));
        }
        resources.statistics.add(Ticker::CompactReadBytes, output.bytes_read);
        resources.statistics.add(Ticker::CompactWriteBytes, output.bytes_written);
        self.bytes.fetch_add(output.bytes_written, Ordering::Relaxed);
        self.update_stall(family);
        resources.take_orphans();
        resources.outbox.post(Event::Compaction(CompactionEvent {
            column_family: family.state.config.name.clone(),
            reason,
            inputs: output.inputs.iter().map(|(level, number, _)| (*level, *number)).collect(),
            outputs: (output.output_level, output.outputs.clone()),
            bytes: (output.bytes_read, output.bytes_written),
            entries: (output.entries_read, output.entries_written),
        }));
    }

    fn context(&self, family: &Family, picked: &Compaction) -> CompactionContext {
        let resources = &self.resources;
        let mut table = family.options().table_at(&picked.version, picked.output_level);
        if !picked.is_compressed {
            table.compression = Compression::None;
        }
        CompactionContext {
            fs: Arc::clone(&resources.fs),
            dir: resources.dir.clone(),
            clock: Arc::clone(&resources.clock),
            rate_limiter: resources.rate_limiter.clone(),
            versions: Arc::clone(&resources.versions),
            tables: Arc::clone(&resources.tables),
            statistics: Arc::clone(&resources.statistics),
            table,
            blobs: family.options().blobs(picked.output_level),
            levels: family.levels(),
            filter: if picked.is_drop || picked.is_trivial_move { None } else { family.filter_of(picked) },
        }
    }

    /// Tells the write queue where a family stands.
    pub(crate) fn update_stall(&self, family: &Family) {
        self.queue.update_stall(family.id(), || {
            let view = family.state.load_full();
            let counts = family.picker().stall_counts(&view.version);
            let mut inputs = StallInputs {
                immutables: view.immutables.len(),
                level0_files: counts.level0_files,
                pending_compaction_bytes: counts.pending_bytes,
                hopeless: None,
            };
            if family.stall().decide(&inputs).waits_for_compaction() {
                inputs.hopeless = self.why_in_vain(family, &view.version);
            }
            inputs
        });
    }

    /// Background work was paused, or goes on: decides anew what writers wait for.
    pub(crate) fn pause_changed(&self) {
        self.resources.families.all().iter().for_each(|family| self.update_stall(family));
    }

    /// Why writers should not wait for the family's compactions: they are paused or keep failing, or none can be picked.
    fn why_in_vain(&self, family: &Family, version: &Arc<Version>) -> Option<Error> {
        if self.scheduler.is_paused() {
            return Some(Error::new(ErrorKind::Busy, "background work is paused"));
        }
        self.failures.is_hopeless(Work::Compaction(family.id())).or_else(|| {
            let is_stuck = family
                .claims
                .look(|claims| self.look_at(family, version, claims, |picker, view| picker.is_stuck(view)));
            let nothing = || Error::new(ErrorKind::Busy, "no compaction can make the files fewer");
            is_stuck.then(|| self.failures.why_any_set_aside(family.id()).unwrap_or_else(nothing))
        })
    }

    /// Why no job of a family begins any more.
    fn why_closed(&self, family: &Family) -> Error {
        let dropped = || Error::new(ErrorKind::Busy, "the column family is being dropped");
        self.check_wanted(family).err().unwrap_or_else(dropped)
    }

    fn check_wanted(&self, family: &Family) -> Result<()> {
        if self.resources.cancel.check().is_err() {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        self.failures.check_not_fatal()?;
        family.check_not_dropped()
    }

    /// Queues another look at a table that was set aside.
    pub(crate) fn schedule_probe(self: &Arc<Self>, probe: Probe) {
        let compactor = Arc::downgrade(self);
        self.scheduler.submit(
            Priority::Compaction,
            Box::new(move || {
                if let Some(compactor) = compactor.upgrade() {
                    compactor.probe(&probe);
                }
            }),
        );
    }

    /// Reads a table that was set aside from end to end: one that is sound takes part in compactions again.
    fn probe(self: &Arc<Self>, probe: &Probe) {
        let Some(family) = self.resources.families.get(probe.family) else { return };
        let version = Arc::clone(&family.state.load_full().version);
        let number = probe.file.number();
        if version.contains(number) {
            if self.read_through(&probe.file, &version.order).is_err() {
                return;
            }
            self.resources.outbox.log(LogLevel::Info, || format!("table {number} takes part in compactions again"));
        }
        self.failures.take_back(&probe.file);
        self.update_stall(&family);
        self.schedule(&family);
    }

    /// Reads what a compaction would read of a table.
    fn read_through(&self, file: &Arc<TableFile>, order: &KeyOrder) -> Result<()> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: 1 << 20 };
        let mut iter = self.resources.tables.open(file, order)?.iter(options);
        iter.seek_to_first()?;
        while iter.valid() {
            self.resources.cancel.check()?;
            iter.next()?;
        }
        Ok(())
    }
}
