//! The value at the heart of the engine: one consistent view of a column family.
//!
//! Flow: `family` builds and publishes it -> a read takes one and is done with everybody else -> `graveyard`, once it was
//! replaced. It never changes, but for the active memtable, which only grows and is read through a sequence number.

use std::fmt;

use crate::format::comparator::KeyOrder;
use crate::format::key::ColumnFamilyId;
use crate::format::merge::MergeRule;
use crate::memtable::MemTable;
use crate::sync::Arc;
use crate::version::Version;

/// What never changes about a family.
#[derive(Debug, Clone)]
pub(crate) struct FamilyConfig {
    pub(crate) id: ColumnFamilyId,
    pub(crate) name: String,
    pub(crate) order: KeyOrder,
    pub(crate) merge: Option<Arc<MergeRule>>,
}

/// One consistent view of a column family.
pub(crate) struct SuperVersion {
    pub(crate) number: u64,
    pub(crate) memtable: Arc<MemTable>,
    /// Full memtables that are not in a table yet, newest first.
    pub(crate) immutables: Vec<Arc<MemTable>>,
    pub(crate) version: Arc<Version>,
    pub(crate) config: Arc<FamilyConfig>,
}

impl fmt::Debug for SuperVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SuperVersion({} of {:?}: {} memtables, version {})",
            self.number,
            self.config.name,
            1 + self.immutables.len(),
            self.version.id
        )
    }
}

impl SuperVersion {
    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<MemTable>> {
        std::iter::once(&self.memtable).chain(&self.immutables)
    }

    /// What a change leaves as it is.
    pub(super) fn shared(&self) -> SuperVersion {
        SuperVersion {
            number: self.number,
            memtable: Arc::clone(&self.memtable),
            immutables: self.immutables.clone(),
            version: Arc::clone(&self.version),
            config: Arc::clone(&self.config),
        }
    }
}
