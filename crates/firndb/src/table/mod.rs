//! One table file (SST): blocks, index, filter, properties; written, read, verified. Knows no levels.

pub(crate) mod block;
mod block_builder;
pub(crate) mod builder;
pub(crate) mod filter;
mod index;
mod iter;
mod layout;
pub(crate) mod properties;
pub(crate) mod reader;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use iter::TableIter;
