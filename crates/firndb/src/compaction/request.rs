//! What somebody who asks for a compaction by hand can say about it, under RocksDB's names.
//!
//! Source: RocksDB `include/rocksdb/options.h`, `CompactRangeOptions`.

use crate::clock::CancelToken;

/// Whether a compaction by hand writes the files of the last level of its range anew.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BottommostLevelCompaction {
    /// No. RocksDB's `kSkip`.
    Skip,
    /// If the family has a compaction filter: all that were there at the call. Else those that hold what nobody needs, or
    /// entries with sequence numbers, which RocksDB leaves alone. The default; RocksDB's `kIfHaveCompactionFilter`.
    #[default]
    IfHaveFilter,
    /// All, and those that the same call wrote there. RocksDB's `kForce`.
    Force,
    /// All that were there at the call. RocksDB's `kForceOptimized`.
    ForceOptimized,
}

/// Calls compactions by hand off, from any thread: clone it, hand one to [`CompactRangeOptions::cancelled_by`], and keep one.
///
/// ```
/// use firndb::{CompactRangeOptions, CompactionCanceller, Db, ErrorKind};
/// # fn main() -> firndb::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let db = Db::open(dir.path())?;
/// # db.put("key", "value")?;
/// let canceller = CompactionCanceller::default();
/// let options = CompactRangeOptions::new().cancelled_by(&canceller);
/// canceller.cancel();
/// let refused = db.compact_range_with::<&str>(.., &options).expect_err("called off");
/// assert_eq!(refused.kind(), ErrorKind::Cancelled);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct CompactionCanceller(pub(crate) CancelToken);

impl CompactionCanceller {
    /// Calls off what runs, and what begins later.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// How a range is compacted by hand. Every method returns the options with one thing said.
///
/// ```
/// use firndb::{BottommostLevelCompaction, CompactRangeOptions, Db};
/// # fn main() -> firndb::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let db = Db::open(dir.path())?;
/// # db.put("key", "value")?;
/// let options = CompactRangeOptions::new()
///     .bottommost_level_compaction(BottommostLevelCompaction::Force)
///     .exclusive_manual_compaction(true);
/// db.compact_range_with("a".."z", &options)?;
/// # Ok(())
/// # }
/// ```
#[must_use]
#[non_exhaustive]
#[derive(Debug, Clone, Default)]
pub struct CompactRangeOptions {
    pub(crate) bottommost: BottommostLevelCompaction,
    pub(crate) changes_level: bool,
    pub(crate) target_level: Option<u32>,
    pub(crate) is_exclusive: bool,
    pub(crate) allows_write_stall: bool,
    pub(crate) canceller: Option<CompactionCanceller>,
}

impl CompactRangeOptions {
    /// The defaults.
    pub fn new() -> CompactRangeOptions {
        CompactRangeOptions::default()
    }

    /// What becomes of the last level. Default: [`BottommostLevelCompaction::IfHaveFilter`].
    pub fn bottommost_level_compaction(mut self, which: BottommostLevelCompaction) -> CompactRangeOptions {
        self.bottommost = which;
        self
    }

    /// Afterwards the files of the deepest level of the range are moved, unread, to [`CompactRangeOptions::target_level`], or, if none is
    /// said, to the highest level that can hold them. Of a leveled family only. Default: false.
    pub fn change_level(mut self, changes: bool) -> CompactRangeOptions {
        self.changes_level = changes;
        self
    }

    /// Where [`CompactRangeOptions::change_level`] moves files. Default: none is said.
    pub fn target_level(mut self, level: u32) -> CompactRangeOptions {
        self.target_level = Some(level);
        self
    }

    /// No other compaction of the family (RocksDB: of the database) runs meanwhile: those that run are waited for, others
    /// begin afterwards. Writers whose turn depends on those wait for this one. Default: false.
    pub fn exclusive_manual_compaction(mut self, is_exclusive: bool) -> CompactRangeOptions {
        self.is_exclusive = is_exclusive;
        self
    }

    /// The flush that comes first may bring level 0 to where writers are held up. Without this, compactions that are due are
    /// done before it, on the caller's thread. Default: false.
    pub fn allow_write_stall(mut self, allows: bool) -> CompactRangeOptions {
        self.allows_write_stall = allows;
        self
    }

    /// Ends early with `Cancelled` once the canceller says so: the step that runs then changes nothing, those before it stay.
    pub fn cancelled_by(mut self, canceller: &CompactionCanceller) -> CompactRangeOptions {
        self.canceller = Some(canceller.clone());
        self
    }
}
