//! Open blob files, and what references in tables lead to.
//!
//! Flow: `read`, which met a reference -> [`BlobReaders::value`], by way of [`super::table_cache`] -> `blob`. A few files are kept
//! open, those that were used last; a blob file is in use as long as a version that has it, whether it is open or not.
//!
//! Threads: any; the list is locked for moments, never while a file is read.

use std::path::PathBuf;

use crate::blob::{self, BlobIndex};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name;
use crate::format::key::FileNumber;
use crate::fs::{Fs, RandomAccessFile};
use crate::sync::{Arc, Mutex};
use crate::table::reader::TableReadOptions;

use super::Version;

/// So many files are kept open.
const OPEN_MAX: usize = 16;

/// See the module's text.
#[derive(Debug)]
pub(super) struct BlobReaders {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// The one used last comes first.
    open: Mutex<Vec<(FileNumber, Arc<dyn RandomAccessFile>)>>,
}

impl BlobReaders {
    pub(super) fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> BlobReaders {
        BlobReaders { fs, dir, open: Mutex::default() }
    }

    /// What a reference of `user_key` in a table of `version` stands for.
    pub(super) fn value(
        &self,
        version: &Version,
        user_key: &[u8],
        reference: &[u8],
        options: &TableReadOptions,
        is_beside_writer: bool,
    ) -> Result<Vec<u8>> {
        let place = match BlobIndex::parse(reference)? {
            BlobIndex::Inlined(value) => return Ok(value.to_vec()),
            BlobIndex::Blob(place) => place,
        };
        if !version.blobs.contains(place.file) {
            let detail = format!("a table refers to blob file {}, which its version does not have", place.file);
            return Err(Error::corrupt(CorruptionKind::Malformed, detail));
        }
        let path = self.dir.join(file_name::blob(place.file));
        let file = self.file(place.file).map_err(|error| match error.is_not_found() {
            true if is_beside_writer => {
                error.because(ErrorKind::Busy, format!("the writer beside us removed {}", path.display()))
            }
            true => {
                let detail = "MANIFEST names this blob file, but it does not exist";
                Error::corrupt(CorruptionKind::Missing, detail).in_file(&path, None)
            }
            false => error,
        })?;
        blob::read(&*file, &path, &place, user_key, options.verify_checksums)
    }

    fn file(&self, number: FileNumber) -> Result<Arc<dyn RandomAccessFile>> {
        {
            let mut open = self.open.lock();
            if let Some(at) = open.iter().position(|(known, _)| *known == number) {
                let found = open.remove(at);
                open.insert(0, found);
                return Ok(Arc::clone(&open[0].1));
            }
        }
        let file = self.fs.open_random(&self.dir.join(file_name::blob(number)))?;
        let closed = {
            let mut open = self.open.lock();
            open.insert(0, (number, Arc::clone(&file)));
            if open.len() > OPEN_MAX { open.pop() } else { None }
        };
        // Not under the lock: a file is closed.
        drop(closed);
        Ok(file)
    }

    /// The file is about to be unlinked: an open one would keep its space.
    pub(super) fn forget(&self, number: FileNumber) {
        let closed: Vec<_> = {
            let mut open = self.open.lock();
            let all = std::mem::take(&mut *open);
            let (gone, kept) = all.into_iter().partition(|(known, _)| *known == number);
            *open = kept;
            gone
        };
        drop(closed);
    }
}
