//! Codecs of blocks.
//!
//! The type is a byte in each block's trailer. From `format_version` 2 on, every codec but Snappy puts the decompressed
//! size in front as a varint; that size is checked against a limit before anything is allocated. zlib blocks are raw
//! deflate streams.
//!
//! A dictionary, which a table may have for its data blocks, is to zstd what its encoder was given (trained, or any bytes),
//! to LZ4 and zlib bytes in front of the block; Snappy and bzip2 ignore it. Source: RocksDB `util/compression.h`.

#![cfg_attr(
    not(any(feature = "snappy", feature = "zlib", feature = "lz4", feature = "zstd", feature = "bzip2")),
    allow(unreachable_code, unused_variables, dead_code, reason = "a build without any codec only refuses")
)]

use crate::error::{CorruptionKind, Error, ErrorKind, Result};

use super::coding::{Reader, put_varint32};
use super::limits::{BLOCK_BYTES_MAX, exceeded};

/// A codec of data and index blocks.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Blocks as they are. The default, as in RocksDB 11.
    #[default]
    None,
    /// Snappy: fast, about half the size.
    Snappy,
    /// Deflate.
    Zlib,
    /// bzip2: slow, a little denser than deflate.
    Bzip2,
    /// LZ4: fast, about half the size.
    Lz4,
    /// LZ4 with a slower, denser encoder; read by the same decoder.
    Lz4hc,
    /// Zstandard: slower, about a third of the size.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Compression; 7] = [
        Compression::None,
        Compression::Snappy,
        Compression::Zlib,
        Compression::Bzip2,
        Compression::Lz4,
        Compression::Lz4hc,
        Compression::Zstd,
    ];

    /// The byte in a block's trailer.
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Snappy => 1,
            Compression::Zlib => 2,
            Compression::Bzip2 => 3,
            Compression::Lz4 => 4,
            Compression::Lz4hc => 5,
            Compression::Zstd => 7,
        }
    }

    /// The codec of a trailer's byte; an error names codecs that this version does not know.
    pub(crate) fn from_byte(byte: u8) -> Result<Compression> {
        Ok(match byte {
            0 => Compression::None,
            1 => Compression::Snappy,
            2 => Compression::Zlib,
            3 => Compression::Bzip2,
            4 => Compression::Lz4,
            5 => Compression::Lz4hc,
            7 => Compression::Zstd,
            6 | 0x40 | 0x80.. => {
                return Err(Error::new(ErrorKind::NotSupported, format!("compression type {byte:#04x} is not known")));
            }
            _ => return Err(bad(CorruptionKind::BadMagic, format!("compression type {byte:#04x} does not exist"))),
        })
    }

    /// The name in the property `rocksdb.compression`.
    pub(crate) fn property(self) -> &'static str {
        match self {
            Compression::None => "NoCompression",
            Compression::Snappy => "Snappy",
            Compression::Zlib => "Zlib",
            Compression::Bzip2 => "BZip2",
            Compression::Lz4 => "LZ4",
            Compression::Lz4hc => "LZ4HC",
            Compression::Zstd => "ZSTD",
        }
    }

    /// True if this build reads all codecs that the property `rocksdb.compression` names: one, or from `format_version` 7
    /// on the bytes of several, in hex, between semicolons.
    pub(crate) fn are_readable(property: &str) -> bool {
        let all = [0, 1, 2, 3, 4, 5, 7].into_iter().filter_map(|byte| Compression::from_byte(byte).ok());
        let mut readable = all.filter(|codec| codec.is_writable());
        match property.split(';').nth(1) {
            None => readable.any(|codec| codec.property() == property),
            Some(bytes) => {
                let readable: Vec<String> = readable.map(|codec| format!("{:02X}", codec.to_byte())).collect();
                bytes.as_bytes().chunks(2).all(|byte| readable.iter().any(|known| known.as_bytes() == byte))
            }
        }
    }

    /// True if this build can write the codec.
    pub fn is_writable(self) -> bool {
        match self {
            Compression::None => true,
            Compression::Snappy => cfg!(feature = "snappy"),
            Compression::Zlib => cfg!(feature = "zlib"),
            Compression::Bzip2 => cfg!(feature = "bzip2"),
            Compression::Lz4 | Compression::Lz4hc => cfg!(feature = "lz4"),
            Compression::Zstd => cfg!(feature = "zstd"),
        }
    }
}

#[cold]
fn bad(kind: CorruptionKind, detail: impl Into<String>) -> Error {
    Error::corrupt(kind, detail)
}

#[cold]
fn missing(codec: Compression) -> Error {
    let name = codec.property();
    Error::new(ErrorKind::NotSupported, format!("{name} compression is not part of this build (cargo features)"))
}

/// What the data blocks of a table were compressed with besides their own bytes.
pub(crate) struct Dictionary {
    bytes: Vec<u8>,
    /// Its tables, if it is one that zstd can use.
    #[cfg(feature = "zstd")]
    zstd: Option<structured_zstd::decoding::DictionaryHandle>,
}

impl Dictionary {
    /// Understands the bytes of a dictionary, which may be any. Tables for zstd are made only if `for_zstd`.
    #[cfg_attr(not(feature = "zstd"), allow(unused_variables, reason = "only zstd has tables"))]
    pub(crate) fn new(bytes: Vec<u8>, for_zstd: bool) -> Dictionary {
        Dictionary {
            #[cfg(feature = "zstd")]
            zstd: for_zstd
                .then(|| structured_zstd::decoding::DictionaryHandle::from_serialized_or_raw_content(&bytes).ok())
                .flatten(),
            bytes,
        }
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        2 * self.bytes.len()
    }
}

/// The most bytes that `len` stored bytes of the codec `byte` can become; who claims more has a bomb or damage. The densest
/// but one is zstd, which stores 128 KiB of one byte in 4 bytes (RFC 8878, 3.1.1.2), and values of zeros are real: less
/// would refuse sound tables. bzip2 packs 45 MB of one byte into about as many bytes as its headers have.
pub(crate) fn decompressed_max(byte: u8, len: usize) -> usize {
    let ratio = match byte {
        3 => 1 << 20,
        _ => (128 << 10) / 4,
    };
    BLOCK_BYTES_MAX.min(len.saturating_mul(ratio).max(1 << 20))
}

/// Compresses `input` into `out` (emptied first); false if it did not shrink by at least an eighth, which means that the
/// block is better stored as it is.
pub(crate) fn compress(codec: Compression, input: &[u8], out: &mut Vec<u8>) -> Result<bool> {
    out.clear();
    let Ok(size) = u32::try_from(input.len()) else { return Ok(false) };
    if !matches!(codec, Compression::None | Compression::Snappy) {
        put_varint32(out, size);
    }
    match codec {
        Compression::None => return Ok(false),
        #[cfg(feature = "snappy")]
        Compression::Snappy => {
            out.resize(snap::raw::max_compress_len(input.len()), 0);
            let len = snap::raw::Encoder::new()
                .compress(input, out)
                .map_err(|error| Error::new(ErrorKind::Internal, format!("Snappy: {error}")))?;
            out.truncate(len);
        }
        #[cfg(feature = "lz4")]
        Compression::Lz4hc => super::lz4hc::compress(input, out),
        #[cfg(feature = "lz4")]
        Compression::Lz4 => {
            let at = out.len();
            out.resize(at + lz4_flex::block::get_maximum_output_size(input.len()), 0);
            let len = lz4_flex::block::compress_into(input, &mut out[at..])
                .map_err(|error| Error::new(ErrorKind::Internal, format!("LZ4: {error}")))?;
            out.truncate(at + len);
        }
        #[cfg(feature = "zlib")]
        Compression::Zlib => {
            use std::io::Write;
            let mut encoder = flate2::write::DeflateEncoder::new(std::mem::take(out), flate2::Compression::default());
            let written = encoder.write_all(input).and_then(|()| encoder.finish());
            *out = written.map_err(|error| Error::new(ErrorKind::Internal, format!("zlib: {error}")))?;
        }
        #[cfg(feature = "bzip2")]
        Compression::Bzip2 => {
            use std::io::Write;
            let mut encoder = bzip2::write::BzEncoder::new(std::mem::take(out), bzip2::Compression::fast());
            let written = encoder.write_all(input).and_then(|()| encoder.finish());
            *out = written.map_err(|error| Error::new(ErrorKind::Internal, format!("bzip2: {error}")))?;
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
            out.extend_from_slice(&compress_slice_to_vec(input, CompressionLevel::Fastest));
        }
        #[allow(unreachable_patterns, reason = "which codecs are left depends on the features")]
        other => return Err(missing(other)),
    }
    Ok(out.len() <= input.len() - input.len() / 8)
}

/// Decompresses a block of `format_version` 2 or later whose trailer has the type `byte`, and that was compressed with
/// `dictionary`, if with any.
///
/// # Errors
/// `Corruption` if the stream is damaged or its size exceeds `limit` bytes (checked before allocating); `NotSupported`
/// for codecs that this build does not have.
pub(crate) fn decompress(byte: u8, input: &[u8], limit: usize, dictionary: Option<&Dictionary>) -> Result<Vec<u8>> {
    let codec = Compression::from_byte(byte)?;
    match codec {
        Compression::None => Ok(input.to_vec()),
        #[cfg(feature = "snappy")]
        Compression::Snappy => {
            let damaged = |error: snap::Error| bad(CorruptionKind::Malformed, format!("Snappy block: {error}"));
            let size = checked_size(snap::raw::decompress_len(input).map_err(damaged)?, limit)?;
            let mut out = vec![0; size];
            let filled = snap::raw::Decoder::new().decompress(input, &mut out).map_err(damaged)?;
            exact(out, filled)
        }
        #[cfg(feature = "lz4")]
        Compression::Lz4 | Compression::Lz4hc => {
            let (size, rest) = sized(input, limit)?;
            let mut out = vec![0; size];
            let filled = match dictionary {
                None => lz4_flex::block::decompress_into(rest, &mut out),
                Some(dictionary) => {
                    // Matches reach back no further; the decoder looks at all of it.
                    let start = dictionary.bytes.len().saturating_sub(LZ4_WINDOW);
                    lz4_flex::block::decompress_into_with_dict(rest, &mut out, &dictionary.bytes[start..])
                }
            };
            let filled = filled.map_err(|error| bad(CorruptionKind::Malformed, format!("LZ4 block: {error}")))?;
            exact(out, filled)
        }
        #[cfg(feature = "zlib")]
        Compression::Zlib => {
            let (size, rest) = sized(input, limit)?;
            match dictionary {
                None => read_exactly(flate2::read::DeflateDecoder::new(rest), size, "zlib"),
                Some(dictionary) => inflate_with(&dictionary.bytes, rest, size),
            }
        }
        #[cfg(feature = "bzip2")]
        Compression::Bzip2 => {
            use std::io::Read;
            let (size, rest) = sized(input, limit)?;
            // Grows with what is there: next to nothing may claim to become very much.
            let mut out = Vec::with_capacity(size.min(rest.len().saturating_mul(64)));
            bzip2::read::BzDecoder::new(rest)
                .take(size as u64 + 1)
                .read_to_end(&mut out)
                .map_err(|error| bad(CorruptionKind::Malformed, format!("bzip2 block: {error}")))?;
            match out.len() == size {
                true => Ok(out),
                false => Err(bad(
                    CorruptionKind::CountMismatch,
                    format!("a bzip2 block that claims {size} bytes decompressed has others"),
                )),
            }
        }
        #[cfg(feature = "zstd")]
        Compression::Zstd => {
            let (size, rest) = sized(input, limit)?;
            let mut out = vec![0; size];
            let mut decoder = structured_zstd::decoding::FrameDecoder::new();
            let filled = match dictionary.map(|dictionary| &dictionary.zstd) {
                None => decoder.decode_all(rest, &mut out),
                Some(Some(handle)) => decoder.decode_all_with_dict_handle(rest, &mut out, handle),
                Some(None) => return Err(bad(CorruptionKind::Malformed, "a zstd block whose dictionary is none")),
            };
            let filled = filled.map_err(|error| bad(CorruptionKind::Malformed, format!("zstd block: {error}")))?;
            exact(out, filled)
        }
        #[allow(unreachable_patterns, reason = "which codecs are left depends on the features")]
        other => Err(missing(other)),
    }
}

/// Compresses `input` into one zstd frame (`out` is emptied first).
///
/// # Errors
/// `NotSupported` in a build without zstd.
pub(crate) fn compress_frame(input: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    #[cfg(feature = "zstd")]
    {
        use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
        out.extend_from_slice(&compress_slice_to_vec(input, CompressionLevel::Fastest));
        Ok(())
    }
    #[cfg(not(feature = "zstd"))]
    {
        let _ = input;
        Err(missing(Compression::Zstd))
    }
}

/// Decompresses the one zstd frame that `input` is into `out` (emptied first), which never gets much longer than `limit`.
///
/// # Errors
/// `Corruption` if it is none; `Limit` if it becomes longer; `NotSupported` in a build without zstd.
pub(crate) fn decompress_frame(input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    #[cfg(feature = "zstd")]
    {
        use structured_zstd::decoding::{BlockDecodingStrategy, ContentChecksum, FrameDecoder};
        let wrong = |why: String| bad(CorruptionKind::Malformed, format!("a zstd frame: {why}"));
        let mut rest = input;
        let mut decoder = FrameDecoder::new();
        decoder.set_content_checksum(ContentChecksum::Verify);
        decoder.init(&mut rest).map_err(|error| wrong(error.to_string()))?;
        loop {
            // What the frame claims to become is not believed: memory follows what it does become.
            let is_done = decoder
                .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(FRAME_STEP))
                .map_err(|error| wrong(error.to_string()))?;
            decoder.collect_to_writer(&mut *out).map_err(|error| wrong(error.to_string()))?;
            if out.len() > limit {
                return Err(exceeded("a decompressed record", out.len(), limit));
            }
            if is_done {
                break;
            }
        }
        let checked = decoder.verify_content_size().and_then(|()| decoder.verify_content_checksum());
        checked.map_err(|error| wrong(error.to_string()))?;
        match rest.len() {
            0 => Ok(()),
            more => Err(wrong(format!("{more} bytes behind its end"))),
        }
    }
    #[cfg(not(feature = "zstd"))]
    {
        let _ = (input, limit);
        Err(missing(Compression::Zstd))
    }
}

/// Bytes that a frame is decompressed by.
#[cfg(feature = "zstd")]
const FRAME_STEP: usize = 1 << 16;

fn checked_size(size: usize, limit: usize) -> Result<usize> {
    match size <= limit {
        true => Ok(size),
        // A limit below that is one of what the codec can do.
        false if limit >= BLOCK_BYTES_MAX => Err(exceeded("a decompressed block", size, BLOCK_BYTES_MAX)),
        false => Err(bad(
            CorruptionKind::BadLength,
            format!("a block that claims {size} bytes decompressed; at most {limit} are allowed"),
        )),
    }
}

fn sized(input: &[u8], limit: usize) -> Result<(usize, &[u8])> {
    let mut reader = Reader::new(input);
    let size = reader.varint32("decompressed size")? as usize;
    Ok((checked_size(size, limit)?, reader.rest()))
}

fn exact(out: Vec<u8>, filled: usize) -> Result<Vec<u8>> {
    match filled == out.len() {
        true => Ok(out),
        false => Err(bad(
            CorruptionKind::CountMismatch,
            format!("a block that claims {} bytes decompressed has {filled}", out.len()),
        )),
    }
}

/// How far back a match of LZ4 reaches.
#[cfg(feature = "lz4")]
const LZ4_WINDOW: usize = 64 << 10;

/// Inflates a raw deflate stream that was made with `dictionary` in front of it, to exactly `size` bytes.
#[cfg(feature = "zlib")]
fn inflate_with(dictionary: &[u8], input: &[u8], size: usize) -> Result<Vec<u8>> {
    let damaged = |error: flate2::DecompressError| bad(CorruptionKind::Malformed, format!("zlib block: {error}"));
    let mut inflate = flate2::Decompress::new(false);
    inflate.set_dictionary(dictionary).map_err(damaged)?;
    let mut out = vec![0; size];
    let status = inflate.decompress(input, &mut out, flate2::FlushDecompress::Finish).map_err(damaged)?;
    match status {
        flate2::Status::StreamEnd => exact(out, usize::try_from(inflate.total_out()).unwrap_or(usize::MAX)),
        _ => Err(bad(CorruptionKind::CountMismatch, format!("a zlib block that does not end with its {size} bytes"))),
    }
}

/// Reads a stream that must hold exactly `size` bytes.
#[cfg(feature = "zlib")]
fn read_exactly(mut stream: impl std::io::Read, size: usize, name: &str) -> Result<Vec<u8>> {
    let damaged = |error: std::io::Error| bad(CorruptionKind::Malformed, format!("{name} block: {error}"));
    let mut out = vec![0; size];
    stream.read_exact(&mut out).map_err(damaged)?;
    match stream.read(&mut [0]).map_err(damaged)? {
        0 => Ok(out),
        _ => {
            Err(bad(CorruptionKind::CountMismatch, format!("a {name} block has more than the {size} bytes it claims")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codecs_of_a_table_are_known_by_its_property() {
        let all = cfg!(all(feature = "snappy", feature = "zlib", feature = "lz4", feature = "zstd", feature = "bzip2"));
        for (property, is_readable) in [
            ("NoCompression", true),
            ("LZ4HC", all),
            ("ZSTD", all),
            ("BuiltinV2;;", true),
            ("BuiltinV2;0407;", all),
            ("BZip2", all),
            ("Xpress", false),
            ("", false),
            ("BuiltinV2;0307;", all),
            ("BuiltinV2;7;", false),
            ("BuiltinV2;FF;", false),
        ] {
            assert_eq!(Compression::are_readable(property), is_readable, "{property:?}");
        }
    }

    const CODECS: [Compression; 6] = [
        Compression::Snappy,
        Compression::Lz4,
        Compression::Lz4hc,
        Compression::Zlib,
        Compression::Zstd,
        Compression::Bzip2,
    ];

    fn text() -> Vec<u8> {
        (0..400).flat_map(|i| format!("key{i:06}=value{} ", i % 7).into_bytes()).collect()
    }

    #[test]
    fn every_codec_of_the_build_round_trips() {
        for codec in CODECS.into_iter().filter(|codec| codec.is_writable()) {
            let mut out = Vec::new();
            assert!(compress(codec, &text(), &mut out).expect("compresses"), "{codec:?}");
            assert_eq!(decompress(codec.to_byte(), &out, 1 << 20, None).expect("decompresses"), text(), "{codec:?}");
            assert_eq!(Compression::from_byte(codec.to_byte()).expect("known"), codec);
        }
    }

    #[test]
    fn a_block_that_hardly_shrinks_is_stored_as_it_is() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .take(4096)
        .collect();
        for codec in CODECS.into_iter().filter(|codec| codec.is_writable()) {
            assert!(!compress(codec, &noise, &mut Vec::new()).expect("compresses"), "{codec:?}");
        }
    }

    #[test]
    fn a_size_beyond_the_limit_is_refused_before_it_is_allocated() {
        for codec in CODECS.into_iter().filter(|codec| codec.is_writable()) {
            let mut out = Vec::new();
            compress(codec, &text(), &mut out).expect("compresses");
            let error = decompress(codec.to_byte(), &out, text().len() - 1, None).expect_err("too large");
            assert_eq!(error.kind(), ErrorKind::Corruption, "{codec:?}: {error}");
        }
        let claims_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
        for codec in CODECS {
            assert!(decompress(codec.to_byte(), &claims_4_gib, 64 << 20, None).is_err(), "{codec:?}");
        }
    }

    #[test]
    #[cfg(feature = "zstd")]
    fn a_frame_comes_back_within_its_limit_and_every_cut_of_it_is_an_error() {
        use structured_zstd::encoding::{CompressionLevel, compress_slice_to_vec};
        let mut out = Vec::new();
        for len in [0, 1, 100, 70_000, 400_000] {
            let plain: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8 & 0x1f).collect();
            let frame = compress_slice_to_vec(&plain, CompressionLevel::Level(3));
            decompress_frame(&frame, plain.len(), &mut out).expect("sound");
            assert!(out == plain, "{len}");
            for cut in (0..frame.len()).step_by(1 + frame.len() / 100) {
                let error = decompress_frame(&frame[..cut], plain.len(), &mut out).expect_err("cut");
                assert!(error.corruption().is_some(), "{error}");
            }
            let longer = [&frame[..], b"x"].concat();
            assert!(decompress_frame(&longer, plain.len(), &mut out).expect_err("longer").corruption().is_some());
        }
        // Little becomes very much: it is given up early.
        let bomb = compress_slice_to_vec(&vec![0; 64 << 20], CompressionLevel::Level(3));
        assert!(bomb.len() < 64 << 10);
        let error = decompress_frame(&bomb, 1 << 20, &mut out).expect_err("too much");
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(out.len() < 16 << 20, "{}", out.len());
    }

    #[test]
    fn damaged_streams_are_errors_or_other_bytes_but_never_panics() {
        for codec in CODECS.into_iter().filter(|codec| codec.is_writable()) {
            let mut out = Vec::new();
            compress(codec, &text(), &mut out).expect("compresses");
            for cut in (0..out.len()).step_by(13) {
                assert!(decompress(codec.to_byte(), &out[..cut], 1 << 20, None).is_err(), "{codec:?} cut at {cut}");
            }
            for position in 0..out.len() {
                let mut damaged = out.clone();
                damaged[position] ^= 0x55;
                if let Ok(bytes) = decompress(codec.to_byte(), &damaged, 1 << 20, None) {
                    assert!(bytes.len() <= 1 << 20);
                }
            }
        }
    }
}
