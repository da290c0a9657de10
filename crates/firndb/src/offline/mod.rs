//! Looking at a directory or a file without a database.
//!
//! Flow: a path and an `Fs` -> [`column_families_in`] (what MANIFEST alone says), [`compatibility`] (which RocksDBs can open it) or [`inspect`] (the records of one file, one after the other) or [`verify`] (a whole directory
//! against everything that the format promises) -> a person or a tool. Both read tables as a [`table::OfflineTable`] and
//! logs with [`log::walk`]; MANIFEST, OPTIONS and the evidence for lost tables are those of `version`, `opening` and
//! `recovery`.
//!
//! Invariants
//! 1. Nothing is written, and no lock is taken: a database may be open beside it, here or in another process.
//! 2. What is read is not trusted and not kept: no cache stands between the disk and what is said about it.
//! 3. What a writer beside us has changed meanwhile is not called damage.
//!
//! Threads: the caller's alone.

mod compat;
mod families;
pub mod inspect;
mod log;
mod table;
mod verify;

pub use compat::{Compatibility, Release, Requirement, compatibility};
pub use families::column_families_in;
pub use verify::{VerifyProgress, VerifyReport, verify_directory};
