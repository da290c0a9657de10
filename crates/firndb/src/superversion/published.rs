//! One pointer that readers load without a lock and writers swap.

use crate::sync::Arc;

/// A shared value that is replaced as a whole.
///
/// Loads are `arc-swap`'s: no lock, and no shared counter for a borrow. Swapping waits for nobody, but settles the
/// debts of borrowers, so that afterwards reference counts say who still has the old value.
#[cfg(not(loom))]
#[derive(Debug)]
pub(crate) struct Published<T>(arc_swap::ArcSwap<T>);

#[cfg(not(loom))]
impl<T> Published<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Published(arc_swap::ArcSwap::new(value))
    }

    /// A borrow for a short read.
    #[inline]
    pub(crate) fn load(&self) -> impl std::ops::Deref<Target = Arc<T>> + use<T> {
        self.0.load()
    }

    /// A reference to keep.
    #[inline]
    pub(crate) fn load_full(&self) -> Arc<T> {
        self.0.load_full()
    }

    /// Publishes `value` and returns what it replaced.
    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.0.swap(value)
    }
}

/// The twin under the model checker, which cannot look into `arc-swap`.
#[cfg(loom)]
#[derive(Debug)]
pub(crate) struct Published<T>(crate::sync::Mutex<Arc<T>>);

#[cfg(loom)]
impl<T> Published<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Published(crate::sync::Mutex::new(value))
    }

    pub(crate) fn load(&self) -> Box<Arc<T>> {
        Box::new(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.0.lock())
    }

    pub(crate) fn swap(&self, value: Arc<T>) -> Arc<T> {
        std::mem::replace(&mut *self.0.lock(), value)
    }
}
