//! Writes: batches today; the write queue, sequence numbers and stalls build on them.

pub(crate) mod batch;
