//! The index of a table, parsed once into flat arrays.
//!
//! Finding a block is a bisection over an array of numbers: eight bytes of each separator, taken after the bytes that
//! all of them share. Only separators that agree in those are compared as keys. Under other orders than the bytewise
//! one the separators themselves are bisected.
//!
//! An index of two levels is several of these: one over the parts, and one a part ([`super::parts`]). So are the parts of a
//! filter. A hash index is read by its main index, which is complete: a bisection of the arrays is as quick as a hash.
//!
//! Source: section 6.7 of the format: index types 0 to 3.

use std::cmp::Ordering;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::{Reader, u32_at};
use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{TRAILER_LEN, trailer, user_key};

use super::block_builder::shared_prefix;
use super::layout::{BlockHandle, COUNT_MASK, Footer, SEPARATED_BIT, TRAILER_LEN as BLOCK_TRAILER_LEN};
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

/// How the entries of a table's index blocks are written; those that lead to parts of a filter too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexForm {
    has_user_keys: bool,
    /// Handles are followed by the first key of their block.
    has_first_keys: bool,
    is_delta_encoded: bool,
}

impl IndexForm {
    pub(crate) fn of(properties: &TableProperties) -> IndexForm {
        IndexForm {
            has_user_keys: properties.index_key_is_user_key,
            has_first_keys: properties.index_type == Some(3),
            is_delta_encoded: properties.index_value_is_delta_encoded,
        }
    }

    /// The form of the upper level of a filter.
    pub(crate) fn without_first_keys(self) -> IndexForm {
        IndexForm { has_first_keys: false, ..self }
    }
}

fn bad(what: &str) -> Error {
    Error::corrupt(CorruptionKind::Malformed, format!("index: {what}"))
}

impl Index {
    /// Understands the content of an index block; every handle is checked against the file.
    pub(crate) fn parse(block: &[u8], form: IndexForm, order: &KeyOrder, footer: &Footer) -> Result<Index> {
        let count_at = block.len().checked_sub(4).ok_or_else(|| bad("no restart count"))?;
        let packed = u32_at(block, count_at).unwrap_or(0);
        if packed & SEPARATED_BIT != 0 {
            return Err(Error::new(ErrorKind::NotSupported, "an index block with its values apart"));
        }
        let restarts = (packed & COUNT_MASK) as usize;
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
            let value_len = if form.is_delta_encoded { None } else { Some(r.varint32("value length")? as usize) };
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
                    if form.has_first_keys {
                        r.length_prefixed("first key")?;
                    }
                    handle
                }
            };
            footer.stored_len(handle)?;
            previous = handle;
            index.push(&key, form.has_user_keys, handle)?;
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

    /// True if the separators are user keys: then what is behind a separator has a larger user key.
    #[inline]
    pub(crate) fn has_user_keys(&self) -> bool {
        self.trailers.is_empty()
    }

    /// True if versions of `user`, which sorts up to the separator of block `index`, may follow in the next block.
    #[inline]
    pub(crate) fn is_split(&self, order: &KeyOrder, index: usize, user: &[u8]) -> bool {
        !self.has_user_keys() && order.compare(self.key(index), user) == Ordering::Equal
    }

    /// True if the separators of `part` lie behind the separator before part `number`, and the last of them is its own.
    pub(crate) fn leads_to(&self, order: &KeyOrder, number: usize, part: &Index) -> bool {
        let Some(last) = part.len().checked_sub(1) else { return false };
        let compare = |own: usize, theirs: usize| self.compare(order, own, part.key(theirs), part.trailer(theirs));
        compare(number, last) == Ordering::Equal && (number == 0 || compare(number - 1, 0) == Ordering::Less)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.keys.len()
            + 4 * self.ends.len()
            + 16 * self.handles.len()
            + 8 * (self.trailers.len() + self.prefixes.len())
    }

    /// True if `key` (internal) lies behind the separator of block `index`.
    pub(crate) fn is_behind(&self, order: &KeyOrder, index: usize, key: &[u8]) -> bool {
        self.compare(order, index, user_key(key), trailer(key)) == Ordering::Less
    }
}
