//! Which files are live: version edits today; MANIFEST, versions and the table cache build on them.

pub(crate) mod edit;
