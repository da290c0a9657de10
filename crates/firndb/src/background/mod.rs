//! Background work: who runs it, what is run, what stops writes and lets them go on.
//!
//! Flow: [`scheduler`] (a queue of jobs, emptied by a pool of threads, or by a test step by step) runs what [`flusher`]
//! and [`compactor`] submit; [`failures`] notes what failed and stops writes; [`retry`] tries again. [`resources`] is what
//! all of them share, and knows who [holds](holders) what; [`family`] is a column family as they see it.
//!
//! Each owner has its own lock. None of them knows a `Db`: `db` wires them together and calls them.

pub(crate) mod compactor;
pub(crate) mod failures;
pub(crate) mod family;
pub(crate) mod flusher;
mod holders;
pub(crate) mod resources;
pub(crate) mod retry;
pub(crate) mod scheduler;
