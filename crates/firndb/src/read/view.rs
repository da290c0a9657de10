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
use crate::format::key::SequenceNumber;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::table::reader::TableReadOptions;

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

/// What an iterator holds.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) steps_forward: u64,
    pub(crate) steps_back: u64,
    pub(crate) seeks: u64,
}

impl View {
    pub(crate) fn order(&self) -> &KeyOrder {
        todo!()
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        todo!()
    }

    pub(crate) fn entries(&self, _bounds: Bounds) -> Result<VisibleIter<Source>> {
        todo!()
    }
}

impl Watch for View {
    fn pulse(&self) -> Result<()> {
        todo!()
    }
}
