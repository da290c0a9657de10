//! Builds one block: prefix-compressed entries, then the offsets of the entries that are whole.
//!
//! Source: RocksDB `table/block_based/block_builder.cc`.

use crate::format::coding::{put_u32, put_varint32, put_varint64};

/// How many leading bytes two keys share, compared by words.
#[inline]
pub(crate) fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    let len = a.len().min(b.len());
    let mut at = 0;
    while let (Some(x), Some(y)) = (a[at..].first_chunk::<8>(), b[at..].first_chunk::<8>()) {
        let diff = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if diff != 0 {
            return at + (diff.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < len && a[at] == b[at] {
        at += 1;
    }
    at
}

/// A block in the making.
#[derive(Debug)]
pub(crate) struct BlockBuilder {
    out: Vec<u8>,
    restarts: Vec<u32>,
    interval: usize,
    since_restart: usize,
    last_key: Vec<u8>,
}

impl BlockBuilder {
    /// `interval` entries between whole keys.
    pub(crate) fn new(interval: usize) -> BlockBuilder {
        BlockBuilder {
            out: Vec::new(),
            restarts: vec![0],
            interval: interval.max(1),
            since_restart: 0,
            last_key: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The bytes of the block if it were finished now.
    #[inline]
    pub(crate) fn size(&self) -> usize {
        self.out.len() + 4 * self.restarts.len() + 4
    }

    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// The number of bytes of `key` that are shared with the last one, and whether a restart is due.
    #[inline]
    fn share(&mut self, key: &[u8]) -> usize {
        let shared = if self.since_restart < self.interval {
            shared_prefix(&self.last_key, key)
        } else {
            self.restarts.push(self.out.len() as u32);
            self.since_restart = 0;
            0
        };
        // The first entry of a block is whole.
        let shared = if self.out.is_empty() { 0 } else { shared };
        self.since_restart += 1;
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        shared
    }

    /// Adds an entry; keys come in ascending order.
    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        let shared = self.share(key);
        let non_shared = key.len() - shared;
        if (shared | non_shared | value.len()) < 0x80 {
            self.out.extend_from_slice(&[shared as u8, non_shared as u8, value.len() as u8]);
        } else {
            put_varint32(&mut self.out, shared as u32);
            put_varint32(&mut self.out, non_shared as u32);
            put_varint64(&mut self.out, value.len() as u64);
        }
        self.out.extend_from_slice(&key[shared..]);
        self.out.extend_from_slice(value);
    }

    /// Adds an entry of an index whose values are delta-encoded: the entry has no value length. `value` is handed
    /// whether the key shares bytes with the last one.
    pub(crate) fn add_delta(&mut self, key: &[u8], value: impl FnOnce(bool, &mut Vec<u8>)) {
        let shared = self.share(key);
        put_varint32(&mut self.out, shared as u32);
        put_varint32(&mut self.out, (key.len() - shared) as u32);
        self.out.extend_from_slice(&key[shared..]);
        value(shared > 0, &mut self.out);
    }

    /// Ends the block; [`BlockBuilder::reset`] begins the next.
    pub(crate) fn finish(&mut self) -> &[u8] {
        for restart in &self.restarts {
            put_u32(&mut self.out, *restart);
        }
        put_u32(&mut self.out, self.restarts.len() as u32);
        &self.out
    }

    /// Begins a new block in the same buffers.
    pub(crate) fn reset(&mut self) {
        self.out.clear();
        self.restarts.clear();
        self.restarts.push(0);
        self.since_restart = 0;
        self.last_key.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_prefixes_are_counted_across_word_borders() {
        let long = [b'x'; 40];
        for at in 0..40 {
            let mut other = long;
            other[at] = b'y';
            assert_eq!(shared_prefix(&long, &other), at);
            assert_eq!(shared_prefix(&long[..at], &long), at);
        }
    }
}
