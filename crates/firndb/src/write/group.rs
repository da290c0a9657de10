//! One group's way: numbers, log, memtables, visible. Only the leader of the group is here, with the [`Commit`] in hand.
//!
//! Flow: `queue` (who leads, who belongs to the group) -> **[`Leader`]** -> `wal_set`, memtables, the visible number.
//!
//! Invariants: those of `queue`, 2 and 4 above all. A member of the group is answered whatever happens, by
//! [`Member`]'s drop if by nothing else.
//!
//! Threads: one leader at a time; the members of a large group apply their own batches beside it.

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::SequenceNumber;
use crate::metrics::Ticker;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};

use super::batch::WriteBatch;
use super::commit::{Commit, apply};
use super::config::WriteConfig;
use super::line::{Member, Parallel, Step, Waiter};
use super::log_failure::LogFailure;
use super::options::{Durability, WriteOptions};

/// Groups with fewer entries are applied by their leader: waking threads costs more than it saves.
const PARALLEL_ENTRIES_MIN: u32 = 64;

/// The one who writes a group.
pub(super) struct Leader<'q> {
    pub(super) config: &'q WriteConfig,
    pub(super) visible: &'q AtomicU64,
    pub(super) commit: &'q mut Commit,
}

impl Leader<'_> {
    #[inline]
    pub(super) fn write_alone(&mut self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<SequenceNumber> {
        self.config.gate.refusal()?;
        self.commit.check(batch)?;
        let first = SequenceNumber(self.commit.last_sequence.0 + 1);
        let last = SequenceNumber(self.commit.last_sequence.0 + u64::from(batch.count()));
        batch.set_sequence(first);
        self.commit.last_sequence = last;
        if options.durability == Durability::NoWal {
            self.commit.mark_unlogged(batch)?;
        } else {
            let logged = self.commit.wals.add(batch.as_bytes());
            self.log_outcome(logged, options.durability).map_err(LogFailure::of_one)?;
            self.config.statistics.add(Ticker::WriteWithWal, 1);
        }
        apply(batch, first, |family| self.commit.memtable(family)).map_err(|error| self.stop_after(error))?;
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
    pub(super) fn log_outcome(
        &mut self,
        logged: Result<()>,
        durability: Durability,
    ) -> std::result::Result<(), LogFailure> {
        let handed = logged.and_then(|()| match durability {
            Durability::NoWal | Durability::Buffered => Ok(()),
            Durability::Os | Durability::Synced => self.commit.wals.hand_over(),
        });
        let outcome = match handed {
            Ok(()) if durability == Durability::Synced => self.commit.wals.sync().map_err(LogFailure::Sync),
            other => other.map_err(LogFailure::Append),
        };
        outcome.inspect_err(|failure| self.config.stop_writes(failure.error()))
    }

    /// A batch is in the memtables in part, or may be: nothing of them may be made durable any more.
    #[cold]
    fn stop_after(&self, error: Error) -> Error {
        self.config.fatal(&error);
        error
    }

    #[cold]
    pub(super) fn write_group(
        &mut self,
        batch: &mut WriteBatch,
        options: &WriteOptions,
        group: Vec<Arc<Waiter>>,
    ) -> Result<SequenceNumber> {
        let mut members: Vec<Member> = Vec::with_capacity(group.len());
        for member in group.into_iter().filter_map(Member::take) {
            match self.config.gate.refusal().and_then(|()| self.commit.check(&member.batch)) {
                Ok(()) => members.push(member),
                Err(error) => member.answer(Err(error)),
            }
        }
        let own_check = self.config.gate.refusal().and_then(|()| self.commit.check(batch));
        let mut last = self.commit.last_sequence.0;
        let mut number = |batch: &mut WriteBatch| {
            let first = SequenceNumber(last + 1);
            last += u64::from(batch.count());
            batch.set_sequence(first);
            first
        };
        let own_first = own_check.is_ok().then(|| number(batch));
        let firsts: Vec<SequenceNumber> = members.iter_mut().map(|member| number(&mut member.batch)).collect();
        let last = SequenceNumber(last);
        self.commit.last_sequence = last;
        let applied = self
            .log_group(batch, own_first.map(|_| options.durability), &members)
            .and_then(|()| self.apply_group(batch, own_first, &mut members, &firsts));
        if applied.is_ok() {
            self.visible.store(last.0, Ordering::Release);
            let statistics = &self.config.statistics;
            let own = own_first.map(|_| &*batch);
            statistics.add(Ticker::WriteDoneBySelf, u64::from(own.is_some()));
            statistics.add(Ticker::WriteDoneByOther, members.len() as u64);
            for batch in members.iter().map(|member| &member.batch).chain(own) {
                statistics.add(Ticker::NumberKeysWritten, u64::from(batch.count()));
                statistics.add(Ticker::BytesWritten, batch.as_bytes().len() as u64);
            }
        }
        for (member, first) in members.into_iter().zip(firsts) {
            member.answer(applied.clone().map(|()| first));
        }
        own_check?;
        applied?;
        own_first.ok_or_else(|| Error::new(ErrorKind::Internal, "a batch without a number"))
    }

    /// Adds the records of all batches to the log, and makes them as durable as the strongest asks. `own`: the durability
    /// of the leader's own batch, if it is in the group.
    fn log_group(&mut self, batch: &WriteBatch, own: Option<Durability>, members: &[Member]) -> Result<()> {
        let own = own.map(|durability| (batch, durability));
        let others = members.iter().map(|member| (&member.batch, member.waiter.options.durability));
        let mut strongest = Durability::NoWal;
        let mut records = 0;
        let mut outcome = Ok(());
        let mut unlogged = Vec::new();
        for (batch, durability) in own.into_iter().chain(others) {
            strongest = strongest.max(durability);
            if durability == Durability::NoWal {
                unlogged.push(batch);
            } else {
                records += 1;
                outcome = outcome.and_then(|()| self.commit.wals.add(batch.as_bytes()));
            }
        }
        for batch in unlogged {
            self.commit.mark_unlogged(batch)?;
        }
        self.log_outcome(outcome, strongest).map_err(|failure| match records {
            0 | 1 => failure.of_one(),
            _ => failure.of_several(),
        })?;
        self.config.statistics.add(Ticker::WriteWithWal, records);
        Ok(())
    }

    /// Puts all batches of a group into the memtables: by their own threads if that pays.
    fn apply_group(
        &self,
        batch: &WriteBatch,
        own_first: Option<SequenceNumber>,
        members: &mut [Member],
        firsts: &[SequenceNumber],
    ) -> Result<()> {
        let commit = &*self.commit;
        let entries: u32 = members.iter().map(|member| member.batch.count()).sum();
        if entries < PARALLEL_ENTRIES_MIN {
            for (member, first) in members.iter().zip(firsts) {
                let applied = apply(&member.batch, *first, |family| commit.memtable(family));
                applied.map_err(|error| self.stop_after(error))?;
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
        for member in members.iter_mut() {
            let own = std::mem::take(&mut member.batch);
            *member.waiter.step.lock() = Step::Apply(own, Arc::clone(&parallel));
            member.waiter.moved.notify_one();
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
}
