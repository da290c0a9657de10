//! What both ways of opening a directory have in common: its files, its families, what its logs held. Nothing is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::background::error_state::ErrorState;
use crate::background::scheduler::Scheduler;
use crate::cache::BlockCache;
use crate::clock::{CancelToken, Clock};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::Fs;
use crate::memtable::MemTable;
use crate::metrics::Statistics;
use crate::options::{BLOCK_CACHE_BYTES, FamilyOptions, Options};
use crate::recovery::{DroppedLogPiece, OnFull, ReplayTarget, Replayed, replay};
use crate::superversion::purge::{Janitor, JanitorConfig, JanitorSeed};
use crate::superversion::{FamilyConfig, FamilyState};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::version::set::{FamilySnapshot, Recovered, VersionSet, VersionSetConfig};
use crate::version::table_cache::TableCache;
use crate::write::WriteQueue;

use super::close::Closing;
use super::core::{Core, Family, LockHolder};
use super::options_text::OptionsText;

pub(super) type Opened = (Arc<Core>, Arc<Family>);

/// Names and numbers of the files of a directory.
pub(super) struct Listing(pub(super) Vec<(FileKind, FileNumber)>);

impl Listing {
    pub(super) fn of(fs: &dyn Fs, dir: &Path) -> Result<Listing> {
        let entries = fs.list(dir)?;
        Ok(Listing(entries.iter().filter(|e| !e.is_dir).filter_map(|entry| file_name::parse(&entry.name)).collect()))
    }

    pub(super) fn logs(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Wal)
    }

    pub(super) fn tables(&self) -> Vec<FileNumber> {
        self.ascending(FileKind::Table)
    }

    fn ascending(&self, wanted: FileKind) -> Vec<FileNumber> {
        let mut found: Vec<_> = self.0.iter().filter(|(kind, _)| *kind == wanted).map(|(_, number)| *number).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// The key order that the user wants for a family; `None`: whatever built-in one the files name.
pub(super) fn wanted_order(options: &Options) -> Option<KeyOrder> {
    match &options.family.key_order {
        KeyOrder::Bytewise => None,
        other => Some(other.clone()),
    }
}

pub(super) fn version_config(dir: &Path, options: &Options) -> VersionSetConfig {
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
    text.apply_to(&family.name, &mut found)?;
    Ok(found)
}

/// Everything below the write queue, as both ways of opening need it.
pub(super) struct Parts {
    pub(super) seed: JanitorSeed,
    pub(super) statistics: Arc<Statistics>,
    pub(super) cache: Arc<BlockCache>,
    pub(super) tables: Arc<TableCache>,
    pub(super) versions: Arc<VersionSet>,
    pub(super) text: OptionsText,
    pub(super) families: BTreeMap<ColumnFamilyId, Arc<Family>>,
    pub(super) replayed: Replayed,
    pub(super) next_memtable_id: AtomicU64,
}

/// Reads OPTIONS, and makes what MANIFEST names. Writes nothing.
pub(super) fn read_parts(dir: &Path, options: &Options, set: VersionSet, recovered: &Recovered) -> Result<Parts> {
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
    let mut next_memtable_id = 1;
    for family in &recovered.families {
        let own = family_options(options, &text, family)?;
        let state = new_state(family, &seed, &own, next_memtable_id, options);
        next_memtable_id += 1;
        families.insert(family.id, Family::new(state, own));
    }
    Ok(Parts {
        seed,
        statistics,
        cache,
        tables: Arc::new(tables),
        versions: Arc::new(set),
        text,
        families,
        replayed: Replayed::default(),
        next_memtable_id: AtomicU64::new(next_memtable_id),
    })
}

impl Parts {
    /// Replays the logs into memtables. If there is an `on_full`, they get no larger than they may have been when the logs
    /// were written.
    pub(super) fn replay(
        &self,
        dir: &Path,
        options: &Options,
        recovered: &Recovered,
        logs: &[FileNumber],
        on_full: Option<OnFull<'_>>,
    ) -> Result<Replayed> {
        let target = |family: &FamilySnapshot| {
            let own = self.families.get(&family.id)?;
            let bytes_max = own.options.write_buffer_size.saturating_mul(own.options.max_write_buffer_number as u64);
            let target = ReplayTarget {
                log_number: family.log_number,
                memtable: self.new_memtable(own, family.log_number, &*options.clock),
                bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
            };
            Some((family.id, target))
        };
        let mut targets = recovered.families.iter().filter_map(target).collect();
        let logs = needed_logs(recovered, logs);
        let (mode, last) = (options.wal_recovery_mode, last_in_tables(recovered));
        let replayed = replay(&*options.fs, dir, &logs, mode, last, &mut targets, on_full)?;
        check_is_one_moment(dir, recovered, &replayed)?;
        for (id, target) in targets {
            if let Some(family) = self.families.get(&id) {
                family.state.replace_empty_memtable(target.memtable);
            }
        }
        Ok(replayed)
    }

    pub(super) fn new_memtable(&self, family: &Family, log_number: FileNumber, clock: &dyn Clock) -> Arc<MemTable> {
        let id = self.next_memtable_id.fetch_add(1, Ordering::Relaxed);
        new_memtable(id, family.state.config.order.clone(), &family.options, log_number, clock)
    }

    /// The running database, with a write queue or without. The caller has the janitor made, since both know each other.
    pub(super) fn into_core(
        self,
        dir: &Path,
        options: Options,
        janitor: Arc<Janitor>,
        queue: Option<Arc<WriteQueue>>,
        scheduler: Arc<Scheduler>,
        lock: LockHolder,
    ) -> Core {
        let last = self.replayed.last_sequence;
        Core {
            dir: dir.to_owned(),
            fs: Arc::clone(&options.fs),
            clock: Arc::clone(&options.clock),
            statistics: self.statistics,
            cache: self.cache,
            versions: self.versions,
            tables: self.tables,
            pins: Arc::clone(&janitor.pins),
            janitor,
            visible: queue
                .as_ref()
                .map_or_else(|| Arc::new(AtomicU64::new(last.0)), |queue| Arc::clone(queue.visible())),
            queue,
            scheduler,
            errors: ErrorState::default(),
            cancel: CancelToken::default(),
            families: Mutex::new(self.families),
            changing: Mutex::new(()),
            flushing: Mutex::new(()),
            is_flush_scheduled: AtomicBool::new(false),
            retry_at_us: AtomicU64::new(0),
            untold: Mutex::default(),
            free_when_full: AtomicU64::new(u64::MAX),
            options_text: Mutex::new(self.text),
            report: self.replayed.report,
            lock,
            is_closed: AtomicBool::new(false),
            closing: Closing::default(),
            bytes_flushed: AtomicU64::new(0),
            bytes_compacted: AtomicU64::new(0),
            options,
        }
    }
}

/// `Corruption` if recovery stopped at damage, and a family has in its tables what comes after it. Source: what RocksDB
/// refuses as "SST file is ahead of WALs".
pub(super) fn check_is_one_moment(dir: &Path, recovered: &Recovered, replayed: &Replayed) -> Result<()> {
    let Some(stop) = replayed.stop else { return Ok(()) };
    let Some(ahead) = recovered.families.iter().find(|family| stop.is_before(family)) else { return Ok(()) };
    let at_stop = |piece: &&DroppedLogPiece| piece.log == stop.log && piece.offset == stop.offset;
    let reason = replayed.report.dropped.iter().find(at_stop).map_or("", |piece| &piece.reason);
    let detail = format!(
        "{reason}; column family {:?} has later writes in its tables, so that what comes before the damage is not one \
         moment of the database (recovery that skips damaged records takes what there is)",
        ahead.name
    );
    let path = dir.join(file_name::wal(stop.log));
    Err(Error::corrupt_at(CorruptionKind::Malformed, &path, stop.offset, detail))
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

fn new_state(
    family: &FamilySnapshot,
    seed: &JanitorSeed,
    options: &FamilyOptions,
    memtable_id: u64,
    database: &Options,
) -> Arc<FamilyState> {
    let memtable = new_memtable(memtable_id, family.order.clone(), options, family.log_number, &*database.clock);
    let config = FamilyConfig { id: family.id, name: family.name.clone(), order: family.order.clone() };
    FamilyState::new(config, memtable, Arc::clone(&family.version), Arc::clone(&seed.graveyard))
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

/// Where a table is: the first RocksDBs called it otherwise.
pub(super) fn table_path(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<PathBuf> {
    let path = dir.join(file_name::table(number));
    let old = dir.join(file_name::old_table(number));
    Ok(if !fs.exists(&path)? && fs.exists(&old)? { old } else { path })
}

pub(super) fn janitor(
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

/// The family that every database has.
pub(super) fn default_family(core: &Core) -> Result<Arc<Family>> {
    core.family(ColumnFamilyId::DEFAULT)
        .ok_or_else(|| Error::new(ErrorKind::Corruption, "MANIFEST does not have the default column family"))
}
