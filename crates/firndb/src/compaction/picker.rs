//! Leveled compaction: which level is too large, which files go down. Pure functions of a version.
//!
//! Level sizes follow RocksDB's dynamic rule by default: the last level sets the scale, each level above is smaller by
//! the multiplier, and levels that would be smaller than a fraction of the base are left out. A level's score is how many
//! times too large it is; the highest score of at least 1 is compacted first. Of a level, the file goes that has the
//! least to merge with below it, for its size.
//!
//! Invariants: (1) no compaction writes at or below `num_levels`. (2) Inputs of a level are cut between user keys: all
//! versions of a key in the level are in or out. (3) Everything of the input levels that overlaps, and lies above the
//! output, is in, so that order by age holds. (4) No input belongs to another running job.
//!
//! Source: RocksDB `db/compaction/compaction_picker_level.cc`, `VersionStorageInfo`, wiki "Leveled Compaction".

use crate::format::comparator::KeyOrder;
use crate::format::key::user_key;
use crate::sync::Arc;
use crate::version::{Level, TableFile, Version};

/// The limits of leveled compaction.
#[derive(Debug, Clone)]
pub(crate) struct LevelConfig {
    pub(crate) num_levels: usize,
    pub(crate) level0_trigger: usize,
    pub(crate) base_bytes: u64,
    pub(crate) multiplier: f64,
    pub(crate) target_file_size: u64,
    pub(crate) dynamic_level_bytes: bool,
}

impl LevelConfig {
    /// Bytes of the level after the next that one output file may overlap.
    pub(crate) fn grandparent_bytes_max(&self) -> u64 {
        self.target_file_size.saturating_mul(10)
    }

    /// Bytes of all inputs of one automatic compaction.
    fn compaction_bytes_max(&self) -> u64 {
        self.target_file_size.saturating_mul(25)
    }
}

/// Where level 0 goes, and how large each level should be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LevelTargets {
    pub(crate) base_level: usize,
    /// By level; the entry of level 0 and of levels left out is 0.
    pub(crate) bytes: Vec<u64>,
}

impl LevelTargets {
    pub(crate) fn of(version: &Version, config: &LevelConfig) -> LevelTargets {
        let levels = config.num_levels.max(1);
        let mut bytes = vec![0; levels];
        let multiplier = config.multiplier.max(1.0);
        let scaled = |size: u64, factor: f64| (size as f64 * factor).min(u64::MAX as f64 / 2.0) as u64;
        if levels == 1 {
            return LevelTargets { base_level: 0, bytes };
        }
        if !config.dynamic_level_bytes {
            let mut size = config.base_bytes;
            for target in &mut bytes[1..] {
                *target = size;
                size = scaled(size, multiplier);
            }
            return LevelTargets { base_level: 1, bytes };
        }
        let size_of = |level: usize| version.level(level).map_or(0, |level| level.bytes());
        let largest = (1..levels).map(size_of).max().unwrap_or(0);
        let Some(first_used) = (1..levels).find(|level| size_of(*level) > 0) else {
            bytes[levels - 1] = config.base_bytes;
            return LevelTargets { base_level: levels - 1, bytes };
        };
        let base_min = scaled(config.base_bytes, 1.0 / multiplier);
        // What the first used level would have if the last one has `largest`.
        let mut size = largest;
        for _ in first_used..levels - 1 {
            size = scaled(size, 1.0 / multiplier);
        }
        let mut base_level = first_used;
        let base_size = if size <= base_min {
            base_min + 1
        } else {
            while base_level > 1 && size > config.base_bytes {
                base_level -= 1;
                size = scaled(size, 1.0 / multiplier);
            }
            size.clamp(1, config.base_bytes.max(1))
        };
        let mut size = base_size;
        for target in &mut bytes[base_level..] {
            *target = size.max(config.base_bytes.min(base_size));
            size = scaled(size, multiplier);
        }
        LevelTargets { base_level, bytes }
    }
}

/// How many times too large each level is, the worst first.
pub(crate) fn scores(version: &Version, config: &LevelConfig, targets: &LevelTargets) -> Vec<(usize, f64)> {
    let mut scores = Vec::new();
    for (number, level) in version.levels.iter().enumerate().take(config.num_levels) {
        let idle = level.files().iter().filter(|file| !file.is_being_compacted());
        let score = if number == 0 {
            if config.num_levels == 1 {
                continue;
            }
            let (count, bytes) = idle.fold((0u64, 0u64), |(count, bytes), file| (count + 1, bytes + file.meta.size));
            let by_count = count as f64 / config.level0_trigger.max(1) as f64;
            let by_bytes = if count > 1 { bytes as f64 / config.base_bytes.max(1) as f64 } else { 0.0 };
            by_count.max(by_bytes)
        } else if number + 1 < config.num_levels {
            let bytes: u64 = idle.map(|file| file.meta.size).sum();
            bytes as f64 / targets.bytes[number].max(1) as f64
        } else {
            // The last level has nowhere to go.
            continue;
        };
        scores.push((number, score));
    }
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores
}

/// Bytes that have to be rewritten until every level has its size, about.
pub(crate) fn pending_bytes(version: &Version, config: &LevelConfig, targets: &LevelTargets) -> u64 {
    let size_of = |level: usize| version.level(level).map_or(0, |level| level.bytes());
    let level0 = version.level(0);
    let mut pending = 0u64;
    let mut coming = 0u64;
    if level0.is_some_and(|level| level.len() >= config.level0_trigger) {
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

/// A compaction that was picked: its inputs are claimed until it is dropped.
#[derive(Debug)]
pub(crate) struct Compaction {
    pub(crate) version: Arc<Version>,
    /// Levels and their files, in the levels' order; level 0 newest first.
    pub(crate) inputs: Vec<(usize, Vec<Arc<TableFile>>)>,
    pub(crate) output_level: usize,
    /// The files only change their level.
    pub(crate) is_trivial_move: bool,
    pub(crate) reason: String,
    claimed: Vec<Arc<TableFile>>,
}

impl Drop for Compaction {
    fn drop(&mut self) {
        self.claimed.iter().for_each(|file| file.release_from_compaction());
    }
}

impl Compaction {
    fn claim(
        version: &Arc<Version>,
        inputs: Vec<(usize, Vec<Arc<TableFile>>)>,
        output_level: usize,
        reason: String,
    ) -> Option<Compaction> {
        let inputs: Vec<_> = inputs.into_iter().filter(|(_, files)| !files.is_empty()).collect();
        let mut picked = Compaction {
            version: Arc::clone(version),
            inputs,
            output_level,
            is_trivial_move: false,
            reason,
            claimed: Vec::new(),
        };
        for file in picked.inputs.iter().flat_map(|(_, files)| files) {
            if !file.claim_for_compaction() {
                // Dropping gives back what was claimed.
                return None;
            }
            picked.claimed.push(Arc::clone(file));
        }
        (!picked.claimed.is_empty()).then_some(picked)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.inputs.iter().flat_map(|(level, files)| files.iter().map(move |file| (*level, file)))
    }

    pub(crate) fn input_bytes(&self) -> u64 {
        self.files().map(|(_, file)| file.meta.size).sum()
    }

    fn mark_trivial(&mut self, config: &LevelConfig) {
        let order = &self.version.order;
        let [(level, files)] = &self.inputs[..] else { return };
        if *level == self.output_level {
            return;
        }
        let mut sorted: Vec<&Arc<TableFile>> = files.iter().collect();
        sorted.sort_by(|a, b| order.compare_internal(&a.meta.smallest, &b.meta.smallest));
        let is_disjoint = sorted
            .windows(2)
            .all(|pair| order.compare(user_key(&pair[0].meta.largest), user_key(&pair[1].meta.smallest)).is_lt());
        let grandparents: u64 = files
            .iter()
            .flat_map(|file| overlapping(&self.version, self.output_level + 1, file))
            .map(|file| file.meta.size)
            .sum();
        self.is_trivial_move = is_disjoint && grandparents <= config.grandparent_bytes_max();
    }
}

fn overlapping(version: &Version, level: usize, file: &TableFile) -> Vec<Arc<TableFile>> {
    let (begin, end) = (user_key(&file.meta.smallest), user_key(&file.meta.largest));
    version.level(level).map_or_else(Vec::new, |level| in_range(&version.order, level, begin, end))
}

/// The files of a level that overlap `[begin, end]`; of a sorted level also those that share a user key with one of them.
fn in_range(order: &KeyOrder, level: &Level, begin: &[u8], end: &[u8]) -> Vec<Arc<TableFile>> {
    level.overlapping(order, Some(begin), Some(end)).into_iter().collect()
}

/// The smallest and the largest user key of files.
fn range<'a>(order: &KeyOrder, files: impl Iterator<Item = &'a Arc<TableFile>>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut found: Option<(&[u8], &[u8])> = None;
    for file in files {
        let (begin, end) = (user_key(&file.meta.smallest), user_key(&file.meta.largest));
        found = Some(match found {
            None => (begin, end),
            Some((low, high)) => (
                if order.compare(begin, low).is_lt() { begin } else { low },
                if order.compare(end, high).is_gt() { end } else { high },
            ),
        });
    }
    found.map(|(begin, end)| (begin.to_vec(), end.to_vec()))
}

/// Adds files of `levels` until everything that overlaps the inputs is among them.
fn close(
    version: &Version,
    levels: &[usize],
    mut begin: Vec<u8>,
    mut end: Vec<u8>,
) -> Vec<(usize, Vec<Arc<TableFile>>)> {
    let order = &version.order;
    loop {
        let inputs: Vec<(usize, Vec<Arc<TableFile>>)> = levels
            .iter()
            .filter_map(|number| version.level(*number).map(|level| (*number, in_range(order, level, &begin, &end))))
            .collect();
        let Some((low, high)) = range(order, inputs.iter().flat_map(|(_, files)| files)) else { return inputs };
        let grows = order.compare(&low, &begin).is_lt() || order.compare(&high, &end).is_gt();
        if !grows {
            return inputs;
        }
        if order.compare(&low, &begin).is_lt() {
            begin = low;
        }
        if order.compare(&high, &end).is_gt() {
            end = high;
        }
    }
}

/// The next automatic compaction, if one is due and its files are free.
pub(crate) fn pick(version: &Arc<Version>, config: &LevelConfig) -> Option<Compaction> {
    let targets = LevelTargets::of(version, config);
    for (level, score) in scores(version, config, &targets) {
        if score < 1.0 {
            break;
        }
        let picked = match level {
            0 => pick_level0(version, config, &targets, score),
            _ => pick_level(version, config, level, score),
        };
        if picked.is_some() {
            return picked;
        }
    }
    None
}

fn pick_level0(version: &Arc<Version>, config: &LevelConfig, targets: &LevelTargets, score: f64) -> Option<Compaction> {
    let files = version.level(0)?.files();
    if files.iter().any(|file| file.is_being_compacted()) {
        return None;
    }
    let (begin, end) = range(&version.order, files.iter())?;
    // Levels between 0 and the base level are empty, unless the options changed: then they come along.
    let output = targets.base_level;
    let levels: Vec<usize> = (0..=output).collect();
    let inputs = close(version, &levels, begin, end);
    let reason = format!("level 0 has {} files, score {score:.2}", files.len());
    let mut picked = Compaction::claim(version, inputs, output, reason)?;
    picked.mark_trivial(config);
    Some(picked)
}

fn pick_level(version: &Arc<Version>, config: &LevelConfig, level: usize, score: f64) -> Option<Compaction> {
    let output = level + 1;
    let mut candidates: Vec<(u64, &Arc<TableFile>)> = version
        .level(level)?
        .files()
        .iter()
        .filter(|file| !file.is_being_compacted())
        .map(|file| {
            let below: u64 = overlapping(version, output, file).iter().map(|file| file.meta.size).sum();
            (below.saturating_mul(1024) / file.meta.size.max(1), file)
        })
        .collect();
    candidates.sort_by_key(|(cost, _)| *cost);
    for (_, file) in candidates.iter().take(50) {
        let (begin, end) = range(&version.order, std::iter::once(*file))?;
        // Files of this level that share a user key with it, then all that overlaps below.
        let own = close(version, &[level], begin, end);
        let Some((begin, end)) = range(&version.order, own.iter().flat_map(|(_, files)| files)) else { continue };
        let mut below = close(version, &[output], begin, end);
        let mut inputs = own;
        inputs.append(&mut below);
        let bytes: u64 = inputs.iter().flat_map(|(_, files)| files).map(|file| file.meta.size).sum();
        if bytes > config.compaction_bytes_max() && candidates.len() > 1 && inputs[0].1.len() > 1 {
            continue;
        }
        // What overlaps the output files in this level must come along only if it shares a user key: `close` saw to it.
        let reason = format!("level {level} is too large, score {score:.2}");
        if let Some(mut picked) = Compaction::claim(version, inputs, output, reason) {
            picked.mark_trivial(config);
            return Some(picked);
        }
    }
    None
}

/// What a compaction by hand would do.
#[derive(Debug)]
pub(crate) enum Manual {
    /// There is nothing in the range.
    Nothing,
    /// A running job has some of the files: try again when it is done.
    Busy,
    Picked(Compaction),
}

/// Everything in `[begin, end]` of all levels into the deepest level that has something of it, or into the base level.
pub(crate) fn pick_manual(
    version: &Arc<Version>,
    config: &LevelConfig,
    begin: Option<&[u8]>,
    end: Option<&[u8]>,
) -> Manual {
    let order = &version.order;
    let in_level =
        |level: &Arc<Level>| -> Vec<Arc<TableFile>> { level.overlapping(order, begin, end).into_iter().collect() };
    let used: Vec<(usize, Vec<Arc<TableFile>>)> = version
        .levels
        .iter()
        .enumerate()
        .take(config.num_levels)
        .map(|(number, level)| (number, in_level(level)))
        .filter(|(_, files)| !files.is_empty())
        .collect();
    let Some(deepest) = used.last().map(|(number, _)| *number) else { return Manual::Nothing };
    let Some((low, high)) = range(order, used.iter().flat_map(|(_, files)| files)) else { return Manual::Nothing };
    let output = deepest.max(LevelTargets::of(version, config).base_level);
    let levels: Vec<usize> = (0..=output).collect();
    let inputs = close(version, &levels, low, high);
    let count: usize = inputs.iter().map(|(_, files)| files.len()).sum();
    if let [(level, files)] = &used[..]
        && *level == output
        && *level > 0
        && count == files.len()
        && files.iter().all(|file| file.meta.largest_seq.0 == 0)
    {
        // All of it is at the bottom, and nothing in it can be dropped.
        return Manual::Nothing;
    }
    match Compaction::claim(version, inputs, output, "asked for".to_owned()) {
        Some(picked) => Manual::Picked(picked),
        None => Manual::Busy,
    }
}
