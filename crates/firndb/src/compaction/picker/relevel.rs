//! Files that change their level because somebody said where they should be: `CompactRangeOptions::change_level`.
//!
//! They move unread. Of their keys nothing may lie in the levels between, nor in the one that they go to: up or down, what is
//! newer stays above what is older.
//!
//! Source: RocksDB `DBImpl::ReFitLevel`.

use crate::compaction::range::{KeyRange, overlapping};
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::plan::Compaction;
use super::targets::{LevelConfig, LevelTargets};

/// What comes of it.
#[derive(Debug)]
pub(crate) enum Relevel {
    /// They are there.
    Nothing,
    Move(Compaction),
    /// This level, between the two or the target, has some of their keys.
    InTheWay(usize),
}

/// Moves the files of `from` that overlap `range` to `target`, or to the highest level that can hold them.
pub(crate) fn relevel(
    version: &Arc<Version>,
    config: &LevelConfig,
    from: usize,
    range: (Option<&[u8]>, Option<&[u8]>),
    target: Option<usize>,
) -> Relevel {
    let Some(level) = version.level(from).filter(|_| from > 0) else { return Relevel::Nothing };
    let files = level.overlapping(&version.order, range.0, range.1);
    let Some(span) = KeyRange::of(&version.order, &files) else { return Relevel::Nothing };
    let to = target.unwrap_or_else(|| highest(version, config, from, &files));
    let between = if to < from { to..from } else { from + 1..to + 1 };
    let is_there = |level: &usize| !overlapping(version, *level, &span).is_empty();
    match between.into_iter().find(is_there) {
        _ if to == from => Relevel::Nothing,
        Some(level) => Relevel::InTheWay(level),
        None => {
            let job = Compaction::new(version, vec![(from, files)], to, format!("level {to} was asked for"));
            job.map_or(Relevel::Nothing, |job| Relevel::Move(job.moving()))
        }
    }
}

/// The highest level below 0 that the files fit into, with nothing in it nor in those below it, up to their own.
fn highest(version: &Version, config: &LevelConfig, from: usize, files: &[Arc<TableFile>]) -> usize {
    let targets = LevelTargets::of(version, config).bytes;
    let bytes: u64 = files.iter().map(|file| file.meta.size).sum();
    let is_free =
        |level: &usize| version.levels[*level].len() == 0 && targets.get(*level).is_some_and(|target| *target >= bytes);
    (1..from).rev().take_while(is_free).last().unwrap_or(from)
}
