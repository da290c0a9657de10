//! Compactions that somebody asks for, and waits for, on the thread that asks: `compact_range`, `suggest_compact_range`.
//!
//! Flow: `db::maintenance` -> **[`Compactor::compact_range`]** -> step by step `compaction::picker` (`manual`) -> a claim, which is waited for
//! -> the job -> ... -> files change their level, if that was asked for.
//!
//! Threads: the caller's. It waits for jobs that run and are in its way, never for one that its own thread has.

use crate::clock::CancelToken;
use crate::compaction::claims::{Alone, Attempt, Choice, Refused};
use crate::compaction::picker::{Next, Relevel, relevel};
use crate::compaction::request::{BottommostLevelCompaction, CompactRangeOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{FileNumber, SequenceNumber};
use crate::options::CompactionStyle;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;
use crate::write::StallInputs;

use super::{Compactor, Family};

/// Both ends belong to it.
pub(crate) type Range<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl Compactor {
    /// Compacts a range of a family, level by level, or all of it if it is not leveled; waits for it.
    ///
    /// # Errors
    /// `Closed`, `ColumnFamilyDropped`, `Cancelled`; the damage if a file in the range is left out of compactions; what the job
    /// says.
    pub(crate) fn compact_range(
        self: &Arc<Self>,
        family: &Arc<Family>,
        range: Range<'_>,
        options: &CompactRangeOptions,
    ) -> Result<()> {
        let result = self.compact_as_said(family, range, options);
        if let Err(error) = &result {
            self.resources.change_failed(&self.failures, "a compaction", error);
        }
        // A claim was given back, and a table was set aside perhaps: both decide what writers wait for.
        self.update_stall(family);
        self.schedule(family);
        result
    }

    /// # Errors
    /// What keeps a compaction by hand from beginning: said before anything is flushed for it.
    pub(crate) fn check_by_hand(&self, family: &Family, options: &CompactRangeOptions) -> Result<()> {
        self.token_of(options)?.check()?;
        let is_leveled = family.options().compaction_style == CompactionStyle::Level;
        if !options.changes_level {
            return Ok(());
        }
        if !is_leveled {
            let what = "change_level: only files of a leveled family can be moved to another level";
            return Err(Error::new(ErrorKind::NotSupported, what));
        }
        let levels = family.levels().num_levels;
        match options.target_level {
            Some(level) if level == 0 || level as usize >= levels => {
                let what = format!("target_level {level}: files can be moved to the levels from 1 to {}", levels - 1);
                Err(Error::new(ErrorKind::InvalidArgument, what))
            }
            _ => Ok(()),
        }
    }

    /// Compactions that are due, on the caller's thread, until one more table in level 0 holds up no writer, or nothing more
    /// can be done about it.
    pub(crate) fn make_room(self: &Arc<Self>, family: &Arc<Family>, options: &CompactRangeOptions) -> Result<()> {
        if options.allows_write_stall || !family.compacts_automatically() {
            return Ok(());
        }
        let cancel = self.token_of(options)?;
        loop {
            let view = family.state.load_full();
            let counts = family.picker().stall_counts(&view.version);
            let inputs = StallInputs {
                immutables: 0,
                level0_files: counts.level0_files + 1,
                pending_compaction_bytes: counts.pending_bytes,
                hopeless: None,
            };
            if !family.stall().decide(&inputs).waits_for_compaction() {
                return Ok(());
            }
            let attempt = family.claims.try_claim(&family.state.config.order, |claims| {
                self.pick(family, claims).map(|job| {
                    let wanted = job.wanted();
                    (job, wanted)
                })
            });
            let Attempt::Taken(job, claim) = attempt else { return Ok(()) };
            self.run(family, &job, claim, &cancel)?;
        }
    }

    fn token_of(&self, options: &CompactRangeOptions) -> Result<CancelToken> {
        let by_hand = self.switches.by_hand()?;
        Ok(match &options.canceller {
            None => by_hand,
            Some(own) => CancelToken::part_of(&[&by_hand, &own.0]),
        })
    }

    fn compact_as_said(
        self: &Arc<Self>,
        family: &Arc<Family>,
        range: Range<'_>,
        options: &CompactRangeOptions,
    ) -> Result<()> {
        self.check_wanted(family)?;
        let cancel = self.token_of(options)?;
        let alone = match options.is_exclusive.then(|| family.claims.claim_alone()).transpose() {
            Ok(alone) => alone,
            Err(Refused::Closed) => return Err(self.why_closed(family)),
            Err(Refused::Own) => return Err(own_thread()),
        };
        let deepest = self.compact_in_steps(family, range, options, alone.as_ref(), &cancel)?;
        match deepest.filter(|_| options.changes_level) {
            Some(deepest) => self.change_level(family, range, deepest, options, alone.as_ref(), &cancel),
            None => Ok(()),
        }
    }

    /// Runs the steps of a compaction by hand, each when the claims in its way are given back. The deepest level of the range,
    /// if it has anything.
    fn compact_in_steps(
        self: &Arc<Self>,
        family: &Arc<Family>,
        range: Range<'_>,
        options: &CompactRangeOptions,
        alone: Option<&Alone>,
        cancel: &CancelToken,
    ) -> Result<Option<usize>> {
        let (resources, picker) = (&self.resources, family.picker());
        let last_sequence = SequenceNumber(resources.visible.load(Ordering::Acquire));
        // A number that no table has, and that is below those to come.
        let first_new = resources.versions.new_file_number();
        let bottommost = match options.bottommost {
            BottommostLevelCompaction::IfHaveFilter if family.has_filter() => BottommostLevelCompaction::ForceOptimized,
            other => other,
        };
        let version = Arc::clone(&family.state.load_full().version);
        let mut manual = picker.begin_manual(&version, range, last_sequence, first_new, bottommost);
        drop(version);
        loop {
            cancel.check()?;
            let mut blocked_by = None;
            let attempt = family.claims.claim(&family.state.config.order, alone, |claims| {
                match self.look(family, claims, |_, view| picker.next_manual(&mut manual, view)) {
                    Next::Done => Choice::Nothing,
                    Next::Blocked(number) => {
                        blocked_by = Some(number);
                        Choice::Nothing
                    }
                    Next::Run(job) => {
                        let wanted = job.wanted();
                        Choice::Run(job, wanted)
                    }
                }
            });
            match attempt {
                Attempt::Taken(job, claim) => {
                    self.run(family, &job, claim, cancel)?;
                    manual.done(&job);
                }
                Attempt::Nothing => {
                    return blocked_by.map_or(Ok(manual.deepest()), |number| Err(self.why_left_out(number)));
                }
                Attempt::Closed => return Err(self.why_closed(family)),
                Attempt::Own => return Err(own_thread()),
            }
        }
    }

    /// Moves what the range has in level `from` to the level that was asked for.
    fn change_level(
        self: &Arc<Self>,
        family: &Arc<Family>,
        range: Range<'_>,
        from: usize,
        options: &CompactRangeOptions,
        alone: Option<&Alone>,
        cancel: &CancelToken,
    ) -> Result<()> {
        // Level 0 went down to the first level that is used.
        let from = match from {
            0 => family.state.load_full().version.levels.iter().rposition(|level| level.len() > 0).unwrap_or(0),
            from => from,
        };
        let target = options.target_level.map(|level| level as usize);
        let mut in_the_way = None;
        let attempt = family.claims.claim(&family.state.config.order, alone, |_| {
            let version = Arc::clone(&family.state.load_full().version);
            match relevel(&version, &family.levels(), from, range, target) {
                Relevel::Nothing => Choice::Nothing,
                Relevel::InTheWay(level) => {
                    in_the_way = Some(level);
                    Choice::Nothing
                }
                Relevel::Move(job) => {
                    let wanted = job.wanted();
                    Choice::Run(job, wanted)
                }
            }
        });
        match attempt {
            Attempt::Taken(job, claim) => self.run(family, &job, claim, cancel),
            Attempt::Nothing => in_the_way.map_or(Ok(()), |level| {
                let what =
                    format!("files of level {from} cannot change their level: level {level} has some of their keys");
                Err(Error::new(ErrorKind::InvalidArgument, what))
            }),
            Attempt::Closed => Err(self.why_closed(family)),
            Attempt::Own => Err(own_thread()),
        }
    }

    /// Notes the files of a range for automatic compactions to come.
    pub(crate) fn suggest(self: &Arc<Self>, family: &Arc<Family>, range: Range<'_>) -> Result<()> {
        self.check_wanted(family)?;
        let version = Arc::clone(&family.state.load_full().version);
        let mut suggested = family.suggested.lock();
        suggested.retain(|number| version.contains(*number));
        for level in &version.levels {
            suggested.extend(level.overlapping(&version.order, range.0, range.1).iter().map(|file| file.number()));
        }
        drop(suggested);
        self.schedule(family);
        Ok(())
    }

    /// Calls off the compactions that run by themselves; others begin once they may.
    pub(crate) fn cancel_automatic(&self) {
        self.switches.cancel_automatic();
    }

    /// Compactions may begin again, those that were called off, too.
    pub(crate) fn renew_automatic(self: &Arc<Self>) {
        if self.switches.renew_automatic() {
            for family in self.resources.families.all() {
                self.schedule(&family);
            }
        }
    }

    /// Calls off compactions by hand, and refuses others, until as many calls of [`Compactor::enable_by_hand`].
    pub(crate) fn disable_by_hand(&self) {
        self.switches.disable_by_hand();
    }

    pub(crate) fn enable_by_hand(&self) {
        self.switches.enable_by_hand();
    }

    /// Why a compaction by hand cannot have a table.
    fn why_left_out(&self, number: FileNumber) -> Error {
        let what = format!("table {number} is left out of compactions, since it is damaged");
        match self.failures.why_set_aside(number) {
            Some(cause) => cause.because(ErrorKind::Corruption, what),
            None => Error::new(ErrorKind::Busy, what),
        }
    }
}

fn own_thread() -> Error {
    Error::new(ErrorKind::Busy, "a compaction of the same thread has some of the files")
}
