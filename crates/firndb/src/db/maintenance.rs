//! Flushes and compactions that a caller asks for, and waits for; files that go whole; what calls compactions off.
//!
//! Flow: the user's handle -> **here** (is it open, which keys are meant) -> the flusher or the compactor -> the outbox.
//!
//! Invariant: nothing is flushed for a compaction that is refused. Threads: the caller's, which holds no lock.

use std::ops::{Bound, RangeBounds};

use crate::compaction::picker::DoomedRange;
use crate::compaction::request::CompactRangeOptions;
use crate::error::Result;
use crate::sync::Arc;

use super::core::{Core, Family};
use super::{ColumnFamily, Db};

/// What [`ColumnFamily::delete_files_in_ranges`] came to.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedFiles {
    /// Tables that went.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Tables of the ranges that stay because a snapshot sees something of them. Ask again when it is gone.
    pub kept_for_snapshots: usize,
    /// Those that stay because a running compaction has them.
    pub kept_for_compactions: usize,
    /// Those that stay because they hide something older that stays, below them: it would come back.
    pub kept_above_older: usize,
}

impl Db {
    /// [`ColumnFamily::delete_files_in_range`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn delete_files_in_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<DeletedFiles> {
        self.default_column_family().delete_files_in_range(range)
    }
}

impl Db {
    /// [`ColumnFamily::compact_range_with`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn compact_range_with<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: &CompactRangeOptions,
    ) -> Result<()> {
        self.default_column_family().compact_range_with(range, options)
    }

    /// [`ColumnFamily::suggest_compact_range`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn suggest_compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.default_column_family().suggest_compact_range(range)
    }

    /// Keeps compactions from starting, as [`Db::pause_background_work`] does, and calls off those that run by themselves: they
    /// change nothing, and begin anew after [`Db::continue_background_work`]. Does not wait. Compactions by hand go on; see
    /// [`Db::disable_manual_compaction`]. (After RocksDB's `CancelAllBackgroundWork` no work ever begins again.)
    pub fn cancel_background_work(&self) {
        self.pause_background_work();
        if let Ok(writer) = self.core().writer() {
            writer.compactor.cancel_automatic();
        }
    }

    /// Calls off every compaction by hand, and refuses others with `Cancelled`, until as many calls of
    /// [`Db::enable_manual_compaction`]. Does not wait for those that run.
    pub fn disable_manual_compaction(&self) {
        if let Ok(writer) = self.core().writer() {
            writer.compactor.disable_by_hand();
        }
    }

    /// Allows compactions by hand again.
    pub fn enable_manual_compaction(&self) {
        if let Ok(writer) = self.core().writer() {
            writer.compactor.enable_by_hand();
        }
    }
}

impl ColumnFamily {
    /// Merges a range of keys down to the last level, and waits for it. A family that is not leveled is merged whole,
    /// whatever the range, as RocksDB does; one of FIFO style stays in level 0.
    ///
    /// # Errors
    /// `Io`, `Corruption`, and `Closed` or `Cancelled` if the database is closed meanwhile, or the compaction is called off; the
    /// step that ran has changed nothing then. `InvalidArgument` for a target level that cannot be.
    pub fn compact_range_with<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: &CompactRangeOptions,
    ) -> Result<()> {
        self.family.check_not_dropped()?;
        let (begin, end) = ends(&range);
        self.core().compact_range(&self.family, (begin.as_deref(), end.as_deref()), options)
    }

    /// Suggests the tables of a range for automatic compactions to come, each to go down a level once nothing is too large. Does not
    /// wait. Of a leveled family; others choose for themselves.
    ///
    /// # Errors
    /// `Closed`, `ColumnFamilyDropped`, `ReadOnly`.
    pub fn suggest_compact_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<()> {
        self.family.check_not_dropped()?;
        let core = self.core();
        core.check_open()?;
        let (begin, end) = ends(&range);
        core.writer()?.compactor.suggest(&self.family, (begin.as_deref(), end.as_deref()))
    }

    /// Frees the space of keys that nobody needs any more, at once and without reading them: tables below level 0 all of
    /// whose keys are in `range` are dropped. Keys of the range in other tables, in level 0 and in memtables stay;
    /// [`ColumnFamily::delete_range`] removes those.
    ///
    /// Each key of the range is afterwards as it was, or it is gone: nothing older comes back. Of merge operands the newer ones may
    /// stay, and what they are based on go.
    ///
    /// Iterators that are there, and values that were read, stay as they are. What a snapshot sees stays: tables are kept
    /// for it, and [`DeletedFiles`] says how many. (RocksDB drops them, and the snapshot loses what was in them; it may also drop
    /// a table that hides something older.)
    ///
    /// ```
    /// # fn main() -> firndb::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a directory");
    /// # let db = firndb::Db::open(dir.path())?;
    /// for day in 1..=9 {
    ///     db.put(format!("2025-01-0{day}"), "log")?;
    /// }
    /// db.compact_range::<&str>(..)?;
    /// let snapshot = db.snapshot();
    /// let deleted = db.delete_files_in_range("2025-".."2026-")?;
    /// assert_eq!((deleted.files, deleted.kept_for_snapshots), (0, 1));
    /// drop(snapshot);
    /// assert_eq!(db.delete_files_in_range("2025-".."2026-")?.files, 1);
    /// assert_eq!(db.iter()?.count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Closed`, `ColumnFamilyDropped`, `ReadOnly`; `Io` if MANIFEST could not be written.
    pub fn delete_files_in_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<DeletedFiles> {
        self.delete_doomed(&[doomed(&range)])
    }

    /// The same for several ranges, in one change of MANIFEST.
    ///
    /// # Errors
    /// As [`ColumnFamily::delete_files_in_range`].
    pub fn delete_files_in_ranges<K: AsRef<[u8]>>(&self, ranges: &[(Bound<K>, Bound<K>)]) -> Result<DeletedFiles> {
        let ranges: Vec<DoomedRange> = ranges.iter().map(doomed).collect();
        self.delete_doomed(&ranges)
    }

    fn delete_doomed(&self, ranges: &[DoomedRange]) -> Result<DeletedFiles> {
        self.family.check_not_dropped()?;
        let core = self.core();
        core.check_open()?;
        let deleted = core.writer()?.compactor.delete_files(&self.family, ranges);
        core.resources.outbox.deliver();
        let deleted = deleted?;
        Ok(DeletedFiles {
            files: deleted.files,
            bytes: deleted.bytes,
            kept_for_snapshots: deleted.staying.for_snapshots,
            kept_for_compactions: deleted.staying.for_jobs,
            kept_above_older: deleted.staying.for_older,
        })
    }
}

/// The files that touch the ends are compacted as a whole anyway, so that either sort of bound will do.
fn ends<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let bytes = |bound: Bound<&K>| match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key.as_ref().to_vec()),
        Bound::Unbounded => None,
    };
    (bytes(range.start_bound()), bytes(range.end_bound()))
}

fn doomed<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> DoomedRange {
    let bytes = |bound: Bound<&K>| match bound {
        Bound::Included(key) => (Some(key.as_ref().to_vec()), false),
        Bound::Excluded(key) => (Some(key.as_ref().to_vec()), true),
        Bound::Unbounded => (None, false),
    };
    let ((begin, is_begin_excluded), (end, is_end_excluded)) = (bytes(range.start_bound()), bytes(range.end_bound()));
    DoomedRange { begin, is_begin_excluded, end, is_end_excluded }
}

impl Core {
    /// Makes everything that was written to a family so far durable in tables.
    pub(super) fn flush(&self, family: &Family) -> Result<()> {
        self.check_open()?;
        let flushed = self.writer()?.flusher.flush(&[family.id()]);
        self.resources.outbox.deliver();
        flushed
    }

    /// Merges a range of a family down to its last level, or all of it if it is not leveled.
    pub(super) fn compact_range(
        &self,
        family: &Arc<Family>,
        range: (Option<&[u8]>, Option<&[u8]>),
        options: &CompactRangeOptions,
    ) -> Result<()> {
        self.check_open()?;
        let compactor = &self.writer()?.compactor;
        compactor.check_by_hand(family, options)?;
        compactor.make_room(family, options)?;
        self.flush(family)?;
        let compacted = compactor.compact_range(family, range, options);
        self.resources.outbox.deliver();
        compacted
    }
}
