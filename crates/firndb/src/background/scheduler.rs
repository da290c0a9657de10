//! The job queue and its threads.
//!
//! Flushes come first: a compaction never keeps a flush waiting, since at least one thread is left to flushes when
//! there are two or more. In manual mode there are no threads, and [`Scheduler::step`] runs one job.
//!
//! Jobs are closures that hold no `Db`; what they return is their own business. No lock is held while one runs.

use std::collections::VecDeque;
use std::thread::JoinHandle;

use crate::sync::{Arc, Condvar, Mutex};

/// Which queue a job waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Flush,
    Compaction,
}

pub(crate) type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queues {
    flush: VecDeque<Job>,
    compaction: VecDeque<Job>,
    running_flushes: usize,
    running_compactions: usize,
    paused: usize,
    stopping: bool,
}

impl Queues {
    /// The next job that may run beside those that do.
    fn take(&mut self, compactions_max: usize) -> Option<(Priority, Job)> {
        if self.stopping {
            return None;
        }
        if let Some(job) = self.flush.pop_front() {
            self.running_flushes += 1;
            return Some((Priority::Flush, job));
        }
        if self.paused == 0
            && self.running_compactions < compactions_max
            && let Some(job) = self.compaction.pop_front()
        {
            self.running_compactions += 1;
            return Some((Priority::Compaction, job));
        }
        None
    }

    fn finished(&mut self, priority: Priority) {
        match priority {
            Priority::Flush => self.running_flushes -= 1,
            Priority::Compaction => self.running_compactions -= 1,
        }
    }
}

/// See the module documentation.
pub(crate) struct Scheduler {
    queues: Mutex<Queues>,
    work: Condvar,
    idle: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
    compactions_max: usize,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("compactions_max", &self.compactions_max).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// A scheduler with no threads: [`Scheduler::step`] runs the jobs.
    pub(crate) fn manual() -> Arc<Scheduler> {
        Arc::new(Scheduler {
            queues: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            threads: Mutex::default(),
            compactions_max: 1,
        })
    }

    /// A scheduler with `count` threads, at least one.
    pub(crate) fn with_threads(count: usize) -> std::io::Result<Arc<Scheduler>> {
        let count = count.max(1);
        let scheduler = Arc::new(Scheduler {
            queues: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            threads: Mutex::default(),
            compactions_max: (count - 1).max(1),
        });
        for index in 0..count {
            let own = Arc::clone(&scheduler);
            let spawned =
                std::thread::Builder::new().name(format!("firndb-{index}")).spawn(move || own.run_until_stopped());
            match spawned {
                Ok(handle) => scheduler.threads.lock().push(handle),
                Err(error) => {
                    scheduler.shutdown();
                    return Err(error);
                }
            }
        }
        Ok(scheduler)
    }

    /// Queues a job. After [`Scheduler::shutdown`] it is dropped unrun.
    pub(crate) fn submit(&self, priority: Priority, job: Job) {
        let mut queues = self.queues.lock();
        if queues.stopping {
            return;
        }
        match priority {
            Priority::Flush => queues.flush.push_back(job),
            Priority::Compaction => queues.compaction.push_back(job),
        }
        drop(queues);
        self.work.notify_one();
    }

    /// Runs one waiting job on the caller's thread; false if there is none.
    pub(crate) fn step(&self) -> bool {
        let Some((priority, job)) = self.queues.lock().take(usize::MAX) else { return false };
        job();
        self.queues.lock().finished(priority);
        self.idle.notify_all();
        true
    }

    /// Jobs waiting or running.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        let queues = self.queues.lock();
        queues.flush.len() + queues.compaction.len() + queues.running_flushes + queues.running_compactions
    }

    /// Keeps compactions from starting until as many `unpause` calls were made.
    pub(crate) fn pause(&self) {
        self.queues.lock().paused += 1;
    }

    pub(crate) fn unpause(&self) {
        let mut queues = self.queues.lock();
        queues.paused = queues.paused.saturating_sub(1);
        drop(queues);
        self.work.notify_all();
    }

    /// Drops waiting jobs, waits for running ones, ends the threads. Twice is harmless.
    pub(crate) fn shutdown(&self) {
        let dropped = {
            let mut queues = self.queues.lock();
            queues.stopping = true;
            (std::mem::take(&mut queues.flush), std::mem::take(&mut queues.compaction))
        };
        drop(dropped);
        self.work.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        let own = std::thread::current().id();
        for thread in threads {
            // A job may hold the last handle: its own thread ends by itself, right after.
            if thread.thread().id() != own
                && let Err(panic) = thread.join()
            {
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn run_until_stopped(&self) {
        let mut queues = self.queues.lock();
        loop {
            if queues.stopping {
                return;
            }
            match queues.take(self.compactions_max) {
                Some((priority, job)) => {
                    drop(queues);
                    job();
                    queues = self.queues.lock();
                    queues.finished(priority);
                    self.idle.notify_all();
                }
                None => queues = self.work.wait(queues),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn flushes_run_before_compactions_and_steps_are_single() {
        let scheduler = Scheduler::manual();
        let order = Arc::new(Mutex::new(Vec::new()));
        for (name, priority) in [("c", Priority::Compaction), ("f", Priority::Flush)] {
            let order = Arc::clone(&order);
            scheduler.submit(priority, Box::new(move || order.lock().push(name)));
        }
        assert!(scheduler.step());
        assert_eq!(*order.lock(), ["f"]);
        assert!(scheduler.step());
        assert!(!scheduler.step());
        assert_eq!(*order.lock(), ["f", "c"]);
    }

    #[test]
    fn shutdown_waits_for_running_jobs_and_drops_waiting_ones() {
        let scheduler = Scheduler::with_threads(2).expect("threads");
        let count = Arc::new(AtomicUsize::new(0));
        for _ in 0..50 {
            let count = Arc::clone(&count);
            scheduler.submit(
                Priority::Compaction,
                Box::new(move || {
                    count.fetch_add(1, Ordering::SeqCst);
                }),
            );
        }
        scheduler.shutdown();
        let after = count.load(Ordering::SeqCst);
        scheduler.submit(Priority::Flush, Box::new(|| unreachable!("nothing runs after shutdown")));
        assert_eq!(scheduler.pending(), 0);
        assert_eq!(count.load(Ordering::SeqCst), after);
    }
}
