//! Which files are live: version edits, MANIFEST, levels, and the table cache.
//!
//! Flow: a job's [`edit::VersionEdit`] -> **[`set::VersionSet`]** (MANIFEST, synced) -> [`Version::apply`] -> a new
//! [`Version`] -> `superversion` publishes it. Reads go the other way: a `Version` of a SuperVersion -> [`Level`] ->
//! [`TableFile`] -> its open reader.
//!
//! Invariants
//! 1. A `Version` never changes. Levels that an edit does not touch are shared with the version before.
//! 2. Level 0 is ordered newest first; every other level is ordered by key, and no two of its files overlap.
//! 3. A file number names one file for good, over all lives of the database.
//! 4. Applying an edit is a pure function: no I/O, no lock, no clock.
//!
//! Source: RocksDB `db/version_set.h`, `db/version_builder.h`.

pub(crate) mod apply;
pub(crate) mod edit;
pub(crate) mod level;
pub(crate) mod level_iter;
pub(crate) mod manifest;
pub(crate) mod set;
pub(crate) mod table_cache;
#[cfg(test)]
mod tests;

use std::fmt;

use arc_swap::ArcSwapOption;

use crate::cache::{Charged, Evict};
use crate::format::comparator::KeyOrder;
use crate::format::key::FileNumber;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::table::builder::BuiltTable;
use crate::table::reader::TableReader;

use self::edit::FileMeta;
pub(crate) use self::level::Level;

impl FileMeta {
    /// What MANIFEST keeps of a table that was just built. Its epoch is for [`set::VersionSet`] to give.
    pub(crate) fn of_table(number: FileNumber, built: &BuiltTable) -> FileMeta {
        FileMeta {
            number,
            size: built.size,
            smallest: built.smallest.clone(),
            largest: built.largest.clone(),
            smallest_seq: built.smallest_seq,
            largest_seq: built.largest_seq,
            unique_id: built.unique_id,
            tail_size: Some(built.tail_size),
            // What RocksDB writes where no whole-file checksum was asked for.
            checksum_function: b"Unknown".to_vec(),
            ..FileMeta::default()
        }
    }
}

/// A table file of the database, shared by all versions that name it.
pub(crate) struct TableFile {
    pub(crate) meta: FileMeta,
    is_being_compacted: AtomicBool,
    /// No compaction may have it: it is damaged, or compactions keep failing on it.
    is_set_aside: AtomicBool,
    /// The open reader, where the table cache keeps it.
    reader: ArcSwapOption<TableReader>,
    /// Held by the one thread that opens the file.
    opening: Mutex<()>,
    /// Used since the table cache's clock hand last came by.
    is_touched: AtomicBool,
    is_in_ring: AtomicBool,
    /// Never closed to make room for others.
    stays_open: AtomicBool,
    /// What the open reader takes from the block cache's budget, if it does.
    charged: Mutex<Option<Charged>>,
}

impl Evict for TableFile {
    fn evict(&self, _: u32) -> bool {
        // Relaxed, both: hints.
        if self.stays_open.load(Ordering::Relaxed) || self.is_touched.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.close();
        true
    }
}

impl fmt::Debug for TableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableFile({}, {} bytes)", self.meta.number, self.meta.size)
    }
}

impl TableFile {
    pub(crate) fn new(meta: FileMeta) -> Arc<TableFile> {
        Arc::new(TableFile {
            meta,
            is_being_compacted: AtomicBool::new(false),
            is_set_aside: AtomicBool::new(false),
            reader: ArcSwapOption::empty(),
            opening: Mutex::new(()),
            is_touched: AtomicBool::new(false),
            is_in_ring: AtomicBool::new(false),
            stays_open: AtomicBool::new(false),
            charged: Mutex::default(),
        })
    }

    /// Lets the open reader go; whoever reads from it keeps it.
    fn close(&self) {
        self.reader.store(None);
        *self.charged.lock() = None;
    }

    fn charge(&self, charged: Charged) {
        *self.charged.lock() = Some(charged);
    }

    /// Bytes of the open reader's index and filter; 0 if it is closed.
    pub(crate) fn reader_memory(&self) -> usize {
        self.reader.load().as_ref().map_or(0, |reader| reader.memory())
    }

    /// Notes a use. Writes only if the bit is not set, so that readers do not fight over the line.
    #[inline]
    fn touch(&self) {
        // Relaxed: a hint for the clock.
        if !self.is_touched.load(Ordering::Relaxed) {
            self.is_touched.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.meta.number
    }

    /// True while no other compaction can have the file.
    pub(crate) fn is_being_compacted(&self) -> bool {
        // Relaxed: pickers run one at a time under the scheduler's lock, which orders the flag.
        self.is_being_compacted.load(Ordering::Relaxed) || self.is_set_aside()
    }

    /// Leaves the file out of all compactions from now on.
    pub(crate) fn set_aside(&self) {
        // Relaxed: a compaction that has the file may still end.
        self.is_set_aside.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set_aside(&self) -> bool {
        self.is_set_aside.load(Ordering::Relaxed)
    }

    /// Claims the file for a compaction; false if another one has it, or it was set aside.
    pub(crate) fn claim_for_compaction(&self) -> bool {
        if self.is_set_aside() {
            return false;
        }
        // Relaxed: as above; the exchange keeps even unordered callers from both winning.
        self.is_being_compacted.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn release_from_compaction(&self) {
        // Relaxed: as above.
        self.is_being_compacted.store(false, Ordering::Relaxed);
    }
}

/// The live files of one column family at one moment.
#[derive(Debug)]
pub(crate) struct Version {
    /// Rises by one with each edit of the family; 0 is the empty version.
    pub(crate) id: u64,
    pub(crate) order: KeyOrder,
    /// Level 0 first. As many as the options say, or as the files need.
    pub(crate) levels: Vec<Arc<Level>>,
}

impl Version {
    /// A version without files.
    pub(crate) fn empty(order: KeyOrder, levels: usize) -> Version {
        let levels = (0..levels.max(1)).map(|number| Arc::new(Level::empty(number))).collect();
        Version { id: 0, order, levels }
    }

    pub(crate) fn level(&self, number: usize) -> Option<&Arc<Level>> {
        self.levels.get(number)
    }

    /// All files, level 0 first.
    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.levels.iter().enumerate().flat_map(|(number, level)| level.files().iter().map(move |file| (number, file)))
    }

    #[cfg(test)]
    pub(crate) fn file_count(&self) -> usize {
        self.levels.iter().map(|level| level.len()).sum()
    }

    /// The sizes of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes()).fold(0, u64::saturating_add)
    }

    /// The level of a file, if the version names it.
    pub(crate) fn level_of(&self, number: FileNumber) -> Option<usize> {
        self.levels.iter().position(|level| level.contains(number))
    }

    pub(crate) fn contains(&self, number: FileNumber) -> bool {
        self.level_of(number).is_some()
    }

    /// The file with this number, and its level.
    pub(crate) fn file(&self, number: FileNumber) -> Option<(usize, &Arc<TableFile>)> {
        let level = self.level_of(number)?;
        let file = self.levels[level].files().iter().find(|file| file.number() == number)?;
        Some((level, file))
    }

    /// The deepest level that holds a file: the options must have at least one level more than this number.
    #[cfg(test)]
    pub(crate) fn highest_used_level(&self) -> Option<usize> {
        self.levels.iter().rposition(|level| !level.files().is_empty())
    }

    /// The largest epoch of any file; 0 if there is none.
    pub(crate) fn largest_epoch(&self) -> u64 {
        self.files().map(|(_, file)| file.meta.epoch).max().unwrap_or(0)
    }
}
