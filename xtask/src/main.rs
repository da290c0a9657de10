//! Developer commands: `cargo xtask`. Nothing but the standard library.

mod ci;
mod circles;
mod instructions;
mod oracles;
mod soak;
mod source;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a command that failed has to say.
type Outcome = Result<(), String>;

const USAGE: &str = "usage: cargo xtask COMMAND

  ci            everything the server checks, in its order
  tidy          the rules no compiler knows: module order, unsafe fence, doors to the disk and the clock, links
  soak MINUTES  the random tests, round after round with new seeds
  instructions  instructions per operation, counted by valgrind, beside RocksDB's
  oracles       installs RocksDB's tools and bindings, against which the oracle tests compare
";

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "ci" => ci::run(&root()),
        "tidy" => tidy::run(&root()),
        "instructions" => instructions::run(&root()),
        "soak" => soak::run(&root(), std::env::args().nth(2)),
        "oracles" => oracles::install(&root()).map(|_| ()),
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

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in a folder of the workspace").to_owned()
}

/// True on the server, where skipping is failing.
fn on_server() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true" || value == "1")
}
