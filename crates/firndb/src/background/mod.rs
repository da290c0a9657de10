//! Who runs flushes and compactions: a pool of threads, or a test, one job at a time; and what stops writes.

pub(crate) mod error_state;
pub(crate) mod scheduler;
