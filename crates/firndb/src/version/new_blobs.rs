//! The blob files that a job writes: long values leave their entries, and references take their places.
//!
//! Flow: a flush or a compaction, entry by entry -> **[`NewBlobs`]** -> `blob::builder`; at the end, the additions for the job's
//! edit, and guards that keep others away from the files until that edit is in a version.
//!
//! Invariants
//! 1. Every file is ended and synced before the edit that adds it. The job syncs the directory.
//! 2. A file has at least one record, and a table of the same job refers to it.
//! 3. A job that fails removes its files; what cannot be removed is an orphan, which the next opening takes.

use std::path::PathBuf;

use crate::blob::builder::{BlobConfig, BlobFileBuilder};
use crate::clock::Clock;
use crate::error::Result;
use crate::format::file_name;
use crate::format::key::{ColumnFamilyId, FileNumber, ParsedKey, ValueKind, append_internal_key};
use crate::fs::paced::{Pace, paced};
use crate::fs::{CreateMode, Fs, RateLimiter};
use crate::sync::Arc;
use crate::table::builder::TableConfig;

use super::edit::BlobMeta;
use super::set::{OutputGuard, VersionSet};

/// Where a job writes, and on whose account.
#[derive(Debug, Clone)]
pub(crate) struct BlobContext {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
    pub(crate) pace: Pace,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) family: ColumnFamilyId,
}

/// See the module's text.
pub(crate) struct NewBlobs {
    config: BlobConfig,
    context: BlobContext,
    current: Option<(BlobFileBuilder, FileNumber)>,
    finished: Vec<BlobMeta>,
    guards: Vec<OutputGuard>,
    paths: Vec<PathBuf>,
    bytes: u64,
    key: Vec<u8>,
    reference: Vec<u8>,
}

/// An entry whose value is in a blob file now.
pub(crate) struct Moved<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) reference: &'a [u8],
    pub(crate) file: FileNumber,
}

impl NewBlobs {
    pub(crate) fn new(config: BlobConfig, context: BlobContext) -> NewBlobs {
        NewBlobs {
            config,
            context,
            current: None,
            finished: Vec::new(),
            guards: Vec::new(),
            paths: Vec::new(),
            bytes: 0,
            key: Vec::new(),
            reference: Vec::new(),
        }
    }

    /// Moves the value of an entry into a blob file; `None` if the entry has none, or a short one.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Moved<'_>>> {
        if (value.len() as u64) < self.config.min_bytes {
            return Ok(None);
        }
        let parsed = ParsedKey::parse(key)?;
        if parsed.kind != ValueKind::Value {
            return Ok(None);
        }
        let (mut builder, number) = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        let place = builder.add(parsed.user_key, value)?;
        self.bytes += place.record_bytes(parsed.user_key.len());
        self.reference.clear();
        place.encode(&mut self.reference);
        self.key.clear();
        append_internal_key(&mut self.key, parsed.user_key, parsed.sequence, ValueKind::BlobIndex as u8);
        let is_full = builder.size() >= self.config.file_bytes;
        self.current = Some((builder, number));
        if is_full {
            self.end()?;
        }
        Ok(Some(Moved { key: &self.key, reference: &self.reference, file: number }))
    }

    fn begin(&mut self) -> Result<(BlobFileBuilder, FileNumber)> {
        let context = &self.context;
        let guard = context.versions.new_output();
        let number = guard.number();
        let path = context.dir.join(file_name::blob(number));
        let file = context.fs.create(&path, CreateMode::New)?;
        self.guards.push(guard);
        self.paths.push(path);
        let file = paced(file, context.rate_limiter.as_ref(), &context.clock, context.pace);
        Ok((BlobFileBuilder::new(file, number, context.family, self.config.compression)?, number))
    }

    fn end(&mut self) -> Result<()> {
        if let Some((builder, number)) = self.current.take() {
            let (count, bytes) = builder.finish()?;
            self.finished.push(BlobMeta { number, count, bytes, ..BlobMeta::default() });
        }
        Ok(())
    }

    /// Ends the last file: what the edit adds.
    pub(crate) fn finish(&mut self) -> Result<Vec<BlobMeta>> {
        self.end()?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Bytes of records that were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What keeps others away from the files, and where these are.
    pub(crate) fn into_files(self) -> (Vec<OutputGuard>, Vec<PathBuf>) {
        (self.guards, self.paths)
    }
}

/// How a job writes its output.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutputConfig {
    pub(crate) table: TableConfig,
    /// `None`: all values stay in tables.
    pub(crate) blobs: Option<BlobConfig>,
}

impl From<TableConfig> for OutputConfig {
    fn from(table: TableConfig) -> OutputConfig {
        OutputConfig { table, blobs: None }
    }
}
