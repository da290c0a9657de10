//! Opening for reading: no lock, nothing written, and a writer may be at work beside us.

use std::path::Path;

use crate::background::scheduler::Scheduler;
use crate::error::{Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name::{self, FileKind};
use crate::format::key::FileNumber;
use crate::options::Options;
use crate::sync::{Arc, Mutex};
use crate::version::manifest::without_current;
use crate::version::set::{Recovered, VersionSet};

use super::core::LockHolder;
use super::parts::{Listing, Opened, default_family, janitor, read_parts, version_config, wanted_order};

/// How often a read-only open starts over because the writer moved on.
const READ_ONLY_TRIES: usize = 20;

/// Opens a directory for reading, starting over if the writer moves on meanwhile.
pub(super) fn open_read_only(dir: &Path, options: Options) -> Result<Opened> {
    options.validate()?;
    let mut tries = 0;
    loop {
        let before = what_is_there(dir, &options);
        match try_open_read_only(dir, &options) {
            Err(error) if is_moved(&error) && tries < READ_ONLY_TRIES => {
                options.clock.sleep(std::time::Duration::from_millis(5 * (tries as u64 + 1)));
                // Nothing moved, twice: the files are as they are, and so is the answer.
                if tries > 0 && what_is_there(dir, &options) == before {
                    return Err(error);
                }
                tries += 1;
            }
            other => return other,
        }
    }
}

/// All that changes when a writer moves on: the names in the directory, and how long the MANIFESTs are.
fn what_is_there(dir: &Path, options: &Options) -> Option<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in options.fs.list(dir).ok()? {
        let is_manifest = matches!(file_name::parse(&entry.name), Some((FileKind::Manifest, _)));
        let size = if is_manifest { options.fs.file_size(&dir.join(&entry.name)).unwrap_or(0) } else { 0 };
        found.push((entry.name, size));
    }
    found.sort_unstable();
    Some(found)
}

/// True for what a writer that removes files beside us looks like.
fn is_moved(error: &Error) -> bool {
    error.is_not_found() || error.corruption().is_some()
}

/// A MANIFEST and the logs that go with it: those that were there before it was read, and still are. A log that was begun
/// in between may hold the other half of a batch whose first half MANIFEST knows from a flush, and one that went may have
/// gone into a table that MANIFEST does not know of yet.
fn read_beside_a_writer(
    dir: &Path,
    options: &Options,
    order: &Option<KeyOrder>,
) -> Result<(VersionSet, Recovered, Vec<FileNumber>)> {
    let mut logs = Listing::of(&*options.fs, dir)?.logs();
    for _ in 0..READ_ONLY_TRIES {
        let (set, recovered) = VersionSet::recover(version_config(dir, options), true, &|_| order.clone())?;
        let now = Listing::of(&*options.fs, dir)?.logs();
        if now == logs {
            return Ok((set, recovered, logs));
        }
        logs = now;
    }
    let message = format!("a writer begins and removes logs in {} faster than they can be listed", dir.display());
    Err(Error::new(ErrorKind::Busy, message))
}

fn try_open_read_only(dir: &Path, options: &Options) -> Result<Opened> {
    let fs = &options.fs;
    if !fs.exists(&dir.join(file_name::CURRENT))? {
        return Err(without_current(&**fs, dir));
    }
    let order = wanted_order(options);
    let (set, recovered, logs) = read_beside_a_writer(dir, options, &order)?;
    let mut parts = read_parts(dir, options, set, &recovered)?;
    parts.replayed = parts.replay(dir, options, &recovered, &logs, None)?;
    for family in parts.families.values() {
        parts.tables.open_all(&family.state.load_full().version)?;
    }
    let lock: LockHolder = Arc::new(Mutex::new(None));
    let janitor = janitor(dir, options, &parts, &lock, Box::new(|| {}));
    let core = Arc::new(parts.into_core(dir, options.clone(), janitor, None, Scheduler::manual(), lock));
    let default = default_family(&core)?;
    Ok((core, default))
}
