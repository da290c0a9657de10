//! What bytes mean everywhere: internal keys, comparators, varints, checksums, compression, file names.
//!
//! Source: RocksDB `db/dbformat.h`, `util/coding.h`, `table/format.h`; every layout is described beside its code.

pub(crate) mod checksum;
pub(crate) mod coding;
pub(crate) mod comparator;
pub(crate) mod compression;
pub(crate) mod entity;
pub(crate) mod file_name;
pub(crate) mod key;
pub(crate) mod limits;
#[cfg(feature = "lz4")]
mod lz4hc;
pub(crate) mod merge;
pub(crate) mod prefix;
pub(crate) mod sequence_ranges;
pub(crate) mod xxph3;
