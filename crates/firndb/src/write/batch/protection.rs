//! Checksums of a batch's entries, from the moment at which they are added until the batch goes to the log.
//!
//! Flow: [`super::WriteBatch`] notes a checksum of what the caller gave, not of what was copied -> **[`Protection`]** -> the
//! write queue has it verified before the batch joins a group.
//!
//! Source: RocksDB wiki "Per Key-Value Checksum".

use crate::error::{CorruptionKind, Error, Result};
use crate::format::checksum::xxh3_seeded;

use super::record::BatchOperation;

/// One checksum for each operation that counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Protection(Vec<u64>);

fn checksum(entry: &BatchOperation<'_>) -> u64 {
    let of_key = xxh3_seeded(entry.kind as u64 | (u64::from(entry.family.0) << 8), entry.key);
    // Rotated, so that bytes which change sides between key and value are noticed whatever their hashes.
    xxh3_seeded(of_key.rotate_left(17), entry.value)
}

impl Protection {
    pub(super) fn add(&mut self, entry: &BatchOperation<'_>) {
        self.0.push(checksum(entry));
    }

    /// Forgets all entries but the first `count`.
    pub(super) fn truncate(&mut self, count: u32) {
        self.0.truncate(count as usize);
    }

    /// Adds those of another batch.
    pub(super) fn append(&mut self, other: &Protection) {
        self.0.extend_from_slice(&other.0);
    }

    /// # Errors
    /// `Corruption` naming the first entry that is not what was added.
    #[cold]
    pub(super) fn verify<'a>(&self, entries: impl Iterator<Item = Result<BatchOperation<'a>>>) -> Result<()> {
        let mut count = 0;
        for entry in entries {
            let entry = entry?;
            let computed = checksum(&entry);
            let Some(stored) = self.0.get(count).copied() else { return Err(self.miscounted(count + 1)) };
            if stored != computed {
                return Err(mismatch(count, &entry, stored, computed));
            }
            count += 1;
        }
        if count == self.0.len() { Ok(()) } else { Err(self.miscounted(count)) }
    }

    fn miscounted(&self, found: usize) -> Error {
        let what = format!("write batch in memory: {} entries were added, {found} are there", self.0.len());
        Error::corrupt(CorruptionKind::CountMismatch, what)
    }
}

fn mismatch(place: usize, entry: &BatchOperation<'_>, stored: u64, computed: u64) -> Error {
    let shown = &entry.key[..entry.key.len().min(64)];
    let what = format!(
        "write batch in memory: entry {place} ({:?} of key \"{}\" in column family {}) is not what was added: checksum \
         {stored:#018x}, computed {computed:#018x}",
        entry.kind,
        shown.escape_ascii(),
        entry.family.0,
    );
    Error::corrupt(CorruptionKind::Checksum, what)
}
