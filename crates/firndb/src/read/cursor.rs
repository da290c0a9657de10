//! The user's cursor: every visible entry of one column family, in both directions, on a view that never moves.
//!
//! Flow: `db` -> [`super::view`] -> **[`Cursor`]** -> [`super::visible`] -> the merged runs. The cursor owns its view: the
//! SuperVersion, the sequence number and the pin in the registry. Dropping it gives up references and marks the pin; the
//! janitor does the rest.

use crate::error::Result;
use crate::iter::bounds::Bounds;

use super::source::Source;
use super::view::View;
use super::visible::VisibleIter;

/// A position among the entries of a column family, for those who count nanoseconds.
///
/// A cursor shows the family as it was when the cursor was made (or as of the snapshot in its
/// [`ReadOptions`](crate::ReadOptions)), whatever is written, flushed, compacted or dropped meanwhile. It owns what it
/// needs: it may be moved to another thread and may outlive the handle that made it. While it lives it keeps the files and
/// memtables of its view, and is listed among the pins.
///
/// A new cursor stands nowhere. Every move returns whether it now stands on an entry; stepping off an end leaves it
/// nowhere, and the next seek brings it back. [`Cursor::key`] and [`Cursor::value`] borrow from it until the next move
/// and copy nothing; [`Cursor::value_slice`] pins the value for longer.
///
/// # Errors
/// Moves fail with [`ErrorKind::Corruption`](crate::ErrorKind::Corruption) or [`ErrorKind::Io`](crate::ErrorKind::Io) if
/// a block cannot be read, [`ErrorKind::NotSupported`](crate::ErrorKind::NotSupported) on an entry of a kind that this
/// version cannot resolve, and [`ErrorKind::PinEvicted`](crate::ErrorKind::PinEvicted) after the cursor was ousted. An
/// error is final: the cursor stands nowhere, and every later move returns the same error, so that it cannot be taken
/// for the end.
///
/// ```
/// # fn all(mut cursor: firndb::Cursor) -> firndb::Result<()> {
/// let mut valid = cursor.seek(b"user:")?;
/// while valid {
///     println!("{:?} = {:?}", cursor.key(), cursor.value());
///     valid = cursor.next()?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Cursor {
    entries: VisibleIter<Source>,
    /// All entries have this prefix.
    prefix: Option<Vec<u8>>,
    // Last, so that the pin outlives what it accounts for.
    view: View,
}

impl Cursor {
    /// A cursor over the view, standing nowhere.
    pub(crate) fn new(view: View) -> Result<Cursor> {
        let entries = view.entries(view.bounds().clone())?;
        Ok(Cursor { entries, prefix: None, view })
    }

    fn over(&self, bounds: Bounds) -> Result<VisibleIter<Source>> {
        self.view.entries(bounds)
    }
}

/// The moves of a public cursor, which has `entries`, a `prefix` that they are confined to, a `view`, and a method `over`
/// that makes entries within other bounds.
macro_rules! cursor_moves {
    ($name:ident) => {
        impl $name {
            /// True while on an entry.
            #[inline]
            pub fn valid(&self) -> bool {
                self.entries.valid()
            }

            /// The error that ended the cursor, if one did.
            pub fn status(&self) -> $crate::error::Result<()> {
                self.entries.status()
            }

            /// The key, until the next move.
            ///
            /// # Panics
            /// Unless [`valid`](Self::valid).
            #[inline]
            pub fn key(&self) -> &[u8] {
                self.entries.key()
            }

            /// The value, until the next move.
            ///
            /// # Panics
            /// Unless [`valid`](Self::valid).
            #[inline]
            pub fn value(&self) -> &[u8] {
                self.entries.value()
            }

            /// The key for as long as you like: a copy, since keys are stored without what they share with their neighbours.
            ///
            /// # Panics
            /// Unless [`valid`](Self::valid).
            pub fn key_slice(&self) -> $crate::read::Slice {
                $crate::read::Slice::copied(self.entries.key())
            }

            /// The value for as long as you like: pinned where it is, or copied if it is very short.
            ///
            /// # Panics
            /// Unless [`valid`](Self::valid).
            pub fn value_slice(&self) -> $crate::read::Slice {
                self.entries.value_slice()
            }

            /// The columns of the entry: those of an entity, or the default column alone. [`value`](Self::value) is the value of
            /// the default column, empty if there is none.
            ///
            /// # Errors
            /// `Corruption` if the entity is damaged; `NotSupported` if it is of a newer form.
            ///
            /// # Panics
            /// Unless [`valid`](Self::valid).
            pub fn columns(&self) -> $crate::error::Result<$crate::format::entity::Columns> {
                self.entries.columns()
            }

            /// To the first entry.
            pub fn seek_to_first(&mut self) -> $crate::error::Result<bool> {
                self.view.seeks += 1;
                if self.view.prefixes().is_some() {
                    return self.seek_to_end_of_prefix(true);
                }
                self.entries.seek_to_first(&self.view)
            }

            /// To the last entry.
            pub fn seek_to_last(&mut self) -> $crate::error::Result<bool> {
                self.view.seeks += 1;
                if self.view.prefixes().is_some() {
                    return self.seek_to_end_of_prefix(false);
                }
                self.entries.seek_to_last(&self.view)
            }

            /// To the first entry with a key at or after `key`.
            pub fn seek(&mut self, key: impl AsRef<[u8]>) -> $crate::error::Result<bool> {
                self.view.seeks += 1;
                if self.view.prefixes().is_some() {
                    self.confine_to(Some(key.as_ref()))?;
                }
                self.entries.seek(key.as_ref(), &self.view)
            }

            /// To the last entry with a key at or before `key`.
            pub fn seek_for_prev(&mut self, key: impl AsRef<[u8]>) -> $crate::error::Result<bool> {
                self.view.seeks += 1;
                if self.view.prefixes().is_some() {
                    self.confine_to(Some(key.as_ref()))?;
                }
                self.entries.seek_for_prev(key.as_ref(), &self.view)
            }

            /// To the next entry; from nowhere to nowhere.
            #[inline]
            #[expect(clippy::should_implement_trait, reason = "a cursor lends its entries: `Iter` is the `Iterator`")]
            pub fn next(&mut self) -> $crate::error::Result<bool> {
                self.view.steps_forward += 1;
                if self.view.is_ousting() {
                    self.entries.check(&self.view)?;
                }
                self.entries.next(&self.view)
            }

            /// To the entry before; from nowhere to nowhere.
            #[inline]
            pub fn prev(&mut self) -> $crate::error::Result<bool> {
                self.view.steps_back += 1;
                if self.view.is_ousting() {
                    self.entries.check(&self.view)?;
                }
                self.entries.prev(&self.view)
            }

            /// Makes the entries those that have the prefix of `key`, or all of them if it has none.
            #[cold]
            fn confine_to(&mut self, key: Option<&[u8]>) -> $crate::error::Result<()> {
                self.entries.status()?;
                let Some(prefixes) = self.view.prefixes() else { return Ok(()) };
                let prefix = key.and_then(|key| prefixes.prefix(key));
                if prefix == self.prefix.as_deref() {
                    return Ok(());
                }
                let (order, bounds) = (self.view.order(), self.view.bounds());
                let within = match prefix {
                    Some(prefix) => {
                        $crate::iter::bounds::Bounds::of_prefix(order, prefixes, prefix).within(order, bounds)
                    }
                    None => bounds.clone(),
                };
                self.entries = self.over(within).map_err(|error| self.entries.latch(error))?;
                self.prefix = prefix.map(<[u8]>::to_vec);
                Ok(())
            }

            /// To the first or last entry of all, and from then on among those with its prefix.
            #[cold]
            fn seek_to_end_of_prefix(&mut self, is_first: bool) -> $crate::error::Result<bool> {
                self.confine_to(None)?;
                let is_on_entry = match is_first {
                    true => self.entries.seek_to_first(&self.view)?,
                    false => self.entries.seek_to_last(&self.view)?,
                };
                if !is_on_entry {
                    return Ok(false);
                }
                let key = self.entries.key().to_vec();
                self.confine_to(Some(&key))?;
                match is_first {
                    true => self.entries.seek(&key, &self.view),
                    false => self.entries.seek_for_prev(&key, &self.view),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut out = f.debug_struct(stringify!($name));
                match self.valid() {
                    true => out.field("key", &format_args!("b\"{}\"", self.key().escape_ascii())),
                    false => out.field("status", &self.status()),
                };
                out.finish_non_exhaustive()
            }
        }
    };
}
pub(crate) use cursor_moves;

cursor_moves!(Cursor);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_may_be_sent_and_borrow_nothing() {
        fn check<T: Send + 'static>() {}
        check::<Cursor>();
    }
}
