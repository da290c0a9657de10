//! How heavy files are: their bytes, and what their tombstones promise to free below.
//!
//! Source: RocksDB `VersionStorageInfo::ComputeCompensatedSizes`.

use crate::version::{TableFile, Version};

/// What a tombstone beyond half of the entries weighs, in values of the mean size.
const TOMBSTONE_WEIGHT: u64 = 2;

/// What entries of a version take on disk in the mean.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weights {
    value_bytes: u64,
    entry_bytes: u64,
}

impl Weights {
    pub(super) fn of(version: &Version) -> Weights {
        let (mut entries, mut values, mut key_bytes, mut value_bytes, mut disk_bytes) = (0u64, 0u64, 0u64, 0u64, 0u64);
        for (file, counts) in version.files().filter_map(|(_, file)| Some((file, file.counts()?))) {
            entries = entries.saturating_add(counts.entries);
            values = values.saturating_add(counts.entries.saturating_sub(counts.deletions));
            key_bytes = key_bytes.saturating_add(counts.key_bytes);
            value_bytes = value_bytes.saturating_add(counts.value_bytes);
            disk_bytes = disk_bytes.saturating_add(file.meta.size);
        }
        let on_disk = disk_bytes as f64 / key_bytes.saturating_add(value_bytes).max(1) as f64;
        let mean = |bytes: u64, count: u64| bytes as f64 / count.max(1) as f64 * on_disk;
        let value_bytes = mean(value_bytes, values);
        Weights { value_bytes: value_bytes as u64, entry_bytes: (value_bytes + mean(key_bytes, entries)) as u64 }
    }

    /// The file's bytes, and more if it consists of tombstones mostly.
    pub(super) fn compensated(&self, file: &TableFile) -> u64 {
        let Some(counts) = file.counts() else { return file.meta.size };
        let beyond_half = counts.deletions.saturating_mul(2).saturating_sub(counts.entries);
        let bytes = beyond_half.saturating_mul(self.value_bytes).saturating_mul(TOMBSTONE_WEIGHT);
        file.meta.size.saturating_add(bytes).saturating_add(file.meta.range_deleted_bytes)
    }

    /// Bytes, about, that can go if the file's tombstones meet what they hide: that, themselves, and older versions.
    pub(super) fn garbage(&self, file: &TableFile) -> u64 {
        let Some(counts) = file.counts() else { return 0 };
        let hidden = counts.deletions.saturating_mul(self.entry_bytes);
        let own = counts.deletions.saturating_add(counts.older_versions.unwrap_or(0));
        let own = file.meta.size as f64 * own as f64 / counts.entries.max(1) as f64;
        hidden.saturating_add(own as u64).saturating_add(file.meta.range_deleted_bytes)
    }
}
