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
        Ok(Version { id: self.id + 1, order: self.order.clone(), levels })
    }

    /// A version made of files and their levels. Where a file lacks its epoch, as in databases of RocksDB 7.8 and older,
    /// all epochs are derived anew, so that level 0 keeps the order that such a writer gave it.
    pub(crate) fn from_files(order: KeyOrder, levels: usize, mut files: Vec<(u32, FileMeta)>) -> Result<Version> {
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
        let levels =
            levels.map(|(number, files)| Level::new(number, &order, files).map(Arc::new)).collect::<Result<_>>()?;
        Ok(Version { id: 1, order, levels })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::key::internal_key;

    fn meta(number: u64, key: &[u8], seq: u64) -> FileMeta {
        FileMeta {
            number: FileNumber(number),
            size: 10,
            smallest: internal_key(key, SequenceNumber(seq), 1),
            largest: internal_key(key, SequenceNumber(seq), 1),
            smallest_seq: SequenceNumber(seq),
            largest_seq: SequenceNumber(seq),
            ..FileMeta::default()
        }
    }

    fn edit(deleted: &[(u32, u64)], new: Vec<(u32, FileMeta)>) -> VersionEdit {
        let deleted_files = deleted.iter().map(|(level, number)| (*level, FileNumber(*number))).collect();
        VersionEdit { deleted_files, new_files: new, ..VersionEdit::default() }
    }

    fn base() -> Version {
        let files = vec![(0, meta(5, b"a", 5)), (1, meta(3, b"a", 3)), (1, meta(4, b"b", 4)), (2, meta(1, b"a", 1))];
        Version::from_files(KeyOrder::Bytewise, 7, files).expect("sound")
    }

    #[test]
    fn only_touched_levels_are_built_anew() {
        let before = base();
        let after = before.apply(&edit(&[(0, 5), (1, 3)], vec![(1, meta(6, b"a", 5))])).expect("fits");
        assert_eq!((after.file_count(), after.bytes(), after.id), (3, 30, before.id + 1));
        assert!(Arc::ptr_eq(&before.levels[2], &after.levels[2]));
        assert!(before.contains(FileNumber(5)) && !after.contains(FileNumber(5)));
        assert_eq!(after.level_of(FileNumber(6)), Some(1));
        // Deeper than the options say: the version grows.
        let deep = after.apply(&edit(&[], vec![(9, meta(7, b"x", 1))])).expect("fits");
        assert_eq!((deep.levels.len(), deep.highest_used_level()), (10, Some(9)));
    }

    #[test]
    fn every_edit_that_does_not_fit_is_refused_by_the_files_number() {
        let version = base();
        let mut bad_key = meta(9, b"x", 9);
        bad_key.smallest = vec![0xEE; 9];
        for (edit, part) in [
            (edit(&[(1, 5)], vec![]), "deletes file 000005 from level 1"),
            (edit(&[(60, 5)], vec![]), "deletes file 000005 from level 60"),
            (edit(&[(0, 5), (0, 5)], vec![]), "deletes file 000005"),
            (edit(&[], vec![(3, meta(4, b"z", 1))]), "adds file 000004 to level 3"),
            (edit(&[], vec![(3, meta(9, b"x", 1)), (4, meta(9, b"x", 1))]), "adds file 000009 twice"),
            (edit(&[], vec![(1, meta(9, b"a", 3))]), "level 1"),
            (edit(&[], vec![(3, bad_key)]), "file 000009"),
            (edit(&[], vec![(3, meta(0, b"x", 1))]), "0 is no file number"),
        ] {
            let error = version.apply(&edit).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn missing_epochs_are_derived_from_the_deepest_level_up() {
        let version = base();
        let epochs: Vec<(u64, u64)> = version.files().map(|(_, file)| (file.number().0, file.meta.epoch)).collect();
        assert_eq!(epochs, [(5, 3), (3, 2), (4, 2), (1, 1)]);
    }
}
