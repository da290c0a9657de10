//! Which pin keeps which bytes: a pure function of the pinned views and the current ones.

use std::collections::{BTreeMap, HashSet};

use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::sync::Arc;

use super::family::SuperVersion;

/// Bytes that are kept by one pin alone, and together with others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) exclusive: u64,
    pub(crate) shared: u64,
}

impl Share {
    fn add(&mut self, bytes: u64, holders: usize) {
        match holders {
            1 => self.exclusive += bytes,
            _ => self.shared += bytes,
        }
    }
}

/// What one pin keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) disk: Share,
    pub(crate) memory: Share,
    pub(crate) files: Vec<FileNumber>,
}

/// For each pinned view: what would be free if no pin held it. `pinned` has one entry a pin (or `None` for a pin without
/// a view), `current` the published views of all families.
///
/// A file or memtable that no current view names is kept by the pins whose views name it: by one alone (exclusive), or by
/// several (shared). Ending a pin frees exactly its exclusive bytes.
pub(crate) fn attribute(pinned: &[Option<Arc<SuperVersion>>], current: &[Arc<SuperVersion>]) -> Vec<Held> {
    let live: HashSet<FileNumber> =
        current.iter().flat_map(|view| view.version.files().map(|(_, file)| file.number())).collect();
    let live_memtables: HashSet<(ColumnFamilyId, u64)> =
        current.iter().flat_map(|view| view.memtables().map(|memtable| (view.config.id, memtable.id))).collect();
    let mut files: BTreeMap<FileNumber, (u64, Vec<usize>)> = BTreeMap::new();
    let mut memtables: BTreeMap<(ColumnFamilyId, u64), (u64, Vec<usize>)> = BTreeMap::new();
    for (pin, view) in pinned.iter().enumerate() {
        let Some(view) = view else { continue };
        for (_, file) in view.version.files().filter(|(_, file)| !live.contains(&file.number())) {
            files.entry(file.number()).or_insert_with(|| (file.meta.size, Vec::new())).1.push(pin);
        }
        for memtable in view.memtables() {
            let key = (view.config.id, memtable.id);
            if !live_memtables.contains(&key) {
                let bytes = memtable.approximate_bytes() as u64;
                memtables.entry(key).or_insert_with(|| (bytes, Vec::new())).1.push(pin);
            }
        }
    }
    let mut held = vec![Held::default(); pinned.len()];
    for (number, (bytes, pins)) in files {
        for pin in &pins {
            held[*pin].files.push(number);
            held[*pin].disk.add(bytes, pins.len());
        }
    }
    for (bytes, pins) in memtables.into_values() {
        for pin in &pins {
            held[*pin].memory.add(bytes, pins.len());
        }
    }
    held
}
