//! From a directory to a running database.
//!
//! The order matters: lock, MANIFEST, logs, tables that hold what both lost, one edit that makes everything replayed durable in tables, OPTIONS, orphans,
//! and only then the first new log and the background. A crash in between leaves a directory that opens the same way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::background::error_state::ErrorState;
use crate::background::scheduler::Scheduler;
use crate::cache::BlockCache;
use crate::clock::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{self, FlushContext, FlushJob};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::memtable::MemTable;
use crate::metrics::{LogLevel, Statistics};
use crate::options::{BLOCK_CACHE_BYTES, BackgroundMode, FamilyOptions, Options};
use crate::recovery::lost::{self, Lost};
use crate::recovery::{ReplayTarget, Replayed, SetAsideTable, replay};
use crate::superversion::purge::{Janitor, JanitorConfig, JanitorSeed};
use crate::superversion::{FamilyConfig, FamilyState, FrozenSnapshots};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadPool;
use crate::version::edit::VersionEdit;
use crate::version::set::{FamilySnapshot, Recovered, VersionSet, VersionSetConfig};
use crate::version::table_cache::TableCache;
use crate::write::{BudgetMember, WriteConfig, WriteQueue};

use super::core::{Core, Family, LockHolder};
use super::options_text::OptionsText;

/// How often a read-only open starts over because the writer moved on.
const READ_ONLY_TRIES: usize = 20;

type Opened = (Arc<Core>, Arc<Family>);

/// Names and numbers of the files of a directory.
pub(super) struct Listing(Vec<(FileKind, FileNumber)>);

impl Listing {
    pub(super) fn of(fs: &dyn Fs, dir: &Path) -> Result<Listing> {
        let entries = fs.list(dir)?;
        Ok(Listing(entries.iter().filter(|e| !e.is_dir).filter_map(|entry| file_name::parse(&entry.name)).collect()))
    }

    fn has(&self, kind: FileKind) -> bool {
        self.0.iter().any(|(found, _)| *found == kind)
    }

    pub(super) fn logs(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Wal)
    }

    fn tables(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Table)
    }

    fn ascending(&self, wanted: FileKind) -> Vec<FileNumber> {
        let mut found: Vec<_> = self.0.iter().filter(|(kind, _)| *kind == wanted).map(|(_, number)| *number).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn no_database(dir: &Path) -> Error {
    Error::new(ErrorKind::NoSuchDatabase, format!("there is no database in {}", dir.display()))
}

/// The key order that the user wants for a family; `None`: whatever built-in one the files name.
fn wanted_order(options: &Options) -> Option<KeyOrder> {
    match &options.family.key_order {
        KeyOrder::Bytewise => None,
        other => Some(other.clone()),
    }
}

fn version_config(dir: &Path, options: &Options) -> VersionSetConfig {
    VersionSetConfig {
        fs: Arc::clone(&options.fs),
        dir: dir.to_owned(),
        clock: Arc::clone(&options.clock),
        levels: options.family.num_levels as usize,
        manifest_bytes_max: options.max_manifest_file_size,
    }
}

/// Options of a family: the user's, and what the directory's OPTIONS file says of the shape of its levels.
pub(super) fn family_options(options: &Options, text: &OptionsText, family: &FamilySnapshot) -> Result<FamilyOptions> {
    let mut found = FamilyOptions { key_order: family.order.clone(), ..options.family.clone() };
    text.file.apply_to(&family.name, &mut found)?;
    if let Some(named) = text.file.comparator(&family.name)
        && named != family.order.name()
    {
        // MANIFEST decides; a text file without a checksum must not change answers, but must not be wrong either.
        return Err(Error::new(
            ErrorKind::Corruption,
            format!(
                "OPTIONS says that family {:?} is in the order of {named:?}; MANIFEST says {:?}",
                family.name,
                family.order.name()
            ),
        ));
    }
    Ok(found)
}

/// Everything below the write queue, as both ways of opening need it.
struct Parts {
    seed: JanitorSeed,
    statistics: Arc<Statistics>,
    cache: Arc<BlockCache>,
    tables: Arc<TableCache>,
    versions: Arc<VersionSet>,
    text: OptionsText,
    families: BTreeMap<ColumnFamilyId, Arc<Family>>,
    replayed: Replayed,
    next_memtable_id: u64,
}

/// Reads MANIFEST and OPTIONS, and replays the logs into memtables. Writes nothing.
fn read_parts(
    dir: &Path,
    options: &Options,
    set: VersionSet,
    recovered: &Recovered,
    logs: &[FileNumber],
) -> Result<Parts> {
    let fs = &options.fs;
    let text = OptionsText::read(&**fs, dir)?;
    let statistics = options.statistics.clone().unwrap_or_default();
    let cache = options.block_cache.clone().unwrap_or_else(|| BlockCache::new(BLOCK_CACHE_BYTES));
    let tables = TableCache::new(
        Arc::clone(fs),
        dir.to_owned(),
        Some(options.max_open_files),
        Arc::clone(&cache),
        options.cache_index_and_filter_blocks,
        Arc::clone(&statistics),
    );
    let seed = JanitorSeed::new();
    let mut families = BTreeMap::new();
    let mut targets = BTreeMap::new();
    let mut next_memtable_id = 1;
    for family in &recovered.families {
        let own = family_options(options, &text, family)?;
        let state = new_state(family, &seed, &own, next_memtable_id, options);
        next_memtable_id += 1;
        let memtable = Arc::clone(&state.load_full().memtable);
        targets.insert(family.id, ReplayTarget { log_number: family.log_number, memtable });
        families.insert(family.id, Family::new(state, own));
    }
    let logs = needed_logs(recovered, logs);
    let replayed = replay(&**fs, dir, &logs, options.wal_recovery_mode, last_in_tables(recovered), &targets)?;
    let versions = Arc::new(set);
    Ok(Parts {
        seed,
        statistics,
        cache,
        tables: Arc::new(tables),
        versions,
        text,
        families,
        replayed,
        next_memtable_id,
    })
}

/// The logs that may hold what is in no table.
pub(super) fn needed_logs(recovered: &Recovered, logs: &[FileNumber]) -> Vec<FileNumber> {
    let needed = recovered.first_needed_log();
    logs.iter().copied().filter(|log| *log >= needed).collect()
}

/// The last sequence number that is known without logs.
pub(super) fn last_in_tables(recovered: &Recovered) -> SequenceNumber {
    // RocksDB notes the number with every edit; a table that says more is believed.
    let in_tables = recovered.families.iter().flat_map(|family| family.version.files());
    in_tables.map(|(_, file)| file.meta.largest_seq).fold(recovered.last_sequence, SequenceNumber::max)
}

pub(super) fn new_state(
    family: &FamilySnapshot,
    seed: &JanitorSeed,
    options: &FamilyOptions,
    memtable_id: u64,
    database: &Options,
) -> Arc<FamilyState> {
    let memtable = MemTable::new(
        memtable_id,
        family.order.clone(),
        options.write_buffer_size as usize,
        family.log_number,
        database.clock.unix_seconds(),
    );
    let config = FamilyConfig { id: family.id, name: family.name.clone(), order: family.order.clone() };
    FamilyState::new(config, memtable, Arc::clone(&family.version), Arc::clone(&seed.graveyard))
}

/// Opens a directory for writing.
pub(super) fn open(dir: &Path, options: Options) -> Result<Opened> {
    options.validate()?;
    let fs = Arc::clone(&options.fs);
    let exists = fs.exists(&dir.join(file_name::CURRENT))?;
    if !exists && !options.create_if_missing {
        let is_damaged = fs.exists(dir)? && {
            let listing = Listing::of(&*fs, dir)?;
            listing.has(FileKind::Table) || listing.has(FileKind::Wal)
        };
        // With tables or logs there is a database, and CURRENT is what is missing of it: `create` says so below.
        if !is_damaged {
            return Err(no_database(dir));
        }
    }
    if exists && options.error_if_exists {
        return Err(Error::new(ErrorKind::InvalidArgument, format!("{} holds a database already", dir.display())));
    }
    fs.create_dir_all(dir)?;
    let lock: LockHolder = Arc::new(Mutex::new(Some(fs.lock(&dir.join(file_name::LOCK))?)));
    // Looked at again under the lock: another process may just have made it.
    let is_new = !fs.exists(&dir.join(file_name::CURRENT))?;
    if is_new {
        drop(VersionSet::create(version_config(dir, &options), options.family.key_order.clone())?);
    }
    let order = wanted_order(&options);
    let (set, recovered) = VersionSet::recover(version_config(dir, &options), false, &|_| order.clone())?;
    let listing = Listing::of(&*fs, dir)?;
    listing.0.iter().for_each(|(kind, number)| {
        if *kind != FileKind::InfoLog {
            set.mark_file_number_used(*number);
        }
    });
    lost::numbers_in_lost(&*fs, dir)?.into_iter().for_each(|number| set.mark_file_number_used(number));
    let mut parts = read_parts(dir, &options, set, &recovered, &listing.logs())?;
    refuse_unusable_tables(&parts)?;
    // Before the edit: after it, MANIFEST would no longer say what it does not know.
    set_aside_lost_tables(dir, &options, &mut parts, &recovered, &listing)?;
    let log = make_durable(dir, &options, &parts, &recovered)?;
    finish(dir, options, parts, lock, &listing, log)
}

/// A table that is not there, or that this version cannot read, is refused before anything is changed, not when a
/// compaction meets it.
fn refuse_unusable_tables(parts: &Parts) -> Result<()> {
    parts.families.values().try_for_each(|family| {
        let version = Arc::clone(&family.state.load_full().version);
        version.files().try_for_each(|(_, file)| parts.tables.refuse_unusable(file, &version.order))
    })
}

/// Moves the orphans that hold, or may hold, what nothing else holds out of the reach of the janitor.
fn set_aside_lost_tables(
    dir: &Path,
    options: &Options,
    parts: &mut Parts,
    recovered: &Recovered,
    listing: &Listing,
) -> Result<()> {
    let fs = &*options.fs;
    if lost::logs_have_all(recovered, &needed_logs(recovered, &listing.logs()), &parts.replayed) {
        return Ok(());
    }
    for number in listing.tables() {
        if recovered.families.iter().any(|family| family.version.contains(number)) {
            continue;
        }
        let path = table_path(fs, dir, number)?;
        let lost = match lost::lost_writes(fs, &path, number, recovered, &parts.replayed) {
            Ok(None) => continue,
            Ok(Some(lost)) => lost,
            // Moving it needs no reading.
            Err(error) => Lost { sequences: None, reason: format!("it cannot be read: {error}") },
        };
        let path = lost::set_aside(fs, dir, &path)?;
        if let Some(logger) = &options.logger {
            let message =
                format!("table {number} is in no version, and was moved to {}: {}", path.display(), lost.reason);
            logger.log(LogLevel::Warn, &message);
        }
        let table = SetAsideTable { table: number, path, sequences: lost.sequences, reason: lost.reason };
        parts.replayed.report.set_aside.push(table);
    }
    Ok(())
}

/// Where a table is: the first RocksDBs called it otherwise.
pub(super) fn table_path(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<PathBuf> {
    let path = dir.join(file_name::table(number));
    let old = dir.join(file_name::old_table(number));
    Ok(if !fs.exists(&path)? && fs.exists(&old)? { old } else { path })
}

/// Writes everything that was replayed to tables, in one edit that also says that no log so far is needed any more;
/// returns the number of the first that will be.
fn make_durable(dir: &Path, options: &Options, parts: &Parts, recovered: &Recovered) -> Result<FileNumber> {
    let log_number = parts.versions.new_file_number();
    let frozen = FrozenSnapshots { sequences: vec![parts.replayed.last_sequence], keeps_everything: false };
    let mut outputs = Vec::new();
    let mut empty = Vec::new();
    for (index, family) in parts.families.values().enumerate() {
        let memtable_id = parts.next_memtable_id + index as u64;
        let memtable = MemTable::new(
            memtable_id,
            family.state.config.order.clone(),
            family.options.write_buffer_size as usize,
            log_number,
            options.clock.unix_seconds(),
        );
        if family.state.load_full().memtable.is_empty() {
            family.state.replace_empty_memtable(memtable);
            empty.push(VersionEdit {
                family: family.state.id(),
                log_number: Some(log_number),
                ..VersionEdit::default()
            });
            continue;
        }
        family.state.switch_memtable(memtable);
        let own = FlushContext {
            fs: Arc::clone(&options.fs),
            dir: dir.to_owned(),
            clock: Arc::clone(&options.clock),
            rate_limiter: options.rate_limiter.clone(),
            versions: Arc::clone(&parts.versions),
            table: family.table(),
        };
        if let Some(job) = FlushJob::pick(&family.state) {
            // What a failure leaves behind here is an orphan of the next open.
            outputs.push(job.run(&own, &frozen, &CancelToken::default())?);
        }
    }
    let last_sequence = parts.replayed.last_sequence.max(recovered.last_sequence);
    flush::install(&*options.fs, &parts.versions, outputs, empty, Some(last_sequence))?;
    Ok(log_number)
}

/// Starts what runs: OPTIONS, janitor, queue with its first log, background.
fn finish(
    dir: &Path,
    options: Options,
    mut parts: Parts,
    lock: LockHolder,
    listing: &Listing,
    first_log: FileNumber,
) -> Result<Opened> {
    let fs = Arc::clone(&options.fs);
    let versions = Arc::clone(&parts.versions);
    let texts: Vec<_> = parts.families.values().map(|f| (f.state.config.name.clone(), f.options.clone())).collect();
    let old_options = parts.text.update(&*fs, dir, &versions, &texts)?;
    let last_sequence = parts.replayed.last_sequence;
    let numbers = Arc::clone(&versions);
    let scheduler = match options.background {
        BackgroundMode::Manual => Scheduler::manual(),
        BackgroundMode::Threads => Scheduler::of_pool(match &options.thread_pool {
            Some(pool) => Arc::clone(pool),
            None => ThreadPool::new(options.max_background_jobs)?,
        }),
    };
    let core = Arc::new_cyclic(|weak: &std::sync::Weak<Core>| {
        let (flusher, ticker) = (weak.clone(), weak.clone());
        let budget = options.write_buffer_manager.as_ref().map(|manager| {
            let relieved = weak.clone();
            manager.join(Box::new(move |member: &Arc<BudgetMember>| match relieved.upgrade() {
                Some(core) => core.relieve_memory(member),
                None => member.answered(),
            }))
        });
        let queue = WriteQueue::new(
            WriteConfig {
                fs: Arc::clone(&fs),
                dir: dir.to_owned(),
                clock: Arc::clone(&options.clock),
                statistics: Arc::clone(&parts.statistics),
                listeners: options.listeners.clone(),
                new_file_number: Box::new(move || numbers.new_file_number()),
                on_full: Box::new(move |_| {
                    if let Some(core) = flusher.upgrade() {
                        core.schedule_flush();
                    }
                }),
                wal_bytes_max: options.max_total_wal_size,
                memtable_bytes_max: options.db_write_buffer_size,
                budget,
                atomic_flush: options.atomic_flush,
                is_manual: options.background == BackgroundMode::Manual,
            },
            last_sequence,
            parts.next_memtable_id + parts.families.len() as u64,
        );
        let janitor = janitor(
            dir,
            &options,
            &parts,
            &lock,
            Box::new(move || {
                if let Some(core) = ticker.upgrade() {
                    core.retry_if_due();
                }
            }),
        );
        Core {
            dir: dir.to_owned(),
            fs: Arc::clone(&fs),
            clock: Arc::clone(&options.clock),
            statistics: Arc::clone(&parts.statistics),
            cache: Arc::clone(&parts.cache),
            versions: Arc::clone(&versions),
            tables: Arc::clone(&parts.tables),
            pins: Arc::clone(&janitor.pins),
            janitor,
            visible: Arc::clone(queue.visible()),
            queue: Some(Arc::new(queue)),
            scheduler,
            errors: ErrorState::default(),
            cancel: CancelToken::default(),
            families: Mutex::new(parts.families.clone()),
            changing: Mutex::new(()),
            flushing: Mutex::new(()),
            is_flush_scheduled: AtomicBool::new(false),
            retry_at_us: AtomicU64::new(0),
            untold: Mutex::default(),
            free_when_full: AtomicU64::new(u64::MAX),
            options_text: Mutex::new(parts.text),
            report: parts.replayed.report,
            lock: Arc::clone(&lock),
            is_closed: AtomicBool::new(false),
            bytes_flushed: AtomicU64::new(0),
            bytes_compacted: AtomicU64::new(0),
            options,
        }
    });
    for family in core.all_families() {
        core.writes()?.add_family(Arc::clone(&family.state), family.options.write_buffer_size, family.stall())?;
    }
    remove_orphans(&core, listing, old_options)?;
    core.writes()?.begin(first_log)?;
    if core.options.background == BackgroundMode::Threads {
        core.janitor.start()?;
    }
    for name in core.options.create_column_families.clone() {
        if core.family_by_name(&name).is_none() {
            core.create_family(&name, core.options.family.clone())?;
        }
    }
    for family in core.all_families() {
        core.update_stall(&family);
        core.schedule_compaction(&family);
    }
    core.tell_of_stalls();
    let default = core
        .family(ColumnFamilyId::DEFAULT)
        .ok_or_else(|| Error::new(ErrorKind::Corruption, "MANIFEST does not have the default column family"))?;
    Ok((core, default))
}

fn janitor(
    dir: &Path,
    options: &Options,
    parts: &Parts,
    lock: &LockHolder,
    on_tick: Box<dyn Fn() + Send + Sync>,
) -> Arc<Janitor> {
    let (versions, lock) = (Arc::clone(&parts.versions), Arc::clone(lock));
    let seed = JanitorSeed {
        wake: Arc::clone(&parts.seed.wake),
        graveyard: Arc::clone(&parts.seed.graveyard),
        pins: Arc::clone(&parts.seed.pins),
    };
    let config = JanitorConfig {
        fs: Arc::clone(&options.fs),
        dir: dir.to_owned(),
        clock: Arc::clone(&options.clock),
        statistics: Arc::clone(&parts.statistics),
        listeners: options.listeners.clone(),
        logger: options.logger.clone(),
        is_needed: Box::new(move |kind, number| match kind {
            FileKind::Table => {
                versions.is_protected(number) || versions.live_versions().iter().any(|v| v.contains(number))
            }
            FileKind::Manifest => versions.is_manifest_needed(number),
            _ => false,
        }),
        // The reader lives in the file, and the file in the versions that name it.
        forget_table: Box::new(|_| {}),
        on_tick,
        // Readers that outlive the database keep others out.
        on_end: Box::new(move || drop(lock.lock().take())),
    };
    Janitor::new(config, seed)
}

/// Everything that a former life of the database left behind, by known names only.
fn remove_orphans(core: &Core, listing: &Listing, old_options: Option<FileNumber>) -> Result<()> {
    let versions = core.versions.live_versions();
    let newest_options = listing.0.iter().filter(|(kind, _)| *kind == FileKind::Options).map(|(_, n)| *n).max();
    for (kind, number) in &listing.0 {
        let is_orphan = match kind {
            FileKind::Table => {
                let is_gone = core.report.set_aside.iter().any(|lost| lost.table == *number);
                !is_gone && !versions.iter().any(|version| version.contains(*number))
            }
            // All of them were replayed, and what they held is in tables.
            FileKind::Wal => true,
            // The version set unlinks those it knows.
            FileKind::Manifest => {
                *number != core.versions.manifest_number()
                    && core.fs.exists(&core.dir.join(file_name::manifest(*number)))?
            }
            FileKind::Temp => true,
            // The newest one that was there before stays beside ours, as RocksDB keeps two.
            FileKind::Options => Some(*number) != newest_options && Some(*number) != old_options,
            FileKind::Current | FileKind::Identity | FileKind::Lock | FileKind::InfoLog | FileKind::Blob => false,
        };
        if is_orphan {
            core.janitor.obsolete(*kind, *number, 0);
        }
    }
    core.janitor.drain();
    Ok(())
}

/// Opens a directory for reading, starting over if the writer moves on meanwhile.
pub(super) fn open_read_only(dir: &Path, options: Options) -> Result<Opened> {
    options.validate()?;
    let mut tries = 0;
    loop {
        let before = what_is_there(dir, &options);
        match try_open_read_only(dir, &options) {
            Err(error) if is_moved(&error) && tries < READ_ONLY_TRIES => {
                options.clock.sleep(std::time::Duration::from_millis(5 * (tries as u64 + 1)));
                // Nothing moved, twice: the files are as they are, and so is the answer.
                if tries > 0 && what_is_there(dir, &options) == before {
                    return Err(error);
                }
                tries += 1;
            }
            other => return other,
        }
    }
}

/// All that changes when a writer moves on: the names in the directory, and how long the MANIFESTs are.
fn what_is_there(dir: &Path, options: &Options) -> Option<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in options.fs.list(dir).ok()? {
        let is_manifest = matches!(file_name::parse(&entry.name), Some((FileKind::Manifest, _)));
        let size = if is_manifest { options.fs.file_size(&dir.join(&entry.name)).unwrap_or(0) } else { 0 };
        found.push((entry.name, size));
    }
    found.sort_unstable();
    Some(found)
}

/// True for what a writer that removes files beside us looks like.
fn is_moved(error: &Error) -> bool {
    error.is_not_found() || error.corruption().is_some()
}

/// A MANIFEST and the logs that go with it: those that were there before it was read, and still are. A log that was begun
/// in between may hold the other half of a batch whose first half MANIFEST knows from a flush, and one that went may have
/// gone into a table that MANIFEST does not know of yet.
fn read_beside_a_writer(
    dir: &Path,
    options: &Options,
    order: &Option<KeyOrder>,
) -> Result<(VersionSet, Recovered, Vec<FileNumber>)> {
    let mut logs = Listing::of(&*options.fs, dir)?.logs();
    for _ in 0..READ_ONLY_TRIES {
        let (set, recovered) = VersionSet::recover(version_config(dir, options), true, &|_| order.clone())?;
        let now = Listing::of(&*options.fs, dir)?.logs();
        if now == logs {
            return Ok((set, recovered, logs));
        }
        logs = now;
    }
    let message = format!("a writer begins and removes logs in {} faster than they can be listed", dir.display());
    Err(Error::new(ErrorKind::Busy, message))
}

fn try_open_read_only(dir: &Path, options: &Options) -> Result<Opened> {
    let fs = &options.fs;
    if !fs.exists(&dir.join(file_name::CURRENT))? {
        let is_there = fs.exists(dir)? && {
            let listing = Listing::of(&**fs, dir)?;
            listing.has(FileKind::Table) || listing.has(FileKind::Wal)
        };
        if !is_there {
            return Err(no_database(dir));
        }
    }
    let order = wanted_order(options);
    let (set, recovered, logs) = read_beside_a_writer(dir, options, &order)?;
    let parts = read_parts(dir, options, set, &recovered, &logs)?;
    for family in parts.families.values() {
        parts.tables.open_all(&family.state.load_full().version)?;
    }
    let lock: LockHolder = Arc::new(Mutex::new(None));
    let janitor = janitor(dir, options, &parts, &lock, Box::new(|| {}));
    let last: SequenceNumber = parts.replayed.last_sequence;
    let core = Arc::new(Core {
        dir: dir.to_owned(),
        fs: Arc::clone(fs),
        clock: Arc::clone(&options.clock),
        statistics: parts.statistics,
        cache: parts.cache,
        versions: parts.versions,
        tables: parts.tables,
        pins: Arc::clone(&janitor.pins),
        janitor,
        visible: Arc::new(AtomicU64::new(last.0)),
        queue: None,
        scheduler: Scheduler::manual(),
        errors: ErrorState::default(),
        cancel: CancelToken::default(),
        families: Mutex::new(parts.families.clone()),
        changing: Mutex::new(()),
        flushing: Mutex::new(()),
        is_flush_scheduled: AtomicBool::new(false),
        retry_at_us: AtomicU64::new(0),
        untold: Mutex::default(),
        free_when_full: AtomicU64::new(u64::MAX),
        options_text: Mutex::new(parts.text),
        report: parts.replayed.report,
        lock,
        is_closed: AtomicBool::new(false),
        bytes_flushed: AtomicU64::new(0),
        bytes_compacted: AtomicU64::new(0),
        options: options.clone(),
    });
    let default = parts
        .families
        .get(&ColumnFamilyId::DEFAULT)
        .cloned()
        .ok_or_else(|| Error::new(ErrorKind::Corruption, "MANIFEST does not have the default column family"))?;
    debug_assert!(!core.is_closed.load(Ordering::Relaxed));
    Ok((core, default))
}
