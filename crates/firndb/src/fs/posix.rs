//! The real disk.
//!
//! Files are opened with `O_CLOEXEC | O_NOFOLLOW` and must be regular files, so that a link or a pipe planted in the
//! directory of a database is refused, not followed or waited for. Reads and writes go on until they are complete,
//! through interruptions. New databases are private: directories 0700, files 0600; in a directory that has a CURRENT
//! file already, new files get its mode.
//!
//! Invariants
//! 1. A file whose append or sync failed is never written to again: what is on disk is unknown, and a second sync
//!    would report success for pages that the kernel has already thrown away.
//! 2. A directory that is made is synced into its parent before anyone puts a file into it.
//! 3. A file that is being written belongs to the process that made it: one forked from it neither appends nor cuts it.
//!
//! Threads: everything here may be called from any thread; appends to one file are serialised by the caller.
//!
//! Source: RocksDB `env/io_posix.cc`, `env/fs_posix.cc` for what is locked and preallocated; LWN "PostgreSQL's fsync
//! surprise" for rule 1.
#![cfg_attr(
    any(target_os = "linux", target_os = "android"),
    expect(unsafe_code, reason = "hints to write back have no safe interface")
)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use super::{
    CreateMode, DirEntry, FileLock, Fs, HeldDescriptor, RandomAccessFile, ReadRequest, WritableFile, check_process,
    lock, parent_of,
};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The file system of the operating system.
///
/// ```
/// use firndb::{CreateMode, Fs, PosixFs};
/// # fn main() -> firndb::Result<()> {
/// # let scratch = tempfile::tempdir().expect("a temporary directory");
/// let fs = PosixFs::new();
/// let dir = scratch.path().join("db");
/// fs.create_dir_all(&dir)?;
/// let file = fs.create(&dir.join("hello"), CreateMode::New)?;
/// file.append(b"world")?;
/// file.sync_data()?;
/// fs.sync_dir(&dir)?;
/// assert_eq!(fs.read_whole(&dir.join("hello"), 100)?, b"world");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct PosixFs;

const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_DIR: u32 = 0o700;
const OPEN_FLAGS: i32 = libc::O_CLOEXEC | libc::O_NOFOLLOW;

impl PosixFs {
    /// The file system of the operating system; it has no state of its own.
    pub fn new() -> PosixFs {
        PosixFs
    }
}

impl Fs for PosixFs {
    fn open_random(&self, path: &Path) -> Result<Arc<dyn RandomAccessFile>> {
        // Non-blocking, so that opening a pipe returns (and is then refused); regular files ignore it.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OPEN_FLAGS | libc::O_NONBLOCK)
            .open(path)
            .and_then(regular)
            .map_err(|e| refused("open", path, &e))?;
        Ok(Arc::new(PosixReader { file, path: path.to_owned() }))
    }

    fn create(&self, path: &Path, mode: CreateMode) -> Result<Arc<dyn WritableFile>> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OPEN_FLAGS | libc::O_NONBLOCK).mode(PRIVATE_FILE);
        match mode {
            CreateMode::New => options.create_new(true),
            CreateMode::Truncate => options.create(true).truncate(true),
        };
        let file = options
            .open(path)
            .and_then(regular)
            .and_then(|file| adopt_mode(file, path))
            .map_err(|e| refused("create", path, &e))?;
        Ok(Arc::new(PosixWriter {
            file,
            owner: Process::current(),
            path: path.to_owned(),
            size: AtomicU64::new(0),
            allocated: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }))
    }

    fn file_size(&self, path: &Path) -> Result<u64> {
        let found = std::fs::symlink_metadata(path).map_err(|e| Error::from_io("stat", path, &e))?;
        match found.is_symlink() {
            true => Err(refused("stat", path, &io::Error::from_raw_os_error(libc::ELOOP))),
            false => Ok(found.len()),
        }
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match std::fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::from_io("stat", path, &e)),
        }
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        let failed = |e: io::Error| Error::from_io("list", dir, &e);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry { name, is_dir });
            }
        }
        Ok(entries)
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|e| Error::from_io("remove", path, &e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|e| Error::from_io("rename", from, &e))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::hard_link(from, to).map_err(|e| Error::from_io("link", from, &e))
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut next = Some(dir);
        while let Some(path) = next.filter(|p| !p.as_os_str().is_empty()) {
            match std::fs::metadata(path) {
                Ok(found) if found.is_dir() => break,
                Ok(_) => {
                    let error = io::Error::from_raw_os_error(libc::ENOTDIR);
                    return Err(Error::from_io("create directory", path, &error));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(path),
                Err(e) => return Err(Error::from_io("stat", path, &e)),
            }
            next = path.parent();
        }
        for path in missing.into_iter().rev() {
            match std::fs::DirBuilder::new().mode(PRIVATE_DIR).create(path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::from_io("create directory", path, &e)),
            }
            self.sync_dir(parent_of(path))?;
        }
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        std::fs::remove_dir(dir).map_err(|e| Error::from_io("remove directory", dir, &e))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        // An empty path is the parent of a relative one: the current directory.
        let opened = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_DIRECTORY)
            .open(opened)
            .and_then(|file| file.sync_all())
            .map_err(|e| Error::from_io("sync directory", opened, &e))
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        lock::take(path, || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .custom_flags(OPEN_FLAGS | libc::O_NONBLOCK)
                .mode(PRIVATE_FILE)
                .open(path)
                .and_then(regular)
                .and_then(|file| adopt_mode(file, path))
                .map_err(|e| refused("lock", path, &e))
        })
    }

    /// The path without links, from the root. What does not exist yet is kept as it was said.
    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        let failed = |e: io::Error| Error::from_io("resolve", path, &e);
        let absolute = std::path::absolute(path).map_err(failed)?;
        let mut missing = Vec::new();
        let mut known = absolute.as_path();
        loop {
            match std::fs::canonicalize(known) {
                Ok(found) => return Ok(missing.iter().rev().fold(found, |path, part| next(path, part))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if std::fs::symlink_metadata(known).is_ok_and(|found| found.is_symlink()) {
                        let what = format!("{} is a symbolic link to nothing", known.display());
                        return Err(failed(e).because(ErrorKind::InvalidArgument, what));
                    }
                    missing.extend(known.components().next_back());
                    known = known.parent().ok_or_else(|| failed(e))?;
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }

    fn identity(&self, path: &Path) -> Result<Option<(u64, u64)>> {
        let found = std::fs::metadata(path).map_err(|e| Error::from_io("stat", path, &e))?;
        Ok(Some((found.dev(), found.ino())))
    }

    fn open_files_max(&self) -> Option<u64> {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }

    fn hold_descriptor(&self) -> Option<Box<dyn HeldDescriptor>> {
        let held = OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open("/dev/null");
        held.ok().map(|file| Box::new(file) as Box<dyn HeldDescriptor>)
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        let space = rustix::fs::statvfs(path).map_err(|e| Error::from_io("statvfs", path, &e.into()))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// A path and the next part of it, which does not exist: nothing there can be a link.
fn next(mut path: PathBuf, part: &Component<'_>) -> PathBuf {
    if *part == Component::ParentDir {
        path.pop();
    } else {
        path.push(part);
    }
    path
}

fn regular(file: File) -> io::Result<File> {
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    match kind.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// A file could not be opened; says so where it is a link.
fn refused(operation: &'static str, path: &Path, error: &io::Error) -> Error {
    let refusal = Error::from_io(operation, path, error);
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match error.raw_os_error() {
        Some(libc::ELOOP) if is_link => {
            let what = format!("{} is a symbolic link, and is not followed: put the file itself there", path.display());
            refusal.because(ErrorKind::NotSupported, what)
        }
        _ => refusal,
    }
}

/// Gives a new file the permissions of the CURRENT beside it: whoever could read the database still can.
fn adopt_mode(file: File, path: &Path) -> io::Result<File> {
    if let Ok(current) = std::fs::symlink_metadata(parent_of(path).join("CURRENT")) {
        let mode = current.mode() & 0o777;
        if current.is_file() && file.metadata()?.mode() & 0o777 != mode {
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(file)
}

#[derive(Debug)]
struct PosixReader {
    file: File,
    path: PathBuf,
}

impl RandomAccessFile for PosixReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::from_io("read", &self.path, &e)),
            }
        }
        Ok(filled)
    }

    fn read_many(&self, requests: &mut [ReadRequest<'_>]) -> Result<()> {
        // All wishes first, so that the device works on the later ones while the first is copied.
        if requests.len() > 1 {
            for request in requests.iter() {
                self.read_ahead(request.offset, request.buffer.len() as u64);
            }
        }
        for request in requests {
            request.filled = self.read_at(request.offset, request.buffer)?;
        }
        Ok(())
    }

    fn size(&self) -> Result<u64> {
        self.file.metadata().map(|m| m.len()).map_err(|e| Error::from_io("stat", &self.path, &e))
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        if let Some(len) = std::num::NonZeroU64::new(len) {
            // Only a hint: a file system that does not take it still reads correctly.
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
        let _ = (offset, len);
    }
}

#[derive(Debug)]
struct PosixWriter {
    file: File,
    owner: Process,
    path: PathBuf,
    size: AtomicU64,
    allocated: AtomicU64,
    failed: AtomicBool,
}

impl PosixWriter {
    fn check(&self, operation: &'static str) -> Result<()> {
        check_process(&self.owner)?;
        // Relaxed: the caller of the failed operation tells others by its own means; this is the second fence.
        if self.failed.load(Ordering::Relaxed) {
            let error = io::Error::other("an earlier append or sync of this file failed");
            return Err(Error::from_io(operation, &self.path, &error));
        }
        Ok(())
    }

    fn fail(&self, operation: &'static str, error: &io::Error) -> Error {
        // Relaxed: see `check`.
        self.failed.store(true, Ordering::Relaxed);
        Error::from_io(operation, &self.path, error)
    }
}

impl WritableFile for PosixWriter {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        self.check("append")?;
        // `write_all` goes on after short and interrupted writes.
        (&self.file).write_all(bytes).map_err(|e| self.fail("append", &e))?;
        // Relaxed: appends are serialised by the caller; readers of the size want a number, not the bytes.
        self.size.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        self.check("sync")?;
        loop {
            match self.file.sync_data() {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.fail("sync", &e)),
            }
        }
    }

    fn size(&self) -> u64 {
        // Relaxed: see `append`.
        self.size.load(Ordering::Relaxed)
    }

    fn allocate(&self, len: u64) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.owner.is_current() {
            let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
            if len > 0 && rustix::fs::fallocate(&self.file, flags, self.size(), len).is_ok() {
                // Relaxed: read only by `drop`, which is alone.
                self.allocated.fetch_max(self.size() + len, Ordering::Relaxed);
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = len;
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn start_write_back(&self, offset: u64, len: u64) {
        use std::os::fd::AsRawFd;
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
        // SAFETY: the descriptor is open while `self` is borrowed; the call touches no memory of ours.
        let outcome = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
        if outcome != 0 {
            let error = io::Error::last_os_error();
            // Where there is no such call nothing is lost. Any other failure is one of writing: see rule 1.
            if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESPIPE | libc::EOPNOTSUPP)) {
                self.failed.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for PosixWriter {
    fn drop(&mut self) {
        // Blocks reserved beyond the end would stay with the file for ever. Setting the length to what it is frees them.
        // A forked child's copy of the length is of the moment of the fork, and the file may have grown since.
        let size = self.size();
        if self.owner.is_current()
            && self.allocated.load(Ordering::Relaxed) > size
            && !self.failed.load(Ordering::Relaxed)
        {
            let _ = self.file.set_len(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).expect("stat").mode() & 0o777
    }

    #[test]
    fn new_databases_are_private_and_old_ones_keep_their_mode() {
        let (fs, scratch) = (PosixFs::new(), scratch());
        let dir = scratch.path().join("a/b");
        fs.create_dir_all(&dir).expect("create the directory");
        assert_eq!((mode_of(&dir), mode_of(&scratch.path().join("a"))), (0o700, 0o700));
        fs.create(&dir.join("CURRENT"), CreateMode::New).expect("create");
        assert_eq!(mode_of(&dir.join("CURRENT")), 0o600);
        std::fs::set_permissions(dir.join("CURRENT"), std::fs::Permissions::from_mode(0o640)).expect("chmod");
        fs.create(&dir.join("1.sst"), CreateMode::New).expect("create");
        assert_eq!(mode_of(&dir.join("1.sst")), 0o640);
        fs.create_dir_all(&dir.join("CURRENT")).unwrap_err();
    }

    #[test]
    fn links_and_pipes_are_refused() {
        let (fs, scratch) = (PosixFs::new(), scratch());
        let (target, link, pipe) = (scratch.path().join("t"), scratch.path().join("l"), scratch.path().join("p"));
        fs.create(&target, CreateMode::New).expect("create");
        std::os::unix::fs::symlink(&target, &link).expect("link");
        fs.open_random(&link).unwrap_err();
        fs.create(&link, CreateMode::Truncate).unwrap_err();
        fs.lock(&link).unwrap_err();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        fs.open_random(&pipe).unwrap_err();
        assert!(fs.open_random(&scratch.path().join("none")).unwrap_err().is_not_found());
    }

    #[test]
    fn what_is_appended_is_read_and_reserving_space_leaves_nothing_behind() {
        let (fs, scratch) = (PosixFs::new(), scratch());
        let path = scratch.path().join("f");
        let file = fs.create(&path, CreateMode::New).expect("create");
        fs.create(&path, CreateMode::New).unwrap_err();
        file.allocate(1 << 20);
        file.append(b"hello ").expect("append");
        file.append(b"world").expect("append");
        file.sync_data().expect("sync");
        assert_eq!((file.size(), fs.file_size(&path).expect("stat")), (11, 11));
        drop(file);
        assert!(std::fs::metadata(&path).expect("stat").blocks() * 512 < 1 << 20);
        let file = fs.open_random(&path).expect("open");
        let (mut one, mut two) = ([0; 5], [0; 9]);
        let mut requests = [
            ReadRequest { offset: 0, buffer: &mut one, filled: 0 },
            ReadRequest { offset: 6, buffer: &mut two, filled: 0 },
        ];
        file.read_many(&mut requests).expect("read");
        assert_eq!((requests[0].filled, requests[1].filled), (5, 5));
        assert_eq!((&one, &two[..5]), (b"hello", &b"world"[..]));
        assert!(fs.free_space(&path).expect("statvfs") > 0);
    }

    #[test]
    fn listing_tells_files_from_directories() {
        let (fs, scratch) = (PosixFs::new(), scratch());
        fs.create_dir_all(&scratch.path().join("d")).expect("create");
        fs.create(&scratch.path().join("f"), CreateMode::New).expect("create");
        let mut found = fs.list(scratch.path()).expect("list");
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let expected = [("d", true), ("f", false)].map(|(name, is_dir)| DirEntry { name: name.to_owned(), is_dir });
        assert_eq!(found, expected);
        fs.remove_dir(&scratch.path().join("d")).expect("remove");
        fs.rename(&scratch.path().join("f"), &scratch.path().join("g")).expect("rename");
        fs.hard_link(&scratch.path().join("g"), &scratch.path().join("h")).expect("link");
        fs.remove_file(&scratch.path().join("g")).expect("remove");
        assert!(fs.exists(&scratch.path().join("h")).expect("stat"));
        fs.sync_dir(scratch.path()).expect("sync");
    }
}
