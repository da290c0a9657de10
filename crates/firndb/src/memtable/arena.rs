//! Memory for the entries of one memtable: handed out in order, given back all at once.
//!
//! Chunks come from the allocator; a request takes its bytes with one addition. What does not fit a chunk gets one of
//! its own size, so that a large value wastes nothing. Threads: any number may allocate at once.
#![allow(unsafe_code, reason = "the memory of all entries: each block says why it is sound")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Every allocation starts at a multiple of this.
pub(super) const ALIGN: usize = 8;
/// The largest size of a chunk, unless one request needs more. Large enough that the lock is rare, small enough that
/// the last one wastes little.
const CHUNK_BYTES_MAX: usize = 1 << 20;
const CHUNK_BYTES_MIN: usize = 1024;
/// The first chunk's size: limits over many memtables count what they take, and most may hold next to nothing. Each
/// further chunk is about as large as all before it.
const FIRST_CHUNK_BYTES: usize = 4096;

struct Chunk {
    start: NonNull<u8>,
    len: usize,
    /// Bytes handed out; more than `len` once it is full.
    used: AtomicUsize,
}

impl Chunk {
    fn layout(len: usize) -> Layout {
        // `len` is at most half the address space and ALIGN is a power of two: see `allocate`.
        match Layout::from_size_align(len, ALIGN) {
            Ok(layout) => layout,
            Err(_) => handle_alloc_error(Layout::new::<u8>()),
        }
    }

    fn new(len: usize) -> Box<Chunk> {
        let layout = Chunk::layout(len);
        // SAFETY: `len` is at least CHUNK_BYTES_MIN, so the layout is not of size zero.
        let start = unsafe { alloc(layout) };
        match NonNull::new(start) {
            Some(start) => Box::new(Chunk { start, len, used: AtomicUsize::new(0) }),
            None => handle_alloc_error(layout),
        }
    }

    /// `len` bytes of this chunk, if it has them left.
    #[inline]
    fn take(&self, len: usize) -> Option<NonNull<u8>> {
        // A request that cannot fit must not use the chunk up for smaller ones.
        if self.used.load(Ordering::Relaxed).saturating_add(len) > self.len {
            return None;
        }
        // Relaxed: the addition alone makes the ranges of two threads disjoint; nothing is published by it.
        let start = self.used.fetch_add(len, Ordering::Relaxed);
        match start.checked_add(len) {
            // SAFETY: `start + len <= self.len`, so the result is inside of the chunk's allocation.
            Some(end) if end <= self.len => Some(unsafe { self.start.add(start) }),
            _ => None,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and freed nowhere else.
        unsafe { dealloc(self.start.as_ptr(), Chunk::layout(self.len)) }
    }
}

/// See the module's text.
pub(super) struct Arena {
    /// The chunk that is being used up; owned by `chunks`. Null before the first.
    current: AtomicPtr<Chunk>,
    /// Boxed, so that `current` stays valid when the vector grows.
    chunks: Mutex<Vec<NonNull<Chunk>>>,
    allocated: AtomicUsize,
    /// No chunk is larger, but for one request.
    chunk_bytes: usize,
}

// SAFETY: the raw pointers are owned by the arena alone; chunks are only changed through atomics.
unsafe impl Send for Arena {}
// SAFETY: as above; two threads never get overlapping ranges (`Chunk::take`).
unsafe impl Sync for Arena {}

impl Arena {
    /// An arena for about `expected` bytes; takes nothing yet.
    pub(super) fn new(expected: usize) -> Arena {
        Arena {
            current: AtomicPtr::new(std::ptr::null_mut()),
            chunks: Mutex::new(Vec::new()),
            allocated: AtomicUsize::new(0),
            chunk_bytes: (expected / 8).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX),
        }
    }

    /// `len` bytes that nobody else has, aligned to [`ALIGN`], valid until the arena is dropped.
    #[inline]
    pub(super) fn allocate(&self, len: usize) -> NonNull<u8> {
        let len = len.next_multiple_of(ALIGN);
        // Acquire pairs with the Release in `grow`: the chunk's fields are seen.
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: non-null pointers in `current` point to chunks that live as long as the arena.
        match unsafe { current.as_ref() }.and_then(|chunk| chunk.take(len)) {
            Some(start) => start,
            None => self.grow(len),
        }
    }

    #[cold]
    fn grow(&self, len: usize) -> NonNull<u8> {
        let mut chunks = self.chunks.lock();
        // Another thread may have been here first.
        let current = self.current.load(Ordering::Acquire);
        let is_large = len > self.chunk_bytes / 4;
        if !is_large
            // SAFETY: as in `allocate`.
            && let Some(start) = unsafe { current.as_ref() }.and_then(|chunk| chunk.take(len))
        {
            return start;
        }
        let doubled = self.allocated().max(FIRST_CHUNK_BYTES).min(self.chunk_bytes);
        let chunk = Chunk::new(if is_large { len } else { doubled.max(len) });
        // Relaxed: a figure for decisions, which orders nothing.
        self.allocated.fetch_add(chunk.len + size_of::<Chunk>(), Ordering::Relaxed);
        let Some(start) = chunk.take(len) else { handle_alloc_error(Chunk::layout(len)) };
        let chunk = NonNull::from(Box::leak(chunk));
        chunks.push(chunk);
        if !is_large {
            // Release pairs with the Acquire in `allocate`.
            self.current.store(chunk.as_ptr(), Ordering::Release);
        }
        start
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for chunk in self.chunks.lock().drain(..) {
            // SAFETY: leaked in `grow`, in the list once, and nobody uses a dropped arena.
            drop(unsafe { Box::from_raw(chunk.as_ptr()) });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_even_between_threads() {
        let arena = Arena::new(64 << 10);
        let mut ranges: Vec<(usize, usize)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|t| {
                    let arena = &arena;
                    scope.spawn(move || {
                        (0..2000)
                            .map(|i| (arena.allocate(1 + (i * 7 + t) % 90), 1 + (i * 7 + t) % 90))
                            .map(|(p, l)| (p.as_ptr() as usize, l))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0));
        assert!(ranges.iter().all(|(start, _)| start % ALIGN == 0));
    }

    #[test]
    fn a_large_request_takes_its_own_size_and_wastes_no_chunk() {
        let arena = Arena::new(64 << 10);
        arena.allocate(100);
        let before = arena.allocated();
        arena.allocate(10 << 20);
        let after = arena.allocated();
        assert!((10 << 20..(10 << 20) + 4096).contains(&(after - before)));
        arena.allocate(100);
        assert_eq!(arena.allocated(), after, "the first chunk goes on being used");
    }
}
