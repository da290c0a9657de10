//! How large each level should be.
//!
//! Level sizes follow RocksDB's dynamic rule by default: the last level sets the scale, each level above is smaller by
//! the multiplier, and levels that would be smaller than a fraction of the base are left out.
//!
//! Source: RocksDB `VersionStorageInfo::CalculateBaseBytes`, wiki "Leveled Compaction".

use crate::compaction::styles::CompactionPri;
use crate::version::Version;
use crate::version::blobs::BlobCollection;

/// The limits of leveled compaction.
#[derive(Debug, Clone)]
pub(crate) struct LevelConfig {
    pub(crate) num_levels: usize,
    pub(crate) level0_trigger: usize,
    pub(crate) base_bytes: u64,
    pub(crate) multiplier: f64,
    pub(crate) target_file_size: u64,
    pub(crate) dynamic_level_bytes: bool,
    /// Which file of a level goes first.
    pub(crate) pri: CompactionPri,
    /// Seconds after which data goes down to the last level; 0: it may stay.
    pub(crate) ttl_s: u64,
    /// Seconds after which a file is written anew; 0: never.
    pub(crate) period_s: u64,
    /// How the oldest blob files are emptied; `None`: they are not.
    pub(crate) blobs: Option<BlobCollection>,
}

impl LevelConfig {
    /// Bytes of the level after the next that one output file may overlap.
    pub(crate) fn grandparent_bytes_max(&self) -> u64 {
        self.target_file_size.saturating_mul(10)
    }

    /// Bytes of all inputs of one automatic compaction, and of a step of one by hand.
    pub(super) fn compaction_bytes_max(&self) -> u64 {
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
