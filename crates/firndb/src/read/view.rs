//! Which view a read is of.

use crate::error::Result;
use crate::format::comparator::KeyOrder;

use super::source::Source;
use super::visible::{Bounds, VisibleIter, Watch};

/// What an iterator holds.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) steps_forward: u64,
    pub(crate) steps_back: u64,
    pub(crate) seeks: u64,
}

impl View {
    pub(crate) fn order(&self) -> &KeyOrder {
        todo!()
    }

    pub(crate) fn bounds(&self) -> &Bounds {
        todo!()
    }

    pub(crate) fn entries(&self, _bounds: Bounds) -> Result<VisibleIter<Source>> {
        todo!()
    }
}

impl Watch for View {
    fn pulse(&self) -> Result<()> {
        todo!()
    }
}
