//! Files that go as they are, because somebody asked for their range to be freed.
//!
//! Flow: `delete_files_in_ranges` -> `background::compactor` (claims, snapshots) -> **[`whole_files`]** -> one edit.
//!
//! Of the sorted levels, a file may go if it lies in one of the ranges, and
//! 1. no snapshot sees anything of it, and no job has it;
//! 2. all files of its level that share a user key with it go, too;
//! 3. no file below it that holds keys of its range stays.
//!
//! By 3, which RocksDB does not ask for, nothing older comes back: of each key the newest entries stay, or none does. Files of level
//! 0 stay, as in RocksDB: they overlap each other.
//!
//! Source: RocksDB `DBImpl::DeleteFilesInRanges`.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::compaction::range::{KeyRange, overlapping};
use crate::format::comparator::KeyOrder;
use crate::format::key::{FileNumber, is_exclusive_end, user_key};
use crate::sync::Arc;
use crate::version::TableFile;

use super::plan::{Compaction, LevelFiles, View};

/// Keys whose files are to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DoomedRange {
    pub(crate) begin: Option<Vec<u8>>,
    pub(crate) is_begin_excluded: bool,
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) is_end_excluded: bool,
}

impl DoomedRange {
    fn holds(&self, order: &KeyOrder, file: &TableFile) -> bool {
        let begins =
            self.begin.as_ref().is_none_or(|begin| match order.compare(user_key(&file.meta.smallest), begin) {
                Ordering::Less => false,
                Ordering::Equal => !self.is_begin_excluded,
                Ordering::Greater => true,
            });
        begins
            && self.end.as_ref().is_none_or(|end| match order.compare(user_key(&file.meta.largest), end) {
                Ordering::Less => true,
                Ordering::Equal => !self.is_end_excluded || is_exclusive_end(&file.meta.largest),
                Ordering::Greater => false,
            })
    }
}

/// Files that lie in a range, and stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Staying {
    /// A snapshot sees something of them.
    pub(crate) for_snapshots: usize,
    /// A running job has them.
    pub(crate) for_jobs: usize,
    /// They hide what is older, and stays.
    pub(crate) for_older: usize,
}

/// The files that may go, and how many stay.
pub(crate) fn whole_files(view: &View<'_>, ranges: &[DoomedRange]) -> (Option<Compaction>, Staying) {
    let (version, order) = (view.version, &view.version.order);
    let (mut going, mut staying) = (BTreeSet::new(), Staying::default());
    let mut inputs: Vec<LevelFiles> = Vec::new();
    for (number, level) in version.levels.iter().enumerate().skip(1).rev() {
        let mut chosen = Vec::new();
        for group in groups(order, level.files()) {
            let in_range = |file: &Arc<TableFile>| ranges.iter().any(|range| range.holds(order, file));
            let asked = group.iter().filter(|file| in_range(file)).count();
            if asked == 0 {
                continue;
            }
            if group.iter().any(|file| view.is_seen_by_a_snapshot(file)) {
                staying.for_snapshots += asked;
            } else if group.iter().any(|file| view.claims.has_file(file.number())) {
                staying.for_jobs += asked;
            } else if asked == group.len() {
                let is_above = group.iter().any(|file| is_above_what_stays(view, number, file, &going));
                if is_above {
                    staying.for_older += asked;
                    continue;
                }
                going.extend(group.iter().map(|file| file.number()));
                chosen.extend(group.iter().cloned());
            }
        }
        inputs.push((number, chosen));
    }
    inputs.reverse();
    (Compaction::new(version, inputs, 0, "their range was to be freed".to_owned()).map(Compaction::dropping), staying)
}

/// Runs of files that share user keys with their neighbours.
fn groups<'a>(order: &KeyOrder, files: &'a [Arc<TableFile>]) -> impl Iterator<Item = &'a [Arc<TableFile>]> {
    files.chunk_by(|file, next| !file.ends_before(order, user_key(&next.meta.smallest)))
}

fn is_above_what_stays(view: &View<'_>, level: usize, file: &TableFile, going: &BTreeSet<FileNumber>) -> bool {
    let range = KeyRange::of_file(file);
    let deeper = level + 1..view.version.levels.len();
    deeper
        .into_iter()
        .any(|below| overlapping(view.version, below, &range).iter().any(|older| !going.contains(&older.number())))
}
