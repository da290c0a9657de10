//! A batch as a sorted run, and the runs of a view under it.

use crate::error::Result;
use crate::format::key::{ColumnFamilyId, trailer, user_key};
use crate::iter::{InternalIterator, internal_iterator_of_variants};
use crate::read::Slice;
use crate::read::source::{Run, Source};
use crate::sync::Arc;

use super::content::Content;
use super::index::{FamilyIndex, Place};

/// One family's operations in a batch, but for its ranges.
pub(super) struct OwnRun {
    content: Arc<Content>,
    family: Option<usize>,
    place: Option<Place>,
    /// The internal key of the current entry: the batch has the user key alone.
    key: Vec<u8>,
}

impl OwnRun {
    pub(super) fn new(content: Arc<Content>, id: ColumnFamilyId) -> OwnRun {
        let family = content.families.iter().position(|family| family.id == id);
        OwnRun { content, family, place: None, key: Vec::new() }
    }

    fn move_to(&mut self, place: impl FnOnce(&FamilyIndex, &[u8], Option<Place>) -> Option<Place>) {
        let (bytes, before) = (self.content.batch.as_bytes(), self.place);
        self.place = None;
        let Some(family) = self.family.and_then(|family| self.content.families.get(family)) else { return };
        if let Some(place) = place(family, bytes, before)
            && let Some(entry) = family.get(place)
        {
            self.place = Some(place);
            self.key.clear();
            self.key.extend_from_slice(entry.key(bytes));
            self.key.extend_from_slice(&entry.trailer().to_le_bytes());
        }
    }
}

impl InternalIterator for OwnRun {
    #[inline]
    fn valid(&self) -> bool {
        self.place.is_some()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.move_to(|family, _, _| Some(family.first()));
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.move_to(|family, _, _| family.last());
        Ok(())
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.move_to(|family, bytes, _| Some(family.lower_bound(bytes, user_key(target), trailer(target))));
        Ok(())
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.move_to(|family, bytes, _| {
            let place = family.lower_bound(bytes, user_key(target), trailer(target));
            let is_there = |entry: &super::index::Entry| {
                entry.trailer() == trailer(target) && family.order().compare(entry.key(bytes), user_key(target)).is_eq()
            };
            if family.get(place).is_some_and(is_there) { Some(place) } else { family.before(place) }
        });
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.move_to(|family, _, place| place.map(|place| family.after(place)));
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.move_to(|family, _, place| place.and_then(|place| family.before(place)));
        Ok(())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn value(&self) -> &[u8] {
        let family = self.family.and_then(|family| self.content.families.get(family));
        let entry = self.place.and_then(|place| family?.get(place));
        entry.map_or(&[], |entry| entry.value(self.content.batch.as_bytes()))
    }
}

/// A run of a view that stands under a batch.
#[expect(
    clippy::large_enum_variant,
    reason = "a walk has one own run; a box would cost each step of the others a line"
)]
pub(crate) enum Layered {
    Own(OwnRun),
    Below(Source),
}

internal_iterator_of_variants!([] Layered: Own, Below);

impl From<Source> for Layered {
    fn from(run: Source) -> Layered {
        Layered::Below(run)
    }
}

impl Run for Layered {
    const HAS_OWN: bool = true;

    fn value_slice(&self) -> Slice {
        match self {
            Layered::Own(run) => Slice::from(run.value()),
            Layered::Below(run) => run.value_slice(),
        }
    }
}
