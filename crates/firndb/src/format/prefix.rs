//! Prefix extractors: which leading bytes of a key stand for it in filters.
//!
//! Flow: a family's option -> **[`PrefixExtractor`]** -> `table::builder`, which puts prefixes into the filter and the
//! extractor's name into the properties; `table::reader` takes the extractor from there, whatever the option says today.
//!
//! Source: RocksDB `util/slice.cc`.

use std::cmp::Ordering;

/// Which leading bytes of a key stand for it in the filters of tables.
///
/// ```
/// use firndb::PrefixExtractor;
///
/// let first_four = PrefixExtractor::Fixed(4);
/// assert_eq!(first_four.prefix(b"user:7"), Some(&b"user"[..]));
/// assert_eq!(first_four.prefix(b"us"), None);
/// assert_eq!(PrefixExtractor::Capped(4).prefix(b"us"), Some(&b"us"[..]));
/// assert_eq!(first_four.to_string(), "rocksdb.FixedPrefix.4");
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrefixExtractor {
    /// So many bytes; keys that are shorter have no prefix.
    Fixed(usize),
    /// So many bytes, or the whole key if it is shorter.
    Capped(usize),
    /// The whole key.
    Noop,
}

const FIXED: &str = "rocksdb.FixedPrefix.";
const CAPPED: &str = "rocksdb.CappedPrefix.";
const NOOP: &str = "rocksdb.Noop";

impl PrefixExtractor {
    /// The extractor with RocksDB's name `name`, of options or of a table; `None` if it is none of the built-in ones.
    pub fn from_name(name: &str) -> Option<PrefixExtractor> {
        let of = |start: &str| name.strip_prefix(start)?.parse::<usize>().ok();
        match (of(FIXED).or_else(|| of("fixed:")), of(CAPPED).or_else(|| of("capped:"))) {
            (Some(len), _) => Some(PrefixExtractor::Fixed(len)),
            (None, Some(len)) => Some(PrefixExtractor::Capped(len)),
            (None, None) => (name == NOOP).then_some(PrefixExtractor::Noop),
        }
    }

    /// The prefix of `key`, if it has one.
    #[inline]
    pub fn prefix(self, key: &[u8]) -> Option<&[u8]> {
        match self {
            PrefixExtractor::Fixed(len) => key.get(..len),
            PrefixExtractor::Capped(len) => Some(&key[..len.min(key.len())]),
            PrefixExtractor::Noop => Some(key),
        }
    }

    /// The prefix of `key`, if every key that starts with those bytes has it, too: then a range of such keys can be asked for
    /// at once.
    #[inline]
    pub(crate) fn prefix_of_range(self, key: &[u8]) -> Option<&[u8]> {
        match self {
            PrefixExtractor::Fixed(len) | PrefixExtractor::Capped(len) => key.get(..len),
            PrefixExtractor::Noop => None,
        }
    }
}

impl std::fmt::Display for PrefixExtractor {
    /// RocksDB's name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PrefixExtractor::Fixed(len) => write!(f, "{FIXED}{len}"),
            PrefixExtractor::Capped(len) => write!(f, "{CAPPED}{len}"),
            PrefixExtractor::Noop => f.write_str(NOOP),
        }
    }
}

/// The smallest byte string above every one that starts with `prefix`; none if that is all bytes 255.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// How `end` sorts, bytewise, against the smallest key behind all that start with `prefix`. Every key from the prefix up to an
/// end that is not greater, and excluded, starts with it.
pub(crate) fn compare_with_end(end: &[u8], prefix: &[u8]) -> Ordering {
    match prefix.iter().rposition(|byte| *byte != 0xFF) {
        // Nothing is behind them.
        None => Ordering::Less,
        Some(at) => end.iter().copied().cmp(prefix[..at].iter().copied().chain([prefix[at] + 1])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_nobodys() {
        for extractor in [PrefixExtractor::Fixed(3), PrefixExtractor::Capped(12), PrefixExtractor::Noop] {
            assert_eq!(PrefixExtractor::from_name(&extractor.to_string()), Some(extractor));
        }
        assert_eq!(PrefixExtractor::from_name("fixed:9"), Some(PrefixExtractor::Fixed(9)));
        assert_eq!(PrefixExtractor::from_name("capped:9"), Some(PrefixExtractor::Capped(9)));
        for name in ["", "nullptr", "rocksdb.FixedPrefix", "rocksdb.FixedPrefix.x", "mine", "rocksdb.FixedPrefix.-1"] {
            assert_eq!(PrefixExtractor::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_range_lies_within_a_prefix_if_every_key_of_it_starts_so() {
        let cases: [(&[u8], &[u8], bool); 6] = [
            (b"ab", b"ac", true),
            (b"ab", b"ac\0", false),
            (b"ab", b"abz", true),
            (b"a\xff", b"b", true),
            (b"a\xff", b"b\0", false),
            (b"\xff", b"\xff\xff\xff", true),
        ];
        for (prefix, end, is_within) in cases {
            assert_eq!(compare_with_end(end, prefix).is_le(), is_within, "{prefix:?} {end:?}");
        }
        // All keys of up to three bytes out of four values: it is never said of a range of which it is not so.
        let bytes = [0u8, 1, 0xFE, 0xFF];
        let mut keys: Vec<Vec<u8>> = vec![vec![]];
        for _ in 0..3 {
            let longer: Vec<_> = keys.iter().flat_map(|key| bytes.map(|b| [&key[..], &[b]].concat())).collect();
            keys.extend(longer);
        }
        keys.sort();
        keys.dedup();
        for len in 1..=2 {
            for prefix in keys.iter().filter(|key| key.len() == len) {
                for end in &keys {
                    let all_start_so =
                        keys.iter().filter(|key| *key >= prefix && *key < end).all(|k| k.starts_with(prefix));
                    assert!(!compare_with_end(end, prefix).is_le() || all_start_so, "{prefix:?} {end:?}");
                }
            }
        }
    }
}
