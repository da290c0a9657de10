//! OPTIONS goes from RocksDB through this engine, which knows few of its keys, and back: nothing is lost on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firndb::{Db, Fs, Options, PosixFs};

use crate::rocks::{Release, drive, files, ldb, word};

type Section = BTreeMap<String, String>;

/// The newest OPTIONS file's sections: keys and values.
fn options_of(dir: &Path) -> BTreeMap<String, Section> {
    let is_options = |path: &PathBuf| path.to_string_lossy().contains("/OPTIONS-");
    let newest = files(dir, "").into_iter().rfind(is_options).expect("an OPTIONS file");
    let text = String::from_utf8(PosixFs.read_whole(&newest, 1 << 20).expect("readable")).expect("text");
    let mut sections = BTreeMap::<String, Section>::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            name = section.trim_end_matches(']').to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            sections.entry(name.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    sections
}

/// This engine opens, makes a family, drops another, and so writes the file anew.
fn make_and_drop_families(dir: &Path) {
    let db = Db::open_with(dir, Options::default()).expect("opens");
    db.create_column_family("of ours").expect("created");
    db.drop_column_family("two").expect("dropped");
    db.close().expect("closes");
}

/// Sections of families come and go; the others are whole.
fn assert_carried_on(label: &str, before: &BTreeMap<String, Section>, after: &BTreeMap<String, Section>) {
    for (name, section) in before {
        if name == "Version" || name.contains("\"two\"") {
            continue;
        }
        let after = after.get(name).unwrap_or_else(|| panic!("{label}: [{name}] is gone"));
        let is_changed = |(key, value): &(&String, &String)| after.get(*key) != Some(*value);
        let changed: Vec<_> =
            section.iter().filter(is_changed).map(|(key, value)| (key, value, after.get(key))).collect();
        assert!(changed.is_empty(), "{label}: [{name}]: {changed:?}");
    }
    assert!(after.contains_key("CFOptions \"of ours\"") && !after.contains_key("CFOptions \"two\""), "{label}");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_options_that_rocksdb_chose_are_still_there_when_it_loads_what_we_wrote() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("7.8");
    let chosen = "write_buffer_size=123456;max_background_jobs=7;WAL_ttl_seconds=77;num_levels=5;prefix_extractor=\
                  rocksdb.CappedPrefix.4;compaction_options_universal={size_ratio=13;};compression=kLZ4Compression;\
                  block_based_table_factory={block_size=777;filter_policy=ribbonfilter:9:2;};";
    drive(Release::Seven, &dir, &format!("open {chosen}\nfamily two\nput default 61 62\nexit\n"));
    let mut before = options_of(&dir);
    assert_eq!(before["CFOptions \"default\""]["write_buffer_size"], "123456");
    make_and_drop_families(&dir);
    assert_carried_on("ours of 7.8", &before, &options_of(&dir));
    drive(Release::Seven, &dir, "options default\tof ours\nexit\n");
    // It takes them all from our file, and writes them into its own.
    ldb(Release::Seven, &dir, &["--try_load_options", "put", "c", "d"], "");
    // Two that `ldb` sets itself.
    for (section, key) in [("DBOptions", "create_if_missing"), ("CFOptions \"default\"", "merge_operator")] {
        before.get_mut(section).and_then(|section| section.remove(key)).expect("there");
    }
    assert_carried_on("7.8 again", &before, &options_of(&dir));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_options_of_later_releases_are_carried_on_unknown_keys_and_all() {
    let temp = tempfile::tempdir().expect("a directory");
    for release in [Release::Nine, Release::Eleven] {
        let dir = temp.path().join(format!("{release:?}"));
        match release {
            Release::Nine => {
                let chosen = "write_buffer_size=123456;bloom=9;format_version=6;block_size=777";
                drive(release, &dir, &format!("open {chosen}\nfamily two\nput default {} 62\nexit\n", word(b"a")));
            }
            _ => {
                ldb(release, &dir, &["--create_if_missing", "put", "a", "b"], "");
                ldb(release, &dir, &["create_column_family", "two"], "");
                ldb(release, &dir, &["--write_buffer_size=123456", "put", "a", "b"], "");
            }
        }
        let before = options_of(&dir);
        assert_eq!(before["CFOptions \"default\""]["write_buffer_size"], "123456", "{release:?}");
        make_and_drop_families(&dir);
        assert_carried_on(&format!("ours of {release:?}"), &before, &options_of(&dir));
        if release == Release::Nine {
            drive(release, &dir, "options default\tof ours\nexit\n");
        }
        // The newest release takes them all from our file, and writes them into its own.
        let said = ldb(Release::Eleven, &dir, &["--try_load_options", "get", "a"], "");
        assert_eq!(said.trim(), "b", "{release:?}");
        if release == Release::Eleven {
            ldb(release, &dir, &["--try_load_options", "put", "c", "d"], "");
            assert_carried_on("11.1 again", &before, &options_of(&dir));
        }
    }
}
