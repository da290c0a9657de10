//! Files of a leveled family that are compacted because of their age.
//!
//! 1. *Data older than `ttl`* goes down, level by level, to the last one: what it overwrote or deleted goes on the way. Where
//!    nothing overlaps it, it only moves.
//! 2. *Files written longer ago than the period* are written anew: in the level below if levels are dynamic and there is one,
//!    else in their own.
//!
//! It ends: data goes down as many levels as there are; a file that was written anew is young.
//!
//! Source: RocksDB `VersionStorageInfo::ComputeExpiredTtlFiles`, `ComputeFilesMarkedForPeriodicCompaction`,
//! `LevelCompactionBuilder::SetupInitialFiles`.

use crate::version::{TableFile, Version};

use super::plan::{Compaction, View};
use super::targets::{LevelConfig, LevelTargets};

/// When the file's data is too old to stay where it is, in seconds since 1970.
fn expires(config: &LevelConfig, level: usize, file: &TableFile) -> Option<u64> {
    let time = file.meta.oldest_ancester_time;
    let can_go_down = level + 1 < config.num_levels && config.ttl_s > 0 && time > 0;
    can_go_down.then(|| time.saturating_add(config.ttl_s).saturating_add(1))
}

/// When the file is too old itself.
fn ages(config: &LevelConfig, file: &TableFile) -> Option<u64> {
    let time = file.meta.written_s().filter(|_| config.period_s > 0)?;
    Some(time.saturating_add(config.period_s).saturating_add(1))
}

/// The first job that one of the two asks for.
pub(super) fn pick(view: &View<'_>, config: &LevelConfig, targets: &LevelTargets) -> Option<Compaction> {
    if config.ttl_s == 0 && config.period_s == 0 {
        return None;
    }
    let files = || view.version.files().filter(|(level, file)| *level < config.num_levels && view.is_free(file));
    let is_due = |time: Option<u64>| time.is_some_and(|time| time <= view.now_s);
    let expired = files().filter(|(level, file)| is_due(expires(config, *level, file)));
    let aged = files().filter(|(_, file)| is_due(ages(config, file)));
    let reason = |what: &str, level: usize, seconds: u64| format!("{what} of level {level}, older than {seconds} s");
    expired
        .filter_map(|(level, file)| {
            Compaction::of_file(view.version, targets, level, level + 1, file, reason("data", level, config.ttl_s))
        })
        .map(|job| job.or_move(config))
        .chain(aged.filter_map(|(level, file)| {
            let is_last = level + 1 >= config.num_levels;
            let output = if is_last || (level > 0 && !config.dynamic_level_bytes) { level } else { level + 1 };
            Compaction::of_file(view.version, targets, level, output, file, reason("a table", level, config.period_s))
        }))
        .find(|job| view.may_run(job))
}

/// When the first file is due, in seconds since 1970.
pub(super) fn awaited_time(version: &Version, config: &LevelConfig) -> Option<u64> {
    let times = version.files().flat_map(|(level, file)| [expires(config, level, file), ages(config, file)]);
    times.flatten().min()
}
