//! One column family's published view, and the steps that change it.
//!
//! Flow: the write queue switches memtables, `flush` and `compaction` install what is durable -> **[`FamilyState`]** builds
//! the next [`SuperVersion`] of the current one, swaps the pointer, and buries the old one -> readers, `graveyard`.
//!
//! Invariants
//! 1. A change starts from the view before it: changes of one family come one after the other.
//! 2. The number is never ahead of the pointer, so that a view which is found current was so after it was taken.
//! 3. A replaced view goes to the graveyard in the same step, also when the family itself goes.
//!
//! Threads: loads are lock-free; a change holds the family's lock for a pointer swap.

use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::memtable::MemTable;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::Version;

use super::graveyard::Graveyard;
use super::published::Published;
use super::view::{FamilyConfig, SuperVersion};

/// A column family as it is now.
#[derive(Debug)]
pub(crate) struct FamilyState {
    pub(crate) config: Arc<FamilyConfig>,
    published: Published<SuperVersion>,
    /// The number of the published SuperVersion; never ahead of it.
    number: AtomicU64,
    is_dropped: AtomicBool,
    /// One change at a time.
    change: Mutex<()>,
    graveyard: Arc<Graveyard>,
}

impl FamilyState {
    pub(crate) fn new(
        config: FamilyConfig,
        memtable: Arc<MemTable>,
        version: Arc<Version>,
        graveyard: Arc<Graveyard>,
    ) -> Arc<FamilyState> {
        let config = Arc::new(config);
        let first = SuperVersion { number: 1, memtable, immutables: Vec::new(), version, config: Arc::clone(&config) };
        Arc::new(FamilyState {
            config,
            published: Published::new(Arc::new(first)),
            number: AtomicU64::new(1),
            is_dropped: AtomicBool::new(false),
            change: Mutex::new(()),
            graveyard,
        })
    }

    pub(crate) fn id(&self) -> ColumnFamilyId {
        self.config.id
    }

    /// The current view, borrowed for a short read.
    #[inline]
    pub(crate) fn load(&self) -> impl std::ops::Deref<Target = Arc<SuperVersion>> + use<> {
        self.published.load()
    }

    /// The current view, to keep.
    #[inline]
    pub(crate) fn load_full(&self) -> Arc<SuperVersion> {
        self.published.load_full()
    }

    /// True if `view` is still the current one.
    #[inline]
    pub(crate) fn is_current(&self, view: &SuperVersion) -> bool {
        // Acquire pairs with the Release in `publish`. The number trails the pointer: a view that is found current here
        // was current at some moment after it was taken.
        self.number.load(Ordering::Acquire) == view.number
    }

    /// Builds the next view from the current one and publishes it.
    fn publish(&self, next: impl FnOnce(&SuperVersion) -> SuperVersion) {
        let _one_at_a_time = self.change.lock();
        let current = self.published.load_full();
        let mut next = next(&current);
        next.number = current.number + 1;
        let number = next.number;
        drop(current);
        let old = self.published.swap(Arc::new(next));
        self.number.store(number, Ordering::Release);
        self.graveyard.bury(old);
    }

    /// Makes `memtable` the active one; the one before becomes the newest immutable one.
    pub(crate) fn switch_memtable(&self, memtable: Arc<MemTable>) {
        self.publish(|current| {
            let mut immutables = Vec::with_capacity(current.immutables.len() + 1);
            immutables.push(Arc::clone(&current.memtable));
            immutables.extend(current.immutables.iter().cloned());
            SuperVersion { memtable, immutables, ..current.shared() }
        });
    }

    /// Makes `memtable` the active one in place of one that has nothing in it.
    pub(crate) fn replace_empty_memtable(&self, memtable: Arc<MemTable>) {
        self.publish(|current| SuperVersion { memtable, ..current.shared() });
    }

    /// A flush is durable: its memtables go, its file comes.
    pub(crate) fn install_flush(&self, flushed: &[u64], version: Arc<Version>) {
        self.publish(|current| {
            let immutables = current.immutables.iter().filter(|m| !flushed.contains(&m.id)).cloned().collect();
            SuperVersion { immutables, version, ..current.shared() }
        });
    }

    /// A compaction is durable.
    pub(crate) fn install_version(&self, version: Arc<Version>) {
        self.publish(|current| SuperVersion { version, ..current.shared() });
    }

    pub(crate) fn mark_dropped(&self) {
        // Release pairs with the Acquire below; readers that hold a view go on with it.
        self.is_dropped.store(true, Ordering::Release);
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    /// The oldest WAL that holds writes of this family which are in no table, and in no memtable of `flushed`;
    /// `current_log` if there are none.
    pub(crate) fn needed_log(&self, current_log: FileNumber, flushed: &[u64]) -> FileNumber {
        let view = self.load_full();
        view.memtables()
            .filter(|memtable| !memtable.is_empty() && !flushed.contains(&memtable.id))
            .map(|memtable| memtable.log_number())
            .min()
            .unwrap_or(current_log)
    }
}

/// A family that goes (dropped, or its database closed) while readers have its last view must not leave it to them.
impl Drop for FamilyState {
    fn drop(&mut self) {
        self.graveyard.bury(self.published.load_full());
    }
}
