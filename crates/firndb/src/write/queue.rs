//! The write queue: group commit, in one order, for all column families.
//!
//! A writer that finds nobody before it goes straight through: log, memtable, visible. Others line up; the first of
//! them leads the next group: it appends the records of all with one `write(2)`, syncs once if any of them asks for it,
//! and then every member puts its own batch into the memtables while the leader waits. Sequence numbers are given in
//! the order of the log and become visible in that order, group by group.
//!
//! Invariants
//! 1. One leader at a time; only the leader touches the logs, the memtables and the last number in the [`Commit`]. Whoever
//!    else looks in, or sets how a family stands, takes its lock, too, and waits for the leader.
//! 2. A batch is visible only after its record is in the log (unless it asked for none) and all of its entries are in
//!    their memtables; `visible` only rises.
//! 3. Memtables are switched only between groups: a memtable that is full has all of its writers done, and everything in
//!    it is visible.
//! 4. After a failed append or sync nothing is written until [`WriteQueue::resume`]: nobody knows what is in the log.
//!
//! Locks: `line`, then a waiter's `step`, both briefly; `commit` (the leader's), then a `step` or the gate's. Nobody takes
//! `line` or `commit` while holding a `step`.
//!
//! Source: RocksDB `db/write_thread.cc`, wiki "Pipelined Write"; LevelDB's writer queue.

use std::fmt;
use std::path::PathBuf;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::metrics::{EventListener, Statistics, Ticker};
use crate::superversion::FamilyState;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::wal::RECORD_BYTES_MAX;

use super::batch::WriteBatch;
use super::budget::BudgetMember;
use super::commit::{Commit, Family, apply};
use super::gate::WriteGate;
use super::line::{Line, Parallel, Step, Waiter};
use super::log_failure::LogFailure;
use super::options::{Durability, WriteOptions};
use super::stall::{StallConfig, StallInputs, StallState};
use super::wal_set::WalSet;

/// A group is closed when its records have this many bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Groups with fewer entries are applied by their leader: waking threads costs more than it saves.
const PARALLEL_ENTRIES_MIN: u32 = 64;

/// Where the full memtables go: tells the background that these families have something to flush.
pub(crate) type OnFull = Box<dyn Fn(&[ColumnFamilyId]) + Send + Sync>;
/// A number that no file has.
pub(crate) type NewFileNumber = Box<dyn Fn() -> FileNumber + Send + Sync>;

/// What the queue works with.
pub(crate) struct WriteConfig {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) listeners: Vec<Arc<dyn EventListener>>,
    pub(crate) new_file_number: NewFileNumber,
    pub(crate) on_full: OnFull,
    /// Bytes of all logs beyond which something is flushed; 0: four times what the memtables of all families may hold,
    /// RocksDB's rule.
    pub(crate) wal_bytes_max: u64,
    /// Bytes of all memtables beyond which something is flushed; 0: no limit.
    pub(crate) memtable_bytes_max: u64,
    /// The database's part in a budget of several.
    pub(crate) budget: Option<Arc<BudgetMember>>,
    /// Full memtables of all families are switched together.
    pub(crate) atomic_flush: bool,
    /// No thread runs what writers would wait for: they are told so instead of waiting for ever.
    pub(crate) is_manual: bool,
}

/// See the module's text.
pub(crate) struct WriteQueue {
    config: WriteConfig,
    line: Mutex<Line>,
    commit: Mutex<Commit>,
    /// Writes up to this number are seen by reads.
    visible: Arc<AtomicU64>,
    gate: WriteGate,
}

impl fmt::Debug for WriteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteQueue(visible: {})", self.visible.load(Ordering::Relaxed))
    }
}

impl WriteQueue {
    /// A queue for a database whose last write has number `last`. The first log comes with [`WriteQueue::begin`].
    pub(crate) fn new(config: WriteConfig, last: SequenceNumber, next_memtable_id: u64) -> WriteQueue {
        let wals = WalSet::new(Arc::clone(&config.fs), config.dir.clone(), Arc::clone(&config.statistics));
        let (clock, statistics) = (Arc::clone(&config.clock), Arc::clone(&config.statistics));
        let gate = WriteGate::new(clock, statistics, config.listeners.clone(), config.is_manual);
        WriteQueue {
            config,
            line: Mutex::new(Line::default()),
            commit: Mutex::new(Commit {
                families: Vec::new(),
                wals,
                wal_bytes_max: 0,
                last_sequence: last,
                next_memtable_id,
            }),
            visible: Arc::new(AtomicU64::new(last.0)),
            gate,
        }
    }

    /// Begins the first log, which has the number that MANIFEST says is needed first.
    pub(crate) fn begin(&self, log: FileNumber) -> Result<()> {
        self.exclusive(|queue, commit| commit.switch_to(log, &queue.config, &[]).map(drop))
    }

    /// What keeps writers from going straight on.
    pub(crate) fn gate(&self) -> &WriteGate {
        &self.gate
    }

    /// Writes up to this number are seen by reads.
    pub(crate) fn visible(&self) -> &Arc<AtomicU64> {
        &self.visible
    }

    /// Adds a family; its memtable is its published view's.
    pub(crate) fn add_family(&self, state: Arc<FamilyState>, write_buffer_size: u64, stall: StallConfig) -> Result<()> {
        self.exclusive(|queue, commit| {
            let memtable = Arc::clone(&state.load_full().memtable);
            let stall_state = StallState::Free;
            commit.families.push(Family { state, memtable, write_buffer_size, stall, stall_state });
            commit.limit_wals(&queue.config);
            Ok(())
        })
    }

    /// Removes a family: later batches that write to it are refused.
    pub(crate) fn remove_family(&self, id: ColumnFamilyId) -> Result<()> {
        self.exclusive(|queue, commit| {
            commit.families.retain(|family| family.state.id() != id);
            commit.limit_wals(&queue.config);
            Ok(())
        })?;
        self.recount_stalls();
        Ok(())
    }

    /// Writes a batch; its first operation has the returned number. The batch is left as it was.
    #[inline]
    pub(crate) fn write(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<SequenceNumber> {
        batch.check()?;
        if batch.as_bytes().len() > RECORD_BYTES_MAX {
            return Err(Error::new(ErrorKind::Limit, "a batch may have at most 1 GiB"));
        }
        self.gate.pass(batch.as_bytes().len(), options)?;
        if batch.is_empty() {
            // Nothing to log, but what was written before is as durable now as this write asks.
            if matches!(options.durability, Durability::Os | Durability::Synced) {
                self.flush_wal(options.durability == Durability::Synced)?;
            }
            return Ok(SequenceNumber(self.visible.load(Ordering::Acquire)));
        }
        {
            let mut line = self.line.lock();
            if line.is_led {
                drop(line);
                return self.line_up(batch, options);
            }
            line.is_led = true;
        }
        self.lead(batch, options)
    }

    /// Waits in line: until another has written the batch, or until it is this writer's turn to lead.
    #[cold]
    fn line_up(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<SequenceNumber> {
        let waiter = Arc::new(Waiter {
            bytes: batch.as_bytes().len(),
            step: Mutex::new(Step::Waiting(Some(std::mem::take(batch)))),
            moved: Condvar::new(),
            options: *options,
        });
        {
            let mut line = self.line.lock();
            if line.is_led {
                line.waiting.push_back(Arc::clone(&waiter));
            } else {
                line.is_led = true;
                let mut step = waiter.step.lock();
                if let Step::Waiting(own) = std::mem::replace(&mut *step, Step::Taken) {
                    *step = Step::Lead(own);
                }
            }
        }
        loop {
            let mut step = waiter.step.lock();
            while matches!(*step, Step::Waiting(_) | Step::Taken) {
                step = waiter.moved.wait(step);
            }
            match std::mem::replace(&mut *step, Step::Taken) {
                Step::Lead(own) => {
                    drop(step);
                    *batch = own.unwrap_or_default();
                    return self.lead(batch, options);
                }
                Step::Apply(own, parallel) => {
                    drop(step);
                    parallel.apply(&own);
                    *batch = own;
                    // The leader puts the result where it finds this batch gone.
                    let mut step = waiter.step.lock();
                    while !matches!(*step, Step::Done(..)) {
                        step = waiter.moved.wait(step);
                    }
                    if let Step::Done(_, result) = std::mem::replace(&mut *step, Step::Taken) {
                        return result;
                    }
                }
                Step::Done(own, result) => {
                    *batch = own;
                    return result;
                }
                other => *step = other,
            }
        }
    }

    /// Leads a group: this batch, and those that are in line already.
    #[inline]
    fn lead(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<SequenceNumber> {
        let group = self.gather(batch.as_bytes().len(), options);
        let mut commit = self.commit.lock();
        let result = if group.is_empty() {
            self.write_alone(&mut commit, batch, options)
        } else {
            self.write_group(&mut commit, batch, options, group)
        };
        let full = commit.full_families(&self.config);
        let switched = if full.is_empty() { Ok(Vec::new()) } else { self.switch(&mut commit, &full) };
        drop(commit);
        self.hand_on();
        if !full.is_empty() {
            self.gate.tell_listeners();
        }
        if let Ok(switched) = switched
            && !switched.is_empty()
        {
            (self.config.on_full)(&switched);
        }
        result
    }

    /// Takes the writers that can go with this one out of the line.
    #[inline]
    fn gather(&self, own_bytes: usize, options: &WriteOptions) -> Vec<Arc<Waiter>> {
        let mut line = self.line.lock();
        let mut group = Vec::new();
        let mut bytes = own_bytes;
        while let Some(next) = line.waiting.front() {
            let is_exclusive = matches!(*next.step.lock(), Step::Waiting(None));
            // A small write does not wait for the sync or the bulk of others.
            let fits = bytes + next.bytes <= GROUP_BYTES_MAX && next.options.durability <= options.durability;
            if is_exclusive || !fits {
                break;
            }
            bytes += next.bytes;
            group.extend(line.waiting.pop_front());
        }
        group
    }

    /// Makes the first in line the next leader.
    #[inline]
    fn hand_on(&self) {
        let mut line = self.line.lock();
        match line.waiting.pop_front() {
            None => line.is_led = false,
            Some(next) => {
                drop(line);
                let mut step = next.step.lock();
                if let Step::Waiting(own) = std::mem::replace(&mut *step, Step::Taken) {
                    *step = Step::Lead(own);
                }
                drop(step);
                next.moved.notify_one();
            }
        }
    }

    #[inline]
    fn write_alone(
        &self,
        commit: &mut Commit,
        batch: &mut WriteBatch,
        options: &WriteOptions,
    ) -> Result<SequenceNumber> {
        self.gate.refusal()?;
        commit.check(batch)?;
        let first = SequenceNumber(commit.last_sequence.0 + 1);
        let last = SequenceNumber(commit.last_sequence.0 + u64::from(batch.count()));
        batch.set_sequence(first);
        commit.last_sequence = last;
        if options.durability == Durability::NoWal {
            commit.mark_unlogged(batch)?;
        } else {
            let logged = commit.wals.add(batch.as_bytes());
            self.log_outcome(commit, logged, options.durability).map_err(LogFailure::of_one)?;
            self.config.statistics.add(Ticker::WriteWithWal, 1);
        }
        apply(batch, first, |family| commit.memtable(family)).map_err(|error| self.stop_after(error))?;
        // Release pairs with the Acquire of reads: whoever sees the number sees the entries.
        self.visible.store(last.0, Ordering::Release);
        let statistics = &self.config.statistics;
        statistics.add(Ticker::WriteDoneBySelf, 1);
        statistics.add(Ticker::NumberKeysWritten, u64::from(batch.count()));
        statistics.add(Ticker::BytesWritten, batch.as_bytes().len() as u64);
        Ok(first)
    }

    /// Hands the log over and syncs it, as far as `durability` asks; a failure stops all writes.
    #[inline]
    fn log_outcome(
        &self,
        commit: &mut Commit,
        logged: Result<()>,
        durability: Durability,
    ) -> std::result::Result<(), LogFailure> {
        let handed = logged.and_then(|()| match durability {
            Durability::NoWal | Durability::Buffered => Ok(()),
            Durability::Os | Durability::Synced => commit.wals.hand_over(),
        });
        let outcome = match handed {
            Ok(()) if durability == Durability::Synced => commit.wals.sync().map_err(LogFailure::Sync),
            other => other.map_err(LogFailure::Append),
        };
        outcome.inspect_err(|failure| self.gate.stop_writes(failure.error()))
    }

    #[cold]
    fn stop_after(&self, error: Error) -> Error {
        self.gate.stop_writes(&error);
        error
    }

    #[cold]
    fn write_group(
        &self,
        commit: &mut Commit,
        batch: &mut WriteBatch,
        options: &WriteOptions,
        group: Vec<Arc<Waiter>>,
    ) -> Result<SequenceNumber> {
        let mut members: Vec<(Arc<Waiter>, WriteBatch)> = Vec::with_capacity(group.len());
        for waiter in group {
            let Step::Waiting(Some(own)) = std::mem::replace(&mut *waiter.step.lock(), Step::Taken) else { continue };
            match self.gate.refusal().and_then(|()| commit.check(&own)) {
                Ok(()) => members.push((waiter, own)),
                Err(error) => waiter.finish(own, Err(error)),
            }
        }
        let own_check = self.gate.refusal().and_then(|()| commit.check(batch));
        let mut firsts = Vec::with_capacity(members.len());
        let mut last = commit.last_sequence.0;
        let mut number = |batch: &mut WriteBatch| {
            let first = SequenceNumber(last + 1);
            last += u64::from(batch.count());
            batch.set_sequence(first);
            first
        };
        let own_first = own_check.is_ok().then(|| number(batch));
        for (_, member) in &mut members {
            firsts.push(number(member));
        }
        let last = SequenceNumber(last);
        commit.last_sequence = last;
        let mut records = 0;
        let logged = (|| {
            let mut strongest = Durability::NoWal;
            let own = own_first.map(|_| (&*batch, options.durability));
            let all = own.into_iter().chain(members.iter().map(|(waiter, batch)| (batch, waiter.options.durability)));
            let mut outcome = Ok(());
            let mut unlogged = Vec::new();
            for (batch, durability) in all {
                strongest = strongest.max(durability);
                match durability {
                    Durability::NoWal => unlogged.push(batch),
                    _ => {
                        records += 1;
                        outcome = outcome.and_then(|()| commit.wals.add(batch.as_bytes()));
                    }
                }
            }
            for batch in unlogged {
                commit.mark_unlogged(batch)?;
            }
            self.log_outcome(commit, outcome, strongest).map_err(|failure| match records {
                0 | 1 => failure.of_one(),
                _ => failure.of_several(),
            })
        })();
        let applied = logged.and_then(|()| self.apply_group(commit, batch, own_first, &mut members, &firsts));
        if applied.is_ok() {
            self.visible.store(last.0, Ordering::Release);
            let statistics = &self.config.statistics;
            let own = own_first.map(|_| &*batch);
            statistics.add(Ticker::WriteDoneBySelf, u64::from(own.is_some()));
            statistics.add(Ticker::WriteDoneByOther, members.len() as u64);
            statistics.add(Ticker::WriteWithWal, records);
            for batch in members.iter().map(|(_, batch)| batch).chain(own) {
                statistics.add(Ticker::NumberKeysWritten, u64::from(batch.count()));
                statistics.add(Ticker::BytesWritten, batch.as_bytes().len() as u64);
            }
        }
        for ((waiter, batch), first) in members.into_iter().zip(firsts) {
            waiter.finish(batch, applied.clone().map(|()| first));
        }
        own_check?;
        applied?;
        own_first.ok_or_else(|| Error::new(ErrorKind::Internal, "a batch without a number"))
    }

    /// Puts all batches of a group into the memtables: by their own threads if that pays.
    fn apply_group(
        &self,
        commit: &Commit,
        batch: &WriteBatch,
        own_first: Option<SequenceNumber>,
        members: &mut [(Arc<Waiter>, WriteBatch)],
        firsts: &[SequenceNumber],
    ) -> Result<()> {
        let entries: u32 = members.iter().map(|(_, batch)| batch.count()).sum();
        if entries < PARALLEL_ENTRIES_MIN {
            for ((_, member), first) in members.iter().zip(firsts) {
                apply(member, *first, |family| commit.memtable(family)).map_err(|error| self.stop_after(error))?;
            }
            if let Some(first) = own_first {
                apply(batch, first, |family| commit.memtable(family)).map_err(|error| self.stop_after(error))?;
            }
            return Ok(());
        }
        let parallel = Arc::new(Parallel {
            memtables: commit.families.iter().map(|f| (f.state.id(), Arc::clone(&f.memtable))).collect(),
            left: AtomicUsize::new(members.len()),
            failure: Mutex::new(None),
            lock: Mutex::new(()),
            done: Condvar::new(),
        });
        for (waiter, member) in members.iter_mut() {
            *waiter.step.lock() = Step::Apply(std::mem::take(member), Arc::clone(&parallel));
            waiter.moved.notify_one();
        }
        let own = match own_first {
            Some(first) => apply(batch, first, |family| commit.memtable(family)),
            None => Ok(()),
        };
        let mut lock = parallel.lock.lock();
        // Acquire pairs with the Release in `Parallel::apply`: their entries come before the visible number.
        while parallel.left.load(Ordering::Acquire) > 0 {
            lock = parallel.done.wait(lock);
        }
        drop(lock);
        let failure = parallel.failure.lock().take();
        own.and(failure.map_or(Ok(()), Err)).map_err(|error| self.stop_after(error))
    }

    /// Runs `change` alone: after all writes before it, before all after it.
    pub(crate) fn exclusive<T>(&self, change: impl FnOnce(&WriteQueue, &mut Commit) -> Result<T>) -> Result<T> {
        let waiter = {
            let mut line = self.line.lock();
            match std::mem::replace(&mut line.is_led, true) {
                false => None,
                true => {
                    let waiter = Arc::new(Waiter {
                        step: Mutex::new(Step::Waiting(None)),
                        moved: Condvar::new(),
                        options: WriteOptions::default(),
                        bytes: 0,
                    });
                    line.waiting.push_back(Arc::clone(&waiter));
                    Some(waiter)
                }
            }
        };
        if let Some(waiter) = waiter {
            let mut step = waiter.step.lock();
            while !matches!(*step, Step::Lead(_)) {
                step = waiter.moved.wait(step);
            }
        }
        let result = change(self, &mut self.commit.lock());
        self.hand_on();
        result
    }

    fn switch(&self, commit: &mut Commit, full: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        let switched = commit.switch(&self.config, full);
        match &switched {
            Err(error) => self.gate.stop_writes(error),
            Ok(switched) => {
                for id in switched {
                    let found = commit.families.iter_mut().find(|family| family.state.id() == *id);
                    if let Some(family) = found {
                        let view = family.state.load_full();
                        let inputs = StallInputs {
                            immutables: view.immutables.len(),
                            level0_files: view.version.level(0).map_or(0, |level| level.len()),
                            // Kept as it was until the next compaction is picked.
                            pending_compaction_bytes: 0,
                        };
                        family.stall_state = family.stall_state.worse(family.stall.decide(&inputs));
                    }
                }
                self.gate.set_stall(commit.worst_stall());
            }
        }
        switched
    }

    /// Makes the memtables of `families` immutable, those that have something in them; returns which.
    pub(crate) fn switch_memtables(&self, families: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|queue, commit| {
            queue.gate.refusal()?;
            let any = commit.families.iter().any(|f| families.contains(&f.state.id()) && !f.memtable.is_empty());
            if any { queue.switch(commit, families) } else { Ok(Vec::new()) }
        })
    }

    /// The families that hold writes which are in no log.
    pub(crate) fn unlogged_families(&self) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|_, commit| {
            let waits = |family: &Family| family.state.load_full().immutables.iter().any(|full| full.has_unlogged());
            let unlogged = commit.families.iter().filter(|family| family.memtable.has_unlogged() || waits(family));
            Ok(unlogged.map(|family| family.state.id()).collect())
        })
    }

    /// Hands the log's buffer to the operating system, and syncs all logs if asked.
    pub(crate) fn flush_wal(&self, sync: bool) -> Result<()> {
        self.exclusive(|queue, commit| {
            queue.gate.refusal()?;
            let durability = if sync { Durability::Synced } else { Durability::Os };
            queue.log_outcome(commit, Ok(()), durability).map_err(LogFailure::of_none)
        })
    }

    /// The oldest log that is needed once the memtables `flushed` are tables and `dropped` is gone. What is written from
    /// now on is in this one or later ones.
    pub(crate) fn needed_log(&self, flushed: &[u64], dropped: Option<ColumnFamilyId>) -> Result<FileNumber> {
        self.exclusive(|_, commit| {
            let current = commit.wals.number();
            let families = commit.families.iter().map(|family| &family.state);
            let stay = families.filter(|family| Some(family.id()) != dropped);
            Ok(stay.map(|family| family.needed_log(current, flushed)).min().unwrap_or(current))
        })
    }

    /// Takes out the logs below `needed`, with their sizes. MANIFEST has to say before that nobody needs them: a log that it
    /// asks for and that is not there is a lost one.
    pub(crate) fn release_wals(&self, needed: FileNumber) -> Result<Vec<(FileNumber, u64)>> {
        self.exclusive(|_, commit| Ok(commit.wals.release(needed)))
    }

    /// Bytes of all logs.
    pub(crate) fn wal_bytes(&self) -> u64 {
        self.commit.lock().wals.bytes()
    }

    /// Where a family stands now: slows writers down, stops them, or frees them. `inputs` looks under the lock: of a
    /// flush and a compaction that end together, the one that looked first would otherwise have the last word, and writers
    /// that it stops would wait for work that is done.
    pub(crate) fn update_stall(&self, id: ColumnFamilyId, inputs: impl FnOnce() -> StallInputs) {
        let mut commit = self.commit.lock();
        if let Some(family) = commit.families.iter_mut().find(|family| family.state.id() == id) {
            family.stall_state = family.stall.decide(&inputs());
        }
        self.gate.set_stall(commit.worst_stall());
    }

    #[cfg(test)]
    pub(super) fn statistics(&self) -> &Statistics {
        &self.config.statistics
    }

    /// How many stand in line.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.line.lock().waiting.len()
    }

    fn recount_stalls(&self) {
        self.gate.set_stall(self.commit.lock().worst_stall());
    }

    /// The database is being closed: later writes fail with `Closed`; what is buffered goes to the log.
    pub(crate) fn close(&self) -> Result<()> {
        self.exclusive(|queue, commit| {
            let flushed = match queue.gate.refusal() {
                Ok(()) => commit.wals.hand_over(),
                // The log failed before: there is nothing more to be had from it.
                Err(_) => Ok(()),
            };
            // Before the next in line writes: it would write to a log that is no longer ours.
            queue.gate.refuse(Error::new(ErrorKind::Closed, "the database is closed"));
            flushed
        })
    }

    /// Makes every memtable immutable although writes are refused, so that a failed log is no longer needed; the log
    /// itself is not touched. Returns the number of the new log. A log that was made by an earlier try is used again.
    pub(crate) fn seal_for_resume(&self) -> Result<FileNumber> {
        self.exclusive(|queue, commit| {
            if !commit.wals.is_fresh() || commit.families.iter().any(|family| !family.memtable.is_empty()) {
                commit.wals.abandon();
                // Numbers of batches that failed may be in the abandoned log: they are never given again.
                let all: Vec<_> = commit.families.iter().map(|family| family.state.id()).collect();
                commit.switch(&queue.config, &all)?;
            }
            Ok(commit.wals.number())
        })
    }
}
