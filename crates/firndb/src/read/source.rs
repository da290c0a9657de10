//! The sorted runs that a cursor merges: memtables, tables, levels.

use crate::iter::merging::MergingIter;
use crate::iter::{InternalIterator, internal_iterator_of_variants};
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

internal_iterator_of_variants!([] Source: Memtable, Table, Level);

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

internal_iterator_of_variants!([R: Run] Runs<R>: Single, Merging);

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
