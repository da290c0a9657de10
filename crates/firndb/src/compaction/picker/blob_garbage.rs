//! Tables that refer to a blob file which is mostly garbage, and one of the oldest: they are written anew, which moves what is left
//! of it to new files.
//!
//! It ends: a job writes no reference to one of the oldest files, and so the tables that name this one become fewer.
//!
//! Source: RocksDB `VersionStorageInfo::ComputeFilesMarkedForForcedBlobGC`, `LevelCompactionBuilder::SetupInitialFiles`.

use super::plan::{Compaction, View};
use super::targets::{LevelConfig, LevelTargets};

/// The first job that empties the oldest blob file, if that is due.
pub(super) fn pick(view: &View<'_>, config: &LevelConfig, targets: &LevelTargets) -> Option<Compaction> {
    let collection = config.blobs.filter(|_| !view.version.blobs.is_empty())?;
    let is_named = |number| view.version.files().any(|(_, file)| file.meta.oldest_blob == number);
    let oldest = view.version.blobs.to_be_emptied(collection, is_named)?;
    let files = view
        .version
        .files()
        .filter(|(level, file)| *level < config.num_levels && file.meta.oldest_blob == oldest && view.is_free(file));
    files
        .filter_map(|(level, file)| {
            let reason = format!("a table of level {level} refers to blob file {oldest}, which is mostly garbage");
            let output = if level == 0 { 1 } else { level };
            Compaction::of_file(view.version, targets, level, output, file, reason)
        })
        .find(|job| view.may_run(job))
}
