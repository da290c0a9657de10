//! One directory, two engines in turns: FirnDB and a real RocksDB (7.8.3, 9.8.4 and 11.1.2), each of which reads back
//! every key and value that the other left, in tables of every codec, on several levels and in unflushed logs.
//!
//! `FIRN_SEED` and `FIRN_OPS` (steps of a turn) choose the run; a failure says its seed. Needs what `cargo xtask oracles`
//! installs, with `FIRNDB_PYTHON` naming its interpreter.

mod ldb;
mod refused;
mod sides;

use std::path::Path;

use firndb_testkit::{Map, Random, State, from_environment};

use sides::{Form, Side, Step, assert_same, read_firndb, run_firndb, run_rocksdb, turn};

/// Does a turn, and has both sides read everything: what FirnDB found, and what RocksDB found.
fn take_turn(version: &str, side: Side, dir: &Path, form: Form, steps: &[Step], keeps_log: bool) -> (State, State) {
    match side {
        Side::FirnDb => run_firndb(dir, form, steps, keeps_log).expect("FirnDB does its turn"),
        Side::RocksDb => drop(run_rocksdb(version, dir, form, steps, keeps_log)),
    }
    // RocksDB reads what FirnDB left before anybody else opens the directory, log and all.
    let theirs = run_rocksdb(version, dir, form, &[], true);
    (read_firndb(dir, form), theirs)
}

fn play(version: &'static str, codecs: &[&'static str], has_families: bool) {
    let seed = from_environment("FIRN_SEED").unwrap_or(20_261_123);
    let steps_each = from_environment("FIRN_OPS").unwrap_or(1200);
    for (number, codec) in codecs.iter().enumerate() {
        let mut random = Random::new(seed + number as u64);
        let form =
            Form { codec, block: [512, 4096, 16384][number % 3], bloom: [Some(10.0), None, Some(6.5)][number % 3] };
        let temporary = tempfile::tempdir().expect("a directory");
        let dir = temporary.path().join("db");
        let mut state = State::from([("default".to_owned(), Map::new())]);
        for round in 0..6 {
            let side = [Side::FirnDb, Side::RocksDb][(number + round) % 2];
            let steps = turn(&mut random, &mut state, steps_each, has_families);
            let keeps_log = random.below(2) == 0;
            let place = format!("seed {seed}, {codec}, turn {round} of {side:?}, log kept: {keeps_log}");
            let (ours, theirs) = take_turn(version, side, &dir, form, &steps, keeps_log);
            assert_same(&ours, &state, &format!("{place}: FirnDB reads"));
            assert_same(&theirs, &state, &format!("{place}: RocksDB reads"));
            // 7.8 cannot read what 11.1 writes by default.
            if version == "9.8" {
                ldb::check(&dir);
            }
        }
    }
}

#[test]
#[ignore = "needs RocksDB 9.8.4 (cargo xtask oracles)"]
fn oracle_firndb_and_rocksdb_9_take_turns_with_families_and_every_codec() {
    // The package was built without zlib.
    play("9.8", &["none", "snappy", "lz4", "lz4hc", "zstd"], true);
}

#[test]
#[ignore = "needs RocksDB 11.1.2 (cargo xtask oracles)"]
fn oracle_firndb_and_rocksdb_11_take_turns() {
    play("11.1", &["none", "zstd", "zstd"], false);
}
