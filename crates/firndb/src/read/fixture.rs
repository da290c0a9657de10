//! SuperVersions built by hand, for tests: writes in order of age, laid out over levels and memtables.
//!
//! Flow: a history of writes, and how many of them go into which run -> **[`Fixture`]** -> the lookups and iterators of this
//! room, with no database around them. Tables have tiny blocks and a filter, in a file system in memory.

use std::path::{Path, PathBuf};

use crate::cache::BlockCache;
use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber, ValueKind, internal_key, user_key};
use crate::format::merge::MergeRule;
use crate::format::prefix::PrefixExtractor;
use crate::fs::{CreateMode, Fs, MemoryFs};
use crate::iter::range_tombstones::RangeTombstone;
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

/// One write; its sequence number is its place in the history, from 1. The value of a range tombstone is its end.
pub(super) type Write = (Vec<u8>, ValueKind, Vec<u8>);
type Entry = (Vec<u8>, Vec<u8>);

pub(super) struct Fixture {
    memtable: Arc<MemTable>,
    immutables: Vec<Arc<MemTable>>,
    pub(super) version: Arc<Version>,
    pub(super) tables: Arc<TableCache>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) fs: MemoryFs,
    pub(super) merge: Option<Arc<MergeRule>>,
}

fn memtable(order: &KeyOrder, id: u64, entries: &[(u64, &Write)]) -> Arc<MemTable> {
    let memtable = MemTable::new(id, order.clone(), 1 << 16, FileNumber(1), 0);
    for (sequence, (key, kind, value)) in entries {
        match kind {
            ValueKind::RangeDeletion => memtable.delete_range(SequenceNumber(*sequence), key, value).expect("inserts"),
            kind => memtable.insert(SequenceNumber(*sequence), *kind, key, value).expect("inserts"),
        }
    }
    memtable
}

fn table(
    fs: &MemoryFs,
    order: &KeyOrder,
    number: u64,
    entries: Vec<Entry>,
    tombstones: Vec<RangeTombstone>,
) -> Arc<TableFile> {
    let path = path_of(number);
    // Small blocks, so that a few entries are several; a filter, so that it is asked, for prefixes too.
    let prefixes = if number.is_multiple_of(2) { PrefixExtractor::Fixed(1) } else { PrefixExtractor::Capped(2) };
    let config = TableConfig {
        block_size: 64,
        bloom_bits_per_key: Some(10.0),
        prefixes: Some(prefixes),
        ..TableConfig::default()
    };
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
    tombstones.into_iter().for_each(|tombstone| builder.add_range_tombstone(tombstone));
    let built = builder.finish().expect("finishes");
    TableFile::new(FileMeta {
        number: FileNumber(number),
        size: built.size,
        smallest: built.smallest,
        largest: built.largest,
        smallest_seq: built.smallest_seq,
        largest_seq: built.largest_seq,
        counts: Some(built.counts),
        epoch: number,
        ..FileMeta::default()
    })
}

fn sorted(order: &KeyOrder, entries: &[(u64, &Write)]) -> Vec<Entry> {
    let mut sorted: Vec<Entry> = entries
        .iter()
        .filter(|(_, (_, kind, _))| *kind != ValueKind::RangeDeletion)
        .map(|(sequence, (key, kind, value))| {
            (internal_key(key, SequenceNumber(*sequence), *kind as u8), value.clone())
        })
        .collect();
    sorted.sort_by(|a, b| order.compare_internal(&a.0, &b.0));
    sorted
}

/// The range tombstones among the writes: what of them is from `begin` on and before `end`.
fn tombstones(
    order: &KeyOrder,
    entries: &[(u64, &Write)],
    begin: Option<&[u8]>,
    end: Option<&[u8]>,
) -> Vec<RangeTombstone> {
    let mut found: Vec<RangeTombstone> = Vec::new();
    for (sequence, (key, kind, value)) in entries {
        if *kind == ValueKind::RangeDeletion {
            let begin = begin.filter(|begin| order.compare(begin, key).is_gt()).unwrap_or(key).to_vec();
            let end = end.filter(|end| order.compare(end, value).is_lt()).unwrap_or(value).to_vec();
            if order.compare(&begin, &end).is_lt() {
                found.push(RangeTombstone { begin, end, sequence: SequenceNumber(*sequence) });
            }
        }
    }
    found.sort_by(|a, b| order.compare(&a.begin, &b.begin).then(b.sequence.cmp(&a.sequence)));
    found
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
            // Every file has what is left of the range tombstones up to the first key of the next.
            let first: Vec<Vec<u8>> = files.iter().map(|file| user_key(&file[0].0).to_vec()).collect();
            let begin = |i: usize| (i > 0).then(|| &first[i][..]);
            let end = |i: usize| first.get(i + 1).map(|key| &key[..]);
            if files.is_empty() && !tombstones(order, runs[run], None, None).is_empty() {
                files.push(Vec::new());
            }
            let of = |i: usize| tombstones(order, runs[run], if i < first.len() { begin(i) } else { None }, end(i));
            let numbered = files.into_iter().enumerate();
            let files = numbered.map(|(i, file)| table(&fs, order, number(i), file, of(i))).collect();
            Arc::new(Level::new(2 - run, order, files).expect("sorted and disjoint"))
        };
        let of_run = |run: usize| (sorted(order, runs[run]), tombstones(order, runs[run], None, None));
        let newest_first = [4, 3, 2].into_iter().map(|run| (run, of_run(run)));
        let newest_first = newest_first.filter(|(_, (entries, ranges))| !entries.is_empty() || !ranges.is_empty());
        let file = |(run, (entries, ranges)): (usize, _)| table(&fs, order, run as u64, entries, ranges);
        let level_0 = newest_first.map(file).collect();
        let level_0 = Level::new(0, order, level_0).expect("in order of age");
        let levels = vec![Arc::new(level_0), level(1), level(0), Arc::new(Level::empty(3))];
        let version = Arc::new(Version::of_levels(1, order.clone(), levels));
        let immutables = vec![memtable(order, 6, runs[6]), memtable(order, 5, runs[5])];
        let statistics = Arc::new(Statistics::default());
        let blocks = BlockCache::new(1 << 20);
        let tables = TableCache::new(Arc::new(fs.clone()), DIR.into(), Some(3), blocks, false, Arc::clone(&statistics));
        let tables = Arc::new(tables);
        Fixture { memtable: memtable(order, 7, runs[7]), immutables, version, tables, statistics, fs, merge: None }
    }

    pub(super) fn layers(&self) -> Layers<'_> {
        Layers {
            memtable: &self.memtable,
            immutables: &self.immutables,
            version: &self.version,
            merge: self.merge.as_deref(),
        }
    }

    pub(super) fn view(&self, sequence: u64, options: &ReadOptions) -> View {
        let acquired = (Arc::clone(&self.memtable), self.immutables.clone(), Arc::clone(&self.version));
        let statistics = Arc::clone(&self.statistics);
        let tables = Arc::clone(&self.tables);
        View::new(
            acquired,
            (self.merge.clone(), None),
            SequenceNumber(sequence),
            tables,
            options,
            statistics,
            Box::new(Nothing),
        )
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
