//! Compaction: picking what to merge, and merging it.
//!
//! [`picker`] is pure: from a version, the limits and the claims of running jobs to a [`picker::Compaction`]. [`claims`]
//! keeps jobs of one family apart. [`styles`] is what users say of the styles, [`request`] what they say of a compaction by hand. [`job`] runs one: tables in, tables out, one edit. None of them knows a database; a
//! thread pool or a test drives them.

mod blobs;
pub(crate) mod claims;
pub(crate) mod job;
pub(crate) mod picker;
pub(crate) mod range;
pub(crate) mod request;
pub(crate) mod styles;
