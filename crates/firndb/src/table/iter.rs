//! An iterator over one table: owned, both ways, block by block.
//!
//! Flow: `version`'s iterators -> **[`TableIter`]** -> the index (which block) -> the cache or the file -> the block. Where
//! the index has two levels, the iterator is in one part of it, and goes from part to part as it goes from block to block.
//!
//! Invariants
//! 1. A block, or a part of the index, is read only if, by the separators of the index, it may hold what is asked for. The separator before a block
//!    says that it is behind the upper bound, its own that it is before the lower one.
//! 2. Forward, blocks that are not cached are read in larger pieces once a scan is under way, but not beyond the last block
//!    within the bounds.
//! 3. A table that was ingested shows its sequence number in every key.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{SEEK_KIND, SequenceNumber, TRAILER_LEN, internal_key, pack_trailer, trailer, user_key};
use crate::format::prefix::PrefixExtractor;
use crate::iter::InternalIterator;
use crate::iter::bounds::Bounds;
use crate::metrics::Ticker;

use super::block::{Block, BlockCursor, BlockSlice};
use super::index::Index;
use super::layout::{BlockHandle, stored_bytes};
use super::parts::{Part, Parts, TwoLevels};
use super::read_ahead::ReadAhead;
use super::reader::{TableReadOptions, TableReader};

/// A position in a table.
pub(crate) struct TableIter {
    table: Arc<TableReader>,
    options: TableReadOptions,
    bounds: Option<Arc<Bounds>>,
    /// The current part of an index of two levels, and its number.
    part: Option<Arc<Part>>,
    part_number: usize,
    /// The number of the current block in its part.
    index: usize,
    block: Option<Arc<Block>>,
    cursor: BlockCursor,
    /// The trailer that the file has, while the key shows the table's own sequence number.
    stored_trailer: Option<[u8; TRAILER_LEN]>,
    ahead: ReadAhead,
}

impl TableReader {
    /// An iterator that is on no entry yet.
    pub(crate) fn iter(self: &Arc<Self>, options: TableReadOptions) -> TableIter {
        self.iter_within(options, None)
    }

    /// The same, with no interest in what is outside of the bounds: forward, it may end at the upper one, and backward at
    /// the lower one.
    pub(crate) fn iter_within(self: &Arc<Self>, options: TableReadOptions, bounds: Option<Arc<Bounds>>) -> TableIter {
        TableIter {
            table: Arc::clone(self),
            part: None,
            part_number: 0,
            index: usize::MAX,
            options,
            bounds,
            block: None,
            cursor: BlockCursor::default(),
            stored_trailer: None,
            ahead: ReadAhead::default(),
        }
    }
}

impl TableIter {
    pub(crate) fn order(&self) -> &KeyOrder {
        self.table.order()
    }

    #[cfg(test)]
    pub(super) fn bytes_ahead(&self) -> usize {
        self.ahead.bytes_len()
    }

    /// To no entry.
    pub(crate) fn leave(&mut self) {
        self.cursor.invalidate();
        self.stored_trailer = None;
        self.block = None;
    }

    /// The value, kept alive by itself.
    #[inline]
    pub(crate) fn value_slice(&self) -> Option<BlockSlice> {
        let block = self.block.as_ref().filter(|_| self.valid())?;
        Some(BlockSlice::new(Arc::clone(block), self.cursor.value_range()))
    }

    /// The part that the iterator is in; `None` if it is in none yet.
    #[inline]
    fn part(&self) -> Option<&Part> {
        match (&self.table.parts, &self.part) {
            (Parts::One(part), _) => Some(part),
            (Parts::Many(_), part) => part.as_deref(),
        }
    }

    /// The number of blocks in the current part.
    #[inline]
    fn len(&self) -> usize {
        self.part().map_or(0, |part| part.index.len())
    }

    /// True if the current key lies between the separators of its block.
    pub(super) fn is_between_separators(&self) -> bool {
        let (Some(part), order, key) = (self.part(), self.order(), self.key()) else { return false };
        let is_behind_the_one_before = match (self.index.checked_sub(1), &self.table.parts) {
            (Some(before), _) => part.index.is_behind(order, before, key),
            (None, Parts::Many(levels)) if self.part_number > 0 => {
                levels.top.is_behind(order, self.part_number - 1, key)
            }
            (None, _) => true,
        };
        self.index < part.index.len() && !part.index.is_behind(order, self.index, key) && is_behind_the_one_before
    }

    #[cold]
    fn at(&self, error: Error) -> Error {
        let offset = self.block.as_ref().map_or(0, |block| block.offset);
        self.table.source.at(error, offset)
    }

    /// True if everything behind separator `index` is behind the upper bound.
    #[cold]
    fn ends_at(&self, separators: &Index, index: usize) -> bool {
        let Some(bounds) = &self.bounds else { return false };
        let separator = separators.key(index);
        match separators.has_user_keys() {
            true => bounds.end_at(self.order(), separator),
            // Older versions of the separator's key may follow it.
            false => bounds.is_above(self.order(), separator),
        }
    }

    /// True if everything in block `index` of the current part is behind the upper bound.
    #[cold]
    fn is_behind(&self, index: usize) -> bool {
        match (index.checked_sub(1), self.part()) {
            (Some(before), Some(part)) => self.ends_at(&part.index, before),
            // The first block of a part: it was asked when the part was entered.
            _ => false,
        }
    }

    /// True if everything up to separator `index` is before the lower bound.
    fn begins_after(&self, separators: &Index, index: usize) -> bool {
        self.bounds.as_ref().is_some_and(|bounds| bounds.is_below(self.order(), separators.key(index)))
    }

    /// Block `index`, or the one after it if everything in it is before the lower bound.
    #[cold]
    fn not_before(&self, index: usize) -> usize {
        match self.part() {
            Some(part) if index < part.index.len() && self.begins_after(&part.index, index) => index + 1,
            _ => index,
        }
    }

    /// Makes part `number` the current one; false, and nothing changed, if there is none, or none within the upper bound.
    #[cold]
    fn enter_forward(&mut self, number: usize) -> Result<bool> {
        let table = Arc::clone(&self.table);
        let Parts::Many(levels) = &table.parts else { return Ok(false) };
        if number >= levels.top.len() || number > 0 && self.ends_at(&levels.top, number - 1) {
            return Ok(false);
        }
        self.enter(levels, number).map(|()| true)
    }

    /// Makes the part before `end` the current one; false, and nothing changed, if there is none, or none within the lower
    /// bound.
    #[cold]
    fn enter_backward(&mut self, end: usize) -> Result<bool> {
        let table = Arc::clone(&self.table);
        let (Parts::Many(levels), Some(number)) = (&table.parts, end.checked_sub(1)) else { return Ok(false) };
        if self.begins_after(&levels.top, number) {
            return Ok(false);
        }
        self.enter(levels, number).map(|()| true)
    }

    fn enter(&mut self, levels: &TwoLevels, number: usize) -> Result<()> {
        if self.part.is_none() || self.part_number != number {
            self.cursor.invalidate();
            self.stored_trailer = None;
            self.block = None;
            self.part = None;
            self.part = Some(levels.part(&self.table.source, number, &self.options)?);
            self.part_number = number;
        }
        Ok(())
    }

    /// Goes to the part in which `(user key, trailer)` is, if there are parts; false if it is behind all that is within the
    /// upper bound.
    #[inline]
    fn seek_part(&mut self, user: &[u8], trailer: u64) -> Result<bool> {
        match &self.table.parts {
            Parts::One(_) => Ok(true),
            Parts::Many(levels) => self.enter_forward(levels.top.find(self.order(), user, trailer)),
        }
    }

    /// True if the table's filter knows that nothing from `target` up to the upper bound is there.
    #[inline]
    fn is_ruled_out(&self, target: &[u8]) -> Result<bool> {
        let (Some(bounds), Some(prefixes)) = (&self.bounds, self.table.prefixes) else { return Ok(false) };
        let to = bounds.upper.as_ref().map(|upper| &upper[..]);
        self.ask_filter(prefixes, (user_key(target), trailer(target)), to)
    }

    /// The same from the lower bound up to `target`.
    #[inline]
    fn is_ruled_out_backward(&self, target: &[u8]) -> Result<bool> {
        let (Some(bounds), Some(prefixes)) = (&self.bounds, self.table.prefixes) else { return Ok(false) };
        match &bounds.lower {
            Bound::Unbounded => Ok(false),
            Bound::Included(lower) | Bound::Excluded(lower) => {
                self.ask_filter(prefixes, (lower, u64::MAX), Bound::Included(user_key(target)))
            }
        }
    }

    /// True if the filter denies everything between a user key with a trailer and a user key.
    fn ask_filter(&self, prefixes: PrefixExtractor, from: (&[u8], u64), to: Bound<&[u8]>) -> Result<bool> {
        let (filters, source) = (&self.table.filters, &self.table.source);
        let is_ruled_out = filters.rule_out_range(source, prefixes, from, to, &self.options)?;
        source.context.statistics.add(Ticker::BloomFilterPrefixChecked, 1);
        if is_ruled_out {
            source.context.statistics.add(Ticker::BloomFilterPrefixUseful, 1);
        }
        Ok(is_ruled_out)
    }

    /// Makes block `index` the current one, to go forward from it; false if there is none within the bounds.
    #[inline]
    fn load_forward(&mut self, index: usize) -> Result<bool> {
        if index >= self.len() {
            if self.part.is_some() && self.enter_forward(self.part_number + 1)? {
                return self.load(0, true).map(|()| true);
            }
            self.leave();
            return Ok(false);
        }
        if self.bounds.is_some() && self.is_behind(index) {
            self.leave();
            return Ok(false);
        }
        self.load(index, true).map(|()| true)
    }

    /// Makes the block before `end` the current one, to go backward from it; false if there is none within the bounds.
    fn load_backward(&mut self, end: usize) -> Result<bool> {
        let mut end = end;
        if end == 0 && self.part.is_some() && self.enter_backward(self.part_number)? {
            end = self.len();
        }
        match (end.checked_sub(1), self.part()) {
            (Some(index), Some(part)) if !self.begins_after(&part.index, index) => {
                self.load(index, false).map(|()| true)
            }
            _ => {
                self.leave();
                Ok(false)
            }
        }
    }

    #[inline]
    fn load(&mut self, index: usize, is_forward: bool) -> Result<()> {
        self.cursor.invalidate();
        self.stored_trailer = None;
        if self.index == index && self.block.is_some() {
            return Ok(());
        }
        self.index = index;
        self.block = None;
        let block = match self.part().and_then(|part| self.table.cached(part, index)) {
            Some(block) => block,
            None => self.read_and_admit(index, is_forward)?,
        };
        self.block = Some(block);
        Ok(())
    }

    #[cold]
    fn read_and_admit(&mut self, index: usize, is_forward: bool) -> Result<Arc<Block>> {
        let held = self.part.clone();
        let table = Arc::clone(&self.table);
        let part = match (&table.parts, &held) {
            (Parts::One(part), _) => part,
            (Parts::Many(_), Some(part)) => &**part,
            (Parts::Many(_), None) => return Err(Error::new(ErrorKind::Internal, "a block of no part")),
        };
        let stored = self.read(part.index.handle(index), &part.index, is_forward)?;
        self.table.admit(part, index, stored, &self.options)
    }

    /// Where the blocks within the upper bound end in the file, or those of the current part.
    fn end_of_bounds(&self, index: &Index) -> u64 {
        let footer = &self.table.source.footer;
        let (user, trailer) = match self.bounds.as_ref().map(|bounds| &bounds.upper) {
            None | Some(Bound::Unbounded) => return footer.offset,
            Some(Bound::Included(upper)) => (upper, 0),
            Some(Bound::Excluded(upper)) => (upper, u64::MAX),
        };
        let last = match (index.find(self.order(), user, trailer), &self.table.parts) {
            (last, _) if last < index.len() => last,
            (_, Parts::Many(_)) if index.len() > 0 => index.len() - 1,
            _ => return footer.offset,
        };
        let handle = index.handle(last);
        handle.offset.saturating_add(stored_bytes(handle.size))
    }

    /// The stored bytes of a block, by way of the bytes read ahead.
    fn read(&mut self, handle: BlockHandle, index: &Index, is_forward: bool) -> Result<Vec<u8>> {
        let end = self.end_of_bounds(index);
        self.ahead.read(&self.table.source, handle, end, is_forward, &self.options)
    }

    /// Shows the table's own sequence number in the key, if it has one.
    #[inline]
    fn stamp(&mut self) {
        if let Some(sequence) = self.table.global_sequence
            && self.cursor.valid()
        {
            let key = self.cursor.key_mut();
            if let Some(slot) = key.last_chunk_mut::<TRAILER_LEN>() {
                self.stored_trailer = Some(*slot);
                *slot = pack_trailer(sequence, slot[0]).to_le_bytes();
            }
        }
    }

    /// Puts the stored trailer back: the next key may share its bytes.
    #[inline]
    fn unstamp(&mut self) {
        if let Some(stored) = self.stored_trailer.take()
            && let Some(slot) = self.cursor.key_mut().last_chunk_mut::<TRAILER_LEN>()
        {
            *slot = stored;
        }
    }

    /// Goes on to the following blocks while the current one is at its end.
    fn skip_forward(&mut self) -> Result<()> {
        while !self.cursor.valid() && self.block.is_some() {
            if !self.load_forward(self.index + 1)? {
                return Ok(());
            }
            if let Some(block) = &self.block {
                self.cursor.seek_to_first(block).map_err(|error| self.at(error))?;
            }
        }
        self.stamp();
        Ok(())
    }

    /// Goes back to the blocks before while the current one is before its start.
    fn skip_backward(&mut self) -> Result<()> {
        while !self.cursor.valid() && self.block.is_some() {
            if !self.load_backward(self.index)? {
                return Ok(());
            }
            if let Some(block) = &self.block {
                self.cursor.seek_to_last(block).map_err(|error| self.at(error))?;
            }
        }
        self.stamp();
        Ok(())
    }

    fn fail<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.cursor.invalidate();
            self.block = None;
        }
        result
    }

    fn try_seek(&mut self, target: &[u8]) -> Result<()> {
        // What is stored in an ingested table has sequence number 0, once a user key: any version of the target's is
        // found, and then judged by the number that it shows.
        let any_version;
        let stored = match self.table.global_sequence {
            None => target,
            Some(_) => {
                any_version = internal_key(user_key(target), SequenceNumber::MAX, SEEK_KIND);
                &any_version
            }
        };
        if self.is_ruled_out(stored)? || !self.seek_part(user_key(stored), trailer(stored))? {
            self.leave();
            return Ok(());
        }
        let order = self.table.order();
        let index = self.part().map_or(0, |part| part.index.find(order, user_key(stored), trailer(stored)));
        // A target is not before the lower bound; but its block is, if it ends with a key that the bound excludes.
        let index = if self.bounds.is_some() { self.not_before(index) } else { index };
        if !self.load_forward(index)? {
            return Ok(());
        }
        if let Some(block) = &self.block {
            self.cursor.seek(block, self.table.order(), stored).map_err(|error| self.at(error))?;
        }
        self.skip_forward()?;
        let is_before = |key: &[u8]| self.table.order().compare_internal(key, target) == Ordering::Less;
        match self.table.global_sequence.is_some() && self.valid() && is_before(self.cursor.key()) {
            true => self.next(),
            false => Ok(()),
        }
    }

    // Apart, so that seeks forward keep the block's search inlined.
    #[cold]
    fn try_seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let oldest_version;
        let stored = match self.table.global_sequence {
            None => target,
            Some(_) => {
                oldest_version = internal_key(user_key(target), SequenceNumber::ZERO, 0);
                &oldest_version
            }
        };
        if self.is_ruled_out_backward(stored)? {
            self.leave();
            return Ok(());
        }
        // The last entry is in this block if it is not behind the target as a whole, and else at the end of the one before.
        let order = self.table.order();
        if let Parts::Many(levels) = &self.table.parts {
            let number = levels.top.find(order, user_key(stored), trailer(stored));
            if !self.enter_backward((number + 1).min(levels.top.len()))? {
                self.leave();
                return Ok(());
            }
        }
        let order = self.table.order();
        let index = self.part().map_or(0, |part| part.index.find(order, user_key(stored), trailer(stored)));
        if !self.load_backward((index + 1).min(self.len()))? {
            return Ok(());
        }
        if let Some(block) = &self.block {
            let order = self.table.order();
            let cursor = &mut self.cursor;
            let found = cursor.seek(block, order, stored).and_then(|()| match cursor.valid() {
                false => cursor.seek_to_last(block),
                true if order.compare_internal(cursor.key(), stored) == Ordering::Greater => cursor.prev(block),
                true => Ok(()),
            });
            found.map_err(|error| self.at(error))?;
        }
        self.skip_backward()?;
        let is_behind = |key: &[u8]| self.table.order().compare_internal(key, target) == Ordering::Greater;
        match self.table.global_sequence.is_some() && self.valid() && is_behind(self.cursor.key()) {
            true => self.prev(),
            false => Ok(()),
        }
    }
}

impl InternalIterator for TableIter {
    #[inline]
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        let result = (|| {
            if matches!(self.table.parts, Parts::Many(_)) && !self.enter_forward(0)? {
                self.leave();
                return Ok(());
            }
            if self.load_forward(0)? {
                if let Some(block) = &self.block {
                    self.cursor.seek_to_first(block).map_err(|error| self.at(error))?;
                }
                self.skip_forward()?;
            }
            Ok(())
        })();
        self.fail(result)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let result = (|| {
            if let Parts::Many(levels) = &self.table.parts
                && !self.enter_backward(levels.top.len())?
            {
                self.leave();
                return Ok(());
            }
            self.load_backward(self.len())?;
            if let Some(block) = &self.block {
                self.cursor.seek_to_last(block).map_err(|error| self.at(error))?;
            }
            self.skip_backward()
        })();
        self.fail(result)
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        let result = self.try_seek(target);
        self.fail(result)
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        let result = self.try_seek_for_prev(target);
        self.fail(result)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.unstamp();
        let Some(block) = &self.block else { return Ok(()) };
        if let Err(error) = self.cursor.next(block) {
            let error = self.at(error);
            return self.fail(Err(error));
        }
        if self.cursor.valid() && self.table.global_sequence.is_none() {
            return Ok(());
        }
        let result = self.skip_forward();
        self.fail(result)
    }

    fn prev(&mut self) -> Result<()> {
        self.unstamp();
        let Some(block) = &self.block else { return Ok(()) };
        if let Err(error) = self.cursor.prev(block) {
            let error = self.at(error);
            return self.fail(Err(error));
        }
        let result = self.skip_backward();
        self.fail(result)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        match &self.block {
            Some(block) => self.cursor.value(block),
            None => &[],
        }
    }
}
