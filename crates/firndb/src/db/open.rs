//! Opening for writing: from a directory to a running database.
//!
//! The order matters: lock, MANIFEST, logs, tables that hold what both lost, one edit that makes everything replayed
//! durable in tables, OPTIONS, orphans, and only then the first new log and the background. A crash in between leaves a
//! directory that opens the same way.

use std::path::Path;

use crate::background::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::FileNumber;
use crate::options::{BackgroundMode, Options};
use crate::recovery::lost;
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadPool;
use crate::version::manifest::without_current;
use crate::version::set::VersionSet;
use crate::write::{BudgetMember, WriteConfig, WriteQueue};

use super::core::{Core, LockHolder};
use super::parts::{Listing, Opened, Parts, default_family, janitor, read_parts, version_config, wanted_order};
use super::replay::make_durable;

/// Opens a directory for writing.
pub(super) fn open(dir: &Path, options: Options) -> Result<Opened> {
    options.validate()?;
    let fs = Arc::clone(&options.fs);
    let exists = fs.exists(&dir.join(file_name::CURRENT))?;
    if !exists && !options.create_if_missing {
        return Err(without_current(&*fs, dir));
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
    let mut parts = read_parts(dir, &options, set, &recovered)?;
    refuse_unusable_tables(&parts)?;
    let log = make_durable(dir, &options, &mut parts, &recovered, &listing)?;
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
            parts.next_memtable_id.load(Ordering::Relaxed),
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
        let queue = Some(Arc::new(queue));
        parts.into_core(dir, options, janitor, queue, scheduler, lock)
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
    let default = default_family(&core)?;
    Ok((core, default))
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
            // All of them were read; what could be used of them is in tables, and the report says what could not.
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
