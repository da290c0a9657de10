//! Failures on command: which operation of the memory file system fails, and how.

use std::io;

/// An operation on a [`MemoryFs`](super::MemoryFs), as it is counted, logged and made to fail.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FsOp {
    /// A file is opened for reading.
    Open,
    /// Bytes are read.
    Read,
    /// A file is made.
    Create,
    /// Bytes are added to a file.
    Append,
    /// A file is synced.
    Sync,
    /// The length of a file, or whether it exists, is asked.
    Stat,
    /// A directory is listed.
    List,
    /// A file is removed.
    Remove,
    /// A file or directory is renamed.
    Rename,
    /// A file gets a second name.
    HardLink,
    /// A directory is made.
    CreateDir,
    /// A directory is removed.
    RemoveDir,
    /// The entries of a directory are made durable.
    SyncDir,
    /// The lock is taken.
    Lock,
    /// The free space is asked.
    FreeSpace,
}

impl FsOp {
    /// True if the operation changes what is, or what would be after a power loss, on the disk.
    pub fn changes_disk(self) -> bool {
        !matches!(self, FsOp::Open | FsOp::Read | FsOp::Stat | FsOp::List | FsOp::FreeSpace)
    }

    pub(super) fn verb(self) -> &'static str {
        match self {
            FsOp::Open => "open",
            FsOp::Read => "read",
            FsOp::Create => "create",
            FsOp::Append => "append",
            FsOp::Sync => "sync",
            FsOp::Stat => "stat",
            FsOp::List => "list",
            FsOp::Remove => "remove",
            FsOp::Rename => "rename",
            FsOp::HardLink => "link",
            FsOp::CreateDir => "create directory",
            FsOp::RemoveDir => "remove directory",
            FsOp::SyncDir => "sync directory",
            FsOp::Lock => "lock",
            FsOp::FreeSpace => "statvfs",
        }
    }
}

/// How an operation fails.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultEffect {
    /// `EIO`, and nothing is done.
    Eio,
    /// `ENOSPC`, and nothing is done.
    NoSpace,
    /// `EMFILE`, and nothing is done: as if the process had as many files open as it may.
    TooManyOpen,
    /// `EPERM`, and nothing is done: what Linux says to a hard link on FAT.
    NotPermitted,
    /// An append stores the first half of its bytes, then fails with `EIO`. Any other operation: as [`Eio`](Self::Eio).
    ShortWrite,
    /// A sync fails with `EIO` and drops the unsynced bytes: they can be read until the crash, are zeroes after it, and
    /// a later sync that succeeds does not save them. Any other operation: as [`Eio`](Self::Eio).
    SyncDropsDirty,
    /// A read returns, or an append stores, one wrong bit, and succeeds. Any other operation is not harmed.
    BitFlip,
    /// A sync reports success and does nothing. Any other operation is not harmed.
    LyingSync,
}

#[derive(Debug, Clone)]
enum Target {
    Index(u64),
    Kind { op: Option<FsOp>, pattern: String, skip: u64 },
}

/// One failure to come: where it strikes, what it does, and whether it goes on.
///
/// ```
/// use firndb::{CreateMode, ErrorKind, Fault, FaultEffect, Fs, FsOp, MemoryFs};
/// # fn main() -> firndb::Result<()> {
/// let fs = MemoryFs::new();
/// fs.inject(Fault::on(FsOp::Append, "*.sst", FaultEffect::NoSpace).skip(1).sticky());
/// let file = fs.create("/000007.sst".as_ref(), CreateMode::New)?;
/// file.append(b"fits")?;
/// assert_eq!(file.append(b"does not").unwrap_err().kind(), ErrorKind::NoSpace);
/// fs.clear_faults();
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    target: Target,
    effect: FaultEffect,
    sticky: bool,
}

impl Fault {
    /// Strikes the operation with number `index` (see [`MemoryFs::op_count`](super::MemoryFs::op_count)).
    pub fn at(index: u64, effect: FaultEffect) -> Fault {
        Fault { target: Target::Index(index), effect, sticky: false }
    }

    /// Strikes the first `op` on a file whose name (without directory) matches `pattern`, in which `*` stands for any
    /// characters.
    pub fn on(op: FsOp, pattern: &str, effect: FaultEffect) -> Fault {
        Fault { target: Target::Kind { op: Some(op), pattern: pattern.to_owned(), skip: 0 }, effect, sticky: false }
    }

    /// Strikes the first operation of any kind on a file whose name matches `pattern`.
    pub fn on_any(pattern: &str, effect: FaultEffect) -> Fault {
        Fault { target: Target::Kind { op: None, pattern: pattern.to_owned(), skip: 0 }, effect, sticky: false }
    }

    /// Lets the first `count` matching operations pass. No effect on a fault aimed at a number.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Fault {
        if let Target::Kind { skip, .. } = &mut self.target {
            *skip = count;
        }
        self
    }

    /// Strikes again and again: every later match; of a fault aimed at a number every later operation.
    #[must_use]
    pub fn sticky(mut self) -> Fault {
        self.sticky = true;
        self
    }

    /// Whether the fault strikes this operation; counts down its `skip`.
    fn strikes(&mut self, op: FsOp, name: &str, index: u64) -> bool {
        match &mut self.target {
            Target::Index(at) => *at == index || (self.sticky && index > *at),
            Target::Kind { op: wanted, pattern, skip } => {
                if wanted.is_some_and(|wanted| wanted != op) || !matches(pattern.as_bytes(), name.as_bytes()) {
                    return false;
                }
                if *skip > 0 {
                    *skip -= 1;
                    return false;
                }
                true
            }
        }
    }
}

/// The effect of the first fault that strikes; one that strikes once is removed.
pub(super) fn strike(faults: &mut Vec<Fault>, op: FsOp, name: &str, index: u64) -> Option<FaultEffect> {
    let at = faults.iter_mut().position(|fault| fault.strikes(op, name, index))?;
    let effect = faults[at].effect;
    if !faults[at].sticky {
        faults.remove(at);
    }
    Some(effect)
}

impl FaultEffect {
    pub(super) fn error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            FaultEffect::NoSpace => libc::ENOSPC,
            FaultEffect::TooManyOpen => libc::EMFILE,
            FaultEffect::NotPermitted => libc::EPERM,
            _ => libc::EIO,
        })
    }
}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters. Linear but for stars.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while read < name.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, read));
            at += 1;
        } else if pattern.get(at) == Some(&name[read]) {
            at += 1;
            read += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            at = after_star;
            read = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*.sst", "000001.sst", true),
            ("*.sst", "000001.sst.tmp", false),
            ("MANIFEST-*", "MANIFEST-000001", true),
            ("*0*1*", "00100", true),
            ("*0*1*", "00200", false),
            ("LOCK", "LOCK", true),
            ("LOCK", "LOCKS", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
