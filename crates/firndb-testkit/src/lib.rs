//! What tests, examples and benchmarks of FirnDB share. Not published; the file system that loses power is
//! `firndb::MemoryFs`, since users want to test with it too.

pub mod rocksdb;
pub mod text;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use firndb::{BackgroundMode, Db, ManualClock, MemoryFs, Options, Result};

/// Waits for something that other threads do: a minute, since a test machine may be busy with other things. What never
/// comes fails the test all the same.
///
/// # Panics
/// If it does not come.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("never: {what}");
}

/// What a column family holds.
pub type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Column families and what they hold.
pub type State = BTreeMap<String, Map>;

/// Random numbers that are the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random(fastrand::Rng);

impl Random {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Random {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number below `limit`, or 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0.u64(..limit.max(1))
    }

    /// An index into `len` things.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.usize(..len)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// Bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.0.u8(..)).take(len).collect()
    }

    /// At most so many bytes.
    pub fn bytes_up_to(&mut self, len_max: usize) -> Vec<u8> {
        let len = self.index(len_max + 1);
        self.bytes(len)
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// The bytes that hex of either case stands for.
///
/// # Panics
/// If it is not hex.
pub fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A number from the environment: `FIRN_SEED`, `FIRN_OPS` and their like, which CONTRIBUTING.md lists.
pub fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A key of 16 decimal digits.
pub fn decimal_key(number: u64) -> [u8; 16] {
    let mut key = [b'0'; 16];
    let mut left = number;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (left % 10) as u8;
        left /= 10;
    }
    key
}

/// Options under which a few entries make memtables full, tables large and levels deep; in memory, with background work
/// done by hand and time that stands still.
pub fn small_options(fs: &MemoryFs) -> Options {
    let mut options = Options::default();
    options.create_if_missing = true;
    options.fs = Arc::new(fs.clone());
    options.clock = Arc::new(ManualClock::new(7));
    options.background = BackgroundMode::Manual;
    options.family.write_buffer_size = 2048;
    options.family.block_size = 256;
    options.family.target_file_size_base = 1024;
    options.family.max_bytes_for_level_base = 4096;
    options.family.level0_file_num_compaction_trigger = 2;
    options
}

/// Everything that a database holds.
///
/// # Errors
/// Those of reading.
pub fn contents(db: &Db) -> Result<State> {
    let mut state = State::new();
    for family in db.column_families() {
        let entries = family.iter()?.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        state.insert(family.name().to_owned(), entries.collect::<Result<Map>>()?);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_back_and_seeds_repeat() {
        let fs = MemoryFs::new();
        let db = Db::open_with("/db", small_options(&fs)).expect("opens");
        let (mut random, mut again) = (Random::new(3), Random::new(3));
        assert_eq!(unhex(&hex(&[0, 0xab, 0xff])), [0, 0xab, 0xff]);
        for _ in 0..100 {
            let key = decimal_key(random.below(50));
            assert_eq!(key, decimal_key(again.below(50)));
            // Memtables are full soon, and nobody else flushes them.
            if db.put(key, b"v").is_err() {
                while db.run_background_step() {}
                db.put(key, b"v").expect("written");
            }
        }
        let state = contents(&db).expect("readable");
        assert!(state["default"].len() > 20 && state["default"].keys().all(|key| key.len() == 16));
        db.close().expect("closes");
    }
}
