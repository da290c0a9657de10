//! The version set: every family's current version, kept in MANIFEST.

use std::path::PathBuf;

use crate::clock::Clock;
use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::sync::Arc;

use super::Version;
use super::edit::VersionEdit;

/// What a version set needs from its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct VersionSetConfig {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    /// Levels of a new family's versions.
    pub(crate) levels: usize,
    /// A MANIFEST that has grown beyond this is replaced by a new one before the next edit.
    pub(crate) manifest_bytes_max: u64,
}

/// A family as MANIFEST knows it.
#[derive(Debug, Clone)]
pub(crate) struct FamilySnapshot {
    pub(crate) id: ColumnFamilyId,
    pub(crate) name: String,
    pub(crate) order: KeyOrder,
    /// WALs below this number hold nothing of this family that its tables do not.
    pub(crate) log_number: FileNumber,
    pub(crate) version: Arc<Version>,
}

/// What recovery found.
#[derive(Debug, Clone)]
pub(crate) struct Recovered {
    /// By id; the default family is first.
    pub(crate) families: Vec<FamilySnapshot>,
    pub(crate) last_sequence: SequenceNumber,
    /// No WAL below this number is needed by anyone.
    pub(crate) min_log_to_keep: FileNumber,
    pub(crate) next_file_number: FileNumber,
    pub(crate) max_family: ColumnFamilyId,
    pub(crate) manifest_number: FileNumber,
    /// WALs that RocksDB tracked in MANIFEST; the first MANIFEST written here forgets them.
    pub(crate) tracked_wals: Vec<FileNumber>,
}

/// Every family's current version, and the MANIFEST that says so durably.
#[derive(Debug)]
pub(crate) struct VersionSet {
    config: VersionSetConfig,
}

/// Keeps the janitor and orphan scans away from a file that a job is writing. Dropping it ends that.
#[derive(Debug)]
#[must_use]
pub(crate) struct OutputGuard {
    number: FileNumber,
}

impl OutputGuard {
    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }
}

impl VersionSet {
    /// Makes a new database in an existing, empty directory: IDENTITY, MANIFEST, CURRENT, all durable on return.
    pub(crate) fn create(config: VersionSetConfig, default_order: KeyOrder) -> Result<VersionSet> {
        todo!()
    }

    /// Reads CURRENT and the MANIFEST it names. Writes nothing: the first edit goes to a new MANIFEST. `orders` gives the
    /// key order of a family by its name; where it gives none, the built-in order that MANIFEST names is taken.
    pub(crate) fn recover(
        config: VersionSetConfig,
        is_read_only: bool,
        orders: &dyn Fn(&str) -> Option<KeyOrder>,
    ) -> Result<(VersionSet, Recovered)> {
        todo!()
    }

    /// The database's id, as in IDENTITY.
    pub(crate) fn db_id(&self) -> &str {
        todo!()
    }

    /// The id of this opening of the database: 20 characters, base 36.
    pub(crate) fn session_id(&self) -> &str {
        todo!()
    }

    /// A number that no file has or had.
    pub(crate) fn new_file_number(&self) -> FileNumber {
        todo!()
    }

    /// Numbers up to and including `number` are never handed out.
    pub(crate) fn mark_file_number_used(&self, number: FileNumber) {
        todo!()
    }

    /// A new number, protected from the start.
    pub(crate) fn new_output(&self) -> OutputGuard {
        todo!()
    }

    /// Protects a file that is being written from everyone who looks for obsolete files.
    pub(crate) fn protect_output(&self, number: FileNumber) -> OutputGuard {
        todo!()
    }

    /// True if the table or blob file must not be unlinked: the durable MANIFEST names it, or may name it (limbo), or a job
    /// is writing it.
    pub(crate) fn is_protected(&self, number: FileNumber) -> bool {
        todo!()
    }

    /// Makes `edits` durable as one change, then the current versions, then runs `publish` with the new ones, all under the
    /// manifest lock. Edits may leave `next_file`, `last_sequence`, epochs of new files and group counters to this.
    ///
    /// # Errors
    /// `InvalidArgument` or `Internal`-like refusals before anything is written. Kind `Io` with "outcome unknown" if the append or sync failed: then inputs and
    /// outputs stay protected until a new MANIFEST without the edit is durable.
    pub(crate) fn log_and_apply(
        &self,
        edits: Vec<VersionEdit>,
        publish: impl FnOnce(&[(ColumnFamilyId, Arc<Version>)]),
    ) -> Result<()> {
        todo!()
    }

    /// Adds a family; its id was never used before.
    pub(crate) fn create_family(&self, name: &str, order: KeyOrder, log_number: FileNumber) -> Result<FamilySnapshot> {
        todo!()
    }

    /// Removes a family; its tables are obsolete once no version in use names them. Returns its last version.
    pub(crate) fn drop_family(&self, id: ColumnFamilyId) -> Result<Arc<Version>> {
        todo!()
    }

    /// The current version of a family.
    pub(crate) fn current(&self, family: ColumnFamilyId) -> Option<Arc<Version>> {
        todo!()
    }

    /// All living families, by id.
    pub(crate) fn families(&self) -> Vec<FamilySnapshot> {
        todo!()
    }

    /// All versions that someone still holds, of dropped families too.
    pub(crate) fn live_versions(&self) -> Vec<Arc<Version>> {
        todo!()
    }

    /// Writes a new MANIFEST with the known state and makes it current; ends limbo.
    pub(crate) fn switch_manifest(&self) -> Result<()> {
        todo!()
    }

    /// After a failed edit: `switch_manifest` if the MANIFEST cannot be appended to, else nothing.
    pub(crate) fn recover_manifest(&self) -> Result<()> {
        todo!()
    }

    /// Numbers of files that a failed edit left behind and that nothing protects any more; each is returned once.
    pub(crate) fn take_orphans(&self) -> Vec<FileNumber> {
        todo!()
    }

    /// The MANIFEST in use.
    pub(crate) fn manifest_number(&self) -> FileNumber {
        todo!()
    }

    /// True if CURRENT names, or after a failed switch may name, this MANIFEST.
    pub(crate) fn is_manifest_needed(&self, number: FileNumber) -> bool {
        todo!()
    }

    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        todo!()
    }

    pub(crate) fn min_log_to_keep(&self) -> FileNumber {
        todo!()
    }
}
