//! FIFO compaction: what is oldest goes, unread, when there is too much or when it is too old.
//!
//! All tables are in level 0, in the order of their age, and the oldest go: first those all of whose data is older than the
//! family's `ttl`, and then as many more as bring all tables together below their limit. Small neighbours may be merged with
//! each other, if that is asked for; their output counts as old as the newest of them, so that merging keeps nothing alive.
//!
//! A family that was leveled once, in RocksDB's hands, may have tables in deeper levels. Those of the deepest level go first,
//! smallest keys first: nothing below them could come back, and nobody knows which of them is oldest.
//!
//! Invariants: (1) what goes lies below everything that stays, so that nothing that was overwritten comes back. (2) A file
//! that a snapshot sees something of stays until the snapshot is gone, and so does everything newer. Iterators hold their
//! files themselves.
//!
//! Source: RocksDB `db/compaction/compaction_picker_fifo.cc`, wiki "FIFO compaction style".

use crate::compaction::styles::CompactionOptionsFifo;
use crate::format::key::user_key;
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::level0::is_boundary;
use super::plan::{Compaction, View};
use super::targets::LevelConfig;

/// The limits of FIFO compaction.
#[derive(Debug, Clone)]
pub(crate) struct FifoConfig {
    pub(crate) levels: LevelConfig,
    pub(crate) options: CompactionOptionsFifo,
    /// Seconds after which data goes; 0: never.
    pub(crate) ttl_s: u64,
    pub(crate) write_buffer_bytes: u64,
}

/// What should go, and cannot yet because snapshots see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WaitingDrop {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
}

/// What should go: files of the deepest level that has any.
struct Due<'a> {
    level: usize,
    /// Of level 0 oldest first, one by one; of a deeper level those that have a key in common together.
    parts: Vec<&'a [Arc<TableFile>]>,
}

impl<'a> Due<'a> {
    fn of(version: &'a Version, config: &FifoConfig, now_s: u64) -> Option<Due<'a>> {
        let level = version.levels.iter().rposition(|level| level.len() > 0)?;
        let files = version.level(level)?.files();
        let parts: Vec<&[Arc<TableFile>]> = match level {
            0 => files.chunks(1).rev().collect(),
            // All versions of a key go together: the older ones alone would come back.
            _ => files.chunk_by(|a, b| !a.ends_before(&version.order, user_key(&b.meta.smallest))).collect(),
        };
        let is_old = |part: &&[Arc<TableFile>]| part.iter().all(|file| file.is_older_than(config.ttl_s, now_s));
        let mut left = version.bytes();
        let mut goes = |part: &&[Arc<TableFile>]| {
            let is_due = left > config.options.max_table_files_size || is_old(part);
            if is_due {
                left = left.saturating_sub(part.iter().map(|file| file.meta.size).sum());
            }
            is_due
        };
        let due: Vec<_> = match level {
            0 => parts.into_iter().take_while(|part| goes(part)).collect(),
            _ => parts.into_iter().filter(|part| goes(part)).collect(),
        };
        (!due.is_empty()).then_some(Due { level, parts: due })
    }

    /// What of it may go now.
    fn allowed(&self, view: &View<'_>) -> Vec<Arc<TableFile>> {
        let may_go = |part: &&&[Arc<TableFile>]| {
            part.iter().all(|file| !view.claims.has_file(file.number()) && !view.is_seen_by_a_snapshot(file))
        };
        let parts: Vec<_> = match self.level {
            0 => self.parts.iter().take_while(may_go).collect(),
            _ => self.parts.iter().filter(may_go).collect(),
        };
        parts.into_iter().flat_map(|part| part.iter().cloned()).collect()
    }
}

/// The next automatic compaction, if one is due.
pub(super) fn pick(view: &View<'_>, config: &FifoConfig) -> Option<Compaction> {
    dropped(view, config).or_else(|| merged(view, config))
}

fn dropped(view: &View<'_>, config: &FifoConfig) -> Option<Compaction> {
    let due = Due::of(view.version, config, view.now_s)?;
    let files = due.allowed(view);
    let (bytes, limit) = (view.version.bytes(), config.options.max_table_files_size);
    let reason = if bytes > limit {
        format!("{bytes} bytes of tables, {limit} may be")
    } else {
        format!("older than {} s", config.ttl_s)
    };
    Some(Compaction::new(view.version, vec![(due.level, files)], due.level, reason)?.dropping())
}

/// What should have gone, but for the snapshots that live.
pub(super) fn waiting_drop(view: &View<'_>, config: &FifoConfig) -> Option<WaitingDrop> {
    let due = Due::of(view.version, config, view.now_s)?;
    let files = || due.parts.iter().flat_map(|part| part.iter());
    let is_kept = files().any(|file| view.is_seen_by_a_snapshot(file));
    let allowed = due.allowed(view);
    let (count, bytes) = (files().count(), files().map(|file| file.meta.size).fold(0, u64::saturating_add));
    let allowed_bytes = allowed.iter().map(|file| file.meta.size).fold(0, u64::saturating_add);
    is_kept.then(|| WaitingDrop { files: count - allowed.len(), bytes: bytes.saturating_sub(allowed_bytes) })
}

/// When the next table is too old, in seconds since 1970.
pub(super) fn awaited_time(version: &Version, config: &FifoConfig) -> Option<u64> {
    if config.ttl_s == 0 {
        return None;
    }
    let deepest = version.levels.iter().rfind(|level| level.len() > 0)?;
    let time = match deepest.number() {
        0 => deepest.files().last()?.meta.written_s(),
        _ => deepest.files().iter().filter_map(|file| file.meta.written_s()).min(),
    };
    Some(time?.saturating_add(config.ttl_s).saturating_add(1))
}

/// How many times too large all tables together are.
pub(super) fn score(version: &Version, config: &FifoConfig) -> f64 {
    version.bytes() as f64 / config.options.max_table_files_size.max(1) as f64
}

/// The newest files of level 0, as long as each further one makes the work for each file less cheaper.
fn merged(view: &View<'_>, config: &FifoConfig) -> Option<Compaction> {
    if !config.options.allow_compaction {
        return None;
    }
    let files = view.version.level(0)?.files();
    let start = (0..files.len()).find(|index| view.is_free(&files[*index]) && is_boundary(files, *index))?;
    let mut bytes = files[start].meta.size;
    let (mut end, mut best) = (start + 1, None);
    let mut least = u64::MAX;
    while let Some(file) = files.get(end).filter(|file| view.is_free(file)) {
        bytes = bytes.saturating_add(file.meta.size);
        let cost = bytes / (end - start) as u64;
        if cost > least || bytes > config.levels.compaction_bytes_max() {
            break;
        }
        (least, end) = (cost, end + 1);
        if is_boundary(files, end) {
            best = Some((end, cost));
        }
    }
    let (end, cost) = best?;
    // What is as large as a memtable stays as it is: larger tables would go later, and all at once.
    let is_small = cost < config.write_buffer_bytes.saturating_add(config.write_buffer_bytes / 10);
    if end - start < config.levels.level0_trigger || !is_small {
        return None;
    }
    let inputs = files[start..end].to_vec();
    let newest = inputs.iter().map(|file| file.meta.written_s().unwrap_or(u64::MAX)).max();
    let reason = format!("{} small tables of {}", end - start, files.len());
    let job = Compaction::new(view.version, vec![(0, inputs)], 0, reason)?;
    view.may_run(&job).then(|| job.created_at(newest.filter(|time| *time < u64::MAX)))
}
