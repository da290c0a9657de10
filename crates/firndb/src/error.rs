//! The one error type of the engine: opaque outside, precise inside.
//!
//! An [`Error`] is one pointer wide and cheap to clone (a background error is handed to many callers). What to do
//! about it is [`Error::kind`]; where it happened and what was expected is in the message and in the typed details
//! ([`Error::corruption`], [`Error::io`]). Absence of a key is `None`, never an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of everything that can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of failure it is, which decides what a caller can do about it.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Bytes on disk are not what was written. Restore or repair; a retry cannot help.
    Corruption,
    /// The file system refused. Retry once the cause is gone; [`Error::io`] has the operation and the path.
    Io,
    /// The device or quota is full. Writes resume once there is space.
    NoSpace,
    /// There is no database in this directory (and it was not to be created).
    NoSuchDatabase,
    /// Another process, or another handle in this one, has the database open for writing: a `Db`, or a `ColumnFamily` of a
    /// family that was not dropped. `Db::close` ends that, whatever handles there are.
    Locked,
    /// A sync of the log failed, or an append of several writers' records: the write was not applied, and may or may not be
    /// there after a crash. Read it back, or repeat it if that is harmless.
    DurabilityUnknown,
    /// The database stopped accepting writes after an earlier failure, which is the cause in the message.
    ReadOnly,
    /// The database, or the handle, was closed.
    Closed,
    /// The handle was made by another process, and came here by `fork`. Only the process that opened a database may use it:
    /// open the directory anew, for reading while that process has it.
    ForkedProcess,
    /// The reader was ousted by `close` or by policy; open a new one.
    PinEvicted,
    /// An argument or option makes no sense; nothing was done.
    InvalidArgument,
    /// The files use a feature that this build does not know; the message names it.
    NotSupported,
    /// The column family was dropped.
    ColumnFamilyDropped,
    /// There is no column family of this name or id.
    NoSuchColumnFamily,
    /// The operation would have had to wait, and was asked not to (`no_slowdown`).
    Busy,
    /// Another transaction won. Run this one again from its beginning.
    Conflict,
    /// The job was cancelled; the database is as it was before.
    Cancelled,
    /// A bound was exceeded: a key, value, batch or file larger than the format or an option allows.
    Limit,
    /// FirnDB broke one of its own promises: a bug. The database stops writing; please report the message.
    Internal,
}

/// Why bytes were found to be damaged.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CorruptionKind {
    /// A stored checksum differs from the computed one.
    Checksum,
    /// The file or record ends before it should.
    Truncated,
    /// A length field points outside of its container.
    BadLength,
    /// A magic number, tag or type byte is not one that exists.
    BadMagic,
    /// Keys are not in order, or files overlap.
    Order,
    /// A recorded count differs from the counted one.
    CountMismatch,
    /// A file that must exist does not.
    Missing,
    /// The bytes are well-formed but belong elsewhere (wrong size, id or file number).
    Misplaced,
    /// Anything else.
    Malformed,
}

/// The details of an error of kind [`ErrorKind::Corruption`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// What is wrong with the bytes.
    pub kind: CorruptionKind,
    /// The damaged file, where known.
    pub file: Option<PathBuf>,
    /// Offset in bytes of the damage (of its block or record) from the start of the file, where known.
    pub offset: Option<u64>,
    /// What was expected and what was found, in words.
    pub detail: String,
}

/// The details of an error of kind [`ErrorKind::Io`], [`ErrorKind::NoSpace`] or [`ErrorKind::Locked`].
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoFailure {
    /// The operation that failed, as a verb: `open`, `append`, `sync`.
    pub operation: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What `std::io` calls it.
    pub kind: std::io::ErrorKind,
    /// The operating system's number, where there is one.
    pub os_error: Option<i32>,
    /// The operating system's words.
    pub message: String,
}

#[derive(Debug, Clone)]
enum Detail {
    None,
    Corruption(Corruption),
    Io(IoFailure),
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    detail: Detail,
    cause: Option<Error>,
}

/// What went wrong, in one pointer: cheap to clone, so that a background failure can be handed to many callers.
///
/// [`Error::kind`] decides what to do about it; the message names place, expectation and finding.
///
/// ```
/// use firndb::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::InvalidArgument, "a prefix of 0 bytes");
/// assert_eq!(error.kind(), ErrorKind::InvalidArgument);
/// assert_eq!(error.to_string(), "invalid argument: a prefix of 0 bytes");
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

impl Error {
    /// An error of `kind` with a message for people: place, expectation, finding.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::build(kind, message.into(), Detail::None, None)
    }

    #[cold]
    fn build(kind: ErrorKind, message: String, detail: Detail, cause: Option<Error>) -> Error {
        Error { inner: Arc::new(Inner { kind, message, detail, cause }) }
    }

    /// Damaged bytes whose file is not known here; callers add it with [`Error::in_file`].
    #[cold]
    pub fn corrupt(kind: CorruptionKind, detail: impl Into<String>) -> Error {
        let detail = Corruption { kind, file: None, offset: None, detail: detail.into() };
        Error::build(ErrorKind::Corruption, String::new(), Detail::Corruption(detail), None)
    }

    /// Damaged bytes at `offset` of `file`.
    #[cold]
    pub fn corrupt_at(kind: CorruptionKind, file: &Path, offset: u64, detail: impl Into<String>) -> Error {
        Error::corrupt(kind, detail).in_file(file, Some(offset))
    }

    /// Names the file (and offset) of a corruption that does not have one yet; other errors pass through.
    #[must_use]
    #[cold]
    pub fn in_file(self, file: &Path, offset: Option<u64>) -> Error {
        match &self.inner.detail {
            Detail::Corruption(found) if found.file.is_none() => {
                let mut found = found.clone();
                found.file = Some(file.to_owned());
                found.offset = found.offset.or(offset);
                Error::build(
                    self.inner.kind,
                    self.inner.message.clone(),
                    Detail::Corruption(found),
                    self.inner.cause.clone(),
                )
            }
            _ => self,
        }
    }

    /// A refusal of the file system.
    #[cold]
    pub fn from_io(operation: &'static str, path: &Path, source: &std::io::Error) -> Error {
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        let detail = IoFailure {
            operation,
            path: path.to_owned(),
            kind: source.kind(),
            os_error: source.raw_os_error(),
            message: source.to_string(),
        };
        Error::build(kind, String::new(), Detail::Io(detail), None)
    }

    /// The same failure seen from one level up: another kind and message, with `self` as the cause.
    #[must_use]
    #[cold]
    pub fn because(self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::build(kind, message.into(), Detail::None, Some(self))
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The details of damaged bytes, of this error or of its cause.
    pub fn corruption(&self) -> Option<&Corruption> {
        match &self.inner.detail {
            Detail::Corruption(found) => Some(found),
            _ => self.inner.cause.as_ref().and_then(Error::corruption),
        }
    }

    /// The details of a refusal of the file system, of this error or of its cause.
    pub fn io(&self) -> Option<&IoFailure> {
        match &self.inner.detail {
            Detail::Io(found) => Some(found),
            _ => self.inner.cause.as_ref().and_then(Error::io),
        }
    }

    /// True if the file system says that the file or directory does not exist.
    pub fn is_not_found(&self) -> bool {
        self.io().is_some_and(|io| io.kind == std::io::ErrorKind::NotFound)
    }

    /// True if the same call may succeed later without anyone repairing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Io
                | ErrorKind::NoSpace
                | ErrorKind::Busy
                | ErrorKind::Conflict
                | ErrorKind::Locked
                | ErrorKind::Cancelled
        )
    }
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            ErrorKind::Corruption => "corruption",
            ErrorKind::Io => "I/O error",
            ErrorKind::NoSpace => "no space",
            ErrorKind::NoSuchDatabase => "no such database",
            ErrorKind::Locked => "locked",
            ErrorKind::DurabilityUnknown => "durability unknown",
            ErrorKind::ReadOnly => "read-only",
            ErrorKind::Closed => "closed",
            ErrorKind::ForkedProcess => "forked process",
            ErrorKind::PinEvicted => "reader ousted",
            ErrorKind::InvalidArgument => "invalid argument",
            ErrorKind::NotSupported => "not supported",
            ErrorKind::ColumnFamilyDropped => "column family dropped",
            ErrorKind::NoSuchColumnFamily => "no such column family",
            ErrorKind::Busy => "busy",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Limit => "limit exceeded",
            ErrorKind::Internal => "internal error",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner.kind.words())?;
        if !self.inner.message.is_empty() {
            write!(f, ": {}", self.inner.message)?;
        }
        match &self.inner.detail {
            Detail::None => {}
            Detail::Corruption(found) => {
                if let Some(file) = &found.file {
                    write!(f, ": file {}", file.display())?;
                }
                if let Some(offset) = found.offset {
                    write!(f, ", offset {offset}")?;
                }
                write!(f, ": {}", found.detail)?;
            }
            Detail::Io(io) => write!(f, ": {} {}: {}", io.operation, io.path.display(), io.message)?,
        }
        match &self.inner.cause {
            Some(cause) => write!(f, " (cause: {cause})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.cause.as_ref().map(|cause| cause as _)
    }
}
