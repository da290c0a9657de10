//! The cursor as Rust iterators: ranges and prefixes, from both ends.
//!
//! Two positions, made when first used, walk towards each other over one view and stop where they meet. Bounds are kept
//! as they were given: under a user's comparator no "next key" exists. A prefix becomes a range where the order is
//! bytewise; elsewhere it is the run of keys from `seek(prefix)` to the first that does not start with it.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Bound, RangeBounds};

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::prefix::end_of_prefix;
use crate::iter::bounds::Bounds;

use super::slice::Slice;
use super::source::{Run, Source};
use super::view::View;
use super::visible::VisibleIter;

/// The entries of a range or prefix as `Result<(key, value)>`, from both ends.
///
/// It shows the family as it was when the iterator was made, and owns what it needs: it is `Send + 'static`, and what it
/// yields may outlive it. While it lives it keeps the files and memtables of its view, and is listed among the pins.
///
/// # Errors
/// An error is never a silent end: it is yielded once, in place of an entry, and after it nothing more comes from
/// either end. So `for` with `?`, or `collect::<Result<Vec<_>>>()`, miss nothing. The kinds are those of
/// [`Cursor`](crate::Cursor).
///
/// ```
/// # fn sum(entries: firndb::Iter) -> firndb::Result<usize> {
/// let mut bytes = 0;
/// for entry in entries {
///     let (key, value) = entry?;
///     bytes += key.len() + value.len();
/// }
/// # Ok(bytes)
/// # }
/// ```
pub struct Iter(Ends<Plain>);

/// What an iterator walks over: a view, alone or under something.
pub(crate) trait Entries {
    type Run: Run;
    fn over(&self, view: &View, bounds: Bounds) -> Result<VisibleIter<Self::Run>>;
}

/// A view alone.
struct Plain;

impl Entries for Plain {
    type Run = Source;

    #[inline]
    fn over(&self, view: &View, bounds: Bounds) -> Result<VisibleIter<Source>> {
        view.entries(bounds)
    }
}

/// Both ends of a range, walking towards each other.
pub(crate) struct Ends<E: Entries> {
    front: Option<VisibleIter<E::Run>>,
    back: Option<VisibleIter<E::Run>>,
    bounds: Bounds,
    /// Under a user's comparator: keys must start with this.
    prefix: Option<Vec<u8>>,
    is_done: bool,
    entries: E,
    // Last, so that the pin outlives what it accounts for.
    view: View,
}

fn owned<K: AsRef<[u8]>>(bound: Bound<&K>) -> Bound<Vec<u8>> {
    bound.map(|key| key.as_ref().to_vec())
}

impl Iter {
    /// The entries of `range`, within the bounds of the read options.
    pub(crate) fn range<K: AsRef<[u8]>>(view: View, range: &impl RangeBounds<K>) -> Iter {
        Iter(Ends::range(Plain, view, range))
    }

    /// The entries whose keys start with `prefix`, within the bounds of the read options.
    pub(crate) fn prefix(view: View, prefix: &[u8]) -> Iter {
        Iter(Ends::prefix_range::<&[u8]>(Plain, view, prefix, &..))
    }

    /// The entries of a range whose keys start with `prefix`, within the bounds of the read options.
    pub(crate) fn prefix_range<K: AsRef<[u8]>>(view: View, prefix: &[u8], range: &impl RangeBounds<K>) -> Iter {
        Iter(Ends::prefix_range(Plain, view, prefix, range))
    }
}

impl<E: Entries> Ends<E> {
    /// The entries of `range`, within the bounds of the view.
    pub(crate) fn range<K: AsRef<[u8]>>(entries: E, view: View, range: &impl RangeBounds<K>) -> Ends<E> {
        let bounds = Bounds { lower: owned(range.start_bound()), upper: owned(range.end_bound()) };
        Ends::new(entries, view, bounds, None)
    }

    /// The entries of a range whose keys start with `prefix`, within the bounds of the view.
    pub(crate) fn prefix_range<K: AsRef<[u8]>>(
        entries: E,
        view: View,
        prefix: &[u8],
        range: &impl RangeBounds<K>,
    ) -> Ends<E> {
        let after = end_of_prefix(prefix);
        let (bounds, filter) = match view.order() {
            KeyOrder::Bytewise => {
                let upper = after.map_or(Bound::Unbounded, Bound::Excluded);
                (Bounds { lower: Bound::Included(prefix.to_vec()), upper }, None)
            }
            KeyOrder::ReverseBytewise => {
                let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
                (Bounds { lower, upper: Bound::Included(prefix.to_vec()) }, None)
            }
            KeyOrder::Custom(_) => {
                (Bounds { lower: Bound::Included(prefix.to_vec()), upper: Bound::Unbounded }, Some(prefix.to_vec()))
            }
        };
        let range = Bounds { lower: owned(range.start_bound()), upper: owned(range.end_bound()) };
        let bounds = bounds.within(view.order(), &range);
        Ends::new(entries, view, bounds, filter)
    }

    fn new(entries: E, view: View, bounds: Bounds, prefix: Option<Vec<u8>>) -> Ends<E> {
        let bounds = bounds.within(view.order(), view.bounds());
        Ends { front: None, back: None, bounds, prefix, is_done: false, entries, view }
    }

    fn step_front(&mut self) -> Result<Option<(Slice, Slice)>> {
        let (front, is_on_entry) = match &mut self.front {
            Some(front) => {
                self.view.steps_forward += 1;
                if self.view.is_ousting() {
                    front.check(&self.view)?;
                }
                let is_on_entry = front.next(&self.view)?;
                (front, is_on_entry)
            }
            empty => {
                self.view.seeks += 1;
                let front = empty.insert(self.entries.over(&self.view, self.bounds.clone())?);
                let is_on_entry = front.seek_to_first(&self.view)?;
                (front, is_on_entry)
            }
        };
        let has_met = |key: &[u8]| match &self.back {
            Some(back) => self.view.order().compare(key, back.key()) != Ordering::Less,
            None => false,
        };
        let is_outside = |key: &[u8]| self.prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix));
        if !is_on_entry || has_met(front.key()) || is_outside(front.key()) {
            return Ok(None);
        }
        Ok(Some((Slice::copied(front.key()), front.value_slice())))
    }

    fn step_back(&mut self) -> Result<Option<(Slice, Slice)>> {
        let (back, is_on_entry) = match &mut self.back {
            Some(back) => {
                self.view.steps_back += 1;
                if self.view.is_ousting() {
                    back.check(&self.view)?;
                }
                let is_on_entry = back.prev(&self.view)?;
                (back, is_on_entry)
            }
            empty => {
                self.view.seeks += 1;
                if let Some(prefix) = self.prefix.take() {
                    let end = end_of_walked_prefix(&self.entries, &self.view, self.bounds.clone(), &prefix)?;
                    if let Some(end) = end {
                        self.bounds.upper = Bound::Excluded(end);
                    }
                    self.prefix = Some(prefix);
                }
                let back = empty.insert(self.entries.over(&self.view, self.bounds.clone())?);
                let is_on_entry = back.seek_to_last(&self.view)?;
                (back, is_on_entry)
            }
        };
        let has_met = |key: &[u8]| match &self.front {
            Some(front) => self.view.order().compare(key, front.key()) != Ordering::Greater,
            None => false,
        };
        if !is_on_entry || has_met(back.key()) {
            return Ok(None);
        }
        Ok(Some((Slice::copied(back.key()), back.value_slice())))
    }

    /// Whatever ends one end ends both: the other has nothing more to yield, or must not hide an error.
    #[inline]
    fn yielded(&mut self, result: Result<Option<(Slice, Slice)>>) -> Option<Result<(Slice, Slice)>> {
        let item = result.transpose();
        self.is_done = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The first visible key behind those that start with `prefix`, found by walking over them: a user's comparator need
/// not tell where they end.
fn end_of_walked_prefix(entries: &impl Entries, view: &View, bounds: Bounds, prefix: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut entries = entries.over(view, bounds)?;
    let mut is_on_entry = entries.seek_to_first(view)?;
    while is_on_entry && entries.key().starts_with(prefix) {
        is_on_entry = entries.next(view)?;
    }
    Ok(is_on_entry.then(|| entries.key().to_vec()))
}

impl<E: Entries> Iterator for Ends<E> {
    type Item = Result<(Slice, Slice)>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let result = self.step_front();
        self.yielded(result)
    }
}

impl<E: Entries> DoubleEndedIterator for Ends<E> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let result = self.step_back();
        self.yielded(result)
    }
}

/// A public iterator over [`Ends`].
macro_rules! iterator_of_ends {
    ($name:ident) => {
        impl Iterator for $name {
            type Item = $crate::error::Result<($crate::read::Slice, $crate::read::Slice)>;

            fn next(&mut self) -> Option<Self::Item> {
                self.0.next()
            }
        }

        impl DoubleEndedIterator for $name {
            fn next_back(&mut self) -> Option<Self::Item> {
                self.0.next_back()
            }
        }

        impl std::iter::FusedIterator for $name {}

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        }
    };
}
pub(crate) use iterator_of_ends;

iterator_of_ends!(Iter);

impl<E: Entries> fmt::Debug for Ends<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("bounds", &self.bounds).field("is_done", &self.is_done).finish_non_exhaustive()
    }
}
