//! What a database must hold: of each key the last acknowledged value, or a later one whose fate nobody was told.

use std::collections::BTreeMap;
use std::time::Duration;

use firndb::{Clock, Db, ErrorKind, HealthState, Options};

use crate::watchdog::History;

/// After a disturbance, on the database's clock. The longest wait between two tries is far below.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

#[derive(Debug, Default, Clone)]
struct Value {
    acknowledged: Option<u64>,
    /// Written later, with an error.
    unknown: Vec<u64>,
}

/// The keys of one writer.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    keys: BTreeMap<String, Value>,
    written: u64,
}

fn bytes(number: u64) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(8 + (number % 300) as usize, number as u8);
    bytes
}

impl Model {
    /// Writes a new value to a key.
    pub(crate) fn put(&mut self, db: &Db, key: &str) -> Result<(), firndb::Error> {
        self.written += 1;
        // Noted first: the call may not return.
        self.keys.entry(key.to_owned()).or_default().unknown.push(self.written);
        let outcome = db.put(key, bytes(self.written));
        if outcome.is_ok() {
            let value = Value { acknowledged: Some(self.written), unknown: Vec::new() };
            self.keys.insert(key.to_owned(), value);
        }
        outcome
    }

    /// Every key, by a lookup and by a scan.
    pub(crate) fn check(&self, db: &Db) {
        let scanned: BTreeMap<Vec<u8>, Vec<u8>> = db
            .iter()
            .expect("it opens")
            .map(|entry| entry.expect("readable"))
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect();
        for (key, value) in &self.keys {
            let found = db.get(key).expect("readable").map(|found| found.to_vec());
            assert_eq!(scanned.get(key.as_bytes()), found.as_ref(), "{key}: a scan and a lookup");
            let mut allowed = value.unknown.iter().chain(&value.acknowledged).map(|number| Some(bytes(*number)));
            let may_be_absent = value.acknowledged.is_none() && found.is_none();
            assert!(may_be_absent || allowed.any(|allowed| allowed == found), "{key}: {value:?}, found {found:?}");
        }
    }
}

/// A refusal says why, and so does `health`, for as long as writes are refused.
pub(crate) fn assert_has_cause(db: &Db, error: &firndb::Error, allowed: &[ErrorKind]) {
    assert!(allowed.contains(&error.kind()), "{error:?}");
    assert!(error.to_string().len() > 10, "it says what happened: {error}");
    let health = db.health();
    if matches!(health.state, HealthState::WritesStopped | HealthState::ReadOnly) {
        assert!(health.cause.is_some(), "{health:?}");
    }
}

/// The disturbance is over: writes, flushes and reads work within the bound, and `health` says so.
pub(crate) fn assert_serves(db: &Db, model: &mut Model, clock: &dyn Clock, history: &History, mut wait: impl FnMut()) {
    let start = clock.monotonic_micros();
    loop {
        let written = model.put(db, "again");
        let outcome = written.and_then(|()| db.flush());
        let health = db.health();
        if outcome.is_ok() && health.state == HealthState::Healthy {
            break;
        }
        let waited = Duration::from_micros(clock.monotonic_micros() - start);
        assert!(waited < BOUND, "after {waited:?}: {outcome:?}, {health:?}");
        wait();
    }
    history.note("it serves again");
    model.check(db);
}

/// `close` ends, the next open works, and everything is there; the directory is sound.
pub(crate) fn assert_reopens(db: Db, dir: &str, options: &Options, models: &[Model], history: &History) {
    history.note("close");
    db.close().expect("with everything on the disk");
    drop(db);
    history.note("open");
    let db = Db::open_with(dir, options.clone()).expect("it opens again");
    models.iter().for_each(|model| model.check(&db));
    db.close().expect("nothing was written");
    let report = firndb::verify_directory(dir, options, &mut |_| {}).expect("readable");
    assert!(report.damages.is_empty(), "{:?}", report.damages);
}
