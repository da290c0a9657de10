//! What a table is opened with, and how one read goes about its blocks.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::format::comparator::KeyOrder;
use crate::format::key::SequenceNumber;
use crate::metrics::Statistics;

/// What a table is opened with.
#[derive(Debug, Clone)]
pub(crate) struct TableOpenContext {
    pub(crate) path: PathBuf,
    pub(crate) order: KeyOrder,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) statistics: Arc<Statistics>,
    /// What MANIFEST says; the sequence number of ingested files.
    pub(crate) largest_seq: SequenceNumber,
    pub(crate) unique_id: Option<[u8; 16]>,
    pub(crate) verify_checksums: bool,
    /// The internal keys between which MANIFEST says the table lies, if that is known.
    pub(crate) bounds: Option<(Vec<u8>, Vec<u8>)>,
}

/// How one read goes about blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableReadOptions {
    /// Keep what was read in the cache.
    pub(crate) fill_cache: bool,
    pub(crate) verify_checksums: bool,
    /// Bytes that a scan reads at once where blocks are not cached; 0: as seems best.
    pub(crate) read_ahead: usize,
}

impl Default for TableReadOptions {
    fn default() -> Self {
        TableReadOptions { fill_cache: true, verify_checksums: true, read_ahead: 0 }
    }
}
