//! A file system in memory that can lose power.
//!
//! It keeps two truths side by side: what processes see now, and what the disk is guaranteed to hold. Of each file the
//! synced prefix and the unsynced appends after it; of each directory the durable entries and the unsynced operations
//! on them. [`MemoryFs::crash_image`] makes one of the disks that a power loss now could leave behind
//! ([`CrashPolicy`]); [`MemoryFs::inject`] makes operations fail; [`MemoryFs::crash_after`] stops everything at a
//! numbered operation, so that a test can crash at every single one.
//!
//! Invariants
//! 1. A file synced whose directory entry is not is lost: nothing but `sync_dir` makes entries durable.
//! 2. An image is a pure function of the history, the policy and the seed.
//! 3. Open handles keep reading and writing a file that was removed (POSIX).
//! 4. Everything that changes the disk happens under the one lock of the file system, in the order of its numbers, so
//!    that an image is never a mixture of two moments.
//!
//! Threads: any number. Reads take the lock of their file only. Lock order: file system, then file.
//!
//! Source: the crash models of LevelDB `fault_injection_test`, RocksDB `fault_injection_fs`, Pebble `vfs/mem_fs.go`.

mod descriptors;
mod fault;
mod image;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

pub use fault::{Fault, FaultEffect, FsOp};
pub use image::CrashPolicy;

use self::descriptors::{Descriptor, Descriptors};
use self::state::{Dir, DirId, EntryOp, FileNode, FileState, Node, State, file_name, make_file, names, os_error};
use super::{CreateMode, DirEntry, FileLock, Fs, HeldDescriptor, RandomAccessFile, WritableFile};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard};

/// What the error of an operation after the crash point says; see [`MemoryFs::is_crash`].
const CRASHED: &str = "simulated power loss";

/// A file system in memory, with power loss and failures on command. Clones share the same files.
///
/// ```
/// use firndb::{CrashPolicy, CreateMode, Fs, MemoryFs};
/// # fn main() -> firndb::Result<()> {
/// let fs = MemoryFs::new();
/// fs.create_dir_all("/db".as_ref())?;
/// let file = fs.create("/db/a".as_ref(), CreateMode::New)?;
/// file.append(b"synced, but")?;
/// file.sync_data()?;
/// // The directory was not synced: after a power loss there is no such file.
/// let after = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
/// assert!(!after.exists("/db/a".as_ref())?);
/// fs.sync_dir("/db".as_ref())?;
/// let after = fs.crash_image(&CrashPolicy::DropUnsynced, 0);
/// assert_eq!(after.read_whole("/db/a".as_ref(), 100)?, b"synced, but");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryFs {
    shared: Arc<Shared>,
}

/// An entry of the log of operations; see [`MemoryFs::ops`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedOp {
    /// The number of the operation.
    pub index: u64,
    /// What it did.
    pub op: FsOp,
    /// The file or directory; of a rename or link the old name.
    pub path: PathBuf,
}

/// Something that was done before what it may depend on was durable; see [`MemoryFs::hazards`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hazard {
    /// The number of the operation.
    pub index: u64,
    /// What it did.
    pub op: FsOp,
    /// The file; of a rename the old name.
    pub path: PathBuf,
    /// What was wrong with it.
    pub kind: HazardKind,
}

/// Why an operation is a [`Hazard`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HazardKind {
    /// A file was renamed while bytes of it were unsynced: after a power loss the new name may have no content.
    RenamedUnsynced,
    /// A file was removed while these names in its directory were unsynced (their bytes, or their entry): if the removed
    /// file is replaced by one of them, a power loss may lose both.
    RemovedBeforeDurable(Vec<String>),
    /// A file was appended to or synced again after an append or sync of it had failed.
    UsedAfterFailure,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The number of the next operation. Written under `state` by operations that change the disk, freely by others.
    next_op: AtomicU64,
    /// True if reads, too, have to look for faults, crash points or the log in `state`.
    armed: AtomicBool,
    descriptors: Arc<Descriptors>,
}

impl Default for Shared {
    fn default() -> Self {
        Shared::new(State::default())
    }
}

impl Shared {
    fn new(state: State) -> Shared {
        Shared {
            state: Mutex::new(state),
            next_op: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            descriptors: Arc::default(),
        }
    }
}

fn flip_a_bit(bytes: &mut [u8], index: u64) {
    if !bytes.is_empty() {
        let bit = image::Dice::new(index).below(bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

/// Tests' side: crashes, failures, and looking behind the curtain.
impl MemoryFs {
    /// An empty file system with a root directory.
    pub fn new() -> MemoryFs {
        MemoryFs::default()
    }

    /// One of the disks that a power loss now could leave, as a file system of its own on which everything is durable
    /// and nothing is locked, open, failing or logged. The same history, policy and seed give the same disk.
    ///
    /// Cost: proportional to the number of files, and to the unsynced bytes that the policy changes; the content of the
    /// files is shared until one side writes.
    pub fn crash_image(&self, policy: &CrashPolicy, seed: u64) -> MemoryFs {
        let mut state = self.shared.state.lock();
        state.next_op = self.op_count();
        MemoryFs { shared: Arc::new(Shared::new(image::crash(&state, *policy, seed))) }
    }

    /// Every operation from number `index` on fails, see [`MemoryFs::is_crash`], and changes nothing. What the disk would
    /// hold is then a matter of [`MemoryFs::crash_image`].
    pub fn crash_after(&self, index: u64) {
        let mut state = self.shared.state.lock();
        state.crash_at = Some(index);
        self.arm(&state);
    }

    /// True if the error comes from an operation after the crash point.
    pub fn is_crash(error: &Error) -> bool {
        error.io().is_some_and(|io| io.message == CRASHED)
    }

    /// How many operations were begun, those that failed or changed nothing included: the number of the next one.
    pub fn op_count(&self) -> u64 {
        // Relaxed: exact if nothing runs beside, and nothing more can be said otherwise.
        self.shared.next_op.load(Ordering::Relaxed)
    }

    /// Makes an operation fail. Of several faults that match, the one injected first strikes.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.shared.state.lock();
        state.faults.push(fault);
        self.arm(&state);
    }

    /// Forgets all faults, struck or not.
    pub fn clear_faults(&self) {
        let mut state = self.shared.state.lock();
        state.faults.clear();
        self.arm(&state);
    }

    /// How many times a fault has struck.
    pub fn faults_struck(&self) -> u64 {
        self.shared.state.lock().struck
    }

    /// The operations that changed the disk, in order (and the others if [`MemoryFs::log_reads`] says so). Operations
    /// that a crash point stopped are not among them, nor those that a fault stopped, but for appends and syncs.
    pub fn ops(&self) -> Vec<LoggedOp> {
        self.shared.state.lock().log.clone()
    }

    /// Empties the log of operations; numbers go on.
    pub fn clear_ops(&self) {
        self.shared.state.lock().log.clear();
    }

    /// Whether operations that change nothing are logged too. They are not at first.
    pub fn log_reads(&self, on: bool) {
        let mut state = self.shared.state.lock();
        state.log_reads = on;
        self.arm(&state);
    }

    /// Limits the bytes of all files together: an append beyond it stores what fits and fails with `ENOSPC`. Files that
    /// have no name any more do not count.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.state.lock().capacity = bytes;
    }

    /// Limits how many files are open at once: one more, or a directory that is listed or synced, fails with `EMFILE`. Locks
    /// do not count.
    pub fn set_open_files_max(&self, max: Option<usize>) {
        self.shared.descriptors.set_max(max);
    }

    /// How many files are open now.
    pub fn open_files(&self) -> usize {
        self.shared.descriptors.taken()
    }

    /// The bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.shared.state.lock().used
    }

    /// Switches on the durability linter, which makes renames and removals slower.
    pub fn lint(&self, on: bool) {
        self.shared.state.lock().lint = on;
    }

    /// What the durability linter found. [`HazardKind::UsedAfterFailure`] is found even when it is off.
    pub fn hazards(&self) -> Vec<Hazard> {
        self.shared.state.lock().hazards.clone()
    }

    /// Changes the content of a file behind the back of everyone, durably: damage. Not an operation, never fails by
    /// fault. An error if there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut state = self.shared.state.lock();
        let file = state.file(path).map_err(|e| Error::from_io("damage", path, &e))?;
        let mut inner = file.state.lock();
        let mut bytes = inner.content().to_vec();
        change(&mut bytes);
        state.used = state.used - inner.len as u64 + bytes.len() as u64;
        *inner = FileState { len: bytes.len(), synced: bytes.len(), bytes: Arc::new(bytes), ..FileState::default() };
        Ok(())
    }

    /// The paths of all files, sorted. Not an operation.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.shared.state.lock();
        let mut found = Vec::new();
        let mut todo = vec![(DirId::ROOT, PathBuf::from("/"))];
        while let Some((id, path)) = todo.pop() {
            for (name, node) in state.dirs.get(&id).into_iter().flat_map(|dir| &dir.entries) {
                match node {
                    Node::File(_) => found.push(path.join(&**name)),
                    Node::Dir(child) => todo.push((*child, path.join(&**name))),
                }
            }
        }
        found.sort();
        found
    }

    fn arm(&self, state: &State) {
        let armed = state.crash_at.is_some() || state.log_reads || !state.faults.is_empty();
        // Relaxed: a read that runs beside may or may not be struck, as if it had run before or after.
        self.shared.armed.store(armed, Ordering::Relaxed);
    }
}

/// What the gate decided about an operation that may go on.
struct Passed {
    index: u64,
    effect: Option<FaultEffect>,
}

impl Shared {
    /// Numbers an operation that changes the disk, logs it, and stops it if a crash or fault says so.
    fn begin(&self, op: FsOp, path: &Path) -> Result<(MutexGuard<'_, State>, Passed)> {
        let mut state = self.state.lock();
        let passed = self.gate(&mut state, op, path)?;
        Ok((state, passed))
    }

    /// The same for one that changes nothing, without the lock if nobody cares.
    fn begin_read(&self, op: FsOp, path: &Path) -> Result<Passed> {
        // Relaxed: see `arm`.
        if !self.armed.load(Ordering::Relaxed) {
            return Ok(Passed { index: self.number(), effect: None });
        }
        self.gate(&mut self.state.lock(), op, path)
    }

    fn number(&self) -> u64 {
        // Relaxed: the number orders nothing; operations that change the disk draw theirs under the lock.
        self.next_op.fetch_add(1, Ordering::Relaxed)
    }

    fn gate(&self, state: &mut State, op: FsOp, path: &Path) -> Result<Passed> {
        let index = self.number();
        if state.crash_at.is_some_and(|at| index >= at) {
            return Err(Error::from_io(op.verb(), path, &io::Error::other(CRASHED)));
        }
        let effect = fault::strike(&mut state.faults, op, file_name(path), index);
        state.struck += u64::from(effect.is_some());
        match (effect, op) {
            (None, _) => {}
            (Some(FaultEffect::ShortWrite), FsOp::Append) => {}
            (Some(FaultEffect::SyncDropsDirty | FaultEffect::LyingSync), FsOp::Sync | FsOp::SyncDir) => {}
            (Some(FaultEffect::BitFlip | FaultEffect::LyingSync), _) => {}
            // Appends and syncs tell their file that they failed.
            (Some(_), FsOp::Append | FsOp::Sync) => {}
            (Some(effect), _) => return Err(Error::from_io(op.verb(), path, &effect.error())),
        }
        if op.changes_disk() || state.log_reads {
            state.log.push(LoggedOp { index, op, path: path.to_owned() });
        }
        Ok(Passed { index, effect })
    }

    /// An operation that changes directories.
    fn change(&self, op: FsOp, path: &Path, work: impl FnOnce(&mut State, &Passed) -> io::Result<()>) -> Result<()> {
        let (mut state, passed) = self.begin(op, path)?;
        work(&mut state, &passed).map_err(|e| Error::from_io(op.verb(), path, &e))
    }

    fn ask<T>(&self, op: FsOp, path: &Path, work: impl FnOnce(&State) -> io::Result<T>) -> Result<T> {
        self.begin_read(op, path)?;
        work(&self.state.lock()).map_err(|e| Error::from_io(op.verb(), path, &e))
    }
}

impl Fs for MemoryFs {
    fn open_random(&self, path: &Path) -> Result<Arc<dyn RandomAccessFile>> {
        let node = self.shared.ask(FsOp::Open, path, |state| state.file(path))?;
        let descriptor = self.shared.descriptors.take().map_err(|e| Error::from_io("open", path, &e))?;
        Ok(Arc::new(MemoryFile::new(&self.shared, node, path, descriptor)))
    }

    fn create(&self, path: &Path, mode: CreateMode) -> Result<Arc<dyn WritableFile>> {
        let (mut state, passed) = self.shared.begin(FsOp::Create, path)?;
        let failed = |e: io::Error| Error::from_io("create", path, &e);
        let descriptor = self.shared.descriptors.take().map_err(failed)?;
        let node = make_file(&mut state, passed.index, path, mode).map_err(failed)?;
        Ok(Arc::new(MemoryFile::new(&self.shared, node, path, descriptor)))
    }

    fn file_size(&self, path: &Path) -> Result<u64> {
        self.shared.ask(FsOp::Stat, path, |state| {
            let len = state.file(path)?.state.lock().len as u64;
            Ok(len)
        })
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.shared.ask(FsOp::Stat, path, |state| match state.locate(path) {
            Ok((_, _, node)) => Ok(node.is_some()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            // The root has no name.
            Err(_) if names(path).is_ok_and(|names| names.is_empty()) => Ok(true),
            Err(e) => Err(e),
        })
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.shared.ask(FsOp::List, dir, |state| {
            let _while_it_is_read = self.shared.descriptors.take()?;
            let entries = &state.dir(state.dir_id(dir)?)?.entries;
            let entry = |(name, node): (&Arc<str>, &Node)| DirEntry {
                name: name.to_string(),
                is_dir: matches!(node, Node::Dir(_)),
            };
            Ok(entries.iter().map(entry).collect())
        })
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        self.shared.change(FsOp::Remove, path, |state, passed| {
            let (id, name, node) = state.locate(path)?;
            match node {
                Some(Node::File(_)) => {}
                Some(Node::Dir(_)) => return Err(os_error(libc::EISDIR)),
                None => return Err(os_error(libc::ENOENT)),
            }
            if state.lint {
                let unsynced = state.unsynced_names(id, &name);
                if !unsynced.is_empty() {
                    state.hazard(passed.index, FsOp::Remove, path, HazardKind::RemovedBeforeDurable(unsynced));
                }
            }
            state.unlink(node.as_ref());
            state.change(passed.index, id, EntryOp::Remove(name))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.change(FsOp::Rename, from, |state, passed| {
            let (from_dir, from_name, node) = state.locate(from)?;
            let (to_dir, to_name, replaced) = state.locate(to)?;
            let node = node.ok_or_else(|| os_error(libc::ENOENT))?;
            match (&node, &replaced) {
                (Node::File(file), Some(Node::File(same))) if Arc::ptr_eq(file, same) => return Ok(()),
                (Node::File(_), Some(Node::Dir(_))) => return Err(os_error(libc::EISDIR)),
                (Node::Dir(_), Some(Node::File(_))) => return Err(os_error(libc::ENOTDIR)),
                (Node::Dir(from), Some(Node::Dir(to))) if from == to => return Ok(()),
                (Node::Dir(_), Some(Node::Dir(to))) if !state.dir(*to)?.entries.is_empty() => {
                    return Err(os_error(libc::ENOTEMPTY));
                }
                (Node::Dir(_), _) if to.starts_with(from) => return Err(os_error(libc::EINVAL)),
                _ => {}
            }
            if let Node::File(file) = &node {
                let unsynced = file.state.lock().is_unsynced();
                if state.lint && unsynced {
                    state.hazard(passed.index, FsOp::Rename, from, HazardKind::RenamedUnsynced);
                }
            }
            state.unlink(replaced.as_ref());
            if from_dir == to_dir {
                return state.change(passed.index, from_dir, EntryOp::Rename(from_name, to_name, node));
            }
            state.set(passed.index, to_dir, to_name, node)?;
            state.change(passed.index, from_dir, EntryOp::Remove(from_name))
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<()> {
        self.shared.change(FsOp::HardLink, from, |state, passed| {
            let file = state.file(from)?;
            let (id, name, existing) = state.locate(to)?;
            if existing.is_some() {
                return Err(os_error(libc::EEXIST));
            }
            file.link();
            state.set(passed.index, id, name, Node::File(file))
        })
    }

    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        let names = names(dir).map_err(|e| Error::from_io("create directory", dir, &e))?;
        let mut path = PathBuf::from("/");
        for name in names {
            let parent = path.clone();
            path.push(name);
            let there = match self.shared.state.lock().locate(&path).map(|(_, _, node)| node) {
                Ok(Some(Node::Dir(_))) => true,
                Ok(Some(Node::File(_))) => {
                    return Err(Error::from_io("create directory", &path, &os_error(libc::ENOTDIR)));
                }
                _ => false,
            };
            if there {
                continue;
            }
            self.shared.change(FsOp::CreateDir, &path, |state, passed| {
                let (id, name, node) = state.locate(&path)?;
                // Another thread may have made it since.
                if node.is_none() {
                    let child = DirId(state.next_dir);
                    state.next_dir += 1;
                    state.dirs.insert(child, Dir::default());
                    state.set(passed.index, id, name, Node::Dir(child))?;
                }
                Ok(())
            })?;
            self.sync_dir(&parent)?;
        }
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.shared.change(FsOp::RemoveDir, dir, |state, passed| {
            let (parent, name, node) = state.locate(dir)?;
            match node {
                Some(Node::Dir(id)) if state.dir(id)?.entries.is_empty() => {
                    state.change(passed.index, parent, EntryOp::Remove(name))
                }
                Some(Node::Dir(_)) => Err(os_error(libc::ENOTEMPTY)),
                Some(Node::File(_)) => Err(os_error(libc::ENOTDIR)),
                None => Err(os_error(libc::ENOENT)),
            }
        })
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.shared.change(FsOp::SyncDir, dir, |state, passed| {
            let _while_it_is_synced = self.shared.descriptors.take()?;
            let id = state.dir_id(dir)?;
            match passed.effect {
                None | Some(FaultEffect::BitFlip) => {}
                Some(FaultEffect::LyingSync) => return Ok(()),
                Some(effect) => return Err(effect.error()),
            }
            let dir = state.dir_mut(id)?;
            if !dir.pending.is_empty() {
                dir.durable = dir.entries.clone();
                dir.pending.clear();
            }
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn FileLock>> {
        let (mut state, passed) = self.shared.begin(FsOp::Lock, path)?;
        let failed = |e: io::Error| Error::from_io("lock", path, &e);
        let key: PathBuf = names(path).map_err(failed)?.iter().collect();
        if state.locate(path).map_err(failed)?.2.is_none() {
            make_file(&mut state, passed.index, path, CreateMode::New).map_err(failed)?;
        }
        if !state.locks.insert(key.clone()) {
            return Err(failed(os_error(libc::EAGAIN))
                .because(ErrorKind::Locked, "the database is open already, by another handle in this process"));
        }
        Ok(Box::new(MemoryLock { shared: Arc::clone(&self.shared), key }))
    }

    /// There is no working directory: the path as it is.
    fn canonical(&self, path: &Path) -> Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn open_files_max(&self) -> Option<u64> {
        self.shared.descriptors.max().map(|max| max as u64)
    }

    fn hold_descriptor(&self) -> Option<Box<dyn HeldDescriptor>> {
        self.open_files_max()?;
        self.shared.descriptors.take().ok().map(|held| Box::new(held) as Box<dyn HeldDescriptor>)
    }

    fn free_space(&self, path: &Path) -> Result<u64> {
        self.shared.ask(FsOp::FreeSpace, path, |state| match state.capacity {
            Some(capacity) => Ok(capacity.saturating_sub(state.used)),
            None => Ok(u64::MAX / 2),
        })
    }
}

/// An open file, for reading and for writing.
#[derive(Debug)]
struct MemoryFile {
    shared: Arc<Shared>,
    node: Arc<FileNode>,
    path: PathBuf,
    _descriptor: Descriptor,
}

impl MemoryFile {
    fn new(shared: &Arc<Shared>, node: Arc<FileNode>, path: &Path, descriptor: Descriptor) -> MemoryFile {
        MemoryFile { shared: Arc::clone(shared), node, path: path.to_owned(), _descriptor: descriptor }
    }
}

impl RandomAccessFile for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let passed = self.shared.begin_read(FsOp::Read, &self.path)?;
        let filled = {
            let file = self.node.state.lock();
            let content = file.content();
            let start = usize::try_from(offset).map_or(content.len(), |offset| offset.min(content.len()));
            let filled = buffer.len().min(content.len() - start);
            buffer[..filled].copy_from_slice(&content[start..start + filled]);
            filled
        };
        if passed.effect == Some(FaultEffect::BitFlip) {
            flip_a_bit(&mut buffer[..filled], passed.index);
        }
        Ok(filled)
    }

    fn size(&self) -> Result<u64> {
        self.shared.begin_read(FsOp::Stat, &self.path)?;
        Ok(self.node.state.lock().len as u64)
    }

    fn read_ahead(&self, _offset: u64, _len: u64) {}
}

impl MemoryFile {
    fn note_use_after_failure(&self, state: &mut State, file: &FileState, index: u64, op: FsOp) {
        if file.failed {
            state.hazard(index, op, &self.path, HazardKind::UsedAfterFailure);
        }
    }
}

impl WritableFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> Result<()> {
        let (mut state, passed) = self.shared.begin(FsOp::Append, &self.path)?;
        let mut file = self.node.state.lock();
        self.note_use_after_failure(&mut state, &file, passed.index, FsOp::Append);
        let mut stored = state.room_for(bytes.len());
        let mut error = (stored < bytes.len()).then(|| os_error(libc::ENOSPC));
        match passed.effect {
            None | Some(FaultEffect::BitFlip | FaultEffect::LyingSync) => {}
            Some(FaultEffect::ShortWrite) => {
                stored = stored.min(bytes.len() / 2);
                error = Some(os_error(libc::EIO));
            }
            Some(effect) => {
                stored = 0;
                error = Some(effect.error());
            }
        }
        file.append(passed.index, &bytes[..stored]);
        if passed.effect == Some(FaultEffect::BitFlip) {
            let start = file.len - stored;
            flip_a_bit(&mut file.own_bytes()[start..], passed.index);
        }
        if self.node.is_linked() {
            state.used += stored as u64;
        }
        match error {
            None => Ok(()),
            Some(error) => {
                file.failed = true;
                Err(Error::from_io("append", &self.path, &error))
            }
        }
    }

    fn sync_data(&self) -> Result<()> {
        let (mut state, passed) = self.shared.begin(FsOp::Sync, &self.path)?;
        let mut file = self.node.state.lock();
        self.note_use_after_failure(&mut state, &file, passed.index, FsOp::Sync);
        match passed.effect {
            None | Some(FaultEffect::BitFlip) => file.sync(),
            Some(FaultEffect::LyingSync) => {}
            Some(effect) => {
                if effect == FaultEffect::SyncDropsDirty {
                    file.drop_dirty();
                }
                file.failed = true;
                return Err(Error::from_io("sync", &self.path, &effect.error()));
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.node.state.lock().len as u64
    }

    fn allocate(&self, _len: u64) {}
}

#[derive(Debug)]
struct MemoryLock {
    shared: Arc<Shared>,
    key: PathBuf,
}

impl FileLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.shared.state.lock().locks.remove(&self.key);
    }
}
