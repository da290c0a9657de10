//! A bound on how many files are open at once, as processes have one.

use std::io;

use super::state::os_error;
use crate::fs::HeldDescriptor;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// How many descriptors are taken, and how many there may be.
#[derive(Debug)]
pub(super) struct Descriptors {
    taken: AtomicUsize,
    max: AtomicUsize,
}

impl Default for Descriptors {
    fn default() -> Self {
        Descriptors { taken: AtomicUsize::new(0), max: AtomicUsize::new(usize::MAX) }
    }
}

/// A descriptor, until it is dropped.
#[derive(Debug)]
pub(super) struct Descriptor(Arc<Descriptors>);

impl HeldDescriptor for Descriptor {}

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Descriptors {
    pub(super) fn set_max(&self, max: Option<usize>) {
        // Relaxed, here and below: numbers that order nothing.
        self.max.store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    pub(super) fn max(&self) -> Option<usize> {
        Some(self.max.load(Ordering::Relaxed)).filter(|max| *max < usize::MAX)
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// One more, or `EMFILE`.
    pub(super) fn take(self: &Arc<Self>) -> io::Result<Descriptor> {
        let max = self.max.load(Ordering::Relaxed);
        let more = |taken| (taken < max).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Descriptor(Arc::clone(self))),
            Err(_) => Err(os_error(libc::EMFILE)),
        }
    }
}
