//! What of the merged entries a reader sees: one version of each user key, tombstones resolved, both ways.
//!
//! Flow: `read::source` (entries in internal order, newest version first) -> **`VisibleIter`** -> [`super::cursor`] and
//! [`super::iter`].
//!
//! Invariants
//! 1. Forward, the runs stand on the entry that is shown, and its key and value are borrowed from them. Backward, the
//!    runs stand before every visible version of the key that is shown, and its key and value are held here: only after
//!    the next entry was seen is it known that there is no newer visible version.
//! 2. Many versions of one key cost at most [`MAX_SKIPPED_VERSIONS`] steps, then a seek; nothing is recursive.
//! 3. After an error it stands nowhere, and every later move returns that error.
//! 4. A forward step copies the key that it leaves only where an older version may follow, which is where its
//!    sequence number is not 0; it allocates nothing once its buffers have grown to the longest key.
//!
//! Source: RocksDB `db/db_iter.cc` for the two positions and the limit on skipping.

use std::ops::Bound;

use crate::error::{Error, Result};
use crate::format::comparator::KeyOrder;
use crate::format::entity::{Columns, default_column, with_default_column};
use crate::format::key::{
    ParsedKey, SEEK_KIND, SequenceNumber, ValueKind, append_internal_key, trailer, trailer_sequence, user_key,
};
use crate::format::merge::MergeRule;
use crate::iter::InternalIterator;
use crate::iter::bounds::Bounds;
use crate::iter::meaning::ToReader;
use crate::iter::operands::Operands;
use crate::sync::Arc;
use crate::table::reader::TableReadOptions;
use crate::version::Version;
use crate::version::table_cache::TableCache;

use super::gaps::Gaps;
use super::slice::Slice;
use super::source::{Run, RunList, Runs};

/// How many versions of one key are stepped over before a seek (RocksDB: `max_sequential_skip_in_iterations`).
const MAX_SKIPPED_VERSIONS: u32 = 8;
/// How many entries that a range tombstone hides are stepped over before a jump to its end.
const MAX_COVERED_ENTRIES: u32 = 4;
/// Entries between two looks at the pin, skipped ones included.
const PULSE_PERIOD: u32 = 256;

/// Whom a long walk asks now and then whether it may go on.
pub(crate) trait Watch {
    /// Marks progress; an error if the reader was ousted.
    fn pulse(&self) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Nowhere,
    Forward,
    /// On a value that was made of operands, fetched from a blob file, or taken out of an entity: the runs stand behind the entries that made it, or on
    /// one of them.
    Merged,
    Backward,
}

/// What is known about `saved_key` while walking forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skipping {
    /// Nothing: it is of no meaning.
    Nothing,
    /// Its entries so far are newer than the view.
    Hidden,
    /// It was shown, or is deleted: every further version of it is history.
    Rest,
}

/// The visible entries of some runs as of a sequence number.
pub(crate) struct VisibleIter<R: InternalIterator> {
    runs: Runs<R>,
    order: KeyOrder,
    sequence: SequenceNumber,
    bounds: Bounds,
    position: Position,
    /// Backward: the key that is shown. Forward: the key being skipped.
    saved_key: Vec<u8>,
    /// Backward, or merged: the value that is shown.
    saved_value: Slice,
    /// The entity that the saved value is the default column of.
    saved_entity: Option<Box<Slice>>,
    /// Seek keys are built here.
    target: Vec<u8>,
    failed: Option<Error>,
    until_pulse: u32,
    /// Range tombstones; `None`, and no more than a look at it for each entry, if the view has none.
    gaps: Option<Box<Gaps>>,
    merge: Option<Arc<MergeRule>>,
    operands: Operands,
    /// Where references lead to; `None` if the view has no blob files.
    blobs: Option<Box<BlobSource>>,
}

/// The blob files of a view.
pub(super) struct BlobSource {
    pub(super) version: Arc<Version>,
    pub(super) tables: Arc<TableCache>,
    pub(super) options: TableReadOptions,
}

impl BlobSource {
    fn value(&self, user_key: &[u8], reference: &[u8]) -> Result<Slice> {
        self.tables.blob(&self.version, user_key, reference, &self.options).map(Slice::from)
    }
}

impl<R: Run> VisibleIter<R> {
    pub(crate) fn new(order: KeyOrder, runs: RunList<R>, sequence: SequenceNumber, bounds: Bounds) -> Self {
        VisibleIter {
            runs: Runs::new(order.clone(), runs),
            order,
            sequence,
            bounds,
            position: Position::Nowhere,
            saved_key: Vec::new(),
            saved_value: Slice::copied(b""),
            saved_entity: None,
            target: Vec::new(),
            failed: None,
            until_pulse: PULSE_PERIOD,
            gaps: None,
            merge: None,
            operands: Operands::default(),
            blobs: None,
        }
    }

    /// Before the first move: what references in tables lead to.
    pub(super) fn fetch_from(&mut self, blobs: BlobSource) {
        self.blobs = Some(Box::new(blobs));
    }

    /// Before the first move: a rule that makes values of operands.
    pub(super) fn merge_by(&mut self, rule: Option<Arc<MergeRule>>) {
        self.merge = rule;
    }

    /// Before the first move: range tombstones, which hide entries.
    pub(super) fn hide_in(&mut self, gaps: Gaps) {
        self.gaps = (!gaps.is_empty()).then(|| Box::new(gaps));
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.position != Position::Nowhere
    }

    pub(crate) fn status(&self) -> Result<()> {
        match &self.failed {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// The user key; panics unless valid.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        match self.position {
            Position::Forward => user_key(self.runs.key()),
            Position::Merged | Position::Backward => &self.saved_key,
            Position::Nowhere => not_on_an_entry(),
        }
    }

    /// The value; panics unless valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.position {
            Position::Forward => self.runs.value(),
            Position::Merged | Position::Backward => &self.saved_value,
            Position::Nowhere => not_on_an_entry(),
        }
    }

    /// The value, pinned; panics unless valid.
    #[inline]
    pub(crate) fn value_slice(&self) -> Slice {
        match self.position {
            Position::Forward => self.runs.value_slice(),
            Position::Merged | Position::Backward => self.saved_value.clone(),
            Position::Nowhere => not_on_an_entry(),
        }
    }

    /// The columns; panics unless valid.
    pub(crate) fn columns(&self) -> Result<Columns> {
        match (self.position, &self.saved_entity) {
            (Position::Merged | Position::Backward, Some(entity)) => Columns::parse(entity),
            _ => Ok(Columns::of_value(self.value())),
        }
    }

    pub(crate) fn seek_to_first(&mut self, watch: &impl Watch) -> Result<bool> {
        self.start(watch)?;
        let result = self.first_inner(watch);
        self.finish(result)
    }

    pub(crate) fn seek_to_last(&mut self, watch: &impl Watch) -> Result<bool> {
        self.start(watch)?;
        let result = self.last_inner(watch);
        self.finish(result)
    }

    /// To the first key at or after `key`.
    pub(crate) fn seek(&mut self, key: &[u8], watch: &impl Watch) -> Result<bool> {
        self.start(watch)?;
        let result = match self.bounds.is_below(&self.order, key) {
            true => self.first_inner(watch),
            // Nothing is asked of the runs behind the bound: what they have there need not be readable.
            false if self.bounds.is_above(&self.order, key) => Ok(false),
            false => self
                .seek_version(Place::Given(key), self.newest(), SEEK_KIND)
                .and_then(|()| self.arrive_forward(Skipping::Nothing, watch)),
        };
        self.finish(result)
    }

    /// To the last key at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8], watch: &impl Watch) -> Result<bool> {
        self.start(watch)?;
        let result = match self.bounds.is_above(&self.order, key) {
            true => self.last_inner(watch),
            false if self.bounds.is_below(&self.order, key) => Ok(false),
            false => self.seek_behind(key).and_then(|()| self.settle_backward(watch)),
        };
        self.finish(result)
    }

    #[inline]
    pub(crate) fn next(&mut self, watch: &impl Watch) -> Result<bool> {
        let result = match self.position {
            Position::Forward => self.next_inner(watch),
            Position::Merged => self.settle_forward(Skipping::Rest, watch),
            Position::Nowhere => return self.status().map(|()| false),
            // The runs may be anywhere before the key: go behind its oldest version.
            Position::Backward => self
                .seek_version(Place::Saved, SequenceNumber::ZERO, 0)
                .and_then(|()| self.settle_forward(Skipping::Rest, watch)),
        };
        self.finish(result)
    }

    #[inline]
    pub(crate) fn prev(&mut self, watch: &impl Watch) -> Result<bool> {
        match self.position {
            Position::Forward => {
                self.forget_jump();
                self.save_key();
            }
            Position::Nowhere => return self.status().map(|()| false),
            Position::Merged => {
                let back = self.seek_before(Place::Saved).and_then(|()| self.settle_backward(watch));
                return self.finish(back);
            }
            Position::Backward => {}
        }
        let result = self.leave_backward(watch).and_then(|()| self.settle_backward(watch));
        self.finish(result)
    }

    /// Ends the walk if the reader was ousted: asked before a step once anybody was.
    #[cold]
    pub(crate) fn check(&mut self, watch: &impl Watch) -> Result<()> {
        self.status()?;
        let result = watch.pulse().map(|()| true);
        self.finish(result).map(drop)
    }

    /// A seek begins: the latched error, or a look at the pin.
    fn start(&mut self, watch: &impl Watch) -> Result<()> {
        self.status()?;
        self.position = Position::Nowhere;
        self.until_pulse = PULSE_PERIOD;
        let result = watch.pulse().map(|()| true);
        self.finish(result).map(drop)
    }

    #[inline]
    fn finish(&mut self, result: Result<bool>) -> Result<bool> {
        match result {
            Ok(valid) => Ok(valid),
            Err(error) => Err(self.latch(error)),
        }
    }

    /// Ends the walk with `error`, which every later move returns.
    #[cold]
    pub(crate) fn latch(&mut self, error: Error) -> Error {
        self.position = Position::Nowhere;
        self.failed = Some(error.clone());
        error
    }

    #[inline]
    fn count_down(&mut self, watch: &impl Watch) -> Result<()> {
        self.until_pulse -= 1;
        if self.until_pulse == 0 {
            self.until_pulse = PULSE_PERIOD;
            watch.pulse()?;
        }
        Ok(())
    }

    #[inline]
    fn save_key(&mut self) {
        let key = user_key(self.runs.key());
        self.saved_key.clear();
        self.saved_key.extend_from_slice(key);
    }

    /// True if the runs stand on a version of the saved key.
    #[inline]
    fn is_on_saved_key(&self) -> bool {
        self.order.is_same(user_key(self.runs.key()), &self.saved_key)
    }

    /// True for an entry that is newer than the view, and not the reader's own.
    #[inline]
    fn is_hidden(&self, sequence: SequenceNumber) -> bool {
        sequence > self.sequence && !(R::HAS_OWN && sequence >= SequenceNumber::OWN)
    }

    /// The largest number that is visible.
    #[inline]
    fn newest(&self) -> SequenceNumber {
        if R::HAS_OWN { SequenceNumber::MAX } else { self.sequence }
    }

    /// Moves the runs to the newest visible entry of the saved key, of which at least one is visible.
    #[inline]
    fn seek_newest(&mut self) -> Result<()> {
        if R::HAS_OWN {
            self.seek_version(Place::Saved, SequenceNumber::MAX, SEEK_KIND)?;
            let is_there = self.runs.valid() && self.is_on_saved_key();
            if is_there && !self.is_hidden(trailer_sequence(trailer(self.runs.key()))) {
                return Ok(());
            }
        }
        self.seek_version(Place::Saved, self.sequence, SEEK_KIND)
    }

    /// Moves the runs to the oldest of the reader's own entries of the saved key, or before the key.
    #[cold]
    fn seek_own(&mut self) -> Result<()> {
        self.forget_jump();
        self.target.clear();
        append_internal_key(&mut self.target, &self.saved_key, SequenceNumber::OWN, 0);
        self.runs.seek_for_prev(&self.target)
    }

    #[inline]
    fn forget_jump(&mut self) {
        if let Some(gaps) = &mut self.gaps {
            gaps.forget_jump();
        }
    }

    /// Moves the runs to the first entry at or after this version of a key.
    fn seek_version(&mut self, place: Place<'_>, sequence: SequenceNumber, kind: u8) -> Result<()> {
        self.forget_jump();
        self.target.clear();
        append_internal_key(&mut self.target, place.of(&self.saved_key), sequence, kind);
        self.runs.seek(&self.target)
    }

    /// Moves the runs to the last entry of `key`, or to the one before.
    fn seek_behind(&mut self, key: &[u8]) -> Result<()> {
        self.forget_jump();
        self.target.clear();
        append_internal_key(&mut self.target, key, SequenceNumber::ZERO, 0);
        self.runs.seek_for_prev(&self.target)
    }

    /// Moves the runs to the last entry before all of `key`.
    fn seek_before(&mut self, place: Place<'_>) -> Result<()> {
        self.forget_jump();
        self.target.clear();
        append_internal_key(&mut self.target, place.of(&self.saved_key), SequenceNumber::MAX, SEEK_KIND);
        self.runs.seek_for_prev(&self.target)
    }

    fn first_inner(&mut self, watch: &impl Watch) -> Result<bool> {
        let skipping = match &self.bounds.lower {
            Bound::Unbounded => {
                self.forget_jump();
                self.runs.seek_to_first()?;
                Skipping::Nothing
            }
            Bound::Included(lower) => {
                self.saved_key.clone_from(lower);
                self.seek_version(Place::Saved, self.newest(), SEEK_KIND)?;
                Skipping::Nothing
            }
            Bound::Excluded(lower) => {
                self.saved_key.clone_from(lower);
                self.seek_version(Place::Saved, SequenceNumber::ZERO, 0)?;
                Skipping::Rest
            }
        };
        self.settle_forward(skipping, watch)
    }

    fn last_inner(&mut self, watch: &impl Watch) -> Result<bool> {
        match &self.bounds.upper {
            Bound::Unbounded => {
                self.forget_jump();
                self.runs.seek_to_last()?;
            }
            Bound::Included(upper) => {
                let upper = upper.clone();
                self.seek_behind(&upper)?;
            }
            Bound::Excluded(upper) => {
                self.saved_key.clone_from(upper);
                self.seek_before(Place::Saved)?;
            }
        }
        self.settle_backward(watch)
    }

    #[inline]
    fn next_inner(&mut self, watch: &impl Watch) -> Result<bool> {
        // Sequence number 0 is the oldest there is: no further version of this key can follow.
        let skipping = match trailer_sequence(trailer(self.runs.key())) {
            SequenceNumber::ZERO => Skipping::Nothing,
            _ => {
                self.save_key();
                Skipping::Rest
            }
        };
        self.runs.next()?;
        self.arrive_forward(skipping, watch)
    }

    /// As [`VisibleIter::settle_forward`], which is called only if there is more to do than to look.
    #[inline]
    fn arrive_forward(&mut self, skipping: Skipping, watch: &impl Watch) -> Result<bool> {
        if self.is_on_plain_value(skipping) {
            self.until_pulse -= 1;
            self.position = Position::Forward;
            return Ok(true);
        }
        self.settle_forward(skipping, watch)
    }

    /// True if the runs stand on what a scan nearly always comes to next: a visible value of another key, which nothing hides,
    /// and no pulse is due.
    #[inline]
    fn is_on_plain_value(&self, skipping: Skipping) -> bool {
        if self.gaps.is_some() || self.until_pulse <= 1 || !self.runs.valid() {
            return false;
        }
        let key = self.runs.key();
        // 0 for a key that is too short, which is no value's.
        let trailer = trailer(key);
        trailer as u8 == ValueKind::Value as u8
            && !self.is_hidden(trailer_sequence(trailer))
            && !self.bounds.is_above(&self.order, user_key(key))
            && (skipping == Skipping::Nothing || !self.is_on_saved_key())
    }

    /// From where the runs stand, forward to the first entry to show.
    fn settle_forward(&mut self, mut skipping: Skipping, watch: &impl Watch) -> Result<bool> {
        let (mut skipped, mut covered) = (0, 0);
        while self.runs.valid() {
            self.count_down(watch)?;
            let entry = ParsedKey::parse(self.runs.key())?;
            if self.bounds.is_above(&self.order, entry.user_key) {
                break;
            }
            let (kind, is_hidden) = (entry.kind, self.is_hidden(entry.sequence));
            let is_same = skipping != Skipping::Nothing && self.is_on_saved_key();
            if is_same && (is_hidden || skipping == Skipping::Rest) {
                skipped += 1;
                if skipped > MAX_SKIPPED_VERSIONS {
                    skipped = 0;
                    match skipping {
                        Skipping::Rest => self.seek_version(Place::Saved, SequenceNumber::ZERO, 0)?,
                        _ => self.seek_version(Place::Saved, self.sequence, SEEK_KIND)?,
                    }
                    continue;
                }
            } else if is_hidden {
                self.save_key();
                (skipping, skipped) = (Skipping::Hidden, 0);
            } else if let Some(gaps) = &mut self.gaps
                && gaps.covering(entry.user_key)? > entry.sequence
            {
                self.save_key();
                (skipping, skipped, covered) = (Skipping::Rest, 0, covered + 1);
                if covered > MAX_COVERED_ENTRIES && self.jump(true)? {
                    continue;
                }
            } else {
                match ToReader::of(kind) {
                    ToReader::Value => {
                        self.position = Position::Forward;
                        return Ok(true);
                    }
                    ToReader::Nothing => {
                        self.save_key();
                        (skipping, skipped) = (Skipping::Rest, 0);
                    }
                    ToReader::Operand => {
                        self.save_key();
                        self.merge_forward(watch)?;
                        self.position = Position::Merged;
                        return Ok(true);
                    }
                    ToReader::Unresolved(kind) => {
                        self.fetch_forward(kind)?;
                        return Ok(true);
                    }
                }
            }
            self.skip()?;
        }
        self.position = Position::Nowhere;
        Ok(false)
    }

    /// The runs stand on the newest visible entry of a key, which is a reference: shows what it leads to. The runs stay, and
    /// their entry is one of the saved key's.
    #[cold]
    fn fetch_forward(&mut self, kind: ValueKind) -> Result<()> {
        self.save_key();
        let value = self.runs.value_slice();
        self.save_fetched(kind, value)?;
        self.position = Position::Merged;
        Ok(())
    }

    /// Saves what the value of an entry of the saved key stands for, which is of a kind with a form of its own.
    #[cold]
    fn save_fetched(&mut self, kind: ValueKind, value: Slice) -> Result<()> {
        (self.saved_value, self.saved_entity) = match (kind, &self.blobs) {
            (ValueKind::BlobIndex, Some(blobs)) => (blobs.value(&self.saved_key, &value)?, None),
            (ValueKind::WideColumnEntity, _) => (Slice::copied(default_column(&value)?), Some(Box::new(value))),
            _ => return Err(kind.unsupported()),
        };
        Ok(())
    }

    /// A step that ends on nothing to show: a call of its own, so that the step that all scans are made of is compiled into
    /// its caller, and only there.
    #[inline(never)]
    fn skip(&mut self) -> Result<()> {
        self.runs.next()
    }

    /// The runs stand on the newest visible entry of the saved key, an operand: makes its value of what is below, and leaves
    /// the runs behind the last entry that had a say, or on it.
    #[cold]
    fn merge_forward(&mut self, watch: &impl Watch) -> Result<()> {
        let cover = match &mut self.gaps {
            Some(gaps) => gaps.covering(&self.saved_key)?,
            None => SequenceNumber::ZERO,
        };
        self.operands.clear();
        self.saved_entity = None;
        let mut has_base = false;
        while self.runs.valid() && self.is_on_saved_key() {
            self.count_down(watch)?;
            let entry = ParsedKey::parse(self.runs.key())?;
            if entry.sequence < cover {
                break;
            }
            if R::HAS_OWN && self.is_hidden(entry.sequence) {
                // Between the reader's own operands and what it sees below them.
                self.seek_version(Place::Saved, self.sequence, SEEK_KIND)?;
                continue;
            }
            match ToReader::of(entry.kind) {
                ToReader::Operand => self.operands.push(self.runs.value())?,
                ToReader::Value => {
                    self.saved_value = self.runs.value_slice();
                    has_base = true;
                    break;
                }
                ToReader::Nothing => break,
                ToReader::Unresolved(kind) => {
                    let value = self.runs.value_slice();
                    self.save_fetched(kind, value)?;
                    has_base = true;
                    break;
                }
            }
            self.skip()?;
        }
        self.operands.reverse();
        self.save_merged(has_base)
    }

    /// Makes the saved value of the operands, the oldest first, over what it is, if that is their base.
    fn save_merged(&mut self, has_base: bool) -> Result<()> {
        let base = has_base.then_some(&self.saved_value[..]);
        let merged = self.operands.merged(self.merge.as_deref(), &self.saved_key, base)?;
        if let Some(entity) = &self.saved_entity {
            self.saved_entity = Some(Box::new(Slice::from(with_default_column(entity, &merged)?)));
        }
        self.saved_value = Slice::copied(&merged);
        self.operands.clear();
        Ok(())
    }

    /// Jumps over the gap in which the walk is, in those runs that have nothing visible in it; true if the runs' current
    /// entry is another one now.
    #[cold]
    fn jump(&mut self, is_forward: bool) -> Result<bool> {
        let Some(jump) = self.gaps.as_mut().and_then(|gaps| gaps.jump()) else { return Ok(false) };
        let Some(edge) = (if is_forward { jump.end } else { jump.begin }) else { return Ok(false) };
        self.target.clear();
        append_internal_key(&mut self.target, edge, SequenceNumber::MAX, SEEK_KIND);
        self.runs.jump(&self.target, is_forward, |run| jump.is_hidden(run))
    }

    /// Moves the runs back past every version of the saved key.
    fn leave_backward(&mut self, watch: &impl Watch) -> Result<()> {
        let mut skipped = 0;
        while self.runs.valid() && self.is_on_saved_key() {
            self.count_down(watch)?;
            skipped += 1;
            if skipped > MAX_SKIPPED_VERSIONS {
                return self.seek_before(Place::Saved);
            }
            self.runs.prev()?;
        }
        Ok(())
    }

    /// From the oldest version of some key, where the runs stand, backward to the first key to show.
    fn settle_backward(&mut self, watch: &impl Watch) -> Result<bool> {
        let mut covered = 0;
        while self.runs.valid() {
            self.count_down(watch)?;
            if self.bounds.is_below(&self.order, ParsedKey::parse(self.runs.key())?.user_key) {
                break;
            }
            self.save_key();
            let cover = match &mut self.gaps {
                Some(gaps) => gaps.covering(&self.saved_key)?,
                None => SequenceNumber::ZERO,
            };
            match self.newest_visible(cover, watch)? {
                ToReader::Nothing => {
                    self.leave_backward(watch)?;
                    covered += u32::from(cover > SequenceNumber::ZERO);
                    if covered > MAX_COVERED_ENTRIES {
                        self.jump(false)?;
                    }
                }
                // Operands have become the value.
                ToReader::Value | ToReader::Operand => {
                    self.position = Position::Backward;
                    return Ok(true);
                }
                ToReader::Unresolved(kind) => return Err(kind.unsupported()),
            }
        }
        self.position = Position::Nowhere;
        Ok(false)
    }

    /// Walks from the oldest version of the saved key to the one before its newest visible version; what the latter
    /// says, its value in `saved_value`. No visible version says nothing, and neither does one that is older than `cover`.
    fn newest_visible(&mut self, cover: SequenceNumber, watch: &impl Watch) -> Result<ToReader> {
        let (mut newest, mut walked, mut has_base) = (ToReader::Nothing, 0, false);
        // The kind of the base, if it leads elsewhere: it is fetched only if it is shown.
        let mut reference = None;
        self.operands.clear();
        self.saved_entity = None;
        while self.runs.valid() && self.is_on_saved_key() {
            self.count_down(watch)?;
            let entry = ParsedKey::parse(self.runs.key())?;
            if self.is_hidden(entry.sequence) {
                if R::HAS_OWN {
                    // The reader's own entries of the key lie before those that it does not see.
                    self.seek_own()?;
                    continue;
                }
                break;
            }
            walked += 1;
            let is_last = walked > MAX_SKIPPED_VERSIONS;
            let (kind, sequence) = match is_last {
                false => (entry.kind, entry.sequence),
                true => {
                    // At least this version is visible, so the seek ends on this key.
                    self.seek_newest()?;
                    match self.runs.valid() && self.is_on_saved_key() {
                        true => ParsedKey::parse(self.runs.key()).map(|entry| (entry.kind, entry.sequence))?,
                        false => return Err(lost_its_place()),
                    }
                }
            };
            newest = if sequence < cover { ToReader::Nothing } else { ToReader::of(kind) };
            match newest {
                // Those between here and where the walk was are not known.
                ToReader::Operand if is_last => {
                    self.merge_forward(watch)?;
                    self.seek_before(Place::Saved)?;
                    return Ok(newest);
                }
                ToReader::Operand => self.operands.push(self.runs.value())?,
                _ => {
                    self.operands.clear();
                    reference = match newest {
                        ToReader::Unresolved(kind) => Some(kind),
                        _ => None,
                    };
                    has_base = newest == ToReader::Value || reference.is_some();
                    if has_base {
                        self.saved_value = self.runs.value_slice();
                    }
                }
            }
            self.runs.prev()?;
            if is_last {
                break;
            }
        }
        if let (Some(kind), ToReader::Operand | ToReader::Unresolved(_)) = (reference, newest) {
            self.save_fetched(kind, self.saved_value.clone())?;
            if newest != ToReader::Operand {
                return Ok(ToReader::Value);
            }
        }
        if newest == ToReader::Operand {
            self.save_merged(has_base)?;
        }
        Ok(newest)
    }
}

/// The key to seek to: a caller's, or the saved one.
enum Place<'a> {
    Given(&'a [u8]),
    Saved,
}

impl<'a> Place<'a> {
    fn of(self, saved: &'a [u8]) -> &'a [u8] {
        match self {
            Place::Given(key) => key,
            Place::Saved => saved,
        }
    }
}

#[cold]
#[track_caller]
fn not_on_an_entry() -> ! {
    panic!("`key` and `value` need a cursor that is `valid()`")
}

#[cold]
fn lost_its_place() -> Error {
    Error::corrupt(
        crate::error::CorruptionKind::Order,
        "an entry found going backward is not found by a seek: keys out of order",
    )
}

#[cfg(test)]
mod tests;
