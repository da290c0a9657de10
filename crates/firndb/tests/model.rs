//! Random operations against a versioned map: under many option sets, in memory and on disk, with views that are read
//! long after they were taken.
//!
//! `FIRN_SEED` and `FIRN_OPS` choose the run; a failure says its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use firndb::{
    BackgroundMode, BlockCache, CloseMode, ColumnFamily, Columns, CompactionStopStyle, CompactionStyle, Compression,
    Db, IndexedBatch, KeyOrder, ManualClock, MemoryFs, MergeRule, Options, PosixFs, ReadOptions, Slice, Snapshot,
    WriteBatch, WriteOptions, verify_directory,
};
use firndb_testkit::{Map, Random, State, eventually, from_environment};

fn sorted(map: &Map, order: &KeyOrder) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<_> = map.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    all.sort_by(|a, b| order.compare(&a.0, &b.0));
    all
}

/// What a batch does. An entity has a default column, and one named `tag`.
enum Change {
    Put(Vec<u8>, Vec<u8>),
    PutEntity(Vec<u8>, Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn columns<'a>(value: &'a [u8], tag: &'a [u8]) -> [(&'static str, &'a [u8]); 2] {
    [("tag", tag), ("", value)]
}

fn sorted_names(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

struct View {
    iter: firndb::Iter,
    expected: Vec<(Vec<u8>, Vec<u8>)>,
    from_back: bool,
}

struct Run {
    options: Options,
    dir: PathBuf,
    db: Option<Db>,
    state: State,
    /// The second columns of the entities.
    tags: State,
    snapshots: Vec<(Snapshot, State)>,
    views: Vec<View>,
    random: Random,
    label: String,
}

fn entry(entry: firndb::Result<(Slice, Slice)>) -> (Vec<u8>, Vec<u8>) {
    let (key, value) = entry.expect("reads go well");
    (key.to_vec(), value.to_vec())
}

fn is_traced() -> bool {
    std::env::var_os("FIRN_TRACE").is_some()
}

impl Run {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("open")
    }

    fn order(&self) -> KeyOrder {
        self.options.family.key_order.clone()
    }

    fn open(&mut self) {
        let db = Db::open_with(&self.dir, self.options.clone()).unwrap_or_else(|e| panic!("{}: open: {e}", self.label));
        self.db = Some(db);
        if is_traced() {
            eprintln!("opened {:?} {}", self.db().recovery_report(), self.shape());
            eprintln!("{:?}", self.options.fs.list(&self.dir));
        }
        self.compare_all();
    }

    /// Where the entries are, for whoever follows a run.
    fn shape(&self) -> String {
        let stats = self.db().stats();
        let families = stats.families.iter().map(|family| {
            let levels: Vec<_> = family.levels.iter().map(|level| level.files).collect();
            (family.memtable_entries, family.immutable_memtables, levels)
        });
        format!("seq {} {:?}", self.db().latest_sequence(), families.collect::<Vec<_>>())
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.random.below(60);
        let mut key = format!("k{number:03}").into_bytes();
        if number.is_multiple_of(7) {
            key.extend_from_slice(&[0xff, 0x00]);
        }
        if number.is_multiple_of(11) {
            key.truncate(1 + (number % 3) as usize);
        }
        key
    }

    fn family_names(&self) -> Vec<String> {
        self.state.keys().cloned().collect()
    }

    fn family(&mut self) -> (String, ColumnFamily) {
        let names = self.family_names();
        let name = names[self.random.below(names.len() as u64) as usize].clone();
        let family = self.db().column_family(&name).expect("it exists");
        (name, family)
    }

    /// Says what differs, not everything that does not.
    fn assert_same(&self, found: &[(Vec<u8>, Vec<u8>)], expected: &[(Vec<u8>, Vec<u8>)], name: &str) {
        let differs = found.iter().zip(expected).find(|(a, b)| a != b);
        assert!(
            found == expected,
            "{}: family {name}: {} entries instead of {}, first difference {:?}",
            self.label,
            found.len(),
            expected.len(),
            differs.map(|((a, _), (b, _))| (String::from_utf8_lossy(a), String::from_utf8_lossy(b)))
        );
    }

    fn compare_all(&mut self) {
        for name in self.family_names() {
            let family = self.db().column_family(&name).expect("it exists");
            let expected = sorted(&self.state[&name], &self.order());
            let found: Vec<_> = family.iter().expect("opens").map(entry).collect();
            self.assert_same(&found, &expected, &name);
            let mut back: Vec<_> = family.iter().expect("opens").rev().map(entry).collect();
            back.reverse();
            self.assert_same(&back, &expected, &name);
            let mut cursor = family.cursor(ReadOptions::default()).expect("opens");
            let is_forward = self.random.below(2) == 0;
            let mut valid = if is_forward { cursor.seek_to_first() } else { cursor.seek_to_last() }.expect("reads");
            while valid {
                let key = cursor.key().to_vec();
                self.assert_columns(&name, &key, Some(&cursor.columns().expect("reads")));
                valid = if is_forward { cursor.next() } else { cursor.prev() }.expect("reads");
            }
        }
        let names: Vec<_> = self.db().column_families().iter().map(|family| family.name().to_owned()).collect();
        assert_eq!(names.len(), self.state.len(), "{}: {names:?}", self.label);
    }

    /// Draws a change, and makes it in the model.
    fn change(&mut self) -> (ColumnFamily, Change) {
        let names = self.family_names();
        let name = names[self.random.below(names.len() as u64) as usize].clone();
        let family = self.db().column_family(&name).expect("it exists");
        let (order, key, end) = (self.order(), self.key(), self.key());
        let map = self.state.get_mut(&name).expect("it exists");
        let tags = self.tags.entry(name).or_default();
        let value = |random: &mut Random| vec![random.any() as u8; random.below(120) as usize];
        let dice = self.random.below(24);
        let change = if dice == 0 && order.compare(&key, &end).is_le() {
            let is_outside = |k: &Vec<u8>| order.compare(k, &key).is_lt() || order.compare(k, &end).is_ge();
            map.retain(|key, _| is_outside(key));
            tags.retain(|key, _| is_outside(key));
            Change::DeleteRange(key, end)
        } else if dice < 3 {
            let operand = vec![b'a' + self.random.below(20) as u8; self.random.below(9) as usize];
            match map.get_mut(&key) {
                Some(value) => {
                    value.push(b',');
                    value.extend_from_slice(&operand);
                }
                None => drop(map.insert(key.clone(), operand.clone())),
            }
            Change::Merge(key, operand)
        } else if dice < 7 {
            map.remove(&key);
            tags.remove(&key);
            Change::Delete(key)
        } else if dice < 10 {
            let (value, tag) = (value(&mut self.random), value(&mut self.random));
            map.insert(key.clone(), value.clone());
            tags.insert(key.clone(), tag.clone());
            Change::PutEntity(key, value, tag)
        } else {
            let value = value(&mut self.random);
            map.insert(key.clone(), value.clone());
            tags.remove(&key);
            Change::Put(key, value)
        };
        (family, change)
    }

    fn write(&mut self) {
        let changes: Vec<_> = (0..1 + self.random.below(6)).map(|_| self.change()).collect();
        self.step_background();
        let written = if self.random.below(3) == 0 {
            let mut batch = IndexedBatch::new();
            for (family, change) in &changes {
                match change {
                    Change::Put(key, value) => batch.put(family, key, value),
                    Change::PutEntity(key, value, tag) => batch.put_entity(family, key, columns(value, tag)),
                    Change::Delete(key) => batch.delete(family, key),
                    Change::Merge(key, operand) => batch.merge(family, key, operand),
                    Change::DeleteRange(begin, end) => batch.delete_range(family, begin, end),
                };
            }
            self.read_through(&batch);
            self.db().write_indexed(&mut batch)
        } else {
            let mut batch = WriteBatch::new();
            for (family, change) in &changes {
                match change {
                    Change::Put(key, value) => batch.put_cf(family, key, value),
                    Change::PutEntity(key, value, tag) => batch.put_entity_cf(family, key, columns(value, tag)),
                    Change::Delete(key) => batch.delete_cf(family, key),
                    Change::Merge(key, operand) => batch.merge_cf(family, key, operand),
                    Change::DeleteRange(begin, end) => batch.delete_range_cf(family, begin, end),
                };
            }
            let options = if self.random.below(10) == 0 { WriteOptions::synced() } else { WriteOptions::default() };
            self.db().write_with(&mut batch, &options)
        };
        written.unwrap_or_else(|error| panic!("{}: {error}", self.label));
    }

    /// What a batch shows over the database is what the model has already.
    fn read_through(&mut self, batch: &IndexedBatch) {
        let (name, family) = self.family();
        let expected = sorted(&self.state[&name], &self.order());
        let found: Vec<_> = batch.iter(&family).expect("opens").map(entry).collect();
        self.assert_same(&found, &expected, &name);
        let mut back: Vec<_> = batch.iter(&family).expect("opens").rev().map(entry).collect();
        back.reverse();
        self.assert_same(&back, &expected, &name);
        let keys: Vec<_> = (0..5).map(|_| self.key()).collect();
        for (key, found) in keys.iter().zip(batch.multi_get(&family, &keys)) {
            let expected = self.state[&name].get(key).map(|value| &value[..]);
            assert_eq!(found.expect("reads").as_deref(), expected, "{}: {key:?} in a batch", self.label);
            assert_eq!(
                batch.get(&family, key).expect("reads").as_deref(),
                expected,
                "{}: {key:?} in a batch",
                self.label
            );
            let found = batch.get_entity(&family, key, &ReadOptions::default()).expect("reads");
            self.assert_columns(&name, key, found.as_ref());
        }
    }

    /// The columns of a key are its value and its tag.
    fn assert_columns(&self, name: &str, key: &[u8], found: Option<&Columns>) {
        let value = self.state[name].get(key);
        let tag = self.tags.get(name).and_then(|tags| tags.get(key));
        let expected: Option<Vec<(&[u8], &[u8])>> = value.map(|value| {
            let tag = tag.map(|tag| (&b"tag"[..], &tag[..]));
            std::iter::once((&b""[..], &value[..])).chain(tag).collect()
        });
        let found: Option<Vec<_>> = found.map(|columns| columns.iter().collect());
        assert_eq!(found, expected, "{}: columns of {key:?} in {name}", self.label);
    }

    /// Under manual background nobody else flushes what stops writers.
    fn step_background(&mut self) {
        if self.options.background == BackgroundMode::Manual {
            while self.db().run_background_step() {}
        }
    }

    fn read(&mut self) {
        let key = self.key();
        let (name, family) = self.family();
        let expected = self.state[&name].get(&key);
        assert_eq!(family.get(&key).expect("reads").as_deref(), expected.map(|v| &v[..]), "{}: {key:?}", self.label);
        self.assert_columns(&name, &key, family.get_entity(&key).expect("reads").as_ref());
        let keys: Vec<_> = (0..5).map(|_| self.key()).collect();
        for (key, found) in keys.iter().zip(family.multi_get(&keys)) {
            assert_eq!(found.expect("reads").as_deref(), self.state[&name].get(key).map(|v| &v[..]), "{}", self.label);
        }
        if let Some((snapshot, state)) = self.snapshots.last() {
            let options = ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
            let expected = state.get(&name).and_then(|map| map.get(&key));
            let found = family.get_with(&key, &options).expect("reads");
            if state.contains_key(&name) {
                assert_eq!(found.as_deref(), expected.map(|v| &v[..]), "{}: at a snapshot", self.label);
            }
        }
    }

    fn open_view(&mut self) {
        let (name, family) = self.family();
        let order = self.order();
        let (a, b) = (self.key(), self.key());
        let (low, high) = if order.compare(&a, &b).is_le() { (a, b) } else { (b, a) };
        let expected: Vec<_> = sorted(&self.state[&name], &order)
            .into_iter()
            .filter(|(key, _)| order.compare(key, &low).is_ge() && order.compare(key, &high).is_lt())
            .collect();
        let iter = family.range(low..high).expect("opens");
        let from_back = self.random.below(2) == 0;
        self.views.push(View { iter, expected, from_back });
    }

    fn check_view(&mut self) {
        if self.views.is_empty() {
            return;
        }
        let at = self.random.below(self.views.len() as u64) as usize;
        let mut view = self.views.swap_remove(at);
        let (mut front, mut back) = (Vec::new(), Vec::new());
        // Both ends in turns until they meet.
        loop {
            let next = if view.from_back { view.iter.next_back() } else { view.iter.next() };
            match next {
                Some(found) if view.from_back => back.push(entry(found)),
                Some(found) => front.push(entry(found)),
                None => break,
            }
            if self.random.below(3) == 0 {
                view.from_back = !view.from_back;
            }
        }
        back.reverse();
        front.append(&mut back);
        assert_eq!(front, view.expected, "{}: a view moved", self.label);
    }

    fn check_snapshot(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let at = self.random.below(self.snapshots.len() as u64) as usize;
        let (snapshot, state) = self.snapshots.swap_remove(at);
        for (name, map) in &state {
            // A family may have been dropped meanwhile, or made again.
            let Ok(family) = self.db().column_family(name) else { continue };
            if !self.state.contains_key(name) {
                continue;
            }
            let options = ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
            let found: Vec<_> = family.range_with::<&[u8]>(.., options).expect("opens").map(entry).collect();
            assert_eq!(found, sorted(map, &self.order()), "{}: a snapshot moved", self.label);
        }
    }

    fn reopen(&mut self) {
        self.views.clear();
        self.snapshots.clear();
        let db = self.db.take().expect("open");
        if self.random.below(2) == 0 {
            db.close_with(CloseMode::Refuse).unwrap_or_else(|error| panic!("{}: close: {error}", self.label));
        }
        drop(db);
        self.open();
    }

    /// With every reader gone, the tables on disk are those of the current versions: nothing leaked, nothing missing.
    fn check_files(&mut self) {
        self.views.clear();
        self.snapshots.clear();
        self.step_background();
        let db = self.db();
        db.assert_no_pins().expect("all views are dropped");
        eventually("obsolete files go", || {
            db.run_background_step();
            db.stats().obsolete_files == 0
        });
        let live: usize = db.stats().families.iter().flat_map(|f| &f.levels).map(|level| level.files).sum();
        let tables =
            self.options.fs.list(&self.dir).expect("lists").iter().filter(|e| e.name.ends_with(".sst")).count();
        if self.options.background == BackgroundMode::Manual {
            assert_eq!(tables, live, "{}: tables on disk", self.label);
            let on_disk = self.options.fs.list(&self.dir).expect("lists").into_iter();
            let on_disk: Vec<_> = on_disk.map(|entry| entry.name).filter(|name| name.ends_with(".blob")).collect();
            let listed = self.db().live_files().expect("listed");
            let name = |file: &firndb::LiveFile| file.path.file_name().map(|name| name.to_string_lossy().into_owned());
            let listed: Vec<_> =
                listed.files().iter().filter_map(name).filter(|name| name.ends_with(".blob")).collect();
            assert_eq!(sorted_names(on_disk), sorted_names(listed), "{}: blob files on disk", self.label);
        }
    }

    fn step(&mut self) {
        let dice = self.random.below(100);
        if is_traced() {
            eprintln!("{dice} {}", self.shape());
        }
        match dice {
            0..55 => self.write(),
            55..67 => self.read(),
            67..73 => self.open_view(),
            73..79 => self.check_view(),
            79..82 => {
                let snapshot = self.db().snapshot();
                self.snapshots.push((snapshot, self.state.clone()));
            }
            82..85 => self.check_snapshot(),
            85..90 => {
                let (_, family) = self.family();
                family.flush().unwrap_or_else(|error| panic!("{}: flush: {error}", self.label));
            }
            90..93 => {
                let (_, family) = self.family();
                let result = if self.random.below(2) == 0 {
                    family.compact_range::<&[u8]>(..)
                } else {
                    let (a, b) = (self.key(), self.key());
                    family.compact_range(a..b)
                };
                result.unwrap_or_else(|error| panic!("{}: compact: {error}", self.label));
            }
            93..95 => self.step_background(),
            95..96 => {
                let name = format!("f{}", self.random.below(3));
                if !self.state.contains_key(&name) {
                    self.db().create_column_family(&name).expect("new");
                    self.state.insert(name.clone(), Map::new());
                    // A family that was made again has nothing to do with the one that a snapshot saw.
                    self.snapshots.iter_mut().for_each(|(_, state)| {
                        state.remove(&name);
                    });
                } else if self.random.below(2) == 0 {
                    self.db().drop_column_family(&name).expect("it exists");
                    self.state.remove(&name);
                    self.tags.remove(&name);
                }
            }
            96..98 => self.reopen(),
            98..99 => self.compare_all(),
            _ => self.check_files(),
        }
    }
}

/// Option sets that put weight on different parts.
fn option_sets() -> Vec<(&'static str, Options)> {
    let tiny = |change: &dyn Fn(&mut Options)| {
        let mut options = Options::default();
        options.create_if_missing = true;
        options.family.write_buffer_size = 4096;
        options.family.block_size = 128;
        options.family.target_file_size_base = 2048;
        options.family.max_bytes_for_level_base = 8192;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.merge_operator = Some(MergeRule::StringAppend { delimiter: b",".to_vec() });
        change(&mut options);
        options
    };
    vec![
        ("plain", tiny(&|_| {})),
        (
            "lz4 and filters",
            tiny(&|o| {
                o.family.compression = Compression::Lz4;
                o.family.bloom_bits_per_key = Some(10.0);
            }),
        ),
        (
            "zstd, static levels",
            tiny(&|o| {
                o.family.compression = Compression::Zstd;
                o.family.level_compaction_dynamic_level_bytes = false;
                o.family.max_bytes_for_level_multiplier = 2.0;
            }),
        ),
        (
            "snappy, three levels",
            tiny(&|o| {
                o.family.compression = Compression::Snappy;
                o.family.num_levels = 3;
            }),
        ),
        ("reverse order", tiny(&|o| o.family.key_order = KeyOrder::ReverseBytewise)),
        (
            "tiny cache, few open files",
            tiny(&|o| {
                o.block_cache = Some(BlockCache::new(2000));
                o.max_open_files = 16;
                o.family.block_restart_interval = 3;
            }),
        ),
        (
            "atomic flush, old format",
            tiny(&|o| {
                o.atomic_flush = true;
                o.family.format_version = 2;
            }),
        ),
        (
            "large buffers, no flush on close",
            tiny(&|o| {
                o.family.write_buffer_size = 1 << 20;
                o.avoid_flush_during_shutdown = true;
            }),
        ),
        (
            "manifest rolls, zlib, compressed logs",
            tiny(&|o| {
                o.max_manifest_file_size = 500;
                o.family.compression = Compression::Zlib;
                o.wal_compression = Compression::Zstd;
            }),
        ),
        (
            "universal",
            tiny(&|o| {
                o.family.compaction_style = CompactionStyle::Universal;
                o.family.compaction_options_universal.compression_size_percent = 50;
                o.family.compression = Compression::Lz4;
            }),
        ),
        (
            "universal, one level",
            tiny(&|o| {
                o.family.compaction_style = CompactionStyle::Universal;
                o.family.num_levels = 1;
            }),
        ),
        (
            "universal, moves",
            tiny(&|o| {
                o.family.compaction_style = CompactionStyle::Universal;
                o.family.level0_file_num_compaction_trigger = 2;
                o.family.compaction_options_universal.allow_trivial_move = true;
                o.family.compaction_options_universal.stop_style = CompactionStopStyle::SimilarSize;
            }),
        ),
        (
            "fifo that merges and drops nothing",
            tiny(&|o| {
                o.family.compaction_style = CompactionStyle::Fifo;
                o.family.compaction_options_fifo.allow_compaction = true;
            }),
        ),
        (
            "long values in blob files",
            tiny(&|o| {
                o.family.enable_blob_files = true;
                o.family.min_blob_size = 30;
                o.family.blob_file_size = 1500;
            }),
        ),
        (
            "all values in blob files, which are collected",
            tiny(&|o| {
                o.family.enable_blob_files = true;
                o.family.blob_file_size = 4000;
                o.family.blob_compression_type = Compression::Lz4;
                o.family.enable_blob_garbage_collection = true;
                o.family.blob_garbage_collection_age_cutoff = 0.5;
                o.family.blob_garbage_collection_force_threshold = 0.3;
            }),
        ),
        (
            "universal, blob files of compactions only",
            tiny(&|o| {
                o.family.compaction_style = CompactionStyle::Universal;
                o.family.enable_blob_files = true;
                o.family.min_blob_size = 10;
                o.family.blob_file_starting_level = 1;
                o.family.enable_blob_garbage_collection = true;
                o.family.blob_garbage_collection_age_cutoff = 1.0;
            }),
        ),
        (
            "no automatic compaction",
            tiny(&|o| {
                o.family.disable_auto_compactions = true;
                o.max_total_wal_size = 8192;
            }),
        ),
    ]
}

fn run(name: &str, options: Options, dir: &Path, seed: u64, steps: u64) {
    let label = format!("FIRN_SEED={seed} FIRN_OPS={steps}, options {name:?}");
    let state = State::from([("default".to_owned(), Map::new())]);
    let mut run = Run {
        options,
        dir: dir.to_owned(),
        db: None,
        state,
        tags: State::new(),
        snapshots: Vec::new(),
        views: Vec::new(),
        random: Random::new(seed),
        label,
    };
    run.open();
    for _ in 0..steps {
        run.step();
    }
    run.compare_all();
    run.check_files();
    run.reopen();
    run.db().close().expect("nothing is open");
    let report = verify_directory(&run.dir, &run.options, &mut |_| {}).expect("readable");
    assert!(report.damages.is_empty(), "{}: {:?}", run.label, report.damages);
}

#[test]
fn the_database_is_a_versioned_map_in_memory() {
    let (seed, steps) = (from_environment("FIRN_SEED").unwrap_or(1), from_environment("FIRN_OPS").unwrap_or(1500));
    for (index, (name, mut options)) in option_sets().into_iter().enumerate() {
        let seed = seed + index as u64;
        options.fs = Arc::new(MemoryFs::new());
        options.clock = Arc::new(ManualClock::new(seed));
        options.background = BackgroundMode::Manual;
        run(name, options, Path::new("/db"), seed, steps);
    }
}

#[test]
fn the_database_is_a_versioned_map_on_disk_with_threads() {
    let (seed, steps) = (from_environment("FIRN_SEED").unwrap_or(100), from_environment("FIRN_OPS").unwrap_or(600));
    for (index, (name, mut options)) in option_sets().into_iter().enumerate() {
        let seed = seed + index as u64;
        let dir = tempfile::tempdir().expect("a temporary directory");
        options.fs = Arc::new(PosixFs::new());
        options.max_background_jobs = 1 + index % 3;
        run(name, options, &dir.path().join("db"), seed, steps);
    }
}
