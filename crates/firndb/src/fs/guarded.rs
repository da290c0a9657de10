//! The file system as one open database uses it: for the process that opened it alone, and with descriptors to be had.
//!
//! Flow: `db` wraps the user's file system when it opens -> every owner below gets the wrapped one -> **[`GuardedFs`]** ->
//! the user's.
//!
//! Invariants
//! 1. In a process that was forked from the opener every operation is refused: what the child does changes nothing that the
//!    parent sees.
//! 2. An operation that fails for want of a descriptor is tried again as long as there is one to give back: first those of
//!    tables that nobody reads at the moment, which are opened again when needed, then those of the reserve, then idle
//!    tables of the process's other databases, which may have taken all there are. So a flush, a
//!    new log and a new MANIFEST find what they need though no table is open. The reserve is filled again when an operation
//!    finds descriptors free.
//! 3. No file is opened, made, renamed or removed by its path while another directory has the path of the one that was
//!    locked: whoever moved ours away may have put another database there, with files of the same numbers. Once ours is
//!    back, everything goes on.
//!
//! The simple way, to bound the number of open tables and hope, fails where the rest of the process opens files, too.
//!
//! Threads: any number. Locks: the list of neighbours, `idle`, `place` and `reserve`, for moments, and none while the file system works but to fill the
//! reserve.

use std::path::{Path, PathBuf};
// A static lock has to be made in a constant, which the model checker's cannot: hence std's own here.
use std::sync::{Mutex as StdMutex, TryLockError, Weak};

use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};

use super::{
    CreateMode, DirEntry, FileLock, Fs, HeldDescriptor, RandomAccessFile, WritableFile, check_process,
    is_out_of_descriptors,
};

/// What a flush that switches the log and MANIFEST has open for moments beside what is open all the time, and some more.
const RESERVE: usize = 6;

/// How often an operation is tried again: descriptors that were given back may be taken by others.
const TRIES: usize = 64;

/// Someone who has descriptors that can be given back for a while.
pub(crate) trait Idle: Send + Sync + std::fmt::Debug {
    /// Gives some descriptors back; how many.
    fn close_idle(&self) -> usize;
}

/// Who has descriptors that can be given back, of all databases of this process, and of those that it was forked from.
static NEIGHBOURS: StdMutex<Vec<(Process, Weak<dyn Idle>)>> = StdMutex::new(Vec::new());

/// The databases of this process; none while somebody changes the list, or did so in the parent when it forked.
fn neighbours() -> Vec<Arc<dyn Idle>> {
    let list = match NEIGHBOURS.try_lock() {
        Ok(list) => list,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return Vec::new(),
    };
    // What was inherited has locks that a thread of the parent may have held.
    list.iter().filter(|(owner, _)| owner.is_current()).filter_map(|(_, idle)| idle.upgrade()).collect()
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct GuardedFs {
    inner: Arc<dyn Fs>,
    opener: Process,
    idle: Mutex<Option<Weak<dyn Idle>>>,
    /// The directory that was locked, and what tells it from others of its path.
    place: Mutex<Option<(PathBuf, (u64, u64))>>,
    reserve: Mutex<Vec<Box<dyn HeldDescriptor>>>,
    /// How many descriptors the reserve lacks.
    missing: AtomicUsize,
}

impl GuardedFs {
    /// A file system for the process that calls.
    pub(crate) fn new(inner: Arc<dyn Fs>) -> Arc<GuardedFs> {
        let reserve: Vec<_> = (0..RESERVE).map_while(|_| inner.hold_descriptor()).collect();
        let missing = if reserve.is_empty() { 0 } else { RESERVE - reserve.len() };
        Arc::new(GuardedFs {
            inner,
            opener: Process::current(),
            idle: Mutex::default(),
            place: Mutex::default(),
            reserve: Mutex::new(reserve),
            missing: AtomicUsize::new(missing),
        })
    }

    /// From now on `idle` is asked first where descriptors run out, and nobody before it.
    pub(crate) fn relieved_by(&self, idle: Weak<dyn Idle>) {
        // Others hold the list for moments; in a forked process perhaps for ever, and then this database gives nothing.
        for _ in 0..1000 {
            if let Ok(mut list) = NEIGHBOURS.try_lock() {
                list.retain(|(_, idle)| idle.strong_count() > 0);
                list.push((self.opener, idle.clone()));
                break;
            }
            std::thread::yield_now();
        }
        *self.idle.lock() = Some(idle);
    }

    /// From now on files are reached by their paths only while `dir` is the directory that it is now. For a directory whose
    /// lock is held: the open file keeps its number from being given to another one.
    pub(crate) fn stay_in(&self, dir: &Path) -> Result<()> {
        *self.place.lock() = self.inner.identity(dir)?.map(|identity| (dir.to_owned(), identity));
        Ok(())
    }

    fn check_place(&self) -> Result<()> {
        let place = self.place.lock().clone();
        let Some((dir, identity)) = place else { return Ok(()) };
        let what = |how: &str| format!("{} {how} since the database was opened", dir.display());
        match self.inner.identity(&dir) {
            Ok(now) if now == Some(identity) => Ok(()),
            Ok(_) => Err(Error::new(ErrorKind::Io, what("was moved away, and another directory is there,"))),
            // Without the cause: it is not this file that is missing.
            Err(error) if error.is_not_found() => Err(Error::new(ErrorKind::Io, what("was moved or removed"))),
            Err(error) => Err(error),
        }
    }

    /// An operation on a path that somebody else's file may have by now.
    fn placed<T>(&self, call: impl FnOnce(&dyn Fs) -> Result<T>) -> Result<T> {
        check_process(&self.opener)?;
        self.check_place()?;
        call(&*self.inner)
    }

    /// An operation that needs no descriptor.
    fn plain<T>(&self, call: impl FnOnce(&dyn Fs) -> Result<T>) -> Result<T> {
        check_process(&self.opener)?;
        call(&*self.inner)
    }

    /// An operation that needs descriptors.
    fn opening<T>(&self, call: impl Fn(&dyn Fs) -> Result<T>) -> Result<T> {
        check_process(&self.opener)?;
        for _ in 0..TRIES {
            match call(&*self.inner) {
                Err(error) if is_out_of_descriptors(&error) && self.relieve() => {}
                outcome => {
                    if outcome.is_ok() {
                        self.refill();
                    }
                    return outcome;
                }
            }
        }
        call(&*self.inner)
    }

    /// The same, on a path that somebody else's file may have by now.
    fn opening_placed<T>(&self, call: impl Fn(&dyn Fs) -> Result<T>) -> Result<T> {
        check_process(&self.opener)?;
        self.check_place()?;
        self.opening(call)
    }

    /// Gives descriptors back; false if there are none to give.
    #[cold]
    fn relieve(&self) -> bool {
        let idle = self.idle.lock().as_ref().and_then(Weak::upgrade);
        if idle.is_some_and(|idle| idle.close_idle() > 0) {
            return true;
        }
        let mut reserve = self.reserve.lock();
        let given = reserve.pop();
        // Relaxed, here and below: written under the lock, and a hint outside of it.
        self.missing.fetch_add(usize::from(given.is_some()), Ordering::Relaxed);
        drop(reserve);
        given.is_some() || neighbours().iter().any(|idle| idle.close_idle() > 0)
    }

    /// Takes up one of the descriptors that the reserve lacks, if one is free.
    #[inline]
    fn refill(&self) {
        if self.missing.load(Ordering::Relaxed) > 0 {
            let mut reserve = self.reserve.lock();
            if self.missing.load(Ordering::Relaxed) > 0
                && let Some(held) = self.inner.hold_descriptor()
            {
                reserve.push(held);
                self.missing.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Fs for GuardedFs {
    fn open_random(&self, path: &Path) -> Result<Arc<dyn RandomAccessFile>> {
        self.opening_placed(|fs| fs.open_random(path))
    }

    fn create(&self, path: &Path, mode: CreateMode) -> Result<Arc<dyn WritableFile>> {
        self.opening_placed(|fs| fs.create(path, mode))
    }

    fn file_size(&self, path: &Path) -> Result<u64> {
        self.plain(|fs| fs.file_size(path))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.plain(|fs| fs.exists(path))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.opening(|fs| fs.list(dir))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.placed(|fs| fs.remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.placed(|fs| fs.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.placed(|fs| fs.hard_link(from, to))
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.opening(|fs| fs.create_dir_all(dir))
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.plain(|fs| fs.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.opening(|fs| fs.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        self.opening(|fs| fs.lock(path))
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        self.plain(|fs| fs.free_space(path))
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        self.plain(|fs| fs.canonical(path))
    }

    fn identity(&self, path: &Path) -> Result<Option<(u64, u64)>> {
        self.plain(|fs| fs.identity(path))
    }

    fn open_files_max(&self) -> Option<u64> {
        self.inner.open_files_max()
    }

    fn hold_descriptor(&self) -> Option<Box<dyn HeldDescriptor>> {
        self.inner.hold_descriptor()
    }

    fn read_whole(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        self.opening(|fs| fs.read_whole(path, limit))
    }

    fn write_atomically(&self, path: &Path, temp: &Path, bytes: &[u8]) -> Result<()> {
        self.opening_placed(|fs| fs.write_atomically(path, temp, bytes))
    }
}
