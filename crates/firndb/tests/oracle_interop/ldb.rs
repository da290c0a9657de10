//! RocksDB 7.8.3 through its own tools.

use std::path::Path;
use std::process::Command;

use firndb_testkit::{Map, Random, State, from_environment};

use super::sides::{Form, Step, assert_same, hex, read_firndb, run_firndb, turn, unhex};

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect("cargo xtask oracles installs it");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}{words}");
    text
}

fn ldb(dir: &Path, arguments: &[&str]) -> String {
    let db = format!("--db={}", dir.display());
    run("ldb", &[&[db.as_str(), "--ignore_unknown_options"], arguments].concat())
}

/// RocksDB's own checks, of MANIFEST against directory and of every block of every table. To be called when FirnDB was the
/// last to open the directory: a RocksDB that was cut off leaves files behind that are not whole.
pub(crate) fn check(dir: &Path) {
    assert!(ldb(dir, &["checkconsistency"]).contains("OK"));
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let name = format!("--file={}", path.display());
            let said = run("sst_dump", &[&name, "--command=verify"]);
            assert!(!said.to_lowercase().contains("corrupt"), "{said}");
        }
    }
}

/// What `ldb` reads of every family.
fn read(dir: &Path) -> State {
    let listed = ldb(dir, &["list_column_families"]);
    let names = listed.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("a list in braces").0;
    let mut state = State::new();
    for name in names.split(", ") {
        let family = format!("--column_family={name}");
        let mut map = Map::new();
        for line in ldb(dir, &[&family, "--hex", "scan"]).lines() {
            let (key, value) = line.split_once(" : ").expect("a key and a value");
            let bytes = |text: &str| unhex(text.strip_prefix("0x").expect("hex"));
            map.insert(bytes(key), bytes(value));
        }
        state.insert(name.to_owned(), map);
    }
    state
}

/// Has `ldb` do the steps: every call of it opens the directory, and leaves a log behind.
fn write(dir: &Path, form: Form, steps: &[Step]) {
    let codec = format!("--compression_type={}", if form.codec == "none" { "no" } else { form.codec });
    let block = format!("--block_size={}", form.block);
    let bloom = form.bloom.map(|bits| format!("--bloom_bits={}", bits as u32));
    let mut common: Vec<&str> = vec![&codec, &block];
    common.extend(bloom.as_deref());
    let in_hex = |bytes: &[u8]| format!("0x{}", hex(bytes));
    let mut pending: Vec<String> = Vec::new();
    let mut family_of_pending = String::new();
    let put_all = |pending: &mut Vec<String>, family: &str| {
        if pending.is_empty() {
            return;
        }
        let family = format!("--column_family={family}");
        let mut arguments = common.clone();
        arguments.extend([family.as_str(), "--create_if_missing", "--hex", "batchput"]);
        arguments.extend(pending.iter().map(String::as_str));
        ldb(dir, &arguments);
        pending.clear();
    };
    for step in steps {
        if let Step::Put(family, key, value) = step
            && (pending.is_empty() || *family == family_of_pending)
            && pending.len() < 200
        {
            family_of_pending.clone_from(family);
            pending.extend([in_hex(key), in_hex(value)]);
            continue;
        }
        put_all(&mut pending, &family_of_pending);
        let named = |family: &str| format!("--column_family={family}");
        match step {
            Step::Put(family, key, value) => {
                family_of_pending.clone_from(family);
                pending.extend([in_hex(key), in_hex(value)]);
            }
            // Only `batchput` makes a database; before that there is nothing to delete.
            Step::Delete(..) | Step::Compact(_) if !dir.exists() => {}
            Step::Delete(family, key) => {
                ldb(dir, &[&common[..], &[&named(family), "--hex", "delete", &in_hex(key)]].concat());
            }
            // Opening flushes what it finds in the log.
            Step::Flush(_) => {}
            Step::Compact(family) => {
                ldb(dir, &[&common[..], &[&named(family), "compact"]].concat());
            }
            Step::Create(family) => {
                ldb(dir, &["create_column_family", family]);
            }
            Step::Drop(family) => {
                ldb(dir, &["drop_column_family", family]);
            }
        }
    }
    put_all(&mut pending, &family_of_pending);
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb and sst_dump (cargo xtask oracles)"]
fn oracle_firndb_and_rocksdb_7_take_turns_with_families_and_every_codec() {
    let seed = from_environment("FIRN_SEED").unwrap_or(20_261_123);
    let ours_each = from_environment("FIRN_OPS").unwrap_or(1200);
    for (number, codec) in ["none", "snappy", "lz4", "lz4hc", "zstd", "zlib"].into_iter().enumerate() {
        let mut random = Random::new(seed + 100 + number as u64);
        let form = Form { codec, block: [4096, 512][number % 2], bloom: [None, Some(10.0)][number % 2] };
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("db");
        let mut state = State::from([("default".to_owned(), Map::new())]);
        for round in 0..4 {
            let place = format!("seed {seed}, {codec}, turn {round}");
            if (round + number) % 2 == 0 {
                let steps = turn(&mut random, &mut state, ours_each, true);
                let keeps_log = random.below(2) == 0;
                run_firndb(&dir, form, &steps, keeps_log).expect("FirnDB does its turn");
                assert_same(&read(&dir), &state, &format!("{place}: ldb reads what FirnDB left"));
            } else {
                // Every step may be a process, so there are fewer.
                let steps: Vec<Step> = turn(&mut random, &mut state, 60, false);
                write(&dir, form, &steps);
            }
            assert_same(&read_firndb(&dir, form), &state, &format!("{place}: FirnDB reads"));
            check(&dir);
            assert_same(&read(&dir), &state, &format!("{place}: ldb reads"));
        }
    }
}
