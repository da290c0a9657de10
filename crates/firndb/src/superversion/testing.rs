//! A family with real tables in memory, for tests of jobs: no database around it.

use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::clock::ManualClock;
use crate::format::comparator::KeyOrder;
use crate::format::file_name;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::fs::{Fs, MemoryFs};
use crate::iter::InternalIterator;
use crate::iter::testing::Entry;
use crate::memtable::MemTable;
use crate::sync::Arc;
use crate::table::reader::TableReadOptions;
use crate::version::set::{VersionSet, VersionSetConfig};
use crate::version::table_cache::TableCache;
use crate::version::{TableFile, Version};

use super::purge::JanitorSeed;
use super::{FamilyConfig, FamilyState, FrozenSnapshots};

pub(crate) const DIR: &str = "/db";

/// A family, its files, and the set of versions that knows them.
pub(crate) struct Lab {
    pub(crate) fs: MemoryFs,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) tables: Arc<TableCache>,
    pub(crate) family: Arc<FamilyState>,
    memtables: std::cell::Cell<u64>,
}

impl Lab {
    pub(crate) fn new(levels: usize) -> Lab {
        let fs = MemoryFs::new();
        fs.create_dir_all(DIR.as_ref()).expect("a directory");
        let clock = Arc::new(ManualClock::new(1));
        let config = VersionSetConfig {
            fs: Arc::new(fs.clone()),
            dir: DIR.into(),
            clock: Arc::clone(&clock) as _,
            levels,
            manifest_bytes_max: 1 << 20,
        };
        let versions = Arc::new(VersionSet::create(config, KeyOrder::Bytewise).expect("a new database"));
        let tables =
            TableCache::new(Arc::new(fs.clone()), DIR.into(), None, BlockCache::new(1 << 20), false, Arc::default());
        let version = versions.current(ColumnFamilyId::DEFAULT).expect("the default family");
        let config = FamilyConfig {
            id: ColumnFamilyId::DEFAULT,
            name: "default".to_owned(),
            order: KeyOrder::Bytewise,
            merge: None,
        };
        let family = FamilyState::new(config, empty_memtable(1), version, JanitorSeed::new().graveyard);
        Lab { fs, clock, versions, tables: Arc::new(tables), family, memtables: std::cell::Cell::new(1) }
    }

    /// Fills the active memtable with `entries`, and makes it immutable.
    pub(crate) fn fill_memtable(&self, entries: &[Entry]) {
        let memtable = Arc::clone(&self.family.load_full().memtable);
        for entry in entries {
            let sequence = SequenceNumber(entry.sequence);
            memtable.insert(sequence, entry.kind, &entry.key, entry.value.as_bytes()).expect("inserted");
        }
        self.memtables.set(self.memtables.get() + 1);
        self.family.switch_memtable(empty_memtable(self.memtables.get()));
    }

    pub(crate) fn version(&self) -> Arc<Version> {
        Arc::clone(&self.family.load_full().version)
    }

    /// What a table holds.
    pub(crate) fn entries(&self, file: &Arc<TableFile>) -> Vec<Entry> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: 0 };
        let mut iter = self.tables.open(file, &KeyOrder::Bytewise).expect("sound").iter(options);
        let mut entries = Vec::new();
        iter.seek_to_first().expect("sound");
        while iter.valid() {
            entries.push(Entry::of(iter.key(), iter.value()));
            iter.next().expect("sound");
        }
        entries
    }

    /// The tables in the directory, in a version or not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.fs.paths().into_iter().filter(|path| path.extension().is_some_and(|is| is == "sst")).collect()
    }
}

pub(crate) fn path_of(number: FileNumber) -> PathBuf {
    Path::new(DIR).join(file_name::table(number))
}

fn empty_memtable(id: u64) -> Arc<MemTable> {
    MemTable::new(id, KeyOrder::Bytewise, 1 << 16, FileNumber(id), 0)
}

/// The snapshots that a job respects, the visible number last.
pub(crate) fn frozen(snapshots: &[u64]) -> FrozenSnapshots {
    let sequences: Vec<_> = snapshots.iter().map(|number| SequenceNumber(*number)).collect();
    let newest_snapshot = sequences.iter().rev().nth(1).copied();
    FrozenSnapshots { sequences, newest_snapshot, keeps_everything: false }
}
