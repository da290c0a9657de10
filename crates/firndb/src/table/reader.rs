//! Opens a table file once and answers lookups from it.
//!
//! Opening reads the footer, the metaindex, the properties, the filter and the index, all checked; after that a lookup
//! is: filter, index bisection, one slot load, in-block search. Data blocks come through the slots of the block cache.
//!
//! What this version cannot read is refused by name when the table is opened, never guessed. Threads: everything is
//! `&self` and lock-free while blocks are cached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::{BlockCache, CachedSlots};
use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::unique_id;
use crate::format::coding::Reader;
use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::format::key::{SEEK_KIND, SequenceNumber, ValueKind, pack_trailer, trailer_sequence};
use crate::fs::RandomAccessFile;
use crate::metrics::{Statistics, Ticker};

use super::block::{Block, BlockSlice, Lookup, PlainEntries};
use super::filter::{FilterReader, KeyHash};
use super::index::Index;
use super::layout::{BlockHandle, Footer, located, meta};
use super::properties::{EXTERNAL_SEQUENCE, TableProperties};

/// What a table is opened with.
#[derive(Debug, Clone)]
pub(crate) struct TableOpenContext {
    pub(crate) path: PathBuf,
    pub(crate) order: KeyOrder,
    pub(crate) cache: Arc<BlockCache>,
    pub(crate) statistics: Arc<Statistics>,
    /// What MANIFEST says; the sequence number of ingested files.
    pub(crate) largest_seq: SequenceNumber,
    pub(crate) unique_id: Option<[u8; 16]>,
    pub(crate) verify_checksums: bool,
}

/// How one read goes about blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableReadOptions {
    /// Keep what was read in the cache.
    pub(crate) fill_cache: bool,
    pub(crate) verify_checksums: bool,
    /// Bytes that a scan reads at once where blocks are not cached; 0: as seems best.
    pub(crate) read_ahead: usize,
}

impl Default for TableReadOptions {
    fn default() -> Self {
        TableReadOptions { fill_cache: true, verify_checksums: true, read_ahead: 0 }
    }
}

/// The newest visible entry of a key.
#[derive(Debug, Clone)]
pub(crate) struct TableHit {
    #[cfg_attr(not(test), expect(dead_code, reason = "transactions will ask whether a key changed since they began"))]
    pub(crate) sequence: SequenceNumber,
    pub(crate) kind: ValueKind,
    pub(crate) value: BlockSlice,
}

/// An open table.
pub(crate) struct TableReader {
    pub(super) file: Arc<dyn RandomAccessFile>,
    pub(super) context: TableOpenContext,
    pub(super) footer: Footer,
    pub(super) index: Index,
    pub(super) filter: Option<FilterReader>,
    properties: TableProperties,
    blocks: CachedSlots<Block>,
    /// The sequence number of every entry, if the file was ingested.
    pub(super) global_sequence: Option<SequenceNumber>,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableReader({})", self.context.path.display())
    }
}

struct Meta {
    properties: Option<BlockHandle>,
    index: Option<BlockHandle>,
    filter: Option<BlockHandle>,
    range_deletions: Option<BlockHandle>,
    has_dictionary: bool,
}

impl TableReader {
    /// Opens a table file of `size` bytes.
    ///
    /// # Errors
    /// `Corruption` with file and offset; `NotSupported` naming the feature.
    pub(crate) fn open(
        file: Arc<dyn RandomAccessFile>,
        size: u64,
        context: TableOpenContext,
    ) -> Result<Arc<TableReader>> {
        let front = Front::read(&*file, size, &context)?;
        let index_handle = front.index(&context.path)?;
        let Front { footer, meta, properties } = front;
        let path = context.path.clone();
        let index = footer.read_block(&*file, &path, index_handle, true)?;
        let index = Index::parse(&index, &properties, &context.order, &footer)
            .map_err(|error| error.in_file(&path, Some(index_handle.offset)))?;
        let filter = match meta.filter.filter(|_| properties.whole_key_filtering) {
            Some(handle) => Some(FilterReader::parse(footer.read_block(&*file, &path, handle, true)?)),
            None => None,
        };
        let global_sequence = global_sequence(&context, &properties)?;
        let blocks = CachedSlots::new(index.len(), Arc::clone(&context.cache), Arc::clone(&context.statistics));
        context.statistics.add(Ticker::NoFileOpens, 1);
        Ok(Arc::new(TableReader { file, context, footer, index, filter, properties, blocks, global_sequence }))
    }

    pub(crate) fn properties(&self) -> &TableProperties {
        &self.properties
    }

    pub(crate) fn order(&self) -> &KeyOrder {
        &self.context.order
    }

    /// Bytes of memory beside the cached blocks: index and filter.
    pub(crate) fn memory(&self) -> usize {
        self.index.memory() + self.filter.as_ref().map_or(0, FilterReader::memory)
    }

    /// False only if no version of the key is in the table.
    #[inline]
    pub(crate) fn may_contain(&self, user_key: &[u8], hash: &mut KeyHash) -> bool {
        let Some(filter) = &self.filter else { return true };
        match filter.may_contain(user_key, hash) {
            true => {
                self.context.statistics.add(Ticker::BloomFilterFullPositive, 1);
                true
            }
            false => {
                self.context.statistics.add(Ticker::BloomFilterUseful, 1);
                false
            }
        }
    }

    /// The newest entry of `user_key` at or below `snapshot`.
    #[inline]
    pub(crate) fn get(
        &self,
        user_key: &[u8],
        snapshot: SequenceNumber,
        hash: &mut KeyHash,
        options: &TableReadOptions,
    ) -> Result<Option<TableHit>> {
        if !self.may_contain(user_key, hash) {
            return Ok(None);
        }
        let seek = match self.global_sequence {
            None => pack_trailer(snapshot, SEEK_KIND),
            Some(sequence) if sequence <= snapshot => pack_trailer(SequenceNumber::MAX, SEEK_KIND),
            Some(_) => return Ok(None),
        };
        let order = &self.context.order;
        let mut index = self.index.find(order, user_key, seek);
        while index < self.index.len() {
            if let Some(block) = self.blocks.load(index)
                && let Some(block) = &*block
            {
                self.context.statistics.add(Ticker::BlockCacheHit, 1);
                match self.look_up(block, order, user_key, seek)? {
                    Ok(hit) => return Ok(hit),
                    Err(AtEnd) => index += 1,
                }
                continue;
            }
            let block = self.read_block(index, options)?;
            match self.look_up(&block, order, user_key, seek)? {
                Ok(hit) => return Ok(hit),
                Err(AtEnd) => index += 1,
            }
        }
        Ok(None)
    }

    /// Looks into one block; `Err(AtEnd)` if the next block has to be asked.
    #[inline]
    fn look_up(
        &self,
        block: &Arc<Block>,
        order: &KeyOrder,
        user_key: &[u8],
        seek: u64,
    ) -> Result<std::result::Result<Option<TableHit>, AtEnd>> {
        match block.get(order, user_key, seek).map_err(|error| self.at(error, block.offset))? {
            Lookup::Found { trailer, value } => {
                let kind = ValueKind::from_byte(trailer as u8).ok_or_else(|| self.bad_kind(trailer, block.offset))?;
                let sequence = self.global_sequence.unwrap_or(trailer_sequence(trailer));
                Ok(Ok(Some(TableHit { sequence, kind, value: BlockSlice::new(Arc::clone(block), value) })))
            }
            Lookup::Absent => Ok(Ok(None)),
            Lookup::AtEnd => Ok(Err(AtEnd)),
        }
    }

    #[cold]
    fn bad_kind(&self, trailer: u64, offset: u64) -> Error {
        let what = format!("entry kind {:#04x} does not exist", trailer as u8);
        Error::corrupt_at(CorruptionKind::BadMagic, &self.context.path, offset, what)
    }

    /// Names the file and the block of an error.
    #[cold]
    pub(super) fn at(&self, error: Error, offset: u64) -> Error {
        located(error, &self.context.path, offset)
    }

    #[inline]
    pub(super) fn cached(&self, index: usize) -> Option<Arc<Block>> {
        let block = self.blocks.load(index).and_then(|guard| guard.as_ref().map(Arc::clone));
        if block.is_some() {
            self.context.statistics.add(Ticker::BlockCacheHit, 1);
        }
        block
    }

    #[cold]
    fn read_block(&self, index: usize, options: &TableReadOptions) -> Result<Arc<Block>> {
        let stored = self.footer.read_stored(&*self.file, &self.context.path, self.index.handle(index))?;
        self.admit(index, stored, options)
    }

    /// Stored bytes that are what was written. If they are not, they are read once more: a bit may have flipped on the way,
    /// and only what is wrong twice is damage.
    fn checked(&self, index: usize, stored: Vec<u8>) -> Result<Vec<u8>> {
        let handle = self.index.handle(index);
        let Err(error) = self.footer.check(&stored, handle.offset) else { return Ok(stored) };
        self.context.statistics.add(Ticker::BlockChecksumMismatchCount, 1);
        let again = self.footer.read_stored(&*self.file, &self.context.path, handle)?;
        match self.footer.check(&again, handle.offset) {
            Ok(()) => Ok(again),
            Err(_) => Err(self.at(error, handle.offset)),
        }
    }

    /// Makes a block of its stored bytes, and puts it into the cache if asked.
    pub(super) fn admit(&self, index: usize, stored: Vec<u8>, options: &TableReadOptions) -> Result<Arc<Block>> {
        let offset = self.index.handle(index).offset;
        self.context.statistics.add(Ticker::BlockCacheMiss, 1);
        let check = options.verify_checksums && self.context.verify_checksums;
        let stored = match check {
            true => self.checked(index, stored)?,
            false => stored,
        };
        let block = self
            .footer
            .content(stored)
            .and_then(|content| Block::new(content, offset))
            .map_err(|error| self.at(error, offset))?;
        let block = Arc::new(block);
        if options.fill_cache {
            self.blocks.insert(index, &block);
        }
        Ok(block)
    }
}

/// What opening a table reads first, and what tells whether this version can read the rest.
struct Front {
    footer: Footer,
    meta: Meta,
    properties: TableProperties,
}

impl Front {
    fn read(file: &dyn RandomAccessFile, size: u64, context: &TableOpenContext) -> Result<Front> {
        let path = &context.path;
        let actual = file.size()?;
        if actual != size {
            return Err(Error::corrupt_at(
                CorruptionKind::Misplaced,
                path,
                actual.min(size),
                format!("the file has {actual} bytes; {size} are expected"),
            ));
        }
        let footer = Footer::read(file, path, size)?;
        let metaindex = footer.read_block(file, path, footer.metaindex, true)?;
        let meta = read_metaindex(&metaindex).map_err(|error| error.in_file(path, Some(footer.metaindex.offset)))?;
        let properties = read_properties(file, path, &footer, meta.properties)?;
        refuse_unknown(path, &footer, &properties, &meta)?;
        check_identity(context, &properties)?;
        if let Some(handle) = meta.range_deletions {
            let block = footer.read_block(file, path, handle, true)?;
            let mut entries = PlainEntries::new(&block).map_err(|error| error.in_file(path, Some(handle.offset)))?;
            if entries.next().is_some() {
                return Err(refused(path, "range tombstones (DeleteRange)"));
            }
        }
        Ok(Front { footer, meta, properties })
    }

    fn index(&self, path: &Path) -> Result<BlockHandle> {
        let none = "the metaindex names no index";
        let missing = || Error::corrupt_at(CorruptionKind::Missing, path, self.footer.metaindex.offset, none);
        self.footer.index.or(self.meta.index).ok_or_else(missing)
    }
}

/// Looks at as much of a table as tells whether this build reads it, but not at its index and filter.
///
/// # Errors
/// As of [`TableReader::open`].
pub(crate) fn examine(file: &dyn RandomAccessFile, size: u64, context: &TableOpenContext) -> Result<()> {
    let front = Front::read(file, size, context)?;
    // Before version 2 a compressed block did not say how long it was, and is not read.
    let has_sizes = front.footer.format_version >= 2;
    if has_sizes && front.properties.compression.as_deref().is_some_and(Compression::are_readable) {
        return Ok(());
    }
    // The index has the codec that the data has.
    front.footer.read_block(file, &context.path, front.index(&context.path)?, true).map(drop)
}

/// What a table file of `size` bytes says of itself; `None` if it does not end as tables do, because nobody finished it.
///
/// # Errors
/// As of [`TableReader::open`].
pub(crate) fn properties_of(file: &dyn RandomAccessFile, path: &Path, size: u64) -> Result<Option<TableProperties>> {
    let footer = match Footer::read(file, path, size) {
        Err(error) => {
            let kind = error.corruption().map(|corruption| corruption.kind);
            return match kind {
                Some(CorruptionKind::Truncated | CorruptionKind::BadMagic) => Ok(None),
                _ => Err(error),
            };
        }
        Ok(footer) => footer,
    };
    let metaindex = footer.read_block(file, path, footer.metaindex, true)?;
    let meta = read_metaindex(&metaindex).map_err(|error| error.in_file(path, Some(footer.metaindex.offset)))?;
    read_properties(file, path, &footer, meta.properties).map(Some)
}

/// Everything in a block is before the key.
struct AtEnd;

fn refused(path: &Path, what: &str) -> Error {
    Error::new(
        ErrorKind::NotSupported,
        format!("{}: the table uses {what}, which this version cannot read", path.display()),
    )
}

fn read_metaindex(block: &[u8]) -> Result<Meta> {
    let mut found = Meta { properties: None, index: None, filter: None, range_deletions: None, has_dictionary: false };
    for entry in PlainEntries::new(block)? {
        let (name, value) = entry?;
        let handle = || BlockHandle::decode(&mut Reader::new(value)).map(Some);
        match std::str::from_utf8(&name).unwrap_or_default() {
            // The first name is the one that LevelDB and the first RocksDBs used.
            "rocksdb.stats" if found.properties.is_none() => found.properties = handle()?,
            meta::PROPERTIES => found.properties = handle()?,
            meta::INDEX => found.index = handle()?,
            meta::FULL_FILTER => found.filter = handle()?,
            meta::RANGE_DELETIONS => found.range_deletions = handle()?,
            meta::COMPRESSION_DICTIONARY => found.has_dictionary = true,
            _ => {}
        }
    }
    Ok(found)
}

fn read_properties(
    file: &dyn RandomAccessFile,
    path: &Path,
    footer: &Footer,
    handle: Option<BlockHandle>,
) -> Result<TableProperties> {
    let handle = handle.ok_or_else(|| {
        Error::corrupt_at(CorruptionKind::Missing, path, footer.metaindex.offset, "the metaindex names no properties")
    })?;
    let mut stored = footer.read_stored(file, path, handle)?;
    if let Err(error) = footer.check(&stored, handle.offset) {
        // RocksDB 7.8 writes the sequence number of an ingested file into the block, and leaves the checksum.
        let payload = stored.len().saturating_sub(super::layout::TRAILER_LEN);
        let repaired = PlainEntries::value_offset(&stored[..payload], EXTERNAL_SEQUENCE).is_some_and(|at| {
            let mut zeroed = stored.clone();
            zeroed[at..].iter_mut().take(8).for_each(|byte| *byte = 0);
            footer.check(&zeroed, handle.offset).is_ok()
        });
        if !repaired {
            return Err(error.in_file(path, Some(handle.offset)));
        }
    }
    stored.truncate(stored.len().saturating_sub(super::layout::TRAILER_LEN));
    TableProperties::decode(&stored).map_err(|error| error.in_file(path, Some(handle.offset)))
}

fn refuse_unknown(path: &Path, footer: &Footer, properties: &TableProperties, meta: &Meta) -> Result<()> {
    match properties.index_type {
        None | Some(0 | 1 | 3) => {}
        Some(2) => return Err(refused(path, "a two-level (partitioned) index")),
        Some(other) => return Err(refused(path, &format!("index type {other}"))),
    }
    if meta.has_dictionary {
        return Err(refused(path, "a compression dictionary"));
    }
    if properties.range_deletions > 0 {
        return Err(refused(path, "range tombstones (DeleteRange)"));
    }
    if properties.merge_operands > 0 {
        return Err(refused(path, "merge operands"));
    }
    if properties.has_embedded_blobs {
        return Err(refused(path, "embedded blobs"));
    }
    if footer.format_version >= 7
        && let Some(manager) = properties.compression.as_deref().and_then(|text| text.split(';').next())
        && !manager.is_empty()
        && manager != "BuiltinV2"
    {
        return Err(refused(path, &format!("the compression manager {manager:?}")));
    }
    Ok(())
}

fn check_identity(context: &TableOpenContext, properties: &TableProperties) -> Result<()> {
    let name = context.order.name();
    if !properties.comparator.is_empty() && properties.comparator != name {
        return Err(Error::new(
            ErrorKind::NotSupported,
            format!(
                "{}: the table is in the order of comparator {:?}; this column family has {name:?}",
                context.path.display(),
                properties.comparator
            ),
        ));
    }
    let computed = unique_id(&properties.db_id, &properties.session_id, properties.original_file_number);
    match (context.unique_id, computed) {
        (Some(expected), Some(found)) if expected != found && expected != [0; 16] => Err(Error::corrupt_at(
            CorruptionKind::Misplaced,
            &context.path,
            0,
            "the table's unique id is not the one in MANIFEST: another file was put in its place",
        )),
        _ => Ok(()),
    }
}

fn global_sequence(context: &TableOpenContext, properties: &TableProperties) -> Result<Option<SequenceNumber>> {
    if properties.external_version != Some(2) {
        return Ok(None);
    }
    let stated = properties.external_sequence.unwrap_or(0);
    if stated != 0 && stated != context.largest_seq.0 {
        return Err(Error::corrupt_at(
            CorruptionKind::Misplaced,
            &context.path,
            0,
            format!("an ingested table with sequence number {stated}; MANIFEST says {}", context.largest_seq),
        ));
    }
    Ok(Some(context.largest_seq).filter(|sequence| *sequence != SequenceNumber::ZERO))
}
