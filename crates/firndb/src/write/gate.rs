//! The gate before the line: what keeps writers from going straight on, a stall, a failure or the end.
//!
//! Writers look at one atomic; only what is shut costs more. Lock: `obstacle`, briefly, and with none inside it; the
//! leader may hold its own around it. Listeners are told with no lock held.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{EventListener, StallEvent, Statistics, Ticker};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex};

use super::options::WriteOptions;
use super::stall::StallState;

/// How fast writers go at first when they are slowed down; RocksDB's `delayed_write_rate`.
const SLOWED_BYTES_PER_SECOND: u64 = 16 << 20;

/// A writer that waits for its turn looks this often whether it still has to.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// See the module's text.
pub(crate) struct WriteGate {
    clock: Arc<dyn Clock>,
    statistics: Arc<Statistics>,
    listeners: Vec<Arc<dyn EventListener>>,
    is_manual: bool,
    /// There is an obstacle.
    is_shut: AtomicBool,
    obstacle: Mutex<Obstacle>,
    changed: Condvar,
}

#[derive(Default)]
struct Obstacle {
    refusal: Option<Error>,
    stall: StallState,
    /// When the next slowed-down write may go, in microseconds on the clock.
    next_write_us: u64,
    stalled_us: u64,
    /// What listeners have not heard yet: told once no lock is held, by one thread at a time, in order.
    untold: VecDeque<StallEvent>,
    is_telling: bool,
}

impl WriteGate {
    /// A gate that is open. `is_manual`: nothing runs that writers would wait for.
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        statistics: Arc<Statistics>,
        listeners: Vec<Arc<dyn EventListener>>,
        is_manual: bool,
    ) -> WriteGate {
        let (obstacle, changed) = (Mutex::new(Obstacle::default()), Condvar::new());
        WriteGate { clock, statistics, listeners, is_manual, is_shut: AtomicBool::new(false), obstacle, changed }
    }

    /// Writers have to do this from now on.
    pub(super) fn set_stall(&self, state: StallState) {
        let mut obstacle = self.obstacle.lock();
        if obstacle.stall == state {
            return;
        }
        obstacle.stall = state;
        if state == StallState::Free {
            obstacle.next_write_us = 0;
        }
        if !self.listeners.is_empty() {
            obstacle.untold.push_back(StallEvent { reason: state.reason().map(|reason| reason.to_string()) });
        }
        self.note(&obstacle);
    }

    /// Lets a write of so many bytes through; waits as long as writers have to.
    #[inline]
    pub(super) fn pass(&self, bytes: usize, options: &WriteOptions) -> Result<()> {
        match self.is_shut.load(Ordering::Acquire) {
            false => Ok(()),
            true => self.pass_obstacle(bytes, options),
        }
    }

    /// Tells listeners what became of stalls, for a caller that holds no lock: a listener may read statistics, write or
    /// flush. One that brings a stall about itself hears of it when it has returned.
    #[cold]
    pub(crate) fn tell_listeners(&self) {
        let mut obstacle = self.obstacle.lock();
        if obstacle.is_telling {
            return;
        }
        while let Some(event) = obstacle.untold.pop_front() {
            obstacle.is_telling = true;
            drop(obstacle);
            self.listeners.iter().for_each(|listener| listener.stall_changed(&event));
            obstacle = self.obstacle.lock();
            obstacle.is_telling = false;
        }
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
        match self.is_shut.load(Ordering::Acquire) {
            false => Ok(()),
            true => self.obstacle.lock().refusal.clone().map_or(Ok(()), Err),
        }
    }

    /// Refuses writes from now on, because of `cause`; an earlier cause stays.
    #[cold]
    pub(crate) fn stop_writes(&self, cause: &Error) {
        let refusal = cause.clone().because(ErrorKind::ReadOnly, "writes are stopped after an earlier failure");
        self.refuse(refusal);
    }

    /// Refuses writes from now on; an earlier refusal stays.
    pub(super) fn refuse(&self, error: Error) {
        let mut obstacle = self.obstacle.lock();
        obstacle.refusal.get_or_insert(error);
        self.note(&obstacle);
    }

    /// True if writes are refused.
    pub(crate) fn is_refusing(&self) -> bool {
        self.obstacle.lock().refusal.is_some()
    }

    /// Why writes are refused.
    pub(crate) fn refusal_cause(&self) -> Option<Error> {
        self.obstacle.lock().refusal.clone()
    }

    /// Lets writes go on. The caller has made everything durable that the failed log held.
    pub(crate) fn resume(&self) {
        let mut obstacle = self.obstacle.lock();
        let is_closed = obstacle.refusal.as_ref().is_some_and(|error| error.kind() == ErrorKind::Closed);
        if !is_closed {
            obstacle.refusal = None;
            self.note(&obstacle);
        }
    }
}
