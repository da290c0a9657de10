//! The order of one family's operations in a batch: places in the batch's bytes, sorted by key, the newest first.
//!
//! The places stand in pieces of a few hundred, so that an insert moves little, keys that ascend cost a push, and a walk goes
//! through memory as it lies. No key is copied: the first bytes of each are kept beside its place, which decides most
//! comparisons under the bytewise order.

use std::cmp::Ordering;
use std::sync::OnceLock;

use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{ColumnFamilyId, SequenceNumber, ValueKind, pack_trailer, trailer_sequence};
use crate::iter::range_tombstones::{RangeTombstone, RangeTombstones};
use crate::sync::Arc;

/// How many places a piece has at most.
const PIECE_MAX: usize = 256;

/// Where an operation is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    prefix: u64,
    trailer: u64,
    key_at: usize,
    value_at: usize,
    key_len: u32,
    value_len: u32,
}

impl Entry {
    /// The `number`th operation of a batch. Lengths that a batch accepts fit.
    pub(super) fn new(number: u32, kind: ValueKind, (key_at, key_len): (usize, usize), value: (usize, usize)) -> Entry {
        let trailer = pack_trailer(own_number(number), kind as u8);
        Entry { prefix: 0, trailer, key_at, value_at: value.0, key_len: key_len as u32, value_len: value.1 as u32 }
    }

    #[inline]
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.key_at..self.key_at + self.key_len as usize]
    }

    #[inline]
    pub(super) fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.value_at..self.value_at + self.value_len as usize]
    }

    #[inline]
    pub(super) fn trailer(&self) -> u64 {
        self.trailer
    }

    #[inline]
    pub(super) fn sequence(&self) -> SequenceNumber {
        trailer_sequence(self.trailer)
    }

    pub(super) fn kind(&self) -> Option<ValueKind> {
        ValueKind::from_byte(self.trailer as u8)
    }
}

/// The number that the `number`th operation of a batch has for its reader.
pub(super) fn own_number(number: u32) -> SequenceNumber {
    SequenceNumber(SequenceNumber::OWN.0 + u64::from(number))
}

/// A place among the entries: the piece, and the place in it.
pub(super) type Place = (usize, usize);

/// See the module's text. Whatever takes `bytes` is given those of the batch.
#[derive(Debug, Clone)]
pub(super) struct FamilyIndex {
    pub(super) id: ColumnFamilyId,
    order: KeyOrder,
    is_bytewise: bool,
    /// None of them is empty.
    pieces: Vec<Vec<Entry>>,
    /// In the order of the batch.
    ranges: Vec<RangeTombstone>,
    /// Made of `ranges` when somebody asks.
    tombstones: OnceLock<Arc<RangeTombstones>>,
}

impl FamilyIndex {
    pub(super) fn new(id: ColumnFamilyId, order: KeyOrder) -> FamilyIndex {
        let is_bytewise = order.is_bytewise();
        FamilyIndex { id, order, is_bytewise, pieces: Vec::new(), ranges: Vec::new(), tombstones: OnceLock::new() }
    }

    pub(super) fn order(&self) -> &KeyOrder {
        &self.order
    }

    #[inline]
    fn prefix(&self, key: &[u8]) -> u64 {
        if self.is_bytewise { prefix_u64(key) } else { 0 }
    }

    /// How an entry stands to `(key, trailer)`; larger trailers come first.
    #[inline]
    fn compare(&self, bytes: &[u8], entry: &Entry, prefix: u64, key: &[u8], trailer: u64) -> Ordering {
        entry
            .prefix
            .cmp(&prefix)
            .then_with(|| self.order.compare(entry.key(bytes), key))
            .then_with(|| trailer.cmp(&entry.trailer))
    }

    /// The first place at or behind `(key, trailer)`.
    pub(super) fn lower_bound(&self, bytes: &[u8], key: &[u8], trailer: u64) -> Place {
        let prefix = self.prefix(key);
        let is_before = |entry: &Entry| self.compare(bytes, entry, prefix, key, trailer).is_lt();
        let piece = self.pieces.partition_point(|piece| piece.last().is_some_and(is_before));
        let at = self.pieces.get(piece).map_or(0, |entries| entries.partition_point(is_before));
        (piece, at)
    }

    pub(super) fn get(&self, (piece, at): Place) -> Option<&Entry> {
        self.pieces.get(piece)?.get(at)
    }

    pub(super) fn first(&self) -> Place {
        (0, 0)
    }

    pub(super) fn last(&self) -> Option<Place> {
        self.before((self.pieces.len(), 0))
    }

    /// The place behind one that has an entry.
    pub(super) fn after(&self, (piece, at): Place) -> Place {
        match self.pieces.get(piece).is_some_and(|entries| at + 1 < entries.len()) {
            true => (piece, at + 1),
            false => (piece + 1, 0),
        }
    }

    pub(super) fn before(&self, (piece, at): Place) -> Option<Place> {
        if let Some(at) = at.checked_sub(1) {
            return Some((piece, at));
        }
        let piece = piece.checked_sub(1)?;
        Some((piece, self.pieces.get(piece)?.len().checked_sub(1)?))
    }

    pub(super) fn insert(&mut self, bytes: &[u8], mut entry: Entry) {
        let key = entry.key(bytes);
        entry.prefix = self.prefix(key);
        let (piece, at) = self.lower_bound(bytes, key, entry.trailer);
        let Some(entries) = self.pieces.get_mut(piece) else {
            // Behind all others.
            match self.pieces.last_mut() {
                Some(last) if last.len() < PIECE_MAX => last.push(entry),
                _ => self.pieces.push(vec![entry]),
            }
            return;
        };
        entries.insert(at, entry);
        if entries.len() > PIECE_MAX {
            let upper = entries.split_off(PIECE_MAX / 2);
            self.pieces.insert(piece + 1, upper);
        }
    }

    pub(super) fn remove(&mut self, bytes: &[u8], key: &[u8], trailer: u64) {
        let (piece, at) = self.lower_bound(bytes, key, trailer);
        let Some(entries) = self.pieces.get_mut(piece) else { return };
        if entries.get(at).is_some_and(|entry| entry.trailer == trailer) {
            entries.remove(at);
        }
        if entries.is_empty() {
            self.pieces.remove(piece);
        }
    }

    pub(super) fn delete_range(&mut self, number: u32, begin: &[u8], end: &[u8]) {
        let sequence = own_number(number);
        self.ranges.push(RangeTombstone { begin: begin.to_vec(), end: end.to_vec(), sequence });
        self.tombstones = OnceLock::new();
    }

    /// Forgets the ranges from the `number`th operation on.
    pub(super) fn forget_ranges_from(&mut self, number: u32) {
        let kept = self.ranges.partition_point(|range| range.sequence < own_number(number));
        if kept < self.ranges.len() {
            self.ranges.truncate(kept);
            self.tombstones = OnceLock::new();
        }
    }

    /// The ranges that are deleted; `None` if there are none.
    pub(super) fn tombstones(&self) -> Option<&Arc<RangeTombstones>> {
        if self.ranges.is_empty() {
            return None;
        }
        Some(self.tombstones.get_or_init(|| Arc::new(RangeTombstones::new(&self.order, self.ranges.iter().cloned()))))
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.ranges.clear();
        self.tombstones = OnceLock::new();
    }
}
