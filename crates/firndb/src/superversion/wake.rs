//! How the janitor learns that there is something to do.
//!
//! Flow: whoever replaces a view, hands a file over or stops reading -> **[`Wake`]** -> the janitor's thread in `purge`. The
//! graveyard and the registry of pins share it with the janitor and know nothing else of it.
//!
//! Threads: a reader that leaves stores at most one mark; only the janitor sleeps here.

use std::time::Duration;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex};

/// Tells the janitor that there is something to do. Cheap to call when there is not.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    /// Something waits for readers to leave.
    waits: AtomicBool,
    /// How many views were replaced so far. What waits is of one of them: a reader that came after the last has none of it.
    burials: AtomicU64,
    is_set: AtomicBool,
    lock: Mutex<()>,
    called: Condvar,
}

impl Wake {
    /// What a reader notes before it takes its view, for when it leaves.
    #[inline]
    pub(super) fn burials(&self) -> u64 {
        // Relaxed, here and below: if a burial is missed, the janitor looks by itself soon.
        self.burials.load(Ordering::Relaxed)
    }

    /// A reader left that came after so many burials: of interest only if something waits for that, and if a view was
    /// replaced since, perhaps the reader's own. Else one old iterator would make every other reader call.
    #[inline]
    pub(super) fn reader_left(&self, burials: u64) {
        if self.waits.load(Ordering::Relaxed) && self.burials() != burials {
            self.call();
        }
    }

    /// Something waits for the readers that there are.
    pub(super) fn await_readers(&self) {
        self.burials.fetch_add(1, Ordering::Relaxed);
        self.waits.store(true, Ordering::Relaxed);
        self.call();
    }

    #[cfg(test)]
    pub(super) fn is_called(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// Calls the janitor; the first call since it looked last does, later ones do nothing.
    #[cold]
    pub(crate) fn call(&self) {
        // AcqRel: the janitor, which takes the mark, sees what the caller did before.
        if !self.is_set.swap(true, Ordering::AcqRel) {
            // Without the lock a call may fall between the janitor's look and its sleep: that costs one period.
            self.called.notify_one();
        }
    }

    /// Sleeps until called, or for `period`.
    pub(super) fn wait(&self, period: Duration) {
        let lock = self.lock.lock();
        // Acquire pairs with the swap in `call`: what the caller did before is seen.
        if self.is_set.load(Ordering::Acquire) {
            drop(lock);
        } else {
            drop(self.called.wait_timeout(lock, period));
        }
    }

    /// The janitor looks now: a call that comes meanwhile makes it look again.
    pub(super) fn look(&self) {
        self.is_set.store(false, Ordering::Release);
    }

    /// Whether anything waits for readers, as the janitor found it.
    pub(super) fn set_waits(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Calls the janitor, and misses it in no case.
    pub(super) fn call_for_certain(&self) {
        self.is_set.store(true, Ordering::Release);
        // Under the lock: the thread is either before its look at the mark, or asleep. Else it could miss this for a period.
        let lock = self.lock.lock();
        self.called.notify_all();
        drop(lock);
    }

    /// Calls the janitor, which now waits for readers that may be there already.
    pub(super) fn call_when_readers_leave(&self) {
        self.waits.store(true, Ordering::Relaxed);
        self.call();
    }
}
