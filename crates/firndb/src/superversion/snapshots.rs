//! Snapshots: sequence numbers that compactions must respect.
//!
//! Making one takes no lock: a slot is claimed as pending, then the visible sequence number is read, then stored. A job
//! that freezes its list reads the visible number first, then looks at the slots. With a full fence in each between its
//! two steps, either the job sees the slot, or the snapshot is not older than what the job read, which joins the list.
//!
//! A job that drops whole files, with what snapshots may see in them, announces that first, and looks at the slots then. In
//! the same way, either it sees the slot, and does not drop what the snapshot sees, or the snapshot sees the announcement:
//! then it holds the views that are current while it is made, and reads through those.

use std::panic::Location;

use crate::error::{Error, ErrorKind};
use crate::format::key::{ColumnFamilyId, SequenceNumber};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering, fence};

use super::pins::{PENDING, PinGuard, PinKind, PinRegistry, PinSpec};
use super::view::SuperVersion;

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
    /// Nearly always none, and then it costs the drop of a snapshot one look.
    held: Option<Box<[HeldView]>>,
    pin: PinGuard,
}

/// A view that a snapshot reads through. The pin is last: it is given back after what it accounts for.
#[derive(Debug)]
pub(crate) struct HeldView {
    pub(crate) view: Arc<SuperVersion>,
    pub(crate) _pin: PinGuard,
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

    /// The view of a family that the snapshot is read through, if the current one will not do.
    #[inline]
    pub(crate) fn held_view(&self, family: ColumnFamilyId) -> Option<&Arc<SuperVersion>> {
        let held = self.inner.held.as_ref()?;
        held.iter().map(|held| &held.view).find(|view| view.config.id == family)
    }
}

/// The snapshots that a job respects, in ascending order; the visible number of the moment is the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FrozenSnapshots {
    pub(crate) sequences: Vec<SequenceNumber>,
    /// The newest snapshot that there was, if any: it may be above the visible number.
    pub(crate) newest_snapshot: Option<SequenceNumber>,
    /// A snapshot was being made and did not say which: nothing may be dropped.
    pub(crate) keeps_everything: bool,
}

/// The snapshots of a moment, as far as pickers ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveSnapshots {
    /// Entries up to this number are seen alike by all snapshots that live, and by those to come; 0 while it is not known,
    /// because one is being made.
    pub(crate) oldest: SequenceNumber,
    /// `None` if there is none; as large as can be while one is being made.
    pub(crate) newest: Option<SequenceNumber>,
}

/// A job is about to drop files.
#[derive(Debug)]
pub(crate) struct AnnouncedDrop(Arc<PinRegistry>);

impl Drop for AnnouncedDrop {
    fn drop(&mut self) {
        // Release: a snapshot that finds no announcement any more finds the view without the files.
        self.0.drops.fetch_sub(1, Ordering::Release);
    }
}

impl PinRegistry {
    /// Makes a snapshot of what is visible now. `views` are the current ones of all families; they are asked for only while
    /// files are dropped.
    #[inline]
    pub(crate) fn snapshot(
        &self,
        visible: &AtomicU64,
        site: &'static Location<'static>,
        label: Option<&'static str>,
        views: impl FnOnce() -> Vec<HeldView>,
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
        // The fence above pairs with the one in `announce_drop`; Acquire with the Release of its end. Whoever misses the announcement is seen by the job.
        let held = (self.drops.load(Ordering::Acquire) > 0).then(|| views().into_boxed_slice());
        Snapshot { inner: Arc::new(Inner { sequence, held, pin }) }
    }

    /// Says that files are about to be dropped, until the answer is dropped. Look at the snapshots after that: those that
    /// are not seen then hold the views that they were made with.
    pub(crate) fn announce_drop(self: &Arc<Self>) -> AnnouncedDrop {
        self.drops.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `snapshot`: the announcement is made before the slots are looked at.
        fence(Ordering::SeqCst);
        AnnouncedDrop(Arc::clone(self))
    }

    /// As [`LiveSnapshots::oldest`].
    pub(crate) fn oldest(&self, visible: &AtomicU64) -> SequenceNumber {
        self.snapshots(visible).oldest
    }

    /// The snapshots that live now.
    pub(crate) fn snapshots(&self, visible: &AtomicU64) -> LiveSnapshots {
        let mut oldest = visible.load(Ordering::Acquire);
        let mut newest = None;
        // As in `freeze`.
        fence(Ordering::SeqCst);
        self.for_each(|_, slot| {
            if slot.is_snapshot() {
                let sequence = slot.sequence.load(Ordering::Acquire);
                oldest = oldest.min(if sequence == PENDING { 0 } else { sequence });
                newest = newest.max(Some(sequence));
            }
        });
        LiveSnapshots { oldest: SequenceNumber(oldest), newest: newest.map(SequenceNumber) }
    }

    /// The snapshots that a job starting now must respect.
    pub(crate) fn freeze(&self, visible: &AtomicU64) -> FrozenSnapshots {
        let newest = SequenceNumber(visible.load(Ordering::Acquire));
        // Pairs with the fence in `snapshot`: the number is read before the slots are.
        fence(Ordering::SeqCst);
        let mut frozen = FrozenSnapshots { sequences: vec![newest], newest_snapshot: None, keeps_everything: false };
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
                known => {
                    frozen.newest_snapshot = frozen.newest_snapshot.max(Some(SequenceNumber(known)));
                    frozen.sequences.push(SequenceNumber(known));
                }
            }
        });
        frozen.sequences.sort_unstable();
        frozen.sequences.dedup();
        // A snapshot made after `newest` was read is above it; entries up there are never dropped by this job anyway.
        frozen.sequences.retain(|sequence| *sequence <= newest);
        frozen
    }
}
