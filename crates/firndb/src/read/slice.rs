//! What a read hands out: bytes that stay where they are, kept alive by whoever holds them.
//!
//! Flow: `table::block` or `memtable` -> **`read::Slice`** -> the caller. Up to [`INLINE_LEN`] bytes are copied into the
//! slice itself: that is a few moves, where a reference count would be two contended atomics and would keep a whole
//! block alive for a handful of bytes. Larger values stay in their block or memtable.
//!
//! Invariants
//! 1. The bytes of a slice never change, whatever is written, flushed, compacted or closed meanwhile.
//! 2. A slice keeps its block or memtable alive and nothing else: no file, no version, no lock.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::memtable::MemSlice;
use crate::table::block::BlockSlice;

/// The largest value that is copied into the slice: it makes the slice 32 bytes, half a cache line.
const INLINE_LEN: usize = 30;

/// The largest value that is copied out of a memtable. A pin there is two atomics on a line that all readers share,
/// and it keeps the memory of a whole memtable.
const MEMTABLE_COPY_LEN: usize = 1024;

/// A key or value as a read returns it: pinned bytes, owned by nobody in particular.
///
/// It dereferences to `[u8]`, is cheap to clone, may be sent to another thread, and outlives the iterator, the
/// snapshot and the database it came from. A large value is not copied: the slice keeps its block of the cache (or its
/// memtable) in memory, so a program that stores many slices for long copies them with [`Slice::to_vec`] instead.
///
/// ```
/// use firndb::Slice;
/// let value = Slice::from(&b"a value"[..]);
/// assert_eq!(value, b"a value");
/// assert_eq!(value.len(), 7);
/// assert_eq!(value.to_vec(), b"a value");
/// ```
#[derive(Clone)]
pub struct Slice(Bytes);

#[derive(Clone)]
enum Bytes {
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    Shared(Arc<[u8]>),
    Block(BlockSlice),
    Memtable(MemSlice),
}

const _: () = assert!(size_of::<Slice>() <= 40, "iterators return two slices by value");

impl Slice {
    /// Copies `bytes` if they are few: the pinned ways below are for the others.
    #[inline]
    pub(crate) fn inline(bytes: &[u8]) -> Option<Slice> {
        if bytes.len() > INLINE_LEN {
            return None;
        }
        let mut inline = [0; INLINE_LEN];
        inline[..bytes.len()].copy_from_slice(bytes);
        Some(Slice(Bytes::Inline { len: bytes.len() as u8, bytes: inline }))
    }

    /// A copy of `bytes`.
    #[inline]
    pub(crate) fn copied(bytes: &[u8]) -> Slice {
        Slice::inline(bytes).unwrap_or_else(|| Slice(Bytes::Shared(Arc::from(bytes))))
    }

    /// Bytes in a block, which the slice keeps alive.
    #[inline]
    pub(crate) fn in_block(pinned: BlockSlice) -> Slice {
        Slice(Bytes::Block(pinned))
    }

    /// Bytes in a memtable: copied, or pinned by `pin` if they are many.
    #[inline]
    pub(crate) fn in_memtable(value: &[u8], pin: impl FnOnce() -> Option<MemSlice>) -> Slice {
        if value.len() > MEMTABLE_COPY_LEN
            && let Some(pinned) = pin()
        {
            return Slice(Bytes::Memtable(pinned));
        }
        Slice::copied(value)
    }

    /// The bytes; the same as dereferencing.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { len, bytes } => &bytes[..usize::from(*len).min(INLINE_LEN)],
            Bytes::Shared(bytes) => bytes,
            Bytes::Block(pinned) => pinned,
            Bytes::Memtable(pinned) => pinned,
        }
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// The bytes as a vector: always a copy, since they may be shared; ends the pin.
    pub fn into_vec(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl Deref for Slice {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Slice {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// A slice is equal to, ordered and hashed as its bytes.
impl Borrow<[u8]> for Slice {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl From<&[u8]> for Slice {
    fn from(bytes: &[u8]) -> Slice {
        Slice::copied(bytes)
    }
}

impl From<Vec<u8>> for Slice {
    fn from(bytes: Vec<u8>) -> Slice {
        Slice::inline(&bytes).unwrap_or_else(|| Slice(Bytes::Shared(bytes.into())))
    }
}

impl From<Slice> for Vec<u8> {
    fn from(slice: Slice) -> Vec<u8> {
        slice.into_vec()
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl PartialEq for Slice {
    fn eq(&self, other: &Slice) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Slice {}

impl PartialOrd for Slice {
    fn partial_cmp(&self, other: &Slice) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slice {
    fn cmp(&self, other: &Slice) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl std::hash::Hash for Slice {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialEq<[u8]> for Slice {
    fn eq(&self, other: &[u8]) -> bool {
        self.as_bytes() == other
    }
}

impl PartialEq<&[u8]> for Slice {
    fn eq(&self, other: &&[u8]) -> bool {
        self.as_bytes() == *other
    }
}

impl<const N: usize> PartialEq<[u8; N]> for Slice {
    fn eq(&self, other: &[u8; N]) -> bool {
        self.as_bytes() == other
    }
}

impl<const N: usize> PartialEq<&[u8; N]> for Slice {
    fn eq(&self, other: &&[u8; N]) -> bool {
        self.as_bytes() == *other
    }
}

impl PartialEq<Vec<u8>> for Slice {
    fn eq(&self, other: &Vec<u8>) -> bool {
        self.as_bytes() == other.as_slice()
    }
}

impl PartialEq<str> for Slice {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_every_length_hold_the_bytes_they_were_made_of() {
        for len in 0..100 {
            let bytes: Vec<u8> = (0..len).collect();
            for slice in [Slice::copied(&bytes), Slice::from(bytes.clone()), Slice::from(&bytes[..]).clone()] {
                assert_eq!(slice, bytes);
                assert_eq!(slice.to_vec(), bytes);
                assert_eq!(slice.into_vec(), bytes);
            }
            assert_eq!(Slice::inline(&bytes).is_some(), bytes.len() <= INLINE_LEN);
        }
    }

    #[test]
    fn slices_compare_as_their_bytes_wherever_these_are() {
        let (short, long) = (Slice::copied(b"b"), Slice::copied(&[b'a'; 50]));
        assert!(long < short);
        assert_ne!(short, long);
        assert_eq!(short, Slice(Bytes::Shared(Arc::from(&b"b"[..]))));
        assert_eq!(format!("{:?}", Slice::copied(b"a\0")), "b\"a\\x00\"");
    }

    #[test]
    fn slices_may_be_sent_and_shared() {
        fn check<T: Send + Sync + Clone + 'static>() {}
        check::<Slice>();
    }
}
