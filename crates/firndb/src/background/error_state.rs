//! What background failures do to the database: the first cause is kept, jobs are retried with growing waits, files that
//! no compaction can get through are set aside.
//!
//! Whether writes are stopped is the write queue's to know; this is why, since when, and what happens next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{CorruptionKind, Error, ErrorKind};
use crate::format::file_name::{FileKind, parse};
use crate::format::key::FileNumber;
use crate::sync::Mutex;

/// The longest wait between two tries of a failed background job.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// Failures in a row after which the inputs of a compaction are set aside.
const FAILURES_MAX: u32 = 3;

/// Whose failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    Flush,
    Compaction,
}

/// Failures of background jobs.
#[derive(Debug, Default)]
pub(crate) struct ErrorState {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failures: BTreeMap<Job, Failures>,
    /// Failures of one set of inputs.
    inputs: BTreeMap<Vec<FileNumber>, u32>,
    set_aside: BTreeMap<FileNumber, Error>,
    /// Why nothing is tried again until the database is opened anew.
    fatal: Option<Error>,
}

/// Failures of one sort of job since it last succeeded.
#[derive(Debug, Clone)]
pub(crate) struct Failures {
    /// The first one; later ones are often its consequence.
    pub(crate) cause: Error,
    /// When that was, in microseconds on the clock.
    pub(crate) since_us: u64,
    pub(crate) count: u32,
    pub(crate) next_try_us: u64,
}

impl ErrorState {
    /// Notes a failed job; returns how long to wait before the next try.
    pub(crate) fn failed(&self, job: Job, error: &Error, first_wait: Duration, now_us: u64) -> Duration {
        let mut inner = self.inner.lock();
        let failures = inner.failures.entry(job).or_insert_with(|| Failures {
            cause: error.clone(),
            since_us: now_us,
            count: 0,
            next_try_us: 0,
        });
        let wait = first_wait.saturating_mul(1 << failures.count.min(16)).min(RETRY_MAX);
        failures.count = failures.count.saturating_add(1);
        failures.next_try_us = now_us.saturating_add(wait.as_micros() as u64);
        wait
    }

    /// A job succeeded: its next failure waits briefly again.
    pub(crate) fn succeeded(&self, job: Job) {
        let mut inner = self.inner.lock();
        inner.failures.remove(&job);
        if job == Job::Compaction {
            inner.inputs.clear();
        }
    }

    /// Of a compaction's inputs, those that are to be left alone from now on: a file that is damaged, or all of them
    /// after several failures in a row. Merging damage would write it down again as if it were right. A full disk is not
    /// the inputs' fault.
    pub(crate) fn to_set_aside(&self, inputs: &[FileNumber], error: &Error) -> Vec<FileNumber> {
        if matches!(error.kind(), ErrorKind::NoSpace | ErrorKind::Cancelled | ErrorKind::Closed) {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let aside = match damaged_table(error).filter(|number| inputs.contains(number)) {
            Some(number) => vec![number],
            None => {
                let count = inner.inputs.entry(inputs.to_vec()).or_insert(0);
                *count += 1;
                if *count < FAILURES_MAX { Vec::new() } else { inputs.to_vec() }
            }
        };
        inner.set_aside.extend(aside.iter().map(|number| (*number, error.clone())));
        aside
    }

    /// Notes a failure that says that entries were lost on the way through memory. True if it was not the first time for
    /// these inputs: then the machine is not to be trusted with writing, until someone has looked and opens again.
    pub(crate) fn is_second_miscount(&self, inputs: &[FileNumber], error: &Error) -> bool {
        let is_miscount = error
            .corruption()
            .is_some_and(|what| what.file.is_none() && matches!(what.kind, CorruptionKind::CountMismatch));
        let mut inner = self.inner.lock();
        let is_second = is_miscount && inner.inputs.get(inputs).is_some_and(|count| *count >= 2);
        if is_second {
            inner.fatal.get_or_insert_with(|| error.clone());
        }
        is_second
    }

    /// Why writes stay stopped until the database is opened anew.
    pub(crate) fn fatal(&self) -> Option<Error> {
        self.inner.lock().fatal.clone()
    }

    /// What failed and has not succeeded since, the worst first.
    pub(crate) fn failures(&self) -> Option<Failures> {
        self.inner.lock().failures.values().next().cloned()
    }

    /// Why compactions leave a file alone.
    pub(crate) fn why_set_aside(&self, number: FileNumber) -> Option<Error> {
        self.inner.lock().set_aside.get(&number).cloned()
    }

    /// The files that compactions leave alone.
    pub(crate) fn set_aside(&self) -> Vec<FileNumber> {
        self.inner.lock().set_aside.keys().copied().collect()
    }
}

/// The table that an error calls damaged.
fn damaged_table(error: &Error) -> Option<FileNumber> {
    let name = error.corruption()?.file.as_ref()?.file_name()?.to_str()?;
    match parse(name)? {
        (FileKind::Table, number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_first_cause_is_kept_until_the_job_succeeds() {
        let state = ErrorState::default();
        let fail = |job, what, now| state.failed(job, &Error::new(ErrorKind::Io, what), Duration::from_secs(1), now);
        fail(Job::Compaction, "first", 5);
        fail(Job::Compaction, "second", 6);
        let failures = state.failures().expect("failed");
        assert!(failures.cause.to_string().contains("first"), "{failures:?}");
        assert_eq!((failures.since_us, failures.count, failures.next_try_us), (5, 2, 2_000_006));
        fail(Job::Flush, "worse", 7);
        assert!(state.failures().expect("failed").cause.to_string().contains("worse"));
        state.succeeded(Job::Flush);
        assert!(state.failures().expect("the other one").cause.to_string().contains("first"));
        state.succeeded(Job::Compaction);
        assert!(state.failures().is_none());
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let state = ErrorState::default();
        let error = Error::new(ErrorKind::NoSpace, "full");
        let waits: Vec<u64> =
            (0..8).map(|_| state.failed(Job::Flush, &error, Duration::from_secs(1), 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_at_once_and_other_inputs_after_three_failures_in_a_row() {
        let state = ErrorState::default();
        let inputs = [FileNumber(7), FileNumber(9)];
        let damage = Error::corrupt_at(CorruptionKind::Checksum, Path::new("/db/000009.sst"), 12, "is wrong");
        assert_eq!(state.to_set_aside(&inputs, &damage), [FileNumber(9)]);
        let io = Error::new(ErrorKind::Io, "broken");
        assert!(state.to_set_aside(&[FileNumber(1)], &io).is_empty());
        state.succeeded(Job::Compaction);
        assert!(state.to_set_aside(&[FileNumber(1)], &io).is_empty());
        assert!(state.to_set_aside(&[FileNumber(1)], &io).is_empty());
        for _ in 0..5 {
            assert!(state.to_set_aside(&[FileNumber(2)], &Error::new(ErrorKind::NoSpace, "full")).is_empty());
        }
        assert_eq!(state.to_set_aside(&[FileNumber(1)], &io), [FileNumber(1)]);
        assert_eq!(state.set_aside(), [FileNumber(1), FileNumber(9)]);
    }
}
