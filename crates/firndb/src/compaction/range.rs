//! Ranges of user keys: what a file spans, what a job may write.

use std::cmp::Ordering;

use crate::format::comparator::KeyOrder;
use crate::format::key::{is_exclusive_end, user_key};
use crate::sync::Arc;
use crate::version::{TableFile, Version};

/// User keys from `begin` to `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) begin: Vec<u8>,
    pub(crate) end: Vec<u8>,
    /// `end` is where a range tombstone ends, and not in the range.
    pub(crate) is_end_excluded: bool,
}

impl KeyRange {
    pub(crate) fn of_file(file: &TableFile) -> KeyRange {
        KeyRange {
            begin: user_key(&file.meta.smallest).to_vec(),
            end: user_key(&file.meta.largest).to_vec(),
            is_end_excluded: is_exclusive_end(&file.meta.largest),
        }
    }

    /// The smallest range that holds all of `files`; `None` if there are none.
    pub(crate) fn of<'a>(order: &KeyOrder, files: impl IntoIterator<Item = &'a Arc<TableFile>>) -> Option<KeyRange> {
        let mut found: Option<KeyRange> = None;
        for file in files {
            match &mut found {
                None => found = Some(KeyRange::of_file(file)),
                Some(range) => range.extend(order, file),
            }
        }
        found
    }

    pub(crate) fn overlaps(&self, order: &KeyOrder, other: &KeyRange) -> bool {
        !other.ends_before(order, &self.begin) && !self.ends_before(order, &other.begin)
    }

    pub(crate) fn overlaps_file(&self, order: &KeyOrder, file: &TableFile) -> bool {
        !file.ends_before(order, &self.begin) && !self.ends_before(order, user_key(&file.meta.smallest))
    }

    /// True if neither `key` nor a key behind it is in the range.
    fn ends_before(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match order.compare(&self.end, key) {
            Ordering::Less => true,
            Ordering::Equal => self.is_end_excluded,
            Ordering::Greater => false,
        }
    }

    /// True if the file may hold a key behind the range.
    pub(crate) fn is_exceeded_by(&self, order: &KeyOrder, file: &TableFile) -> bool {
        match order.compare(user_key(&file.meta.largest), &self.end) {
            Ordering::Greater => true,
            Ordering::Equal => self.is_end_excluded && !is_exclusive_end(&file.meta.largest),
            Ordering::Less => false,
        }
    }

    /// Takes the file's range in.
    pub(crate) fn extend(&mut self, order: &KeyOrder, file: &TableFile) {
        let (begin, end) = (user_key(&file.meta.smallest), user_key(&file.meta.largest));
        if order.compare(begin, &self.begin).is_lt() {
            self.begin = begin.to_vec();
        }
        let is_end_excluded = is_exclusive_end(&file.meta.largest);
        match order.compare(end, &self.end) {
            Ordering::Greater => (self.end, self.is_end_excluded) = (end.to_vec(), is_end_excluded),
            Ordering::Equal => self.is_end_excluded &= is_end_excluded,
            Ordering::Less => {}
        }
    }
}

/// The files of a level that overlap `range`.
pub(crate) fn overlapping(version: &Version, level: usize, range: &KeyRange) -> Vec<Arc<TableFile>> {
    let Some(level) = version.level(level) else { return Vec::new() };
    let order = &version.order;
    let mut files = level.overlapping(order, Some(&range.begin), Some(&range.end));
    files.retain(|file| !range.ends_before(order, user_key(&file.meta.smallest)));
    files
}

/// The files of a sorted level that overlap `range`, and those that share a user key with one of them: all versions of a
/// key in a level go together.
pub(crate) fn overlapping_whole_keys(version: &Version, level: usize, range: &KeyRange) -> Vec<Arc<TableFile>> {
    let mut files = overlapping(version, level, range);
    loop {
        let Some(span) = KeyRange::of(&version.order, &files) else { return files };
        let more = overlapping(version, level, &span);
        if more.len() <= files.len() {
            return files;
        }
        files = more;
    }
}

/// True if two files may hold the same user key.
pub(crate) fn files_overlap(order: &KeyOrder, a: &TableFile, b: &TableFile) -> bool {
    !b.ends_before(order, user_key(&a.meta.smallest)) && !a.ends_before(order, user_key(&b.meta.smallest))
}
