//! Replaced SuperVersions, until the last reader has let go of them.
//!
//! Flow: `family` replaces a view -> **[`Graveyard`]** -> the janitor in `purge` takes out what nobody else has. The
//! reference that is kept here is why no reader is ever the one who frees a memtable, a version or a file.
//!
//! Threads: any; the lock is held for a push or a walk over a short list.

use crate::sync::{Arc, Mutex};

use super::view::SuperVersion;
use super::wake::Wake;

/// SuperVersions that were replaced, kept until nobody else has them.
#[derive(Debug)]
pub(crate) struct Graveyard {
    views: Mutex<Vec<Arc<SuperVersion>>>,
    wake: Arc<Wake>,
}

impl Graveyard {
    pub(crate) fn new(wake: Arc<Wake>) -> Arc<Graveyard> {
        Arc::new(Graveyard { views: Mutex::new(Vec::new()), wake })
    }

    /// Takes over the reference of whoever replaced `view`.
    pub(crate) fn bury(&self, view: Arc<SuperVersion>) {
        self.views.lock().push(view);
        self.wake.await_readers();
    }

    /// The replaced views that are still held by someone, oldest first.
    pub(crate) fn held(&self) -> Vec<Arc<SuperVersion>> {
        self.views.lock().clone()
    }

    /// Takes out the views that nobody else has.
    pub(super) fn take_free(&self) -> Vec<Arc<SuperVersion>> {
        let mut views = self.views.lock();
        let mut free = Vec::new();
        views.retain(|view| {
            // A view in here is in no published pointer: with one reference left, nobody can make a second one.
            let is_free = Arc::strong_count(view) == 1;
            if is_free {
                free.push(Arc::clone(view));
            }
            !is_free
        });
        free
    }

    pub(super) fn is_empty(&self) -> bool {
        self.views.lock().is_empty()
    }
}
