//! From an opened directory to a running database: wires the owners together, starts what runs, and stops it all again if
//! the start fails.
//!
//! Flow: `opening` (the parts) -> **[`open`]** (outbox, gate, failures, queue, janitor, compactor, flusher, retry: each
//! knows only those before it) -> a [`Db`].
//!
//! What has to call something that is made after it is handed a closure with a weak reference.

use std::path::Path;
use std::sync::Weak;

use crate::background::compactor::Compactor;
use crate::background::failures::Failures;
use crate::background::family::Families;
use crate::background::flusher::Flusher;
use crate::background::resources::{Resources, free_if_full};
use crate::background::retry::Retry;
use crate::background::scheduler::Scheduler;
use crate::clock::CancelToken;
use crate::error::Result;
use crate::flush::FlushContext;
use crate::format::compression::Compression;
use crate::format::key::FileNumber;
use crate::metrics::outbox::Outbox;
use crate::opening::Opening;
use crate::options::{BackgroundMode, Options};
use crate::process::Process;
use crate::superversion::purge::Janitor;
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadPool;
use crate::write::{BudgetMember, Severity, WriteConfig, WriteGate, WriteQueue};

use super::closing::Closing;
use super::core::{Core, Family, Writer};
use super::handles::Handles;
use super::{ColumnFamily, Db};

/// Opens a directory for writing.
pub(super) fn open(dir: &Path, options: Options) -> Result<Db> {
    let (mut opening, first_log) = Opening::for_writing(dir, options)?;
    let old_options = opening.write_options()?;
    let orphans = opening.orphans(old_options)?;
    let outbox = Outbox::new(opening.options.listeners.clone(), opening.options.logger.clone());
    let failures = failures(&opening.options, &outbox, &opening);
    let scheduler = scheduler(&opening.options, &failures, &outbox)?;
    let core = Arc::new_cyclic(|core: &Weak<Core>| {
        let queue = Arc::new(write_queue(&opening, &failures, &outbox, core));
        let (ticker, reported) = (core.clone(), Arc::clone(&failures));
        let tick = move || {
            if let Some(core) = ticker.upgrade() {
                core.tick();
            }
        };
        let on_panic = move |panic: &(dyn std::any::Any + Send)| reported.panicked("the janitor", panic);
        let janitor = opening.janitor(Arc::clone(&outbox), Box::new(tick), Box::new(on_panic));
        let (visible, is_atomic) = (Arc::clone(queue.visible()), opening.options.atomic_flush);
        let flushes = opening.flushes.clone();
        into_core(opening, janitor, outbox, visible, |resources| {
            Some(writer(resources, flushes, queue, scheduler, failures, is_atomic))
        })
    });
    // From here on an early return drops the handle, which ends what was started and gives the directory free.
    let db = handle_of(core)?;
    let core = db.core();
    for (kind, number) in orphans {
        core.resources.janitor.obsolete(kind, number, 0);
    }
    core.resources.janitor.drain();
    start(core, first_log)?;
    core.resources.outbox.deliver();
    Ok(db)
}

/// Opens a directory for reading.
pub(super) fn open_read_only(dir: &Path, options: &Options) -> Result<Db> {
    let opening = Opening::for_reading(dir, options)?;
    let outbox = Outbox::new(options.listeners.clone(), options.logger.clone());
    let janitor = opening.janitor(Arc::clone(&outbox), Box::new(|| {}), Box::new(|_| {}));
    let visible = Arc::new(AtomicU64::new(opening.last_sequence().0));
    handle_of(Arc::new(into_core(opening, janitor, outbox, visible, |_| None)))
}

fn start(core: &Arc<Core>, first_log: FileNumber) -> Result<()> {
    let writer = core.writer()?;
    for family in core.resources.families.all() {
        let write_buffer_size = family.options().write_buffer_size;
        writer.queue.add_family(Arc::clone(&family.state), write_buffer_size, family.stall())?;
    }
    writer.queue.begin(first_log)?;
    if core.options.background == BackgroundMode::Threads {
        core.resources.janitor.start()?;
    }
    for name in core.options.families_to_make() {
        if core.resources.families.by_name(name).is_none() {
            core.create_family(name, core.options.of_new_family(name)?)?;
        }
    }
    for family in core.resources.families.all() {
        writer.compactor.update_stall(&family);
        writer.compactor.schedule(&family);
    }
    Ok(())
}

fn failures(options: &Options, outbox: &Arc<Outbox>, opening: &Opening) -> Arc<Failures> {
    let is_manual = options.background == BackgroundMode::Manual;
    let (clock, statistics) = (Arc::clone(&options.clock), Arc::clone(&opening.statistics));
    let gate = Arc::new(WriteGate::new(clock, statistics, Arc::clone(outbox), is_manual));
    let failures = Failures::new(gate, Arc::clone(outbox), Arc::clone(&options.clock), options.background_retry);
    let reported = Arc::downgrade(&failures);
    outbox.set_on_panic(Box::new(move |words| {
        if let Some(failures) = reported.upgrade() {
            failures.panicked_saying("a listener or the logger", words);
        }
    }));
    failures
}

fn scheduler(options: &Options, failures: &Arc<Failures>, outbox: &Arc<Outbox>) -> Result<Arc<Scheduler>> {
    let (failures, outbox) = (Arc::clone(failures), Arc::clone(outbox));
    let after_job = Box::new(move |panic: Option<crate::threads::Panic>| {
        if let Some(panic) = panic {
            failures.panicked("a background job", &*panic);
        }
        outbox.deliver();
    });
    Ok(match options.background {
        BackgroundMode::Manual => Scheduler::manual(after_job),
        BackgroundMode::Threads => {
            let pool = match &options.thread_pool {
                Some(pool) => Arc::clone(pool),
                None => ThreadPool::new(options.max_background_jobs)?,
            };
            Scheduler::of_pool(pool, after_job)
        }
    })
}

fn write_queue(opening: &Opening, failures: &Arc<Failures>, outbox: &Arc<Outbox>, core: &Weak<Core>) -> WriteQueue {
    let options = &opening.options;
    let (full, relieved) = (core.clone(), core.clone());
    let (numbers, told) = (Arc::clone(&opening.versions), Arc::clone(failures));
    let (fs, dir) = (Arc::clone(&options.fs), opening.dir.clone());
    let budget = options.write_buffer_manager.as_ref().map(|manager| {
        manager.join(Box::new(move |member: &Arc<BudgetMember>| {
            match relieved.upgrade().as_ref().and_then(|core| core.writer.as_ref()) {
                Some(writer) => writer.flusher.relieve_memory(member),
                None => member.answered(false),
            }
        }))
    });
    let config = WriteConfig {
        fs: Arc::clone(&options.fs),
        dir: opening.dir.clone(),
        clock: Arc::clone(&options.clock),
        statistics: Arc::clone(&opening.statistics),
        gate: Arc::clone(failures.gate()),
        outbox: Arc::clone(outbox),
        new_file_number: Box::new(move || numbers.new_file_number()),
        on_full: Box::new(move |families| {
            if let Some(writer) = full.upgrade().as_ref().and_then(|core| core.writer.as_ref()) {
                writer.flusher.schedule(families);
            }
        }),
        on_failure: Box::new(move |error, severity| match severity {
            Severity::Retryable => told.stopped_writes("a write", error, free_if_full(&*fs, &dir, error)),
            Severity::Fatal => told.fatal_failure(error),
        }),
        wal_bytes_max: options.max_total_wal_size,
        compresses_log: options.wal_compression == Compression::Zstd,
        memtable_bytes_max: options.db_write_buffer_size,
        budget,
        atomic_flush: options.atomic_flush,
    };
    WriteQueue::new(config, opening.last_sequence(), opening.next_memtable_id())
}

fn writer(
    resources: &Arc<Resources>,
    flushes: FlushContext,
    queue: Arc<WriteQueue>,
    scheduler: Arc<Scheduler>,
    failures: Arc<Failures>,
    is_atomic: bool,
) -> Writer {
    let compactor =
        Compactor::new(Arc::clone(resources), Arc::clone(&queue), Arc::clone(&failures), Arc::clone(&scheduler));
    let flusher = Flusher::new(
        Arc::clone(resources),
        flushes,
        Arc::clone(&queue),
        Arc::clone(&compactor),
        Arc::clone(&failures),
        Arc::clone(&scheduler),
        is_atomic,
    );
    let retry = Retry::new(
        Arc::clone(resources),
        Arc::clone(&failures),
        Arc::clone(&flusher),
        Arc::clone(&compactor),
        Arc::clone(&scheduler),
    );
    Writer { queue, scheduler, failures, compactor, flusher, retry, changing: Mutex::new(()) }
}

/// The running database. The caller makes the janitor, since both know each other; `writer` makes what writes, if the
/// database is not read-only.
fn into_core(
    mut opening: Opening,
    janitor: Arc<Janitor>,
    outbox: Arc<Outbox>,
    visible: Arc<AtomicU64>,
    writer: impl FnOnce(&Arc<Resources>) -> Option<Writer>,
) -> Core {
    let report = opening.take_report();
    let families = opening.families.into_iter().map(|(id, family)| (id, Family::new(family.state, family.options)));
    let resources = Arc::new(Resources {
        dir: opening.dir,
        fs: Arc::clone(&opening.options.fs),
        clock: Arc::clone(&opening.options.clock),
        rate_limiter: opening.options.rate_limiter.clone(),
        statistics: opening.statistics,
        versions: opening.versions,
        tables: opening.tables,
        cache: opening.cache,
        pins: Arc::clone(&janitor.pins),
        janitor,
        visible,
        families: Families::new(families.collect()),
        outbox,
        cancel: CancelToken::default(),
    });
    Core {
        opener: Process::current(),
        tables: Arc::clone(&resources.tables),
        visible: Arc::clone(&resources.visible),
        statistics: Arc::clone(&resources.statistics),
        pins: Arc::clone(&resources.pins),
        is_closed: AtomicBool::new(false),
        writer: writer(&resources),
        resources,
        options_text: Mutex::new(opening.text),
        report,
        lock: opening.lock,
        closing: Closing::default(),
        handles: Handles::new(),
        options: opening.options,
    }
}

/// The first handle: that of the family that every database has. Its drop, if it is the last, closes.
fn handle_of(core: Arc<Core>) -> Result<Db> {
    let default = core.resources.default_family()?;
    Ok(Db { default: ColumnFamily::new(core, default) })
}
