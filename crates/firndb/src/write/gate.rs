//! The gate before the line: what keeps writers from going straight on, a stall, a failure or the end.
//!
//! Flow: `WriteQueue::write` -> **[`WriteGate::pass`]** -> the line. The queue sets stalls, failures refuse, `close` shuts.
//!
//! Invariants
//! 1. Whoever waits here waits for something that a running or retrying job will bring. If none will, the write is refused
//!    with the cause (`hopeless`).
//! 2. A thread that background work needs never waits here: what it waits for might be its own work. It is told `Busy`
//!    where writers stop, and goes straight on where they are slowed down.
//!
//! Threads: any. Writers look at one atomic; only what is shut costs more. Lock: `obstacle`, briefly, with only the
//! outbox's inside it; the leader may hold its own around it.

use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::outbox::{Event, Outbox};
use crate::metrics::{StallEvent, Statistics, Ticker};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::is_background_thread;

use super::options::WriteOptions;
use super::stall::StallState;

/// How fast writers go at first when they are slowed down; RocksDB's `delayed_write_rate`.
const SLOWED_BYTES_PER_SECOND: u64 = 16 << 20;

/// A writer that waits for its turn looks this often whether it still has to.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct WriteGate {
    clock: Arc<dyn Clock>,
    statistics: Arc<Statistics>,
    outbox: Arc<Outbox>,
    is_manual: bool,
    /// There is an obstacle.
    is_shut: AtomicBool,
    obstacle: Mutex<Obstacle>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Obstacle {
    refusal: Option<Error>,
    /// The refusal stays until the database is opened anew: the database is closed, or a failure was fatal.
    is_final: bool,
    is_fatal: bool,
    /// How often writes were stopped, while they were stopped already too.
    stops: u64,
    stall: StallState,
    /// Why waiting for compactions is in vain.
    hopeless: Option<Error>,
    /// When the next slowed-down write may go, in microseconds on the clock.
    next_write_us: u64,
    stalled_us: u64,
}

impl WriteGate {
    /// A gate that is open. `is_manual`: no thread runs what writers would wait for, so that they are told `Busy` instead.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        statistics: Arc<Statistics>,
        outbox: Arc<Outbox>,
        is_manual: bool,
    ) -> WriteGate {
        let (obstacle, changed) = (Mutex::new(Obstacle::default()), Condvar::new());
        WriteGate { clock, statistics, outbox, is_manual, is_shut: AtomicBool::new(false), obstacle, changed }
    }

    /// Writers have to do this from now on; `hopeless` is why it would be in vain to wait for compactions.
    pub(super) fn set_stall(&self, state: StallState, hopeless: Option<Error>) {
        let mut obstacle = self.obstacle.lock();
        let is_news = obstacle.stall != state;
        if !is_news && obstacle.hopeless.is_none() && hopeless.is_none() {
            return;
        }
        obstacle.stall = state;
        obstacle.hopeless = hopeless;
        if state == StallState::Free {
            obstacle.next_write_us = 0;
        }
        if is_news {
            let reason = state.reason().map(|reason| reason.to_string());
            self.outbox.post(Event::Stall(StallEvent { reason }));
        }
        self.note(&obstacle);
    }

    /// Lets a write of so many bytes through; waits as long as writers have to.
    #[inline]
    pub(super) fn pass(&self, bytes: usize, options: &WriteOptions) -> Result<()> {
        if self.is_shut.load(Ordering::Acquire) { self.pass_obstacle(bytes, options) } else { Ok(()) }
    }

    fn note(&self, obstacle: &Obstacle) {
        let any = obstacle.refusal.is_some() || obstacle.stall != StallState::Free;
        // Release pairs with the Acquire in `pass` and `refusal`.
        self.is_shut.store(any, Ordering::Release);
        self.changed.notify_all();
    }

    /// What writers have to do now.
    pub(crate) fn stall_state(&self) -> StallState {
        self.obstacle.lock().stall
    }

    /// Microseconds that writers were held up so far.
    pub(crate) fn stalled_micros(&self) -> u64 {
        self.obstacle.lock().stalled_us
    }

    /// Waits as long as writers have to, or says why there is no waiting.
    #[cold]
    fn pass_obstacle(&self, bytes: usize, options: &WriteOptions) -> Result<()> {
        let clock = &self.clock;
        let start = clock.monotonic_micros();
        let mut turn = None;
        let mut obstacle = self.obstacle.lock();
        let outcome = loop {
            if let Some(error) = &obstacle.refusal {
                break Err(error.clone());
            }
            let Some(reason) = obstacle.stall.reason() else { break Ok(()) };
            if options.no_slowdown {
                break Err(Error::new(ErrorKind::Busy, format!("writes have to wait: {reason}")));
            }
            match obstacle.stall {
                StallState::Stopped(_) if obstacle.hopeless.is_some() => {
                    let what = format!("writes have to wait, and in vain: {reason}");
                    let cause = obstacle.hopeless.clone();
                    break Err(cause.map_or_else(
                        || Error::new(ErrorKind::Busy, &what),
                        |c| c.because(ErrorKind::ReadOnly, &what),
                    ));
                }
                StallState::Stopped(_) if is_background_thread() => {
                    let what = format!("writes have to wait for background work, which needs this thread: {reason}");
                    break Err(Error::new(ErrorKind::Busy, what));
                }
                _ if is_background_thread() => break Ok(()),
                StallState::Stopped(_) if self.is_manual => {
                    break Err(Error::new(
                        ErrorKind::Busy,
                        format!("writes have to wait for a background step: {reason}"),
                    ));
                }
                StallState::Stopped(_) => obstacle = self.changed.wait(obstacle),
                _ => {
                    let now = clock.monotonic_micros();
                    let turn = *turn.get_or_insert_with(|| {
                        let cost = (bytes as u64).saturating_mul(1_000_000) / SLOWED_BYTES_PER_SECOND;
                        let turn = obstacle.next_write_us.max(now);
                        obstacle.next_write_us = turn.saturating_add(cost);
                        turn
                    });
                    if turn <= now {
                        break Ok(());
                    }
                    drop(obstacle);
                    clock.sleep(LOOK_AGAIN.min(Duration::from_micros(turn - now)));
                    obstacle = self.obstacle.lock();
                }
            }
        };
        let waited = clock.monotonic_micros() - start;
        obstacle.stalled_us += waited;
        self.statistics.add(Ticker::StallMicros, waited);
        outcome
    }

    /// The error with which writes are refused, if they are.
    #[inline]
    pub(crate) fn refusal(&self) -> Result<()> {
        if self.is_shut.load(Ordering::Acquire) { self.why_refused() } else { Ok(()) }
    }

    #[cold]
    fn why_refused(&self) -> Result<()> {
        self.obstacle.lock().refusal.clone().map_or(Ok(()), Err)
    }

    /// Why writers wait in vain, if they do.
    pub(crate) fn why_in_vain(&self) -> Option<Error> {
        let obstacle = self.obstacle.lock();
        obstacle.hopeless.clone().filter(|_| matches!(obstacle.stall, StallState::Stopped(_)))
    }

    /// Refuses writes from now on, because of `cause`; an earlier refusal stays.
    #[cold]
    pub(crate) fn stop_writes(&self, cause: &Error) {
        let refusal = cause.clone().because(ErrorKind::ReadOnly, "writes are stopped after an earlier failure");
        let mut obstacle = self.obstacle.lock();
        obstacle.refusal.get_or_insert(refusal);
        obstacle.stops += 1;
        self.note(&obstacle);
    }

    /// Refuses writes until the database is opened anew, because of `cause`, whatever they were refused for before.
    #[cold]
    pub(crate) fn stop_writes_for_good(&self, cause: &Error) {
        let what = "writes are stopped until the database is opened again";
        let mut obstacle = self.obstacle.lock();
        if !obstacle.is_final {
            obstacle.is_final = true;
            obstacle.refusal = Some(cause.clone().because(ErrorKind::ReadOnly, what));
        }
        obstacle.is_fatal = true;
        obstacle.stops += 1;
        self.note(&obstacle);
    }

    /// An error if a failure was fatal: a memtable may hold half of a batch then, and nothing of it may become durable.
    pub(crate) fn check_not_fatal(&self) -> Result<()> {
        if self.obstacle.lock().is_fatal {
            return Err(Error::new(ErrorKind::ReadOnly, "nothing is written any more after a fatal failure"));
        }
        Ok(())
    }

    /// The database is closing: whoever waits, and whoever comes, is refused from now on. Returns why writes were refused
    /// before, if they were.
    pub(crate) fn close(&self) -> Option<Error> {
        let mut obstacle = self.obstacle.lock();
        obstacle.is_final = true;
        let before = obstacle.refusal.replace(Error::new(ErrorKind::Closed, "the database is closed"));
        self.note(&obstacle);
        before
    }

    /// True if writes are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.obstacle.lock().refusal.is_some()
    }

    /// How often writes were stopped so far: for [`WriteGate::resume`].
    pub(crate) fn stops(&self) -> u64 {
        self.obstacle.lock().stops
    }

    /// Lets writes go on, unless they were stopped again since there were `stops`, or for good: false then. The caller has made everything durable that a failed log held.
    pub(crate) fn resume(&self, stops: u64) -> bool {
        let mut obstacle = self.obstacle.lock();
        if obstacle.is_final || obstacle.stops != stops {
            return false;
        }
        obstacle.refusal = None;
        self.note(&obstacle);
        true
    }
}
