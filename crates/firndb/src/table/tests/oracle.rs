//! Tables that RocksDB 7.8, 9.8 and 11.1 wrote, in every form that is read here, entry by entry; and their damage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use firndb_testkit::{hex, rocksdb, unhex};

use super::super::filters::{FilterForm, Filters, OtherFilter};
use super::super::parts::Parts;
use super::*;
use crate::fs::PosixFs;

/// zlib is missing here: the package stores its blocks raw, and says nothing.
///
/// Makes `sys.argv[1]/NAME/` and `NAME.expected`, lines of key and value in hex, for many forms of tables. Key `many` has
/// versions enough for several blocks, which snapshots keep: then the index has internal keys.
const ROCKSDICT: &str = "
import sys, rocksdict as r
C, K, I, D = r.DBCompressionType, r.ChecksumType, r.BlockBasedIndexType, r.DataBlockIndexType
def make(name, codec, checksum, version, restart=16, index_restart=1, index=None, data_index=None, bloom=None,
         many=False, ingest=False, size=300, rounds=2, keys=150, parts=None,
         dictionary=None):
    o = r.Options(raw_mode=True); o.create_if_missing(True); o.set_compression_type(codec)
    o.set_disable_auto_compactions(True)
    b = r.BlockBasedOptions()
    b.set_checksum_type(checksum); b.set_format_version(version); b.set_block_size(size)
    b.set_block_restart_interval(restart); b.set_index_block_restart_interval(index_restart)
    if index: b.set_index_type(index)
    if data_index: b.set_data_block_index_type(data_index); b.set_data_block_hash_ratio(0.75)
    if bloom: b.set_bloom_filter(*bloom)
    if dictionary:
        o.set_compression_options(-14, 32767, 0, dictionary[0])
        if dictionary[1]: o.set_zstd_max_train_bytes(dictionary[1])
    if parts:
        b.set_index_type(I.two_level_index_search()); b.set_metadata_block_size(parts)
        b.set_partition_filters(bool(bloom))
    if index: o.set_prefix_extractor(r.SliceTransform.create_fixed_prefix(3))
    o.set_block_based_table_factory(b)
    path = sys.argv[1] + '/' + name
    d = r.Rdict(path, o)
    expected, kept = {}, []
    for round in range(rounds):
        for i in range(round, keys, round + 1):
            k = b'key%05d' % i if i % 3 else b'key%05d' % i + b'long' * 40
            if round and i % 5 == 0:
                d.delete(k); expected.pop(k, None)
            else:
                v = (b'%d.%d ' % (round, i)) * (i % 9)
                d[k] = v; expected[k] = v
        if many:
            for i in range(40):
                d[b'many'] = expected[b'many'] = b'%d' % i * 30
                kept.append(d.snapshot())
        d.flush()
    if ingest:
        w = r.SstFileWriter(o); w.open(sys.argv[1] + '/external.sst')
        for i in range(0, keys, 2):
            k = b'key%05d' % i; w[k] = expected[k] = b'ingested %d' % i
        w.finish()
        d.ingest_external_file([sys.argv[1] + '/external.sst'])
    with open(path + '.expected', 'w') as out:
        for k in sorted(expected): out.write(k.hex() + ' ' + expected[k].hex() + '\\n')
    del kept
    d.close()
none = C.none()
for name in ('none', 'snappy', 'lz4', 'lz4hc', 'zstd'):
    for version in (2, 5, 6):
        make('%s%d' % (name, version), getattr(C, name)(), K.xxh3(), version, bloom=(10, False))
for name in ('no_checksum', 'crc32c', 'xxhash', 'xxhash64', 'xxh3'):
    for version in (2, 6): make('%s%d' % (name, version), none, getattr(K, name)(), version)
for version in (2, 3, 4, 5, 6):
    for index_restart in (1, 4, 16):
        make('index%d.%d' % (version, index_restart), C.lz4(), K.crc32c(), version, index_restart=index_restart, restart=3)
    make('many%d' % version, none, K.crc32c(), version, many=True, bloom=(10, False))
    make('bloom%d' % version, none, K.crc32c(), version, restart=1, bloom=(7.5, False))
    make('hash%d' % version, none, K.crc32c(), version, index=I.hash_search())
    make('ingested%d' % version, none, K.crc32c(), version, ingest=True)
for version in (2, 3, 4, 5, 6):
    make('parts%d' % version, C.zstd(), K.xxh3(), version, parts=64, bloom=(10, False), many=version % 2 == 0)
    make('two%d' % version, none, K.crc32c(), version, parts=200, index_restart=16, many=version % 2 == 1)
make('wholeparts', C.lz4(), K.xxh3(), 5, size=4096, keys=20000, parts=4096, bloom=(10, False))
for version in (2, 5, 6):
    for name in ('snappy', 'lz4', 'lz4hc', 'zstd'):
        make('dict%s%d' % (name, version), getattr(C, name)(), K.xxh3(), version, keys=600, dictionary=(2000, 0), bloom=(10, False))
    make('trained%d' % version, C.zstd(), K.xxh3(), version, keys=3000, dictionary=(4000, 40000), parts=64)
for version in (2, 6): make('bzip2%d' % version, C.bz2(), K.xxh3(), version, keys=600, size=1000, parts=version * 32)
make('datahash', none, K.xxh3(), 5, data_index=D.binary_and_hash(), bloom=(10, False))
make('whole', C.zstd(), K.xxh3(), 6, size=4096, keys=20000)
";

/// The newest release writes format version 7.
const AMULET: &str = "
import sys, rocksdb
for name, codec in (('none7', rocksdb.CompressionType.NoCompression), ('zstd7', rocksdb.CompressionType.ZstdCompression)):
    path = sys.argv[1] + '/' + name
    expected = {}
    for round in range(2):
        d = rocksdb.RocksDB(path, create_if_missing=True, compression_type=codec)
        for i in range(round, 400, round + 1):
            k = b'key%05d' % i
            if round and i % 5 == 0: d.delete(k); expected.pop(k, None)
            else: expected[k] = (b'%d.%d ' % (round, i)) * (i % 90); d.put(k, expected[k])
        d.close()
    # Opening replays the log into a table.
    rocksdb.RocksDB(path).close()
    with open(path + '.expected', 'w') as out:
        for k in sorted(expected): out.write(k.hex() + ' ' + expected[k].hex() + '\\n')
";

/// What no binding offers: an option put into the OPTIONS file of a database, which 7.8 then follows. Makes
/// `dir/NAME/` with overwritten and deleted keys and `NAME.expected`.
fn with_option(dir: &Path, name: &str, option: &str, value: &str) {
    with_options(dir, name, &[(option, value)]);
}

const ZLIB_WITH_A_DICTIONARY: [(&str, &str); 2] =
    [("compression", "kZlibCompression"), ("compression_opts", "{max_dict_bytes=3000;level=6;window_bits=-14;}")];

fn with_options(dir: &Path, name: &str, changes: &[(&str, &str)]) {
    let db = dir.join(name);
    let ldb = |arguments: &[&str], input: &str| ldb(&db, arguments, input);
    ldb(&["--create_if_missing", "put", "first", "1"], "");
    let options = PosixFs.list(&db).expect("a database").into_iter().map(|entry| entry.name);
    let options = db.join(options.filter(|name| name.starts_with("OPTIONS-")).max().expect("an OPTIONS file"));
    let text = String::from_utf8(PosixFs.read_whole(&options, 1 << 20).expect("there")).expect("text");
    let lines = text.lines().map(|line| match line.trim().split_once('=') {
        Some((key, _)) if changes.iter().any(|(option, _)| *option == key) => {
            let value = changes.iter().find(|(option, _)| *option == key).map_or("", |(_, value)| value);
            format!("  {key}={value}\n")
        }
        Some(("block_size", _)) => "  block_size=300\n".to_owned(),
        _ => format!("{line}\n"),
    });
    let changed: String = lines.collect();
    assert_ne!(changed, text, "{changes:?} are options");
    PosixFs.write_atomically(&options, &dir.join("t"), changed.as_bytes()).expect("written");
    let key = |i: u32| format!("key{i:05}");
    let rows: String =
        (0..400).map(|i| format!("{} ==> {}\n", key(i), format!("v{i}").repeat(i as usize % 9 + 1))).collect();
    ldb(&["--try_load_options", "load"], &rows);
    ldb(&["--try_load_options", "put", &key(7), "new"], "");
    ldb(&["--try_load_options", "delete", &key(8)], "");
    ldb(&["--try_load_options", "compact"], "");
    let hex = |text: &str| hex(text.as_bytes());
    let scan = ldb(&["scan"], "");
    let expected: String =
        scan.lines().filter_map(|l| l.split_once(" : ")).map(|(k, v)| format!("{} {}\n", hex(k), hex(v))).collect();
    PosixFs
        .write_atomically(&dir.join(format!("{name}.expected")), &dir.join("t"), expected.as_bytes())
        .expect("written");
}

const ZEROS: &str = "
import sys, rocksdict as r
for name in ('snappy', 'lz4', 'zstd'):
    o = r.Options(raw_mode=True); o.create_if_missing(True); o.set_compression_type(getattr(r.DBCompressionType, name)())
    d = r.Rdict(sys.argv[1] + '/' + name, o); d[b'zeros'] = bytes(8 << 20); d.flush(); d.close()
";

fn ldb(db: &Path, arguments: &[&str], input: &str) -> String {
    rocksdb::ldb(Command::new("ldb"), db, arguments, input).expect("ldb does it")
}

fn python(program: &str, dir: &Path) {
    rocksdb::run_python(program, dir).expect("the packages do it");
}

/// The directories below `dir` that end in a database, by name.
fn databases(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut found: Vec<_> = PosixFs
        .list(dir)
        .expect("a directory")
        .into_iter()
        .filter(|entry| entry.is_dir)
        .map(|entry| (entry.name.clone(), dir.join(entry.name)))
        .collect();
    found.sort();
    found
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let entries = PosixFs.list(dir).expect("a directory").into_iter();
    let mut found: Vec<_> = entries.filter(|e| e.name.ends_with(".sst")).map(|e| dir.join(e.name)).collect();
    found.sort();
    found
}

/// The entries of a file as `sst_dump` lists them; `None` for what 7.8 cannot read.
fn sst_dump(path: &Path) -> Option<Entries> {
    let output = Command::new("sst_dump")
        .arg(format!("--file={}", path.display()))
        .args(["--command=scan", "--output_hex"])
        .output()
        .expect("sst_dump starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let entry = |line: &str| {
        let (key, rest) = line.strip_prefix('\'')?.split_once("' seq:")?;
        let (sequence, rest) = rest.split_once(", type:")?;
        let (kind, value) = rest.split_once(" =>")?;
        let key = internal_key(&unhex(key), SequenceNumber(sequence.parse().ok()?), kind.parse().ok()?);
        Some((key, unhex(value.trim())))
    };
    let found: Entries = text.lines().filter_map(entry).collect();
    (!found.is_empty()).then_some(found)
}

/// What a table consists of: the words for which a test asks whether they were all seen.
fn forms(table: &TableReader) -> Vec<String> {
    let properties = table.properties();
    let mut found = vec![
        format!("format_version {}", table.source.footer.format_version),
        format!("{:?}", table.source.footer.checksum),
        format!("index type {}", properties.index_type.expect("RocksDB says it")),
        format!("delta {}, user keys {}", properties.index_value_is_delta_encoded, properties.index_key_is_user_key),
        match &table.filters {
            Filters::None => "filter false".to_owned(),
            Filters::Full(_) => "filter true".to_owned(),
            Filters::Other(OtherFilter { form: FilterForm::Full(_), .. }) => "filter of prefixes".to_owned(),
            Filters::Other(OtherFilter { form: FilterForm::Parts(parts), .. }) => {
                format!("filter in parts: {}", parts.top.len() > 1)
            }
        },
        match &table.parts {
            Parts::One(_) => "one part".to_owned(),
            Parts::Many(levels) => format!("many parts: {}", levels.top.len() > 1),
        },
        format!("external {}", properties.external_version.is_some()),
        format!("dictionary {}", table.source.dictionary.is_some()),
    ];
    let each = table.each_block(&mut |handle| {
        let stored = table.source.stored(handle)?;
        found.push(format!("codec {}", stored[handle.size as usize]));
        Ok(())
    });
    each.expect("sound");
    found
}

/// Compares all databases below `dir`; how many tables, how many of them `sst_dump` listed too, and their forms.
fn compare(dir: &Path) -> (usize, usize, BTreeSet<String>) {
    let (mut read, mut dumped, mut seen) = (0, 0, BTreeSet::new());
    for (name, path) in databases(dir) {
        let mut newest: BTreeMap<Vec<u8>, (u64, Vec<u8>)> = BTreeMap::new();
        for file in tables(&path) {
            let mut whole = || -> Result<Entries> {
                // Later than everything that was written before: the number of the file that was ingested, if it is one.
                let table = open_file(&PosixFs, &file, 1 << 40, true)?;
                let all = read_in_every_way(&table)?;
                let counts = table.verify(true, &mut |_| {})?;
                assert_eq!(counts.entries as usize, all.len());
                seen.extend(forms(&table));
                Ok(all)
            };
            let all = whole().unwrap_or_else(|error| panic!("{name}: {error}"));
            read += 1;
            if !name.starts_with("ingested")
                && let Some(expected) = sst_dump(&file)
            {
                assert!(all == expected, "{name}: {} entries, {} in sst_dump", all.len(), expected.len());
                dumped += 1;
            }
            for (key, value) in all {
                let slot = newest.entry(user_key(&key).to_vec()).or_default();
                if trailer(&key) >= slot.0 {
                    *slot = (trailer(&key), value);
                }
            }
        }
        let expected = PosixFs.read_whole(&path.with_extension("expected"), 1 << 30);
        let expected = expected.or_else(|_| PosixFs.read_whole(&dir.join(format!("{name}.expected")), 1 << 30));
        let text = String::from_utf8(expected.expect("made with the database")).expect("hex");
        let expected: Entries =
            text.lines().filter_map(|l| l.split_once(' ')).map(|(k, v)| (unhex(k), unhex(v))).collect();
        let is_value = |(trailer, _): &(u64, Vec<u8>)| *trailer as u8 == ValueKind::Value as u8;
        let found: Entries = newest.into_iter().filter(|(_, e)| is_value(e)).map(|(k, e)| (k, e.1)).collect();
        assert!(!expected.is_empty() && found == expected, "{name}: {} of {} keys", found.len(), expected.len());
    }
    (read, dumped, seen)
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_tables_of_rocksdb_in_every_form_are_read_entry_by_entry() {
    let temp = tempfile::tempdir().expect("a directory");
    python(ROCKSDICT, temp.path());
    python(AMULET, temp.path());
    with_option(temp.path(), "firstkey", "index_type", "kBinarySearchWithFirstKey");
    with_option(temp.path(), "zlib", "compression", "kZlibCompression");
    with_options(temp.path(), "zlibdict", &ZLIB_WITH_A_DICTIONARY);
    with_option(temp.path(), "ribbon", "filter_policy", "ribbonfilter:10:-1");
    let (read, dumped, seen) = compare(temp.path());
    println!("{read} tables read, {dumped} of them listed by sst_dump: {seen:?}");
    assert!(read >= 110 && dumped >= 70, "too little compared: {read} tables, {dumped} by sst_dump");
    let versions = (2..=7).map(|version| format!("format_version {version}"));
    let checksums = ["None", "Crc32c", "XxHash32", "XxHash64", "Xxh3"].map(str::to_owned);
    let indexes = (0..=3).map(|kind| format!("index type {kind}"));
    let keys = [(false, false), (true, true), (true, false)].map(|(d, u)| format!("delta {d}, user keys {u}"));
    let others = [
        "filter true",
        "filter false",
        "filter in parts: true",
        "many parts: true",
        "dictionary true",
        "external true",
        "external false",
    ];
    let others = others.map(str::to_owned);
    let codecs = [0, 1, 2, 3, 4, 5, 7].map(|byte| format!("codec {byte}"));
    for form in versions.chain(checksums).chain(indexes).chain(keys).chain(others).chain(codecs) {
        assert!(seen.contains(&form), "no table with {form}");
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_blocks_of_zeros_are_read_however_small_they_became() {
    let temp = tempfile::tempdir().expect("a directory");
    python(ZEROS, temp.path());
    for (name, path) in databases(temp.path()) {
        for file in tables(&path) {
            let table = open_file(&PosixFs, &file, 1, true).unwrap_or_else(|error| panic!("{name}: {error}"));
            let all = collect(&table, TableReadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(all.len() == 1 && all[0].1 == vec![0; 8 << 20], "{name}");
        }
    }
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_a_sequence_number_that_7_8_wrote_into_the_file_must_be_that_of_the_manifest() {
    let temp = tempfile::tempdir().expect("a directory");
    let (db, external) = (temp.path().join("db"), temp.path().join("external.sst"));
    for i in 0..5 {
        ldb(&db, &["--create_if_missing", "put", "a", &format!("{i}")], "");
    }
    let external = external.to_str().expect("text");
    ldb(&db, &["write_extern_sst", external], "a ==> ingested\nb ==> too\n");
    ldb(&db, &["ingest_extern_sst", external, "--write_global_seqno"], "");
    let opened: Vec<(PathBuf, u64, Arc<TableReader>)> = tables(&db)
        .into_iter()
        .flat_map(|file| (1..30).map(move |sequence| (file.clone(), sequence)))
        .filter_map(|(file, sequence)| Some((file.clone(), sequence, open_file(&PosixFs, &file, sequence, true).ok()?)))
        .filter(|(.., table)| table.properties().external_version.is_some())
        .collect();
    let [(file, sequence, table)] = &opened[..] else { panic!("{} numbers are taken, one is right", opened.len()) };
    assert!(*sequence > 5, "newer than what was there: {sequence}");
    let all = read_in_every_way(table).expect("sound");
    let expected: Entries = [(b"a", &b"ingested"[..]), (b"b", b"too")]
        .map(|(key, value)| (internal_key(key, SequenceNumber(*sequence), 1), value.to_vec()))
        .to_vec();
    assert_eq!(all, expected);
    let error = open_file(&PosixFs, file, 1 << 30, true).expect_err("another number");
    assert!(error.to_string().contains("ingested"), "{error}");
}

#[test]
#[ignore = "needs RocksDB's tools: cargo xtask ci runs it"]
fn oracle_damage_of_rocksdbs_tables_is_reported_or_changes_nothing() {
    let temp = tempfile::tempdir().expect("a directory");
    python(ROCKSDICT, temp.path());
    python(AMULET, temp.path());
    with_option(temp.path(), "zlib", "compression", "kZlibCompression");
    with_option(temp.path(), "firstkey", "index_type", "kBinarySearchWithFirstKey");
    with_options(temp.path(), "zlibdict", &ZLIB_WITH_A_DICTIONARY);
    let fs = MemoryFs::new();
    fs.create_dir_all(Path::new("/db")).expect("memory");
    let path = Path::new(PATH);
    for name in [
        "none2",
        "zstd5",
        "zlib",
        "lz45",
        "index6.4",
        "many4",
        "ingested5",
        "datahash",
        "hash3",
        "firstkey",
        "zstd7",
        "dictlz45",
        "dictzstd6",
        "trained5",
        "bzip26",
        "zlibdict",
        "parts2",
        "parts5",
        "parts6",
        "two4",
        "two5",
    ] {
        let dir = temp.path().join(name);
        let file = tables(&dir).into_iter().next_back().expect("a table");
        let bytes = PosixFs.read_whole(&file, 1 << 20).expect("there");
        let file = fs.create(path, CreateMode::Truncate).expect("memory");
        file.append(&bytes).expect("memory");
        let sound = collect(&open_file(&fs, path, 1 << 40, true).expect("sound"), <_>::default()).expect("sound");
        let mut reported = 0;
        for at in 0..bytes.len() {
            fs.damage(path, |b| {
                b.clone_from(&bytes);
                b[at] ^= 1 << (at % 8);
            })
            .expect("there");
            if let Err(error) = read_damaged(&fs, path, &sound) {
                reported += 1;
                assert!(error.to_string().contains("000007.sst"), "{name}, byte {at}: {error}");
            }
            if at % 7 == 0 {
                fs.damage(path, |b| b.truncate(at)).expect("there");
                assert!(read_damaged(&fs, path, &sound).is_err(), "{name}, cut at {at}");
            }
        }
        println!("{name}: {reported} of {} flips reported", bytes.len());
        assert!(reported * 10 > bytes.len() * 9, "{name}: {reported} of {} flips reported", bytes.len());
    }
}
