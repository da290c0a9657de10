//! Gathers what the index of a table will say, and puts it into one block or into many.
//!
//! Flow: [`super::builder`], at the end of each data block -> **[`IndexBuilder`]** -> index blocks at the end of the table.
//!
//! Invariants
//! 1. A separator lies between the last key of its block and the first key of the next, and is an internal key here. What is
//!    written are user keys, unless versions of one key lie in two blocks: that is one decision for the whole file.
//! 2. Handles are written as differences where keys share bytes: so the blocks of one index block follow each other in the
//!    file without a gap.
//!
//! Source: RocksDB `table/block_based/index_builder.cc`.

use std::ops::Range;

use crate::format::coding::put_signed_varint64;
use crate::format::comparator::KeyOrder;
use crate::format::key::{SequenceNumber, ValueKind, append_internal_key, user_key};

use super::block_builder::{BlockBuilder, shared_prefix};
use super::layout::BlockHandle;

/// Data blocks whose separators and handles are known.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    /// Separators one after the other, with their ends and handles.
    separators: Vec<u8>,
    entries: Vec<(usize, BlockHandle)>,
    needs_internal_separators: bool,
}

/// How the index blocks of a file are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexEncoding {
    pub(super) restart_interval: usize,
    pub(super) has_user_keys: bool,
    pub(super) is_delta_encoded: bool,
}

impl IndexBuilder {
    /// Notes an ended block: its separator lies at or after its last key, and before `next`, if there is a next key.
    pub(super) fn push(&mut self, order: &KeyOrder, last_key: &[u8], next: Option<&[u8]>, handle: BlockHandle) {
        let last = user_key(last_key);
        let shortened = match next {
            Some(next) if order.is_bytewise() => shortest_separator(last, user_key(next)),
            _ => None,
        };
        match shortened {
            // Sorts before every entry of its user key, which is in no block.
            Some(len) => {
                let start = self.separators.len();
                self.separators.extend_from_slice(&last[..len]);
                self.separators[start + len - 1] += 1;
                append_internal_key(&mut self.separators, &[], SequenceNumber::MAX, ValueKind::Value as u8);
            }
            None => {
                self.separators.extend_from_slice(last_key);
                if next.is_some_and(|next| user_key(next) == last) {
                    self.needs_internal_separators = true;
                }
            }
        }
        self.entries.push((self.separators.len(), handle));
    }

    /// The number of data blocks.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How the index is written in tables of this version.
    pub(super) fn encoding(&self, format_version: u32, restart_interval: usize) -> IndexEncoding {
        IndexEncoding {
            restart_interval,
            has_user_keys: format_version >= 3 && !self.needs_internal_separators,
            is_delta_encoded: format_version >= 4,
        }
    }

    fn separator(&self, block: usize) -> &[u8] {
        let start = block.checked_sub(1).map_or(0, |before| self.entries[before].0);
        &self.separators[start..self.entries[block].0]
    }

    /// The index block of a run of data blocks.
    pub(super) fn encode(&self, blocks: Range<usize>, encoding: IndexEncoding) -> Vec<u8> {
        encode(encoding, blocks.map(|block| (self.separator(block), self.entries[block].1)))
    }

    /// The upper level over `parts`, which are `handles` in the file.
    pub(super) fn encode_top(
        &self,
        parts: &[Range<usize>],
        handles: &[BlockHandle],
        encoding: IndexEncoding,
    ) -> Vec<u8> {
        let ends = parts.iter().filter_map(|part| part.end.checked_sub(1));
        encode(encoding, ends.zip(handles).map(|(last, handle)| (self.separator(last), *handle)))
    }

    /// Cuts the data blocks into runs whose index blocks have about `bytes` bytes, and for which `is_full`, asked for the
    /// first block of a run and the one behind its last, is not yet true.
    pub(super) fn cut(&self, bytes: usize, is_full: impl Fn(Range<usize>) -> bool) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let (mut start, mut size) = (0, 0);
        for block in 0..self.len() {
            // A whole key, its two lengths, a handle and a restart point.
            size += self.separator(block).len() + 16;
            if size >= bytes || is_full(start..block + 1) {
                parts.push(start..block + 1);
                (start, size) = (block + 1, 0);
            }
        }
        if start < self.len() {
            parts.push(start..self.len());
        }
        parts
    }
}

fn encode<'a>(encoding: IndexEncoding, entries: impl Iterator<Item = (&'a [u8], BlockHandle)>) -> Vec<u8> {
    let mut block = BlockBuilder::new(encoding.restart_interval);
    let mut previous = BlockHandle::default();
    for (separator, handle) in entries {
        let key = if encoding.has_user_keys { user_key(separator) } else { separator };
        if encoding.is_delta_encoded {
            block.add_delta(key, |is_shared, out| match is_shared {
                true => put_signed_varint64(out, handle.size as i64 - previous.size as i64),
                false => handle.encode(out),
            });
        } else {
            let mut value = Vec::with_capacity(20);
            handle.encode(&mut value);
            block.add(key, &value);
        }
        previous = handle;
    }
    block.finish().to_vec()
}

/// The length of a prefix of `a` that, its last byte increased by one, lies after `a` and before `b`; `None` if there
/// is none that is shorter than `a`.
fn shortest_separator(a: &[u8], b: &[u8]) -> Option<usize> {
    let at = shared_prefix(a, b);
    match (a.get(at), b.get(at)) {
        (Some(x), Some(y)) if at + 1 < a.len() && u16::from(*x) + 1 < u16::from(*y) => Some(at + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_shortened_only_where_a_byte_fits_between() {
        assert_eq!(shortest_separator(b"abcdef", b"abq"), Some(3));
        assert_eq!(shortest_separator(b"abcdef", b"abd"), None);
        assert_eq!(shortest_separator(b"abc", b"abcd"), None);
        assert_eq!(shortest_separator(b"ab", b"b"), None);
        assert_eq!(shortest_separator(b"a\xff\xff", b"b"), None);
    }
}
