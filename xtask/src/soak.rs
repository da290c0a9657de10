//! The random tests, round after round with new seeds: `cargo xtask soak MINUTES`. Stops at the first failure, whose seed
//! it says. The server runs one short round of each as ordinary tests.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Outcome, oracles};

/// A test program, the variable and the value that make it longer, and whether it needs a real RocksDB.
const ROUNDS: [(&str, &str, &str, bool); 5] = [
    ("model", "FIRN_OPS", "15000", false),
    ("crash", "FIRN_CRASH_ROUNDS", "3", false),
    ("scenarios", "FIRN_SECONDS", "30", false),
    ("liveness", "FIRN_SECONDS", "30", false),
    ("oracle_interop", "FIRN_OPS", "1000", true),
];

/// Runs rounds until `minutes` are over.
pub(crate) fn run(root: &Path, minutes: Option<String>) -> Outcome {
    let minutes: u64 = minutes.and_then(|text| text.parse().ok()).ok_or("usage: cargo xtask soak MINUTES")?;
    let python = oracles::install(root)?;
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let mut seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let mut rounds = 0;
    while Instant::now() < end || rounds == 0 {
        for (test, variable, value, needs_rocksdb) in ROUNDS {
            if needs_rocksdb && python.is_none() {
                continue;
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut command = Command::new(cargo);
            command.current_dir(root).args(["test", "--quiet", "-p", "firndb", "--test", test]);
            if needs_rocksdb {
                command.args(["--", "--ignored", "oracle"]);
            }
            command.env(variable, value).env("FIRN_SEED", seed.to_string());
            command.envs(python.iter().map(|python| ("FIRNDB_PYTHON", python)));
            let start = Instant::now();
            let status = command.status().map_err(|e| format!("cargo: {e}"))?;
            if !status.success() {
                return Err(format!("soak: `{test}` failed; FIRN_SEED={seed} {variable}={value} repeats it"));
            }
            println!("soak: {test}, seed {seed}: passed in {} s", start.elapsed().as_secs());
        }
        rounds += 1;
        seed += 1;
    }
    println!("soak: {rounds} rounds passed");
    Ok(())
}
