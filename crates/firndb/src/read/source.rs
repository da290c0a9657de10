//! The sorted runs that a cursor merges: memtables, tables, levels.
//!
//! An enum, not a trait object: one predictable branch a call, and everything inlines.

use crate::error::Result;
use crate::iter::InternalIterator;
use crate::iter::merging::MergingIter;
use crate::memtable::MemTableIter;
use crate::table::TableIter;
use crate::version::level_iter::LevelIter;

use super::slice::Slice;

/// A sorted run whose current value can be handed out without copying it.
pub(crate) trait Run: InternalIterator {
    /// The current value, pinned (or copied, if it is short). Needs `valid()`.
    fn value_slice(&self) -> Slice;
}

/// One sorted run of a SuperVersion.
pub(crate) enum Source {
    Memtable(MemTableIter),
    Table(TableIter),
    Level(LevelIter),
}

macro_rules! each {
    ($source:expr, $run:ident => $call:expr) => {
        match $source {
            Source::Memtable($run) => $call,
            Source::Table($run) => $call,
            Source::Level($run) => $call,
        }
    };
}

impl InternalIterator for Source {
    #[inline]
    fn valid(&self) -> bool {
        each!(self, run => run.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, run => run.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, run => run.seek_to_last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        each!(self, run => run.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        each!(self, run => run.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, run => run.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, run => run.prev())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, run => run.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, run => run.value())
    }
}

impl Run for Source {
    #[inline]
    fn value_slice(&self) -> Slice {
        if let Some(short) = Slice::inline(self.value()) {
            return short;
        }
        let in_block = match self {
            Source::Memtable(run) => return Slice::in_memtable(run.value(), || run.value_slice()),
            Source::Table(run) => run.value_slice(),
            Source::Level(run) => run.value_slice(),
        };
        in_block.map_or_else(|| Slice::copied(self.value()), Slice::in_block)
    }
}

/// All runs of a view in one order: a lone run is read as it is, without a merge.
pub(crate) enum Runs<R: InternalIterator> {
    Single(R),
    Merging(MergingIter<R>),
}

impl<R: Run> Runs<R> {
    pub(crate) fn new(order: crate::format::comparator::KeyOrder, mut runs: Vec<R>) -> Runs<R> {
        match (runs.len(), runs.pop()) {
            (1, Some(only)) => Runs::Single(only),
            (_, last) => {
                runs.extend(last);
                Runs::Merging(MergingIter::new(order, runs))
            }
        }
    }
}

macro_rules! either {
    ($runs:expr, $run:ident => $call:expr) => {
        match $runs {
            Runs::Single($run) => $call,
            Runs::Merging($run) => $call,
        }
    };
}

impl<R: Run> InternalIterator for Runs<R> {
    #[inline]
    fn valid(&self) -> bool {
        either!(self, run => run.valid())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        either!(self, run => run.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        either!(self, run => run.seek_to_last())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        either!(self, run => run.seek(target))
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        either!(self, run => run.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        either!(self, run => run.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        either!(self, run => run.prev())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        either!(self, run => run.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        either!(self, run => run.value())
    }
}

impl<R: Run> Run for Runs<R> {
    #[inline]
    fn value_slice(&self) -> Slice {
        match self {
            Runs::Single(run) => run.value_slice(),
            Runs::Merging(run) => {
                run.current_child().map_or_else(|| Slice::copied(run.value()), |child| child.value_slice())
            }
        }
    }
}
