//! The command `firn` from outside: what it prints, where, and with which exit code.

mod damage;
mod forms;
mod inspect;
mod load;
mod oracle;
mod verbs;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a run of `firn` left.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    /// stdout as text, of a run that ended well and had nothing to say on stderr.
    #[track_caller]
    fn text(self) -> String {
        assert!(self.code == 0 && self.err.is_empty(), "{self:?}");
        String::from_utf8(self.out).expect("text")
    }

    /// Checks that the run failed with `code`, said why in one place, and printed no result.
    #[track_caller]
    fn fails(self, code: i32, words: &str) {
        assert!(self.code == code && self.out.is_empty(), "{self:?}");
        assert!(self.err.starts_with("firn: ") || self.err.starts_with("error: "), "{self:?}");
        assert!(self.err.contains(words) && !self.err.contains("panicked"), "{self:?}");
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `firn` with `input` on stdin.
fn firn_with<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Ran {
    let mut child = command().args(arguments).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // From a thread, since neither side can hold all of it in a pipe. A command that does not read is no failure.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    let err = String::from_utf8(output.stderr).expect("messages are text");
    Ran { code: output.status.code().expect("it is not killed"), out: output.stdout, err }
}

fn firn<S: AsRef<OsStr>>(arguments: &[S]) -> Ran {
    firn_with(arguments, b"")
}

/// A place for a database that does not exist yet.
struct Place {
    temporary: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { temporary: tempfile::tempdir().expect("a directory") }
    }

    fn db(&self) -> PathBuf {
        self.temporary.path().join("db")
    }

    /// Runs `firn VERB DB ARGUMENTS`.
    fn run(&self, verb: &str, arguments: &[&str]) -> Ran {
        self.run_with(verb, arguments, b"")
    }

    fn run_with(&self, verb: &str, arguments: &[&str], input: &[u8]) -> Ran {
        let db = self.db();
        let all: Vec<&OsStr> =
            [OsStr::new(verb), db.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)).collect();
        firn_with(&all, input)
    }

    /// Loads lines.
    #[track_caller]
    fn load(&self, lines: &str) {
        assert_eq!(self.run_with("load", &[], lines.as_bytes()).text(), "");
    }

    /// Files whose names end so.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        files(&self.db(), end)
    }
}

fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    found.sort();
    found
}
