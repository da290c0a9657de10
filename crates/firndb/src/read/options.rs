//! How a read reads: RocksDB's `ReadOptions`, as far as it goes.

use crate::superversion::Snapshot;

/// Options of a single read or iterator. Names and defaults are RocksDB's.
///
/// ```
/// use firndb::ReadOptions;
/// let options = ReadOptions { upper_bound: Some(b"user:2".to_vec()), fill_cache: false, ..ReadOptions::default() };
/// assert!(options.verify_checksums);
/// ```
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Read as of this snapshot, which is of the same database; another's is refused with `InvalidArgument`. Default:
    /// none, which is the moment of the call.
    pub snapshot: Option<Snapshot>,
    /// Iterators stay at or above this key, which is inclusive (RocksDB: `iterate_lower_bound`). Default: none.
    pub lower_bound: Option<Vec<u8>>,
    /// Iterators stay below this key, which is exclusive (RocksDB: `iterate_upper_bound`). Default: none.
    pub upper_bound: Option<Vec<u8>>,
    /// Put blocks read from files into the block cache. Default: true; false for a scan that should not push others'
    /// blocks out.
    pub fill_cache: bool,
    /// Check the checksum of every block read from a file. Default: true. Blocks in the cache were checked before.
    pub verify_checksums: bool,
    /// Bytes that an iterator reads ahead in files (RocksDB: `readahead_size`). 0, the default: block by block, and, once it
    /// has read a few in a row, in pieces that grow.
    pub readahead_size: usize,
    /// A name for the reader in the report of pins, beside the line of code that made it. Default: none. Meant for a few
    /// dozen names: beyond 256 different ones in a process, making a reader takes time that grows with their number.
    pub label: Option<&'static str>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            snapshot: None,
            lower_bound: None,
            upper_bound: None,
            fill_cache: true,
            verify_checksums: true,
            readahead_size: 0,
            label: None,
        }
    }
}
