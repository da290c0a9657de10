//! An encoder of LZ4 blocks that looks longer for matches: LZ4HC. What it makes is read as any LZ4 block.
//!
//! Flow: [`super::compression`] -> **[`compress`]**. Positions with the same next four bytes are in a chain, newest first; of the
//! candidates in the chain the longest match is taken, unless the next position has a longer one.
//!
//! Source: the LZ4 block format description (`lz4_Block_format.md`); the idea of chains and of looking one byte ahead, LZ4HC.

use super::coding::u32_at;

const MATCH_MIN: usize = 4;
/// The last bytes of a block are literals, and no match begins so near to the end. Rules of the format.
const LITERALS_AT_END: usize = 5;
const MATCH_START_END: usize = 12;
const DISTANCE_MAX: usize = u16::MAX as usize;
/// Candidates that are looked at for a position: RocksDB's default level, 9, has as many.
const CANDIDATES_MAX: usize = 256;

/// Where positions are found by their next four bytes.
struct Chains {
    heads: Vec<u32>,
    /// The position before, of the same hash, by position modulo its length.
    before: Vec<u32>,
    shift: u32,
    inserted: usize,
}

/// No position. Blocks are shorter: `u32` sizes are checked before.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Match {
    start: usize,
    len: usize,
}

impl Chains {
    fn new(len: usize) -> Chains {
        let bits = len.next_power_of_two().trailing_zeros().clamp(8, 16);
        Chains { heads: vec![NONE; 1 << bits], before: vec![NONE; 1 << bits], shift: 32 - bits, inserted: 0 }
    }

    fn hash(&self, input: &[u8], at: usize) -> usize {
        (u32_at(input, at).unwrap_or(0).wrapping_mul(2_654_435_761) >> self.shift) as usize
    }

    /// Enters all positions before `end`.
    fn insert_up_to(&mut self, input: &[u8], end: usize) {
        let mask = self.before.len() - 1;
        while self.inserted < end {
            let hash = self.hash(input, self.inserted);
            self.before[self.inserted & mask] = self.heads[hash];
            self.heads[hash] = self.inserted as u32;
            self.inserted += 1;
        }
    }

    /// The longest match at `at` that is longer than `longer_than`, not beyond `limit`.
    fn find(&mut self, input: &[u8], at: usize, limit: usize, longer_than: usize) -> Option<Match> {
        self.insert_up_to(input, at);
        let (mask, mut best, mut len) = (self.before.len() - 1, None, longer_than);
        let mut candidate = self.heads[self.hash(input, at)];
        for _ in 0..CANDIDATES_MAX {
            let start = candidate as usize;
            // A slot that was taken by a later position leads out of the chain.
            if candidate == NONE || start >= at || at - start > DISTANCE_MAX.min(mask) {
                break;
            }
            let found = shared(input, start, at, limit);
            if found > len {
                (best, len) = (Some(Match { start, len: found }), found);
            }
            let next = self.before[start & mask];
            if next != NONE && next >= candidate {
                break;
            }
            candidate = next;
        }
        best
    }
}

/// How many bytes from `start` and from `at`, which is behind it, are the same.
fn shared(input: &[u8], start: usize, at: usize, limit: usize) -> usize {
    let (a, b) = (&input[start..limit], &input[at..limit]);
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The bytes of a length beyond what fits into the token.
fn put_length(out: &mut Vec<u8>, mut rest: usize) {
    while rest >= 255 {
        out.push(255);
        rest -= 255;
    }
    out.push(rest as u8);
}

fn put_sequence(out: &mut Vec<u8>, literals: &[u8], found: Option<(usize, usize)>) {
    let match_len = found.map_or(0, |(_, len)| len - MATCH_MIN);
    out.push((literals.len().min(15) << 4 | match_len.min(15)) as u8);
    if literals.len() >= 15 {
        put_length(out, literals.len() - 15);
    }
    out.extend_from_slice(literals);
    if let Some((distance, _)) = found {
        out.extend_from_slice(&(distance as u16).to_le_bytes());
        if match_len >= 15 {
            put_length(out, match_len - 15);
        }
    }
}

/// Appends the block of `input`, which has less than 4 GiB, to `out`.
pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    let mut anchor = 0;
    if let (Some(starts_end), limit) =
        (input.len().checked_sub(MATCH_START_END), input.len().saturating_sub(LITERALS_AT_END))
    {
        let mut chains = Chains::new(input.len());
        let mut at = 0;
        while at <= starts_end {
            let Some(mut found) = chains.find(input, at, limit, MATCH_MIN - 1) else {
                at += 1;
                continue;
            };
            while at < starts_end
                && let Some(longer) = chains.find(input, at + 1, limit, found.len)
            {
                (found, at) = (longer, at + 1);
            }
            put_sequence(out, &input[anchor..at], Some((at - found.start, found.len)));
            at += found.len;
            anchor = at;
        }
    }
    put_sequence(out, &input[anchor..], None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(block: &[u8], len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        let filled = lz4_flex::block::decompress_into(block, &mut out).expect("an LZ4 block");
        assert_eq!(filled, len);
        out
    }

    #[test]
    fn whatever_is_compressed_comes_back() {
        let mut state = 7u64;
        let mut next = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..100 {
            let alphabet = [1, 2, 4, 250][round % 4];
            let mut input = Vec::new();
            let len = [next(40), next(400), next(5000), next(100_000)][round % 7 % 4];
            while input.len() < len {
                match input.len() {
                    // A copy of what was there, near or far, perhaps of itself.
                    before @ 1.. if next(3) == 0 => {
                        let (start, len) = (next(before), next(600));
                        (start..start + len).for_each(|at| input.push(input[at]));
                    }
                    _ => (0..next(40)).for_each(|_| input.push(next(alphabet) as u8)),
                }
            }
            let mut out = Vec::new();
            compress(&input, &mut out);
            assert!(back(&out, input.len()) == input, "round {round}: {} bytes", input.len());
        }
    }

    #[test]
    fn it_packs_text_denser_than_the_fast_encoder() {
        let text: Vec<u8> =
            (0..3000u32).flat_map(|i| format!("user:{:05}:{} ", i * 7919 % 3000, i % 13).into_bytes()).collect();
        let mut out = Vec::new();
        compress(&text, &mut out);
        let fast = lz4_flex::block::compress(&text).len();
        assert!(out.len() * 100 < fast * 95, "{} bytes, {fast} by the fast one", out.len());
        assert!(back(&out, text.len()) == text);
    }
}
