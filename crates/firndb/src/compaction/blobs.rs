//! What a compaction does to blob files: references go in, and those that do not come out again leave garbage; values go out
//! into new files, long ones and those that leave the oldest files.
//!
//! Flow: the merged inputs -> [`Metered`] counts what goes in -> the job, which writes through an [`Outflow`] -> the garbage of
//! each file and the new files, for the edit. A job whose inputs refer to no blob file, in a family that makes none, has `()` for
//! an outflow, and pays for none of this.
//!
//! Source: RocksDB `db/blob/blob_garbage_meter.h`, `CompactionIterator::GarbageCollectBlobIfNeeded`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::blob::BlobIndex;
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::key::{FileNumber, ParsedKey, ValueKind, append_internal_key};
use crate::iter::InternalIterator;
use crate::iter::compaction_iter::FetchBlob;
use crate::table::builder::TableBuilder;
use crate::version::edit::{BlobGarbage, BlobMeta};
use crate::version::new_blobs::NewBlobs;

/// References by the file that they lead to: those that went in, and those that came out.
#[derive(Debug, Default)]
pub(super) struct Flow {
    into: BTreeMap<FileNumber, BlobGarbage>,
    out_of: BTreeMap<FileNumber, BlobGarbage>,
}

/// The file that an entry refers to, and what its record has there.
fn referred(key: &[u8], value: &[u8]) -> Result<Option<(FileNumber, BlobGarbage)>> {
    let key = ParsedKey::parse(key)?;
    if key.kind != ValueKind::BlobIndex {
        return Ok(None);
    }
    Ok(match BlobIndex::parse(value)? {
        BlobIndex::Inlined(_) => None,
        BlobIndex::Blob(place) => {
            Some((place.file, BlobGarbage { count: 1, bytes: place.record_bytes(key.user_key.len()) }))
        }
    })
}

impl Flow {
    /// What nothing refers to any more.
    ///
    /// # Errors
    /// `Corruption` if more came out than went in.
    pub(super) fn garbage(&self) -> Result<Vec<(FileNumber, BlobGarbage)>> {
        let mut found = Vec::new();
        for (file, into) in &self.into {
            let out = self.out_of.get(file).copied().unwrap_or_default();
            match (into.count.checked_sub(out.count), into.bytes.checked_sub(out.bytes)) {
                (Some(0), Some(0)) => {}
                (Some(count), Some(bytes)) => found.push((*file, BlobGarbage { count, bytes })),
                _ => {
                    let detail = format!("a compaction wrote more references to blob file {file} than it read");
                    return Err(Error::corrupt(CorruptionKind::CountMismatch, detail));
                }
            }
        }
        Ok(found)
    }
}

/// Writes every entry that is kept, and notes the oldest blob file that the current output refers to.
pub(super) trait Outflow {
    fn write(&mut self, key: &[u8], value: &[u8], builder: &mut TableBuilder, oldest: &mut FileNumber) -> Result<()>;

    /// At the end: what the edit adds, bytes that were written, and the files.
    fn finish(&mut self) -> Result<NewFiles> {
        Ok(NewFiles::default())
    }
}

/// Blob files that a job has written.
#[derive(Debug, Default)]
pub(super) struct NewFiles {
    pub(super) additions: Vec<BlobMeta>,
    pub(super) bytes: u64,
}

impl Outflow for () {
    #[inline(always)]
    fn write(&mut self, key: &[u8], value: &[u8], builder: &mut TableBuilder, _: &mut FileNumber) -> Result<()> {
        builder.add(key, value)
    }
}

/// The outflow of a job that reads references, or makes some.
pub(super) struct Blobs<'a> {
    /// `None`: nothing that goes in is a reference.
    pub(super) flow: Option<&'a RefCell<Flow>>,
    pub(super) new: Option<&'a mut NewBlobs>,
    /// Values in files before this one leave them.
    pub(super) first_kept: FileNumber,
    pub(super) fetch: FetchBlob,
    pub(super) key: Vec<u8>,
}

impl Blobs<'_> {
    /// The value of a reference into one of the oldest files; `None` if it stays there, as one does that cannot be read.
    fn relocated(&self, key: &ParsedKey<'_>, reference: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.first_kept.0 == 0 || key.kind != ValueKind::BlobIndex {
            return Ok(None);
        }
        match BlobIndex::parse(reference)? {
            BlobIndex::Blob(place) if place.file < self.first_kept => {}
            _ => return Ok(None),
        }
        match (self.fetch)(key.user_key, reference) {
            Err(error) if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::NotSupported) => Ok(None),
            fetched => fetched.map(Some),
        }
    }
}

impl Outflow for Blobs<'_> {
    fn write(&mut self, key: &[u8], value: &[u8], builder: &mut TableBuilder, oldest: &mut FileNumber) -> Result<()> {
        let parsed = ParsedKey::parse(key)?;
        let fetched = self.relocated(&parsed, value)?;
        let (key, value) = match &fetched {
            None => (key, value),
            Some(fetched) => {
                self.key.clear();
                append_internal_key(&mut self.key, parsed.user_key, parsed.sequence, ValueKind::Value as u8);
                (&self.key[..], &fetched[..])
            }
        };
        let moved = match &mut self.new {
            None => None,
            Some(new) => new.take(key, value)?,
        };
        let mut note = |file: FileNumber| {
            if oldest.0 == 0 || file < *oldest {
                *oldest = file;
            }
        };
        if let Some(moved) = moved {
            note(moved.file);
            return builder.add(moved.key, moved.reference);
        }
        builder.add(key, value)?;
        if let Some((file, one)) = referred(key, value)? {
            note(file);
            if let Some(flow) = self.flow {
                let mut flow = flow.borrow_mut();
                let sum = flow.out_of.entry(file).or_default();
                *sum = sum.and(one);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<NewFiles> {
        match &mut self.new {
            None => Ok(NewFiles::default()),
            Some(new) => Ok(NewFiles { additions: new.finish()?, bytes: new.bytes() }),
        }
    }
}

/// An input that counts what goes in. It is only ever walked forward, from its start.
pub(super) struct Metered<'a, I> {
    pub(super) input: I,
    pub(super) flow: &'a RefCell<Flow>,
}

impl<I: InternalIterator> Metered<'_, I> {
    fn count(&self) -> Result<()> {
        if self.input.valid()
            && let Some((file, one)) = referred(self.input.key(), self.input.value())?
        {
            let mut flow = self.flow.borrow_mut();
            let sum = flow.into.entry(file).or_default();
            *sum = sum.and(one);
        }
        Ok(())
    }
}

impl<I: InternalIterator> InternalIterator for Metered<'_, I> {
    fn valid(&self) -> bool {
        self.input.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.input.seek_to_first()?;
        self.count()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.input.seek_to_last()
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.input.seek(target)
    }

    fn seek_for_prev(&mut self, target: &[u8]) -> Result<()> {
        self.input.seek_for_prev(target)
    }

    fn next(&mut self) -> Result<()> {
        self.input.next()?;
        self.count()
    }

    fn prev(&mut self) -> Result<()> {
        self.input.prev()
    }

    fn key(&self) -> &[u8] {
        self.input.key()
    }

    fn value(&self) -> &[u8] {
        self.input.value()
    }
}
