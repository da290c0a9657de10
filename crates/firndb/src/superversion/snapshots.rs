//! Snapshots: sequence numbers that compactions must respect.
//!
//! Making one takes no lock: a slot is claimed as pending, then the visible sequence number is read, then stored. A job
//! that freezes its list reads the visible number first, then looks at the slots. With a full fence in each between its
//! two steps, either the job sees the slot, or the snapshot is not older than what the job read, which joins the list.

use std::panic::Location;

use crate::error::{Error, ErrorKind};
use crate::format::key::SequenceNumber;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

use super::pins::{PENDING, PinGuard, PinKind, PinRegistry, PinSpec};

/// How often a job looks again at a snapshot that is being made, before it keeps everything instead.
const PENDING_TRIES: usize = 100;

/// A fixed moment of the database: reads through it see what was written before, and nothing later.
///
/// It owns what it needs: it may be cloned, sent to other threads, and outlive the handle that made it. While a clone
/// of it lives, compactions keep what it sees.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-snapshot-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "old")?;
/// let snapshot = db.snapshot();
/// db.put("key", "new")?;
/// let mut options = firndb::ReadOptions::default();
/// options.snapshot = Some(snapshot);
/// assert_eq!(db.get_with("key", &options)?.as_deref(), Some(&b"old"[..]));
/// # drop(options);
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Snapshot {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    sequence: SequenceNumber,
    pin: PinGuard,
}

impl Snapshot {
    /// The moment: writes up to this number are seen.
    pub fn sequence(&self) -> SequenceNumber {
        self.inner.sequence
    }

    /// An error if the snapshot was made of another database than the one whose registry this is.
    #[inline]
    pub(crate) fn check_made_by(&self, pins: &PinRegistry) -> crate::error::Result<()> {
        match self.inner.pin.is_of(pins) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidArgument, "the snapshot was made of another database")),
        }
    }

    /// An error once the database was closed with [`CloseMode::Oust`](crate::CloseMode::Oust).
    pub(crate) fn check_ousted(&self) -> crate::error::Result<()> {
        self.inner.pin.check_ousted()
    }

    pub(crate) fn touch(&self) {
        self.inner.pin.touch();
    }
}

/// The snapshots that a job respects, in ascending order; the visible number of the moment is the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrozenSnapshots {
    pub(crate) sequences: Vec<SequenceNumber>,
    /// A snapshot was being made and did not say which: nothing may be dropped.
    pub(crate) keeps_everything: bool,
}

impl PinRegistry {
    /// Makes a snapshot of what is visible now.
    #[inline]
    pub(crate) fn snapshot(
        self: &Arc<Self>,
        visible: &AtomicU64,
        site: &'static Location<'static>,
        label: Option<&'static str>,
    ) -> Snapshot {
        let pin = self.claim(PinSpec {
            kind: PinKind::Snapshot,
            site,
            label,
            family: None,
            sequence: SequenceNumber(PENDING),
            super_version: 0,
        });
        // Pairs with the fence in `freeze`: see the module's text.
        fence(Ordering::SeqCst);
        // Acquire: whoever sees the number sees the entries up to it.
        let sequence = SequenceNumber(visible.load(Ordering::Acquire));
        // Release: a job that sees the number has all that it needs.
        pin.slot().sequence.store(sequence.0, Ordering::Release);
        Snapshot { inner: Arc::new(Inner { sequence, pin }) }
    }

    /// The snapshots that a job starting now must respect.
    pub(crate) fn freeze(&self, visible: &AtomicU64) -> FrozenSnapshots {
        let newest = SequenceNumber(visible.load(Ordering::Acquire));
        // Pairs with the fence in `snapshot`: the number is read before the slots are.
        fence(Ordering::SeqCst);
        let mut frozen = FrozenSnapshots { sequences: vec![newest], keeps_everything: false };
        self.for_each(|_, slot| {
            if !slot.is_snapshot() {
                return;
            }
            let mut sequence = slot.sequence.load(Ordering::Acquire);
            let mut tries = 0;
            while sequence == PENDING && tries < PENDING_TRIES {
                #[cfg(not(loom))]
                std::thread::yield_now();
                #[cfg(loom)]
                loom::thread::yield_now();
                tries += if cfg!(loom) { PENDING_TRIES } else { 1 };
                sequence = slot.sequence.load(Ordering::Acquire);
            }
            match sequence {
                PENDING => frozen.keeps_everything = true,
                known => frozen.sequences.push(SequenceNumber(known)),
            }
        });
        frozen.sequences.sort_unstable();
        frozen.sequences.dedup();
        // A snapshot made after `newest` was read is above it; entries up there are never dropped by this job anyway.
        frozen.sequences.retain(|sequence| *sequence <= newest);
        frozen
    }
}
