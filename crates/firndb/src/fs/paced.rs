//! A limit on how fast background work writes, which several databases may share.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::Result;
use crate::sync::Mutex;

use super::WritableFile;

/// No sleep is longer, so that a job that is called off ends soon.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// Bytes a second that flushes and compactions write, over all databases that are opened with it. Flushes are never held
/// up, since writers wait for them: what they write is taken from what compactions may.
///
/// ```
/// let limiter = firndb::RateLimiter::new(32 << 20);
/// assert_eq!(limiter.bytes_per_second(), 32 << 20);
/// let mut options = firndb::Options::default();
/// options.rate_limiter = Some(limiter);
/// ```
#[derive(Debug)]
pub struct RateLimiter {
    bytes_per_second: u64,
    /// When everything that was granted so far is written at this rate, in microseconds on the clock.
    paid_until_us: Mutex<u64>,
}

impl RateLimiter {
    /// A limit of so many bytes a second, at least 1.
    pub fn new(bytes_per_second: u64) -> Arc<RateLimiter> {
        Arc::new(RateLimiter { bytes_per_second: bytes_per_second.max(1), paid_until_us: Mutex::new(0) })
    }

    /// The limit.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Notes `bytes` that are about to be written; how long to wait before.
    fn grant(&self, bytes: u64, now_us: u64) -> Duration {
        let cost = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second);
        let mut paid_until = self.paid_until_us.lock();
        let wait = paid_until.saturating_sub(now_us);
        *paid_until = (*paid_until).max(now_us).saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        Duration::from_micros(wait)
    }
}

/// Who writes through a [`PacedFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Never waits.
    Flush,
    Compaction,
}

/// The file, or the file behind a limit.
pub(crate) fn paced(
    file: Arc<dyn WritableFile>,
    limiter: Option<&Arc<RateLimiter>>,
    clock: &Arc<dyn Clock>,
    pace: Pace,
) -> Arc<dyn WritableFile> {
    match limiter {
        None => file,
        Some(limiter) => Arc::new(PacedFile { file, limiter: Arc::clone(limiter), clock: Arc::clone(clock), pace }),
    }
}

#[derive(Debug)]
struct PacedFile {
    file: Arc<dyn WritableFile>,
    limiter: Arc<RateLimiter>,
    clock: Arc<dyn Clock>,
    pace: Pace,
}

impl WritableFile for PacedFile {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        let wait = self.limiter.grant(bytes.len() as u64, self.clock.monotonic_micros());
        if self.pace == Pace::Compaction && !wait.is_zero() {
            // What is left of a longer wait is waited for at the next append.
            self.clock.sleep(wait.min(SLEEP_MAX));
        }
        self.file.append(bytes)
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn allocate(&self, len: u64) {
        self.file.allocate(len);
    }

    fn start_write_back(&self, offset: u64, len: u64) {
        self.file.start_write_back(offset, len);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clock::ManualClock;
    use crate::fs::{CreateMode, Fs, MemoryFs};

    #[test]
    fn compactions_keep_to_the_rate_over_all_files_and_flushes_go_before() {
        let fs = MemoryFs::new();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(1));
        let limiter = RateLimiter::new(1_000_000);
        let file = |name: &str, pace| {
            let file = fs.create(Path::new(name), CreateMode::New).expect("made");
            paced(file, Some(&limiter), &clock, pace)
        };
        let (one, two) = (file("/1", Pace::Compaction), file("/2", Pace::Compaction));
        for _ in 0..100 {
            one.append(&[0; 10_000]).expect("written");
            two.append(&[0; 10_000]).expect("written");
        }
        let seconds = clock.monotonic_micros() as f64 / 1e6;
        assert!((1.9..2.1).contains(&seconds), "two million bytes took {seconds} s");
        let flush = file("/3", Pace::Flush);
        let before = clock.monotonic_micros();
        flush.append(&[0; 500_000]).expect("written");
        assert_eq!(clock.monotonic_micros(), before);
        (0..10).for_each(|_| one.append(&[0; 1000]).expect("written"));
        let after = (clock.monotonic_micros() - before) as f64 / 1e6;
        assert!((0.4..0.6).contains(&after), "the compaction waited {after} s for what the flush took");
    }
}
