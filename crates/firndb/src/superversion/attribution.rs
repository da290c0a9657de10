//! Which pin keeps which bytes: a pure function of what is pinned, of what is current, and of the files that wait.

use std::collections::{BTreeMap, HashSet};

use crate::format::file_name::FileKind;
use crate::format::key::{ColumnFamilyId, FileNumber};
use crate::sync::Arc;
use crate::version::Version;
use crate::version::set::hold::Hold;

use super::view::SuperVersion;

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

/// What a pin holds.
#[derive(Debug, Clone)]
pub(crate) enum Pinned {
    /// No files: a snapshot; or it is not known (any more).
    Nothing,
    View(Arc<SuperVersion>),
    Files(Arc<Hold>),
}

/// Files or memtables with their bytes, and the pins that hold them.
type Holders<K> = BTreeMap<K, (u64, Vec<usize>)>;

/// For each pin: what would be free if no pin held it. `current` are the published views of all families, `waiting` the
/// obsolete files that are not unlinked yet, with their sizes.
///
/// A table, blob file or memtable that no current view names is kept by the pins whose views name it: by one alone (exclusive), or by
/// several (shared). A log, MANIFEST or OPTIONS file that waits is kept by the holds that say so. Ending a pin frees exactly
/// its exclusive bytes.
pub(crate) fn attribute(
    pinned: &[Pinned],
    current: &[Arc<SuperVersion>],
    waiting: &[(FileKind, FileNumber, u64)],
) -> Vec<Held> {
    let files_of = |version: &Version| -> Vec<(FileNumber, u64)> {
        let tables = version.files().map(|(_, file)| (file.number(), file.meta.size));
        tables.chain(version.blobs.iter().map(|blob| (blob.file.meta.number, blob.file.meta.bytes))).collect()
    };
    let live: HashSet<FileNumber> =
        current.iter().flat_map(|view| files_of(&view.version)).map(|(number, _)| number).collect();
    let live_memtables: HashSet<(ColumnFamilyId, u64)> =
        current.iter().flat_map(|view| view.memtables().map(|memtable| (view.config.id, memtable.id))).collect();
    let mut files: Holders<FileNumber> = BTreeMap::new();
    let mut memtables: Holders<(ColumnFamilyId, u64)> = BTreeMap::new();
    let hold_version = |files: &mut Holders<FileNumber>, version: &Version, pins: &[usize]| {
        for (number, bytes) in files_of(version).into_iter().filter(|(number, _)| !live.contains(number)) {
            files.entry(number).or_insert_with(|| (bytes, Vec::new())).1.extend(pins);
        }
    };
    // Many pins have few views: each is looked at once.
    let mut holders: BTreeMap<*const SuperVersion, (&SuperVersion, Vec<usize>)> = BTreeMap::new();
    for (pin, pinned) in pinned.iter().enumerate() {
        match pinned {
            Pinned::Nothing => {}
            Pinned::View(view) => {
                holders.entry(Arc::as_ptr(view)).or_insert_with(|| (view, Vec::new())).1.push(pin);
            }
            Pinned::Files(hold) => {
                hold.versions.iter().for_each(|version| hold_version(&mut files, version, &[pin]));
                let others = waiting.iter().filter(|(kind, ..)| !matches!(kind, FileKind::Table | FileKind::Blob));
                for (_, number, bytes) in others.filter(|(kind, number, _)| hold.keeps(*kind, *number)) {
                    files.entry(*number).or_insert_with(|| (*bytes, Vec::new())).1.push(pin);
                }
            }
        }
    }
    for (view, pins) in holders.into_values() {
        hold_version(&mut files, &view.version, &pins);
        for memtable in view.memtables() {
            let key = (view.config.id, memtable.id);
            if !live_memtables.contains(&key) {
                let bytes = memtable.approximate_bytes() as u64;
                memtables.entry(key).or_insert_with(|| (bytes, Vec::new())).1.extend(&pins);
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
