//! What scores and stalls count: the files that some compaction can take.
//!
//! A file that was set aside counts nowhere, and neither does one that cannot go anywhere because of it: a stall that
//! counted them would wait for a compaction that nobody can pick. What a running job has counts for stalls, since its end
//! makes it less; for scores it does not, as it is being seen to.

use std::collections::BTreeSet;

use crate::compaction::claims::Claims;
use crate::format::key::FileNumber;
use crate::sync::Arc;
use crate::version::{Level, Version};

use super::level0;
use super::plan::with_levels_below;
use super::targets::{LevelConfig, LevelTargets};
use super::weights::Weights;

/// What writers may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StallCounts {
    /// Files of level 0, or sorted runs.
    pub(crate) level0_files: usize,
    /// Bytes that have to be rewritten until every level has its size, about.
    pub(crate) pending_bytes: u64,
}

/// The files that no compaction can take, because they or something in their way was set aside; empty as long as
/// nothing is damaged.
#[derive(Debug, Default)]
pub(super) struct Stuck(BTreeSet<FileNumber>);

impl Stuck {
    pub(super) fn of(version: &Arc<Version>, config: &LevelConfig, targets: &LevelTargets) -> Stuck {
        if !version.files().any(|(_, file)| file.is_set_aside()) {
            return Stuck::default();
        }
        let mut stuck: BTreeSet<FileNumber> =
            level0::stuck(version, targets.base_level).into_iter().map(|file| file.number()).collect();
        for (number, level) in version.levels.iter().enumerate().skip(1) {
            for file in level.files() {
                let output = (number + 1).min(config.num_levels.saturating_sub(1)).max(number);
                let inputs = with_levels_below(version, number, vec![Arc::clone(file)], output);
                if inputs.iter().flat_map(|(_, files)| files).any(|input| input.is_set_aside()) {
                    stuck.insert(file.number());
                }
            }
        }
        Stuck(stuck)
    }

    pub(super) fn has(&self, number: FileNumber) -> bool {
        self.0.contains(&number)
    }

    fn files_left(&self, level: &Level) -> usize {
        let stuck = if self.0.is_empty() { 0 } else { level.files().iter().filter(|f| self.has(f.number())).count() };
        level.len() - stuck
    }

    fn bytes_left(&self, level: &Level) -> u64 {
        if self.0.is_empty() {
            return level.bytes();
        }
        level.files().iter().filter(|file| !self.has(file.number())).map(|file| file.meta.size).sum()
    }
}

/// What stalls count.
pub(super) fn stall_counts(version: &Arc<Version>, config: &LevelConfig) -> StallCounts {
    let targets = LevelTargets::of(version, config);
    let stuck = Stuck::of(version, config, &targets);
    StallCounts {
        level0_files: version.level(0).map_or(0, |level| stuck.files_left(level)),
        pending_bytes: pending_bytes(version, config, &targets, &stuck),
    }
}

/// Source: RocksDB `VersionStorageInfo::EstimateCompactionBytesNeeded`.
fn pending_bytes(version: &Version, config: &LevelConfig, targets: &LevelTargets, stuck: &Stuck) -> u64 {
    let size_of = |level: usize| version.level(level).map_or(0, |level| stuck.bytes_left(level));
    let mut pending = 0u64;
    let mut coming = 0u64;
    if version.level(0).is_some_and(|level| stuck.files_left(level) >= config.level0_trigger) {
        coming = size_of(0);
        pending = coming + size_of(targets.base_level.max(1));
    }
    for number in targets.base_level.max(1)..config.num_levels.saturating_sub(1) {
        let size = size_of(number) + coming;
        let excess = size.saturating_sub(targets.bytes[number]);
        if excess > 0 && size > 0 {
            let ratio = size_of(number + 1) as f64 / size as f64;
            pending = pending.saturating_add((excess as f64 * (ratio + 1.0)) as u64);
        }
        coming = excess;
    }
    pending
}

/// How many times too large each level is, the worst first.
pub(super) fn scores(
    version: &Arc<Version>,
    config: &LevelConfig,
    targets: &LevelTargets,
    weights: &Weights,
    claims: &Claims,
) -> Vec<(usize, f64)> {
    let stuck = Stuck::of(version, config, targets);
    let mut scores = Vec::new();
    for (number, level) in version.levels.iter().enumerate().take(config.num_levels) {
        let idle = level.files().iter().filter(|file| !stuck.has(file.number()) && !claims.has_file(file.number()));
        let score = if number == 0 {
            if config.num_levels == 1 {
                continue;
            }
            let (mut count, mut bytes, mut weight) = (0u64, 0u64, 0u64);
            for file in idle {
                count += 1;
                bytes = bytes.saturating_add(file.meta.size);
                weight = weight.saturating_add(weights.compensated(file));
            }
            let by_count = count as f64 / config.level0_trigger.max(1) as f64;
            // One file is not too many because it is large, but because of what it would free.
            let is_heavy = count > 1 || weight > bytes;
            let by_bytes = if is_heavy { weight as f64 / config.base_bytes.max(1) as f64 } else { 0.0 };
            by_count.max(by_bytes)
        } else if number + 1 < config.num_levels {
            let weight = idle.map(|file| weights.compensated(file)).fold(0, u64::saturating_add);
            weight as f64 / targets.bytes[number].max(1) as f64
        } else {
            // The last level has nowhere to go.
            continue;
        };
        scores.push((number, score));
    }
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores
}
