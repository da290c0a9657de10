//! The sorted runs that a cursor merges: memtables, files of level 0, levels.

use crate::error::Result;
use crate::format::comparator::KeyOrder;
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

/// Runs that are being put together, the newest first: nothing is allocated for the first one, which is often the only one.
pub(crate) struct RunList<R> {
    first: Option<R>,
    /// All of them, once there are two.
    several: Vec<R>,
    expected: usize,
}

impl<R> RunList<R> {
    /// For at most so many: the allocator is quick for some hundred bytes, and not for thousands.
    pub(crate) fn of_at_most(expected: usize) -> RunList<R> {
        RunList { first: None, several: Vec::new(), expected }
    }

    #[inline]
    pub(crate) fn push(&mut self, run: R) {
        if self.first.is_none() && self.several.is_empty() {
            self.first = Some(run);
            return;
        }
        if let Some(first) = self.first.take() {
            self.several.reserve_exact(self.expected.max(2));
            self.several.push(first);
        }
        self.several.push(run);
    }
}

impl<R: Run> Runs<R> {
    #[inline]
    pub(crate) fn new(order: KeyOrder, runs: RunList<R>) -> Runs<R> {
        match runs.first {
            Some(only) => Runs::Single(only),
            None => Runs::Merging(MergingIter::new(order, runs.several)),
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
