//! The order of keys.
//!
//! [`KeyOrder`] is what the engine holds: the two built-in orders are compared inline, without a virtual call.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::key::{trailer, user_key};

/// A total order over user keys, named by a string that is stored in the files and checked on open.
///
/// Must be pure: the same two keys always compare the same, in every process. A comparator that is not leads to
/// errors, never to undefined behaviour.
pub trait Comparator: Send + Sync + 'static {
    /// The name stored in MANIFEST and tables.
    fn name(&self) -> &str;
    /// How `a` sorts against `b`.
    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering;
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

    /// True where key prefixes may stand in for keys.
    #[inline]
    pub(crate) fn is_bytewise(&self) -> bool {
        matches!(self, KeyOrder::Bytewise)
    }

    /// How user key `a` sorts against `b`.
    #[inline]
    pub fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            KeyOrder::Bytewise => a.cmp(b),
            KeyOrder::ReverseBytewise => b.cmp(a),
            KeyOrder::Custom(comparator) => comparator.compare(a, b),
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
