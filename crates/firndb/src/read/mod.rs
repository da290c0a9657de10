//! Reads over one SuperVersion: point lookups, many at once, the user's cursor and iterator.
//!
//! Flow: `db` -> [`view`] (which SuperVersion, as of which sequence number) -> **`read`** -> memtables, tables.
//! [`get`] and [`multi_get`] look keys up from the newest run to the oldest, and [`resolve`] does where there are range
//! tombstones or operands; [`cursor`] merges all runs and shows what is visible, less what [`gaps`] hides; [`iter`] is the cursor as a pair
//! of Rust iterators. Results are [`Slice`]s: pinned, not copied.
//!
//! Invariants
//! 1. A read sees exactly the entries with a sequence number up to its own, in the SuperVersion that it took.
//! 2. An error is never the end and never an absence: it is returned, and returned again by every later move.
//! 3. What cannot be resolved (blobs, operands without their operator) is refused by name, never guessed or skipped.
//! 4. Reads take no lock, and drop nothing but references and their pin.
//!
//! Threads: everything here is `Send`; a cursor or iterator is used by one thread at a time.

pub(crate) mod cursor;
#[cfg(test)]
mod fixture;
mod gaps;
pub(crate) mod get;
pub(crate) mod iter;
pub(crate) mod multi_get;
pub(crate) mod options;
pub(crate) mod resolve;
pub(crate) mod slice;
pub(crate) mod source;
#[cfg(test)]
mod tests;
pub(crate) mod view;
pub(crate) mod visible;

pub use cursor::Cursor;
pub use iter::Iter;
pub use options::ReadOptions;
pub use slice::Slice;
