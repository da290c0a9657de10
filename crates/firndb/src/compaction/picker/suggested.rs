//! Files that somebody suggested for a compaction: `suggest_compact_range`.
//!
//! They go down a level, of a leveled family, when nothing is too large, as long as a deeper level has files. A file that was
//! merged has another number, and is suggested no more; one that was moved goes on to the last level but one that has any.
//!
//! Source: RocksDB `DBImpl::SuggestCompactRange`.

use crate::sync::Arc;
use crate::version::TableFile;

use super::plan::{Compaction, View};
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
    let reason = format!("suggested, of level {level}");
    let job = Compaction::of_file(view.version, targets, level, level + 1, file, reason)?;
    view.may_run(&job).then(|| job.or_move(config))
}
