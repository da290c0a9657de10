//! Everybody at once: writers, readers of every kind, flushes, compactions, families that come and go. The sum over all
//! accounts is the same in every view, and a batch over two families is in both or in neither; also while the disk
//! refuses to write now and then.
//!
//! `FIRN_SECONDS` says for how long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use firndb::{
    ColumnFamily, CrashPolicy, Db, Durability, ErrorKind, Fault, FaultEffect, FsOp, HealthState, ReadOptions, Slice,
    WriteBatch, WriteOptions, verify_directory,
};

use crate::lab::{DIR, Lab, ORDERLY, Random, eventually};

const ACCOUNTS: u64 = 64;
const START: i64 = 1000;

fn key(account: u64) -> String {
    format!("account{account:04}")
}

fn amount(value: &[u8]) -> i64 {
    // The rest is there to make the files larger.
    i64::from_le_bytes(value[..8].try_into().expect("eight bytes"))
}

fn value(amount: i64, random: &mut Random) -> Vec<u8> {
    let mut bytes = amount.to_le_bytes().to_vec();
    bytes.resize(8 + random.below(120) as usize, 7);
    bytes
}

fn seconds() -> u64 {
    std::env::var("FIRN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

/// The sum, and the number of accounts, of what a reader saw.
fn sum(entries: impl Iterator<Item = firndb::Result<(Slice, Slice)>>) -> (i64, u64) {
    entries.fold((0, 0), |(total, count), entry| {
        let (_, value) = entry.expect("reads go well");
        (total + amount(&value), count + 1)
    })
}

const WHOLE: (i64, u64) = (START * ACCOUNTS as i64, ACCOUNTS);

struct Stage<'a> {
    db: &'a Db,
    ledger: &'a ColumnFamily,
    is_over: &'a AtomicBool,
    looks: &'a AtomicU64,
    /// The disk refuses now and then: changes may fail, reads may not.
    is_failing: bool,
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Stage<'_> {
    fn until_over(&self, mut act: impl FnMut()) {
        // Whoever panics ends the play for all, or the others would go on for ever.
        let _end = End(self.is_over);
        while !self.is_over.load(Ordering::Relaxed) {
            act();
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A change went well, or failed as the disk made it.
    fn changed<T>(&self, result: firndb::Result<T>) -> Option<T> {
        match result {
            Ok(done) => Some(done),
            Err(error) => {
                let kind = error.kind();
                let is_refusal = matches!(kind, ErrorKind::Io | ErrorKind::NoSpace | ErrorKind::ReadOnly)
                    || kind == ErrorKind::DurabilityUnknown;
                assert!(kind == ErrorKind::Busy || (self.is_failing && is_refusal), "{error}");
                std::thread::sleep(Duration::from_millis(2));
                None
            }
        }
    }

    /// Moves money between accounts of its own: accounts with the writer's remainder belong to it alone.
    fn transfer(&self, writer: u64, writers: u64) {
        let mut random = Random(writer);
        let mut count = 0u64;
        self.until_over(|| {
            let mut own = || random.below(ACCOUNTS / writers) * writers + writer;
            let (from, to) = (own(), own());
            if from == to {
                return;
            }
            let balance = |account| amount(&self.db.get(key(account)).expect("read").expect("never gone"));
            let (rich, poor) = (balance(from), balance(to));
            let moved = random.below(50) as i64;
            count += 1;
            let mut batch = WriteBatch::new();
            batch.put(key(from), value(rich - moved, &mut random));
            batch.put(key(to), value(poor + moved, &mut random));
            // The same number in both families, always in one batch.
            batch.put(format!("writer{writer}"), count.to_le_bytes());
            batch.put_cf(self.ledger, format!("writer{writer}"), count.to_le_bytes());
            let options = if count.is_multiple_of(50) { WriteOptions::synced() } else { WriteOptions::default() };
            self.changed(self.db.write_with(&mut batch, &options));
        });
    }

    fn check_views(&self, seed: u64) {
        let mut random = Random(seed);
        self.until_over(|| {
            let accounts = || self.db.prefix("account").expect("it opens");
            match random.below(6) {
                0 => assert_eq!(sum(accounts()), WHOLE, "forwards"),
                1 => assert_eq!(sum(accounts().rev()), WHOLE, "backwards"),
                2 => {
                    // From both ends, in any mixture, slowly.
                    let mut iter = accounts();
                    let mut total = (0, 0);
                    while let Some(entry) = if random.below(2) == 0 { iter.next() } else { iter.next_back() } {
                        total = (total.0 + amount(&entry.expect("read").1), total.1 + 1);
                        if total.1 % 20 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                    assert_eq!(total, WHOLE, "both ways");
                }
                3 => {
                    let mut cursor = self.db.cursor(ReadOptions::default()).expect("it opens");
                    let (mut there, mut back) = (0, 0);
                    let mut valid = cursor.seek("account").expect("read");
                    while valid && cursor.key().starts_with(b"account") {
                        there += amount(cursor.value());
                        valid = cursor.next().expect("read");
                    }
                    let mut valid = cursor.seek_for_prev("account9999").expect("read");
                    while valid {
                        back += amount(cursor.value());
                        valid = cursor.prev().expect("read");
                    }
                    assert_eq!((there, back), (WHOLE.0, WHOLE.0), "a cursor turning round");
                }
                4 => {
                    let keys: Vec<String> = (0..ACCOUNTS).map(key).collect();
                    let values = self.db.multi_get(&keys);
                    let total: i64 =
                        values.iter().map(|v| amount(v.as_ref().expect("read").as_ref().expect("there"))).sum();
                    assert_eq!(total, WHOLE.0, "all at once");
                }
                _ => self.check_snapshot(&mut random),
            }
        });
    }

    /// A snapshot gives the same answers for as long as it lives, in both families.
    fn check_snapshot(&self, random: &mut Random) {
        let options = ReadOptions { snapshot: Some(self.db.snapshot()), ..ReadOptions::default() };
        let mut last = None;
        for _ in 0..1 + random.below(4) {
            let mut seen = Vec::new();
            for writer in 0..2 {
                let name = format!("writer{writer}");
                let here = self.db.get_with(&name, &options).expect("read").map(|value| value.to_vec());
                let there = self.ledger.get_with(&name, &options).expect("read").map(|value| value.to_vec());
                assert_eq!(here, there, "half of a batch");
                seen.push(here);
            }
            let range = "account".."accounu";
            let iter = self.db.default_column_family().range_with(range, options.clone()).expect("it opens");
            assert_eq!(sum(iter), WHOLE, "a snapshot");
            let account = key(random.below(ACCOUNTS));
            let first = self.db.get_with(&account, &options).expect("read").expect("there").to_vec();
            std::thread::sleep(Duration::from_millis(random.below(20)));
            let again = self.db.get_with(&account, &options).expect("read").expect("there").to_vec();
            assert_eq!(first, again, "a view moved");
            assert!(last.is_none_or(|last| last == seen), "a view moved");
            last = Some(seen);
        }
    }

    fn disturb(&self) {
        let mut random = Random(99);
        self.until_over(|| {
            self.changed(match random.below(4) {
                0 => self.db.flush(),
                1 => self.ledger.flush(),
                2 => self.db.compact_range(key(random.below(ACCOUNTS))..),
                _ => self.db.compact_range::<&[u8]>(..),
            });
            std::thread::sleep(Duration::from_millis(random.below(10)));
        });
    }

    fn come_and_go(&self) {
        let mut round = 0u64;
        self.until_over(|| {
            let name = format!("passing{}", round % 3);
            round += 1;
            // One whose drop had failed is still there.
            let family = match self.db.column_family(&name) {
                Ok(family) => family,
                Err(_) => match self.changed(self.db.create_column_family(&name)) {
                    Some(family) => family,
                    None => return,
                },
            };
            let mut batch = WriteBatch::new();
            for number in 0..50u64 {
                batch.put_cf(&family, number.to_be_bytes(), vec![round as u8; 100]);
            }
            let is_written = self.changed(self.db.write(&mut batch)).is_some();
            if round.is_multiple_of(2) {
                self.changed(family.flush());
            }
            let iter = family.iter().expect("it opens");
            self.changed(self.db.drop_column_family(&name));
            let left = iter.map(|entry| entry.expect("readable to the end").1[0]).filter(|byte| *byte == round as u8);
            assert_eq!(left.count(), if is_written { 50 } else { 0 }, "a reader of a family that is gone");
            std::thread::sleep(Duration::from_millis(5));
        });
    }
}

fn lab() -> Lab {
    Lab::with_threads().change(|options| {
        options.family.write_buffer_size = 32 << 10;
        options.family.max_write_buffer_number = 4;
        options.family.level0_file_num_compaction_trigger = 2;
        options.family.level0_slowdown_writes_trigger = 8;
        options.family.level0_stop_writes_trigger = 12;
        options.max_background_jobs = 3;
        options.max_manifest_file_size = 20_000;
        options.max_open_files = 16;
    })
}

/// Plays until the time is up and enough was seen to mean something, calling `meanwhile` every few milliseconds, which says
/// whether it has seen enough.
fn play(lab: &Lab, is_failing: bool, seconds: u64, mut meanwhile: impl FnMut() -> bool) {
    let db = lab.open();
    let ledger = db.create_column_family("ledger").expect("new");
    let mut batch = WriteBatch::new();
    let mut random = Random(1);
    for account in 0..ACCOUNTS {
        batch.put(key(account), value(START, &mut random));
    }
    db.write_with(&mut batch, &WriteOptions::synced()).expect("written");
    let (is_over, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    let stage = Stage { db: &db, ledger: &ledger, is_over: &is_over, looks: &looks, is_failing };
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let stage = &stage;
        for writer in 0..2 {
            scope.spawn(move || stage.transfer(writer, 2));
        }
        for seed in 0..2 {
            scope.spawn(move || stage.check_views(seed));
        }
        scope.spawn(|| stage.disturb());
        scope.spawn(|| stage.come_and_go());
        let _end = End(&is_over);
        let mut is_enough = false;
        let is_time_up =
            |is_enough| begin.elapsed() > Duration::from_secs(if is_enough { seconds } else { seconds + 60 });
        while !is_time_up(is_enough) && !is_over.load(Ordering::Relaxed) {
            is_enough = meanwhile() && looks.load(Ordering::Relaxed) > 100;
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(is_enough || is_over.load(Ordering::Relaxed), "{looks:?} acts are too few to mean something");
    });
    lab.fs.clear_faults();
    eventually("it is healthy", || db.health().state == HealthState::Healthy);
    assert_eq!(sum(db.prefix("account").expect("it opens")), WHOLE);
    db.assert_no_pins().expect("none");
    drop(ledger);
    db.close().expect("nothing is open");
    lab.assert_disk_is_manifest();
    lab.verify();
    let db = lab.open();
    assert_eq!(sum(db.prefix("account").expect("it opens")), WHOLE, "opened again");
}

#[test]
fn the_sum_is_the_same_in_every_view_while_everything_moves() {
    let lab = lab();
    play(&lab, false, seconds(), || {
        // Beside a writer: what it removes meanwhile is no damage.
        let report = verify_directory(DIR, &lab.options, &mut |_| {}).expect("readable");
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        true
    });
}

#[test]
fn the_sum_is_the_same_in_every_view_and_after_every_crash_while_the_disk_refuses_now_and_then() {
    let lab = lab();
    let mut random = Random(5);
    let (mut strikes, mut images) = (0u64, 0u64);
    play(&lab, true, seconds(), || {
        let op = [FsOp::Append, FsOp::Sync, FsOp::Create, FsOp::SyncDir, FsOp::Rename, FsOp::Remove];
        let effect = [FaultEffect::Eio, FaultEffect::NoSpace, FaultEffect::ShortWrite, FaultEffect::SyncDropsDirty];
        let pattern = ["*.log", "*.sst", "MANIFEST-*", "OPTIONS-*", "*"];
        match random.below(8) {
            0 => lab.fs.clear_faults(),
            1..4 => {
                let any = |random: &mut Random, count: usize| random.below(count as u64) as usize;
                let (op, effect) = (op[any(&mut random, op.len())], effect[any(&mut random, effect.len())]);
                lab.fs.inject(Fault::on(op, pattern[any(&mut random, pattern.len())], effect));
                strikes += 1;
            }
            4 => {
                // The process dies right now, or the power goes: some moment of the history, and whole batches only.
                let policy = ORDERLY[(images % ORDERLY.len() as u64) as usize];
                let image = lab.crash(policy, images);
                let db = image.open();
                assert_eq!(sum(db.prefix("account").expect("it opens")), WHOLE, "after a crash, {policy:?}");
                for writer in 0..2 {
                    let name = format!("writer{writer}");
                    let there = db.column_family("ledger").expect("there").get(&name).expect("read");
                    assert_eq!(db.get(&name).expect("read"), there, "half of a batch after a crash, {policy:?}");
                }
                db.close().expect("nothing is open");
                images += 1;
            }
            _ => {}
        }
        strikes > 5 && images > 2
    });
}

/// Writes without a log are as durable as their tables, and those of several families come together.
#[test]
fn a_power_loss_never_parts_unlogged_batches_whatever_switches_while_a_flush_begins() {
    const FAMILIES: usize = 100;
    let lab = Lab::with_threads().change(|options| {
        options.atomic_flush = true;
        options.family.write_buffer_size = 1 << 10;
        options.avoid_flush_during_shutdown = true;
    });
    let db = lab.open();
    let families: Vec<_> = (0..FAMILIES).map(|n| db.create_column_family(&n.to_string()).expect("new")).collect();
    let is_over = AtomicBool::new(false);
    let unlogged = WriteOptions::with_durability(Durability::NoWal);
    let mut seen = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let mut batch = WriteBatch::new();
                for family in &families {
                    batch.put_cf(family, "round", [&round.to_le_bytes()[..], &[7; 100]].concat());
                }
                db.write_with(&mut batch, &unlogged).expect("memory");
            }
        });
        let _end = End(&is_over);
        let until = Instant::now() + Duration::from_secs(seconds().min(20) / 2);
        // A busy machine needs longer to make some rounds.
        while Instant::now() < until || (seen.len() <= 5 && Instant::now() < until + Duration::from_secs(60)) {
            let image = lab.crash(CrashPolicy::DropUnsynced, 0);
            let reader = Db::open_read_only(DIR, image.options.clone()).expect("it opens");
            let rounds: std::collections::BTreeSet<_> = (0..FAMILIES)
                .map(|n| {
                    let family = reader.column_family(&n.to_string()).expect("there");
                    let value = family.get("round").expect("readable");
                    value.map(|value| u64::from_le_bytes(value[..8].try_into().expect("eight bytes")))
                })
                .collect();
            assert_eq!(rounds.len(), 1, "{rounds:?}");
            seen.extend(rounds);
            reader.close().expect("nothing is open");
        }
    });
    assert!(seen.len() > 5, "{seen:?}");
    drop(families);
    db.close().expect("nothing is open");
}
