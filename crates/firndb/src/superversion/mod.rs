//! SuperVersions: the published view of each column family, who holds which view, and the end of files.
//!
//! A [`SuperVersion`] is one immutable value: active memtable, immutable memtables, the `Version` of the files. A read
//! takes one and is done with everybody else. Flush and compaction build the next one and swap a pointer.
//!
//! Invariants
//! 1. What a SuperVersion names is readable for as long as the SuperVersion is held.
//! 2. Whoever replaces a SuperVersion hands the old one to the janitor's graveyard in the same step. The janitor keeps
//!    a reference until it has the only one: no reader ever frees a memtable, a version or a file.
//! 3. A file is unlinked once, by the janitor, and only if no version in use and no job names it.
//! 4. SuperVersion numbers of a family only rise.
//!
//! Threads: loads are lock-free; mutators of one family take its lock, which is held for a pointer swap.
//! Source: RocksDB `db/column_family.h` (SuperVersion); its wiki page "Terminology".

mod attribution;
mod family;
mod graveyard;
mod pins;
mod published;
pub(crate) mod purge;
mod snapshots;
mod static_table;
mod view;
mod wake;

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
pub(crate) mod testing;
#[cfg(all(test, not(loom)))]
mod tests;

pub(crate) use attribution::{Pinned, attribute};
pub(crate) use family::FamilyState;
pub(crate) use pins::{Pin, PinGuard, PinRegistry, PinSpec};
pub use pins::{PinKind, PinReport};
pub(crate) use published::Published;
pub use snapshots::Snapshot;
pub(crate) use snapshots::{FrozenSnapshots, HeldView};
pub(crate) use view::{FamilyConfig, SuperVersion};
