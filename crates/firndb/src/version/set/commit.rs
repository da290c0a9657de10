//! Writing MANIFEST: edits, what follows if their append or sync fails, and the switch to a new MANIFEST.
//!
//! Flow: a job's edits -> [`VersionSet::log_and_apply`] -> checked on copies -> appended and synced -> current, published.
//! If the append or the sync fails, nobody knows what is on the disk: the MANIFEST is poisoned, the files of the edits are
//! kept (see [`CommitError`]), and the next edit, or the retry, first writes a new MANIFEST of the state before.
//!
//! An old MANIFEST goes before the next edit: one that CURRENT named once and that lies there still would open as an older
//! database, should CURRENT go back. Only a hold ([`super::hold`]) keeps it, and it goes with the hold.
//!
//! Invariants are those of [`super`], 1 to 3 above all. Threads: one at a time, under the manifest lock.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::limits::EDIT_BYTES;
use crate::fs::CreateMode;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::wal::writer::LogWriter;

use super::{FamilySnapshot, ManifestLog, State, VersionEdit, VersionSet, identity};
use crate::version::Version;
use crate::version::edit::FileMeta;

/// The families that an edit changes, as they will be, and what else it changes.
struct Pending {
    /// `None` if the edit drops the family.
    families: BTreeMap<ColumnFamilyId, Option<FamilySnapshot>>,
    last_sequence: SequenceNumber,
    min_log_to_keep: FileNumber,
    max_family: ColumnFamilyId,
}

/// Why edits did not become current.
#[derive(Debug)]
pub(crate) struct CommitError {
    error: Error,
    /// The outcome was unknown when this was said: the files of the edits are left to the set, which hands out what turns
    /// out to be an orphan, perhaps before whoever wrote it hears of this.
    pub(crate) are_files_kept: bool,
}

impl From<Error> for CommitError {
    /// Nothing was written.
    fn from(error: Error) -> CommitError {
        CommitError { error, are_files_kept: false }
    }
}

impl From<CommitError> for Error {
    fn from(failed: CommitError) -> Error {
        failed.error
    }
}

impl VersionSet {
    /// Makes `edits` durable as one change, then the versions current, then runs `publish` with the new ones: all under the
    /// manifest lock, so `publish` must not call this again. Callers may leave `next_file`, `last_sequence`, the epochs of
    /// new files and the group counters unset: they are filled in here.
    ///
    /// # Errors
    /// `Internal` if the edits do not fit the current versions, `NoSuchColumnFamily`, `ReadOnly`: nothing was written. Kind
    /// `Io` with "outcome unknown" in the message if the append or its sync failed: the versions are as before, and until
    /// a new MANIFEST is durable all files that the edits name are in limbo. Any other error of the file system: the edits
    /// were not written.
    pub(crate) fn log_and_apply(
        &self,
        edits: Vec<VersionEdit>,
        publish: impl FnOnce(&[(ColumnFamilyId, Arc<Version>)]),
    ) -> std::result::Result<(), CommitError> {
        let mut manifest = self.manifest.lock();
        self.commit(&mut manifest, edits, None, publish)
    }

    /// Adds a family; its id was never used before. `publish` as in `log_and_apply`.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a family of this name; else as `log_and_apply`.
    pub(crate) fn create_family(
        &self,
        name: &str,
        order: KeyOrder,
        log_number: FileNumber,
        publish: impl FnOnce(&FamilySnapshot),
    ) -> Result<FamilySnapshot> {
        let mut manifest = self.manifest.lock();
        self.check_writable()?;
        let id = {
            let mut state = self.state.lock();
            if state.families.values().any(|family| family.name == name) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("there is a column family {name:?} already"),
                ));
            }
            let Some(id) = state.max_family.0.checked_add(1) else {
                return Err(Error::new(ErrorKind::Limit, "all ids of column families are used up"));
            };
            // Raised even if the edit fails: what is on the disk then is unknown, and an id is never used twice.
            state.max_family = ColumnFamilyId(id);
            ColumnFamilyId(id)
        };
        let edit = VersionEdit {
            family: id,
            added_family: Some(name.as_bytes().to_vec()),
            comparator: Some(order.name().as_bytes().to_vec()),
            log_number: Some(log_number),
            max_family: Some(id.0),
            ..VersionEdit::default()
        };
        let mut made = None;
        self.commit(&mut manifest, vec![edit], Some(order), |_| {
            made = self.family(id);
            if let Some(family) = &made {
                publish(family);
            }
        })?;
        made.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("column family {name:?} was added and is not there"))
        })
    }

    /// Removes a family; its tables are obsolete once no version in use names them, and no other family needs a log below
    /// `needed_log`. Returns its last version. `publish` runs once the drop is durable.
    ///
    /// # Errors
    /// `InvalidArgument` for the default family, `NoSuchColumnFamily`; else as `log_and_apply`.
    pub(crate) fn drop_family(
        &self,
        id: ColumnFamilyId,
        needed_log: FileNumber,
        publish: impl FnOnce(),
    ) -> Result<Arc<Version>> {
        let mut manifest = self.manifest.lock();
        if id == ColumnFamilyId::DEFAULT {
            return Err(Error::new(ErrorKind::InvalidArgument, "the default column family cannot be dropped"));
        }
        let last = self.current(id).ok_or_else(|| no_such_family(id))?;
        let min_log_to_keep = Some(needed_log);
        let edit = VersionEdit { family: id, is_family_drop: true, min_log_to_keep, ..VersionEdit::default() };
        self.commit(&mut manifest, vec![edit], None, |_| publish())?;
        Ok(last)
    }

    /// Writes a new MANIFEST with the known state and makes it current; ends limbo.
    ///
    /// # Errors
    /// Those of the file system. CURRENT then names the old MANIFEST or the new one; both say the same.
    pub(crate) fn switch_manifest(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        self.switch(&mut manifest)
    }

    /// Starts a new MANIFEST if the old one must not be appended to; else does nothing.
    pub(crate) fn recover_manifest(&self) -> Result<()> {
        let mut manifest = self.manifest.lock();
        match &manifest.writer {
            Some(_) => Ok(()),
            None => self.switch(&mut manifest),
        }
    }

    /// No edit is written from now on; one that is being written ends first.
    pub(crate) fn close(&self) {
        let _manifest = self.manifest.lock();
        // Relaxed: looked at under the same lock.
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn check_writable(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Closed, "the database is closed"));
        }
        match self.is_read_only {
            true => Err(Error::new(ErrorKind::ReadOnly, "the database was opened read-only")),
            false => Ok(()),
        }
    }

    fn commit(
        &self,
        manifest: &mut ManifestLog,
        mut edits: Vec<VersionEdit>,
        added_order: Option<KeyOrder>,
        publish: impl FnOnce(&[(ColumnFamilyId, Arc<Version>)]),
    ) -> std::result::Result<(), CommitError> {
        self.check_writable()?;
        let pending = self.prepare(&mut edits, added_order)?;
        if manifest.writer.as_ref().is_none_or(|writer| writer.size() >= self.config.manifest_bytes_max) {
            self.switch(manifest)?;
        }
        self.remove_stale(manifest)?;
        // Taken out while it is written to: after an error, and after a panic, there is none to append to.
        let Some(mut writer) = manifest.writer.take() else {
            return Err(Error::new(ErrorKind::Internal, "a switch of MANIFEST left none to write to").into());
        };
        let doubt = Doubt { set: self, edits: &edits };
        if let Err(error) = append(&mut writer, &records(&edits)) {
            drop(doubt);
            let message = format!(
                "an edit of {}: outcome unknown; a new MANIFEST without it comes first",
                file_name::manifest(self.state.lock().manifest_number)
            );
            return Err(CommitError { error: error.because(ErrorKind::Io, message), are_files_kept: true });
        }
        std::mem::forget(doubt);
        manifest.writer = Some(writer);
        let published = self.install(pending);
        publish(&published);
        Ok(())
    }

    /// Applies the edits to copies, and fills in what callers leave to the set.
    fn prepare(&self, edits: &mut [VersionEdit], mut added_order: Option<KeyOrder>) -> Result<Pending> {
        let state = self.state.lock();
        let mut pending = Pending {
            families: BTreeMap::new(),
            last_sequence: state.last_sequence,
            min_log_to_keep: state.min_log_to_keep,
            max_family: state.max_family,
        };
        let next_file = self.next_file.load(Ordering::Relaxed);
        for edit in edits.iter_mut() {
            edit.next_file = Some(FileNumber(next_file));
            pending.last_sequence = pending.last_sequence.max(edit.last_sequence.unwrap_or_default());
            edit.last_sequence = Some(pending.last_sequence);
            pending.min_log_to_keep = pending.min_log_to_keep.max(edit.min_log_to_keep.unwrap_or_default());
            if edit.log_number.is_some() {
                edit.prev_log_number = Some(FileNumber(0));
            }
            if let (Some(name), Some(order)) = (&edit.added_family, added_order.take()) {
                let family = FamilySnapshot {
                    id: edit.family,
                    name: String::from_utf8_lossy(name).into_owned(),
                    version: Arc::new(Version::empty(order.clone(), self.config.levels)),
                    order,
                    log_number: edit.log_number.unwrap_or_default(),
                    compact_cursors: BTreeMap::new(),
                    next_epoch: 1,
                };
                pending.families.insert(edit.family, Some(family));
                continue;
            }
            let mut family = match pending.families.remove(&edit.family) {
                Some(changed) => changed,
                None => state.families.get(&edit.family).cloned(),
            }
            .ok_or_else(|| no_such_family(edit.family))?;
            if edit.is_family_drop {
                edit.max_family = Some(pending.max_family.0);
                pending.families.insert(edit.family, None);
                continue;
            }
            if let Some(beyond) = edit.new_files.iter().find(|(_, meta)| meta.number.0 >= next_file) {
                let message = format!("an edit adds file {}, whose number was never handed out", beyond.1.number);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            if let Some(beyond) = edit.blob_additions.iter().find(|meta| meta.number.0 >= next_file) {
                let message = format!("an edit adds blob file {}, whose number was never handed out", beyond.number);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            fill_epochs(edit, &mut family);
            // An edit without files (a log number) leaves the version as it is. Garbage comes with the tables that refer to less.
            if !edit.new_files.is_empty() || !edit.deleted_files.is_empty() {
                let applied = family.version.apply(edit).map_err(|error| {
                    error.because(
                        ErrorKind::Internal,
                        format!("an edit of column family {:?} does not fit", family.name),
                    )
                })?;
                family.version = Arc::new(applied);
            }
            family.log_number = family.log_number.max(edit.log_number.unwrap_or_default());
            family.compact_cursors.extend(edit.compact_cursors.iter().cloned());
            pending.families.insert(edit.family, Some(family));
        }
        Ok(pending)
    }

    /// The edits are durable: makes their versions current.
    fn install(&self, pending: Pending) -> Vec<(ColumnFamilyId, Arc<Version>)> {
        let mut published = Vec::with_capacity(pending.families.len());
        let mut state = self.state.lock();
        state.last_sequence = pending.last_sequence;
        state.min_log_to_keep = pending.min_log_to_keep;
        for (id, family) in pending.families {
            let Some(family) = family else {
                state.families.remove(&id);
                continue;
            };
            state.remember(&family.version);
            published.push((id, Arc::clone(&family.version)));
            state.families.insert(id, family);
        }
        published
    }

    /// The order matters: the new MANIFEST and its entry are durable before CURRENT names it, CURRENT before the old one
    /// goes, and that is durable before the first further edit; one that a hold names stays until the hold goes. A failure
    /// leaves no MANIFEST to append to, unless only the removal failed, which is then tried again before each edit.
    pub(super) fn switch(&self, manifest: &mut ManifestLog) -> Result<()> {
        self.check_writable()?;
        manifest.writer = None;
        let (fs, dir) = (&self.config.fs, &self.config.dir);
        // After a database was brought here without its IDENTITY, or before the first edit of one that never had it.
        if identity::read(&self.config)?.is_none() {
            identity::write(&self.config, &self.db_id)?;
        }
        let number = self.new_file_number();
        let path = dir.join(file_name::manifest(number));
        let temp = dir.join(file_name::temp(number));
        let mut writer = LogWriter::new(fs.create(&path, CreateMode::New)?, None);
        let prepared = append(&mut writer, &self.snapshot_edits()).and_then(|()| {
            fs.sync_dir(dir)?;
            let current = fs.create(&temp, CreateMode::Truncate)?;
            current.append(file_name::current(number).as_bytes())?;
            current.sync_data()
        });
        if let Err(error) = prepared {
            // Nothing names the two files yet. What cannot be removed is found by the next scan for orphans.
            drop((fs.remove_file(&path), fs.remove_file(&temp)));
            return Err(error);
        }
        // From here on CURRENT may name the new one, whatever the rename reports.
        self.state.lock().candidates.insert(number);
        if let Err(error) = fs.rename(&temp, &dir.join(file_name::CURRENT)) {
            // If it did happen there is no such name any more.
            let _ = fs.remove_file(&temp);
            return Err(error);
        }
        fs.sync_dir(dir)?;
        manifest.stale.extend(self.settle(number));
        manifest.writer = Some(writer);
        self.remove_stale(manifest)
    }

    /// Removes the MANIFESTs before the current one. Needs a CURRENT that is durable.
    fn remove_stale(&self, manifest: &mut ManifestLog) -> Result<()> {
        if manifest.stale.is_empty() {
            return Ok(());
        }
        for number in &manifest.stale {
            match self.config.fs.remove_file(&self.config.dir.join(file_name::manifest(*number))) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        self.config.fs.sync_dir(&self.config.dir)?;
        manifest.stale.clear();
        Ok(())
    }

    /// The MANIFEST `number` is durable and current: ends limbo. Returns the MANIFESTs that are no longer needed. Those that a
    /// hold names are the janitor's from now on: decided under one lock, so that each is removed once.
    fn settle(&self, number: FileNumber) -> Vec<FileNumber> {
        let mut state = self.state.lock();
        state.manifest_number = number;
        let limbo = std::mem::take(&mut state.limbo);
        let orphans: Vec<_> = limbo.into_iter().filter(|(number, _)| !state.names(*number)).collect();
        state.orphans.extend(orphans);
        let old = std::mem::replace(&mut state.candidates, [number].into());
        let (held, stale): (Vec<_>, Vec<_>) =
            old.into_iter().filter(|old| *old != number).partition(|old| state.holds.keep(FileKind::Manifest, *old));
        state.outlived.extend(held);
        stale
    }

    /// The known state as the edits of a new MANIFEST.
    fn snapshot_edits(&self) -> Vec<VersionEdit> {
        let state = self.state.lock();
        let mut edits = vec![VersionEdit { db_id: Some(self.db_id.clone().into_bytes()), ..VersionEdit::default() }];
        for family in state.families.values() {
            family_edits(family, &state, &mut edits);
        }
        edits.push(VersionEdit {
            prev_log_number: Some(FileNumber(0)),
            next_file: Some(FileNumber(self.next_file.load(Ordering::Relaxed))),
            // Ids of families that are gone are not used again.
            max_family: (state.max_family.0 > 0).then_some(state.max_family.0),
            ..VersionEdit::default()
        });
        edits
    }
}

/// Edits that are being written: unless that is known to have gone well, their files are in limbo, whether the write fails
/// or unwinds.
struct Doubt<'a> {
    set: &'a VersionSet,
    edits: &'a [VersionEdit],
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let mut state = self.set.state.lock();
        for edit in self.edits {
            let tables = edit.deleted_files.iter().map(|(_, number)| *number);
            let tables = tables.chain(edit.new_files.iter().map(|(_, meta)| meta.number));
            state.limbo.extend(tables.map(|number| (number, FileKind::Table)));
            state.limbo.extend(edit.blob_additions.iter().map(|meta| (meta.number, FileKind::Blob)));
        }
    }
}

fn family_edits(family: &FamilySnapshot, state: &State, edits: &mut Vec<VersionEdit>) {
    let is_default = family.id == ColumnFamilyId::DEFAULT;
    edits.push(VersionEdit {
        family: family.id,
        comparator: Some(family.order.name().as_bytes().to_vec()),
        added_family: (!is_default).then(|| family.name.clone().into_bytes()),
        max_family: (!is_default).then_some(state.max_family.0),
        log_number: Some(family.log_number),
        ..VersionEdit::default()
    });
    // Before the tables: RocksDB links a table to its blob file when it meets the table.
    for blobs in cut(family.version.blobs.iter().collect(), |_| BLOB_BYTES) {
        edits.push(VersionEdit {
            family: family.id,
            blob_additions: blobs.iter().map(|blob| blob.file.meta.clone()).collect(),
            blob_garbage: blobs
                .iter()
                .filter(|blob| blob.garbage.count > 0)
                .map(|blob| (blob.file.meta.number, blob.garbage))
                .collect(),
            ..VersionEdit::default()
        });
    }
    let files: Vec<_> = family.version.files().map(|(level, file)| (level as u32, file.meta.clone())).collect();
    for new_files in cut(files, bytes_of_file) {
        edits.push(VersionEdit { family: family.id, new_files, ..VersionEdit::default() });
    }
    let cursors: Vec<_> = family.compact_cursors.iter().map(|(level, key)| (*level, key.clone())).collect();
    for compact_cursors in cut(cursors, |(_, key)| key.len()) {
        edits.push(VersionEdit { family: family.id, compact_cursors, ..VersionEdit::default() });
    }
    edits.push(VersionEdit {
        family: family.id,
        log_number: Some(family.log_number),
        min_log_to_keep: is_default.then_some(state.min_log_to_keep).filter(|number| number.0 > 0),
        last_sequence: is_default.then_some(state.last_sequence),
        ..VersionEdit::default()
    });
}

/// About what a blob file takes in an edit.
const BLOB_BYTES: usize = 128;

/// About what a file takes in an edit.
fn bytes_of_file((_, meta): &(u32, FileMeta)) -> usize {
    128 + meta.smallest.len() + meta.largest.len() + meta.checksum.len()
}

/// Cuts a list into pieces of about [`EDIT_BYTES`], so that no record grows without bound; one element is never cut.
fn cut<T>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut pieces: Vec<Vec<T>> = Vec::new();
    let mut room = 0_usize;
    for one in all {
        let needed = bytes(&one);
        match pieces.last_mut() {
            Some(piece) if needed <= room => piece.push(one),
            _ => {
                room = EDIT_BYTES;
                pieces.push(vec![one]);
            }
        }
        room = room.saturating_sub(needed);
    }
    pieces
}

/// The records of one change: edits of many files with long keys are cut, and all records together are one atomic group.
fn records(edits: &[VersionEdit]) -> Vec<VersionEdit> {
    let mut all = Vec::with_capacity(edits.len());
    for edit in edits {
        let mut first = edit.clone();
        let mut pieces = cut(std::mem::take(&mut first.new_files), bytes_of_file).into_iter();
        // Files are deleted before others take their places.
        first.new_files = pieces.next().unwrap_or_default();
        all.push(first);
        all.extend(pieces.map(|new_files| VersionEdit { family: edit.family, new_files, ..VersionEdit::default() }));
    }
    let count = all.len();
    for (index, edit) in all.iter_mut().enumerate() {
        edit.atomic_group = (count > 1).then_some((count - 1 - index) as u32);
    }
    all
}

/// A flushed or ingested file gets the family's next epoch, a compacted one the oldest of the files it replaces.
fn fill_epochs(edit: &mut VersionEdit, family: &mut FamilySnapshot) {
    let replaced = edit.deleted_files.iter().filter_map(|(_, number)| family.version.file(*number));
    let oldest = replaced.map(|(_, file)| file.meta.epoch).min();
    for (_, meta) in &mut edit.new_files {
        if meta.epoch == 0 {
            meta.epoch = oldest.unwrap_or(family.next_epoch);
        }
        if meta.epoch >= family.next_epoch {
            family.next_epoch = meta.epoch.saturating_add(1);
        }
    }
}

fn append(writer: &mut LogWriter, edits: &[VersionEdit]) -> Result<()> {
    let mut record = Vec::new();
    for edit in edits {
        record.clear();
        edit.encode(&mut record);
        writer.add_record(&record)?;
    }
    writer.file().sync_data()
}

#[cold]
fn no_such_family(id: ColumnFamilyId) -> Error {
    Error::new(ErrorKind::NoSuchColumnFamily, format!("there is no column family {}", id.0))
}
