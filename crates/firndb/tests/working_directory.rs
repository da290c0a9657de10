//! A process that goes elsewhere: a database stays where it was opened. One test alone, since the working directory is the
//! whole process's.

use std::env::set_current_dir;
use std::os::unix::fs::symlink;
use std::path::Path;

use firndb::{Db, Options, verify_directory};

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn fill(db: &Db, from: u32, to: u32) {
    for number in from..to {
        db.put(number.to_be_bytes(), "value").expect("written");
        if number % 10 == 9 {
            db.flush().expect("flushed");
        }
    }
}

#[test]
fn a_database_stays_where_it_was_opened_wherever_its_process_and_its_links_go() {
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| scratch.path().join(name);
    for place in ["mine", "theirs", "moved"] {
        std::fs::create_dir(at(place)).expect("made");
    }
    // A database of the same relative name elsewhere.
    set_current_dir(at("theirs")).expect("there");
    let theirs = Db::open("db").expect("opened");
    fill(&theirs, 0, 25);
    theirs.close().expect("closed");
    let before = names(&at("theirs/db"));

    set_current_dir(at("mine")).expect("there");
    let mine = Db::open("./nowhere/../db").expect("opened");
    fill(&mine, 0, 50);
    set_current_dir(at("theirs")).expect("there");
    fill(&mine, 50, 300);
    mine.compact_range::<&[u8]>(..).expect("compacted");
    mine.create_column_family("later").expect("made");
    mine.close().expect("closed");
    drop(mine);
    assert_eq!(names(&at("theirs/db")), before);

    set_current_dir(at("mine")).expect("there");
    let mut read_only = Options::default();
    // Tables are opened again and again.
    read_only.max_open_files = 16;
    let reader = Db::open_read_only("db", read_only).expect("opened");
    let mut has_left = false;
    let mut leave = |_| {
        if !has_left {
            set_current_dir(at("theirs")).expect("there");
            has_left = true;
        }
    };
    let report = verify_directory("db", &Options::default(), &mut leave).expect("verified");
    assert!(report.damages.is_empty() && report.entries == 300, "{report:?}");
    assert_eq!(reader.iter().expect("opened").filter(Result::is_ok).count(), 300);
    drop(reader);

    // The directory itself behind a link, which then leads elsewhere.
    symlink(at("mine/db"), at("link")).expect("linked");
    let linked = Db::open(at("link")).expect("opened");
    std::fs::remove_file(at("link")).expect("removed");
    symlink(at("moved"), at("link")).expect("linked");
    fill(&linked, 300, 320);
    linked.close().expect("closed");
    assert_eq!(names(&at("moved")), [""; 0]);
    let again = Db::open(at("mine/db")).expect("opened");
    assert_eq!(again.iter().expect("opened").count(), 320);
    again.close().expect("closed");

    std::fs::remove_file(at("link")).expect("removed");
    symlink(at("gone"), at("link")).expect("linked");
    let error = Db::open(at("link")).expect_err("a link to nothing");
    assert!(error.to_string().contains("symbolic link to nothing"), "{error}");
}
