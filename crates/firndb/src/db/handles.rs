//! The handles that keep a database open, counted by family: the drop of the last one closes it.
//!
//! Handles of a dropped family read on, but keep nothing open: who dropped the family is done with the database's last
//! handle when that of a living family goes, however long somebody holds on to one of the dropped.
//!
//! Lock: `counts`, for moments, with none inside it; taken when handles are cloned and dropped, and by no read or write.

use std::collections::BTreeMap;

use crate::format::key::ColumnFamilyId;
use crate::process;
use crate::superversion::FamilyState;
use crate::sync::Mutex;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Handles {
    /// The open database's own number in this process.
    database: u64,
    counts: Mutex<BTreeMap<ColumnFamilyId, usize>>,
}

impl Handles {
    /// No handle yet.
    pub(super) fn new() -> Handles {
        Handles { database: process::unique_number(), counts: Mutex::default() }
    }

    /// The open database's own number in this process; never 0.
    #[inline]
    pub(super) fn database(&self) -> u64 {
        self.database
    }

    /// Counts a new handle; false if it keeps nothing open.
    pub(super) fn add(&self, family: &FamilyState) -> bool {
        let mut counts = self.counts.lock();
        // Under the lock: a family is marked before its handles are forgotten.
        if family.is_dropped() {
            return false;
        }
        *counts.entry(family.id()).or_insert(0) += 1;
        true
    }

    /// Ends a handle that was counted. True if it was the last.
    pub(super) fn remove(&self, family: ColumnFamilyId) -> bool {
        let mut counts = self.counts.lock();
        let Some(count) = counts.get_mut(&family) else { return false };
        *count -= 1;
        if *count == 0 {
            counts.remove(&family);
        }
        counts.is_empty()
    }

    /// The family was dropped: its handles count no more.
    pub(super) fn forget(&self, family: ColumnFamilyId) {
        self.counts.lock().remove(&family);
    }
}
