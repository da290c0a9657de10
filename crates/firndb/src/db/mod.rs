//! The public handle: opens, closes, and wires the owners below together.
//!
//! [`Db`] and [`ColumnFamily`] are handles: cheap to clone, `Send + Sync`, all of one open database. The last one's drop
//! closes it. Iterators, snapshots and values own what they need and may outlive every handle; the lock of the directory
//! and the janitor then live until the last of them goes.

mod close;
mod closing;
mod column_family;
mod core;
mod families;
mod handles;
mod health;
mod indexed;
mod live_files;
mod maintenance;
mod open;
mod options;
mod pins;
mod reads;
mod stats;
mod ttl;

use std::fmt;
use std::panic::Location;
use std::path::Path;

use crate::error::Result;
use crate::format::entity::Columns;
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
pub use health::{Health, HealthState, WaitingDrops};
pub use live_files::{LiveFile, LiveFiles};
pub use maintenance::DeletedFiles;
pub use stats::{DbStats, FamilyStats, LevelStats};
pub use ttl::{TtlColumnFamily, TtlDb, TtlIter, TtlValue};

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

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.core().resources.dir.display())
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
        open::open(dir.as_ref(), options)
    }

    /// Opens the database in `dir` for reading: takes no lock, writes nothing, and sees what was written up to now, the
    /// logs included. Another process may have it open for writing.
    ///
    /// What cannot be read refuses nothing but what needs it: an OPTIONS file that makes no sense says nothing, a family in an
    /// unknown order is listed with its files, and whoever looks for an entry that cannot be had gets the reason as an error.
    /// [`RecoveryReport::not_read`](crate::RecoveryReport::not_read) has what was left out.
    ///
    /// # Errors
    /// As [`Db::open_with`]. Writes through it fail with `ReadOnly`.
    pub fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<Db> {
        open::open_read_only(dir.as_ref(), &options)
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

    /// Gives `key` columns; see [`ColumnFamily::put_entity`].
    pub fn put_entity<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        columns: impl IntoIterator<Item = (N, V)>,
    ) -> Result<()> {
        self.default.put_entity(key, columns)
    }

    /// The columns of `key`; see [`ColumnFamily::get_entity`].
    pub fn get_entity(&self, key: impl AsRef<[u8]>) -> Result<Option<Columns>> {
        self.default.get_entity(key)
    }

    /// Removes `key`; no error if it is not there.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete(key)
    }

    /// Adds an operand to `key`; see [`ColumnFamily::merge`].
    ///
    /// ```
    /// use firndb::{Db, FamilyOptions, MergeRule, Options};
    /// # fn main() -> firndb::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// let family = FamilyOptions { merge_operator: Some(MergeRule::UInt64Add), ..FamilyOptions::default() };
    /// let options = Options { create_if_missing: true, family, ..Options::default() };
    /// let db = Db::open_with(dir.path(), options)?;
    /// for _ in 0..3 {
    ///     db.merge("visits", 1u64.to_le_bytes())?;
    /// }
    /// assert_eq!(db.get("visits")?.as_deref(), Some(&3u64.to_le_bytes()[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ColumnFamily::merge`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.default.merge(key, operand)
    }

    /// Removes every key from `begin` on that is before `end`; see [`ColumnFamily::delete_range`].
    ///
    /// ```
    /// # fn main() -> firndb::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let db = firndb::Db::open(dir.path())?;
    /// for day in ["2025-12-30", "2025-12-31", "2026-01-01"] {
    ///     db.put(day, "log")?;
    /// }
    /// db.delete_range("2025-", "2026-")?;
    /// assert_eq!(db.iter()?.count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Db::write`]; `InvalidArgument` if `end` is before `begin`.
    pub fn delete_range(&self, begin: impl AsRef<[u8]>, end: impl AsRef<[u8]>) -> Result<()> {
        self.default.delete_range(begin, end)
    }

    /// Applies a batch as a whole: visible at once, and surviving a crash as a whole or not at all.
    ///
    /// The batch is empty afterwards, and has its memory still: what was written is not written twice by accident. If it
    /// was not written it is as it was, for another try.
    ///
    /// # Errors
    /// `NoSuchColumnFamily`; `ReadOnly` after an earlier failure; `Io` and `NoSpace` if the log could not be written, and
    /// `DurabilityUnknown` if nobody knows how much of it was. Nothing was applied. After `DurabilityUnknown` the batch is
    /// refused until it is cleared, or [`WriteBatch::allow_repeat`] says that a second time is harmless. `InvalidArgument`
    /// for a batch that was made with handles of another open database.
    pub fn write(&self, batch: &mut WriteBatch) -> Result<()> {
        self.write_with(batch, &WriteOptions::default())
    }

    /// [`Db::write`] with options.
    #[inline]
    pub fn write_with(&self, batch: &mut WriteBatch, options: &WriteOptions) -> Result<()> {
        let core = self.core();
        batch.check_database(core.handles.database())?;
        let written = core.writer()?.queue.write(batch, options);
        batch.settle(&written);
        written.map(drop)
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
        self.core().snapshot(Location::caller())
    }

    /// Writes the default family's memtable to a table and waits for it.
    pub fn flush(&self) -> Result<()> {
        self.default.flush()
    }

    /// Hands buffered log records to the operating system, and syncs the logs if asked.
    pub fn flush_wal(&self, sync: bool) -> Result<()> {
        self.core().writer()?.queue.flush_wal(sync)
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
        if core.check_process().is_err() {
            return false;
        }
        let worked = core.writer.as_ref().is_some_and(|writer| {
            writer.retry.tick();
            writer.scheduler.step()
        });
        let worked = core.resources.janitor.step() || worked;
        core.resources.outbox.deliver();
        worked
    }

    /// Keeps compactions from starting, until as many calls of [`Db::continue_background_work`]. Writes that would have to
    /// wait for one meanwhile fail, and say so.
    pub fn pause_background_work(&self) {
        if let Ok(writer) = self.core().writer() {
            writer.scheduler.pause();
            writer.compactor.pause_changed();
        }
    }

    /// Lets compactions start again.
    pub fn continue_background_work(&self) {
        if let Ok(writer) = self.core().writer() {
            writer.scheduler.unpause();
            if !writer.scheduler.is_paused() {
                writer.compactor.renew_automatic();
            }
            writer.compactor.pause_changed();
        }
    }
}

/// Options of plain writes.
const PLAIN: WriteOptions = WriteOptions { durability: Durability::Os, no_slowdown: false };
