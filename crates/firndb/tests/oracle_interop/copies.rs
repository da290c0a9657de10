//! Copies of live files, made while the database goes on: to a real RocksDB they are the database of their moment.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use firndb::{Compression, LiveFiles};
use firndb_testkit::{Random, from_environment};

use crate::firn;
use crate::model::{Model, Op};
use crate::relay::NONE;
use crate::rocks::{
    Release, assert_same_dump, check_with_tools, compare_with_ldb, dump_script, dump_text, files, try_drive,
};

/// As many bytes of each file as the list says; those that never change are linked where `is_linked`.
fn copy(live: &LiveFiles, to: &Path, is_linked: bool) {
    fs::create_dir(to).expect("a new directory");
    for file in live.files() {
        let target = to.join(file.path.file_name().expect("a name"));
        match &file.contents {
            Some(contents) => fs::write(&target, contents).expect("written"),
            None if is_linked && file.is_final => fs::hard_link(&file.path, &target).expect("linked"),
            None => {
                let mut from = File::open(&file.path).expect("it is there").take(file.bytes);
                let copied = std::io::copy(&mut from, &mut File::create(&target).expect("new")).expect("copied");
                assert_eq!(copied, file.bytes, "{}", file.path.display());
            }
        }
    }
    live.check().expect("kept until now");
}

fn copies(release: Release) {
    let temp = tempfile::tempdir().expect("a directory");
    let seed = from_environment("FIRN_SEED").unwrap_or(1);
    let (mut random, mut model) = (Random::new(seed), Model::new());
    let label = format!("FIRN_SEED={seed}: {release:?}");
    let options = firn::options(&mut random, Compression::None);
    let db = firn::open(&label, &temp.path().join("db"), options, &model);
    let mut log_bytes = 0;
    for number in 0..4 {
        let label = format!("{label}: copy {number}");
        let mut ops = model.extend(&mut random, 150, release.knows_families(), release.deletes_ranges());
        // Something for the log.
        while !matches!(ops.last(), Some(Op::Write(_))) {
            ops.extend(model.extend(&mut random, 1, false, false));
        }
        firn::apply(&label, &db, &ops);
        let moment = model.clone();
        let live = db.live_files().expect("live files");
        let names: Vec<String> = model.names().into_iter().map(str::to_owned).collect();
        for ops in [
            model.extend(&mut random, 150, release.knows_families(), release.deletes_ranges()),
            names.into_iter().map(Op::Compact).collect(),
        ] {
            let is_there = |op: &Op| !matches!(op, Op::Compact(name) if !model.families.contains_key(name));
            firn::apply(&label, &db, &ops.into_iter().filter(is_there).collect::<Vec<_>>());
        }
        let dir = temp.path().join(format!("copy{number}"));
        copy(&live, &dir, number % 2 == 1);
        drop(live);
        log_bytes += files(&dir, ".log").iter().map(|log| fs::metadata(log).expect("there").len()).sum::<u64>();

        compare_with_ldb(&label, Release::Seven, &dir, &moment);
        check_with_tools(&label, &dir, &firn::check(&label, &dir, &moment), true);
        let names = moment.names().join("\t");
        let script = format!(
            "options {names}\nopen {}\n{}close\n",
            release.options(NONE.theirs, None, 1024, ""),
            dump_script(&moment)
        );
        let dump = try_drive(release, &dir, &script).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_same_dump(&label, &dump, &dump_text(&moment.families));
        // And back.
        firn::check(&label, &dir, &moment);
    }
    assert!(log_bytes > 0, "{label}: every log was empty");
    firn::compare(&label, &db, &model);
    db.close().expect("nothing is open");
    firn::check(&label, &temp.path().join("db"), &model);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_copies_of_live_files_are_their_moments_to_rocksdb_7_8() {
    copies(Release::Seven);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_copies_of_live_files_are_their_moments_to_rocksdb_9_8() {
    copies(Release::Nine);
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_copies_of_live_files_are_their_moments_to_rocksdb_11_1() {
    copies(Release::Eleven);
}
