//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::text::Form;

/// Read, write, inspect and verify FirnDB and RocksDB directories.
///
/// Exit codes: 0 ok, 1 key absent, 2 usage, bad input line or unknown column family, 3 corruption, 4 locked by another
/// writer, 5 incompatible, 6 I/O error, no space or no such database.
#[derive(Debug, Parser)]
#[command(name = "firn", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
    /// The column family (default: `default`; for flush and compact: all)
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cf: Option<String>,
    /// One JSON object a line, of verbs that print or read any
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Every key and value as hex, in arguments, input and output, of verbs that have any
    #[arg(long, global = true)]
    pub(crate) hex: bool,
}

impl Arguments {
    pub(crate) fn form(&self) -> Form {
        Form { json: self.json, hex: self.hex }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write one key; creates a missing database. After `--`, nothing is taken for an option
    Put {
        db: PathBuf,
        #[arg(allow_hyphen_values = true)]
        key: OsString,
        #[arg(allow_hyphen_values = true)]
        value: OsString,
    },
    /// Print the value of a key; exit code 1 if it is absent. After `--`, nothing is taken for an option
    Get {
        db: PathBuf,
        #[arg(allow_hyphen_values = true)]
        key: OsString,
        /// The exact bytes, without escapes or a newline, whatever --json and --hex say
        #[arg(long)]
        raw: bool,
        /// The columns of an entity, a line each: name, tab, value. A plain value is the column without a name
        #[arg(long, conflicts_with = "raw")]
        columns: bool,
    },
    /// Delete a key. After `--`, nothing is taken for an option
    Delete {
        db: PathBuf,
        #[arg(allow_hyphen_values = true)]
        key: OsString,
    },
    /// Delete every key from BEGIN on that is before END, as one write. After `--`, nothing is taken for an option
    DeleteRange {
        db: PathBuf,
        #[arg(allow_hyphen_values = true)]
        begin: OsString,
        #[arg(allow_hyphen_values = true)]
        end: OsString,
    },
    /// Print a range as `key<TAB>value` lines
    Scan(Scan),
    /// Print the number of keys
    Count { db: PathBuf },
    /// Write `key<TAB>value` lines from stdin, in atomic batches; creates a missing database
    ///
    /// A line without a TAB deletes its key; TABs after the first are part of the value. With --json, a line is an object
    /// with `key` and `value`, or `key_hex` and `value_hex`; null deletes; other members are ignored, and of two with one
    /// name the last counts.
    Load {
        db: PathBuf,
        /// Lines a batch
        #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        batch: u64,
        /// Make every batch durable before the next one
        #[arg(long)]
        sync: bool,
        /// Print the number of the last line of every batch that is written
        #[arg(long)]
        ack: bool,
        /// Values are operands of this merge operator: uint64add, stringappend, put, max, bytesxor, or their long names
        #[arg(long, value_name = "OPERATOR")]
        merge: Option<String>,
    },
    /// Write memtables to tables
    Flush { db: PathBuf },
    /// Compact everything, or a range, down to the last level
    Compact {
        db: PathBuf,
        /// First key, inclusive; files that touch the range are compacted whole
        #[arg(long, value_name = "K", allow_hyphen_values = true)]
        from: Option<OsString>,
        /// End of the range
        #[arg(long, value_name = "K", allow_hyphen_values = true)]
        to: Option<OsString>,
        /// Move what comes of it to this level afterwards, unread; leveled families only
        #[arg(long, value_name = "N")]
        level: Option<u32>,
        /// Write the files of the last level anew, too: with today's codec, filters and blob files
        #[arg(long)]
        force: bool,
    },
    /// Check every file against every promise of the format
    Verify { db: PathBuf },
    /// Which releases of RocksDB can open it as it is now, and what keeps others from it
    Compat { db: PathBuf },
    /// Levels, amplification, cache, pins, stalls
    Stats { db: PathBuf },
    /// List, create or drop column families
    Cf {
        #[command(subcommand)]
        verb: FamilyVerb,
    },
    /// Look into one table file
    Sst {
        #[command(subcommand)]
        verb: TableVerb,
    },
    /// Print what is in one file
    Dump { what: DumpKind, file: PathBuf },
    /// See the engine at work on a real data set
    Tour {
        /// An empty or missing directory to work in (default: a temporary one, removed afterwards)
        dir: Option<PathBuf>,
    },
    /// Measure
    Bench(Bench),
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    pub(crate) db: PathBuf,
    /// First key, inclusive
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    pub(crate) from: Option<OsString>,
    /// End, exclusive
    #[arg(long, value_name = "K", allow_hyphen_values = true)]
    pub(crate) to: Option<OsString>,
    /// Only keys that start with this
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub(crate) prefix: Option<OsString>,
    /// In descending order
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most this many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// Only the keys
    #[arg(long, conflicts_with = "values")]
    pub(crate) keys: bool,
    /// Only the values
    #[arg(long)]
    pub(crate) values: bool,
    /// How to read, as name=value;...: fill_cache, verify_checksums, total_order_seek (true, false), readahead_size (bytes, k, m, g)
    #[arg(long, value_name = "OPTIONS")]
    pub(crate) read_options: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FamilyVerb {
    /// One name a line, in the order of their ids
    List { db: PathBuf },
    /// Create a family; creates a missing database
    Create { db: PathBuf, name: String },
    /// Drop a family and everything in it
    Drop { db: PathBuf, name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TableVerb {
    /// What the table says of itself
    Properties { file: PathBuf },
    /// Its entries, every version of each key, or those of a range
    Scan {
        file: PathBuf,
        /// First key, inclusive
        #[arg(long, value_name = "K", allow_hyphen_values = true)]
        from: Option<OsString>,
        /// End, exclusive
        #[arg(long, value_name = "K", allow_hyphen_values = true)]
        to: Option<OsString>,
        /// At most this many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// What its data blocks would take under each codec; writes nothing
    Recompress { file: PathBuf },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DumpKind {
    Manifest,
    Wal,
    Sst,
    Options,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Workloads, separated by commas, in order: fillseq, fillrandom, overwrite, readrandom, readmissing, readseq,
    /// seekrandom, readwhilewriting
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "fillseq,fillrandom,overwrite,readrandom,readmissing,readseq,seekrandom,readwhilewriting"
    )]
    pub(crate) workloads: Vec<Workload>,
    /// Keys in the database
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) num: u64,
    /// Reads, seeks; default: as many as keys
    #[arg(long, value_name = "N")]
    pub(crate) reads: Option<u64>,
    /// Bytes of a value
    #[arg(long, default_value_t = 100, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=1 << 24))]
    pub(crate) value_size: u64,
    /// Seed of keys and values
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Bytes of the block cache
    #[arg(long, default_value_t = 512 << 20, value_name = "BYTES")]
    pub(crate) cache_size: u64,
    /// Writes are synced
    #[arg(long)]
    pub(crate) sync: bool,
    /// Where to make the database (default: a temporary directory, removed afterwards). Must be empty or missing
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "lower")]
pub(crate) enum Workload {
    FillSeq,
    FillRandom,
    Overwrite,
    ReadRandom,
    ReadMissing,
    ReadSeq,
    SeekRandom,
    ReadWhileWriting,
}
