//! The files that are the database at one moment, kept while somebody copies them.
//!
//! Flow: [`Db::live_files`] -> writes that are in no log become tables -> the head of the write queue -> the version set's
//! `hold` -> [`LiveFiles`]. Dropping it marks its pin free; the janitor lets go of the files.
//!
//! Invariants
//! 1. The list is of one moment, between two writes and between two edits of MANIFEST; no family comes or goes, and OPTIONS
//!    does not change, while it is taken (`changing`, which `close` waits for as well).
//! 2. Every hold has a pin: it is listed and counted like a reader, closing is refused, waits or ousts.
//!
//! Threads: any. Writers wait while the list is taken: for one change of MANIFEST, if there is one on its way.

use std::fmt;
use std::panic::Location;
use std::path::PathBuf;

use crate::error::Result;
use crate::format::file_name;
use crate::format::key::SequenceNumber;
use crate::fs::check_process;
use crate::process::Process;
use crate::recovery::listing::table_path;
use crate::superversion::{PinGuard, PinKind, PinSpec};
use crate::sync::Arc;
use crate::version::set::hold::{Hold, Piece};

use super::Db;
use super::core::Core;

/// One file of [`LiveFiles`], and how a copy gets it.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Where it is. The copy has to have the same name.
    pub path: PathBuf,
    /// So many bytes from its beginning belong to the moment. The file may be longer: what follows came later, and must not
    /// be in the copy.
    pub bytes: u64,
    /// It never changes any more: a hard link is as good as a copy. Any other file is written to, or may be replaced.
    pub is_final: bool,
    /// What the copy has to have instead of the file's own bytes, which may be of a later moment: CURRENT.
    pub contents: Option<String>,
}

/// The files that are the database at one moment, kept until this is dropped: what a backup copies, while reads, writes and
/// background work go on.
///
/// As many bytes of each file as the list says, under the same names in another directory, are a database with exactly the
/// writes up to [`LiveFiles::sequence`]. The files come in the order in which they should be copied: logs, tables, blob
/// files, MANIFEST, OPTIONS, and CURRENT, without which a directory is no database. IDENTITY is left out; opening the copy makes it.
///
/// While this lives, no file of the list is removed or renamed, though tables are compacted and MANIFEST, logs and OPTIONS
/// replaced. What that costs is in [`Db::pins`]. Logs go in their order, so that all later ones wait as well:
/// [`LiveFiles::release_logs`] ends that early. Within a second of its drop, which does no work of its own, everything
/// that nobody needs is gone.
///
/// It may move to another thread and outlive every handle. [`Db::close`] treats it like an iterator: after
/// [`CloseMode::Oust`](crate::CloseMode::Oust) files may go, and [`LiveFiles::check`] says so. In a forked child it keeps
/// nothing.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-live-files-{}", std::process::id()));
/// # let backup = dir.with_extension("backup");
/// use std::io::Read;
///
/// let db = firndb::Db::open(&dir)?;
/// db.put("key", "old")?;
/// let files = db.live_files()?;
/// db.put("key", "new")?;
///
/// std::fs::create_dir(&backup).expect("a new directory");
/// for file in files.files() {
///     let to = backup.join(file.path.file_name().expect("a name"));
///     match &file.contents {
///         Some(contents) => std::fs::write(&to, contents).expect("written"),
///         None => {
///             let mut from = std::fs::File::open(&file.path).expect("it stays").take(file.bytes);
///             std::io::copy(&mut from, &mut std::fs::File::create(&to).expect("new")).expect("copied");
///         }
///     }
/// }
/// files.check()?; // nothing was taken away meanwhile
/// drop(files);
///
/// let copy = firndb::Db::open(&backup)?;
/// assert_eq!(copy.get("key")?.as_deref(), Some(&b"old"[..]));
/// # copy.close()?;
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # std::fs::remove_dir_all(&backup).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
pub struct LiveFiles {
    files: Vec<LiveFile>,
    hold: Arc<Hold>,
    opener: Process,
    /// Dropped last: what calls the janitor finds the hold free.
    pin: PinGuard,
}

impl fmt::Debug for LiveFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveFiles({} files up to sequence {})", self.files.len(), self.sequence())
    }
}

impl LiveFiles {
    /// The files, in the order in which they should be copied.
    pub fn files(&self) -> &[LiveFile] {
        &self.files
    }

    /// The moment: writes up to this number are in the files.
    pub fn sequence(&self) -> SequenceNumber {
        self.hold.sequence
    }

    /// Keeps no logs any more, for a caller that has copied them; later logs then need not wait for the rest of the copy.
    pub fn release_logs(&self) {
        self.pin.touch();
        self.hold.release_logs();
    }

    /// `Ok` if every file was kept until now: what was copied before this call is what the list says.
    ///
    /// # Errors
    /// `PinEvicted` after [`Db::oust`] or [`CloseMode::Oust`](crate::CloseMode::Oust), `ForkedProcess` in another process than
    /// the one that made the list: a copy may lack files, or have them cut off.
    pub fn check(&self) -> Result<()> {
        check_process(&self.opener)?;
        self.pin.touch();
        self.pin.check_ousted()
    }
}

impl Db {
    /// The files that are the database at this moment, over all families, kept while the value lives: to be copied.
    ///
    /// Every write that was acknowledged before the call is in them; [`Durability::NoWal`](crate::Durability) writes, too,
    /// which are flushed for that. Such writes by other threads during the call may be missing, as after a crash.
    ///
    /// Costs a call for each table; writers wait while the list is taken, which takes as long as one change of MANIFEST.
    ///
    /// # Errors
    /// `ReadOnly` if the database was opened for reading, since nothing keeps files from whoever writes there; and, with the
    /// cause, while writes are refused after a failure, since nobody knows what the logs hold. `Closed`, `ForkedProcess`;
    /// `Io` and `NoSpace` if a flush, the end of the log or a new MANIFEST could not be written.
    #[track_caller]
    pub fn live_files(&self) -> Result<LiveFiles> {
        let (core, site) = (self.core(), Location::caller());
        core.check_open()?;
        let held = core.watched("listing live files", || core.live_files(site));
        core.resources.outbox.deliver();
        held
    }
}

impl Core {
    fn live_files(&self, site: &'static Location<'static>) -> Result<LiveFiles> {
        let writer = self.writer()?;
        // Before anything is locked: a flush may take long.
        let unlogged = writer.queue.unlogged_families()?;
        if !unlogged.is_empty() {
            writer.flusher.flush(&unlogged)?;
        }
        let _one_at_a_time = writer.changing.lock();
        // Looked at under the lock, which `close` waits for.
        self.check_open()?;
        let versions = &self.resources.versions;
        let options = self.options_text.lock().number();
        let hold = writer.queue.between_writes(|logs, sequence| versions.hold(logs, sequence, options))?;
        let pin = self.pins.claim(PinSpec {
            kind: PinKind::LiveFiles,
            site,
            label: None,
            family: None,
            sequence: hold.sequence,
            super_version: hold.id,
        });
        // A database that was closed meanwhile does not wait for it: nothing keeps the files then.
        self.check_open_pinned()?;
        // A new MANIFEST may have come first: what failed edits left behind is known then.
        self.resources.take_orphans();
        Ok(LiveFiles { files: self.list(&hold)?, hold, opener: self.opener, pin })
    }

    /// The files of a hold, in the order in which they should be copied.
    fn list(&self, hold: &Hold) -> Result<Vec<LiveFile>> {
        let (fs, dir) = (&*self.resources.fs, &self.resources.dir);
        let piece = |name: String, piece: &Piece, is_final: bool| LiveFile {
            path: dir.join(name),
            bytes: piece.bytes,
            is_final,
            contents: None,
        };
        let mut files = Vec::new();
        for (index, log) in hold.logs.iter().enumerate() {
            files.push(piece(file_name::wal(log.number), log, index + 1 < hold.logs.len()));
        }
        for (_, table) in hold.versions.iter().flat_map(|version| version.files()) {
            let path = table_path(fs, dir, table.number())?;
            files.push(LiveFile { path, bytes: table.meta.size, is_final: true, contents: None });
        }
        for blob in hold.versions.iter().flat_map(|version| version.blobs.iter()) {
            let path = dir.join(file_name::blob(blob.file.meta.number));
            files.push(LiveFile { bytes: fs.file_size(&path)?, path, is_final: true, contents: None });
        }
        files.push(piece(file_name::manifest(hold.manifest.number), &hold.manifest, false));
        if let Some(number) = hold.options {
            let path = dir.join(file_name::options(number));
            files.push(LiveFile { bytes: fs.file_size(&path)?, path, is_final: true, contents: None });
        }
        let contents = file_name::current(hold.manifest.number);
        let bytes = contents.len() as u64;
        files.push(LiveFile { path: dir.join(file_name::CURRENT), bytes, is_final: false, contents: Some(contents) });
        Ok(files)
    }
}
