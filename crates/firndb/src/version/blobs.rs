//! The blob files of a version: which there are, and how much of each nothing refers to any more.
//!
//! Flow: MANIFEST's additions and garbage -> **[`BlobFiles`]**, of [`super::manifest`] or of the version before
//! ([`BlobFiles::after`]) -> `read`, which fetches what a table refers to; `compaction`, which tells of more garbage.
//!
//! Invariants
//! 1. A table names the oldest blob file that it refers to, and may refer to all after that one. So a version has every blob
//!    file from the oldest on that any of its tables names, but for those that are garbage as a whole and that no table names.
//! 2. Nothing here does I/O: what may be decided from MANIFEST alone is decided.
//!
//! Source: RocksDB `db/version_builder.cc`.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::FileNumber;
use crate::sync::Arc;

use super::edit::{BlobGarbage, BlobMeta, VersionEdit};

/// A blob file, shared by all versions that name it.
pub(crate) struct BlobFile {
    pub(crate) meta: BlobMeta,
}

impl fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobFile({}, {} blobs)", self.meta.number, self.meta.count)
    }
}

/// A blob file as one version has it.
#[derive(Debug, Clone)]
pub(crate) struct LiveBlob {
    pub(crate) file: Arc<BlobFile>,
    pub(crate) garbage: BlobGarbage,
}

/// How the oldest blob files are emptied by compactions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BlobCollection {
    /// Which part of all files is the oldest.
    pub(crate) age_cutoff: f64,
    /// From which part of garbage on compactions are made for it.
    pub(crate) force_threshold: f64,
}

/// The blob files of a version, by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlobFiles {
    all: BTreeMap<FileNumber, LiveBlob>,
}

impl BlobFiles {
    /// Those of `all` that tables naming `oldest_blobs` keep.
    ///
    /// # Errors
    /// `Corruption` if a table names a file that is not there.
    pub(crate) fn kept(
        all: impl IntoIterator<Item = (BlobMeta, BlobGarbage)>,
        oldest_blobs: impl Iterator<Item = FileNumber>,
    ) -> Result<BlobFiles> {
        let live = |(meta, garbage): (BlobMeta, BlobGarbage)| {
            (meta.number, LiveBlob { file: Arc::new(BlobFile { meta }), garbage })
        };
        BlobFiles { all: all.into_iter().map(live).collect() }.keep(oldest_blobs)
    }

    /// Those of the version after `edit`, whose tables name `oldest_blobs`.
    ///
    /// # Errors
    /// `Corruption` if the edit does not fit.
    pub(crate) fn after(
        &self,
        edit: &VersionEdit,
        oldest_blobs: impl Iterator<Item = FileNumber>,
    ) -> Result<BlobFiles> {
        let wrong = |detail: String| Err(Error::corrupt(CorruptionKind::Malformed, detail));
        let mut next = self.clone();
        for meta in &edit.blob_additions {
            let file = Arc::new(BlobFile { meta: meta.clone() });
            let live = LiveBlob { file, garbage: BlobGarbage::default() };
            if next.all.insert(meta.number, live).is_some() {
                return wrong(format!("an edit adds blob file {}, but the file is there already", meta.number));
            }
        }
        for (number, garbage) in &edit.blob_garbage {
            let Some(blob) = next.all.get_mut(number) else {
                return wrong(format!("an edit tells of garbage in blob file {number}, which is not there"));
            };
            blob.garbage = blob.garbage.and(*garbage);
            let meta = &blob.file.meta;
            if blob.garbage.count > meta.count || blob.garbage.bytes > meta.bytes {
                return wrong(format!("blob file {number} would have more garbage than blobs"));
            }
        }
        next.keep(oldest_blobs)
    }

    fn keep(mut self, oldest_blobs: impl Iterator<Item = FileNumber>) -> Result<BlobFiles> {
        let mut named: Vec<FileNumber> = oldest_blobs.filter(|number| number.0 != 0).collect();
        named.sort_unstable();
        named.dedup();
        if let Some(missing) = named.iter().find(|number| !self.all.contains_key(number)) {
            let detail = format!("a table refers to blob file {missing}, which is not there");
            return Err(Error::corrupt(CorruptionKind::Malformed, detail));
        }
        let Some(oldest) = named.first() else { return Ok(BlobFiles::default()) };
        self.all = self.all.split_off(oldest);
        let is_garbage = |blob: &LiveBlob| blob.garbage.count >= blob.file.meta.count;
        self.all.retain(|number, blob| !is_garbage(blob) || named.binary_search(number).is_ok());
        Ok(self)
    }

    /// How many files are the oldest.
    fn count_of_oldest(&self, collection: BlobCollection) -> usize {
        // Source: RocksDB `CompactionIterator::ComputeBlobGarbageCollectionCutoffFileNumber`.
        (collection.age_cutoff * self.all.len() as f64) as usize
    }

    /// Values in files before this one are moved to new ones by compactions that meet them.
    pub(crate) fn first_kept(&self, collection: BlobCollection) -> FileNumber {
        let kept = self.all.keys().nth(self.count_of_oldest(collection));
        kept.copied().unwrap_or(FileNumber(u64::MAX))
    }

    /// The oldest file, if it and those that only its tables keep have so much garbage that compactions should empty them.
    /// `is_named` says whether a table names a file as the oldest that it refers to.
    ///
    /// Source: RocksDB `VersionStorageInfo::ComputeFilesMarkedForForcedBlobGC`.
    pub(crate) fn to_be_emptied(
        &self,
        collection: BlobCollection,
        is_named: impl Fn(FileNumber) -> bool,
    ) -> Option<FileNumber> {
        let oldest = self.count_of_oldest(collection);
        if oldest == 0 || collection.force_threshold >= 1.0 {
            return None;
        }
        let mut batch = self.all.iter().enumerate().take_while(|(at, (number, _))| *at == 0 || !is_named(**number));
        let (mut count, mut garbage, mut bytes) = (0, 0u64, 0u64);
        for (_, (_, blob)) in batch.by_ref() {
            count += 1;
            garbage = garbage.saturating_add(blob.garbage.bytes);
            bytes = bytes.saturating_add(blob.file.meta.bytes);
        }
        let is_much = garbage as f64 >= collection.force_threshold * bytes as f64 && garbage > 0;
        let first = self.all.keys().next().copied()?;
        (count <= oldest && is_much).then_some(first)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &LiveBlob> {
        self.all.values()
    }

    pub(crate) fn contains(&self, number: FileNumber) -> bool {
        self.all.contains_key(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(number: u64, count: u64) -> BlobMeta {
        BlobMeta { number: FileNumber(number), count, bytes: count * 100, ..BlobMeta::default() }
    }

    fn garbage(count: u64) -> BlobGarbage {
        BlobGarbage { count, bytes: count * 100 }
    }

    fn numbers(files: &BlobFiles) -> Vec<u64> {
        files.iter().map(|blob| blob.file.meta.number.0).collect()
    }

    fn named(numbers: &[u64]) -> impl Iterator<Item = FileNumber> + use<> {
        let numbers: Vec<FileNumber> = numbers.iter().copied().map(FileNumber).collect();
        numbers.into_iter()
    }

    #[test]
    fn a_version_keeps_what_its_tables_may_refer_to() {
        let all =
            || [(meta(3, 5), garbage(0)), (meta(5, 5), garbage(5)), (meta(7, 5), garbage(4)), (meta(9, 2), garbage(2))];
        for (tables, kept) in [(&[0, 0][..], &[][..]), (&[3, 0], &[3, 7]), (&[5], &[5, 7]), (&[7, 9], &[7, 9])] {
            let files = BlobFiles::kept(all(), named(tables)).expect("they are there");
            assert_eq!(numbers(&files), kept, "{tables:?}");
        }
        assert!(BlobFiles::kept(all(), named(&[4])).expect_err("missing").corruption().is_some());
    }

    #[test]
    fn edits_add_files_and_garbage_until_nothing_is_left() {
        let add = |blob_additions| VersionEdit { blob_additions, ..VersionEdit::default() };
        let drop_ = |number, count| VersionEdit {
            blob_garbage: vec![(FileNumber(number), garbage(count))],
            ..VersionEdit::default()
        };
        let first = BlobFiles::default().after(&add(vec![meta(3, 5)]), named(&[3])).expect("fits");
        let second = first.after(&add(vec![meta(4, 2)]), named(&[3, 4])).expect("fits");
        assert_eq!(numbers(&second), [3, 4]);
        let third = second.after(&drop_(3, 4), named(&[3, 4])).expect("fits");
        assert_eq!(third.iter().next().map(|blob| blob.garbage), Some(garbage(4)));
        assert_eq!(numbers(&third.after(&drop_(3, 1), named(&[4])).expect("fits")), [4]);
        assert_eq!(numbers(&second), [3, 4], "versions do not change");
        for wrong in [add(vec![meta(3, 1)]), drop_(3, 2), drop_(8, 1)] {
            assert!(third.after(&wrong, named(&[3])).expect_err("does not fit").corruption().is_some());
        }
    }
}
