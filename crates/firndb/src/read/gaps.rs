//! The range tombstones of a view: which entries they hide, and how far a walk may jump over what they hide.
//!
//! Flow: `read::view` gathers them beside the runs -> **[`Gaps`]** -> `read::visible` asks for each visible entry.
//!
//! Invariants
//! 1. A run is newer than those after it, key by key, and its range tombstones count among what it holds. So the first run with
//!    a range tombstone over a key has the newest one, and whatever later runs hold of that key is hidden.
//! 2. A range tombstone of a table ends where the table's bounds do (`table::range_block`), so that of a level only the file
//!    within whose bounds a key lies has a say. It is opened when a walk gets there, and only if it may have any.
//! 3. The answer for a key is kept with the interval in which it holds: most questions are two comparisons.

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{SequenceNumber, user_key};
use crate::iter::range_tombstones::{Interval, RangeTombstones};
use crate::sync::Arc;
use crate::version::table_cache::TableCache;
use crate::version::{Level, TableFile};

use super::get::SeekKey;

/// See the module's text.
pub(crate) struct Gaps {
    order: KeyOrder,
    snapshot: SequenceNumber,
    /// The largest number in each run of the view.
    largest: Vec<SequenceNumber>,
    /// With the number of the run that has them; the newest run first.
    sources: Vec<(usize, Source)>,
    /// What is known of the key asked for last, and of its neighbours.
    known: Known,
}

enum Source {
    Run(Arc<RangeTombstones>),
    /// The reader's own, all of them visible.
    Own(Arc<RangeTombstones>),
    Level(LevelTombstones),
}

#[derive(Debug, Default)]
struct Known {
    is_valid: bool,
    begin: Option<Vec<u8>>,
    end: Option<Vec<u8>>,
    newest: SequenceNumber,
    run: usize,
    was_jumped: bool,
}

/// How far a walk may jump, and in which runs.
pub(super) struct Jump<'a> {
    /// The first key of the gap, and the first behind it.
    pub(super) begin: Option<&'a [u8]>,
    pub(super) end: Option<&'a [u8]>,
    newest: SequenceNumber,
    run: usize,
    largest: &'a [SequenceNumber],
}

impl Jump<'_> {
    /// True if everything that `run` has in the gap is hidden.
    pub(super) fn is_hidden(&self, run: usize) -> bool {
        run > self.run || self.largest.get(run).is_some_and(|largest| *largest < self.newest)
    }
}

impl Gaps {
    pub(super) fn new(order: KeyOrder, snapshot: SequenceNumber) -> Gaps {
        Gaps { order, snapshot, largest: Vec::new(), sources: Vec::new(), known: Known::default() }
    }

    /// Another run of the view, older than those before it.
    pub(super) fn begin_run(&mut self, largest: SequenceNumber) {
        self.largest.push(largest);
    }

    /// Range tombstones of the run that began last.
    pub(super) fn add(&mut self, tombstones: &Arc<RangeTombstones>) {
        self.sources.push((self.largest.len().saturating_sub(1), Source::Run(Arc::clone(tombstones))));
    }

    /// Range tombstones of the reader's own, of the run that began last.
    pub(super) fn add_own(&mut self, tombstones: &Arc<RangeTombstones>) {
        self.sources.push((self.largest.len().saturating_sub(1), Source::Own(Arc::clone(tombstones))));
    }

    /// The run that began last is this level, which may have range tombstones.
    pub(super) fn add_level(&mut self, level: &Arc<Level>, tables: &Arc<TableCache>) {
        let source = LevelTombstones { level: Arc::clone(level), tables: Arc::clone(tables), current: None };
        self.sources.push((self.largest.len().saturating_sub(1), Source::Level(source)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The newest visible range tombstone over `key`; 0 if there is none.
    ///
    /// # Errors
    /// What a table says that cannot be opened.
    pub(super) fn covering(&mut self, key: &[u8]) -> Result<SequenceNumber> {
        if !self.is_known(key) {
            self.find(key)?;
        }
        Ok(self.known.newest)
    }

    /// The walk goes elsewhere, or turns: what it jumped over may lie before it again.
    pub(super) fn forget_jump(&mut self) {
        self.known.was_jumped = false;
    }

    /// The gap around the key that was asked for last; `None` if a walk has jumped over it already.
    pub(super) fn jump(&mut self) -> Option<Jump<'_>> {
        let known = &mut self.known;
        if std::mem::replace(&mut known.was_jumped, true) || known.newest == SequenceNumber::ZERO {
            return None;
        }
        Some(Jump {
            begin: known.begin.as_deref(),
            end: known.end.as_deref(),
            newest: known.newest,
            run: known.run,
            largest: &self.largest,
        })
    }

    fn is_known(&self, key: &[u8]) -> bool {
        let known = &self.known;
        known.is_valid
            && known.begin.as_ref().is_none_or(|begin| self.order.compare(begin, key).is_le())
            && known.end.as_ref().is_none_or(|end| self.order.compare(key, end).is_lt())
    }

    fn find(&mut self, key: &[u8]) -> Result<()> {
        let mut found = Interval { begin: None, end: None, newest: SequenceNumber::ZERO };
        let mut newest_run = 0;
        self.known.is_valid = false;
        for (run, source) in &mut self.sources {
            // A memtable is one run and may be several sources, in no order of age.
            if found.newest != SequenceNumber::ZERO && *run != newest_run {
                break;
            }
            newest_run = *run;
            let of_run = match source {
                Source::Run(tombstones) => tombstones.interval(key, self.snapshot),
                Source::Own(tombstones) => tombstones.interval(key, SequenceNumber::MAX),
                Source::Level(level) => level.interval(&self.order, key, self.snapshot)?,
            };
            found = Interval {
                begin: of_run.begin.map_or(found.begin, |begin| match found.begin {
                    Some(other) if self.order.compare(other, begin).is_ge() => Some(other),
                    _ => Some(begin),
                }),
                end: of_run.end.map_or(found.end, |end| match found.end {
                    Some(other) if self.order.compare(other, end).is_le() => Some(other),
                    _ => Some(end),
                }),
                newest: found.newest.max(of_run.newest),
            };
        }
        let known = &mut self.known;
        replace(&mut known.begin, found.begin);
        replace(&mut known.end, found.end);
        (known.is_valid, known.newest, known.run, known.was_jumped) = (true, found.newest, newest_run, false);
        Ok(())
    }
}

/// Copies a key into the memory of the last one.
fn replace(place: &mut Option<Vec<u8>>, key: Option<&[u8]>) {
    match (place.as_mut(), key) {
        (Some(buffer), Some(key)) => {
            buffer.clear();
            buffer.extend_from_slice(key);
        }
        (_, key) => *place = key.map(<[u8]>::to_vec),
    }
}

/// Those of a sorted level, file by file.
struct LevelTombstones {
    level: Arc<Level>,
    tables: Arc<TableCache>,
    /// Those of the file with this place in the level, if it has any.
    current: Option<(usize, Option<Arc<RangeTombstones>>)>,
}

impl LevelTombstones {
    fn interval<'a>(&'a mut self, order: &KeyOrder, key: &'a [u8], snapshot: SequenceNumber) -> Result<Interval<'a>> {
        // The first file that reaches up to the key or beyond. A bound that a range tombstone set is its end, before which the
        // file ends: its number is larger than that of any target.
        let at = self.level.find_file(order, &SeekKey::new(key, snapshot.min(SequenceNumber::LIMIT)));
        let none = |begin, end| Interval { begin, end, newest: SequenceNumber::ZERO };
        let smallest = |file: &'a Arc<TableFile>| user_key(&file.meta.smallest);
        let Some(file) = self.level.files().get(at) else { return Ok(none(Some(key), None)) };
        if order.compare(key, smallest(file)).is_lt() {
            return Ok(none(Some(key), Some(smallest(file))));
        }
        // Between this file and the next there is nothing.
        let next = self.level.files().get(at + 1).map(smallest);
        if !file.may_have_range_tombstones() {
            return Ok(none(Some(smallest(file)), next));
        }
        if self.current.as_ref().is_none_or(|(current, _)| *current != at) {
            let tombstones = self.tables.open(file, order)?.range_tombstones().cloned();
            self.current = Some((at, tombstones));
        }
        let Some((_, Some(tombstones))) = &self.current else { return Ok(none(Some(smallest(file)), next)) };
        let found = tombstones.interval(key, snapshot);
        Ok(Interval { begin: found.begin.or(Some(smallest(file))), end: found.end.or(next), newest: found.newest })
    }
}
