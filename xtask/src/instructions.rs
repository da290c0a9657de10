//! Instructions per operation, counted by callgrind: `cargo xtask instructions`. The same program and the same input give
//! the same count, however busy the machine is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// What a row counts, and how.
struct Row {
    name: &'static str,
    /// The workload at two lengths; the difference of the counts over that of the lengths is the row's figure.
    workload: &'static str,
    lengths: [u64; 2],
    /// Taken off the figure: what the same entries cost without the work that is meant.
    without: Option<&'static str>,
    /// RocksDB 11.8.1 (flush and compaction: 10.4.2), counted the same way; see docs/performance.md.
    rocksdb: Option<u64>,
}

const fn row(name: &'static str, workload: &'static str, lengths: [u64; 2], rocksdb: u64) -> Row {
    Row { name, workload, lengths, without: None, rocksdb: Some(rocksdb) }
}

const ROWS: [Row; 10] = [
    row("get, one table", "get", [20_000, 60_000], 9_584),
    row("get of a missing key, four tables", "miss", [20_000, 60_000], 7_088),
    row("get, memtable of 20,000", "memtable-get", [10_000, 30_000], 6_192),
    row("next, one table", "next", [50_000, 150_000], 1_208),
    row("next, four tables", "next-four", [50_000, 150_000], 1_977),
    row("seek, one table", "seek", [10_000, 30_000], 10_188),
    row("seek, four tables", "seek-four", [10_000, 30_000], 39_940),
    row("put, random keys, logged", "put", [10_000, 30_000], 11_325),
    row("put, ascending keys, logged", "put-sequential", [10_000, 30_000], 7_541),
    row("compaction, an entry read", "compaction", [0, 200_000], 2_690),
];

const FLUSH: Row = Row { without: Some("put"), ..row("flush, an entry", "flush", [0, 20_000], 1_475) };

/// What RocksDB has not, or does not do.
const OWN: [Row; 2] = [own("snapshot, made and dropped", "snapshot"), own("iterator, opened and dropped", "iterator")];

const fn own(name: &'static str, workload: &'static str) -> Row {
    Row { name, workload, lengths: [10_000, 30_000], without: None, rocksdb: None }
}

/// Counts every row and prints them as a table.
pub(crate) fn run(root: &Path) -> Outcome {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--release", "-p", "firndb", "--example", "instructions", "--locked"];
    let status = Command::new(cargo).current_dir(root).args(build).status().map_err(|e| format!("cargo: {e}"))?;
    if !status.success() {
        return Err("the workloads did not build".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join("release/examples/instructions");
    let dir = std::env::temp_dir().join(format!("firndb-instructions-{}", std::process::id()));
    let outcome = table(&program, &dir);
    // A leftover in the temporary directory harms no one.
    let _ = std::fs::remove_dir_all(&dir);
    outcome
}

fn table(program: &Path, dir: &Path) -> Outcome {
    let prepared = Command::new(program).arg("prepare").arg(dir).status().map_err(|e| format!("prepare: {e}"))?;
    if !prepared.success() {
        return Err("preparing the directories failed".to_owned());
    }
    println!("| operation | FirnDB | RocksDB | ratio |\n|---|---:|---:|---:|");
    for row in ROWS.iter().chain([&FLUSH]).chain(&OWN) {
        let mut figure = per_operation(program, dir, row.workload, row)?;
        if let Some(without) = row.without {
            figure -= per_operation(program, dir, without, row)?;
        }
        match row.rocksdb {
            Some(rocksdb) => println!("| {} | {figure:.0} | {rocksdb} | {:.2} |", row.name, figure / rocksdb as f64),
            None => println!("| {} | {figure:.0} | | |", row.name),
        }
    }
    Ok(())
}

fn per_operation(program: &Path, dir: &Path, workload: &str, row: &Row) -> Result<f64, String> {
    let [short, long] = row.lengths;
    let count = |length| count(program, dir, workload, length);
    let (less, more) = (count(short)?, count(long)?);
    Ok((more as f64 - less as f64) / (long - short) as f64)
}

fn count(program: &Path, dir: &Path, workload: &str, length: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([program, Path::new(workload), dir])
        .arg(length.to_string())
        .output()
        .map_err(|e| format!("valgrind (Debian's package `valgrind`): {e}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let collected = words.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{workload} {length} failed ({})\n{words}", output.status)),
    }
}
