//! What all jobs of a database work with.

use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::clock::{CancelToken, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::FileKind;
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::fs::{Fs, RateLimiter};
use crate::metrics::Statistics;
use crate::metrics::outbox::Outbox;
use crate::superversion::purge::Janitor;
use crate::superversion::{PinGuard, PinKind, PinRegistry, PinSpec};
use crate::sync::Arc;
use crate::sync::atomic::AtomicU64;
use crate::version::Version;
use crate::version::set::VersionSet;
use crate::version::table_cache::TableCache;

use super::failures::Failures;
use super::family::{Families, Family};

/// What the jobs and the handles of one database share: owners, each with its own lock.
pub(crate) struct Resources {
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) tables: Arc<TableCache>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) pins: Arc<PinRegistry>,
    pub(crate) janitor: Arc<Janitor>,
    /// Writes up to this number are seen by reads.
    pub(crate) visible: Arc<AtomicU64>,
    pub(crate) families: Families,
    pub(crate) outbox: Arc<Outbox>,
    /// Calls off every job when the database closes.
    pub(crate) cancel: CancelToken,
}

impl Resources {
    /// Tables that no current version names any more go to the janitor.
    pub(crate) fn obsolete_tables(&self, files: impl IntoIterator<Item = (FileNumber, u64)>) {
        for (number, bytes) in files {
            self.janitor.obsolete(FileKind::Table, number, bytes);
        }
    }

    /// Blob files that `before` had and that the family's current version does not have go to the janitor.
    pub(crate) fn obsolete_blobs(&self, before: &Version, now: Option<&Version>) {
        let is_gone = |number| now.is_none_or(|now| !now.blobs.contains(number));
        for meta in before.blobs.iter().map(|blob| &blob.file.meta).filter(|meta| is_gone(meta.number)) {
            self.janitor.obsolete(FileKind::Blob, meta.number, meta.bytes);
        }
    }

    /// Files that a failed edit left behind, and that turned out not to be needed, go to the janitor.
    pub(crate) fn take_orphans(&self) {
        for (number, kind) in self.versions.take_orphans() {
            self.janitor.obsolete(kind, number, 0);
        }
    }

    /// After a failure that may be that of an edit. MANIFEST may have the edit or not, and a crash would show which: a new
    /// MANIFEST without it comes first. If there can be none now, writes stop, and the answer is false: a crash could apply
    /// the edit and lose later acknowledged writes.
    pub(crate) fn settle_manifest(&self, failures: &Failures, what: &str, error: &Error) -> bool {
        let free = self.free_if_full(error);
        let is_settled = self.versions.recover_manifest().is_ok();
        if is_settled {
            self.take_orphans();
        } else {
            failures.stopped_writes(what, error, free);
        }
        is_settled
    }

    /// The same, for a change that a caller asked for and that tries nothing again by itself.
    pub(crate) fn change_failed(&self, failures: &Failures, what: &str, error: &Error) {
        if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) {
            self.settle_manifest(failures, what, error);
        }
    }

    /// As [`free_if_full`], of the database's own disk.
    pub(crate) fn free_if_full(&self, error: &Error) -> Option<u64> {
        free_if_full(&*self.fs, &self.dir, error)
    }

    /// A job's entry in the registry of pins.
    #[track_caller]
    pub(super) fn pin_job(&self, family: &Family, label: &'static str) -> PinGuard {
        self.pins.claim(PinSpec {
            kind: PinKind::Job,
            site: std::panic::Location::caller(),
            label: Some(label),
            family: Some(family.id()),
            sequence: Default::default(),
            super_version: family.state.load_full().number,
        })
    }

    /// The family that every database has.
    ///
    /// # Errors
    /// `Corruption` if MANIFEST does not have it.
    pub(crate) fn default_family(&self) -> Result<Arc<Family>> {
        self.families
            .get(ColumnFamilyId::DEFAULT)
            .ok_or_else(|| Error::new(ErrorKind::Corruption, "MANIFEST does not have the default column family"))
    }
}

/// The free bytes of the disk that has `dir`, if `error` says that it was full.
pub(crate) fn free_if_full(fs: &dyn Fs, dir: &Path, error: &Error) -> Option<u64> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let is_full = error.kind() == ErrorKind::NoSpace
        || error.io().is_some_and(|io| matches!(io.kind, StorageFull | QuotaExceeded));
    is_full.then(|| fs.free_space(dir).unwrap_or(u64::MAX))
}
