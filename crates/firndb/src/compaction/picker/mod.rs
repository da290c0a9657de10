//! Pickers: from what a family looks like to the next compaction. Pure functions: no clock, no I/O, no lock.
//!
//! Flow: a [`View`] (version, claims of running jobs, oldest snapshot) and the limits of [`targets`] -> **[`Picker`]** ->
//! a [`Compaction`], which its caller claims ([`super::claims`]) and [`super::job`] runs. A compaction style is a variant
//! of [`Picker`] with a file of its own beside [`leveled`].
//!
//! Invariants
//! 1. No compaction writes at or below `num_levels`.
//! 2. Inputs of a sorted level are cut between user keys: all versions of a key in the level are in or out.
//! 3. Of each key that a job takes down from a level, it takes all older entries down to the output level, too (of
//!    level 0: all older files that overlap): order by age holds.
//! 4. No input is set aside or belongs to another running job, and no other job writes into the same keys of a level.
//! 5. What scores and stalls count ([`counts`]), a picker can take.
//! 6. What was compacted is not picked again for the same reason: every reason ends with the job that it leads to.

mod aged;
mod blob_garbage;
pub(crate) mod counts;
mod fifo;
mod garbage;
mod level0;
mod leveled;
mod manual;
mod plan;
mod relevel;
mod suggested;
mod targets;
#[cfg(test)]
mod tests;
mod universal;
mod weights;
mod whole_files;

use crate::format::key::{FileNumber, SequenceNumber};
use crate::sync::Arc;
use crate::version::Version;

use super::claims::Claims;
use super::request::BottommostLevelCompaction;

pub(crate) use self::counts::StallCounts;
pub(crate) use self::fifo::{FifoConfig, WaitingDrop};
pub(crate) use self::manual::{Manual, Next};
pub(crate) use self::plan::{Compaction, NO_CURSORS, Suggestions, View};
pub(crate) use self::relevel::{Relevel, relevel};
pub(crate) use self::targets::{LevelConfig, LevelTargets};
pub(crate) use self::universal::UniversalConfig;
use self::weights::Weights;
pub(crate) use self::whole_files::{DoomedRange, Staying, whole_files};

/// How a family is compacted, with its limits.
#[derive(Debug, Clone)]
pub(crate) enum Picker {
    Leveled(LevelConfig),
    Universal(UniversalConfig),
    Fifo(FifoConfig),
    /// Only when asked for, and whole.
    ByHand(LevelConfig),
}

impl Picker {
    pub(crate) fn levels(&self) -> &LevelConfig {
        match self {
            Picker::Leveled(levels) | Picker::ByHand(levels) => levels,
            Picker::Universal(config) => &config.levels,
            Picker::Fifo(config) => &config.levels,
        }
    }

    /// The next automatic compaction, if one is due and may run beside those that do.
    pub(crate) fn pick(&self, view: &View<'_>) -> Option<Compaction> {
        match self {
            Picker::Leveled(levels) => leveled::pick(view, levels),
            Picker::Universal(config) => universal::pick(view, config),
            Picker::Fifo(config) => fifo::pick(view, config),
            Picker::ByHand(_) => None,
        }
    }

    /// The number that the oldest snapshot has to reach before [`Picker::pick`] finds more than it does now, without
    /// anything being written; `None` if no snapshot keeps anything back.
    pub(crate) fn awaited_snapshot(&self, version: &Version, oldest: SequenceNumber) -> Option<SequenceNumber> {
        match self {
            Picker::Leveled(levels) => garbage::awaited(version, levels, oldest),
            Picker::Universal(_) => universal::awaited_snapshot(version, oldest),
            // No number will do: it waits for every snapshot that sees what should go.
            Picker::Fifo(_) | Picker::ByHand(_) => None,
        }
    }

    /// What should have been dropped, and is kept for snapshots; `None` if nothing is.
    pub(crate) fn waiting_drop(&self, view: &View<'_>) -> Option<WaitingDrop> {
        match self {
            Picker::Fifo(config) => fifo::waiting_drop(view, config),
            _ => None,
        }
    }

    /// The time, in seconds since 1970, from which on [`Picker::pick`] finds more than it does now, without anything being
    /// written; `None` if nothing gets too old.
    pub(crate) fn awaited_time(&self, version: &Version) -> Option<u64> {
        match self {
            Picker::Universal(config) => universal::awaited_time(version, config),
            Picker::Fifo(config) => fifo::awaited_time(version, config),
            Picker::Leveled(levels) => aged::awaited_time(version, levels),
            Picker::ByHand(_) => None,
        }
    }

    /// What stalls count: only what [`Picker::pick`] can take, now or when running jobs have ended.
    pub(crate) fn stall_counts(&self, version: &Arc<Version>) -> StallCounts {
        match self {
            Picker::Leveled(levels) => counts::stall_counts(version, levels),
            Picker::Universal(_) => StallCounts { level0_files: universal::stalling_runs(version), pending_bytes: 0 },
            // Files of a FIFO family go, and do not wait for a merge.
            Picker::Fifo(_) | Picker::ByHand(_) => StallCounts::default(),
        }
    }

    /// How many times too large each level is, the worst first; a compaction is due from 1 on. The other styles have one
    /// score, which stands with level 0.
    pub(crate) fn scores(&self, version: &Arc<Version>, claims: &Claims) -> Vec<(usize, f64)> {
        match self {
            Picker::Leveled(levels) | Picker::ByHand(levels) => {
                counts::scores(version, levels, &LevelTargets::of(version, levels), &Weights::of(version), claims)
            }
            Picker::Universal(config) => vec![(0, universal::score(version, config, claims))],
            Picker::Fifo(config) => vec![(0, fifo::score(version, config))],
        }
    }

    /// How large each level should be; nothing if the style does not say.
    pub(crate) fn target_bytes(&self, version: &Version) -> Vec<u64> {
        match self {
            Picker::Leveled(levels) => LevelTargets::of(version, levels).bytes,
            _ => Vec::new(),
        }
    }

    /// True if no job runs and none can be picked: what writers wait for because of [`Picker::stall_counts`] will not come
    /// by itself, and they have to be refused. What stands in the way is a file that was set aside, if there is one.
    pub(crate) fn is_stuck(&self, view: &View<'_>) -> bool {
        view.claims.is_empty() && self.pick(view).is_none()
    }

    /// Begins a compaction by hand of the keys from `begin` to `end`, both among them.
    pub(crate) fn begin_manual(
        &self,
        version: &Version,
        range: (Option<&[u8]>, Option<&[u8]>),
        last_sequence: SequenceNumber,
        first_new: FileNumber,
        bottommost: BottommostLevelCompaction,
    ) -> Manual {
        Manual::begin(matches!(self, Picker::Leveled(_)), version, range, last_sequence, first_new, bottommost)
    }

    /// The next step of a compaction by hand.
    pub(crate) fn next_manual(&self, manual: &mut Manual, view: &View<'_>) -> Next {
        match self {
            // By hand nothing else is done than by itself: a merge of everything would be dropped all at once.
            Picker::Fifo(config) => fifo::pick(view, config).map_or(Next::Done, Next::Run),
            _ => manual.next(view, self.levels()),
        }
    }
}
