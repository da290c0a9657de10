//! What a key is, where more than its newest entry decides: range tombstones hide entries, operands need what is below them,
//! references lead to blob files, and entities have columns.
//!
//! Flow: [`super::get`] and [`super::multi_get`] come here if any run of the view may have range tombstones, or if they found an
//! operand -> **[`get`]** -> run by run, newest first: the range tombstones of a run, then its entries of the key, the newest
//! first, until one of them decides.
//!
//! Invariant: a run is newer than those after it, key by key, and its range tombstones count among what it holds. So where a range
//! tombstone of a run covers the key, later runs have no say.

use crate::error::Result;
use crate::format::comparator::prefix_u64;
use crate::format::entity::{Columns, default_column, with_default_column};
use crate::format::key::{ParsedKey, SequenceNumber, ValueKind};
use crate::iter::InternalIterator;
use crate::iter::meaning::ToReader;
use crate::iter::operands::Operands;
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::table::filter::KeyHash;
use crate::table::reader::TableReadOptions;
use crate::version::file_iter::FileIter;
use crate::version::table_cache::TableCache;

use super::get::{Layers, SeekKey};
use super::slice::Slice;
use super::source::{Run, Source};

/// The newest value of `user_key` that `sequence` sees in these layers; `None` if absent, deleted or in a deleted range.
///
/// # Errors
/// As of [`super::get::get`], and those of the merge operator.
#[cold]
pub(crate) fn get(
    layers: Layers<'_>,
    tables: &TableCache,
    user_key: &[u8],
    sequence: SequenceNumber,
    options: &TableReadOptions,
    statistics: &Statistics,
) -> Result<Option<Slice>> {
    let found = find(layers, tables, user_key, sequence, options)?;
    statistics.add(if found.is_in_memtable { Ticker::MemtableHit } else { Ticker::MemtableMiss }, 1);
    let base = found.base.map(Base::into_value).transpose()?;
    if found.operands.is_empty() {
        return Ok(base);
    }
    found.operands.merged(layers.merge, user_key, base.as_deref()).map(|value| Some(Slice::copied(&value)))
}

/// The columns of `user_key`, as [`get`] has its value.
#[cold]
pub(crate) fn entity(
    layers: Layers<'_>,
    tables: &TableCache,
    user_key: &[u8],
    sequence: SequenceNumber,
    options: &TableReadOptions,
) -> Result<Option<Columns>> {
    let found = find(layers, tables, user_key, sequence, options)?;
    let merged = |base: Option<&[u8]>| found.operands.merged(layers.merge, user_key, base);
    Ok(match (found.base, found.operands.is_empty()) {
        (None, true) => None,
        (None, false) => Some(Columns::of_value(&merged(None)?)),
        (Some(Base::Value(value)), true) => Some(Columns::of_value(&value)),
        (Some(Base::Value(value)), false) => Some(Columns::of_value(&merged(Some(&value))?)),
        (Some(Base::Entity(entity)), true) => Some(Columns::parse(&entity)?),
        (Some(Base::Entity(entity)), false) => {
            let default = merged(Some(default_column(&entity)?))?;
            Some(Columns::parse(&with_default_column(&entity, &default)?)?)
        }
    })
}

/// What the value of `user_key` is made of, the oldest first: its base, if it has one, and its operands.
pub(crate) fn operands(
    layers: Layers<'_>,
    tables: &TableCache,
    user_key: &[u8],
    sequence: SequenceNumber,
    options: &TableReadOptions,
) -> Result<Vec<Vec<u8>>> {
    let found = find(layers, tables, user_key, sequence, options)?;
    let base = found.base.map(Base::into_value).transpose()?;
    Ok(base.map(Slice::into_vec).into_iter().chain(found.operands.into_vec()).collect())
}

/// What operands are based on.
enum Base {
    Value(Slice),
    Entity(Slice),
}

impl Base {
    /// The value, or that of the default column.
    fn into_value(self) -> Result<Slice> {
        match self {
            Base::Value(value) => Ok(value),
            Base::Entity(entity) => default_column(&entity).map(Slice::copied),
        }
    }
}

/// All that has a say in what a key is.
struct Found {
    /// The oldest first.
    operands: Operands,
    base: Option<Base>,
    /// Nothing had to be looked for in tables.
    is_in_memtable: bool,
}

fn find(
    layers: Layers<'_>,
    tables: &TableCache,
    user_key: &[u8],
    sequence: SequenceNumber,
    options: &TableReadOptions,
) -> Result<Found> {
    if let Some(obstacle) = layers.version.obstacle() {
        return Err(obstacle.clone());
    }
    let order = &layers.version.order;
    let target = SeekKey::new(user_key, sequence);
    let mut walk =
        Walk { layers, tables, options, user_key, target: &target, operands: Operands::default(), base: None };
    let memtables = std::iter::once(layers.memtable).chain(layers.immutables.iter().map(|memtable| &**memtable));
    for memtable in memtables {
        let runs = memtable.range_tombstones();
        let covers = runs.iter().flat_map(|runs| runs.iter()).map(|run| run.covering(user_key, sequence));
        let cover = covers.max().unwrap_or_default();
        if walk.ask(cover, memtable.get_ref(user_key, sequence).is_some(), || Ok(Source::Memtable(memtable.iter())))? {
            return Ok(walk.found(true));
        }
    }
    let (mut hash, prefix) = (KeyHash::default(), prefix_u64(user_key));
    for (number, level) in layers.version.levels.iter().enumerate() {
        let files = match number {
            0 => level.files(),
            _ => {
                let at = level.find_file(order, &target);
                level.files().get(at..=at).unwrap_or_default()
            }
        };
        for file in files.iter().filter(|file| file.may_hold(order, user_key, prefix)) {
            let table = tables.open(file, order)?;
            let cover = table.range_tombstones().map_or(SequenceNumber::ZERO, |all| all.covering(user_key, sequence));
            let may_hold = table.may_contain(user_key, &mut hash);
            let run = || Ok(Source::File(FileIter::new(Arc::clone(file), table.iter(*options))));
            if walk.ask(cover, may_hold, run)? {
                return Ok(walk.found(false));
            }
        }
    }
    Ok(walk.found(false))
}

/// One key on its way through the runs.
struct Walk<'a> {
    layers: Layers<'a>,
    tables: &'a TableCache,
    options: &'a TableReadOptions,
    user_key: &'a [u8],
    target: &'a [u8],
    /// The newest first.
    operands: Operands,
    base: Option<Base>,
}

impl Walk<'_> {
    /// Asks a run whose newest range tombstone over the key is `cover`; true if later runs have no say.
    fn ask(&mut self, cover: SequenceNumber, may_hold: bool, run: impl FnOnce() -> Result<Source>) -> Result<bool> {
        if may_hold {
            let mut run = run()?;
            run.seek(self.target)?;
            while run.valid() {
                let entry = ParsedKey::parse(run.key())?;
                if self.layers.version.order.compare(entry.user_key, self.user_key).is_ne() || entry.sequence < cover {
                    break;
                }
                match ToReader::of(entry.kind) {
                    ToReader::Value => {
                        self.base = Some(Base::Value(run.value_slice()));
                        return Ok(true);
                    }
                    ToReader::Nothing => return Ok(true),
                    ToReader::Operand => self.operands.push(run.value())?,
                    ToReader::Unresolved(ValueKind::BlobIndex) => {
                        let value = self.tables.blob(self.layers.version, self.user_key, run.value(), self.options)?;
                        self.base = Some(Base::Value(Slice::from(value)));
                        return Ok(true);
                    }
                    ToReader::Unresolved(ValueKind::WideColumnEntity) => {
                        self.base = Some(Base::Entity(run.value_slice()));
                        return Ok(true);
                    }
                    ToReader::Unresolved(kind) => return Err(kind.unsupported()),
                }
                run.next()?;
            }
        }
        Ok(cover > SequenceNumber::ZERO)
    }

    fn found(mut self, is_in_memtable: bool) -> Found {
        self.operands.reverse();
        Found { operands: self.operands, base: self.base, is_in_memtable }
    }
}
