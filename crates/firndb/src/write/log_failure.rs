//! How a failure of the write-ahead log is told to those who wait for it.

use crate::error::{Error, ErrorKind};

/// What of the log failed.
pub(super) enum LogFailure {
    Append(Error),
    Sync(Error),
}

impl LogFailure {
    pub(super) fn error(&self) -> &Error {
        match self {
            LogFailure::Append(error) | LogFailure::Sync(error) => error,
        }
    }

    /// As the writer of the only record hears it: the end of the record is not in the file.
    pub(super) fn of_one(self) -> Error {
        match self {
            LogFailure::Append(error) => {
                let kind = error.kind();
                error.because(kind, "the write-ahead log could not be written; the batch was not applied")
            }
            LogFailure::Sync(error) => error.because(
                ErrorKind::DurabilityUnknown,
                "the write-ahead log could not be synced; the batch was not applied, and may or may not survive",
            ),
        }
    }

    /// As the writers of several records hear it: those before the one that did not fit may have arrived whole.
    pub(super) fn of_several(self) -> Error {
        match self {
            LogFailure::Append(error) => error.because(
                ErrorKind::DurabilityUnknown,
                "the write-ahead log could not be written; the batch was not applied, and may or may not survive",
            ),
            sync => sync.of_one(),
        }
    }

    /// As somebody hears it who asked for the durability of what was written before.
    pub(super) fn of_none(self) -> Error {
        let (kind, error, what) = match self {
            LogFailure::Append(error) => (error.kind(), error, "written"),
            LogFailure::Sync(error) => (ErrorKind::DurabilityUnknown, error, "synced"),
        };
        error.because(
            kind,
            format!("the write-ahead log could not be {what}; writes before may or may not survive a crash"),
        )
    }
}
