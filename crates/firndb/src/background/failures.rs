//! What background failures lead to: the first cause is kept, work is tried again with growing waits, writes stop where
//! they must, and tables that are damaged are set aside.
//!
//! Flow: a job, the write queue or a panic -> **[`Failures`]** -> the gate (writes stop), the outbox (one event a failure)
//! and the time of the next try, for which [`Retry`](super::retry::Retry) asks.
//!
//! Invariants
//! 1. Work that failed waits for its next try, whoever else would start it meanwhile. The wait doubles up to a minute, and
//!    the tries never end: an outage is an outage, however long. Only what can go around its cause does so at once.
//! 2. One event a failure: what fails beside it, before the next try, is only logged.
//! 3. A table is set aside only for damage that names it. A later read of it that succeeds brings it back.
//! 4. A fatal failure (a panic, entries lost in memory twice) is never tried again: only a new opening ends it.
//!
//! Threads: any. The lock is held for moments, with only the gate's and the outbox's inside it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name::{FileKind, parse};
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::metrics::outbox::{Event, Outbox};
use crate::metrics::{BackgroundErrorEvent, LogLevel};
use crate::sync::{Arc, Mutex};
use crate::threads::panic_message;
use crate::version::TableFile;
use crate::write::WriteGate;

/// The longest wait between two tries of failed work.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The longest wait between two looks at a damaged table.
const PROBE_MAX: Duration = Duration::from_secs(600);
/// After this many failed tries in a row writers that wait for the work get its error instead: waiting goes on to be
/// right only while there is hope that it is short.
const TRIES_BEFORE_REFUSAL: u32 = 5;

/// Whose failures are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    /// What stops writes: the log, a flush, MANIFEST.
    Writes,
    /// The compactions of one family.
    Compaction(ColumnFamilyId),
}

/// Failures of background work.
#[derive(Debug)]
pub(crate) struct Failures {
    gate: Arc<WriteGate>,
    outbox: Arc<Outbox>,
    clock: Arc<dyn Clock>,
    first_wait: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    failed: BTreeMap<Work, Failed>,
    /// How often a set of inputs lost entries on their way through memory.
    miscounts: BTreeMap<Vec<FileNumber>, u32>,
    set_aside: BTreeMap<FileNumber, SetAside>,
    /// Why nothing is tried again until the database is opened anew.
    fatal: Option<Error>,
}

/// Failures of one sort of work since it last succeeded.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    /// The first one; later ones are often its consequence.
    pub(crate) cause: Error,
    /// When that was, in microseconds on the clock.
    pub(crate) since_us: u64,
    pub(crate) count: u32,
    pub(crate) next_try_us: u64,
    /// The next try has begun.
    is_trying: bool,
    /// The disk was full, and had this many free bytes.
    free_when_full: Option<u64>,
}

/// A table that compactions leave out.
#[derive(Debug, Clone)]
struct SetAside {
    error: Error,
    family: ColumnFamilyId,
    file: Arc<TableFile>,
    next_probe_us: u64,
    wait: Duration,
}

/// A damaged table whose time for another look has come.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    pub(crate) family: ColumnFamilyId,
    pub(crate) file: Arc<TableFile>,
}

impl Failures {
    pub(crate) fn new(
        gate: Arc<WriteGate>,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
        first_wait: Duration,
    ) -> Arc<Failures> {
        Arc::new(Failures { gate, outbox, clock, first_wait, inner: Mutex::default() })
    }

    /// What keeps writers from going straight on.
    pub(crate) fn gate(&self) -> &Arc<WriteGate> {
        &self.gate
    }

    /// Notes failed work: when it is tried again, and the event that says so.
    pub(crate) fn failed(&self, work: Work, what: &str, error: &Error, free_when_full: Option<u64>) {
        self.note(work, what, error, free_when_full, true);
    }

    /// Notes failed work of which the next try goes another way: it begins at once.
    pub(crate) fn failed_and_goes_around(&self, work: Work, what: &str, error: &Error) {
        self.note(work, what, error, None, false);
    }

    fn note(&self, work: Work, what: &str, error: &Error, free_when_full: Option<u64>, must_wait: bool) {
        let now = self.clock.monotonic_micros();
        let mut inner = self.inner.lock();
        let failed = inner.failed.entry(work).or_insert_with(|| Failed {
            cause: error.clone(),
            since_us: now,
            count: 0,
            next_try_us: 0,
            is_trying: true,
            free_when_full: None,
        });
        if !failed.is_trying {
            drop(inner);
            self.outbox.log(LogLevel::Error, || format!("{what} failed beside a failure that is known: {error}"));
            return;
        }
        let wait = if must_wait {
            self.first_wait.saturating_mul(1 << failed.count.min(16)).min(RETRY_MAX)
        } else {
            Duration::ZERO
        };
        failed.is_trying = !must_wait;
        failed.count = failed.count.saturating_add(1);
        failed.next_try_us = now.saturating_add(wait.as_micros() as u64);
        failed.free_when_full = free_when_full;
        drop(inner);
        self.outbox.log(LogLevel::Error, || format!("{what} failed, next try in {wait:?}: {error}"));
        let stops_writes = self.gate.is_refusing();
        self.outbox.post(Event::BackgroundError(BackgroundErrorEvent { error: error.clone(), stops_writes }));
    }

    /// Notes a failure after which writes must stop until a try succeeds.
    pub(crate) fn stopped_writes(&self, what: &str, error: &Error, free_when_full: Option<u64>) {
        self.gate.stop_writes(error);
        self.failed(Work::Writes, what, error, free_when_full);
    }

    /// A compaction of the family succeeded, or is not wanted any more: its next failure waits briefly again.
    pub(crate) fn compaction_succeeded(&self, family: ColumnFamilyId) {
        let mut inner = self.inner.lock();
        inner.failed.remove(&Work::Compaction(family));
        inner.miscounts.clear();
    }

    /// Writes go on. Nothing is forgotten if they were stopped again: whoever did so notes it right after.
    pub(crate) fn writes_go_on(&self) {
        let mut inner = self.inner.lock();
        // Under the lock, which `failed` takes after the gate was shut.
        if !self.gate.is_refusing() {
            inner.failed.remove(&Work::Writes);
        }
    }

    /// A family is gone, and its failures with it.
    pub(crate) fn forget_family(&self, family: ColumnFamilyId) {
        let mut inner = self.inner.lock();
        inner.failed.remove(&Work::Compaction(family));
        inner.set_aside.retain(|_, aside| aside.family != family);
    }

    /// If waiting work failed on a full disk: the bytes that were free then.
    pub(crate) fn free_when_full(&self) -> Option<u64> {
        self.inner.lock().failed.values().filter(|failed| !failed.is_trying).filter_map(|f| f.free_when_full).min()
    }

    /// The work whose next try is due, which counts as begun from now on. `has_space`: a disk that was full has room
    /// again, and work that failed on it waits no longer.
    pub(crate) fn take_due(&self, has_space: bool) -> Vec<Work> {
        let now = self.clock.monotonic_micros();
        let mut inner = self.inner.lock();
        if inner.fatal.is_some() {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (work, failed) in &mut inner.failed {
            let is_time = now >= failed.next_try_us || (has_space && failed.free_when_full.is_some());
            if !failed.is_trying && is_time {
                failed.is_trying = true;
                due.push(*work);
            }
        }
        due
    }

    /// True while failed work waits for its next try: nobody else may start it.
    pub(crate) fn is_waiting(&self, work: Work) -> bool {
        self.inner.lock().failed.get(&work).is_some_and(|failed| !failed.is_trying)
    }

    /// The cause, if work has failed so often in a row that nobody should wait for it any more.
    pub(crate) fn is_hopeless(&self, work: Work) -> Option<Error> {
        let inner = self.inner.lock();
        inner.failed.get(&work).filter(|failed| failed.count >= TRIES_BEFORE_REFUSAL).map(|failed| failed.cause.clone())
    }

    /// A failure that no further try can mend: writes are refused until the database is opened anew.
    pub(crate) fn fatal_failure(&self, error: &Error) {
        let is_first = {
            let mut inner = self.inner.lock();
            let is_first = inner.fatal.is_none();
            inner.fatal.get_or_insert_with(|| error.clone());
            is_first
        };
        self.gate.stop_writes_for_good(error);
        if is_first {
            self.outbox.log(LogLevel::Error, || format!("writes stop until the database is opened anew: {error}"));
            let event = BackgroundErrorEvent { error: error.clone(), stops_writes: true };
            self.outbox.post(Event::BackgroundError(event));
        }
    }

    /// Runs `work`, on whatever thread; a panic in it is noted before it goes on.
    pub(crate) fn watch<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(done) => done,
            Err(panic) => {
                self.panicked(what, &*panic);
                resume_unwind(panic)
            }
        }
    }

    /// A job, or a user's code that one called, panicked. What it was about to do is not known to be whole.
    pub(crate) fn panicked(&self, what: &str, panic: &(dyn std::any::Any + Send)) {
        self.panicked_saying(what, panic_message(panic));
    }

    /// The same, with the panic's words.
    pub(crate) fn panicked_saying(&self, what: &str, words: &str) {
        self.fatal_failure(&Error::new(ErrorKind::Internal, format!("{what} panicked: {words}")));
    }

    /// Why writes stay stopped until the database is opened anew.
    pub(crate) fn fatal(&self) -> Option<Error> {
        self.inner.lock().fatal.clone()
    }

    /// # Errors
    /// `ReadOnly`, with the cause, once nothing is to be written any more.
    pub(crate) fn check_not_fatal(&self) -> Result<()> {
        self.fatal().map_or(Ok(()), |cause| {
            Err(cause.because(ErrorKind::ReadOnly, "writes are stopped until the database is opened again"))
        })
    }

    /// What failed and has not succeeded since, the worst first.
    pub(crate) fn worst(&self) -> Option<Failed> {
        self.inner.lock().failed.values().next().cloned()
    }

    /// Looks at the error of a compaction: a table that it calls damaged is left out of compactions from now on, since
    /// merging damage would write it down again as if it were right. True if entries were lost on the way through memory,
    /// not for the first time with these inputs: then the machine is not to be trusted with writing.
    pub(crate) fn judge(&self, family: ColumnFamilyId, inputs: &[Arc<TableFile>], error: &Error) -> bool {
        if let Some(file) = inputs.iter().find(|file| Some(file.number()) == damaged_table(error)) {
            self.set_aside(family, file, error);
        }
        let is_miscount = error
            .corruption()
            .is_some_and(|what| what.file.is_none() && matches!(what.kind, CorruptionKind::CountMismatch));
        if !is_miscount {
            return false;
        }
        let mut inner = self.inner.lock();
        let count = inner.miscounts.entry(inputs.iter().map(|file| file.number()).collect()).or_insert(0);
        *count += 1;
        *count > 1
    }

    fn set_aside(&self, family: ColumnFamilyId, file: &Arc<TableFile>, error: &Error) {
        file.set_aside();
        let wait = self.first_wait.max(Duration::from_millis(1));
        let next_probe_us = self.clock.monotonic_micros().saturating_add(wait.as_micros() as u64);
        let aside = SetAside { error: error.clone(), family, file: Arc::clone(file), next_probe_us, wait };
        self.inner.lock().set_aside.insert(file.number(), aside);
        let number = file.number();
        self.outbox.log(LogLevel::Error, || format!("table {number} is left out of compactions: {error}"));
    }

    /// The damaged tables whose time for another look has come; the look after that comes later.
    pub(crate) fn take_due_probes(&self) -> Vec<Probe> {
        let now = self.clock.monotonic_micros();
        let mut inner = self.inner.lock();
        let due = inner.set_aside.values_mut().filter(|aside| aside.next_probe_us <= now);
        due.map(|aside| {
            aside.wait = aside.wait.saturating_mul(2).min(PROBE_MAX);
            aside.next_probe_us = now.saturating_add(aside.wait.as_micros() as u64);
            Probe { family: aside.family, file: Arc::clone(&aside.file) }
        })
        .collect()
    }

    /// A table that was set aside is sound after all, or is in no version any more.
    pub(crate) fn take_back(&self, file: &TableFile) {
        self.inner.lock().set_aside.remove(&file.number());
        file.take_back();
    }

    /// True if compactions leave a table alone that the error calls damaged.
    pub(crate) fn has_set_aside(&self, error: &Error) -> bool {
        damaged_table(error).is_some_and(|number| self.inner.lock().set_aside.contains_key(&number))
    }

    /// Why compactions leave a file alone.
    pub(crate) fn why_set_aside(&self, number: FileNumber) -> Option<Error> {
        self.inner.lock().set_aside.get(&number).map(|aside| aside.error.clone())
    }

    /// Why compactions leave some file of a family alone.
    pub(crate) fn why_any_set_aside(&self, family: ColumnFamilyId) -> Option<Error> {
        let inner = self.inner.lock();
        inner.set_aside.values().find(|aside| aside.family == family).map(|aside| aside.error.clone())
    }

    /// The files that compactions leave alone.
    pub(crate) fn all_set_aside(&self) -> Vec<FileNumber> {
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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::ManualClock;
    use crate::metrics::Statistics;
    use crate::version::edit::FileMeta;

    fn failures() -> (Arc<Failures>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(1));
        let outbox = Arc::new(Outbox::default());
        let gate = WriteGate::new(Arc::clone(&clock) as _, Arc::new(Statistics::default()), Arc::clone(&outbox), false);
        (Failures::new(Arc::new(gate), outbox, Arc::clone(&clock) as _, Duration::from_secs(1)), clock)
    }

    fn error(what: &str) -> Error {
        Error::new(ErrorKind::Io, what)
    }

    fn file(number: u64) -> Arc<TableFile> {
        let key = crate::format::key::internal_key(b"key", crate::format::key::SequenceNumber(1), 1);
        TableFile::new(FileMeta {
            number: FileNumber(number),
            smallest: key.clone(),
            largest: key,
            ..FileMeta::default()
        })
    }

    const COMPACTION: Work = Work::Compaction(ColumnFamilyId(7));

    #[test]
    fn the_first_cause_is_kept_until_the_work_succeeds_and_the_worst_comes_first() {
        let (failures, clock) = failures();
        failures.failed(COMPACTION, "it", &error("first"), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(failures.take_due(false), [COMPACTION]);
        failures.failed(COMPACTION, "it", &error("second"), None);
        let worst = failures.worst().expect("failed");
        assert!(worst.cause.to_string().contains("first"), "{worst:?}");
        assert_eq!((worst.since_us, worst.count, worst.next_try_us), (0, 2, 3_000_000));
        failures.stopped_writes("that", &error("worse"), None);
        assert!(failures.worst().expect("failed").cause.to_string().contains("worse"));
        failures.writes_go_on();
        assert!(failures.worst().expect("still stopped").cause.to_string().contains("worse"));
        assert!(failures.gate().resume(failures.gate().stops()));
        failures.writes_go_on();
        assert!(failures.worst().expect("the other").cause.to_string().contains("first"));
        failures.compaction_succeeded(ColumnFamilyId(7));
        assert!(failures.worst().is_none());
    }

    #[test]
    fn waits_double_up_to_a_minute_and_what_fails_beside_a_failure_changes_nothing() {
        let (failures, clock) = failures();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let before = clock.monotonic_micros();
            failures.failed(Work::Writes, "it", &error("broken"), None);
            // Three families fail on the same disk.
            failures.failed(Work::Writes, "it", &error("broken, too"), None);
            assert!(failures.is_waiting(Work::Writes) && failures.take_due(false).is_empty());
            waits.push((failures.worst().expect("failed").next_try_us - before) / 1_000_000);
            clock.advance(Duration::from_secs(60));
            assert_eq!(failures.take_due(false), [Work::Writes]);
            assert!(failures.take_due(false).is_empty(), "one try at a time");
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_disk_with_room_again_ends_the_wait_and_a_fatal_failure_every_try() {
        let (failures, clock) = failures();
        failures.failed(Work::Writes, "it", &error("full"), Some(5));
        assert_eq!(failures.free_when_full(), Some(5));
        assert!(failures.take_due(false).is_empty());
        assert_eq!(failures.take_due(true), [Work::Writes]);
        failures.failed(Work::Writes, "it", &error("full"), None);
        failures.panicked_saying("a job", "boom");
        clock.advance(Duration::from_secs(60));
        assert!(failures.take_due(true).is_empty());
        assert!(failures.fatal().expect("fatal").to_string().contains("a job panicked: boom"));
    }

    #[test]
    fn only_damage_that_names_a_table_sets_it_aside_and_a_good_look_brings_it_back() {
        let (failures, clock) = failures();
        let inputs = [file(7), file(9)];
        for _ in 0..100 {
            assert!(!failures.judge(ColumnFamilyId(7), &inputs, &error("outage")));
        }
        assert!(failures.all_set_aside().is_empty());
        let damage = Error::corrupt_at(CorruptionKind::Checksum, Path::new("/db/000009.sst"), 12, "is wrong");
        failures.judge(ColumnFamilyId(7), &inputs, &damage);
        assert_eq!(failures.all_set_aside(), [FileNumber(9)]);
        assert!(inputs[1].is_set_aside() && !inputs[0].is_set_aside());
        assert!(failures.take_due_probes().is_empty());
        clock.advance(Duration::from_secs(1));
        assert_eq!(failures.take_due_probes().len(), 1);
        clock.advance(Duration::from_secs(1));
        assert!(failures.take_due_probes().is_empty(), "the next look comes later");
        failures.take_back(&inputs[1]);
        assert!(!inputs[1].is_set_aside() && failures.all_set_aside().is_empty());
    }

    #[test]
    fn work_that_can_go_around_its_cause_does_not_wait() {
        let (failures, _) = failures();
        let damage = Error::corrupt_at(CorruptionKind::Checksum, Path::new("/db/000009.sst"), 12, "is wrong");
        assert!(!failures.has_set_aside(&damage));
        failures.judge(ColumnFamilyId(7), &[file(9)], &damage);
        assert!(failures.has_set_aside(&damage) && !failures.has_set_aside(&error("outage")));
        failures.failed_and_goes_around(COMPACTION, "it", &damage);
        assert!(!failures.is_waiting(COMPACTION) && failures.worst().is_some());
        // The other way fails, too.
        failures.failed(COMPACTION, "it", &error("outage"), None);
        assert!(failures.is_waiting(COMPACTION));
    }

    #[test]
    fn entries_lost_twice_with_the_same_inputs_are_fatal() {
        let (failures, _) = failures();
        let lost = Error::corrupt(CorruptionKind::CountMismatch, "lost");
        assert!(!failures.judge(ColumnFamilyId(7), &[file(1)], &lost));
        assert!(!failures.judge(ColumnFamilyId(7), &[file(2)], &lost));
        assert!(failures.judge(ColumnFamilyId(7), &[file(1)], &lost));
    }
}
