//! MANIFESTs of RocksDB 7.8, 9.8 and 11.1 read here, and ours read there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use firndb_testkit::rocksdb;

use super::super::*;
use crate::clock::SystemClock;
use crate::format::key::internal_key;
use crate::fs::PosixFs;
use crate::version::edit::FileMeta;

/// Makes a database in `sys.argv[1]`: three families, of which one is dropped, and tables on several levels.
const ROCKSDICT: &str = "
import sys, rocksdict
options = rocksdict.Options(raw_mode=True)
options.create_if_missing(True)
d = rocksdict.Rdict(sys.argv[1], options)
two = d.create_column_family('two', rocksdict.Options(raw_mode=True))
gone = d.create_column_family('gone', rocksdict.Options(raw_mode=True))
for round in range(5):
    for i in range(100):
        d[b'%03d' % i] = b'v' * round
        two[b'%05d' % (i + 1000 * round)] = b'w'
    d.flush(); two.flush()
    if round == 2: d.compact_range(None, None)
del gone
d.drop_column_family('gone')
two.close(); d.close()
";

const AMULET: &str = "
import sys, rocksdb
for round in range(5):
    d = rocksdb.RocksDB(sys.argv[1], create_if_missing=True)
    for i in range(100): d.put(b'%03d' % i, b'v' * round)
    if round == 2: d.compact()
    d.close()
";

fn config(dir: &Path) -> VersionSetConfig {
    VersionSetConfig {
        fs: Arc::new(PosixFs),
        dir: dir.to_owned(),
        clock: Arc::new(SystemClock::default()),
        levels: 7,
        manifest_bytes_max: 1 << 20,
    }
}

fn ldb(db: &Path, arguments: &[&str]) -> String {
    rocksdb::ldb(Command::new("ldb"), db, arguments, "").expect("ldb does it")
}

fn python(program: &str, dir: &Path) -> String {
    rocksdb::run_python(program, dir).expect("the packages do it")
}

/// Family, level, number and size of a file; level -1 is the family's log number.
type Row = (String, i64, u64, u64);

/// What `ldb manifest_dump` prints.
fn rows_of_ldb(manifest: &Path) -> (BTreeSet<Row>, String) {
    let path = format!("--path={}", manifest.display());
    let text = rocksdb::run(Command::new("ldb").args(["manifest_dump", &path]), "").expect("ldb reads it");
    let mut rows = BTreeSet::new();
    let (mut family, mut level) = (String::new(), 0);
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("--------------- Column family \"") {
            family = rest.split('"').next().expect("a name").to_owned();
        } else if let Some(rest) = line.strip_prefix("log number: ") {
            rows.insert((family.clone(), -1, rest.trim().parse().expect("a number"), 0));
        } else if let Some(rest) = line.strip_prefix("--- level ") {
            level = rest.split(' ').next().and_then(|number| number.parse().ok()).expect("a level");
        } else if let Some((number, rest)) = line.trim().split_once(':')
            && let (Ok(number), Some((size, _))) = (number.parse(), rest.split_once('['))
        {
            rows.insert((family.clone(), level, number, size.parse().expect("a size")));
        }
    }
    (rows, text)
}

fn rows_of(set: &VersionSet) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for family in set.families() {
        rows.insert((family.name.clone(), -1, family.log_number.0, 0));
        for (level, file) in family.version.files() {
            rows.insert((family.name.clone(), level as i64, file.number().0, file.meta.size));
        }
    }
    rows
}

fn manifest_path(set: &VersionSet) -> PathBuf {
    set.config.dir.join(file_name::manifest(set.manifest_number()))
}

/// Ours reads it as `ldb` does; and after a switch, `ldb` reads ours the same.
fn compare(dir: &Path, tables_min: usize) {
    let (set, _) = VersionSet::recover(config(dir), false, &|_, _| None).expect("a MANIFEST of RocksDB");
    let (expected, text) = rows_of_ldb(&manifest_path(&set));
    assert!(expected.len() > tables_min, "too little to compare: {text}");
    assert_eq!(rows_of(&set), expected, "{text}");
    let (last_sequence, db_id) = (set.last_sequence(), set.db_id().to_owned());
    set.switch_manifest().expect("a new MANIFEST");
    assert_eq!(rows_of_ldb(&manifest_path(&set)).0, expected);
    let (again, _) = VersionSet::recover(config(dir), false, &|_, _| None).expect("our own MANIFEST");
    assert_eq!(rows_of(&again), expected);
    assert_eq!((again.last_sequence(), again.db_id()), (last_sequence, &*db_id));
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_manifests_of_three_ages_of_rocksdb_read_as_ldb_reads_them() {
    let temp = tempfile::tempdir().expect("a directory");
    let old = temp.path().join("7.8");
    for round in 0..4 {
        let key = format!("k{round}");
        ldb(&old, &["--create_if_missing", "put", &key, "v"]);
    }
    ldb(&old, &["create_column_family", "two"]);
    compare(&old, 2);
    let nine = temp.path().join("9.8");
    python(ROCKSDICT, &nine);
    compare(&nine, 3);
    let eleven = temp.path().join("11.1");
    python(AMULET, &eleven);
    compare(&eleven, 1);
    // The databases still open where they came from, on our MANIFEST.
    let scan = ldb(&old, &["scan"]);
    assert_eq!(scan.lines().filter(|line| line.starts_with('k')).count(), 4, "{scan}");
    let read = "import sys, rocksdb\nd = rocksdb.RocksDB(sys.argv[1])\nprint(d.get(b'007').decode())\nd.close()";
    assert_eq!(python(read, &eleven).trim(), "vvvv");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_new_database_opens_in_rocksdb() {
    let temp = tempfile::tempdir().expect("a directory");
    let nine = "import sys, rocksdict\nd = rocksdict.Rdict(sys.argv[1], rocksdict.Options(raw_mode=True))\nd[b'k'] = b'v'\nd.close()";
    let eleven = "import sys, rocksdb\nd = rocksdb.RocksDB(sys.argv[1])\nd.put(b'k', b'v')\nd.close()";
    for (age, program) in [("7.8", None), ("9.8", Some(nine)), ("11.1", Some(eleven))] {
        let dir = temp.path().join(age);
        PosixFs.create_dir_all(&dir).expect("made");
        let set = VersionSet::create(config(&dir), KeyOrder::Bytewise).expect("a new database");
        let ours = (set.db_id().to_owned(), set.manifest_number());
        drop(set);
        match program {
            Some(program) => python(program, &dir),
            None => ldb(&dir, &["put", "k", "v"]),
        };
        let (set, _) = VersionSet::recover(config(&dir), true, &|_, _| None).expect("their MANIFEST");
        assert_eq!(set.db_id(), ours.0);
        assert!(set.manifest_number() > ours.1);
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_ldb_reads_edits_groups_families_and_moves_as_we_wrote_them() {
    let temp = tempfile::tempdir().expect("a directory");
    let set = VersionSet::create(config(temp.path()), KeyOrder::Bytewise).expect("a new database");
    let first = set.create_family("two", KeyOrder::ReverseBytewise, FileNumber(3), |_| {}).expect("a family");
    let gone = set.create_family("gone", KeyOrder::Bytewise, FileNumber(3), |_| {}).expect("a family");
    let meta = |key: &[u8], seq: u64| FileMeta {
        number: set.new_file_number(),
        size: 100 + seq,
        smallest: internal_key(key, SequenceNumber(seq), 1),
        largest: internal_key(key, SequenceNumber(seq), 1),
        smallest_seq: SequenceNumber(seq),
        largest_seq: SequenceNumber(seq),
        tail_size: Some(50),
        ..FileMeta::default()
    };
    let edit = |family: ColumnFamilyId, level: u32, meta: FileMeta| VersionEdit {
        family,
        log_number: Some(FileNumber(4)),
        last_sequence: Some(meta.largest_seq),
        new_files: vec![(level, meta)],
        ..VersionEdit::default()
    };
    for seq in 1..20 {
        let group = vec![edit(ColumnFamilyId::DEFAULT, 0, meta(b"a", seq)), edit(first.id, 0, meta(b"b", seq))];
        set.log_and_apply(group, |_| {}).expect("logged");
    }
    let version = set.current(first.id).expect("a version");
    let moved = version.files().last().map(|(_, file)| file.meta.clone()).expect("a file");
    let cursors = vec![(1, moved.largest.clone())];
    let deleted_files = vec![(0, moved.number)];
    let mut trivial_move = VersionEdit { deleted_files, compact_cursors: cursors, ..edit(first.id, 4, moved) };
    trivial_move.min_log_to_keep = Some(FileNumber(4));
    set.log_and_apply(vec![trivial_move], |_| {}).expect("logged");
    set.drop_family(gone.id, FileNumber(0), || {}).expect("dropped");
    assert_eq!(rows_of(&set).len(), 2 + 38);
    let (found, text) = rows_of_ldb(&manifest_path(&set));
    assert_eq!(found, rows_of(&set), "{text}");
    assert!(text.contains("MaxColumnFamily: 2") || text.to_lowercase().contains("max_column_family 2"), "{text}");
    set.switch_manifest().expect("switched");
    let (found, text) = rows_of_ldb(&manifest_path(&set));
    assert_eq!(found, rows_of(&set), "{text}");
}
