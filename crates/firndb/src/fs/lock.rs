//! The lock of a database's directory: a record lock over a whole file.
//!
//! Flow: [`PosixFs`](super::PosixFs) -> **[`take`]** -> a claim within this process, then the operating system's lock.
//!
//! Invariants
//! 1. The lock excludes other processes (RocksDB's too) and other handles of this one.
//! 2. Its owner alone lets go. A forked child has the same open file, and with it the same lock: it closes its copy, which
//!    lets nothing go, and unlocks nothing.
//!
//! Source: RocksDB `env/fs_posix.cc`.
#![expect(unsafe_code, reason = "record locks of open file descriptions have no safe interface")]

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
// A static lock has to be made in a constant, which the model checker's cannot: hence std's own here.
use std::sync::{Mutex, MutexGuard};

use super::{FileLock, parent_of};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;

/// The paths locked by this process, and by those that it was forked from: record locks do not exclude a second handle of
/// the same process everywhere.
static LOCKED_PATHS: Mutex<Option<HashMap<PathBuf, Process>>> = Mutex::new(None);

struct LockedPaths(MutexGuard<'static, Option<HashMap<PathBuf, Process>>>);

impl LockedPaths {
    /// False if this process has the path already. What another process claimed before it forked is for the operating
    /// system to refuse.
    fn insert(&mut self, path: PathBuf, process: Process) -> bool {
        let claims = self.0.get_or_insert_default();
        if claims.get(&path).is_some_and(Process::is_current) {
            return false;
        }
        claims.insert(path, process);
        true
    }

    fn remove(&mut self, path: &Path) {
        self.0.get_or_insert_default().remove(path);
    }
}

fn locked_paths() -> LockedPaths {
    LockedPaths(LOCKED_PATHS.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

#[derive(Debug)]
struct Claim {
    key: PathBuf,
    owner: Process,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A thread of the parent may have held the list's lock when it forked.
        if self.owner.is_current() {
            locked_paths().remove(&self.key);
        }
    }
}

/// Fields are dropped in this order: the file is unlocked and closed before the path is free to claim again.
#[derive(Debug)]
struct PosixLock {
    file: File,
    owner: Process,
    _claim: Claim,
}

impl FileLock for PosixLock {}

impl Drop for PosixLock {
    /// Closing is not enough: a child that was forked meanwhile has the same open file until it execs or ends, and would
    /// keep the lock. And a child that drops what it inherited must not take the lock from its parent.
    fn drop(&mut self) {
        if self.owner.is_current() {
            // A failure leaves it to the closing of the file.
            let _ = lock_whole_file(&self.file, Claimed::Unlocked);
        }
    }
}

/// Locks the file at `path`, which `open` opens or makes.
pub(super) fn take(path: &Path, open: impl FnOnce() -> Result<File>) -> Result<Box<dyn FileLock>> {
    let failed = |e: io::Error| Error::from_io("lock", path, &e);
    let key = std::fs::canonicalize(parent_of(path)).map_err(failed)?.join(path.file_name().unwrap_or_default());
    let owner = Process::current();
    // Claimed before the file is opened: where locks belong to the process, closing a second descriptor of a locked file
    // would let go of the first one's lock.
    if !locked_paths().insert(key.clone(), owner) {
        return Err(locked(path, "by another handle in this process"));
    }
    let claim = Claim { key, owner };
    let file = open()?;
    match lock_whole_file(&file, Claimed::Locked) {
        Ok(()) => Ok(Box::new(PosixLock { file, owner, _claim: claim })),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            let holder = match lock_holder(&file) {
                Some(process) => format!("by process {process}"),
                None => "by another process".to_owned(),
            };
            Err(locked(path, &holder))
        }
        Err(e) => Err(failed(e)),
    }
}

fn locked(path: &Path, holder: &str) -> Error {
    let error = io::Error::from_raw_os_error(libc::EAGAIN);
    Error::from_io("lock", path, &error).because(ErrorKind::Locked, format!("the database is open already, {holder}"))
}

#[derive(Clone, Copy)]
enum Claimed {
    Locked,
    Unlocked,
}

fn whole_file(claimed: Claimed) -> libc::flock {
    // SAFETY: `flock` is a plain C struct of integers, for which all zeroes is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = match claimed {
        Claimed::Locked => libc::F_WRLCK as _,
        Claimed::Unlocked => libc::F_UNLCK as _,
    };
    lock.l_whence = libc::SEEK_SET as _;
    lock
}

fn lock_whole_file(file: &File, claimed: Claimed) -> io::Result<()> {
    // Open-file-description locks exclude RocksDB's F_SETLK, and survive the closing of other descriptors.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    match set_lock(file, libc::F_OFD_SETLK, claimed) {
        // A file system (or kernel) that does not know them.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
        done => return done,
    }
    set_lock(file, libc::F_SETLK, claimed)
}

fn set_lock(file: &File, command: i32, claimed: Claimed) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let lock = whole_file(claimed);
    // SAFETY: the descriptor is open while `file` is borrowed; the commands read a `flock` that outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The process that holds a conflicting lock, if it can be named (an open-file-description lock has no process).
fn lock_holder(file: &File) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let mut lock = whole_file(Claimed::Locked);
    // SAFETY: the descriptor is open while `file` is borrowed; the command writes to a `flock` that outlives the call.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    (answer == 0 && lock.l_pid > 0).then_some(lock.l_pid)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::fs::{Fs, PosixFs};

    #[test]
    fn the_lock_excludes_other_handles_and_other_processes() {
        let (fs, scratch) = (PosixFs::new(), tempfile::tempdir().expect("a temporary directory"));
        let path = scratch.path().join("LOCK");
        let held = fs.lock(&path).expect("lock");
        let error = fs.lock(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
        // Another open file description is what another process would have.
        let other = OpenOptions::new().read(true).write(true).open(&path).expect("open");
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            set_lock(&other, libc::F_SETLK, Claimed::Locked).expect_err("RocksDB's lock is excluded");
            drop(other);
            let other = OpenOptions::new().read(true).write(true).open(&path).expect("open");
            set_lock(&other, libc::F_OFD_SETLK, Claimed::Locked)
                .expect_err("closing a second descriptor did not unlock");
        }
        drop(held);
        fs.lock(&path).expect("lock again");
    }

    /// A thread that starts a program while another closes a database: the child had the open file, and with it the lock,
    /// until its exec, and reopening said that another process had the database.
    #[test]
    fn a_lock_that_was_let_go_is_free_though_a_forked_child_has_the_file_open() {
        let (fs, scratch) = (PosixFs::new(), tempfile::tempdir().expect("a temporary directory"));
        let path = scratch.path().join("LOCK");
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("create");
        lock_whole_file(&file, Claimed::Locked).expect("lock");
        // A second descriptor of the same open file is what a fork makes.
        let inherited = file.try_clone().expect("duplicate");
        let own = Process::current();
        let claim = |key: &str, owner| Claim { key: scratch.path().join(key), owner };
        let parent = own.before_fork();
        drop(PosixLock { file, owner: parent, _claim: claim("not the owner", parent) });
        assert_eq!(fs.lock(&path).expect_err("a child's drop lets nothing go").kind(), ErrorKind::Locked);
        let file = inherited.try_clone().expect("duplicate");
        drop(PosixLock { file, owner: own, _claim: claim("the owner", own) });
        fs.lock(&path).expect("free, while the other descriptor is open");
        drop(inherited);
    }
}
