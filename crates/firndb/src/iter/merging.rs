//! Many sorted runs as one, in both directions.
//!
//! The children's current keys stand in a small binary heap of numbers; each number has its child's key prefix beside
//! it, so that under the bytewise order most comparisons are of two integers. After a step only the winner moved: it is
//! compared with the runner-up alone, and stays on top for as long as it wins, which is what runs of adjacent keys do.
//!
//! Errors: a child that fails makes the whole iterator invalid until the next seek.
//! Source: Knuth, TAOCP 3, 5.4.1; RocksDB `table/merging_iterator.cc` for the change of direction.

use std::cmp::Ordering;

use crate::error::Result;
use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{trailer, user_key};

use super::InternalIterator;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct MergingIter<I> {
    order: KeyOrder,
    is_bytewise: bool,
    children: Vec<I>,
    /// Valid children, the current one first; `(prefix of its key, its number)`.
    heap: Vec<(u64, u32)>,
    direction: Direction,
}

impl<I: InternalIterator> MergingIter<I> {
    /// Merges `children`. Among equal keys, which sound runs do not have, the earlier child comes first.
    pub(crate) fn new(order: KeyOrder, children: Vec<I>) -> MergingIter<I> {
        MergingIter {
            is_bytewise: order.is_bytewise(),
            order,
            heap: Vec::with_capacity(children.len()),
            children,
            direction: Direction::Forward,
        }
    }

    /// The child that has the current entry.
    #[inline]
    pub(crate) fn current_child(&self) -> Option<&I> {
        self.heap.first().map(|(_, child)| &self.children[*child as usize])
    }

    #[inline]
    fn entry(&self, child: usize) -> (u64, u32) {
        let prefix = if self.is_bytewise { prefix_u64(user_key(self.children[child].key())) } else { 0 };
        (prefix, child as u32)
    }

    /// True if `a` comes out before `b` in the current direction.
    #[inline]
    fn is_before(&self, a: (u64, u32), b: (u64, u32)) -> bool {
        let ordering = match a.0.cmp(&b.0) {
            Ordering::Equal => {
                let (x, y) = (self.children[a.1 as usize].key(), self.children[b.1 as usize].key());
                self.order
                    .compare(user_key(x), user_key(y))
                    .then_with(|| trailer(y).cmp(&trailer(x)))
                    .then(a.1.cmp(&b.1))
            }
            different => different,
        };
        match self.direction {
            Direction::Forward => ordering == Ordering::Less,
            Direction::Backward => ordering == Ordering::Greater,
        }
    }

    /// Lets the entry at `at` sink to its place.
    #[inline]
    fn sift_down(&mut self, mut at: usize) {
        let len = self.heap.len();
        let moving = match self.heap.get(at) {
            Some(entry) => *entry,
            None => return,
        };
        loop {
            let mut child = 2 * at + 1;
            if child >= len {
                break;
            }
            if child + 1 < len && self.is_before(self.heap[child + 1], self.heap[child]) {
                child += 1;
            }
            if !self.is_before(self.heap[child], moving) {
                break;
            }
            self.heap[at] = self.heap[child];
            at = child;
        }
        self.heap[at] = moving;
    }

    /// Makes the heap of all children that are on an entry.
    fn build(&mut self, direction: Direction) {
        self.direction = direction;
        self.heap.clear();
        for child in 0..self.children.len() {
            if self.children[child].valid() {
                let entry = self.entry(child);
                self.heap.push(entry);
            }
        }
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
    }

    /// Moves every child with `go` and starts over in `direction`.
    fn restart(&mut self, direction: Direction, mut go: impl FnMut(&mut I) -> Result<()>) -> Result<()> {
        self.heap.clear();
        for child in &mut self.children {
            go(child)?;
        }
        self.build(direction);
        Ok(())
    }

    /// After the winner moved: puts it back in its place.
    #[inline]
    fn settle(&mut self, winner: usize) {
        // The only one left has nothing to be compared with: its prefix is not needed any more.
        if self.heap.len() == 1 && self.children[winner].valid() {
            return;
        }
        if self.children[winner].valid() {
            self.heap[0] = self.entry(winner);
        } else {
            self.heap.swap_remove(0);
        }
        self.sift_down(0);
    }

    /// Turns around: the children that do not have the current entry go to the other side of it.
    #[cold]
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let Some((_, winner)) = self.heap.first().copied() else { return Ok(()) };
        let winner = winner as usize;
        let key = self.children[winner].key().to_vec();
        self.heap.clear();
        for (number, child) in self.children.iter_mut().enumerate() {
            if number == winner {
                continue;
            }
            match direction {
                Direction::Forward => {
                    child.seek(&key)?;
                    // Equal keys of an earlier child came before.
                    if number < winner && child.valid() && child.key() == key {
                        child.next()?;
                    }
                }
                Direction::Backward => {
                    child.seek_for_prev(&key)?;
                    if number > winner && child.valid() && child.key() == key {
                        child.prev()?;
                    }
                }
            }
        }
        self.build(direction);
        Ok(())
    }

    /// In the current direction, moves those children whose entries up to `target` do not count, as `is_hidden` says, to the
    /// first entry there or behind it; true if the current entry was one of theirs.
    #[cold]
    pub(crate) fn jump(&mut self, target: &[u8], is_hidden: impl Fn(usize) -> bool) -> Result<bool> {
        let Some((_, current)) = self.heap.first().copied() else { return Ok(false) };
        let direction = self.direction;
        let is_before = |order: &KeyOrder, key: &[u8]| match direction {
            Direction::Forward => order.compare_internal(key, target) == Ordering::Less,
            Direction::Backward => order.compare_internal(key, target) == Ordering::Greater,
        };
        self.heap.clear();
        for (number, child) in self.children.iter_mut().enumerate() {
            if is_hidden(number) && child.valid() && is_before(&self.order, child.key()) {
                match direction {
                    Direction::Forward => child.seek(target)?,
                    Direction::Backward => child.seek_for_prev(target)?,
                }
            }
        }
        self.build(direction);
        Ok(is_hidden(current as usize))
    }

    fn fail<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            self.heap.clear();
        }
        result
    }
}

impl<I: InternalIterator> InternalIterator for MergingIter<I> {
    #[inline]
    fn valid(&self) -> bool {
        !self.heap.is_empty()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.restart(Direction::Forward, InternalIterator::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.restart(Direction::Backward, InternalIterator::seek_to_last)
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.restart(Direction::Forward, |child| child.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.restart(Direction::Backward, |child| child.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.direction != Direction::Forward {
            let turned = self.turn(Direction::Forward);
            self.fail(turned)?;
        }
        let Some((_, winner)) = self.heap.first().copied() else { return Ok(()) };
        if let Err(error) = self.children[winner as usize].next() {
            return self.fail(Err(error));
        }
        self.settle(winner as usize);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        if self.direction != Direction::Backward {
            let turned = self.turn(Direction::Backward);
            self.fail(turned)?;
        }
        let Some((_, winner)) = self.heap.first().copied() else { return Ok(()) };
        if let Err(error) = self.children[winner as usize].prev() {
            return self.fail(Err(error));
        }
        self.settle(winner as usize);
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.current_child().map_or(&[], InternalIterator::key)
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current_child().map_or(&[], InternalIterator::value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::iter::testing::VecIter;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn merged_runs_are_one_sorted_run_whatever_the_moves(
            reverse in any::<bool>(),
            keys in prop::collection::btree_set((prop::collection::vec(0u8..4, 0..10), 1u64..200), 0..60),
            homes in prop::collection::vec(0usize..5, 60),
            moves in prop::collection::vec((0u8..6, 0usize..60), 1..60),
        ) {
            let order = if reverse { KeyOrder::ReverseBytewise } else { KeyOrder::Bytewise };
            let mut all: Vec<(Vec<u8>, usize)> = keys.into_iter().zip(homes)
                .map(|((key, sequence), home)| {
                    (crate::format::key::internal_key(&key, crate::SequenceNumber(sequence), 1), home)
                }).collect();
            all.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
            let runs = (0..5).map(|run| VecIter::new(order.clone(),
                all.iter().filter(|(_, home)| *home == run).map(|(key, _)| (key.clone(), key.clone())).collect())).collect();
            let mut merged = MergingIter::new(order.clone(), runs);
            let mut at: Option<usize> = None;
            for (kind, target) in moves {
                let target = all.get(target).map(|(key, _)| key.clone());
                match kind {
                    0 => { merged.seek_to_first()?; at = (!all.is_empty()).then_some(0); }
                    1 => { merged.seek_to_last()?; at = all.len().checked_sub(1); }
                    2 => if let Some(target) = target {
                        merged.seek(&target)?;
                        at = all.iter().position(|(key, _)| order.compare_internal(key, &target).is_ge());
                    },
                    3 => if let Some(target) = target {
                        merged.seek_for_prev(&target)?;
                        at = all.iter().rposition(|(key, _)| order.compare_internal(key, &target).is_le());
                    },
                    4 => if let Some(now) = at { merged.next()?; at = (now + 1 < all.len()).then_some(now + 1); },
                    _ => if let Some(now) = at { merged.prev()?; at = now.checked_sub(1); },
                }
                prop_assert_eq!(merged.valid().then(|| merged.key()), at.map(|at| &all[at].0[..]));
            }
        }
    }
}
