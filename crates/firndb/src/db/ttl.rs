//! Values that expire: RocksDB's `DBWithTTL`, in its format.
//!
//! Each value, and each merge operand, ends in four bytes, little-endian: the second since 1970 when it was written.
//! [`TtlDb`] puts them there and takes them off. A compaction filter removes what is older than the limit; until then a value
//! that is too old is still read, as in RocksDB.
//!
//! Flow: [`TtlDb::open`] gives every family a filter, and wraps its merge operator; [`TtlColumnFamily`] wraps the handle.
//!
//! Source: RocksDB `utilities/ttl/db_ttl_impl.cc`.

use std::fmt;
use std::ops::{Deref, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::merge::{MergeFailure, MergeOperator, MergeRule};
use crate::iter::filter::{
    CompactionFilter, CompactionFilterFactory, FilterContext, FilterDecision, FilterEntry, FilterReason, FilterRule,
};
use crate::options::Options;
use crate::read::{Iter, ReadOptions, Slice};
use crate::sync::atomic::{AtomicU64, Ordering};

use super::{ColumnFamily, Db};

/// Bytes of a time.
const STAMP_LEN: usize = 4;

/// RocksDB takes an earlier time for damage: nothing was written by it before.
const FIRST_TIME_S: u32 = 1_368_146_402;

/// The names under which RocksDB's own are in OPTIONS.
const FILTER_NAME: &str = "TtlCompactionFilterFactory";
const OPERATOR_NAME: &str = "TtlMergeOperator";

/// Bytes, and when they were written.
fn split(stamped: &[u8]) -> Option<(&[u8], u32)> {
    let (bytes, stamp) = stamped.split_last_chunk::<STAMP_LEN>()?;
    let time = u32::from_le_bytes(*stamp);
    (time >= FIRST_TIME_S).then_some((bytes, time))
}

fn stamped(bytes: &[u8], time_s: u32) -> Vec<u8> {
    [bytes, &time_s.to_le_bytes()].concat()
}

fn now_s(clock: &dyn Clock) -> u32 {
    u32::try_from(clock.unix_seconds()).unwrap_or(u32::MAX)
}

/// Says which values are too old.
struct TtlFactory {
    /// 0: none ever is.
    ttl_s: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    inner: Option<Arc<dyn CompactionFilterFactory>>,
}

impl CompactionFilterFactory for TtlFactory {
    fn name(&self) -> &str {
        FILTER_NAME
    }

    fn filters(&self, reason: FilterReason) -> bool {
        reason == FilterReason::Compaction || self.inner.as_ref().is_some_and(|inner| inner.filters(reason))
    }

    fn create(&self, context: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
        let inner = self.inner.as_ref().filter(|inner| inner.filters(context.reason));
        // Relaxed: it is one of the times that were set.
        let ttl_s = self.ttl_s.load(Ordering::Relaxed);
        let now_s = self.clock.unix_seconds();
        // The first second that is young enough.
        let first_s = if ttl_s == 0 { 0 } else { now_s.saturating_sub(ttl_s) };
        Some(Box::new(TtlFilter { first_s, inner: inner.and_then(|inner| inner.create(context)) }))
    }
}

struct TtlFilter {
    first_s: u64,
    inner: Option<Box<dyn CompactionFilter>>,
}

impl CompactionFilter for TtlFilter {
    fn filter(&mut self, key: &[u8], entry: FilterEntry<'_>) -> FilterDecision {
        // What has no time is damage, which is for readers to hear of.
        let Some((bytes, time_s)) = split(entry.bytes()) else { return FilterDecision::Keep };
        if u64::from(time_s) < self.first_s {
            return FilterDecision::Remove;
        }
        let Some(inner) = &mut self.inner else { return FilterDecision::Keep };
        let entry = match entry {
            FilterEntry::Value(_) => FilterEntry::Value(bytes),
            FilterEntry::Operand(_) => FilterEntry::Operand(bytes),
        };
        match inner.filter(key, entry) {
            FilterDecision::Change(changed) => FilterDecision::Change(stamped(&changed, time_s)),
            other => other,
        }
    }
}

/// Merges what is in front of the times; the result is as old as the newest of them. (RocksDB's is as old as the merge: then
/// the same operands would not always give the same value.)
struct TtlOperator(MergeRule);

impl MergeOperator for TtlOperator {
    fn name(&self) -> &str {
        OPERATOR_NAME
    }

    fn full_merge(
        &self,
        key: &[u8],
        base: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> std::result::Result<Vec<u8>, MergeFailure> {
        let without = || MergeFailure::from("a value without the time when it was written");
        let base = base.map(|base| split(base).ok_or_else(without)).transpose()?;
        let operands = operands.iter().map(|operand| split(operand).ok_or_else(without));
        let operands: Vec<(&[u8], u32)> = operands.collect::<std::result::Result<_, _>>()?;
        let newest = operands.iter().chain(&base).map(|(_, time)| *time).max().unwrap_or(FIRST_TIME_S);
        let operands: Vec<&[u8]> = operands.iter().map(|(bytes, _)| *bytes).collect();
        Ok(stamped(&self.0.full_merge(key, base.map(|(bytes, _)| bytes), &operands)?, newest))
    }

    fn partial_merge(&self, key: &[u8], older: &[u8], newer: &[u8]) -> Option<Vec<u8>> {
        let ((older, time), (newer, newest)) = (split(older)?, split(newer)?);
        Some(stamped(&self.0.partial_merge(key, older, newer)?, time.max(newest)))
    }
}

/// A database whose values expire, in the format of RocksDB's `DBWithTTL`.
///
/// Compactions remove values that were written more than the limit ago; until then they are read. Everything that is written
/// goes through this handle, since each value carries the time; [`TtlDb::db`] is the database beneath it, which sees the
/// values with their times. The same directory opened without `TtlDb` shows them, too.
///
/// ```
/// use std::time::Duration;
/// # fn main() -> firndb::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let options = firndb::Options { create_if_missing: true, ..Default::default() };
/// let sessions = firndb::TtlDb::open(dir.path(), options, Duration::from_secs(3600))?;
/// sessions.put("session1", "Ada")?;
/// assert_eq!(sessions.get("session1")?.as_deref(), Some(&b"Ada"[..]));
/// for entry in sessions.iter()? {
///     let (key, value) = entry?;
///     println!("{key:?}, written at second {}: {:?}", value.written_s(), &value[..]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TtlDb {
    db: Db,
    default: TtlColumnFamily,
    ttl_s: Arc<AtomicU64>,
}

impl TtlDb {
    /// Opens the database in `dir`. The limit is that of all families, in whole seconds; less than one: nothing expires. The
    /// filter and the merge operator of `options.family` work on values without their times.
    ///
    /// # Errors
    /// As [`Db::open_with`].
    pub fn open(dir: impl AsRef<Path>, options: Options, ttl: std::time::Duration) -> Result<TtlDb> {
        let ttl_s = Arc::new(AtomicU64::new(ttl.as_secs()));
        let db = Db::open_with(dir, with_ttl(options, &ttl_s))?;
        Ok(TtlDb::of(db, ttl_s))
    }

    /// Opens the database in `dir` for reading, as [`Db::open_read_only`].
    ///
    /// # Errors
    /// As there.
    pub fn open_read_only(dir: impl AsRef<Path>, options: Options) -> Result<TtlDb> {
        let ttl_s = Arc::new(AtomicU64::new(0));
        let db = Db::open_read_only(dir, with_ttl(options, &ttl_s))?;
        Ok(TtlDb::of(db, ttl_s))
    }

    fn of(db: Db, ttl_s: Arc<AtomicU64>) -> TtlDb {
        let default = TtlColumnFamily { family: db.default_column_family().clone(), clock: db.options().clock.clone() };
        TtlDb { db, default, ttl_s }
    }

    /// The database with the times in its values.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Changes the limit, for compactions that begin from now on.
    pub fn set_ttl(&self, ttl: std::time::Duration) {
        // Relaxed: a job takes one or the other.
        self.ttl_s.store(ttl.as_secs(), Ordering::Relaxed);
    }

    /// The family called `default`.
    pub fn default_column_family(&self) -> &TtlColumnFamily {
        &self.default
    }

    /// A family by its name.
    ///
    /// # Errors
    /// As [`Db::column_family`].
    pub fn column_family(&self, name: &str) -> Result<TtlColumnFamily> {
        Ok(TtlColumnFamily { family: self.db.column_family(name)?, clock: Arc::clone(&self.default.clock) })
    }

    /// [`TtlColumnFamily::get`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<TtlValue>> {
        self.default.get(key)
    }

    /// [`TtlColumnFamily::put`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.default.put(key, value)
    }

    /// [`TtlColumnFamily::merge`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.default.merge(key, operand)
    }

    /// Removes `key` from the default family.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.db.delete(key)
    }

    /// [`TtlColumnFamily::iter`] of the default family.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn iter(&self) -> Result<TtlIter> {
        self.default.iter()
    }

    /// The bytes of a value, or of an operand, as the default family has them: for a batch that is written to [`TtlDb::db`].
    pub fn stamped(&self, value: impl AsRef<[u8]>) -> Vec<u8> {
        self.default.stamped(value)
    }

    /// [`Db::close`].
    ///
    /// # Errors
    /// As there.
    pub fn close(&self) -> Result<()> {
        self.db.close()
    }
}

fn with_ttl(mut options: Options, ttl_s: &Arc<AtomicU64>) -> Options {
    let (ttl_s, clock) = (Arc::clone(ttl_s), Arc::clone(&options.clock));
    let inner = match options.family.compaction_filter_factory.take() {
        Some(FilterRule::Custom(factory)) => Some(factory),
        _ => None,
    };
    options.family.compaction_filter_factory = Some(FilterRule::custom(TtlFactory { ttl_s, clock, inner }));
    let operator = options.family.merge_operator.take();
    options.family.merge_operator = operator.map(|rule| MergeRule::custom(TtlOperator(rule)));
    options
}

/// A column family whose values expire.
#[derive(Clone)]
pub struct TtlColumnFamily {
    family: ColumnFamily,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for TtlColumnFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TtlColumnFamily({:?})", self.family.name())
    }
}

impl TtlColumnFamily {
    /// The family with the times in its values.
    pub fn family(&self) -> &ColumnFamily {
        &self.family
    }

    /// The value of `key`, also if it is too old and no compaction has removed it yet; `None` if there is none.
    ///
    /// # Errors
    /// As [`ColumnFamily::get`]; `Corruption` if the value does not end in a time.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<TtlValue>> {
        self.get_with(key, &ReadOptions::default())
    }

    /// [`TtlColumnFamily::get`] with options.
    ///
    /// # Errors
    /// As there.
    pub fn get_with(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Option<TtlValue>> {
        self.family.get_with(key, options)?.map(TtlValue::of).transpose()
    }

    /// Sets `key` to `value`, as of now.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.family.put(key, self.stamped(value))
    }

    /// Adds an operand to `key`, as of now. The value is then as old as the newest of its operands.
    ///
    /// # Errors
    /// As [`ColumnFamily::merge`].
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<()> {
        self.family.merge(key, self.stamped(operand))
    }

    /// Removes `key`.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<()> {
        self.family.delete(key)
    }

    /// The bytes of a value, or of an operand, as the family has them: with the time of now behind them.
    pub fn stamped(&self, value: impl AsRef<[u8]>) -> Vec<u8> {
        stamped(value.as_ref(), now_s(&*self.clock))
    }

    /// All entries, in order, forwards and backwards.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn iter(&self) -> Result<TtlIter> {
        self.family.iter().map(TtlIter)
    }

    /// The entries of a range of keys.
    ///
    /// # Errors
    /// As [`ColumnFamily::cursor`].
    #[track_caller]
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<TtlIter> {
        self.family.range(range).map(TtlIter)
    }
}

/// A value without its time.
#[derive(Clone)]
pub struct TtlValue {
    stamped: Slice,
    written_s: u32,
}

impl TtlValue {
    fn of(stamped: Slice) -> Result<TtlValue> {
        let time = split(&stamped).map(|(_, time)| time);
        match time {
            Some(written_s) => Ok(TtlValue { stamped, written_s }),
            None => Err(no_time(&stamped)),
        }
    }

    /// The second since 1970 when it was written.
    pub fn written_s(&self) -> u64 {
        self.written_s.into()
    }
}

impl Deref for TtlValue {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.stamped[..self.stamped.len() - STAMP_LEN]
    }
}

impl AsRef<[u8]> for TtlValue {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for TtlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TtlValue").field("bytes", &&self[..]).field("written_s", &self.written_s).finish()
    }
}

#[cold]
fn no_time(stamped: &[u8]) -> Error {
    let what =
        format!("a value of {} bytes does not end in the time when it was written, as with a ttl", stamped.len());
    let damage = Error::corrupt(CorruptionKind::Malformed, what);
    damage.because(ErrorKind::Corruption, "the database was written without a ttl, or is damaged".to_owned())
}

/// The entries of a range, without their times: see [`TtlColumnFamily::iter`].
#[derive(Debug)]
pub struct TtlIter(Iter);

impl TtlIter {
    fn entry(entry: Result<(Slice, Slice)>) -> Result<(Slice, TtlValue)> {
        let (key, value) = entry?;
        Ok((key, TtlValue::of(value)?))
    }
}

impl Iterator for TtlIter {
    type Item = Result<(Slice, TtlValue)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(TtlIter::entry)
    }
}

impl DoubleEndedIterator for TtlIter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(TtlIter::entry)
    }
}
