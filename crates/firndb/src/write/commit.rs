//! What only the leader of a group touches: the families' memtables, the logs, the last number given.
//!
//! Flow: `queue` (whose turn it is) -> `group` (the group's way) -> **[`Commit`]** -> memtables, `wal_set`.
//!
//! Invariants
//! 1. Numbers only rise: one that was given is never given again, whatever became of its batch.
//! 2. What [`Commit::check`] lets through, [`apply`] can apply.
//! 3. Families with an empty memtable get a new one with every new log, so that none needs an old log for nothing.
//!
//! Threads: the thread that has the queue's `commit` lock.

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind};
use crate::format::merge::MergeRule;
use crate::iter::operands::without_operator;
use crate::memtable::MemTable;
use crate::superversion::FamilyState;
use crate::sync::Arc;

use super::batch::{BatchOperation, WriteBatch};
use super::budget::MemtableBytes;
use super::config::WriteConfig;
use super::stall::{StallConfig, StallInputs, StallState};
use super::wal_set::WalSet;

/// A column family as the leader sees it.
pub(super) struct Family {
    pub(super) state: Arc<FamilyState>,
    pub(super) memtable: Arc<MemTable>,
    pub(super) write_buffer_size: u64,
    pub(super) stall: StallConfig,
    pub(super) stall_state: StallState,
    /// What was counted last; level 0 and what waits for compaction only change with an update.
    pub(super) stall_inputs: StallInputs,
}

/// What only the leader touches.
pub(crate) struct Commit {
    pub(super) families: Vec<Family>,
    pub(super) wals: WalSet,
    /// Bytes of all logs beyond which the families that need the oldest are flushed.
    pub(super) wal_bytes_max: u64,
    pub(super) last_sequence: SequenceNumber,
    pub(super) next_memtable_id: u64,
}

/// Puts the operations of a batch into memtables, the first with number `first`; families that `memtable` does not know
/// are passed over (their number is used up).
pub(crate) fn apply<'m>(
    batch: &WriteBatch,
    first: SequenceNumber,
    mut memtable: impl FnMut(ColumnFamilyId) -> Option<&'m MemTable>,
) -> Result<()> {
    let mut last: Option<(ColumnFamilyId, &MemTable)> = None;
    for (sequence, operation) in (first.0..).zip(batch.operations()) {
        let operation = operation?;
        let target = match last {
            Some((family, found)) if family == operation.family => Some(found),
            _ => {
                let found = memtable(operation.family);
                last = found.map(|found| (operation.family, found));
                found
            }
        };
        let Some(target) = target else { continue };
        match operation.kind {
            ValueKind::RangeDeletion => {
                target.delete_range(SequenceNumber(sequence), operation.key, operation.value)?;
            }
            kind => target.insert(SequenceNumber(sequence), kind, operation.key, operation.value)?,
        }
    }
    Ok(())
}

impl Commit {
    #[inline]
    pub(super) fn family(&self, id: ColumnFamilyId) -> Option<&Family> {
        // Few families, and mostly the first.
        self.families.iter().find(|family| family.state.id() == id)
    }

    pub(super) fn memtable(&self, id: ColumnFamilyId) -> Option<&MemTable> {
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

    /// A number for the next memtable of any family.
    pub(crate) fn new_memtable_id(&mut self) -> u64 {
        self.next_memtable_id += 1;
        self.next_memtable_id
    }

    /// Refuses a batch with an unknown family, or with entries that are too long; before anything is written.
    pub(super) fn check(&self, batch: &WriteBatch) -> Result<()> {
        if self.last_sequence >= SequenceNumber::LIMIT {
            return Err(Error::new(ErrorKind::Limit, "all sequence numbers are used up"));
        }
        let mut last = None;
        for operation in batch.operations() {
            let operation = operation?;
            operation.check()?;
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
            match operation.kind {
                ValueKind::RangeDeletion => self.check_range(&operation)?,
                ValueKind::Merge => self.check_operand(&operation)?,
                _ => {}
            }
        }
        Ok(())
    }

    #[cold]
    fn check_operand(&self, operation: &BatchOperation<'_>) -> Result<()> {
        match self.family(operation.family).and_then(|family| family.state.config.merge.as_deref()) {
            Some(MergeRule::Unknown(name)) => Err(without_operator(Some(name))),
            Some(_) => Ok(()),
            None => Err(without_operator(None)),
        }
    }

    #[cold]
    fn check_range(&self, operation: &BatchOperation<'_>) -> Result<()> {
        let is_reversed = |family: &Family| family.state.config.order.compare(operation.key, operation.value).is_gt();
        match self.family(operation.family).is_some_and(is_reversed) {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "a range to delete that ends before it begins: from \"{}\" to \"{}\"",
                    operation.key.escape_ascii(),
                    operation.value.escape_ascii()
                ),
            )),
        }
    }

    /// Gives families a new memtable, and everyone a new log. Families with nothing in their memtable get a new one too,
    /// so that they need no old log.
    pub(super) fn switch(&mut self, config: &WriteConfig, full: &[ColumnFamilyId]) -> Result<Vec<ColumnFamilyId>> {
        self.switch_to((config.new_file_number)(), config, full)
    }

    /// The same, with the number of the new log.
    pub(super) fn switch_to(
        &mut self,
        log: FileNumber,
        config: &WriteConfig,
        full: &[ColumnFamilyId],
    ) -> Result<Vec<ColumnFamilyId>> {
        self.wals.switch(log)?;
        Ok(self.renew_memtables(config, full))
    }

    fn renew_memtables(&mut self, config: &WriteConfig, full: &[ColumnFamilyId]) -> Vec<ColumnFamilyId> {
        let number = self.wals.number();
        let mut switched = Vec::new();
        for family in &mut self.families {
            let is_empty = family.memtable.is_empty();
            // With atomic flush, what one family has in tables the others must have there, too.
            if !is_empty && !config.atomic_flush && !full.contains(&family.state.id()) {
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
    pub(super) fn full_families(&self, config: &WriteConfig) -> Vec<ColumnFamilyId> {
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
            budget.report_active(total);
        }
        if config.memtable_bytes_max > 0 && total > config.memtable_bytes_max && full.is_empty() {
            let largest = self.families.iter().filter(|family| !family.memtable.is_empty());
            full.extend(
                largest.max_by_key(|family| family.memtable.approximate_bytes()).map(|family| family.state.id()),
            );
        }
        if self.wals.bytes() > self.wal_bytes_max {
            let oldest = self.wals.oldest();
            full.extend(
                self.families
                    .iter()
                    .filter(|family| !family.memtable.is_empty() && family.memtable.log_number() <= oldest)
                    .map(|family| family.state.id()),
            );
        }
        full
    }

    /// Remembers which memtables hold writes that are in no log.
    pub(super) fn mark_unlogged(&self, batch: &WriteBatch) -> Result<()> {
        for operation in batch.operations() {
            let id = operation?.family;
            if let Some(memtable) = self.memtable(id) {
                memtable.mark_unlogged();
            }
        }
        Ok(())
    }

    /// Decides anew how long the logs may get: families came or went.
    pub(super) fn limit_wals(&mut self, config: &WriteConfig) {
        let may_hold =
            |family: &Family| family.write_buffer_size.saturating_mul(family.stall.max_write_buffer_number as u64);
        self.wal_bytes_max = match config.wal_bytes_max {
            0 => self.families.iter().map(may_hold).fold(0, u64::saturating_add).saturating_mul(4),
            limit => limit,
        };
    }

    /// What the family that needs it most asks of writers, and why to wait for it is in vain, if it is.
    pub(super) fn worst_stall(&self) -> (StallState, Option<Error>) {
        let worst = self.families.iter().fold(StallState::Free, |worst, family| worst.worse(family.stall_state));
        let in_vain = |family: &Family| {
            let hopeless = &family.stall_inputs.hopeless;
            hopeless.clone().filter(|_| family.stall_state.waits_for_compaction())
        };
        (worst, self.families.iter().find_map(in_vain))
    }

    /// Tells the budget of several databases what the memtables have now.
    pub(super) fn report_memory(&self, config: &WriteConfig) {
        let Some(budget) = &config.budget else { return };
        let mut bytes = MemtableBytes::default();
        for family in &self.families {
            bytes.active += family.memtable.approximate_bytes() as u64;
            let view = family.state.load();
            bytes.full += view.immutables.iter().map(|memtable| memtable.approximate_bytes() as u64).sum::<u64>();
        }
        budget.report(bytes);
    }
}
