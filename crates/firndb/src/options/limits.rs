//! Which values make sense, alone and together: refused by name, or put in order as RocksDB does.
//!
//! What a program says and no order could mend is refused: it is a mistake, and the program is at hand. What a file says
//! is moved to the nearest value that this version takes: its author is not there, and RocksDB took it.
//!
//! Source: RocksDB `SanitizeOptions` in `db/column_family.cc` and `db/db_impl/db_impl_open.cc`, `ValidateOptions` there and
//! in `BlockBasedTableFactory`.

use crate::format::compression::Compression;
use crate::format::limits::BLOCK_SIZE_MAX;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::version::edit::LEVELS_MAX;

use super::{FamilyOptions, Options};

const WRITE_BUFFER_BYTES: RangeInclusive<u64> = 1024..=1 << 40;
const BLOCK_BYTES: RangeInclusive<usize> = 64..=BLOCK_SIZE_MAX;
const RESTART_INTERVALS: RangeInclusive<usize> = 1..=1024;
const FORMAT_VERSIONS: RangeInclusive<u32> = 2..=7;
const BLOOM_BITS: RangeInclusive<f64> = 0.5..=100.0;
const BACKGROUND_JOBS: RangeInclusive<usize> = 1..=1024;
/// Fewer bytes than a file has around its data make no sense.
const FILE_BYTES_MIN: u64 = 1024;
/// More than any disk has, and far from where sums of sizes would not fit.
const BYTES_MAX: u64 = 1 << 60;
/// What RocksDB counts is an `int`.
const COUNT_MAX: usize = i32::MAX as usize;
/// Levels that grow faster are as good as endless.
const MULTIPLIER_MAX: f64 = 1e9;
const OPEN_FILES_MIN: usize = 16;
/// A retry that does not wait at all would keep a processor busy.
const RETRY_MIN: Duration = Duration::from_millis(1);

fn check(is_sound: bool, what: impl Into<String>) -> Result<()> {
    if is_sound { Ok(()) } else { Err(Error::new(ErrorKind::InvalidArgument, what)) }
}

impl FamilyOptions {
    /// Refuses values that make no sense, by name.
    pub(crate) fn validate(&self) -> Result<()> {
        check((1..=LEVELS_MAX).contains(&self.num_levels), format!("num_levels must be 1 to {LEVELS_MAX}"))?;
        check(*WRITE_BUFFER_BYTES.start() <= self.write_buffer_size, "write_buffer_size must be at least 1024 bytes")?;
        check(self.write_buffer_size <= *WRITE_BUFFER_BYTES.end(), "write_buffer_size must be at most 1 TiB")?;
        check(self.max_write_buffer_number >= 2, "max_write_buffer_number must be at least 2")?;
        check(BLOCK_BYTES.contains(&self.block_size), "block_size must be 64 bytes to 64 MiB")?;
        check(BLOCK_BYTES.contains(&self.metadata_block_size), "metadata_block_size must be 64 bytes to 64 MiB")?;
        check(RESTART_INTERVALS.contains(&self.block_restart_interval), "block_restart_interval must be 1 to 1024")?;
        check(self.target_file_size_base >= FILE_BYTES_MIN, "target_file_size_base must be at least 1024 bytes")?;
        check(self.max_bytes_for_level_base >= FILE_BYTES_MIN, "max_bytes_for_level_base must be at least 1024 bytes")?;
        check(
            self.max_bytes_for_level_multiplier >= 1.0 && self.max_bytes_for_level_multiplier.is_finite(),
            "max_bytes_for_level_multiplier must be a number of at least 1",
        )?;
        check(self.level0_file_num_compaction_trigger >= 1, "level0_file_num_compaction_trigger must be at least 1")?;
        let universal = &self.compaction_options_universal;
        check(
            (2..=universal.max_merge_width).contains(&universal.min_merge_width),
            "compaction_options_universal: min_merge_width must be 2 to max_merge_width",
        )?;
        check(FORMAT_VERSIONS.contains(&self.format_version), "format_version must be 2 to 7")?;
        let bits = self.bloom_bits_per_key.unwrap_or(*BLOOM_BITS.start());
        check(BLOOM_BITS.contains(&bits), "bloom_bits_per_key must be 0.5 to 100")?;
        check(self.blob_file_size >= FILE_BYTES_MIN, "blob_file_size must be at least 1024 bytes")?;
        for (part, name) in [
            (self.blob_garbage_collection_age_cutoff, "blob_garbage_collection_age_cutoff"),
            (self.blob_garbage_collection_force_threshold, "blob_garbage_collection_force_threshold"),
        ] {
            check((0.0..=1.0).contains(&part), format!("{name} must be 0 to 1"))?;
        }
        check(
            self.blob_compression_type.is_writable(),
            "blob_compression_type: this build cannot write the chosen codec",
        )?;
        check(self.compression.is_writable(), "compression: this build cannot write the chosen codec")?;
        check(
            self.compression_per_level.iter().all(|codec| codec.is_writable()),
            "compression_per_level: this build cannot write one of the chosen codecs",
        )?;
        check(
            self.bottommost_compression.is_none_or(|codec| codec.is_writable()),
            "bottommost_compression: this build cannot write the chosen codec",
        )
    }

    /// Puts values in order that are sound each and contradict each other, as RocksDB does; says what it changed.
    pub(crate) fn put_in_order(&mut self) -> Vec<String> {
        let before = self.clone();
        for count in [
            &mut self.max_write_buffer_number,
            &mut self.level0_file_num_compaction_trigger,
            &mut self.level0_slowdown_writes_trigger,
            &mut self.level0_stop_writes_trigger,
        ] {
            *count = (*count).min(COUNT_MAX);
        }
        for bytes in [
            &mut self.soft_pending_compaction_bytes_limit,
            &mut self.hard_pending_compaction_bytes_limit,
            &mut self.target_file_size_base,
            &mut self.max_bytes_for_level_base,
            &mut self.compaction_options_fifo.max_table_files_size,
        ] {
            *bytes = (*bytes).min(BYTES_MAX);
        }
        self.max_bytes_for_level_multiplier = self.max_bytes_for_level_multiplier.min(MULTIPLIER_MAX);
        // Writers must not wait for a compaction that is not due yet.
        let trigger = self.level0_file_num_compaction_trigger;
        self.level0_slowdown_writes_trigger = self.level0_slowdown_writes_trigger.max(trigger);
        self.level0_stop_writes_trigger = self.level0_stop_writes_trigger.max(self.level0_slowdown_writes_trigger);
        // 0 is no limit.
        let (soft, hard) = (self.soft_pending_compaction_bytes_limit, self.hard_pending_compaction_bytes_limit);
        if soft == 0 || (hard > 0 && soft > hard) {
            self.soft_pending_compaction_bytes_limit = hard;
        }
        let is_changed = |key: &&super::keys::FamilyKey| (key.show)(self) != (key.show)(&before);
        let say = |key: &super::keys::FamilyKey| {
            format!("{} is {} instead of {}", key.name, (key.show)(self), (key.show)(&before))
        };
        super::keys::FAMILY.iter().filter(is_changed).map(say).collect()
    }

    /// Moves what a file says to what this version takes, and puts it in order.
    pub(super) fn fit(&mut self) {
        self.num_levels = self.num_levels.clamp(1, LEVELS_MAX);
        self.write_buffer_size = self.write_buffer_size.clamp(*WRITE_BUFFER_BYTES.start(), *WRITE_BUFFER_BYTES.end());
        self.max_write_buffer_number = self.max_write_buffer_number.max(2);
        self.block_size = self.block_size.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end());
        self.metadata_block_size = self.metadata_block_size.clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end());
        self.block_restart_interval =
            self.block_restart_interval.clamp(*RESTART_INTERVALS.start(), *RESTART_INTERVALS.end());
        self.target_file_size_base = self.target_file_size_base.max(FILE_BYTES_MIN);
        self.max_bytes_for_level_base = self.max_bytes_for_level_base.max(FILE_BYTES_MIN);
        self.max_bytes_for_level_multiplier = self.max_bytes_for_level_multiplier.max(1.0);
        self.level0_file_num_compaction_trigger = self.level0_file_num_compaction_trigger.max(1);
        let universal = &mut self.compaction_options_universal;
        universal.min_merge_width = universal.min_merge_width.max(2);
        universal.max_merge_width = universal.max_merge_width.max(universal.min_merge_width);
        self.blob_file_size = self.blob_file_size.max(FILE_BYTES_MIN);
        for part in [&mut self.blob_garbage_collection_age_cutoff, &mut self.blob_garbage_collection_force_threshold] {
            *part = part.clamp(0.0, 1.0);
        }
        self.format_version = self.format_version.clamp(*FORMAT_VERSIONS.start(), *FORMAT_VERSIONS.end());
        self.put_in_order();
    }
}

impl Options {
    /// Refuses values that make no sense, by name.
    ///
    /// # Errors
    /// `InvalidArgument` names the option and its range.
    pub fn validate(&self) -> Result<()> {
        self.family.validate()?;
        check(
            [Compression::None, Compression::Zstd].contains(&self.wal_compression)
                && self.wal_compression.is_writable(),
            "wal_compression must be none, or zstd in a build that has it",
        )?;
        check(BACKGROUND_JOBS.contains(&self.max_background_jobs), "max_background_jobs must be 1 to 1024")?;
        check(self.max_open_files >= OPEN_FILES_MIN, "max_open_files must be at least 16")?;
        let is_named = |name: &String| !name.is_empty();
        check(
            self.create_column_families.iter().all(is_named),
            "create_column_families: a column family needs a name",
        )?;
        for (index, descriptor) in self.families.iter().enumerate() {
            let name = descriptor.name();
            check(!name.is_empty(), "families: a column family needs a name")?;
            let is_first = !self.families[..index].iter().any(|other| other.name() == name);
            check(is_first, format!("families: there are two descriptors of {name:?}"))?;
            if let Some(options) = descriptor.said() {
                let in_family =
                    |error: Error| error.because(ErrorKind::InvalidArgument, format!("column family {name:?}"));
                options.validate().map_err(in_family)?;
            }
        }
        Ok(())
    }

    /// Moves what a file says to what this version takes.
    pub(super) fn fit(&mut self) {
        self.max_background_jobs = self.max_background_jobs.clamp(*BACKGROUND_JOBS.start(), *BACKGROUND_JOBS.end());
        self.max_open_files = self.max_open_files.max(OPEN_FILES_MIN);
    }

    /// As [`FamilyOptions::put_in_order`], for what is of the whole database.
    pub(super) fn put_in_order(&mut self) {
        self.max_open_files = self.max_open_files.min(COUNT_MAX);
        self.background_retry = self.background_retry.max(RETRY_MIN);
        self.max_total_wal_size = self.max_total_wal_size.min(BYTES_MAX);
        self.db_write_buffer_size = self.db_write_buffer_size.min(BYTES_MAX);
        self.max_manifest_file_size = self.max_manifest_file_size.min(BYTES_MAX);
    }
}
