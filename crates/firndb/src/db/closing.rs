//! The right to close a database: one thread at a time has it.

use std::thread::ThreadId;

use crate::sync::{Mutex, MutexGuard};

/// Whoever closes, one at a time: others wait for the end, since who hears of it may open the directory again.
#[derive(Debug, Default)]
pub(super) struct Closing {
    lock: Mutex<()>,
    by: Mutex<Option<ThreadId>>,
}

impl Closing {
    /// The right to close, once nobody else has it. `None` if waiting would deadlock: this thread is closing already, or
    /// the closing thread waits for it.
    pub(super) fn enter(&self, is_waited_for: bool) -> Option<ClosingGuard<'_>> {
        let own = std::thread::current().id();
        let must_not_wait = is_waited_for || *self.by.lock() == Some(own);
        let lock = if must_not_wait { self.lock.try_lock()? } else { self.lock.lock() };
        *self.by.lock() = Some(own);
        Some(ClosingGuard { by: &self.by, _lock: lock })
    }
}

pub(super) struct ClosingGuard<'a> {
    by: &'a Mutex<Option<ThreadId>>,
    _lock: MutexGuard<'a, ()>,
}

impl Drop for ClosingGuard<'_> {
    fn drop(&mut self) {
        // Before the lock goes, which is dropped after this.
        *self.by.lock() = None;
    }
}
