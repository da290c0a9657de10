//! `bench`: how fast it is here, workload by workload.
//!
//! Figures of one run on one machine are no comparison: run two engines side by side, several times, in turns.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use fastrand::Rng;
use firndb::{BlockCache, Db, Durability, Options, ReadOptions, WriteBatch, WriteOptions};

use crate::args::{Bench, Workload};
use crate::failure::{Failure, OK, Outcome, say};
use crate::text::Form;

const KEY_BYTES: usize = 16;

fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    let mut left = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    key
}

/// Bytes to cut values from: half of them compress away.
fn noise(len: usize, random: &mut Rng) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    while out.len() < len {
        out.extend_from_slice(&random.u64(..).to_le_bytes());
        out.extend_from_slice(&[b'x'; 8]);
    }
    out.truncate(len);
    out
}

/// What one workload did.
struct Measured {
    name: &'static str,
    operations: u64,
    seconds: f64,
    bytes: u64,
    found: Option<u64>,
    /// Latencies in nanoseconds, sorted.
    latencies: Vec<u64>,
}

impl Measured {
    fn percentile(&self, part: f64) -> f64 {
        let at = ((self.latencies.len() as f64 * part) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).map_or(0.0, |nanos| *nanos as f64 / 1000.0)
    }

    fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds.max(1e-9)
    }
}

/// The directory, removed afterwards if it was made for this.
struct Place(PathBuf, bool);

impl Drop for Place {
    fn drop(&mut self) {
        if self.1 {
            // What is left in the temporary directory is the operating system's to clear.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

pub(crate) fn bench(arguments: &Bench, form: Form) -> Outcome {
    let place = match &arguments.dir {
        Some(dir) => {
            let is_free = std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
            if !is_free {
                return Err(Failure::Usage(format!("{} is not empty", dir.display())));
            }
            Place(dir.clone(), false)
        }
        None => Place(std::env::temp_dir().join(format!("firn-bench-{}", std::process::id())), true),
    };
    if cfg!(debug_assertions) {
        say(&"this is a debug build; its figures mean nothing");
    }
    let mut run = Run::new(arguments, &place.0)?;
    if !form.json {
        let head = format!(
            "{:<18} {:>12} {:>12} {:>10} {:>9} {:>9} {:>9}\n",
            "workload", "operations", "per second", "MB/s", "p50 us", "p99 us", "p99.9 us"
        );
        std::io::stdout().lock().write_all(head.as_bytes()).map_err(Failure::stdout)?;
    }
    for workload in &arguments.workloads {
        let measured = run.workload(*workload)?;
        let line = if form.json { json(&measured, arguments) } else { plain(&measured) };
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush()).map_err(Failure::stdout)?;
    }
    run.db.close()?;
    Ok(OK)
}

fn json(measured: &Measured, arguments: &Bench) -> String {
    let line = serde_json::json!({
        "workload": measured.name,
        "operations": measured.operations,
        "seconds": measured.seconds,
        "per_second": measured.per_second(),
        "bytes": measured.bytes,
        "found": measured.found,
        "p50_us": measured.percentile(0.5),
        "p99_us": measured.percentile(0.99),
        "p999_us": measured.percentile(0.999),
        "keys": arguments.num,
        "value_bytes": arguments.value_size,
        "debug_build": cfg!(debug_assertions),
    });
    format!("{line}\n")
}

fn plain(measured: &Measured) -> String {
    let found = measured.found.map_or_else(String::new, |found| format!("  ({found} found)"));
    format!(
        "{:<18} {:>12} {:>12.0} {:>10.1} {:>9.2} {:>9.2} {:>9.2}{found}\n",
        measured.name,
        measured.operations,
        measured.per_second(),
        measured.bytes as f64 / 1e6 / measured.seconds.max(1e-9),
        measured.percentile(0.5),
        measured.percentile(0.99),
        measured.percentile(0.999),
    )
}

struct Run<'a> {
    arguments: &'a Bench,
    db: Db,
    noise: Vec<u8>,
    random: Rng,
    write: WriteOptions,
    is_filled: bool,
}

impl<'a> Run<'a> {
    fn new(arguments: &'a Bench, dir: &Path) -> Result<Run<'a>, Failure> {
        let mut options = Options::default();
        options.create_if_missing = true;
        options.family.bloom_bits_per_key = Some(10.0);
        options.block_cache = Some(BlockCache::new(arguments.cache_size as usize));
        let mut random = Rng::with_seed(arguments.seed);
        let durability = if arguments.sync { Durability::Synced } else { Durability::Os };
        Ok(Run {
            arguments,
            db: Db::open_with(dir, options)?,
            noise: noise((arguments.value_size as usize).max(1) + (1 << 20), &mut random),
            random,
            write: WriteOptions::with_durability(durability),
            is_filled: false,
        })
    }

    fn workload(&mut self, workload: Workload) -> Result<Measured, Failure> {
        let is_fill = matches!(workload, Workload::FillSeq | Workload::FillRandom | Workload::Overwrite);
        if !is_fill && !self.is_filled {
            // Readers need something to read.
            say(&"filling the database first");
            self.writes("fill", |i, _, _| i)?;
            self.settle()?;
        }
        let measured = match workload {
            Workload::FillSeq => self.writes("fillseq", |i, _, _| i),
            Workload::FillRandom => self.writes("fillrandom", |_, random, num| random.u64(..num)),
            Workload::Overwrite => self.writes("overwrite", |_, random, num| random.u64(..num)),
            Workload::ReadRandom => self.gets("readrandom", false),
            Workload::ReadMissing => self.gets("readmissing", true),
            Workload::ReadSeq => self.scan(),
            Workload::SeekRandom => self.seeks(),
            Workload::ReadWhileWriting => self.gets_while_writing(),
        }?;
        if is_fill {
            self.settle()?;
        }
        Ok(measured)
    }

    /// Lets flushes and compactions end, so that they are not the next workload's.
    fn settle(&mut self) -> Result<(), Failure> {
        self.is_filled = true;
        self.db.flush()?;
        let begin = Instant::now();
        let is_busy =
            |db: &Db| db.stats().families.iter().any(|family| family.levels.iter().any(|level| level.score >= 1.0));
        while is_busy(&self.db) && begin.elapsed().as_secs() < 120 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    fn writes(
        &mut self,
        name: &'static str,
        mut pick: impl FnMut(u64, &mut Rng, u64) -> u64,
    ) -> Result<Measured, Failure> {
        let count = self.arguments.num;
        let value_size = self.arguments.value_size as usize;
        let mut batch = WriteBatch::new();
        timed(name, count, None, count * (KEY_BYTES + value_size) as u64, |i| {
            let number = pick(i, &mut self.random, count);
            let at = (self.random.u64(..) % (1 << 20)) as usize;
            let value = self.noise.get(at..at + value_size).unwrap_or_default();
            batch.clear();
            batch.put(key(number), value);
            self.db.write_with(&mut batch, &self.write)?;
            Ok(false)
        })
    }

    fn reads(&self) -> u64 {
        self.arguments.reads.unwrap_or(self.arguments.num)
    }

    fn gets(&mut self, name: &'static str, is_missing: bool) -> Result<Measured, Failure> {
        let (count, num) = (self.reads(), self.arguments.num);
        let random = &mut self.random;
        let db = &self.db;
        timed(name, count, Some(()), count * (KEY_BYTES as u64 + self.arguments.value_size), |_| {
            let mut key = key(random.u64(..num));
            if is_missing {
                // Between two keys that are there.
                key[KEY_BYTES - 1] = b'~';
            }
            Ok(db.get(key)?.is_some())
        })
    }

    fn scan(&mut self) -> Result<Measured, Failure> {
        let mut cursor = self.db.cursor(ReadOptions::default())?;
        let begin = Instant::now();
        let (mut count, mut total) = (0, 0);
        let mut valid = cursor.seek_to_first()?;
        while valid {
            count += 1;
            total += (cursor.key().len() + cursor.value().len()) as u64;
            valid = cursor.next()?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        Ok(Measured { name: "readseq", operations: count, seconds, bytes: total, found: None, latencies: Vec::new() })
    }

    fn seeks(&mut self) -> Result<Measured, Failure> {
        let mut cursor = self.db.cursor(ReadOptions::default())?;
        let (count, num) = (self.reads(), self.arguments.num);
        let random = &mut self.random;
        timed("seekrandom", count, Some(()), 0, |_| Ok(cursor.seek(key(random.u64(..num)))?))
    }

    fn gets_while_writing(&mut self) -> Result<Measured, Failure> {
        let stop = AtomicBool::new(false);
        let (db, num, seed) = (self.db.clone(), self.arguments.num, self.random.u64(..));
        let value = self.noise[..self.arguments.value_size as usize].to_vec();
        let options = self.write;
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| -> firndb::Result<()> {
                let mut random = Rng::with_seed(seed);
                let mut batch = WriteBatch::new();
                while !stop.load(Ordering::Relaxed) {
                    batch.clear();
                    batch.put(key(random.u64(..num)), &value);
                    db.write_with(&mut batch, &options)?;
                }
                Ok(())
            });
            let measured = self.gets("readwhilewriting", false);
            stop.store(true, Ordering::Relaxed);
            match writer.join() {
                Ok(written) => written?,
                Err(_) => return Err(Failure::Usage("the writer's thread panicked".to_owned())),
            }
            measured
        })
    }
}

/// Runs `operation` `count` times; every sixteenth is timed by itself.
fn timed(
    name: &'static str,
    count: u64,
    counts_found: Option<()>,
    bytes: u64,
    mut operation: impl FnMut(u64) -> Result<bool, Failure>,
) -> Result<Measured, Failure> {
    let mut latencies = Vec::with_capacity((count / 16 + 1) as usize);
    let mut found = 0;
    let begin = Instant::now();
    for i in 0..count {
        let hit = if i % 16 == 0 {
            let start = Instant::now();
            let hit = operation(i)?;
            latencies.push(start.elapsed().as_nanos() as u64);
            hit
        } else {
            operation(i)?
        };
        found += u64::from(hit);
    }
    let seconds = begin.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Measured { name, operations: count, seconds, bytes, found: counts_found.map(|()| found), latencies })
}
