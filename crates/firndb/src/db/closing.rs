//! The right to close a database: one thread at a time has it, and decides when nobody reads.
//!
//! Flow: [`super::close`] -> [`Closing::enter`] -> [`Closing::decide`] -> the end. A reader -> its pin ->
//! [`Closing::await_decision`] -> is it closed?
//!
//! Invariant: a reader that may begin is seen by whoever decides, and one that is not seen may not begin. The reader's pin and
//! the mark of a decision are each written before the other is looked at, with a fence between, so that one of the two sees the
//! other; a reader that sees the mark waits for the decision, which waits for nothing.
//!
//! Threads: any.

use std::thread::ThreadId;

use crate::error::Result;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::sync::{Mutex, MutexGuard, yield_now};

/// Whoever closes, one at a time: others wait for the end, since who hears of it may open the directory again.
#[derive(Debug, Default)]
pub(super) struct Closing {
    lock: Mutex<()>,
    by: Mutex<Option<ThreadId>>,
    is_deciding: AtomicBool,
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

    /// For the thread that has the right: calls `mark` if `is_unread` holds while no reader can begin.
    pub(super) fn decide(&self, is_unread: impl FnOnce() -> bool, mark: impl FnOnce()) -> bool {
        self.is_deciding.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let is_unread = is_unread();
        if is_unread {
            mark();
        }
        // Release: whoever sees that it is decided sees the mark.
        self.is_deciding.store(false, Ordering::Release);
        is_unread
    }

    /// For a reader that has its pin: returns once no decision is being made. What was decided is then to be seen. `check`
    /// fails where nobody will decide any more.
    #[inline]
    pub(super) fn await_decision(&self, check: impl Fn() -> Result<()>) -> Result<()> {
        fence(Ordering::SeqCst);
        while self.is_deciding.load(Ordering::Acquire) {
            check()?;
            yield_now();
        }
        Ok(())
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

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_a_reader_that_begins_is_seen_and_one_that_is_not_seen_may_not_begin() {
        loom::model(|| {
            let closing = Arc::new((Closing::default(), AtomicBool::new(false), AtomicBool::new(false)));
            let reader = {
                let closing = Arc::clone(&closing);
                loom::thread::spawn(move || {
                    let (closing, is_pinned, is_closed) = &*closing;
                    is_pinned.store(true, Ordering::Relaxed);
                    closing.await_decision(|| Ok(())).expect("no other process");
                    !is_closed.load(Ordering::Relaxed)
                })
            };
            let (closing, is_pinned, is_closed) = &*closing;
            let is_unread = || !is_pinned.load(Ordering::Relaxed);
            let has_closed = closing.decide(is_unread, || is_closed.store(true, Ordering::Relaxed));
            let has_begun = reader.join().expect("no panic");
            assert!(!(has_closed && has_begun), "closed under a reader");
            assert!(has_closed || has_begun, "the one waited for the other for nothing");
        });
    }
}
