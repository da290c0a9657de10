//! One SST: filters today; blocks, index, builder and reader build on them.

pub(crate) mod filter;
