//! Compaction: picking what to merge, and merging it.
//!
//! [`picker`] is pure: from a version and the limits to a [`picker::Compaction`]. [`job`] runs one: tables in, tables
//! out, one edit. Neither knows a database; a thread pool or a test drives them.

pub(crate) mod job;
pub(crate) mod picker;
