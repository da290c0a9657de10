//! What the owners below are handed of a family's options: small configs, each with what one of them needs.

use crate::blob::builder::BlobConfig;
use crate::compaction::picker::{FifoConfig, LevelConfig, LevelTargets, Picker, UniversalConfig};
use crate::format::compression::Compression;
use crate::table::builder::TableConfig;
use crate::version::Version;
use crate::version::blobs::BlobCollection;
use crate::version::new_blobs::OutputConfig;
use crate::write::StallConfig;

use super::{CompactionStyle, FamilyOptions, IndexType};

impl FamilyOptions {
    pub(crate) fn compacts_automatically(&self) -> bool {
        !self.disable_auto_compactions && self.compaction_style != CompactionStyle::None
    }

    /// How the family is compacted.
    pub(crate) fn picker(&self) -> Picker {
        match self.compaction_style {
            CompactionStyle::Level => Picker::Leveled(self.levels()),
            CompactionStyle::Universal => Picker::Universal(UniversalConfig {
                levels: self.levels(),
                options: self.compaction_options_universal.clone(),
                slowdown: self.level0_slowdown_writes_trigger,
                // RocksDB's rule: the stricter of the two.
                period_s: [self.ttl, self.periodic_compaction_seconds]
                    .into_iter()
                    .filter(|seconds| *seconds > 0)
                    .min()
                    .unwrap_or(0),
            }),
            CompactionStyle::Fifo => Picker::Fifo(FifoConfig {
                levels: self.levels(),
                options: self.compaction_options_fifo.clone(),
                ttl_s: self.ttl,
                write_buffer_bytes: self.write_buffer_size,
            }),
            CompactionStyle::None => Picker::ByHand(self.levels()),
        }
    }

    pub(crate) fn levels(&self) -> LevelConfig {
        LevelConfig {
            num_levels: match self.compaction_style {
                // All of a FIFO family is in level 0: RocksDB's own compactions of it count on that.
                CompactionStyle::Fifo => 1,
                // As in RocksDB: there must be a level to fill.
                CompactionStyle::Level => (self.num_levels as usize).max(2),
                _ => self.num_levels as usize,
            },
            level0_trigger: self.level0_file_num_compaction_trigger,
            base_bytes: self.max_bytes_for_level_base,
            multiplier: self.max_bytes_for_level_multiplier,
            target_file_size: self.target_file_size_base,
            dynamic_level_bytes: self.level_compaction_dynamic_level_bytes
                && self.compaction_style == CompactionStyle::Level,
            pri: self.compaction_pri,
            ttl_s: self.ttl,
            period_s: self.periodic_compaction_seconds,
            blobs: self.enable_blob_garbage_collection.then_some(BlobCollection {
                age_cutoff: self.blob_garbage_collection_age_cutoff,
                force_threshold: self.blob_garbage_collection_force_threshold,
            }),
        }
    }

    /// Which values jobs that write tables of `level` put into blob files.
    pub(crate) fn blobs(&self, level: usize) -> Option<BlobConfig> {
        let is_wanted = self.enable_blob_files && level >= self.blob_file_starting_level as usize;
        is_wanted.then_some(BlobConfig {
            min_bytes: self.min_blob_size,
            file_bytes: self.blob_file_size,
            compression: self.blob_compression_type,
        })
    }

    /// How flushes write.
    pub(crate) fn flush_output(&self) -> OutputConfig {
        OutputConfig { table: self.table(), blobs: self.blobs(0) }
    }

    /// How flushes write tables. Source: RocksDB `GetCompressionFlush`.
    pub(crate) fn table(&self) -> TableConfig {
        let is_universal = self.compaction_style == CompactionStyle::Universal;
        if is_universal && self.compaction_options_universal.compression_size_percent >= 0 {
            return TableConfig { compression: Compression::None, ..self.table_of_level_0() };
        }
        self.table_of_level_0()
    }

    fn table_of_level_0(&self) -> TableConfig {
        TableConfig {
            block_size: self.block_size,
            restart_interval: self.block_restart_interval,
            compression: self.compression_per_level.first().copied().unwrap_or(self.compression),
            bloom_bits_per_key: self.bloom_bits_per_key,
            // Flushes are above level 0.
            is_ribbon: self.bloom_before_level.is_some_and(|level| level <= -1),
            whole_key_filtering: self.whole_key_filtering,
            prefixes: self.prefix_extractor,
            index_part_bytes: (self.index_type == IndexType::TwoLevel).then_some(self.metadata_block_size),
            partition_filters: self.partition_filters,
            format_version: self.format_version,
            is_dated_by_newest: self.compaction_style == CompactionStyle::Fifo,
            merge_operator: self.merge_operator.as_ref().map_or_else(String::new, |rule| rule.name().to_owned()),
            ..TableConfig::default()
        }
    }

    /// How a compaction of `version` writes tables of `level`. Source: RocksDB `GetCompressionType`.
    pub(crate) fn table_at(&self, version: &Version, level: usize) -> TableConfig {
        let last_used = version.files().map(|(level, _)| level).max().unwrap_or(0);
        let compression = match (self.bottommost_compression, self.compression_per_level.last()) {
            (Some(codec), _) if level >= last_used => codec,
            (_, None) => self.compression,
            (_, Some(last)) => {
                let base_level = LevelTargets::of(version, &self.levels()).base_level;
                let at = if level == 0 { 0 } else { (level + 1).saturating_sub(base_level) };
                self.compression_per_level.get(at).copied().unwrap_or(*last)
            }
        };
        let is_ribbon = self.bloom_before_level.is_some_and(|from| i64::from(from) <= level as i64);
        TableConfig { compression, is_ribbon, ..self.table_of_level_0() }
    }

    pub(crate) fn stall(&self) -> StallConfig {
        StallConfig {
            max_write_buffer_number: self.max_write_buffer_number,
            level0_slowdown: self.level0_slowdown_writes_trigger,
            level0_stop: self.level0_stop_writes_trigger,
            soft_pending_bytes: self.soft_pending_compaction_bytes_limit,
            hard_pending_bytes: self.hard_pending_compaction_bytes_limit,
            compacts_automatically: self.compacts_automatically(),
        }
    }
}
