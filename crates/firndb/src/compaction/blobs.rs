//! What a compaction does to blob files: references go in, and those that do not come out again leave garbage.
//!
//! Flow: the merged inputs -> [`Metered`] counts what goes in -> the job, which tells [`Outflow`] what comes out -> the garbage of
//! each file, for the edit. A job whose inputs refer to no blob file has `()` for an outflow, and pays for none of this.
//!
//! Source: RocksDB `db/blob/blob_garbage_meter.h`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::blob::BlobIndex;
use crate::error::{CorruptionKind, Error, Result};
use crate::format::key::{FileNumber, ParsedKey, ValueKind};
use crate::iter::InternalIterator;
use crate::version::edit::BlobGarbage;

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

/// Told of every entry that is written, and of the oldest blob file that the current output refers to.
pub(super) trait Outflow {
    fn written(&self, key: &[u8], value: &[u8], oldest: &mut FileNumber) -> Result<()>;
}

impl Outflow for () {
    #[inline(always)]
    fn written(&self, _: &[u8], _: &[u8], _: &mut FileNumber) -> Result<()> {
        Ok(())
    }
}

impl Outflow for &RefCell<Flow> {
    fn written(&self, key: &[u8], value: &[u8], oldest: &mut FileNumber) -> Result<()> {
        if let Some((file, one)) = referred(key, value)? {
            let mut flow = self.borrow_mut();
            let sum = flow.out_of.entry(file).or_default();
            *sum = sum.and(one);
            if oldest.0 == 0 || file < *oldest {
                *oldest = file;
            }
        }
        Ok(())
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
