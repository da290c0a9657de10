//! What a database should hold, and random operations that either side can do.

use std::collections::{BTreeMap, BTreeSet};

use firndb_testkit::{Map, Random, State, hex};

/// A put, or a deletion if there is no value.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) family: String,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Vec<u8>>,
}

#[derive(Clone)]
pub(crate) enum Op {
    /// All or nothing.
    Write(Vec<Change>),
    /// From a key on, and before another.
    DeleteRange(String, Vec<u8>, Vec<u8>),
    Create(String),
    Drop(String),
    Flush(String),
    Compact(String),
}

/// Every family's map as it is now, and keys that must not be there.
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) families: State,
    gone: BTreeSet<(String, Vec<u8>)>,
}

/// Names with a space, with what an OPTIONS file must escape, and that are not ASCII.
pub(crate) const FAMILIES: [&str; 3] = ["second", "dritte #1:\\x", "четвёртая"];

impl Model {
    pub(crate) fn new() -> Model {
        Model { families: BTreeMap::from([("default".to_owned(), Map::new())]), gone: BTreeSet::new() }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.families.keys().map(String::as_str).collect()
    }

    /// Keys that were deleted, or never there, of the families that are.
    pub(crate) fn absent(&self) -> Vec<(&str, &[u8])> {
        let is_gone =
            |(family, key): &&(String, Vec<u8>)| self.families.get(family).is_some_and(|map| !map.contains_key(key));
        self.gone.iter().filter(is_gone).map(|(family, key)| (family.as_str(), &key[..])).collect()
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(changes) => changes.iter().for_each(|change| self.change(change)),
            Op::DeleteRange(family, begin, end) => {
                let map = self.families.get_mut(family).expect("operations are made for families that are there");
                let deleted: Vec<Vec<u8>> = map.range(begin.clone()..end.clone()).map(|(key, _)| key.clone()).collect();
                for key in deleted {
                    map.remove(&key);
                    self.gone.insert((family.clone(), key));
                }
            }
            Op::Create(name) => drop(self.families.insert(name.clone(), Map::new())),
            Op::Drop(name) => drop(self.families.remove(name)),
            Op::Flush(_) | Op::Compact(_) => {}
        }
    }

    fn change(&mut self, change: &Change) {
        let map = self.families.get_mut(&change.family).expect("operations are made for families that are there");
        match &change.value {
            Some(value) => drop(map.insert(change.key.clone(), value.clone())),
            None => {
                map.remove(&change.key);
                self.gone.insert((change.family.clone(), change.key.clone()));
            }
        }
    }

    /// Makes `count` operations, and applies them.
    pub(crate) fn extend(
        &mut self,
        random: &mut Random,
        count: usize,
        has_families: bool,
        has_ranges: bool,
    ) -> Vec<Op> {
        let mut ops = Vec::new();
        for step in 0..count {
            let op = match has_ranges && random.below(25) == 0 {
                true => self.delete_range(random),
                false => self.op(random, has_families, step),
            };
            self.apply(&op);
            ops.push(op);
        }
        ops
    }

    /// Mostly of a few keys; now and then of many.
    fn delete_range(&self, random: &mut Random) -> Op {
        let family = self.family(random);
        let (begin, end) = match random.below(6) {
            0 => (random_key(random), random_key(random)),
            _ => {
                let begin = random.below(800);
                let end = begin + random.below(30);
                (format!("key{begin:04}").into_bytes(), format!("key{end:04}").into_bytes())
            }
        };
        if begin <= end { Op::DeleteRange(family, begin, end) } else { Op::DeleteRange(family, end, begin) }
    }

    fn op(&mut self, random: &mut Random, has_families: bool, step: usize) -> Op {
        let missing = FAMILIES.iter().find(|name| !self.families.contains_key(**name));
        if has_families
            && let Some(name) = missing
            && (step < 2 || random.below(60) == 0)
        {
            return Op::Create((*name).to_owned());
        }
        let name = self.family(random);
        match random.below(120) {
            0 | 1 => Op::Flush(name),
            2 => Op::Compact(name),
            3 if has_families && name != "default" && random.below(3) == 0 => Op::Drop(name),
            _ => {
                let count = if random.below(8) == 0 { 2 + random.below(9) } else { 1 };
                Op::Write((0..count).map(|_| self.random_change(random)).collect())
            }
        }
    }

    fn family(&self, random: &mut Random) -> String {
        random.one_of(&self.names()).to_owned()
    }

    pub(crate) fn random_change(&self, random: &mut Random) -> Change {
        let family = self.family(random);
        let key = random_key(random);
        let value = (random.below(4) != 0).then(|| random_value(random));
        Change { family, key, value }
    }
}

/// Few enough to be overwritten and deleted often; with the bytes and lengths that separators and prefixes stumble over.
fn random_key(random: &mut Random) -> Vec<u8> {
    let number = random.below(800);
    match random.below(10) {
        0 => vec![0xff; number as usize % 9],
        1 => vec![0x00; number as usize % 9],
        2 => [b"k".as_slice(), &[0xff, number as u8, 0x00]].concat(),
        3 => [b"long".repeat(20), number.to_be_bytes().to_vec()].concat(),
        _ => format!("key{number:04}").into_bytes(),
    }
}

fn random_value(random: &mut Random) -> Vec<u8> {
    let length = match random.below(100) {
        0..10 => 0,
        // More than a block of the log, and than any block of a table.
        10 => 30_000 + random.below(50_000),
        11..20 => 1000 + random.below(4000),
        _ => random.below(200),
    };
    match random.below(3) {
        0 => random.bytes(length as usize),
        _ => {
            let start = random.any() as u8;
            (0..length).map(|i| start.wrapping_add((i / 7) as u8)).collect()
        }
    }
}

/// Panics with the first difference, not with everything that does not differ.
pub(crate) fn assert_same<'a>(label: &str, found: impl Iterator<Item = (&'a [u8], &'a [u8])>, expected: &Map) {
    let mut expected = expected.iter();
    let short = |entry: Option<(&[u8], &[u8])>| {
        entry.map(|(k, v)| (hex(&k[..k.len().min(40)]), v.len(), hex(&v[..v.len().min(20)])))
    };
    for (index, found) in found.map(Some).chain([None]).enumerate() {
        let wanted = expected.next().map(|(k, v)| (&k[..], &v[..]));
        assert!(found == wanted, "{label}: entry {index} is {:?} and should be {:?}", short(found), short(wanted));
        if found.is_none() {
            return;
        }
    }
}
