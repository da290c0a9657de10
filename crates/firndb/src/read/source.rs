//! The sorted runs that a cursor merges: memtables, files of level 0, levels.

use crate::error::Result;
use crate::iter::merging::MergingIter;
use crate::iter::{InternalIterator, internal_iterator_of_variants};
use crate::memtable::MemTableIter;
use crate::version::file_iter::FileIter;
use crate::version::level_iter::LevelIter;

use super::slice::Slice;

/// A sorted run whose current value can be handed out without copying it.
pub(crate) trait Run: InternalIterator {
    /// One of the runs has what the reader has written and nobody else sees yet: entries with numbers from
    /// `SequenceNumber::OWN` on, which are visible whatever the reader's own number is.
    const HAS_OWN: bool = false;

    /// The current value, pinned (or copied, if it is short). Needs `valid()`.
    fn value_slice(&self) -> Slice;
}

/// One sorted run of a SuperVersion.
pub(crate) enum Source {
    Memtable(MemTableIter),
    File(FileIter),
    Level(LevelIter),
}

internal_iterator_of_variants!([] Source: Memtable, File, Level);

impl Run for Source {
    #[inline]
    fn value_slice(&self) -> Slice {
        if let Some(short) = Slice::inline(self.value()) {
            return short;
        }
        let in_block = match self {
            Source::Memtable(run) => return Slice::in_memtable(run.value(), || run.value_slice()),
            Source::File(run) => run.value_slice(),
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

impl<R: Run> Runs<R> {
    /// Moves those runs whose entries up to `target`, in the direction of the walk, are hidden to the first entry there or
    /// behind it; true if the current entry was one of theirs.
    pub(super) fn jump(&mut self, target: &[u8], is_forward: bool, is_hidden: impl Fn(usize) -> bool) -> Result<bool> {
        match self {
            Runs::Merging(runs) => runs.jump(target, is_hidden),
            Runs::Single(run) if is_hidden(0) => match is_forward {
                true => run.seek(target).map(|()| true),
                false => run.seek_for_prev(target).map(|()| true),
            },
            Runs::Single(_) => Ok(false),
        }
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
