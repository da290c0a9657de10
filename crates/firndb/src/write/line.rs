//! The line before the log: who waits to write, and how a group puts its batches into the memtables together.

use std::collections::VecDeque;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, SequenceNumber};
use crate::memtable::MemTable;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Condvar, Mutex};

use super::batch::WriteBatch;
use super::commit::apply;
use super::options::WriteOptions;

/// One writer in line.
pub(super) struct Waiter {
    pub(super) step: Mutex<Step>,
    pub(super) moved: Condvar,
    pub(super) options: WriteOptions,
    pub(super) bytes: usize,
}

pub(super) enum Step {
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
pub(super) struct Parallel {
    pub(super) memtables: Vec<(ColumnFamilyId, Arc<MemTable>)>,
    pub(super) left: AtomicUsize,
    pub(super) failure: Mutex<Option<Error>>,
    pub(super) lock: Mutex<()>,
    pub(super) done: Condvar,
}

#[derive(Default)]
pub(super) struct Line {
    pub(super) is_led: bool,
    pub(super) waiting: VecDeque<Arc<Waiter>>,
}

impl Waiter {
    pub(super) fn finish(&self, batch: WriteBatch, result: Result<SequenceNumber>) {
        *self.step.lock() = Step::Done(batch, result);
        self.moved.notify_one();
    }
}

/// A writer of a group that another one leads. It is answered in any case: if the leader panics, by the drop of this.
pub(super) struct Member {
    pub(super) waiter: Arc<Waiter>,
    pub(super) batch: WriteBatch,
    is_answered: bool,
}

impl Member {
    /// Takes a writer's batch; `None` if the writer waits for something else.
    pub(super) fn take(waiter: Arc<Waiter>) -> Option<Member> {
        let step = std::mem::replace(&mut *waiter.step.lock(), Step::Taken);
        match step {
            Step::Waiting(Some(batch)) => Some(Member { waiter, batch, is_answered: false }),
            _ => None,
        }
    }

    /// Gives the writer its batch back, and what became of it.
    pub(super) fn answer(mut self, result: Result<SequenceNumber>) {
        self.is_answered = true;
        self.waiter.finish(std::mem::take(&mut self.batch), result);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.is_answered {
            let message = "the thread that wrote this batch with its own panicked; the batch may or may not survive";
            let error = Error::new(ErrorKind::DurabilityUnknown, message);
            self.waiter.finish(std::mem::take(&mut self.batch), Err(error));
        }
    }
}

impl Parallel {
    pub(super) fn apply(&self, batch: &WriteBatch) {
        let mut part = Part { parallel: self, outcome: None };
        let memtable = |id| self.memtables.iter().find(|(family, _)| *family == id).map(|(_, memtable)| &**memtable);
        part.outcome = Some(apply(batch, batch.sequence(), memtable));
    }
}

/// One member's part of applying a group. Without an outcome, its thread panicked; the leader hears of the end either way.
struct Part<'p> {
    parallel: &'p Parallel,
    outcome: Option<Result<()>>,
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let panicked = || Err(Error::new(ErrorKind::Internal, "a thread panicked while it applied its batch"));
        if let Err(error) = self.outcome.take().unwrap_or_else(panicked) {
            *self.parallel.failure.lock() = Some(error);
        }
        let _lock = self.parallel.lock.lock();
        // Release pairs with the Acquire of the leader.
        if self.parallel.left.fetch_sub(1, Ordering::Release) == 1 {
            self.parallel.done.notify_one();
        }
    }
}
