//! What background failures do to the database: the first cause is kept, writes stop or go on, jobs are retried.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// The longest wait between two tries of a failed background job.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Whether the database takes writes, and why not.
#[derive(Debug, Default)]
pub(crate) struct ErrorState {
    stopped: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cause: Option<Error>,
    last_soft: Option<Error>,
    failures_in_a_row: u32,
}

impl ErrorState {
    /// Stops writes for `cause`; a cause that is there already stays.
    pub(crate) fn stop_writes(&self, cause: &Error) {
        let mut inner = self.inner.lock();
        inner.cause.get_or_insert_with(|| cause.clone());
        // Release pairs with the Acquire in `check`: whoever sees the flag finds the cause.
        self.stopped.store(true, Ordering::Release);
    }

    /// Notes a failed job that leaves writes running; returns how long to wait before the next try.
    pub(crate) fn soft_failure(&self, error: &Error, first_wait: Duration) -> Duration {
        let mut inner = self.inner.lock();
        inner.last_soft = Some(error.clone());
        let wait = first_wait.saturating_mul(1 << inner.failures_in_a_row.min(16)).min(RETRY_MAX);
        inner.failures_in_a_row += 1;
        wait
    }

    /// A background job succeeded: the next failure waits briefly again.
    pub(crate) fn job_succeeded(&self) {
        let mut inner = self.inner.lock();
        inner.failures_in_a_row = 0;
        inner.last_soft = None;
    }

    /// Writes run again.
    pub(crate) fn resume(&self) {
        let mut inner = self.inner.lock();
        *inner = Inner::default();
        self.stopped.store(false, Ordering::Release);
    }

    /// The reason why writes are stopped, or the last failure of a job.
    pub(crate) fn cause(&self) -> Option<Error> {
        let inner = self.inner.lock();
        inner.cause.clone().or_else(|| inner.last_soft.clone())
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// An error of kind `ReadOnly` if writes are stopped.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.is_stopped() {
            false => Ok(()),
            true => Err(self.refusal()),
        }
    }

    #[cold]
    fn refusal(&self) -> Error {
        match self.inner.lock().cause.clone() {
            Some(cause) => cause.because(ErrorKind::ReadOnly, "writes are stopped after an earlier failure"),
            None => Error::new(ErrorKind::ReadOnly, "writes are stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_is_kept_and_named() {
        let state = ErrorState::default();
        assert!(state.check().is_ok());
        state.stop_writes(&Error::new(ErrorKind::Io, "first"));
        state.stop_writes(&Error::new(ErrorKind::Io, "second"));
        let refusal = state.check().expect_err("stopped");
        assert_eq!(refusal.kind(), ErrorKind::ReadOnly);
        assert!(refusal.to_string().contains("first"), "{refusal}");
        state.resume();
        assert!(state.check().is_ok());
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let state = ErrorState::default();
        let error = Error::new(ErrorKind::NoSpace, "full");
        let waits: Vec<u64> = (0..8).map(|_| state.soft_failure(&error, Duration::from_secs(1)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
