//! Iterators over internal keys, and the rule of what may be dropped.
//!
//! Every sorted run (memtable, table, level) is an [`InternalIterator`]; merging and compaction are generic over it,
//! so that no call per key is virtual.

use crate::error::Result;

pub(crate) mod bounds;
pub(crate) mod compaction_iter;
pub(crate) mod filter;
pub(crate) mod lineage;
pub(crate) mod meaning;
pub(crate) mod merging;
pub(crate) mod operands;
#[cfg(test)]
mod range_tests;
pub(crate) mod range_tombstones;
#[cfg(test)]
pub(crate) mod testing;

/// A cursor over internal keys in their order.
///
/// Moving can fail, and an error is never the end: after `Err` the iterator is not valid, and the caller reports the
/// error. `key` and `value` may be called only while `valid()`, and are good until the next move.
pub(crate) trait InternalIterator {
    /// True while on an entry.
    fn valid(&self) -> bool;
    /// To the first entry.
    fn seek_to_first(&mut self) -> Result<()>;
    /// To the last entry.
    fn seek_to_last(&mut self) -> Result<()>;
    /// To the first entry at or after the internal key `target`.
    fn seek(&mut self, target: &[u8]) -> Result<()>;
    /// To the last entry at or before the internal key `target`.
    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()>;
    /// To the next entry; needs `valid()`.
    fn next(&mut self) -> Result<()>;
    /// To the entry before; needs `valid()`.
    fn prev(&mut self) -> Result<()>;
    /// The internal key; at least 8 bytes long.
    fn key(&self) -> &[u8];
    /// The value.
    fn value(&self) -> &[u8];
}

/// Implements [`InternalIterator`] for an enum each of whose variants holds one. An enum, not a trait object: one
/// predictable branch a call, and everything inlines.
macro_rules! internal_iterator_of_variants {
    ([$($generics:tt)*] $kind:ty: $($variant:ident),+) => {
        impl<$($generics)*> $crate::iter::InternalIterator for $kind {
            #[inline]
            fn valid(&self) -> bool {
                match self { $(Self::$variant(run) => run.valid(),)+ }
            }

            fn seek_to_first(&mut self) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.seek_to_first(),)+ }
            }

            fn seek_to_last(&mut self) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.seek_to_last(),)+ }
            }

            fn seek(&mut self, target: &[u8]) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.seek(target),)+ }
            }

            fn seek_for_prev(&mut self, target: &[u8]) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.seek_for_prev(target),)+ }
            }

            #[inline(always)]
            fn next(&mut self) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.next(),)+ }
            }

            #[inline]
            fn prev(&mut self) -> $crate::error::Result<()> {
                match self { $(Self::$variant(run) => run.prev(),)+ }
            }

            #[inline]
            fn key(&self) -> &[u8] {
                match self { $(Self::$variant(run) => run.key(),)+ }
            }

            #[inline]
            fn value(&self) -> &[u8] {
                match self { $(Self::$variant(run) => run.value(),)+ }
            }
        }
    };
}
pub(crate) use internal_iterator_of_variants;
