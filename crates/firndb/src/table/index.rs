//! The index of a table, parsed once into flat arrays.
//!
//! Finding a block is a bisection over an array of numbers: eight bytes of each separator, taken after the bytes that
//! all of them share. Only separators that agree in those are compared as keys. Under other orders than the bytewise
//! one the separators themselves are bisected.
//!
//! Source: section 6.7 of the format: index types 0, 1 (by its main index) and 3.

use std::cmp::Ordering;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::coding::{Reader, u32_at};
use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{TRAILER_LEN, trailer, user_key};

use super::block_builder::shared_prefix;
use super::layout::{BlockHandle, Footer, TRAILER_LEN as BLOCK_TRAILER_LEN};
use super::properties::TableProperties;

/// The parsed index.
#[derive(Debug)]
pub(crate) struct Index {
    /// Separators: user keys one after the other, each with its end.
    keys: Vec<u8>,
    ends: Vec<u32>,
    /// Trailers, if the separators are internal keys; otherwise a separator covers all versions of its key.
    trailers: Vec<u64>,
    handles: Vec<BlockHandle>,
    /// Bytes that all separators share (bytewise order only).
    common: usize,
    /// The eight bytes after that (bytewise order only).
    prefixes: Vec<u64>,
}

fn bad(what: &str) -> Error {
    Error::corrupt(CorruptionKind::Malformed, format!("index: {what}"))
}

impl Index {
    /// Understands the content of an index block; every handle is checked against the file.
    pub(crate) fn parse(
        block: &[u8],
        properties: &TableProperties,
        order: &KeyOrder,
        footer: &Footer,
    ) -> Result<Index> {
        let has_user_keys = properties.index_key_is_user_key;
        let has_first_keys = properties.index_type == Some(3);
        let delta = properties.index_value_is_delta_encoded;
        let count_at = block.len().checked_sub(4).ok_or_else(|| bad("no restart count"))?;
        let restarts = (u32_at(block, count_at).unwrap_or(0) & ((1 << 28) - 1)) as usize;
        let end = restarts
            .checked_mul(4)
            .and_then(|len| count_at.checked_sub(len))
            .ok_or_else(|| bad("more restart points than fit"))?;
        let mut r = Reader::new(&block[..end]);
        let mut index = Index {
            keys: Vec::new(),
            ends: Vec::new(),
            trailers: Vec::new(),
            handles: Vec::new(),
            common: 0,
            prefixes: Vec::new(),
        };
        let mut key = Vec::new();
        let mut previous = BlockHandle::default();
        while !r.is_empty() {
            let shared = r.varint32("shared bytes")? as usize;
            let non_shared = r.varint32("key bytes")? as usize;
            let value_len = if delta { None } else { Some(r.varint32("value length")? as usize) };
            if shared > key.len() {
                return Err(bad("a key that shares more bytes than there are"));
            }
            key.truncate(shared);
            key.extend_from_slice(r.take(non_shared, "index key")?);
            let handle = match value_len {
                Some(len) => {
                    let mut value = Reader::new(r.take(len, "index value")?);
                    BlockHandle::decode(&mut value)?
                }
                None => {
                    let handle = if shared == 0 {
                        BlockHandle::decode(&mut r)?
                    } else {
                        let change = r.signed_varint64("size difference")?;
                        let size = previous.size.checked_add_signed(change).ok_or_else(|| bad("a negative size"))?;
                        let offset = previous.offset + previous.size + BLOCK_TRAILER_LEN as u64;
                        BlockHandle { offset, size }
                    };
                    if has_first_keys {
                        r.length_prefixed("first key")?;
                    }
                    handle
                }
            };
            footer.stored_len(handle)?;
            previous = handle;
            index.push(&key, has_user_keys, handle)?;
        }
        index.check_order(order)?;
        if order.is_bytewise() {
            index.take_prefixes();
        }
        Ok(index)
    }

    fn push(&mut self, key: &[u8], is_user_key: bool, handle: BlockHandle) -> Result<()> {
        let user = match is_user_key {
            true => key,
            false => {
                let (user, trailer) =
                    key.split_last_chunk::<TRAILER_LEN>().ok_or_else(|| bad("a separator without trailer"))?;
                self.trailers.push(u64::from_le_bytes(*trailer));
                user
            }
        };
        self.keys.extend_from_slice(user);
        self.ends.push(u32::try_from(self.keys.len()).map_err(|_| bad("separators of more than 4 GiB"))?);
        self.handles.push(handle);
        Ok(())
    }

    fn check_order(&self, order: &KeyOrder) -> Result<()> {
        for index in 1..self.len() {
            if self.compare(order, index - 1, self.key(index), self.trailer(index)) == Ordering::Greater {
                return Err(Error::corrupt(CorruptionKind::Order, "index: separators are not in order"));
            }
        }
        Ok(())
    }

    fn take_prefixes(&mut self) {
        let (Some(first), Some(last)) = ((self.len() > 0).then(|| self.key(0)), self.len().checked_sub(1)) else {
            return;
        };
        self.common = shared_prefix(first, self.key(last));
        self.prefixes =
            (0..self.len()).map(|i| prefix_u64(self.key(i).get(self.common..).unwrap_or_default())).collect();
    }

    /// The number of data blocks.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.handles.len()
    }

    #[inline]
    pub(crate) fn handle(&self, index: usize) -> BlockHandle {
        self.handles[index]
    }

    /// The user key of a separator.
    #[inline]
    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.keys[start..self.ends[index] as usize]
    }

    /// The trailer of a separator; one that covers all versions sorts after every one.
    #[inline]
    fn trailer(&self, index: usize) -> u64 {
        self.trailers.get(index).copied().unwrap_or(0)
    }

    #[inline]
    fn compare(&self, order: &KeyOrder, index: usize, user: &[u8], trailer: u64) -> Ordering {
        order.compare(self.key(index), user).then_with(|| trailer.cmp(&self.trailer(index)))
    }

    /// The first block that can hold an entry at or after `(user key, trailer)`; `len()` if there is none.
    #[inline]
    pub(crate) fn find(&self, order: &KeyOrder, user: &[u8], trailer: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        if !self.prefixes.is_empty() {
            let common = &self.keys[..self.common];
            let Some(rest) = user.strip_prefix(common) else {
                // All separators start with `common`, and the key does not.
                return if user < common { 0 } else { high };
            };
            let prefix = prefix_u64(rest);
            low = self.prefixes.partition_point(|p| *p < prefix);
            // Mostly the next one is larger already.
            let mut end = low;
            while end < high && self.prefixes[end] == prefix {
                end += 1;
                if end - low > 8 {
                    end = low + self.prefixes[low..].partition_point(|p| *p <= prefix);
                    break;
                }
            }
            high = end;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.compare(order, middle, user, trailer) == Ordering::Less {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.keys.len()
            + 4 * self.ends.len()
            + 16 * self.handles.len()
            + 8 * (self.trailers.len() + self.prefixes.len())
    }

    /// True if `key` (internal) lies between the separator before block `index` and its own.
    pub(crate) fn is_in_block(&self, order: &KeyOrder, index: usize, key: &[u8]) -> bool {
        let (user, trailer) = (user_key(key), trailer(key));
        index < self.len()
            && self.compare(order, index, user, trailer) != Ordering::Less
            && (index == 0 || self.compare(order, index - 1, user, trailer) == Ordering::Less)
    }
}
