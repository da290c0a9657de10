//! Opening for reading: no lock, nothing written, and a writer may be at work beside us.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::fs::Fs;
use crate::fs::guarded::GuardedFs;
use crate::options::Options;
use crate::recovery::listing::Listing;
use crate::sync::{Arc, Mutex};
use crate::version::manifest::without_current;
use crate::version::set::{Recovered, VersionSet};

use super::options_text::OptionsText;
use super::{Opening, settle, tables_open_max, version_config};

/// How often a read-only open starts over because the writer moved on.
const READ_ONLY_TRIES: usize = 20;

impl Opening {
    /// Opens a directory for reading, starting over if the writer moves on meanwhile.
    ///
    /// # Errors
    /// As [`Db::open_read_only`](crate::Db::open_read_only).
    pub(crate) fn for_reading(dir: &Path, options: &Options) -> Result<Opening> {
        let (dir, options, fs) = settle(dir, options.clone())?;
        let (dir, options) = (&*dir, &options);
        let mut tries = 0;
        loop {
            let before = what_is_there(dir, options);
            match Opening::try_for_reading(dir, options, &fs) {
                Err(error) if is_moved(&error) && tries < READ_ONLY_TRIES => {
                    options.clock.sleep(std::time::Duration::from_millis(5 * (tries as u64 + 1)));
                    // Nothing moved, twice: the files are as they are, and so is the answer.
                    if tries > 0 && what_is_there(dir, options) == before {
                        return Err(error);
                    }
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn try_for_reading(dir: &Path, options: &Options, fs: &GuardedFs) -> Result<Opening> {
        if !fs.exists(&dir.join(file_name::CURRENT))? {
            return Err(without_current(fs, dir));
        }
        let text = OptionsText::read(fs, dir)?;
        let options = text.of_database(options)?;
        let (set, recovered, listing) = read_beside_a_writer(dir, &options)?;
        let mut opening = Opening::of(dir, options, Arc::new(Mutex::new(None)), text, set, recovered, listing)?;
        fs.relieved_by(opening.tables.idle());
        opening.replayed = opening.replay_logs(None)?;
        for family in opening.families.values() {
            opening.tables.open_all(&family.state.load_full().version, tables_open_max(fs))?;
        }
        Ok(opening)
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
fn read_beside_a_writer(dir: &Path, options: &Options) -> Result<(VersionSet, Recovered, Listing)> {
    let orders = |family: &str, stored: &str| options.order_of(family, stored);
    let mut logs = Listing::of(&*options.fs, dir)?.logs();
    for _ in 0..READ_ONLY_TRIES {
        let (set, recovered) = VersionSet::recover(version_config(dir, options), true, &orders)?;
        let now = Listing::of(&*options.fs, dir)?;
        if now.logs() == logs {
            return Ok((set, recovered, now));
        }
        logs = now.logs();
    }
    let message = format!("a writer begins and removes logs in {} faster than they can be listed", dir.display());
    Err(Error::new(ErrorKind::Busy, message))
}
