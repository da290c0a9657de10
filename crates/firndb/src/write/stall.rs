//! When writers are slowed down or stopped, so that flushes and compactions keep up: RocksDB's rules, as pure
//! functions.
//!
//! Source: RocksDB wiki "Write Stalls"; `ColumnFamilyData::RecalculateWriteStallConditions`.

use std::fmt;

use crate::error::Error;

/// The limits of one column family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StallConfig {
    pub(crate) max_write_buffer_number: usize,
    pub(crate) level0_slowdown: usize,
    pub(crate) level0_stop: usize,
    pub(crate) soft_pending_bytes: u64,
    pub(crate) hard_pending_bytes: u64,
    /// Level-0 files only count while they are compacted automatically.
    pub(crate) compacts_automatically: bool,
}

/// Where one column family stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct StallInputs {
    /// Full memtables that wait for their flush.
    pub(crate) immutables: usize,
    pub(crate) level0_files: usize,
    pub(crate) pending_compaction_bytes: u64,
    /// Why no compaction will make the files fewer in the time that a writer should wait; `None` while one may.
    pub(crate) hopeless: Option<Error>,
}

/// Why writers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StallReason {
    Memtables,
    Level0Files,
    PendingCompactionBytes,
}

impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StallReason::Memtables => "too many memtables wait for their flush",
            StallReason::Level0Files => "too many level-0 files or sorted runs wait for compaction",
            StallReason::PendingCompactionBytes => "too many bytes wait for compaction",
        })
    }
}

/// What writers have to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StallState {
    #[default]
    Free,
    Slowed(StallReason),
    Stopped(StallReason),
}

impl StallState {
    /// The worse of two.
    pub(crate) fn worse(self, other: StallState) -> StallState {
        let rank = |state: &StallState| match state {
            StallState::Free => 0,
            StallState::Slowed(_) => 1,
            StallState::Stopped(_) => 2,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }

    /// True if writers are stopped until compactions have done something.
    pub(crate) fn waits_for_compaction(self) -> bool {
        matches!(self, StallState::Stopped(StallReason::Level0Files | StallReason::PendingCompactionBytes))
    }

    pub(crate) fn reason(self) -> Option<StallReason> {
        match self {
            StallState::Free => None,
            StallState::Slowed(reason) | StallState::Stopped(reason) => Some(reason),
        }
    }
}

impl StallConfig {
    /// What writers have to do while a family stands as `inputs` say.
    pub(crate) fn decide(&self, inputs: &StallInputs) -> StallState {
        let level0 = |limit: usize| self.compacts_automatically && inputs.level0_files >= limit;
        let pending = |limit: u64| limit > 0 && self.compacts_automatically && inputs.pending_compaction_bytes >= limit;
        if inputs.immutables >= self.max_write_buffer_number {
            StallState::Stopped(StallReason::Memtables)
        } else if level0(self.level0_stop) {
            StallState::Stopped(StallReason::Level0Files)
        } else if pending(self.hard_pending_bytes) {
            StallState::Stopped(StallReason::PendingCompactionBytes)
        } else if self.max_write_buffer_number > 3 && inputs.immutables + 1 >= self.max_write_buffer_number {
            StallState::Slowed(StallReason::Memtables)
        } else if level0(self.level0_slowdown) {
            StallState::Slowed(StallReason::Level0Files)
        } else if pending(self.soft_pending_bytes) {
            StallState::Slowed(StallReason::PendingCompactionBytes)
        } else {
            StallState::Free
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_rocksdbs() {
        let config = StallConfig {
            max_write_buffer_number: 4,
            level0_slowdown: 20,
            level0_stop: 36,
            soft_pending_bytes: 64,
            hard_pending_bytes: 256,
            compacts_automatically: true,
        };
        use StallReason::*;
        use StallState::*;
        for (immutables, level0_files, pending_compaction_bytes, expected) in [
            (0, 0, 0, Free),
            (2, 19, 63, Free),
            (3, 0, 0, Slowed(Memtables)),
            (4, 0, 0, Stopped(Memtables)),
            (0, 20, 0, Slowed(Level0Files)),
            (0, 36, 0, Stopped(Level0Files)),
            (0, 0, 64, Slowed(PendingCompactionBytes)),
            (0, 20, 256, Stopped(PendingCompactionBytes)),
        ] {
            let inputs = StallInputs { immutables, level0_files, pending_compaction_bytes, hopeless: None };
            assert_eq!(config.decide(&inputs), expected, "{inputs:?}");
        }
        let by_hand = StallConfig { compacts_automatically: false, ..config };
        let many = StallInputs { level0_files: 100, pending_compaction_bytes: 1000, ..StallInputs::default() };
        assert_eq!(by_hand.decide(&many), Free);
        let two = StallConfig { max_write_buffer_number: 2, ..config };
        assert_eq!(two.decide(&StallInputs { immutables: 1, ..StallInputs::default() }), Free);
        assert_eq!(Free.worse(Slowed(Memtables)).worse(Stopped(Level0Files)), Stopped(Level0Files));
    }
}
