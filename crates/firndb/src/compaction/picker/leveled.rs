//! Leveled compaction: which level is too large, which files go down.
//!
//! A level's score is how many times too large it is; the highest score of at least 1 is compacted first. Which file of a
//! level goes is the family's choice ([`CompactionPri`]): by default the one that has the least to merge with below it, for
//! its size. Sizes count tombstones more than their bytes ([`super::weights`]). If no level is too large, files go that free
//! space ([`super::garbage`]), or that are too old ([`super::aged`]).
//!
//! Source: RocksDB `db/compaction/compaction_picker_level.cc`, `VersionStorageInfo`, wiki "Leveled Compaction".

use std::cmp::Reverse;

use crate::compaction::range::{KeyRange, overlapping, overlapping_whole_keys};
use crate::compaction::styles::CompactionPri;
use crate::format::key::ParsedKey;
use crate::sync::Arc;
use crate::version::TableFile;

use super::aged;
use super::blob_garbage;
use super::counts::scores;
use super::garbage;
use super::level0;
use super::plan::{Compaction, View, with_levels_below};
use super::suggested;
use super::targets::{LevelConfig, LevelTargets};
use super::weights::Weights;

/// The next automatic compaction, if one is due and its files are free.
pub(super) fn pick(view: &View<'_>, config: &LevelConfig) -> Option<Compaction> {
    let targets = LevelTargets::of(view.version, config);
    let weights = Weights::of(view.version);
    for (level, score) in scores(view.version, config, &targets, &weights, view.claims) {
        if score < 1.0 {
            break;
        }
        let picked = if level == 0 {
            let files = view.version.level(0).map_or(0, |level| level.len());
            let reason = format!("level 0 has {files} files, score {score:.2}");
            level0::pick(view, config, &targets, &reason)
        } else {
            pick_level(view, config, &weights, level, score)
        };
        if picked.is_some() {
            return picked;
        }
    }
    garbage::pick(view, config, &targets, &weights)
        .or_else(|| aged::pick(view, config, &targets))
        .or_else(|| suggested::pick(view, config, &targets))
        .or_else(|| blob_garbage::pick(view, config, &targets))
}

fn pick_level(
    view: &View<'_>,
    config: &LevelConfig,
    weights: &Weights,
    level: usize,
    score: f64,
) -> Option<Compaction> {
    let version = view.version;
    let output = level + 1;
    let files = version.level(level)?.files();
    let mut candidates: Vec<&Arc<TableFile>> = files.iter().filter(|file| view.is_free(file)).collect();
    let overlap = |file: &Arc<TableFile>| {
        let below = overlapping(version, output, &KeyRange::of_file(file));
        let below: u64 = below.iter().map(|file| file.meta.size).sum();
        below.saturating_mul(1024) / weights.compensated(file).max(1)
    };
    match config.pri {
        CompactionPri::MinOverlappingRatio => candidates.sort_by_cached_key(|file| overlap(file)),
        CompactionPri::ByCompensatedSize => candidates.sort_by_key(|file| Reverse(weights.compensated(file))),
        CompactionPri::OldestLargestSeqFirst => candidates.sort_by_key(|file| file.meta.largest_seq),
        CompactionPri::OldestSmallestSeqFirst => candidates.sort_by_key(|file| file.meta.smallest_seq),
        CompactionPri::RoundRobin => {
            // MANIFEST may say anything.
            let cursor = view.cursors.get(&(level as u32)).filter(|cursor| ParsedKey::parse(cursor).is_ok());
            let next = cursor.map_or(0, |cursor| {
                let is_before =
                    |file: &&Arc<TableFile>| version.order.compare_internal(&file.meta.smallest, cursor).is_lt();
                candidates.iter().take_while(|file| is_before(file)).count()
            });
            candidates.rotate_left(next);
        }
    }
    let reason = format!("level {level} is too large, score {score:.2}");
    candidates.into_iter().find_map(|file| {
        let own = overlapping_whole_keys(version, level, &KeyRange::of_file(file));
        let cursor = (config.pri == CompactionPri::RoundRobin).then(|| cursor_behind(files, &own)).flatten();
        let inputs = with_levels_below(version, level, own, output);
        let job = Compaction::new(version, inputs, output, reason.clone())?;
        view.may_run(&job).then(|| job.or_move(config).with_cursor(level, cursor))
    })
}

/// Where the next round begins: at the file behind those that go, or at the first one.
fn cursor_behind(files: &[Arc<TableFile>], own: &[Arc<TableFile>]) -> Option<Vec<u8>> {
    let last = own.last()?.number();
    let behind = files.iter().skip_while(|file| file.number() != last).nth(1).or(files.first())?;
    Some(behind.meta.smallest.clone())
}
