//! Blob files: values that RocksDB keeps apart from their keys, and the references to them.
//!
//! | part | bytes |
//! |---|---|
//! | header, 30 | `u32 magic, u32 version 1, u32 family, u8 flags, u8 codec, u64, u64` expiration range |
//! | record, 32 and more | `u64 key length, u64 value length, u64 expiration, u32 crc` of these 24, `u32 crc` of key and value, key, value |
//! | footer, 32 | `u32 magic, u64 count, u64, u64` expiration range, `u32 crc` of the 28 before |
//!
//! A value is stored as the codec makes it, in the form that blocks have since format_version 2. Checksums are masked CRC-32C.
//! A reference is the value of an entry: `u8 type`, then 0: `v64 expiration`, the value itself; 1: `v64 file, v64 offset` of the
//! value, `v64 size` as stored, `u8 codec`; 2: `v64 expiration`, then as 1. When something expires is a matter of RocksDB's
//! older BlobDB, and is not looked at here.
//!
//! Flow: `version::new_blobs` -> [`builder`]; `version::blob_readers` (which file) -> **[`read`]**; `offline::verify` ->
//! **[`verify`]**. Nothing is trusted: lengths are
//! compared with the file before anything is allocated.
//!
//! Source: RocksDB `db/blob/blob_log_format.h`, `db/blob/blob_index.h`.

pub(crate) mod builder;

use std::path::Path;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::{crc32c_parts, mask};
use crate::format::coding::{Reader, u32_at, u64_at};
use crate::format::compression::{decompress, decompressed_max};
use crate::format::key::FileNumber;
use crate::fs::RandomAccessFile;

const MAGIC: u32 = 0x0024_8F37;
const HEADER_LEN: usize = 30;
const FOOTER_LEN: usize = 32;
/// Of a record, before its key.
pub(crate) const RECORD_HEADER_LEN: u64 = 32;
/// Bytes that [`verify`] reads at once.
const STEP: usize = 1 << 20;

/// Where a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobPlace {
    pub(crate) file: FileNumber,
    /// Of the value, from the start of the file.
    pub(crate) offset: u64,
    /// As it is stored.
    pub(crate) size: u64,
    codec: u8,
}

/// The value of an entry that is a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlobIndex<'a> {
    /// The value is here after all.
    Inlined(&'a [u8]),
    Blob(BlobPlace),
}

impl<'a> BlobIndex<'a> {
    /// # Errors
    /// `Corruption` for what is no reference; `NotSupported` for one into the table's own file.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<BlobIndex<'a>> {
        let mut reader = Reader::new(bytes);
        match reader.byte("blob reference type")? {
            0 => {
                reader.varint64("blob expiration")?;
                Ok(BlobIndex::Inlined(reader.rest()))
            }
            kind @ (1 | 2) => {
                if kind == 2 {
                    reader.varint64("blob expiration")?;
                }
                let place = BlobPlace {
                    file: FileNumber(reader.varint64("blob file number")?),
                    offset: reader.varint64("blob offset")?,
                    size: reader.varint64("blob size")?,
                    codec: reader.byte("blob codec")?,
                };
                if !reader.is_empty() {
                    return Err(Error::corrupt(CorruptionKind::BadLength, "bytes behind a blob reference"));
                }
                match place.file.0 {
                    0 => Err(Error::new(
                        ErrorKind::NotSupported,
                        "a blob in the table's own file, which this version cannot read",
                    )),
                    _ => Ok(BlobIndex::Blob(place)),
                }
            }
            other => {
                Err(Error::corrupt(CorruptionKind::BadMagic, format!("blob reference type {other} does not exist")))
            }
        }
    }
}

impl BlobPlace {
    /// The bytes of the record of a blob whose key has so many: what garbage is counted in.
    pub(crate) fn record_bytes(&self, key_len: usize) -> u64 {
        RECORD_HEADER_LEN.saturating_add(key_len as u64).saturating_add(self.size)
    }
}

/// The blob at `place` of `file`, which must be that of `user_key`.
///
/// # Errors
/// `Corruption` with file and offset; `NotSupported` for codecs that this build does not have.
pub(crate) fn read(
    file: &dyn RandomAccessFile,
    path: &Path,
    place: &BlobPlace,
    user_key: &[u8],
    verify_checksums: bool,
) -> Result<Vec<u8>> {
    let before = RECORD_HEADER_LEN + user_key.len() as u64;
    let start = place.offset.checked_sub(before).filter(|start| *start >= HEADER_LEN as u64);
    let end = place.offset.checked_add(place.size);
    let (Some(start), Some(end)) = (start, end) else {
        return Err(bad(
            path,
            place.offset,
            CorruptionKind::BadLength,
            "a blob reference to where none can be".to_owned(),
        ));
    };
    let size = file.size()?;
    if end > size {
        let what = format!("a blob up to {end}; the file has {size} bytes");
        return Err(bad(path, start, CorruptionKind::Truncated, what));
    }
    let mut record = vec![0; (end - start) as usize];
    if file.read_at(start, &mut record)? < record.len() {
        return Err(bad(path, start, CorruptionKind::Truncated, "a blob that the file ends within".to_owned()));
    }
    let (header, rest) = record.split_at(RECORD_HEADER_LEN as usize);
    let (key, stored) = rest.split_at(user_key.len());
    check_header(header, path, start)?;
    if lengths(header) != (key.len() as u64, stored.len() as u64) || key != user_key {
        let what = "the record of another key than refers to it".to_owned();
        return Err(bad(path, start, CorruptionKind::Misplaced, what));
    }
    if verify_checksums {
        check_content(header, &[key, stored], path, start)?;
    }
    if place.codec == 0 {
        record.drain(..before as usize);
        return Ok(record);
    }
    let limit = decompressed_max(place.codec, stored.len());
    decompress(place.codec, stored, limit, None).map_err(|error| error.in_file(path, Some(start)))
}

fn lengths(header: &[u8]) -> (u64, u64) {
    (u64_at(header, 0).unwrap_or(0), u64_at(header, 8).unwrap_or(0))
}

fn check_header(header: &[u8], path: &Path, offset: u64) -> Result<()> {
    let (stored, computed) = (u32_at(header, 24), mask(crc32c_parts(&[&header[..24]])));
    match stored == Some(computed) {
        true => Ok(()),
        false => {
            Err(bad(path, offset, CorruptionKind::Checksum, format!("blob header checksum: computed {computed:#010x}")))
        }
    }
}

fn check_content(header: &[u8], content: &[&[u8]], path: &Path, offset: u64) -> Result<()> {
    let (stored, computed) = (u32_at(header, 28), mask(crc32c_parts(content)));
    match stored == Some(computed) {
        true => Ok(()),
        false => Err(bad(path, offset, CorruptionKind::Checksum, format!("blob checksum: computed {computed:#010x}"))),
    }
}

/// Reads a blob file to its end: header, every record, footer, and the sums that MANIFEST states.
///
/// # Errors
/// `Corruption` with file and offset.
pub(crate) fn verify(file: &dyn RandomAccessFile, path: &Path, count: u64, bytes: u64) -> Result<()> {
    let size = file.size()?;
    let mut header = [0; HEADER_LEN];
    let is_whole = file.read_at(0, &mut header)? == HEADER_LEN && size >= (HEADER_LEN + FOOTER_LEN) as u64;
    if !is_whole || u32_at(&header, 0) != Some(MAGIC) || u32_at(&header, 4) != Some(1) {
        return Err(bad(
            path,
            0,
            CorruptionKind::BadMagic,
            "no header of a blob file, or one of another version".to_owned(),
        ));
    }
    let end = size - FOOTER_LEN as u64;
    let mut footer = [0; FOOTER_LEN];
    let is_footer = file.read_at(end, &mut footer)? == FOOTER_LEN
        && u32_at(&footer, 0) == Some(MAGIC)
        && u32_at(&footer, 28) == Some(mask(crc32c_parts(&[&footer[..28]])));
    if !is_footer {
        return Err(bad(path, end, CorruptionKind::Checksum, "no footer of a blob file".to_owned()));
    }
    let (mut at, mut found) = (HEADER_LEN as u64, 0_u64);
    let mut record = Vec::new();
    while at < end {
        let mut header = [0; RECORD_HEADER_LEN as usize];
        if at + RECORD_HEADER_LEN > end || file.read_at(at, &mut header)? < header.len() {
            return Err(bad(path, at, CorruptionKind::Truncated, "a blob record is cut off".to_owned()));
        }
        check_header(&header, path, at)?;
        let (key, value) = lengths(&header);
        let len = key.checked_add(value).filter(|len| *len <= end - at - RECORD_HEADER_LEN);
        let Some(len) = len else {
            return Err(bad(path, at, CorruptionKind::BadLength, "a blob record is longer than its file".to_owned()));
        };
        record.clear();
        while (record.len() as u64) < len {
            let from = record.len();
            record.resize(from + STEP.min((len - from as u64) as usize), 0);
            if file.read_at(at + RECORD_HEADER_LEN + from as u64, &mut record[from..])? < record.len() - from {
                return Err(bad(path, at, CorruptionKind::Truncated, "a blob record is cut off".to_owned()));
            }
        }
        check_content(&header, &[&record], path, at)?;
        at += RECORD_HEADER_LEN + len;
        found += 1;
    }
    let stated = u64_at(&footer, 4).unwrap_or(0);
    if (found, end - HEADER_LEN as u64) != (count, bytes) || found != stated {
        let what = format!(
            "{found} blobs of {} bytes; the footer says {stated}, MANIFEST {count} of {bytes}",
            end - HEADER_LEN as u64
        );
        return Err(bad(path, end, CorruptionKind::CountMismatch, what));
    }
    Ok(())
}

#[cold]
fn bad(path: &Path, offset: u64, kind: CorruptionKind, what: String) -> Error {
    Error::corrupt_at(kind, path, offset, what)
}

#[cfg(test)]
mod tests {
    use super::builder::BlobFileBuilder;
    use super::*;
    use crate::format::compression::Compression;
    use crate::format::key::ColumnFamilyId;
    use crate::fs::{CreateMode, Fs, MemoryFs};

    const PATH: &str = "/000007.blob";

    /// A file of these, and where each value is.
    fn written(blobs: &[(&[u8], &[u8])]) -> (Vec<u8>, Vec<BlobPlace>) {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&1_u32.to_le_bytes());
        bytes.resize(HEADER_LEN, 0);
        let mut places = Vec::new();
        for (key, value) in blobs {
            let mut header = (key.len() as u64).to_le_bytes().to_vec();
            header.extend_from_slice(&(value.len() as u64).to_le_bytes());
            header.resize(24, 0);
            header.extend_from_slice(&mask(crc32c_parts(&[&header])).to_le_bytes());
            header.extend_from_slice(&mask(crc32c_parts(&[key, value])).to_le_bytes());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(key);
            let (offset, size) = (bytes.len() as u64, value.len() as u64);
            places.push(BlobPlace { file: FileNumber(7), offset, size, codec: 0 });
            bytes.extend_from_slice(value);
        }
        let mut footer = MAGIC.to_le_bytes().to_vec();
        footer.extend_from_slice(&(blobs.len() as u64).to_le_bytes());
        footer.resize(28, 0);
        footer.extend_from_slice(&mask(crc32c_parts(&[&footer])).to_le_bytes());
        bytes.extend_from_slice(&footer);
        (bytes, places)
    }

    fn open(bytes: &[u8]) -> std::sync::Arc<dyn RandomAccessFile> {
        let fs = MemoryFs::default();
        fs.create(Path::new(PATH), CreateMode::New).expect("new").append(bytes).expect("memory");
        fs.open_random(Path::new(PATH)).expect("there")
    }

    #[test]
    fn the_builder_writes_what_is_read_and_verified() {
        let build = |codec: Compression, blobs: &[(&[u8], &[u8])]| {
            let fs = MemoryFs::default();
            let file = fs.create(Path::new(PATH), CreateMode::New).expect("new");
            let mut builder = BlobFileBuilder::new(file, FileNumber(7), ColumnFamilyId(0), codec).expect("memory");
            let places: Vec<_> = blobs.iter().map(|(key, value)| builder.add(key, value).expect("memory")).collect();
            let size = builder.size();
            let (count, bytes) = builder.finish().expect("memory");
            let file = fs.open_random(Path::new(PATH)).expect("there");
            assert_eq!(file.size().expect("memory"), size + FOOTER_LEN as u64);
            verify(&*file, Path::new(PATH), count, bytes).expect("sound");
            for ((key, value), place) in blobs.iter().zip(&places) {
                let mut reference = Vec::new();
                place.encode(&mut reference);
                assert_eq!(BlobIndex::parse(&reference).expect("sound"), BlobIndex::Blob(*place));
                assert_eq!(read(&*file, Path::new(PATH), place, key, true).expect("sound"), *value);
            }
            let mut whole = vec![0; file.size().expect("memory") as usize];
            file.read_at(0, &mut whole).expect("memory");
            (whole, places)
        };
        assert_eq!(build(Compression::None, &BLOBS), written(&BLOBS));
        let long = vec![b'x'; 200_000];
        for codec in [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd, Compression::Zlib] {
            if codec.is_writable() {
                build(codec, &[(b"a", &long), (b"b", b"short"), (b"c", b""), (b"d", &long)]);
            }
        }
    }

    const BLOBS: [(&[u8], &[u8]); 3] = [(b"a", b"value of a"), (b"key", b""), (b"", b"of the empty key")];

    #[test]
    fn blobs_come_back_for_their_own_keys_and_for_no_others() {
        let (bytes, places) = written(&BLOBS);
        let file = open(&bytes);
        for ((key, value), place) in BLOBS.iter().zip(&places) {
            assert_eq!(read(&*file, Path::new(PATH), place, key, true).expect("sound"), *value);
            let error = read(&*file, Path::new(PATH), place, b"b", true).expect_err("another key");
            assert!(error.corruption().is_some_and(|found| found.offset.is_some()), "{error}");
            for (offset, size) in [(0, 5), (u64::MAX, 9), (place.offset, u64::MAX), (place.offset, 1 << 40)] {
                let place = BlobPlace { offset, size, ..*place };
                assert!(read(&*file, Path::new(PATH), &place, key, true).expect_err("nowhere").corruption().is_some());
            }
        }
        let total = places.iter().zip(&BLOBS).map(|(place, (key, _))| place.record_bytes(key.len())).sum();
        verify(&*file, Path::new(PATH), 3, total).expect("sound");
        assert!(verify(&*file, Path::new(PATH), 2, total).expect_err("count").corruption().is_some());
    }

    #[test]
    fn every_flip_and_every_cut_is_found() {
        let (bytes, places) = written(&BLOBS);
        let total = (bytes.len() - HEADER_LEN - FOOTER_LEN) as u64;
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let file = open(&flipped);
            // Family, flags, codec and times of the header are nobody's to check.
            let is_free = (8..HEADER_LEN).contains(&at);
            assert_eq!(verify(&*file, Path::new(PATH), 3, total).is_ok(), is_free, "{at}");
            for ((key, value), place) in BLOBS.iter().zip(&places) {
                if let Ok(found) = read(&*file, Path::new(PATH), place, key, true) {
                    assert_eq!(found, *value, "{at}");
                }
            }
            assert!(verify(&*open(&bytes[..at]), Path::new(PATH), 3, total).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn references_are_read_in_all_forms_and_refused_in_no_form() {
        assert_eq!(BlobIndex::parse(b"\x00\x05value").expect("inlined"), BlobIndex::Inlined(b"value"));
        let place = BlobPlace { file: FileNumber(300), offset: 5, size: 6, codec: 7 };
        assert_eq!(BlobIndex::parse(b"\x01\xac\x02\x05\x06\x07").expect("sound"), BlobIndex::Blob(place));
        assert_eq!(BlobIndex::parse(b"\x02\x09\xac\x02\x05\x06\x07").expect("sound"), BlobIndex::Blob(place));
        for wrong in [&b""[..], b"\x03", b"\x01\x05\x05\x06", b"\x01\x05\x05\x06\x07\x08"] {
            assert!(BlobIndex::parse(wrong).expect_err("none").corruption().is_some(), "{wrong:?}");
        }
        assert_eq!(BlobIndex::parse(b"\x01\x00\x05\x06\x07").expect_err("own file").kind(), ErrorKind::NotSupported);
    }
}
