//! What the filter of a table may be asked, whole or in parts, for keys and for prefixes.
//!
//! Flow: [`super::reader`] (a key), [`super::iter`] (a range whose keys have one prefix), [`super::verify`] -> **[`Filters`]**
//! -> [`super::filter`], in memory or, part by part, by way of the block cache.
//!
//! Invariants
//! 1. A filter that has no whole keys is asked for the prefix of a key, or not at all.
//! 2. Which bytes are the prefix is what the table's own properties say. An extractor that is not known is not guessed, and
//!    its filter is asked for whole keys alone.
//! 3. A filter that cannot be read is an error, no answer.
//!
//! Source: RocksDB `table/block_based/full_filter_block.cc`, `partitioned_filter_block.cc`.

use std::ops::Bound;
use std::sync::Arc;

use crate::cache::{CachedSlots, Charge};
use crate::error::Result;
use crate::format::prefix::{PrefixExtractor, compare_with_end};
use crate::metrics::Ticker;

use super::filter::{FilterReader, KeyHash};
use super::index::Index;
use super::properties::TableProperties;
use super::reader_options::TableReadOptions;
use super::source::Source;

/// A range that lies in more parts is not asked for.
const RANGE_PARTS_MAX: usize = 4;

/// How a table tells which keys are not in it.
pub(crate) enum Filters {
    None,
    /// In memory, and whole keys are in it.
    Full(FilterReader),
    Other(OtherFilter),
}

/// A filter that takes more than one question.
pub(crate) struct OtherFilter {
    pub(super) form: FilterForm,
    has_whole_keys: bool,
    prefixes: Option<PrefixExtractor>,
}

pub(crate) enum FilterForm {
    Full(FilterReader),
    Parts(FilterParts),
}

/// The extractor of the prefixes that are in a table's filter, if it is known.
pub(super) fn prefixes_of(properties: &TableProperties) -> Option<PrefixExtractor> {
    let name = properties.prefix_extractor.as_deref().filter(|_| properties.prefix_filtering)?;
    PrefixExtractor::from_name(name)
}

impl Filters {
    pub(super) fn new(form: FilterForm, properties: &TableProperties) -> Filters {
        let (has_whole_keys, prefixes) = (properties.whole_key_filtering, prefixes_of(properties));
        match form {
            FilterForm::Full(filter) if has_whole_keys => Filters::Full(filter),
            _ if !has_whole_keys && prefixes.is_none() => Filters::None,
            form => Filters::Other(OtherFilter { form, has_whole_keys, prefixes }),
        }
    }

    /// Bytes of memory that stay while the table is open.
    pub(super) fn memory(&self) -> usize {
        match self {
            Filters::None => 0,
            Filters::Full(filter) | Filters::Other(OtherFilter { form: FilterForm::Full(filter), .. }) => {
                filter.memory()
            }
            Filters::Other(OtherFilter { form: FilterForm::Parts(parts), .. }) => parts.memory(),
        }
    }

    /// True if the filter says that nothing from `from`, a user key and a trailer, up to `to` is in the table. It is asked only
    /// if all of that has one prefix, and the order is bytewise.
    pub(super) fn rule_out_range(
        &self,
        source: &Source,
        prefixes: PrefixExtractor,
        from: (&[u8], u64),
        to: Bound<&[u8]>,
        options: &TableReadOptions,
    ) -> Result<bool> {
        let Some(prefix) = prefixes.prefix_of_range(from.0).filter(|_| source.context.order.is_bytewise()) else {
            return Ok(false);
        };
        let (is_within, end) = match to {
            Bound::Unbounded => return Ok(false),
            Bound::Included(upper) => (compare_with_end(upper, prefix).is_lt(), (upper, 0)),
            Bound::Excluded(upper) => (compare_with_end(upper, prefix).is_le(), (upper, u64::MAX)),
        };
        if !is_within {
            return Ok(false);
        }
        let denies = |filter: &FilterReader| !filter.may_contain(prefix, &mut KeyHash::default());
        let parts = match self {
            Filters::None => return Ok(false),
            Filters::Full(filter) | Filters::Other(OtherFilter { form: FilterForm::Full(filter), .. }) => {
                return Ok(denies(filter));
            }
            Filters::Other(OtherFilter { form: FilterForm::Parts(parts), .. }) => parts,
        };
        // A part has the prefixes of its own keys; that it has those of its neighbours' depends on who wrote it.
        let (Some(first), Some(last)) = (parts.find(source, from.0, from.1), parts.find(source, end.0, end.1)) else {
            return Ok(false);
        };
        if last.saturating_sub(first) >= RANGE_PARTS_MAX {
            return Ok(false);
        }
        for number in first..=last {
            if !parts.ask(source, number, options, denies)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl OtherFilter {
    /// False only if no version of the key at or behind `(user key, trailer)` is in the table.
    pub(super) fn may_contain(
        &self,
        source: &Source,
        (user_key, trailer): (&[u8], u64),
        hash: &mut KeyHash,
        options: &TableReadOptions,
    ) -> Result<bool> {
        let mut of_prefix = KeyHash::default();
        let (asked, hash) = match self.has_whole_keys {
            true => (user_key, hash),
            false => match self.prefixes.and_then(|prefixes| prefixes.prefix(user_key)) {
                Some(prefix) => (prefix, &mut of_prefix),
                None => return Ok(true),
            },
        };
        match &self.form {
            FilterForm::Full(filter) => Ok(filter.may_contain(asked, hash)),
            FilterForm::Parts(parts) => {
                let Some(number) = parts.find(source, user_key, trailer) else { return Ok(true) };
                parts.ask(source, number, options, |filter| filter.may_contain(asked, hash))
            }
        }
    }
}

/// For verifying: asks a filter for keys that are in the table, past the cache.
#[derive(Default)]
pub(super) struct FilterCheck {
    /// The part that was asked last.
    part: Option<(usize, FilterReader)>,
}

impl FilterCheck {
    /// True unless the filter denies a key that is in the table, or its prefix.
    pub(super) fn passes(
        &mut self,
        filters: &Filters,
        prefixes: Option<PrefixExtractor>,
        source: &Source,
        (user_key, trailer): (&[u8], u64),
        options: &TableReadOptions,
    ) -> Result<bool> {
        let (form, has_whole_keys) = match filters {
            Filters::None => return Ok(true),
            Filters::Full(filter) => (Ok(filter), true),
            Filters::Other(OtherFilter { form: FilterForm::Full(filter), has_whole_keys, .. }) => {
                (Ok(filter), *has_whole_keys)
            }
            Filters::Other(OtherFilter { form: FilterForm::Parts(parts), has_whole_keys, .. }) => {
                (Err(parts), *has_whole_keys)
            }
        };
        let filter = match form {
            Ok(filter) => filter,
            Err(parts) => {
                let Some(number) = parts.find(source, user_key, trailer) else { return Ok(true) };
                match &mut self.part {
                    Some((last, filter)) if *last == number => filter,
                    part => &mut part.insert((number, parts.read(source, number, options)?)).1,
                }
            }
        };
        let has = |asked: &[u8]| filter.may_contain(asked, &mut KeyHash::default());
        let prefix = prefixes.and_then(|prefixes| prefixes.prefix(user_key));
        Ok((!has_whole_keys || has(user_key)) && prefix.is_none_or(has))
    }
}

impl Charge for FilterReader {
    fn charge(&self) -> usize {
        self.memory() + size_of::<FilterReader>() + 32
    }
}

/// A filter in parts.
pub(crate) struct FilterParts {
    pub(super) top: Index,
    slots: CachedSlots<FilterReader>,
}

impl FilterParts {
    pub(super) fn new(top: Index, source: &Source) -> FilterParts {
        let (cache, statistics) = (Arc::clone(&source.context.cache), Arc::clone(&source.context.statistics));
        FilterParts { slots: CachedSlots::new(top.len(), cache, statistics), top }
    }

    /// Bytes of memory that stay while the table is open.
    pub(super) fn memory(&self) -> usize {
        self.top.memory() + self.slots.memory()
    }

    /// The part in which `(user key, trailer)` is, if it is anywhere; `None` if there are no parts.
    fn find(&self, source: &Source, user_key: &[u8], trailer: u64) -> Option<usize> {
        // Behind the last separator, the last part: keys that came after it was made have theirs in no other one.
        let last = self.top.len().checked_sub(1)?;
        Some(self.top.find(&source.context.order, user_key, trailer).min(last))
    }

    /// Asks part `number`, which is smaller than `top.len()`.
    fn ask(
        &self,
        source: &Source,
        number: usize,
        options: &TableReadOptions,
        ask: impl FnOnce(&FilterReader) -> bool,
    ) -> Result<bool> {
        if let Some(guard) = self.slots.load(number)
            && let Some(filter) = &*guard
        {
            source.context.statistics.add(Ticker::BlockCacheHit, 1);
            return Ok(ask(filter));
        }
        let filter = Arc::new(self.read(source, number, options)?);
        source.context.statistics.add(Ticker::BlockCacheMiss, 1);
        if options.fill_cache {
            self.slots.insert(number, &filter);
        }
        Ok(ask(&filter))
    }

    /// Reads part `number` from the file.
    #[cold]
    pub(super) fn read(&self, source: &Source, number: usize, options: &TableReadOptions) -> Result<FilterReader> {
        let handle = self.top.handle(number);
        Ok(FilterReader::parse(source.content(handle, options)?))
    }
}
