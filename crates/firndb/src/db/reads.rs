//! Reads: which view, as of when, held by which pin.

use std::panic::Location;

use crate::error::{Error, Result};
use crate::format::key::SequenceNumber;
use crate::read::ReadOptions;
use crate::read::get::{Layers, get};
use crate::read::multi_get::multi_get;
use crate::read::slice::Slice;
use crate::read::view::{Hold, View, for_get, settled, table_options, visible_sequence};
use crate::superversion::{PinGuard, PinKind, PinSpec, Snapshot, SuperVersion};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering, fence};
use crate::table::reader::TableReadOptions;

use super::core::{Core, Family};

/// What an iterator keeps beside its runs. The pin is last: it is given back after what it accounts for.
struct IteratorHold {
    _view: Arc<SuperVersion>,
    snapshot: Option<Snapshot>,
    pin: PinGuard,
}

impl Hold for IteratorHold {
    fn pulse(&self) -> Result<()> {
        self.pin.touch();
        if let Some(snapshot) = &self.snapshot {
            snapshot.touch();
            snapshot.check_ousted()?;
        }
        self.pin.check_ousted()
    }

    fn ousting(&self) -> Arc<AtomicBool> {
        self.pin.ousting()
    }
}

fn layers(view: &SuperVersion) -> Layers<'_> {
    Layers { memtable: &view.memtable, immutables: &view.immutables, version: &view.version }
}

impl Core {
    #[inline]
    pub(super) fn get(&self, family: &Family, key: &[u8]) -> Result<Option<Slice>> {
        self.check_open()?;
        let (view, sequence) = for_get(|| family.state.load(), || visible_sequence(&self.visible));
        let options =
            TableReadOptions { verify_checksums: self.options.verify_checksums, ..TableReadOptions::default() };
        get(layers(&view), &self.tables, key, sequence, &options, &self.statistics)
    }

    pub(super) fn get_with(&self, family: &Family, key: &[u8], options: &ReadOptions) -> Result<Option<Slice>> {
        self.check_open()?;
        let (view, sequence) = self.moment(family, options)?;
        get(layers(&view), &self.tables, key, sequence, &table_options(options), &self.statistics)
    }

    pub(super) fn multi_get<K: AsRef<[u8]>>(
        &self,
        family: &Family,
        keys: &[K],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Slice>>> {
        let moment = self.check_open().and_then(|()| self.moment(family, options));
        match moment {
            Ok((view, sequence)) => {
                multi_get(layers(&view), &self.tables, keys, sequence, &table_options(options), &self.statistics)
            }
            Err(error) => keys.iter().map(|_| Err::<Option<Slice>, Error>(error.clone())).collect(),
        }
    }

    /// The view and the number of a read that owns nothing.
    fn moment(
        &self,
        family: &Family,
        options: &ReadOptions,
    ) -> Result<(impl std::ops::Deref<Target = Arc<SuperVersion>> + use<>, SequenceNumber)> {
        match &options.snapshot {
            None => Ok(for_get(|| family.state.load(), || visible_sequence(&self.visible))),
            Some(snapshot) => {
                snapshot.check_made_by(&self.pins)?;
                snapshot.check_ousted()?;
                snapshot.touch();
                Ok((family.state.load(), snapshot.sequence()))
            }
        }
    }

    /// The view of an iterator, pinned in the name of the caller's caller.
    #[track_caller]
    pub(super) fn view(&self, family: &Family, options: &ReadOptions) -> Result<View> {
        let site = Location::caller();
        if let Some(snapshot) = &options.snapshot {
            snapshot.check_made_by(&self.pins)?;
            snapshot.check_ousted()?;
        }
        // The slot comes before the view, so that nobody holds a view without being listed.
        let pin = self.pins.claim(PinSpec {
            kind: PinKind::Iterator,
            site,
            label: options.label,
            family: Some(family.state.id()),
            sequence: SequenceNumber::ZERO,
            super_version: 0,
        });
        // Pairs with the fence in `shut_down`: see there. A reader that missed the mark is waited for.
        fence(Ordering::SeqCst);
        self.check_open()?;
        let (view, sequence) = match &options.snapshot {
            Some(snapshot) => (family.state.load_full(), snapshot.sequence()),
            None => settled(
                || family.state.load_full(),
                || visible_sequence(&self.visible),
                |view| family.state.is_current(view),
            ),
        };
        pin.set_view(view.number, sequence);
        let runs = (Arc::clone(&view.memtable), view.immutables.clone(), Arc::clone(&view.version));
        let hold = IteratorHold { _view: view, snapshot: options.snapshot.clone(), pin };
        Ok(View::new(runs, sequence, Arc::clone(&self.tables), options, Arc::clone(&self.statistics), Box::new(hold)))
    }
}
