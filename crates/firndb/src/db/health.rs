//! How the database is: what failed, since when, and when it is tried again.

use std::time::Duration;

use crate::error::Error;
use crate::format::key::FileNumber;
use crate::sync::Arc;

use super::Db;
use super::core::Family;

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
    /// Tables that compactions leave out, since they are damaged. `verify` tells more. They are read again from time to
    /// time, and take part again once that succeeds.
    pub bad_files: Vec<FileNumber>,
    /// Tables of FIFO families that should have been dropped by now, and that wait for snapshots to go.
    pub waiting_drops: Vec<WaitingDrops>,
}

/// What a FIFO family keeps beyond its limits, because snapshots see it. `Db::pins` says whose they are.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDrops {
    /// The family.
    pub column_family: String,
    /// Its tables that wait.
    pub tables: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Health {
    /// Of a database that writes nothing.
    fn read_only(cause: Option<Error>) -> Health {
        Health {
            state: HealthState::ReadOnly,
            cause,
            since: None,
            tries: 0,
            next_try: None,
            bad_files: Vec::new(),
            waiting_drops: Vec::new(),
        }
    }
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
        if let Err(error) = core.check_open() {
            // In a forked process no lock may be taken.
            return Health::read_only(Some(error));
        }
        let now = core.resources.clock.monotonic_micros();
        let Some(writer) = &core.writer else { return Health::read_only(None) };
        let waiting_drop = |family: Arc<Family>| {
            let waiting = writer.compactor.waiting_drop(&family)?;
            let column_family = family.state.config.name.clone();
            Some(WaitingDrops { column_family, tables: waiting.files, bytes: waiting.bytes })
        };
        let bad_files = writer.failures.all_set_aside();
        let (worst, fatal) = (writer.failures.worst(), writer.failures.fatal());
        let refusal = writer.queue.gate().refusal().err().or_else(|| writer.queue.gate().why_in_vain());
        let state = if fatal.is_some() {
            HealthState::ReadOnly
        } else if refusal.is_some() {
            HealthState::WritesStopped
        } else if worst.is_some() || !bad_files.is_empty() {
            HealthState::Degraded
        } else {
            HealthState::Healthy
        };
        let failed = worst.as_ref();
        let damage = || bad_files.first().and_then(|number| writer.failures.why_set_aside(*number));
        Health {
            state,
            since: failed.map(|failed| Duration::from_micros(now.saturating_sub(failed.since_us))),
            tries: failed.map_or(0, |failed| failed.count),
            next_try: failed
                .filter(|_| state != HealthState::ReadOnly)
                .map(|failed| Duration::from_micros(failed.next_try_us.saturating_sub(now))),
            cause: fatal.or_else(|| failed.map(|failed| failed.cause.clone())).or(refusal).or_else(damage),
            bad_files,
            waiting_drops: core.resources.families.all().into_iter().filter_map(waiting_drop).collect(),
        }
    }
}
