//! What the server runs, so that it can be run anywhere: `cargo xtask ci`. Stops at the first step that fails.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{Outcome, oracles, tidy};

/// More dependencies than this, all of theirs included, is a decision to be made here.
const DEPENDENCIES_MAX: usize = 25;

struct Ci<'a> {
    root: &'a Path,
    notes: Vec<String>,
}

/// Runs every step.
pub(crate) fn run(root: &Path) -> Outcome {
    let start = Instant::now();
    let mut ci = Ci { root, notes: Vec::new() };
    ci.step("format", |ci| ci.cargo(&["fmt", "--all", "--check"], &[]))?;
    ci.step("tidy", |ci| tidy::run(ci.root))?;
    ci.step("clippy", |ci| {
        ci.cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])
    })?;
    ci.step("tests", Ci::tests)?;
    ci.step("doc tests", |ci| ci.cargo(&["test", "--workspace", "--doc", "--locked"], &[]))?;
    ci.step("docs", |ci| {
        ci.cargo(&["doc", "--workspace", "--no-deps", "--locked"], &[("RUSTDOCFLAGS", "-D warnings")])
    })?;
    ci.step("loom", Ci::loom)?;
    ci.step("dependencies", Ci::dependencies)?;
    ci.step("RocksDB oracles", Ci::oracles)?;
    println!("\nci: all passed in {} s", start.elapsed().as_secs());
    for note in &ci.notes {
        println!("ci: NOTE: {note}");
    }
    Ok(())
}

impl Ci<'_> {
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = work(self).map_err(|why| format!("{why}\nci: FAILED at step `{name}`"));
        println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
        outcome
    }

    fn command(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(self.root).args(arguments).envs(environment.iter().copied());
        command
    }

    fn cargo(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Outcome {
        let status = self.command(arguments, environment).status().map_err(|e| format!("cargo: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("cargo {} failed ({status})", arguments.join(" "))) }
    }

    fn output(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
        let output = self.command(arguments, environment).output().map_err(|e| format!("cargo: {e}"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo {} failed ({})\n{words}", arguments.join(" "), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// How many tests such a `cargo test … --list` names.
    fn listed(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<usize, String> {
        let arguments = [arguments, &["--list"]].concat();
        Ok(self.output(&arguments, environment)?.lines().filter(|line| line.ends_with(": test")).count())
    }

    fn tests(&mut self) -> Outcome {
        let targets = ["--workspace", "--lib", "--bins", "--tests", "--examples", "--locked"];
        let has_nextest = self.output(&["nextest", "--version"], &[]).is_ok();
        let runner: &[&str] = if has_nextest { &["nextest", "run", "--no-fail-fast"] } else { &["test"] };
        self.cargo(&[runner, &targets].concat(), &[])
    }

    /// Loom replaces the locks and atomics of the whole crate: another build, beside the usual one. Its tests have
    /// `loom` in their names.
    fn loom(&mut self) -> Outcome {
        let environment = [("RUSTFLAGS", "--cfg loom"), ("LOOM_MAX_PREEMPTIONS", "3")];
        // Without the codecs, whose build takes longer than the tests.
        let arguments = "test -p firndb --lib --no-default-features --locked --target-dir target/loom -- loom";
        let arguments: Vec<&str> = arguments.split(' ').collect();
        if self.listed(&arguments, &environment)? == 0 {
            return Err("there is no loom test: nothing was model-checked".to_owned());
        }
        self.cargo(&arguments, &environment)
    }

    fn dependencies(&mut self) -> Outcome {
        let tree = self.output(&["tree", "-p", "firndb", "-e", "normal,build", "--prefix", "none", "--locked"], &[])?;
        let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
        names.sort_unstable();
        names.dedup();
        let count = names.iter().filter(|name| **name != "firndb").count();
        println!("{count} dependencies of the engine, all of theirs included; at most {DEPENDENCIES_MAX}");
        if count > DEPENDENCIES_MAX {
            return Err(format!("{count} dependencies: {}", names.join(", ")));
        }
        Ok(())
    }

    /// Tests against RocksDB are ignored in ordinary runs and have `oracle` in their names or in that of their module.
    /// `FIRNDB_PYTHON` names the interpreter that has the bindings.
    fn oracles(&mut self) -> Outcome {
        let Some(python) = oracles::install(self.root)? else {
            self.notes.push("RocksDB is not there: the oracle tests were SKIPPED".to_owned());
            return Ok(());
        };
        let python = python.to_string_lossy();
        let environment = [("FIRNDB_PYTHON", &*python)];
        let arguments = ["test", "--workspace", "--lib", "--tests", "--locked", "--", "--ignored", "oracle"];
        if self.listed(&arguments, &environment)? == 0 {
            return Err("there is no oracle test: nothing was compared with RocksDB".to_owned());
        }
        self.cargo(&arguments, &environment)
    }
}
