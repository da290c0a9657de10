//! What a write accepts can be flushed, recorded, read and reopened; what is larger is refused at the door, and what lies
//! about in the directory is called what it is.

use std::path::{Path, PathBuf};

use firndb::inspect::{self, Field};
use firndb::{
    BackgroundMode, ColumnFamilyId, CreateMode, Db, ErrorKind, Fs, Options, Result, WriteBatch, verify_directory,
};

use crate::lab::{DIR, Lab, settle};

const KEY_MAX: usize = 64 << 20;

fn assert_limit<T: std::fmt::Debug>(outcome: Result<T>, sizes: &[usize]) {
    let error = outcome.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
    sizes.iter().for_each(|size| assert!(error.to_string().contains(&size.to_string()), "{error}"));
}

#[test]
fn what_is_too_long_is_refused_at_the_door_with_its_size_and_the_limit() {
    let lab = Lab::new();
    let db = lab.open();
    let family = db.create_column_family("other").expect("made");
    let long = vec![b'k'; KEY_MAX + 1];
    assert_limit(db.put(&long, "value"), &[KEY_MAX + 1, KEY_MAX]);
    assert_limit(family.put(&long, "value"), &[KEY_MAX + 1]);
    assert_limit(db.delete(&long), &[KEY_MAX + 1]);
    let mut batch = WriteBatch::new();
    batch.put("sound", "value").delete_cf(ColumnFamilyId::DEFAULT, &long);
    assert_limit(db.write(&mut batch), &[KEY_MAX + 1]);
    let mut raw = vec![0; 8];
    raw.extend_from_slice(&[1, 0, 0, 0, 0, 0x81, 0x80, 0x80, 0x20]);
    raw.extend_from_slice(&long);
    assert_limit(WriteBatch::from_bytes(&raw), &[KEY_MAX + 1]);
    assert_limit(db.create_column_family(&"n".repeat(100_000)), &[100_000]);
    db.put("key", "value").expect("writes go on");
    assert!(db.get("sound").expect("readable").is_none());
    db.close().expect("closed");
}

#[test]
fn tables_of_long_keys_are_recorded_in_edits_of_bounded_size() {
    const KEY: usize = 3 << 20;
    let key = |table: u8, side: u8| [vec![table, side], vec![b'k'; KEY]].concat();
    let lab = Lab::new();
    let db = lab.open();
    for table in 0..12 {
        db.put(key(table, 0), "first").expect("written");
        db.put(key(table, 1), "last").expect("written");
        db.flush().expect("flushed");
    }
    db.close().expect("closed");
    // The new MANIFEST is a snapshot of all; then one edit adds what a compaction makes of it, table by table.
    let db = lab.open();
    db.compact_range::<&[u8]>(..).expect("compacted");
    settle(&db);
    assert!(lab.tables().len() >= 12);
    let mut offsets = Vec::new();
    for path in lab.fs.paths().into_iter().filter(|path| path.to_string_lossy().contains("MANIFEST-")) {
        inspect::manifest(&lab.fs, &path, &mut |item| {
            offsets.extend(item.fields.iter().find_map(|(name, field)| match field {
                Field::Number(at) if name == "offset" => Some(*at),
                _ => None,
            }));
            Ok(())
        })
        .expect("sound");
    }
    let largest = offsets.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().expect("records");
    assert!(largest as usize <= (4 << 20) + 2 * KEY + 4096, "{largest}");
    db.close().expect("closed");
    let db = lab.open();
    for table in 0..12 {
        assert_eq!(db.get(key(table, 1)).expect("readable").as_deref(), Some(&b"last"[..]));
    }
    db.close().expect("closed");
    lab.verify();
}

#[test]
fn what_lies_about_under_numbers_that_no_database_gives_is_left_alone() {
    const STRAY: [&str; 8] = [
        "18446744073709551615.sst",
        "18446744073709551615.log",
        "99999999999999999999.log",
        "9223372036854775807.dbtmp",
        "MANIFEST-18446744073709551615",
        "OPTIONS-18446744073709551615",
        "4611686018427387904.sst",
        "4611686014132420610.blob",
    ];
    const DIRECTORIES: [&str; 4] = ["000900.sst", "000901.log", "MANIFEST-000902", "OPTIONS-000903"];
    let lab = Lab::new();
    lab.fs.create_dir_all(DIR.as_ref()).expect("made");
    // Before there is a database, and beside one.
    DIRECTORIES.iter().for_each(|name| lab.fs.create_dir_all(&Path::new(DIR).join(name)).expect("made"));
    lab.open().close().expect("closed");
    for name in STRAY {
        let file = lab.fs.create(&Path::new(DIR).join(name), CreateMode::New).expect("made");
        file.append(b"not ours").expect("written");
    }
    for round in 0..3 {
        let db = lab.open();
        db.put(format!("key{round}"), "value").expect("written");
        db.flush().expect("flushed");
        db.create_column_family(&format!("family{round}")).expect("made");
        settle(&db);
        assert_eq!(db.iter().expect("opened").count(), round + 1);
        db.close().expect("closed");
    }
    assert_eq!(Db::open_read_only(DIR, lab.options.clone()).expect("opened").iter().expect("opened").count(), 3);
    for name in STRAY {
        assert_eq!(lab.fs.read_whole(&Path::new(DIR).join(name), 100).expect("left alone"), b"not ours");
    }
    let listed = lab.fs.list(DIR.as_ref()).expect("listed");
    assert_eq!(listed.iter().filter(|entry| entry.is_dir && DIRECTORIES.contains(&&*entry.name)).count(), 4);
}

#[test]
fn links_in_place_of_files_are_called_links() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let (dir, elsewhere) = (scratch.path().join("db"), scratch.path().join("elsewhere"));
    std::fs::create_dir(&elsewhere).expect("made");
    let options = Options { create_if_missing: true, background: BackgroundMode::Manual, ..Options::default() };
    let db = Db::open_with(&dir, options).expect("opened");
    db.put("key", "value").expect("written");
    db.flush().expect("flushed");
    db.put("key", "in the log").expect("written");
    // What is obsolete goes: nobody reads it, and a link in its place would be as good as the file.
    while db.run_background_step() {}
    // As a crash would leave it.
    std::mem::forget(db);
    let copy = scratch.path().join("copy");
    std::fs::create_dir(&copy).expect("made");
    let names: Vec<PathBuf> =
        std::fs::read_dir(&dir).expect("listed").map(|entry| entry.expect("an entry").path()).collect();
    for path in &names {
        std::fs::copy(path, copy.join(path.file_name().expect("a name"))).expect("copied");
    }
    for path in &names {
        let name = path.file_name().expect("a name");
        std::fs::rename(copy.join(name), elsewhere.join(name)).expect("moved");
        std::os::unix::fs::symlink(elsewhere.join(name), copy.join(name)).expect("linked");
        let error = Db::open(&copy).expect_err("a link");
        assert_eq!(error.kind(), ErrorKind::NotSupported, "{name:?}: {error}");
        let text = error.to_string();
        assert!(text.contains("symbolic link") && text.contains(&*name.to_string_lossy()), "{name:?}: {text}");
        std::fs::remove_file(copy.join(name)).expect("removed");
        std::fs::rename(elsewhere.join(name), copy.join(name)).expect("moved back");
    }
    let db = Db::open(&copy).expect("nothing is in the way any more");
    assert_eq!(db.get("key").expect("readable").as_deref(), Some(&b"in the log"[..]));
    db.close().expect("closed");
}

#[test]
fn an_options_file_that_is_too_long_is_beyond_a_limit_and_not_damaged() {
    let lab = Lab::new();
    lab.open().close().expect("closed");
    let number = lab.fs.paths().into_iter().find(|path| path.to_string_lossy().contains("OPTIONS-")).expect("written");
    lab.fs.damage(&number, |bytes| bytes.extend(std::iter::repeat_n(b'\n', 20 << 20))).expect("there");
    assert_limit(lab.try_open(), &[16 << 20]);
    // Whoever only reads does without.
    let reader = Db::open_read_only(DIR, lab.options.clone()).expect("opens");
    assert!(reader.recovery_report().not_read[0].contains("OPTIONS-"), "{:?}", reader.recovery_report());
    let options = Options { fs: lab.options.fs.clone(), ..Options::default() };
    let report = verify_directory(DIR, &options, &mut |_| {}).expect("verified");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
    assert_limit(report.unchecked.into_iter().next().map_or(Ok(()), Err), &[16 << 20]);
}

#[test]
fn an_error_that_names_readers_stays_short_however_many_there_are() {
    let lab = Lab::new();
    let db = lab.open();
    db.put("key", "value").expect("written");
    let snapshots: Vec<_> = (0..100_000).map(|_| db.snapshot()).collect();
    let iterators: Vec<_> = (0..100).map(|_| db.iter().expect("opened")).collect();
    for outcome in [db.close(), db.assert_no_pins()] {
        let error = outcome.expect_err("readers are open");
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(text.len() < 1000 && text.contains("100100 readers") && text.contains("100095 more"), "{text}");
    }
    assert_eq!(db.pins().len(), 100_100);
    drop((snapshots, iterators));
    db.close().expect("closed");
}
