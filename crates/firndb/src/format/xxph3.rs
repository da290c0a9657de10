//! The two hashes of filters: XXPH3, a frozen preview of XXH3, and the older 32-bit one.
//!
//! XXPH3 differs from the released XXH3 at every length, so no XXH3 library will do: a filter probed with another hash
//! would hide keys. Source: RocksDB `util/xxph3.h` for the definition; the vectors below are its results.

/// The default secret, the same 192 bytes as the released XXH3's.
const SECRET: [u8; 192] = [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde, 0xd4, 0x6d,
    0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0,
    0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0,
    0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b,
    0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac,
    0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51,
    0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34,
    0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49,
    0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8,
    0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b,
    0x40, 0x7e,
];

const P32_1: u64 = 0x9E37_79B1;
const P32_2: u64 = 0x85EB_CA77;
const P32_3: u64 = 0xC2B2_AE3D;
const P64_1: u64 = 0x9E37_79B1_85EB_CA87;
const P64_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P64_3: u64 = 0x1656_67B1_9E37_79F9;
const P64_4: u64 = 0x85EB_CA77_C2B2_AE63;
const P64_5: u64 = 0x27D4_EB2F_1656_67C5;

/// Little-endian words; callers keep within bounds by the length classes of [`hash64`].
#[inline]
fn r64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[inline]
fn r32(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, |b| u64::from(u32::from_le_bytes(b)))
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn avalanche(mut h: u64) -> u64 {
    h ^= h >> 37;
    h = h.wrapping_mul(P64_3);
    h ^ (h >> 32)
}

#[inline]
fn mix(data: &[u8], at: usize, secret: usize) -> u64 {
    fold(r64(data, at) ^ r64(&SECRET, secret), r64(data, at + 8) ^ r64(&SECRET, secret + 8))
}

/// XXPH3 of `data` with seed 0: the key hash of FastLocalBloom and Ribbon filters.
pub(crate) fn hash64(data: &[u8]) -> u64 {
    let n = data.len();
    match n {
        0 => fold(r64(&SECRET, 0), P64_2),
        1..=3 => {
            let c = u64::from(data[0]) | u64::from(data[n >> 1]) << 8 | u64::from(data[n - 1]) << 16 | (n as u64) << 24;
            avalanche((c ^ r32(&SECRET, 0)).wrapping_mul(P64_1))
        }
        4..=8 => {
            let x = (r32(data, 0) | r32(data, n - 4) << 32) ^ r64(&SECRET, 0);
            let m = (n as u64).wrapping_add((x ^ (x >> 51)).wrapping_mul(P32_1));
            avalanche((m ^ (m >> 47)).wrapping_mul(P64_2))
        }
        9..=16 => {
            let lo = r64(data, 0) ^ r64(&SECRET, 0);
            let hi = r64(data, n - 8) ^ r64(&SECRET, 8);
            avalanche((n as u64).wrapping_add(lo).wrapping_add(hi).wrapping_add(fold(lo, hi)))
        }
        17..=128 => {
            let mut acc = (n as u64).wrapping_mul(P64_1);
            for i in 0..=(n - 1) / 32 {
                acc = acc.wrapping_add(mix(data, 16 * i, 32 * i));
                acc = acc.wrapping_add(mix(data, n - 16 * (i + 1), 32 * i + 16));
            }
            avalanche(acc)
        }
        129..=240 => {
            let mut acc = (n as u64).wrapping_mul(P64_1);
            for i in 0..8 {
                acc = acc.wrapping_add(mix(data, 16 * i, 16 * i));
            }
            acc = avalanche(acc);
            for i in 8..n / 16 {
                acc = acc.wrapping_add(mix(data, 16 * i, 16 * (i - 8) + 3));
            }
            avalanche(acc.wrapping_add(mix(data, n - 16, 119)))
        }
        _ => hash_long(data),
    }
}

#[inline]
fn stripe(acc: &mut [u64; 8], data: &[u8], at: usize, secret: usize) {
    for (i, lane) in acc.iter_mut().enumerate() {
        let v = r64(data, at + 8 * i);
        let k = v ^ r64(&SECRET, secret + 8 * i);
        *lane = lane.wrapping_add(v).wrapping_add((k & 0xFFFF_FFFF).wrapping_mul(k >> 32));
    }
}

fn hash_long(data: &[u8]) -> u64 {
    let n = data.len();
    let mut acc = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1];
    let blocks = n / 1024;
    for block in 0..blocks {
        for r in 0..16 {
            stripe(&mut acc, data, block * 1024 + 64 * r, 8 * r);
        }
        for (i, lane) in acc.iter_mut().enumerate() {
            *lane = ((*lane ^ (*lane >> 47)) ^ r64(&SECRET, 128 + 8 * i)).wrapping_mul(P32_1);
        }
    }
    for r in 0..(n - blocks * 1024) / 64 {
        stripe(&mut acc, data, blocks * 1024 + 64 * r, 8 * r);
    }
    if !n.is_multiple_of(64) {
        stripe(&mut acc, data, n - 64, 121);
    }
    let start = (n as u64).wrapping_mul(P64_1);
    avalanche((0..4).fold(start, |sum, i| {
        let a = acc[2 * i] ^ r64(&SECRET, 11 + 16 * i);
        let b = acc[2 * i + 1] ^ r64(&SECRET, 19 + 16 * i);
        sum.wrapping_add(fold(a, b))
    }))
}

/// The 32-bit hash of legacy Bloom filters and of the hash index of data blocks. Tail bytes are sign-extended.
pub(crate) fn hash32(data: &[u8], seed: u32) -> u32 {
    const M: u32 = 0xC6A4_A793;
    let mut h = seed ^ (data.len() as u32).wrapping_mul(M);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        h = h.wrapping_add(r32(word, 0) as u32).wrapping_mul(M);
        h ^= h >> 16;
    }
    let tail = words.remainder();
    for (index, &byte) in tail.iter().enumerate() {
        h = h.wrapping_add((byte as i8 as u32) << (8 * index));
    }
    if !tail.is_empty() {
        h = h.wrapping_mul(M);
        h ^= h >> 24;
    }
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_class_matches_the_original() {
        let sequence = |n: usize| (0..n).map(|i| (7 * i + 3) as u8).collect::<Vec<u8>>();
        let vectors: [(Vec<u8>, u64); 14] = [
            (Vec::new(), 0x5342c3010fe1dd04),
            (b"a".to_vec(), 0x88d868bf607681c7),
            (b"apple".to_vec(), 0x477599606c287630),
            (b"key00000001".to_vec(), 0xde1ac33a097ef07b),
            (b"0123456789abcdef".to_vec(), 0x402c83c1955d056d),
            (vec![b'x'; 100], 0x33d6819f258fcb22),
            (vec![b'x'; 200], 0x876dba1c237a0f34),
            (vec![b'x'; 300], 0x1858aee0c0412fd4),
            (sequence(17), 0x0b515520f462e96f),
            (sequence(129), 0x3992d120c8c4677a),
            (sequence(241), 0x91d10f0682af4ac3),
            (sequence(1024), 0x7d54b94e043675ba),
            (sequence(1025), 0x90acdaaaaca675b0),
            (sequence(2100), 0x77fd7e058740709f),
        ];
        for (data, expected) in vectors {
            assert_eq!(hash64(&data), expected, "{} bytes", data.len());
        }
    }

    #[test]
    fn the_legacy_hash_sign_extends_its_tail() {
        assert_eq!(hash32(b"apple", 0xBC9F_1D34), 0x7C7F_163B);
        assert_eq!(hash32(&[0xFF, 0xFE, 0xFD], 0xBC9F_1D34), 0x644D_6F00);
        assert_eq!(hash32(b"apple", 397), 0xF556_85DA);
    }
}
