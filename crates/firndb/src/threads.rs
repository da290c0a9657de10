//! Threads for background work, which several databases may share.
//!
//! A database keeps its own queue of jobs (`background::scheduler`), and a pool asks the queues of all, in turn, for the
//! next job that may run: flushes of any database first, and compactions in at most all threads but one.
//!
//! Invariants: (1) Of each priority the databases take turns. (2) Flushes go first, but after [`FLUSHES_IN_A_ROW`] of them
//! a compaction that waits has its turn: writers who wait for it would wait for ever.
//!
//! Threads: any number may call; no lock is held while a job runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::process::Process;
use crate::sync::{Arc, Condvar, Mutex};

/// Work, and what to call with its panic if it has one.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What a panic leaves.
pub(crate) type Panic = Box<dyn std::any::Any + Send>;

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

thread_local!(static IS_BACKGROUND: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

/// Marks the calling thread as one that background work needs: a pool's, or a janitor's.
pub(crate) fn mark_background_thread() {
    IS_BACKGROUND.with(|mark| mark.set(true));
}

/// True on a thread that background work needs. Such a thread must not wait for what another job brings: with a pool of
/// one thread, perhaps shared by several databases, that job would never run.
pub(crate) fn is_background_thread() -> bool {
    IS_BACKGROUND.with(std::cell::Cell::get)
}

/// How urgent a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Flush,
    Compaction,
}

/// After so many flushes a compaction that waits comes first.
const FLUSHES_IN_A_ROW: usize = 4;

/// Whose turn it is, of flushes and compactions.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    flushes_in_a_row: usize,
}

impl Turns {
    /// The priorities, the one that goes first before the other.
    pub(crate) fn order(&self) -> [Priority; 2] {
        if self.flushes_in_a_row < FLUSHES_IN_A_ROW {
            [Priority::Flush, Priority::Compaction]
        } else {
            [Priority::Compaction, Priority::Flush]
        }
    }

    /// A job of this priority was taken.
    pub(crate) fn took(&mut self, priority: Priority) {
        match priority {
            Priority::Flush => self.flushes_in_a_row += 1,
            Priority::Compaction => self.flushes_in_a_row = 0,
        }
    }
}

/// Where a pool gets its jobs.
pub(crate) trait JobSource: Send + Sync {
    /// The next job of this priority that may run now.
    fn take(&self, priority: Priority) -> Option<Job>;
    /// A job that was taken has ended.
    fn ended(&self, priority: Priority, panic: Option<Panic>);
}

/// Background threads. Each open database makes its own unless [`Options::thread_pool`](crate::Options) has one; the
/// threads end when the last database and the last reference are gone.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-pool-{}", std::process::id()));
/// let pool = firndb::ThreadPool::new(2)?;
/// let mut options = firndb::Options::default();
/// options.create_if_missing = true;
/// options.thread_pool = Some(pool);
/// let one = firndb::Db::open_with(dir.join("one"), options.clone())?;
/// let two = firndb::Db::open_with(dir.join("two"), options)?;
/// # one.close()?;
/// # two.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
pub struct ThreadPool {
    /// The threads are of this process.
    maker: Process,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    compactions_max: usize,
}

#[derive(Default)]
struct State {
    sources: Vec<Weak<dyn JobSource>>,
    /// Where to begin asking for a flush, and for a compaction, so that no database waits for another for ever.
    next: [usize; 2],
    turns: Turns,
    running_compactions: usize,
    /// How often something may have come to be runnable.
    calls: u64,
    is_stopping: bool,
}

/// A job to run, and whose it is.
type Taken = (Arc<dyn JobSource>, Priority, Job);

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadPool({})", self.threads.lock().len())
    }
}

impl ThreadPool {
    /// A pool of `count` threads, at least one. With two or more, one is always free for flushes.
    ///
    /// # Errors
    /// `Io` if the operating system has no thread to give.
    pub fn new(count: usize) -> Result<Arc<ThreadPool>> {
        let count = count.max(1);
        let shared =
            Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), compactions_max: (count - 1).max(1) });
        let pool =
            Arc::new(ThreadPool { maker: Process::current(), shared: Arc::clone(&shared), threads: Mutex::default() });
        for index in 0..count {
            let shared = Arc::clone(&shared);
            let spawned =
                std::thread::Builder::new().name(format!("firndb-{index}")).spawn(move || shared.run_until_stopped());
            // On failure the pool's drop ends those that there are.
            let thread = spawned.map_err(|error| Error::from_io("spawn", "a background thread".as_ref(), &error))?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// Has the pool ask `source` for jobs, for as long as it lives.
    pub(crate) fn add(&self, source: Weak<dyn JobSource>) {
        let mut state = self.shared.state.lock();
        state.sources.push(source);
        state.calls += 1;
        drop(state);
        self.shared.work.notify_all();
    }

    /// A source has a job that it had not.
    pub(crate) fn call(&self) {
        self.shared.state.lock().calls += 1;
        self.shared.work.notify_one();
    }

    /// More may run than before.
    pub(crate) fn call_all(&self) {
        self.shared.state.lock().calls += 1;
        self.shared.work.notify_all();
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if !self.maker.is_current() {
            // A forked process has none of the threads, and must not even let go of them.
            std::mem::forget(std::mem::take(self.threads.get_mut()));
            return;
        }
        self.shared.state.lock().is_stopping = true;
        self.shared.work.notify_all();
        let own = std::thread::current().id();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A job may hold the last reference: its own thread ends by itself, right after.
            if thread.thread().id() != own {
                // Panics of jobs are caught and handed to their sources.
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn run_until_stopped(&self) {
        mark_background_thread();
        let mut state = self.state.lock();
        while !state.is_stopping {
            let calls = state.calls;
            let mut asked = Vec::new();
            let taken = state.take(self.compactions_max, &mut asked);
            // A source that was asked may have ended meanwhile, and its pool with it: not under the lock.
            drop(state);
            drop(asked);
            let Some((source, priority, job)) = taken else {
                state = self.state.lock();
                while state.calls == calls && !state.is_stopping {
                    state = self.work.wait(state);
                }
                continue;
            };
            let panic = catch_unwind(AssertUnwindSafe(job)).err();
            source.ended(priority, panic);
            // It may be the last reference: not under the lock.
            drop(source);
            state = self.state.lock();
            if priority == Priority::Compaction {
                state.running_compactions -= 1;
                state.calls += 1;
                self.work.notify_one();
            }
        }
    }
}

impl State {
    /// The next job that may run beside those that do. What was asked in vain goes to `asked`.
    fn take(&mut self, compactions_max: usize, asked: &mut Vec<Arc<dyn JobSource>>) -> Option<Taken> {
        self.sources.retain(|source| source.strong_count() > 0);
        for priority in self.turns.order() {
            if priority == Priority::Compaction && self.running_compactions >= compactions_max {
                continue;
            }
            for step in 0..self.sources.len() {
                let index = (self.next[priority as usize] + step) % self.sources.len();
                let Some(source) = self.sources[index].upgrade() else { continue };
                if let Some(job) = source.take(priority) {
                    self.next[priority as usize] = index + 1;
                    self.turns.took(priority);
                    self.running_compactions += usize::from(priority == Priority::Compaction);
                    return Some((source, priority, job));
                }
                asked.push(source);
            }
        }
        None
    }
}
