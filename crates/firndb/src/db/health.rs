//! How the database is: what failed, since when, and when it is tried again.

use std::time::Duration;

use crate::error::Error;
use crate::format::key::FileNumber;

use super::Db;

/// What the database can do at the moment.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// Everything works.
    Healthy,
    /// Background work fails and is tried again, or leaves damaged tables alone; reads and writes go on.
    Degraded,
    /// Writes are refused until a later try succeeds; reads go on.
    WritesStopped,
    /// Writes are refused until the database is opened again, or it was opened for reading only; reads go on.
    ReadOnly,
}

/// The answer of [`Db::health`].
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct Health {
    /// What works.
    pub state: HealthState,
    /// The first failure that is not overcome yet.
    pub cause: Option<Error>,
    /// How long ago that was.
    pub since: Option<Duration>,
    /// How often the work was tried since, in vain.
    pub tries: u32,
    /// In how long it is tried again.
    pub next_try: Option<Duration>,
    /// Tables that compactions leave alone, since they are damaged or compactions kept failing on them. `verify` tells
    /// more; the database must be opened again for another try.
    pub bad_files: Vec<FileNumber>,
}

impl Db {
    /// How the database is.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-health-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// assert_eq!(db.health().state, firndb::HealthState::Healthy);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn health(&self) -> Health {
        let core = self.core();
        let now = core.clock.monotonic_micros();
        let bad_files = core.errors.set_aside();
        let (failures, fatal) = (core.errors.failures(), core.errors.fatal());
        let refusal = core.queue.as_ref().and_then(|queue| queue.gate().refusal_cause());
        let state = match (&core.queue, &refusal, &failures) {
            (None, ..) => HealthState::ReadOnly,
            _ if fatal.is_some() => HealthState::ReadOnly,
            (_, Some(_), _) => HealthState::WritesStopped,
            (_, _, Some(_)) => HealthState::Degraded,
            _ if !bad_files.is_empty() => HealthState::Degraded,
            _ => HealthState::Healthy,
        };
        let failed = failures.as_ref();
        Health {
            state,
            since: failed.map(|failed| Duration::from_micros(now.saturating_sub(failed.since_us))),
            tries: failed.map_or(0, |failed| failed.count),
            next_try: failed
                .filter(|_| state != HealthState::ReadOnly)
                .map(|failed| Duration::from_micros(failed.next_try_us.saturating_sub(now))),
            cause: fatal.or_else(|| failures.map(|failed| failed.cause)).or(refusal),
            bad_files,
        }
    }
}
