//! How a command ends: exit codes, and what is said on stderr.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use firndb::{Error, ErrorKind};

pub(crate) const OK: u8 = 0;
pub(crate) const ABSENT: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const CORRUPT: u8 = 3;
pub(crate) const LOCKED: u8 = 4;
pub(crate) const INCOMPATIBLE: u8 = 5;
pub(crate) const IO: u8 = 6;

/// An exit code, or why there is no result.
pub(crate) type Outcome = Result<u8, Failure>;

/// Says something on stderr. If nobody can hear it, the exit code still can be seen.
pub(crate) fn say(message: &dyn Display) {
    let _ = writeln!(std::io::stderr().lock(), "firn: {message}");
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Engine(Error),
    /// The command was not used as it can be.
    Usage(String),
    /// stdin, stdout or a file that is not the database's.
    Io(&'static str, std::io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Failure {
    /// Writing results failed.
    pub(crate) fn stdout(error: std::io::Error) -> Failure {
        Failure::Io("stdout", error)
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            // The reader of a pipe has seen enough.
            Failure::Io("stdout", error) if error.kind() == std::io::ErrorKind::BrokenPipe => OK,
            Failure::Io(..) => IO,
            Failure::Engine(error) => match error.kind() {
                ErrorKind::Corruption => CORRUPT,
                ErrorKind::Locked => LOCKED,
                ErrorKind::NotSupported => INCOMPATIBLE,
                ErrorKind::InvalidArgument | ErrorKind::NoSuchColumnFamily | ErrorKind::Limit => USAGE,
                _ => IO,
            },
        }
    }

    pub(crate) fn report(&self) -> ExitCode {
        let code = self.code();
        if code != OK {
            match self {
                Failure::Engine(error) => say(error),
                Failure::Usage(message) => say(message),
                Failure::Io(what, error) => say(&format!("{what}: {error}")),
            }
        }
        ExitCode::from(code)
    }
}
