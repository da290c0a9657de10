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
//! 4. After a failed append or sync nothing is written until the gate's `resume`: nobody knows what is in the log.
//! 5. A panic in the middle of a write answers everybody in line, and stops writes for good ([`Turn`], `line::Member`).
//!
//! Locks: `line`, then a waiter's `step`, both briefly; `commit` (the leader's), then a `step` or the gate's. Nobody takes
//! `line` or `commit` while holding a `step`.
//!
//! Source: RocksDB `db/write_thread.cc`, wiki "Pipelined Write"; LevelDB's writer queue.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::limits::{RECORD_BYTES_MAX, exceeded};
use crate::superversion::FamilyState;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::version::set::hold::Piece;

use super::batch::WriteBatch;
use super::commit::{Commit, Family};
use super::config::WriteConfig;
use super::gate::WriteGate;
use super::group::Leader;
use super::line::{Line, Step, Waiter};
use super::log_failure::LogFailure;
use super::options::{Durability, WriteOptions};
use super::stall::{StallConfig, StallInputs, StallState};
use super::wal_set::WalSet;

/// A group is closed when its records have this many bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// See the module's text.
pub(crate) struct WriteQueue {
    config: WriteConfig,
    line: Mutex<Line>,
    commit: Mutex<Commit>,
    /// Writes up to this number are seen by reads.
    visible: Arc<AtomicU64>,
}

impl fmt::Debug for WriteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteQueue(visible: {})", self.visible.load(Ordering::Relaxed))
    }
}

impl WriteQueue {
    /// A queue for a database whose last write has number `last`. The first log comes with [`WriteQueue::begin`].
    pub(crate) fn new(config: WriteConfig, last: SequenceNumber, next_memtable_id: u64) -> WriteQueue {
        let wals = WalSet::new(
            Arc::clone(&config.fs),
            config.dir.clone(),
            Arc::clone(&config.statistics),
            config.compresses_log,
        );
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
        }
    }

    /// Begins the first log, which has the number that MANIFEST says is needed first.
    pub(crate) fn begin(&self, log: FileNumber) -> Result<()> {
        self.exclusive(|queue, commit| commit.switch_to(log, &queue.config, &[]).map(drop))
    }

    /// What keeps writers from going straight on.
    pub(crate) fn gate(&self) -> &WriteGate {
        &self.config.gate
    }

    /// Writes up to this number are seen by reads.
    pub(crate) fn visible(&self) -> &Arc<AtomicU64> {
        &self.visible
    }

    /// Adds a family; its memtable is its published view's.
    pub(crate) fn add_family(&self, state: Arc<FamilyState>, write_buffer_size: u64, stall: StallConfig) -> Result<()> {
        self.exclusive(|queue, commit| {
            let memtable = Arc::clone(&state.load_full().memtable);
            commit.families.push(Family {
                state,
                memtable,
                write_buffer_size,
                stall,
                stall_state: StallState::Free,
                stall_inputs: StallInputs::default(),
            });
            commit.limit_wals(&queue.config);
            Ok(())
        })
    }

    /// Gives a family other limits.
    pub(crate) fn change_family(&self, id: ColumnFamilyId, write_buffer_size: u64, stall: StallConfig) -> Result<()> {
        self.exclusive(|queue, commit| {
            for family in commit.families.iter_mut().filter(|family| family.state.id() == id) {
                (family.write_buffer_size, family.stall) = (write_buffer_size, stall);
            }
            commit.limit_wals(&queue.config);
            Ok(())
        })
    }

    /// Removes a family: later batches that write to it are refused.
    pub(crate) fn remove_family(&self, id: ColumnFamilyId) -> Result<()> {
        self.exclusive(|queue, commit| {
            commit.families.retain(|family| family.state.id() != id);
            commit.limit_wals(&queue.config);
            // Its memtables are nobody's any more, but for readers.
            commit.report_memory(&queue.config);
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
            return Err(exceeded("a batch", batch.as_bytes().len(), RECORD_BYTES_MAX));
        }
        self.config.gate.pass(batch.as_bytes().len(), options)?;
        if batch.is_empty() && !batch.has_records() {
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
        let turn = Turn::of(self);
        let group = self.gather(batch.as_bytes().len(), options);
        let mut commit = self.commit.lock();
        let mut leader = self.leader(&mut commit);
        let result = match group.is_empty() {
            true => leader.write_alone(batch, options),
            false => leader.write_group(batch, options, group),
        };
        let full = commit.full_families(&self.config);
        let switched = if full.is_empty() { Ok(Vec::new()) } else { self.switch(&mut commit, &full) };
        drop(commit);
        turn.end();
        if !full.is_empty() {
            self.switched(switched);
        }
        result
    }

    /// After a memtable switch, with no lock held.
    #[cold]
    fn switched(&self, switched: Result<Vec<ColumnFamilyId>>) {
        if let Ok(switched) = switched
            && !switched.is_empty()
        {
            (self.config.on_full)(&switched);
        }
        self.config.outbox.deliver();
    }

    fn leader<'q>(&'q self, commit: &'q mut Commit) -> Leader<'q> {
        Leader { config: &self.config, visible: &self.visible, commit }
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
        let turn = Turn::of(self);
        let result = change(self, &mut self.commit.lock());
        turn.end();
        result
    }

    fn switch(&self, commit: &mut Commit, full: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        let switched = commit.switch(&self.config, full);
        match &switched {
            Err(error) => self.config.stop_writes(error),
            Ok(switched) => {
                for id in switched {
                    let found = commit.families.iter_mut().find(|family| family.state.id() == *id);
                    if let Some(family) = found {
                        // What a flush or a compaction counted last, since only they change it.
                        family.stall_inputs.immutables = family.state.load_full().immutables.len();
                        family.stall_state = family.stall.decide(&family.stall_inputs);
                    }
                }
                self.set_stall(commit);
                commit.report_memory(&self.config);
            }
        }
        switched
    }

    /// Makes the memtables of `families` immutable, those that have something in them; returns which.
    pub(crate) fn switch_memtables(&self, families: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|queue, commit| {
            queue.config.gate.refusal()?;
            queue.switch_any(commit, families)
        })
    }

    /// The same for the last flush of a database that is closing: new writes are refused already.
    pub(crate) fn switch_at_end(&self, families: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|queue, commit| {
            queue.config.gate.check_not_fatal()?;
            queue.switch_any(commit, families)
        })
    }

    fn switch_any(&self, commit: &mut Commit, families: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        let any = commit.families.iter().any(|f| families.contains(&f.state.id()) && !f.memtable.is_empty());
        if any { self.switch(commit, families) } else { Ok(Vec::new()) }
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
            queue.config.gate.refusal()?;
            let durability = if sync { Durability::Synced } else { Durability::Os };
            queue.leader(commit).log_outcome(Ok(()), durability).map_err(LogFailure::of_none)
        })
    }

    /// Runs `look` while no write is on its way: what was written so far is in the logs, which the operating system has, as
    /// long as their pieces say, or in tables, or was never meant for a log.
    ///
    /// # Errors
    /// Why writes are refused: nobody knows what the logs hold then. What the log's last piece failed with, as
    /// [`WriteQueue::flush_wal`]; what `look` says.
    pub(crate) fn between_writes<T>(&self, look: impl FnOnce(Vec<Piece>, SequenceNumber) -> Result<T>) -> Result<T> {
        self.exclusive(|queue, commit| {
            queue.config.gate.refusal()?;
            queue.leader(commit).log_outcome(Ok(()), Durability::Os).map_err(LogFailure::of_none)?;
            // Relaxed: nobody but the leader raises it.
            look(commit.wals.pieces(), SequenceNumber(queue.visible.load(Ordering::Relaxed)))
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
            family.stall_inputs = inputs();
            family.stall_state = family.stall.decide(&family.stall_inputs);
        }
        self.set_stall(&commit);
    }

    fn set_stall(&self, commit: &Commit) {
        let (state, hopeless) = commit.worst_stall();
        self.config.gate.set_stall(state, hopeless);
    }

    /// Tells the budget of several databases what the memtables have now.
    pub(crate) fn report_memory(&self) {
        self.commit.lock().report_memory(&self.config);
    }

    #[cfg(test)]
    pub(super) fn statistics(&self) -> &crate::metrics::Statistics {
        &self.config.statistics
    }

    /// How many stand in line.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.line.lock().waiting.len()
    }

    fn recount_stalls(&self) {
        self.set_stall(&self.commit.lock());
    }

    /// The last step of a database that is closing, whose gate refuses writes already: what is buffered goes to the log,
    /// unless the log `had_failed`. The memtables count in no budget any more.
    pub(crate) fn close(&self, had_failed: bool) -> Result<()> {
        self.exclusive(|queue, commit| {
            if let Some(budget) = &queue.config.budget {
                budget.leave();
            }
            // From a log that failed there is nothing more to be had.
            if had_failed { Ok(()) } else { commit.wals.hand_over() }
        })
    }

    /// Makes every memtable immutable although writes are refused, so that a failed log is no longer needed; the log
    /// itself is not touched. Returns the number of the new log. A log that was made by an earlier try is used again.
    pub(crate) fn seal_for_resume(&self) -> Result<FileNumber> {
        self.exclusive(|queue, commit| {
            // Looked at alone: whoever wrote before has ended, well or by a panic.
            queue.config.gate.check_not_fatal()?;
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

/// A leader's turn. Ends as [`Turn::end`] says, or by a panic: then nobody knows what of the group was applied, so that
/// writes stop, and the next in line is called all the same, to be told so.
struct Turn<'q>(Option<&'q WriteQueue>);

impl<'q> Turn<'q> {
    #[inline]
    fn of(queue: &'q WriteQueue) -> Turn<'q> {
        Turn(Some(queue))
    }

    #[inline]
    fn end(mut self) {
        if let Some(queue) = self.0.take() {
            queue.hand_on();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(queue) = self.0 {
            let what = "a write panicked: a comparator, or the engine itself";
            queue.config.fatal(&Error::new(ErrorKind::Internal, what));
            queue.hand_on();
        }
    }
}
