//! A sorted run in a vector, for tests.

use crate::error::Result;
use crate::format::comparator::KeyOrder;

use super::InternalIterator;

/// Entries in order, and a position.
#[derive(Debug)]
pub(crate) struct VecIter {
    order: KeyOrder,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

impl VecIter {
    /// `entries` are sorted by their internal keys.
    pub(crate) fn new(order: KeyOrder, entries: Vec<(Vec<u8>, Vec<u8>)>) -> VecIter {
        VecIter { order, entries, at: None }
    }
}

impl InternalIterator for VecIter {
    fn valid(&self) -> bool {
        self.at.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.at = (!self.entries.is_empty()).then_some(0);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.at = self.entries.len().checked_sub(1);
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.at = self.entries.iter().position(|(key, _)| self.order.compare_internal(key, target).is_ge());
        Ok(())
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.at = self.entries.iter().rposition(|(key, _)| self.order.compare_internal(key, target).is_le());
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.at = self.at.map(|at| at + 1).filter(|at| *at < self.entries.len());
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.at = self.at.and_then(|at| at.checked_sub(1));
        Ok(())
    }

    fn key(&self) -> &[u8] {
        self.at.map_or(&[], |at| &self.entries[at].0)
    }

    fn value(&self) -> &[u8] {
        self.at.map_or(&[], |at| &self.entries[at].1)
    }
}
