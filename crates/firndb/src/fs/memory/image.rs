//! What is left after the power went: from the durable state and the unsynced operations to one possible disk.
//!
//! Every choice comes from a seeded sequence, so that an image is a pure function of (history, policy, seed). Whole
//! files are shared with the original, not copied.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::state::{Dir, DirId, EntryOp, FileNode, FileState, Node, State};
use crate::sync::Arc;

/// Which of the unsynced work survives a power loss.
///
/// ```
/// use firndb::{CrashPolicy, CreateMode, Fs, MemoryFs};
/// # fn main() -> firndb::Result<()> {
/// let fs = MemoryFs::new();
/// let file = fs.create("/log".as_ref(), CreateMode::New)?;
/// fs.sync_dir("/".as_ref())?;
/// file.append(b"safe")?;
/// file.sync_data()?;
/// file.append(b" lost")?;
/// for policy in &CrashPolicy::ALL {
///     let left = fs.crash_image(policy, 1).read_whole("/log".as_ref(), 100)?;
///     assert!(left.starts_with(b"safe"), "{policy:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashPolicy {
    /// Nothing unsynced survives: neither bytes nor directory entries.
    DropUnsynced,
    /// Everything survives, as after a crash of the process alone (but for bytes that a failed sync dropped).
    KeepAll,
    /// What was done up to a random moment survives, in the order it was done.
    Prefix,
    /// Of each file a random prefix of its appends survives, independently; of each directory, of its operations.
    PrefixPerFile,
    /// A random subset of unsynced sectors (512 or 4096 bytes) survives; the others read as zeroes.
    RandomSectors,
    /// Everything survives but the end of the last append of each file, which is cut at a random byte.
    TornWrite,
    /// Lengths survive, the unsynced bytes are zeroes.
    LengthOnlyZeros,
    /// Lengths survive, the unsynced bytes are garbage.
    LengthOnlyGarbage,
    /// A random subset of the directory operations survives, in any combination; of the bytes of each file all or none.
    EntrySubset,
    /// Each file and each directory by another policy.
    Mixed,
}

impl CrashPolicy {
    /// Every policy, once.
    pub const ALL: [CrashPolicy; 10] = [
        CrashPolicy::DropUnsynced,
        CrashPolicy::KeepAll,
        CrashPolicy::Prefix,
        CrashPolicy::PrefixPerFile,
        CrashPolicy::RandomSectors,
        CrashPolicy::TornWrite,
        CrashPolicy::LengthOnlyZeros,
        CrashPolicy::LengthOnlyGarbage,
        CrashPolicy::EntrySubset,
        CrashPolicy::Mixed,
    ];
}

/// SplitMix64: enough for choices, and the same everywhere.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

/// One possible disk after a power loss now.
pub(super) fn crash(state: &State, policy: CrashPolicy, seed: u64) -> State {
    let mut maker = ImageMaker {
        old: state,
        policy,
        dice: Dice::new(seed),
        cut: 0,
        files: HashMap::new(),
        dirs: BTreeMap::new(),
        used: 0,
    };
    // The moment of `Prefix`: an operation's number; those at or above it are lost.
    let first = maker.oldest_unsynced();
    maker.cut = first + maker.dice.below(state.next_op.saturating_sub(first) + 1);
    maker.dir(DirId::ROOT);
    let ImageMaker { dirs, used, .. } = maker;
    State::after_crash(state, dirs, used)
}

struct ImageMaker<'a> {
    old: &'a State,
    policy: CrashPolicy,
    dice: Dice,
    cut: u64,
    /// Files met already, by address: a file with two names stays one file.
    files: HashMap<usize, Arc<FileNode>>,
    dirs: BTreeMap<DirId, Dir>,
    used: u64,
}

impl ImageMaker<'_> {
    fn oldest_unsynced(&self) -> u64 {
        let mut oldest = self.old.next_op;
        for dir in self.old.dirs.values() {
            oldest = dir.pending.first().map_or(oldest, |(op, _)| oldest.min(*op));
            for node in dir.entries.values() {
                if let Node::File(file) = node {
                    let file = file.state.lock();
                    oldest = file.pending.first().map_or(oldest, |append| oldest.min(append.op));
                    if file.before_truncation.is_some() {
                        oldest = oldest.min(file.truncated_at);
                    }
                }
            }
        }
        oldest
    }

    fn pick_policy(&mut self) -> CrashPolicy {
        match self.policy {
            CrashPolicy::Mixed => CrashPolicy::ALL[self.dice.below(CrashPolicy::ALL.len() as u64 - 1) as usize],
            fixed => fixed,
        }
    }

    fn dir(&mut self, id: DirId) {
        let Some(old) = self.old.dirs.get(&id) else { return };
        let mut entries = self.surviving_entries(old);
        for node in entries.values_mut() {
            match node {
                Node::Dir(child) => {
                    let child = *child;
                    if !self.dirs.contains_key(&child) {
                        self.dir(child);
                    }
                }
                Node::File(file) => *file = self.file(file),
            }
        }
        let durable = entries.clone();
        self.dirs.insert(id, Dir { entries, durable, pending: Vec::new() });
    }

    fn surviving_entries(&mut self, dir: &Dir) -> BTreeMap<Arc<str>, Node> {
        if dir.pending.is_empty() {
            return dir.entries.clone();
        }
        let count = dir.pending.len() as u64;
        let policy = self.pick_policy();
        let keep = match policy {
            CrashPolicy::DropUnsynced => 0,
            CrashPolicy::Prefix => dir.pending.partition_point(|(op, _)| *op < self.cut) as u64,
            CrashPolicy::PrefixPerFile => self.dice.below(count + 1),
            _ => count,
        };
        if keep == count && policy != CrashPolicy::EntrySubset {
            return dir.entries.clone();
        }
        let mut entries = dir.durable.clone();
        for (index, (_, op)) in dir.pending.iter().enumerate() {
            let kept = match policy {
                CrashPolicy::EntrySubset => self.dice.coin(),
                _ => (index as u64) < keep,
            };
            if kept {
                op.apply(&mut entries);
            }
        }
        entries
    }

    fn file(&mut self, old: &Arc<FileNode>) -> Arc<FileNode> {
        let address = Arc::as_ptr(old) as usize;
        if let Some(made) = self.files.get(&address) {
            made.link();
            return Arc::clone(made);
        }
        let state = old.state.lock();
        let left = self.surviving_bytes(&state);
        drop(state);
        self.used += left.len as u64;
        let made = Arc::new(FileNode::durable(left));
        self.files.insert(address, Arc::clone(&made));
        made
    }

    fn surviving_bytes(&mut self, file: &FileState) -> FileState {
        let policy = self.pick_policy();
        if let Some(before) = &file.before_truncation {
            // The truncation itself is unsynced, like the bytes after it.
            let undone = match policy {
                CrashPolicy::DropUnsynced => true,
                CrashPolicy::Prefix => file.truncated_at >= self.cut,
                CrashPolicy::PrefixPerFile | CrashPolicy::EntrySubset => self.dice.coin(),
                _ => false,
            };
            if undone {
                return FileState { bytes: Arc::clone(&before.0), len: before.1, ..FileState::default() };
            }
        }
        let synced = file.synced;
        let len = match policy {
            CrashPolicy::DropUnsynced => synced,
            CrashPolicy::Prefix => {
                let kept = file.pending.partition_point(|append| append.op < self.cut);
                file.pending[..kept].last().map_or(synced, |append| append.end)
            }
            CrashPolicy::PrefixPerFile => match self.dice.below(file.pending.len() as u64 + 1) as usize {
                0 => synced,
                kept => file.pending[kept - 1].end,
            },
            CrashPolicy::TornWrite => match file.pending.as_slice() {
                [] => file.len,
                [.., last] => {
                    let start = file.pending.iter().rev().nth(1).map_or(synced, |append| append.end);
                    start + self.dice.below((last.end - start) as u64 + 1) as usize
                }
            },
            CrashPolicy::EntrySubset if self.dice.coin() => synced,
            _ => file.len,
        };
        let mut left = FileState { bytes: Arc::clone(&file.bytes), len, ..FileState::default() };
        for hole in &file.dropped {
            overwrite(&mut left, hole.clone(), |_| 0);
        }
        match policy {
            CrashPolicy::LengthOnlyZeros => overwrite(&mut left, synced..len, |_| 0),
            CrashPolicy::LengthOnlyGarbage => {
                let salt = self.dice.next();
                overwrite(&mut left, synced..len, |at| Dice::new(salt ^ at as u64).next() as u8);
            }
            CrashPolicy::RandomSectors => self.lose_sectors(&mut left, synced),
            _ => {}
        }
        left
    }

    fn lose_sectors(&mut self, file: &mut FileState, synced: usize) {
        let sector = if self.dice.coin() { 512 } else { 4096 };
        let mut start = synced;
        let mut last_kept = synced;
        while start < file.len {
            let end = ((start / sector + 1) * sector).min(file.len);
            if self.dice.coin() {
                last_kept = end;
            } else {
                overwrite(file, start..end, |_| 0);
            }
            start = end;
        }
        // The length is metadata of its own: it may have been written or not.
        if self.dice.coin() {
            file.len = last_kept;
        }
    }
}

fn overwrite(file: &mut FileState, range: Range<usize>, with: impl Fn(usize) -> u8) {
    let range = range.start.min(file.len)..range.end.min(file.len);
    if range.is_empty() {
        return;
    }
    let len = file.len;
    let bytes = file.own_bytes();
    bytes.truncate(len);
    for at in range {
        bytes[at] = with(at);
    }
}

impl EntryOp {
    pub(super) fn apply(&self, entries: &mut BTreeMap<Arc<str>, Node>) {
        match self {
            EntryOp::Set(name, node) => {
                entries.insert(Arc::clone(name), node.clone());
            }
            EntryOp::Remove(name) => {
                entries.remove(name);
            }
            EntryOp::Rename(from, to, node) => {
                entries.remove(from);
                entries.insert(Arc::clone(to), node.clone());
            }
        }
    }
}
