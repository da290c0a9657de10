//! The two sides that take turns with one directory: FirnDB, and a real RocksDB.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use firndb::{CloseMode, Compression, Db, Options, Result, verify_directory};
use firndb_testkit::{Map, Random, State};

/// What a turn does, in order.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Put(String, Vec<u8>, Vec<u8>),
    Delete(String, Vec<u8>),
    Flush(String),
    Compact(String),
    Create(String),
    Drop(String),
}

/// Who writes, and how the directory is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    FirnDb,
    RocksDb,
}

/// How tables are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    /// The name that RocksDB's bindings have for it.
    pub(crate) codec: &'static str,
    pub(crate) block: usize,
    pub(crate) bloom: Option<f64>,
}

impl Form {
    fn compression(self) -> Compression {
        match self.codec {
            "none" => Compression::None,
            "snappy" => Compression::Snappy,
            "zlib" => Compression::Zlib,
            "lz4" => Compression::Lz4,
            "lz4hc" => Compression::Lz4hc,
            "zstd" => Compression::Zstd,
            other => panic!("no codec {other}"),
        }
    }

    pub(crate) fn options(self) -> Options {
        let mut options = Options::default();
        options.create_if_missing = true;
        options.family.compression = self.compression();
        options.family.block_size = self.block;
        options.family.bloom_bits_per_key = self.bloom;
        options.family.write_buffer_size = 1 << 16;
        options.family.target_file_size_base = 1 << 14;
        options.family.max_bytes_for_level_base = 1 << 16;
        options.family.level0_file_num_compaction_trigger = 3;
        options
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).expect("hex")).collect()
}

/// Keys of all sorts, from a pool small enough that they meet again.
fn key(random: &mut Random) -> Vec<u8> {
    let number = random.below(1500);
    match number % 7 {
        0 => number.to_be_bytes().to_vec(),
        1 => vec![0xff; (number % 13) as usize],
        2 => [&b"long"[..], &vec![b'x'; (number % 200) as usize], &number.to_le_bytes()].concat(),
        _ => format!("key{number:06}").into_bytes(),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => Vec::new(),
        1 => random.bytes(9000),
        // Compresses well.
        2..20 => vec![b'a' + random.below(20) as u8; random.below(300) as usize],
        _ => {
            let len = random.below(120) as usize;
            random.bytes(len)
        }
    }
}

/// A turn of about `count` steps, applied to `state`. Families come and go only if `has_families`.
pub(crate) fn turn(random: &mut Random, state: &mut State, count: u64, has_families: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..count {
        let names: Vec<String> = state.keys().cloned().collect();
        let name = names[random.below(names.len() as u64) as usize].clone();
        let step = match random.below(1000) {
            0..3 => Step::Flush(name),
            3 => Step::Compact(name),
            4 if has_families && names.len() < 4 => Step::Create(format!("family {}", random.below(1000))),
            5 if has_families && name != "default" => Step::Drop(name),
            6..250 => Step::Delete(name, key(random)),
            _ => Step::Put(name, key(random), value(random)),
        };
        if matches!(&step, Step::Create(name) if state.contains_key(name)) {
            continue;
        }
        apply(&step, state);
        steps.push(step);
    }
    steps
}

fn apply(step: &Step, state: &mut State) {
    match step {
        Step::Put(family, key, value) => {
            state.entry(family.clone()).or_default().insert(key.clone(), value.clone());
        }
        Step::Delete(family, key) => {
            state.entry(family.clone()).or_default().remove(key);
        }
        Step::Create(family) => {
            state.insert(family.clone(), Map::new());
        }
        Step::Drop(family) => {
            state.remove(family);
        }
        Step::Flush(_) | Step::Compact(_) => {}
    }
}

/// Has FirnDB do the steps. `keeps_log`: what is in memory stays in the log only.
pub(crate) fn run_firndb(dir: &Path, form: Form, steps: &[Step], keeps_log: bool) -> Result<()> {
    let mut options = form.options();
    options.avoid_flush_during_shutdown = keeps_log;
    let db = Db::open_with(dir, options)?;
    for step in steps {
        match step {
            Step::Put(family, key, value) => db.column_family(family)?.put(key, value)?,
            Step::Delete(family, key) => db.column_family(family)?.delete(key)?,
            Step::Flush(family) => db.column_family(family)?.flush()?,
            Step::Compact(family) => db.column_family(family)?.compact_range::<&[u8]>(..)?,
            Step::Create(family) => db.create_column_family(family).map(drop)?,
            Step::Drop(family) => db.drop_column_family(family)?,
        }
    }
    db.close_with(CloseMode::Refuse)
}

/// Everything that FirnDB finds: by scans in both directions and by lookups, read-only and read-write.
pub(crate) fn read_firndb(dir: &Path, form: Form) -> State {
    let read_only = Db::open_read_only(dir, Options::default()).expect("opens for reading");
    let state = firndb_testkit::contents(&read_only).expect("readable");
    read_only.close().expect("closes");
    let db = Db::open_with(dir, form.options()).expect("opens for writing");
    assert!(firndb_testkit::contents(&db).expect("readable") == state, "read-only and read-write differ");
    for (name, map) in &state {
        let family = db.column_family(name).expect("it exists");
        let back = family.iter().expect("opens").rev().map(|entry| entry.expect("readable").0.to_vec());
        assert!(back.eq(map.keys().rev().cloned()), "backwards differs in {name}");
        for (key, value) in map {
            assert_eq!(family.get(key).expect("readable").as_deref(), Some(&value[..]), "{}", hex(key));
            assert!(family.get([&key[..], &[0, 1]].concat()).expect("readable").is_none());
        }
    }
    db.close().expect("closes");
    let report = verify_directory(dir, &Options::default(), &mut |_| {}).expect("verifies");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    state
}

/// Has one of the Python packages' RocksDBs do the steps, and says all that it holds then.
pub(crate) fn run_rocksdb(version: &str, dir: &Path, form: Form, steps: &[Step], keeps_log: bool) -> State {
    let mut script = String::new();
    for step in steps {
        // Writing to a string does not fail.
        let _ = match step {
            Step::Put(family, key, value) => writeln!(script, "put\t{family}\t{}\t{}", hex(key), hex(value)),
            Step::Delete(family, key) => writeln!(script, "delete\t{family}\t{}", hex(key)),
            Step::Flush(family) => writeln!(script, "flush\t{family}"),
            Step::Compact(family) => writeln!(script, "compact\t{family}"),
            Step::Create(family) => writeln!(script, "create\t{family}"),
            Step::Drop(family) => writeln!(script, "drop\t{family}"),
        };
    }
    script.push_str(if keeps_log { "dump\nleave\n" } else { "dump\n" });
    let mut options = vec![format!("codec={}", form.codec), format!("block={}", form.block)];
    options.extend(form.bloom.map(|bits| format!("bloom={bits}")));
    parse(&drive(version, dir, &options, &script))
}

/// Runs a script; its output.
pub(crate) fn drive(version: &str, dir: &Path, options: &[String], script: &str) -> String {
    let python = std::env::var("FIRNDB_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle_interop/driver.py");
    let mut command = Command::new(python);
    command.arg(driver).arg(version).arg(dir).args(options);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the interpreter of FIRNDB_PYTHON starts");
    let mut stdin = child.stdin.take().expect("piped");
    let script = script.to_owned();
    // From a thread, since neither side can hold all of it in a pipe.
    let writer = std::thread::spawn(move || stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "RocksDB {version}: {words}");
    writer.join().expect("no panic").expect("all commands are read");
    String::from_utf8(output.stdout).expect("text")
}

fn parse(dump: &str) -> State {
    let mut state = State::new();
    for line in dump.lines() {
        match line.split('\t').collect::<Vec<_>>()[..] {
            ["family", name] => state.entry(name.to_owned()).or_default().clear(),
            [name, key, value] => {
                state.entry(name.to_owned()).or_default().insert(unhex(key), unhex(value));
            }
            _ => panic!("no line of a dump: {line}"),
        }
    }
    state
}

/// Says what differs, not everything that does not.
pub(crate) fn assert_same(found: &State, expected: &State, place: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{place}: families");
    for (name, map) in expected {
        let found = &found[name];
        let lost = map.iter().find(|(key, value)| found.get(*key) != Some(value));
        let extra = found.iter().find(|(key, _)| !map.contains_key(*key));
        assert!(
            lost.is_none() && extra.is_none(),
            "{place}: family {name}: {} entries instead of {}; lost or changed: {:?}; too many: {:?}",
            found.len(),
            map.len(),
            lost.map(|(key, _)| hex(key)),
            extra.map(|(key, _)| hex(key))
        );
    }
}
