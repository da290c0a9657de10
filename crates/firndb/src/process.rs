//! Which process this is: a fork copies every handle, and the copy must not act on files that the first process goes on using.
//!
//! Flow: whoever opens something notes [`Process::current`] -> **[`Process::is_current`]** before every act that others
//! could notice -> a refusal, or, in a drop, nothing.
//!
//! The simple way, to compare process ids, costs a system call in every write. So a handler that runs in each forked child
//! counts forks, and a look is one load. A child that is made without `fork` (a bare `clone` call) is not counted.
//!
//! Threads: any number; the handler runs in a child that has one thread.
#![expect(unsafe_code, reason = "process ids and handlers of `fork` have no safe interface")]

// A static counter has to be made in a constant, which the model checker's cannot: hence std's own here.
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many forks lie between the first process and this one.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Whether forks are counted.
static IS_COUNTING: OnceLock<bool> = OnceLock::new();
/// In place of a count, where forks are not counted: equal to no count.
const UNCOUNTED: u64 = u64::MAX;

/// The next number that [`unique_number`] gives.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A number that nobody else in this process gets; never 0.
pub(crate) fn unique_number() -> u64 {
    // Relaxed: the numbers need to differ, and order nothing.
    NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)
}

extern "C" fn forked() {
    // Relaxed: the child has one thread, which made no other before this handler returned.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn is_counting() -> bool {
    *IS_COUNTING.get_or_init(|| {
        // SAFETY: `forked` is a function for good, takes nothing, and does what may be done between a fork and an exec: one
        // atomic addition.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) == 0 }
    })
}

fn process_id() -> i32 {
    // SAFETY: the call takes nothing, touches no memory of ours, and cannot fail.
    unsafe { libc::getpid() }
}

/// One process, as its forks tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    id: i32,
    forks: u64,
}

impl Process {
    /// The process that calls.
    pub(crate) fn current() -> Process {
        let is_counting = is_counting();
        // Relaxed, here and below: a thread sees the forks that led to its process.
        let forks = if is_counting { FORKS.load(Ordering::Relaxed) } else { UNCOUNTED };
        Process { id: process_id(), forks }
    }

    /// True in the process itself, false in one forked from it.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        FORKS.load(Ordering::Relaxed) == self.forks || self.is_current_by_id()
    }

    #[cold]
    fn is_current_by_id(&self) -> bool {
        self.forks == UNCOUNTED && process_id() == self.id
    }

    /// The process that this one might have been forked from.
    #[cfg(test)]
    pub(crate) fn before_fork(self) -> Process {
        Process { forks: self.forks.wrapping_sub(2), ..self }
    }

    /// What the operating system calls it.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_itself_and_not_another() {
        let own = Process::current();
        assert!(own.is_current() && own == Process::current());
        assert!(!own.before_fork().is_current());
        let uncounted = Process { id: own.id, forks: UNCOUNTED };
        assert!(uncounted.is_current());
        let other = Process { id: own.id + 1, forks: UNCOUNTED };
        assert!(!other.is_current());
    }
}
