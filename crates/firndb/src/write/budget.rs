//! One budget for the memtables of several databases.
//!
//! Each database says how many bytes its active memtables have, whenever that changed by a chunk. Over the budget, the
//! one that has most is asked to flush its largest: not the one that happens to write, whose memtables may be small.
//! Threads: a report is one atomic addition; asking takes a lock, and happens once until it was answered.

use std::fmt;
use std::sync::Weak;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// A budget for the active memtables of all databases that are opened with it (RocksDB's class of this name).
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
    usage: AtomicU64,
    members: Mutex<Vec<Weak<BudgetMember>>>,
}

/// Has a database flush its largest memtable soon.
type Relieve = Box<dyn Fn(&Arc<BudgetMember>) + Send + Sync>;

/// One database's part in a budget.
pub(crate) struct BudgetMember {
    manager: Arc<WriteBufferManager>,
    bytes: AtomicU64,
    is_asked: AtomicBool,
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
        Arc::new(WriteBufferManager { capacity, usage: AtomicU64::new(0), members: Mutex::default() })
    }

    /// The budget in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes of all active memtables, about.
    pub fn usage(&self) -> u64 {
        // Relaxed, here and below: figures for decisions, which order nothing.
        self.usage.load(Ordering::Relaxed)
    }

    pub(crate) fn join(self: &Arc<Self>, relieve: Relieve) -> Arc<BudgetMember> {
        let member = Arc::new(BudgetMember {
            manager: Arc::clone(self),
            bytes: AtomicU64::new(0),
            is_asked: AtomicBool::new(false),
            relieve,
        });
        self.members.lock().push(Arc::downgrade(&member));
        member
    }

    #[cold]
    fn relieve(&self) {
        let members: Vec<Arc<BudgetMember>> = {
            let mut members = self.members.lock();
            members.retain(|member| member.strong_count() > 0);
            members.iter().filter_map(Weak::upgrade).collect()
        };
        let largest = members.iter().max_by_key(|member| member.bytes.load(Ordering::Relaxed));
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
    pub(crate) fn report(&self, bytes: u64) {
        let before = self.bytes.load(Ordering::Relaxed);
        if before == bytes {
            return;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
        // The sum wraps like the difference does, so that it stays exact.
        let usage = self.manager.usage.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        if usage.wrapping_add(bytes.wrapping_sub(before)) > self.manager.capacity {
            self.manager.relieve();
        }
    }

    /// What was asked for is done, or cannot be done.
    pub(crate) fn answered(&self) {
        self.is_asked.store(false, Ordering::Relaxed);
    }
}

impl Drop for BudgetMember {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        self.manager.usage.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicUsize;

    #[test]
    fn the_largest_is_asked_once_until_it_answered_and_who_goes_gives_its_bytes_back() {
        let manager = WriteBufferManager::new(100);
        let asked = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let join = |index: usize| {
            let count = Arc::clone(&asked[index]);
            manager.join(Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
            }))
        };
        let (large, small) = (join(0), join(1));
        let counts = || (asked[0].load(Ordering::Relaxed), asked[1].load(Ordering::Relaxed));
        large.report(90);
        assert_eq!(counts(), (0, 0));
        small.report(20);
        small.report(30);
        assert_eq!((counts(), manager.usage()), ((1, 0), 120));
        large.report(0);
        large.answered();
        small.report(40);
        assert_eq!((counts(), manager.usage()), ((1, 0), 40));
        small.report(200);
        assert_eq!(counts(), (1, 1));
        drop(small);
        assert_eq!(manager.usage(), 0);
    }
}
