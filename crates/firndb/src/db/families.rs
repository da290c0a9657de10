//! Column families that come and go at run time.

use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::FileKind;
use crate::format::key::ColumnFamilyId;
use crate::memtable::MemTable;
use crate::metrics::LogLevel;
use crate::options::FamilyOptions;
use crate::superversion::{FamilyConfig, FamilyState};
use crate::sync::Arc;

use super::core::{Core, Family};
use super::{ColumnFamily, Db};

impl Db {
    /// The family of this name.
    ///
    /// # Errors
    /// `NoSuchColumnFamily` if there is none.
    pub fn column_family(&self, name: &str) -> Result<ColumnFamily> {
        match self.core().family_by_name(name) {
            Some(family) => Ok(self.default.sibling(family)),
            None => Err(Error::new(ErrorKind::NoSuchColumnFamily, format!("there is no column family {name:?}"))),
        }
    }

    /// All families, in the order of their ids.
    pub fn column_families(&self) -> Vec<ColumnFamily> {
        self.core().all_families().into_iter().map(|family| self.default.sibling(family)).collect()
    }

    /// Makes a family with the database's own family options.
    ///
    /// # Errors
    /// `InvalidArgument` if there is one of this name, or the name is empty.
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
        self.create_column_family_with(name, self.core().options.family.clone())
    }

    /// Makes a family with its own options.
    ///
    /// # Errors
    /// As [`Db::create_column_family`].
    pub fn create_column_family_with(&self, name: &str, options: FamilyOptions) -> Result<ColumnFamily> {
        let family = self.core().create_family(name, options)?;
        Ok(self.default.sibling(family))
    }

    /// Drops a family and everything in it. Handles, iterators and snapshots that exist go on reading what they see.
    ///
    /// # Errors
    /// `NoSuchColumnFamily`; `InvalidArgument` for the default family.
    pub fn drop_column_family(&self, name: &str) -> Result<()> {
        let dropped = self.core().drop_family(name);
        // With no lock held.
        self.core().tell_of_failures();
        self.core().tell_of_stalls();
        dropped
    }
}

impl Core {
    pub(super) fn family_by_name(&self, name: &str) -> Option<Arc<Family>> {
        self.families.lock().values().find(|family| family.state.config.name == name).cloned()
    }

    pub(super) fn create_family(self: &Arc<Self>, name: &str, options: FamilyOptions) -> Result<Arc<Family>> {
        let made = self.make_family(name, options);
        // With no lock held.
        self.tell_of_failures();
        made
    }

    fn make_family(self: &Arc<Self>, name: &str, options: FamilyOptions) -> Result<Arc<Family>> {
        if name.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "a column family needs a name"));
        }
        let _one_at_a_time = self.changing.lock();
        // Looked at under the lock, which `close` waits for.
        self.check_open()?;
        let queue = self.writes()?;
        let (log_number, memtable_id) =
            queue.exclusive(|_, commit| Ok((commit.log_number(), commit.new_memtable_id())))?;
        let order = options.key_order.clone();
        let mut made = None;
        let created = self.versions.create_family(name, order, log_number, |snapshot| {
            let memtable = MemTable::new(
                memtable_id,
                snapshot.order.clone(),
                options.write_buffer_size as usize,
                log_number,
                self.clock.unix_seconds(),
            );
            let config = FamilyConfig { id: snapshot.id, name: name.to_owned(), order: snapshot.order.clone() };
            let state =
                FamilyState::new(config, memtable, Arc::clone(&snapshot.version), Arc::clone(&self.janitor.graveyard));
            made = Some(Family::new(state, options.clone()));
        });
        created.inspect_err(|error| self.edit_failed("making a column family", error))?;
        let family = made.ok_or_else(|| Error::new(ErrorKind::Internal, "the family was made and is not there"))?;
        self.families.lock().insert(family.state.id(), Arc::clone(&family));
        queue.add_family(Arc::clone(&family.state), options.write_buffer_size, family.stall())?;
        if let Err(error) = self.write_options() {
            // Whoever is told of a failure finds things as they were, and may try again.
            if let Err(second) = self.remove_family(&family) {
                self.log(LogLevel::Error, || {
                    format!("column family {name:?} stays, though making it failed: {second}")
                });
            }
            return Err(error);
        }
        Ok(family)
    }

    fn drop_family(self: &Arc<Self>, name: &str) -> Result<()> {
        let _one_at_a_time = self.changing.lock();
        // Looked at under the lock, which `close` waits for.
        self.check_open()?;
        let family = self
            .family_by_name(name)
            .ok_or_else(|| Error::new(ErrorKind::NoSuchColumnFamily, format!("there is no column family {name:?}")))?;
        if family.state.id() == ColumnFamilyId::DEFAULT {
            return Err(Error::new(ErrorKind::InvalidArgument, "the default column family cannot be dropped"));
        }
        self.remove_family(&family)?;
        self.write_options()
    }

    fn remove_family(self: &Arc<Self>, family: &Arc<Family>) -> Result<()> {
        let id = family.state.id();
        let queue = self.writes()?;
        // No compaction may be writing its tables, and no flush, while it goes. Flushes of all families wait for us: last.
        let _no_compaction = family.compacting.lock();
        let _no_flush = self.flushing.lock();
        let needed_log = queue.needed_log(&[], Some(id))?;
        let dropped = self.versions.drop_family(id, needed_log, || family.state.mark_dropped());
        // A drop that a crash might bring out after all must not find writes that were acknowledged meanwhile.
        let version = dropped.inspect_err(|error| self.edit_failed("dropping a column family", error))?;
        queue.remove_family(id)?;
        self.families.lock().remove(&id);
        self.obsolete_tables(version.files().map(|(_, file)| (file.number(), file.meta.size)));
        self.release_wals(queue)
    }

    /// Brings the OPTIONS file up to date.
    fn write_options(&self) -> Result<()> {
        let families: Vec<_> =
            self.all_families().iter().map(|f| (f.state.config.name.clone(), f.options.clone())).collect();
        let old = self.options_text.lock().update(&*self.fs, &self.dir, &self.versions, &families)?;
        if let Some(old) = old {
            self.janitor.obsolete(FileKind::Options, old, 0);
        }
        Ok(())
    }
}
