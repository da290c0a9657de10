//! One table file (SST): blocks, index, filter, properties; written, read, verified. Knows no levels.

pub(crate) mod block;
mod block_builder;
mod block_writer;
pub(crate) mod builder;
pub(crate) mod filter;
mod filters;
mod index;
mod index_builder;
mod iter;
mod layout;
mod parts;
pub(crate) mod properties;
mod range_block;
mod read_ahead;
pub(crate) mod reader;
mod reader_options;
mod separated;
mod source;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use layout::stored_bytes;

pub(crate) use iter::TableIter;
