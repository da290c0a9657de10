//! The files that are the database at one moment, and what is kept for whoever copies them.
//!
//! Flow: `db::live_files`, at the head of the write queue -> [`VersionSet::hold`] -> a [`Hold`]; the janitor ->
//! [`VersionSet::is_held`], [`VersionSet::let_go`].
//!
//! What a hold names is what a crash of the process at that moment would leave: the versions that are current, the MANIFEST
//! that says so up to its length, and the logs that it asks for. No edit is written meanwhile, since the manifest lock is
//! held, and no log grows, since the caller leads the write queue. So recovery finds that moment, and no other.
//!
//! A MANIFEST that is replaced while a hold names it is not removed with the switch, as others are: it is the janitor's,
//! once the hold has gone.

use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::{FileNumber, SequenceNumber};
use crate::sync::Arc;
use crate::wal::writer::LogWriter;

use super::hold::{Hold, Piece};
use super::{VersionSet, first_needed_log};

impl VersionSet {
    /// Keeps the files of this moment until the last reference but the set's own is dropped, and the janitor has seen
    /// that. For a caller that keeps all logs as they are: `logs` are those that there are, oldest first, with what they
    /// have on the disk; `sequence` is the last number in them. `options` is the OPTIONS file in use.
    ///
    /// # Errors
    /// `Closed`, `ReadOnly`. If MANIFEST's end is unknown a new one comes first: those of the file system.
    pub(crate) fn hold(
        &self,
        mut logs: Vec<Piece>,
        sequence: SequenceNumber,
        options: Option<FileNumber>,
    ) -> Result<Arc<Hold>> {
        let mut manifest = self.manifest.lock();
        self.check_writable()?;
        if manifest.writer.is_none() {
            self.switch(&mut manifest)?;
        }
        let bytes = manifest.writer.as_ref().map(LogWriter::size);
        let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Internal, "a switch of MANIFEST left none"))?;
        let mut state = self.state.lock();
        let needed = first_needed_log(state.families.values(), state.min_log_to_keep);
        logs.retain(|log| log.number >= needed);
        let versions = state.families.values().map(|family| Arc::clone(&family.version)).collect();
        let manifest = Piece { number: state.manifest_number, bytes };
        let hold = Arc::new(Hold::new(state.holds.made + 1, sequence, versions, manifest, options, logs));
        state.holds.add(Arc::clone(&hold));
        Ok(hold)
    }

    /// The holds that somebody has, or had until a moment ago.
    pub(crate) fn holds(&self) -> Vec<Arc<Hold>> {
        self.state.lock().holds.all()
    }

    /// True if a hold keeps the file.
    pub(crate) fn is_held(&self, kind: FileKind, number: FileNumber) -> bool {
        self.state.lock().holds.keep(kind, number)
    }

    /// Frees the holds that nobody has any more, and hands out the MANIFESTs that were replaced while one named them, with
    /// their sizes; each is returned once. For the janitor.
    pub(crate) fn let_go(&self) -> Vec<(FileNumber, u64)> {
        let (free, outlived) = {
            let mut state = self.state.lock();
            (state.holds.take_free(), std::mem::take(&mut state.outlived))
        };
        // Not under the lock: with a version its tables may be closed.
        drop(free);
        let size = |number| self.config.fs.file_size(&self.config.dir.join(file_name::manifest(number)));
        // The size is for reports.
        outlived.into_iter().map(|number| (number, size(number).unwrap_or(0))).collect()
    }
}
