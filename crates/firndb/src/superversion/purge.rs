//! The janitor: frees what nobody reads any more, and unlinks files whose time has come.
//!
//! Flow: `family` buries replaced views in the [`Graveyard`], jobs hand over obsolete tables, logs and MANIFESTs, readers
//! that leave [`Wake`] it -> **[`Janitor`]** -> memory is freed, files are unlinked, deletions go to the outbox of `metrics`.
//! It looks when it is called, when a reader leaves while something waits, and a few times a second while something waits.
//!
//! Invariants
//! 1. A reference in the graveyard is let go only when it is the only one, so that the memory is freed here.
//! 2. A file is unlinked at most once by its number, and never while a version in use, a job or the durable MANIFEST names
//!    it; logs go in the order of their numbers.
//! 3. A failed unlink is tried again, later and later; a file that is not there is reported as a bug.
//! 4. No lock but the janitor's own is held while a file is unlinked or memory is freed.
//!
//! Threads: one of its own (or a test, step by step); everybody else only marks. It outlives the handles of the database,
//! until the last reader is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::FileNumber;
use crate::fs::Fs;
use crate::memtable::MemTable;
use crate::metrics::outbox::{Event, Outbox};
use crate::metrics::{LogLevel, Statistics, TableFileEvent, Ticker};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::threads::mark_background_thread;

use super::graveyard::Graveyard;
use super::pins::PinRegistry;
use super::wake::Wake;

/// How often the janitor looks by itself: while something waits, and otherwise (to keep the registry's tick).
const PERIOD_WAITING: Duration = Duration::from_millis(100);
const PERIOD_IDLE: Duration = Duration::from_millis(500);
/// The first and the longest wait after an unlink that failed.
const RETRY_FIRST_MS: u64 = 50;
const RETRY_MAX_MS: u64 = 10_000;
/// How many files are remembered after they were handed in: whoever hands one in twice does so soon.
const KNOWN_MAX: usize = 1 << 16;

/// A file whose time has come, or will.
#[derive(Debug, Clone)]
struct Obsolete {
    kind: FileKind,
    number: FileNumber,
    bytes: u64,
    tries: u32,
    not_before_ms: u64,
}

impl Obsolete {
    /// The oldest log of those before and this.
    fn oldest_log(&self, before: Option<FileNumber>) -> Option<FileNumber> {
        match self.kind {
            FileKind::Wal => Some(before.map_or(self.number, |before| before.min(self.number))),
            _ => before,
        }
    }
}

/// Asked before a file is unlinked: true if it must stay for now.
pub(crate) type IsNeeded = Box<dyn Fn(FileKind, FileNumber) -> bool + Send + Sync>;

/// Called at the end of every step of the janitor's thread, a few times a second at most.
pub(crate) type OnTick = Box<dyn Fn() + Send + Sync>;
/// Called with what a step of the janitor's thread panicked with.
pub(crate) type OnPanic = Box<dyn Fn(&(dyn std::any::Any + Send)) + Send + Sync>;

/// What the janitor works with.
pub(crate) struct JanitorConfig {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) outbox: Arc<Outbox>,
    /// Named by a version in use, the durable MANIFEST, or a running job. The one retention rule.
    pub(crate) is_needed: IsNeeded,
    /// Called first in every step: lets go of what nobody copies any more, and hands over files that are obsolete and that
    /// nobody else hands in, with their sizes.
    pub(crate) released: Box<dyn Fn() -> Vec<(FileKind, FileNumber, u64)> + Send + Sync>,
    /// Called in every step: frees the readers of closed tables that nobody reads from any more; true if there were any.
    pub(crate) free_readers: Box<dyn Fn() -> bool + Send + Sync>,
    pub(crate) on_tick: OnTick,
    pub(crate) on_panic: OnPanic,
    /// Called when a retired janitor has seen the last reader go.
    pub(crate) on_end: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    files: Vec<Obsolete>,
    /// The newest files that were handed in, so that each is unlinked once.
    known: BTreeSet<(FileNumber, FileKind)>,
    /// Memtables that only values of readers keep.
    memtables: Vec<Arc<MemTable>>,
    /// Taken out of `files` by the step that looks at them now.
    in_hand: Vec<(FileKind, FileNumber, u64)>,
}

/// See the module's text.
pub(crate) struct Janitor {
    config: JanitorConfig,
    pub(crate) wake: Arc<Wake>,
    pub(crate) graveyard: Arc<Graveyard>,
    pub(crate) pins: Arc<PinRegistry>,
    queue: Mutex<Queue>,
    /// One step at a time.
    working: Mutex<()>,
    is_stopped: AtomicBool,
    /// The database is closed: the thread ends by itself once nobody holds anything.
    is_retired: AtomicBool,
    unlinked: AtomicU64,
    missing: AtomicU64,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Stays when the thread is taken out to be waited for.
    thread_id: Mutex<Option<ThreadId>>,
}

impl fmt::Debug for Janitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Janitor({} files waiting)", self.queue.lock().files.len())
    }
}

/// The parts of a janitor that must exist before the rest of the database does.
#[derive(Debug)]
pub(crate) struct JanitorSeed {
    pub(crate) wake: Arc<Wake>,
    pub(crate) graveyard: Arc<Graveyard>,
    pub(crate) pins: Arc<PinRegistry>,
}

impl JanitorSeed {
    pub(crate) fn new() -> JanitorSeed {
        let wake = Arc::new(Wake::default());
        JanitorSeed { graveyard: Graveyard::new(Arc::clone(&wake)), pins: PinRegistry::new(Arc::clone(&wake)), wake }
    }
}

impl Janitor {
    pub(crate) fn new(config: JanitorConfig, seed: JanitorSeed) -> Arc<Janitor> {
        seed.pins.tick(config.clock.monotonic_micros() / 1000);
        Arc::new(Janitor {
            config,
            wake: seed.wake,
            graveyard: seed.graveyard,
            pins: seed.pins,
            queue: Mutex::new(Queue::default()),
            working: Mutex::new(()),
            is_stopped: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            unlinked: AtomicU64::new(0),
            missing: AtomicU64::new(0),
            thread: Mutex::new(None),
            thread_id: Mutex::new(None),
        })
    }

    /// Starts the janitor's thread.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        let janitor = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("firndb-janitor".to_owned())
            .spawn(move || janitor.run())
            .map_err(|error| Error::from_io("spawn", &self.config.dir, &error))?;
        *self.thread_id.lock() = Some(thread.thread().id());
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    fn run(&self) {
        mark_background_thread();
        while !self.is_stopped.load(Ordering::Acquire) {
            let period = match self.has_waiting() {
                true => PERIOD_WAITING,
                false => PERIOD_IDLE,
            };
            self.wake.wait(period);
            // A user's file system or listener may panic: the janitor goes on, and the panic is reported.
            let step = AssertUnwindSafe(|| {
                self.step();
                (self.config.on_tick)();
            });
            if let Err(panic) = catch_unwind(step) {
                (self.config.on_panic)(&*panic);
            }
            // Acquire pairs with the Release in `retire`: what was buried before is seen in the graveyard.
            if self.is_retired.load(Ordering::Acquire) && !self.is_held() {
                self.drain();
                (self.config.on_end)();
                return;
            }
        }
    }

    /// Lets the thread end by itself, and nobody wait for it: once the last pin, view and value are gone. Files that still
    /// wait then are orphans, which the next open removes.
    pub(crate) fn retire(&self) {
        self.is_retired.store(true, Ordering::Release);
        self.wake.await_readers();
    }

    /// True while a reader has something that ends here.
    fn is_held(&self) -> bool {
        self.pins.count() > 0 || !self.graveyard.is_empty() || !self.queue.lock().memtables.is_empty()
    }

    /// Ends the thread, if there is one; waits for it unless called on it.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake.call_for_certain();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A janitor that panicked has said so on stderr; there is nothing left to wait for.
            let _ = thread.join();
        }
    }

    /// True on the janitor's thread.
    pub(crate) fn is_running_here(&self) -> bool {
        *self.thread_id.lock() == Some(std::thread::current().id())
    }

    /// Hands a file over whose last use is in sight. Handing it in twice does nothing.
    pub(crate) fn obsolete(&self, kind: FileKind, number: FileNumber, bytes: u64) {
        let mut queue = self.queue.lock();
        if queue.known.insert((number, kind)) {
            if queue.known.len() > KNOWN_MAX {
                queue.known.pop_first();
            }
            queue.files.push(Obsolete { kind, number, bytes, tries: 0, not_before_ms: 0 });
        }
        drop(queue);
        self.wake.call_when_readers_leave();
    }

    fn take_released(&self) {
        for (kind, number, bytes) in (self.config.released)() {
            self.obsolete(kind, number, bytes);
        }
    }

    fn has_waiting(&self) -> bool {
        let queue = self.queue.lock();
        let has_retired = self.is_retired.load(Ordering::Relaxed);
        has_retired || !queue.files.is_empty() || !queue.memtables.is_empty() || !self.graveyard.is_empty()
    }

    /// Does what can be done now; true if anything was. Nothing once the janitor was stopped: others may have the directory.
    pub(crate) fn step(&self) -> bool {
        if self.is_stopped.load(Ordering::Acquire) {
            return false;
        }
        let _one_at_a_time = self.working.lock();
        // Cleared first: a call that comes while we look makes us look again.
        self.wake.look();
        let now = self.config.clock.monotonic_micros() / 1000;
        self.pins.tick(now);
        self.take_released();
        let freed = self.free_views();
        let unlinked = self.unlink_due(now);
        self.wake.set_waits(self.has_waiting());
        let closed = (self.config.free_readers)();
        freed || unlinked || closed
    }

    fn free_views(&self) -> bool {
        let free = self.graveyard.take_free();
        let any = !free.is_empty();
        for view in free {
            let Ok(view) = Arc::try_unwrap(view) else { continue };
            for memtable in std::iter::once(view.memtable).chain(view.immutables) {
                // A value that a reader holds keeps the memtable's memory; whoever has it must not be the one to free it.
                if Arc::strong_count(&memtable) == 1 && !memtable.is_unpinned() {
                    self.queue.lock().memtables.push(memtable);
                }
            }
        }
        let kept: Vec<_> = {
            let mut queue = self.queue.lock();
            let (free, kept) =
                std::mem::take(&mut queue.memtables).into_iter().partition(|m: &Arc<MemTable>| m.is_unpinned());
            queue.memtables = kept;
            free
        };
        any || !kept.is_empty()
    }

    fn unlink_due(&self, now: u64) -> bool {
        // Logs go in their order: as long as the oldest that MANIFEST may need is there, all after it are.
        let mut oldest_log;
        let due: Vec<Obsolete> = {
            let mut queue = self.queue.lock();
            let (mut due, later): (Vec<_>, Vec<_>) =
                std::mem::take(&mut queue.files).into_iter().partition(|file| file.not_before_ms <= now);
            oldest_log = later.iter().fold(None, |oldest, file| file.oldest_log(oldest));
            due.sort_unstable_by_key(|file| file.number);
            queue.files = later;
            queue.in_hand = due.iter().map(|file| (file.kind, file.number, file.bytes)).collect();
            due
        };
        let mut any = false;
        let mut kept = Vec::new();
        for mut file in due {
            let has_older = file.kind == FileKind::Wal && oldest_log.is_some_and(|oldest| oldest < file.number);
            if has_older || (self.config.is_needed)(file.kind, file.number) {
                oldest_log = file.oldest_log(oldest_log);
                kept.push(file);
                continue;
            }
            match self.unlink(&file) {
                Ok(()) => {
                    any = true;
                    if file.kind == FileKind::Table {
                        let event = TableFileEvent { file: file.number, bytes: file.bytes };
                        self.config.outbox.post(Event::TableFileDeleted(event));
                    }
                }
                Err(error) if error.is_not_found() => {
                    // Somebody else removed it, or it was unlinked twice: both are bugs.
                    self.missing.fetch_add(1, Ordering::Relaxed);
                    self.config.outbox.log(LogLevel::Error, || format!("bug: an obsolete file is not there: {error}"));
                }
                Err(error) => {
                    oldest_log = file.oldest_log(oldest_log);
                    file.tries += 1;
                    let wait = (RETRY_FIRST_MS << file.tries.min(10)).min(RETRY_MAX_MS);
                    file.not_before_ms = now + wait;
                    self.config.outbox.log(LogLevel::Warn, || format!("unlink failed, next try in {wait} ms: {error}"));
                    kept.push(file);
                }
            }
        }
        let mut queue = self.queue.lock();
        queue.in_hand.clear();
        queue.files.extend(kept);
        any
    }

    fn unlink(&self, file: &Obsolete) -> Result<()> {
        let fs = &self.config.fs;
        let path = |name: String| self.config.dir.join(name);
        match file.kind {
            FileKind::Table => match fs.remove_file(&path(file_name::table(file.number))) {
                Err(error) if error.is_not_found() => fs.remove_file(&path(file_name::old_table(file.number)))?,
                other => other?,
            },
            FileKind::Wal => fs.remove_file(&path(file_name::wal(file.number)))?,
            FileKind::Blob => fs.remove_file(&path(file_name::blob(file.number)))?,
            FileKind::Manifest => fs.remove_file(&path(file_name::manifest(file.number)))?,
            FileKind::Options => fs.remove_file(&path(file_name::options(file.number)))?,
            FileKind::Temp => match fs.remove_file(&path(file_name::temp(file.number))) {
                Err(error) if error.is_not_found() => fs.remove_file(&path(file_name::options_temp(file.number)))?,
                other => other?,
            },
            other => {
                return Err(Error::new(ErrorKind::Internal, format!("a file of kind {other:?} is never obsolete")));
            }
        }
        self.unlinked.fetch_add(1, Ordering::Relaxed);
        self.config.statistics.add(Ticker::FilesDeleted, 1);
        Ok(())
    }

    /// Works until nothing more can be done now.
    pub(crate) fn drain(&self) {
        while self.step() {}
    }

    /// Files that wait to be unlinked, with their sizes.
    pub(crate) fn waiting_files(&self) -> Vec<(FileKind, FileNumber, u64)> {
        let queue = self.queue.lock();
        let files = queue.files.iter().map(|file| (file.kind, file.number, file.bytes));
        files.chain(queue.in_hand.iter().copied()).collect()
    }

    /// Files unlinked so far.
    pub(crate) fn unlinked(&self) -> u64 {
        self.unlinked.load(Ordering::Relaxed)
    }

    /// Files that were not there when they were to be unlinked: 0, or a bug.
    pub(crate) fn missing(&self) -> u64 {
        self.missing.load(Ordering::Relaxed)
    }
}
