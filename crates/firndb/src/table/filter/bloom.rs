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

/// Gathers key hashes and builds a FastLocalBloom block.
#[derive(Debug)]
pub(crate) struct BloomBuilder {
    millibits_per_key: u64,
    hashes: Vec<u64>,
}

impl BloomBuilder {
    /// A builder for `bits_per_key` bits a key; 10 lets about 1 % of absent keys through.
    pub(crate) fn new(bits_per_key: f64) -> BloomBuilder {
        BloomBuilder { millibits_per_key: (bits_per_key * 1000.0) as u64, hashes: Vec::new() }
    }

    /// Adds a key by its hash; repeats of the last one count once.
    #[inline]
    pub(crate) fn add_hash(&mut self, hash: u64) {
        if self.hashes.last() != Some(&hash) {
            self.hashes.push(hash);
        }
    }

    /// The block, without its trailer; empty if no key was added.
    pub(crate) fn finish(self) -> Vec<u8> {
        if self.hashes.is_empty() {
            return Vec::new();
        }
        let bits = self.hashes.len() as u64 * self.millibits_per_key;
        let len = (bits.div_ceil(8000) as usize).next_multiple_of(LINE_LEN).max(LINE_LEN);
        let probes = probes_for(self.millibits_per_key);
        let mut out = vec![0u8; len + super::METADATA_LEN];
        for hash in &self.hashes {
            let start = line_start(*hash, len);
            for bit in probe_bits(*hash, probes) {
                out[start + (bit >> 3)] |= 1 << (bit & 7);
            }
        }
        out[len] = 0xFF;
        out[len + 2] = probes as u8;
        out
    }
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
