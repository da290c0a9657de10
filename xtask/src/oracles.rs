//! RocksDB itself, in three ages, to compare with: Debian's `ldb` and `sst_dump` (7.8), and two Python packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::on_server;

/// A Python package, its version, the RocksDB inside, and a program that makes a database in `sys.argv[1]`.
const PACKAGES: [(&str, &str, &str, &str); 2] = [
    (
        "rocksdict",
        "0.3.26",
        "9.8.4",
        "import sys, rocksdict\nd = rocksdict.Rdict(sys.argv[1])\nd[b'k'] = b'v'\nd.close()",
    ),
    (
        "amulet-rocksdb",
        "1.0.6",
        "11.1.2",
        "import sys, rocksdb\nd = rocksdb.RocksDB(sys.argv[1], create_if_missing=True)\nd.put(b'k', b'v')\nd.close()",
    ),
];

const TOOLS: [&str; 2] = ["ldb", "sst_dump"];

/// Installs what is missing. The interpreter that has the packages, or `None` if something could not be had, which was
/// said loudly; on the server that is a failure.
pub(crate) fn install(root: &Path) -> Result<Option<PathBuf>, String> {
    let mut missing = Vec::new();
    if let Err(why) = tools() {
        missing.push(format!("RocksDB 7.8 (`ldb`, `sst_dump`): {why}"));
    }
    let python = root.join(".venv/bin/python");
    if let Err(why) = packages(root, &python) {
        missing.push(format!("RocksDB 9.8 and 11.1 (Python packages): {why}"));
    }
    if missing.is_empty() {
        println!("oracles: RocksDB 7.8, 9.8.4 and 11.1.2 are there");
        return Ok(Some(python));
    }
    let message = format!("oracles: SKIPPED, so nothing is compared with\n  {}", missing.join("\n  "));
    if on_server() {
        return Err(format!("{message}\nOn the server this is a failure."));
    }
    println!("{message}");
    Ok(None)
}

fn tools() -> Result<(), String> {
    if TOOLS.iter().all(|tool| is_there(tool)) {
        return Ok(());
    }
    let as_root = |arguments: &[&str]| {
        let mut command = if is_root() { Command::new("apt-get") } else { Command::new("sudo") };
        if !is_root() {
            command.args(["--non-interactive", "apt-get"]);
        }
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let package = ["install", "--yes", "--no-install-recommends", "rocksdb-tools"];
    as_root(&package).or_else(|_| as_root(&["update"]).and_then(|()| as_root(&package)))
}

fn packages(root: &Path, python: &Path) -> Result<(), String> {
    if PACKAGES.iter().all(|package| has(python, package)) {
        return Ok(());
    }
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(root.join(".venv")))?;
    }
    let wanted = PACKAGES.map(|(name, version, ..)| format!("{name}=={version}"));
    run(Command::new(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(wanted))?;
    match PACKAGES.iter().find(|package| !has(python, package)) {
        None => Ok(()),
        Some((name, _, rocksdb, _)) => Err(format!("the RocksDB in {name} is not {rocksdb}")),
    }
}

/// Whether a database made by the package says the right version in its OPTIONS file.
fn has(python: &Path, (_, _, rocksdb, program): &(&str, &str, &str, &str)) -> bool {
    let dir = std::env::temp_dir().join(format!("firndb-oracle-{}", std::process::id()));
    let made = python.exists() && run(Command::new(python).arg("-c").arg(program).arg(&dir)).is_ok();
    let says = |path: PathBuf| {
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("rocksdb_version={rocksdb}\n")))
    };
    let found = made
        && std::fs::read_dir(&dir).is_ok_and(|entries| {
            entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("OPTIONS-") && says(e.path()))
        });
    // A leftover in the temporary directory harms no one.
    let _ = std::fs::remove_dir_all(&dir);
    found
}

fn is_there(tool: &str) -> bool {
    Command::new(tool).arg("--version").output().is_ok()
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(format!("{name}: {words} ({})", output.status))
}
