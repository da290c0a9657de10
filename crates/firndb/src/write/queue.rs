//! The write queue: group commit, in one order, for all column families.
//!
//! A writer that finds nobody before it goes straight through: log, memtable, visible. Others line up; the first of
//! them leads the next group: it appends the records of all with one `write(2)`, syncs once if any of them asks for it,
//! and then every member puts its own batch into the memtables while the leader waits. Sequence numbers are given in
//! the order of the log and become visible in that order, group by group.
//!
//! Invariants
//! 1. One leader at a time; only the leader touches the [`Commit`].
//! 2. A batch is visible only after its record is in the log (unless it asked for none) and all of its entries are in
//!    their memtables; `visible` only rises.
//! 3. Memtables are switched only between groups: a memtable that is full has all of its writers done, and everything in
//!    it is visible.
//! 4. After a failed append or sync nothing is written until [`WriteQueue::resume`]: nobody knows what is in the log.
//!
//! Locks: `line` (briefly, never with another), then `commit` (the leader). Source: RocksDB `db/write_thread.cc`, wiki
//! "Pipelined Write"; LevelDB's writer queue.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::memtable::{ENTRY_BYTES_MAX, MemTable};
use crate::metrics::{EventListener, StallEvent, Statistics, Ticker};
use crate::superversion::FamilyState;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::wal::RECORD_BYTES_MAX;

use super::batch::WriteBatch;
use super::budget::BudgetMember;
use super::options::{Durability, WriteOptions};
use super::stall::{StallConfig, StallInputs, StallState};
use super::wal_set::WalSet;

/// A group is closed when its records have this many bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;
/// Groups with fewer entries are applied by their leader: waking threads costs more than it saves.
const PARALLEL_ENTRIES_MIN: u32 = 64;
/// How fast writers go at first when they are slowed down; RocksDB's `delayed_write_rate`.
const SLOWED_BYTES_PER_SECOND: u64 = 16 << 20;

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
    /// Bytes of all logs, or of all memtables, beyond which something is flushed; 0: no limit.
    pub(crate) wal_bytes_max: u64,
    pub(crate) memtable_bytes_max: u64,
    /// The database's part in a budget of several.
    pub(crate) budget: Option<Arc<BudgetMember>>,
    /// Full memtables of all families are switched together.
    pub(crate) atomic_flush: bool,
    /// No thread runs what writers would wait for: they are told so instead of waiting for ever.
    pub(crate) is_manual: bool,
}

/// A column family as the leader sees it.
struct Family {
    state: Arc<FamilyState>,
    memtable: Arc<MemTable>,
    write_buffer_size: u64,
    stall: StallConfig,
    stall_state: StallState,
    /// The active memtable has writes that are in no log.
    has_unlogged: bool,
    /// A memtable before it had.
    had_unlogged: bool,
}

/// What only the leader touches.
pub(crate) struct Commit {
    families: Vec<Family>,
    wals: WalSet,
    last_sequence: SequenceNumber,
    next_memtable_id: u64,
}

/// One writer in line.
struct Waiter {
    step: Mutex<Step>,
    moved: Condvar,
    options: WriteOptions,
    bytes: usize,
}

enum Step {
    /// In line, with its batch; `None` waits for the exclusive entry.
    Waiting(Option<WriteBatch>),
    /// First in line: leads the next group.
    Lead(Option<WriteBatch>),
    /// To put its batch into the memtables.
    Apply(WriteBatch, Arc<Parallel>),
    /// Done by another.
    Done(WriteBatch, Result<SequenceNumber>),
    /// The writer has taken what was there.
    Taken,
}

/// Members that apply their batches at the same time.
struct Parallel {
    memtables: Vec<(ColumnFamilyId, Arc<MemTable>)>,
    left: AtomicUsize,
    failure: Mutex<Option<Error>>,
    lock: Mutex<()>,
    done: Condvar,
}

#[derive(Default)]
struct Line {
    is_led: bool,
    waiting: VecDeque<Arc<Waiter>>,
}

/// See the module's text.
pub(crate) struct WriteQueue {
    config: WriteConfig,
    line: Mutex<Line>,
    commit: Mutex<Commit>,
    /// Writes up to this number are seen by reads.
    visible: Arc<AtomicU64>,
    /// Something keeps writers from going straight on: a stall, a failure, the end.
    has_obstacle: AtomicBool,
    obstacle: Mutex<Obstacle>,
    obstacle_changed: Condvar,
}

#[derive(Default)]
struct Obstacle {
    refusal: Option<Error>,
    stall: StallState,
    /// When the next slowed-down write may go, in microseconds on the clock.
    next_write_us: u64,
    stalled_us: u64,
    /// What listeners have not heard yet: told once no lock is held, by one thread at a time, in order.
    untold: VecDeque<StallEvent>,
    is_telling: bool,
}

impl fmt::Debug for WriteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteQueue(visible: {})", self.visible.load(Ordering::Relaxed))
    }
}

/// Puts the operations of a batch into memtables, the first with number `first`; families that `memtable` does not know
/// are passed over (their number is used up).
pub(crate) fn apply<'m>(
    batch: &WriteBatch,
    first: SequenceNumber,
    mut memtable: impl FnMut(ColumnFamilyId) -> Option<&'m MemTable>,
) -> Result<()> {
    let mut last: Option<(ColumnFamilyId, &MemTable)> = None;
    for (sequence, operation) in (first.0..).zip(batch.iter()) {
        let operation = operation?;
        let target = match last {
            Some((family, found)) if family == operation.family => Some(found),
            _ => {
                let found = memtable(operation.family);
                last = found.map(|found| (operation.family, found));
                found
            }
        };
        if let Some(target) = target {
            target.insert(SequenceNumber(sequence), operation.kind, operation.key, operation.value)?;
        }
    }
    Ok(())
}

impl Commit {
    #[inline]
    fn family(&self, id: ColumnFamilyId) -> Option<&Family> {
        // Few families, and mostly the first.
        self.families.iter().find(|family| family.state.id() == id)
    }

    fn memtable(&self, id: ColumnFamilyId) -> Option<&MemTable> {
        self.family(id).map(|family| &*family.memtable)
    }

    /// All families that take writes.
    #[cfg(test)]
    pub(crate) fn families(&self) -> impl Iterator<Item = &Arc<FamilyState>> {
        self.families.iter().map(|family| &family.state)
    }

    /// The current log's number.
    pub(crate) fn log_number(&self) -> FileNumber {
        self.wals.number()
    }

    /// Refuses a batch with an unknown family, or with entries that are too long; before anything is written.
    fn check(&self, batch: &WriteBatch) -> Result<()> {
        let mut last = None;
        for operation in batch.iter() {
            let operation = operation?;
            if operation.key.len() > ENTRY_BYTES_MAX || operation.value.len() > ENTRY_BYTES_MAX {
                return Err(Error::new(ErrorKind::Limit, "keys and values may have at most 1 GiB"));
            }
            if last != Some(operation.family) {
                if self.family(operation.family).is_none() {
                    let id = operation.family.0;
                    return Err(Error::new(
                        ErrorKind::NoSuchColumnFamily,
                        format!("the batch writes to column family {id}, which does not exist (any more)"),
                    ));
                }
                last = Some(operation.family);
            }
        }
        Ok(())
    }

    /// Gives families a new memtable, and everyone a new log. Families with nothing in their memtable get a new one too,
    /// so that they need no old log.
    fn switch(&mut self, config: &WriteConfig, full: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        let number = (config.new_file_number)();
        self.wals.switch(number)?;
        Ok(self.renew_memtables(config, full))
    }

    fn renew_memtables(&mut self, config: &WriteConfig, full: &[ColumnFamilyId]) -> Vec<ColumnFamilyId> {
        let number = self.wals.number();
        let mut switched = Vec::new();
        for family in &mut self.families {
            let is_empty = family.memtable.is_empty();
            if !is_empty && !full.contains(&family.state.id()) {
                continue;
            }
            self.next_memtable_id += 1;
            let memtable = MemTable::new(
                self.next_memtable_id,
                family.state.config.order.clone(),
                family.write_buffer_size as usize,
                number,
                config.clock.unix_seconds(),
            );
            family.memtable = Arc::clone(&memtable);
            family.had_unlogged |= std::mem::take(&mut family.has_unlogged);
            if is_empty {
                family.state.replace_empty_memtable(memtable);
            } else {
                family.state.switch_memtable(memtable);
                switched.push(family.state.id());
            }
        }
        switched
    }

    /// The families whose memtables are to be switched now, by the limits.
    #[inline]
    fn full_families(&self, config: &WriteConfig) -> Vec<ColumnFamilyId> {
        let mut full = Vec::new();
        let mut total = 0;
        for family in &self.families {
            let bytes = family.memtable.approximate_bytes() as u64;
            total += bytes;
            if bytes >= family.write_buffer_size {
                full.push(family.state.id());
            }
        }
        if let Some(budget) = &config.budget {
            budget.report(total);
        }
        if config.memtable_bytes_max > 0 && total > config.memtable_bytes_max && full.is_empty() {
            let largest = self.families.iter().filter(|family| !family.memtable.is_empty());
            full.extend(
                largest.max_by_key(|family| family.memtable.approximate_bytes()).map(|family| family.state.id()),
            );
        }
        if config.wal_bytes_max > 0 && self.wals.bytes() > config.wal_bytes_max {
            let oldest = self.wals.oldest();
            full.extend(
                self.families
                    .iter()
                    .filter(|family| !family.memtable.is_empty() && family.memtable.log_number() <= oldest)
                    .map(|family| family.state.id()),
            );
        }
        if config.atomic_flush && !full.is_empty() {
            full = self.families.iter().map(|family| family.state.id()).collect();
        }
        full
    }
}

impl WriteQueue {
    /// A queue for a database whose last write has number `last`. The first log comes with [`WriteQueue::begin`].
    pub(crate) fn new(config: WriteConfig, last: SequenceNumber, next_memtable_id: u64) -> WriteQueue {
        let wals = WalSet::new(Arc::clone(&config.fs), config.dir.clone(), Arc::clone(&config.statistics));
        WriteQueue {
            config,
            line: Mutex::new(Line::default()),
            commit: Mutex::new(Commit { families: Vec::new(), wals, last_sequence: last, next_memtable_id }),
            visible: Arc::new(AtomicU64::new(last.0)),
            has_obstacle: AtomicBool::new(false),
            obstacle: Mutex::new(Obstacle::default()),
            obstacle_changed: Condvar::new(),
        }
    }

    /// Begins the first log.
    pub(crate) fn begin(&self) -> Result<()> {
        self.exclusive(|queue, commit| commit.switch(&queue.config, &[]).map(drop))
    }

    /// Writes up to this number are seen by reads.
    pub(crate) fn visible(&self) -> &Arc<AtomicU64> {
        &self.visible
    }

    /// Adds a family; its memtable is its published view's.
    pub(crate) fn add_family(&self, state: Arc<FamilyState>, write_buffer_size: u64, stall: StallConfig) -> Result<()> {
        self.exclusive(|_, commit| {
            let memtable = Arc::clone(&state.load_full().memtable);
            let stall_state = StallState::Free;
            commit.families.push(Family {
                state,
                memtable,
                write_buffer_size,
                stall,
                stall_state,
                has_unlogged: false,
                had_unlogged: false,
            });
            Ok(())
        })
    }

    /// Removes a family: later batches that write to it are refused.
    pub(crate) fn remove_family(&self, id: ColumnFamilyId) -> Result<()> {
        self.exclusive(|_, commit| {
            commit.families.retain(|family| family.state.id() != id);
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
        if self.has_obstacle.load(Ordering::Acquire) {
            self.pass_obstacle(batch.as_bytes().len(), options)?;
        }
        if batch.is_empty() {
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
            self.tell_listeners();
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
        self.refusal()?;
        commit.check(batch)?;
        let first = SequenceNumber(commit.last_sequence.0 + 1);
        let last = SequenceNumber(commit.last_sequence.0 + u64::from(batch.count()));
        batch.set_sequence(first);
        commit.last_sequence = last;
        if options.durability == Durability::NoWal {
            self.mark_unlogged(commit, batch)?;
        } else {
            let logged = commit.wals.add(batch.as_bytes());
            self.log_outcome(commit, logged, options.durability)?;
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
    fn log_outcome(&self, commit: &mut Commit, logged: Result<()>, durability: Durability) -> Result<()> {
        let handed = logged.and_then(|()| match durability {
            Durability::NoWal | Durability::Buffered => Ok(()),
            Durability::Os | Durability::Synced => commit.wals.hand_over(),
        });
        if let Err(error) = handed {
            let kind = error.kind();
            self.stop_writes(&error);
            return Err(error.because(kind, "the write-ahead log could not be written; the batch was not applied"));
        }
        if durability == Durability::Synced
            && let Err(error) = commit.wals.sync_all()
        {
            self.stop_writes(&error);
            return Err(error.because(
                ErrorKind::DurabilityUnknown,
                "the write-ahead log could not be synced; the batch may or may not survive",
            ));
        }
        Ok(())
    }

    #[cold]
    fn stop_after(&self, error: Error) -> Error {
        self.stop_writes(&error);
        error
    }

    fn mark_unlogged(&self, commit: &mut Commit, batch: &WriteBatch) -> Result<()> {
        for operation in batch.iter() {
            let id = operation?.family;
            if let Some(family) = commit.families.iter_mut().find(|family| family.state.id() == id) {
                family.has_unlogged = true;
            }
        }
        Ok(())
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
            match self.refusal().and_then(|()| commit.check(&own)) {
                Ok(()) => members.push((waiter, own)),
                Err(error) => waiter.finish(own, Err(error)),
            }
        }
        let own_check = self.refusal().and_then(|()| commit.check(batch));
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
                    _ => outcome = outcome.and_then(|()| commit.wals.add(batch.as_bytes())),
                }
            }
            for batch in unlogged {
                self.mark_unlogged(commit, batch)?;
            }
            self.log_outcome(commit, outcome, strongest).map_err(|error| {
                match members.len() + usize::from(own_first.is_some()) {
                1 => error,
                // Of several records, those before the one that did not fit may have arrived whole.
                _ => error.because(
                    ErrorKind::DurabilityUnknown,
                    "the write-ahead log could not be written; the batch was not applied, and may or may not survive",
                ),
            }
            })
        })();
        let applied = logged.and_then(|()| self.apply_group(commit, batch, own_first, &mut members, &firsts));
        if applied.is_ok() {
            self.visible.store(last.0, Ordering::Release);
            let statistics = &self.config.statistics;
            statistics.add(Ticker::WriteDoneByOther, members.len() as u64);
            let count = |batch: &WriteBatch| (u64::from(batch.count()), batch.as_bytes().len() as u64);
            for (keys, bytes) in members.iter().map(|(_, batch)| count(batch)).chain([count(batch)]) {
                statistics.add(Ticker::NumberKeysWritten, keys);
                statistics.add(Ticker::BytesWritten, bytes);
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
            Err(error) => self.stop_writes(error),
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
                self.set_stall(commit);
            }
        }
        switched
    }

    /// Makes the memtables of `families` immutable, those that have something in them; returns which.
    pub(crate) fn switch_memtables(&self, families: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|queue, commit| {
            queue.refusal()?;
            let any = commit.families.iter().any(|f| families.contains(&f.state.id()) && !f.memtable.is_empty());
            if any { queue.switch(commit, families) } else { Ok(Vec::new()) }
        })
    }

    /// The families that hold writes which are in no log.
    pub(crate) fn unlogged_families(&self) -> Result<Vec<ColumnFamilyId>> {
        self.exclusive(|_, commit| {
            let waits = |family: &&Family| family.had_unlogged && !family.state.load_full().immutables.is_empty();
            let unlogged = commit.families.iter().filter(|family| family.has_unlogged || waits(family));
            Ok(unlogged.map(|family| family.state.id()).collect())
        })
    }

    /// Hands the log's buffer to the operating system, and syncs all logs if asked.
    pub(crate) fn flush_wal(&self, sync: bool) -> Result<()> {
        self.exclusive(|queue, commit| {
            queue.refusal()?;
            let durability = if sync { Durability::Synced } else { Durability::Os };
            queue.log_outcome(commit, Ok(()), durability)
        })
    }

    /// Syncs all logs below the current one and, with several families, is called before a flush is made durable: a
    /// power loss must not keep one family's half of a batch and lose the other's.
    pub(crate) fn sync_wals_below(&self, log: FileNumber) -> Result<()> {
        self.exclusive(|queue, commit| {
            let through = FileNumber(log.0.saturating_sub(1));
            commit.wals.sync_through(through).inspect_err(|error| queue.stop_writes(error))
        })
    }

    /// Takes out the logs that no family needs, with their sizes.
    pub(crate) fn release_wals(&self) -> Result<Vec<(FileNumber, u64)>> {
        self.exclusive(|_, commit| {
            let current = commit.wals.number();
            let needed = commit.families.iter().map(|family| family.state.needed_log(current)).min().unwrap_or(current);
            Ok(commit.wals.release(needed))
        })
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
        self.set_stall(&commit);
    }

    fn recount_stalls(&self) {
        self.set_stall(&self.commit.lock());
    }

    fn set_stall(&self, commit: &Commit) {
        let state = commit.families.iter().fold(StallState::Free, |worst, family| worst.worse(family.stall_state));
        let mut obstacle = self.obstacle.lock();
        if obstacle.stall == state {
            return;
        }
        obstacle.stall = state;
        if !self.config.listeners.is_empty() {
            obstacle.untold.push_back(StallEvent { reason: state.reason().map(|reason| reason.to_string()) });
        }
        self.note_obstacle(&obstacle);
    }

    /// Tells listeners what became of stalls, for a caller that holds no lock: a listener may read statistics, write or
    /// flush. One that brings a stall about itself hears of it when it has returned.
    #[cold]
    pub(crate) fn tell_listeners(&self) {
        let mut obstacle = self.obstacle.lock();
        if obstacle.is_telling {
            return;
        }
        while let Some(event) = obstacle.untold.pop_front() {
            obstacle.is_telling = true;
            drop(obstacle);
            self.config.listeners.iter().for_each(|listener| listener.stall_changed(&event));
            obstacle = self.obstacle.lock();
            obstacle.is_telling = false;
        }
    }

    fn note_obstacle(&self, obstacle: &Obstacle) {
        let any = obstacle.refusal.is_some() || obstacle.stall != StallState::Free;
        // Release pairs with the Acquire in `write`.
        self.has_obstacle.store(any, Ordering::Release);
        self.obstacle_changed.notify_all();
    }

    /// What writers have to do now.
    pub(crate) fn stall_state(&self) -> StallState {
        self.obstacle.lock().stall
    }

    /// Microseconds that writers were held up so far.
    pub(crate) fn stalled_micros(&self) -> u64 {
        self.obstacle.lock().stalled_us
    }

    /// Waits as long as writers have to, or says why there is no waiting.
    #[cold]
    fn pass_obstacle(&self, bytes: usize, options: &WriteOptions) -> Result<()> {
        let clock = &self.config.clock;
        let start = clock.monotonic_micros();
        let mut obstacle = self.obstacle.lock();
        let outcome = loop {
            if let Some(error) = &obstacle.refusal {
                break Err(error.clone());
            }
            let Some(reason) = obstacle.stall.reason() else { break Ok(()) };
            if options.no_slowdown {
                break Err(Error::new(ErrorKind::Busy, format!("writes have to wait: {reason}")));
            }
            match obstacle.stall {
                StallState::Stopped(_) if self.config.is_manual => {
                    break Err(Error::new(
                        ErrorKind::Busy,
                        format!("writes have to wait for a background step: {reason}"),
                    ));
                }
                StallState::Stopped(_) => obstacle = self.obstacle_changed.wait(obstacle),
                _ => {
                    let now = clock.monotonic_micros();
                    let cost = (bytes as u64).saturating_mul(1_000_000) / SLOWED_BYTES_PER_SECOND;
                    let turn = obstacle.next_write_us.max(now);
                    obstacle.next_write_us = turn + cost;
                    drop(obstacle);
                    if turn > now {
                        clock.sleep(Duration::from_micros(turn - now));
                    }
                    obstacle = self.obstacle.lock();
                    break Ok(());
                }
            }
        };
        let waited = clock.monotonic_micros() - start;
        obstacle.stalled_us += waited;
        self.config.statistics.add(Ticker::StallMicros, waited);
        outcome
    }

    /// The error with which writes are refused, if they are.
    #[inline]
    pub(crate) fn refusal(&self) -> Result<()> {
        match self.has_obstacle.load(Ordering::Acquire) {
            false => Ok(()),
            true => self.obstacle.lock().refusal.clone().map_or(Ok(()), Err),
        }
    }

    /// Refuses writes from now on, because of `cause`; an earlier cause stays.
    #[cold]
    pub(crate) fn stop_writes(&self, cause: &Error) {
        let refusal = cause.clone().because(ErrorKind::ReadOnly, "writes are stopped after an earlier failure");
        self.refuse(refusal);
    }

    fn refuse(&self, error: Error) {
        let mut obstacle = self.obstacle.lock();
        obstacle.refusal.get_or_insert(error);
        self.note_obstacle(&obstacle);
    }

    /// The database is being closed: later writes fail with `Closed`; what is buffered goes to the log.
    pub(crate) fn close(&self) -> Result<()> {
        self.exclusive(|queue, commit| {
            let flushed = match queue.refusal() {
                Ok(()) => commit.wals.hand_over(),
                // The log failed before: there is nothing more to be had from it.
                Err(_) => Ok(()),
            };
            // Before the next in line writes: it would write to a log that is no longer ours.
            queue.refuse(Error::new(ErrorKind::Closed, "the database is closed"));
            flushed
        })
    }

    /// True if writes are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.obstacle.lock().refusal.is_some()
    }

    /// Why writes are refused.
    pub(crate) fn refusal_cause(&self) -> Option<Error> {
        self.obstacle.lock().refusal.clone()
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

    /// Lets writes go on. The caller has made everything durable that the failed log held.
    pub(crate) fn resume(&self) {
        let mut obstacle = self.obstacle.lock();
        let is_closed = obstacle.refusal.as_ref().is_some_and(|error| error.kind() == ErrorKind::Closed);
        if !is_closed {
            obstacle.refusal = None;
            self.note_obstacle(&obstacle);
        }
    }
}

impl Waiter {
    fn finish(&self, batch: WriteBatch, result: Result<SequenceNumber>) {
        *self.step.lock() = Step::Done(batch, result);
        self.moved.notify_one();
    }
}

impl Parallel {
    fn apply(&self, batch: &WriteBatch) {
        let memtable = |id| self.memtables.iter().find(|(family, _)| *family == id).map(|(_, memtable)| &**memtable);
        if let Err(error) = apply(batch, batch.sequence(), memtable) {
            *self.failure.lock() = Some(error);
        }
        let _lock = self.lock.lock();
        // Release pairs with the Acquire of the leader.
        if self.left.fetch_sub(1, Ordering::Release) == 1 {
            self.done.notify_one();
        }
    }
}
