//! A sorted list that grows at any place, read without locks.
//!
//! Nodes are never changed and never removed: an insertion writes its node in full and then links it, level by level
//! from the bottom, each by one compare-and-swap. Whoever follows a link therefore sees a whole node. Eight bytes of
//! the user key lie in the node's head, so that under the bytewise order most comparisons touch one cache line.
//!
//! Invariants: (1) level 0 links all nodes in order; every other level links a subset of the level below. (2) A node
//! is reachable only after all of its bytes are written: links are stored with Release and followed with Acquire.
//! (3) Memory is given back only with the whole list, which whoever reads holds by `Arc`.
//!
//! Source: Pugh 1990; the insertion without locks as in RocksDB `memtable/inlineskiplist.h`.
#![allow(unsafe_code, reason = "nodes that live in the arena: each block says why it is sound")]

use std::cmp::Ordering as Order;
use std::fmt;
use std::ops::Deref;
use std::ptr;
use std::slice;

use crate::format::comparator::{KeyOrder, prefix_u64};
use crate::format::key::{TRAILER_LEN, trailer, user_key};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use super::arena::{ALIGN, Arena};

/// One node in four goes a level higher: 4^12 entries are searched in logarithmic time.
const HEIGHT_MAX: usize = 12;

type Link = AtomicPtr<Node>;

/// The head of a node; after it come `height` links, the internal key and the value.
#[repr(C)]
struct Node {
    prefix: u64,
    key_len: u32,
    value_len: u32,
    height: u64,
}

const _: () = assert!(align_of::<Node>() <= ALIGN && align_of::<Link>() <= ALIGN);

impl Node {
    /// The link of a level below the node's height.
    ///
    /// # Safety
    /// `node` points to a whole node of a living list, and `level` is less than its height.
    #[inline]
    unsafe fn link<'a>(node: *const Node, level: usize) -> &'a Link {
        // SAFETY: the links follow the head, aligned because both sizes are multiples of ALIGN.
        unsafe { &*node.add(1).cast::<Link>().add(level) }
    }

    /// # Safety
    /// `node` points to a whole node of a list that lives for `'a`.
    #[inline]
    unsafe fn key<'a>(node: *const Node) -> &'a [u8] {
        // SAFETY: `insert` wrote `key_len` bytes after the links.
        unsafe {
            let start = node.add(1).cast::<Link>().add((*node).height as usize).cast::<u8>();
            slice::from_raw_parts(start, (*node).key_len as usize)
        }
    }

    /// # Safety
    /// As for [`Node::key`].
    #[inline]
    unsafe fn value<'a>(node: *const Node) -> &'a [u8] {
        // SAFETY: `insert` wrote `value_len` bytes after the key.
        unsafe {
            let key = Node::key(node);
            slice::from_raw_parts(key.as_ptr().add(key.len()), (*node).value_len as usize)
        }
    }
}

/// Bytes of the prefix and of the word after it.
const WORDS_LEN: usize = 16;

/// The second eight bytes of a key as a big-endian number.
#[inline]
fn second_word(user: &[u8]) -> Option<u64> {
    let (_, rest) = user.split_first_chunk::<8>()?;
    rest.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

/// What is searched for: a user key and the trailer of its internal key.
#[derive(Clone, Copy)]
struct Target<'a> {
    prefix: u64,
    /// The eight bytes after the prefix as a number, where the key has them and is ordered by its bytes.
    second: Option<u64>,
    user: &'a [u8],
    trailer: u64,
}

/// See the module's text.
pub(super) struct SkipList {
    order: KeyOrder,
    is_bytewise: bool,
    arena: Arena,
    head: [Link; HEIGHT_MAX],
    /// The last node of each level, as far as known: where ascending keys go.
    tail: [Link; HEIGHT_MAX],
    height: AtomicUsize,
}

// SAFETY: nodes are immutable once linked, links are atomics, and the arena is `Sync`.
unsafe impl Send for SkipList {}
// SAFETY: as above.
unsafe impl Sync for SkipList {}

/// The place of an insertion on one level: between two neighbours. A null `before` is the head.
#[derive(Clone, Copy)]
struct Gap {
    before: *const Node,
    after: *mut Node,
}

impl SkipList {
    pub(super) fn order(&self) -> &KeyOrder {
        &self.order
    }

    pub(super) fn new(order: KeyOrder, expected_bytes: usize) -> SkipList {
        let null = |_| Link::new(ptr::null_mut());
        SkipList {
            is_bytewise: order.is_bytewise(),
            order,
            arena: Arena::new(expected_bytes),
            head: std::array::from_fn(null),
            tail: std::array::from_fn(null),
            height: AtomicUsize::new(1),
        }
    }

    #[inline]
    pub(super) fn has_nodes(&self) -> bool {
        // Acquire, as in `gap`: every node is linked there, or behind a node that is.
        !self.head[0].load(Ordering::Acquire).is_null()
    }

    pub(super) fn allocated(&self) -> usize {
        self.arena.allocated()
    }

    #[inline]
    fn target<'a>(&self, user: &'a [u8], trailer: u64) -> Target<'a> {
        if !self.is_bytewise {
            return Target { prefix: 0, second: None, user, trailer };
        }
        Target { prefix: prefix_u64(user), second: second_word(user), user, trailer }
    }

    #[inline]
    fn link(&self, before: *const Node, level: usize) -> &Link {
        match before.is_null() {
            true => &self.head[level],
            // SAFETY: nodes of this list live as long as it, and `before` was reached on `level`, so it is that high.
            false => unsafe { Node::link(before, level) },
        }
    }

    /// How a node's key sorts against the target.
    #[inline]
    fn compare(&self, node: *const Node, target: Target<'_>) -> Order {
        // SAFETY: only called with linked nodes of this list.
        let (prefix, key) = unsafe { ((*node).prefix, Node::key(node)) };
        // Prefixes are all 0 under other orders.
        match prefix.cmp(&target.prefix) {
            Order::Equal => {}
            different => return different,
        }
        let user = user_key(key);
        // Keys that share their prefix share the way here: they are not compared from their first byte on again.
        let ordering = match (target.second, second_word(user)) {
            (Some(wanted), Some(second)) => second
                .cmp(&wanted)
                .then_with(|| KeyOrder::Bytewise.compare(&user[WORDS_LEN..], &target.user[WORDS_LEN..])),
            _ => self.order.compare(user, target.user),
        };
        ordering.then_with(|| target.trailer.cmp(&trailer(key)))
    }

    /// Where `target` goes on `level`, searching forward from `before`. Always inlined: a search asks once a level.
    #[inline(always)]
    fn gap(&self, mut before: *const Node, level: usize, target: Target<'_>, known_after: *const Node) -> Gap {
        loop {
            // Acquire pairs with the Release that linked the node: it is seen whole.
            let after = self.link(before, level).load(Ordering::Acquire);
            if after.is_null() || ptr::eq(after, known_after) || self.compare(after, target) != Order::Less {
                return Gap { before, after };
            }
            before = after;
        }
    }

    /// The first node at or after the target, and the one before it. Null for none.
    #[inline]
    fn search(&self, target: Target<'_>) -> Gap {
        let mut gap = Gap { before: ptr::null(), after: ptr::null_mut() };
        // Relaxed: a height that is too small only costs time.
        for level in (0..self.height.load(Ordering::Relaxed)).rev() {
            gap = self.gap(gap.before, level, target, gap.after);
        }
        gap
    }

    /// Adds an entry. False if there is one with the same key and trailer already: then nothing is changed.
    pub(super) fn insert(&self, user: &[u8], entry_trailer: u64, value: &[u8]) -> bool {
        let target = self.target(user, entry_trailer);
        let height = random_height(entry_trailer);
        let node = self.new_node(target, height, value);
        let mut gaps = [Gap { before: ptr::null(), after: ptr::null_mut() }; HEIGHT_MAX];
        if !self.gaps_at_tail(target, height, &mut gaps) {
            self.find_gaps(target, height, &mut gaps);
        }
        if !gaps[0].after.is_null() && self.compare(gaps[0].after, target) == Order::Equal {
            return false;
        }
        for (level, gap) in gaps.iter_mut().enumerate().take(height) {
            loop {
                // SAFETY: `node` was made above with `height` links. Relaxed: published by the exchange below.
                unsafe { Node::link(node, level) }.store(gap.after, Ordering::Relaxed);
                // Release publishes the node's bytes and its links up to this level.
                let swapped = self.link(gap.before, level).compare_exchange(
                    gap.after,
                    node,
                    Ordering::Release,
                    Ordering::Relaxed,
                );
                if swapped.is_ok() {
                    break;
                }
                *gap = self.gap(gap.before, level, target, ptr::null());
                if level == 0 && !gap.after.is_null() && self.compare(gap.after, target) == Order::Equal {
                    return false;
                }
            }
            if gap.after.is_null() {
                // Release pairs with the Acquire in `gaps_at_tail`. A stale tail is noticed there.
                self.tail[level].store(node, Ordering::Release);
            }
        }
        true
    }

    /// The gaps of a key that sorts after all others; false if it does not.
    #[inline]
    fn gaps_at_tail(&self, target: Target<'_>, height: usize, gaps: &mut [Gap; HEIGHT_MAX]) -> bool {
        for (level, gap) in gaps.iter_mut().enumerate().take(height) {
            let before: *const Node = self.tail[level].load(Ordering::Acquire);
            if before.is_null() {
                // Nothing on this level, or a tail that is not known yet: the latter is noticed by its link.
                if level == 0 || !self.head[level].load(Ordering::Acquire).is_null() {
                    return false;
                }
            } else if !self.link(before, level).load(Ordering::Acquire).is_null()
                || self.compare(before, target) != Order::Less
            {
                return false;
            }
            *gap = Gap { before, after: ptr::null_mut() };
        }
        // Relaxed: only ever raised; see `search`.
        self.height.fetch_max(height, Ordering::Relaxed);
        true
    }

    fn find_gaps(&self, target: Target<'_>, height: usize, gaps: &mut [Gap; HEIGHT_MAX]) {
        let top = self.height.fetch_max(height, Ordering::Relaxed).max(height);
        let mut gap = Gap { before: ptr::null(), after: ptr::null_mut() };
        for level in (0..top).rev() {
            gap = self.gap(gap.before, level, target, gap.after);
            gaps[level] = gap;
        }
    }

    fn new_node(&self, target: Target<'_>, height: usize, value: &[u8]) -> *mut Node {
        let key_len = target.user.len() + TRAILER_LEN;
        let links = size_of::<Node>() + height * size_of::<Link>();
        let node = self.arena.allocate(links + key_len + value.len()).as_ptr().cast::<Node>();
        // Lengths fit: `MemTable::insert` refuses larger ones.
        let head = Node {
            prefix: target.prefix,
            key_len: key_len as u32,
            value_len: value.len() as u32,
            height: height as u64,
        };
        // SAFETY: the arena gave `links + key_len + value.len()` bytes, aligned for Node and Link, to this call alone.
        unsafe {
            node.write(head);
            let link = node.add(1).cast::<Link>();
            for level in 0..height {
                link.add(level).write(Link::new(ptr::null_mut()));
            }
            let key = link.add(height).cast::<u8>();
            ptr::copy_nonoverlapping(target.user.as_ptr(), key, target.user.len());
            let trailer = target.trailer.to_le_bytes();
            ptr::copy_nonoverlapping(trailer.as_ptr(), key.add(target.user.len()), TRAILER_LEN);
            ptr::copy_nonoverlapping(value.as_ptr(), key.add(key_len), value.len());
        }
        node
    }

    /// The first entry at or after `(user, trailer)`, if it has that user key.
    #[inline]
    pub(super) fn get(&self, user: &[u8], trailer: u64) -> Option<(u64, &[u8])> {
        let (found, node) = self.find(user, trailer)?;
        // SAFETY: nodes of this list live as long as it.
        Some((found, unsafe { Node::value(node) }))
    }

    /// As [`SkipList::get`], with a value that keeps the list alive.
    #[inline]
    pub(super) fn get_pinned(self: &Arc<Self>, user: &[u8], trailer: u64) -> Option<(u64, MemSlice)> {
        let (found, node) = self.find(user, trailer)?;
        Some((found, MemSlice { node, _list: Arc::clone(self) }))
    }

    #[inline]
    fn find(&self, user: &[u8], target_trailer: u64) -> Option<(u64, *const Node)> {
        let node = self.search(self.target(user, target_trailer)).after;
        if node.is_null() {
            return None;
        }
        // SAFETY: nodes of this list live as long as it.
        let key = unsafe { Node::key(node) };
        (user_key(key) == user).then_some((trailer(key), node))
    }

    pub(super) fn iter(self: &Arc<Self>) -> ListIter {
        ListIter { list: Arc::clone(self), node: ptr::null() }
    }
}

/// A height between 1 and [`HEIGHT_MAX`], each a quarter as likely as the one below. Taken from the trailer, whose
/// sequence number differs between entries: the same history makes the same list.
#[inline]
fn random_height(seed: u64) -> usize {
    // SplitMix64's finaliser.
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (1 + z.trailing_zeros() as usize / 2).min(HEIGHT_MAX)
}

/// A value inside a memtable, whose memory it keeps.
#[derive(Clone)]
pub(crate) struct MemSlice {
    node: *const Node,
    /// Keeps the node's memory.
    _list: Arc<SkipList>,
}

// SAFETY: the node is immutable and lives as long as `list`, which is `Send` and `Sync`.
unsafe impl Send for MemSlice {}
// SAFETY: as above.
unsafe impl Sync for MemSlice {}

impl Deref for MemSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `node` is a node of `list`, which is alive.
        unsafe { Node::value(self.node) }
    }
}

impl fmt::Debug for MemSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemSlice({} bytes)", self.len())
    }
}

/// A position in a list that it keeps alive.
pub(super) struct ListIter {
    list: Arc<SkipList>,
    node: *const Node,
}

// SAFETY: as for `MemSlice`.
unsafe impl Send for ListIter {}
// SAFETY: as for `MemSlice`.
unsafe impl Sync for ListIter {}

impl ListIter {
    #[inline]
    pub(super) fn valid(&self) -> bool {
        !self.node.is_null()
    }

    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        match self.node.is_null() {
            true => &[],
            // SAFETY: a node of `list`, which is alive.
            false => unsafe { Node::key(self.node) },
        }
    }

    #[inline]
    pub(super) fn value(&self) -> &[u8] {
        match self.node.is_null() {
            true => &[],
            // SAFETY: a node of `list`, which is alive.
            false => unsafe { Node::value(self.node) },
        }
    }

    #[inline]
    pub(super) fn value_slice(&self) -> Option<MemSlice> {
        self.valid().then(|| MemSlice { node: self.node, _list: Arc::clone(&self.list) })
    }

    #[inline]
    pub(super) fn next(&mut self) {
        if !self.node.is_null() {
            self.node = self.list.link(self.node, 0).load(Ordering::Acquire);
        }
    }

    pub(super) fn prev(&mut self) {
        if !self.node.is_null() {
            let key = self.key();
            let target = self.list.target(user_key(key), trailer(key));
            self.node = self.list.search(target).before;
        }
    }

    pub(super) fn seek_to_first(&mut self) {
        self.node = self.list.head[0].load(Ordering::Acquire);
    }

    pub(super) fn seek_to_last(&mut self) {
        let mut before: *const Node = ptr::null();
        for level in (0..self.list.height.load(Ordering::Relaxed)).rev() {
            loop {
                let after = self.list.link(before, level).load(Ordering::Acquire);
                if after.is_null() {
                    break;
                }
                before = after;
            }
        }
        self.node = before;
    }

    pub(super) fn seek(&mut self, internal: &[u8]) {
        self.node = self.list.search(self.list.target(user_key(internal), trailer(internal))).after;
    }

    pub(super) fn seek_for_prev(&mut self, internal: &[u8]) {
        let target = self.list.target(user_key(internal), trailer(internal));
        let gap = self.list.search(target);
        let is_there = !gap.after.is_null() && self.list.compare(gap.after, target) == Order::Equal;
        self.node = if is_there { gap.after } else { gap.before };
    }
}
