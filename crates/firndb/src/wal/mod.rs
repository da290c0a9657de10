//! RocksDB's log format, used for write-ahead logs and for MANIFEST.
//!
//! A log is a sequence of 32 KiB blocks. A logical record is cut into fragments that never straddle a block; where
//! fewer bytes than a header remain in a block, they are zeros.
//!
//! | header | bytes |
//! |---|---|
//! | legacy, 7 | `u32 masked crc, u16 length, u8 type` |
//! | recyclable, 11 | the same, then `u32` low half of the log's number |
//!
//! A compressed log begins with a record that names the codec. Each logical record is then one zstd frame, cut into fragments as
//! any other; records of one fragment that are no data are as they are.
//!
//! The CRC covers everything from the type byte to the end of the payload. Source: RocksDB `db/log_format.h`.

pub(crate) mod reader;
pub(crate) mod writer;

pub(crate) const BLOCK_LEN: usize = 32 * 1024;
pub(crate) const LEGACY_HEADER_LEN: usize = 7;
pub(crate) const RECYCLABLE_HEADER_LEN: usize = 11;

pub(crate) mod kind {
    //! Types of physical records.
    pub(crate) const ZERO: u8 = 0;
    pub(crate) const FULL: u8 = 1;
    pub(crate) const FIRST: u8 = 2;
    pub(crate) const MIDDLE: u8 = 3;
    pub(crate) const LAST: u8 = 4;
    pub(crate) const RECYCLABLE_FULL: u8 = 5;
    pub(crate) const RECYCLABLE_LAST: u8 = 8;
    /// From one to its recyclable twin.
    pub(crate) const TO_RECYCLABLE: u8 = 4;
    pub(crate) const SET_COMPRESSION: u8 = 9;
    pub(crate) const TIMESTAMP_SIZES: u8 = 10;
    pub(crate) const RECYCLABLE_TIMESTAMP_SIZES: u8 = 11;
    /// Types from here on that are not known may be skipped.
    pub(crate) const IGNORABLE: u8 = 128;
    pub(crate) const RECYCLABLE_PREDECESSOR: u8 = 131;
}

/// How damaged or unfinished write-ahead logs are treated on open (RocksDB's `WALRecoveryMode`).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WalRecoveryMode {
    /// A record cut off at the end of a log is dropped; any other damage is an error.
    TolerateCorruptedTailRecords,
    /// Any damage is an error, a cut-off record too.
    AbsoluteConsistency,
    /// Recovery stops at the first damage: a prefix of the history. The default. An error if a column family has in its
    /// tables what comes after the damage, since there is no such prefix then.
    #[default]
    PointInTime,
    /// Damaged records are skipped; what is left may have holes. For salvage.
    SkipAnyCorruptedRecords,
}
