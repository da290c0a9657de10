//! Compaction filters: a user's code that removes or changes entries while a job rewrites them.
//!
//! Flow: `FamilyOptions::compaction_filter_factory` -> a job of the family makes a filter of its own -> **[`Filtering`]**, which
//! [`super::compaction_iter`] asks about each entry that it may change -> what the job writes.
//!
//! Invariant: what an existing snapshot sees does not change. An entry is shown to a filter only if no snapshot that lives when
//! the job begins sees it; and a snapshot that is made while the job runs reads through the views that it found
//! (`superversion::snapshots`, which a job with a filter tells as it tells of a drop).
//!
//! Threads: a factory is called by any job, a filter by the one thread that runs the job, or its part of the job. No lock is
//! held, but the job has its claims: a filter that calls the database for a compaction of its own files is told `Busy`.
//!
//! Source: RocksDB `include/rocksdb/compaction_filter.h`.

use std::fmt;
use std::sync::Arc;

use crate::format::entity::Columns;
use crate::format::key::{ColumnFamilyId, SequenceNumber};

/// An entry that a [`CompactionFilter`] decides about.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterEntry<'a> {
    /// The value of the key.
    Value(&'a [u8]),
    /// One of the key's merge operands, before it is merged.
    Operand(&'a [u8]),
}

impl<'a> FilterEntry<'a> {
    /// The bytes of either.
    pub fn bytes(&self) -> &'a [u8] {
        match self {
            FilterEntry::Value(bytes) | FilterEntry::Operand(bytes) => bytes,
        }
    }
}

/// What becomes of an entry.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterDecision {
    /// It stays as it is.
    Keep,
    /// It goes. A value goes as if the key had been deleted in its place: no older value comes back. An operand goes alone.
    Remove,
    /// These bytes take the place of the value, or of the operand.
    Change(Vec<u8>),
    /// These columns, in any order, take the place of the value, or of the entity. Means `Keep` of an operand.
    ChangeColumns(Vec<(Vec<u8>, Vec<u8>)>),
    /// The key goes, and with it every key of the job that is before this one, without being shown: as by `Remove`, so that
    /// what snapshots see stays. Where nothing else can hold such keys they are not even read. A key that is not behind the
    /// current one means `Keep`.
    SkipUntil(Vec<u8>),
}

impl FilterDecision {
    /// Removes the current key and all that follow it and begin with `prefix`, in a family with the bytewise order.
    ///
    /// ```
    /// use firndb::FilterDecision;
    /// assert_eq!(FilterDecision::remove_prefix(b"table1/"), FilterDecision::SkipUntil(b"table10".to_vec()));
    /// // No key is behind all that begin with these: the filter is asked for each.
    /// assert_eq!(FilterDecision::remove_prefix(&[0xff]), FilterDecision::Remove);
    /// ```
    pub fn remove_prefix(prefix: &[u8]) -> FilterDecision {
        let mut end = prefix.to_vec();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        match end.last_mut() {
            Some(last) => {
                *last += 1;
                FilterDecision::SkipUntil(end)
            }
            None => FilterDecision::Remove,
        }
    }
}

/// Why a table is written.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterReason {
    /// A memtable becomes a table.
    Flush,
    /// Tables are merged.
    Compaction,
}

/// The job that a filter is made for.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterContext {
    /// Why it writes tables.
    pub reason: FilterReason,
    /// It reads all tables of the family.
    pub is_full: bool,
    /// Somebody asked for it: `compact_range`.
    pub is_manual: bool,
    /// The family.
    pub column_family: ColumnFamilyId,
    /// The level that it writes into.
    pub output_level: usize,
}

/// Decides, entry by entry, what a compaction keeps.
///
/// It is shown the newest version that the job has of a key if that is a value or an entity, and every merge operand. It is not shown
/// deletions, values below another entry of the same key, what merging brought forth, what range deletions hide, and **nothing
/// that a snapshot sees**: readers of an existing snapshot find what they found before. (RocksDB shows all, and its snapshots
/// lose what a filter removes.) A file that a compaction only moves to another level is not read, hence not filtered;
/// newer versions of a key may be in levels above, or in memtables, where the job does not see them.
///
/// A panic in it is one of the job: writes are refused with the cause until the next opening.
pub trait CompactionFilter: Send {
    /// Decides about `entry` of `key`. Keys come in the family's order.
    fn filter(&mut self, key: &[u8], entry: FilterEntry<'_>) -> FilterDecision;

    /// Decides about a key whose value is in a blob file by the key alone; `None`, the default: the value is fetched, and
    /// [`filter`](Self::filter) decides.
    fn filter_by_key(&mut self, key: &[u8]) -> Option<FilterDecision> {
        let _ = key;
        None
    }

    /// Decides about a key that has columns. `Change` makes a plain value of it. By default it stays.
    fn filter_entity(&mut self, key: &[u8], columns: &Columns) -> FilterDecision {
        let _ = (key, columns);
        FilterDecision::Keep
    }
}

impl<F: FnMut(&[u8], FilterEntry<'_>) -> FilterDecision + Send> CompactionFilter for F {
    fn filter(&mut self, key: &[u8], entry: FilterEntry<'_>) -> FilterDecision {
        self(key, entry)
    }
}

/// Makes a filter for each job, and for each part of one that several threads share.
///
/// ```
/// use firndb::{CompactionFilter, CompactionFilterFactory, FilterContext, FilterDecision, FilterRule};
/// use firndb::{Db, FamilyOptions, Options};
///
/// /// Drops sessions that have ended.
/// struct Ended;
///
/// impl CompactionFilterFactory for Ended {
///     fn name(&self) -> &str {
///         "example.Ended"
///     }
///     fn create(&self, _: &FilterContext) -> Option<Box<dyn CompactionFilter>> {
///         Some(Box::new(|_: &[u8], entry: firndb::FilterEntry<'_>| match entry.bytes() {
///             b"ended" => FilterDecision::Remove,
///             _ => FilterDecision::Keep,
///         }))
///     }
/// }
///
/// # fn main() -> firndb::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let family = FamilyOptions { compaction_filter_factory: Some(FilterRule::custom(Ended)), ..FamilyOptions::default() };
/// let db = Db::open_with(dir.path(), Options { create_if_missing: true, family, ..Options::default() })?;
/// db.put("session1", "ended")?;
/// db.put("session2", "active")?;
/// db.compact_range::<&str>(..)?;
/// assert!(db.get("session1")?.is_none() && db.get("session2")?.is_some());
/// # Ok(())
/// # }
/// ```
pub trait CompactionFilterFactory: Send + Sync + 'static {
    /// The name that OPTIONS gets.
    fn name(&self) -> &str;

    /// Whether jobs that write tables for this reason are filtered. Default: compactions are.
    fn filters(&self, reason: FilterReason) -> bool {
        reason == FilterReason::Compaction
    }

    /// A filter for a job; `None` leaves the job alone.
    fn create(&self, context: &FilterContext) -> Option<Box<dyn CompactionFilter>>;
}

/// Who filters the compactions of a family.
#[non_exhaustive]
#[derive(Clone)]
pub enum FilterRule {
    /// A user's factory.
    Custom(Arc<dyn CompactionFilterFactory>),
    /// One that the directory names and the program did not give: nothing is filtered.
    Unknown(String),
}

impl fmt::Debug for FilterRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilterRule({})", self.name())
    }
}

impl FilterRule {
    /// A user's factory.
    pub fn custom(factory: impl CompactionFilterFactory) -> FilterRule {
        FilterRule::Custom(Arc::new(factory))
    }

    /// The name that OPTIONS gets.
    pub fn name(&self) -> &str {
        match self {
            FilterRule::Custom(factory) => factory.name(),
            FilterRule::Unknown(name) => name,
        }
    }

    /// The factory, if jobs of this sort are filtered.
    pub(crate) fn factory_for(&self, reason: FilterReason) -> Option<Arc<dyn CompactionFilterFactory>> {
        match self {
            FilterRule::Custom(factory) if factory.filters(reason) => Some(Arc::clone(factory)),
            _ => None,
        }
    }
}

impl fmt::Debug for dyn CompactionFilterFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CompactionFilterFactory({})", self.name())
    }
}

/// What a job makes its filters of.
#[derive(Debug, Clone)]
pub(crate) struct JobFilter {
    pub(crate) factory: Arc<dyn CompactionFilterFactory>,
    pub(crate) context: FilterContext,
}

impl JobFilter {
    /// A filter for the job, or for a part of it.
    pub(crate) fn make(&self, protected: Option<SequenceNumber>) -> Option<Filtering> {
        self.factory.create(&self.context).map(|filter| Filtering::new(filter, protected))
    }
}

/// Says whether all entries from a key on, and before another, may be left unread.
pub(crate) type MayJump = Box<dyn Fn(&[u8], &[u8]) -> bool>;

/// A job's filter, and what it may be shown.
pub(crate) struct Filtering {
    pub(super) filter: Box<dyn CompactionFilter>,
    /// Snapshots see entries up to here.
    pub(super) protected: Option<SequenceNumber>,
    /// Keys before this one go.
    pub(super) skip_until: Option<Vec<u8>>,
    pub(super) may_jump: Option<MayJump>,
    /// Something was not kept as it was.
    pub(super) has_acted: bool,
}

impl Filtering {
    pub(crate) fn new(filter: Box<dyn CompactionFilter>, protected: Option<SequenceNumber>) -> Filtering {
        Filtering { filter, protected, skip_until: None, may_jump: None, has_acted: false }
    }

    /// Lets it leave entries unread where `may_jump` says so.
    pub(crate) fn jumping(mut self, may_jump: MayJump) -> Filtering {
        self.may_jump = Some(may_jump);
        self
    }
}
