//! Reads: which view, as of when, held by which pin.
//!
//! Flow: the public handles -> **here** -> `superversion` (the view), `read::view` (in which order view and number are taken) ->
//! `read::get`, `read::multi_get`, `read::resolve`, or a `View` that an iterator owns.
//!
//! Invariants: a `get` owns nothing and is listed nowhere; an iterator has its pin before it has its view, so that nobody holds a
//! view without being listed. Threads: any, with no lock.

use std::ops::Deref;
use std::panic::Location;

use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::entity::Columns;
use crate::format::key::SequenceNumber;
use crate::format::prefix::PrefixExtractor;
use crate::read::ReadOptions;
use crate::read::get::{Layers, get};
use crate::read::multi_get::multi_get;
use crate::read::resolve;
use crate::read::slice::Slice;
use crate::read::view::{Hold, View, for_get, settled, table_options, visible_sequence};
use crate::superversion::{HeldView, PinGuard, PinKind, PinSpec, Snapshot, SuperVersion};
use crate::sync::Arc;
use crate::sync::atomic::AtomicBool;
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

/// The view of a read that owns nothing.
enum MomentView<V> {
    Current(V),
    /// The snapshot's own.
    Held(Arc<SuperVersion>),
}

impl<V: Deref<Target = Arc<SuperVersion>>> Deref for MomentView<V> {
    type Target = Arc<SuperVersion>;

    #[inline]
    fn deref(&self) -> &Arc<SuperVersion> {
        match self {
            MomentView::Current(view) => view,
            MomentView::Held(view) => view,
        }
    }
}

fn layers(view: &SuperVersion) -> Layers<'_> {
    Layers {
        memtable: &view.memtable,
        immutables: &view.immutables,
        version: &view.version,
        merge: view.config.merge.as_deref(),
    }
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

    pub(super) fn entity(&self, family: &Family, key: &[u8], options: &ReadOptions) -> Result<Option<Columns>> {
        self.check_open()?;
        let (view, sequence) = self.moment(family, options)?;
        resolve::entity(layers(&view), &self.tables, key, sequence, &table_options(options))
    }

    pub(super) fn merge_operands(&self, family: &Family, key: &[u8], options: &ReadOptions) -> Result<Vec<Vec<u8>>> {
        self.check_open()?;
        let (view, sequence) = self.moment(family, options)?;
        resolve::operands(layers(&view), &self.tables, key, sequence, &table_options(options))
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

    pub(super) fn snapshot(&self, site: &'static Location<'static>) -> Snapshot {
        self.pins.snapshot(&self.visible, site, None, || self.held_views(site))
    }

    /// The current views of all families, for a snapshot that is made while files are dropped. The slots come before the
    /// views, so that nobody holds a view without being listed.
    #[cold]
    fn held_views(&self, site: &'static Location<'static>) -> Vec<HeldView> {
        let hold = |family: Arc<Family>| {
            let pin = self.pins.claim(PinSpec {
                kind: PinKind::Iterator,
                site,
                label: Some("a snapshot made while files were dropped"),
                family: Some(family.state.id()),
                sequence: SequenceNumber::ZERO,
                super_version: 0,
            });
            let view = family.state.load_full();
            pin.set_view(view.number, visible_sequence(&self.visible));
            HeldView { view, _pin: pin }
        };
        if self.check_process().is_err() {
            // A copy of a drop in another process. No lock may be taken here, and nothing is dropped.
            return Vec::new();
        }
        self.resources.families.all().into_iter().map(hold).collect()
    }

    /// The view and the number of a read that owns nothing.
    fn moment(
        &self,
        family: &Family,
        options: &ReadOptions,
    ) -> Result<(MomentView<impl Deref<Target = Arc<SuperVersion>> + use<>>, SequenceNumber)> {
        match &options.snapshot {
            None => {
                let (view, sequence) = for_get(|| family.state.load(), || visible_sequence(&self.visible));
                Ok((MomentView::Current(view), sequence))
            }
            Some(snapshot) => {
                snapshot.check_made_by(&self.pins)?;
                snapshot.check_ousted()?;
                snapshot.touch();
                let view = match snapshot.held_view(family.state.id()) {
                    Some(held) => MomentView::Held(Arc::clone(held)),
                    None => MomentView::Current(family.state.load()),
                };
                Ok((view, snapshot.sequence()))
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
        self.check_open_pinned()?;
        let (view, sequence) = match &options.snapshot {
            Some(snapshot) => {
                let held = snapshot.held_view(family.state.id()).cloned();
                (held.unwrap_or_else(|| family.state.load_full()), snapshot.sequence())
            }
            None => settled(
                || family.state.load_full(),
                || visible_sequence(&self.visible),
                |view| family.state.is_current(view),
            ),
        };
        pin.set_view(view.number, sequence);
        let runs = (Arc::clone(&view.memtable), view.immutables.clone(), Arc::clone(&view.version));
        let merge = view.config.merge.clone();
        let prefixes = match options.prefix_same_as_start && !options.total_order_seek {
            false => None,
            true => prefixes_of(family)?,
        };
        let hold = IteratorHold { _view: view, snapshot: options.snapshot.clone(), pin };
        Ok(View::new(
            runs,
            (merge, prefixes),
            sequence,
            Arc::clone(&self.tables),
            options,
            Arc::clone(&self.statistics),
            Box::new(hold),
        ))
    }
}

/// What cuts the prefixes that a cursor stays among.
#[cold]
fn prefixes_of(family: &Family) -> Result<Option<PrefixExtractor>> {
    let prefixes = family.options().prefix_extractor;
    match &family.state.config.order {
        KeyOrder::Custom(comparator) if prefixes.is_some() => {
            let name = comparator.name();
            let words =
                format!("prefix_same_as_start under the comparator {name:?}: which keys have a prefix is not known");
            Err(Error::new(ErrorKind::NotSupported, words))
        }
        _ => Ok(prefixes),
    }
}
