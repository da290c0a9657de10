//! Liveness: whoever waits, waits for something that comes, and is told the cause if it cannot come.
//!
//! Each test disturbs a database at random for a while: faults of the disk that come and go, panics in a user's code, slow
//! disks, listeners that call back, pools that are shared, budgets that are tiny. When the disturbance ends, the database
//! must serve reads and writes within a bound on its own clock, or refuse with a cause that `health` shows as well;
//! `close` must end; the next open must work and have every acknowledged write.
//!
//! `FIRN_SEED` repeats a run, `FIRN_SECONDS` makes each test as long. A watchdog turns a wait that does not end into a
//! failure that prints the seed, what was done, and where the threads are.

mod calls;
mod faults;
#[expect(dead_code, reason = "shared with the scenarios, which use more of it")]
#[path = "../scenarios/lab.rs"]
mod lab;
mod model;
mod panics;
mod pools;
mod watchdog;
