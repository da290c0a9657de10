//! Developer commands: `cargo xtask ci` is what the continuous integration runs, `cargo xtask tidy` checks the layout.

use std::path::Path;
use std::process::{Command, ExitCode};

mod tidy;

const USAGE: &str = "usage: cargo xtask ci | tidy";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let verb = std::env::args().nth(1);
    let outcome = match verb.as_deref() {
        Some("ci") => ci(root),
        Some("tidy") => tidy::run(root),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that must hold before a change lands, in the order in which it fails fastest.
fn ci(root: &Path) -> Result<(), String> {
    cargo(root, "format", &["fmt", "--all", "--check"], &[])?;
    tidy::run(root)?;
    dependencies(root)?;
    cargo(root, "lint", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])?;
    cargo(root, "docs", &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    cargo(root, "no codecs", &["check", "-p", "firndb", "--no-default-features"], &[])?;
    cargo(root, "tests", &["test", "--workspace"], &[])
}

fn cargo(root: &Path, name: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    println!("== {name}: cargo {}", args.join(" "));
    let status = Command::new("cargo").args(args).envs(environment.iter().copied()).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name}: cargo {} failed: {status}", args.join(" "))),
        Err(error) => Err(format!("{name}: cargo could not be started: {error}")),
    }
}

/// The engine stays light: at most 25 crates in its tree, itself included.
fn dependencies(root: &Path) -> Result<(), String> {
    const MOST: usize = 25;
    let output = Command::new("cargo")
        .args(["tree", "-p", "firndb", "-e", "normal,build", "--prefix", "none"])
        .current_dir(root)
        .output()
        .map_err(|error| format!("cargo tree could not be started: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut crates: Vec<&str> = text.lines().filter_map(|line| line.split(" (").next()).map(str::trim).collect();
    crates.sort_unstable();
    crates.dedup();
    println!("== dependencies: {} crates in the engine's tree, at most {MOST}", crates.len());
    match crates.len() <= MOST {
        true => Ok(()),
        false => Err(format!("the engine's tree has more than {MOST} crates: {crates:?}")),
    }
}
