//! Universal compaction: sorted runs in the order of their age, and neighbours are merged.
//!
//! A run is a file of level 0 (or the files of one epoch there, whose order nobody knows), or a whole level below. From
//! newest to oldest they stand as reads meet them: level 0, then level 1, and so on. A job takes neighbours and puts one
//! run in their place: into level 0 if the next older run is there, else into the level above that run; if there is no
//! older one, into the last level. Flushes only add newer runs on top meanwhile, and other jobs take neighbours on one side
//! of it or the other.
//!
//! What is merged, the first that is due:
//! 1. Everything, if some table is older than the family's period.
//! 2. With `level0_trigger` runs or more: everything, if the newer runs are too large beside the oldest one; else runs
//!    of which each older one is no larger than the newer ones together; else as many of the newest as are too many.
//! 3. Everything, if a quarter of it would be freed by its tombstones, or by what a snapshot kept that is gone; and what
//!    another writer of the directory marked, with all that is older.
//!
//! Invariants: (1) inputs are neighbours in age, whole runs. (2) The output's place is that of its inputs: no level between
//! the inputs and the next older run holds anything. (3) A run that has a damaged file stays where it is, as one that a job
//! has; the others are merged on their side of it. (4) While runs that have a neighbour to be merged with are so many that
//! writers wait, something is picked.
//!
//! Source: RocksDB `db/compaction/compaction_picker_universal.cc`, wiki "Universal Compaction".

use std::ops::Range;

use crate::compaction::claims::Claims;
use crate::compaction::styles::{CompactionOptionsUniversal, CompactionStopStyle};
use crate::format::key::SequenceNumber;
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::plan::{Compaction, LevelFiles, View};
use super::targets::LevelConfig;
use super::weights::Weights;

/// One job in so many parts of what it reads has to be freed by it, if it has no other reason.
const FREED_PART: u64 = 4;

/// The limits of universal compaction.
#[derive(Debug, Clone)]
pub(crate) struct UniversalConfig {
    pub(crate) levels: LevelConfig,
    pub(crate) options: CompactionOptionsUniversal,
    /// So many runs slow writers down.
    pub(crate) slowdown: usize,
    /// Seconds after which a table is written anew; 0: never.
    pub(crate) period_s: u64,
}

impl UniversalConfig {
    fn last_level(&self) -> usize {
        self.levels.num_levels.saturating_sub(1)
    }

    /// Runs that are merged at least, and at most.
    fn widths(&self) -> (usize, usize) {
        let least = self.options.min_merge_width.max(2) as usize;
        (least, (self.options.max_merge_width as usize).max(least))
    }
}

/// A sorted run.
#[derive(Debug)]
struct Run<'a> {
    level: usize,
    files: &'a [Arc<TableFile>],
    bytes: u64,
    /// Its bytes, and more for its tombstones.
    weight: u64,
    /// No job has any of it, and nothing in it is damaged.
    is_free: bool,
}

/// The runs of a version, newest first.
fn runs<'a>(version: &'a Version, weights: &Weights, is_free: impl Fn(&TableFile) -> bool) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for (level, files) in version.levels.iter().enumerate() {
        let parts: Vec<&[Arc<TableFile>]> = match level {
            0 => files.files().chunk_by(|a, b| a.meta.epoch == b.meta.epoch && a.meta.epoch != 0).collect(),
            _ if files.len() == 0 => Vec::new(),
            _ => vec![files.files()],
        };
        runs.extend(parts.into_iter().map(|files| Run {
            level,
            files,
            bytes: files.iter().map(|file| file.meta.size).fold(0, u64::saturating_add),
            weight: files.iter().map(|file| weights.compensated(file)).fold(0, u64::saturating_add),
            is_free: files.iter().all(|file| is_free(file)),
        }));
    }
    runs
}

/// The stretches of free neighbours that have at least two runs.
fn stretches(runs: &[Run<'_>]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for index in (0..runs.len()).filter(|index| runs[*index].is_free) {
        match found.last_mut() {
            Some(stretch) if stretch.end == index => stretch.end += 1,
            _ => found.push(index..index + 1),
        }
    }
    found.retain(|stretch| stretch.len() > 1);
    found
}

/// The next automatic compaction, if one is due and its runs are free.
pub(super) fn pick(view: &View<'_>, config: &UniversalConfig) -> Option<Compaction> {
    let weights = Weights::of(view.version);
    let runs = runs(view.version, &weights, |file| view.is_free(file));
    let picker = UniversalPicker { view, config, runs: &runs };
    picker.aged().or_else(|| picker.too_many()).or_else(|| picker.garbage(&weights)).or_else(|| picker.marked())
}

/// What stalls count: runs that have a neighbour to be merged with, whatever jobs are running.
pub(super) fn stalling_runs(version: &Version) -> usize {
    let runs = runs(version, &Weights::default(), |file| !file.is_set_aside());
    stretches(&runs).iter().map(ExactSizeIterator::len).sum()
}

/// How many times too many runs there are that no job has.
pub(super) fn score(version: &Version, config: &UniversalConfig, claims: &Claims) -> f64 {
    let is_free = |file: &TableFile| !file.is_set_aside() && !claims.has_file(file.number());
    let runs = runs(version, &Weights::default(), is_free);
    runs.iter().filter(|run| run.is_free).count() as f64 / config.levels.level0_trigger.max(1) as f64
}

/// The number that the oldest snapshot has to reach before more garbage can go.
pub(super) fn awaited_snapshot(version: &Version, oldest: SequenceNumber) -> Option<SequenceNumber> {
    let weights = Weights::of(version);
    let kept_back = version.files().map(|(_, file)| file).filter(|file| file.meta.largest_seq > oldest);
    kept_back.filter(|file| weights.garbage(file) > 0).map(|file| file.meta.largest_seq).min()
}

/// When the first table is older than the period, in seconds.
pub(super) fn awaited_time(version: &Version, config: &UniversalConfig) -> Option<u64> {
    if config.period_s == 0 {
        return None;
    }
    let times = version.files().filter_map(|(_, file)| file.meta.written_s());
    times.min().map(|time| time.saturating_add(config.period_s).saturating_add(1))
}

struct UniversalPicker<'a> {
    view: &'a View<'a>,
    config: &'a UniversalConfig,
    runs: &'a [Run<'a>],
}

impl UniversalPicker<'_> {
    /// The free runs at the old end: what a merge of everything can have.
    fn oldest(&self) -> Range<usize> {
        let busy = self.runs.iter().rposition(|run| !run.is_free);
        busy.map_or(0, |busy| busy + 1)..self.runs.len()
    }

    fn aged(&self) -> Option<Compaction> {
        let oldest = self.oldest();
        let is_aged = |file: &Arc<TableFile>| file.is_older_than(self.config.period_s, self.view.now_s);
        let found = self.runs[oldest.clone()].iter().flat_map(|run| run.files).any(is_aged);
        if !found {
            return None;
        }
        self.job(oldest, format!("a table is older than {} s", self.config.period_s))
    }

    /// With enough runs to look at.
    fn too_many(&self) -> Option<Compaction> {
        if self.runs.len() < self.config.levels.level0_trigger.max(1) {
            return None;
        }
        let job = self.amplified().or_else(|| self.similar()).or_else(|| self.newest())?;
        Some(if self.config.options.allow_trivial_move { job.or_move_runs() } else { job })
    }

    /// Everything, if the newer runs take too much space beside the oldest.
    fn amplified(&self) -> Option<Compaction> {
        let oldest = self.oldest();
        if oldest.len() < 2 {
            return None;
        }
        let base = u128::from(self.runs[oldest.end - 1].bytes);
        let newer = self.runs[oldest.start..oldest.end - 1].iter().map(|run| u128::from(run.weight)).sum::<u128>();
        if newer * 100 < u128::from(self.config.options.max_size_amplification_percent) * base {
            return None;
        }
        let reason = format!("{} runs, space: {newer} bytes above {base}", self.runs.len());
        self.job(oldest, reason)
    }

    /// Neighbours of which each older one is no larger than the newer ones, within the ratio.
    fn similar(&self) -> Option<Compaction> {
        let (least, most) = self.config.widths();
        let ratio = 100 + u128::from(self.config.options.size_ratio);
        let is_similar = self.config.options.stop_style == CompactionStopStyle::SimilarSize;
        let mut start = 0;
        while start < self.runs.len() {
            let mut end = start + usize::from(self.runs[start].is_free);
            let mut taken = u128::from(self.runs[start].weight);
            while end > start && end - start < most {
                let Some(next) = self.runs.get(end).filter(|run| run.is_free) else { break };
                let bytes = u128::from(next.bytes);
                if taken * ratio < bytes * 100 || (is_similar && bytes * ratio < taken * 100) {
                    break;
                }
                taken = u128::from(next.weight) + if is_similar { 0 } else { taken };
                end += 1;
            }
            if end - start >= least {
                let reason = format!("{} runs, {} of them of like size", self.runs.len(), end - start);
                return Some(self.job(start..end, reason)?.compressed(self.is_compressed(end)));
            }
            start += 1;
        }
        None
    }

    /// The newest runs, as many as are too many, whatever their sizes.
    fn newest(&self) -> Option<Compaction> {
        let stretches = stretches(self.runs);
        let count: usize = stretches.iter().map(ExactSizeIterator::len).sum();
        let trigger = self.config.levels.level0_trigger;
        // Writers wait for fewer runs: then no rule about widths may be in the way.
        let is_pressing = count >= self.config.slowdown;
        if count <= trigger && !is_pressing {
            return None;
        }
        let (least, most) = self.config.widths();
        let least = if is_pressing { 2 } else { least };
        let most = (count + 1).saturating_sub(trigger).clamp(2, most);
        let start = stretches.iter().find(|stretch| stretch.len().min(most) >= least)?.start;
        let end = stretches.iter().find(|stretch| stretch.start == start)?.end.min(start + most);
        let reason = format!("{} runs are too many", self.runs.len());
        Some(self.job(start..end, reason)?.compressed(self.is_compressed(end)))
    }

    /// What is garbage once all of it is merged.
    fn garbage(&self, weights: &Weights) -> Option<Compaction> {
        let oldest = self.oldest();
        let inputs = || self.runs[oldest.clone()].iter();
        // Beside others in level 0 a merge drops nothing.
        if self.config.last_level() == 0 && oldest.start > 0 {
            return None;
        }
        let is_seen_by_all = |file: &&Arc<TableFile>| file.meta.largest_seq <= self.view.oldest_snapshot;
        let files = inputs().flat_map(|run| run.files).filter(is_seen_by_all);
        let freed = files.map(|file| weights.garbage(file)).fold(0, u64::saturating_add);
        let bytes = inputs().map(|run| run.bytes).fold(0, u64::saturating_add);
        if freed == 0 || freed.saturating_mul(FREED_PART) < bytes {
            return None;
        }
        self.job(oldest, format!("about {freed} bytes of {bytes} are garbage"))
    }

    /// A run that another writer of the directory marked, and everything older.
    fn marked(&self) -> Option<Compaction> {
        let oldest = self.oldest();
        let is_marked = |run: &Run<'_>| run.files.iter().any(|file| file.meta.is_marked_for_compaction);
        let start = oldest.start + self.runs[oldest.clone()].iter().position(is_marked)?;
        // The oldest run alone would come out as it is.
        (start + 1 < oldest.end).then(|| self.job(start..oldest.end, "a table is marked".to_owned())).flatten()
    }

    /// True unless the runs from `end` on, older than a job, are as much of everything as should be compressed.
    fn is_compressed(&self, end: usize) -> bool {
        let Ok(percent) = u128::try_from(self.config.options.compression_size_percent) else { return true };
        let all: u128 = self.runs.iter().map(|run| u128::from(run.weight)).sum();
        let older: u128 = self.runs[end..].iter().map(|run| u128::from(run.bytes)).sum();
        end == self.runs.len() || older * 100 < all * percent
    }

    fn job(&self, taken: Range<usize>, reason: String) -> Option<Compaction> {
        let output = match self.runs.get(taken.end) {
            None => self.config.last_level(),
            Some(next) => next.level.saturating_sub(1),
        };
        let mut inputs: Vec<LevelFiles> = Vec::new();
        for run in &self.runs[taken] {
            match inputs.last_mut() {
                Some((level, files)) if *level == run.level => files.extend(run.files.iter().cloned()),
                _ => inputs.push((run.level, run.files.to_vec())),
            }
        }
        let job = Compaction::new(self.view.version, inputs, output, reason)?;
        self.view.may_run(&job).then_some(job)
    }
}
