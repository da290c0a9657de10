//! One budget for the memtables of several databases.
//!
//! Each database says how many bytes its memtables have: the active ones whenever that changed by a chunk, the full ones
//! when one comes or goes. What is flushed, and a database that is closed, counts no more. Over the budget, the database
//! whose active memtables have most is asked to switch its largest: not the one that happens to write, whose memtables
//! may be small. Full memtables are on their way out already: asking again brings nothing, unless the active ones alone
//! take more than seven eighths of the budget. Source: RocksDB's `WriteBufferManager::ShouldFlush`.
//!
//! Threads: a report is one atomic addition, or two; asking takes a lock, and happens once until it was answered.

use std::fmt;
use std::sync::Weak;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// A budget for the memtables of all databases that are opened with it (RocksDB's class of this name).
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-budget-{}", std::process::id()));
/// let manager = firndb::WriteBufferManager::new(64 << 20);
/// let mut options = firndb::Options::default();
/// options.create_if_missing = true;
/// options.write_buffer_manager = Some(manager.clone());
/// let one = firndb::Db::open_with(dir.join("one"), options.clone())?;
/// let two = firndb::Db::open_with(dir.join("two"), options)?;
/// one.put("key", "value")?;
/// assert!(manager.usage() <= manager.capacity());
/// # one.close()?;
/// # two.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
pub struct WriteBufferManager {
    capacity: u64,
    /// Bytes of active memtables.
    active: AtomicU64,
    /// Bytes of full memtables that are not in tables yet.
    full: AtomicU64,
    members: Mutex<Vec<Weak<BudgetMember>>>,
}

/// Asks a database to flush its largest memtable soon.
type Relieve = Box<dyn Fn(&Arc<BudgetMember>) + Send + Sync>;

/// Bytes of a database's memtables.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemtableBytes {
    pub(crate) active: u64,
    pub(crate) full: u64,
}

/// One database's part in a budget.
pub(crate) struct BudgetMember {
    manager: Arc<WriteBufferManager>,
    active: AtomicU64,
    full: AtomicU64,
    is_asked: AtomicBool,
    /// It could not give when it was asked, and nothing has changed since.
    is_unable: AtomicBool,
    has_left: AtomicBool,
    relieve: Relieve,
}

impl fmt::Debug for WriteBufferManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteBufferManager({} of {} bytes)", self.usage(), self.capacity)
    }
}

impl WriteBufferManager {
    /// A budget of `capacity` bytes.
    pub fn new(capacity: u64) -> Arc<WriteBufferManager> {
        let (active, full) = (AtomicU64::new(0), AtomicU64::new(0));
        Arc::new(WriteBufferManager { capacity, active, full, members: Mutex::default() })
    }

    /// The budget in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes of all memtables that are not in tables yet, about. Memtables that only a reader keeps do not count.
    pub fn usage(&self) -> u64 {
        // Relaxed, here and below: figures for decisions, which order nothing.
        self.active.load(Ordering::Relaxed).saturating_add(self.full.load(Ordering::Relaxed))
    }

    pub(crate) fn join(self: &Arc<Self>, relieve: Relieve) -> Arc<BudgetMember> {
        let member = Arc::new(BudgetMember {
            manager: Arc::clone(self),
            active: AtomicU64::new(0),
            full: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            is_unable: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            relieve,
        });
        self.members.lock().push(Arc::downgrade(&member));
        member
    }

    /// True if so many bytes of active memtables, of `usage` bytes in all, are more than there should be.
    fn is_over(&self, active: u64, usage: u64) -> bool {
        active > self.capacity / 8 * 7 || (usage > self.capacity && active >= self.capacity / 2)
    }

    #[cold]
    fn relieve(&self) {
        let members: Vec<Arc<BudgetMember>> = {
            let mut members = self.members.lock();
            members.retain(|member| member.strong_count() > 0);
            members.iter().filter_map(Weak::upgrade).collect()
        };
        let bytes = |member: &Arc<BudgetMember>| member.active.load(Ordering::Relaxed);
        // What was asked for is on its way out.
        let (asked, others): (Vec<_>, Vec<_>) =
            members.iter().partition(|member| member.is_asked.load(Ordering::Relaxed));
        let leaving: u64 = asked.into_iter().map(bytes).sum();
        let stays = self.active.load(Ordering::Relaxed).saturating_sub(leaving);
        if !self.is_over(stays, self.usage()) {
            return;
        }
        let can_give = |member: &&Arc<BudgetMember>| bytes(member) > 0 && !member.is_unable.load(Ordering::Relaxed);
        let largest = others.into_iter().filter(can_give).max_by_key(|member| bytes(member));
        if let Some(member) = largest
            && !member.is_asked.swap(true, Ordering::Relaxed)
        {
            (member.relieve)(member);
        }
    }
}

impl BudgetMember {
    /// The database's active memtables have so many bytes now.
    #[inline]
    pub(crate) fn report_active(&self, bytes: u64) {
        if self.active.load(Ordering::Relaxed) != bytes {
            self.set_active(bytes);
        }
    }

    /// All of the database's memtables have so many bytes now: one came or went.
    pub(crate) fn report(&self, bytes: MemtableBytes) {
        if !self.has_left.load(Ordering::Relaxed) {
            self.is_unable.store(false, Ordering::Relaxed);
            replace(&self.full, &self.manager.full, bytes.full);
            self.report_active(bytes.active);
        }
    }

    #[cold]
    fn set_active(&self, bytes: u64) {
        if self.has_left.load(Ordering::Relaxed) {
            return;
        }
        replace(&self.active, &self.manager.active, bytes);
        let active = self.manager.active.load(Ordering::Relaxed);
        if self.manager.is_over(active, self.manager.usage()) {
            self.manager.relieve();
        }
    }

    /// What was asked for is done, or cannot be done now: then the others are asked.
    pub(crate) fn answered(&self, is_done: bool) {
        self.is_unable.store(!is_done, Ordering::Relaxed);
        self.is_asked.store(false, Ordering::Relaxed);
    }

    /// The database is closed: it counts no more.
    pub(crate) fn leave(&self) {
        self.has_left.store(true, Ordering::Relaxed);
        replace(&self.active, &self.manager.active, 0);
        replace(&self.full, &self.manager.full, 0);
    }
}

/// Sets a member's figure, and adds the difference to the sum. Members report under their write queue's lock, one at a
/// time; the sum wraps like the difference does, so that it stays exact.
fn replace(own: &AtomicU64, sum: &AtomicU64, bytes: u64) {
    let before = own.swap(bytes, Ordering::Relaxed);
    sum.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
}

impl Drop for BudgetMember {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicUsize;

    type Count = Arc<AtomicUsize>;

    fn member(manager: &Arc<WriteBufferManager>) -> (Arc<BudgetMember>, Count) {
        let asked = Count::default();
        let count = Arc::clone(&asked);
        let relieve = move |_: &Arc<BudgetMember>| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        (manager.join(Box::new(relieve)), asked)
    }

    #[test]
    fn the_largest_is_asked_once_until_it_answered_and_then_the_next() {
        let manager = WriteBufferManager::new(100);
        let ((large, asked_large), (small, asked_small)) = (member(&manager), member(&manager));
        let counts = || (asked_large.load(Ordering::Relaxed), asked_small.load(Ordering::Relaxed));
        large.report_active(80);
        assert_eq!(counts(), (0, 0));
        small.report_active(30);
        assert_eq!((counts(), manager.usage()), ((1, 0), 110));
        small.report_active(31);
        assert_eq!(counts(), (1, 0), "its memtable is on its way out");
        small.report_active(90);
        assert_eq!(counts(), (1, 1), "what stays is too much as well");
        large.report(MemtableBytes::default());
        large.answered(true);
        small.report(MemtableBytes { active: 40, full: 0 });
        small.answered(true);
        assert_eq!((counts(), manager.usage()), ((1, 1), 40));
        small.report_active(200);
        assert_eq!(counts(), (1, 2));
    }

    #[test]
    fn one_that_cannot_give_keeps_nobody_from_being_asked() {
        let manager = WriteBufferManager::new(100);
        let ((large, _), (small, asked_small)) = (member(&manager), member(&manager));
        large.report_active(95);
        large.answered(false);
        small.report_active(30);
        assert_eq!(asked_small.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn full_memtables_count_until_they_are_tables_and_ask_for_nothing_more() {
        let manager = WriteBufferManager::new(80);
        let (one, asked) = member(&manager);
        one.report_active(72);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        one.report(MemtableBytes { active: 0, full: 72 });
        one.answered(true);
        one.report_active(20);
        assert_eq!((asked.load(Ordering::Relaxed), manager.usage()), (1, 92), "its flush is under way");
        one.report(MemtableBytes { active: 20, full: 0 });
        assert_eq!(manager.usage(), 20);
    }

    #[test]
    fn a_database_that_is_closed_or_gone_counts_no_more() {
        let manager = WriteBufferManager::new(100);
        let ((closed, _), (gone, _)) = (member(&manager), member(&manager));
        closed.report(MemtableBytes { active: 10, full: 20 });
        gone.report_active(5);
        closed.leave();
        closed.report_active(50);
        drop(gone);
        assert_eq!(manager.usage(), 0);
    }
}
