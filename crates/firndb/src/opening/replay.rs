//! What a former life of the database left in logs and orphans, brought into tables before this one takes writes.

use crate::clock::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{self, FlushJob, FlushOutput, Reached};
use crate::format::key::FileNumber;
use crate::metrics::LogLevel;
use crate::recovery::SetAsideTable;
use crate::recovery::listing::{needed_logs, table_path};
use crate::recovery::lost::{self, Evidence, Lost};
use crate::recovery::transactions::Purpose;
use crate::superversion::FrozenSnapshots;
use crate::sync::Arc;
use crate::version::edit::VersionEdit;

use super::{OpenFamily, Opening};

impl Opening {
    /// Writes everything that the logs hold to tables, in one edit that also says that no log so far is needed any more;
    /// returns the number of the first that will be. A failure before that edit leaves MANIFEST as it was, and no new
    /// table.
    pub(super) fn make_durable(&mut self) -> Result<FileNumber> {
        let first_log = self.versions.new_file_number();
        let mut outputs = Vec::new();
        let written = self
            .replay_to_tables(first_log, &mut outputs)
            .and_then(|()| self.flush_rest(first_log, &mut outputs))
            // Before the edit: after it, MANIFEST would no longer say what it does not know. After everything else: a
            // failure would keep from whoever opens next what was set aside.
            .and_then(|empty| self.set_aside_lost_tables().map(|()| empty));
        match written {
            Err(error) => {
                flush::discard(&self.versions, &outputs);
                Err(error)
            }
            Ok(empty) => {
                let last_sequence = self.replayed.last_sequence.max(self.recovered.last_sequence);
                let reached = Reached { last_sequence: Some(last_sequence), needed_log: first_log };
                flush::install(&self.versions, outputs, empty, reached)?;
                Ok(first_log)
            }
        }
    }

    /// Reads the logs; memtables that are full on the way become tables, so that long logs need no more memory than short
    /// ones.
    fn replay_to_tables(&mut self, first_log: FileNumber, outputs: &mut Vec<FlushOutput>) -> Result<()> {
        let own = &*self;
        let mut on_full = |id, full: &Arc<_>| {
            let missing = || Error::new(ErrorKind::Internal, "a memtable of no family");
            let family = own.families.get(&id).ok_or_else(missing)?;
            let job = FlushJob::of_replayed(&family.state, full, first_log);
            outputs.push(own.flush(family, job)?);
            Ok(own.new_memtable(family, full.log_number()))
        };
        self.replayed = own.replay_logs(&own.dir, Purpose::Writing, Some(&mut on_full))?;
        Ok(())
    }

    /// Flushes what replaying left in memtables, and gives every family one for the first new log. Returns the edits of
    /// families that have nothing to flush.
    fn flush_rest(&self, first_log: FileNumber, outputs: &mut Vec<FlushOutput>) -> Result<Vec<VersionEdit>> {
        let mut empty = Vec::new();
        for family in self.families.values() {
            let memtable = self.new_memtable(family, first_log);
            if family.state.load_full().memtable.is_empty() {
                family.state.replace_empty_memtable(memtable);
                let id = family.state.id();
                empty.push(VersionEdit { family: id, log_number: Some(first_log), ..VersionEdit::default() });
                continue;
            }
            family.state.switch_memtable(memtable);
            if let Some(job) = FlushJob::pick(&family.state) {
                outputs.push(self.flush(family, job)?);
            }
        }
        Ok(empty)
    }

    fn flush(&self, family: &OpenFamily, job: FlushJob) -> Result<FlushOutput> {
        // Nobody has a snapshot yet.
        let frozen =
            FrozenSnapshots { sequences: vec![job.largest_sequence()], newest_snapshot: None, keeps_everything: false };
        job.run(&self.flushes, family.options.flush_output(), None, &frozen, &CancelToken::default())
    }

    /// Moves the orphans that hold, or may hold, what nothing else holds out of the reach of the janitor.
    fn set_aside_lost_tables(&mut self) -> Result<()> {
        let fs = &*self.options.fs;
        let logs = needed_logs(&self.recovered, &self.listing.logs());
        for number in self.listing.tables() {
            if self.recovered.families.iter().any(|family| family.version.contains(number)) {
                continue;
            }
            let path = table_path(fs, &self.dir, number)?;
            let evidence = Evidence::new(&self.recovered, &logs, &self.replayed);
            let lost = match lost::lost_writes(fs, &path, number, evidence) {
                Ok(None) => continue,
                Ok(Some(lost)) => lost,
                // Moving it needs no reading.
                Err(error) => Lost { sequences: None, reason: format!("it cannot be read: {error}"), is_damage: true },
            };
            let path = lost::set_aside(fs, &self.dir, &path)?;
            if let Some(logger) = &self.options.logger {
                let message =
                    format!("table {number} is in no version, and was moved to {}: {}", path.display(), lost.reason);
                logger.log(LogLevel::Warn, &message);
            }
            let table = SetAsideTable { table: number, path, sequences: lost.sequences, reason: lost.reason };
            self.replayed.report.set_aside.push(table);
        }
        Ok(())
    }
}
