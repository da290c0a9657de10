//! RocksDB's tools read what `firn` wrote.

use std::path::{Path, PathBuf};
use std::process::Command;

use firndb_testkit::rocksdb::{self, check_consistency, ldb, verify_tables};
use firndb_testkit::{Random, hex};

use super::{Place, files, firn};

/// What `ldb` of 7.8.3 says when it works at the directory.
fn say(db: &Path, arguments: &[&str]) -> String {
    ldb(Command::new("ldb"), db, arguments, "").expect("ldb does it")
}

impl Place {
    /// A copy of the database, since ldb writes to what it opens.
    fn copy(&self, name: &str) -> PathBuf {
        let copy = self.temporary.path().join(name);
        std::fs::create_dir(&copy).expect("made");
        for file in files(&self.db(), "") {
            std::fs::copy(&file, copy.join(file.file_name().expect("a name"))).expect("copied");
        }
        copy
    }

    /// RocksDB reads every family as we do, finds its files consistent, and its tables whole.
    fn is_read_by_rocksdb(&self, label: &str, families: &[&str]) {
        let copy = self.copy(label);
        check_consistency(Command::new("ldb"), &copy).unwrap_or_else(|error| panic!("{label}: {error}"));
        for family in families {
            let ours = self.run("scan", &["--hex", "--cf", family]).text();
            let theirs: String = say(&copy, &["scan", "--hex", &format!("--column_family={family}")])
                .lines()
                .map(|line| line.replace(" : ", "\t").replace("0x", "").to_lowercase() + "\n")
                .collect();
            assert_eq!(ours, theirs, "{label}, {family}");
        }
        let tables = self.files(".sst");
        if !tables.is_empty() {
            assert_eq!(verify_tables(&self.db()), Ok(tables.len()), "{label}");
        }
        // What RocksDB left of its copy is ours to read again.
        for family in families {
            let copied = firn(&["scan", copy.to_str().expect("text"), "--hex", "--cf", family]).text();
            assert_eq!(copied, self.run("scan", &["--hex", "--cf", family]).text(), "{label}, {family}");
        }
        assert_eq!(firn(&["verify", copy.to_str().expect("text")]).code, 0, "{label}");
    }
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_ldb_scans_what_firn_loaded_flushed_and_compacted() {
    let place = Place::new();
    let lines: String = (0..5000u32)
        .map(|n| format!("{:08x}\t{}\n", n.wrapping_mul(2_654_435_761), "ab".repeat(n as usize % 60)))
        .collect();
    place.lines(&lines, &["--hex"]).is_silent();
    for verb in ["log", "flush", "compact"] {
        if verb != "log" {
            place.run(verb, &[]).is_silent();
        }
        place.is_read_by_rocksdb(verb, &["default"]);
        place.run("count", &[]).prints("5000\n");
    }
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_ldb_reads_families_deletes_and_every_byte_at_every_stage() {
    let place = Place::new();
    let db = place.db();
    firn(&["cf", "create", db.to_str().expect("text"), "two"]).is_silent();
    firn(&["cf", "create", db.to_str().expect("text"), "gone"]).is_silent();
    let families = ["default", "two"];
    let mut random = Random::new(11);
    for stage in 0..6 {
        for family in families {
            let lines: String = (0..800)
                .map(|_| {
                    let key = [&[random.any() as u8][..], &random.bytes_up_to(2)].concat();
                    match random.index(4) {
                        0 => format!("{}\n", hex(&key)),
                        _ => format!("{}\t{}\n", hex(&key), hex(&random.bytes_up_to(40))),
                    }
                })
                .collect();
            place.lines(lines, &["--hex", "--cf", family, "--batch", "100"]).is_silent();
        }
        match stage {
            1 => place.run("flush", &["--cf", "two"]).is_silent(),
            2 => place.run("compact", &[]).is_silent(),
            3 => firn(&["cf", "drop", db.to_str().expect("text"), "gone"]).is_silent(),
            4 => place.run("flush", &[]).is_silent(),
            _ => {}
        }
        let all: &[&str] = if stage < 3 { &["default", "two", "gone"] } else { &families };
        place.is_read_by_rocksdb(&format!("stage {stage}"), all);
    }
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_what_a_killed_load_acknowledged_is_there_for_rocksdb_too() {
    let place = Place::new();
    let mut child =
        super::command().arg("load").arg(place.db()).args(["--ack", "--batch", "50"]).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let lines: String = (0..1000).map(|number| format!("key{number:05}\tvalue\n")).collect();
    std::io::Write::write_all(&mut stdin, lines.as_bytes()).expect("it reads");
    let mut acks = std::io::BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    while line != "1000\n" {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut acks, &mut line).expect("acknowledged") > 0);
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    place.run("count", &[]).prints("1000\n");
    place.is_read_by_rocksdb("killed", &["default"]);
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_what_ldb_writes_firn_reads_and_writes_on_blob_files_too() {
    let place = Place::new();
    let db = place.db();
    say(&db, &["--create_if_missing", "put", "a", "1"]);
    say(&db, &["put", "b", "2"]);
    say(&db, &["delete", "a"]);
    place.run("scan", &[]).prints("b\t2\n");
    place.run("put", &["c", "3"]).is_silent();
    assert_eq!(say(&db, &["scan"]), "b : 2\nc : 3\n");
    place.run("compact", &[]).is_silent();
    assert_eq!(place.run("verify", &[]).code, 0);
    say(&db, &["deleterange", "a", "c"]);
    place.run("scan", &[]).prints("c\t3\n");
    place.run("put", &["d", "4"]).is_silent();
    place.run("delete-range", &["c", "d"]).is_silent();
    assert_eq!(say(&db, &["scan"]), "d : 4\n");
    say(&db, &["--enable_blob_files", "--min_blob_size=0", "compact"]);
    place.run("scan", &[]).prints("d\t4\n");
    place.run("put", &["k", "v"]).is_silent();
    assert_eq!(place.run("verify", &[]).code, 0);
    assert_eq!(say(&db, &["scan"]), "d : 4\nk : v\n");
}

/// What `sst_dump` says of how each table was made: codec and filter.
fn how_made(place: &Place) -> Vec<String> {
    let describe = |table: &PathBuf| {
        let arguments = [&*format!("--file={}", table.display()), "--show_properties", "--command=none"];
        let said = rocksdb::run(Command::new("sst_dump").args(arguments), "").expect("sst_dump reads it");
        let is_wanted = |line: &&str| line.contains("SST file compression algo") || line.contains("filter policy name");
        said.lines().filter(is_wanted).map(str::trim).collect::<Vec<_>>().join(", ")
    };
    place.files(".sst").iter().map(describe).collect()
}

#[test]
#[ignore = "needs RocksDB 7.8.3's ldb (cargo xtask oracles)"]
fn oracle_every_verb_that_writes_keeps_codec_and_filter_of_a_directory_of_rocksdbs() {
    let place = Place::new();
    let lines: String = (0..3000).map(|n| format!("key{n:05} ==> value {n} which compresses well\n")).collect();
    let chosen = ["--compression_type=zstd", "--bloom_bits=10", "--block_size=2048"];
    let load = [&["--create_if_missing", "--compact"][..], &chosen, &["load"]].concat();
    ldb(Command::new("ldb"), &place.db(), &load, &lines).expect("ldb loads");
    let made = how_made(&place);
    assert!(!made.is_empty() && made.iter().all(|table| table.contains("ZSTD") && table.contains("bloom")), "{made:?}");
    let of_ours: String = (0..3000).map(|n| format!("more{n:05}\tvalue {n} which compresses well\n")).collect();
    place.lines(&of_ours, &[]).is_silent();
    for (verb, arguments) in
        [("put", &["one", "more"][..]), ("delete", &["key00007"]), ("flush", &[]), ("compact", &[])]
    {
        place.run(verb, arguments).is_silent();
        let now = how_made(&place);
        assert!(now.iter().all(|table| *table == made[0]), "after {verb}: {now:?}, {made:?} before");
    }
    place.run("count", &[]).prints("6000\n");
}
