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

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{SequenceNumber, user_key};
use crate::memtable::MemTable;
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::table::reader::TableReadOptions;
use crate::version::Version;
use crate::version::level_iter::LevelIter;
use crate::version::table_cache::TableCache;

use super::options::ReadOptions;
use super::source::Source;
use super::visible::{Bounds, VisibleIter, Watch};

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

/// All that an iterator holds: what it reads, as of when, and the pin that says so.
pub(crate) struct View {
    memtable: Arc<MemTable>,
    immutables: Vec<Arc<MemTable>>,
    version: Arc<Version>,
    sequence: SequenceNumber,
    tables: Arc<TableCache>,
    table_options: TableReadOptions,
    bounds: Bounds,
    statistics: Arc<Statistics>,
    pub(super) seeks: u64,
    pub(super) steps_forward: u64,
    pub(super) steps_back: u64,
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
    pub(crate) fn new(
        (memtable, immutables, version): (Arc<MemTable>, Vec<Arc<MemTable>>, Arc<Version>),
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
            sequence,
            tables,
            table_options: table_options(options),
            bounds: Bounds::of(options),
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
    pub(super) fn is_ousting(&self) -> bool {
        // Relaxed: whoever ousts and a reader that steps at the same moment may come in either order.
        self.ousting.load(Ordering::Relaxed)
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Its visible entries, over those runs that the bounds do not exclude.
    pub(crate) fn entries(&self, bounds: Bounds) -> Result<VisibleIter<Source>> {
        let mut runs = Vec::new();
        // A memtable that is empty now, after the sequence number was read, never gets an entry that this view sees.
        for memtable in std::iter::once(&self.memtable).chain(&self.immutables) {
            if !memtable.is_empty() {
                runs.push(Source::Memtable(memtable.iter()));
            }
        }
        for (number, level) in self.version.levels.iter().enumerate() {
            if number == 0 {
                for file in level.files() {
                    let (smallest, largest) = (user_key(&file.meta.smallest), user_key(&file.meta.largest));
                    if !bounds.exclude(self.order(), smallest, largest) {
                        let table = self.tables.open(file, self.order())?;
                        runs.push(Source::Table(table.iter(self.table_options)));
                    }
                }
            } else if let (Some(first), Some(last)) = (level.files().first(), level.files().last())
                && !bounds.exclude(self.order(), user_key(&first.meta.smallest), user_key(&last.meta.largest))
            {
                runs.push(Source::Level(LevelIter::new(
                    Arc::clone(level),
                    Arc::clone(&self.tables),
                    self.order().clone(),
                    self.table_options,
                )));
            }
        }
        Ok(VisibleIter::new(self.order().clone(), runs, self.sequence, bounds))
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
