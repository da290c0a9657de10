//! Blob files that RocksDB makes: read in every way, carried through our compactions, and given back whole.

use std::path::Path;

use firndb::inspect::{self, Field};
use firndb::{Compression, Db, Fs, Options, PosixFs, verify_directory};
use firndb_testkit::hex;

use crate::rocks::{Release, assert_same_dump, drive, files, ldb};

fn key(i: u32) -> Vec<u8> {
    format!("k{i:05}").into_bytes()
}

fn value(i: u32, round: u32) -> Vec<u8> {
    format!("{round} {i} ").repeat(4 + i as usize % 30).into_bytes()
}

fn puts(numbers: impl Iterator<Item = u32>, round: u32) -> String {
    numbers.map(|i| format!("put default {} {}\n", hex(&key(i)), hex(&value(i, round)))).collect()
}

/// The garbage that MANIFEST tells of, over all blob files: records and bytes.
fn garbage(dir: &Path) -> (u64, u64) {
    let current = String::from_utf8(PosixFs.read_whole(&dir.join("CURRENT"), 100).expect("readable")).expect("text");
    let mut found = (0, 0);
    inspect::manifest(&PosixFs, &dir.join(current.trim_end()), &mut |item| {
        let number = |wanted: &str| {
            item.fields.iter().find_map(|(name, field)| match field {
                Field::Number(number) if name == wanted => Some(*number),
                _ => None,
            })
        };
        if item.title == "blob garbage" {
            found.0 += number("blobs").unwrap_or(0);
            found.1 += number("bytes").unwrap_or(0);
        }
        Ok(())
    })
    .expect("readable");
    found
}

fn sound(dir: &Path, what: &str) {
    let report = verify_directory(dir, &Options::default(), &mut |_| {}).expect("verified");
    assert!(report.damages.is_empty() && report.unchecked.is_empty(), "{what}: {report:?}");
}

fn lives_and_dies(release: Release, options: &str) {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let script = format!(
        "open {options}\n{}flush default\n{}flush default\nexit\n",
        puts(0..300, 1),
        puts((0..300).step_by(3), 2)
    );
    drive(release, &dir, &script);
    let made = files(&dir, ".blob");
    assert!(made.len() >= 2, "{release:?}: {made:?}");
    sound(&dir, "as it was made");
    let expected = |i: u32| value(i, if i.is_multiple_of(3) { 2 } else { 1 });
    let read_all = |db: &Db, what: &str| {
        let forwards: Vec<_> = db.iter().expect("an iterator").map(|entry| entry.expect("readable")).collect();
        assert_eq!(forwards.len(), 300, "{release:?} {what}");
        let backwards: Vec<_> = db.iter().expect("an iterator").rev().map(|entry| entry.expect("readable")).collect();
        assert!(backwards.iter().rev().eq(&forwards), "{release:?} {what}");
        let keys: Vec<_> = (0..300).map(key).collect();
        let many = db.multi_get(&keys);
        for (i, (found, (name, shown))) in (0..).zip(many.into_iter().zip(&forwards)) {
            assert_eq!((&name[..], &shown[..]), (&key(i)[..], &expected(i)[..]), "{release:?} {what}");
            assert_eq!(found.expect("readable").as_deref(), Some(&expected(i)[..]));
            assert_eq!(db.get(key(i)).expect("readable").as_deref(), Some(&expected(i)[..]));
        }
    };
    let reader = Db::open_read_only(&dir, Options::default()).expect("opens");
    read_all(&reader, "read-only");
    reader.close().expect("closes");
    let db = Db::open_with(&dir, Options::default()).expect("opens");
    read_all(&db, "for writing");
    let listed = db.live_files().expect("listed");
    let names: Vec<_> = listed.files().iter().map(|file| file.path.clone()).collect();
    assert!(made.iter().all(|blob| names.contains(blob)), "{names:?}");
    drop(listed);
    // A hundred references are hidden by newer ones.
    db.compact_range::<&[u8]>(..).expect("compacted");
    read_all(&db, "compacted");
    assert_eq!(garbage(&dir).0, 100, "{release:?}");
    sound(&dir, "compacted");
    // The rest goes, but for what a snapshot and a cursor see.
    let (view, snapshot) = (db.iter().expect("an iterator"), db.snapshot());
    db.delete_range(key(0), key(200)).expect("deleted");
    (200..300).for_each(|i| db.put(key(i), "short").expect("written"));
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(view.map(|entry| entry.expect("readable")).filter(|(_, v)| v.len() > 5).count(), 300);
    drop(snapshot);
    db.compact_range::<&[u8]>(..).expect("compacted");
    assert_eq!(db.iter().expect("an iterator").count(), 100);
    db.close().expect("closes");
    // Nothing refers to any of them: closing waits for the janitor.
    assert_eq!(files(&dir, ".blob"), Vec::<std::path::PathBuf>::new(), "{release:?}");
    sound(&dir, "at the end");
    let ours = (200..300).map(|i| format!("{} {}\n", hex(&key(i)), hex(b"short"))).collect::<String>();
    let theirs = drive(release, &dir, &format!("open {options}\ndump\nexit\n"));
    assert_same_dump("given back", &theirs, &format!("family default\n{ours}"));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_blob_files_live_as_long_as_something_refers_to_them() {
    lives_and_dies(Release::Seven, "enable_blob_files=true;min_blob_size=10;");
    lives_and_dies(Release::Nine, "enable_blob_files=true;min_blob_size=10;blob_compression=zstd");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_blob_file_that_a_crash_left_goes_at_the_next_opening_but_not_while_something_may_refer_to_it() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let script = format!("open enable_blob_files=true;min_blob_size=10;\n{}flush default\nexit\n", puts(0..100, 1));
    drive(Release::Seven, &dir, &script);
    let blob = files(&dir, ".blob").pop().expect("a blob file");
    let whole = PosixFs.read_whole(&blob, 1 << 30).expect("readable");
    let db = Db::open_with(&dir, Options::default()).expect("opens");
    db.delete_range(key(0), key(100)).expect("deleted");
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close().expect("closes");
    assert!(files(&dir, ".blob").is_empty());
    // As if the crash had come between the edit and the unlinking.
    let stray = dir.join("999999.blob");
    for path in [&blob, &stray] {
        PosixFs.write_atomically(path, &path.with_extension("new"), &whole).expect("written");
    }
    let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("verified");
    assert!(report.damages.is_empty(), "{report:?}");
    assert_eq!(report.notes.iter().filter(|note| note.contains(".blob is in no version")).count(), 2, "{report:?}");
    // A table that was lost may refer to what MANIFEST never named.
    let lost = dir.join("lost");
    PosixFs.create_dir_all(&lost).expect("made");
    PosixFs.write_atomically(&lost.join("000777.sst"), &lost.join("new"), b"a table").expect("written");
    let reopened = || {
        let db = Db::open_with(&dir, Options::default()).expect("opens");
        db.put("k", "v").expect("written");
        db.close().expect("closes");
        files(&dir, ".blob")
    };
    assert_eq!(reopened(), [stray]);
    PosixFs.remove_file(&lost.join("000777.sst")).expect("removed");
    assert_eq!(reopened(), Vec::<std::path::PathBuf>::new(), "its values are in a log, or were in none");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_garbage_that_we_tell_of_is_what_rocksdb_collects_by() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let options = "enable_blob_files=true;min_blob_size=10;enable_blob_garbage_collection=true;\
                   blob_garbage_collection_age_cutoff=1;";
    let script = format!("open {options}\n{}flush default\nexit\n", puts(0..300, 1));
    drive(Release::Seven, &dir, &script);
    let db = Db::open_with(&dir, Options::default()).expect("opens");
    // OPTIONS says that we should collect, too.
    db.set_options(&[("enable_blob_garbage_collection", "false"), ("enable_blob_files", "false")]).expect("set");
    (0..300).filter(|i| i % 4 > 0).for_each(|i| db.delete(key(i)).expect("deleted"));
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close().expect("closes");
    assert_eq!(garbage(&dir).0, 225);
    let before = files(&dir, ".blob");
    // It writes what is left into a new file, and lets the old one go.
    let dump = drive(Release::Seven, &dir, &format!("open {options}\ncompact default\ndump\nexit\n"));
    assert_eq!(dump.lines().count(), 1 + 75);
    let after = files(&dir, ".blob");
    assert!(!after.is_empty() && after.iter().all(|file| !before.contains(file)), "{before:?} {after:?}");
    sound(&dir, "after their collection");
    let db = Db::open_with(&dir, Options::default()).expect("opens");
    assert_same_dump("after their collection", &crate::firn::dump_of(&db), &dump);
    db.close().expect("closes");
}

fn our_options(compression: Compression) -> Options {
    let mut options = Options { create_if_missing: true, ..Options::default() };
    options.family.enable_blob_files = true;
    options.family.min_blob_size = 20;
    options.family.blob_file_size = 8 << 10;
    options.family.blob_compression_type = compression;
    options.family.enable_blob_garbage_collection = true;
    options.family.blob_garbage_collection_age_cutoff = 0.5;
    options
}

/// RocksDB reads, collects and compacts blob files of ours, and we go on with what it leaves.
#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_blob_files_of_ours_are_read_and_collected_by_every_rocksdb() {
    for (round, codec) in (0u32..).zip([Compression::None, Compression::Lz4, Compression::Zstd, Compression::Snappy]) {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("db");
        let db = Db::open_with(&dir, our_options(codec)).expect("opens");
        (0..300).for_each(|i| db.put(key(i), value(i, round)).expect("written"));
        db.flush().expect("flushed");
        (0..300).step_by(3).for_each(|i| db.put(key(i), value(i, round + 1)).expect("written"));
        (0..300).step_by(7).for_each(|i| db.put(key(i), "short").expect("written"));
        db.flush().expect("flushed");
        let expected = crate::firn::dump_of(&db);
        let made = files(&dir, ".blob");
        assert!(made.len() > 1, "{made:?}");
        db.close().expect("closes");
        sound(&dir, "as we made it");
        for release in [Release::Seven, Release::Nine] {
            // 7.8 has Snappy by default, which the package of 11.1 has not.
            let found = drive(release, &dir, "open compression=kNoCompression;\ndump\nexit\n");
            assert_same_dump(&format!("{release:?} reads, {codec:?}"), &found, &expected);
        }
        // A new file from ours: our collection first, then theirs.
        let db = Db::open_with(&dir, our_options(codec)).expect("opens");
        db.compact_range::<&[u8]>(..).expect("compacted");
        assert_same_dump("after our collection", &crate::firn::dump_of(&db), &expected);
        db.close().expect("closes");
        let after = files(&dir, ".blob");
        assert!(made.iter().any(|file| !after.contains(file)), "nothing was collected: {after:?}");
        sound(&dir, "after our collection");
        let collecting = "compression=kNoCompression;enable_blob_files=true;min_blob_size=20;enable_blob_garbage_collection=true;\
                          blob_garbage_collection_age_cutoff=1;";
        let found = drive(Release::Seven, &dir, &format!("open {collecting}\ncompact default\ndump\nexit\n"));
        assert_same_dump("after the collection of 7.8", &found, &expected);
        sound(&dir, "after the collection of 7.8");
        // That package has no Snappy.
        if codec != Compression::Snappy {
            let scan = ldb(Release::Eleven, &dir, &["--try_load_options", "scan"], "");
            assert_eq!(scan.lines().filter(|line| line.contains(" ==> ")).count(), 300);
        }
        let db = Db::open_with(&dir, our_options(codec)).expect("opens");
        assert_same_dump("at the end", &crate::firn::dump_of(&db), &expected);
        db.close().expect("closes");
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_blob_files_of_11_1_are_read_and_written_on() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let lines: String = (0..2000).map(|i| format!("key{i:05} ==> value{i}value{i}\n")).collect();
    let say = |arguments: &[&str], input: &str| {
        let options = &["--enable_blob_files", "--min_blob_size=0"];
        ldb(Release::Eleven, &dir, &[&options[..], arguments].concat(), input)
    };
    say(&["--create_if_missing", "load"], &lines);
    say(&["compact"], "");
    assert!(!files(&dir, ".blob").is_empty());
    sound(&dir, "as 11.1 made it");
    let db = Db::open_with(&dir, Options::default()).expect("opens");
    assert!(db.iter().expect("an iterator").all(|entry| entry.is_ok()));
    assert_eq!(db.iter().expect("an iterator").count(), 2000);
    assert_eq!(db.get("key00007").expect("readable").as_deref(), Some(&b"value7value7"[..]));
    db.put("key00007", "ours").expect("written");
    db.delete("key00008").expect("deleted");
    db.compact_range::<&[u8]>(..).expect("compacted");
    db.close().expect("closes");
    assert_eq!(garbage(&dir).0, 2);
    let scan = say(&["scan"], "");
    assert_eq!(scan.lines().filter(|line| line.contains(" ==> ")).count(), 1999);
    assert!(scan.contains("key00007 ==> ours") && scan.contains("key00009 ==> value9value9"));
    // And once more, after it went on.
    say(&["compact"], "");
    sound(&dir, "after 11.1 went on");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_damage_of_blob_files_is_reported_with_its_place_and_never_returned() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("db");
    let script = format!("open enable_blob_files=true;min_blob_size=10;\n{}flush default\nexit\n", puts(0..100, 1));
    drive(Release::Seven, &dir, &script);
    let blob = files(&dir, ".blob").pop().expect("a blob file");
    let whole = PosixFs.read_whole(&blob, 1 << 30).expect("readable");
    for at in (30..whole.len()).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        PosixFs.write_atomically(&blob, &blob.with_extension("new"), &bytes).expect("written");
        let report = verify_directory(&dir, &Options::default(), &mut |_| {}).expect("verified");
        let is_named = |error: &firndb::Error| error.to_string().contains(".blob") && error.corruption().is_some();
        assert!(report.damages.iter().any(is_named), "{at}: {report:?}");
        let db = Db::open_read_only(&dir, Options::default()).expect("opens");
        for i in 0..100 {
            match db.get(key(i)) {
                Ok(found) => assert_eq!(found.as_deref(), Some(&value(i, 1)[..]), "{at}"),
                Err(error) => assert!(is_named(&error), "{at}: {error}"),
            }
        }
    }
    PosixFs.remove_file(&blob).expect("removed");
    let error = Db::open_with(&dir, Options::default()).expect_err("refused");
    assert!(error.to_string().contains(".blob"), "{error}");
}
