//! FastLocalBloom, which touches one cache line a key, and the legacy Bloom filter that it replaced.

/// Bytes of a cache line of FastLocalBloom.
pub(super) const LINE_LEN: usize = 64;

const GOLDEN: u32 = 0x9E37_79B9;

/// Bits that a key sets within its line.
#[inline]
fn probe_bits(hash: u64, probes: u32) -> impl Iterator<Item = usize> {
    let mut h = (hash >> 32) as u32;
    (0..probes).map(move |_| {
        let bit = (h >> 23) as usize;
        h = h.wrapping_mul(GOLDEN);
        bit
    })
}

/// Where the line of `hash` starts among `len` bytes.
#[inline]
fn line_start(hash: u64, len: usize) -> usize {
    let lines = (len / LINE_LEN) as u64;
    (((hash & 0xFFFF_FFFF) * lines) >> 32) as usize * LINE_LEN
}

#[inline]
pub(super) fn fast_local_may_contain(bytes: &[u8], probes: u32, hash: u64) -> bool {
    let start = line_start(hash, bytes.len());
    let Some(line) = bytes.get(start..start + LINE_LEN) else { return true };
    probe_bits(hash, probes).all(|bit| line[bit >> 3] & (1 << (bit & 7)) != 0)
}

pub(super) fn legacy_may_contain(bytes: &[u8], probes: u32, lines: u32, line_bytes: usize, hash: u32) -> bool {
    let start = (hash % lines) as usize * line_bytes;
    let Some(line) = bytes.get(start..start + line_bytes) else { return true };
    let bit_mask = (line_bytes * 8 - 1) as u32;
    let delta = hash.rotate_right(17);
    let mut h = hash;
    (0..probes).all(|_| {
        let bit = (h & bit_mask) as usize;
        h = h.wrapping_add(delta);
        line[bit >> 3] & (1 << (bit & 7)) != 0
    })
}

/// How large a filter is, and how many bits a key sets in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) len: usize,
    probes: u32,
}

/// The shape for `keys` keys of `bits_per_key` bits each; 10 bits let about 1 % of absent keys through.
pub(super) fn shape(keys: usize, bits_per_key: f64) -> Shape {
    let millibits = (bits_per_key * 1000.0) as u64;
    let len = (keys as u64 * millibits).div_ceil(8000) as usize;
    Shape { len: len.next_multiple_of(LINE_LEN).max(LINE_LEN), probes: probes_for(millibits) }
}

/// The chance that an absent key passes a filter of so many bits a key. Source: RocksDB `util/bloom_impl.h`.
pub(super) fn false_positives(bits_per_key: f64) -> f64 {
    let probes = f64::from(probes_for((bits_per_key * 1000.0) as u64));
    let standard = |bits: f64| (1.0 - (-probes / bits).exp()).powf(probes);
    // Some lines have more keys than others.
    let line_bits = LINE_LEN as f64 * 8.0;
    let keys = line_bits / bits_per_key;
    let deviation = keys.sqrt();
    (standard(line_bits / (keys + deviation)) + standard(line_bits / (keys - deviation).max(1.0))) / 2.0
}

/// The block of the keys with these hashes, without its trailer; empty if there are none.
pub(super) fn build(hashes: &[u64], shape: Shape) -> Vec<u8> {
    if hashes.is_empty() {
        return Vec::new();
    }
    let mut out = vec![0u8; shape.len + super::METADATA_LEN];
    for hash in hashes {
        let start = line_start(*hash, shape.len);
        for bit in probe_bits(*hash, shape.probes) {
            out[start + (bit >> 3)] |= 1 << (bit & 7);
        }
    }
    out[shape.len] = 0xFF;
    out[shape.len + 2] = shape.probes as u8;
    out
}

/// The number of probes that gives the fewest false positives in lines of 512 bits.
fn probes_for(millibits_per_key: u64) -> u32 {
    const UP_TO: [u64; 12] = [2080, 3580, 5100, 6640, 8300, 10_070, 11_720, 14_001, 16_050, 18_300, 22_001, 25_501];
    match UP_TO.iter().position(|most| millibits_per_key <= *most) {
        Some(index) => index as u32 + 1,
        None if millibits_per_key <= 50_000 => ((millibits_per_key - 1) / 2000 - 1) as u32,
        None => 24,
    }
}
