//! Fixed-width little-endian integers, LEB128 varints and length-prefixed bytes.
//!
//! Reading goes through [`Reader`], which never reads past its slice and says where it stopped.

use crate::error::{CorruptionKind, Error, Result};

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_varint32(out: &mut Vec<u8>, value: u32) {
    put_varint64(out, u64::from(value));
}

pub(crate) fn put_varint64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A zig-zag signed varint: small magnitudes of either sign are short.
pub(crate) fn put_signed_varint64(out: &mut Vec<u8>, value: i64) {
    put_varint64(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// A varint32 length, then the bytes. Keys and values are below 4 GiB: checked where they enter the engine.
pub(crate) fn put_length_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Decodes a varint32 at the start of `bytes`: the value and its length; `None` if it is cut off or too large.
#[inline]
pub(crate) fn varint32_at(bytes: &[u8]) -> Option<(u32, usize)> {
    match bytes.first() {
        Some(&first) if first < 0x80 => Some((u32::from(first), 1)),
        Some(_) => varint32_slow(bytes),
        None => None,
    }
}

fn varint32_slow(bytes: &[u8]) -> Option<(u32, usize)> {
    let (value, used) = varint64_at(bytes)?;
    Some((u32::try_from(value).ok()?, used))
}

/// Decodes a varint64 at the start of `bytes`: the value and its length; `None` if it is cut off or too large.
#[inline]
pub(crate) fn varint64_at(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(offset..offset.checked_add(4)?)?.try_into().ok()?))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

/// Reads one field after another; an error names the field and how far in it was.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[cold]
    fn cut_off(&self, what: &str) -> Error {
        Error::corrupt(
            CorruptionKind::Truncated,
            format!("{what} at byte {} of {} is cut off or too large", self.at, self.bytes.len()),
        )
    }

    pub(crate) fn byte(&mut self, what: &str) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.cut_off(what))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint32(&mut self, what: &str) -> Result<u32> {
        let (value, used) = varint32_at(self.rest()).ok_or_else(|| self.cut_off(what))?;
        self.at += used;
        Ok(value)
    }

    pub(crate) fn varint64(&mut self, what: &str) -> Result<u64> {
        let (value, used) = varint64_at(self.rest()).ok_or_else(|| self.cut_off(what))?;
        self.at += used;
        Ok(value)
    }

    pub(crate) fn signed_varint64(&mut self, what: &str) -> Result<i64> {
        let raw = self.varint64(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(crate) fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8]> {
        let bytes = self.rest().get(..len).ok_or_else(|| self.cut_off(what))?;
        self.at += len;
        Ok(bytes)
    }

    pub(crate) fn length_prefixed(&mut self, what: &str) -> Result<&'a [u8]> {
        let mut ahead = self.clone();
        let len = ahead.varint32(what)? as usize;
        let bytes = ahead.take(len, what)?;
        *self = ahead;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_length() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, (1u64 << shift) | 1] {
                let mut out = Vec::new();
                put_varint64(&mut out, value);
                assert_eq!(varint64_at(&out), Some((value, out.len())));
                assert_eq!(varint64_at(&out[..out.len() - 1]), None);
                let mut signed = Vec::new();
                put_signed_varint64(&mut signed, (value as i64).wrapping_neg());
                assert_eq!(Reader::new(&signed).signed_varint64("x").expect("whole"), (value as i64).wrapping_neg());
            }
        }
    }

    #[test]
    fn a_varint_beyond_its_width_is_refused() {
        assert_eq!(varint32_at(&[0xff, 0xff, 0xff, 0xff, 0x10]), None);
        assert_eq!(varint64_at(&[0xff; 10]), None);
        assert!(Reader::new(&[5, b'a']).length_prefixed("key").is_err());
    }
}
