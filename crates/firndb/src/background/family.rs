//! A column family as its jobs see it, and the registry of all families of a database.
//!
//! Threads: the registry has one lock, held for moments; a family's state publishes itself.

use std::collections::BTreeMap;

use crate::compaction::claims::ClaimRegistry;
use crate::compaction::picker::{Compaction, LevelConfig, Picker, Suggestions};
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::ColumnFamilyId;
use crate::iter::filter::{FilterContext, FilterReason, JobFilter};
use crate::options::FamilyOptions;
use crate::superversion::{FamilyState, Published};
use crate::sync::atomic::{AtomicBool, AtomicU64};
use crate::sync::{Arc, Mutex};
use crate::version::new_blobs::OutputConfig;
use crate::write::StallConfig;

/// A column family and what its jobs need.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) state: Arc<FamilyState>,
    /// Changed by `set_options`; who has taken them works with those.
    options: Published<FamilyOptions>,
    /// What its running compactions have.
    pub(crate) claims: Arc<ClaimRegistry>,
    /// A compaction waits for its turn.
    pub(super) is_scheduled: AtomicBool,
    /// The number that the oldest snapshot has to reach before there is more to compact; all ones: none does.
    pub(super) awaited_snapshot: AtomicU64,
    /// The time, in seconds since 1970, from which on there is more to compact; all ones: no time is awaited.
    pub(super) awaited_time_s: AtomicU64,
    /// Something should have been dropped, and is kept for snapshots.
    pub(super) has_waiting_drop: AtomicBool,
    /// Files that somebody suggested for a compaction.
    pub(super) suggested: Mutex<Suggestions>,
}

impl Family {
    pub(crate) fn new(state: Arc<FamilyState>, options: FamilyOptions) -> Arc<Family> {
        Arc::new(Family {
            state,
            options: Published::new(Arc::new(options)),
            claims: ClaimRegistry::new(),
            is_scheduled: AtomicBool::new(false),
            awaited_snapshot: AtomicU64::new(u64::MAX),
            awaited_time_s: AtomicU64::new(u64::MAX),
            has_waiting_drop: AtomicBool::new(false),
            suggested: Mutex::default(),
        })
    }

    /// The options in effect.
    pub(crate) fn options(&self) -> Arc<FamilyOptions> {
        self.options.load_full()
    }

    pub(crate) fn replace_options(&self, options: FamilyOptions) {
        drop(self.options.swap(Arc::new(options)));
    }

    pub(crate) fn id(&self) -> ColumnFamilyId {
        self.state.id()
    }

    /// # Errors
    /// `ColumnFamilyDropped` once the family was dropped.
    #[inline]
    pub(crate) fn check_not_dropped(&self) -> Result<()> {
        if self.state.is_dropped() {
            let name = &self.state.config.name;
            return Err(Error::new(ErrorKind::ColumnFamilyDropped, format!("column family {name:?} was dropped")));
        }
        Ok(())
    }

    /// True if compactions of the family start by themselves.
    pub(crate) fn compacts_automatically(&self) -> bool {
        self.options.load().compacts_automatically()
    }

    /// What picks its compactions.
    pub(crate) fn picker(&self) -> Picker {
        self.options.load().picker()
    }

    /// The limits of its levels.
    pub(crate) fn levels(&self) -> LevelConfig {
        self.options.load().levels()
    }

    /// How the family's flushes write.
    pub(crate) fn flush_output(&self) -> OutputConfig {
        self.options.load().flush_output()
    }

    /// True if a filter is given.
    pub(crate) fn has_filter(&self) -> bool {
        let options = self.options.load();
        options.compaction_filter_factory.as_ref().and_then(|rule| rule.factory_for(FilterReason::Compaction)).is_some()
    }

    /// What filters its compactions.
    pub(crate) fn filter_of(&self, job: &Compaction) -> Option<JobFilter> {
        let options = self.options.load();
        let factory = options.compaction_filter_factory.as_ref()?.factory_for(FilterReason::Compaction)?;
        let context = FilterContext {
            reason: FilterReason::Compaction,
            is_full: job.files().count() == job.version.files().count(),
            is_manual: job.is_manual,
            column_family: self.id(),
            output_level: job.output_level,
        };
        Some(JobFilter { factory, context })
    }

    /// What filters its flushes.
    pub(crate) fn filter_of_flush(&self) -> Option<JobFilter> {
        let options = self.options.load();
        let factory = options.compaction_filter_factory.as_ref()?.factory_for(FilterReason::Flush)?;
        let context = FilterContext {
            reason: FilterReason::Flush,
            is_full: false,
            is_manual: false,
            column_family: self.id(),
            output_level: 0,
        };
        Some(JobFilter { factory, context })
    }

    /// When writers of the family are held up.
    pub(crate) fn stall(&self) -> StallConfig {
        self.options.load().stall()
    }
}

/// All column families of a database.
#[derive(Debug, Default)]
pub(crate) struct Families(Mutex<BTreeMap<ColumnFamilyId, Arc<Family>>>);

impl Families {
    pub(crate) fn new(families: BTreeMap<ColumnFamilyId, Arc<Family>>) -> Families {
        Families(Mutex::new(families))
    }

    pub(crate) fn get(&self, id: ColumnFamilyId) -> Option<Arc<Family>> {
        self.0.lock().get(&id).cloned()
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Family>> {
        self.0.lock().values().find(|family| family.state.config.name == name).cloned()
    }

    /// In the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Family>> {
        self.0.lock().values().cloned().collect()
    }

    pub(crate) fn insert(&self, family: Arc<Family>) {
        self.0.lock().insert(family.id(), family);
    }

    pub(crate) fn remove(&self, id: ColumnFamilyId) {
        self.0.lock().remove(&id);
    }
}
