//! One compaction: tables in, tables out, one edit.
//!
//! Outputs are cut between user keys, at the target size or where they would overlap too much of the level after next.
//! All outputs are synced, and their directory entries too, before the edit that names them. A job that fails, or is
//! called off, removes its outputs and has changed nothing.
//!
//! Source: RocksDB `db/compaction/compaction_job.cc`.

#[cfg(all(test, not(loom)))]
mod tests;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::blob::builder::BlobConfig;
use crate::clock::{CancelToken, Clock};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::comparator::KeyOrder;
use crate::format::file_name;
use crate::format::key::{FileNumber, SequenceNumber, user_key};
use crate::fs::paced::{Pace, paced};
use crate::fs::{CreateMode, Fs, RateLimiter, WritableFile};
use crate::iter::InternalIterator;
use crate::iter::compaction_iter::{CompactionIter, FetchBlob};
use crate::iter::filter::{Filtering, JobFilter};
use crate::iter::lineage::Lineage;
use crate::iter::merging::MergingIter;
use crate::iter::range_tombstones::{RangeTombstone, RangeTombstones};
use crate::metrics::{Statistics, Ticker};
use crate::superversion::{FamilyState, FrozenSnapshots};
use crate::sync::Arc;
use crate::table::builder::{TableBuildContext, TableBuilder, TableConfig};
use crate::table::reader::TableReadOptions;
use crate::version::edit::{FileMeta, VersionEdit};
use crate::version::level_iter::{LevelIter, TableOrLevelIter};
use crate::version::new_blobs::{BlobContext, NewBlobs};
use crate::version::set::{OutputGuard, VersionSet};
use crate::version::table_cache::TableCache;
use crate::version::{Level, TableFile, Version};

use super::blobs::{Blobs, Flow, Metered, Outflow};
use super::picker::{Compaction, LevelConfig};

/// Bytes that are read from an input at once.
const READ_AHEAD_BYTES: usize = 1 << 20;

/// What a compaction works with.
#[derive(Debug, Clone)]
pub(crate) struct CompactionContext {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rate_limiter: Option<Arc<RateLimiter>>,
    pub(crate) versions: Arc<VersionSet>,
    pub(crate) tables: Arc<TableCache>,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) table: TableConfig,
    /// Which values go into new blob files.
    pub(crate) blobs: Option<BlobConfig>,
    pub(crate) levels: LevelConfig,
    pub(crate) filter: Option<JobFilter>,
}

/// What a compaction did.
#[derive(Debug, Default)]
pub(crate) struct CompactionOutput {
    edit: VersionEdit,
    guards: Vec<OutputGuard>,
    blob_paths: Vec<PathBuf>,
    pub(crate) inputs: Vec<(u32, FileNumber, u64)>,
    pub(crate) outputs: Vec<FileNumber>,
    pub(crate) output_level: u32,
    pub(crate) is_trivial_move: bool,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
    pub(crate) entries_read: u64,
    pub(crate) entries_written: u64,
}

/// The output file that is being written.
struct Output {
    builder: TableBuilder,
    file: Arc<dyn WritableFile>,
    guard: OutputGuard,
    path: PathBuf,
    /// Bytes of the level after next that it overlaps so far.
    grandparent_bytes: u64,
    /// The oldest blob file that it refers to; 0: none.
    oldest_blob: FileNumber,
}

/// Which levels can hold a user key below the output, asked with ascending keys.
struct Below {
    version: Arc<Version>,
    /// Levels below the output, each with the first file that can hold later keys.
    levels: Vec<(usize, usize)>,
    /// The output goes into level 0, beside files that are no inputs: older entries may be in them, and zeros in place of
    /// sequence numbers would confuse readers that order the files of level 0 by those.
    is_among_others: bool,
}

impl Below {
    fn new(compaction: &Compaction) -> Below {
        let version = &compaction.version;
        let levels = (compaction.output_level.max(1)..version.levels.len())
            // An output into level 0 lies above everything else; otherwise the output level's own files are inputs.
            .filter(|level| *level > compaction.output_level)
            .map(|level| (level, 0))
            .collect();
        let is_input = |number| compaction.files().any(|(_, file)| file.number() == number);
        let is_among_others = match version.level(0) {
            Some(level) => compaction.output_level == 0 && level.files().iter().any(|file| !is_input(file.number())),
            None => false,
        };
        Below { version: Arc::clone(version), levels, is_among_others }
    }

    /// The same for all keys from `begin` on that are before `end`, in any order of questions.
    fn is_bottom_range(&self, begin: &[u8], end: &[u8]) -> bool {
        let order = &self.version.order;
        let is_free = |level: &usize| {
            let level = &self.version.levels[*level];
            let first = level.overlapping_range(order, Some(begin), None).start;
            // A file that begins where the range ends holds none of it.
            level.files().get(first).is_none_or(|file| order.compare(user_key(&file.meta.smallest), end).is_ge())
        };
        !self.is_among_others && self.levels.iter().all(|(level, _)| is_free(level))
    }

    #[inline]
    fn is_bottom(&mut self, key: &[u8]) -> bool {
        let order = &self.version.order;
        for (level, at) in &mut self.levels {
            let files = self.version.levels[*level].files();
            while *at < files.len() && files[*at].ends_before(order, key) {
                *at += 1;
            }
            if files.get(*at).is_some_and(|file| order.compare(user_key(&file.meta.smallest), key).is_le()) {
                return false;
            }
        }
        !self.is_among_others
    }
}

/// Runs a compaction: reads the inputs, writes the outputs. Nothing is installed yet.
///
/// # Errors
/// What the inputs and the file system say; `Corruption` if entries were lost on the way; `Cancelled`. Outputs are
/// removed.
pub(crate) fn run(
    context: &CompactionContext,
    family: &FamilyState,
    compaction: &Compaction,
    frozen: &FrozenSnapshots,
    cancel: &CancelToken,
) -> Result<CompactionOutput> {
    let mut output = CompactionOutput {
        edit: VersionEdit { family: family.id(), ..VersionEdit::default() },
        inputs: compaction.files().map(|(level, file)| (level as u32, file.number(), file.meta.size)).collect(),
        output_level: compaction.output_level as u32,
        is_trivial_move: compaction.is_trivial_move,
        ..CompactionOutput::default()
    };
    output.edit.compact_cursors = compaction.cursor.iter().cloned().collect();
    output.edit.deleted_files = compaction.files().map(|(level, file)| (level as u32, file.number())).collect();
    if compaction.is_drop {
        return Ok(output);
    }
    if compaction.is_trivial_move {
        output.edit.new_files = compaction.files().map(|(_, file)| (output.output_level, file.meta.clone())).collect();
        output.outputs = compaction.files().map(|(_, file)| file.number()).collect();
        output.edit.lineage = Lineage::Unchanged;
        return Ok(output);
    }
    let mut writer = Writer {
        context,
        family,
        compaction,
        output,
        current: None,
        paths: Vec::new(),
        grandparent: 0,
        range_tombstones: Vec::new(),
    };
    match writer.write_all(frozen, cancel) {
        Ok(()) => Ok(writer.output),
        Err(error) => {
            writer.remove_outputs();
            Err(error)
        }
    }
}

/// What the inputs' properties say.
struct Inputs {
    /// Without range tombstones.
    entries: u64,
    are_all_logged: bool,
    range_tombstones: Arc<RangeTombstones>,
    /// Files that a range tombstone hides as a whole: they are not read.
    covered: Vec<FileNumber>,
}

struct Writer<'a> {
    context: &'a CompactionContext,
    family: &'a FamilyState,
    compaction: &'a Compaction,
    output: CompactionOutput,
    current: Option<Output>,
    /// Everything written so far, to be removed on failure.
    paths: Vec<PathBuf>,
    /// The first file of the level after next that can overlap later keys.
    grandparent: usize,
    /// Those that the outputs to come will have: ascending by begin, the newest first.
    range_tombstones: Vec<RangeTombstone>,
}

impl Writer<'_> {
    fn write_all(&mut self, frozen: &FrozenSnapshots, cancel: &CancelToken) -> Result<()> {
        let order = self.family.config.order.clone();
        let inputs = self.inputs(&order, frozen)?;
        let merged = MergingIter::new(order.clone(), self.runs(&order, &inputs.covered)?);
        let has_references = self.compaction.files().any(|(_, file)| file.meta.oldest_blob.0 != 0);
        if !has_references && self.context.blobs.is_none() {
            return self.write_merged(merged, &mut (), &inputs, frozen, cancel);
        }
        let mut new = self.context.blobs.clone().map(|config| NewBlobs::new(config, self.blob_context()));
        let flow = RefCell::new(Flow::default());
        let outflow = &mut Blobs {
            flow: has_references.then_some(&flow),
            new: new.as_mut(),
            first_kept: self.first_kept_blob(),
            fetch: self.fetch(),
            key: Vec::new(),
        };
        let written = match has_references {
            false => self.write_merged(merged, outflow, &inputs, frozen, cancel),
            true => self.write_merged(Metered { input: merged, flow: &flow }, outflow, &inputs, frozen, cancel),
        };
        // What is there is removed, if this fails.
        let (guards, paths) = new.map(NewBlobs::into_files).unwrap_or_default();
        self.output.guards.extend(guards);
        self.output.blob_paths = paths;
        written?;
        self.output.edit.blob_garbage = flow.borrow().garbage()?;
        let blobs = &self.compaction.version.blobs;
        match self.output.edit.blob_garbage.iter().find(|(file, _)| !blobs.contains(*file)) {
            None => Ok(()),
            Some((file, _)) => {
                let detail = format!("a table refers to blob file {file}, which its version does not have");
                Err(Error::corrupt(CorruptionKind::Malformed, detail))
            }
        }
    }

    fn blob_context(&self) -> BlobContext {
        let context = self.context;
        BlobContext {
            fs: Arc::clone(&context.fs),
            dir: context.dir.clone(),
            clock: Arc::clone(&context.clock),
            rate_limiter: context.rate_limiter.clone(),
            pace: Pace::Compaction,
            versions: Arc::clone(&context.versions),
            family: self.family.id(),
        }
    }

    /// Values in blob files before this one are moved to new ones; 0: none is.
    fn first_kept_blob(&self) -> FileNumber {
        let collection = self.context.levels.blobs;
        collection.map_or(FileNumber(0), |collection| self.compaction.version.blobs.first_kept(collection))
    }

    /// What references in the inputs stand for.
    fn fetch(&self) -> FetchBlob {
        let (tables, version) = (Arc::clone(&self.context.tables), Arc::clone(&self.compaction.version));
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, ..TableReadOptions::default() };
        Arc::new(move |key, reference| tables.blob(&version, key, reference, &options))
    }

    fn write_merged<I: InternalIterator>(
        &mut self,
        merged: I,
        outflow: &mut impl Outflow,
        inputs: &Inputs,
        frozen: &FrozenSnapshots,
        cancel: &CancelToken,
    ) -> Result<()> {
        let order = self.family.config.order.clone();
        let mut below = Below::new(self.compaction);
        let stripes = if frozen.keeps_everything { &[][..] } else { &frozen.sequences };
        self.range_tombstones =
            inputs.range_tombstones.surviving(stripes, |begin, end| below.is_bottom_range(begin, end));
        let mut iter = CompactionIter::new(
            merged,
            order.clone(),
            frozen.sequences.clone(),
            frozen.keeps_everything,
            |key: &[u8]| below.is_bottom(key),
        )
        .covered_by(&inputs.range_tombstones)
        .merged_by(self.family.config.merge.as_ref())
        .filtered_by(self.filtering(frozen))
        .fetching_by((!self.compaction.version.blobs.is_empty()).then(|| self.fetch()))
        .cancelled_by(cancel);
        iter.seek_to_first()?;
        let compaction = self.compaction;
        while iter.valid() {
            let (key, value) = iter.entry();
            self.cut_if_due(&order, key)?;
            if self.current.is_none() {
                self.begin(inputs)?;
            }
            if let Some(current) = &mut self.current {
                let written = outflow.write(key, value, &mut current.builder, &mut current.oldest_blob);
                written.map_err(|error| match error.kind() {
                    // A merge of what is in order is in order.
                    ErrorKind::Internal => disordered(compaction),
                    _ => error,
                })?;
                if iter.is_older_version() {
                    current.builder.count_older_version();
                }
            }
            self.output.entries_written += 1;
            iter.next()?;
        }
        cancel.check()?;
        let counts = iter.counts();
        self.output.edit.lineage = iter.lineage();
        if self.current.is_none() && !self.range_tombstones.is_empty() {
            self.begin(inputs)?;
        }
        self.end(None)?;
        let new = outflow.finish()?;
        self.output.edit.blob_additions = new.additions;
        self.output.bytes_written += new.bytes;
        self.output.entries_read = counts.read;
        if counts.read != inputs.entries && !counts.is_partial {
            return Err(Error::corrupt(
                CorruptionKind::CountMismatch,
                format!("a compaction read {} entries from tables that say they hold {}", counts.read, inputs.entries),
            ));
        }
        if counts.read - counts.dropped() != self.output.entries_written {
            return Err(Error::corrupt(
                CorruptionKind::CountMismatch,
                format!("a compaction wrote {} entries of {counts:?}", self.output.entries_written),
            ));
        }
        let statistics = &self.context.statistics;
        statistics.add(Ticker::CompactionKeyDropNewerEntry, counts.hidden);
        statistics.add(Ticker::CompactionKeyDropObsolete, counts.obsolete);
        statistics.add(Ticker::CompactionKeyDropUser, counts.filtered);
        self.output.bytes_read = self.compaction.input_bytes();
        if !self.output.outputs.is_empty() {
            self.context.fs.sync_dir(&self.context.dir)?;
        }
        Ok(())
    }

    /// The job's filter, if it has one. Where nothing but the job can hold what it says to skip, and no snapshot sees it, that
    /// is not even read.
    fn filtering(&self, frozen: &FrozenSnapshots) -> Option<Filtering> {
        let filtering = self.context.filter.as_ref()?.make(frozen.newest_snapshot)?;
        let newest = frozen.sequences.last().copied().unwrap_or_default();
        let is_all_visible = self.compaction.files().all(|(_, file)| file.meta.largest_seq <= newest);
        // References to blob files are counted by reading them.
        let has_blobs = self.compaction.files().any(|(_, file)| file.meta.oldest_blob.0 != 0);
        if frozen.newest_snapshot.is_some() || frozen.keeps_everything || !is_all_visible || has_blobs {
            return Some(filtering);
        }
        let below = Below::new(self.compaction);
        Some(filtering.jumping(Box::new(move |begin, end| below.is_bottom_range(begin, end))))
    }

    fn inputs(&self, order: &KeyOrder, frozen: &FrozenSnapshots) -> Result<Inputs> {
        let mut all: Vec<RangeTombstone> = Vec::new();
        let mut are_all_logged = true;
        for (_, file) in self.compaction.files() {
            let table = self.context.tables.open(file, order)?;
            are_all_logged &= table.properties().is_all_logged;
            all.extend(table.range_tombstones().iter().flat_map(|tombstones| tombstones.iter()));
        }
        let range_tombstones = Arc::new(RangeTombstones::new(order, all));
        let (mut entries, mut covered) = (0u64, Vec::new());
        for (_, file) in self.compaction.files() {
            // What refers to blob files is read, since garbage is counted by it.
            let may_cover = !frozen.keeps_everything && file.meta.oldest_blob.0 == 0;
            if may_cover && is_covered(file, &range_tombstones, &frozen.sequences) {
                covered.push(file.number());
                continue;
            }
            let table = self.context.tables.open(file, order)?;
            let properties = table.properties();
            entries = entries.saturating_add(properties.entries.saturating_sub(properties.range_deletions));
        }
        Ok(Inputs { entries, are_all_logged, range_tombstones, covered })
    }

    /// The inputs as sorted runs, newest first, but for `covered` files.
    fn runs(&self, order: &KeyOrder, covered: &[FileNumber]) -> Result<Vec<TableOrLevelIter>> {
        let options = TableReadOptions { fill_cache: false, verify_checksums: true, read_ahead: READ_AHEAD_BYTES };
        let mut runs = Vec::new();
        for (number, files) in &self.compaction.inputs {
            let files: Vec<_> = files.iter().filter(|file| !covered.contains(&file.number())).cloned().collect();
            if *number == 0 {
                for file in &files {
                    runs.push(TableOrLevelIter::Table(self.context.tables.open(file, order)?.iter(options)));
                }
            } else {
                let level = Arc::new(Level::new(*number, order, files)?);
                let tables = Arc::clone(&self.context.tables);
                runs.push(TableOrLevelIter::Level(LevelIter::new(level, tables, order.clone(), options, None)));
            }
        }
        Ok(runs)
    }

    /// Ends the current output if `key` should begin the next.
    #[inline]
    fn cut_if_due(&mut self, order: &KeyOrder, key: &[u8]) -> Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        // A file of level 0 overlaps the others anyway: it is not cut.
        if self.compaction.output_level == 0 {
            return Ok(());
        }
        if let Some(level) = self.compaction.version.level(self.compaction.output_level + 1) {
            let files = level.files();
            while self.grandparent < files.len() && files[self.grandparent].ends_before(order, user_key(key)) {
                current.grandparent_bytes += files[self.grandparent].meta.size;
                self.grandparent += 1;
            }
        }
        let levels = &self.context.levels;
        let is_full = current.builder.estimated_size() >= levels.target_file_size
            || current.grandparent_bytes > levels.grandparent_bytes_max();
        let is_of_another_key =
            |last: Option<&[u8]>| last.is_some_and(|last| order.compare(user_key(last), user_key(key)).is_ne());
        if is_full && is_of_another_key(current.builder.last_key()) {
            self.end(Some(user_key(key)))?;
        }
        Ok(())
    }

    fn begin(&mut self, inputs: &Inputs) -> Result<()> {
        let context = self.context;
        let config = &self.family.config;
        let guard = context.versions.new_output();
        let path = context.dir.join(file_name::table(guard.number()));
        let file = context.fs.create(&path, CreateMode::New)?;
        let file = paced(file, context.rate_limiter.as_ref(), &context.clock, Pace::Compaction);
        self.paths.push(path.clone());
        let build = TableBuildContext {
            order: config.order.clone(),
            family_id: config.id,
            family_name: config.name.clone(),
            file_number: guard.number(),
            db_id: context.versions.db_id().to_owned(),
            session_id: context.versions.session_id().to_owned(),
            oldest_key_time: self.oldest_ancester_time(),
            creation_time: self.creation_time(),
            is_all_logged: inputs.are_all_logged,
        };
        let builder = TableBuilder::new(Arc::clone(&file), context.table.clone(), build);
        self.current = Some(Output { builder, file, guard, path, grandparent_bytes: 0, oldest_blob: FileNumber(0) });
        Ok(())
    }

    fn creation_time(&self) -> u64 {
        self.compaction.created_s.unwrap_or_else(|| self.context.clock.unix_seconds())
    }

    fn oldest_ancester_time(&self) -> u64 {
        let times = self.compaction.files().map(|(_, file)| file.meta.oldest_ancester_time);
        times.filter(|time| *time > 0).min().unwrap_or_else(|| self.context.clock.unix_seconds())
    }

    /// Takes what the current output has of the range tombstones: what is before `next`, the first key of the next output.
    fn range_tombstones_before(&mut self, next: Option<&[u8]>) -> Vec<RangeTombstone> {
        let order = &self.family.config.order;
        let Some(next) = next else { return std::mem::take(&mut self.range_tombstones) };
        let begun = self.range_tombstones.partition_point(|tombstone| order.compare(&tombstone.begin, next).is_lt());
        let further = self.range_tombstones.split_off(begun);
        let mut taken = std::mem::replace(&mut self.range_tombstones, further);
        for tombstone in &mut taken {
            if order.compare(&tombstone.end, next).is_gt() {
                let end = std::mem::replace(&mut tombstone.end, next.to_vec());
                let rest = RangeTombstone { begin: next.to_vec(), end, sequence: tombstone.sequence };
                self.range_tombstones.push(rest);
            }
        }
        self.range_tombstones.sort_by(|a, b| order.compare(&a.begin, &b.begin).then(b.sequence.cmp(&a.sequence)));
        taken
    }

    /// Ends the current output; `next` is the first key of the next one.
    fn end(&mut self, next: Option<&[u8]>) -> Result<()> {
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let mut hidden = 0;
        if !self.range_tombstones.is_empty() {
            let own = self.range_tombstones_before(next);
            let below = self.compaction.output_level + 1;
            let tree = RangeTombstones::new(&self.family.config.order, own.iter().cloned());
            hidden = self.compaction.version.bytes_hidden(below, &tree);
            own.into_iter().for_each(|tombstone| current.builder.add_range_tombstone(tombstone));
        }
        let built = current.builder.finish()?;
        if current.file.size() != built.size {
            return Err(Error::corrupt_at(
                CorruptionKind::CountMismatch,
                &current.path,
                0,
                format!("a table of {} bytes; the file has {}", built.size, current.file.size()),
            ));
        }
        current.file.sync_data()?;
        let mut meta = FileMeta::of_table(current.guard.number(), &built);
        meta.oldest_ancester_time = self.oldest_ancester_time();
        meta.range_deleted_bytes = hidden;
        meta.oldest_blob = current.oldest_blob;
        meta.creation_time = self.creation_time();
        self.output.bytes_written += built.size;
        self.output.outputs.push(meta.number);
        self.output.edit.new_files.push((self.output.output_level, meta));
        self.output.guards.push(current.guard);
        Ok(())
    }

    fn remove_outputs(&mut self) {
        self.current = None;
        self.context.versions.remove_outputs(self.paths.iter().chain(&self.output.blob_paths));
    }
}

/// True if a range tombstone hides everything that the file has, from every reader; not its own range tombstones.
fn is_covered(file: &TableFile, tombstones: &RangeTombstones, stripes: &[SequenceNumber]) -> bool {
    let meta = &file.meta;
    let Some(stripe) = stripes.iter().find(|stripe| **stripe >= meta.smallest_seq) else { return false };
    let covering = || tombstones.covering_all(user_key(&meta.smallest), user_key(&meta.largest), *stripe);
    !tombstones.is_empty() && meta.largest_seq <= *stripe && covering() > meta.largest_seq
}

/// One of the inputs is not in order. Which one cannot be told from the merge: `verify` can.
#[cold]
fn disordered(compaction: &Compaction) -> Error {
    let tables: Vec<String> = compaction.files().map(|(_, file)| file_name::table(file.number())).collect();
    let detail = format!("the keys of a table are not in order: one of {}", tables.join(", "));
    Error::corrupt(CorruptionKind::Order, detail)
}

/// Makes a compaction durable and publishes the version.
///
/// # Errors
/// Those of the MANIFEST. If it is known that nothing was written the outputs are removed; if not, they stay.
pub(crate) fn install(
    context: &CompactionContext,
    family: &FamilyState,
    output: CompactionOutput,
) -> Result<CompactionOutput> {
    let result = context.versions.log_and_apply(vec![output.edit.clone()], |versions| {
        if let Some((_, version)) = versions.iter().find(|(id, _)| *id == family.id()) {
            family.install_version(Arc::clone(version));
        }
    });
    match result {
        Ok(()) => Ok(output),
        Err(failed) => {
            if !output.is_trivial_move && !failed.are_files_kept {
                let path = |number: &FileNumber| -> PathBuf { Path::new(&context.dir).join(file_name::table(*number)) };
                let tables: Vec<PathBuf> = output.outputs.iter().map(path).collect();
                context.versions.remove_outputs(tables.iter().chain(&output.blob_paths));
            }
            Err(failed.into())
        }
    }
}
