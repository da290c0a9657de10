//! The job queue of one database, emptied by a pool of threads, or step by step.
//!
//! Flow: the owners of background work -> [`Scheduler::submit`] -> a pool's thread, or [`Scheduler::step`] in manual mode
//! -> the job -> [`AfterJob`], which delivers events with no lock held.
//!
//! Invariants: (1) Flushes come first, within bounds (`threads::Turns`). (2) A job waits for no other job. (3) A job's panic
//! ends here: [`AfterJob`] is told, and the thread goes on.
//!
//! Jobs are closures that hold no `Db`; what they return is their own business. No lock is held while one runs.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::ThreadId;

use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{Job, JobSource, Panic, ThreadPool, Turns};

pub(crate) use crate::threads::Priority;

/// Called on the thread of each job when the job has ended, with its panic if it had one. Part of the job to whoever waits
/// for its end.
pub(crate) type AfterJob = Box<dyn Fn(Option<Panic>) + Send + Sync>;

#[derive(Default)]
struct Queues {
    flush: VecDeque<Job>,
    compaction: VecDeque<Job>,
    /// The threads whose jobs have not ended.
    running: Vec<ThreadId>,
    paused: usize,
    is_stopping: bool,
    turns: Turns,
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
        self.turns.took(priority);
        Some(job)
    }
}

/// See the module documentation.
pub(crate) struct Scheduler {
    queues: Mutex<Queues>,
    ended: Condvar,
    after_job: AfterJob,
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
        (self.after_job)(panic);
        let own = std::thread::current().id();
        let mut queues = self.queues.lock();
        if let Some(at) = queues.running.iter().position(|thread| *thread == own) {
            queues.running.swap_remove(at);
        }
        drop(queues);
        self.ended.notify_all();
    }
}

impl Scheduler {
    /// A scheduler with no threads: [`Scheduler::step`] runs the jobs.
    pub(crate) fn manual(after_job: AfterJob) -> Arc<Scheduler> {
        Arc::new(Scheduler { queues: Mutex::default(), ended: Condvar::new(), after_job, pool: None })
    }

    /// A scheduler whose jobs the threads of `pool` run.
    pub(crate) fn of_pool(pool: Arc<ThreadPool>, after_job: AfterJob) -> Arc<Scheduler> {
        let (queues, own_pool) = (Mutex::default(), Some(Arc::clone(&pool)));
        let scheduler = Arc::new(Scheduler { queues, ended: Condvar::new(), after_job, pool: own_pool });
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
            let order = queues.turns.order();
            order.into_iter().find_map(|priority| queues.take(priority).map(|job| (priority, job)))
        };
        let Some((priority, job)) = next else { return false };
        let panic = catch_unwind(AssertUnwindSafe(job)).err();
        self.ended(priority, panic);
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

    /// True while compactions are kept from starting.
    pub(crate) fn is_paused(&self) -> bool {
        self.queues.lock().paused > 0
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

    /// Drops waiting jobs and waits for running ones, but for the one that calls. Twice is harmless.
    pub(crate) fn shutdown(&self) {
        let own = std::thread::current().id();
        let mut queues = self.queues.lock();
        queues.is_stopping = true;
        let waiting = (std::mem::take(&mut queues.flush), std::mem::take(&mut queues.compaction));
        while queues.running.iter().any(|thread| *thread != own) {
            queues = self.ended.wait(queues);
        }
        drop(queues);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};
    use crate::threads::panic_message;

    fn nothing() -> AfterJob {
        Box::new(|panic| assert!(panic.is_none()))
    }

    fn count_up(count: &AtomicUsize) {
        count.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn flushes_run_before_compactions_and_steps_are_single() {
        let scheduler = Scheduler::manual(nothing());
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
        let scheduler = Scheduler::of_pool(ThreadPool::new(2).expect("threads"), nothing());
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
        let schedulers =
            [Scheduler::of_pool(Arc::clone(&pool), nothing()), Scheduler::of_pool(Arc::clone(&pool), nothing())];
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
        let panics = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&panics);
        let note = move |panic: Option<Panic>| seen.lock().extend(panic.map(|p| panic_message(&*p).to_owned()));
        let bad = Scheduler::of_pool(Arc::clone(&pool), Box::new(note));
        let good = Scheduler::of_pool(pool, nothing());
        bad.submit(Priority::Flush, Box::new(|| std::panic::resume_unwind(Box::new("of the job"))));
        let done = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&done);
        good.submit(Priority::Flush, Box::new(move || count_up(&own)));
        while done.load(Ordering::SeqCst) == 0 || bad.pending() > 0 {
            std::thread::yield_now();
        }
        bad.shutdown();
        assert_eq!(*panics.lock(), ["of the job"]);
        good.shutdown();
    }

    #[test]
    fn a_compaction_waits_for_a_few_flushes_at_most_though_flushes_never_end() {
        let scheduler = Scheduler::manual(nothing());
        let done = Arc::new(AtomicUsize::new(0));
        let own = Arc::clone(&done);
        scheduler.submit(Priority::Compaction, Box::new(move || count_up(&own)));
        let mut flushes = 0;
        while done.load(Ordering::SeqCst) == 0 {
            flushes += 1;
            scheduler.submit(Priority::Flush, Box::new(|| ()));
            scheduler.step();
        }
        assert_eq!(flushes, 5);
    }

    /// One thread, and a database that always has a flush and a compaction more.
    #[test]
    fn a_busy_database_does_not_starve_another_on_a_shared_thread() {
        let pool = ThreadPool::new(1).expect("threads");
        let (busy, quiet) = (Scheduler::of_pool(Arc::clone(&pool), nothing()), Scheduler::of_pool(pool, nothing()));
        let rounds = Arc::new(AtomicUsize::new(0));
        fn again(busy: &Arc<Scheduler>, priority: Priority, rounds: &Arc<AtomicUsize>) {
            let (own, count) = (Arc::clone(busy), Arc::clone(rounds));
            busy.submit(
                priority,
                Box::new(move || {
                    count_up(&count);
                    again(&own, priority, &count);
                }),
            );
        }
        again(&busy, Priority::Flush, &rounds);
        again(&busy, Priority::Compaction, &rounds);
        for priority in [Priority::Flush, Priority::Compaction] {
            let (before, done) = (rounds.load(Ordering::SeqCst), Arc::new(AtomicUsize::new(0)));
            let own = Arc::clone(&done);
            quiet.submit(priority, Box::new(move || count_up(&own)));
            while done.load(Ordering::SeqCst) == 0 {
                assert!(rounds.load(Ordering::SeqCst) < before + 1_000_000, "{priority:?} is starved");
                std::thread::yield_now();
            }
        }
        busy.shutdown();
        quiet.shutdown();
    }
}
