//! Cursor and iterator over a batch and a view under it.

use std::ops::RangeBounds;

use crate::error::Result;
use crate::format::key::ColumnFamilyId;
use crate::iter::bounds::Bounds;
use crate::read::cursor::cursor_moves;
use crate::read::iter::{Ends, Entries, iterator_of_ends};
use crate::read::view::View;
use crate::read::visible::VisibleIter;
use crate::sync::Arc;

use super::content::Content;
use super::run::{Layered, OwnRun};

/// One family of a batch, over the view of a database.
pub(super) struct Over {
    pub(super) content: Arc<Content>,
    pub(super) id: ColumnFamilyId,
}

impl Entries for Over {
    type Run = Layered;

    fn over(&self, view: &View, bounds: Bounds) -> Result<VisibleIter<Layered>> {
        let own = Layered::Own(OwnRun::new(Arc::clone(&self.content), self.id));
        let tombstones = self.content.family(self.id).and_then(|family| family.tombstones());
        view.entries_under(bounds, own, tombstones)
    }
}

/// A position among the entries of a column family as they would be if a batch were written:
/// a [`Cursor`](crate::Cursor) over the view with the batch laid over it. Made by [`IndexedBatch::cursor`](crate::IndexedBatch::cursor).
///
/// It shows the batch as it was when the cursor was made, whatever is added later, and owns what it needs.
pub struct IndexedCursor {
    entries: VisibleIter<Layered>,
    /// All entries have this prefix.
    prefix: Option<Vec<u8>>,
    over: Over,
    // Last, so that the pin outlives what it accounts for.
    view: View,
}

cursor_moves!(IndexedCursor);

impl IndexedCursor {
    pub(super) fn new(over: Over, view: View) -> Result<IndexedCursor> {
        let entries = over.over(&view, view.bounds().clone())?;
        Ok(IndexedCursor { entries, prefix: None, over, view })
    }

    fn over(&self, bounds: Bounds) -> Result<VisibleIter<Layered>> {
        self.over.over(&self.view, bounds)
    }
}

/// The entries of a range or prefix as they would be if a batch were written, from both ends: an [`Iter`](crate::Iter) over
/// the view with the batch laid over it. Made by [`IndexedBatch::range`](crate::IndexedBatch::range) and its like.
///
/// It shows the batch as it was when the iterator was made, whatever is added later, and owns what it needs.
pub struct IndexedIter(Ends<Over>);

iterator_of_ends!(IndexedIter);

impl IndexedIter {
    pub(super) fn range<K: AsRef<[u8]>>(over: Over, view: View, range: &impl RangeBounds<K>) -> IndexedIter {
        IndexedIter(Ends::range(over, view, range))
    }

    pub(super) fn prefix(over: Over, view: View, prefix: &[u8]) -> IndexedIter {
        IndexedIter(Ends::prefix_range::<&[u8]>(over, view, prefix, &..))
    }
}
