//! Which view a read is of: a SuperVersion, and a sequence number that it holds in full.
//!
//! The order in which the two are taken decides whether entries can fall between them:
//! - A `get` takes the SuperVersion first ([`for_get`]). A number taken first could be older than what a compaction has
//!   meanwhile dropped, and the key would be found nowhere.
//! - An iterator does the same and then checks that the SuperVersion is still the current one ([`settled`]): a memtable
//!   switch in between would leave a number above what the view holds, so that writes are missing which the number promises.
//! - With a snapshot the number is older, and its slot in the registry keeps compactions from dropping what it sees: any
//!   SuperVersion taken afterwards will do.
//!
//! Threads: no lock; an iterator goes round again only if a SuperVersion was published in between.

use std::ops::Bound;

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{SequenceNumber, user_key};
use crate::format::merge::MergeRule;
use crate::format::prefix::PrefixExtractor;
use crate::iter::bounds::Bounds;
use crate::iter::range_tombstones::RangeTombstones;
use crate::memtable::MemTable;
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::table::reader::TableReadOptions;
use crate::version::file_iter::FileIter;
use crate::version::level_iter::LevelIter;
use crate::version::table_cache::TableCache;
use crate::version::{Level, TableFile, Version};

use super::gaps::Gaps;
use super::options::ReadOptions;
use super::source::{Run, RunList, Source};
use super::visible::{BlobSource, VisibleIter, Watch};

/// The order of a `get` in one family: the view, then the number.
#[inline]
pub(crate) fn for_get<V>(view: impl FnOnce() -> V, sequence: impl FnOnce() -> SequenceNumber) -> (V, SequenceNumber) {
    let view = view();
    (view, sequence())
}

/// The order of an iterator: the view, then the number, until the view was still current after the number was read.
pub(crate) fn settled<V>(
    mut view: impl FnMut() -> V,
    mut sequence: impl FnMut() -> SequenceNumber,
    mut is_current: impl FnMut(&V) -> bool,
) -> (V, SequenceNumber) {
    loop {
        let taken = view();
        let number = sequence();
        if is_current(&taken) {
            return (taken, number);
        }
    }
}

/// The largest sequence number that is visible.
#[inline]
pub(crate) fn visible_sequence(visible: &AtomicU64) -> SequenceNumber {
    // Acquire pairs with the Release of the write queue: whoever sees a number also sees its memtable entries.
    SequenceNumber(visible.load(Ordering::Acquire))
}

/// How tables are read under these options.
pub(crate) fn table_options(options: &ReadOptions) -> TableReadOptions {
    TableReadOptions {
        fill_cache: options.fill_cache,
        verify_checksums: options.verify_checksums,
        read_ahead: options.readahead_size,
    }
}

/// The bounds of the options: the lower one inclusive, the upper one exclusive, as in RocksDB.
fn bounds_of(options: &ReadOptions) -> Bounds {
    Bounds {
        lower: options.lower_bound.clone().map_or(Bound::Unbounded, Bound::Included),
        upper: options.upper_bound.clone().map_or(Bound::Unbounded, Bound::Excluded),
    }
}

/// All that an iterator holds: what it reads, as of when, and the pin that says so.
pub(crate) struct View {
    memtable: Arc<MemTable>,
    immutables: Vec<Arc<MemTable>>,
    version: Arc<Version>,
    merge: Option<Arc<MergeRule>>,
    sequence: SequenceNumber,
    tables: Arc<TableCache>,
    table_options: TableReadOptions,
    bounds: Bounds,
    /// A cursor stays among the keys with the prefix of the one that it was sent to.
    prefixes: Option<PrefixExtractor>,
    statistics: Arc<Statistics>,
    pub(crate) seeks: u64,
    pub(crate) steps_forward: u64,
    pub(crate) steps_back: u64,
    /// Readers of this database are being ousted: every step asks whether it is this one.
    ousting: Arc<AtomicBool>,
    /// Last, so that the registry's slot is given back after what it accounts for.
    hold: Box<dyn Hold>,
}

/// What keeps a view readable and tells whose it is: the SuperVersion, the snapshot read from, and the pin in the
/// registry. Called once every few hundred entries, so that a virtual call costs nothing.
pub(crate) trait Hold: Send + Sync {
    /// Notes progress; an error of kind `PinEvicted` once the reader was ousted.
    fn pulse(&self) -> Result<()>;
    /// Set once readers are ousted: from then on every step pulses.
    fn ousting(&self) -> Arc<AtomicBool>;
}

impl View {
    /// A view of what was acquired, in the orders above; `hold` has what must outlive it.
    #[inline]
    pub(crate) fn new(
        (memtable, immutables, version): (Arc<MemTable>, Vec<Arc<MemTable>>, Arc<Version>),
        (merge, prefixes): (Option<Arc<MergeRule>>, Option<PrefixExtractor>),
        sequence: SequenceNumber,
        tables: Arc<TableCache>,
        options: &ReadOptions,
        statistics: Arc<Statistics>,
        hold: Box<dyn Hold>,
    ) -> View {
        statistics.add(Ticker::NoIteratorCreated, 1);
        statistics.add(Ticker::SuperversionAcquires, 1);
        View {
            memtable,
            immutables,
            version,
            merge,
            sequence,
            tables,
            table_options: table_options(options),
            bounds: bounds_of(options),
            prefixes,
            statistics,
            seeks: 0,
            steps_forward: 0,
            steps_back: 0,
            ousting: hold.ousting(),
            hold,
        }
    }

    pub(crate) fn order(&self) -> &KeyOrder {
        &self.version.order
    }

    /// True once readers of this database were ousted, perhaps this one.
    #[inline]
    pub(crate) fn is_ousting(&self) -> bool {
        // Relaxed: whoever ousts and a reader that steps at the same moment may come in either order.
        self.ousting.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn keep_prefixes(&mut self, prefixes: PrefixExtractor) {
        self.prefixes = Some(prefixes);
    }

    #[inline]
    pub(crate) fn prefixes(&self) -> Option<PrefixExtractor> {
        self.prefixes
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Its visible entries, over those runs that the bounds do not exclude; what the bounds exclude of the others is not
    /// opened, nor read.
    pub(crate) fn entries(&self, bounds: Bounds) -> Result<VisibleIter<Source>> {
        let order = self.order();
        let (mut runs, mut gaps) = (RunList::of_at_most(self.runs_max()), None);
        if !bounds.are_empty(order) {
            // Asked once: it may get its first entry while files are opened, and both lists must have the same runs.
            let has_active = !self.memtable.is_empty();
            self.add_runs(has_active, &bounds, |run| runs.push(run))?;
            if self.may_have_range_tombstones() {
                gaps = Some(self.gaps(has_active, &bounds, None)?);
            }
        }
        let mut entries = VisibleIter::new(order.clone(), runs, self.sequence, bounds);
        self.complete(&mut entries, gaps);
        Ok(entries)
    }

    /// The same, under a run that is newer than everything in the view, and its range tombstones.
    pub(crate) fn entries_under<R: Run + From<Source>>(
        &self,
        bounds: Bounds,
        own: R,
        tombstones: Option<&Arc<RangeTombstones>>,
    ) -> Result<VisibleIter<R>> {
        let order = self.order();
        let (mut runs, mut gaps) = (RunList::of_at_most(1 + self.runs_max()), None);
        if !bounds.are_empty(order) {
            let has_active = !self.memtable.is_empty();
            runs.push(own);
            self.add_runs(has_active, &bounds, |run| runs.push(R::from(run)))?;
            if tombstones.is_some() || self.may_have_range_tombstones() {
                gaps = Some(self.gaps(has_active, &bounds, Some(tombstones))?);
            }
        }
        let mut entries = VisibleIter::new(order.clone(), runs, self.sequence, bounds);
        self.complete(&mut entries, gaps);
        Ok(entries)
    }

    fn runs_max(&self) -> usize {
        1 + self.immutables.len() + self.version.runs
    }

    /// Gives an iterator what it needs beside the runs.
    #[inline]
    fn complete<R: Run>(&self, entries: &mut VisibleIter<R>, gaps: Option<Gaps>) {
        entries.merge_by(self.merge.clone());
        if let Some(gaps) = gaps {
            entries.hide_in(gaps);
        }
        if !self.version.blobs.is_empty() {
            let (version, tables) = (Arc::clone(&self.version), Arc::clone(&self.tables));
            entries.fetch_from(BlobSource { version, tables, options: self.table_options });
        }
    }

    #[inline]
    fn may_have_range_tombstones(&self) -> bool {
        let mut memtables = std::iter::once(&self.memtable).chain(&self.immutables);
        self.version.may_have_range_tombstones() || memtables.any(|memtable| memtable.has_range_tombstones())
    }

    /// The range tombstones of the runs that the bounds do not exclude; `own`: there is a run above them, with these.
    #[cold]
    fn gaps(&self, has_active: bool, bounds: &Bounds, own: Option<Option<&Arc<RangeTombstones>>>) -> Result<Gaps> {
        if let Some(obstacle) = self.version.obstacle() {
            return Err(obstacle.clone());
        }
        let order = self.order();
        let mut gaps = Gaps::new(order.clone(), self.sequence);
        if let Some(tombstones) = own {
            gaps.begin_run(SequenceNumber::MAX);
            tombstones.into_iter().for_each(|tombstones| gaps.add_own(tombstones));
        }
        for memtable in self.memtables(has_active) {
            gaps.begin_run(memtable.largest_seq());
            for run in memtable.range_tombstones().iter().flat_map(|runs| runs.iter()) {
                gaps.add(run);
            }
        }
        for file in self.files_of_level_0(bounds) {
            gaps.begin_run(file.meta.largest_seq);
            if file.may_have_range_tombstones()
                && let Some(tombstones) = self.tables.open(file, order)?.range_tombstones()
            {
                gaps.add(tombstones);
            }
        }
        for level in self.levels(bounds) {
            gaps.begin_run(level.largest_seq());
            if level.may_have_range_tombstones() {
                gaps.add_level(level, &self.tables);
            }
        }
        Ok(gaps)
    }

    /// Those with entries. An active one that is empty now, after the sequence number was read, never gets an entry that this
    /// view sees.
    #[inline]
    fn memtables(&self, has_active: bool) -> impl Iterator<Item = &Arc<MemTable>> {
        let active = has_active.then_some(&self.memtable);
        active.into_iter().chain(self.immutables.iter().filter(|memtable| !memtable.is_empty()))
    }

    #[inline]
    fn files_of_level_0<'a>(&'a self, bounds: &'a Bounds) -> impl Iterator<Item = &'a Arc<TableFile>> {
        let files = self.version.level(0).map_or(&[][..], |level| level.files());
        files
            .iter()
            .filter(|file| !bounds.exclude(self.order(), user_key(&file.meta.smallest), user_key(&file.meta.largest)))
    }

    #[inline]
    fn levels<'a>(&'a self, bounds: &'a Bounds) -> impl Iterator<Item = &'a Arc<Level>> {
        self.version.levels.iter().skip(1).filter(|level| match (level.files().first(), level.files().last()) {
            (Some(first), Some(last)) => {
                !bounds.exclude(self.order(), user_key(&first.meta.smallest), user_key(&last.meta.largest))
            }
            _ => false,
        })
    }

    #[inline]
    fn add_runs(&self, has_active: bool, bounds: &Bounds, mut add: impl FnMut(Source)) -> Result<()> {
        self.memtables(has_active).for_each(|memtable| add(Source::Memtable(memtable.iter())));
        let order = self.order();
        let limits = (!bounds.are_all()).then(|| Arc::new(bounds.clone()));
        for file in self.files_of_level_0(bounds) {
            let table = self.tables.open(file, order)?.iter_within(self.table_options, limits.clone());
            add(Source::File(FileIter::new(Arc::clone(file), table)));
        }
        for level in self.levels(bounds) {
            add(Source::Level(LevelIter::new(
                Arc::clone(level),
                Arc::clone(&self.tables),
                order.clone(),
                self.table_options,
                limits.clone(),
            )));
        }
        Ok(())
    }
}

impl Watch for View {
    fn pulse(&self) -> Result<()> {
        self.hold.pulse()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.statistics.add(Ticker::NoIteratorDeleted, 1);
        for (ticker, count) in [
            (Ticker::NumberDbSeek, self.seeks),
            (Ticker::NumberDbNext, self.steps_forward),
            (Ticker::NumberDbPrev, self.steps_back),
        ] {
            if count > 0 {
                self.statistics.add(ticker, count);
            }
        }
    }
}
