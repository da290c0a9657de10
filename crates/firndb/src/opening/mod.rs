//! Opening: from a directory to the parts of a running database.
//!
//! Flow: `Db::open_with` -> **[`Opening::for_writing`]** -> lock -> OPTIONS -> MANIFEST -> tables looked at -> logs ->
//! tables of what was replayed -> `db`, which starts what runs. `Db::open_read_only` -> **[`Opening::for_reading`]**: no
//! lock, nothing written, and over again if a writer moves on meanwhile.
//!
//! One [`Opening`] is carried through all steps; each is a method that adds to it.
//!
//! Invariants
//! 1. Nothing runs yet: no thread is started here. An opening that fails is dropped, and the lock goes with it.
//! 2. Nothing that was in the directory is changed before every table was looked at and every log was read.
//! 3. A crash between any two steps leaves a directory that opens the same way.
//!
//! Threads: the caller's alone.

pub(crate) mod options_text;
mod read_only;
mod replay;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::clock::Clock;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::flush::FlushContext;
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::guarded::GuardedFs;
use crate::fs::{FileLock, Fs};
use crate::memtable::MemTable;
use crate::metrics::outbox::Outbox;
use crate::metrics::{LogLevel, Statistics};
use crate::options::{BLOCK_CACHE_BYTES, FamilyOptions, Options};
use crate::recovery::listing::{Listing, last_in_tables, needed_logs};
use crate::recovery::transactions::Purpose;
use crate::recovery::{OnFull, RecoveryReport, ReplayTarget, Replayed, lost, replay};
use crate::superversion::purge::{Janitor, JanitorConfig, JanitorSeed, OnPanic, OnTick};
use crate::superversion::{FamilyConfig, FamilyState};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::manifest::{DEFAULT_FAMILY, without_current};
use crate::version::set::{FamilySnapshot, Recovered, VersionSet, VersionSetConfig};
use crate::version::table_cache::TableCache;

use options_text::OptionsText;

/// The directory's lock, given back when the database and all of its readers are gone.
pub(crate) type LockHolder = Arc<Mutex<Option<Box<dyn FileLock>>>>;

/// A family whose files and options are known.
#[derive(Debug)]
pub(crate) struct OpenFamily {
    pub(crate) state: Arc<FamilyState>,
    pub(crate) options: FamilyOptions,
}

/// What is known of a directory that is being opened, and what was made of it.
pub(crate) struct Opening {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// Holds nothing if the directory is opened for reading.
    pub(crate) lock: LockHolder,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) text: OptionsText,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) tables: Arc<TableCache>,
    /// What flushes work with, those of what the logs hold and all later ones.
    pub(crate) flushes: FlushContext,
    pub(crate) families: BTreeMap<ColumnFamilyId, OpenFamily>,
    /// The files that were there.
    listing: Listing,
    /// What MANIFEST said.
    recovered: Recovered,
    replayed: Replayed,
    seed: JanitorSeed,
    next_memtable_id: AtomicU64,
    /// For reading: what could not be read, and was not needed.
    not_read: Vec<String>,
}

/// Descriptors of a database that are not those of tables: log, lock, MANIFEST, the reserve, what a job writes.
const OTHER_FILES: usize = 16;
/// However low the limit is, a merge of a few tables should not open files for each block.
const TABLES_OPEN_MIN: usize = 8;

fn version_config(dir: &Path, options: &Options) -> VersionSetConfig {
    VersionSetConfig {
        fs: Arc::clone(&options.fs),
        dir: dir.to_owned(),
        clock: Arc::clone(&options.clock),
        levels: options.family.num_levels as usize,
        manifest_bytes_max: options.max_manifest_file_size,
    }
}

/// The directory as it is called from now on, wherever the process goes, and the options with the file system as this
/// database sees it.
fn settle(dir: &Path, options: Options) -> Result<(PathBuf, Options, Arc<GuardedFs>)> {
    options.validate()?;
    let fs = GuardedFs::new(Arc::clone(&options.fs));
    let dir = fs.canonical(dir)?;
    Ok((dir, Options { fs: Arc::clone(&fs) as Arc<dyn Fs>, ..options }, fs))
}

/// How many tables may be open where nothing else says so: the process needs descriptors for other things, too.
fn tables_open_max(fs: &dyn Fs) -> Option<usize> {
    let all = usize::try_from(fs.open_files_max()?).unwrap_or(usize::MAX);
    Some((all / 4 * 3).saturating_sub(OTHER_FILES).max(TABLES_OPEN_MIN))
}

/// What `max_open_files` says, as far as the process's limit lets it.
fn open_files_max(options: &Options) -> usize {
    let (wanted, possible) = (options.max_open_files, tables_open_max(&*options.fs).unwrap_or(usize::MAX));
    if wanted > possible
        && let Some(logger) = &options.logger
    {
        let all = options.fs.open_files_max().unwrap_or_default();
        let message = format!(
            "max_open_files is {wanted}, but the process may have {all} files open: {possible} tables are kept open at most"
        );
        logger.log(LogLevel::Warn, &message);
    }
    wanted.min(possible)
}

/// True if what OPTIONS says is the reason, and not what the program does.
fn is_of_the_file(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotSupported | ErrorKind::Limit)
}

/// `NotSupported` if MANIFEST has something that this version does not carry on: the next one would be without it.
fn refuse_what_would_be_lost(dir: &Path, recovered: &Recovered) -> Result<()> {
    let manifest = dir.join(file_name::manifest(recovered.manifest_number));
    for family in &recovered.families {
        family.version.files().try_for_each(|(_, file)| file.meta.check_readable(&manifest))?;
    }
    Ok(())
}

impl Opening {
    /// Takes the directory's lock, makes the database if there is none and that is asked for, and brings everything that
    /// the logs hold into tables. Returns the number of the first log to come, too.
    ///
    /// # Errors
    /// As [`Db::open_with`](crate::Db::open_with).
    pub(crate) fn for_writing(dir: &Path, options: Options) -> Result<(Opening, FileNumber)> {
        let (dir, options, fs) = settle(dir, options)?;
        let dir = &*dir;
        let exists = fs.exists(&dir.join(file_name::CURRENT))?;
        if !exists && !options.create_if_missing {
            return Err(without_current(&*fs, dir));
        }
        if exists && options.error_if_exists {
            return Err(Error::new(ErrorKind::InvalidArgument, format!("{} holds a database already", dir.display())));
        }
        fs.create_dir_all(dir)?;
        let lock: LockHolder = Arc::new(Mutex::new(Some(fs.lock(&dir.join(file_name::LOCK))?)));
        fs.stay_in(dir)?;
        // Looked at again under the lock: another process may just have made it.
        let text = if fs.exists(&dir.join(file_name::CURRENT))? {
            OptionsText::read(&*fs, dir)?
        } else {
            options.check_families(|name| name == DEFAULT_FAMILY)?;
            let default = options.of_new_family(DEFAULT_FAMILY)?;
            drop(VersionSet::create(version_config(dir, &options), default.key_order)?);
            // What an attempt that never came to a database left says nothing of this one.
            OptionsText::none(dir)
        };
        let options = text.of_database(&options)?;
        let orders = |family: &str, stored: &str| options.order_of(family, stored);
        let (set, recovered) = VersionSet::recover(version_config(dir, &options), false, &orders)?;
        let listing = Listing::of(&*fs, dir)?;
        listing.0.iter().filter(|(kind, _)| *kind != FileKind::InfoLog).for_each(|(_, number)| {
            set.mark_file_number_used(*number);
        });
        lost::numbers_in_lost(&*fs, dir)?.into_iter().for_each(|number| set.mark_file_number_used(number));
        refuse_what_would_be_lost(dir, &recovered)?;
        let mut opening = Opening::of(dir, options, lock, text, (set, recovered), listing, Purpose::Writing)?;
        fs.relieved_by(opening.tables.idle());
        opening.refuse_unusable_tables()?;
        let first_log = opening.make_durable()?;
        Ok((opening, first_log))
    }

    /// Makes what MANIFEST names, with the options that are in effect. Writes nothing.
    fn of(
        dir: &Path,
        options: Options,
        lock: LockHolder,
        text: OptionsText,
        (set, recovered): (VersionSet, Recovered),
        listing: Listing,
        purpose: Purpose,
    ) -> Result<Opening> {
        let mut not_read = Vec::new();
        options.check_orders(&recovered.families)?;
        options.check_families(|name| recovered.families.iter().any(|family| family.name == name))?;
        let statistics = options.statistics.clone().unwrap_or_default();
        let cache = options.block_cache.clone().unwrap_or_else(|| BlockCache::new(BLOCK_CACHE_BYTES));
        let tables = TableCache::new(
            Arc::clone(&options.fs),
            dir.to_owned(),
            Some(open_files_max(&options)),
            Arc::clone(&cache),
            options.cache_index_and_filter_blocks.unwrap_or(false),
            Arc::clone(&statistics),
        );
        let seed = JanitorSeed::new();
        let mut families = BTreeMap::new();
        for (family, memtable_id) in recovered.families.iter().zip(1..) {
            let (own, changed) = match text.of_family(&options, family) {
                Err(error) if purpose == Purpose::Reading && is_of_the_file(&error) => {
                    not_read.push(format!("{error}; column family {:?} has the defaults", family.name));
                    OptionsText::none(dir).of_family(&options, family)?
                }
                other => other?,
            };
            if let Some(logger) = &options.logger {
                let say =
                    |what: &String| logger.log(LogLevel::Warn, &format!("column family {:?}: {what}", family.name));
                changed.iter().for_each(say);
            }
            let order = family.order.clone();
            let memtable = new_memtable(memtable_id, order.clone(), &own, family.log_number, &*options.clock);
            let merge = own.merge_operator.clone().map(Arc::new);
            let config = FamilyConfig { id: family.id, name: family.name.clone(), order, merge };
            let state = FamilyState::new(config, memtable, Arc::clone(&family.version), Arc::clone(&seed.graveyard));
            families.insert(family.id, OpenFamily { state, options: own });
        }
        let versions = Arc::new(set);
        let flushes = FlushContext {
            fs: Arc::clone(&options.fs),
            dir: dir.to_owned(),
            clock: Arc::clone(&options.clock),
            rate_limiter: options.rate_limiter.clone(),
            versions: Arc::clone(&versions),
        };
        Ok(Opening {
            dir: dir.to_owned(),
            options,
            lock,
            versions,
            flushes,
            text,
            statistics,
            cache,
            tables: Arc::new(tables),
            next_memtable_id: AtomicU64::new(families.len() as u64 + 1),
            families,
            listing,
            recovered,
            replayed: Replayed::default(),
            seed,
            not_read,
        })
    }

    /// A table that is not there, or that this version cannot read, is refused before anything is changed, not when a
    /// compaction meets it.
    fn refuse_unusable_tables(&self) -> Result<()> {
        self.families.values().try_for_each(|family| {
            let version = Arc::clone(&family.state.load_full().version);
            version.files().try_for_each(|(_, file)| self.tables.refuse_unusable(file, &version.order))?;
            version.look_for_range_tombstones();
            version.blobs.iter().try_for_each(|blob| {
                let path = self.dir.join(file_name::blob(blob.file.meta.number));
                match self.options.fs.exists(&path)? {
                    true => Ok(()),
                    false => {
                        let detail = "MANIFEST names this blob file, but it does not exist";
                        Err(Error::corrupt(CorruptionKind::Missing, detail).in_file(&path, None))
                    }
                }
            })
        })
    }

    /// Replays the logs into memtables. If there is an `on_full`, they get no larger than they may have been when the logs
    /// were written.
    fn replay_logs(&self, wal_dir: &Path, purpose: Purpose, on_full: Option<OnFull<'_>>) -> Result<Replayed> {
        let (options, recovered) = (&self.options, &self.recovered);
        let target = |family: &FamilySnapshot| {
            let own = self.families.get(&family.id)?;
            let bytes_max = own.options.write_buffer_size.saturating_mul(own.options.max_write_buffer_number as u64);
            let target = ReplayTarget {
                log_number: family.log_number,
                memtable: self.new_memtable(own, family.log_number),
                bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            };
            Some((family.id, target))
        };
        let mut targets = recovered.families.iter().filter_map(target).collect();
        let logs = needed_logs(recovered, &self.listing.logs());
        let (mode, last) = (options.wal_recovery_mode, last_in_tables(recovered));
        let replayed = replay(&*options.fs, wal_dir, &logs, (mode, purpose), last, &mut targets, on_full)?;
        replayed.check_is_one_moment(wal_dir, recovered)?;
        for (id, target) in targets {
            if let Some(family) = self.families.get(&id) {
                family.state.replace_empty_memtable(target.memtable);
            }
        }
        Ok(replayed)
    }

    fn new_memtable(&self, family: &OpenFamily, log_number: FileNumber) -> Arc<MemTable> {
        let id = self.next_memtable_id.fetch_add(1, Ordering::Relaxed);
        new_memtable(id, family.state.config.order.clone(), &family.options, log_number, &*self.options.clock)
    }

    /// Makes OPTIONS say what is in effect. Returns the number of the file that is obsolete now.
    pub(crate) fn write_options(&mut self) -> Result<Option<FileNumber>> {
        let families: Vec<_> =
            self.families.values().map(|f| (f.state.config.name.clone(), f.options.clone())).collect();
        self.text.update(&*self.options.fs, &self.dir, &self.versions, &self.options, &families)
    }

    /// The number of the last write that there is.
    pub(crate) fn last_sequence(&self) -> SequenceNumber {
        self.replayed.last_sequence
    }

    /// The number that the next memtable gets.
    pub(crate) fn next_memtable_id(&self) -> u64 {
        // Relaxed: one thread opens.
        self.next_memtable_id.load(Ordering::Relaxed)
    }

    /// What was replayed, for the user.
    pub(crate) fn take_report(&mut self) -> RecoveryReport {
        let mut report = std::mem::take(&mut self.replayed.report);
        report.not_read = std::mem::take(&mut self.not_read);
        report
    }

    /// Everything that a former life of the database left behind, by known names only. `old_options` was replaced just now.
    pub(crate) fn orphans(&self, old_options: Option<FileNumber>) -> Result<Vec<(FileKind, FileNumber)>> {
        let newest_options =
            self.listing.0.iter().filter(|(kind, _)| *kind == FileKind::Options).map(|(_, n)| *n).max();
        let mut found = Vec::new();
        let lost_before = lost::numbers_in_lost(&*self.options.fs, &self.dir)?;
        let has_lost_tables = !lost_before.is_empty() || !self.replayed.report.set_aside.is_empty();
        for (kind, number) in &self.listing.0 {
            let is_orphan = match kind {
                FileKind::Table => self.is_orphan_table(*number),
                // All of them were read; what could be used of them is in tables, and the report says what could not.
                FileKind::Wal => true,
                // The version set unlinks those it knows.
                FileKind::Manifest => {
                    *number != self.versions.manifest_number()
                        && self.options.fs.exists(&self.dir.join(file_name::manifest(*number)))?
                }
                FileKind::Temp => true,
                // The newest one that was there before stays beside ours, as RocksDB keeps two.
                FileKind::Options => Some(*number) != newest_options && Some(*number) != old_options,
                FileKind::Current | FileKind::Identity | FileKind::Lock | FileKind::InfoLog => false,
                FileKind::Blob => self.is_orphan_blob(*number, has_lost_tables),
            };
            if is_orphan {
                found.push((*kind, *number));
            }
        }
        Ok(found)
    }

    /// One that MANIFEST has never named is what a crash left before its edit; or the only copy of values, if MANIFEST lost that
    /// edit. Then the table that refers to it, synced before the edit, was lost, too: as long as there are such tables, the file
    /// stays where it is. Without the table nobody would find anything in it.
    fn is_orphan_blob(&self, number: FileNumber, has_lost_tables: bool) -> bool {
        let is_worthless = self.recovered.past.blobs.contains(&number) || !has_lost_tables;
        is_worthless && !self.versions.live_versions().iter().any(|version| version.blobs.contains(number))
    }

    fn is_orphan_table(&self, number: FileNumber) -> bool {
        let is_gone = self.replayed.report.set_aside.iter().any(|lost| lost.table == number);
        !is_gone && !self.versions.live_versions().iter().any(|version| version.contains(number))
    }

    /// The janitor of the database, not started yet; `on_tick` is called now and then on its thread, `on_panic` if that
    /// panics.
    pub(crate) fn janitor(&self, outbox: Arc<Outbox>, on_tick: OnTick, on_panic: OnPanic) -> Arc<Janitor> {
        let (versions, lock, tables) = (Arc::clone(&self.versions), Arc::clone(&self.lock), Arc::clone(&self.tables));
        let holds = Arc::clone(&self.versions);
        let tables_of_blobs = Arc::clone(&self.tables);
        let seed = JanitorSeed {
            wake: Arc::clone(&self.seed.wake),
            graveyard: Arc::clone(&self.seed.graveyard),
            pins: Arc::clone(&self.seed.pins),
        };
        let config = JanitorConfig {
            fs: Arc::clone(&self.options.fs),
            dir: self.dir.clone(),
            clock: Arc::clone(&self.options.clock),
            statistics: Arc::clone(&self.statistics),
            outbox,
            is_needed: Box::new(move |kind, number| match kind {
                FileKind::Table => {
                    versions.is_protected(number) || versions.live_versions().iter().any(|v| v.contains(number))
                }
                FileKind::Blob => {
                    tables_of_blobs.forget_blob(number);
                    versions.is_protected(number) || versions.live_versions().iter().any(|v| v.blobs.contains(number))
                }
                FileKind::Manifest => versions.is_manifest_needed(number),
                kind => versions.is_held(kind, number),
            }),
            released: Box::new(move || {
                let manifests = holds.let_go().into_iter();
                manifests.map(|(number, bytes)| (FileKind::Manifest, number, bytes)).collect()
            }),
            free_readers: Box::new(move || tables.free_retired()),
            on_tick,
            on_panic,
            // Readers that outlive the database keep others out.
            on_end: Box::new(move || drop(lock.lock().take())),
        };
        Janitor::new(config, seed)
    }
}

fn new_memtable(
    id: u64,
    order: KeyOrder,
    options: &FamilyOptions,
    log_number: FileNumber,
    clock: &dyn Clock,
) -> Arc<MemTable> {
    MemTable::new(id, order, options.write_buffer_size as usize, log_number, clock.unix_seconds())
}
