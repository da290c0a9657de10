//! Standard128 Ribbon filters: an absent key fails the linear equations that every added key satisfies.
//!
//! A key has 128 coefficients from a start on, and an expected result of some bits. Making a filter solves these equations
//! by Gaussian elimination: each row lies in a band of 128 columns, so that adding one costs a few xors. If there is no
//! solution, another seed has other equations.
//!
//! Source: Dillinger and Walzer, "Ribbon filter: practically smaller than Bloom and Xor" (2021), section 2 and 4; RocksDB
//! `util/ribbon_config.h`, `util/ribbon_alg.h` for hashes and layout.

use super::METADATA_LEN;

/// The shape of a Ribbon block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ribbon {
    raw_seed: u32,
    blocks: u64,
    /// Columns of the blocks from `upper` on; those before have one fewer.
    columns: u64,
    upper: u64,
}

impl Ribbon {
    /// `None` for a shape that no writer makes.
    pub(super) fn new(seed: u8, blocks: u32, len: usize) -> Option<Ribbon> {
        let (blocks, segments) = (u64::from(blocks), len as u64 / 16);
        if blocks < 2 || segments == 0 {
            return None;
        }
        let columns = segments.div_ceil(blocks);
        if columns > 32 {
            return None;
        }
        let mut t = u64::from(seed).wrapping_mul(0xC782_19A2_3EEA_DD03);
        t ^= (t & 0xF0F0_F0F0_F0F0_F0F0) >> 4;
        Some(Ribbon { raw_seed: t as u32, blocks, columns, upper: columns * blocks - segments })
    }

    /// The equation of a key: where its coefficients start, what they are, and the result.
    #[inline]
    fn equation(&self, hash: u64) -> (u64, u128, u32) {
        let g = (hash ^ u64::from(self.raw_seed)).wrapping_mul(0x6193_D459_236A_3A0D);
        let starts = 128 * self.blocks - 127;
        let start = ((u128::from(g) * u128::from(starts)) >> 64) as u64;
        let a = g.wrapping_mul(0xC28F_8282_2B65_0BED);
        let row = (u128::from(a) << 64) | u128::from(a ^ 0xC367_844A_6E52_731D) | 1;
        (start, row, a.swap_bytes() as u32)
    }

    /// The first segment of a block of 128 slots, and how many it has: one for each bit of a result.
    #[inline]
    fn segments(&self, block: u64) -> (u64, u64) {
        (block * self.columns - block.min(self.upper), self.columns - u64::from(block < self.upper))
    }

    pub(super) fn may_contain(&self, bytes: &[u8], hash: u64) -> bool {
        let (start, row, expected) = self.equation(hash);
        let (block, shift) = (start / 128, start % 128);
        let (first, columns) = self.segments(block);
        (0..columns).all(|column| {
            let mut sum = segment(bytes, first + column) & (row << shift);
            if shift != 0 {
                sum ^= segment(bytes, first + columns + column) & (row >> (128 - shift));
            }
            u64::from(sum.count_ones() & 1) == u64::from(expected >> column & 1)
        })
    }
}

fn segment(bytes: &[u8], index: u64) -> u128 {
    let at = index as usize * 16;
    bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).map_or(0, u128::from_le_bytes)
}

/// Tries with other seeds before a filter is made larger.
const SEEDS: u8 = 8;
/// The number of blocks is stored in three bytes.
const BLOCKS_MAX: usize = (1 << 24) - 1;

/// The block of the keys with these hashes, with as few false positives as a Bloom filter of `bits_per_key` has; `None` if
/// it would not be shorter than `shorter_than`, or could not be made.
pub(super) fn build(hashes: &[u64], bits_per_key: f64, shorter_than: usize) -> Option<Vec<u8>> {
    let bits = (-super::bloom::false_positives(bits_per_key).log2()).clamp(1.0, 32.0);
    // The band fills up slowly: more slots than keys are needed for a solution, and more so the more keys there are.
    let mut slots = hashes.len() as f64 * (1.02 + 0.002 * (hashes.len().max(2) as f64).log2());
    for _ in 0..4 {
        let blocks = ((slots / 128.0).ceil() as usize + 1).max(2);
        let len = ((blocks as f64 * bits).ceil() as usize).max(blocks) * 16;
        if len >= shorter_than || blocks > BLOCKS_MAX || hashes.is_empty() {
            return None;
        }
        for seed in 0..SEEDS {
            let shape = Ribbon::new(seed, blocks as u32, len)?;
            if let Some(band) = Band::of(hashes, &shape) {
                let mut out = band.solve(&shape, len);
                let [a, b, c, _] = (blocks as u32).to_le_bytes();
                out.extend_from_slice(&[0xFE, seed, a, b, c]);
                debug_assert_eq!(out.len(), len + METADATA_LEN);
                return Some(out);
            }
        }
        slots *= 1.03;
    }
    None
}

/// Equations in echelon form: the one at a slot has its first coefficient there, or there is none.
struct Band {
    rows: Vec<u128>,
    results: Vec<u32>,
}

impl Band {
    /// `None` if the equations contradict each other.
    fn of(hashes: &[u64], shape: &Ribbon) -> Option<Band> {
        let slots = 128 * shape.blocks as usize;
        let mut band = Band { rows: vec![0; slots], results: vec![0; slots] };
        // Bits that no block has do not have to be right.
        let mask = if shape.columns == 32 { u32::MAX } else { (1 << shape.columns) - 1 };
        for hash in hashes {
            let (start, mut row, expected) = shape.equation(*hash);
            let (mut at, mut result) = (start as usize, expected & mask);
            loop {
                if band.rows[at] == 0 {
                    (band.rows[at], band.results[at]) = (row, result);
                    break;
                }
                row ^= band.rows[at];
                result ^= band.results[at];
                if row == 0 {
                    // It follows from the others, or it contradicts them.
                    if result != 0 {
                        return None;
                    }
                    break;
                }
                let shift = row.trailing_zeros();
                row >>= shift;
                at += shift as usize;
            }
        }
        Some(band)
    }

    /// The solution, from the last slot to the first, as `len` bytes of segments.
    fn solve(&self, shape: &Ribbon, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let mut windows = [0u128; 32];
        for at in (0..self.rows.len()).rev() {
            for (column, window) in windows.iter_mut().enumerate().take(shape.columns as usize) {
                let shifted = *window << 1;
                let others = u64::from((self.rows[at] & shifted).count_ones() & 1);
                let bit = match self.rows[at] {
                    0 => 0,
                    _ => others ^ u64::from(self.results[at] >> column & 1),
                };
                *window = shifted | u128::from(bit);
            }
            if at % 128 == 0 {
                let (first, columns) = shape.segments(at as u64 / 128);
                for (segment, window) in (first..first + columns).zip(windows) {
                    let at = segment as usize * 16;
                    out[at..at + 16].copy_from_slice(&window.to_le_bytes());
                }
            }
        }
        out
    }
}
