//! The two truths of the memory file system: what processes see, and what the disk is guaranteed to hold.
//!
//! Directories are tables of names, kept twice, with the unsynced operations that lead from the durable one to the
//! visible one. Files are append-only: a durable prefix and the appends after it.
//!
//! Threads: all of it is reached through the lock of [`State`], but for the content of a file, which has its own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::fault::{Fault, FsOp};
use super::{CreateMode, Hazard, HazardKind, LoggedOp};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct DirId(pub(super) u64);

impl DirId {
    pub(super) const ROOT: DirId = DirId(0);
}

#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Dir(DirId),
}

#[derive(Debug, Clone)]
pub(super) enum EntryOp {
    Set(Arc<str>, Node),
    Remove(Arc<str>),
    Rename(Arc<str>, Arc<str>, Node),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    /// What processes see.
    pub(super) entries: BTreeMap<Arc<str>, Node>,
    /// What survives a power loss for certain.
    pub(super) durable: BTreeMap<Arc<str>, Node>,
    /// What leads from `durable` to `entries`, each with the number of its operation.
    pub(super) pending: Vec<(u64, EntryOp)>,
}

/// A file, whatever its names; open handles keep it.
#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) state: Mutex<FileState>,
    /// How many names it has now. Without one, its bytes no longer count as used space.
    pub(super) links: AtomicU32,
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    /// The content is `bytes[..len]`; shared with crash images until someone writes.
    pub(super) bytes: Arc<Vec<u8>>,
    pub(super) len: usize,
    /// The length of the durable prefix.
    pub(super) synced: usize,
    /// The appends after it, oldest first.
    pub(super) pending: Vec<Append>,
    /// Ranges that a failed sync dropped: readable until the power goes, zeroes afterwards.
    pub(super) dropped: Vec<Range<usize>>,
    /// The durable content from before an unsynced truncation.
    pub(super) before_truncation: Option<(Arc<Vec<u8>>, usize)>,
    pub(super) truncated_at: u64,
    /// An append or a sync failed.
    pub(super) failed: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Append {
    pub(super) op: u64,
    pub(super) end: usize,
}

impl FileNode {
    /// A file with one name, all of whose content is durable.
    pub(super) fn durable(mut state: FileState) -> FileNode {
        state.synced = state.len;
        FileNode { state: Mutex::new(state), links: AtomicU32::new(1) }
    }

    pub(super) fn link(&self) {
        // Relaxed, here and below: link counts change under the file system's lock.
        self.links.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a name away; the bytes that this frees.
    pub(super) fn unlink(&self) -> u64 {
        match self.links.fetch_sub(1, Ordering::Relaxed) {
            1 => self.state.lock().len as u64,
            _ => 0,
        }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.links.load(Ordering::Relaxed) > 0
    }
}

impl FileState {
    pub(super) fn content(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The content, to be changed: copied first if an image shares it.
    pub(super) fn own_bytes(&mut self) -> &mut Vec<u8> {
        if Arc::get_mut(&mut self.bytes).is_none() {
            self.bytes = Arc::new(self.content().to_vec());
        }
        let bytes = Arc::get_mut(&mut self.bytes).expect("the bytes have one owner: copied above if not");
        bytes.truncate(self.len);
        bytes
    }

    pub(super) fn append(&mut self, op: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.own_bytes().extend_from_slice(bytes);
        self.len += bytes.len();
        self.pending.push(Append { op, end: self.len });
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.synced < self.len || self.before_truncation.is_some()
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.len;
        self.pending.clear();
        self.before_truncation = None;
    }

    /// A sync that fails, after which the kernel believes the pages are clean.
    pub(super) fn drop_dirty(&mut self) {
        let start = self.dropped.last().map_or(self.synced, |hole| hole.end.max(self.synced));
        if start < self.len {
            self.dropped.push(start..self.len);
        }
    }

    pub(super) fn truncate(&mut self, op: u64) {
        if self.before_truncation.is_none() {
            let mut before = FileState { bytes: Arc::clone(&self.bytes), len: self.synced, ..FileState::default() };
            for hole in &self.dropped {
                let hole = hole.start.min(before.len)..hole.end.min(before.len);
                if !hole.is_empty() {
                    before.own_bytes()[hole].fill(0);
                }
            }
            self.before_truncation = Some((before.bytes, before.len));
            self.truncated_at = op;
        }
        self.bytes = Arc::default();
        self.len = 0;
        self.synced = 0;
        self.pending.clear();
        self.dropped.clear();
        self.failed = false;
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) dirs: BTreeMap<DirId, Dir>,
    pub(super) next_dir: u64,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) used: u64,
    pub(super) capacity: Option<u64>,
    pub(super) faults: Vec<Fault>,
    pub(super) crash_at: Option<u64>,
    pub(super) log: Vec<LoggedOp>,
    pub(super) log_reads: bool,
    pub(super) lint: bool,
    pub(super) hazards: Vec<Hazard>,
    pub(super) struck: u64,
    /// A copy of the counter, made before an image is taken.
    pub(super) next_op: u64,
}

impl Default for State {
    fn default() -> Self {
        State {
            dirs: BTreeMap::from([(DirId::ROOT, Dir::default())]),
            next_dir: 1,
            locks: BTreeSet::new(),
            used: 0,
            capacity: None,
            faults: Vec::new(),
            crash_at: None,
            log: Vec::new(),
            log_reads: false,
            lint: false,
            hazards: Vec::new(),
            struck: 0,
            next_op: 0,
        }
    }
}

impl State {
    pub(super) fn after_crash(old: &State, dirs: BTreeMap<DirId, Dir>, used: u64) -> State {
        State { dirs, next_dir: old.next_dir, used, capacity: old.capacity, lint: old.lint, ..State::default() }
    }

    pub(super) fn dir_id(&self, path: &Path) -> io::Result<DirId> {
        let mut id = DirId::ROOT;
        for name in names(path)? {
            id = match self.dirs.get(&id).and_then(|dir| dir.entries.get(name)) {
                Some(Node::Dir(child)) => *child,
                Some(Node::File(_)) => return Err(os_error(libc::ENOTDIR)),
                None => return Err(os_error(libc::ENOENT)),
            };
        }
        Ok(id)
    }

    pub(super) fn dir(&self, id: DirId) -> io::Result<&Dir> {
        self.dirs.get(&id).ok_or_else(|| os_error(libc::ENOENT))
    }

    pub(super) fn dir_mut(&mut self, id: DirId) -> io::Result<&mut Dir> {
        self.dirs.get_mut(&id).ok_or_else(|| os_error(libc::ENOENT))
    }

    /// The directory and the name of `path`, and what is there.
    pub(super) fn locate(&self, path: &Path) -> io::Result<(DirId, Arc<str>, Option<Node>)> {
        let name = names(path)?.pop().ok_or_else(|| os_error(libc::EINVAL))?;
        let id = self.dir_id(path.parent().unwrap_or(Path::new("")))?;
        let node = self.dir(id)?.entries.get(name).cloned();
        Ok((id, Arc::from(name), node))
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<Arc<FileNode>> {
        match self.locate(path)?.2 {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir(_)) => Err(os_error(libc::EISDIR)),
            None => Err(os_error(libc::ENOENT)),
        }
    }

    pub(super) fn set(&mut self, op: u64, id: DirId, name: Arc<str>, node: Node) -> io::Result<()> {
        self.change(op, id, EntryOp::Set(name, node))
    }

    pub(super) fn change(&mut self, op: u64, id: DirId, change: EntryOp) -> io::Result<()> {
        let dir = self.dir_mut(id)?;
        change.apply(&mut dir.entries);
        dir.pending.push((op, change));
        Ok(())
    }

    pub(super) fn unlink(&mut self, node: Option<&Node>) {
        if let Some(Node::File(file)) = node {
            self.used -= file.unlink();
        }
    }

    /// How many of `wanted` bytes fit.
    pub(super) fn room_for(&self, wanted: usize) -> usize {
        match self.capacity {
            Some(capacity) => wanted.min(capacity.saturating_sub(self.used).try_into().unwrap_or(usize::MAX)),
            None => wanted,
        }
    }

    pub(super) fn hazard(&mut self, index: u64, op: FsOp, path: &Path, kind: HazardKind) {
        self.hazards.push(Hazard { index, op, path: path.to_owned(), kind });
    }

    /// The names in a directory whose bytes or entry would not survive, without `except`.
    pub(super) fn unsynced_names(&self, id: DirId, except: &str) -> Vec<String> {
        let Ok(dir) = self.dir(id) else { return Vec::new() };
        let unsynced = |name: &Arc<str>, node: &Node| match (node, dir.durable.get(name)) {
            (Node::File(file), Some(Node::File(durable))) => {
                !Arc::ptr_eq(file, durable) || file.state.lock().is_unsynced()
            }
            (Node::Dir(_), Some(Node::Dir(_))) => false,
            _ => true,
        };
        let names = dir.entries.iter().filter(|(name, node)| &***name != except && unsynced(name, node));
        names.map(|(name, _)| name.to_string()).collect()
    }
}

pub(super) fn os_error(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// The components of a path; `/db` and `db` are the same.
pub(super) fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_str().ok_or_else(|| os_error(libc::EINVAL))?),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(os_error(libc::EINVAL)),
        }
    }
    Ok(names)
}

pub(super) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

pub(super) fn make_file(state: &mut State, op: u64, path: &Path, mode: CreateMode) -> io::Result<Arc<FileNode>> {
    let (id, name, existing) = state.locate(path)?;
    match (existing, mode) {
        (Some(Node::Dir(_)), _) => Err(os_error(libc::EISDIR)),
        (Some(Node::File(_)), CreateMode::New) => Err(os_error(libc::EEXIST)),
        (Some(Node::File(file)), CreateMode::Truncate) => {
            let mut inner = file.state.lock();
            state.used -= inner.len as u64;
            inner.truncate(op);
            drop(inner);
            Ok(file)
        }
        (None, _) => {
            let file = Arc::new(FileNode::durable(FileState::default()));
            state.set(op, id, name, Node::File(Arc::clone(&file)))?;
            Ok(file)
        }
    }
}
