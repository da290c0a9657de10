//! Where things are in a table file: block handles, block trailers, the footer, the names of the metaindex.
//!
//! Source: RocksDB `table/format.h`; docs "Rocksdb BlockBasedTable Format".

use std::path::Path;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::{ChecksumType, block_checksum, context_modifier};
use crate::format::coding::{Reader, put_varint64, u32_at, u64_at};
use crate::format::compression::{Dictionary, decompress, decompressed_max};
use crate::format::limits::{BLOCK_BYTES_MAX, exceeded};
use crate::fs::RandomAccessFile;

/// Compression type byte and checksum after every block.
pub(crate) const TRAILER_LEN: usize = 5;

pub(crate) const MAGIC: u64 = 0x88E2_41B7_85F4_CFF7;
const LEGACY_MAGIC: u64 = 0xDB47_7524_8B80_FB57;
const OTHER_MAGICS: [(u64, &str); 3] = [
    (0x8242_2296_63BF_9564, "a plain table"),
    (0x4F34_18EB_7A8F_13B8, "a plain table"),
    (0x9267_89D0_C5F1_7873, "a cuckoo table"),
];
const FOOTER_LEN: usize = 53;
const LEGACY_FOOTER_LEN: usize = 48;
const EXTENDED_MAGIC: [u8; 4] = [0x3E, 0x00, 0x7A, 0x00];

pub(crate) mod meta {
    pub(crate) const PROPERTIES: &str = "rocksdb.properties";
    pub(crate) const INDEX: &str = "rocksdb.index";
    pub(crate) const FULL_FILTER: &str = "fullfilter.rocksdb.BuiltinBloomFilter";
    pub(crate) const FILTER_PARTS: &str = "partitionedfilter.rocksdb.BuiltinBloomFilter";
    pub(crate) const COMPRESSION_DICTIONARY: &str = "rocksdb.compression_dict";
    pub(crate) const RANGE_DELETIONS: &str = "rocksdb.range_del";
}

// The last four bytes of a block of entries are these bits and the number of its restart points.
pub(crate) const HASH_INDEX_BIT: u32 = 1 << 31;
pub(crate) const RESERVED_BIT: u32 = 1 << 30;
pub(crate) const UNIFORM_BIT: u32 = 1 << 29;
pub(crate) const SEPARATED_BIT: u32 = 1 << 28;
pub(crate) const COUNT_MASK: u32 = (1 << 28) - 1;

/// Where a block is; its trailer follows `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BlockHandle {
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl BlockHandle {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        put_varint64(out, self.offset);
        put_varint64(out, self.size);
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<BlockHandle> {
        Ok(BlockHandle { offset: r.varint64("block offset")?, size: r.varint64("block size")? })
    }
}

/// The stored length of a block of `size` bytes, trailer included.
pub(crate) fn stored_bytes(size: u64) -> u64 {
    size + TRAILER_LEN as u64
}

/// Names the file and the offset of damage, and of what is not supported.
#[cold]
pub(crate) fn located(error: Error, path: &Path, offset: u64) -> Error {
    match error.kind() {
        kind @ (ErrorKind::NotSupported | ErrorKind::Limit) => {
            error.because(kind, format!("file {}, offset {offset}", path.display()))
        }
        _ => error.in_file(path, Some(offset)),
    }
}

/// The end of a table file, from which everything else is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) format_version: u32,
    pub(crate) checksum: ChecksumType,
    pub(crate) metaindex: BlockHandle,
    /// `None` from format version 6 on: it is in the metaindex.
    pub(crate) index: Option<BlockHandle>,
    /// Mixed into every block's checksum; 0 below format version 6.
    pub(crate) base_context: u32,
    /// Where the footer starts.
    pub(crate) offset: u64,
}

/// A version above this is a damaged footer rather than a RocksDB to come.
const PLAUSIBLE_VERSION_MAX: u32 = 32;

impl Footer {
    /// The bytes of the footer, for format versions 1 to 7. From 6 on, the metaindex must be the last block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN);
        out.push(self.checksum as u8);
        if self.format_version < 6 {
            self.metaindex.encode(&mut out);
            self.index.unwrap_or_default().encode(&mut out);
        } else {
            out.extend_from_slice(&EXTENDED_MAGIC);
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&self.base_context.to_le_bytes());
            // The metaindex is smaller than that: it has a few names.
            out.extend_from_slice(&(self.metaindex.size as u32).to_le_bytes());
        }
        out.resize(FOOTER_LEN - 12, 0);
        out.extend_from_slice(&self.format_version.to_le_bytes());
        out.extend_from_slice(&MAGIC.to_le_bytes());
        if self.format_version >= 6 {
            let computed = extended_checksum(&out, self.checksum, self.base_context, self.offset);
            out[5..9].copy_from_slice(&computed.to_le_bytes());
        }
        out
    }

    /// Reads and checks the footer of a file of `size` bytes.
    pub(crate) fn read(file: &dyn RandomAccessFile, path: &Path, size: u64) -> Result<Footer> {
        let bad = |kind, what: String| Error::corrupt_at(kind, path, size.saturating_sub(FOOTER_LEN as u64), what);
        if size < LEGACY_FOOTER_LEN as u64 {
            return Err(bad(CorruptionKind::Truncated, format!("{size} bytes are too few for a table file")));
        }
        let len = (FOOTER_LEN as u64).min(size) as usize;
        let mut bytes = vec![0; len];
        if file.read_at(size - len as u64, &mut bytes)? != len {
            return Err(bad(CorruptionKind::Truncated, "the file is shorter than its size says".to_owned()));
        }
        let magic = u64_at(&bytes, len - 8).unwrap_or(0);
        if let Some((_, name)) = OTHER_MAGICS.iter().find(|(other, _)| *other == magic) {
            return Err(Error::new(
                ErrorKind::NotSupported,
                format!("{} is {name}; only block-based tables are read", path.display()),
            ));
        }
        if magic == LEGACY_MAGIC {
            let mut r = Reader::new(&bytes[len - LEGACY_FOOTER_LEN..]);
            let handles = BlockHandle::decode(&mut r).and_then(|meta| Ok((meta, BlockHandle::decode(&mut r)?)));
            let (metaindex, index) = handles.map_err(|error| error.in_file(path, Some(size - len as u64)))?;
            return Ok(Footer {
                format_version: 0,
                checksum: ChecksumType::Crc32c,
                metaindex,
                index: Some(index),
                base_context: 0,
                offset: size - LEGACY_FOOTER_LEN as u64,
            });
        }
        if magic != MAGIC || len < FOOTER_LEN {
            return Err(bad(CorruptionKind::BadMagic, format!("table magic {magic:#018x}; {MAGIC:#018x} is expected")));
        }
        let version = u32_at(&bytes, 41).unwrap_or(0);
        let checksum = ChecksumType::from_byte(bytes[0])
            .ok_or_else(|| bad(CorruptionKind::Malformed, format!("checksum type {} does not exist", bytes[0])))?;
        let offset = size - FOOTER_LEN as u64;
        match version {
            1..=5 => {
                let mut r = Reader::new(&bytes[1..41]);
                let handles = BlockHandle::decode(&mut r).and_then(|meta| Ok((meta, BlockHandle::decode(&mut r)?)));
                let (metaindex, index) = handles.map_err(|error| error.in_file(path, Some(offset)))?;
                Ok(Footer { format_version: version, checksum, metaindex, index: Some(index), base_context: 0, offset })
            }
            6 | 7 => {
                Footer::extended(&bytes, version, checksum, offset).map_err(|error| error.in_file(path, Some(offset)))
            }
            8..=PLAUSIBLE_VERSION_MAX => Err(Error::new(
                ErrorKind::NotSupported,
                format!("{}: format_version {version}; 0 to 7 are known", path.display()),
            )),
            _ => Err(bad(CorruptionKind::Malformed, format!("format_version {version}; 0 to 7 are known"))),
        }
    }

    /// Checks the bytes of a footer that has no checksum: they are what would be written today, the padding included.
    pub(crate) fn check_padding(&self, file: &dyn RandomAccessFile, path: &Path) -> Result<()> {
        if !(1..=5).contains(&self.format_version) {
            return Ok(());
        }
        let mut bytes = vec![0; FOOTER_LEN];
        file.read_at(self.offset, &mut bytes)?;
        match bytes == self.encode() {
            true => Ok(()),
            false => Err(Error::corrupt_at(
                CorruptionKind::Malformed,
                path,
                self.offset,
                "the footer is not written as its content would be",
            )),
        }
    }

    fn extended(bytes: &[u8], version: u32, checksum: ChecksumType, offset: u64) -> Result<Footer> {
        if bytes[1..5] != EXTENDED_MAGIC {
            return Err(Error::corrupt(CorruptionKind::BadMagic, "the footer's extended magic is wrong"));
        }
        let (stored, base) = (u32_at(bytes, 5).unwrap_or(0), u32_at(bytes, 9).unwrap_or(0));
        let size = u64::from(u32_at(bytes, 13).unwrap_or(0));
        let computed = extended_checksum(bytes, checksum, base, offset);
        if checksum != ChecksumType::None && stored != computed {
            return Err(Error::corrupt(
                CorruptionKind::Checksum,
                format!("footer checksum {stored:#010x}; {computed:#010x} was computed"),
            ));
        }
        if bytes[33..41].iter().any(|byte| *byte != 0) {
            return Err(Error::new(
                ErrorKind::NotSupported,
                "the footer names a feature that this version does not know",
            ));
        }
        let start = offset
            .checked_sub(TRAILER_LEN as u64 + size)
            .ok_or_else(|| Error::corrupt(CorruptionKind::BadLength, "the metaindex starts before the file"))?;
        Ok(Footer {
            format_version: version,
            checksum,
            metaindex: BlockHandle { offset: start, size },
            index: None,
            base_context: base,
            offset,
        })
    }

    /// The number of bytes of a block and its trailer, if the handle lies within the file.
    pub(crate) fn stored_len(&self, handle: BlockHandle) -> Result<usize> {
        let end = handle.offset.checked_add(handle.size).and_then(|end| end.checked_add(TRAILER_LEN as u64));
        match end {
            Some(end) if end <= self.offset && handle.size <= BLOCK_BYTES_MAX as u64 => {
                Ok(handle.size as usize + TRAILER_LEN)
            }
            // Nothing is wrong with it, but that it would have to be held in memory whole.
            Some(end) if end <= self.offset => Err(exceeded("a block", handle.size as usize, BLOCK_BYTES_MAX)),
            _ => Err(Error::corrupt(
                CorruptionKind::BadLength,
                format!(
                    "a block of {} bytes at {} does not fit into the {} bytes before the footer",
                    handle.size, handle.offset, self.offset
                ),
            )),
        }
    }

    /// Checks the checksum of a stored block: payload and trailer.
    #[inline]
    pub(crate) fn check(&self, stored: &[u8], offset: u64) -> Result<()> {
        let Some((payload, trailer)) = stored.split_last_chunk::<TRAILER_LEN>() else {
            return Err(Error::corrupt(CorruptionKind::Truncated, "a block without its trailer"));
        };
        let [kind, checksum @ ..] = *trailer;
        if self.checksum == ChecksumType::None {
            return Ok(());
        }
        let modifier = context_modifier(self.base_context, offset);
        let computed = block_checksum(self.checksum, payload, kind).wrapping_add(modifier);
        let found = u32::from_le_bytes(checksum);
        match found == computed {
            true => Ok(()),
            false => Err(Error::corrupt(
                CorruptionKind::Checksum,
                format!("block checksum {found:#010x}; {computed:#010x} was computed over {} bytes", payload.len()),
            )),
        }
    }

    /// The content of a stored block (payload and trailer), decompressed; data blocks with the table's dictionary.
    pub(crate) fn content(&self, mut stored: Vec<u8>, dictionary: Option<&Dictionary>) -> Result<Vec<u8>> {
        let Some(payload_len) = stored.len().checked_sub(TRAILER_LEN) else {
            return Err(Error::corrupt(CorruptionKind::Truncated, "a block without its trailer"));
        };
        let kind = stored[payload_len];
        stored.truncate(payload_len);
        if kind == 0 {
            return Ok(stored);
        }
        if self.format_version < 2 {
            return Err(Error::new(ErrorKind::NotSupported, "compressed blocks of format_version 0 and 1"));
        }
        decompress(kind, &stored, decompressed_max(kind, stored.len()), dictionary)
    }

    /// Reads, checks and decompresses a block; errors name file and offset.
    pub(crate) fn read_block(
        &self,
        file: &dyn RandomAccessFile,
        path: &Path,
        handle: BlockHandle,
        verify: bool,
    ) -> Result<Vec<u8>> {
        let stored = self.read_stored(file, path, handle)?;
        let checked = if verify { self.check(&stored, handle.offset) } else { Ok(()) };
        checked.and_then(|()| self.content(stored, None)).map_err(|error| located(error, path, handle.offset))
    }

    /// Reads a block and its trailer as they are stored.
    pub(crate) fn read_stored(&self, file: &dyn RandomAccessFile, path: &Path, handle: BlockHandle) -> Result<Vec<u8>> {
        let len = self.stored_len(handle).map_err(|error| error.in_file(path, Some(handle.offset)))?;
        let mut stored = vec![0; len];
        let filled = file.read_at(handle.offset, &mut stored)?;
        match filled == len {
            true => Ok(stored),
            false => Err(Error::corrupt_at(
                CorruptionKind::Truncated,
                path,
                handle.offset,
                format!("{filled} bytes of a block of {len}: the file is shorter than its size says"),
            )),
        }
    }
}

/// The checksum of a footer that has one, which lies at `offset`.
fn extended_checksum(footer: &[u8], checksum: ChecksumType, base: u32, offset: u64) -> u32 {
    let mut zeroed = footer.to_vec();
    zeroed[5..9].fill(0);
    let (last, body) = zeroed.split_last().map_or((0, &[][..]), |(last, body)| (*last, body));
    block_checksum(checksum, body, last).wrapping_add(context_modifier(base, offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{CreateMode, Fs, MemoryFs};

    #[test]
    fn a_footer_comes_back_and_every_cut_or_flip_is_refused_or_harmless() {
        let fs = MemoryFs::new();
        let path = Path::new("/t.sst");
        let (meta, index) = (BlockHandle { offset: 300, size: 40 }, BlockHandle { offset: 200, size: 95 });
        let footer = Footer {
            format_version: 5,
            checksum: ChecksumType::Xxh3,
            metaindex: meta,
            index: Some(index),
            base_context: 0,
            offset: 400,
        };
        let footer = footer.encode();
        let mut bytes = vec![7u8; 400];
        bytes.extend_from_slice(&footer);
        let read = |bytes: &[u8]| {
            let file = fs.create(path, CreateMode::Truncate).expect("memory");
            file.append(bytes).expect("memory");
            Footer::read(&*fs.open_random(path).expect("there"), path, bytes.len() as u64)
        };
        let found = read(&bytes).expect("whole");
        assert_eq!((found.format_version, found.metaindex, found.index), (5, meta, Some(index)));
        assert!(found.stored_len(BlockHandle { offset: 390, size: 6 }).is_err());
        assert!(found.stored_len(BlockHandle { offset: u64::MAX, size: 6 }).is_err());
        for cut in 1..60 {
            assert!(read(&bytes[..bytes.len() - cut]).is_err());
        }
        for at in 400 + 41..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert!(read(&flipped).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_block_that_is_sound_and_larger_than_memory_should_hold_is_beyond_a_limit() {
        let footer = Footer {
            format_version: 5,
            checksum: ChecksumType::Crc32c,
            metaindex: BlockHandle::default(),
            index: None,
            base_context: 0,
            offset: 3 << 30,
        };
        let kind = |offset, size| footer.stored_len(BlockHandle { offset, size }).map_err(|error| error.kind());
        assert_eq!(kind(0, 1 << 30), Ok((1 << 30) + TRAILER_LEN));
        assert_eq!(kind(0, 13 << 27), Err(ErrorKind::Limit), "1.6 GiB");
        assert_eq!(kind(0, 3 << 30), Err(ErrorKind::Corruption), "no room for the trailer");
        assert_eq!(kind(u64::MAX, 1), Err(ErrorKind::Corruption));
    }
}
