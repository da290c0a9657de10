//! Batches that are read before they are written: over a database, over snapshots, both ways.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use firndb::{
    BackgroundMode, BatchLookup, ColumnFamily, Comparator, Db, ErrorKind, FamilyOptions, IndexedBatch, KeyOrder,
    MemoryFs, MergeRule, Options, ReadOptions, Slice, Snapshot, WriteBatch,
};

/// Longer keys first, then as bytes.
struct LongestFirst;

impl Comparator for LongestFirst {
    fn name(&self) -> &str {
        "test.LongestFirst"
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        b.len().cmp(&a.len()).then_with(|| a.cmp(b))
    }
}

fn options(key_order: KeyOrder) -> FamilyOptions {
    let merge_operator = Some(MergeRule::StringAppend { delimiter: b",".to_vec() });
    FamilyOptions { key_order, merge_operator, ..FamilyOptions::default() }
}

fn open(fs: &MemoryFs) -> Db {
    let options = Options {
        create_if_missing: true,
        fs: Arc::new(fs.clone()),
        background: BackgroundMode::Manual,
        family: options(KeyOrder::Bytewise),
        ..Options::default()
    };
    Db::open_with(Path::new("/db"), options).expect("opens")
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn key(&mut self) -> Vec<u8> {
        (0..1 + self.below(3)).map(|_| b"abc"[self.below(3) as usize]).collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    SingleDelete(Vec<u8>),
    Merge(Vec<u8>, Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// One family by the simplest means.
#[derive(Debug, Clone, Default)]
struct Model {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Puts since the last deletion, where a single deletion is asked for; merges count as many.
    puts: BTreeMap<Vec<u8>, u32>,
}

impl Model {
    fn apply(&mut self, order: &KeyOrder, op: &Op) {
        match op {
            Op::Put(key, value) => {
                *self.puts.entry(key.clone()).or_default() += 1;
                self.values.insert(key.clone(), value.clone());
            }
            Op::Delete(key) | Op::SingleDelete(key) => {
                self.puts.remove(key);
                self.values.remove(key);
            }
            Op::Merge(key, operand) => {
                *self.puts.entry(key.clone()).or_default() += 9;
                match self.values.get_mut(key) {
                    Some(value) => *value = [value, &b","[..], operand].concat(),
                    None => drop(self.values.insert(key.clone(), operand.clone())),
                }
            }
            Op::DeleteRange(begin, end) => {
                let is_in = |key: &Vec<u8>| order.compare(begin, key).is_le() && order.compare(key, end).is_lt();
                self.values.retain(|key, _| !is_in(key));
                // What a range deleted may not be deleted singly afterwards, lest it meet what the range has hidden.
                self.puts.iter_mut().filter(|(key, _)| is_in(key)).for_each(|(_, puts)| *puts += 9);
            }
        }
    }

    fn sorted(&self, order: &KeyOrder) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all: Vec<_> = self.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        all.sort_by(|a, b| order.compare(&a.0, &b.0));
        all
    }
}

struct World {
    random: Random,
    db: Db,
    families: Vec<ColumnFamily>,
    orders: Vec<KeyOrder>,
    written: Vec<Model>,
    snapshots: Vec<(Snapshot, Vec<Model>)>,
    batch: IndexedBatch,
    ops: Vec<(usize, Op)>,
    save_points: Vec<usize>,
    counter: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let db = open(&MemoryFs::new());
        let orders = vec![KeyOrder::Bytewise, KeyOrder::ReverseBytewise, KeyOrder::Custom(Arc::new(LongestFirst))];
        let mut families = vec![db.default_column_family().clone()];
        for (name, order) in [("reverse", &orders[1]), ("custom", &orders[2])] {
            families.push(db.create_column_family_with(name, options(order.clone())).expect("a new family"));
        }
        World {
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            db,
            families,
            orders,
            written: vec![Model::default(); 3],
            snapshots: Vec::new(),
            batch: IndexedBatch::new(),
            ops: Vec::new(),
            save_points: Vec::new(),
            counter: 0,
        }
    }

    /// What there would be if the batch were written over `base`.
    fn over(&self, base: &[Model]) -> Vec<Model> {
        let mut all = base.to_vec();
        for (family, op) in &self.ops {
            all[*family].apply(&self.orders[*family], op);
        }
        all
    }

    fn op(&mut self, family: usize, now: &Model) -> Op {
        self.counter += 1;
        let (key, value) = (self.random.key(), self.counter.to_string().into_bytes());
        match self.random.below(10) {
            0..=3 => Op::Put(key, value),
            4 => Op::Delete(key),
            5 if now.puts.get(&key) == Some(&1) => Op::SingleDelete(key),
            5..=7 => Op::Merge(key, value),
            8 => Op::Put(key, value),
            _ => {
                let other = self.random.key();
                match self.orders[family].compare(&key, &other) {
                    Ordering::Greater => Op::DeleteRange(other, key),
                    _ => Op::DeleteRange(key, other),
                }
            }
        }
    }

    fn write(&mut self) {
        let at = self.random.below(3) as usize;
        let now = self.written[at].clone();
        let op = self.op(at, &now);
        // The batch's single deletions hold for what is there now.
        let touches = |key: &Vec<u8>| match &op {
            Op::Put(own, _) | Op::Delete(own) | Op::SingleDelete(own) | Op::Merge(own, _) => own == key,
            Op::DeleteRange(..) => true,
        };
        if self.ops.iter().any(|(family, op)| *family == at && matches!(op, Op::SingleDelete(key) if touches(key))) {
            return;
        }
        let family = &self.families[at];
        let mut batch = WriteBatch::new();
        match &op {
            Op::Put(key, value) => batch.put_cf(family, key, value),
            Op::Delete(key) => batch.delete_cf(family, key),
            Op::SingleDelete(key) => batch.single_delete_cf(family, key),
            Op::Merge(key, operand) => batch.merge_cf(family, key, operand),
            Op::DeleteRange(begin, end) => batch.delete_range_cf(family, begin, end),
        };
        self.db.write(&mut batch).expect("memory");
        self.written[at].apply(&self.orders[at], &op);
    }

    fn add(&mut self) {
        let at = self.random.below(3) as usize;
        let now = self.over(&self.written)[at].clone();
        let op = self.op(at, &now);
        let family = &self.families[at];
        match &op {
            Op::Put(key, value) => self.batch.put(family, key, value),
            Op::Delete(key) => self.batch.delete(family, key),
            Op::SingleDelete(key) => self.batch.single_delete(family, key),
            Op::Merge(key, operand) => self.batch.merge(family, key, operand),
            Op::DeleteRange(begin, end) => self.batch.delete_range(family, begin, end),
        };
        self.ops.push((at, op));
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..=9 => self.write(),
            10..=24 => self.add(),
            25 => {
                let at = self.random.below(3) as usize;
                self.families[at].flush().expect("memory");
            }
            26 => {
                let at = self.random.below(3) as usize;
                self.families[at].compact_range::<&[u8]>(..).expect("memory");
            }
            27 | 28 => {
                if self.snapshots.len() == 3 {
                    let at = self.random.below(3) as usize;
                    self.snapshots.remove(at);
                }
                self.snapshots.push((self.db.snapshot(), self.written.clone()));
            }
            29 => {
                self.batch.set_save_point();
                self.save_points.push(self.ops.len());
            }
            30 => match self.save_points.pop() {
                Some(count) => {
                    self.batch.rollback_to_save_point().expect("there is one");
                    self.ops.truncate(count);
                }
                None => assert!(self.batch.rollback_to_save_point().is_err()),
            },
            31 => assert_eq!(self.batch.pop_save_point().is_ok(), self.save_points.pop().is_some()),
            32 => {
                self.written = self.over(&self.written);
                self.db.write_indexed(&mut self.batch).expect("memory");
                assert!(self.batch.is_empty());
                self.ops.clear();
                self.save_points.clear();
                for (family, (model, order)) in self.families.iter().zip(self.written.iter().zip(&self.orders)) {
                    let found: Vec<_> =
                        family.iter().expect("opens").map(|entry| owned(entry.expect("sound"))).collect();
                    assert_eq!(found, model.sorted(order));
                }
            }
            33 if self.random.below(4) == 0 => {
                self.batch.clear();
                self.ops.clear();
                self.save_points.clear();
            }
            _ => self.look(),
        }
    }

    /// Reads in all ways, now or as of a snapshot.
    fn look(&mut self) {
        let at = self.random.below(3) as usize;
        let pick = self.random.below(self.snapshots.len() as u64 + 1) as usize;
        let (snapshot, base) = match self.snapshots.get(pick) {
            Some((snapshot, models)) => (Some(snapshot.clone()), models.clone()),
            None => (None, self.written.clone()),
        };
        let expected = self.over(&base)[at].clone();
        let (family, order) = (self.families[at].clone(), self.orders[at].clone());
        let read = ReadOptions { snapshot, ..ReadOptions::default() };
        let keys: Vec<Vec<u8>> = (0..6).map(|_| self.random.key()).collect();
        let many = self.batch.multi_get_with(&family, &keys, &read);
        for (key, found) in keys.iter().zip(many) {
            assert_eq!(found.expect("sound").as_deref(), expected.values.get(key).map(Vec::as_slice), "{key:?}");
            let one = self.batch.get_with(&family, key, &read).expect("sound");
            assert_eq!(one.as_deref(), expected.values.get(key).map(Vec::as_slice), "{key:?}");
        }
        let sorted = expected.sorted(&order);
        // Adding to the batch while an iterator lives does not change what it shows.
        let all = self.batch.range_with::<&[u8]>(&family, .., read.clone()).expect("opens");
        let mut back = self.batch.range_with::<&[u8]>(&family, .., read.clone()).expect("opens").rev();
        let first_back = back.next();
        self.add();
        let forward: Vec<_> = all.map(|entry| owned(entry.expect("sound"))).collect();
        assert_eq!(forward, sorted);
        let mut backward: Vec<_> =
            first_back.into_iter().chain(back).map(|entry| owned(entry.expect("sound"))).collect();
        backward.reverse();
        assert_eq!(backward, sorted);
        let sorted = self.over(&base)[at].sorted(&order);
        let (a, b) = (self.random.key(), self.random.key());
        let (low, high) = if order.compare(&a, &b).is_le() { (a, b) } else { (b, a) };
        let bounds = match self.random.below(3) {
            0 => (Bound::Included(low), Bound::Excluded(high)),
            1 => (Bound::Excluded(low), Bound::Included(high)),
            _ => (Bound::Unbounded, Bound::Excluded(high)),
        };
        let is_in = |key: &[u8]| {
            let is_above = match &bounds.0 {
                Bound::Included(low) => order.compare(low, key).is_le(),
                Bound::Excluded(low) => order.compare(low, key).is_lt(),
                Bound::Unbounded => true,
            };
            is_above
                && match &bounds.1 {
                    Bound::Included(high) => order.compare(key, high).is_le(),
                    Bound::Excluded(high) => order.compare(key, high).is_lt(),
                    Bound::Unbounded => true,
                }
        };
        let inside: Vec<_> = sorted.iter().filter(|(key, _)| is_in(key)).cloned().collect();
        let mut ends = self.batch.range_with(&family, bounds.clone(), read.clone()).expect("opens");
        let (mut front, mut rear) = (Vec::new(), Vec::new());
        loop {
            let from_front = self.random.below(2) == 0;
            let Some(entry) = (if from_front { ends.next() } else { ends.next_back() }) else { break };
            let entry = owned(entry.expect("sound"));
            if from_front { front.push(entry) } else { rear.push(entry) }
        }
        front.extend(rear.into_iter().rev());
        assert_eq!(front, inside, "{bounds:?}");
        self.walk(&family, &order, read, &sorted);
    }

    /// A cursor that turns at random.
    fn walk(&mut self, family: &ColumnFamily, order: &KeyOrder, read: ReadOptions, sorted: &[(Vec<u8>, Vec<u8>)]) {
        let mut cursor = self.batch.cursor(family, read).expect("opens");
        let mut at: Option<usize> = None;
        for _ in 0..30 {
            let key = self.random.key();
            let found = match self.random.below(8) {
                0 => {
                    at = (!sorted.is_empty()).then_some(0);
                    cursor.seek_to_first()
                }
                1 => {
                    at = sorted.len().checked_sub(1);
                    cursor.seek_to_last()
                }
                2 => {
                    at = sorted.iter().position(|(other, _)| order.compare(other, &key).is_ge());
                    cursor.seek(&key)
                }
                3 => {
                    at = sorted.iter().rposition(|(other, _)| order.compare(other, &key).is_le());
                    cursor.seek_for_prev(&key)
                }
                4 | 5 => {
                    at = at.and_then(|at| (at + 1 < sorted.len()).then_some(at + 1));
                    cursor.next()
                }
                _ => {
                    at = at.and_then(|at| at.checked_sub(1));
                    cursor.prev()
                }
            };
            assert_eq!(found.expect("sound"), at.is_some());
            if let Some(at) = at {
                assert_eq!((cursor.key(), cursor.value()), (&sorted[at].0[..], &sorted[at].1[..]));
                assert_eq!(&*cursor.value_slice(), &sorted[at].1[..]);
            }
        }
    }
}

fn owned((key, value): (Slice, Slice)) -> (Vec<u8>, Vec<u8>) {
    (key.into_vec(), value.into_vec())
}

#[test]
fn a_batch_over_a_database_reads_as_if_it_were_written() {
    for seed in 1..=60 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            world.step();
        }
    }
}

/// Many versions that the snapshot does not see lie between what it sees and the batch: walks seek over them.
#[test]
fn own_writes_are_found_behind_many_hidden_versions() {
    let db = open(&MemoryFs::new());
    let family = db.default_column_family();
    for key in ["a", "b", "c"] {
        db.put(key, "old").expect("memory");
    }
    let snapshot = db.snapshot();
    for version in 0..50 {
        for key in ["a", "b", "c", "d"] {
            db.put(key, version.to_string()).expect("memory");
        }
    }
    let mut batch = IndexedBatch::new();
    batch.merge(family, "a", "own").put(family, "b", "own").put(family, "d", "own");
    for _ in 0..20 {
        batch.merge(family, "c", "x");
    }
    let expected: Vec<(Vec<u8>, Vec<u8>)> = [("a", "old,own".to_owned()), ("b", "own".to_owned())]
        .into_iter()
        .chain([("c", format!("old{}", ",x".repeat(20))), ("d", "own".to_owned())])
        .map(|(key, value)| (key.as_bytes().to_vec(), value.into_bytes()))
        .collect();
    let read = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    let iter = || batch.range_with::<&[u8]>(family, .., read.clone()).expect("opens");
    let forward: Vec<_> = iter().map(|entry| owned(entry.expect("sound"))).collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> = iter().rev().map(|entry| owned(entry.expect("sound"))).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    let keys: BTreeSet<_> =
        batch.prefix(family, "c").expect("opens").map(|entry| owned(entry.expect("sound")).0).collect();
    assert_eq!(keys, BTreeSet::from([b"c".to_vec()]));
}

#[test]
fn the_batch_alone_says_what_it_knows() {
    let db = open(&MemoryFs::new());
    let family = db.default_column_family();
    db.put("k", "below").expect("memory");
    let mut batch = IndexedBatch::with_protection();
    let look = |batch: &IndexedBatch| batch.get_from_batch(family, "k").expect("sound");
    assert_eq!(look(&batch), BatchLookup::Unknown);
    batch.merge(family, "k", "1").merge(family, "k", "2");
    assert_eq!(look(&batch), BatchLookup::Operands(vec![b"1".to_vec(), b"2".to_vec()]));
    batch.set_save_point().delete_range(family, "a", "z");
    assert_eq!(look(&batch), BatchLookup::Deleted);
    batch.merge(family, "k", "3");
    assert_eq!(look(&batch), BatchLookup::Merged { base: None, operands: vec![b"3".to_vec()] });
    batch.put(family, "k", "4");
    assert_eq!(look(&batch), BatchLookup::Value(Slice::from(&b"4"[..])));
    batch.rollback_to_save_point().expect("there is one");
    assert_eq!(batch.get(family, "k").expect("sound").as_deref(), Some(&b"below,1,2"[..]));
    assert_eq!(batch.clone().into_batch().len(), 2);
    db.write_indexed(&mut batch).expect("memory");
    assert_eq!(db.get("k").expect("sound").as_deref(), Some(&b"below,1,2"[..]));
    assert!(batch.is_empty() && look(&batch) == BatchLookup::Unknown);
}

#[test]
fn a_batch_belongs_to_one_database() {
    let (one, other) = (open(&MemoryFs::new()), open(&MemoryFs::new()));
    let (family, foreign) = (one.default_column_family(), other.default_column_family());
    let mut batch = IndexedBatch::new();
    batch.put(family, "k", "v");
    let kinds = [
        batch.get(foreign, "k").map(drop).map_err(|error| error.kind()),
        batch.iter(foreign).map(drop).map_err(|error| error.kind()),
        batch.cursor(foreign, ReadOptions::default()).map(drop).map_err(|error| error.kind()),
        batch.get_from_batch(foreign, "k").map(drop).map_err(|error| error.kind()),
        other.write_indexed(&mut batch).map_err(|error| error.kind()),
    ];
    assert_eq!(kinds, [Err(ErrorKind::InvalidArgument); 5]);
    one.write_indexed(&mut batch).expect("its own");
}
