//! Options of a column family: what a program can say, with RocksDB's names and defaults.
//!
//! Flow: a program's literal, or OPTIONS -> `options::keys` (each field's name and text), `options::at_open` (who wins) ->
//! **[`FamilyOptions`]** -> `options::configs`, which cuts it into what each owner below needs.

use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::format::merge::MergeRule;
use crate::format::prefix::PrefixExtractor;
use crate::iter::filter::FilterRule;

use super::{CompactionOptionsFifo, CompactionOptionsUniversal, CompactionPri, CompactionStyle};

pub(super) const THIRTY_DAYS_S: u64 = 30 * 24 * 60 * 60;

/// How the data blocks of a table are found.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IndexType {
    /// One index, in memory while its table is open. The default.
    #[default]
    BinarySearch,
    /// An index in parts, which are in the block cache while they are used: for tables whose indexes are too large to be in
    /// memory. A read that does not find its part there reads one block more.
    TwoLevel,
}

/// Options of a column family. As with [`Options`](super::Options), a literal ends with `..FamilyOptions::default()`.
#[derive(Debug, Clone)]
pub struct FamilyOptions {
    /// The order of keys; its name must be the one in the files. Default: bytewise.
    pub key_order: KeyOrder,
    /// How the operands of [`merge`](crate::ColumnFamily::merge) become values. Default: none, unless OPTIONS names one of
    /// RocksDB's. One that OPTIONS names and that is not given keeps nobody from opening: what needs it fails by its name.
    pub merge_operator: Option<MergeRule>,
    /// Removes or changes entries while compactions rewrite them. Default: none. One that OPTIONS names and that is not given
    /// keeps nobody from opening: nothing is filtered then.
    pub compaction_filter_factory: Option<FilterRule>,
    /// Bytes of a memtable before it is flushed, 1 KiB to 1 TiB. Default: 64 MiB.
    pub write_buffer_size: u64,
    /// Memtables, active and waiting, before writes stop; at least 2, the default.
    pub max_write_buffer_number: usize,
    /// Level-0 files that start a compaction; sorted runs in a universal family; at least 1. Default: 4.
    pub level0_file_num_compaction_trigger: usize,
    /// Level-0 files, or sorted runs, that slow writers down; in a FIFO family none do. Fewer than `level0_file_num_compaction_trigger` are taken for as many: nobody
    /// waits for a compaction that is not due. Default: 20.
    pub level0_slowdown_writes_trigger: usize,
    /// Level-0 files, or sorted runs, that stop writers. Fewer than `level0_slowdown_writes_trigger` are taken for as many. Default: 36.
    pub level0_stop_writes_trigger: usize,
    /// Bytes waiting for compaction that slow writers down. 0, and more than `hard_pending_compaction_bytes_limit`, are taken
    /// for as many as that. Default: 64 GiB.
    pub soft_pending_compaction_bytes_limit: u64,
    /// Bytes waiting for compaction that stop writers; 0: no limit. Default: 256 GiB.
    pub hard_pending_compaction_bytes_limit: u64,
    /// Levels, 1 to 64, and at least as many as have files; leveled compaction takes 1 for 2. RocksDB's default, 7, is what its tools open without being told.
    pub num_levels: u32,
    /// Bytes of a table file made by compaction; at least 1 KiB. Default: 64 MiB.
    pub target_file_size_base: u64,
    /// Bytes of the first level below level 0; at least 1 KiB. Default: 256 MiB.
    pub max_bytes_for_level_base: u64,
    /// How much larger each level is than the one above; at least 1. Default: 10.
    pub max_bytes_for_level_multiplier: f64,
    /// Derive level sizes from the last level upwards, so that most data is in it. Default: true.
    pub level_compaction_dynamic_level_bytes: bool,
    /// No compaction but by `Db::compact_range`; level-0 files and waiting bytes then hold up no writer. Unlike other options
    /// it is of one opening: the directory does not keep it. Default: false.
    pub disable_auto_compactions: bool,
    /// How sorted runs are merged. Default: leveled.
    pub compaction_style: CompactionStyle,
    /// Which file of a level that is too large goes down first, in a leveled family. Default: the one that has least to be
    /// merged with, for its size.
    pub compaction_pri: CompactionPri,
    /// Limits of the universal style.
    pub compaction_options_universal: CompactionOptionsUniversal,
    /// Limits of the FIFO style.
    pub compaction_options_fifo: CompactionOptionsFifo,
    /// Seconds after which data is old; 0: never. Default: 30 days, as in RocksDB. In a leveled family it goes down to the
    /// last level then, and what it overwrote goes on the way; a FIFO family drops tables all of whose data is older; in a
    /// universal one it means the same as `periodic_compaction_seconds`.
    pub ttl: u64,
    /// Seconds after which a table is written anew; 0, the default: never. Nothing of a FIFO family is. A universal family merges everything when a table
    /// is older than this or `ttl`, whichever is less.
    pub periodic_compaction_seconds: u64,
    /// Codec of data and index blocks. Default: none, as in RocksDB 11. One that this build cannot write is refused; where
    /// OPTIONS says one, new tables get the nearest.
    pub compression: Compression,
    /// Codecs by level, if they differ: the first is level 0's, the second that of the first level below it that is used, and
    /// so on; the last is also that of all further levels. Default: empty, `compression` everywhere.
    pub compression_per_level: Vec<Compression>,
    /// Codec of the last level that has data, over the two above: most bytes are there, and they are seldom rewritten.
    /// Default: none of its own. A file that is only moved down keeps the codec that it has.
    pub bottommost_compression: Option<Compression>,
    /// Bytes of a data block before compression, 64 to 64 MiB. Default: 4096.
    pub block_size: usize,
    /// Entries between restart points of a data block, 1 to 1024. Default: 16.
    pub block_restart_interval: usize,
    /// Bits a key of the Bloom filter, 0.5 to 100; `None`, the default, writes no filter. 10 gives about 1 % false positives.
    /// RocksDB's `filter_policy`.
    pub bloom_bits_per_key: Option<f64>,
    /// Ribbon filters instead of Bloom filters: with `bloom_bits_per_key`, the false positives of a Bloom filter of as many
    /// bits, in three quarters of its bytes, for more work when a table is made. `Some(level)`: in tables that compactions
    /// write into this level and deeper ones; with −1, in those of flushes, too. Default: `None`, Bloom filters everywhere.
    /// RocksDB's `ribbonfilter:bits:level`.
    pub bloom_before_level: Option<i32>,
    /// Whole keys are in the filter. Without them, a lookup asks for the prefix of its key, and a filter needs
    /// `prefix_extractor`. Default: true.
    pub whole_key_filtering: bool,
    /// Prefixes of keys are in the filter, too: a scan whose bounds lie within one prefix does not read tables without it. No
    /// answer depends on this option, nor on its changes: each table says which extractor it was made with. Default: none.
    /// For one of OPTIONS that is not known, new tables have no prefixes in their filters.
    pub prefix_extractor: Option<PrefixExtractor>,
    /// How blocks are found in a table. Default: [`IndexType::BinarySearch`].
    pub index_type: IndexType,
    /// Bytes of a part of a two-level index, and of a partitioned filter, 64 to 64 MiB. Default: 4096.
    pub metadata_block_size: usize,
    /// With a two-level index, the filter is cut as the index is. Default: false.
    pub partition_filters: bool,
    /// Long values go into blob files, apart from their keys, when memtables are flushed and tables compacted: compactions then
    /// carry references from table to table, and not the values. Default: false. Whatever it says, values that are in blob
    /// files are read.
    pub enable_blob_files: bool,
    /// Bytes from which on a value is long. Default: 0, all values.
    pub min_blob_size: u64,
    /// Bytes at which a blob file is ended. Default: 256 MiB.
    pub blob_file_size: u64,
    /// Codec of values in blob files, each by itself. Default: none.
    pub blob_compression_type: Compression,
    /// Compactions put values that they meet in the oldest blob files into new ones, so that those become empty and go.
    /// Default: false; a blob file then goes when nothing refers to it nor to any older one.
    pub enable_blob_garbage_collection: bool,
    /// Which blob files are the oldest, as a part of all: 0 to 1. Default: 0.25.
    pub blob_garbage_collection_age_cutoff: f64,
    /// Compactions are made to empty the oldest blob file when this part of its bytes, and of those that only its tables keep,
    /// is garbage: 0 to 1. Default: 1, never. In leveled families.
    pub blob_garbage_collection_force_threshold: f64,
    /// The first level whose tables refer to blob files that are made. Default: 0, flushes make them, too.
    pub blob_file_starting_level: u32,
    /// Version of the table format written, 2 to 7; 5, the default, is the newest that RocksDB 7.8 reads. 6 needs 8.6, and 7
    /// needs 10.4.
    pub format_version: u32,
}

impl Default for FamilyOptions {
    fn default() -> Self {
        FamilyOptions {
            key_order: KeyOrder::Bytewise,
            merge_operator: None,
            compaction_filter_factory: None,
            write_buffer_size: 64 << 20,
            max_write_buffer_number: 2,
            level0_file_num_compaction_trigger: 4,
            level0_slowdown_writes_trigger: 20,
            level0_stop_writes_trigger: 36,
            soft_pending_compaction_bytes_limit: 64 << 30,
            hard_pending_compaction_bytes_limit: 256 << 30,
            num_levels: 7,
            target_file_size_base: 64 << 20,
            max_bytes_for_level_base: 256 << 20,
            max_bytes_for_level_multiplier: 10.0,
            level_compaction_dynamic_level_bytes: true,
            disable_auto_compactions: false,
            compaction_style: CompactionStyle::Level,
            compaction_pri: CompactionPri::MinOverlappingRatio,
            compaction_options_universal: CompactionOptionsUniversal::default(),
            compaction_options_fifo: CompactionOptionsFifo::default(),
            ttl: THIRTY_DAYS_S,
            periodic_compaction_seconds: 0,
            compression: Compression::None,
            compression_per_level: Vec::new(),
            bottommost_compression: None,
            block_size: 4096,
            block_restart_interval: 16,
            bloom_bits_per_key: None,
            bloom_before_level: None,
            whole_key_filtering: true,
            prefix_extractor: None,
            index_type: IndexType::BinarySearch,
            metadata_block_size: 4096,
            partition_filters: false,
            enable_blob_files: false,
            min_blob_size: 0,
            blob_file_size: 256 << 20,
            blob_compression_type: Compression::None,
            enable_blob_garbage_collection: false,
            blob_garbage_collection_age_cutoff: 0.25,
            blob_garbage_collection_force_threshold: 1.0,
            blob_file_starting_level: 0,
            format_version: 5,
        }
    }
}
