//! Writing one blob file.
//!
//! Flow: `version::new_blobs`, which names files and ends them -> **[`BlobFileBuilder`]** -> the file. Nothing refers to a record
//! before the file is finished and synced.
//!
//! Source: RocksDB `db/blob/blob_file_builder.cc`, `db/blob/blob_log_writer.cc`.

use std::sync::Arc;

use crate::error::Result;
use crate::format::checksum::{crc32c_parts, mask};
use crate::format::coding::{put_u32, put_varint64};
use crate::format::compression::{Compression, compress};
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::fs::WritableFile;

use super::{BlobPlace, FOOTER_LEN, HEADER_LEN, MAGIC, RECORD_HEADER_LEN};

const VERSION: u32 = 1;
/// Of the flags and both ends of an expiration range, which nobody has.
const NO_EXPIRATION: [u8; 16] = [0; 16];

/// What is written at once.
const PIECE_BYTES: usize = 64 << 10;

/// Which values go into blob files, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobConfig {
    /// Values of as many bytes, and longer ones.
    pub(crate) min_bytes: u64,
    /// A file that has as many bytes is ended.
    pub(crate) file_bytes: u64,
    pub(crate) compression: Compression,
}

/// See the module's text.
pub(crate) struct BlobFileBuilder {
    file: Arc<dyn WritableFile>,
    number: FileNumber,
    compression: Compression,
    /// Bytes of the file so far.
    size: u64,
    count: u64,
    /// Records that are not in the file yet.
    pending: Vec<u8>,
    compressed: Vec<u8>,
}

impl BlobFileBuilder {
    /// A file of a family, with its header.
    pub(crate) fn new(
        file: Arc<dyn WritableFile>,
        number: FileNumber,
        family: ColumnFamilyId,
        compression: Compression,
    ) -> Result<BlobFileBuilder> {
        let mut header = Vec::with_capacity(HEADER_LEN);
        for word in [MAGIC, VERSION, family.0] {
            put_u32(&mut header, word);
        }
        header.extend_from_slice(&[0, compression.to_byte()]);
        header.extend_from_slice(&NO_EXPIRATION);
        let size = header.len() as u64;
        Ok(BlobFileBuilder { file, number, compression, size, count: 0, pending: header, compressed: Vec::new() })
    }

    /// Adds the value of `user_key`.
    pub(crate) fn add(&mut self, user_key: &[u8], value: &[u8]) -> Result<BlobPlace> {
        let stored = match self.compression {
            Compression::None => value,
            codec => {
                // Stored as the codec makes it, be it longer: the form has no other.
                compress(codec, value, &mut self.compressed)?;
                &self.compressed[..]
            }
        };
        let start = self.pending.len();
        let pending = &mut self.pending;
        for length in [user_key.len() as u64, stored.len() as u64, 0] {
            pending.extend_from_slice(&length.to_le_bytes());
        }
        let of_header = mask(crc32c_parts(&[&pending[start..]]));
        put_u32(pending, of_header);
        put_u32(pending, mask(crc32c_parts(&[user_key, stored])));
        pending.extend_from_slice(user_key);
        pending.extend_from_slice(stored);
        let offset = self.size + RECORD_HEADER_LEN + user_key.len() as u64;
        let place =
            BlobPlace { file: self.number, offset, size: stored.len() as u64, codec: self.compression.to_byte() };
        self.size += (pending.len() - start) as u64;
        self.count += 1;
        if pending.len() >= PIECE_BYTES {
            self.file.append(pending)?;
            pending.clear();
        }
        Ok(place)
    }

    /// Bytes of the file so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Ends the file, and makes it durable but for its entry in the directory: the number of records, and their bytes.
    pub(crate) fn finish(self) -> Result<(u64, u64)> {
        let BlobFileBuilder { mut pending, .. } = self;
        let mut footer = Vec::with_capacity(FOOTER_LEN);
        put_u32(&mut footer, MAGIC);
        footer.extend_from_slice(&self.count.to_le_bytes());
        footer.extend_from_slice(&NO_EXPIRATION);
        let checksum = mask(crc32c_parts(&[&footer]));
        put_u32(&mut footer, checksum);
        pending.extend_from_slice(&footer);
        self.file.append(&pending)?;
        self.file.sync_data()?;
        Ok((self.count, self.size - HEADER_LEN as u64))
    }
}

impl BlobPlace {
    /// Appends the reference to the blob: the value of an entry.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        [self.file.0, self.offset, self.size].into_iter().for_each(|number| put_varint64(out, number));
        out.push(self.codec);
    }
}
