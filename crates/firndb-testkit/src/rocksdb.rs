//! Real RocksDBs as programs, which `cargo xtask oracles` installs: `ldb` and `sst_dump` of 7.8.3, and the interpreter
//! whose packages are 9.8.4 and 11.1.2.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Longer than any of the programs takes, on a busy machine too. RocksDB itself has been seen to wait for ever.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a program to its end with `input` on stdin; its stdout. One that does not end is killed.
///
/// # Errors
/// Everything it said, if it did not end well, or did not read all of its input.
pub fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let mut stdin = child.stdin.take().expect("piped");
    let (process, (ended, end)) = (child.id().to_string(), mpsc::channel::<()>());
    // Beside it, since neither side can hold all of it in a pipe.
    let (written, output) = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(input.as_bytes()));
        scope.spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                // What it was killed by is in its status, and so in the error.
                let _ = Command::new("kill").args(["-9", &process]).status();
            }
        });
        let output = child.wait_with_output();
        drop(ended);
        (writer.join().expect("writing does not panic"), output)
    });
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() && written.is_ok() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let shown = |text: &str, from: usize| text.chars().skip(from).take(1500).collect::<String>();
    let tail = |text: &str| shown(text, text.chars().count().saturating_sub(1500));
    let command = shown(&format!("{command:?}"), 0);
    Err(format!("{command}: {}: {}{}", output.status, tail(&text), tail(&errors)))
}

/// The interpreter that has the packages.
pub fn python() -> Command {
    Command::new(std::env::var("FIRNDB_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

/// Has the interpreter run a program whose `sys.argv[1]` is the directory; what it prints.
///
/// # Errors
/// As those of [`run`].
pub fn run_python(program: &str, dir: &Path) -> Result<String, String> {
    run(python().args(["-c", program]).arg(dir), "")
}

/// Has an `ldb` do something with a directory: `Command::new("ldb")`, or one that takes the same arguments.
///
/// # Errors
/// As those of [`run`].
pub fn ldb(mut program: Command, dir: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    program.arg(format!("--db={}", dir.display())).args(arguments);
    if !arguments.iter().any(|argument| argument.ends_with("_column_family")) {
        // What newer releases put into OPTIONS is not known to older ones; and the commands for families do not ask.
        program.arg("--ignore_unknown_options");
    }
    run(&mut program, input)
}

/// Has an `ldb` compare MANIFEST and directory.
///
/// # Errors
/// What it found.
pub fn check_consistency(program: Command, dir: &Path) -> Result<(), String> {
    let said = ldb(program, dir, &["checkconsistency"], "")?;
    if said.contains("OK") { Ok(()) } else { Err(said) }
}

/// Has `sst_dump` read every block of a table, or of every table in a directory; how many tables.
///
/// # Errors
/// What it said, if a table is not whole.
pub fn verify_tables(path: &Path) -> Result<usize, String> {
    // Without the last word it looks at no checksum of a data block.
    let arguments = [&*format!("--file={}", path.display()), "--command=verify", "--verify_checksum"];
    let said = run(Command::new("sst_dump").args(arguments), "")?;
    // It ends well for damaged tables too.
    let (tables, whole) = (said.matches("Process ").count(), said.matches("The file is ok").count());
    if tables == whole && !said.contains("orrupt") { Ok(whole) } else { Err(said) }
}
