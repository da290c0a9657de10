//! The descriptors of open tables: opened when they are first needed, closed when there are too many, opened again.
//!
//! Flow: `version::table_cache` opens a table -> its reader gets a **[`TableHandle`]** for a file -> blocks are read through
//! it. Which table is closed when there are too many is a clock's choice (second chance): a use sets a bit, the hand clears
//! it. To close a table is to close its descriptor and to take its reader out of the table's slot. A cursor that has the
//! reader goes on with it: its next block opens the file again.
//!
//! Invariants
//! 1. No more descriptors of tables are open than `max`, but for those in the middle of a read; who opens one more closes
//!    another. So a scan over more tables than the process has descriptors for ends, if slowly.
//! 2. A handle is in the ring at most once. The hand passes a bounded number of used ones before it closes one all the same.
//! 3. A reader that was taken out of its slot while someone has it is *retired*: a reference stays here until it is the only
//!    one, and then the janitor frees it. So dropping a cursor closes no file and frees no index.
//! 4. A database that is read beside a writer keeps its readers, and as many descriptors as the process may have: a table
//!    that the writer unlinked cannot be opened again.
//!
//! The simple way, to leave a descriptor to whoever still has its reader, lets one scan over level 0 use up all that the
//! process may have.
//!
//! Threads: any number. Lock order: a table's `opening`, a handle's `opening`, the ring, a table's `opened`; `retired` last,
//! for moments. Files are closed and readers freed with none held.
//!
//! Source: RocksDB `db/table_cache.h`, without its hash table.

use std::any::Any;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use arc_swap::ArcSwapOption;

use crate::cache::Freed;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name;
use crate::format::key::FileNumber;
use crate::fs::guarded::Idle;
use crate::fs::{Fs, RandomAccessFile, ReadRequest, check_process};
use crate::process::Process;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::table::reader::TableReader;

use super::TableFile;

/// How many used tables the hand passes at most before it closes the next one.
const SPARED_MAX: usize = 32;
/// Of the tables that are open, one in this many is closed where descriptors run out: enough for what comes next, and not
/// all at once.
const IDLE_PART: usize = 4;

/// See the module's text.
#[derive(Debug)]
pub(super) struct OpenFiles {
    opener: Process,
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    max: AtomicUsize,
    /// Another process may write to the directory: see invariant 4.
    is_beside_writer: AtomicBool,
    /// The handles that are open, about, in the clock's order.
    ring: Mutex<VecDeque<Weak<TableHandle>>>,
    retired: Mutex<Vec<Arc<TableReader>>>,
}

/// An open file, where a pointer is swapped.
#[derive(Debug)]
struct Descriptor(Arc<dyn RandomAccessFile>);

/// What a reader reads from: the file of a table, whether it is open at the moment or not.
#[derive(Debug)]
pub(super) struct TableHandle {
    itself: Weak<TableHandle>,
    files: Arc<OpenFiles>,
    table: Weak<TableFile>,
    number: FileNumber,
    open: ArcSwapOption<Descriptor>,
    /// Held by the one thread that opens the file again.
    opening: Mutex<()>,
    /// Read since the hand last came by.
    is_touched: AtomicBool,
    is_in_ring: AtomicBool,
}

impl OpenFiles {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf, max: Option<usize>) -> Arc<OpenFiles> {
        Arc::new(OpenFiles {
            opener: Process::current(),
            fs,
            dir,
            max: AtomicUsize::new(max.map_or(usize::MAX, |max| max.max(1))),
            is_beside_writer: AtomicBool::new(false),
            ring: Mutex::default(),
            retired: Mutex::default(),
        })
    }

    pub(super) fn check_process(&self) -> Result<()> {
        check_process(&self.opener)
    }

    /// From now on readers stay, and up to `max` descriptors.
    pub(super) fn read_beside_writer(&self, max: Option<usize>) {
        // Relaxed, both: whoever opens before closes a table that can still be opened again.
        self.max.store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
        self.is_beside_writer.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_beside_writer(&self) -> bool {
        self.is_beside_writer.load(Ordering::Relaxed)
    }

    /// Where the tables are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the file of a table, under one of the names that it may have.
    pub(super) fn open(&self, number: FileNumber) -> Result<(Arc<dyn RandomAccessFile>, PathBuf)> {
        let path = self.dir.join(file_name::table(number));
        match self.fs.open_random(&path) {
            Err(error) if error.is_not_found() => {}
            outcome => return outcome.map(|handle| (handle, path)),
        }
        let old = self.dir.join(file_name::old_table(number));
        match self.fs.open_random(&old) {
            Ok(handle) => Ok((handle, old)),
            Err(error) if error.is_not_found() => Err(no_table(&path)),
            Err(error) => Err(error),
        }
    }

    /// The handle of a table whose file was just opened; not in the ring yet.
    pub(super) fn handle(
        self: &Arc<Self>,
        table: &Arc<TableFile>,
        file: Arc<dyn RandomAccessFile>,
    ) -> Arc<TableHandle> {
        Arc::new_cyclic(|itself| TableHandle {
            itself: Weak::clone(itself),
            files: Arc::clone(self),
            table: Arc::downgrade(table),
            number: table.number(),
            open: ArcSwapOption::from_pointee(Descriptor(file)),
            opening: Mutex::new(()),
            is_touched: AtomicBool::new(false),
            is_in_ring: AtomicBool::new(false),
        })
    }

    /// Enters an open handle into the ring, and closes others while there are too many.
    pub(super) fn enter(&self, handle: &Arc<TableHandle>) {
        let mut freed = Freed::new();
        let mut ring = self.ring.lock();
        // Relaxed, here and below: the ring's lock orders the mark.
        if !handle.is_in_ring.swap(true, Ordering::Relaxed) {
            ring.push_back(Arc::downgrade(handle));
        }
        let excess = ring.len().saturating_sub(self.max.load(Ordering::Relaxed));
        self.close_oldest(&mut ring, excess, Some(handle), &mut freed);
        drop(ring);
    }

    /// Takes `count` handles out of the ring and closes them; never `spared`. How many were open.
    fn close_oldest(
        &self,
        ring: &mut VecDeque<Weak<TableHandle>>,
        mut count: usize,
        spared: Option<&Arc<TableHandle>>,
        freed: &mut Freed,
    ) -> usize {
        let mut were_open = 0;
        // A hand that goes all around finds every bit cleared; with many in use it does not go so far.
        let mut passes = (2 * ring.len()).min(SPARED_MAX);
        while count > 0 {
            let Some(candidate) = ring.pop_front() else { break };
            let Some(candidate) = candidate.upgrade() else {
                count -= 1;
                continue;
            };
            let is_spared = spared.is_some_and(|spared| Arc::ptr_eq(spared, &candidate));
            if is_spared && ring.is_empty() {
                ring.push_back(Arc::downgrade(&candidate));
                break;
            }
            if is_spared || candidate.take_touch() && passes > 0 {
                passes = passes.saturating_sub(1);
                ring.push_back(Arc::downgrade(&candidate));
                continue;
            }
            candidate.is_in_ring.store(false, Ordering::Relaxed);
            count -= 1;
            were_open += usize::from(self.close(&candidate, freed));
        }
        were_open
    }

    fn close(&self, handle: &Arc<TableHandle>, freed: &mut Freed) -> bool {
        let table = if self.is_beside_writer() { None } else { handle.table.upgrade() };
        let reader = table.and_then(|table| table.take_reader(|open| Arc::ptr_eq(open, handle)));
        let open = handle.open.swap(None);
        let was_open = open.is_some();
        freed.extend(open.map(|open| open as Arc<dyn Any + Send + Sync>));
        freed.extend(reader.and_then(|r| self.retire(r)).map(|reader| reader as Arc<dyn Any + Send + Sync>));
        was_open
    }

    /// Keeps a reader that was taken out of its slot for the janitor, if someone still has it; else gives it back, to be freed
    /// with no lock held.
    pub(super) fn retire(&self, reader: Arc<TableReader>) -> Option<Arc<TableReader>> {
        // No slot has it any more, so that with one reference left nobody can make a second one.
        if Arc::strong_count(&reader) == 1 {
            return Some(reader);
        }
        self.retired.lock().push(reader);
        None
    }

    /// Frees the readers that nobody has any more; true if there were any.
    pub(super) fn free_retired(&self) -> bool {
        let free = {
            let mut retired = self.retired.lock();
            let (free, held): (Vec<_>, Vec<_>) =
                std::mem::take(&mut *retired).into_iter().partition(|reader| Arc::strong_count(reader) == 1);
            *retired = held;
            free
        };
        !free.is_empty()
    }

    #[cfg(test)]
    pub(super) fn retired(&self) -> usize {
        self.retired.lock().len()
    }

    /// How many entries the ring has.
    #[cfg(test)]
    pub(super) fn in_ring(&self) -> usize {
        self.ring.lock().len()
    }
}

impl Idle for OpenFiles {
    fn close_idle(&self) -> usize {
        let mut freed = Freed::new();
        let mut ring = self.ring.lock();
        let mut count = 0;
        // Some that are in the ring are closed already, or gone.
        while count == 0 && !ring.is_empty() {
            let wanted = ring.len().div_ceil(IDLE_PART);
            count = self.close_oldest(&mut ring, wanted, None, &mut freed);
        }
        drop(ring);
        count
    }
}

impl TableHandle {
    /// True if the table was used since the last call.
    pub(super) fn take_touch(&self) -> bool {
        // Relaxed: hints. Both bits are cleared.
        let is_used = self.table.upgrade().is_some_and(|table| table.is_touched.swap(false, Ordering::Relaxed));
        self.is_touched.swap(false, Ordering::Relaxed) || is_used
    }

    /// Closes the file until it is read again, and takes the reader that reads from it out of its slot.
    pub(super) fn close(self: &Arc<Self>, freed: &mut Freed) {
        self.files.close(self, freed);
    }

    fn read<T>(&self, read: impl FnOnce(&dyn RandomAccessFile) -> Result<T>) -> Result<T> {
        // What a fork copied is not read: to keep a block takes locks that a thread of the parent may have held.
        self.files.check_process()?;
        let open = self.open.load();
        if let Some(open) = &*open {
            if !self.is_touched.load(Ordering::Relaxed) {
                self.is_touched.store(true, Ordering::Relaxed);
            }
            return read(&*open.0);
        }
        drop(open);
        read(&*self.open_again()?.0)
    }

    #[cold]
    fn open_again(&self) -> Result<Arc<Descriptor>> {
        let opening = self.opening.lock();
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        let file = match self.files.open(self.number) {
            Ok((file, _)) => file,
            Err(error) if self.files.is_beside_writer() && error.corruption().is_some() => {
                let message =
                    format!("the process that writes has removed table {}: open the database again", self.number);
                return Err(error.because(ErrorKind::Busy, message));
            }
            Err(error) => return Err(error),
        };
        let open = Arc::new(Descriptor(file));
        self.open.store(Some(Arc::clone(&open)));
        drop(opening);
        if let Some(handle) = self.itself.upgrade() {
            self.files.enter(&handle);
        }
        Ok(open)
    }
}

impl RandomAccessFile for TableHandle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.read(|file| file.read_at(offset, buffer))
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        self.read(|file| file.read_many(requests))
    }

    fn size(&self) -> Result<u64> {
        self.read(|file| file.size())
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        if let Some(open) = &*self.open.load() {
            open.0.read_ahead(offset, len);
        }
    }
}

/// The table at `path` is named and not there.
pub(crate) fn no_table(path: &Path) -> Error {
    Error::corrupt(CorruptionKind::Missing, "MANIFEST names this table, but it does not exist").in_file(path, None)
}
