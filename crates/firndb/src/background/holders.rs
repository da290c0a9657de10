//! Who holds what at this moment: the pins beside the views that they keep, current ones and replaced ones.
//!
//! Flow: `Db::pins`, `Db::stats`, `Db::close` -> **[`Resources::pin_reports`]** -> pins, families, graveyard ->
//! `superversion::attribution`.
//!
//! Threads: any. No lock is held over the whole, so that what comes or goes meanwhile may be missing.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::SequenceNumber;
use crate::superversion::{Pin, PinKind, PinReport, Pinned, SuperVersion, attribute};
use crate::sync::Arc;

use super::resources::Resources;

/// An error names so many readers, the oldest first.
const NAMED_MAX: usize = 5;

impl Resources {
    /// Every pin, with what it alone keeps and what it keeps with others.
    pub(crate) fn pin_reports(&self) -> Vec<PinReport> {
        self.pins.tick(self.clock.monotonic_micros() / 1000);
        let current: Vec<Arc<SuperVersion>> = self.families.all().iter().map(|f| f.state.load_full()).collect();
        let replaced = self.janitor.graveyard.held();
        let known = current.iter().chain(&replaced).map(|view| ((view.config.id, view.number), view));
        let known: HashMap<_, _> = known.collect();
        let holds = self.versions.holds();
        let pinned_by = |pin: &Pin| {
            if pin.kind == PinKind::LiveFiles {
                let hold = holds.iter().find(|hold| hold.id == pin.super_version);
                return hold.map_or(Pinned::Nothing, |hold| Pinned::Files(Arc::clone(hold)));
            }
            let view = pin.family.and_then(|family| known.get(&(family, pin.super_version)));
            view.map_or(Pinned::Nothing, |view| Pinned::View(Arc::clone(view)))
        };
        let pins = self.pins.pins();
        let pinned: Vec<_> = pins.iter().map(pinned_by).collect();
        let held = attribute(&pinned, &current, &self.janitor.waiting_files());
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

    /// # Errors
    /// `Busy`, naming the oldest, if an iterator, a snapshot or live files are open.
    pub(crate) fn check_no_readers(&self) -> Result<()> {
        let readers = self.pins.readers();
        let count = readers.len();
        if count == 0 {
            return Ok(());
        }
        let list: Vec<String> = if count <= NAMED_MAX {
            self.pin_reports().iter().filter(|pin| pin.kind != PinKind::Job).map(ToString::to_string).collect()
        } else {
            // Without the bytes that each keeps: to find them takes time in the number of all.
            let oldest = readers.into_iter().take(NAMED_MAX);
            oldest.map(|pin| format!("{} made at {}:{}", pin.kind, pin.site.file(), pin.site.line())).collect()
        };
        let more = match count.saturating_sub(list.len()) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Err(Error::new(ErrorKind::Busy, format!("{count} readers are open: {}{more}", list.join("; "))))
    }
}
