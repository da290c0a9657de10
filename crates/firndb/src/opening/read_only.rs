//! Opening for reading: no lock, nothing written, and a writer may be at work beside us.
//!
//! What cannot be read refuses nothing but itself. An OPTIONS file that makes no sense says nothing; a family in an unknown
//! order, or whose logs cannot be read, is there with all of its files, and has an obstacle that whoever looks for an entry
//! gets as an error. What was left out is in the recovery report.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::fs::Fs;
use crate::fs::guarded::GuardedFs;
use crate::options::Options;
use crate::recovery::listing::Listing;
use crate::recovery::transactions::Purpose;
use crate::sync::{Arc, Mutex};
use crate::version::manifest::without_current;
use crate::version::set::{FamilySnapshot, Recovered, VersionSet};

use super::options_text::{OptionsText, ReadOptionsText};
use super::{Opening, is_of_the_file, settle, tables_open_max, version_config};

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
        let ReadOptionsText { text, not_read, obstacle, wal_dir } = OptionsText::read_for_reading(fs, dir)?;
        let mut not_read: Vec<String> = not_read.into_iter().collect();
        let options = match text.of_database(options) {
            Err(error) if is_of_the_file(&error) => {
                not_read.push(format!("{error}; the defaults are taken"));
                OptionsText::none(dir).of_database(options)?
            }
            other => other?,
        };
        let (found, listing) = read_beside_a_writer(dir, &wal_dir, &options)?;
        let lock = Arc::new(Mutex::new(None));
        let mut opening = Opening::of(dir, options, lock, text, found, listing, Purpose::Reading)?;
        opening.not_read.splice(0..0, not_read);
        fs.relieved_by(opening.tables.idle());
        if let Some(obstacle) = obstacle {
            opening.obstruct(|_| true, &obstacle);
            return Ok(opening);
        }
        opening.replayed = opening.replay_logs(&wal_dir, Purpose::Reading, None)?;
        if let Some((log, obstacle)) = opening.replayed.obstacle.take() {
            opening.obstruct(|family| family.log_number <= log, &obstacle);
        }
        for family in opening.families.values() {
            opening.tables.open_all(&family.state.load_full().version, tables_open_max(fs))?;
        }
        Ok(opening)
    }

    /// Keeps readers away from families of which something cannot be read.
    fn obstruct(&mut self, has: impl Fn(&FamilySnapshot) -> bool, obstacle: &Error) {
        self.not_read.push(obstacle.to_string());
        for snapshot in self.recovered.families.iter().filter(|family| has(family)) {
            if let Some(family) = self.families.get(&snapshot.id)
                && family.state.load().version.obstacle().is_none()
            {
                family.state.install_version(Arc::new(snapshot.version.obstructed(obstacle.clone())));
            }
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
fn read_beside_a_writer(dir: &Path, wal_dir: &Path, options: &Options) -> Result<((VersionSet, Recovered), Listing)> {
    let orders = |family: &str, stored: &str| options.order_of(family, stored);
    let list = || Listing::with_logs_in(&*options.fs, dir, wal_dir);
    let mut logs = list()?.logs();
    for _ in 0..READ_ONLY_TRIES {
        let found = VersionSet::recover(version_config(dir, options), true, &orders)?;
        let now = list()?;
        if now.logs() == logs {
            return Ok((found, now));
        }
        logs = now.logs();
    }
    let message = format!("a writer begins and removes logs in {} faster than they can be listed", dir.display());
    Err(Error::new(ErrorKind::Busy, message))
}
