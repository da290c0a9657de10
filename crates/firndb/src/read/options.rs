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
    /// A cursor stays among the keys with the prefix of the key that it was sent to, as the family's
    /// [`prefix_extractor`](crate::FamilyOptions::prefix_extractor) cuts it: it ends where that prefix ends, in both
    /// directions, and tables whose filters do not have the prefix are not read. A key without a prefix leaves it free, and so
    /// does a family without an extractor. To the first or last entry of all means: among those with that entry's prefix.
    /// Default: false. Ranges and prefixes of iterators say their ends themselves. A custom comparator is refused with
    /// `NotSupported`.
    pub prefix_same_as_start: bool,
    /// Takes [`prefix_same_as_start`](Self::prefix_same_as_start) back. Default: false. Reads are in total order, whatever
    /// filters of prefixes the tables have: nothing else needs this option.
    pub total_order_seek: bool,
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
            prefix_same_as_start: false,
            total_order_seek: false,
            label: None,
        }
    }
}
