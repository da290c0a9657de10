//! Options of an open database: what is in effect, and what changes meanwhile.

use crate::error::Result;
use crate::format::file_name::{self, FileKind};
use crate::metrics::LogLevel;
use crate::options::{FamilyOptions, Options};
use crate::sync::Arc;

use super::core::{Core, Family};
use super::{ColumnFamily, Db};

impl Db {
    /// The options of the database that are in effect: the program's, and the directory's where the program said nothing.
    /// Those of a family are [`ColumnFamily::options`].
    pub fn options(&self) -> &Options {
        &self.core().options
    }

    /// [`ColumnFamily::set_options`] of the default family.
    ///
    /// # Errors
    /// As there.
    pub fn set_options(&self, changes: &[(&str, &str)]) -> Result<()> {
        self.default.set_options(changes)
    }
}

impl ColumnFamily {
    /// The family's options that are in effect.
    pub fn options(&self) -> FamilyOptions {
        (*self.family.options()).clone()
    }

    /// Changes options while the database is open, by RocksDB's names: all of them or none. They are in effect, and in the
    /// directory's OPTIONS file, when this returns; the next opening finds them there.
    ///
    /// Stalls are decided anew at once, and compactions that are due start. Codec, filter and block size are those of
    /// tables that are begun from now on. All options of a family can change but `comparator`, `num_levels`,
    /// `compaction_style`, `compaction_pri` and `level_compaction_dynamic_level_bytes`. RocksDB's `block_based_table_factory={…}` is
    /// understood; `block_size`, `filter_policy` and the like may also stand alone.
    ///
    /// Limits that contradict each other afterwards are put in order, as at open and as RocksDB does, with a line to the
    /// logger: `level0_slowdown_writes_trigger` is at least `level0_file_num_compaction_trigger`,
    /// `level0_stop_writes_trigger` at least that, and `soft_pending_compaction_bytes_limit` at most the hard one.
    /// [`ColumnFamily::options`] says what is in effect.
    ///
    /// # Errors
    /// `InvalidArgument` names an option that does not exist, cannot change or makes no sense; `NotSupported`; `Io` and
    /// `NoSpace` if OPTIONS could not be written. Nothing is changed then.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-set-options-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// db.set_options(&[("write_buffer_size", "8m"), ("compression", "kLZ4Compression")])?;
    /// assert_eq!(db.default_column_family().options().write_buffer_size, 8 << 20);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn set_options(&self, changes: &[(&str, &str)]) -> Result<()> {
        let core = self.core();
        core.watched("changing options", || core.change_options(&self.family, changes))
    }

    /// The same, field by field.
    ///
    /// # Errors
    /// As [`ColumnFamily::set_options`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-change-options-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// db.default_column_family().change_options(|options| options.disable_auto_compactions = true)?;
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn change_options(&self, change: impl FnOnce(&mut FamilyOptions)) -> Result<()> {
        let before = self.family.options();
        let mut options = (*before).clone();
        change(&mut options);
        let changes = options.changes_since(&before, self.name())?;
        let changes: Vec<_> = changes.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let core = self.core();
        core.watched("changing options", || core.change_options(&self.family, &changes))
    }
}

impl Core {
    fn change_options(self: &Arc<Self>, family: &Arc<Family>, changes: &[(&str, &str)]) -> Result<()> {
        {
            let writer = self.writer()?;
            let _one_at_a_time = writer.changing.lock();
            // Looked at under the lock, which `close` waits for.
            self.check_open()?;
            writer.failures.check_not_fatal()?;
            family.check_not_dropped()?;
            let queue = &writer.queue;
            let name = &family.state.config.name;
            let (options, in_order) = family.options().with(changes)?.checked_and_said(name)?;
            self.write_options(Some((name, &options)))?;
            let write_buffer_size = options.write_buffer_size;
            family.replace_options(options);
            queue.change_family(family.state.id(), write_buffer_size, family.stall())?;
            for what in in_order {
                self.resources.outbox.log(LogLevel::Warn, || format!("column family {name:?}: {what}"));
            }
        }
        let compactor = &self.writer()?.compactor;
        compactor.update_stall(family);
        compactor.schedule(family);
        self.resources.outbox.deliver();
        Ok(())
    }

    /// Brings the OPTIONS file up to date; `said` are options of a family that are not in effect yet, since they change or
    /// the family is about to be made.
    pub(super) fn write_options(&self, said: Option<(&str, &FamilyOptions)>) -> Result<()> {
        let in_effect = |family: &Arc<Family>| (family.state.config.name.clone(), (*family.options()).clone());
        let mut families: Vec<_> = self.resources.families.all().iter().map(in_effect).collect();
        if let Some((name, options)) = said {
            families.retain(|(known, _)| known != name);
            families.push((name.to_owned(), options.clone()));
        }
        let resources = &self.resources;
        let old = self.options_text.lock().update(
            &*resources.fs,
            &resources.dir,
            &resources.versions,
            &self.options,
            &families,
        )?;
        if let Some(old) = old {
            // For reports, if somebody copies it.
            let bytes = resources.fs.file_size(&resources.dir.join(file_name::options(old))).unwrap_or(0);
            resources.janitor.obsolete(FileKind::Options, old, bytes);
        }
        Ok(())
    }
}
