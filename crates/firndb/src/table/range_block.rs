//! The block of a table's range tombstones, and what of them is the table's.
//!
//! The block is plain: keys `(begin, sequence, 0x0F)`, the value is the first key behind the range. Ranges may overlap.
//!
//! A table says nothing of keys outside of the bounds that MANIFEST has for it: the tombstones of a job are in each of its
//! outputs that they reach into, and a table that is the only one left of them must not hide what later went elsewhere. A
//! bound that a tombstone set is its end, which is excluded; in an internal key that reads `(end, MAX, 0x0F)`.
//!
//! Source: RocksDB `db/range_del_aggregator.h` (`TruncatedRangeDelIterator`), wiki "DeleteRange Implementation".

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::key::{ParsedKey, SequenceNumber, TRAILER_LEN, ValueKind, internal_key, is_exclusive_end, user_key};
use crate::iter::range_tombstones::{RangeTombstone, RangeTombstones};

use super::block::PlainEntries;
use super::block_builder::BlockBuilder;

/// Bytes of keys for a byte of the block, at most: writers do not share prefixes here, and few bytes of a block could ask for
/// much memory if they did.
const EXPANSION_MAX: usize = 16;

/// The block's content; `tombstones` ascend by begin, the newest first.
pub(super) fn encode(tombstones: &[RangeTombstone]) -> Vec<u8> {
    let mut block = BlockBuilder::new(1);
    for tombstone in tombstones {
        let key = internal_key(&tombstone.begin, tombstone.sequence, ValueKind::RangeDeletion as u8);
        block.add(&key, &tombstone.end);
    }
    block.finish().to_vec()
}

/// What the block holds. `global` is the number of every entry of a table that was ingested.
pub(super) fn decode(block: &[u8], global: Option<SequenceNumber>) -> Result<Vec<RangeTombstone>> {
    let mut found = Vec::new();
    let mut key_bytes_left = block.len().saturating_mul(EXPANSION_MAX);
    for entry in PlainEntries::new(block)? {
        let (key, end) = entry?;
        key_bytes_left = key_bytes_left.checked_sub(key.len()).ok_or_else(|| {
            Error::corrupt(CorruptionKind::Malformed, "range tombstones with keys far longer than their block")
        })?;
        let parsed = ParsedKey::parse(&key)?;
        if parsed.kind != ValueKind::RangeDeletion {
            let what = format!("an entry of kind {:#04x} among the range tombstones", parsed.kind as u8);
            return Err(Error::corrupt(CorruptionKind::Malformed, what));
        }
        found.push(RangeTombstone {
            begin: parsed.user_key.to_vec(),
            end: end.to_vec(),
            sequence: global.unwrap_or(parsed.sequence),
        });
    }
    Ok(found)
}

/// Those parts that lie within a table's bounds, which are internal keys.
///
/// # Errors
/// `NotSupported`: a range goes on behind the last key of the table, which no tombstone set, and the order has no key that
/// comes right after it. Only old RocksDBs cut tables like this.
pub(super) fn truncated(
    order: &KeyOrder,
    tombstones: Vec<RangeTombstone>,
    bounds: Option<&(Vec<u8>, Vec<u8>)>,
) -> Result<RangeTombstones> {
    let Some((smallest, largest)) = bounds.filter(|(a, b)| a.len() >= TRAILER_LEN && b.len() >= TRAILER_LEN) else {
        return Ok(RangeTombstones::new(order, tombstones));
    };
    let first = user_key(smallest);
    let mut last = user_key(largest).to_vec();
    let mut cut = Vec::with_capacity(tombstones.len());
    if !is_exclusive_end(largest) {
        let reaches_further = |tombstone: &RangeTombstone| order.compare(&tombstone.end, &last).is_gt();
        match (tombstones.iter().any(reaches_further), order) {
            (_, KeyOrder::Bytewise) => last.push(0),
            (false, _) => {}
            (true, _) => {
                return Err(Error::new(
                    ErrorKind::NotSupported,
                    "a range tombstone goes on behind the table's last key, in an order without a next key",
                ));
            }
        }
    }
    for mut tombstone in tombstones {
        if order.compare(&tombstone.begin, first).is_lt() {
            tombstone.begin = first.to_vec();
        }
        if order.compare(&tombstone.end, &last).is_gt() {
            tombstone.end.clone_from(&last);
        }
        cut.push(tombstone);
    }
    Ok(RangeTombstones::new(order, cut))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tombstone(begin: &str, end: &str, sequence: u64) -> RangeTombstone {
        RangeTombstone { begin: begin.into(), end: end.into(), sequence: SequenceNumber(sequence) }
    }

    fn bound(key: &str, sequence: SequenceNumber, kind: ValueKind) -> Vec<u8> {
        internal_key(key.as_bytes(), sequence, kind as u8)
    }

    #[test]
    fn a_block_comes_back_and_no_cut_of_it_panics() {
        let all = vec![tombstone("a", "k", 9), tombstone("a", "c", 4), tombstone("b", "", 3)];
        let block = encode(&all);
        assert_eq!(decode(&block, None).expect("own"), all);
        let ingested = decode(&block, Some(SequenceNumber(77))).expect("own");
        assert!(ingested.iter().all(|tombstone| tombstone.sequence == SequenceNumber(77)));
        for cut in 0..block.len() {
            // It is for the block's checksum to tell.
            if let Ok(found) = decode(&block[..cut], None) {
                assert!(found.len() <= all.len() + block.len() / 3, "cut at {cut}");
            }
        }
        let mut other = BlockBuilder::new(1);
        other.add(&bound("a", SequenceNumber(1), ValueKind::Value), b"b");
        assert!(decode(other.finish(), None).is_err());
    }

    #[test]
    fn a_small_block_does_not_ask_for_much_memory() {
        let mut block = BlockBuilder::new(10_000);
        let prefix = "a".repeat(4000);
        for n in 0..2000 {
            block.add(&bound(&format!("{prefix}{n:05}"), SequenceNumber(1), ValueKind::RangeDeletion), b"b");
        }
        let block = block.finish();
        assert!(block.len() < 60_000);
        let error = decode(block, None).expect_err("8 MB of keys");
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }

    #[test]
    fn a_tombstone_ends_where_its_table_does() {
        let order = KeyOrder::Bytewise;
        let all = vec![tombstone("a", "z", 5)];
        let bounds = |largest: Vec<u8>| (bound("c", SequenceNumber(9), ValueKind::Value), largest);
        let sentinel = bounds(bound("m", SequenceNumber::MAX, ValueKind::RangeDeletion));
        let cut = truncated(&order, all.clone(), Some(&sentinel)).expect("cut");
        assert_eq!(cut.span(), Some((&b"c"[..], &b"m"[..])));
        let point = bounds(bound("m", SequenceNumber(3), ValueKind::Value));
        let cut = truncated(&order, all.clone(), Some(&point)).expect("cut");
        assert_eq!(cut.covering(b"m", SequenceNumber(9)), SequenceNumber(5));
        assert_eq!(cut.covering(b"m\0", SequenceNumber(9)), SequenceNumber::ZERO);
        assert_eq!(cut.covering(b"b", SequenceNumber(9)), SequenceNumber::ZERO);
        let whole = truncated(&order, all, None).expect("nothing to cut");
        assert_eq!(whole.span(), Some((&b"a"[..], &b"z"[..])));
        // The same backwards, where no key comes right after another.
        let reverse = KeyOrder::ReverseBytewise;
        let bounds = (bound("z", SequenceNumber(9), ValueKind::Value), bound("c", SequenceNumber(3), ValueKind::Value));
        let within = truncated(&reverse, vec![tombstone("y", "c", 5)], Some(&bounds)).expect("within");
        assert_eq!(within.span(), Some((&b"y"[..], &b"c"[..])));
        let beyond = truncated(&reverse, vec![tombstone("y", "a", 5)], Some(&bounds)).expect_err("no next key");
        assert_eq!(beyond.kind(), ErrorKind::NotSupported);
    }
}
