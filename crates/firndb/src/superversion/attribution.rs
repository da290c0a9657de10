//! Which pin keeps which bytes: a pure function of the pinned views and the current ones.

use std::collections::{BTreeMap, HashSet};

use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::sync::Arc;

use super::family::SuperVersion;

/// What one pin keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// On disk, kept by this pin alone.
    pub(crate) exclusive_bytes: u64,
    /// On disk, kept by several pins.
    pub(crate) shared_bytes: u64,
    pub(crate) memtable_bytes: u64,
    pub(crate) files: Vec<FileNumber>,
}

/// For each pinned view: what would be free if no pin held it. `pinned` has one entry a pin (or `None` for a pin without
/// a view), `current` the published views of all families.
///
/// A file that no current version names is kept by the pins whose views name it: by one alone (exclusive), or by several
/// (shared). Ending a pin frees exactly its exclusive bytes.
pub(crate) fn attribute(pinned: &[Option<Arc<SuperVersion>>], current: &[Arc<SuperVersion>]) -> Vec<Held> {
    let live: HashSet<FileNumber> =
        current.iter().flat_map(|view| view.version.files().map(|(_, file)| file.number())).collect();
    let live_memtables: HashSet<(ColumnFamilyId, u64)> =
        current.iter().flat_map(|view| view.memtables().map(|memtable| (view.config.id, memtable.id))).collect();
    let mut holders: BTreeMap<FileNumber, (u64, Vec<usize>)> = BTreeMap::new();
    let mut held = vec![Held::default(); pinned.len()];
    for (pin, view) in pinned.iter().enumerate() {
        let Some(view) = view else { continue };
        for (_, file) in view.version.files() {
            if !live.contains(&file.number()) {
                holders.entry(file.number()).or_insert_with(|| (file.meta.size, Vec::new())).1.push(pin);
            }
        }
        held[pin].memtable_bytes = view
            .memtables()
            .filter(|memtable| !live_memtables.contains(&(view.config.id, memtable.id)))
            .map(|memtable| memtable.approximate_bytes() as u64)
            .sum();
    }
    for (number, (bytes, pins)) in holders {
        for pin in &pins {
            let held = &mut held[*pin];
            held.files.push(number);
            match pins.len() {
                1 => held.exclusive_bytes += bytes,
                _ => held.shared_bytes += bytes,
            }
        }
    }
    held
}
