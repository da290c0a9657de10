//! The only door to the disk: every file operation of the engine goes through [`Fs`].
//!
//! [`PosixFs`] is the real one. [`MemoryFs`] lives in memory and models power loss: unsynced data and unsynced
//! directory entries are lost, writes are torn and reordered, operations fail on command.
//!
//! What the engine relies on, and nothing else: after `sync_data` returned, the bytes appended before survive power
//! loss *if* the file's directory entry does; after `sync_dir`, the entries made, renamed and removed before survive;
//! a rename within a directory replaces the target atomically.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;

pub(crate) mod guarded;
mod lock;
pub(crate) mod memory;
pub(crate) mod paced;
pub(crate) mod posix;

pub use memory::{CrashPolicy, Fault, FaultEffect, FsOp, Hazard, HazardKind, LoggedOp, MemoryFs};
pub use paced::RateLimiter;
pub use posix::PosixFs;

/// How a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateMode {
    /// Fails if the file exists.
    New,
    /// Empties a file that exists.
    Truncate,
}

/// One read of [`RandomAccessFile::read_many`]: fills `buffer` from `offset`; `filled` is what was there.
#[derive(Debug)]
pub struct ReadRequest<'a> {
    /// Offset in bytes from the start of the file.
    pub offset: u64,
    /// Where the bytes go; its length is how many are wanted.
    pub buffer: &'a mut [u8],
    /// How many bytes were read: fewer than wanted only at the end of the file.
    pub filled: usize,
}

/// A file that is read at any offset, by any number of threads.
pub trait RandomAccessFile: Send + Sync + Debug {
    /// Fills `buffer` from `offset`; returns how many bytes were there (fewer only at the end of the file).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;
    /// Many reads in one call, so that an implementation may overlap them.
    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        for request in requests {
            request.filled = self.read_at(request.offset, request.buffer)?;
        }
        Ok(())
    }
    /// The length of the file in bytes, now.
    fn size(&self) -> Result<u64>;
    /// A hint that `len` bytes from `offset` will be read soon.
    fn read_ahead(&self, offset: u64, len: u64);
}

/// A file that grows at its end. Callers serialise appends; a sync may run beside an append.
///
/// After a failed or short append, or a failed sync, what is on disk is unknown: the file is never appended to again.
pub trait WritableFile: Send + Sync + Debug {
    /// Adds `bytes` at the end, all of them, handed to the operating system on return.
    fn append(&self, bytes: &[u8]) -> Result<()>;
    /// Makes all bytes appended before the call durable (`fdatasync`).
    fn sync_data(&self) -> Result<()>;
    /// The length in bytes after the last append.
    fn size(&self) -> u64;
    /// A hint that about `len` bytes will be written; never changes the size.
    fn allocate(&self, len: u64);
    /// A hint to begin writing `len` bytes from `offset` to the device, so that a later sync has less to wait for. Promises
    /// nothing.
    fn start_write_back(&self, _offset: u64, _len: u64) {}
}

/// A held lock; dropping it lets go.
pub trait FileLock: Send + Sync + Debug {}

/// Something that takes up one descriptor; dropping it gives the descriptor back.
pub trait HeldDescriptor: Send + Sync + Debug {}

impl HeldDescriptor for std::fs::File {}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory. Names that are not UTF-8 are not the database's and are left out.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
}

/// A file system. All paths are the database's own; symbolic links in the last component are not followed.
pub trait Fs: Send + Sync + Debug + 'static {
    /// Opens a file for reading.
    fn open_random(&self, path: &Path) -> Result<Arc<dyn RandomAccessFile>>;
    /// Makes a file to write to. Its directory entry is durable only after [`Fs::sync_dir`].
    fn create(&self, path: &Path, mode: CreateMode) -> Result<Arc<dyn WritableFile>>;
    /// The length of a file in bytes.
    fn file_size(&self, path: &Path) -> Result<u64>;
    /// True if there is a file or directory at `path`.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// The entries of a directory, in no particular order.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> Result<()>;
    /// Renames a file, replacing the target atomically.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Gives a file a second name.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Makes a directory and its parents; no error if it exists. Every directory made is synced into its parent.
    fn create_dir_all(&self, dir: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Takes the database lock on the file `path`, made if need be. Error kind `Locked` if another holds it.
    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>>;
    /// Bytes that can still be written to the device of `path`.
    fn free_space(&self, path: &Path) -> Result<u64>;

    /// The path of a directory that means the same wherever the process goes: absolute, without links where there are any.
    /// The directory need not exist. Unless overridden: the path from the working directory of this moment.
    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        std::path::absolute(path).map_err(|e| Error::from_io("resolve", path, &e))
    }

    /// What tells the directory that is at `path` now from one that comes to be there later: device and number of a file
    /// system that has such. Unless overridden: `None`, nothing tells them apart.
    fn identity(&self, path: &Path) -> Result<Option<(u64, u64)>> {
        let _ = path;
        Ok(None)
    }

    /// How many files may be open at once, all of the process together; `None` if there is no bound. Unless overridden: what
    /// the operating system says.
    fn open_files_max(&self) -> Option<u64> {
        PosixFs::new().open_files_max()
    }

    /// Takes up a descriptor, to be given back when one is needed for something else; `None` if none can be had, or if files
    /// take none.
    fn hold_descriptor(&self) -> Option<Box<dyn HeldDescriptor>> {
        None
    }

    /// Reads a whole small file. `Limit` if it is longer than `limit` bytes.
    fn read_whole(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let file = self.open_random(path)?;
        let size = file.size()?;
        if size > limit {
            let what = format!("{} has {size} bytes; at most {limit} are read", path.display());
            return Err(Error::new(ErrorKind::Limit, what));
        }
        let mut bytes = vec![0; size as usize];
        let filled = file.read_at(0, &mut bytes)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Makes `path` hold `bytes`, atomically and durably: a temporary file, synced, renamed, the directory synced.
    fn write_atomically(&self, path: &Path, temp: &Path, bytes: &[u8]) -> Result<()> {
        let file = self.create(temp, CreateMode::Truncate)?;
        let written = file.append(bytes).and_then(|()| file.sync_data());
        drop(file);
        if let Err(error) = written.and_then(|()| self.rename(temp, path)) {
            // The failure is what counts; a temporary file that stays is found at the next open.
            let _ = self.remove_file(temp);
            return Err(error);
        }
        self.sync_dir(parent_of(path))
    }
}

/// An error of kind `ForkedProcess` in another process than the one that opened what is to be used.
#[inline]
pub(crate) fn check_process(opener: &Process) -> Result<()> {
    match opener.is_current() {
        true => Ok(()),
        false => Err(forked(opener)),
    }
}

/// True if the process, or the machine, has as many files open as it may.
pub(crate) fn is_out_of_descriptors(error: &Error) -> bool {
    error.io().is_some_and(|io| matches!(io.os_error, Some(libc::EMFILE | libc::ENFILE)))
}

#[cold]
fn forked(opener: &Process) -> Error {
    let here = Process::current().id();
    let message = format!("opened by process {}; this is process {here}, which was forked from it", opener.id());
    Error::new(ErrorKind::ForkedProcess, message)
}

/// The directory that a file or directory is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}
