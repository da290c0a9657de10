//! Holds: the files of one moment, kept for somebody who copies them.
//!
//! Flow: `live` makes a [`Hold`] under the manifest lock -> its owner copies the files and drops it -> the janitor, which
//! asks what is kept before it unlinks anything, takes it out of the list of [`Holds`] and frees it.
//!
//! Invariants
//! 1. What a hold names is neither unlinked nor moved while it is in the list: the tables through its versions, MANIFEST,
//!    OPTIONS and logs because [`Holds::keep`] says so.
//! 2. The list has the last reference: whoever copies frees no version, and closes no table.
//!
//! Threads: any; the list lies under the version set's state lock.

use crate::format::file_name::FileKind;
use crate::format::key::{FileNumber, SequenceNumber};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::version::Version;

/// A file that only grows, and how much of it belongs to the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) number: FileNumber,
    pub(crate) bytes: u64,
}

/// The files of one moment of a database.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Names the hold in this version set; from 1 on.
    pub(crate) id: u64,
    /// The files have the writes up to this number.
    pub(crate) sequence: SequenceNumber,
    /// Every family's version of the moment.
    pub(crate) versions: Vec<Arc<Version>>,
    /// What CURRENT named.
    pub(crate) manifest: Piece,
    pub(crate) options: Option<FileNumber>,
    /// The logs that MANIFEST asked for, oldest first; of the last more may be there by now.
    pub(crate) logs: Vec<Piece>,
    /// Logs from this number on are kept.
    first_log: AtomicU64,
}

impl Hold {
    pub(super) fn new(
        id: u64,
        sequence: SequenceNumber,
        versions: Vec<Arc<Version>>,
        manifest: Piece,
        options: Option<FileNumber>,
        logs: Vec<Piece>,
    ) -> Hold {
        let first_log = AtomicU64::new(logs.first().map_or(u64::MAX, |log| log.number.0));
        Hold { id, sequence, versions, manifest, options, logs, first_log }
    }

    /// True if the file is kept for this hold. Of logs that are all from its first on: they go in their order, so that the
    /// later ones wait as well.
    pub(crate) fn keeps(&self, kind: FileKind, number: FileNumber) -> bool {
        match kind {
            FileKind::Blob => self.versions.iter().any(|version| version.blobs.contains(number)),
            FileKind::Table => self.versions.iter().any(|version| version.contains(number)),
            FileKind::Manifest => self.manifest.number == number,
            FileKind::Options => self.options == Some(number),
            // Acquire pairs with the Release below: the owner has done with the logs.
            FileKind::Wal => number.0 >= self.first_log.load(Ordering::Acquire),
            _ => false,
        }
    }

    /// Keeps no logs any more: the owner has what it needs of them.
    pub(crate) fn release_logs(&self) {
        self.first_log.store(u64::MAX, Ordering::Release);
    }
}

/// The holds that somebody has, or had until a moment ago.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: Vec<Arc<Hold>>,
    /// How many were made.
    pub(super) made: u64,
}

impl Holds {
    pub(super) fn add(&mut self, hold: Arc<Hold>) {
        self.made = hold.id;
        self.all.push(hold);
    }

    /// True if a hold keeps the file.
    pub(super) fn keep(&self, kind: FileKind, number: FileNumber) -> bool {
        self.all.iter().any(|hold| hold.keeps(kind, number))
    }

    pub(super) fn all(&self) -> Vec<Arc<Hold>> {
        self.all.clone()
    }

    /// Takes out the holds that nobody else has.
    pub(super) fn take_free(&mut self) -> Vec<Arc<Hold>> {
        // With one reference left, which is in here, nobody can make a second one.
        self.all.extract_if(.., |hold| Arc::strong_count(hold) == 1).collect()
    }
}
