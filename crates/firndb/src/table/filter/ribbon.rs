//! Standard128 Ribbon filters, as a reader: an absent key fails the linear equations that every added key satisfies.

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

    pub(super) fn may_contain(&self, bytes: &[u8], hash: u64) -> bool {
        let g = (hash ^ u64::from(self.raw_seed)).wrapping_mul(0x6193_D459_236A_3A0D);
        let starts = 128 * self.blocks - 127;
        let start = ((u128::from(g) * u128::from(starts)) >> 64) as u64;
        let a = g.wrapping_mul(0xC28F_8282_2B65_0BED);
        let row = (u128::from(a) << 64) | u128::from(a ^ 0xC367_844A_6E52_731D) | 1;
        let expected = a.swap_bytes() as u32;
        let (block, shift) = (start / 128, start % 128);
        let first = block * self.columns - block.min(self.upper);
        let columns = self.columns - u64::from(block < self.upper);
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
