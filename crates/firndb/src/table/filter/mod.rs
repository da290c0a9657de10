//! Filters: a few bits a key that tell most absent keys without a read.
//!
//! The last five bytes of a filter block say what it is. A filter that is not understood lets every key through: correct,
//! only slower. Source: RocksDB `util/bloom_impl.h`, `util/ribbon_config.h`, `table/block_based/filter_policy.cc`.

use crate::format::xxph3::{hash32, hash64};

mod bloom;
pub(crate) mod builder;
mod ribbon;

/// Bytes of the marker at the end of every filter block.
const METADATA_LEN: usize = 5;
/// The seed of the legacy Bloom filter's hash.
const LEGACY_SEED: u32 = 0xBC9F_1D34;

/// What a filter block holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// No key was added, so none matches.
    Empty,
    /// Not understood: every key may be there.
    AlwaysTrue,
    FastLocalBloom {
        probes: u32,
    },
    LegacyBloom {
        probes: u32,
        lines: u32,
        line_bytes: usize,
    },
    Ribbon(ribbon::Ribbon),
}

/// A parsed filter block.
#[derive(Debug, Clone)]
pub(crate) struct FilterReader {
    kind: Kind,
    bytes: Vec<u8>,
}

/// The hash of a user key that newer filters share: computed at most once a lookup, whatever the number of tables.
#[derive(Debug, Default)]
pub(crate) struct KeyHash(Option<u64>);

impl KeyHash {
    #[inline]
    pub(crate) fn of(&mut self, user_key: &[u8]) -> u64 {
        *self.0.get_or_insert_with(|| hash64(user_key))
    }
}

impl FilterReader {
    /// Understands a filter block, its trailer removed.
    pub(crate) fn parse(mut bytes: Vec<u8>) -> FilterReader {
        if bytes.len() <= METADATA_LEN {
            return FilterReader { kind: Kind::Empty, bytes: Vec::new() };
        }
        let len = bytes.len() - METADATA_LEN;
        let mut metadata = [0; METADATA_LEN];
        metadata.copy_from_slice(&bytes[len..]);
        bytes.truncate(len);
        FilterReader { kind: understand(metadata, len), bytes }
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.len()
    }

    /// False only if `user_key` was certainly not added.
    #[inline(always)]
    pub(crate) fn may_contain(&self, user_key: &[u8], hash: &mut KeyHash) -> bool {
        match &self.kind {
            Kind::FastLocalBloom { probes } => bloom::fast_local_may_contain(&self.bytes, *probes, hash.of(user_key)),
            _ => self.may_contain_otherwise(user_key, hash),
        }
    }

    /// What is not the filter of nearly every table.
    #[cold]
    fn may_contain_otherwise(&self, user_key: &[u8], hash: &mut KeyHash) -> bool {
        match &self.kind {
            Kind::FastLocalBloom { .. } | Kind::AlwaysTrue => true,
            Kind::Empty => false,
            Kind::LegacyBloom { probes, lines, line_bytes } => {
                let hash = hash32(user_key, LEGACY_SEED);
                bloom::legacy_may_contain(&self.bytes, *probes, *lines, *line_bytes, hash)
            }
            Kind::Ribbon(ribbon) => ribbon.may_contain(&self.bytes, hash.of(user_key)),
        }
    }
}

fn understand(metadata: [u8; METADATA_LEN], len: usize) -> Kind {
    let [first, sub, probes, reserved_0, reserved_1] = metadata;
    match first as i8 {
        1.. => {
            let lines = u32::from_le_bytes([sub, probes, reserved_0, reserved_1]);
            let line_bytes = len.checked_div(lines as usize).unwrap_or(0);
            match line_bytes.is_power_of_two() && line_bytes >= 8 && line_bytes * lines as usize == len {
                true => Kind::LegacyBloom { probes: u32::from(first), lines, line_bytes },
                false => Kind::AlwaysTrue,
            }
        }
        -1 => {
            let (count, block_log) = (u32::from(probes & 31), probes >> 5);
            let is_known = sub == 0 && block_log == 0 && reserved_0 == 0 && reserved_1 == 0;
            match is_known && (1..=30).contains(&count) && len.is_multiple_of(bloom::LINE_LEN) {
                true => Kind::FastLocalBloom { probes: count },
                false => Kind::AlwaysTrue,
            }
        }
        -2 => ribbon::Ribbon::new(sub, u32::from_le_bytes([probes, reserved_0, reserved_1, 0]), len)
            .map_or(Kind::AlwaysTrue, Kind::Ribbon),
        _ => Kind::AlwaysTrue,
    }
}

#[cfg(test)]
mod tests {
    use super::builder::{FilterBuilder, FilterConfig};
    use super::*;
    use crate::format::prefix::PrefixExtractor;

    const BLOOM: FilterConfig =
        FilterConfig { bits_per_key: 10.0, is_ribbon: false, has_whole_keys: true, prefixes: None };

    fn may_contain(filter: &FilterReader, key: &[u8]) -> bool {
        filter.may_contain(key, &mut KeyHash::default())
    }

    #[test]
    fn two_keys_give_the_block_that_rocksdb_7_8_3_writes() {
        let mut builder = FilterBuilder::new(BLOOM);
        builder.add(b"apple");
        builder.add(b"apricot");
        let hex: String = builder.whole().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = "0000000010000000000010000000000000400100000000000c000204000000000000000000000000\
            000000000000001000000000000000000080000100000001ff00060000";
        assert_eq!(hex, expected);
    }

    #[test]
    fn every_added_key_is_found_and_about_one_in_a_hundred_others() {
        let key = |i: u32| format!("key{i:08}").into_bytes();
        let mut lens = Vec::new();
        for is_ribbon in [false, true] {
            let mut builder = FilterBuilder::new(FilterConfig { is_ribbon, ..BLOOM });
            (0..10_000).for_each(|i| builder.add(&key(i)));
            let filter = FilterReader::parse(builder.whole());
            assert_eq!(matches!(filter.kind, Kind::Ribbon(_)), is_ribbon);
            assert!((0..10_000).all(|i| may_contain(&filter, &key(i))));
            let wrong = (10_000..110_000).filter(|i| may_contain(&filter, &key(*i))).count();
            assert!((500..1500).contains(&wrong), "ribbon {is_ribbon}: {wrong} of 100000 absent keys pass");
            lens.push(filter.memory());
        }
        assert!(lens[1] * 10 < lens[0] * 8, "Ribbon saves a fifth at least: {lens:?}");
    }

    #[test]
    fn ribbon_filters_of_any_number_of_keys_have_them_all() {
        for count in (0..300).chain([999, 5000, 40_000]) {
            for bits_per_key in [1.0, 10.0, 30.0, 100.0] {
                let mut builder = FilterBuilder::new(FilterConfig { is_ribbon: true, bits_per_key, ..BLOOM });
                (0..count).for_each(|i: u32| builder.add(&i.to_le_bytes()));
                let filter = FilterReader::parse(builder.whole());
                assert!(
                    (0..count).all(|i| may_contain(&filter, &i.to_le_bytes())),
                    "{count} keys, {bits_per_key} bits"
                );
            }
        }
    }

    #[test]
    fn the_parts_of_a_filter_have_their_keys_and_the_prefixes_on_both_sides_of_a_border() {
        for has_whole_keys in [false, true] {
            let config = FilterConfig { has_whole_keys, prefixes: Some(PrefixExtractor::Fixed(2)), ..BLOOM };
            let mut builder = FilterBuilder::new(config);
            for (block, keys) in [["aa1", "aa2"], ["aa2", "aa3"], ["bb1", "c"], ["dd1", "dd2"]].iter().enumerate() {
                keys.iter().for_each(|key| builder.add(key.as_bytes()));
                builder.end_block();
                assert!(builder.part_bytes(block..block + 1) > 0);
            }
            let part = |blocks| FilterReader::parse(builder.part(blocks));
            let (first, second) = (part(0..1), part(1..3));
            for (part, keys) in [(&first, ["aa", "bb"]), (&second, ["aa", "dd"])] {
                assert!(keys.iter().all(|key| may_contain(part, key.as_bytes())), "prefixes {keys:?}");
            }
            if has_whole_keys {
                let has = |part: &FilterReader, key: &str| may_contain(part, key.as_bytes());
                assert!(has(&first, "aa2") && has(&second, "aa2") && has(&second, "c"));
            }
        }
    }

    #[test]
    fn what_is_not_understood_lets_every_key_through() {
        for tail in [[0, 0, 0, 0, 0], [0xFF, 1, 6, 0, 0], [0xFF, 0, 6, 1, 0], [0xFD, 0, 0, 0, 0], [6, 7, 0, 0, 0]] {
            let mut block = vec![0; 64];
            block.extend_from_slice(&tail);
            assert!(may_contain(&FilterReader::parse(block), b"any"), "{tail:?}");
        }
        assert!(!may_contain(&FilterReader::parse(Vec::new()), b"any"));
    }

    #[test]
    fn hostile_blocks_never_panic() {
        for len in [6, 21, 37, 64, 69, 133, 16 * 40 + 5] {
            for first in 0..=255u8 {
                for rest in [[0, 0, 0, 0], [0xFF; 4], [1, 2, 0, 0], [0, 6, 0, 0], [1, 1, 0, 0]] {
                    let mut block = vec![0xA5; len];
                    block[len - 5] = first;
                    block[len - 4..].copy_from_slice(&rest);
                    let filter = FilterReader::parse(block);
                    for key in [&b""[..], b"a", b"a key of some length"] {
                        may_contain(&filter, key);
                    }
                }
            }
        }
    }
}
