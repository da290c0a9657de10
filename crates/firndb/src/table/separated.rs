//! Data blocks that keep their values apart from their keys, as RocksDB 11 writes them when asked.
//!
//! Flow: [`super::block`], for a block whose footer says so -> **[`joined`]** -> the same entries in the plain form, once a
//! load: whatever reads a block has one form to know, and pays nothing for the other.
//!
//! The form: `entries, values, restart offsets [, hash index], u32 where the values start, u32 flags and count`. An entry
//! at a restart point says where its value starts among the values; the others follow each other.
//!
//! Source: RocksDB `table/block_based/block_builder.cc`, `block.cc` (11.1); checked on its files.

use crate::error::{CorruptionKind, Error, Result};
use crate::format::coding::{Reader, put_u32, put_varint32, u32_at};

use super::layout::{COUNT_MASK, HASH_INDEX_BIT};

#[cold]
fn bad(what: &str) -> Error {
    Error::corrupt(CorruptionKind::Malformed, format!("a block with its values apart: {what}"))
}

/// The block in the plain form, without a hash index. `packed`, its last four bytes, has the bit of this form.
pub(super) fn joined(data: &[u8], packed: u32) -> Result<Vec<u8>> {
    let too_short = || bad("it is cut off");
    let mut end = data.len().checked_sub(8).ok_or_else(too_short)?;
    let entries_end = u32_at(data, end).ok_or_else(too_short)? as usize;
    if packed & HASH_INDEX_BIT != 0 {
        let at = end.checked_sub(2).ok_or_else(too_short)?;
        end = at.checked_sub(usize::from(u16::from_le_bytes([data[at], data[at + 1]]))).ok_or_else(too_short)?;
    }
    let count = (packed & COUNT_MASK) as usize;
    let restarts_at = count.checked_mul(4).and_then(|len| end.checked_sub(len)).ok_or_else(too_short)?;
    if entries_end > restarts_at {
        return Err(bad("its values start behind their end"));
    }
    let (mut entries, mut values) = (Reader::new(&data[..entries_end]), Reader::new(&data[entries_end..restarts_at]));
    let (values_len, mut value_at) = (restarts_at - entries_end, 0);
    let mut out = Vec::with_capacity(data.len() + 16);
    let mut restarts = Vec::with_capacity(count);
    while !entries.is_empty() {
        let at = entries_end - entries.rest().len();
        let (shared, non_shared) = (entries.varint32("shared bytes")?, entries.varint32("key bytes")?);
        let value_len = entries.varint32("value bytes")?;
        if restarts.len() < count && u32_at(data, restarts_at + 4 * restarts.len()) == Some(at as u32) {
            restarts.push(out.len() as u32);
            // Bytes that several entries share would make a small block a large one.
            if entries.varint32("value offset")? as usize != value_at {
                return Err(bad("values that do not follow each other"));
            }
        }
        put_varint32(&mut out, shared);
        put_varint32(&mut out, non_shared);
        put_varint32(&mut out, value_len);
        out.extend_from_slice(entries.take(non_shared as usize, "key")?);
        out.extend_from_slice(values.take(value_len as usize, "value")?);
        value_at += value_len as usize;
    }
    let is_empty = out.is_empty() && count == 1;
    if !is_empty && restarts.len() != count || value_at != values_len || u32::try_from(out.len()).is_err() {
        return Err(bad("entries, values and restart points do not fit to each other"));
    }
    if is_empty {
        restarts.push(0);
    }
    restarts.iter().for_each(|restart| put_u32(&mut out, *restart));
    put_u32(&mut out, count as u32);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::block_builder::BlockBuilder;
    use super::*;
    use crate::format::key::{SequenceNumber, internal_key};

    /// The first entries of a block that RocksDB 11.1 wrote, with a restart point more.
    fn sample() -> Vec<u8> {
        let mut block = vec![0, 9, 1, 0];
        block.extend_from_slice(&internal_key(b"a", SequenceNumber(0), 1));
        block.extend_from_slice(&[0, 14, 11]);
        block.extend_from_slice(&internal_key(b"key100", SequenceNumber(0), 1));
        let second = block.len() as u32;
        block.extend_from_slice(&[0, 14, 11, 12]);
        block.extend_from_slice(&internal_key(b"key101", SequenceNumber(0), 1));
        block.extend_from_slice(&[5, 9, 0, b'2', 1, 0, 0, 0, 0, 0, 0, 0]);
        let values = block.len() as u32;
        block.extend_from_slice(b"bvalue100100value101101");
        for number in [0, second, values, 1 << 28 | 2] {
            put_u32(&mut block, number);
        }
        block
    }

    fn joined_at_its_word(block: &[u8]) -> Result<Vec<u8>> {
        joined(block, u32_at(block, block.len() - 4).expect("four bytes"))
    }

    #[test]
    fn keys_and_values_come_together_again() {
        let mut plain = BlockBuilder::new(2);
        for (user, value) in [("a", "b"), ("key100", "value100100"), ("key101", "value101101"), ("key102", "")] {
            plain.add(&internal_key(user.as_bytes(), SequenceNumber(0), 1), value.as_bytes());
        }
        let plain = plain.finish().to_vec();
        assert_eq!(joined_at_its_word(&sample()).expect("sound"), plain);
        // With a hash index of three buckets.
        let mut block = sample();
        let at = block.len() - 8;
        block.splice(at..at, [0, 254, 255, 3, 0]);
        *block.last_mut().expect("not empty") |= 0x80;
        assert_eq!(joined_at_its_word(&block).expect("sound"), plain);
        let empty = [&[0; 8][..], &[1, 0, 0, 0x10]].concat();
        assert_eq!(joined_at_its_word(&empty).expect("no entry"), BlockBuilder::new(1).finish());
    }

    #[test]
    fn damage_is_an_error_or_other_entries_but_no_panic_and_no_large_block() {
        let sound = sample();
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut flipped = sound.clone();
                flipped[at] ^= 1 << bit;
                if let Ok(out) = joined_at_its_word(&flipped) {
                    assert!(out.len() <= sound.len() + 8, "bit {bit} of byte {at}");
                }
            }
            let _ = joined(&sound[..at], 1 << 28 | 2);
        }
    }
}
