//! SuperVersions built by hand, for tests: writes in order of age, laid out over levels and memtables.

use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind, internal_key, user_key};
use crate::fs::{CreateMode, Fs, MemoryFs};
use crate::memtable::MemTable;
use crate::metrics::Statistics;
use crate::sync::Arc;
use crate::table::builder::{TableBuildContext, TableBuilder, TableConfig};
use crate::version::edit::FileMeta;
use crate::version::table_cache::TableCache;
use crate::version::{Level, TableFile, Version};

use super::get::Layers;
use super::options::ReadOptions;
use super::view::{Hold, View};

const DIR: &str = "/db";

fn path_of(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:06}.sst"))
}

/// One write; its sequence number is its place in the history, from 1.
pub(super) type Write = (Vec<u8>, ValueKind, Vec<u8>);
type Entry = (Vec<u8>, Vec<u8>);

pub(super) struct Fixture {
    memtable: Arc<MemTable>,
    immutables: Vec<Arc<MemTable>>,
    pub(super) version: Arc<Version>,
    pub(super) tables: Arc<TableCache>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) fs: MemoryFs,
}

fn memtable(order: &KeyOrder, id: u64, entries: &[(u64, &Write)]) -> Arc<MemTable> {
    let memtable = MemTable::new(id, order.clone(), 1 << 16, FileNumber(1), 0);
    for (sequence, (key, kind, value)) in entries {
        memtable.insert(SequenceNumber(*sequence), *kind, key, value).expect("inserts");
    }
    memtable
}

fn table(fs: &MemoryFs, order: &KeyOrder, number: u64, entries: Vec<Entry>) -> Arc<TableFile> {
    let path = path_of(number);
    // Small blocks, so that a few entries are several; a filter, so that it is asked.
    let config = TableConfig { block_size: 64, bloom_bits_per_key: Some(10.0), ..TableConfig::default() };
    let context = TableBuildContext {
        order: order.clone(),
        family_id: ColumnFamilyId::DEFAULT,
        family_name: "default".into(),
        file_number: FileNumber(number),
        db_id: "d".into(),
        session_id: "s".into(),
        oldest_key_time: 0,
        creation_time: 0,
        is_all_logged: true,
    };
    let mut builder = TableBuilder::new(fs.create(&path, CreateMode::New).expect("creates"), config, context);
    for (key, value) in &entries {
        builder.add(key, value).expect("in order");
    }
    let built = builder.finish().expect("finishes");
    TableFile::new(FileMeta {
        number: FileNumber(number),
        size: built.size,
        smallest: built.smallest,
        largest: built.largest,
        smallest_seq: built.smallest_seq,
        largest_seq: built.largest_seq,
        epoch: number,
        ..FileMeta::default()
    })
}

fn sorted(order: &KeyOrder, entries: &[(u64, &Write)]) -> Vec<Entry> {
    let mut sorted: Vec<Entry> = entries
        .iter()
        .map(|(sequence, (key, kind, value))| {
            (internal_key(key, SequenceNumber(*sequence), *kind as u8), value.clone())
        })
        .collect();
    sorted.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
    sorted
}

impl Fixture {
    /// Cuts `writes` into runs of equal length: the oldest are level 2 and level 1 (several files each), then come
    /// three files of level 0, two immutable memtables and the active one.
    pub(super) fn new(order: &KeyOrder, writes: &[Write]) -> Fixture {
        const RUNS: usize = 8;
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new(DIR)).expect("creates");
        let numbered: Vec<(u64, &Write)> = (1..).zip(writes).collect();
        let runs: Vec<&[(u64, &Write)]> =
            (0..RUNS).map(|i| &numbered[numbered.len() * i / RUNS..numbered.len() * (i + 1) / RUNS]).collect();
        let level = |run: usize| {
            let mut files: Vec<Vec<Entry>> = Vec::new();
            for entry in sorted(order, runs[run]) {
                match files.last_mut() {
                    // A file ends after three entries, but never between two versions of a key.
                    Some(file)
                        if file.len() < 3
                            || order.compare(user_key(&file[file.len() - 1].0), user_key(&entry.0)).is_eq() =>
                    {
                        file.push(entry);
                    }
                    _ => files.push(vec![entry]),
                }
            }
            let number = |i: usize| (run * 100 + 10 + i) as u64;
            let files = files.into_iter().enumerate().map(|(i, file)| table(&fs, order, number(i), file)).collect();
            Arc::new(Level::new(2 - run, order, files).expect("sorted and disjoint"))
        };
        let newest_first = [4, 3, 2].into_iter().filter(|run| !runs[*run].is_empty());
        let level_0 = newest_first.map(|run| table(&fs, order, run as u64, sorted(order, runs[run]))).collect();
        let level_0 = Level::new(0, order, level_0).expect("in order of age");
        let levels = vec![Arc::new(level_0), level(1), level(0), Arc::new(Level::empty(3))];
        let version = Arc::new(Version { id: 1, order: order.clone(), levels });
        let immutables = vec![memtable(order, 6, runs[6]), memtable(order, 5, runs[5])];
        let statistics = Arc::new(Statistics::default());
        let blocks = BlockCache::new(1 << 20);
        let tables = TableCache::new(Arc::new(fs.clone()), DIR.into(), Some(3), blocks, false, Arc::clone(&statistics));
        let tables = Arc::new(tables);
        Fixture { memtable: memtable(order, 7, runs[7]), immutables, version, tables, statistics, fs }
    }

    pub(super) fn layers(&self) -> Layers<'_> {
        Layers { memtable: &self.memtable, immutables: &self.immutables, version: &self.version }
    }

    pub(super) fn view(&self, sequence: u64, options: &ReadOptions) -> View {
        let acquired = (Arc::clone(&self.memtable), self.immutables.clone(), Arc::clone(&self.version));
        let statistics = Arc::clone(&self.statistics);
        let tables = Arc::clone(&self.tables);
        View::new(acquired, SequenceNumber(sequence), tables, options, statistics, Box::new(Nothing))
    }
}

/// Holds nothing and ousts nobody.
struct Nothing;

impl Hold for Nothing {
    fn pulse(&self) -> Result<()> {
        Ok(())
    }

    fn ousting(&self) -> Arc<crate::sync::atomic::AtomicBool> {
        Arc::new(crate::sync::atomic::AtomicBool::new(false))
    }
}
