//! The command `firn` from outside: what it prints, where, and with which exit code.

mod compat;
mod damage;
mod flips;
mod forms;
mod harness;
mod input;
mod inspect;
mod load;
mod lost;
mod model;
mod oracle;
mod refusals;
mod text_form;
mod verbs;
mod verbs_of_tables;

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

    /// True if these words are on stdout.
    fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.out).contains(words)
    }

    /// Checks that the run worked, printed exactly this, and had nothing to say on stderr.
    #[track_caller]
    fn prints(&self, out: impl AsRef<[u8]>) {
        assert_eq!((self.code, self.err.as_str()), (0, ""));
        assert_eq!(String::from_utf8_lossy(&self.out), String::from_utf8_lossy(out.as_ref()));
        assert_eq!(self.out, out.as_ref());
    }

    /// Checks that the run worked, and that there was nothing to say.
    #[track_caller]
    fn is_silent(&self) {
        self.prints("");
    }

    /// Checks that the key was not there: exit code 1, and not a word.
    #[track_caller]
    fn is_absent(&self) {
        assert_eq!((self.code, self.out.as_slice(), self.err.as_str()), (1, &b""[..], ""));
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

    /// Runs `firn VERB DB ARGUMENTS` with arguments that need not be text.
    fn run_bytes(&self, verb: &str, arguments: &[&[u8]]) -> Ran {
        use std::os::unix::ffi::OsStrExt;
        let db = self.db();
        let given = arguments.iter().map(|bytes| OsStr::from_bytes(bytes));
        firn(&[OsStr::new(verb), db.as_os_str()].into_iter().chain(given).collect::<Vec<_>>())
    }

    /// Runs `firn load DB ARGUMENTS`.
    fn lines(&self, input: impl AsRef<[u8]>, arguments: &[&str]) -> Ran {
        self.run_with("load", arguments, input.as_ref())
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
