//! The registry of pins: every open iterator, snapshot, job and set of live files, and the line of code that made it.
//!
//! A pin takes a slot: one bit is claimed, a few words are stored, and the slot's state says that they are whole. That
//! is all: no lock, no allocation, no clock (a coarse tick is kept by the janitor). Giving it back stores the state and
//! clears the bit. Slots come in chunks that are never given back, so that a slot's address holds for good.
//!
//! Invariants: (1) a slot is written by the owner of its bit alone. (2) Its words are whole while its state is odd and
//! the same before and after reading them. (3) Dropping a guard does nothing that takes longer with more data.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::metrics::thread_number;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Arc, Mutex};

use super::static_table::StaticTable;
use super::wake::Wake;

/// The sequence number of a snapshot that is being made.
pub(super) const PENDING: u64 = u64::MAX;
#[cfg(not(loom))]
const SHARDS: usize = 8;
#[cfg(loom)]
const SHARDS: usize = 1;
#[cfg(not(loom))]
const CHUNK_SLOTS: usize = 64;
#[cfg(loom)]
const CHUNK_SLOTS: usize = 2;

/// What sort of reader holds a pin.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PinKind {
    /// An iterator or cursor: holds the files and memtables of its view.
    Iterator = 1,
    /// A snapshot: keeps compactions from dropping what it sees.
    Snapshot = 2,
    /// A flush or compaction: holds its inputs.
    Job = 3,
    /// [`LiveFiles`](crate::LiveFiles): holds the files of one moment, so that they can be copied.
    LiveFiles = 4,
}

impl PinKind {
    fn from_byte(byte: u8) -> Option<PinKind> {
        match byte {
            1 => Some(PinKind::Iterator),
            2 => Some(PinKind::Snapshot),
            3 => Some(PinKind::Job),
            4 => Some(PinKind::LiveFiles),
            _ => None,
        }
    }
}

impl fmt::Display for PinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PinKind::Iterator => "iterator",
            PinKind::Snapshot => "snapshot",
            PinKind::Job => "job",
            PinKind::LiveFiles => "live files",
        })
    }
}

/// One pin, and what it alone keeps.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-pins-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "value")?;
/// let iter = db.iter()?;
/// let pins = db.pins();
/// assert_eq!(pins.len(), 1);
/// assert_eq!(pins[0].kind, firndb::PinKind::Iterator);
/// println!("{}", pins[0]);
/// drop(iter);
/// db.assert_no_pins()?;
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[non_exhaustive]
#[derive(Debug, Clone)]
pub struct PinReport {
    /// Names the pin for as long as the database is open.
    pub id: u64,
    /// What sort of reader it is.
    pub kind: PinKind,
    /// The line of code that made it.
    pub site: &'static Location<'static>,
    /// The name that the maker gave it.
    pub label: Option<&'static str>,
    /// The number of the thread that made it, counted from 0 in the order of their first use of the engine.
    pub thread: u32,
    /// How long ago it was made, to about half a second.
    pub age: Duration,
    /// How long ago it was last used, to about half a second.
    pub idle: Duration,
    /// The column family; `None` for snapshots and live files, which are of all.
    pub family: Option<ColumnFamilyId>,
    /// What it sees: writes up to this number.
    pub sequence: SequenceNumber,
    /// Bytes on disk that are kept for it alone, and would be free without it.
    pub exclusive_bytes: u64,
    /// Bytes on disk that it keeps together with other pins.
    pub shared_bytes: u64,
    /// Bytes of memtables that are kept in memory for it alone.
    pub exclusive_memtable_bytes: u64,
    /// Bytes of memtables that it keeps in memory together with other pins.
    pub shared_memtable_bytes: u64,
    /// Files that no current version needs, and that it keeps.
    pub files: Vec<FileNumber>,
}

impl fmt::Display for PinReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} made at {}:{}", self.kind, self.site.file(), self.site.line())?;
        if let Some(label) = self.label {
            write!(f, " ({label})")?;
        }
        write!(
            f,
            ", thread {}, {:.1} s old, idle for {:.1} s, sees sequence {}, keeps {} bytes alone, {} with others, in memory {} alone, {} with others, {} files",
            self.thread,
            self.age.as_secs_f64(),
            self.idle.as_secs_f64(),
            self.sequence,
            self.exclusive_bytes,
            self.shared_bytes,
            self.exclusive_memtable_bytes,
            self.shared_memtable_bytes,
            self.files.len()
        )
    }
}

/// A slot's words, as they are read by others.
#[derive(Debug, Clone)]
pub(crate) struct Pin {
    pub(crate) id: u64,
    pub(crate) kind: PinKind,
    pub(crate) site: &'static Location<'static>,
    pub(crate) label: Option<&'static str>,
    pub(crate) thread: u32,
    pub(crate) created_ms: u64,
    pub(crate) touched_ms: u64,
    pub(crate) family: Option<ColumnFamilyId>,
    pub(crate) sequence: u64,
    pub(crate) super_version: u64,
}

/// What a pin says of itself when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PinSpec {
    pub(crate) kind: PinKind,
    pub(crate) site: &'static Location<'static>,
    pub(crate) label: Option<&'static str>,
    pub(crate) family: Option<ColumnFamilyId>,
    pub(crate) sequence: SequenceNumber,
    /// The number of the view, in its family; of live files the id of their hold.
    pub(crate) super_version: u64,
}

#[derive(Debug)]
pub(super) struct Slot {
    /// Odd while in use; rises by one with each change.
    state: AtomicU64,
    /// Its number in the registry's table.
    site: AtomicU32,
    /// Where the line lies in memory: the next pin here is often of the same line, and need not look it up.
    site_address: AtomicUsize,
    kind: AtomicU8,
    /// The state of the last pin that was ousted here: a mark that comes late does not hit the next one in the slot.
    ousted: AtomicU64,
    thread: AtomicU32,
    family: AtomicU64,
    created_ms: AtomicU64,
    touched_ms: AtomicU64,
    pub(super) sequence: AtomicU64,
    super_version: AtomicU64,
    /// Its number in the registry's table, plus one; 0: none.
    label: AtomicU32,
}

impl Slot {
    fn new() -> Slot {
        Slot {
            state: AtomicU64::new(0),
            site: AtomicU32::new(0),
            site_address: AtomicUsize::new(0),
            kind: AtomicU8::new(0),
            ousted: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            family: AtomicU64::new(0),
            created_ms: AtomicU64::new(0),
            touched_ms: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            super_version: AtomicU64::new(0),
            label: AtomicU32::new(0),
        }
    }
}

impl Slot {
    /// True if the slot is, or is about to be, a snapshot's. A slot that is being claimed may still say what it was
    /// before: then its owner has not read the visible number yet, and will read one that is not older than ours.
    pub(super) fn is_snapshot(&self) -> bool {
        // Acquire pairs with the Release in `claim`.
        !self.state.load(Ordering::Acquire).is_multiple_of(2)
            && self.kind.load(Ordering::Relaxed) == PinKind::Snapshot as u8
    }

    /// Marks the pin that is in the slot now; false if there is none, or it is a job's.
    fn oust(&self) -> bool {
        // Acquire pairs with the Release in `claim`.
        let state = self.state.load(Ordering::Acquire);
        if state.is_multiple_of(2) || self.kind.load(Ordering::Relaxed) == PinKind::Job as u8 {
            return false;
        }
        // Relaxed: noticed at some later step. The largest mark stays: of two, the later pin's.
        self.ousted.fetch_max(state, Ordering::Relaxed);
        true
    }
}

/// What the registry shares with its pins; lives until the last of them goes.
#[derive(Debug)]
struct Common {
    sites: StaticTable<Location<'static>>,
    labels: StaticTable<str>,
    /// Milliseconds on the clock, about.
    now_ms: AtomicU64,
    wake: Arc<Wake>,
    /// Set once anyone was ousted: readers look at it with every step, and at their own mark only then.
    ousting: Arc<AtomicBool>,
    /// What lives until the last pin goes, though the database is gone.
    kept: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Leads to all that a pin needs, so that a pin holds one reference.
#[derive(Debug)]
struct Chunk {
    /// A bit for each slot in use.
    used: AtomicU64,
    /// The place of the first slot in the whole registry.
    base: u64,
    slots: Box<[Slot]>,
    common: Arc<Common>,
}

impl Chunk {
    fn new(base: u64, common: &Arc<Common>) -> Chunk {
        let slots = (0..CHUNK_SLOTS).map(|_| Slot::new()).collect();
        Chunk { used: AtomicU64::new(0), base, slots, common: Arc::clone(common) }
    }
}

#[derive(Debug, Default)]
struct Shard {
    chunks: Mutex<Vec<Arc<Chunk>>>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct PinRegistry {
    /// The chunk that a shard's pins try first; full ones are passed over under the shard's lock.
    first: [Arc<Chunk>; SHARDS],
    shards: [Shard; SHARDS],
    chunks_made: AtomicU64,
    common: Arc<Common>,
    /// Jobs that are about to drop what snapshots may see.
    pub(super) drops: AtomicU64,
}

impl PinRegistry {
    pub(crate) fn new(wake: Arc<Wake>) -> Arc<PinRegistry> {
        let common = Arc::new(Common {
            sites: StaticTable::new(),
            labels: StaticTable::new(),
            now_ms: AtomicU64::new(0),
            wake,
            ousting: Arc::new(AtomicBool::new(false)),
            kept: Mutex::new(None),
        });
        Arc::new(PinRegistry {
            first: std::array::from_fn(|shard| Arc::new(Chunk::new((shard * CHUNK_SLOTS) as u64, &common))),
            shards: std::array::from_fn(|_| Shard::default()),
            chunks_made: AtomicU64::new(SHARDS as u64),
            common,
            drops: AtomicU64::new(0),
        })
    }

    /// Takes a slot. Always inlined: most of what a pin says of itself is known where it is made.
    #[inline(always)]
    pub(crate) fn claim(&self, spec: PinSpec) -> PinGuard {
        let thread = thread_number();
        let shard = thread % SHARDS;
        let (chunk, index) = match take_bit(&self.first[shard]) {
            Some(index) => (Arc::clone(&self.first[shard]), index),
            None => self.claim_further(shard),
        };
        let (slot, common) = (&chunk.slots[index], &*chunk.common);
        let now = common.now_ms.load(Ordering::Relaxed);
        // Pairs with the fence in `read`: whoever meets one of the words below finds that the state has changed.
        fence(Ordering::Release);
        // Relaxed, all of them: published by the state below.
        let address = std::ptr::from_ref(spec.site).addr();
        if slot.site_address.load(Ordering::Relaxed) != address {
            slot.site.store(common.sites.number_of(spec.site), Ordering::Relaxed);
            slot.site_address.store(address, Ordering::Relaxed);
        }
        slot.kind.store(spec.kind as u8, Ordering::Relaxed);
        slot.thread.store(thread as u32, Ordering::Relaxed);
        slot.family.store(spec.family.map_or(u64::MAX, |family| u64::from(family.0)), Ordering::Relaxed);
        slot.created_ms.store(now, Ordering::Relaxed);
        slot.touched_ms.store(now, Ordering::Relaxed);
        slot.sequence.store(spec.sequence.0, Ordering::Relaxed);
        slot.super_version.store(spec.super_version, Ordering::Relaxed);
        slot.label.store(spec.label.map_or(0, |label| common.labels.number_of(label) + 1), Ordering::Relaxed);
        let state = slot.state.load(Ordering::Relaxed) + 1;
        // Release pairs with the Acquire in `read`: whoever sees the odd state sees the words.
        slot.state.store(state, Ordering::Release);
        let burials = common.wake.burials();
        PinGuard { chunk, index: index as u32, burials }
    }

    #[cold]
    fn claim_further(&self, shard: usize) -> (Arc<Chunk>, usize) {
        let mut chunks = self.shards[shard].chunks.lock();
        // The newest are most likely to have room.
        for chunk in chunks.iter().rev() {
            if let Some(index) = take_bit(chunk) {
                return (Arc::clone(chunk), index);
            }
        }
        let base = self.chunks_made.fetch_add(1, Ordering::Relaxed) * CHUNK_SLOTS as u64;
        let chunk = Arc::new(Chunk::new(base, &self.common));
        // Relaxed: nobody else knows the chunk yet.
        chunk.used.store(1, Ordering::Relaxed);
        chunks.push(Arc::clone(&chunk));
        (chunk, 0)
    }

    fn for_each_chunk(&self, mut each: impl FnMut(&Chunk)) {
        for (first, shard) in self.first.iter().zip(&self.shards) {
            each(first);
            let further = shard.chunks.lock().clone();
            further.iter().for_each(|chunk| each(chunk));
        }
    }

    /// Calls `each` with every slot in use.
    pub(super) fn for_each(&self, mut each: impl FnMut(u64, &Slot)) {
        self.for_each_chunk(|chunk| {
            // Acquire pairs with the Release that clears a bit.
            let mut used = chunk.used.load(Ordering::Acquire);
            while used != 0 {
                let index = used.trailing_zeros() as usize;
                used &= used - 1;
                if let Some(slot) = chunk.slots.get(index) {
                    each(chunk.base + index as u64, slot);
                }
            }
        });
    }

    /// Every pin, oldest first.
    pub(crate) fn pins(&self) -> Vec<Pin> {
        let mut pins = Vec::new();
        self.for_each(|place, slot| pins.extend(self.read(place, slot)));
        pins.sort_by_key(|pin| (pin.created_ms, pin.id));
        pins
    }

    /// Every iterator and snapshot that is open, oldest first.
    pub(crate) fn readers(&self) -> Vec<Pin> {
        let mut pins = self.pins();
        pins.retain(|pin| pin.kind != PinKind::Job);
        pins
    }

    /// The words of a slot, unless it changed meanwhile.
    fn read(&self, place: u64, slot: &Slot) -> Option<Pin> {
        // Acquire pairs with the Release in `claim`.
        let state = slot.state.load(Ordering::Acquire);
        if state.is_multiple_of(2) {
            return None;
        }
        let common = &*self.common;
        let label = slot.label.load(Ordering::Relaxed);
        let family = slot.family.load(Ordering::Relaxed);
        let pin = Pin {
            id: pin_id(place, state),
            kind: PinKind::from_byte(slot.kind.load(Ordering::Relaxed))?,
            site: common.sites.get(slot.site.load(Ordering::Relaxed))?,
            label: label.checked_sub(1).and_then(|number| common.labels.get(number)),
            thread: slot.thread.load(Ordering::Relaxed),
            created_ms: slot.created_ms.load(Ordering::Relaxed),
            touched_ms: slot.touched_ms.load(Ordering::Relaxed),
            family: u32::try_from(family).ok().map(ColumnFamilyId),
            sequence: slot.sequence.load(Ordering::Relaxed),
            super_version: slot.super_version.load(Ordering::Relaxed),
        };
        // Keeps the loads above before the one below.
        fence(Ordering::Acquire);
        (slot.state.load(Ordering::Relaxed) == state).then_some(pin)
    }

    /// How many pins there are.
    pub(crate) fn count(&self) -> usize {
        let mut count = 0;
        // Acquire pairs with the Release of a guard's drop: whoever sees it gone sees what it did before.
        self.for_each_chunk(|chunk| count += chunk.used.load(Ordering::Acquire).count_ones() as usize);
        count
    }

    /// Makes the pin `id` fail at its next step; false if it is gone, or a job's.
    pub(crate) fn oust(&self, id: u64) -> bool {
        let mut is_done = false;
        self.for_each(|place, slot| {
            if pin_id(place, slot.state.load(Ordering::Acquire)) == id {
                is_done |= slot.oust();
            }
        });
        self.common.ousting.store(true, Ordering::Relaxed);
        is_done
    }

    /// Makes every pin but those of jobs fail at its next step. Those that are made meanwhile may be missed: close the door
    /// to new ones first.
    pub(crate) fn oust_all(&self) {
        self.for_each(|_, slot| {
            slot.oust();
        });
        self.common.ousting.store(true, Ordering::Relaxed);
    }

    /// Keeps `what` for as long as there is a pin, when everyone else is gone.
    pub(crate) fn keep(&self, what: impl Any + Send) {
        *self.common.kept.lock() = Some(Box::new(what));
    }

    /// The janitor's tick, in milliseconds.
    pub(crate) fn tick(&self, now_ms: u64) {
        self.common.now_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// Claims a free bit.
#[inline]
fn take_bit(chunk: &Chunk) -> Option<usize> {
    let mut used = chunk.used.load(Ordering::Relaxed);
    loop {
        let index = used.trailing_ones() as usize;
        if index >= CHUNK_SLOTS {
            return None;
        }
        // Acquire pairs with the Release of the last owner's drop: its stores come before ours.
        match chunk.used.compare_exchange_weak(used, used | 1 << index, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(index),
            Err(now) => used = now,
        }
    }
}

/// What a pin is called in reports: its slot, and which of the slot's pins it is.
fn pin_id(place: u64, state: u64) -> u64 {
    place << 32 | (state & 0xFFFF_FFFF)
}

/// A held slot. Dropping it marks the slot free, and wakes the janitor if something waits for that.
pub(crate) struct PinGuard {
    chunk: Arc<Chunk>,
    index: u32,
    /// When the pin was taken, before its view was: see `Wake::reader_left`.
    burials: u64,
}

impl PinGuard {
    #[inline]
    pub(super) fn slot(&self) -> &Slot {
        &self.chunk.slots[self.index as usize]
    }

    /// True if the pin is listed in this registry.
    #[inline]
    pub(super) fn is_of(&self, registry: &PinRegistry) -> bool {
        Arc::ptr_eq(&self.chunk.common, &registry.common)
    }

    /// Set once any reader of the database was ousted.
    pub(crate) fn ousting(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.chunk.common.ousting)
    }

    /// Notes that the reader is alive.
    #[inline]
    pub(crate) fn touch(&self) {
        // Relaxed: a figure for reports.
        self.slot().touched_ms.store(self.chunk.common.now_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The view that the reader holds now.
    #[inline]
    pub(crate) fn set_view(&self, super_version: u64, sequence: SequenceNumber) {
        self.slot().super_version.store(super_version, Ordering::Relaxed);
        self.slot().sequence.store(sequence.0, Ordering::Relaxed);
    }

    /// An error of kind `PinEvicted` once the pin was ousted.
    #[inline]
    pub(crate) fn check_ousted(&self) -> Result<()> {
        let slot = self.slot();
        // Relaxed: the state is our own while the guard lives, and the mark may be noticed at some later step.
        match slot.ousted.load(Ordering::Relaxed) == slot.state.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(self.ousted()),
        }
    }

    #[cold]
    fn ousted(&self) -> Error {
        let site = self
            .chunk
            .common
            .sites
            .get(self.slot().site.load(Ordering::Relaxed))
            .map_or_else(String::new, |site| format!(" made at {}:{}", site.file(), site.line()));
        Error::new(ErrorKind::PinEvicted, format!("the reader{site} was ousted when the database was closed"))
    }
}

impl Drop for PinGuard {
    #[inline]
    fn drop(&mut self) {
        let slot = self.slot();
        let state = slot.state.load(Ordering::Relaxed) + 1;
        slot.state.store(state, Ordering::Release);
        // Release pairs with the Acquire in `take_bit` and in `count`.
        self.chunk.used.fetch_and(!(1 << self.index), Ordering::Release);
        self.chunk.common.wake.reader_left(self.burials);
    }
}

impl fmt::Debug for PinGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinGuard({})", self.chunk.base + u64::from(self.index))
    }
}
