//! Gathers the hashes of a table's keys and prefixes, and makes one filter of them or many.
//!
//! Flow: [`crate::table::builder`], for each key and at the end of each data block -> **[`FilterBuilder`]** -> filter blocks.
//!
//! Invariant: the part of a filter that belongs to some data blocks has every key and prefix of theirs, and those next to
//! them: a key may have versions, and a prefix keys, on both sides of a border, and is added once in a row. RocksDB asks
//! the part of the key that it seeks, though the first key behind that may be in the next one.

use std::ops::Range;

use crate::format::prefix::PrefixExtractor;
use crate::format::xxph3::hash64;

use super::{bloom, ribbon};

/// What goes into the filters of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FilterConfig {
    pub(crate) bits_per_key: f64,
    /// Ribbon instead of Bloom: as few false positives in fewer bits, for more work when it is made.
    pub(crate) is_ribbon: bool,
    pub(crate) has_whole_keys: bool,
    pub(crate) prefixes: Option<PrefixExtractor>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct FilterBuilder {
    config: FilterConfig,
    keys: Vec<u64>,
    prefixes: Vec<u64>,
    /// How many of each there were at the end of each data block.
    ends: Vec<(usize, usize)>,
}

impl FilterBuilder {
    pub(crate) fn new(config: FilterConfig) -> FilterBuilder {
        FilterBuilder { config, keys: Vec::new(), prefixes: Vec::new(), ends: Vec::new() }
    }

    /// Adds a key; repeats of the last one count once.
    #[inline]
    pub(crate) fn add(&mut self, user_key: &[u8]) {
        if self.config.has_whole_keys {
            add(&mut self.keys, hash64(user_key));
        }
        if let Some(prefixes) = self.config.prefixes
            && let Some(prefix) = prefixes.prefix(user_key)
        {
            add(&mut self.prefixes, hash64(prefix));
        }
    }

    /// Notes that a data block ended.
    pub(crate) fn end_block(&mut self) {
        self.ends.push((self.keys.len(), self.prefixes.len()));
    }

    /// The hashes of a run of data blocks, with their neighbours.
    fn of(&self, blocks: &Range<usize>) -> (Range<usize>, Range<usize>) {
        let before = blocks.start.checked_sub(1).map_or((0, 0), |block| self.ends[block]);
        let end = blocks.end.checked_sub(1).map_or((0, 0), |block| self.ends[block]);
        let around = |start: usize, end: usize, len: usize| start.saturating_sub(1)..(end + 1).min(len);
        (around(before.0, end.0, self.keys.len()), around(before.1, end.1, self.prefixes.len()))
    }

    /// About how many bytes the filter of a run of data blocks has.
    pub(crate) fn part_bytes(&self, blocks: Range<usize>) -> usize {
        let (keys, prefixes) = self.of(&blocks);
        ((keys.len() + prefixes.len()) as f64 * self.config.bits_per_key / 8.0) as usize
    }

    /// The filter of a run of data blocks.
    pub(crate) fn part(&self, blocks: Range<usize>) -> Vec<u8> {
        let (keys, prefixes) = self.of(&blocks);
        self.build(&[&self.keys[keys], &self.prefixes[prefixes]].concat())
    }

    /// The filter of all keys; empty if no key was added.
    pub(crate) fn whole(mut self) -> Vec<u8> {
        let mut hashes = std::mem::take(&mut self.keys);
        hashes.append(&mut self.prefixes);
        self.build(&hashes)
    }

    /// How many hashes were added.
    pub(crate) fn entries(&self) -> u64 {
        (self.keys.len() + self.prefixes.len()) as u64
    }

    fn build(&self, hashes: &[u64]) -> Vec<u8> {
        let bloom = bloom::shape(hashes.len(), self.config.bits_per_key);
        let ribbon =
            self.config.is_ribbon.then(|| ribbon::build(hashes, self.config.bits_per_key, bloom.len)).flatten();
        ribbon.unwrap_or_else(|| bloom::build(hashes, bloom))
    }
}

#[inline]
fn add(hashes: &mut Vec<u64>, hash: u64) {
    if hashes.last() != Some(&hash) {
        hashes.push(hash);
    }
}
