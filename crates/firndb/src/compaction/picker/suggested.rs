//! Files that somebody suggested for a compaction: `suggest_compact_range`.
//!
//! They go down a level, of a leveled family, when nothing is too large, as long as a deeper level has files. A file that was
//! merged has another number, and is suggested no more; one that was moved goes on to the last level but one that has any.
//!
//! Source: RocksDB `DBImpl::SuggestCompactRange`.

use crate::compaction::range::{KeyRange, overlapping_whole_keys};
use crate::sync::Arc;
use crate::version::TableFile;

use super::garbage::with_older;
use super::plan::{Compaction, View, with_levels_below};
use super::targets::{LevelConfig, LevelTargets};

/// The first job with a file that was suggested.
pub(super) fn pick(view: &View<'_>, config: &LevelConfig, targets: &LevelTargets) -> Option<Compaction> {
    if view.suggested.is_empty() {
        return None;
    }
    let deepest = view.version.files().map(|(level, _)| level).max()?;
    let mut files = view.version.files().filter(|(level, file)| {
        *level < deepest && level + 1 < config.num_levels && view.suggested.contains(&file.number())
    });
    files.find_map(|(level, file)| down(view, config, targets, level, file))
}

fn down(
    view: &View<'_>,
    config: &LevelConfig,
    targets: &LevelTargets,
    level: usize,
    file: &Arc<TableFile>,
) -> Option<Compaction> {
    let version = view.version;
    let (own, output) = if level == 0 {
        (with_older(version, file), targets.base_level)
    } else {
        (overlapping_whole_keys(version, level, &KeyRange::of_file(file)), level + 1)
    };
    let inputs = with_levels_below(version, level, own, output);
    let job = Compaction::new(version, inputs, output, format!("suggested, of level {level}"))?;
    view.may_run(&job).then(|| job.or_move(config))
}
