//! The real RocksDBs: what they are told, and what they say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use firndb::{Fs, PosixFs};

use crate::model::{Map, Model, Op, assert_same, hex, unhex};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle_relay/driver.py");

/// A release of RocksDB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Release {
    Seven,
    Nine,
    /// Its driver knows the default family only; its `ldb` knows all.
    Eleven,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Release::Seven => "7.8",
            Release::Nine => "9.8",
            Release::Eleven => "11.1",
        }
    }

    pub(crate) fn knows_families(self) -> bool {
        self != Release::Eleven
    }

    /// Small buffers and files, so that a few hundred operations make several levels; and what the test is about.
    pub(crate) fn options(self, codec: &str, bloom: Option<u32>, block_size: usize, others: &str) -> String {
        let mut text = format!(
            "compression={codec};write_buffer_size=65536;target_file_size_base=16384;max_bytes_for_level_base=32768;\
             max_bytes_for_level_multiplier=4;level0_file_num_compaction_trigger=3;\
             level_compaction_dynamic_level_bytes=false;"
        );
        let bloom = bloom.map(|bits| bits.to_string());
        match (self, bloom) {
            (Release::Seven, bloom) => {
                let bloom = bloom.map_or(String::new(), |bits| format!("filter_policy=bloomfilter:{bits}:false;"));
                write!(text, "block_based_table_factory={{block_size={block_size};{bloom}}};").expect("a string");
            }
            (_, Some(bits)) => write!(text, "block_size={block_size};bloom={bits};").expect("a string"),
            (_, None) => write!(text, "block_size={block_size};").expect("a string"),
        }
        // The last one of a name counts.
        text.push_str(others);
        text
    }
}

/// Runs a program to its end; its output, or everything it said.
pub(crate) fn run(command: &mut Command, input: &str) -> Result<String, String> {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let written = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() && written.is_ok() {
        true => Ok(text),
        false => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let shown = |text: &str, from: usize| text.chars().skip(from).take(1500).collect::<String>();
            let tail = |text: &str| shown(text, text.chars().count().saturating_sub(1500));
            let command = shown(&format!("{command:?}"), 0);
            Err(format!("{command}: {}: {}{}", output.status, tail(&text), tail(&errors)))
        }
    }
}

fn python() -> Command {
    let mut command = Command::new(std::env::var("FIRNDB_PYTHON").unwrap_or_else(|_| "python3".to_owned()));
    command.arg(DRIVER);
    command
}

/// Has a release do what a script says.
pub(crate) fn drive(release: Release, dir: &Path, script: &str) -> String {
    try_drive(release, dir, script).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, where it may fail.
pub(crate) fn try_drive(release: Release, dir: &Path, script: &str) -> Result<String, String> {
    run(python().arg(release.name()).arg(dir), script)
}

/// A RocksDB that is open, and does what it is told when it is told.
pub(crate) struct Live {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Live {
    pub(crate) fn start(release: Release, dir: &Path) -> Live {
        let mut command = python();
        let command = command.arg(release.name()).arg(dir).arg("live");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the driver starts");
        let answers = BufReader::new(child.stdout.take().expect("piped")).lines();
        Live { child, answers }
    }

    /// Returns once all of it is done.
    pub(crate) fn tell(&mut self, script: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(format!("{script}say done\n").as_bytes()).expect("the driver listens");
        let answer = self.answers.next().expect("the driver answers").expect("text");
        assert_eq!(answer, "done");
    }

    /// Tells it more, and kills it while it is at it.
    pub(crate) fn kill_while(mut self, script: &str, after: Duration) {
        let input = self.child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut input = input;
                // It ends in the middle, as it should.
                let _ = input.write_all(script.as_bytes());
            });
            std::thread::sleep(after);
            self.child.kill().expect("it was alive");
            self.child.wait().expect("it ends");
        });
    }

    pub(crate) fn end(mut self) {
        // The end of its input is the end of it.
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success());
    }
}

/// `ldb` of 7.8 or 11.1.
pub(crate) fn ldb(release: Release, dir: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut command = match release {
        Release::Seven => Command::new("ldb"),
        _ => python(),
    };
    if release != Release::Seven {
        command.arg("ldb");
    }
    command.arg(format!("--db={}", dir.display())).args(arguments);
    if !arguments.iter().any(|argument| argument.ends_with("_column_family")) {
        // What newer releases put into OPTIONS is not known to older ones; and the commands for families do not ask.
        command.arg("--ignore_unknown_options");
    }
    run(&mut command, input)
}

pub(crate) fn word(bytes: &[u8]) -> String {
    if bytes.is_empty() { "-".to_owned() } else { hex(bytes) }
}

/// The lines of a script that do these operations.
pub(crate) fn script(ops: &[Op]) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for op in ops {
        match op {
            Op::Write(changes) => {
                if changes.len() > 1 {
                    line(format!("batch {}", changes.len()));
                }
                for change in changes {
                    let (family, key) = (&change.family, word(&change.key));
                    match &change.value {
                        Some(value) => line(format!("put {family} {key} {}", word(value))),
                        None => line(format!("delete {family} {key}")),
                    }
                }
            }
            Op::Create(name) => line(format!("family {name}")),
            Op::Drop(name) => line(format!("drop {name}")),
            Op::Flush(name) => line(format!("flush {name}")),
            Op::Compact(name) => line(format!("compact {name}")),
        }
    }
    text
}

/// The lines that check what a model says is absent, and dump the rest.
pub(crate) fn dump_script(model: &Model) -> String {
    let mut text = String::new();
    for (family, key) in model.absent() {
        writeln!(text, "absent {family} {}", word(key)).expect("a string");
    }
    text.push_str("dump\n");
    text
}

/// Compares what a driver printed.
pub(crate) fn compare_dump(label: &str, dump: &str, model: &Model) {
    let mut found: BTreeMap<&str, Map> = BTreeMap::new();
    let mut name = "";
    let bytes = |word: &str| if word == "-" { Vec::new() } else { unhex(word) };
    for line in dump.lines() {
        match line.strip_prefix("family ") {
            Some(family) => {
                name = family;
                found.insert(name, Map::new());
            }
            None => {
                let (key, value) = line.split_once(' ').expect("a key and a value");
                found.get_mut(name).expect("after its family").insert(bytes(key), bytes(value));
            }
        }
    }
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), model.names(), "{label}: families");
    for (name, map) in &model.families {
        let found = found[&**name].iter().map(|(key, value)| (&key[..], &value[..]));
        assert_same(&format!("{label}: family {name}"), found, map);
    }
}

/// Compares every family with what `ldb scan` lists.
pub(crate) fn compare_with_ldb(label: &str, release: Release, dir: &Path, model: &Model) {
    let listed = ldb(release, dir, &["list_column_families"], "").unwrap_or_else(|error| panic!("{label}: {error}"));
    for (name, map) in &model.families {
        assert!(listed.contains(&**name), "{label}: {name} is not in {listed}");
        let family = format!("--column_family={name}");
        let text =
            ldb(release, dir, &["scan", "--hex", &family], "").unwrap_or_else(|error| panic!("{label}: {error}"));
        let separator = if release == Release::Seven { " : " } else { " ==> " };
        let hex = |word: &str| unhex(&word.strip_prefix("0x").expect("hex").to_lowercase());
        let entries = text.lines().filter_map(|line| line.split_once(separator));
        let found: Vec<_> = entries.map(|(key, value)| (hex(key), hex(value))).collect();
        let found = found.iter().map(|(key, value)| (&key[..], &value[..]));
        assert_same(&format!("{label}: ldb {}: family {name}", release.name()), found, map);
    }
}

pub(crate) fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = PosixFs.list(dir).expect("a directory").into_iter();
    let mut found: Vec<_> = entries.filter(|e| e.name.ends_with(suffix)).map(|e| dir.join(e.name)).collect();
    found.sort();
    found
}

fn format_version(table: &Path) -> u32 {
    let bytes = PosixFs.read_whole(table, 1 << 30).expect("readable");
    // Before the eight bytes of magic.
    let version = &bytes[bytes.len() - 12..bytes.len() - 8];
    u32::from_le_bytes(version.try_into().expect("four bytes"))
}

/// Has RocksDB's own tools check everything that they understand. How many tables `sst_dump` verified.
pub(crate) fn check_with_tools(label: &str, dir: &Path, live: &[PathBuf], eleven_has_codec: bool) -> usize {
    if eleven_has_codec {
        let consistent = ldb(Release::Eleven, dir, &["checkconsistency"], "");
        consistent.unwrap_or_else(|error| panic!("{label}: ldb of 11.1: {error}"));
    }
    let for_seven: Vec<_> = live.iter().filter(|table| format_version(table) <= 5).collect();
    if for_seven.len() == live.len() {
        let consistent = ldb(Release::Seven, dir, &["checkconsistency"], "");
        consistent.unwrap_or_else(|error| panic!("{label}: ldb of 7.8: {error}"));
    }
    let is_everything = for_seven.len() == files(dir, ".sst").len();
    // One process for the directory, if that means the same.
    let dirs = [dir.to_owned()];
    let paths = if is_everything && !for_seven.is_empty() { dirs.iter().collect() } else { for_seven.clone() };
    let mut sound = 0;
    for path in paths {
        // Without the third word it looks at no checksum of a data block.
        let arguments = [&*format!("--file={}", path.display()), "--command=verify", "--verify_checksum"];
        let said = run(Command::new("sst_dump").args(arguments), "");
        let said = said.unwrap_or_else(|error| panic!("{label}: {error}"));
        // The exit status is 0 for damaged files too.
        sound += said.matches("The file is ok").count();
    }
    assert_eq!(sound, for_seven.len(), "{label}: sst_dump found damage in {}", dir.display());
    for_seven.len()
}
