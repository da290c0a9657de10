//! The public handle: opens, closes, and wires the owners below together.
//!
//! [`Db`] and [`ColumnFamily`] are handles: cheap to clone, `Send + Sync`, all of one open database. The last one's drop
//! closes it. Iterators, snapshots and values own what they need and may outlive every handle; the lock of the directory
//! and the janitor then live until the last of them goes.

mod background;
mod close;
mod column_family;
mod core;
mod families;
mod health;
pub mod inspect;
mod open;
mod options_text;
mod parts;
mod pins;
mod read_only;
mod reads;
mod replay;
mod stats;
mod verify;

use std::fmt;
use std::panic::Location;
use std::path::Path;

use crate::error::Result;
use crate::format::key::SequenceNumber;
use crate::options::Options;
use crate::read::{Cursor, Iter, ReadOptions, Slice};
use crate::recovery::RecoveryReport;
use crate::superversion::Snapshot;
use crate::sync::Arc;
use crate::write::batch::WriteBatch;
use crate::write::{Durability, WriteOptions};

pub use close::CloseMode;
pub use column_family::ColumnFamily;
pub use health::{Health, HealthState};
pub use stats::{DbStats, FamilyStats, LevelStats};
pub use verify::{VerifyProgress, VerifyReport, verify_directory};

use self::core::Core;

/// An open database. Cheap to clone; the last clone's drop closes it.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-db-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("apple", "red")?;
/// assert_eq!(db.get("apple")?.as_deref(), Some(&b"red"[..]));
/// let iter = db.iter()?;
/// db.delete("apple")?;
/// // The iterator's view never moves.
/// assert_eq!(iter.count(), 1);
/// assert!(db.get("apple")?.is_none());
/// db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[derive(Clone)]
pub struct Db {
    default: ColumnFamily,
}

/// What all handles share; its drop is the end of the database.
struct Handle {
    core: Arc<Core>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.abandon();
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.core().dir.display())
    }
}

impl Db {
    /// Opens the database in `dir`, making it if there is none, with default options.
    ///
    /// # Errors
    /// `Locked` if it is open already, `Corruption`, `NotSupported` naming what this version cannot read, `Io`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Db> {
        let options = Options { create_if_missing: true, ..Options::default() };
        Db::open_with(dir, options)
    }

    /// Opens the database in `dir`.
    ///
    /// # Errors
    /// As [`Db::open`]; `NoSuchDatabase` if there is none and `create_if_missing` is off; `InvalidArgument` for options
    /// that make no sense.
    pub fn open_with(dir: impl AsRef<Path>, options: Options) -> Result<Db> {
        Ok(Db::of(open::open(dir.as_ref(), options)?))
    }

    /// Opens the database in `dir` for reading: takes no lock, writes nothing, and sees what was written up to now, the
    /// logs included. Another process may have it open for writing.
    ///
    /// # Errors
    /// As [`Db::open_with`]. Writes through it fail with `ReadOnly`.
    pub fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<Db> {
        Ok(Db::of(read_only::open_read_only(dir.as_ref(), options)?))
    }

    fn of((core, default): (Arc<Core>, Arc<core::Family>)) -> Db {
        Db { default: ColumnFamily::new(Arc::new(Handle { core }), default) }
    }

    fn core(&self) -> &Arc<Core> {
        self.default.core()
    }

    /// The value of `key`; `None` if there is none.
    #[inline]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Slice>> {
        self.default.get(key)
    }

    /// [`Db::get`] with options.
    pub fn get_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Option<Slice>> {
        self.default.get_with(key, options)
    }

    /// The values of many keys, in their order.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Result<Option<Slice>>> {
        self.default.multi_get(keys)
    }

    /// Sets `key` to `value`.
    #[inline]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// Removes `key`; no error if it is not there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// Applies a batch as a whole: visible at once, and surviving a crash as a whole or not at all.
    ///
    /// # Errors
    /// `NoSuchColumnFamily`; `ReadOnly` after an earlier failure; `Io` and `NoSpace` if the log could not be written, and
    /// `DurabilityUnknown` if nobody knows how much of it was. Nothing was applied.
    pub fn write(&self, batch: &mut WriteBatch) -> Result<()> {
        self.write_with(batch, &WriteOptions::default())
    }

    /// [`Db::write`] with options.
    #[inline]
    pub fn write_with(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<()> {
        self.core().writes()?.write(batch, options).map(drop)
    }

    /// All entries, in order, forwards and backwards; a view that never moves.
    #[track_caller]
    pub fn iter(&self) -> Result<Iter> {
        self.default.iter()
    }

    /// The entries of a range of keys.
    #[track_caller]
    pub fn range<K: AsRef<[u8]>>(&self, range: impl std::ops::RangeBounds<K>) -> Result<Iter> {
        self.default.range(range)
    }

    /// The entries whose keys start with `prefix`.
    #[track_caller]
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Iter> {
        self.default.prefix(prefix)
    }

    /// A cursor, which copies nothing.
    #[track_caller]
    pub fn cursor(&self, options: ReadOptions) -> Result<Cursor> {
        self.default.cursor(options)
    }

    /// The database as it is now, for reads to come.
    #[track_caller]
    pub fn snapshot(&self) -> Snapshot {
        let core = self.core();
        core.pins.snapshot(&core.visible, Location::caller(), None)
    }

    /// Writes the default family's memtable to a table and waits for it.
    pub fn flush(&self) -> Result<()> {
        self.default.flush()
    }

    /// Hands buffered log records to the operating system, and syncs the logs if asked.
    pub fn flush_wal(&self, sync: bool) -> Result<()> {
        self.core().writes()?.flush_wal(sync)
    }

    /// Merges a range of the default family down to its last level, and waits for it.
    pub fn compact_range<K: AsRef<[u8]>>(&self, range: impl std::ops::RangeBounds<K>) -> Result<()> {
        self.default.compact_range(range)
    }

    /// The family called `default`.
    pub fn default_column_family(&self) -> &ColumnFamily {
        &self.default
    }

    /// What was replayed from logs on open.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.core().report
    }

    /// The number of the last write that reads see.
    pub fn latest_sequence(&self) -> SequenceNumber {
        crate::read::view::visible_sequence(&self.core().visible)
    }

    /// Runs one step of background work in [`BackgroundMode::Manual`](crate::BackgroundMode::Manual); false if there was
    /// none. Work that failed is tried again by a step once its time has come on the clock.
    pub fn run_background_step(&self) -> bool {
        let core = self.core();
        core.retry_if_due();
        let worked = core.scheduler.step();
        core.janitor.step() || worked
    }

    /// Keeps compactions from starting, until as many calls of [`Db::continue_background_work`].
    pub fn pause_background_work(&self) {
        self.core().scheduler.pause();
    }

    /// Lets compactions start again.
    pub fn continue_background_work(&self) {
        self.core().scheduler.unpause();
    }
}

/// Options of plain writes.
const PLAIN: WriteOptions = WriteOptions { durability: Durability::Os, no_slowdown: false };
