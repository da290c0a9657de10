//! What a former life of the database left in logs and orphans, brought into tables before this one takes writes.

use std::path::Path;

use crate::clock::CancelToken;
use crate::error::{Error, ErrorKind, Result};
use crate::flush::{self, FlushContext, FlushJob, FlushOutput, Reached};
use crate::format::key::FileNumber;
use crate::metrics::LogLevel;
use crate::options::Options;
use crate::recovery::SetAsideTable;
use crate::recovery::lost::{self, Evidence, Lost};
use crate::superversion::FrozenSnapshots;
use crate::sync::Arc;
use crate::version::edit::VersionEdit;
use crate::version::set::Recovered;

use super::core::Family;
use super::parts::{Listing, Parts, needed_logs, table_path};

/// Writes everything that the logs hold to tables, in one edit that also says that no log so far is needed any more;
/// returns the number of the first that will be. A failure before that edit leaves MANIFEST as it was, and no new table.
pub(super) fn make_durable(
    dir: &Path,
    options: &Options,
    parts: &mut Parts,
    recovered: &Recovered,
    listing: &Listing,
) -> Result<FileNumber> {
    let first_log = parts.versions.new_file_number();
    let mut outputs = Vec::new();
    let written = replay(dir, options, parts, recovered, listing, first_log, &mut outputs)
        .and_then(|()| flush_rest(dir, options, parts, first_log, &mut outputs))
        // Before the edit: after it, MANIFEST would no longer say what it does not know. After everything else: a failure
        // would keep from whoever opens next what was set aside.
        .and_then(|empty| set_aside_lost_tables(dir, options, parts, recovered, listing).map(|()| empty));
    match written {
        Err(error) => {
            flush::discard(&*options.fs, &outputs);
            Err(error)
        }
        Ok(empty) => {
            let last_sequence = parts.replayed.last_sequence.max(recovered.last_sequence);
            let reached = Reached { last_sequence: Some(last_sequence), needed_log: first_log };
            flush::install(&*options.fs, &parts.versions, outputs, empty, reached)?;
            Ok(first_log)
        }
    }
}

/// Reads the logs; memtables that are full on the way become tables, so that long logs need no more memory than short ones.
fn replay(
    dir: &Path,
    options: &Options,
    parts: &mut Parts,
    recovered: &Recovered,
    listing: &Listing,
    first_log: FileNumber,
    outputs: &mut Vec<FlushOutput>,
) -> Result<()> {
    let own = &*parts;
    let mut on_full = |id, full: &Arc<_>| {
        let missing = || Error::new(ErrorKind::Internal, "a memtable of no family");
        let family = own.families.get(&id).ok_or_else(missing)?;
        let job = FlushJob::of_replayed(&family.state, full, first_log);
        outputs.push(run(dir, options, own, family, job)?);
        Ok(own.new_memtable(family, full.log_number(), &*options.clock))
    };
    parts.replayed = own.replay(dir, options, recovered, &listing.logs(), Some(&mut on_full))?;
    Ok(())
}

/// Flushes what replaying left in memtables, and gives every family one for the first new log. Returns the edits of
/// families that have nothing to flush.
fn flush_rest(
    dir: &Path,
    options: &Options,
    parts: &Parts,
    first_log: FileNumber,
    outputs: &mut Vec<FlushOutput>,
) -> Result<Vec<VersionEdit>> {
    let mut empty = Vec::new();
    for family in parts.families.values() {
        let memtable = parts.new_memtable(family, first_log, &*options.clock);
        if family.state.load_full().memtable.is_empty() {
            family.state.replace_empty_memtable(memtable);
            let id = family.state.id();
            empty.push(VersionEdit { family: id, log_number: Some(first_log), ..VersionEdit::default() });
            continue;
        }
        family.state.switch_memtable(memtable);
        if let Some(job) = FlushJob::pick(&family.state) {
            outputs.push(run(dir, options, parts, family, job)?);
        }
    }
    Ok(empty)
}

fn run(dir: &Path, options: &Options, parts: &Parts, family: &Family, job: FlushJob) -> Result<FlushOutput> {
    let context = FlushContext {
        fs: Arc::clone(&options.fs),
        dir: dir.to_owned(),
        clock: Arc::clone(&options.clock),
        rate_limiter: options.rate_limiter.clone(),
        versions: Arc::clone(&parts.versions),
        table: family.table(),
    };
    // Nobody has a snapshot yet.
    let frozen = FrozenSnapshots { sequences: vec![job.largest_sequence()], keeps_everything: false };
    job.run(&context, &frozen, &CancelToken::default())
}

/// Moves the orphans that hold, or may hold, what nothing else holds out of the reach of the janitor.
fn set_aside_lost_tables(
    dir: &Path,
    options: &Options,
    parts: &mut Parts,
    recovered: &Recovered,
    listing: &Listing,
) -> Result<()> {
    let fs = &*options.fs;
    let logs = needed_logs(recovered, &listing.logs());
    for number in listing.tables() {
        if recovered.families.iter().any(|family| family.version.contains(number)) {
            continue;
        }
        let path = table_path(fs, dir, number)?;
        let evidence = Evidence::new(recovered, &logs, &parts.replayed);
        let lost = match lost::lost_writes(fs, &path, number, evidence) {
            Ok(None) => continue,
            Ok(Some(lost)) => lost,
            // Moving it needs no reading.
            Err(error) => Lost { sequences: None, reason: format!("it cannot be read: {error}"), is_damage: true },
        };
        let path = lost::set_aside(fs, dir, &path)?;
        if let Some(logger) = &options.logger {
            let message =
                format!("table {number} is in no version, and was moved to {}: {}", path.display(), lost.reason);
            logger.log(LogLevel::Warn, &message);
        }
        let table = SetAsideTable { table: number, path, sequences: lost.sequences, reason: lost.reason };
        parts.replayed.report.set_aside.push(table);
    }
    Ok(())
}
