//! Level 0: its files overlap each other, and their order is by age.
//!
//! All of it goes down together, if it can. A file that was set aside or that a job has stays where it is, and so does
//! every newer one that overlaps a file that stays: it would pass below older entries. The others go around them.
//! If nothing can go down, neighbours in age are merged with each other into one file of level 0, so that reads have
//! fewer to look into, and writers need not wait: beside a running job only if many wait, as in RocksDB; else, when
//! damage is in the way, two are enough.
//!
//! Invariants: (1) a merge within level 0 takes neighbours in age: its output has the oldest epoch of its inputs, and no
//! file that stays is between them. (2) It parts no files of one epoch, whose order nobody knows.
//!
//! Source: RocksDB `LevelCompactionBuilder::PickIntraL0Compaction`, `FindIntraL0Compaction`.

use crate::compaction::claims::Claims;
use crate::compaction::range::{KeyRange, files_overlap};
use crate::format::comparator::KeyOrder;
use crate::format::key::SequenceNumber;
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::plan::{Compaction, View, with_levels_below};
use super::targets::{LevelConfig, LevelTargets};

/// Beside a running job, so many neighbours are merged with each other at least.
const MERGED_MIN: usize = 4;
/// How often a job of level 0 is cut in two because of something in its way.
const CUTS_MAX: usize = 64;

/// For each file of level 0, newest first: may it go down to `base_level`, around those that are not free?
fn can_go_down(view: &View<'_>, base_level: usize) -> Vec<bool> {
    let version = view.version;
    let order = &version.order;
    let files = version.level(0).map_or(&[][..], |level| level.files());
    let taken = (1..=base_level).filter_map(|level| version.level(level)).flat_map(|level| level.files());
    let mut blockers: Vec<KeyRange> =
        taken.filter(|file| !view.is_free(file)).map(|file| KeyRange::of_file(file)).collect();
    blockers.extend(view.claims.outputs(base_level).cloned());
    let mut staying: Vec<&Arc<TableFile>> = Vec::new();
    let mut can = vec![false; files.len()];
    for (index, file) in files.iter().enumerate().rev() {
        let is_blocked = !view.is_free(file)
            || staying.iter().any(|older| files_overlap(order, older, file))
            || blockers.iter().any(|range| range.overlaps_file(order, file));
        if is_blocked {
            staying.push(file);
        } else {
            can[index] = true;
        }
    }
    can
}

/// Neighbours in age that are free, newest first: the indexes of each run.
fn runs(files: &[Arc<TableFile>], is_free: impl Fn(usize) -> bool) -> Vec<std::ops::Range<usize>> {
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for index in (0..files.len()).filter(|index| is_free(*index)) {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// The files of level 0 that no job can take because of damage, while nothing else runs: none of them goes down, and none
/// has a neighbour to be merged with.
pub(super) fn stuck(version: &Arc<Version>, base_level: usize) -> Vec<&Arc<TableFile>> {
    let claims = Claims::default();
    let view = View::of(version, &claims, SequenceNumber::ZERO);
    let can = can_go_down(&view, base_level);
    let files = version.level(0).map_or(&[][..], |level| level.files());
    // What can go down will have gone.
    let staying: Vec<Arc<TableFile>> =
        files.iter().zip(&can).filter(|(_, can)| !**can).map(|(file, _)| Arc::clone(file)).collect();
    let lone: Vec<_> = runs(&staying, |index| view.is_free(&staying[index]))
        .into_iter()
        .filter(|run| run.len() == 1)
        .map(|run| staying[run.start].number())
        .collect();
    files.iter().filter(|file| file.is_set_aside() || lone.contains(&file.number())).collect()
}

/// What level 0 should do next.
pub(super) fn pick(view: &View<'_>, config: &LevelConfig, targets: &LevelTargets, reason: &str) -> Option<Compaction> {
    down(view, config, targets.base_level, reason).or_else(|| within(view, config, reason))
}

/// As much of level 0 as can go, into the base level.
fn down(view: &View<'_>, config: &LevelConfig, base_level: usize, reason: &str) -> Option<Compaction> {
    let version = view.version;
    let order = &version.order;
    let files = version.level(0)?.files();
    let can = can_go_down(view, base_level);
    let candidates: Vec<&Arc<TableFile>> =
        files.iter().zip(&can).filter(|(_, can)| **can).map(|(file, _)| file).collect();
    // Something in the way may lie between the keys of two candidates: then those on one side of it go.
    let mut windows = vec![Window { after: None, before: None }];
    for _ in 0..CUTS_MAX {
        let window = windows.pop()?;
        let inside: Vec<Arc<TableFile>> =
            candidates.iter().filter(|file| window.holds(order, file)).map(|file| Arc::clone(file)).collect();
        let inputs = with_levels_below(version, 0, inside, base_level);
        let Some(job) = Compaction::new(version, inputs, base_level, reason.to_owned()) else { continue };
        match view.obstacle(&job) {
            None => return Some(job.or_move(config)),
            Some(obstacle) => {
                windows.push(Window { after: Some(obstacle.end), before: window.before });
                windows.push(Window { after: window.after, before: Some(obstacle.begin) });
            }
        }
    }
    None
}

/// Keys after one and before another.
struct Window {
    after: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
}

impl Window {
    fn holds(&self, order: &KeyOrder, file: &TableFile) -> bool {
        let range = KeyRange::of_file(file);
        self.after.as_ref().is_none_or(|after| order.compare(&range.begin, after).is_gt())
            && self.before.as_ref().is_none_or(|before| order.compare(&range.end, before).is_lt())
    }
}

/// Neighbours of level 0 into one file of level 0: those that cost the fewest bytes for each file less.
fn within(view: &View<'_>, config: &LevelConfig, reason: &str) -> Option<Compaction> {
    let files = view.version.level(0)?.files();
    let is_free = |index: usize| view.is_free(&files[index]);
    // What a running job has in its way, its end will set free: until then only what pays is merged.
    let will_end = !view.claims.is_empty();
    let free = (0..files.len()).filter(|index| is_free(*index)).count();
    if will_end && free < config.level0_trigger + 2 {
        return None;
    }
    let files_min = if will_end { MERGED_MIN } else { 2 };
    let bytes_max = if will_end { config.compaction_bytes_max() } else { u64::MAX };
    let mut best: Option<(u64, std::ops::Range<usize>)> = None;
    for run in runs(files, is_free) {
        for start in run.clone().filter(|start| is_boundary(files, *start)) {
            let mut bytes = 0u64;
            for end in start + 1..=run.end {
                bytes = bytes.saturating_add(files[end - 1].meta.size);
                let count = end - start;
                if count < files_min || !is_boundary(files, end) {
                    continue;
                }
                let cost = bytes / (count as u64 - 1);
                if bytes <= bytes_max && best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, start..end));
                }
            }
        }
    }
    let (_, range) = best?;
    let reason = format!("{reason}; nothing of it can go down");
    let job = Compaction::new(view.version, vec![(0, files[range].to_vec())], 0, reason)?;
    view.may_run(&job).then_some(job)
}

/// True if the files before and from `index` on may be parted.
pub(super) fn is_boundary(files: &[Arc<TableFile>], index: usize) -> bool {
    match (index.checked_sub(1).and_then(|before| files.get(before)), files.get(index)) {
        (Some(newer), Some(older)) => newer.meta.epoch != older.meta.epoch,
        _ => true,
    }
}
