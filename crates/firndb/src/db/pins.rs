//! Who holds what: every pin with its line of code, its age, and the bytes that it alone keeps.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::{FileNumber, SequenceNumber};
use crate::superversion::{Pin, PinKind, PinReport, SuperVersion, attribute};
use crate::sync::Arc;

use super::Db;
use super::core::Core;

impl Db {
    /// Every open iterator, snapshot and job, oldest first, with the line of code that made it and what it keeps.
    ///
    /// Costs time in the number of pins and files; nobody else waits for it.
    pub fn pins(&self) -> Vec<PinReport> {
        self.core().pin_reports()
    }

    /// Checks that no iterator and no snapshot is open: for the end of a test.
    ///
    /// # Errors
    /// `Busy`, naming every holder and the line of code that made it.
    pub fn assert_no_pins(&self) -> Result<()> {
        self.core().check_no_pins()
    }

    /// Ends one reader: its next step fails with `PinEvicted`, and the files that it keeps may go once it is dropped. `id`
    /// is the one in [`PinReport`]. False if it is gone already, or is a job.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-oust-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// let mut forgotten = db.iter()?;
    /// let pins = db.pins();
    /// println!("{}", pins[0]); // with the line of code that made it
    /// assert!(db.oust(pins[0].id));
    /// assert!(forgotten.next().expect("an error").is_err());
    /// # drop(forgotten);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn oust(&self, id: u64) -> bool {
        self.core().pins.oust(id)
    }

    /// The pins that keep a file which no current version needs.
    pub fn why_alive(&self, file: FileNumber) -> Vec<PinReport> {
        let mut pins = self.pins();
        pins.retain(|pin| pin.files.contains(&file));
        pins
    }
}

impl Core {
    pub(super) fn pin_reports(&self) -> Vec<PinReport> {
        self.pins.tick(self.clock.monotonic_micros() / 1000);
        let current: Vec<Arc<SuperVersion>> = self.all_families().iter().map(|f| f.state.load_full()).collect();
        let replaced = self.janitor.graveyard.held();
        let view_of = |pin: &Pin| {
            let is_it =
                |view: &&Arc<SuperVersion>| Some(view.config.id) == pin.family && view.number == pin.super_version;
            current.iter().chain(&replaced).find(is_it).cloned()
        };
        let pins = self.pins.pins();
        let views: Vec<_> = pins.iter().map(view_of).collect();
        let held = attribute(&views, &current);
        let now = self.clock.monotonic_micros() / 1000;
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        pins.into_iter()
            .zip(held)
            .map(|(pin, held)| PinReport {
                id: pin.id,
                kind: pin.kind,
                site: pin.site,
                label: pin.label,
                thread: pin.thread,
                age: since(pin.created_ms),
                idle: since(pin.touched_ms),
                family: pin.family,
                sequence: SequenceNumber(pin.sequence),
                exclusive_bytes: held.disk.exclusive,
                shared_bytes: held.disk.shared,
                exclusive_memtable_bytes: held.memory.exclusive,
                shared_memtable_bytes: held.memory.shared,
                files: held.files,
            })
            .collect()
    }

    pub(super) fn check_no_pins(&self) -> Result<()> {
        let readers: Vec<_> = self.pin_reports().into_iter().filter(|pin| pin.kind != PinKind::Job).collect();
        if readers.is_empty() {
            return Ok(());
        }
        let list: Vec<String> = readers.iter().map(ToString::to_string).collect();
        Err(Error::new(ErrorKind::Busy, format!("{} readers are open: {}", readers.len(), list.join("; "))))
    }

    /// Iterators and snapshots that are open.
    pub(super) fn reader_count(&self) -> usize {
        self.pins.pins().iter().filter(|pin| pin.kind != PinKind::Job).count()
    }
}
