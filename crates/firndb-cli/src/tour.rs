//! `tour`: the engine at work on a real data set, as a story with real figures.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firndb::{CloseMode, ColumnFamily, Db, Error, ErrorKind, Options, ReadOptions, WriteBatch, verify_directory};

use crate::failure::{CORRUPT, Failure, OK, Outcome};
use crate::stats::bytes;

/// The Unicode Character Database; see `data/README.md`.
const UNICODE: &[u8] = include_bytes!("../data/unicode/UnicodeData-15.0.0.txt.gz");
/// The fewest records that make it the data set that it should be.
const RECORDS_MIN: usize = 30_000;

/// A directory that RocksDB 9.8.4 wrote; see `data/README.md`.
macro_rules! fixture {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../data/rocksdb-9.8.4/", $name)))),*]
    };
}
const ROCKSDB: &[(&str, &[u8])] = fixture![
    "000020.sst",
    "000021.sst",
    "000022.log",
    "000023.sst",
    "000024.sst",
    "CURRENT",
    "IDENTITY",
    "MANIFEST-000005",
    "OPTIONS-000007",
];

/// Says something on stdout.
macro_rules! say {
    ($($text:tt)*) => {
        writeln!(std::io::stdout().lock(), $($text)*).map_err(Failure::stdout)?
    };
}

/// A promise that was not kept: the tour stops and says so.
fn broken(what: &str) -> Failure {
    Failure::Engine(Error::new(ErrorKind::Internal, format!("the tour expected otherwise: {what}")))
}

fn expect(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(broken(what)) }
}

/// The directory to work in, and whether it is removed afterwards.
struct Place {
    dir: PathBuf,
    is_temporary: bool,
}

impl Place {
    fn of(dir: Option<&Path>) -> Result<Place, Failure> {
        let Some(dir) = dir else {
            let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            let dir = std::env::temp_dir().join(format!("firn-tour-{}-{unique}", std::process::id()));
            std::fs::create_dir(&dir).map_err(|error| Failure::Io("the tour's directory", error))?;
            return Ok(Place { dir, is_temporary: true });
        };
        let is_free = match std::fs::read_dir(dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                return Err(Failure::Engine(Error::from_io("list", dir, &error)));
            }
        };
        if !is_free {
            return Err(Failure::Usage(format!(
                "{} is not empty; the tour wants a directory of its own",
                dir.display()
            )));
        }
        std::fs::create_dir_all(dir).map_err(|error| Failure::Io("the tour's directory", error))?;
        Ok(Place { dir: dir.to_owned(), is_temporary: false })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            // What is left in the temporary directory is the operating system's to clear.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

pub(crate) fn tour(dir: Option<&Path>) -> Outcome {
    let place = Place::of(dir)?;
    let start = Instant::now();
    let code = own_database(&place.dir.join("unicode"))?;
    let rocksdb = place.dir.join("rocksdb");
    rocksdb_database(&rocksdb)?;
    say!("\nThe tour took {:.1} s.", start.elapsed().as_secs_f64());
    if !place.is_temporary {
        say!("Its databases are in {}: look at them with `firn stats` and `firn scan`.", place.dir.display());
        say!("RocksDB's own tools go on from there, too: `ldb --db={} scan`.", rocksdb.display());
    }
    Ok(code)
}

/// Bytes of the table files in a directory.
fn table_bytes(dir: &Path) -> Result<u64, Failure> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).map_err(|error| Failure::Io("the database's directory", error))? {
        let Ok(entry) = entry else { continue };
        if entry.path().extension().is_some_and(|extension| extension == "sst") {
            // A file that is unlinked between the two calls has no size any more.
            total += entry.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(total)
}

fn records() -> Result<Vec<(String, String)>, Failure> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(UNICODE)
        .read_to_string(&mut text)
        .map_err(|error| Failure::Io("the data set", error))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(';'))
        .map(|(k, v)| (format!("U+{k:0>6}"), v.to_owned()))
        .collect())
}

/// The sum over all keys and values of an iterator: the same for the same view.
fn fingerprint(
    entries: impl Iterator<Item = firndb::Result<(firndb::Slice, firndb::Slice)>>,
) -> Result<(u64, u64), Failure> {
    let (mut count, mut sum) = (0u64, 0xcbf2_9ce4_8422_2325_u64);
    for entry in entries {
        let (key, value) = entry?;
        for byte in key.iter().chain(value.iter()) {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        count += 1;
    }
    Ok((count, sum))
}

fn load(family: &ColumnFamily, db: &Db, records: &[(String, String)]) -> Result<(), Failure> {
    for chunk in records.chunks(1000) {
        let mut batch = WriteBatch::new();
        for (key, value) in chunk {
            batch.put_cf(family, key, value);
        }
        db.write(&mut batch)?;
    }
    Ok(())
}

fn own_database(dir: &Path) -> Outcome {
    let records = records()?;
    expect(records.len() >= RECORDS_MIN, "the data set is smaller than it should be")?;
    let mut options = Options::default();
    options.create_if_missing = true;
    options.family.write_buffer_size = 512 << 10;
    options.family.target_file_size_base = 256 << 10;
    options.family.max_bytes_for_level_base = 1 << 20;
    options.family.bloom_bits_per_key = Some(10.0);
    let db = Db::open_with(dir, options.clone())?;
    let family = db.default_column_family();

    say!("1. Loading the Unicode Character Database 15.0: {} records.", records.len());
    let begin = Instant::now();
    load(family, &db, &records)?;
    db.flush()?;
    say!(
        "   {} writes in {:.2} s; {} of tables.",
        records.len(),
        begin.elapsed().as_secs_f64(),
        bytes(table_bytes(dir)?)
    );
    let sample = "U+01F600";
    let name = |db: &Db, options: &ReadOptions| -> Result<String, Failure> {
        let value = db.get_with(sample, options)?;
        Ok(value.map_or("(deleted)".to_owned(), |v| {
            String::from_utf8_lossy(&v).split(';').next().unwrap_or_default().to_owned()
        }))
    };
    let now = ReadOptions::default();
    say!("   {sample} is {}.", name(&db, &now)?);

    say!("\n2. Opening an iterator and a snapshot, and remembering what they see.");
    let before = fingerprint(db.iter()?)?;
    let iterator = db.iter()?;
    let snapshot = db.snapshot();
    say!(
        "   Both are at sequence number {}: {} entries, fingerprint {:016x}.",
        snapshot.sequence(),
        before.0,
        before.1
    );

    say!("\n3. Overwriting half of the records underneath them, deleting the other half, flushing, compacting.");
    for (index, chunk) in records.chunks(1000).enumerate() {
        let mut batch = WriteBatch::new();
        for (key, value) in chunk {
            match index % 2 {
                0 => batch.put(key, value.to_lowercase()),
                _ => batch.delete(key),
            };
        }
        db.write(&mut batch)?;
    }
    db.flush()?;
    db.compact_range::<&[u8]>(..)?;
    let after = fingerprint(db.iter()?)?;
    say!(
        "   The database now has {} entries, fingerprint {:016x}; {sample} is {}.",
        after.0,
        after.1,
        name(&db, &now)?
    );
    let held_bytes = table_bytes(dir)?;
    say!("   Tables on disk: {}, old and new ones.", bytes(held_bytes));

    say!("\n4. Who holds the old ones? Ask the database:");
    let pins = db.pins();
    for pin in &pins {
        say!("   {pin}");
        if !pin.files.is_empty() {
            let files: Vec<String> = pin.files.iter().map(|file| format!("{file}.sst")).collect();
            say!("     files: {}", files.join(" "));
        }
    }
    let exclusive: u64 = pins.iter().map(|pin| pin.exclusive_bytes).sum();
    expect(exclusive > 0, "the iterator keeps files that nobody else needs")?;

    say!("\n5. Did the views move? Reading both in full:");
    let seen = fingerprint(iterator)?;
    say!("   the iterator saw {} entries, fingerprint {:016x}", seen.0, seen.1);
    expect(seen == before, "the iterator sees what it saw")?;
    let at_snapshot = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    let seen = fingerprint(family.range_with::<&[u8]>(.., at_snapshot.clone())?)?;
    say!(
        "   the snapshot sees {} entries, fingerprint {:016x}; {sample} is {}",
        seen.0,
        seen.1,
        name(&db, &at_snapshot)?
    );
    expect(seen == before, "the snapshot sees what it saw")?;

    say!("\n6. Both are dropped now, and the janitor gives the space back:");
    drop(at_snapshot);
    let waiting = Instant::now();
    // What the snapshot kept is compacted away at once: for a moment the outputs lie beside the inputs.
    let mut freed_bytes = table_bytes(dir)?;
    while (db.stats().obsolete_files > 0 || freed_bytes + exclusive > held_bytes)
        && waiting.elapsed() < Duration::from_secs(5)
    {
        std::thread::sleep(Duration::from_millis(5));
        freed_bytes = table_bytes(dir)?;
    }
    say!(
        "   {} on disk, {} less, after {} ms.",
        bytes(freed_bytes),
        bytes(held_bytes - freed_bytes.min(held_bytes)),
        waiting.elapsed().as_millis()
    );
    expect(held_bytes - freed_bytes.min(held_bytes) >= exclusive, "the exclusive bytes of the pins come back")?;
    db.assert_no_pins()?;

    say!("\n7. Compacting once more without the snapshot, closing, opening again, verifying every byte.");
    db.compact_range::<&[u8]>(..)?;
    db.close_with(CloseMode::Wait)?;
    let db = Db::open_with(dir, options.clone())?;
    expect(fingerprint(db.iter()?)? == after, "the reopened database holds what it held")?;
    db.close()?;
    let report = verify_directory(dir, &options, &mut |_| {})?;
    for damage in &report.damages {
        say!("   damage: {damage}");
    }
    say!(
        "   {} tables, {} entries, {}: {} damages.",
        report.tables,
        report.entries,
        bytes(report.bytes),
        report.damages.len()
    );
    Ok(if report.damages.is_empty() { OK } else { CORRUPT })
}

fn rocksdb_database(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::Io("the tour's directory", error))?;
    for (name, content) in ROCKSDB {
        std::fs::write(dir.join(name), content).map_err(|error| Failure::Io("the fixture", error))?;
    }
    say!(
        "\n8. A directory that RocksDB 9.8.4 wrote: LZ4 blocks, Bloom filters, two column families, and three writes that are"
    );
    say!("   only in its log, because the process was killed.");
    let db = Db::open(dir)?;
    let planets = db.column_family("planets")?;
    let report = db.recovery_report();
    say!("   Opened; {} operations came back from the log.", report.operations);
    let squares = db.prefix("square:")?.count();
    say!(
        "   `default` has {} entries, {squares} of them squares; `planets` has {}.",
        db.iter()?.count(),
        planets.iter()?.count()
    );
    let element = db.get("element:021")?;
    expect(element.as_deref() == Some(b"Scandium"), "element 21 came back from the log")?;
    expect(db.get("element:001")?.is_none() && planets.get("9")?.is_none(), "what was deleted stays deleted")?;
    expect(squares == 2700, "every square is there")?;

    let mut batch = WriteBatch::new();
    batch.put("element:022", "Titanium").put_cf(&planets, "note", "Pluto is not one any more");
    db.write(&mut batch)?;
    db.flush()?;
    planets.flush()?;
    db.compact_range::<&[u8]>(..)?;
    db.close()?;
    let report = verify_directory(dir, &Options::default(), &mut |_| {})?;
    expect(report.damages.is_empty(), "the directory verifies")?;
    say!(
        "   Wrote into both families, flushed, compacted, verified: {} entries in {} tables.",
        report.entries,
        report.tables
    );
    Ok(())
}
