//! The job queue of one database, emptied by a pool of threads, or step by step.
//!
//! Flushes come first. In manual mode there are no threads, and [`Scheduler::step`] runs one job.
//!
//! Jobs are closures that hold no `Db`; what they return is their own business. No lock is held while one runs.

use std::collections::VecDeque;
use std::thread::ThreadId;

use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{Job, JobSource, Panic, ThreadPool};

pub(crate) use crate::threads::Priority;

#[derive(Default)]
struct Queues {
    flush: VecDeque<Job>,
    compaction: VecDeque<Job>,
    /// The threads whose jobs have not ended.
    running: Vec<ThreadId>,
    paused: usize,
    is_stopping: bool,
    panic: Option<Panic>,
}

impl Queues {
    fn take(&mut self, priority: Priority) -> Option<Job> {
        let job = match priority {
            _ if self.is_stopping => None,
            Priority::Flush => self.flush.pop_front(),
            Priority::Compaction if self.paused > 0 => None,
            Priority::Compaction => self.compaction.pop_front(),
        }?;
        self.running.push(std::thread::current().id());
        Some(job)
    }
}

/// See the module documentation.
pub(crate) struct Scheduler {
    queues: Mutex<Queues>,
    ended: Condvar,
    /// `None` in manual mode.
    pool: Option<Arc<ThreadPool>>,
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl JobSource for Scheduler {
    fn take(&self, priority: Priority) -> Option<Job> {
        self.queues.lock().take(priority)
    }

    fn ended(&self, _: Priority, panic: Option<Panic>) {
        let own = std::thread::current().id();
        let mut queues = self.queues.lock();
        if let Some(at) = queues.running.iter().position(|thread| *thread == own) {
            queues.running.swap_remove(at);
        }
        if panic.is_some() {
            queues.panic = panic;
        }
        drop(queues);
        self.ended.notify_all();
    }
}

impl Scheduler {
    /// A scheduler with no threads: [`Scheduler::step`] runs the jobs.
    pub(crate) fn manual() -> Arc<Scheduler> {
        Arc::new(Scheduler { queues: Mutex::default(), ended: Condvar::new(), pool: None })
    }

    /// A scheduler whose jobs the threads of `pool` run.
    pub(crate) fn of_pool(pool: Arc<ThreadPool>) -> Arc<Scheduler> {
        let scheduler =
            Arc::new(Scheduler { queues: Mutex::default(), ended: Condvar::new(), pool: Some(Arc::clone(&pool)) });
        let source: Arc<dyn JobSource> = Arc::clone(&scheduler) as Arc<dyn JobSource>;
        pool.add(Arc::downgrade(&source));
        scheduler
    }

    /// Queues a job. After [`Scheduler::shutdown`] it is dropped unrun.
    pub(crate) fn submit(&self, priority: Priority, job: Job) {
        let mut queues = self.queues.lock();
        if queues.is_stopping {
            return;
        }
        match priority {
            Priority::Flush => queues.flush.push_back(job),
            Priority::Compaction => queues.compaction.push_back(job),
        }
        drop(queues);
        if let Some(pool) = &self.pool {
            pool.call();
        }
    }

    /// Runs one waiting job on the caller's thread; false if there is none.
    pub(crate) fn step(&self) -> bool {
        let next = {
            let mut queues = self.queues.lock();
            let flush = queues.take(Priority::Flush).map(|job| (Priority::Flush, job));
            flush.or_else(|| queues.take(Priority::Compaction).map(|job| (Priority::Compaction, job)))
        };
        let Some((priority, job)) = next else { return false };
        job();
        self.ended(priority, None);
        true
    }

    /// Jobs waiting or running.
    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        let queues = self.queues.lock();
        queues.flush.len() + queues.compaction.len() + queues.running.len()
    }

    /// Keeps compactions from starting until as many `unpause` calls were made.
    pub(crate) fn pause(&self) {
        self.queues.lock().paused += 1;
    }

    pub(crate) fn unpause(&self) {
        let mut queues = self.queues.lock();
        queues.paused = queues.paused.saturating_sub(1);
        drop(queues);
        if let Some(pool) = &self.pool {
            pool.call_all();
        }
    }

    /// True on a thread that runs one of the jobs.
    pub(crate) fn is_running_here(&self) -> bool {
        let own = std::thread::current().id();
        self.queues.lock().running.contains(&own)
    }

    /// Drops waiting jobs and waits for running ones, but for the one that calls. Twice is harmless. A job's panic goes on
    /// here.
    pub(crate) fn shutdown(&self) {
        let own = std::thread::current().id();
        let mut queues = self.queues.lock();
        queues.is_stopping = true;
        let waiting = (std::mem::take(&mut queues.flush), std::mem::take(&mut queues.compaction));
        while queues.running.iter().any(|thread| *thread != own) {
            queues = self.ended.wait(queues);
        }
        let panic = queues.panic.take();
        drop(queues);
        drop(waiting);
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    fn count_up(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::SeqCst);
    }

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
        let scheduler = Scheduler::of_pool(ThreadPool::new(2).expect("threads"));
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

    #[test]
    fn a_pool_serves_several_schedulers_flushes_first_and_keeps_a_thread_for_them() {
        let pool = ThreadPool::new(2).expect("threads");
        let schedulers = [Scheduler::of_pool(Arc::clone(&pool)), Scheduler::of_pool(Arc::clone(&pool))];
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let done = Arc::new(AtomicUsize::new(0));
        for scheduler in &schedulers {
            let gate = Arc::clone(&gate);
            let held = move || {
                let mut is_open = gate.0.lock();
                while !*is_open {
                    is_open = gate.1.wait(is_open);
                }
            };
            scheduler.submit(Priority::Compaction, Box::new(held));
        }
        // Both compactions would wait at the gate; one thread stays free.
        for scheduler in &schedulers {
            let done = Arc::clone(&done);
            scheduler.submit(Priority::Flush, Box::new(move || count_up(&done)));
        }
        while done.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        assert_eq!(schedulers[0].pending() + schedulers[1].pending(), 2);
        *gate.0.lock() = true;
        gate.1.notify_all();
        schedulers[0].shutdown();
        assert_eq!(schedulers[0].pending(), 0);
        let after = Arc::clone(&done);
        schedulers[1].submit(Priority::Flush, Box::new(move || count_up(&after)));
        while done.load(Ordering::SeqCst) < 3 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_jobs_panic_is_its_own_databases_and_the_pool_goes_on() {
        let pool = ThreadPool::new(1).expect("threads");
        let (bad, good) = (Scheduler::of_pool(Arc::clone(&pool)), Scheduler::of_pool(pool));
        bad.submit(Priority::Flush, Box::new(|| std::panic::resume_unwind(Box::new("of the job"))));
        let done = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&done);
        good.submit(Priority::Flush, Box::new(move || count_up(&own)));
        while done.load(Ordering::SeqCst) == 0 || bad.pending() > 0 {
            std::thread::yield_now();
        }
        let panic =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| bad.shutdown())).expect_err("it goes on here");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"of the job"));
        good.shutdown();
    }
}
