//! A decoded block, and how it is searched.
//!
//! The content stays as it is in the file: entries are decoded in place, and values are slices of the block. A lookup
//! bisects the restart points and then walks at most one interval; on the way, how many bytes a key shares with the
//! one before often says how it compares, so that most entries cost no comparison.
//!
//! Every length is checked against the block before it is used: damage that has a right checksum is an error too.
//! Source: RocksDB `table/block_based/block.cc`; the form is section 6.6 of its format.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::cache::Charge;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::{u32_at, varint32_at};
use crate::format::comparator::KeyOrder;
use crate::format::key::{TRAILER_LEN, trailer, user_key};

use super::block_builder::shared_prefix;
use super::layout::{COUNT_MASK, HASH_INDEX_BIT, RESERVED_BIT, SEPARATED_BIT, UNIFORM_BIT};
use super::separated;

/// The content of a plain block, its bounds checked.
#[derive(Debug)]
pub(crate) struct Block {
    data: Box<[u8]>,
    /// Where the entries end and the restart offsets start.
    entries_end: u32,
    restarts: u32,
    /// Where the block starts in its file, for messages.
    pub(crate) offset: u64,
}

impl Charge for Block {
    fn charge(&self) -> usize {
        self.data.len() + size_of::<Block>() + 32
    }
}

#[cold]
fn bad(what: &str) -> Error {
    Error::corrupt(CorruptionKind::Malformed, what)
}

/// One entry, by its positions in the block.
#[derive(Debug, Clone, Copy)]
struct Entry {
    shared: usize,
    /// The bytes of the key that are not shared.
    key_start: usize,
    key_end: usize,
    /// The value ends where the next entry starts.
    value_end: usize,
}

impl Block {
    /// Understands the content of a plain block.
    pub(crate) fn new(data: Vec<u8>, offset: u64) -> Result<Block> {
        let packed_at = data.len().checked_sub(4).ok_or_else(|| bad("a block without its restart count"))?;
        let packed = u32_at(&data, packed_at).unwrap_or(0);
        if packed & (RESERVED_BIT | SEPARATED_BIT) != 0 {
            return Block::of_another_form(data, packed, offset);
        }
        let restarts = packed & COUNT_MASK & !UNIFORM_BIT;
        let mut end = packed_at;
        if packed & HASH_INDEX_BIT != 0 {
            // The hash index only speeds lookups up: `buckets, u16 count`.
            let at = end.checked_sub(2).ok_or_else(|| bad("a hash index that does not fit"))?;
            let buckets = usize::from(u16::from_le_bytes([data[at], data[at + 1]]));
            end = at.checked_sub(buckets).ok_or_else(|| bad("a hash index that does not fit"))?;
        }
        let entries_end = (restarts as usize)
            .checked_mul(4)
            .and_then(|len| end.checked_sub(len))
            .ok_or_else(|| bad("more restart points than fit into the block"))?;
        if restarts == 0 || data.len() > u32::MAX as usize {
            return Err(bad("a block without restart points"));
        }
        Ok(Block { data: data.into_boxed_slice(), entries_end: entries_end as u32, restarts, offset })
    }

    /// A block that has to be put into the plain form first.
    #[cold]
    fn of_another_form(data: Vec<u8>, packed: u32, offset: u64) -> Result<Block> {
        if packed & RESERVED_BIT != 0 {
            let what = "a data block of a form that this version does not know";
            return Err(Error::new(ErrorKind::NotSupported, what));
        }
        Block::new(separated::joined(&data, packed)?, offset)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries_end == 0
    }

    /// Where the `index`-th restart point is.
    #[inline]
    fn restart(&self, index: usize) -> Result<usize> {
        let at = u32_at(&self.data, self.entries_end as usize + 4 * index).unwrap_or(u32::MAX) as usize;
        match at < self.entries_end as usize || (at == 0 && index == 0) {
            true => Ok(at),
            false => Err(bad("a restart point outside of the block's entries")),
        }
    }

    /// Decodes the entry at `at`, which is before the end of the entries.
    #[inline]
    fn entry(&self, at: usize) -> Result<Entry> {
        let bytes = &self.data[..self.entries_end as usize];
        let (shared, non_shared, value_len, header) = match bytes.get(at..at + 3) {
            Some([shared, non_shared, value, ..]) if (shared | non_shared | value) < 0x80 => {
                (u32::from(*shared), u32::from(*non_shared), u32::from(*value), 3)
            }
            _ => Block::long_header(bytes.get(at..).unwrap_or_default())
                .ok_or_else(|| bad("an entry that is cut off"))?,
        };
        let key_start = at + header;
        let key_end = key_start + non_shared as usize;
        let value_end = key_end + value_len as usize;
        match value_end <= bytes.len() {
            true => Ok(Entry { shared: shared as usize, key_start, key_end, value_end }),
            false => Err(bad("an entry that is longer than its block")),
        }
    }

    #[cold]
    fn long_header(bytes: &[u8]) -> Option<(u32, u32, u32, usize)> {
        let (shared, a) = varint32_at(bytes)?;
        let (non_shared, b) = varint32_at(&bytes[a..])?;
        let (value, c) = varint32_at(&bytes[a + b..])?;
        Some((shared, non_shared, value, a + b + c))
    }

    /// The whole key at a restart point.
    #[inline]
    fn restart_key(&self, index: usize) -> Result<&[u8]> {
        let entry = self.entry(self.restart(index)?)?;
        if entry.shared != 0 || entry.key_end - entry.key_start < TRAILER_LEN {
            return Err(bad("a restart point that is no whole key"));
        }
        Ok(&self.data[entry.key_start..entry.key_end])
    }

    /// The last restart point whose key is before `(user key, trailer)`, or the first one.
    #[inline]
    fn seek_restart(&self, order: &KeyOrder, target: &[u8], target_trailer: u64) -> Result<usize> {
        let (mut low, mut high) = (0, self.restarts as usize);
        // Invariant: the key at `low` is before the target (or low is 0), the one at `high` is not.
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match compare(order, self.restart_key(middle)?, target, target_trailer) == Ordering::Less {
                true => low = middle,
                false => high = middle,
            }
        }
        Ok(low)
    }

    /// The first entry at or after `(user key, trailer)`: its trailer and value if it has that user key.
    #[inline]
    pub(crate) fn get(&self, order: &KeyOrder, target: &[u8], target_trailer: u64) -> Result<Lookup> {
        if self.is_empty() {
            return Ok(Lookup::AtEnd);
        }
        let mut at = self.restart(self.seek_restart(order, target, target_trailer)?)?;
        let mut key = KeyBuffer::new();
        let is_bytewise = order.is_bytewise();
        // The last key differs from the target at this byte, where it is smaller.
        let mut smaller_at = usize::MAX;
        while at < self.entries_end as usize {
            let entry = self.entry(at)?;
            let suffix = &self.data[entry.key_start..entry.key_end];
            let full =
                key.set(entry.shared, suffix).ok_or_else(|| bad("a key that shares more bytes than there are"))?;
            let Some(user_len) = full.len().checked_sub(TRAILER_LEN) else {
                return Err(bad("a key without its trailer"));
            };
            at = entry.value_end;
            if entry.shared > smaller_at && user_len > smaller_at {
                continue;
            }
            let user = &full[..user_len];
            if is_bytewise {
                let shared = shared_prefix(user, target);
                match (user.get(shared), target.get(shared)) {
                    (Some(a), Some(b)) if a < b => {
                        smaller_at = shared;
                        continue;
                    }
                    (None, Some(_)) => {
                        smaller_at = usize::MAX;
                        continue;
                    }
                    (None, None) => {}
                    _ => return Ok(Lookup::Absent),
                }
            } else {
                match order.compare(user, target) {
                    Ordering::Less => continue,
                    Ordering::Equal => {}
                    Ordering::Greater => return Ok(Lookup::Absent),
                }
            }
            let found = trailer(full);
            if found <= target_trailer {
                return Ok(Lookup::Found { trailer: found, value: entry.key_end..entry.value_end });
            }
            smaller_at = usize::MAX;
        }
        Ok(Lookup::AtEnd)
    }
}

/// How an internal key sorts against a user key and a trailer.
#[inline]
fn compare(order: &KeyOrder, key: &[u8], target: &[u8], target_trailer: u64) -> Ordering {
    match order.compare(user_key(key), target) {
        Ordering::Equal => target_trailer.cmp(&trailer(key)),
        other => other,
    }
}

/// What a lookup in a block found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The newest entry of the user key that is not newer than asked for.
    Found { trailer: u64, value: Range<usize> },
    /// The next entry has a larger user key.
    Absent,
    /// All entries are before: the next block may have it.
    AtEnd,
}

/// The key that is being put together: on the stack, unless it is long.
struct KeyBuffer {
    inline: [u8; KeyBuffer::INLINE],
    len: usize,
    long: Vec<u8>,
}

impl KeyBuffer {
    const INLINE: usize = 120;

    #[inline]
    fn new() -> KeyBuffer {
        KeyBuffer { inline: [0; KeyBuffer::INLINE], len: 0, long: Vec::new() }
    }

    /// Keeps `shared` bytes and adds `suffix`; `None` if there are not that many bytes.
    #[inline]
    fn set(&mut self, shared: usize, suffix: &[u8]) -> Option<&[u8]> {
        if shared > self.len {
            return None;
        }
        let len = shared + suffix.len();
        if len <= KeyBuffer::INLINE && self.long.is_empty() {
            self.inline[shared..len].copy_from_slice(suffix);
            self.len = len;
            return Some(&self.inline[..len]);
        }
        self.set_long(shared, suffix);
        Some(&self.long)
    }

    #[cold]
    fn set_long(&mut self, shared: usize, suffix: &[u8]) {
        if self.long.is_empty() {
            self.long.extend_from_slice(&self.inline[..shared]);
        }
        self.long.truncate(shared);
        self.long.extend_from_slice(suffix);
        self.len = self.long.len();
    }
}

/// A value inside a block, which it keeps alive.
#[derive(Clone)]
pub(crate) struct BlockSlice {
    block: Arc<Block>,
    start: u32,
    end: u32,
}

impl BlockSlice {
    #[inline]
    pub(crate) fn new(block: Arc<Block>, range: Range<usize>) -> BlockSlice {
        // Blocks are shorter than 4 GiB: `Block::new`.
        BlockSlice { block, start: range.start as u32, end: range.end as u32 }
    }
}

impl Deref for BlockSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.block.data[self.start as usize..self.end as usize]
    }
}

impl fmt::Debug for BlockSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSlice({} bytes)", self.len())
    }
}

/// A position in a block. The block is handed in with each call, so that a cursor can go from block to block.
#[derive(Debug, Default)]
pub(crate) struct BlockCursor {
    /// Where the current entry starts, and where the next one does.
    at: usize,
    next: usize,
    value_start: usize,
    restart: usize,
    /// How many bytes the current key has in common with the one before it.
    shared: usize,
    key: Vec<u8>,
    is_valid: bool,
}

impl BlockCursor {
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.is_valid
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The current key, to be given another trailer; [`BlockCursor::next`] needs the old one back.
    pub(crate) fn key_mut(&mut self) -> &mut [u8] {
        &mut self.key
    }

    #[inline]
    pub(crate) fn value_range(&self) -> Range<usize> {
        self.value_start..self.next
    }

    #[inline]
    pub(crate) fn value<'b>(&self, block: &'b Block) -> &'b [u8] {
        &block.data[self.value_start..self.next]
    }

    pub(crate) fn invalidate(&mut self) {
        self.is_valid = false;
    }

    /// Decodes the entry at `next`; false at the end.
    #[inline]
    fn decode(&mut self, block: &Block) -> Result<bool> {
        if self.next >= block.entries_end as usize {
            self.is_valid = false;
            return Ok(false);
        }
        self.at = self.next;
        let entry = block.entry(self.at)?;
        if entry.shared > self.key.len() {
            return Err(bad("a key that shares more bytes than there are"));
        }
        self.shared = entry.shared;
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(&block.data[entry.key_start..entry.key_end]);
        if self.key.len() < TRAILER_LEN {
            return Err(bad("a key without its trailer"));
        }
        self.value_start = entry.key_end;
        self.next = entry.value_end;
        self.is_valid = true;
        Ok(true)
    }

    fn go_to_restart(&mut self, block: &Block, index: usize) -> Result<()> {
        self.restart = index;
        self.key.clear();
        self.next = block.restart(index)?;
        self.is_valid = false;
        Ok(())
    }

    pub(crate) fn seek_to_first(&mut self, block: &Block) -> Result<()> {
        self.go_to_restart(block, 0)?;
        self.decode(block)?;
        Ok(())
    }

    pub(crate) fn seek_to_last(&mut self, block: &Block) -> Result<()> {
        self.go_to_restart(block, block.restarts as usize - 1)?;
        while self.decode(block)? && self.next < block.entries_end as usize {}
        Ok(())
    }

    /// To the first entry at or after the internal key `target`.
    #[inline(always)]
    pub(crate) fn seek(&mut self, block: &Block, order: &KeyOrder, target: &[u8]) -> Result<()> {
        if block.is_empty() {
            self.is_valid = false;
            return Ok(());
        }
        let (user, target_trailer) = (user_key(target), trailer(target));
        let restart = block.seek_restart(order, user, target_trailer)?;
        self.go_to_restart(block, restart)?;
        // As in `Block::get`: the last key differs from the target at this byte, where it is smaller.
        let mut smaller_at = usize::MAX;
        while self.decode(block)? {
            let key = user_key(&self.key);
            if self.shared > smaller_at && key.len() > smaller_at {
                continue;
            }
            smaller_at = usize::MAX;
            if order.is_bytewise() {
                let at = shared_prefix(key, user);
                match (key.get(at), user.get(at)) {
                    (Some(a), Some(b)) if a < b => smaller_at = at,
                    (None, Some(_)) => {}
                    (None, None) if target_trailer < trailer(&self.key) => {}
                    _ => return Ok(()),
                }
            } else if compare(order, &self.key, user, target_trailer) != Ordering::Less {
                return Ok(());
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn next(&mut self, block: &Block) -> Result<()> {
        self.decode(block)?;
        Ok(())
    }

    /// To the entry before; invalid before the first.
    pub(crate) fn prev(&mut self, block: &Block) -> Result<()> {
        let before = self.at;
        if before == 0 {
            self.is_valid = false;
            return Ok(());
        }
        // The last restart point before the current entry.
        let (mut low, mut high) = (0, block.restarts as usize);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if block.restart(middle)? < before {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.go_to_restart(block, low)?;
        while self.decode(block)? && self.next < before {}
        match self.is_valid && self.next == before {
            true => Ok(()),
            false => Err(bad("entries that do not meet their restart points")),
        }
    }
}

/// The entries of a metaindex or properties block, in order, whole.
pub(crate) struct PlainEntries<'a> {
    data: &'a [u8],
    at: usize,
    key: Vec<u8>,
}

impl<'a> PlainEntries<'a> {
    pub(crate) fn new(block: &'a [u8]) -> Result<PlainEntries<'a>> {
        let at = block.len().checked_sub(4).ok_or_else(|| bad("a block without its restart count"))?;
        let restarts = (u32_at(block, at).unwrap_or(0) & COUNT_MASK & !UNIFORM_BIT) as usize;
        let end = restarts
            .checked_mul(4)
            .and_then(|len| at.checked_sub(len))
            .ok_or_else(|| bad("more restart points than fit into the block"))?;
        Ok(PlainEntries { data: &block[..end], at: 0, key: Vec::new() })
    }

    /// The offset of the value of `name` from the start of the block.
    pub(crate) fn value_offset(block: &[u8], name: &[u8]) -> Option<usize> {
        let mut entries = PlainEntries::new(block).ok()?;
        while let Some(entry) = entries.next() {
            let (key, value) = entry.ok()?;
            if key == name {
                return Some(entries.at - value.len());
            }
        }
        None
    }

    fn decode(&mut self) -> Option<(usize, usize)> {
        let (shared, non_shared, value, header) = Block::long_header(self.data.get(self.at..)?)?;
        let key_start = self.at + header;
        let key_end = key_start.checked_add(non_shared as usize)?;
        let value_end = key_end.checked_add(value as usize)?;
        if shared as usize > self.key.len() || value_end > self.data.len() {
            return None;
        }
        self.key.truncate(shared as usize);
        self.key.extend_from_slice(&self.data[key_start..key_end]);
        Some((key_end, value_end))
    }
}

impl<'a> Iterator for PlainEntries<'a> {
    type Item = Result<(Vec<u8>, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.data.len() {
            return None;
        }
        match self.decode() {
            Some((start, end)) => {
                self.at = end;
                Some(Ok((self.key.clone(), &self.data[start..end])))
            }
            None => {
                self.at = self.data.len();
                Some(Err(bad("an entry that is longer than its block")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::block_builder::BlockBuilder;
    use super::*;
    use crate::format::key::{SEEK_KIND, SequenceNumber, internal_key, pack_trailer};

    fn key(user: &str, sequence: u64) -> Vec<u8> {
        internal_key(user.as_bytes(), SequenceNumber(sequence), 1)
    }

    fn sample(interval: usize) -> (Block, Vec<Vec<u8>>) {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for i in 0..100u64 {
            let long = "x".repeat((i % 7) as usize * 30);
            keys.push(key(&format!("key{:03}{long}", i / 2 * 2), 1000 - i));
        }
        // Keys that continue another one with bytes that look like its trailer.
        keys.push(key("z", 5));
        keys.push(key("z\x01", 5));
        keys.push(key("z\x01\x05", 5));
        keys.sort_by(|a, b| KeyOrder::Bytewise.compare_internal(a, b));
        let mut builder = BlockBuilder::new(interval);
        for (i, key) in keys.iter().enumerate() {
            builder.add(key, format!("value {i}").as_bytes());
        }
        (Block::new(builder.finish().to_vec(), 0).expect("own block"), keys)
    }

    #[test]
    fn every_key_is_found_by_get_and_seek_whatever_the_interval() {
        for interval in [1, 2, 16, 1000] {
            let (block, keys) = sample(interval);
            let order = KeyOrder::Bytewise;
            let mut cursor = BlockCursor::default();
            for (i, key) in keys.iter().enumerate() {
                let found = block.get(&order, user_key(key), trailer(key)).expect("sound");
                let Lookup::Found { trailer: t, value } = found else { panic!("{i}: {found:?}") };
                assert_eq!((t, &block.data[value]), (trailer(key), format!("value {i}").as_bytes()));
                cursor.seek(&block, &order, key).expect("sound");
                assert_eq!(cursor.key(), &key[..]);
                cursor.prev(&block).expect("sound");
                assert_eq!(cursor.valid().then(|| cursor.key().to_vec()), i.checked_sub(1).map(|i| keys[i].clone()));
            }
            for absent in ["", "key", "key001", "key0001", "zz"] {
                let found = block.get(&order, absent.as_bytes(), pack_trailer(SequenceNumber::MAX, SEEK_KIND));
                assert!(!matches!(found, Ok(Lookup::Found { .. })), "{absent}");
            }
            cursor.seek_to_last(&block).expect("sound");
            for key in keys.iter().rev() {
                assert_eq!(cursor.key(), &key[..]);
                cursor.prev(&block).expect("sound");
            }
            assert!(!cursor.valid());
        }
    }

    #[test]
    fn flipped_and_cut_blocks_never_panic() {
        let (block, keys) = sample(4);
        let bytes = block.data.to_vec();
        let walk = |bytes: Vec<u8>| -> Result<()> {
            let block = Block::new(bytes, 0)?;
            let mut cursor = BlockCursor::default();
            cursor.seek_to_first(&block)?;
            for _ in 0..500 {
                if !cursor.valid() {
                    break;
                }
                cursor.next(&block)?;
            }
            cursor.seek_to_last(&block)?;
            for _ in 0..20 {
                if cursor.valid() {
                    cursor.prev(&block)?;
                }
            }
            for key in keys.iter().step_by(7) {
                block.get(&KeyOrder::Bytewise, user_key(key), trailer(key))?;
            }
            Ok(())
        };
        assert!(walk(bytes.clone()).is_ok());
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                let _ = walk(flipped);
            }
            let _ = walk(bytes[..at].to_vec());
        }
    }
}
