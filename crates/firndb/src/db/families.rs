//! Column families that come and go at run time.
//!
//! Flow: [`Db::create_column_family`] -> a number of the current log (`write`) -> MANIFEST -> the registry -> the write queue
//! -> OPTIONS. [`Db::drop_column_family`] -> no compaction, no flush of the family -> MANIFEST -> the write queue -> the
//! registry -> the janitor -> OPTIONS.
//!
//! Invariants
//! 1. One family comes or goes at a time (`changing`), which `close` waits for.
//! 2. A change that fails leaves things as they were: what its exclusion kept from starting is scheduled again.
//! 3. If the outcome of an edit is unknown, a new MANIFEST without it comes first, or else writes stop.
//!
//! Threads: any; whoever drops a family waits for its running jobs.

use crate::error::{Error, ErrorKind, Result};
use crate::format::key::ColumnFamilyId;
use crate::format::limits::{FAMILY_NAME_BYTES_MAX, exceeded};
use crate::memtable::MemTable;
use crate::metrics::LogLevel;
use crate::options::FamilyOptions;
use crate::superversion::{FamilyConfig, FamilyState};
use crate::sync::Arc;

use super::core::{Core, Family, Writer};
use super::{ColumnFamily, Db};

impl Db {
    /// The family of this name.
    ///
    /// # Errors
    /// `NoSuchColumnFamily` if there is none.
    pub fn column_family(&self, name: &str) -> Result<ColumnFamily> {
        self.core().check_process()?;
        match self.core().resources.families.by_name(name) {
            Some(family) => Ok(self.default.sibling(family)),
            None => Err(Error::new(ErrorKind::NoSuchColumnFamily, format!("there is no column family {name:?}"))),
        }
    }

    /// All families, in the order of their ids. Empty in a forked process.
    pub fn column_families(&self) -> Vec<ColumnFamily> {
        if self.core().check_process().is_err() {
            return Vec::new();
        }
        self.core().resources.families.all().into_iter().map(|family| self.default.sibling(family)).collect()
    }

    /// Makes a family with the options that the program opened the database with: [`Options::family`](crate::Options), and
    /// what a descriptor of this name says.
    ///
    /// # Errors
    /// `InvalidArgument` if there is one of this name, the name is empty, or an option makes no sense.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-families-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// let logs = db.create_column_family("logs")?;
    /// let mut batch = firndb::WriteBatch::new();
    /// batch.put("key", "in default").put_cf(&logs, "key", "in logs");
    /// db.write(&mut batch)?;
    /// assert_eq!(logs.get("key")?.as_deref(), Some(&b"in logs"[..]));
    /// db.drop_column_family("logs")?;
    /// # drop(logs);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn create_column_family(&self, name: &str) -> Result<ColumnFamily> {
        let options = self.core().options.of_new_family(name)?;
        Ok(self.default.sibling(self.core().create_family(name, options)?))
    }

    /// Makes a family with its own options, all of them.
    ///
    /// # Errors
    /// As [`Db::create_column_family`].
    pub fn create_column_family_with(&self, name: &str, options: FamilyOptions) -> Result<ColumnFamily> {
        let options = options.checked(name)?;
        Ok(self.default.sibling(self.core().create_family(name, options)?))
    }

    /// Drops a family and everything in it. Handles, iterators and snapshots that exist go on reading what they see while
    /// the database is open; its handles do not keep the database open any more.
    ///
    /// # Errors
    /// `NoSuchColumnFamily`; `InvalidArgument` for the default family.
    pub fn drop_column_family(&self, name: &str) -> Result<()> {
        self.core().check_process()?;
        let core = self.core();
        let dropped = core.watched("dropping a column family", || core.drop_family(name));
        core.resources.outbox.deliver();
        dropped
    }
}

impl Core {
    pub(super) fn create_family(self: &Arc<Self>, name: &str, options: FamilyOptions) -> Result<Arc<Family>> {
        self.check_process()?;
        let made = self.watched("making a column family", || self.make_family(name, options));
        self.resources.outbox.deliver();
        made
    }

    fn make_family(self: &Arc<Self>, name: &str, options: FamilyOptions) -> Result<Arc<Family>> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a column family needs a name"));
        }
        if name.len() > FAMILY_NAME_BYTES_MAX {
            return Err(exceeded("the name of a column family", name.len(), FAMILY_NAME_BYTES_MAX));
        }
        let writer = self.writer()?;
        let _one_at_a_time = writer.changing.lock();
        // Looked at under the lock, which `close` waits for.
        self.check_open()?;
        writer.failures.check_not_fatal()?;
        if self.resources.families.by_name(name).is_some() {
            let message = format!("there is a column family {name:?} already");
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        // OPTIONS first: a crash may leave options without a family, which the next opening forgets, but never a family
        // without its options.
        let added = self.write_options(Some((name, &options))).and_then(|()| self.add_family(name, options));
        if added.is_err() && self.resources.families.by_name(name).is_none() {
            // Whoever is told of a failure finds things as they were, and may try again.
            if let Err(second) = self.write_options(None) {
                self.resources.outbox.log(LogLevel::Warn, || {
                    format!("OPTIONS names column family {name:?} until it is next written, though making it failed: {second}")
                });
            }
        }
        added
    }

    /// Puts a family into MANIFEST, and where it is found.
    fn add_family(&self, name: &str, options: FamilyOptions) -> Result<Arc<Family>> {
        let writer = self.writer()?;
        let queue = &writer.queue;
        let (log_number, memtable_id) =
            queue.exclusive(|_, commit| Ok((commit.log_number(), commit.new_memtable_id())))?;
        let order = options.key_order.clone();
        let merge = options.merge_operator.clone().map(Arc::new);
        let mut made = None;
        let created = self.resources.versions.create_family(name, order, log_number, |snapshot| {
            let memtable = MemTable::new(
                memtable_id,
                snapshot.order.clone(),
                options.write_buffer_size as usize,
                log_number,
                self.resources.clock.unix_seconds(),
            );
            let config = FamilyConfig {
                id: snapshot.id,
                name: name.to_owned(),
                order: snapshot.order.clone(),
                merge: merge.clone(),
            };
            let state = FamilyState::new(
                config,
                memtable,
                Arc::clone(&snapshot.version),
                Arc::clone(&self.resources.janitor.graveyard),
            );
            made = Some(Family::new(state, options.clone()));
        });
        created.inspect_err(|error| self.resources.change_failed(&writer.failures, "making a column family", error))?;
        let family = made.ok_or_else(|| Error::new(ErrorKind::Internal, "the family was made and is not there"))?;
        self.resources.families.insert(Arc::clone(&family));
        queue.add_family(Arc::clone(&family.state), options.write_buffer_size, family.stall())?;
        Ok(family)
    }

    fn drop_family(self: &Arc<Self>, name: &str) -> Result<()> {
        let writer = self.writer()?;
        let _one_at_a_time = writer.changing.lock();
        // Looked at under the lock, which `close` waits for.
        self.check_open()?;
        writer.failures.check_not_fatal()?;
        let family =
            self.resources.families.by_name(name).ok_or_else(|| {
                Error::new(ErrorKind::NoSuchColumnFamily, format!("there is no column family {name:?}"))
            })?;
        if family.id() == ColumnFamilyId::DEFAULT {
            return Err(Error::new(ErrorKind::InvalidArgument, "the default column family cannot be dropped"));
        }
        self.remove_family(&family)?;
        self.write_options(None)
    }

    fn remove_family(&self, family: &Arc<Family>) -> Result<()> {
        let id = family.id();
        let writer = self.writer()?;
        // No compaction may be writing its tables, and no flush, while it goes. Whatever came meanwhile is scheduled when
        // the claim is given back, should the family stay.
        family.claims.close_and_wait();
        let removed = {
            let _no_flush = writer.flusher.exclude(id);
            self.remove_idle_family(writer, family)
        };
        if removed.is_err() && !family.state.is_dropped() {
            family.claims.reopen();
            writer.compactor.schedule(family);
        }
        removed
    }

    fn remove_idle_family(&self, writer: &Writer, family: &Arc<Family>) -> Result<()> {
        let id = family.id();
        let needed_log = writer.queue.needed_log(&[], Some(id))?;
        let dropped = self.resources.versions.drop_family(id, needed_log, || family.state.mark_dropped());
        let failed = |error: &Error| self.resources.change_failed(&writer.failures, "dropping a column family", error);
        let version = dropped.inspect_err(failed)?;
        writer.queue.remove_family(id)?;
        self.resources.families.remove(id);
        self.handles.forget(id);
        writer.failures.forget_family(id);
        self.resources.obsolete_tables(version.files().map(|(_, file)| (file.number(), file.meta.size)));
        self.resources.obsolete_blobs(&version, None);
        writer.flusher.release_wals()
    }
}
