//! What users say of the compaction styles.

/// Options of [`CompactionStyle::Universal`](crate::CompactionStyle::Universal), RocksDB's `compaction_options_universal`.
///
/// A *sorted run* is a table of level 0, or a whole level below it. When there are
/// `level0_file_num_compaction_trigger` of them or more, neighbours in age are merged into one.
///
/// ```
/// use firndb::{CompactionOptionsUniversal, CompactionStyle, FamilyOptions};
/// let options = FamilyOptions {
///     compaction_style: CompactionStyle::Universal,
///     compaction_options_universal: CompactionOptionsUniversal {
///         max_size_amplification_percent: 50, // Half as much again as the data, no more.
///         ..CompactionOptionsUniversal::default()
///     },
///     ..FamilyOptions::default()
/// };
/// # drop(options);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionOptionsUniversal {
    /// By how many percent an older run may be larger than the newer ones together and still be merged with them. Larger
    /// means fewer runs to read, and more to write. Default: 1.
    pub size_ratio: u32,
    /// Runs that are merged at once at least; 2 or more. Where so many runs wait that writers are slowed down, two are
    /// enough. Default: 2.
    pub min_merge_width: u32,
    /// Runs that are merged at once at most; not less than `min_merge_width`. Merges for the sake of space, and those by
    /// hand, do not ask. Default: `u32::MAX`.
    pub max_merge_width: u32,
    /// When all newer runs together have so many percent of the oldest run's bytes, everything is merged. 100 means that a
    /// database takes twice its data, about, at worst. Default: 200.
    pub max_size_amplification_percent: u32,
    /// Less than 0, the default: every table is compressed. Otherwise a merge writes uncompressed tables as soon as the runs
    /// older than its own have so many percent of all bytes; then flushes do not compress either.
    pub compression_size_percent: i32,
    /// When to stop adding older runs to a merge. Default: [`CompactionStopStyle::TotalSize`].
    pub stop_style: CompactionStopStyle,
    /// Tables of a merge that have no keys in common only change their level. Default: false.
    pub allow_trivial_move: bool,
}

impl Default for CompactionOptionsUniversal {
    fn default() -> Self {
        CompactionOptionsUniversal {
            size_ratio: 1,
            min_merge_width: 2,
            max_merge_width: u32::MAX,
            max_size_amplification_percent: 200,
            compression_size_percent: -1,
            stop_style: CompactionStopStyle::TotalSize,
            allow_trivial_move: false,
        }
    }
}

/// When a universal merge stops adding older runs.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionStopStyle {
    /// When the next run is far larger or far smaller than the last one.
    SimilarSize,
    /// When the next run is larger than all that were taken.
    #[default]
    TotalSize,
}

/// Which file of a level that is too large goes down first in a leveled family, RocksDB's `compaction_pri`.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionPri {
    /// The largest, where tombstones weigh more than their bytes.
    ByCompensatedSize,
    /// The one that was written to last the longest ago: for keys that are overwritten in few, hot ranges.
    OldestLargestSeqFirst,
    /// The one with the oldest entry: for keys that are overwritten at random.
    OldestSmallestSeqFirst,
    /// The one that has least to be merged with below it, for its size: writes least in most cases.
    #[default]
    MinOverlappingRatio,
    /// One after the other in the order of keys. Where it got to is in MANIFEST.
    RoundRobin,
}

/// Options of [`CompactionStyle::Fifo`](crate::CompactionStyle::Fifo), RocksDB's `compaction_options_fifo`. How old data
/// may get is `ttl`, of the family.
///
/// ```
/// use firndb::{CompactionOptionsFifo, CompactionStyle, FamilyOptions};
/// let options = FamilyOptions {
///     compaction_style: CompactionStyle::Fifo,
///     compaction_options_fifo: CompactionOptionsFifo {
///         max_table_files_size: 64 << 20,
///         ..CompactionOptionsFifo::default()
///     },
///     ttl: 7 * 24 * 60 * 60, // A week.
///     ..FamilyOptions::default()
/// };
/// # drop(options);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactionOptionsFifo {
    /// Bytes of all tables beyond which the oldest are dropped. Default: 1 GiB.
    pub max_table_files_size: u64,
    /// Merge `level0_file_num_compaction_trigger` small tables or more into one, so that reads have fewer to look into.
    /// Default: false.
    pub allow_compaction: bool,
}

impl Default for CompactionOptionsFifo {
    fn default() -> Self {
        CompactionOptionsFifo { max_table_files_size: 1 << 30, allow_compaction: false }
    }
}
