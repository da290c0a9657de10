//! A `&'static Location` in an atomic, so that a pin's slot can name the line that made it without a lock.

use std::panic::Location;

use crate::sync::atomic::{AtomicPtr, Ordering};

/// Holds nothing or a source location.
#[derive(Debug)]
pub(super) struct SiteCell(AtomicPtr<Location<'static>>);

impl SiteCell {
    pub(super) fn new() -> SiteCell {
        SiteCell(AtomicPtr::new(std::ptr::null_mut()))
    }

    #[inline]
    pub(super) fn store(&self, site: &'static Location<'static>) {
        // Relaxed: the slot's state, stored after it with Release, publishes it.
        self.0.store(std::ptr::from_ref(site).cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Option<&'static Location<'static>> {
        let site = self.0.load(Ordering::Relaxed);
        // SAFETY: `store` is the only writer, and what it stores came from a `&'static Location`, which nobody changes.
        unsafe { site.cast_const().as_ref() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_location_comes_back() {
        let cell = SiteCell::new();
        assert!(cell.load().is_none());
        let here = Location::caller();
        cell.store(here);
        assert_eq!(cell.load(), Some(here));
    }
}
