//! What is said of who can open a directory, and what the real ones do with it.

use std::path::Path;

use firndb::{Fs, Options, PosixFs, compatibility};
use firndb_testkit::hex;

use crate::forms::change_options;
use crate::rocks::{Release, drive, files, ldb, try_drive};

const ALL: [(Release, firndb::Release); 3] = [
    (Release::Seven, firndb::Release { major: 7, minor: 8 }),
    (Release::Nine, firndb::Release { major: 9, minor: 8 }),
    (Release::Eleven, firndb::Release { major: 11, minor: 1 }),
];

pub(crate) fn copy_of(dir: &Path, to: &Path) {
    PosixFs.create_dir_all(to).expect("a directory");
    for path in files(dir, "") {
        let name = path.file_name().expect("a name");
        if name != "LOCK" {
            let bytes = PosixFs.read_whole(&path, 1 << 30).expect("readable");
            let copy = to.join(name);
            PosixFs.write_atomically(&copy, &copy.with_extension("copying"), &bytes).expect("written");
        }
    }
}

/// Compares what is said of each release with what it does; the features that were named.
fn ask(label: &str, dir: &Path, opened_by: &[Release]) -> Vec<&'static str> {
    let found = compatibility(dir, &Options::default()).unwrap_or_else(|error| panic!("{label}: {error}"));
    assert!(found.not_judged.is_empty(), "{label}: {:?}", found.not_judged);
    let mut right = None;
    // Whoever made it knows what is in it.
    for (release, number) in ALL.into_iter().rev() {
        let copy = dir.with_extension(format!("{release:?}"));
        copy_of(dir, &copy);
        let done = try_drive(release, &copy, "open \ndump\nexit\n");
        assert_eq!(found.opens(number), opened_by.contains(&release), "{label}: {release:?}: {found:?}");
        // Some open what they do not know, and read something else.
        let is_right = done.as_ref().is_ok_and(|dump| dump == right.get_or_insert_with(|| dump.clone()));
        assert_eq!(is_right, opened_by.contains(&release), "{label}: {release:?}: {done:?}");
        for obstacle in found.obstacles(number) {
            assert!(PosixFs.exists(&obstacle.file).expect("asked"), "{label}: {obstacle:?}");
        }
    }
    found.requirements.iter().map(|requirement| requirement.feature).collect()
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_whom_compat_says_to_open_a_directory_opens_it_and_nobody_else() {
    use Release::{Eleven, Nine, Seven};
    let temp = tempfile::tempdir().expect("a directory");
    let puts: String = (0..300)
        .map(|i| format!("put default {} {}\n", hex(format!("k{i:05}").as_bytes()), hex(&[i as u8; 60])))
        .collect();
    let cases: [(Release, &str, &str, &[Release], &str); 12] = [
        (Seven, "", "PUTS", &[Seven, Nine, Eleven], ""),
        (Seven, "", "PUTSflush default\nPUTS", &[Seven, Nine, Eleven], "format_version 5"),
        (
            Seven,
            "compression=kZSTD;compression_opts={max_dict_bytes=2048};",
            "PUTSflush default\n",
            &[Seven, Nine, Eleven],
            "XXH3",
        ),
        (
            Seven,
            "block_based_table_factory={format_version=2;checksum=kCRC32c};",
            "PUTSflush default\n",
            &[Seven, Nine, Eleven],
            "",
        ),
        (
            Seven,
            "block_based_table_factory={index_type=kBinarySearchWithFirstKey};",
            "PUTSflush default\n",
            &[Seven, Nine, Eleven],
            "first keys",
        ),
        (Seven, "wal_compression=kZSTD;compression=kZSTD;", "PUTS", &[Seven, Nine, Eleven], "compressed log"),
        (Seven, "enable_blob_files=true;min_blob_size=2;", "PUTSflush default\n", &[Seven, Nine, Eleven], "blob files"),
        (Seven, "recycle_log_file_num=4;", "PUTSflush default\nPUTS", &[Seven, Nine, Eleven], ""),
        (Nine, "", "entity default 61 6262\n", &[Seven, Nine, Eleven], "entities"),
        (Nine, "format_version=6;", "PUTS", &[Seven, Nine, Eleven], ""),
        (Nine, "format_version=6;", "PUTSflush default\n", &[Nine, Eleven], "format_version 6"),
        (Eleven, "", "PUTSflush default\n", &[Eleven], "format_version 7"),
    ];
    for (index, (release, options, script, opened_by, feature)) in cases.into_iter().enumerate() {
        let dir = temp.path().join(index.to_string());
        let script = script.replace("PUTS", &puts);
        // The package of 11.1 has no other codec.
        let codec = if options.contains("compression=k") { "" } else { "compression=kZSTD;" };
        drive(release, &dir, &format!("open {codec}{options}\n{script}sync\nexit\n"));
        let label = format!("{index}: {release:?} {options}");
        let found = ask(&label, &dir, opened_by);
        assert!(feature.is_empty() || found.iter().any(|found| found.contains(feature)), "{label}: {found:?}");
    }
    // What we write by default is for all of them.
    let dir = temp.path().join("ours");
    let db = firndb::Db::open(&dir).expect("new");
    (0..300).for_each(|i| db.put(format!("k{i:05}"), [7; 60]).expect("written"));
    db.flush().expect("flushed");
    db.delete_range("k00003", "k00009").expect("written");
    db.close().expect("closes");
    ask("ours", &dir, &[Seven, Nine, Eleven]);
    // A form that 11.1 puts into tables of an old format_version.
    let dir = temp.path().join("apart");
    ldb(Eleven, &dir, &["--create_if_missing", "put", "first", "1"], "");
    change_options(&dir, &[("separate_key_value_in_data_block", "true"), ("format_version", "5")]);
    let rows: String = (0..2000).map(|i| format!("key{i:05} ==> value {i}\n")).collect();
    ldb(Eleven, &dir, &["--try_load_options", "load"], &rows);
    ldb(Eleven, &dir, &["--try_load_options", "compact"], "");
    let found = ask("apart", &dir, &[Eleven]);
    assert!(found.contains(&"values apart from keys in data blocks"), "{found:?}");
}
