//! From a version and an edit to the next version: a pure function, with every check that can be made without I/O.
//!
//! Only the levels that an edit touches are built anew; the others are shared. A file that an edit moves to another level
//! keeps its [`TableFile`], and with it its open reader.

use crate::error::{CorruptionKind, Error, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{FileNumber, ParsedKey, SequenceNumber};
use crate::sync::Arc;

use super::edit::{FileMeta, VersionEdit};
use super::{Level, TableFile, Version};

impl Version {
    /// The version after `edit`. Its deletions come first, so that a file may move between levels.
    ///
    /// # Errors
    /// `Corruption` names the file and what is wrong with it; the version is as it was.
    pub(crate) fn apply(&self, edit: &VersionEdit) -> Result<Version> {
        let mut moved: Vec<Arc<TableFile>> = Vec::new();
        let mut touched: Vec<Option<Vec<Arc<TableFile>>>> = vec![None; self.levels.len()];
        for (level, number) in &edit.deleted_files {
            let files = self
                .levels
                .get(*level as usize)
                .map(|known| touched[*level as usize].get_or_insert_with(|| known.files().to_vec()));
            let at = files.as_ref().and_then(|files| files.iter().position(|file| file.number() == *number));
            match (files, at) {
                (Some(files), Some(at)) => moved.push(files.remove(at)),
                _ => return Err(no_such_file(*level, *number)),
            }
        }
        for (level, meta) in &edit.new_files {
            check_meta(meta)?;
            let old = moved.iter().find(|file| file.number() == meta.number);
            if old.is_none() && self.contains(meta.number) {
                return Err(added_twice(*level, meta.number));
            }
            let file = match old {
                Some(old) if old.meta == *meta => Arc::clone(old),
                _ => TableFile::new(meta.clone()),
            };
            let level = *level as usize;
            if level >= touched.len() {
                touched.resize_with(level + 1, || None);
            }
            touched[level]
                .get_or_insert_with(|| self.levels.get(level).map_or_else(Vec::new, |known| known.files().to_vec()))
                .push(file);
        }
        check_unique(edit)?;
        let mut levels = Vec::with_capacity(touched.len());
        for (number, files) in touched.into_iter().enumerate() {
            levels.push(match (files, self.levels.get(number)) {
                (Some(files), _) => Arc::new(Level::new(number, &self.order, files)?),
                (None, Some(same)) => Arc::clone(same),
                (None, None) => Arc::new(Level::empty(number)),
            });
        }
        let next = Version::of_levels(self.id + 1, self.order.clone(), levels);
        if self.blobs.is_empty() && edit.blob_additions.is_empty() && edit.blob_garbage.is_empty() {
            return Ok(next);
        }
        let blobs = self.blobs.after(edit, oldest_blobs(&next))?;
        Ok(next.with_blobs(Arc::new(blobs)))
    }

    /// A version made of files and their levels. Where a file lacks its epoch, as in databases of RocksDB 7.8 and older,
    /// all epochs are derived anew, so that level 0 keeps the order that such a writer gave it.
    pub(crate) fn from_files(order: KeyOrder, levels: usize, files: Vec<(u32, FileMeta)>) -> Result<Version> {
        Version::assemble(order, true, levels, files)
    }

    /// The same where the order of keys is not known: deeper levels have the order of their file numbers, and nothing is
    /// asked of bounds.
    pub(crate) fn from_files_in_any_order(
        order: KeyOrder,
        levels: usize,
        files: Vec<(u32, FileMeta)>,
    ) -> Result<Version> {
        Version::assemble(order, false, levels, files)
    }

    fn assemble(
        order: KeyOrder,
        is_order_known: bool,
        levels: usize,
        mut files: Vec<(u32, FileMeta)>,
    ) -> Result<Version> {
        for (_, meta) in &files {
            check_meta(meta)?;
        }
        if files.iter().any(|(_, meta)| meta.epoch == 0) {
            derive_epochs(&mut files);
        }
        let deepest = files.iter().map(|(level, _)| *level as usize + 1).max().unwrap_or(0);
        let mut lists: Vec<Vec<Arc<TableFile>>> = vec![Vec::new(); deepest.max(levels).max(1)];
        for (level, meta) in files {
            lists[level as usize].push(TableFile::new(meta));
        }
        let levels = lists.into_iter().enumerate();
        let level = |(number, files)| match is_order_known {
            true => Level::new(number, &order, files).map(Arc::new),
            false => Ok(Arc::new(Level::in_any_order(number, files))),
        };
        let levels = levels.map(level).collect::<Result<_>>()?;
        Ok(Version::of_levels(1, order, levels))
    }
}

/// The oldest blob files that the tables of a version name.
pub(super) fn oldest_blobs(version: &Version) -> impl Iterator<Item = FileNumber> {
    version.files().map(|(_, file)| file.meta.oldest_blob)
}

/// One epoch per level from the deepest up to level 1, then one per file of level 0, oldest first.
fn derive_epochs(files: &mut [(u32, FileMeta)]) {
    files.sort_by(|(a_level, a), (b_level, b)| {
        let age = |meta: &FileMeta| (meta.largest_seq, meta.smallest_seq, meta.number);
        b_level.cmp(a_level).then_with(|| age(a).cmp(&age(b)))
    });
    let mut epoch = 0;
    let mut last_level = None;
    for (level, meta) in files {
        if *level == 0 || last_level != Some(*level) {
            epoch += 1;
        }
        last_level = Some(*level);
        meta.epoch = epoch;
    }
}

fn check_meta(meta: &FileMeta) -> Result<()> {
    let wrong = |detail: String| Error::corrupt(CorruptionKind::Malformed, format!("file {}: {detail}", meta.number));
    if meta.number == FileNumber(0) {
        return Err(wrong("0 is no file number".to_owned()));
    }
    for key in [&meta.smallest, &meta.largest] {
        ParsedKey::parse(key).map_err(|error| wrong(format!("its bounds: {error}")))?;
    }
    match meta.largest_seq > SequenceNumber::MAX {
        true => Err(wrong(format!("its largest sequence number is {}, beyond 56 bits", meta.largest_seq))),
        false => Ok(()),
    }
}

/// The same number on two levels is seen here; twice on one level, by the level.
fn check_unique(edit: &VersionEdit) -> Result<()> {
    let mut numbers: Vec<FileNumber> = edit.new_files.iter().map(|(_, meta)| meta.number).collect();
    numbers.sort_unstable();
    match numbers.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::corrupt(CorruptionKind::Malformed, format!("an edit adds file {} twice", pair[0]))),
        None => Ok(()),
    }
}

#[cold]
pub(super) fn no_such_file(level: u32, number: FileNumber) -> Error {
    Error::corrupt(
        CorruptionKind::Malformed,
        format!("an edit deletes file {number} from level {level}, where it is not"),
    )
}

#[cold]
pub(super) fn added_twice(level: u32, number: FileNumber) -> Error {
    Error::corrupt(
        CorruptionKind::Malformed,
        format!("an edit adds file {number} to level {level}, but the file is there already"),
    )
}
