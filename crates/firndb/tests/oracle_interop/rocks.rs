//! The real RocksDBs: what they are told, and what they say.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use firndb::{Fs, PosixFs};
use firndb_testkit::{Map, State, hex, rocksdb, unhex};

use crate::model::{Model, Op, assert_same};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle_interop/driver.py");

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

    /// Whether its driver can: its package has no call for it. All releases read what the others deleted.
    pub(crate) fn deletes_ranges(self) -> bool {
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

fn driver() -> Command {
    let mut command = rocksdb::python();
    command.arg(DRIVER);
    command
}

/// Has a release do what a script says.
pub(crate) fn drive(release: Release, dir: &Path, script: &str) -> String {
    try_drive(release, dir, script).unwrap_or_else(|error| panic!("{error}"))
}

/// The same, where it may fail.
pub(crate) fn try_drive(release: Release, dir: &Path, script: &str) -> Result<String, String> {
    rocksdb::run(driver().arg(release.name()).arg(dir), script)
}

/// A RocksDB that is open, and does what it is told when it is told.
pub(crate) struct Live {
    child: Child,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Live {
    pub(crate) fn start(release: Release, dir: &Path) -> Live {
        let mut command = driver();
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
fn ldb_program(release: Release) -> Command {
    if release == Release::Seven {
        return Command::new("ldb");
    }
    let mut command = driver();
    command.arg("ldb");
    command
}

pub(crate) fn try_ldb(release: Release, dir: &Path, arguments: &[&str], input: &str) -> Result<String, String> {
    rocksdb::ldb(ldb_program(release), dir, arguments, input)
}

pub(crate) fn ldb(release: Release, dir: &Path, arguments: &[&str], input: &str) -> String {
    try_ldb(release, dir, arguments, input).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether MANIFEST and directory agree, for `ldb` of 7.8 or 11.1.
pub(crate) fn check_consistency(release: Release, dir: &Path) -> Result<(), String> {
    rocksdb::check_consistency(ldb_program(release), dir)
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
            Op::DeleteRange(family, begin, end) => line(format!("range {family} {} {}", word(begin), word(end))),
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

/// What a driver prints of a database that holds this.
pub(crate) fn dump_text(state: &State) -> String {
    let lines =
        |map: &Map| map.iter().map(|(key, value)| format!("{} {}\n", word(key), word(value))).collect::<String>();
    state.iter().map(|(name, map)| format!("family {name}\n{}", lines(map))).collect()
}

/// Says where two dumps begin to differ.
pub(crate) fn assert_same_dump(label: &str, found: &str, expected: &str) {
    let differs = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or(found.lines().count().min(expected.lines().count()));
    let line = |text: &str| text.lines().nth(at).map(|line| line.chars().take(120).collect::<String>());
    assert!(found == expected, "{label}: line {at} is {:?} and should be {:?}", line(found), line(expected));
}

/// Compares every family with what `ldb scan` lists.
pub(crate) fn compare_with_ldb(label: &str, release: Release, dir: &Path, model: &Model) {
    let say =
        |arguments: &[&str]| try_ldb(release, dir, arguments, "").unwrap_or_else(|error| panic!("{label}: {error}"));
    let listed = say(&["list_column_families"]);
    for (name, map) in &model.families {
        assert!(listed.contains(&**name), "{label}: {name} is not in {listed}");
        let family = format!("--column_family={name}");
        let text = say(&["scan", "--hex", &family]);
        let separator = if release == Release::Seven { " : " } else { " ==> " };
        let hex = |word: &str| unhex(word.strip_prefix("0x").expect("hex"));
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

pub(crate) fn format_version(table: &Path) -> u32 {
    let bytes = PosixFs.read_whole(table, 1 << 30).expect("readable");
    // Before the eight bytes of magic.
    let version = &bytes[bytes.len() - 12..bytes.len() - 8];
    u32::from_le_bytes(version.try_into().expect("four bytes"))
}

/// Has RocksDB's own tools check everything that they understand. How many tables `sst_dump` verified.
pub(crate) fn check_with_tools(label: &str, dir: &Path, live: &[PathBuf], eleven_has_codec: bool) -> usize {
    let fail = |error: String| -> ! { panic!("{label}: {error}") };
    if eleven_has_codec {
        check_consistency(Release::Eleven, dir).unwrap_or_else(|error| fail(error));
    }
    let for_seven: Vec<_> = live.iter().filter(|table| format_version(table) <= 5).collect();
    if for_seven.len() == live.len() {
        match check_consistency(Release::Seven, dir) {
            // Where 9.8 cuts a range tombstone between two tables, its MANIFEST has a kind of key that 7.8 does not know.
            Err(error) if label.contains("RocksDB Nine") && error.contains("new-file4 entry") => {}
            checked => checked.unwrap_or_else(|error| fail(error)),
        }
    }
    let is_everything = !for_seven.is_empty() && for_seven.len() == files(dir, ".sst").len();
    // One process for the directory, if that means the same.
    let paths = if is_everything { vec![dir] } else { for_seven.iter().map(|path| path.as_path()).collect() };
    let verify = |path: &Path| rocksdb::verify_tables(path).unwrap_or_else(|error| fail(error));
    let whole: usize = paths.into_iter().map(verify).sum();
    assert_eq!(whole, for_seven.len(), "{label}: tables that sst_dump verified in {}", dir.display());
    whole
}
