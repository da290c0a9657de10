//! Opens a table file once and answers lookups from it.
//!
//! Opening reads the footer, the metaindex, the properties, the filter and the index, all checked; after that a lookup
//! is: filter, index bisection, one slot load, in-block search. Data blocks come through the slots of the block cache.
//!
//! What this version cannot read is refused by name when the table is opened, never guessed. Threads: everything is
//! `&self` and lock-free while blocks are cached.

use std::path::Path;
use std::sync::Arc;

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::checksum::{ChecksumType, unique_id};
use crate::format::coding::Reader;
use crate::format::comparator::KeyOrder;
use crate::format::compression::{Compression, Dictionary};
use crate::format::key::{SEEK_KIND, SequenceNumber, ValueKind, pack_trailer, trailer_sequence};
use crate::format::prefix::PrefixExtractor;
use crate::fs::RandomAccessFile;
use crate::iter::range_tombstones::RangeTombstones;
use crate::metrics::Ticker;

use super::block::{Block, BlockSlice, Lookup, PlainEntries};
use super::filter::{FilterReader, KeyHash};
use super::filters::{FilterForm, FilterParts, Filters, prefixes_of};
use super::index::{Index, IndexForm};
use super::layout::{BlockHandle, Footer, meta};
use super::parts::{Part, Parts, TwoLevels};
use super::properties::{EXTERNAL_SEQUENCE, TableCounts, TableProperties};
use super::range_block;
pub(crate) use super::reader_options::{TableOpenContext, TableReadOptions};
use super::source::Source;

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
    pub(super) source: Source,
    pub(super) parts: Parts,
    pub(super) filters: Filters,
    /// Prefixes of keys that its filter has.
    pub(super) prefixes: Option<PrefixExtractor>,
    properties: TableProperties,
    /// The sequence number of every entry, if the file was ingested.
    pub(super) global_sequence: Option<SequenceNumber>,
    /// Within the table's bounds; `None` if there are none.
    range_tombstones: Option<Arc<RangeTombstones>>,
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TableReader({})", self.source.context.path.display())
    }
}

struct Meta {
    properties: Option<BlockHandle>,
    index: Option<BlockHandle>,
    filter: Option<BlockHandle>,
    filter_parts: Option<BlockHandle>,
    range_deletions: Option<BlockHandle>,
    dictionary: Option<BlockHandle>,
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
        let Front { footer, meta, properties, range_tombstones } = front;
        let global_sequence = global_sequence(&context, &properties)?;
        let dictionary = match meta.dictionary {
            Some(handle) => {
                let bytes = footer.read_block(&*file, &context.path, handle, true)?;
                // A file whose codecs are not said, or are several, may have blocks of zstd.
                let codec = properties.compression.as_deref().unwrap_or_default();
                let others = ["NoCompression", "Snappy", "Zlib", "BZip2", "LZ4", "LZ4HC"];
                Some(Dictionary::new(bytes, !others.contains(&codec)))
            }
            None => None,
        };
        let source = Source { file, context, footer, dictionary };
        let range_tombstones = match range_tombstones {
            Some((handle, block)) => {
                let context = &source.context;
                let cut = range_block::decode(&block, global_sequence)
                    .and_then(|all| range_block::truncated(&context.order, all, context.bounds.as_ref()))
                    .map_err(|error| source.at(error, handle.offset))?;
                Some(Arc::new(cut)).filter(|cut| !cut.is_empty())
            }
            None => None,
        };
        let form = IndexForm::of(&properties);
        let index = read_index(&source, index_handle, form)?;
        let parts = match properties.index_type {
            Some(2) => Parts::Many(TwoLevels::new(index, form, &source)),
            _ => Parts::One(Part::new(index, &source)),
        };
        let form = match (meta.filter, meta.filter_parts) {
            (Some(handle), _) => Some(FilterForm::Full(FilterReader::parse(read_always(&source, handle)?))),
            (None, Some(handle)) => {
                let top = read_index(&source, handle, form.without_first_keys())?;
                Some(FilterForm::Parts(FilterParts::new(top, &source)))
            }
            (None, None) => None,
        };
        let filters = form.map_or(Filters::None, |form| Filters::new(form, &properties));
        let prefixes = prefixes_of(&properties).filter(|_| !matches!(filters, Filters::None));
        source.context.statistics.add(Ticker::NoFileOpens, 1);
        Ok(Arc::new(TableReader { source, parts, filters, prefixes, properties, global_sequence, range_tombstones }))
    }

    /// The table's range tombstones, within its bounds; `None` if it has none.
    #[inline]
    pub(crate) fn range_tombstones(&self) -> Option<&Arc<RangeTombstones>> {
        self.range_tombstones.as_ref()
    }

    pub(crate) fn properties(&self) -> &TableProperties {
        &self.properties
    }

    /// The format_version, and the checksum of blocks.
    pub(crate) fn form(&self) -> (u32, ChecksumType) {
        (self.source.footer.format_version, self.source.footer.checksum)
    }

    pub(crate) fn order(&self) -> &KeyOrder {
        &self.source.context.order
    }

    /// Bytes of memory beside what is cached: index and filter, or their upper levels, range tombstones, the dictionary.
    pub(crate) fn memory(&self) -> usize {
        let tombstones = self.range_tombstones.as_ref().map_or(0, |tombstones| tombstones.memory());
        let dictionary = self.source.dictionary.as_ref().map_or(0, Dictionary::memory);
        self.parts.memory() + self.filters.memory() + tombstones + dictionary
    }

    /// False only if no version of the key is in the table, as far as that is known without a read.
    #[inline(always)]
    pub(crate) fn may_contain(&self, user_key: &[u8], hash: &mut KeyHash) -> bool {
        match &self.filters {
            Filters::Full(filter) => self.counted(filter.may_contain(user_key, hash)),
            _ => true,
        }
    }

    #[inline]
    fn counted(&self, may_contain: bool) -> bool {
        match may_contain {
            true => {
                self.source.context.statistics.add(Ticker::BloomFilterFullPositive, 1);
                true
            }
            false => {
                self.source.context.statistics.add(Ticker::BloomFilterUseful, 1);
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
        match (&self.parts, &self.filters) {
            (Parts::One(part), Filters::None | Filters::Full(_)) => {
                Ok(self.get_in(part, user_key, seek, options)?.unwrap_or(None))
            }
            _ => self.get_in_parts(user_key, seek, hash, options),
        }
    }

    /// The way of tables whose index or filter has parts.
    #[cold]
    fn get_in_parts(
        &self,
        user_key: &[u8],
        seek: u64,
        hash: &mut KeyHash,
        options: &TableReadOptions,
    ) -> Result<Option<TableHit>> {
        if let Filters::Other(filter) = &self.filters
            && !self.counted(filter.may_contain(&self.source, (user_key, seek), hash, options)?)
        {
            return Ok(None);
        }
        let levels = match &self.parts {
            Parts::One(part) => return Ok(self.get_in(part, user_key, seek, options)?.unwrap_or(None)),
            Parts::Many(levels) => levels,
        };
        let mut number = levels.top.find(self.order(), user_key, seek);
        while number < levels.top.len() {
            let found =
                levels.with(&self.source, number, options, |part| self.get_in(part, user_key, seek, options))?;
            match found {
                Ok(hit) => return Ok(hit),
                // Older versions of the key may be in the next part.
                Err(AtEnd) => number += 1,
            }
        }
        Ok(None)
    }

    /// Looks into the blocks of a part; `Err(AtEnd)` if what follows in the next part may be of the key. Always inlined: what
    /// it returns is large, and nearly all tables have one part.
    #[inline(always)]
    fn get_in(
        &self,
        part: &Part,
        user_key: &[u8],
        seek: u64,
        options: &TableReadOptions,
    ) -> Result<std::result::Result<Option<TableHit>, AtEnd>> {
        let order = self.order();
        let mut index = part.index.find(order, user_key, seek);
        while index < part.index.len() {
            if let Some(block) = part.blocks.load(index)
                && let Some(block) = &*block
            {
                self.source.context.statistics.add(Ticker::BlockCacheHit, 1);
                match self.look_up(block, order, user_key, seek)? {
                    Ok(hit) => return Ok(Ok(hit)),
                    Err(AtEnd) if part.index.is_split(order, index, user_key) => index += 1,
                    Err(AtEnd) => return Ok(Ok(None)),
                }
                continue;
            }
            let block = self.read_block(part, index, options)?;
            match self.look_up(&block, order, user_key, seek)? {
                Ok(hit) => return Ok(Ok(hit)),
                Err(AtEnd) if part.index.is_split(order, index, user_key) => index += 1,
                Err(AtEnd) => return Ok(Ok(None)),
            }
        }
        Ok(Err(AtEnd))
    }

    /// Looks into one block; `Err(AtEnd)` if everything in it is before the key.
    #[inline]
    fn look_up(
        &self,
        block: &Arc<Block>,
        order: &KeyOrder,
        user_key: &[u8],
        seek: u64,
    ) -> Result<std::result::Result<Option<TableHit>, AtEnd>> {
        match block.get(order, user_key, seek).map_err(|error| self.source.at(error, block.offset))? {
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
        Error::corrupt_at(CorruptionKind::BadMagic, &self.source.context.path, offset, what)
    }

    #[inline]
    pub(super) fn cached(&self, part: &Part, index: usize) -> Option<Arc<Block>> {
        let block = part.blocks.load(index).and_then(|guard| guard.as_ref().map(Arc::clone));
        if block.is_some() {
            self.source.context.statistics.add(Ticker::BlockCacheHit, 1);
        }
        block
    }

    #[cold]
    fn read_block(&self, part: &Part, index: usize, options: &TableReadOptions) -> Result<Arc<Block>> {
        let stored = self.source.stored(part.index.handle(index))?;
        self.admit(part, index, stored, options)
    }

    /// Makes a block of its stored bytes, and puts it into the cache if asked.
    pub(super) fn admit(
        &self,
        part: &Part,
        index: usize,
        stored: Vec<u8>,
        options: &TableReadOptions,
    ) -> Result<Arc<Block>> {
        self.source.context.statistics.add(Ticker::BlockCacheMiss, 1);
        let block = Arc::new(self.source.data_block(part.index.handle(index), stored, options)?);
        if options.fill_cache {
            part.blocks.insert(index, &block);
        }
        Ok(block)
    }
}

/// Reads a block that an open table cannot do without: always checked.
fn read_always(source: &Source, handle: BlockHandle) -> Result<Vec<u8>> {
    source.footer.read_block(&*source.file, &source.context.path, handle, true)
}

fn read_index(source: &Source, handle: BlockHandle, form: IndexForm) -> Result<Index> {
    let block = read_always(source, handle)?;
    Index::parse(&block, form, &source.context.order, &source.footer).map_err(|error| source.at(error, handle.offset))
}

/// What opening a table reads first, and what tells whether this version can read the rest.
struct Front {
    footer: Footer,
    meta: Meta,
    properties: TableProperties,
    range_tombstones: Option<(BlockHandle, Vec<u8>)>,
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
        let mut properties = read_properties(file, path, &footer, meta.properties)?;
        refuse_unknown(path, &footer, &properties)?;
        check_identity(context, &properties)?;
        let mut range_tombstones = None;
        if let Some(handle) = meta.range_deletions {
            let block = footer.read_block(file, path, handle, true)?;
            let entries = PlainEntries::new(&block).map_err(|error| error.in_file(path, Some(handle.offset)))?;
            // The first releases with range tombstones did not count them.
            properties.range_deletions = entries.count() as u64;
            range_tombstones = (properties.range_deletions > 0).then_some((handle, block));
        }
        Ok(Front { footer, meta, properties, range_tombstones })
    }

    fn index(&self, path: &Path) -> Result<BlockHandle> {
        let none = "the metaindex names no index";
        let missing = || Error::corrupt_at(CorruptionKind::Missing, path, self.footer.metaindex.offset, none);
        self.footer.index.or(self.meta.index).ok_or_else(missing)
    }
}

/// Looks at as much of a table as tells whether this build reads it, and what it holds, but not at its index and filter.
///
/// # Errors
/// As of [`TableReader::open`].
pub(crate) fn examine(file: &dyn RandomAccessFile, size: u64, context: &TableOpenContext) -> Result<TableCounts> {
    let front = Front::read(file, size, context)?;
    // Before version 2 a compressed block did not say how long it was, and is not read.
    let has_sizes = front.footer.format_version >= 2;
    if has_sizes && front.properties.compression.as_deref().is_some_and(Compression::are_readable) {
        return Ok(front.properties.counts());
    }
    // The index has the codec that the data has.
    front.footer.read_block(file, &context.path, front.index(&context.path)?, true)?;
    Ok(front.properties.counts())
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
    let mut found = Meta {
        properties: None,
        index: None,
        filter: None,
        filter_parts: None,
        range_deletions: None,
        dictionary: None,
    };
    for entry in PlainEntries::new(block)? {
        let (name, value) = entry?;
        let handle = || BlockHandle::decode(&mut Reader::new(value)).map(Some);
        match std::str::from_utf8(&name).unwrap_or_default() {
            // The first name is the one that LevelDB and the first RocksDBs used.
            "rocksdb.stats" if found.properties.is_none() => found.properties = handle()?,
            meta::PROPERTIES => found.properties = handle()?,
            meta::INDEX => found.index = handle()?,
            meta::FULL_FILTER => found.filter = handle()?,
            meta::FILTER_PARTS => found.filter_parts = handle()?,
            meta::RANGE_DELETIONS => found.range_deletions = handle()?,
            meta::COMPRESSION_DICTIONARY => found.dictionary = handle()?,
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

fn refuse_unknown(path: &Path, footer: &Footer, properties: &TableProperties) -> Result<()> {
    match properties.index_type {
        None | Some(0..=3) => {}
        Some(other) => return Err(refused(path, &format!("index type {other}"))),
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
