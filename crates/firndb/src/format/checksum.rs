//! Checksums of log records, blocks and footers, and the unique id of a table.
//!
//! Source: RocksDB `table/format.cc` (`ComputeBuiltinChecksum`), `util/crc32c.h` (masking), `table/unique_id.cc`.

use twox_hash::{XxHash3_64, XxHash3_128, XxHash32, XxHash64};

/// How blocks of a table are checked; the numbers are those of the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumType {
    None = 0,
    Crc32c = 1,
    XxHash32 = 2,
    XxHash64 = 3,
    Xxh3 = 4,
}

impl ChecksumType {
    pub(crate) fn from_byte(byte: u8) -> Option<ChecksumType> {
        Some(match byte {
            0 => ChecksumType::None,
            1 => ChecksumType::Crc32c,
            2 => ChecksumType::XxHash32,
            3 => ChecksumType::XxHash64,
            4 => ChecksumType::Xxh3,
            _ => return None,
        })
    }
}

/// CRC-32C of the parts, one after another.
pub(crate) fn crc32c_parts(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// XXH3 of `bytes`, other for every seed.
pub(crate) fn xxh3_seeded(seed: u64, bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, bytes)
}

/// Stored CRCs are masked, so that the CRC of bytes that hold CRCs is not degenerate.
pub(crate) fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The inverse of [`mask`].
pub(crate) fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xA282_EAD8).rotate_left(15)
}

/// The checksum in a block's trailer, over the payload and the compression byte behind it.
pub(crate) fn block_checksum(kind: ChecksumType, payload: &[u8], compression_byte: u8) -> u32 {
    match kind {
        ChecksumType::None => 0,
        ChecksumType::Crc32c => mask(crc32c_parts(&[payload, &[compression_byte]])),
        ChecksumType::XxHash32 => {
            use std::hash::Hasher;
            let mut hasher = XxHash32::with_seed(0);
            hasher.write(payload);
            hasher.write(&[compression_byte]);
            hasher.finish_32()
        }
        ChecksumType::XxHash64 => {
            use std::hash::Hasher;
            let mut hasher = XxHash64::with_seed(0);
            hasher.write(payload);
            hasher.write(&[compression_byte]);
            hasher.finish() as u32
        }
        ChecksumType::Xxh3 => {
            XxHash3_64::oneshot(payload) as u32 ^ u32::from(compression_byte).wrapping_mul(0x6B90_83D9)
        }
    }
}

/// What `format_version` 6 and later add to a checksum: it binds the block to its file and place. 0 if `base` is 0.
pub(crate) fn context_modifier(base: u32, offset: u64) -> u32 {
    match base {
        0 => 0,
        _ => base ^ (offset as u32).wrapping_add((offset >> 32) as u32),
    }
}

/// The 16-byte unique id of a table; `None` for a session id of a form that RocksDB does not write by default.
pub(crate) fn unique_id(db_id: &str, session_id: &str, file_number: u64) -> Option<[u8; 16]> {
    if !(13..=24).contains(&session_id.len()) || !session_id.is_ascii() {
        return None;
    }
    let (high, low) = session_id.split_at(session_id.len() - 12);
    let a = u64::from_str_radix(high, 36).ok()?;
    let b = u64::from_str_radix(low, 36).ok()?;
    let upper = a >> 2;
    let lower = (b & ((1 << 62) - 1)) | (a << 62);
    let hash = XxHash3_128::oneshot_with_seed(upper, db_id.as_bytes());
    let mut id = [0; 16];
    id[..8].copy_from_slice(&lower.to_le_bytes());
    id[8..].copy_from_slice(&((hash >> 64) as u64 ^ file_number).to_le_bytes());
    (lower != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_and_mask_match_their_vectors() {
        assert_eq!(crc32c_parts(&[b"123456789"]), 0xE306_9283);
        assert_eq!(crc32c_parts(&[b"1234", b"", b"56789"]), 0xE306_9283);
        assert_eq!(mask(0xE306_9283), 0xC78A_B0E5);
        assert_eq!(unmask(0xC78A_B0E5), 0xE306_9283);
    }

    #[test]
    fn block_checksums_match_their_vectors() {
        for (kind, expected) in [
            (ChecksumType::None, 0),
            (ChecksumType::Crc32c, 0x898E_4440),
            (ChecksumType::XxHash32, 0xA1FD_D613),
            (ChecksumType::XxHash64, 0x6D66_DBE3),
            (ChecksumType::Xxh3, 0x37F2_5F24),
        ] {
            assert_eq!(block_checksum(kind, b"hello", 1), expected, "{kind:?}");
            assert_eq!(ChecksumType::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(ChecksumType::from_byte(5), None);
    }

    #[test]
    fn the_context_modifier_folds_the_offset() {
        assert_eq!(context_modifier(0, 77), 0);
        assert_eq!(context_modifier(5, (3 << 32) | 4), 5 ^ 7);
    }

    #[test]
    fn a_session_id_of_another_form_gives_no_unique_id() {
        assert!(unique_id("db", "0123456789ABCDEFGHIJ", 9).is_some());
        assert_eq!(unique_id("db", "SHORT", 9), None);
        assert_ne!(unique_id("db", "0123456789ABCDEFGHIJ", 9), unique_id("db", "0123456789ABCDEFGHIJ", 10));
    }
}
