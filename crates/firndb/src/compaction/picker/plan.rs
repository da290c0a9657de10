//! What a picker sees, and what it comes up with.
//!
//! Flow: `background::compactor` makes a **[`View`]** of a version, the claims of running jobs and the oldest snapshot -> a style's
//! picker -> a **[`Compaction`]**, which names its inputs and where they go -> `compaction::claims` -> `compaction::job`.
//!
//! Invariant: a job takes with its files everything between them and its output that may hold one of their keys and is older:
//! what is newer stays above. Threads: values; nothing here waits, reads a file or knows a clock.

use std::collections::{BTreeMap, BTreeSet};

use crate::compaction::claims::{Claims, Wanted};
use crate::compaction::range::{KeyRange, files_overlap, overlapping, overlapping_whole_keys};
use crate::format::comparator::KeyOrder;
use crate::format::key::{FileNumber, SequenceNumber, user_key};
use crate::sync::Arc;
use crate::version::{TableFile, Version};

use super::targets::{LevelConfig, LevelTargets};

/// A level and some of its files, in the level's order.
pub(crate) type LevelFiles = (usize, Vec<Arc<TableFile>>);

/// Where round-robin choices go on, by level.
pub(crate) type Cursors = BTreeMap<u32, Vec<u8>>;

/// Those of a family that chooses otherwise.
pub(crate) static NO_CURSORS: Cursors = BTreeMap::new();

/// Files that somebody suggested for a compaction.
pub(crate) type Suggestions = BTreeSet<FileNumber>;

/// Those of nearly all families.
pub(crate) static NO_SUGGESTIONS: Suggestions = BTreeSet::new();

/// Everything that a picker decides by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) version: &'a Arc<Version>,
    /// What running jobs have.
    pub(crate) claims: &'a Claims,
    /// Entries up to this number are seen alike by all snapshots.
    pub(crate) oldest_snapshot: SequenceNumber,
    /// The newest snapshot that lives.
    pub(crate) newest_snapshot: Option<SequenceNumber>,
    /// Seconds since 1970.
    pub(crate) now_s: u64,
    /// By level, the internal key from which on a round-robin choice goes on.
    pub(crate) cursors: &'a Cursors,
    pub(crate) suggested: &'a Suggestions,
}

impl<'a> View<'a> {
    /// What is seen where no snapshot lives, and no time matters.
    pub(crate) fn of(version: &'a Arc<Version>, claims: &'a Claims, oldest_snapshot: SequenceNumber) -> View<'a> {
        View {
            version,
            claims,
            oldest_snapshot,
            newest_snapshot: None,
            now_s: 0,
            cursors: &NO_CURSORS,
            suggested: &NO_SUGGESTIONS,
        }
    }

    /// True if a new job may have the file.
    pub(super) fn is_free(&self, file: &TableFile) -> bool {
        !file.is_set_aside() && !self.claims.has_file(file.number())
    }

    /// The keys of what keeps a job from running: an input that is not free, or what another job writes.
    pub(super) fn obstacle(&self, job: &Compaction) -> Option<KeyRange> {
        let taken = job.files().map(|(_, file)| file).find(|file| !self.is_free(file));
        taken.map(|file| KeyRange::of_file(file)).or_else(|| {
            // Files of level 0 overlap each other anyway: their age tells them apart.
            if job.output_level == 0 {
                return None;
            }
            let mut outputs = self.claims.outputs(job.output_level);
            outputs.find(|range| range.overlaps(&self.version.order, &job.range)).cloned()
        })
    }

    /// True if a snapshot would miss something without the file.
    pub(super) fn is_seen_by_a_snapshot(&self, file: &TableFile) -> bool {
        self.newest_snapshot.is_some_and(|newest| newest >= file.meta.smallest_seq)
    }

    pub(super) fn may_run(&self, job: &Compaction) -> bool {
        self.obstacle(job).is_none()
    }
}

/// What to merge, and where it goes. A value: nothing is claimed by it.
#[derive(Debug)]
pub(crate) struct Compaction {
    pub(crate) version: Arc<Version>,
    /// Levels and their files, in the levels' order; level 0 newest first.
    pub(crate) inputs: Vec<LevelFiles>,
    pub(crate) output_level: usize,
    /// The files only change their level.
    pub(crate) is_trivial_move: bool,
    /// The files go, unread, and with them what is in them.
    pub(crate) is_drop: bool,
    /// Somebody asked for it.
    pub(crate) is_manual: bool,
    /// The age of what is written, in seconds since 1970, if that is not the age of the file.
    pub(crate) created_s: Option<u64>,
    /// Where the next round-robin choice in a level begins.
    pub(crate) cursor: Option<(u32, Vec<u8>)>,
    /// What is written is compressed as the family's options say.
    pub(crate) is_compressed: bool,
    pub(crate) reason: String,
    /// From the smallest to the largest user key of the inputs.
    range: KeyRange,
}

impl Compaction {
    /// A job for one file, with what has to go with it, into `output`; from level 0 always into the base level.
    pub(super) fn of_file(
        version: &Arc<Version>,
        targets: &LevelTargets,
        level: usize,
        output: usize,
        file: &Arc<TableFile>,
        reason: String,
    ) -> Option<Compaction> {
        let (own, output) = match level {
            0 => (with_older(version, file), targets.base_level),
            _ => (overlapping_whole_keys(version, level, &KeyRange::of_file(file)), output),
        };
        Compaction::new(version, with_levels_below(version, level, own, output), output, reason)
    }

    /// A merge of `inputs`; `None` if there are none.
    pub(super) fn new(
        version: &Arc<Version>,
        inputs: Vec<LevelFiles>,
        output_level: usize,
        reason: String,
    ) -> Option<Compaction> {
        let inputs: Vec<LevelFiles> = inputs.into_iter().filter(|(_, files)| !files.is_empty()).collect();
        let range = KeyRange::of(&version.order, inputs.iter().flat_map(|(_, files)| files))?;
        let version = Arc::clone(version);
        Some(Compaction {
            version,
            inputs,
            output_level,
            is_trivial_move: false,
            is_drop: false,
            is_manual: false,
            created_s: None,
            cursor: None,
            is_compressed: true,
            reason,
            range,
        })
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, &Arc<TableFile>)> {
        self.inputs.iter().flat_map(|(level, files)| files.iter().map(move |file| (*level, file)))
    }

    pub(crate) fn input_bytes(&self) -> u64 {
        self.files().map(|(_, file)| file.meta.size).fold(0, u64::saturating_add)
    }

    /// What it must have for itself to run.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            files: self.files().map(|(_, file)| file.number()).collect(),
            output_level: self.output_level,
            range: self.range.clone(),
        }
    }

    /// The same, but for files that can change their level as they are, because nothing overlaps them there.
    pub(super) fn or_move(mut self, config: &LevelConfig) -> Compaction {
        let order = &self.version.order;
        let [(level, files)] = &self.inputs[..] else { return self };
        if *level == self.output_level {
            return self;
        }
        let is_disjoint = are_disjoint(order, files);
        let grandparents: u64 = files
            .iter()
            .flat_map(|file| overlapping(&self.version, self.output_level + 1, &KeyRange::of_file(file)))
            .map(|file| file.meta.size)
            .sum();
        self.is_trivial_move = is_disjoint && grandparents <= config.grandparent_bytes_max();
        self
    }

    /// The same, but for files of several levels that can all be in the output level as they are, because no two overlap.
    pub(super) fn or_move_runs(mut self) -> Compaction {
        let is_moving = self.output_level > 0 && self.files().any(|(level, _)| level != self.output_level);
        self.is_trivial_move = is_moving && are_disjoint(&self.version.order, self.files().map(|(_, file)| file));
        self
    }

    /// Not a merge: the inputs go.
    pub(super) fn dropping(self) -> Compaction {
        Compaction { is_drop: true, ..self }
    }

    /// Not a merge: the inputs only change their level.
    pub(super) fn moving(self) -> Compaction {
        Compaction { is_trivial_move: true, ..self }
    }

    pub(super) fn asked_for(self) -> Compaction {
        Compaction { is_manual: true, ..self }
    }

    pub(super) fn with_cursor(self, level: usize, key: Option<Vec<u8>>) -> Compaction {
        Compaction { cursor: key.map(|key| (level as u32, key)), ..self }
    }

    pub(super) fn created_at(self, created_s: Option<u64>) -> Compaction {
        Compaction { created_s, ..self }
    }

    /// The smallest number of an entry of the inputs.
    pub(crate) fn smallest_sequence(&self) -> SequenceNumber {
        self.files().map(|(_, file)| file.meta.smallest_seq).min().unwrap_or(SequenceNumber::MAX)
    }

    pub(super) fn compressed(self, is_compressed: bool) -> Compaction {
        Compaction { is_compressed, ..self }
    }
}

/// True if no two of the files have a key in common.
fn are_disjoint<'a>(order: &KeyOrder, files: impl IntoIterator<Item = &'a Arc<TableFile>>) -> bool {
    let mut sorted: Vec<&Arc<TableFile>> = files.into_iter().collect();
    sorted.sort_by(|a, b| order.compare_internal(&a.meta.smallest, &b.meta.smallest));
    sorted.windows(2).all(|pair| pair[0].ends_before(order, user_key(&pair[1].meta.smallest)))
}

/// A file of level 0, and every older one that overlaps it or one of the others.
fn with_older(version: &Version, file: &Arc<TableFile>) -> Vec<Arc<TableFile>> {
    let files = version.level(0).map_or(&[][..], |level| level.files());
    let mut chosen = vec![Arc::clone(file)];
    for older in files.iter().skip_while(|other| other.number() != file.number()).skip(1) {
        if chosen.iter().any(|newer| files_overlap(&version.order, newer, older)) {
            chosen.push(Arc::clone(older));
        }
    }
    chosen
}

/// `files` of `level`, and what they overlap in each level down to `output`: nothing that is older than they are, and
/// may hold one of their keys, stays in between.
pub(super) fn with_levels_below(
    version: &Version,
    level: usize,
    files: Vec<Arc<TableFile>>,
    output: usize,
) -> Vec<LevelFiles> {
    let order = &version.order;
    let mut span = KeyRange::of(order, &files);
    let mut inputs = vec![(level, files)];
    for below in level + 1..=output {
        let Some(range) = &mut span else { break };
        let more = overlapping_whole_keys(version, below, range);
        for file in &more {
            range.extend(order, file);
        }
        inputs.push((below, more));
    }
    inputs
}
