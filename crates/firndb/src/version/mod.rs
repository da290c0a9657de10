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
mod blob_readers;
pub(crate) mod blobs;
pub(crate) mod edit;
pub(crate) mod file_iter;
pub(crate) mod level;
pub(crate) mod level_iter;
pub(crate) mod manifest;
pub(crate) mod new_blobs;
mod open_files;
pub(crate) mod set;
pub(crate) mod table_cache;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::sync::OnceLock;

use arc_swap::ArcSwapOption;

use crate::cache::{Charged, Evict, Freed};
use crate::error::Error;
use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{FileNumber, SequenceNumber, is_exclusive_end, user_key};
use crate::iter::range_tombstones::RangeTombstones;
use crate::sync::atomic::{AtomicBool, Ordering as Memory};
use crate::sync::{Arc, Mutex};
use crate::table::builder::BuiltTable;
use crate::table::properties::TableCounts;
use crate::table::reader::TableReader;

use self::blobs::BlobFiles;
use self::edit::FileMeta;
pub(crate) use self::level::Level;
use self::open_files::TableHandle;
pub(crate) use self::open_files::no_table;

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
            counts: Some(built.counts),
            // What RocksDB writes where no whole-file checksum was asked for.
            checksum_function: b"Unknown".to_vec(),
            ..FileMeta::default()
        }
    }
}

/// A table file of the database, shared by all versions that name it.
pub(crate) struct TableFile {
    pub(crate) meta: FileMeta,
    /// The first bytes of the smallest and of the largest key: see [`prefix_u64`].
    prefixes: [u64; 2],
    /// No compaction may have it: it is damaged.
    is_set_aside: AtomicBool,
    /// From the builder, or from the table's properties since somebody looked at them.
    counts: OnceLock<TableCounts>,
    /// The open reader, where the table cache keeps it.
    reader: ArcSwapOption<TableReader>,
    /// Held by the one thread that opens the file.
    opening: Mutex<()>,
    /// Used since the table cache's clock hand last came by.
    is_touched: AtomicBool,
    /// The block cache's clock has an entry for the reader.
    is_in_clock: AtomicBool,
    /// What goes with the open reader; changed with it.
    opened: Mutex<Option<Opened>>,
}

/// What goes with an open reader.
struct Opened {
    handle: Arc<TableHandle>,
    /// What the reader takes from the block cache's budget, if it does.
    _charged: Option<Charged>,
}

impl Evict for TableFile {
    fn evict(&self, _: u32, freed: &mut Freed) -> bool {
        // Relaxed: a hint.
        if self.is_touched.swap(false, Memory::Relaxed) {
            return false;
        }
        // The entry goes. Whoever opens the table from here on makes a new one; relaxed: the clock's lock orders the rest.
        self.is_in_clock.store(false, Memory::Relaxed);
        let handle = self.opened.lock().as_ref().map(|opened| Arc::clone(&opened.handle));
        if let Some(handle) = handle {
            handle.close(freed);
        }
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
        let counts = meta.counts.map_or_else(OnceLock::new, OnceLock::from);
        let prefixes = [&meta.smallest, &meta.largest].map(|bound| prefix_u64(user_key(bound)));
        Arc::new(TableFile {
            meta,
            prefixes,
            counts,
            is_set_aside: AtomicBool::new(false),
            reader: ArcSwapOption::empty(),
            opening: Mutex::new(()),
            is_touched: AtomicBool::new(false),
            is_in_clock: AtomicBool::new(false),
            opened: Mutex::default(),
        })
    }

    /// Puts an open reader into the slot.
    fn put_reader(&self, reader: &Arc<TableReader>, handle: Arc<TableHandle>, charged: Option<Charged>) {
        let mut opened = self.opened.lock();
        *opened = Some(Opened { handle, _charged: charged });
        // Not touched by its opening: a scan's files, used once, go before those that are used again.
        self.reader.store(Some(Arc::clone(reader)));
    }

    /// Takes the open reader out of the slot, if its handle is the one that is meant; whoever reads from it keeps it.
    fn take_reader(&self, is_meant: impl FnOnce(&Arc<TableHandle>) -> bool) -> Option<Arc<TableReader>> {
        let mut opened = self.opened.lock();
        if !opened.as_ref().is_some_and(|opened| is_meant(&opened.handle)) {
            return None;
        }
        *opened = None;
        self.reader.swap(None)
    }

    /// Bytes of the open reader's index and filter; 0 if it is closed.
    pub(crate) fn reader_memory(&self) -> usize {
        self.reader.load().as_ref().map_or(0, |reader| reader.memory())
    }

    /// Notes a use. Writes only if the bit is not set, so that readers do not fight over the line.
    #[inline]
    fn touch(&self) {
        // Relaxed: a hint for the clock.
        if !self.is_touched.load(Memory::Relaxed) {
            self.is_touched.store(true, Memory::Relaxed);
        }
    }

    /// What its entries are; `None` while nobody looked.
    pub(crate) fn counts(&self) -> Option<&TableCounts> {
        self.counts.get()
    }

    /// True if `key` is within the range of the file; `prefix` is its [`prefix_u64`].
    #[inline]
    pub(crate) fn may_hold(&self, order: &KeyOrder, key: &[u8], prefix: u64) -> bool {
        let [smallest, largest] = self.prefixes;
        if order.is_bytewise() && (prefix < smallest || prefix > largest) {
            return false;
        }
        // Under the bytewise order, strictly between the prefixes is between the keys.
        (order.is_bytewise() && prefix > smallest && prefix < largest) || self.is_in_range(order, key)
    }

    fn is_in_range(&self, order: &KeyOrder, key: &[u8]) -> bool {
        order.compare(key, user_key(&self.meta.smallest)) != Ordering::Less
            && order.compare(key, user_key(&self.meta.largest)) != Ordering::Greater
    }

    /// True if the file holds nothing of `key`, nor of any key behind it.
    #[inline]
    pub(crate) fn ends_before(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match order.compare(user_key(&self.meta.largest), key) {
            Ordering::Less => true,
            Ordering::Equal => is_exclusive_end(&self.meta.largest),
            Ordering::Greater => false,
        }
    }

    /// False if it is known to have no range tombstone.
    pub(crate) fn may_have_range_tombstones(&self) -> bool {
        self.counts().is_none_or(|counts| counts.range_deletions > 0)
    }

    /// The table's properties say what its entries are.
    pub(crate) fn learn_counts(&self, counts: TableCounts) {
        // Whoever was first found the same.
        let _ = self.counts.set(counts);
    }

    pub(crate) fn number(&self) -> FileNumber {
        self.meta.number
    }

    /// True if it was written more than `seconds` ago; not if that is 0, or nobody knows.
    pub(crate) fn is_older_than(&self, seconds: u64, now_s: u64) -> bool {
        seconds > 0 && self.meta.written_s().is_some_and(|time| time.saturating_add(seconds) < now_s)
    }

    /// Leaves the file out of all compactions until it is taken back.
    pub(crate) fn set_aside(&self) {
        // Relaxed: a compaction that has the file may still end.
        self.is_set_aside.store(true, Memory::Relaxed);
    }

    /// Lets compactions have the file again.
    pub(crate) fn take_back(&self) {
        self.is_set_aside.store(false, Memory::Relaxed);
    }

    pub(crate) fn is_set_aside(&self) -> bool {
        self.is_set_aside.load(Memory::Relaxed)
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
    pub(crate) blobs: Arc<BlobFiles>,
    /// Why nothing of the family can be looked up, though its files are known.
    obstacle: Option<Error>,
    /// False if no file has a range tombstone: reads ask this one flag, and then nothing else of range tombstones. True if
    /// there is an obstacle: reads meet it on the same way, and pay nothing for it on the other.
    may_have_range_tombstones: AtomicBool,
    /// Sorted runs: the files of level 0, and the other levels that have any.
    pub(crate) runs: usize,
}

impl Version {
    /// A version without files.
    pub(crate) fn empty(order: KeyOrder, levels: usize) -> Version {
        let levels = (0..levels.max(1)).map(|number| Arc::new(Level::empty(number))).collect();
        Version::of_levels(0, order, levels)
    }

    pub(crate) fn of_levels(id: u64, order: KeyOrder, levels: Vec<Arc<Level>>) -> Version {
        let runs_of = |(number, level): (usize, &Arc<Level>)| match number {
            0 => level.files().len(),
            _ => usize::from(!level.files().is_empty()),
        };
        let runs = levels.iter().enumerate().map(runs_of).sum();
        let flag = AtomicBool::new(false);
        let version =
            Version { id, order, levels, blobs: Arc::default(), obstacle: None, may_have_range_tombstones: flag, runs };
        version.look_for_range_tombstones();
        version
    }

    pub(super) fn with_blobs(self, blobs: Arc<BlobFiles>) -> Version {
        Version { blobs, ..self }
    }

    /// The same files, none of which can be looked into for `obstacle`.
    pub(crate) fn obstructed(&self, obstacle: Error) -> Version {
        let version = Version::of_levels(self.id, self.order.clone(), self.levels.clone());
        let version = Version { obstacle: Some(obstacle), ..version.with_blobs(Arc::clone(&self.blobs)) };
        version.look_for_range_tombstones();
        version
    }

    /// What keeps readers away, if there is such a thing. Asked where range tombstones are.
    pub(crate) fn obstacle(&self) -> Option<&Error> {
        self.obstacle.as_ref()
    }

    /// Asks again: more may be known of the files than when the version was made. What is known to have none is not looked at,
    /// since each edit makes a version.
    pub(crate) fn look_for_range_tombstones(&self) {
        let undecided = || self.levels.iter().filter(|level| level.may_have_range_tombstones());
        undecided().for_each(|level| level.look_for_range_tombstones());
        let may_have = self.obstacle.is_some() || undecided().next().is_some();
        // Relaxed: it only ever turns from true to false, and true is merely slower.
        self.may_have_range_tombstones.store(may_have, Memory::Relaxed);
    }

    #[inline]
    pub(crate) fn may_have_range_tombstones(&self) -> bool {
        self.may_have_range_tombstones.load(Memory::Relaxed)
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

    /// Bytes of the files from `level` on that range tombstones hide, about: a file that is hidden in part counts for half.
    pub(crate) fn bytes_hidden(&self, level: usize, tombstones: &RangeTombstones) -> u64 {
        let hidden = |file: &Arc<TableFile>| {
            let (first, last) = (user_key(&file.meta.smallest), user_key(&file.meta.largest));
            let newest = tombstones.covering_all(first, last, SequenceNumber::MAX);
            match newest > file.meta.largest_seq {
                true => file.meta.size,
                false if tombstones.touch(first, last) => file.meta.size / 2,
                false => 0,
            }
        };
        let Some((begin, end)) = tombstones.span() else { return 0 };
        // Asked for every table that is written: of sorted levels only the files that it may be about.
        let near = |level: &'_ Arc<Level>| match level.number() {
            0 => 0..level.len(),
            _ => level.overlapping_range(&self.order, Some(begin), Some(end)),
        };
        let files = self.levels.iter().skip(level).flat_map(|level| &level.files()[near(level)]);
        files.map(hidden).fold(0, u64::saturating_add)
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
