//! A flush: full memtables become one table of level 0.
//!
//! A job is a value with three steps. *Pick* takes all full memtables of a family; *run* merges them into a table,
//! synced, with its directory entry; *install* makes the edit durable, for one family or for several at once, and
//! publishes the views without those memtables. Until the install nothing has changed, and a job that fails removes its
//! file. Source: RocksDB `db/flush_job.cc`.

#[cfg(all(test, not(loom)))]
mod tests;

use crate::clock::{CancelToken, Clock};
use crate::error::{CorruptionKind, Error, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name;
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::merge::MergeRule;
use crate::fs::paced::{Pace, paced};
use crate::fs::{CreateMode, Fs, RateLimiter};
use crate::iter::InternalIterator;
use crate::iter::compaction_iter::CompactionIter;
use crate::iter::filter::JobFilter;
use crate::iter::lineage::Lineage;
use crate::iter::merging::MergingIter;
use crate::iter::range_tombstones::{RangeTombstone, RangeTombstones};
use crate::memtable::MemTable;
use crate::superversion::{FamilyState, FrozenSnapshots};
use crate::sync::Arc;
use crate::table::builder::{TableBuildContext, TableBuilder, TableConfig};
use crate::version::edit::{FileMeta, VersionEdit};
use crate::version::new_blobs::{BlobContext, NewBlobs, OutputConfig};
use crate::version::set::{OutputGuard, VersionSet};

use std::path::PathBuf;

/// What the flushes of a database work with: made once, when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct FlushContext {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
    pub(crate) versions: Arc<VersionSet>,
}

/// Memtables to be flushed.
#[derive(Debug)]
pub(crate) struct FlushJob {
    family: Arc<FamilyState>,
    /// Oldest first.
    memtables: Vec<Arc<MemTable>>,
    /// Logs below this hold nothing of the family that tables do not, once this is installed.
    log_number: FileNumber,
}

/// A flush that has run and waits to be installed.
#[derive(Debug)]
pub(crate) struct FlushOutput {
    family: Arc<FamilyState>,
    flushed: Vec<u64>,
    edit: VersionEdit,
    /// Of the new files, which are protected until this is dropped.
    guards: Vec<OutputGuard>,
    paths: Vec<PathBuf>,
    pub(crate) file: Option<FileNumber>,
    pub(crate) bytes: u64,
    pub(crate) entries_read: u64,
    pub(crate) entries_written: u64,
}

impl FlushOutput {
    pub(crate) fn family_id(&self) -> ColumnFamilyId {
        self.family.id()
    }

    /// The memtables that are in the table.
    pub(crate) fn flushed(&self) -> &[u64] {
        &self.flushed
    }
}

/// How far the whole database has got with a flush.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// The last sequence number that it makes durable.
    pub(crate) last_sequence: Option<SequenceNumber>,
    /// No family needs a log below this any more.
    pub(crate) needed_log: FileNumber,
}

impl FlushJob {
    /// All full memtables of a family; `None` if there are none.
    pub(crate) fn pick(family: &Arc<FamilyState>) -> Option<FlushJob> {
        let view = family.load_full();
        let memtables: Vec<_> = view.immutables.iter().rev().cloned().collect();
        let log_number = view.memtable.log_number();
        (!memtables.is_empty()).then(|| FlushJob { family: Arc::clone(family), memtables, log_number })
    }

    /// A memtable that was never in a view of the family. Logs below `log_number` hold nothing of the family that tables do
    /// not, once this and what comes after it in the same edit is installed.
    pub(crate) fn of_replayed(family: &Arc<FamilyState>, memtable: &Arc<MemTable>, log_number: FileNumber) -> FlushJob {
        FlushJob { family: Arc::clone(family), memtables: vec![Arc::clone(memtable)], log_number }
    }

    /// The largest sequence number in it: the visible number has to have reached it.
    pub(crate) fn largest_sequence(&self) -> SequenceNumber {
        self.memtables.iter().map(|memtable| memtable.largest_seq()).max().unwrap_or_default()
    }

    pub(crate) fn family(&self) -> ColumnFamilyId {
        self.family.id()
    }

    /// Writes the table.
    ///
    /// # Errors
    /// What the file system says; `Corruption` if the number of entries read is not the memtables' own. The file is
    /// removed, and nothing else has changed.
    pub(crate) fn run(
        self,
        context: &FlushContext,
        config: OutputConfig,
        filter: Option<&JobFilter>,
        frozen: &FrozenSnapshots,
        cancel: &CancelToken,
    ) -> Result<FlushOutput> {
        let guard = context.versions.new_output();
        let path = context.dir.join(file_name::table(guard.number()));
        let mut blobs = config.blobs.map(|blobs| NewBlobs::new(blobs, self.blob_context(context)));
        let result = self.write(context, config.table, (&mut blobs, filter), frozen, cancel, (&guard, &path));
        let (mut guards, mut paths) = blobs.map(NewBlobs::into_files).unwrap_or_default();
        match result {
            Ok(mut output) => {
                if output.file.is_some() {
                    guards.push(guard);
                    paths.push(path);
                    (output.guards, output.paths) = (guards, paths);
                } else {
                    context.versions.remove_outputs([&path]);
                }
                Ok(output)
            }
            Err(error) => {
                context.versions.remove_outputs(paths.iter().chain([&path]));
                Err(error)
            }
        }
    }

    fn blob_context(&self, context: &FlushContext) -> BlobContext {
        BlobContext {
            fs: Arc::clone(&context.fs),
            dir: context.dir.clone(),
            clock: Arc::clone(&context.clock),
            rate_limiter: context.rate_limiter.clone(),
            pace: Pace::Flush,
            versions: Arc::clone(&context.versions),
            family: self.family.id(),
        }
    }

    fn write(
        &self,
        context: &FlushContext,
        table: TableConfig,
        (blobs, filter): (&mut Option<NewBlobs>, Option<&JobFilter>),
        frozen: &FrozenSnapshots,
        cancel: &CancelToken,
        (guard, path): (&OutputGuard, &std::path::Path),
    ) -> Result<FlushOutput> {
        let config = &self.family.config;
        let now = context.clock.unix_seconds();
        let oldest = self.memtables.iter().map(|memtable| memtable.creation_time).min().unwrap_or(now);
        let file = context.fs.create(path, CreateMode::New)?;
        let file = paced(file, context.rate_limiter.as_ref(), &context.clock, Pace::Flush);
        let build = TableBuildContext {
            order: config.order.clone(),
            family_id: config.id,
            family_name: config.name.clone(),
            file_number: guard.number(),
            db_id: context.versions.db_id().to_owned(),
            session_id: context.versions.session_id().to_owned(),
            oldest_key_time: oldest,
            creation_time: now,
            is_all_logged: !self.memtables.iter().any(|memtable| memtable.has_unlogged()),
        };
        let mut builder = TableBuilder::new(Arc::clone(&file), table, build);
        let range_tombstones = self.range_tombstones(&config.order);
        let runs = self.memtables.iter().rev().map(|memtable| memtable.iter()).collect();
        let merged = MergingIter::new(config.order.clone(), runs);
        let target = (&mut builder, blobs.as_mut());
        let copied = copy(merged, &range_tombstones, config.merge.as_ref(), filter, frozen, cancel, target)?;
        let Copied { read, written, lineage, oldest_blob } = copied;
        let expected: u64 = self.memtables.iter().map(|memtable| memtable.entry_count()).sum();
        if read != expected {
            return Err(Error::corrupt_at(
                CorruptionKind::CountMismatch,
                path,
                0,
                format!("a flush read {read} entries from memtables that hold {expected}"),
            ));
        }
        let mut output = FlushOutput {
            family: Arc::clone(&self.family),
            flushed: self.memtables.iter().map(|memtable| memtable.id).collect(),
            edit: VersionEdit {
                family: config.id,
                log_number: Some(self.log_number),
                // Once the logs are gone this is what says how far the history goes.
                last_sequence: frozen.sequences.last().copied().max(Some(self.largest_sequence())),
                lineage,
                ..VersionEdit::default()
            },
            guards: Vec::new(),
            paths: Vec::new(),
            file: None,
            bytes: 0,
            entries_read: read,
            entries_written: written,
        };
        let stripes = if frozen.keeps_everything { &[][..] } else { &frozen.sequences };
        // Older tables may hold any key.
        let hidden = match range_tombstones.is_empty() {
            true => 0,
            false => self.family.load_full().version.bytes_hidden(0, &range_tombstones),
        };
        for tombstone in range_tombstones.surviving(stripes, |_, _| false) {
            builder.add_range_tombstone(tombstone);
        }
        if builder.is_empty() {
            return Ok(output);
        }
        let built = builder.finish()?;
        if built.counts.entries - built.counts.range_deletions != written || file.size() != built.size {
            return Err(Error::corrupt_at(
                CorruptionKind::CountMismatch,
                path,
                0,
                format!(
                    "a table of {} entries and {} bytes; {written} and {} were written",
                    built.counts.entries,
                    built.size,
                    file.size()
                ),
            ));
        }
        file.sync_data()?;
        if let Some(blobs) = blobs {
            output.edit.blob_additions = blobs.finish()?;
            output.bytes = blobs.bytes();
        }
        context.fs.sync_dir(&context.dir)?;
        let mut meta = FileMeta::of_table(guard.number(), &built);
        meta.oldest_blob = oldest_blob;
        meta.oldest_ancester_time = oldest;
        meta.range_deleted_bytes = hidden;
        meta.creation_time = now;
        output.file = Some(guard.number());
        output.bytes += built.size;
        output.edit.new_files.push((0, meta));
        Ok(output)
    }
}

impl FlushJob {
    /// Those of all its memtables.
    fn range_tombstones(&self, order: &KeyOrder) -> Arc<RangeTombstones> {
        let runs = self.memtables.iter().filter_map(|memtable| memtable.range_tombstones());
        let all: Vec<RangeTombstone> =
            runs.flat_map(|runs| runs.iter().flat_map(|run| run.iter()).collect::<Vec<_>>()).collect();
        Arc::new(RangeTombstones::new(order, all))
    }
}

/// What a flush did to entries.
struct Copied {
    read: u64,
    written: u64,
    /// What readers see of it.
    lineage: Lineage,
    /// The oldest blob file that the table refers to; 0: none.
    oldest_blob: FileNumber,
}

/// Copies what survives of `input` into the builder, and long values into blob files.
fn copy<I: InternalIterator>(
    input: I,
    range_tombstones: &Arc<RangeTombstones>,
    merge: Option<&Arc<MergeRule>>,
    filter: Option<&JobFilter>,
    frozen: &FrozenSnapshots,
    cancel: &CancelToken,
    (builder, mut blobs): (&mut TableBuilder, Option<&mut NewBlobs>),
) -> Result<Copied> {
    let order = range_tombstones.order().clone();
    // Older tables may hold any key: a flush drops no tombstone.
    let nothing_is_bottom = |_: &[u8]| false;
    let mut iter =
        CompactionIter::new(input, order, frozen.sequences.clone(), frozen.keeps_everything, nothing_is_bottom)
            .covered_by(range_tombstones)
            .merged_by(merge)
            .filtered_by(filter.and_then(|filter| filter.make(frozen.newest_snapshot)))
            .cancelled_by(cancel);
    iter.seek_to_first()?;
    let (mut written, mut oldest_blob) = (0, FileNumber(0));
    while iter.valid() {
        let (key, value) = iter.entry();
        let moved = match &mut blobs {
            None => None,
            Some(blobs) => blobs.take(key, value)?,
        };
        match moved {
            None => builder.add(key, value)?,
            Some(moved) => {
                builder.add(moved.key, moved.reference)?;
                // Their numbers ascend.
                if oldest_blob.0 == 0 {
                    oldest_blob = moved.file;
                }
            }
        }
        if iter.is_older_version() {
            builder.count_older_version();
        }
        written += 1;
        iter.next()?;
    }
    Ok(Copied { read: iter.counts().read, written, lineage: iter.lineage(), oldest_blob })
}

/// Removes the files of flushes that no edit ever named, blob files too.
pub(crate) fn discard(versions: &VersionSet, outputs: &[FlushOutput]) {
    versions.remove_outputs(outputs.iter().flat_map(|output| &output.paths));
}

/// Makes flushes durable, all of them or none, with `further` edits in the same step, and publishes the views.
///
/// # Errors
/// Those of the MANIFEST. If it is known that nothing was written the files are removed; if not, they stay.
pub(crate) fn install(
    versions: &VersionSet,
    outputs: Vec<FlushOutput>,
    further: Vec<VersionEdit>,
    reached: Reached,
) -> Result<Vec<FlushOutput>> {
    let mut edits: Vec<VersionEdit> = outputs.iter().map(|output| output.edit.clone()).chain(further).collect();
    if let Some(first) = edits.first_mut() {
        first.last_sequence = reached.last_sequence.max(first.last_sequence);
        first.min_log_to_keep = first.min_log_to_keep.max(Some(reached.needed_log));
    }
    let result = versions.log_and_apply(edits, |published| {
        for output in &outputs {
            if let Some((_, version)) = published.iter().find(|(id, _)| *id == output.family.id()) {
                output.family.install_flush(&output.flushed, Arc::clone(version));
            }
        }
    });
    if let Err(failed) = result {
        if !failed.are_files_kept {
            discard(versions, &outputs);
        }
        return Err(failed.into());
    }
    Ok(outputs)
}
