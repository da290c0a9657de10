//! The parts of a table: an index is one, or many that are loaded when they are needed.
//!
//! Flow: [`super::reader`] and [`super::iter`] -> **[`Parts`]** -> a [`Part`]: the index of a run of data blocks, and the
//! slots in which those are cached. A table with a plain index is one part, parsed when the table is opened. One with an
//! index of two levels keeps the upper level in memory, and its parts in the block cache, each with the data blocks below
//! it.
//!
//! Invariants
//! 1. A part's separators lie between those of the upper level around it, and its last one is the upper level's: what is
//!    not in the part that the upper level leads to is in no other one. A part for which that is not so is damage.
//! 2. The hand of the cache empties the slot of a part only if nothing was looked up by way of it since the hand came by
//!    last: neither, then, were the blocks below it, which go with it.
//! 3. Who has a part keeps it: an iterator goes on in a part that the cache has given up.
//!
//! The simple way, to parse all parts at once, needs the memory that the second level was made to save.
//!
//! Source: RocksDB `table/block_based/partitioned_index_reader.cc`.

use std::sync::Arc;

use crate::cache::{CachedSlots, Charge};
use crate::error::{CorruptionKind, Error, Result};
use crate::metrics::Ticker;

use super::block::Block;
use super::index::{Index, IndexForm};
use super::reader_options::TableReadOptions;
use super::source::Source;

/// A run of data blocks.
pub(crate) struct Part {
    pub(super) index: Index,
    pub(super) blocks: CachedSlots<Block>,
}

impl Part {
    pub(super) fn new(index: Index, source: &Source) -> Part {
        let (cache, statistics) = (Arc::clone(&source.context.cache), Arc::clone(&source.context.statistics));
        Part { blocks: CachedSlots::new(index.len(), cache, statistics), index }
    }
}

impl Charge for Part {
    fn charge(&self) -> usize {
        self.index.memory() + self.blocks.memory() + size_of::<Part>()
    }
}

/// All data blocks of a table.
pub(crate) enum Parts {
    One(Part),
    Many(TwoLevels),
}

impl Parts {
    /// Bytes of memory that stay while the table is open.
    pub(super) fn memory(&self) -> usize {
        match self {
            Parts::One(part) => part.index.memory(),
            Parts::Many(levels) => levels.top.memory() + levels.slots.memory(),
        }
    }
}

/// An index of two levels.
pub(crate) struct TwoLevels {
    pub(super) top: Index,
    slots: CachedSlots<Part>,
    form: IndexForm,
}

impl TwoLevels {
    pub(super) fn new(top: Index, form: IndexForm, source: &Source) -> TwoLevels {
        let (cache, statistics) = (Arc::clone(&source.context.cache), Arc::clone(&source.context.statistics));
        TwoLevels { slots: CachedSlots::new(top.len(), cache, statistics), top, form }
    }

    /// Part `number`, which is smaller than `top.len()`: out of the cache, or of the file.
    #[inline]
    pub(super) fn with<T>(
        &self,
        source: &Source,
        number: usize,
        options: &TableReadOptions,
        use_it: impl FnOnce(&Part) -> Result<T>,
    ) -> Result<T> {
        if let Some(guard) = self.slots.load(number)
            && let Some(part) = &*guard
        {
            source.context.statistics.add(Ticker::BlockCacheHit, 1);
            return use_it(part);
        }
        use_it(&*self.read_and_keep(source, number, options)?)
    }

    /// The same, to be kept.
    pub(super) fn part(&self, source: &Source, number: usize, options: &TableReadOptions) -> Result<Arc<Part>> {
        if let Some(part) = self.slots.load(number).and_then(|guard| guard.as_ref().map(Arc::clone)) {
            source.context.statistics.add(Ticker::BlockCacheHit, 1);
            return Ok(part);
        }
        self.read_and_keep(source, number, options)
    }

    #[cold]
    fn read_and_keep(&self, source: &Source, number: usize, options: &TableReadOptions) -> Result<Arc<Part>> {
        source.context.statistics.add(Ticker::BlockCacheMiss, 1);
        let part = Arc::new(Part::new(self.read(source, number, options)?, source));
        if options.fill_cache {
            self.slots.insert(number, &part);
        }
        Ok(part)
    }

    /// Reads the index of part `number` from the file.
    pub(super) fn read(&self, source: &Source, number: usize, options: &TableReadOptions) -> Result<Index> {
        let (handle, order) = (self.top.handle(number), &source.context.order);
        let content = source.content(handle, options)?;
        let index = Index::parse(&content, self.form, order, &source.footer).and_then(|index| {
            match self.top.leads_to(order, number, &index) {
                true => Ok(index),
                false => {
                    Err(Error::corrupt(CorruptionKind::Order, "index: a part that is not where its separators are"))
                }
            }
        });
        index.map_err(|error| source.at(error, handle.offset))
    }
}
