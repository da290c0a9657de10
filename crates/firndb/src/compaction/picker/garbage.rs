//! Files that are compacted for what they free, whatever the size of their level.
//!
//! 1. *Tombstones that have something below them* go down, level by level, until they meet it: files of which at least
//!    half are tombstones, or whose range tombstones hide whole files, if the job frees at least a quarter of what it reads, about. So do files that another writer
//!    of the directory marked, as long as there is something below.
//! 2. *Garbage at the bottom*, where nothing is below it: tombstones, and versions that a snapshot saw when the file was
//!    written. The file is written anew in its level.
//!
//! Both wait until every snapshot sees the newest entry of the file: only then its tombstones may go, and what they hide.
//! [`awaited`] says which number the oldest snapshot has to reach; the release of a snapshot itself does nothing.
//!
//! It ends: a file that went down is one level deeper, with an end at the bottom; a file that was written anew at the
//! bottom, with every snapshot above it, has no tombstone of either sort left.
//!
//! Source: RocksDB `VersionStorageInfo::ComputeBottommostFilesMarkedForCompaction`, `CompactOnDeletionCollector`.

use crate::compaction::range::{KeyRange, overlapping, overlapping_whole_keys};
use crate::format::key::SequenceNumber;
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::plan::{Compaction, View};
use super::targets::{LevelConfig, LevelTargets};
use super::weights::Weights;

/// One job in so many parts of what it reads has to be freed by it.
const FREED_PART: u64 = 4;
/// At the bottom, one entry in so many has to be garbage.
const GARBAGE_PART: u64 = 64;

/// Why a file is worth a job of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Nothing,
    /// Its tombstones have something to meet below.
    GoingDown,
    /// It is at the bottom, and has garbage.
    WritingAnew,
}

fn worth(version: &Version, config: &LevelConfig, level: usize, file: &TableFile) -> Worth {
    let is_marked = file.meta.is_marked_for_compaction;
    let counts = file.counts().copied().unwrap_or_default();
    let has_many_tombstones = file.meta.range_deleted_bytes > 0
        || (counts.deletions > 0 && counts.deletions.saturating_mul(2) >= counts.entries);
    if level == 0 && has_many_tombstones {
        return Worth::GoingDown;
    }
    let own = counts.deletions.saturating_add(counts.older_versions.unwrap_or(0));
    // Of a writer that does not count: what it compacted has zeros, but for what it had to keep.
    let is_mixed = counts.older_versions.is_none() && file.meta.smallest_seq.0 == 0;
    let has_garbage =
        own.saturating_mul(GARBAGE_PART) >= counts.entries.max(1) || counts.range_deletions > 0 || is_mixed;
    let may_be_due = has_many_tombstones || is_marked || (has_garbage && level > 0 && file.meta.largest_seq.0 != 0);
    if !may_be_due || level >= config.num_levels {
        return Worth::Nothing;
    }
    let range = KeyRange::of_file(file);
    let holds = |below: usize| !overlapping(version, below, &range).is_empty();
    let has_something_below = (level + 1..config.num_levels).any(holds);
    if has_something_below && (has_many_tombstones || is_marked) {
        Worth::GoingDown
    } else if !has_something_below && has_garbage && level > 0 && file.meta.largest_seq.0 != 0 {
        Worth::WritingAnew
    } else {
        Worth::Nothing
    }
}

/// The first job that frees what it should.
pub(super) fn pick(
    view: &View<'_>,
    config: &LevelConfig,
    targets: &LevelTargets,
    weights: &Weights,
) -> Option<Compaction> {
    let files =
        view.version.files().filter(|(_, file)| file.meta.largest_seq <= view.oldest_snapshot && view.is_free(file));
    let mut found = None;
    for (level, file) in files {
        let job = match worth(view.version, config, level, file) {
            Worth::Nothing => None,
            Worth::GoingDown => going_down(view, config, targets, weights, level, file),
            // What goes down may take it along.
            Worth::WritingAnew if found.is_some() => None,
            Worth::WritingAnew => {
                found = written_anew(view, level, file);
                None
            }
        };
        if job.is_some() {
            return job;
        }
    }
    found
}

fn going_down(
    view: &View<'_>,
    config: &LevelConfig,
    targets: &LevelTargets,
    weights: &Weights,
    level: usize,
    file: &Arc<TableFile>,
) -> Option<Compaction> {
    let reason = format!("tombstones of level {level}");
    let job = Compaction::of_file(view.version, targets, level, level + 1, file, reason)?;
    let freed: u64 = job.files().map(|(_, file)| weights.garbage(file)).fold(0, u64::saturating_add);
    let is_worth_it = file.meta.is_marked_for_compaction || freed.saturating_mul(FREED_PART) >= job.input_bytes();
    (is_worth_it && view.may_run(&job)).then(|| job.or_move(config))
}

fn written_anew(view: &View<'_>, level: usize, file: &TableFile) -> Option<Compaction> {
    let own = overlapping_whole_keys(view.version, level, &KeyRange::of_file(file));
    let job =
        Compaction::new(view.version, vec![(level, own)], level, format!("garbage at the bottom, level {level}"))?;
    view.may_run(&job).then_some(job)
}

/// The number that the oldest snapshot has to reach for the next job of this kind; `None` if none waits for that.
pub(super) fn awaited(version: &Version, config: &LevelConfig, oldest: SequenceNumber) -> Option<SequenceNumber> {
    let kept_back = version.files().filter(|(_, file)| file.meta.largest_seq > oldest && !file.is_set_aside());
    let worth_it = kept_back.filter(|(level, file)| worth(version, config, *level, file) != Worth::Nothing);
    worth_it.map(|(_, file)| file.meta.largest_seq).min()
}
