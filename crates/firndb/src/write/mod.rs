//! Writes: batches, the queue that makes many writers one log append, sequence numbers, stalls.
//!
//! Flow: `db` -> **[`WriteQueue`]** -> `wal` (append, perhaps sync) -> `memtable` -> visible.

pub(crate) mod batch;
mod budget;
mod commit;
mod config;
mod gate;
mod group;
mod line;
mod log_failure;
mod options;
mod queue;
mod stall;
#[cfg(test)]
mod tests;
mod wal_set;

pub(crate) use budget::BudgetMember;
pub use budget::WriteBufferManager;
pub(crate) use commit::apply;
pub(crate) use config::{Severity, WriteConfig};
pub(crate) use gate::WriteGate;
pub use options::{Durability, WriteOptions};
pub(crate) use queue::WriteQueue;
pub(crate) use stall::{StallConfig, StallInputs};
