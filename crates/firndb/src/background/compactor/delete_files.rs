//! Files that go whole because somebody asked for their range to be freed: `delete_files_in_range`.
//!
//! Flow: `db` -> **[`Compactor::delete_files`]** -> `compaction::picker::whole_files` -> one edit -> the janitor.
//!
//! Invariant: what readers who are there see does not change. Iterators keep the view that they have; of what a snapshot sees
//! nothing goes; and a snapshot that is made in between reads through the views that it finds
//! (`superversion::snapshots`: the drop is announced before anybody looks at the snapshots).

use crate::compaction::claims::Attempt;
use crate::compaction::job;
use crate::compaction::picker::{DoomedRange, Staying, whole_files};
use crate::error::Result;
use crate::sync::Arc;

use super::{Compactor, Family};

/// What [`Compactor::delete_files`] came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deleted {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    pub(crate) staying: Staying,
}

impl Compactor {
    /// Drops the files of a family that lie in one of `ranges`, but for those that have to stay.
    ///
    /// # Errors
    /// `Closed`, `ColumnFamilyDropped`; what MANIFEST says.
    pub(crate) fn delete_files(self: &Arc<Self>, family: &Arc<Family>, ranges: &[DoomedRange]) -> Result<Deleted> {
        let result = self.failures.watch("a deletion of files", || self.delete_files_unwatched(family, ranges));
        if let Err(error) = &result {
            self.resources.change_failed(&self.failures, "a deletion of files", error);
        }
        self.update_stall(family);
        self.schedule(family);
        result
    }

    fn delete_files_unwatched(self: &Arc<Self>, family: &Arc<Family>, ranges: &[DoomedRange]) -> Result<Deleted> {
        self.check_wanted(family)?;
        let mut deleted = Deleted::default();
        let _announced = self.resources.pins.announce_drop();
        let attempt = family.claims.try_claim(&family.state.config.order, |claims| {
            let (job, staying) = self.look(family, claims, |_, view| whole_files(view, ranges));
            deleted.staying = staying;
            let job = job?;
            let wanted = job.wanted();
            Some((job, wanted))
        });
        let (picked, claim) = match attempt {
            Attempt::Taken(picked, claim) => (picked, claim),
            Attempt::Closed => return Err(self.why_closed(family)),
            Attempt::Nothing | Attempt::Own => return Ok(deleted),
        };
        let context = self.context(family, &picked);
        let pin = self.resources.pin_job(family, "deletion of files");
        let frozen = self.resources.pins.freeze(&self.resources.visible);
        let output = job::run(&context, &family.state, &picked, &frozen, &self.resources.cancel)?;
        let output = job::install(&context, &family.state, output)?;
        drop(claim);
        drop(pin);
        deleted.files = output.inputs.len();
        deleted.bytes = output.inputs.iter().map(|(_, _, bytes)| bytes).sum();
        self.done(family, picked.reason.clone(), &output);
        Ok(deleted)
    }
}
