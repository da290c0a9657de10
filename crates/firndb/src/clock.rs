//! Time and seeds, real or simulated: a test is a pure function of its seed. And the tokens that call work off.
//!
//! Whoever needs time is handed a [`Clock`]; nothing else in the engine asks the machine for it. A [`CancelToken`] is looked
//! at by the work itself, one load each time; parts of the work have tokens of their own, which are called off with the whole.
//!
//! Threads: all of it may be used by any.

use std::fmt::Debug;
use std::sync::Weak;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};

/// Where the engine takes time and randomness from.
///
/// ```
/// use firndb::{Clock, ManualClock};
/// let clock = ManualClock::new(7);
/// clock.advance(std::time::Duration::from_secs(3));
/// assert_eq!(clock.monotonic_micros(), 3_000_000);
/// ```
pub trait Clock: Send + Sync + Debug + 'static {
    /// Microseconds since some fixed moment; never goes backwards.
    fn monotonic_micros(&self) -> u64;
    /// Seconds since 1970-01-01 UTC.
    fn unix_seconds(&self) -> u64;
    /// Sleeps; a simulated clock only moves forward.
    fn sleep(&self, duration: Duration);
    /// 64 unpredictable bits (of the seed, in a simulation).
    fn random(&self) -> u64;
}

/// The machine's own clock and randomness.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
    draws: AtomicU64,
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock { start: std::time::Instant::now(), draws: AtomicU64::new(0) }
    }
}

impl Clock for SystemClock {
    fn monotonic_micros(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    fn unix_seconds(&self) -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn random(&self) -> u64 {
        // std seeds each `RandomState` from the operating system; hashing a counter with it gives fresh bits.
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u64(self.draws.fetch_add(1, Ordering::Relaxed));
        hasher.finish()
    }
}

/// A clock that stands still until it is moved, with a seeded random sequence (SplitMix64).
#[derive(Debug)]
pub struct ManualClock {
    micros: AtomicU64,
    state: AtomicU64,
}

impl ManualClock {
    /// A clock at time 0 whose randomness comes from `seed`.
    pub fn new(seed: u64) -> Self {
        ManualClock { micros: AtomicU64::new(0), state: AtomicU64::new(seed) }
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        // Relaxed: the clock orders nothing but itself.
        self.micros.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn monotonic_micros(&self) -> u64 {
        self.micros.load(Ordering::Relaxed)
    }

    fn unix_seconds(&self) -> u64 {
        1_700_000_000 + self.monotonic_micros() / 1_000_000
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration);
    }

    fn random(&self) -> u64 {
        let mut z = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// Ends long work early: whoever holds a clone may call it off, and the work looks every now and then.
#[derive(Debug, Clone, Default)]
pub(crate) struct CancelToken(Arc<CancelState>);

#[derive(Debug, Default)]
struct CancelState {
    is_called_off: AtomicBool,
    /// Parts of the work, which are called off with it: who does the work looks at one flag.
    parts: Mutex<Vec<Weak<CancelState>>>,
}

impl CancelState {
    fn cancel(&self) {
        // Relaxed: noticed at some later look.
        self.is_called_off.store(true, Ordering::Relaxed);
        let parts = std::mem::take(&mut *self.parts.lock());
        parts.iter().filter_map(Weak::upgrade).for_each(|part| part.cancel());
    }
}

impl CancelToken {
    /// Calls the work off.
    pub(crate) fn cancel(&self) {
        self.0.cancel();
    }

    /// One for work that ends with any of `wholes`, or alone.
    pub(crate) fn part_of(wholes: &[&CancelToken]) -> CancelToken {
        let part = CancelToken::default();
        for whole in wholes {
            let mut parts = whole.0.parts.lock();
            parts.retain(|part| part.strong_count() > 0);
            parts.push(Arc::downgrade(&part.0));
            drop(parts);
            // Looked at after it is listed: a call that missed it there is seen here.
            if whole.check().is_err() {
                part.cancel();
            }
        }
        part
    }

    /// An error of kind `Cancelled` once the work was called off.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.is_called_off.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Cancelled, "the job was called off")),
        }
    }
}
