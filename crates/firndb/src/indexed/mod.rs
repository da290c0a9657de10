//! A batch that can be read before it is written: its operations in order, and over what a database has.
//!
//! Flow: `db` (which family, which view) -> **[`IndexedBatch`]**: a `WriteBatch`, and for each family an [`index`] over its bytes
//! -> [`run`], a sorted run newer than all those of a view -> the walk of `read::visible`, which merges it as any other.
//!
//! Invariants
//! 1. The index has exactly the batch's operations: both change together, and go back to a save point together.
//! 2. An entry of the batch has a number from `SequenceNumber::OWN` on, in the order of the batch: newer than whatever a
//!    database has, and visible to the reader of the batch alone.
//! 3. What a walk was made over never changes: it shares the content, and a change while it lives is made to a copy.
//!
//! Threads: a batch is written by one thread at a time; walks own what they need.
//!
//! Source: RocksDB `utilities/write_batch_with_index`, for what it can do.

pub(crate) mod batch;
pub(crate) mod content;
mod index;
mod run;
mod walks;

pub use batch::{BatchLookup, IndexedBatch};
pub use walks::{IndexedCursor, IndexedIter};
