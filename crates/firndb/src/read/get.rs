//! Point lookups: the newest version of one key that a sequence number sees.
//!
//! Flow: `db::get` -> **`get`** -> memtable, immutable memtables (newest first), level 0 (newest first, by key range), then
//! at most one file of each deeper level. The first version found is the answer, since every run is newer than those after
//! it; where there are range tombstones, or the entry is an operand, [`super::resolve`] goes the same way and asks more. The key is hashed at most once, for the filters of all tables; nothing is allocated but a long result's pin.

use crate::error::Result;
use crate::format::comparator::prefix_u64;
use crate::format::key::{SEEK_KIND, SequenceNumber, TRAILER_LEN, ValueKind, internal_key, pack_trailer};
use crate::format::merge::MergeRule;
use crate::iter::meaning::ToReader;
use crate::memtable::MemTable;
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::table::filter::KeyHash;
use crate::table::reader::{TableHit, TableReadOptions};
use crate::version::Version;
use crate::version::table_cache::TableCache;

use super::resolve;
use super::slice::Slice;

/// The runs of a SuperVersion, newest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layers<'a> {
    pub(crate) memtable: &'a MemTable,
    pub(crate) immutables: &'a [Arc<MemTable>],
    pub(crate) version: &'a Version,
    pub(crate) merge: Option<&'a MergeRule>,
}

/// What the newest entry of a key says.
pub(super) enum Found {
    /// All there is to say: the value, or that there is none.
    Is(Option<Slice>),
    /// What is below has a say, too, or the value is elsewhere, or it has columns: [`super::resolve`] has to be asked.
    Operand,
}

impl Layers<'_> {
    /// False if no run has a range tombstone: then the newest entry of a key decides.
    #[inline]
    pub(super) fn may_have_range_tombstones(&self) -> bool {
        self.version.may_have_range_tombstones()
            || self.memtable.has_range_tombstones()
            || self.immutables.iter().any(|memtable| memtable.has_range_tombstones())
    }

    /// What the memtables say; `None` if they have never heard of the key.
    #[inline]
    pub(super) fn in_memtables(&self, user_key: &[u8], sequence: SequenceNumber) -> Option<Result<Found>> {
        // One that is empty after the sequence number was read gets no entry that this reader sees.
        let active = if self.memtable.has_entries() { in_memtable(self.memtable, user_key, sequence) } else { None };
        active.or_else(|| self.immutables.iter().find_map(|memtable| in_memtable(memtable, user_key, sequence)))
    }
}

/// The newest value of `user_key` that `sequence` sees in these layers; `None` if absent or deleted.
///
/// # Errors
/// Whatever a table says that cannot be read, and `NotSupported` if the newest version is of a kind that cannot be
/// resolved. An error in a newer run is not papered over with an older version.
pub(crate) fn get(
    layers: Layers<'_>,
    tables: &TableCache,
    user_key: &[u8],
    sequence: SequenceNumber,
    options: &TableReadOptions,
    statistics: &Statistics,
) -> Result<Option<Slice>> {
    statistics.add(Ticker::NumberKeysRead, 1);
    if layers.may_have_range_tombstones() {
        return counted(resolve::get(layers, tables, user_key, sequence, options, statistics), statistics);
    }
    let below = || counted(resolve::get(layers, tables, user_key, sequence, options, statistics), statistics);
    if let Some(found) = layers.in_memtables(user_key, sequence) {
        return match found? {
            Found::Is(value) => {
                statistics.add(Ticker::MemtableHit, 1);
                counted(Ok(value), statistics)
            }
            Found::Operand => below(),
        };
    }
    statistics.add(Ticker::MemtableMiss, 1);
    let order = &layers.version.order;
    let (mut hash, mut target, prefix) = (KeyHash::default(), None, prefix_u64(user_key));
    for (number, level) in layers.version.levels.iter().enumerate() {
        let files = match number {
            0 => level.files(),
            _ if level.files().is_empty() => continue,
            _ => {
                let target = target.get_or_insert_with(|| SeekKey::new(user_key, sequence));
                let at = level.find_file(order, target);
                level.files().get(at..=at).unwrap_or_default()
            }
        };
        for file in files.iter().filter(|file| file.may_hold(order, user_key, prefix)) {
            let hit = tables.borrow(file, order)?.get(user_key, sequence, &mut hash, options)?;
            if let Some(hit) = hit {
                return match in_table(hit)? {
                    Found::Is(value) => counted(Ok(value), statistics),
                    Found::Operand => below(),
                };
            }
        }
    }
    Ok(None)
}

/// An internal key to look for, on the stack unless it is long.
pub(super) enum SeekKey {
    Short { len: usize, bytes: [u8; SHORT_LEN] },
    Long(Vec<u8>),
}

/// Longer keys are rare, and an allocation is small beside comparing them.
const SHORT_LEN: usize = 128;

impl SeekKey {
    #[inline]
    pub(super) fn new(user_key: &[u8], sequence: SequenceNumber) -> SeekKey {
        let len = user_key.len() + TRAILER_LEN;
        if len > SHORT_LEN {
            return SeekKey::Long(internal_key(user_key, sequence, SEEK_KIND));
        }
        let mut bytes = [0; SHORT_LEN];
        bytes[..user_key.len()].copy_from_slice(user_key);
        bytes[user_key.len()..len].copy_from_slice(&pack_trailer(sequence, SEEK_KIND).to_le_bytes());
        SeekKey::Short { len, bytes }
    }
}

impl std::ops::Deref for SeekKey {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            SeekKey::Short { len, bytes } => &bytes[..*len],
            SeekKey::Long(bytes) => bytes,
        }
    }
}

fn counted(answer: Result<Option<Slice>>, statistics: &Statistics) -> Result<Option<Slice>> {
    if let Ok(Some(value)) = &answer {
        statistics.add(Ticker::BytesRead, value.len() as u64);
    }
    answer
}

#[inline]
pub(super) fn in_memtable(memtable: &MemTable, user_key: &[u8], sequence: SequenceNumber) -> Option<Result<Found>> {
    let hit = memtable.get_ref(user_key, sequence)?;
    let pin = || memtable.get(user_key, sequence).map(|hit| hit.value);
    Some(resolved(hit.kind, || Slice::in_memtable(hit.value, pin)))
}

/// What a table's hit means.
#[inline]
pub(super) fn in_table(hit: TableHit) -> Result<Found> {
    resolved(hit.kind, || Slice::inline(&hit.value).unwrap_or_else(|| Slice::in_block(hit.value)))
}

#[inline]
fn resolved(kind: ValueKind, value: impl FnOnce() -> Slice) -> Result<Found> {
    match ToReader::of(kind) {
        ToReader::Value => Ok(Found::Is(Some(value()))),
        ToReader::Nothing => Ok(Found::Is(None)),
        ToReader::Operand | ToReader::Unresolved(ValueKind::BlobIndex | ValueKind::WideColumnEntity) => {
            Ok(Found::Operand)
        }
        ToReader::Unresolved(kind) => Err(kind.unsupported()),
    }
}
