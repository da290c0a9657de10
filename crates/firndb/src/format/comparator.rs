//! The order of keys.
//!
//! [`KeyOrder`] is what the engine holds: the two built-in orders are compared inline, without a virtual call.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::key::{trailer, user_key};

/// A total order over user keys, named by a string that is stored in the files and checked on open.
///
/// Must be pure: the same two keys always compare the same, in every process. Only keys with the same bytes may compare
/// equal: look-ups in filters and memtables compare bytes. A comparator that breaks this leads to errors or to keys that
/// are not found, never to undefined behaviour.
///
/// Every read, write and job calls it, also while the engine holds locks: it must not call the database.
pub trait Comparator: Send + Sync + 'static {
    /// The name stored in MANIFEST and tables.
    fn name(&self) -> &str;
    /// How `a` sorts against `b`.
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering;
}

impl fmt::Debug for dyn Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comparator({})", self.name())
    }
}

/// Stands in for an order that this process does not have: files and entries can be counted by it, but not searched.
struct Unknown(String);

impl Comparator for Unknown {
    fn name(&self) -> &str {
        &self.0
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

/// An order over user keys: RocksDB's two built-in ones, or a user's.
#[derive(Clone, Default)]
pub enum KeyOrder {
    /// Unsigned bytes, ascending: `leveldb.BytewiseComparator`.
    #[default]
    Bytewise,
    /// Unsigned bytes, descending: `rocksdb.ReverseBytewiseComparator`.
    ReverseBytewise,
    /// Anything else.
    Custom(Arc<dyn Comparator>),
}

impl fmt::Debug for KeyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyOrder({})", self.name())
    }
}

impl KeyOrder {
    /// The name stored in the files.
    pub fn name(&self) -> &str {
        match self {
            KeyOrder::Bytewise => "leveldb.BytewiseComparator",
            KeyOrder::ReverseBytewise => "rocksdb.ReverseBytewiseComparator",
            KeyOrder::Custom(comparator) => comparator.name(),
        }
    }

    /// What stands in for the order called `name`, which is not known.
    pub(crate) fn unknown(name: &str) -> KeyOrder {
        KeyOrder::Custom(Arc::new(Unknown(name.to_owned())))
    }

    /// True where key prefixes may stand in for keys.
    #[inline]
    pub(crate) fn is_bytewise(&self) -> bool {
        matches!(self, KeyOrder::Bytewise)
    }

    /// How user key `a` sorts against `b`.
    #[inline]
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            KeyOrder::Bytewise => compare_bytes(a, b),
            KeyOrder::ReverseBytewise => compare_bytes(b, a),
            KeyOrder::Custom(comparator) => comparator.compare(a, b),
        }
    }

    /// True if `a` and `b` are one user key.
    #[inline]
    pub(crate) fn is_same(&self, a: &[u8], b: &[u8]) -> bool {
        match self {
            KeyOrder::Bytewise | KeyOrder::ReverseBytewise => is_same_bytes(a, b),
            KeyOrder::Custom(comparator) => comparator.compare(a, b).is_eq(),
        }
    }

    /// How internal key `a` sorts against `b`: user key, then newest first.
    #[inline]
    pub(crate) fn compare_internal(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self.compare(user_key(a), user_key(b)) {
            Ordering::Equal => trailer(b).cmp(&trailer(a)),
            other => other,
        }
    }
}

/// Lexicographic order. Keys are short: the first words are compared here, which saves most calls of `memcmp`.
/// Always inlined: it is the inside of every search, and has too many callers for the compiler to see that.
#[inline(always)]
fn compare_bytes(a: &[u8], b: &[u8]) -> Ordering {
    const WORDS_MAX: usize = 4;
    let word = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    let (a_words, b_words) = (a.as_chunks::<8>().0, b.as_chunks::<8>().0);
    let mut at = 0;
    for (x, y) in a_words.iter().zip(b_words).take(WORDS_MAX) {
        if x != y {
            return word(x).cmp(&word(y));
        }
        at += 8;
    }
    match (a.len() == at, b.len() == at) {
        (true, true) => Ordering::Equal,
        _ => a[at..].cmp(&b[at..]),
    }
}

/// The last bytes are compared first: neighbours in an order share their first ones.
#[inline]
fn is_same_bytes(a: &[u8], b: &[u8]) -> bool {
    match (a.split_last_chunk::<8>(), b.split_last_chunk::<8>()) {
        (Some((a, a_last)), Some((b, b_last))) => a_last == b_last && a == b,
        _ => a == b,
    }
}

/// The first eight bytes of `key` as a big-endian number, zero-padded: under the bytewise order, different prefixes
/// sort as their keys do; equal ones decide nothing.
#[inline]
pub(crate) fn prefix_u64(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut padded = [0u8; 8];
            padded[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(padded)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_compare_as_bytes_do_at_every_length_and_difference() {
        let base: Vec<u8> = (0..70).map(|index| (index * 37 + 200) as u8).collect();
        for a_len in 0..base.len() {
            for b_len in 0..base.len() {
                let (a, mut b) = (&base[..a_len], base[..b_len].to_vec());
                assert_eq!(KeyOrder::Bytewise.compare(a, &b), a.cmp(&b));
                assert_eq!(KeyOrder::Bytewise.is_same(a, &b), a == b);
                for at in [b_len / 2, b_len.saturating_sub(1)] {
                    if let Some(byte) = b.get_mut(at) {
                        *byte ^= 0x81;
                    }
                    assert_eq!(KeyOrder::Bytewise.compare(a, &b), a.cmp(&b), "{a_len} {b_len} {at}");
                    assert_eq!(KeyOrder::ReverseBytewise.compare(a, &b), b.as_slice().cmp(a));
                    assert_eq!(KeyOrder::Bytewise.is_same(a, &b), a == b, "{a_len} {b_len} {at}");
                }
            }
        }
    }
}
