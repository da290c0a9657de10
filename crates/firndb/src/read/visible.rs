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

use std::cmp::Ordering;
use std::ops::Bound;

use crate::error::{Error, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{
    ParsedKey, SEEK_KIND, SequenceNumber, ValueKind, append_internal_key, trailer, trailer_sequence, user_key,
};
use crate::iter::InternalIterator;

use super::options::ReadOptions;
use super::slice::Slice;
use super::source::{Run, Runs};

/// How many versions of one key are stepped over before a seek (RocksDB: `max_sequential_skip_in_iterations`).
const MAX_SKIPPED_VERSIONS: u32 = 8;
/// Entries between two looks at the pin, skipped ones included.
const PULSE_PERIOD: u32 = 256;

/// The ends of what an iterator may show. [`Bound`]s as they are, since under a user's comparator there is no "next key".
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) lower: Bound<Vec<u8>>,
    pub(crate) upper: Bound<Vec<u8>>,
}

impl Bounds {
    #[cfg(test)]
    pub(crate) const ALL: Bounds = Bounds { lower: Bound::Unbounded, upper: Bound::Unbounded };

    /// Those of the read options: the lower one inclusive, the upper one exclusive, as in RocksDB.
    pub(crate) fn of(options: &ReadOptions) -> Bounds {
        Bounds {
            lower: options.lower_bound.clone().map_or(Bound::Unbounded, Bound::Included),
            upper: options.upper_bound.clone().map_or(Bound::Unbounded, Bound::Excluded),
        }
    }

    #[inline]
    fn is_below(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Unbounded => false,
            Bound::Included(lower) => order.compare(key, lower) == Ordering::Less,
            Bound::Excluded(lower) => order.compare(key, lower) != Ordering::Greater,
        }
    }

    #[inline]
    fn is_above(&self, order: &KeyOrder, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Unbounded => false,
            Bound::Included(upper) => order.compare(key, upper) == Ordering::Greater,
            Bound::Excluded(upper) => order.compare(key, upper) != Ordering::Less,
        }
    }

    /// What is within both.
    pub(crate) fn within(self, order: &KeyOrder, other: &Bounds) -> Bounds {
        let tighter = |a: Bound<Vec<u8>>, b: &Bound<Vec<u8>>, outward: Ordering| match (&a, b) {
            (_, Bound::Unbounded) => a,
            (Bound::Unbounded, _) => b.clone(),
            (Bound::Included(key) | Bound::Excluded(key), Bound::Included(limit) | Bound::Excluded(limit)) => {
                let ordering = order.compare(key, limit);
                let is_looser = ordering == outward || (ordering == Ordering::Equal && matches!(b, Bound::Excluded(_)));
                if is_looser { b.clone() } else { a }
            }
        };
        Bounds {
            lower: tighter(self.lower, &other.lower, Ordering::Less),
            upper: tighter(self.upper, &other.upper, Ordering::Greater),
        }
    }

    /// True if nothing of `[smallest, largest]` is within the bounds.
    pub(crate) fn exclude(&self, order: &KeyOrder, smallest: &[u8], largest: &[u8]) -> bool {
        self.is_above(order, smallest) || self.is_below(order, largest)
    }
}

/// Whom a long walk asks now and then whether it may go on.
pub(crate) trait Watch {
    /// Marks progress; an error if the reader was ousted.
    fn pulse(&self) -> Result<()>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Nowhere,
    Forward,
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
    /// Backward: the value that is shown.
    saved_value: Slice,
    /// Seek keys are built here.
    target: Vec<u8>,
    failed: Option<Error>,
    until_pulse: u32,
}

impl<R: Run> VisibleIter<R> {
    pub(crate) fn new(order: KeyOrder, runs: Vec<R>, sequence: SequenceNumber, bounds: Bounds) -> Self {
        VisibleIter {
            runs: Runs::new(order.clone(), runs),
            order,
            sequence,
            bounds,
            position: Position::Nowhere,
            saved_key: Vec::new(),
            saved_value: Slice::copied(b""),
            target: Vec::new(),
            failed: None,
            until_pulse: PULSE_PERIOD,
        }
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
            Position::Backward => &self.saved_key,
            Position::Nowhere => not_on_an_entry(),
        }
    }

    /// The value; panics unless valid.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        match self.position {
            Position::Forward => self.runs.value(),
            Position::Backward => &self.saved_value,
            Position::Nowhere => not_on_an_entry(),
        }
    }

    /// The value, pinned; panics unless valid.
    #[inline]
    pub(crate) fn value_slice(&self) -> Slice {
        match self.position {
            Position::Forward => self.runs.value_slice(),
            Position::Backward => self.saved_value.clone(),
            Position::Nowhere => not_on_an_entry(),
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
            false => self
                .seek_version(Place::Given(key), self.sequence, SEEK_KIND)
                .and_then(|()| self.settle_forward(Skipping::Nothing, watch)),
        };
        self.finish(result)
    }

    /// To the last key at or before `key`.
    pub(crate) fn seek_for_prev(&mut self, key: &[u8], watch: &impl Watch) -> Result<bool> {
        self.start(watch)?;
        let result = match self.bounds.is_above(&self.order, key) {
            true => self.last_inner(watch),
            false => self.seek_behind(key).and_then(|()| self.settle_backward(watch)),
        };
        self.finish(result)
    }

    #[inline]
    pub(crate) fn next(&mut self, watch: &impl Watch) -> Result<bool> {
        let result = match self.position {
            Position::Forward => self.next_inner(watch),
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
            Position::Forward => self.save_key(),
            Position::Nowhere => return self.status().map(|()| false),
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

    #[cold]
    fn latch(&mut self, error: Error) -> Error {
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
        let key = user_key(self.runs.key());
        match &self.order {
            KeyOrder::Bytewise | KeyOrder::ReverseBytewise => key == self.saved_key,
            KeyOrder::Custom(_) => self.order.compare(key, &self.saved_key) == Ordering::Equal,
        }
    }

    /// Moves the runs to the first entry at or after this version of a key.
    fn seek_version(&mut self, place: Place<'_>, sequence: SequenceNumber, kind: u8) -> Result<()> {
        self.target.clear();
        append_internal_key(&mut self.target, place.of(&self.saved_key), sequence, kind);
        self.runs.seek(&self.target)
    }

    /// Moves the runs to the last entry of `key`, or to the one before.
    fn seek_behind(&mut self, key: &[u8]) -> Result<()> {
        self.target.clear();
        append_internal_key(&mut self.target, key, SequenceNumber::ZERO, 0);
        self.runs.seek_for_prev(&self.target)
    }

    /// Moves the runs to the last entry before all of `key`.
    fn seek_before(&mut self, place: Place<'_>) -> Result<()> {
        self.target.clear();
        append_internal_key(&mut self.target, place.of(&self.saved_key), SequenceNumber::MAX, SEEK_KIND);
        self.runs.seek_for_prev(&self.target)
    }

    fn first_inner(&mut self, watch: &impl Watch) -> Result<bool> {
        let skipping = match &self.bounds.lower {
            Bound::Unbounded => {
                self.runs.seek_to_first()?;
                Skipping::Nothing
            }
            Bound::Included(lower) => {
                self.saved_key.clone_from(lower);
                self.seek_version(Place::Saved, self.sequence, SEEK_KIND)?;
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
            Bound::Unbounded => self.runs.seek_to_last()?,
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
        self.settle_forward(skipping, watch)
    }

    /// From where the runs stand, forward to the first entry to show.
    #[inline]
    fn settle_forward(&mut self, mut skipping: Skipping, watch: &impl Watch) -> Result<bool> {
        let mut skipped = 0;
        while self.runs.valid() {
            self.count_down(watch)?;
            let entry = ParsedKey::parse(self.runs.key())?;
            if self.bounds.is_above(&self.order, entry.user_key) {
                break;
            }
            let (kind, is_hidden) = (entry.kind, entry.sequence > self.sequence);
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
            } else if kind == ValueKind::Value {
                self.position = Position::Forward;
                return Ok(true);
            } else if kind.is_tombstone() {
                self.save_key();
                (skipping, skipped) = (Skipping::Rest, 0);
            } else {
                return Err(kind.unsupported());
            }
            self.runs.next()?;
        }
        self.position = Position::Nowhere;
        Ok(false)
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
        while self.runs.valid() {
            self.count_down(watch)?;
            if self.bounds.is_below(&self.order, ParsedKey::parse(self.runs.key())?.user_key) {
                break;
            }
            self.save_key();
            match self.newest_visible(watch)? {
                None | Some(ValueKind::Deletion | ValueKind::SingleDeletion) => self.leave_backward(watch)?,
                Some(ValueKind::Value) => {
                    self.position = Position::Backward;
                    return Ok(true);
                }
                Some(other) => return Err(other.unsupported()),
            }
        }
        self.position = Position::Nowhere;
        Ok(false)
    }

    /// Walks from the oldest version of the saved key to the one before its newest visible version; the kind of the
    /// latter, its value in `saved_value`.
    fn newest_visible(&mut self, watch: &impl Watch) -> Result<Option<ValueKind>> {
        let (mut newest, mut walked) = (None, 0);
        while self.runs.valid() && self.is_on_saved_key() {
            self.count_down(watch)?;
            let entry = ParsedKey::parse(self.runs.key())?;
            if entry.sequence > self.sequence {
                break;
            }
            walked += 1;
            let is_last = walked > MAX_SKIPPED_VERSIONS;
            let kind = match is_last {
                false => entry.kind,
                true => {
                    // At least this version is visible, so the seek ends on this key.
                    self.seek_version(Place::Saved, self.sequence, SEEK_KIND)?;
                    match self.runs.valid() && self.is_on_saved_key() {
                        true => ParsedKey::parse(self.runs.key())?.kind,
                        false => return Err(lost_its_place()),
                    }
                }
            };
            if kind == ValueKind::Value {
                self.saved_value = self.runs.value_slice();
            }
            newest = Some(kind);
            self.runs.prev()?;
            if is_last {
                break;
            }
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
