//! One level of a version: its files in order, and what is needed to find one fast.
//!
//! A lookup bisects a flat array of key prefixes, one cache line for eight files, and compares whole keys only among
//! files whose prefixes tie. Prefixes decide only under the bytewise order; any other order compares whole keys.

use std::cmp::Ordering;
use std::ops::Range;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{FileNumber, SequenceNumber, user_key};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering as Memory};

use super::TableFile;

/// An immutable, ordered list of files: level 0 newest first, deeper ones by key and without overlaps.
#[derive(Debug, Default)]
pub(crate) struct Level {
    number: usize,
    files: Vec<Arc<TableFile>>,
    bytes: u64,
    largest_seq: SequenceNumber,
    /// False if no file has a range tombstone.
    may_have_range_tombstones: AtomicBool,
    /// The prefix of each file's largest user key, in the order of `files`.
    largest_prefixes: Vec<u64>,
    /// The files' numbers, ascending.
    numbers: Vec<FileNumber>,
}

impl Level {
    pub(crate) fn empty(number: usize) -> Level {
        Level { number, ..Level::default() }
    }

    /// Puts the files in order and checks them.
    ///
    /// # Errors
    /// `Corruption` if a file's bounds are reversed, a number occurs twice, or files overlap that must not.
    pub(crate) fn new(number: usize, order: &KeyOrder, mut files: Vec<Arc<TableFile>>) -> Result<Level> {
        if number == 0 {
            files.sort_by(|a, b| newest_first(a, b));
        } else {
            files.sort_by(|a, b| order.compare_internal(&a.meta.smallest, &b.meta.smallest));
        }
        let level = Level::of_sorted(number, files);
        level.check(order)?;
        Ok(level)
    }

    /// The files of a level whose order is not known: they can be counted, but nothing can be found in them.
    pub(crate) fn in_any_order(number: usize, mut files: Vec<Arc<TableFile>>) -> Level {
        files.sort_by_key(|file| file.number());
        Level::of_sorted(number, files)
    }

    fn of_sorted(number: usize, files: Vec<Arc<TableFile>>) -> Level {
        let mut numbers: Vec<FileNumber> = files.iter().map(|file| file.number()).collect();
        numbers.sort_unstable();
        let level = Level {
            number,
            bytes: files.iter().map(|file| file.meta.size).fold(0, u64::saturating_add),
            largest_seq: files.iter().map(|file| file.meta.largest_seq).max().unwrap_or_default(),
            largest_prefixes: files.iter().map(|file| prefix_u64(user_key(&file.meta.largest))).collect(),
            numbers,
            may_have_range_tombstones: AtomicBool::new(true),
            files,
        };
        level.look_for_range_tombstones();
        level
    }

    fn check(&self, order: &KeyOrder) -> Result<()> {
        let wrong =
            |detail: String| Err(Error::corrupt(CorruptionKind::Order, format!("level {}: {detail}", self.number)));
        if let Some(twice) = self.numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return wrong(format!("file {} is listed twice", twice[0]));
        }
        for file in &self.files {
            let meta = &file.meta;
            if order.compare_internal(&meta.smallest, &meta.largest) == Ordering::Greater {
                return wrong(format!("the smallest key of file {} sorts after its largest", meta.number));
            }
            if meta.smallest_seq > meta.largest_seq {
                return wrong(format!(
                    "the smallest sequence number of file {} is {}, above its largest, {}",
                    meta.number, meta.smallest_seq, meta.largest_seq
                ));
            }
        }
        for pair in self.files.windows(2) {
            let (a, b) = (&pair[0].meta, &pair[1].meta);
            if self.number > 0 && order.compare_internal(&a.largest, &b.smallest) != Ordering::Less {
                return wrong(format!("file {} reaches into file {}", a.number, b.number));
            }
        }
        if self.number == 0 {
            self.check_epochs(order)?;
        }
        Ok(())
    }

    /// Files of one epoch come from one ingestion or compaction: nothing says which is newer, so they must not overlap.
    fn check_epochs(&self, order: &KeyOrder) -> Result<()> {
        for run in self.files.chunk_by(|a, b| a.meta.epoch == b.meta.epoch) {
            if run.len() < 2 || run[0].meta.epoch == 0 {
                continue;
            }
            let mut sorted: Vec<&Arc<TableFile>> = run.iter().collect();
            sorted.sort_by(|a, b| order.compare_internal(&a.meta.smallest, &b.meta.smallest));
            for pair in sorted.windows(2) {
                let (a, b) = (&pair[0].meta, &pair[1].meta);
                if !pair[0].ends_before(order, user_key(&b.smallest)) {
                    return Err(Error::corrupt(
                        CorruptionKind::Order,
                        format!("level 0: files {} and {} of epoch {} overlap", a.number, b.number, a.epoch),
                    ));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn files(&self) -> &[Arc<TableFile>] {
        &self.files
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The sizes of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The largest number of any entry.
    pub(crate) fn largest_seq(&self) -> SequenceNumber {
        self.largest_seq
    }

    /// Asks all files again: more may be known of them than when the level was made.
    pub(super) fn look_for_range_tombstones(&self) {
        let may_have = self.files.iter().any(|file| file.may_have_range_tombstones());
        // Relaxed: it only ever turns from true to false, and true is merely slower.
        self.may_have_range_tombstones.store(may_have, Memory::Relaxed);
    }

    #[inline]
    pub(crate) fn may_have_range_tombstones(&self) -> bool {
        self.may_have_range_tombstones.load(Memory::Relaxed)
    }

    pub(crate) fn contains(&self, number: FileNumber) -> bool {
        self.numbers.binary_search(&number).is_ok()
    }

    /// The index of the first file whose largest key is at or after `internal_key`; `len()` if there is none. Not for
    /// level 0. The caller compares with the file's smallest key.
    #[inline]
    pub(crate) fn find_file(&self, order: &KeyOrder, internal_key: &[u8]) -> usize {
        debug_assert!(self.number > 0, "level 0 is not sorted by key");
        let mut range = 0..self.files.len();
        if order.is_bytewise() {
            let prefix = prefix_u64(user_key(internal_key));
            range.start = self.largest_prefixes.partition_point(|largest| *largest < prefix);
            // Most often no prefix ties, or one does: then a single whole comparison decides.
            let ties = self.largest_prefixes[range.start..].iter().take(2).take_while(|largest| **largest == prefix);
            match ties.count() {
                0 => return range.start,
                1 => range.end = range.start + 1,
                _ => range.end = range.start + self.largest_prefixes[range.start..].partition_point(|l| *l == prefix),
            }
        }
        let before = |file: &Arc<TableFile>| order.compare_internal(&file.meta.largest, internal_key) == Ordering::Less;
        range.start + self.files[range].partition_point(before)
    }

    /// The indexes of the files that may hold user keys from `begin` to `end`, both inclusive, `None` for no bound. Not for
    /// level 0, whose files are in no order of keys.
    pub(crate) fn overlapping_range(&self, order: &KeyOrder, begin: Option<&[u8]>, end: Option<&[u8]>) -> Range<usize> {
        debug_assert!(self.number > 0, "level 0 is not sorted by key");
        let start = begin.map_or(0, |begin| self.files.partition_point(|file| file.ends_before(order, begin)));
        let stop = end.map_or(self.files.len(), |end| {
            self.files.partition_point(|file| order.compare(user_key(&file.meta.smallest), end) != Ordering::Greater)
        });
        start..stop.max(start)
    }

    /// The files that may hold user keys from `begin` to `end`, both inclusive, `None` for no bound; in the level's order.
    pub(crate) fn overlapping(
        &self,
        order: &KeyOrder,
        begin: Option<&[u8]>,
        end: Option<&[u8]>,
    ) -> Vec<Arc<TableFile>> {
        if self.number > 0 {
            return self.files[self.overlapping_range(order, begin, end)].to_vec();
        }
        let overlaps = |file: &&Arc<TableFile>| {
            begin.is_none_or(|begin| !file.ends_before(order, begin))
                && end.is_none_or(|end| order.compare(user_key(&file.meta.smallest), end) != Ordering::Greater)
        };
        self.files.iter().filter(overlaps).cloned().collect()
    }
}

/// The order of level 0: by epoch; where that ties (files of one job, or of a writer without epochs) as RocksDB 7.8 does.
fn newest_first(a: &TableFile, b: &TableFile) -> Ordering {
    let key = |file: &TableFile| (file.meta.epoch, file.meta.largest_seq, file.meta.smallest_seq, file.meta.number);
    key(b).cmp(&key(a))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::key::{SEEK_KIND, SequenceNumber, internal_key};
    use crate::version::edit::FileMeta;

    fn file(number: u64, smallest: &[u8], largest: &[u8], seq: u64, epoch: u64) -> Arc<TableFile> {
        TableFile::new(FileMeta {
            number: FileNumber(number),
            size: 10,
            smallest: internal_key(smallest, SequenceNumber(seq), 1),
            largest: internal_key(largest, SequenceNumber(seq), 1),
            smallest_seq: SequenceNumber(seq),
            largest_seq: SequenceNumber(seq),
            epoch,
            ..FileMeta::default()
        })
    }

    fn refusal(number: usize, files: Vec<Arc<TableFile>>) -> String {
        Level::new(number, &KeyOrder::Bytewise, files).expect_err("refused").to_string()
    }

    #[test]
    fn level_0_is_newest_first_by_epoch_then_as_rocksdb_7_8_sorts() {
        let files = vec![file(1, b"a", b"b", 9, 1), file(2, b"a", b"b", 3, 3), file(3, b"c", b"d", 5, 3)];
        let level = Level::new(0, &KeyOrder::Bytewise, files).expect("sound");
        assert_eq!(level.files().iter().map(|file| file.number().0).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn files_that_contradict_each_other_are_refused_by_number() {
        assert!(
            refusal(1, vec![file(7, b"a", b"m", 1, 1), file(8, b"m", b"z", 1, 1)])
                .contains("000007 reaches into file 000008")
        );
        assert!(refusal(1, vec![file(7, b"b", b"a", 1, 1)]).contains("file 000007"));
        assert!(refusal(0, vec![file(7, b"a", b"m", 1, 2), file(8, b"b", b"z", 2, 2)]).contains("epoch 2 overlap"));
        assert!(refusal(0, vec![file(7, b"a", b"m", 1, 1), file(7, b"a", b"z", 2, 2)]).contains("twice"));
        // The same user key in two files, older versions later, is legal.
        let split = vec![file(7, b"a", b"m", 9, 1), file(8, b"m", b"z", 3, 1)];
        Level::new(1, &KeyOrder::Bytewise, split).expect("sound");
    }

    fn short_key() -> impl Strategy<Value = Vec<u8>> {
        // Long common prefixes, zeros and short keys: where prefixes tie or mislead.
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 255]), 0..12)
    }

    proptest! {
        #[test]
        fn finding_a_file_agrees_with_looking_at_all(
            mut bounds in prop::collection::btree_set(short_key(), 2..40),
            target in short_key(),
            end in short_key(),
            is_reverse: bool,
        ) {
            if bounds.len() % 2 == 1 {
                bounds.pop_last();
            }
            let order = if is_reverse { KeyOrder::ReverseBytewise } else { KeyOrder::Bytewise };
            let mut bounds: Vec<Vec<u8>> = bounds.into_iter().collect();
            if is_reverse {
                bounds.reverse();
            }
            let pairs = bounds.chunks_exact(2).enumerate();
            let files: Vec<_> = pairs.map(|(index, pair)| file(index as u64 + 1, &pair[0], &pair[1], 5, 1)).collect();
            let level = Level::new(1, &order, files.clone()).expect("sound");
            for (seq, kind) in [(SequenceNumber::MAX, SEEK_KIND), (SequenceNumber(5), 1), (SequenceNumber(0), 0)] {
                let key = internal_key(&target, seq, kind);
                let expected = files.iter().position(|f| order.compare_internal(&f.meta.largest, &key) != Ordering::Less);
                prop_assert_eq!(level.find_file(&order, &key), expected.unwrap_or(files.len()));
            }
            for (begin, end) in [(None, Some(&end)), (Some(&target), None), (Some(&target), Some(&end))] {
                let (begin, end) = (begin.map(Vec::as_slice), end.map(Vec::as_slice));
                if begin.zip(end).is_some_and(|(begin, end)| order.compare(begin, end) == Ordering::Greater) {
                    continue;
                }
                let numbers = |level: &Level| {
                    let mut numbers: Vec<u64> = level.overlapping(&order, begin, end).iter().map(|f| f.number().0).collect();
                    numbers.sort_unstable();
                    numbers
                };
                // Level 0 looks at every file, so the two answers check each other.
                let unsorted: Vec<_> = files.iter().map(|f| {
                    TableFile::new(FileMeta { epoch: f.number().0, ..f.meta.clone() })
                }).collect();
                prop_assert_eq!(numbers(&level), numbers(&Level::new(0, &order, unsorted).expect("sound")));
            }
        }
    }
}
