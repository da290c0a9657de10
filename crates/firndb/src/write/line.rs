//! The line before the log: who waits to write, and how a group puts its batches into the memtables together.

use std::collections::VecDeque;

use crate::error::{Error, Result};
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

impl Parallel {
    pub(super) fn apply(&self, batch: &WriteBatch) {
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
