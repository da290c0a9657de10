//! Compaction by hand: a range of keys goes down, level by level, to the deepest that holds something of it.
//!
//! Each step is a job of its own, bounded in bytes where order allows it: first level 0 (all that overlaps the range,
//! and what is older and overlaps that), then one level after the other, from the smallest key to the largest; last, files
//! of the deepest level that hold what reads do not need any more are written anew. Between two steps other jobs of the
//! family may run; no step waits for more than the claims that are in its own way.
//!
//! It ends whatever is written meanwhile: a step begins with a file that has entries from before the call, and each step
//! of a level begins behind the keys of the one before.
//!
//! The tables of the other styles are ordered by age alone: one merged from some of them, with younger and older ones
//! left, would have no place among them, and RocksDB does not open that. Such a family is merged whole, in one step.
//!
//! Source: RocksDB `DBImpl::CompactRange`, `CompactionPicker::CompactRange`.

use crate::compaction::range::{KeyRange, files_overlap, overlapping_whole_keys};
use crate::compaction::request::BottommostLevelCompaction;
use crate::format::key::{FileNumber, SequenceNumber};
use crate::sync::Arc;
use crate::version::{Level, TableFile, Version};

use super::plan::{Compaction, View, with_levels_below};
use super::targets::{LevelConfig, LevelTargets};

/// How far a compaction by hand has got.
#[derive(Debug)]
pub(crate) struct Manual {
    begin: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    /// The last number that was visible at the call.
    last_sequence: SequenceNumber,
    /// Tables from here on were made after the call.
    first_new: FileNumber,
    bottommost: BottommostLevelCompaction,
    /// The deepest level that had something of the range at the call.
    deepest: usize,
    /// There was nothing in the range.
    is_empty: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Everything at once.
    Whole,
    /// `level` goes down; its keys up to the end of `after` have gone. At the deepest level: into itself.
    Level {
        level: usize,
        after: Option<KeyRange>,
    },
    Done,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing is left to do.
    Done,
    /// This table is in the way, and was set aside.
    Blocked(FileNumber),
    /// If running jobs allow it.
    Run(Compaction),
}

impl Manual {
    /// A compaction of `[begin, end]` as it is in `version`. Tables made later have numbers from `first_new` on.
    pub(super) fn begin(
        is_leveled: bool,
        version: &Version,
        (begin, end): (Option<&[u8]>, Option<&[u8]>),
        last_sequence: SequenceNumber,
        first_new: FileNumber,
        bottommost: BottommostLevelCompaction,
    ) -> Manual {
        let holds = |level: &Arc<Level>| !level.overlapping(&version.order, begin, end).is_empty();
        let deepest = version.levels.iter().rposition(holds);
        let stage = match deepest {
            None => Stage::Done,
            Some(_) if is_leveled => Stage::Level { level: 0, after: None },
            Some(_) => Stage::Whole,
        };
        let (begin, end) = if is_leveled { (begin, end) } else { (None, None) };
        Manual {
            begin: begin.map(<[u8]>::to_vec),
            end: end.map(<[u8]>::to_vec),
            last_sequence,
            first_new,
            bottommost,
            deepest: deepest.unwrap_or(0),
            is_empty: deepest.is_none(),
            stage,
        }
    }

    /// The next step. It may be asked for again, with a later version, as long as it was not [`Manual::done`].
    pub(super) fn next(&mut self, view: &View<'_>, config: &LevelConfig) -> Next {
        self.follow(view.version);
        loop {
            let found = match &self.stage {
                Stage::Done => return Next::Done,
                Stage::Whole => self.whole(view.version, config),
                Stage::Level { level: 0, .. } => self.level0(view.version, config),
                Stage::Level { level, after } if *level < self.deepest => {
                    self.down(view.version, config, *level, after.as_ref())
                }
                Stage::Level { after, .. } => self.in_place(view.version, config, after.as_ref()),
            };
            let Some(job) = found else {
                self.stage = match self.stage {
                    Stage::Level { level, .. } if level < self.deepest => {
                        Stage::Level { level: level + 1, after: None }
                    }
                    _ => Stage::Done,
                };
                continue;
            };
            let bad = job.files().find(|(_, file)| file.is_set_aside()).map(|(_, file)| file.number());
            return bad.map_or(Next::Run(job.asked_for()), Next::Blocked);
        }
    }

    /// Tables that were there at the call may have been moved down since, unread, by a job beside this one: the last level is
    /// where they are now.
    fn follow(&mut self, version: &Version) {
        let (begin, end) = (self.begin.as_deref(), self.end.as_deref());
        let is_from_before = |file: &Arc<TableFile>| file.number() < self.first_new;
        let holds = |level: &Arc<Level>| level.overlapping(&version.order, begin, end).iter().any(is_from_before);
        if let Some(deepest) = version.levels.iter().rposition(holds) {
            self.deepest = self.deepest.max(deepest);
        }
    }

    /// The deepest level that has something of the range, if there was any.
    pub(crate) fn deepest(&self) -> Option<usize> {
        (!self.is_empty).then_some(self.deepest)
    }

    /// `job` was the last step, and is installed.
    pub(crate) fn done(&mut self, job: &Compaction) {
        self.stage = match self.stage {
            Stage::Whole | Stage::Done => Stage::Done,
            Stage::Level { level: 0, .. } if self.deepest == 0 => Stage::Done,
            Stage::Level { level: 0, .. } => Stage::Level { level: 1, after: None },
            Stage::Level { level, .. } => {
                let own = job.inputs.iter().filter(|(number, _)| *number == level).flat_map(|(_, files)| files);
                Stage::Level { level, after: KeyRange::of(&job.version.order, own) }
            }
        };
    }

    /// True if the file has entries from before the call.
    fn is_old(&self, file: &TableFile) -> bool {
        file.meta.smallest_seq <= self.last_sequence
    }

    fn level0(&self, version: &Arc<Version>, config: &LevelConfig) -> Option<Compaction> {
        let order = &version.order;
        let level = version.level(0)?;
        let (begin, end) = (self.begin.as_deref(), self.end.as_deref());
        let in_range = level.overlapping(order, begin, end);
        // Newest first, as the level is: what is older than a file that goes, and overlaps it, must not stay above it.
        let mut chosen: Vec<Arc<TableFile>> = Vec::new();
        let mut asked = in_range.iter().filter(|file| self.is_old(file)).peekable();
        for file in level.files() {
            let is_asked = asked.next_if(|next| next.number() == file.number()).is_some();
            if is_asked || chosen.iter().any(|newer| files_overlap(order, newer, file)) {
                chosen.push(Arc::clone(file));
            }
        }
        if chosen.is_empty() {
            return None;
        }
        let output = LevelTargets::of(version, config).base_level;
        let inputs = with_levels_below(version, 0, chosen, output);
        Compaction::new(version, inputs, output, "asked for".to_owned())
    }

    /// The first files of `level` behind `after`, as many as fit into a job, and what is below them.
    fn down(
        &self,
        version: &Arc<Version>,
        config: &LevelConfig,
        level: usize,
        after: Option<&KeyRange>,
    ) -> Option<Compaction> {
        let files = self.left(version, level, after);
        let first = files.iter().position(|file| self.is_old(file))?;
        let output = level + 1;
        let job = |files: &[Arc<TableFile>]| {
            let range = KeyRange::of(&version.order, files)?;
            let own = overlapping_whole_keys(version, level, &range);
            let inputs = with_levels_below(version, level, own, output);
            Compaction::new(version, inputs, output, "asked for".to_owned())
        };
        let best = self.largest(config, files.len() - first, |count| job(&files[first..first + count]))?;
        // At the deepest level nothing stays that reads do not need: no file gets there unread.
        Some(if output < self.deepest { best.or_move(config) } else { best })
    }

    /// The job over as many files as fit, of `count` at most: found by doubling and halving, since each try looks at all of
    /// its files, and this runs while others wait for the claims.
    fn largest(
        &self,
        config: &LevelConfig,
        count: usize,
        job: impl Fn(usize) -> Option<Compaction>,
    ) -> Option<Compaction> {
        let fits = |count: usize| job(count).filter(|job| job.input_bytes() <= config.compaction_bytes_max());
        // One file goes, however large.
        let mut best = job(1)?;
        let (mut low, mut high) = (1, 1);
        while high < count {
            high = (high * 2).min(count);
            match fits(high) {
                Some(larger) => (best, low) = (larger, high),
                None => break,
            }
        }
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            match fits(middle) {
                Some(larger) => (best, low) = (larger, middle),
                None => high = middle,
            }
        }
        Some(best)
    }

    /// Files of the deepest level, as many as fit into a job, that are not as compactions leave them.
    fn in_place(&self, version: &Arc<Version>, config: &LevelConfig, after: Option<&KeyRange>) -> Option<Compaction> {
        let level = self.deepest;
        if level == 0 || self.bottommost == BottommostLevelCompaction::Skip {
            return None;
        }
        let files = self.left(version, level, after);
        let is_due = |file: &Arc<TableFile>| match self.bottommost {
            BottommostLevelCompaction::Force => true,
            BottommostLevelCompaction::ForceOptimized => file.number() < self.first_new,
            _ => file.number() < self.first_new && file.meta.largest_seq.0 != 0,
        };
        let first = files.iter().position(is_due)?;
        let mut bytes = 0u64;
        let run = files[first..].iter().take_while(|file| {
            bytes = bytes.saturating_add(file.meta.size);
            is_due(file) && (bytes <= config.compaction_bytes_max() || bytes == file.meta.size)
        });
        let range = KeyRange::of(&version.order, run)?;
        let own = overlapping_whole_keys(version, level, &range);
        Compaction::new(version, vec![(level, own)], level, "asked for".to_owned())
    }

    /// The files of a sorted level in the range and behind `after`.
    fn left(&self, version: &Version, level: usize, after: Option<&KeyRange>) -> Vec<Arc<TableFile>> {
        let Some(files) = version.level(level) else { return Vec::new() };
        let mut files = files.overlapping(&version.order, self.begin.as_deref(), self.end.as_deref());
        if let Some(after) = after {
            files.retain(|file| after.is_exceeded_by(&version.order, file));
        }
        files
    }

    /// Everything into the last level.
    fn whole(&self, version: &Arc<Version>, config: &LevelConfig) -> Option<Compaction> {
        let output = config.num_levels.saturating_sub(1);
        let level_files =
            |number: usize| (number, version.levels.get(number).map_or(Vec::new(), |l| l.files().to_vec()));
        let inputs: Vec<_> = (0..=output).map(level_files).filter(|(_, files)| !files.is_empty()).collect();
        if let [(level, files)] = &inputs[..]
            && *level == output
            && *level > 0
        {
            // All of it is at the bottom: is there anything that can be dropped?
            let is_clean = files.iter().all(|file| file.meta.largest_seq.0 == 0);
            match self.bottommost {
                BottommostLevelCompaction::Skip => return None,
                BottommostLevelCompaction::IfHaveFilter if is_clean => return None,
                _ => {}
            }
        }
        Compaction::new(version, inputs, output, "asked for".to_owned())
    }
}
