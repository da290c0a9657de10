//! One byte budget for the blocks of all tables, without a hash table.
//!
//! Every table has an array with a slot for each of its blocks, so that a block is found by its number: one load, no
//! lock, no hash, no shared counter. The cache only knows which slots are filled: a clock hand goes over them when the
//! budget is exceeded and empties those that were not used since it came by last. Whoever holds a value keeps it;
//! emptying a slot only gives the cache's own reference back.
//!
//! Invariants
//! 1. A filled slot has one entry in the clock, and an empty one none; entries of tables that are gone are dropped when the
//!    hand meets them, or a few with each admission once they are the larger half.
//! 2. The hand takes a bounded number of steps under the lock, and passes a bounded number of used slots before it empties
//!    one all the same. What it emptied is freed when the lock is free again.
//!
//! Threads: loads are lock-free; filling and emptying take one lock. Source: the CLOCK algorithm (Corbató 1968).

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwapOption, Guard};

use crate::metrics::{Statistics, Ticker};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A value that knows how many bytes of memory it takes.
pub(crate) trait Charge: Send + Sync + 'static {
    fn charge(&self) -> usize;
}

/// A byte budget for blocks, shared by all tables of one or several databases.
///
/// ```
/// let cache = firndb::BlockCache::new(64 << 20);
/// assert_eq!(cache.capacity(), 64 << 20);
/// assert_eq!(cache.usage(), 0);
/// ```
pub struct BlockCache {
    capacity: AtomicUsize,
    usage: AtomicUsize,
    /// Slots in the clock whose table is gone, about.
    dropped: AtomicUsize,
    clock: Mutex<Clock>,
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockCache({} of {} bytes)", self.usage(), self.capacity())
    }
}

#[derive(Default)]
struct Clock {
    /// Filled slots in the order in which the hand comes by; slots of dropped tables are skipped.
    hand: VecDeque<(Weak<dyn Evict>, u32)>,
}

/// What is to be freed when no lock is held.
pub(crate) type Freed = Vec<Arc<dyn Any + Send + Sync>>;

/// Something in the clock.
pub(crate) trait Evict: Send + Sync {
    /// Empties a slot, gives its bytes back and its value to `freed`, unless it was used since the last call: then false.
    fn evict(&self, index: u32, freed: &mut Freed) -> bool;
}

/// Steps of the hand under one hold of the lock.
const STEPS_MAX: usize = 64;
/// Used slots that the hand passes before it empties the next one all the same.
const SPARED_MAX: usize = 32;

impl Clock {
    /// One step of the hand; false if there is nothing to step over.
    fn step(&mut self, cache: &BlockCache, spared: &mut usize, statistics: &Statistics, freed: &mut Freed) -> bool {
        let Some((owner, index)) = self.hand.pop_front() else { return false };
        let Some(table) = owner.upgrade() else {
            cache.entry_forgotten();
            return true;
        };
        // The first call has taken the mark of use.
        if table.evict(index, freed) || *spared >= SPARED_MAX && table.evict(index, freed) {
            statistics.add(Ticker::BlockCacheEvict, 1);
            *spared = 0;
        } else {
            *spared += 1;
            self.hand.push_back((owner, index));
        }
        true
    }

    /// Drops entries of tables that are gone, a few at a time; the others keep their order around the clock.
    fn forget_dropped(&mut self, cache: &BlockCache) {
        for _ in 0..STEPS_MAX {
            if cache.dropped.load(Ordering::Relaxed) <= self.hand.len() / 2 {
                return;
            }
            match self.hand.pop_front() {
                Some((owner, index)) if owner.strong_count() > 0 => self.hand.push_back((owner, index)),
                Some(_) => cache.entry_forgotten(),
                None => return,
            }
        }
    }
}

/// Bytes taken from the budget until this is dropped.
#[derive(Debug)]
pub(crate) struct Charged {
    cache: Arc<BlockCache>,
    bytes: usize,
}

impl Charged {
    pub(crate) fn new(cache: &Arc<BlockCache>, bytes: usize) -> Charged {
        // Relaxed: the sum is exact because every addition has its subtraction; it orders nothing.
        cache.usage.fetch_add(bytes, Ordering::Relaxed);
        Charged { cache: Arc::clone(cache), bytes }
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        self.cache.usage.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl BlockCache {
    /// A cache of at most `capacity` bytes. What readers hold beyond that is theirs.
    pub fn new(capacity: usize) -> Arc<BlockCache> {
        Arc::new(BlockCache {
            capacity: AtomicUsize::new(capacity),
            usage: AtomicUsize::new(0),
            dropped: AtomicUsize::new(0),
            clock: Mutex::new(Clock::default()),
        })
    }

    /// The budget in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity.load(Ordering::Relaxed)
    }

    /// Bytes in the cache.
    pub fn usage(&self) -> usize {
        self.usage.load(Ordering::Relaxed)
    }

    /// Changes the budget; what is too much goes at the next insertion.
    pub fn set_capacity(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// The clock has dropped an entry of a table that is gone.
    fn entry_forgotten(&self) {
        // Relaxed: about. What was never counted (an index that is charged) does not make it negative.
        let _ = self.dropped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }

    /// Notes a filled slot, whose bytes are charged already, and makes room.
    pub(crate) fn admit(&self, owner: Weak<dyn Evict>, index: u32, statistics: &Statistics) {
        let mut clock = self.clock.lock();
        clock.hand.push_back((owner, index));
        clock.forget_dropped(self);
        self.make_room_from(clock, statistics);
    }

    /// How many entries the clock has.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        self.clock.lock().hand.len()
    }

    /// Makes room for bytes that were charged.
    pub(crate) fn make_room(&self, statistics: &Statistics) {
        self.make_room_from(self.clock.lock(), statistics);
    }

    fn make_room_from<'a>(&'a self, mut clock: MutexGuard<'a, Clock>, statistics: &Statistics) {
        let capacity = self.capacity();
        // Twice around: bounded if all are used all the time.
        let mut left = 2 * clock.hand.len();
        let mut spared = 0;
        let mut freed = Freed::new();
        loop {
            for _ in 0..STEPS_MAX {
                if self.usage() <= capacity || left == 0 || !clock.step(self, &mut spared, statistics, &mut freed) {
                    // Before what was emptied is freed.
                    drop(clock);
                    return;
                }
                left -= 1;
            }
            drop(clock);
            freed.clear();
            clock = self.clock.lock();
        }
    }
}

struct Slot<T> {
    value: ArcSwapOption<T>,
    /// Used since the hand came by last.
    is_used: AtomicBool,
}

/// The slots of one table.
pub(crate) struct CachedSlots<T: Charge> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Charge> {
    slots: Box<[Slot<T>]>,
    cache: Arc<BlockCache>,
    statistics: Arc<Statistics>,
}

impl<T: Charge> Evict for Shared<T> {
    fn evict(&self, index: u32, freed: &mut Freed) -> bool {
        let Some(slot) = self.slots.get(index as usize) else { return true };
        if slot.is_used.swap(false, Ordering::Relaxed) {
            return false;
        }
        if let Some(value) = slot.value.swap(None) {
            self.cache.usage.fetch_sub(value.charge(), Ordering::Relaxed);
            freed.push(value);
        }
        true
    }
}

impl<T: Charge> Drop for Shared<T> {
    fn drop(&mut self) {
        // No lock here: the last reference may be the one that `admit` holds under its lock.
        for value in self.slots.iter().filter_map(|slot| slot.value.swap(None)) {
            self.cache.usage.fetch_sub(value.charge(), Ordering::Relaxed);
            self.cache.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T: Charge> CachedSlots<T> {
    /// `count` empty slots.
    pub(crate) fn new(count: usize, cache: Arc<BlockCache>, statistics: Arc<Statistics>) -> CachedSlots<T> {
        let slot = |_| Slot { value: ArcSwapOption::const_empty(), is_used: AtomicBool::new(false) };
        CachedSlots { shared: Arc::new(Shared { slots: (0..count).map(slot).collect(), cache, statistics }) }
    }

    /// Bytes of memory of the slots themselves.
    pub(crate) fn memory(&self) -> usize {
        self.shared.slots.len() * size_of::<Slot<T>>()
    }

    /// The value of a slot, borrowed. Lock-free.
    #[inline]
    pub(crate) fn load(&self, index: usize) -> Option<Guard<Option<Arc<T>>>> {
        let slot = self.shared.slots.get(index)?;
        let value = slot.value.load();
        if value.is_none() {
            return None;
        }
        // A plain load first: the line stays shared between readers once the mark is set.
        if !slot.is_used.load(Ordering::Relaxed) {
            slot.is_used.store(true, Ordering::Relaxed);
        }
        Some(value)
    }

    /// True if the slot is filled; leaves no mark of use.
    #[cfg(test)]
    pub(crate) fn is_filled(&self, index: usize) -> bool {
        self.shared.slots.get(index).is_some_and(|slot| slot.value.load().is_some())
    }

    /// Fills a slot; a value that is larger than the whole cache is not kept.
    pub(crate) fn insert(&self, index: usize, value: &Arc<T>) {
        let Some(slot) = self.shared.slots.get(index) else { return };
        let charge = value.charge();
        if charge > self.shared.cache.capacity() {
            return;
        }
        // Charged first: whoever empties the slot at once gives back what is there. Relaxed: as in `Charged`.
        self.shared.cache.usage.fetch_add(charge, Ordering::Relaxed);
        let before = slot.value.compare_and_swap(&None::<Arc<T>>, Some(Arc::clone(value)));
        if before.is_some() {
            // Another reader was faster.
            self.shared.cache.usage.fetch_sub(charge, Ordering::Relaxed);
            return;
        }
        self.shared.statistics.add(Ticker::BlockCacheAdd, 1);
        let weak: Weak<dyn Evict> = Arc::downgrade(&self.shared) as Weak<dyn Evict>;
        self.shared.cache.admit(weak, index as u32, &self.shared.statistics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Bytes(usize);

    impl Charge for Bytes {
        fn charge(&self) -> usize {
            self.0
        }
    }

    fn slots(cache: &Arc<BlockCache>, count: usize) -> CachedSlots<Bytes> {
        CachedSlots::new(count, Arc::clone(cache), Arc::new(Statistics::default()))
    }

    #[test]
    fn the_budget_holds_over_all_tables_and_used_slots_stay_longer() {
        let cache = BlockCache::new(1000);
        let (hot, cold) = (slots(&cache, 10), slots(&cache, 100));
        hot.insert(0, &Arc::new(Bytes(100)));
        for index in 0..100 {
            assert!(hot.load(0).is_some(), "used before every insertion, after {index}");
            cold.insert(index, &Arc::new(Bytes(100)));
            assert!(cache.usage() <= 1000, "{}", cache.usage());
        }
        assert!((0..100).filter(|index| cold.is_filled(*index)).count() >= 8);
    }

    #[test]
    fn a_dropped_table_gives_its_bytes_back_and_pinned_values_stay() {
        let cache = BlockCache::new(1000);
        let table = slots(&cache, 4);
        table.insert(1, &Arc::new(Bytes(300)));
        let pinned = table.load(1).and_then(Guard::into_inner).expect("filled");
        drop(table);
        assert_eq!((cache.usage(), pinned.0), (0, 300));
        let other = slots(&cache, 4);
        for index in 0..4 {
            other.insert(index, &Arc::new(Bytes(400)));
        }
        assert_eq!(cache.usage(), 800);
        assert!(cache.clock.lock().hand.len() <= 3, "slots of the dropped table are forgotten");
    }

    #[test]
    fn many_threads_fill_empty_and_drop_tables_and_every_byte_is_given_back() {
        let cache = BlockCache::new(2000);
        let shared = slots(&cache, 50);
        std::thread::scope(|scope| {
            for thread in 0..4usize {
                let (cache, shared) = (&cache, &shared);
                scope.spawn(move || {
                    for round in 0..200 {
                        let own = slots(cache, 10);
                        for step in 0..20 {
                            let index = (round * 7 + step * 3 + thread) % 50;
                            match shared.load(index) {
                                Some(value) => assert_eq!(value.as_ref().map(|v| v.0), Some(index + 1)),
                                None => shared.insert(index, &Arc::new(Bytes(index + 1))),
                            }
                            own.insert(step % 10, &Arc::new(Bytes(100)));
                        }
                    }
                });
            }
        });
        let held: usize = (0..50).filter(|index| shared.is_filled(*index)).map(|index| index + 1).sum();
        assert_eq!(cache.usage(), held, "what is charged is what is there");
        assert!(held <= 2000);
        drop(shared);
        assert_eq!(cache.usage(), 0);
    }

    /// Counts how often the hand comes by, and is used all the time.
    #[derive(Default)]
    struct Busy(AtomicUsize, AtomicBool);

    impl Evict for Busy {
        fn evict(&self, _: u32, _: &mut Freed) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.fetch_xor(true, Ordering::Relaxed)
        }
    }

    #[test]
    fn the_hand_takes_few_steps_though_everything_was_used_and_tables_come_and_go() {
        let cache = BlockCache::new(1000);
        let statistics = Statistics::default();
        let busy: Arc<Busy> = Arc::default();
        let _full = Charged::new(&cache, 1000);
        for _ in 0..1000 {
            cache.admit(Arc::downgrade(&busy) as Weak<dyn Evict>, 0, &statistics);
        }
        assert_eq!((busy.0.load(Ordering::Relaxed), cache.clock.lock().hand.len()), (0, 1000));
        // One byte too many that no slot gives back: each admission goes around at most twice, and not in one hold.
        let table = slots(&cache, 1);
        drop(_full);
        let _nearly = Charged::new(&cache, 999);
        table.insert(0, &Arc::new(Bytes(2)));
        assert!(busy.0.load(Ordering::Relaxed) <= 2002);
        // Tables that are opened, read and closed over and over leave next to nothing behind.
        let cache = BlockCache::new(1 << 20);
        let kept = slots(&cache, 10);
        (0..10).for_each(|index| kept.insert(index, &Arc::new(Bytes(1))));
        for _ in 0..500 {
            let closed = slots(&cache, 10);
            (0..10).for_each(|index| closed.insert(index, &Arc::new(Bytes(1))));
        }
        assert!(cache.clock.lock().hand.len() <= 100, "{}", cache.clock.lock().hand.len());
        assert!((0..10).all(|index| kept.is_filled(index)));
    }

    #[test]
    fn a_used_slot_is_passed_and_emptied_when_all_are_used() {
        let cache = BlockCache::new(1000);
        let table = slots(&cache, 2000);
        for index in 0..1000 {
            table.insert(index, &Arc::new(Bytes(1)));
            assert!(table.load(index).is_some());
        }
        for index in 1000..1100 {
            table.insert(index, &Arc::new(Bytes(1)));
            assert!(table.load(index).is_some());
            assert_eq!((cache.usage(), cache.clock.lock().hand.len()), (1000, 1000), "an entry a filled slot");
        }
    }

    #[test]
    fn a_value_larger_than_the_cache_and_a_slot_that_does_not_exist_are_not_kept() {
        let cache = BlockCache::new(10);
        let table = slots(&cache, 1);
        table.insert(0, &Arc::new(Bytes(11)));
        table.insert(7, &Arc::new(Bytes(1)));
        assert!(table.load(0).is_none() && table.load(7).is_none());
        assert_eq!(cache.usage(), 0);
    }
}
