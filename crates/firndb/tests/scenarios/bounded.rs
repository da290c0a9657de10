//! A bounded read opens no file and reads no block that cannot hold an answer, in either direction and under every order:
//! everything else is damaged here, and the read must not notice.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firndb::{
    Comparator, Db, Fs, IndexedBatch, KeyOrder, MemoryFs, Options, ReadOptions, Result, Slice, Statistics, Ticker,
};

use crate::lab::{DIR, Lab, Random};

const KEYS: usize = 240;

/// By the digits read backwards: not even close to the order of the bytes.
struct Backwards;

impl Comparator for Backwards {
    fn name(&self) -> &str {
        "scenarios.Backwards"
    }

    fn compare(&self, a: &[u8], b: &[u8]) -> Ordering {
        a.iter().rev().cmp(b.iter().rev())
    }
}

fn orders() -> [KeyOrder; 3] {
    [KeyOrder::Bytewise, KeyOrder::ReverseBytewise, KeyOrder::Custom(Arc::new(Backwards))]
}

fn key(number: usize) -> Vec<u8> {
    format!("key{number:04}").into_bytes()
}

fn value(key: &[u8]) -> Vec<u8> {
    format!("<{}>{}", String::from_utf8_lossy(key), "x".repeat(30)).into_bytes()
}

/// A database whose every key is in exactly one block, and where those are.
struct Layout {
    lab: Lab,
    order: KeyOrder,
    /// In the order of the database.
    keys: Vec<Vec<u8>>,
    /// Of each key: its file, and the byte of the file at which its value starts.
    places: Vec<(PathBuf, usize)>,
    /// Of each key: the first key of its block, which is the block's name here.
    blocks: Vec<usize>,
    sound: BTreeMap<PathBuf, Vec<u8>>,
}

impl Layout {
    /// Most keys in files of the last level; of two stretches, every other key in a file of level 0 each.
    fn new(order: KeyOrder) -> Layout {
        let lab = Lab::new().change(|options| options.family.key_order = order.clone());
        let mut keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
        keys.sort_by(|a, b| order.compare(a, b));
        let in_level_0 =
            |at: usize, stretch: usize| at.is_multiple_of(2) && (at + 30) / 100 == stretch && at % 100 < 90;
        let db = lab.open();
        let put = |at: usize| db.put(&keys[at], value(&keys[at])).expect("written");
        (0..KEYS).filter(|at| !in_level_0(*at, 1) && !in_level_0(*at, 2)).for_each(put);
        db.compact_range::<&[u8]>(..).expect("compacted");
        for stretch in [1, 2] {
            (0..KEYS).filter(|at| in_level_0(*at, stretch)).for_each(put);
            db.flush().expect("flushed");
        }
        let levels: Vec<usize> = db.stats().families[0].levels.iter().map(|level| level.files).collect();
        assert!(levels[0] == 2 && levels.iter().sum::<usize>() > 6, "{levels:?}");
        db.close().expect("closed");
        let tables: Vec<PathBuf> =
            lab.fs.paths().into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
        let sound: BTreeMap<PathBuf, Vec<u8>> = tables
            .into_iter()
            .map(|path| (path.clone(), lab.fs.read_whole(&path, 1 << 20).expect("readable")))
            .collect();
        let place = |key: &Vec<u8>| {
            let wanted = value(key);
            let find = |bytes: &[u8]| bytes.windows(wanted.len()).position(|window| window == wanted);
            sound
                .iter()
                .find_map(|(path, bytes)| Some((path.clone(), find(bytes)?)))
                .expect("uncompressed, in one table")
        };
        let places = keys.iter().map(place).collect();
        let mut layout = Layout { lab, order, keys, places, blocks: Vec::new(), sound };
        layout.blocks = (0..KEYS).map(|at| layout.block_of(at)).collect();
        layout
    }

    /// The first key of the same file that is damaged together with this one.
    fn block_of(&self, at: usize) -> usize {
        self.damage(&[at].into());
        let db = self.lab.open();
        let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        let is_damaged = |other: &usize| {
            self.places[*other].0 == self.places[at].0 && db.get_with(&self.keys[*other], &options).is_err()
        };
        let first = (at.saturating_sub(30)..=at).find(is_damaged).expect("its own block is damaged");
        db.close().expect("closed");
        self.restore();
        first
    }

    fn damage(&self, keys: &BTreeSet<usize>) {
        for (path, start) in keys.iter().map(|at| &self.places[*at]) {
            self.lab.fs.damage(path, |bytes| bytes[*start] ^= 0xFF).expect("there");
        }
    }

    /// Nothing of the file is what it was, but its size.
    fn ruin(&self, path: &Path) {
        self.lab.fs.damage(path, |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0x5A)).expect("there");
    }

    fn restore(&self) {
        for (path, bytes) in &self.sound {
            self.lab.fs.damage(path, |now| now.clone_from(bytes)).expect("there");
        }
    }

    /// The blocks of each file: its path, and the first and last key of each block.
    fn blocks_of_files(&self) -> BTreeMap<&Path, Vec<(usize, usize)>> {
        let mut files: BTreeMap<&Path, Vec<(usize, usize)>> = BTreeMap::new();
        for at in 0..KEYS {
            let blocks = files.entry(&self.places[at].0).or_default();
            match blocks.last_mut() {
                Some((first, last)) if *first == self.blocks[at] => *last = at,
                _ => blocks.push((at, at)),
            }
        }
        files
    }

    /// Ruins every file and damages every block that cannot hold a key of the range, lets `read` do its work, and checks
    /// how many files it opened and blocks it read.
    fn with_only<T>(&self, range: Range, read: impl FnOnce(&Db) -> T) -> T {
        let (mut files, mut blocks) = (0, 0);
        for (path, of_file) in self.blocks_of_files() {
            let (first, last) = (of_file[0].0, of_file[of_file.len() - 1].1);
            if range.is_empty() || range.is_before(first) || range.is_behind(last) {
                self.ruin(path);
                continue;
            }
            files += 1;
            for (number, (first, _)) in of_file.iter().enumerate() {
                // The index knows the blocks by separators, which lie somewhere between the last key of one block and the
                // first of the next.
                let is_behind_end = number > 0 && range.ends_at(of_file[number - 1].1);
                let is_before_start = of_file.get(number + 1).is_some_and(|(next, _)| range.starts_at(*next));
                if is_behind_end || is_before_start {
                    self.damage(&[*first].into());
                } else {
                    blocks += 1;
                }
            }
        }
        let statistics = Arc::new(Statistics::default());
        let mut options = self.lab.options.clone();
        options.statistics = Some(Arc::clone(&statistics));
        let db = Db::open_with(DIR, options).expect("damage is for its readers to meet");
        let count = || [Ticker::NoFileOpens, Ticker::BlockCacheMiss].map(|ticker| statistics.ticker(ticker));
        let before = count();
        let outcome = read(&db);
        let after = count();
        let (opened, missed) = (after[0] - before[0], after[1] - before[1]);
        assert!(opened <= files, "{range:?}: {opened} files were opened, {files} may hold something");
        assert!(missed <= blocks, "{range:?}: {missed} blocks were read, {blocks} may hold something");
        db.close().expect("closed");
        self.restore();
        outcome
    }

    fn bounds(&self, range: Range) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
        (range.0.map(|at| self.keys[at].clone()), range.1.map(|at| self.keys[at].clone()))
    }

    fn inside(&self, range: Range) -> Vec<Vec<u8>> {
        (0..KEYS).filter(|at| !range.is_behind(*at) && !range.is_before(*at)).map(|at| self.keys[at].clone()).collect()
    }
}

/// A range by the places of its ends in the order of the keys.
#[derive(Debug, Clone, Copy)]
struct Range(Bound<usize>, Bound<usize>);

impl Range {
    fn random(random: &mut Random) -> Range {
        let start = random.below(KEYS as u64) as usize;
        let end = (start + random.below(40) as usize).min(KEYS - 1);
        let bound = |at: usize, random: &mut Random| match random.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(at),
            _ => Bound::Excluded(at),
        };
        Range(bound(start, random), bound(end, random))
    }

    fn is_empty(self) -> bool {
        match self {
            Range(Bound::Included(start), Bound::Included(end)) => start > end,
            Range(Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) => {
                start >= end
            }
            _ => false,
        }
    }

    /// The range ends before this key.
    fn is_before(self, at: usize) -> bool {
        match self.1 {
            Bound::Unbounded => false,
            Bound::Included(end) => end < at,
            Bound::Excluded(end) => end <= at,
        }
    }

    /// The range starts behind this key.
    fn is_behind(self, at: usize) -> bool {
        match self.0 {
            Bound::Unbounded => false,
            Bound::Included(start) => start > at,
            Bound::Excluded(start) => start >= at,
        }
    }

    /// Nothing behind this key is in the range.
    fn ends_at(self, at: usize) -> bool {
        matches!(self.1, Bound::Included(end) | Bound::Excluded(end) if end <= at)
    }

    /// Nothing before this key is in the range.
    fn starts_at(self, at: usize) -> bool {
        matches!(self.0, Bound::Included(start) | Bound::Excluded(start) if start >= at)
    }
}

fn keys_of(iter: impl Iterator<Item = Result<(Slice, Slice)>>) -> Vec<Vec<u8>> {
    iter.map(|entry| entry.expect("what is damaged is not asked").0.to_vec()).collect()
}

#[test]
fn a_range_reads_nothing_that_cannot_hold_an_answer_in_either_direction_and_any_order() {
    let seed = std::env::var("FIRN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(9);
    println!("FIRN_SEED={seed}");
    let mut random = Random(seed);
    for order in orders() {
        let layout = Layout::new(order);
        for _ in 0..60 {
            let range = Range::random(&mut random);
            let mut expected = layout.inside(range);
            let forward =
                layout.with_only(range, |db| keys_of(db.range::<Vec<u8>>(layout.bounds(range)).expect("it opens")));
            assert_eq!(forward, expected, "{:?} {range:?}", layout.order);
            let last =
                layout.with_only(range, |db| db.range::<Vec<u8>>(layout.bounds(range)).expect("it opens").next_back());
            assert_eq!(last.map(|entry| entry.expect("readable").0.to_vec()), expected.last().cloned(), "{range:?}");
            let back = layout
                .with_only(range, |db| keys_of(db.range::<Vec<u8>>(layout.bounds(range)).expect("it opens").rev()));
            expected.reverse();
            assert_eq!(back, expected, "{:?} {range:?}", layout.order);
        }
    }
}

#[test]
fn a_bounded_cursor_neither_seeks_nor_steps_beyond_its_bounds() {
    for order in orders() {
        let layout = Layout::new(order);
        for (start, end) in [(0, 3), (37, 52), (100, 101), (120, 150), (KEYS - 4, KEYS - 1)] {
            let range = Range(Bound::Included(start), Bound::Excluded(end));
            let options = ReadOptions {
                lower_bound: Some(layout.keys[start].clone()),
                upper_bound: Some(layout.keys[end].clone()),
                ..ReadOptions::default()
            };
            layout.with_only(range, |db| {
                let mut cursor = db.cursor(options).expect("it opens");
                for behind in end..KEYS {
                    assert!(!cursor.seek(&layout.keys[behind]).expect("nothing is read"), "{behind}");
                    assert!(cursor.seek_for_prev(&layout.keys[behind]).expect("readable"), "{behind}");
                    assert_eq!(cursor.key(), layout.keys[end - 1]);
                    assert!(!cursor.next().expect("the end is no error"));
                }
                for before in 0..start {
                    assert!(!cursor.seek_for_prev(&layout.keys[before]).expect("nothing is read"), "{before}");
                    assert!(cursor.seek(&layout.keys[before]).expect("readable"), "{before}");
                    assert_eq!(cursor.key(), layout.keys[start]);
                    assert!(!cursor.prev().expect("the start is no error"));
                }
                // Turning at either end.
                assert!(cursor.seek_to_last().expect("readable"));
                let mut seen = vec![cursor.key().to_vec()];
                while cursor.prev().expect("readable") {
                    seen.push(cursor.key().to_vec());
                }
                seen.reverse();
                assert_eq!(seen, layout.keys[start..end]);
                let mut is_on = cursor.seek_to_first().expect("readable");
                for key in &layout.keys[start..end] {
                    assert!(is_on && cursor.key() == key);
                    is_on = cursor.next().expect("readable");
                }
                assert!(!is_on);
            });
        }
    }
}

#[test]
fn a_prefix_reads_nothing_that_cannot_start_with_it() {
    for order in [KeyOrder::Bytewise, KeyOrder::ReverseBytewise] {
        let layout = Layout::new(order);
        let tens = (0..KEYS / 10).map(|tens| format!("key{tens:03}"));
        for prefix in tens.chain((0..KEYS).step_by(3).map(|number| format!("key{number:04}"))) {
            let prefix = prefix.as_str();
            let at: Vec<usize> = (0..KEYS).filter(|at| layout.keys[*at].starts_with(prefix.as_bytes())).collect();
            // One key more on the side where the prefix ends without being a key.
            let range =
                Range(Bound::Excluded(at[0].saturating_sub(1)), Bound::Excluded((at[at.len() - 1] + 1).min(KEYS)));
            let range = match (range, at[0], at[at.len() - 1] + 1) {
                (range, 0, _) => Range(Bound::Unbounded, range.1),
                (range, _, KEYS) => Range(range.0, Bound::Unbounded),
                (range, ..) => range,
            };
            let mut expected: Vec<Vec<u8>> = at.iter().map(|at| layout.keys[*at].clone()).collect();
            assert_eq!(layout.with_only(range, |db| keys_of(db.prefix(prefix).expect("it opens"))), expected);
            expected.reverse();
            assert_eq!(layout.with_only(range, |db| keys_of(db.prefix(prefix).expect("it opens").rev())), expected);
        }
    }
}

#[test]
fn a_lookup_reads_one_block_of_each_file_that_may_hold_the_key() {
    for order in orders() {
        let layout = Layout::new(order);
        for at in (0..KEYS).step_by(7) {
            let range = Range(Bound::Included(at), Bound::Included(at));
            let key = &layout.keys[at];
            let expected = value(key);
            layout.with_only(range, |db| {
                assert_eq!(db.get(key).expect("readable").as_deref(), Some(&expected[..]));
                assert_eq!(db.multi_get(&[key])[0].as_ref().expect("readable").as_deref(), Some(&expected[..]));
            });
            // Behind the key, where there is none: the block in which it would be is the last one asked.
            let absent = [key.as_slice(), b"!"].concat();
            if matches!(layout.order, KeyOrder::Bytewise) && at + 1 < KEYS {
                let gap = Range(Bound::Excluded(at), Bound::Excluded(at + 1));
                layout.with_only(gap, |db| assert!(db.get(&absent).expect("readable").is_none()));
            }
        }
    }
}

#[test]
fn what_is_asked_for_behind_the_last_key_of_a_block_does_not_ask_the_next_one() {
    // A block each: the separator behind "ccc" is "d", so that what lies between belongs into the block of "ccc".
    let lab = Lab::new();
    let db = lab.open();
    for key in ["aaa", "ccc", "xxx"] {
        db.put(key, key.repeat(100)).expect("written");
    }
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close().expect("closed");
    let table = lab.fs.paths().into_iter().find(|path| path.extension().is_some_and(|e| e == "sst")).expect("a table");
    let damage = |bytes: &mut Vec<u8>| {
        let of_x = bytes.windows(10).position(|window| window == b"xxxxxxxxxx").expect("uncompressed");
        bytes[of_x] = b'y';
    };
    lab.fs.damage(&table, damage).expect("there");
    let db = lab.open();
    assert!(db.get("xxx").expect_err("damaged").corruption().is_some());
    assert!(db.get("cd").expect("the block of c says it").is_none());
    assert!(db.multi_get(&["cd"])[0].as_ref().expect("the same").is_none());
    assert_eq!(keys_of(db.range("cd".."cx").expect("it opens")), Vec::<Vec<u8>>::new());
    assert_eq!(keys_of(db.range("b".."cx").expect("it opens")), [b"ccc"]);
    let mut cursor = db.cursor(ReadOptions::default()).expect("it opens");
    assert!(cursor.seek_for_prev("cd").expect("what is before lies in the block of c"));
    assert_eq!(cursor.key(), b"ccc");
    assert!(cursor.prev().expect("readable") && cursor.key() == b"aaa");
}

#[test]
fn a_cursor_stays_among_the_keys_of_one_prefix_if_it_is_asked_to() {
    let options = Options { fs: Arc::new(MemoryFs::new()), create_if_missing: true, ..Options::default() };
    let db = Db::open_with("/db", options).expect("opens");
    for key in ["a:1", "a:2", "b", "b:1", "b:2", "c:1"] {
        db.put(key, "v").expect("written");
    }
    let walk = |options: &ReadOptions, from: &str| -> Vec<String> {
        let mut cursor = db.cursor(options.clone()).expect("a cursor");
        let mut valid = cursor.seek(from).expect("readable");
        let mut found = Vec::new();
        while valid {
            found.push(String::from_utf8_lossy(cursor.key()).into_owned());
            valid = cursor.next().expect("readable");
        }
        found
    };
    let same = ReadOptions { prefix_same_as_start: true, ..ReadOptions::default() };
    assert_eq!(walk(&same, "b").len(), 4, "a family without an extractor has no prefixes");
    db.set_options(&[("prefix_extractor", "rocksdb.FixedPrefix.2")]).expect("set");
    assert_eq!(walk(&same, "b:").join(" "), "b:1 b:2");
    assert_eq!(walk(&same, "b").join(" "), "b b:1 b:2 c:1", "a key without a prefix");
    assert_eq!(walk(&ReadOptions { upper_bound: Some("b:2".into()), ..same.clone() }, "b:1").join(" "), "b:1");
    assert_eq!(walk(&ReadOptions { total_order_seek: true, ..same.clone() }, "b:2").join(" "), "b:2 c:1");
    assert_eq!(
        db.default_column_family().range_with::<&str>(.., same.clone()).expect("an iterator").count(),
        6,
        "a range has its own ends"
    );
    let mut batch = IndexedBatch::new();
    let family = db.default_column_family();
    batch.put(family, "b:3", "mine").put(family, "c:0", "mine");
    let mut cursor = batch.cursor(family, same).expect("a cursor");
    assert!(cursor.seek("b:2").expect("readable") && cursor.next().expect("readable"));
    assert_eq!(cursor.key(), b"b:3");
    assert!(!cursor.next().expect("readable"));
    assert!(cursor.seek("c:").expect("readable") && cursor.key() == b"c:0");
}
