//! The version set: every family's current version, and the MANIFEST that says so durably.
//!
//! Flow: flush, compaction, ingestion -> **[`VersionSet::log_and_apply`]** -> MANIFEST, synced -> the current versions ->
//! the caller's `publish`. `recovery` begins with [`VersionSet::recover`].
//!
//! Invariants
//! 1. An edit is applied to a copy and checked before a byte of it is written, and becomes current only once it is durable.
//! 2. Where the outcome of a write is unknown, the MANIFEST is never appended to again. The files of the failed edit, gone
//!    ones and new ones, are in *limbo*: protected until a new MANIFEST that holds the state before the edit is durable and
//!    CURRENT names it.
//! 3. A MANIFEST that CURRENT may name, or that a [`hold`] names, is never removed.
//! 4. File numbers only rise. Recovery starts above every number that MANIFEST or the directory has ever shown, so that a
//!    number whose edit was lost in a crash is not given to another file while the first may still be on the disk.
//!
//! Threads and locks: the *manifest lock* serialises writers and is held across syncs and `publish`; no reader and no user
//! write takes it; but whoever lists the files of a moment ([`live`]) leads the write queue meanwhile. The *state lock* is held for moments, and may be taken under the manifest lock, never the other way.
//!
//! Source: RocksDB `VersionSet::LogAndApply`; limbo is what its issues #4990, #6949 and #7621 taught.

mod commit;
pub(crate) mod hold;
mod identity;
mod live;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::clock::Clock;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::sequence_ranges::SequenceRanges;
use crate::fs::{Fs, parent_of};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::wal::writer::LogWriter;

use super::Version;
use super::apply::oldest_blobs;
use super::blobs::BlobFiles;
use super::edit::VersionEdit;
use super::manifest::{self, DEFAULT_FAMILY, FamilyFiles, ManifestState};

use hold::Holds;

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
    /// Where the next compaction of a level goes on, by level: internal keys.
    pub(crate) compact_cursors: BTreeMap<u32, Vec<u8>>,
    /// The epoch of the next flushed or ingested file.
    next_epoch: u64,
}

/// What recovery found.
#[derive(Debug, Clone)]
pub(crate) struct Recovered {
    /// By id; the default family is first.
    pub(crate) families: Vec<FamilySnapshot>,
    pub(crate) last_sequence: SequenceNumber,
    /// No WAL below this number is needed by anyone.
    pub(crate) min_log_to_keep: FileNumber,
    pub(crate) manifest_number: FileNumber,
    /// MANIFEST ends inside an edit.
    pub(crate) is_cut_off: bool,
    pub(crate) past: Past,
}

impl Recovered {
    /// The oldest log that may hold what is in no table.
    pub(crate) fn first_needed_log(&self) -> FileNumber {
        first_needed_log(self.families.iter(), self.min_log_to_keep)
    }
}

fn first_needed_log<'a>(families: impl Iterator<Item = &'a FamilySnapshot>, min_to_keep: FileNumber) -> FileNumber {
    families.map(|family| family.log_number).min().unwrap_or_default().max(min_to_keep)
}

/// What MANIFEST says of files that are in no version any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// Every table ever named, live ones too.
    pub(crate) tables: BTreeSet<FileNumber>,
    /// Every blob file ever named, live ones too.
    pub(crate) blobs: BTreeSet<FileNumber>,
    /// The sequence numbers of every table that a family ever had; families that exist only.
    pub(crate) sequences: BTreeMap<ColumnFamilyId, SequenceRanges>,
    /// No family has had a larger number.
    pub(crate) max_family: ColumnFamilyId,
}

/// Every family's current version, and the MANIFEST that says so durably.
#[derive(Debug)]
pub(crate) struct VersionSet {
    config: VersionSetConfig,
    is_read_only: bool,
    /// The database was closed: another may have the directory.
    is_closed: AtomicBool,
    db_id: String,
    session_id: String,
    /// The number that the next file gets.
    next_file: AtomicU64,
    /// The manifest lock.
    manifest: Mutex<ManifestLog>,
    state: Mutex<State>,
    outputs: Arc<Mutex<BTreeMap<FileNumber, usize>>>,
}

/// Where edits go.
#[derive(Debug)]
struct ManifestLog {
    /// `None`: nothing may be appended, the next edit starts a new MANIFEST.
    writer: Option<LogWriter>,
    /// MANIFESTs that nothing names once CURRENT is durable: they go before the next edit.
    stale: Vec<FileNumber>,
}

/// What is durable, and what may be.
#[derive(Debug)]
struct State {
    families: BTreeMap<ColumnFamilyId, FamilySnapshot>,
    last_sequence: SequenceNumber,
    min_log_to_keep: FileNumber,
    max_family: ColumnFamilyId,
    /// Files of edits whose outcome is unknown.
    limbo: BTreeMap<FileNumber, FileKind>,
    /// Files that left limbo with no version naming them.
    orphans: Vec<(FileNumber, FileKind)>,
    /// The MANIFEST in use; after a failed switch the one before it.
    manifest_number: FileNumber,
    /// MANIFESTs that CURRENT may name.
    candidates: BTreeSet<FileNumber>,
    holds: Holds,
    /// MANIFESTs that were held when they were replaced: not handed out yet.
    outlived: Vec<FileNumber>,
    /// Every version that was current once and is still held.
    versions: Vec<std::sync::Weak<Version>>,
}

impl State {
    fn remember(&mut self, version: &Arc<Version>) {
        // Sweeping at doubled length keeps this O(1) per version, amortised.
        if self.versions.len() == self.versions.capacity() {
            self.versions.retain(|version| version.strong_count() > 0);
        }
        self.versions.push(Arc::downgrade(version));
    }

    fn names(&self, number: FileNumber) -> bool {
        self.families.values().any(|family| family.version.contains(number) || family.version.blobs.contains(number))
    }
}

/// Keeps the janitor and orphan scans away from a file that a job is writing. Dropping it ends that.
#[derive(Debug)]
#[must_use]
pub(crate) struct OutputGuard {
    number: FileNumber,
    outputs: Arc<Mutex<BTreeMap<FileNumber, usize>>>,
}

impl OutputGuard {
    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }
}

impl Drop for OutputGuard {
    fn drop(&mut self) {
        let mut outputs = self.outputs.lock();
        if let Some(guards) = outputs.get_mut(&self.number) {
            *guards -= 1;
            if *guards == 0 {
                outputs.remove(&self.number);
            }
        }
    }
}

impl VersionSet {
    /// Makes a new database in an existing directory without one: IDENTITY, MANIFEST, CURRENT, all durable on return.
    /// What an interrupted creation left behind is stepped over.
    ///
    /// # Errors
    /// `InvalidArgument` if there is a database; `Corruption` if there are tables or WALs, but no CURRENT: making a new
    /// database there would delete what may still be rescued.
    pub(crate) fn create(config: VersionSetConfig, default_order: KeyOrder) -> Result<VersionSet> {
        let current = config.dir.join(file_name::CURRENT);
        if config.fs.exists(&current)? {
            let message = format!("{} holds a database already", config.dir.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        let mut largest = FileNumber(0);
        let mut stale = Vec::new();
        for entry in config.fs.list(&config.dir)? {
            match file_name::parse(&entry.name) {
                Some((FileKind::Table | FileKind::Wal | FileKind::Blob, _)) if !entry.is_dir => {
                    return Err(manifest::without_current(&*config.fs, &config.dir));
                }
                Some((FileKind::InfoLog, _)) => {}
                Some((kind, number)) => {
                    largest = largest.max(number);
                    if kind == FileKind::Manifest && !entry.is_dir {
                        stale.push(number);
                    }
                }
                None => {}
            }
        }
        let version = Arc::new(Version::empty(default_order.clone(), config.levels));
        let default = FamilySnapshot {
            id: ColumnFamilyId::DEFAULT,
            name: DEFAULT_FAMILY.to_owned(),
            order: default_order,
            log_number: FileNumber(0),
            version,
            compact_cursors: BTreeMap::new(),
            next_epoch: 1,
        };
        let db_id = match identity::read(&config)? {
            Some(id) => id,
            None => {
                let id = identity::new_db_id(&*config.clock);
                identity::write(&config, &id)?;
                id
            }
        };
        let families = BTreeMap::from([(ColumnFamilyId::DEFAULT, default)]);
        let state = State::new(families, SequenceNumber(0), FileNumber(0), ColumnFamilyId::DEFAULT);
        let set = VersionSet::assemble(config, false, db_id, largest.0 + 1, state, stale);
        set.switch_manifest()?;
        // The directory may have been there, made by somebody who did not sync.
        set.config.fs.sync_dir(parent_of(&set.config.dir))?;
        Ok(set)
    }

    /// Reads CURRENT and the MANIFEST it names. Writes nothing: the first edit goes to a new MANIFEST. `orders` gives the
    /// key order of a family by its name and the comparator's in MANIFEST; where it gives none, the built-in order that
    /// MANIFEST names is taken.
    ///
    /// # Errors
    /// `NoSuchDatabase` without CURRENT and data; `Corruption`; `InvalidArgument` if a family was made with another order than is
    /// asked for; `NotSupported` if none is asked for and MANIFEST names one that is not built in. For reading, the family is
    /// there then, and its version has an obstacle.
    pub(crate) fn recover(
        config: VersionSetConfig,
        is_read_only: bool,
        orders: &dyn Fn(&str, &str) -> Option<KeyOrder>,
    ) -> Result<(VersionSet, Recovered)> {
        let (number, found) = read_newest(&config)?;
        let path = config.dir.join(file_name::manifest(number));
        let ManifestState { next_file, last_sequence, min_log_to_keep, max_family, .. } = found;
        let mut families = BTreeMap::new();
        let mut past = Past { tables: found.named, max_family, ..Past::default() };
        for (id, mut family) in found.families {
            past.sequences.insert(id, std::mem::take(&mut family.sequences));
            past.blobs.extend(family.blobs.keys());
            let snapshot = assemble_family(id, family, config.levels, is_read_only, orders);
            families.insert(id, snapshot.map_err(|error| error.in_file(&path, None))?);
        }
        let mut largest = found.largest_number;
        let mut stale = Vec::new();
        for entry in config.fs.list(&config.dir)? {
            match file_name::parse(&entry.name) {
                // The suffix of an old LOG is a time.
                None | Some((FileKind::InfoLog, _)) => {}
                Some((kind, found)) => {
                    largest = largest.max(found);
                    if kind == FileKind::Manifest && found != number && !entry.is_dir {
                        stale.push(found);
                    }
                }
            }
        }
        // Whoever writes needs some, and what it leaves must still be readable.
        let spare = if is_read_only { 0 } else { 1 << 32 };
        if largest.0.max(next_file.0) >= FILE_NUMBER_MAX - spare {
            let detail = format!("file number {} leaves none for new files", largest.max(next_file));
            return Err(Error::corrupt(CorruptionKind::Malformed, detail).in_file(&path, None));
        }
        let in_tables =
            families.values().flat_map(|family| family.version.files()).map(|(_, file)| file.meta.largest_seq);
        let largest_seq = in_tables.fold(last_sequence, SequenceNumber::max);
        if largest_seq > SequenceNumber::LIMIT {
            let detail = format!("sequence number {largest_seq} leaves none for new writes");
            return Err(Error::corrupt(CorruptionKind::Malformed, detail).in_file(&path, None));
        }
        let db_id = match found.db_id.filter(|id| !id.is_empty()) {
            Some(id) => id,
            None => identity::read(&config)?.unwrap_or_else(|| identity::new_db_id(&*config.clock)),
        };
        let mut state = State::new(families, last_sequence, min_log_to_keep, max_family);
        state.manifest_number = number;
        state.candidates.insert(number);
        let next_file = next_file.0.max(largest.0 + 1);
        let recovered = Recovered {
            families: state.families.values().cloned().collect(),
            last_sequence,
            min_log_to_keep,
            manifest_number: number,
            is_cut_off: found.is_cut_off,
            past,
        };
        Ok((VersionSet::assemble(config, is_read_only, db_id, next_file, state, stale), recovered))
    }

    fn assemble(
        config: VersionSetConfig,
        is_read_only: bool,
        db_id: String,
        next: u64,
        state: State,
        stale: Vec<FileNumber>,
    ) -> VersionSet {
        VersionSet {
            session_id: identity::new_session_id(&*config.clock),
            config,
            is_read_only,
            is_closed: AtomicBool::new(false),
            db_id,
            next_file: AtomicU64::new(next),
            manifest: Mutex::new(ManifestLog { writer: None, stale }),
            state: Mutex::new(state),
            outputs: Arc::default(),
        }
    }

    /// The database's id, as in IDENTITY.
    pub(crate) fn db_id(&self) -> &str {
        &self.db_id
    }

    /// The id of this opening of the database: 20 characters, base 36.
    pub(crate) fn session_id(&self) -> &str {
        &self.session_id
    }

    /// A number that no file has or had.
    pub(crate) fn new_file_number(&self) -> FileNumber {
        // Relaxed: the numbers need to differ, and order nothing.
        FileNumber(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    /// Numbers up to and including `number` are never handed out, unless it is one that nobody could have been given.
    pub(crate) fn mark_file_number_used(&self, number: FileNumber) {
        if number.0 < FILE_NUMBER_MAX {
            // Relaxed: as above.
            self.next_file.fetch_max(number.0 + 1, Ordering::Relaxed);
        }
    }

    /// A new number, protected from the start.
    pub(crate) fn new_output(&self) -> OutputGuard {
        self.protect_output(self.new_file_number())
    }

    /// Protects a file that is being written from everyone who looks for obsolete files.
    pub(crate) fn protect_output(&self, number: FileNumber) -> OutputGuard {
        *self.outputs.lock().entry(number).or_insert(0) += 1;
        OutputGuard { number, outputs: Arc::clone(&self.outputs) }
    }

    /// Removes files of a job that failed, which no edit ever named. What cannot be removed now is an orphan: the janitor tries
    /// again.
    pub(crate) fn remove_outputs<'a>(&self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        for path in paths {
            match self.config.fs.remove_file(path) {
                Err(error) if !error.is_not_found() => {
                    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    if let Some((kind, number)) = file_name::parse(name) {
                        self.state.lock().orphans.push((number, kind));
                    }
                }
                _ => {}
            }
        }
    }

    /// True if the table or blob file must not be unlinked: the durable MANIFEST names it, or may name it (limbo), or a job is writing
    /// it. Not asked here: whether an older version that names it is still held.
    pub(crate) fn is_protected(&self, number: FileNumber) -> bool {
        // The outputs first: a job drops its guard only after its file is in a current version or in limbo.
        if self.outputs.lock().contains_key(&number) {
            return true;
        }
        let state = self.state.lock();
        state.limbo.contains_key(&number) || state.names(number)
    }

    /// True while the outcome of an edit that names the file is unknown.
    #[cfg(test)]
    pub(crate) fn is_in_limbo(&self, number: FileNumber) -> bool {
        self.state.lock().limbo.contains_key(&number)
    }

    /// The oldest log that the durable MANIFEST asks for.
    pub(crate) fn first_needed_log(&self) -> FileNumber {
        let state = self.state.lock();
        first_needed_log(state.families.values(), state.min_log_to_keep)
    }

    /// The current version of a family.
    pub(crate) fn current(&self, family: ColumnFamilyId) -> Option<Arc<Version>> {
        self.state.lock().families.get(&family).map(|family| Arc::clone(&family.version))
    }

    /// A family by its id.
    /// Where a family's round-robin choices go on, by level.
    pub(crate) fn cursors(&self, id: ColumnFamilyId) -> BTreeMap<u32, Vec<u8>> {
        self.state.lock().families.get(&id).map_or_else(BTreeMap::new, |family| family.compact_cursors.clone())
    }

    pub(crate) fn family(&self, id: ColumnFamilyId) -> Option<FamilySnapshot> {
        self.state.lock().families.get(&id).cloned()
    }

    /// All living families, by id, as of one moment.
    #[cfg(test)]
    pub(crate) fn families(&self) -> Vec<FamilySnapshot> {
        self.state.lock().families.values().cloned().collect()
    }

    /// All versions that someone still holds, those of dropped families too.
    pub(crate) fn live_versions(&self) -> Vec<Arc<Version>> {
        self.state.lock().versions.iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    /// Numbers of files that a failed edit left behind and that no version names; each is returned once. Ask
    /// `is_protected` before unlinking: the job that wrote them may not be done yet.
    pub(crate) fn take_orphans(&self) -> Vec<(FileNumber, FileKind)> {
        std::mem::take(&mut self.state.lock().orphans)
    }

    /// The MANIFEST in use.
    pub(crate) fn manifest_number(&self) -> FileNumber {
        self.state.lock().manifest_number
    }

    /// True if CURRENT names, or after a failed switch may name, this MANIFEST, or if a hold does.
    pub(crate) fn is_manifest_needed(&self, number: FileNumber) -> bool {
        let state = self.state.lock();
        state.candidates.contains(&number) || state.holds.keep(FileKind::Manifest, number)
    }

    /// The largest sequence number that an edit has made durable.
    #[cfg(test)]
    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.state.lock().last_sequence
    }
}

/// The MANIFEST that CURRENT names. A writer beside a read-only opening may switch, and remove the one just named: then
/// CURRENT has changed, and is read again.
fn read_newest(config: &VersionSetConfig) -> Result<(FileNumber, ManifestState)> {
    let mut number = manifest::read_current(&*config.fs, &config.dir)?;
    loop {
        let error = match manifest::read_manifest(&*config.fs, &config.dir, number) {
            Ok(found) => return Ok((number, found)),
            Err(error) => error,
        };
        let is_missing = error.corruption().is_some_and(|found| found.kind == CorruptionKind::Missing);
        let now = manifest::read_current(&*config.fs, &config.dir)?;
        if !is_missing || now <= number {
            return Err(error);
        }
        number = now;
    }
}

/// No sound directory gets here: so many files were never made.
const FILE_NUMBER_MAX: u64 = 1 << 62;

impl State {
    fn new(
        families: BTreeMap<ColumnFamilyId, FamilySnapshot>,
        last_sequence: SequenceNumber,
        min_log_to_keep: FileNumber,
        max_family: ColumnFamilyId,
    ) -> State {
        let versions = families.values().map(|family| Arc::downgrade(&family.version)).collect();
        State {
            families,
            last_sequence,
            min_log_to_keep,
            max_family,
            limbo: BTreeMap::new(),
            orphans: Vec::new(),
            manifest_number: FileNumber(0),
            candidates: BTreeSet::new(),
            holds: Holds::default(),
            outlived: Vec::new(),
            versions,
        }
    }
}

fn assemble_family(
    id: ColumnFamilyId,
    family: FamilyFiles,
    levels: usize,
    is_read_only: bool,
    orders: &dyn Fn(&str, &str) -> Option<KeyOrder>,
) -> Result<FamilySnapshot> {
    let mut obstacle = None;
    let bytewise = KeyOrder::Bytewise;
    let stored = family.comparator.as_deref().unwrap_or(bytewise.name());
    let order = match orders(&family.name, stored) {
        Some(order) if order.name() == stored => order,
        Some(order) => {
            let message = format!(
                "column family {:?} is ordered by {stored}; it cannot be opened with {}",
                family.name,
                order.name()
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        None => {
            match [KeyOrder::Bytewise, KeyOrder::ReverseBytewise].into_iter().find(|order| order.name() == stored) {
                Some(order) => order,
                None => {
                    let message = format!(
                        "column family {:?} is ordered by {stored}: open it with that comparator (`Options::comparators`)",
                        family.name
                    );
                    let error = Error::new(ErrorKind::NotSupported, message);
                    if !is_read_only {
                        return Err(error);
                    }
                    obstacle = Some(error);
                    KeyOrder::unknown(stored)
                }
            }
        }
    };
    let files = family.files.into_values().collect();
    let mut version = match obstacle {
        None => Version::from_files(order.clone(), levels, files)?,
        Some(_) => Version::from_files_in_any_order(order.clone(), levels, files)?,
    };
    let blobs = BlobFiles::kept(family.blobs.into_values(), oldest_blobs(&version))?;
    version = version.with_blobs(Arc::new(blobs));
    if let Some(obstacle) = obstacle {
        version = version.obstructed(obstacle);
    }
    Ok(FamilySnapshot {
        id,
        name: family.name,
        order,
        log_number: family.log_number,
        next_epoch: version.largest_epoch().saturating_add(1),
        version: Arc::new(version),
        compact_cursors: family.compact_cursors,
    })
}
