//! Many point lookups in one view, sharing their way.
//!
//! The keys are sorted, so that a run is asked for all of its keys at once: a file is looked up and opened once for the
//! keys that it may hold, and neighbours find their block in the processor's caches. Each key has its own answer: a
//! damaged file fails the keys that need it and no others. Answers come in the order of the input.

use crate::error::Result;
use crate::format::comparator::prefix_u64;
use crate::format::key::{SequenceNumber, user_key};
use crate::metrics::{Statistics, Ticker};
use crate::sync::Arc;
use crate::table::filter::KeyHash;
use crate::table::reader::TableReadOptions;
use crate::version::TableFile;
use crate::version::table_cache::TableCache;

use super::get::{Found, Layers, SeekKey, in_table};
use super::resolve;
use super::slice::Slice;

/// One key on its way down the levels.
struct Lookup<'a> {
    key: &'a [u8],
    hash: KeyHash,
    /// Its place in the input.
    place: usize,
}

/// The newest value of each key that `sequence` sees, in the order of `keys`.
pub(crate) fn multi_get<K: AsRef<[u8]>>(
    layers: Layers<'_>,
    tables: &TableCache,
    keys: &[K],
    sequence: SequenceNumber,
    options: &TableReadOptions,
    statistics: &Statistics,
) -> Vec<Result<Option<Slice>>> {
    let order = &layers.version.order;
    let mut answers: Vec<Result<Option<Slice>>> = keys.iter().map(|_| Ok(None)).collect();
    if layers.may_have_range_tombstones() {
        for (key, answer) in keys.iter().zip(&mut answers) {
            *answer = resolve::get(layers, tables, key.as_ref(), sequence, options, statistics);
        }
        return counted(answers, statistics);
    }
    let whole = |key: &[u8], found| match found {
        Found::Is(value) => Ok(value),
        Found::Operand => resolve::get(layers, tables, key, sequence, options, statistics),
    };
    let mut pending: Vec<Lookup<'_>> = Vec::with_capacity(keys.len());
    for (place, key) in keys.iter().enumerate() {
        let key = key.as_ref();
        match layers.in_memtables(key, sequence) {
            Some(found) => answers[place] = found.and_then(|found| whole(key, found)),
            None => pending.push(Lookup { key, hash: KeyHash::default(), place }),
        }
    }
    statistics.add(Ticker::MemtableHit, (keys.len() - pending.len()) as u64);
    statistics.add(Ticker::MemtableMiss, pending.len() as u64);
    pending.sort_unstable_by(|a, b| order.compare(a.key, b.key));

    // Asks one file for some neighbouring keys; those it knows are answered, and no longer asked for.
    let mut ask =
        |file: &Arc<TableFile>, asked: &mut [Lookup<'_>], is_answered: &mut [bool]| match tables.borrow(file, order) {
            Ok(table) => {
                for (lookup, done) in asked.iter_mut().zip(is_answered).filter(|(_, done)| !**done) {
                    if let Some(hit) = table.get(lookup.key, sequence, &mut lookup.hash, options).transpose() {
                        answers[lookup.place] = hit.and_then(in_table).and_then(|found| whole(lookup.key, found));
                        *done = true;
                    }
                }
            }
            Err(error) => {
                for (lookup, done) in asked.iter().zip(is_answered).filter(|(_, done)| !**done) {
                    answers[lookup.place] = Err(error.clone());
                    *done = true;
                }
            }
        };
    let mut is_answered = Vec::new();
    for (number, level) in layers.version.levels.iter().enumerate() {
        if pending.is_empty() {
            break;
        }
        is_answered.clear();
        is_answered.resize(pending.len(), false);
        if number == 0 {
            for file in level.files() {
                let from = pending.partition_point(|p| order.compare(p.key, user_key(&file.meta.smallest)).is_lt());
                let to = from
                    + pending[from..].iter().take_while(|p| file.may_hold(order, p.key, prefix_u64(p.key))).count();
                if is_answered[from..to].contains(&false) {
                    ask(file, &mut pending[from..to], &mut is_answered[from..to]);
                }
            }
        } else {
            let mut from = 0;
            while from < pending.len() {
                let at = level.find_file(order, &SeekKey::new(pending[from].key, sequence));
                let Some(file) = level.files().get(at) else { break };
                let is_in_file = |p: &Lookup<'_>| level.find_file(order, &SeekKey::new(p.key, sequence)) == at;
                let to = from + 1 + pending[from + 1..].iter().take_while(|p| is_in_file(p)).count();
                // Those before the file's smallest key lie in the gap between two files.
                let smallest = user_key(&file.meta.smallest);
                let first = from + pending[from..to].partition_point(|p| order.compare(p.key, smallest).is_lt());
                if first < to {
                    ask(file, &mut pending[first..to], &mut is_answered[first..to]);
                }
                from = to;
            }
        }
        let mut done = is_answered.iter();
        pending.retain(|_| !done.next().copied().unwrap_or(false));
    }
    counted(answers, statistics)
}

fn counted(answers: Vec<Result<Option<Slice>>>, statistics: &Statistics) -> Vec<Result<Option<Slice>>> {
    let bytes: usize = answers.iter().flatten().flatten().map(|value| value.len()).sum();
    statistics.add(Ticker::NumberKeysRead, answers.len() as u64);
    statistics.add(Ticker::BytesRead, bytes as u64);
    answers
}
