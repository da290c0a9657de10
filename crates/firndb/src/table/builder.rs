//! Writes one table file: data blocks, filter, index, properties, metaindex, footer.
//!
//! Flow: `flush` and `compaction` -> **[`TableBuilder`]** -> [`super::block_builder`], [`super::index_builder`],
//! [`super::filter`] -> [`super::block_writer`] -> the file.
//!
//! Written for speed: an entry costs its comparison with the last one, its prefix-compressed bytes, and one hash if
//! there is a filter. Nothing is allocated for an entry.
//!
//! Invariants: (1) keys ascend strictly by the internal order; (2) the properties say what was written, counts above all:
//! RocksDB refuses compactions whose counts disagree; (3) the parts of an index and those of a filter end with the same
//! data blocks. Source: RocksDB `table/block_based/block_based_table_builder.cc`.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{ChecksumType, unique_id};
use crate::format::comparator::KeyOrder;
use crate::format::compression::Compression;
use crate::format::key::{
    ColumnFamilyId, FileNumber, ParsedKey, SequenceNumber, ValueKind, exclusive_end, internal_key,
};
use crate::format::limits;
use crate::format::prefix::PrefixExtractor;
use crate::format::xxph3::hash64;
use crate::fs::WritableFile;
use crate::iter::range_tombstones::RangeTombstone;

use super::block_builder::BlockBuilder;
use super::block_writer::BlockWriter;
use super::filter::builder::{FilterBuilder, FilterConfig};
use super::index_builder::{IndexBuilder, IndexEncoding};
use super::layout::{BlockHandle, Footer, meta};
use super::properties::{TableCounts, TableProperties};
use super::range_block;

/// How tables are written.
#[derive(Debug, Clone)]
pub(crate) struct TableConfig {
    pub(crate) block_size: usize,
    pub(crate) restart_interval: usize,
    pub(crate) index_restart_interval: usize,
    pub(crate) checksum: ChecksumType,
    pub(crate) compression: Compression,
    pub(crate) bloom_bits_per_key: Option<f64>,
    /// Ribbon filters instead of Bloom filters.
    pub(crate) is_ribbon: bool,
    pub(crate) whole_key_filtering: bool,
    pub(crate) prefixes: Option<PrefixExtractor>,
    /// Bytes of a part of an index of two levels; `None` for a plain index.
    pub(crate) index_part_bytes: Option<usize>,
    /// The filter is cut as the index is, if that is.
    pub(crate) partition_filters: bool,
    pub(crate) format_version: u32,
    /// The creation time in the properties is that of the newest entry: RocksDB's FIFO families go by it.
    pub(crate) is_dated_by_newest: bool,
    /// The name of the family's merge operator; empty: none.
    pub(crate) merge_operator: String,
}

impl TableConfig {
    fn filter(&self) -> Option<FilterConfig> {
        let (has_whole_keys, prefixes) = (self.whole_key_filtering, self.prefixes);
        let bits_per_key = self.bloom_bits_per_key.filter(|_| has_whole_keys || prefixes.is_some())?;
        Some(FilterConfig { bits_per_key, is_ribbon: self.is_ribbon, has_whole_keys, prefixes })
    }
}

impl Default for TableConfig {
    fn default() -> Self {
        TableConfig {
            block_size: 4096,
            restart_interval: 16,
            index_restart_interval: 1,
            checksum: ChecksumType::Xxh3,
            compression: Compression::None,
            bloom_bits_per_key: None,
            is_ribbon: false,
            whole_key_filtering: true,
            prefixes: None,
            index_part_bytes: None,
            partition_filters: false,
            format_version: 5,
            is_dated_by_newest: false,
            merge_operator: String::new(),
        }
    }
}

/// Whose table it is.
#[derive(Debug, Clone)]
pub(crate) struct TableBuildContext {
    pub(crate) order: KeyOrder,
    pub(crate) family_id: ColumnFamilyId,
    pub(crate) family_name: String,
    pub(crate) file_number: FileNumber,
    pub(crate) db_id: String,
    pub(crate) session_id: String,
    /// Unix seconds of the oldest data in it, and of now.
    pub(crate) oldest_key_time: u64,
    pub(crate) creation_time: u64,
    /// Every entry was in a log.
    pub(crate) is_all_logged: bool,
}

/// What was written.
#[derive(Debug, Clone)]
pub(crate) struct BuiltTable {
    pub(crate) size: u64,
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) smallest_seq: SequenceNumber,
    pub(crate) largest_seq: SequenceNumber,
    pub(crate) counts: TableCounts,
    pub(crate) tail_size: u64,
    pub(crate) unique_id: Option<[u8; 16]>,
}

/// A table file in the making.
pub(crate) struct TableBuilder {
    writer: BlockWriter,
    config: TableConfig,
    context: TableBuildContext,
    base_context: u32,
    block: BlockBuilder,
    filter: Option<FilterBuilder>,
    index: IndexBuilder,
    /// Ascending by begin, the newest first.
    range_tombstones: Vec<RangeTombstone>,
    /// A block was ended, and its separator waits for the next key.
    pending: Option<BlockHandle>,
    /// The last key of the ended block.
    last_key: Vec<u8>,
    smallest: Vec<u8>,
    smallest_seq: SequenceNumber,
    largest_seq: SequenceNumber,
    properties: TableProperties,
}

impl TableBuilder {
    /// A builder that appends to `file`, which is empty.
    pub(crate) fn new(file: Arc<dyn WritableFile>, config: TableConfig, context: TableBuildContext) -> TableBuilder {
        // Not 0, and another one for each file: a block that comes to lie in another file or place is known by it.
        let base_context = match config.format_version {
            ..6 => 0,
            _ => hash64(format!("{} {}", context.session_id, context.file_number).as_bytes()) as u32 | 1,
        };
        TableBuilder {
            writer: BlockWriter::new(file, config.checksum, base_context),
            block: BlockBuilder::new(config.restart_interval),
            filter: config.filter().map(FilterBuilder::new),
            config,
            context,
            base_context,
            index: IndexBuilder::default(),
            range_tombstones: Vec::new(),
            pending: None,
            last_key: Vec::new(),
            smallest: Vec::new(),
            smallest_seq: SequenceNumber::MAX,
            largest_seq: SequenceNumber::ZERO,
            properties: TableProperties { older_versions: Some(0), ..TableProperties::default() },
        }
    }

    /// Bytes of the file so far, with the block that is being built.
    #[inline]
    pub(crate) fn estimated_size(&self) -> u64 {
        self.writer.offset() + self.block.size() as u64
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `Internal` if the key does not sort after the last one; `Limit` for keys and values that are too long; what the file
    /// says. The file is then to be thrown away.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let parsed = ParsedKey::parse(key)?;
        limits::check_entry(parsed.user_key, value)?;
        if self.properties.entries > 0 {
            let last = if self.block.is_empty() { &self.last_key[..] } else { self.block.last_key() };
            if self.context.order.compare_internal(last, key) != Ordering::Less {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("table {}: a key that does not sort after the one before it", self.context.file_number),
                ));
            }
            let size = self.block.size();
            let grown = size + key.len() + value.len() + 8;
            let limit = self.config.block_size;
            if !self.block.is_empty() && (size >= limit || (grown > limit && size * 10 > limit * 9)) {
                self.end_block()?;
            }
            if let Some(handle) = self.pending.take() {
                self.index.push(&self.context.order, &self.last_key, Some(key), handle);
            }
        } else {
            self.smallest.extend_from_slice(key);
        }
        if let Some(filter) = &mut self.filter {
            filter.add(parsed.user_key);
        }
        self.block.add(key, value);
        self.smallest_seq = self.smallest_seq.min(parsed.sequence);
        self.largest_seq = self.largest_seq.max(parsed.sequence);
        let properties = &mut self.properties;
        properties.entries += 1;
        properties.raw_key_bytes += key.len() as u64;
        properties.raw_value_bytes += value.len() as u64;
        match parsed.kind {
            ValueKind::Deletion | ValueKind::SingleDeletion => properties.deletions += 1,
            ValueKind::Merge => properties.merge_operands += 1,
            _ => {}
        }
        Ok(())
    }

    /// The key added last.
    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        let last = if self.block.is_empty() { &self.last_key[..] } else { self.block.last_key() };
        (self.properties.entries > 0).then_some(last)
    }

    /// Notes that the entry added last is there beside a newer one of its key.
    #[inline]
    pub(crate) fn count_older_version(&mut self) {
        *self.properties.older_versions.get_or_insert(0) += 1;
    }

    /// Adds a range tombstone, which holds at least one key: ascending by begin, the newest first; before, between or after
    /// the entries.
    pub(crate) fn add_range_tombstone(&mut self, tombstone: RangeTombstone) {
        debug_assert!(self.context.order.compare(&tombstone.begin, &tombstone.end).is_lt(), "it holds a key");
        self.range_tombstones.push(tombstone);
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.properties.entries == 0 && self.range_tombstones.is_empty()
    }

    /// Writes the range tombstones, if there are any, and counts them in; the bounds of the table go as far as they do.
    fn end_range_tombstones(&mut self) -> Result<Option<BlockHandle>> {
        if self.range_tombstones.is_empty() {
            return Ok(None);
        }
        let tombstones = std::mem::take(&mut self.range_tombstones);
        let handle = self.writer.write(&range_block::encode(&tombstones), Compression::None)?;
        let order = self.context.order.clone();
        for tombstone in &tombstones {
            let begin = internal_key(&tombstone.begin, tombstone.sequence, ValueKind::RangeDeletion as u8);
            let end = exclusive_end(&tombstone.end);
            let properties = &mut self.properties;
            properties.raw_key_bytes += begin.len() as u64;
            properties.raw_value_bytes += tombstone.end.len() as u64;
            self.smallest_seq = self.smallest_seq.min(tombstone.sequence);
            self.largest_seq = self.largest_seq.max(tombstone.sequence);
            if self.smallest.is_empty() || order.compare_internal(&begin, &self.smallest).is_lt() {
                self.smallest = begin;
            }
            if self.last_key.is_empty() || order.compare_internal(&end, &self.last_key).is_gt() {
                self.last_key = end;
            }
        }
        let count = tombstones.len() as u64;
        let properties = &mut self.properties;
        properties.entries += count;
        properties.deletions += count;
        properties.range_deletions += count;
        Ok(Some(handle))
    }

    fn end_block(&mut self) -> Result<()> {
        self.last_key.clear();
        self.last_key.extend_from_slice(self.block.last_key());
        self.pending = Some(self.writer.write(self.block.finish(), self.config.compression)?);
        self.block.reset();
        self.properties.data_blocks += 1;
        if let Some(filter) = &mut self.filter {
            filter.end_block();
        }
        Ok(())
    }

    /// Writes what is left and returns what the file is. Does not sync.
    pub(crate) fn finish(mut self) -> Result<BuiltTable> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        if let Some(handle) = self.pending.take() {
            self.index.push(&self.context.order, &self.last_key, None, handle);
        }
        let tail_start = self.writer.offset();
        let encoding = self.index.encoding(self.config.format_version, self.config.index_restart_interval);
        let parts = self.parts();
        let mut metaindex: Vec<(&str, BlockHandle)> = Vec::new();
        metaindex.extend(self.write_filter(&parts, encoding)?);
        let index = self.write_index(&parts, encoding)?;
        if let Some(handle) = self.end_range_tombstones()? {
            metaindex.push((meta::RANGE_DELETIONS, handle));
        }
        self.describe(tail_start, encoding);
        let properties = self.properties.encode();
        metaindex.push((meta::PROPERTIES, self.writer.write(&properties, Compression::None)?));
        if self.config.format_version >= 6 {
            metaindex.push((meta::INDEX, index));
        }
        metaindex.sort_unstable_by_key(|(name, _)| *name);
        let mut block = BlockBuilder::new(1);
        for (name, handle) in metaindex {
            let mut value = Vec::with_capacity(20);
            handle.encode(&mut value);
            block.add(name.as_bytes(), &value);
        }
        let metaindex = self.writer.write(block.finish(), Compression::None)?;
        let footer = Footer {
            format_version: self.config.format_version,
            checksum: self.config.checksum,
            metaindex,
            index: Some(index),
            base_context: self.base_context,
            offset: self.writer.offset(),
        };
        self.writer.end(&footer.encode())?;
        let context = &self.context;
        Ok(BuiltTable {
            size: self.writer.offset(),
            smallest: self.smallest,
            largest: self.last_key,
            smallest_seq: if self.properties.entries == 0 { SequenceNumber::ZERO } else { self.smallest_seq },
            largest_seq: self.largest_seq,
            counts: self.properties.counts(),
            tail_size: self.writer.offset() - tail_start,
            unique_id: unique_id(&context.db_id, &context.session_id, context.file_number.0),
        })
    }

    /// The parts that the index is cut into; none if it is a plain one.
    fn parts(&self) -> Vec<Range<usize>> {
        let Some(bytes) = self.config.index_part_bytes else { return Vec::new() };
        let filter = self.filter.as_ref().filter(|_| self.config.partition_filters);
        self.index.cut(bytes, |blocks| filter.is_some_and(|filter| filter.part_bytes(blocks) >= bytes))
    }

    /// Writes the filter, and says where it is and by which name it is found; `None` if there is none.
    fn write_filter(
        &mut self,
        parts: &[Range<usize>],
        encoding: IndexEncoding,
    ) -> Result<Option<(&'static str, BlockHandle)>> {
        let Some(filter) = self.filter.take() else { return Ok(None) };
        self.properties.filter_entries = filter.entries();
        let start = self.writer.offset();
        let found = if self.config.partition_filters && !parts.is_empty() {
            let write = |part: &Range<usize>| self.writer.write(&filter.part(part.clone()), Compression::None);
            let handles = parts.iter().map(write).collect::<Result<Vec<_>>>()?;
            let top = self.index.encode_top(parts, &handles, encoding);
            (meta::FILTER_PARTS, self.writer.write(&top, Compression::None)?)
        } else {
            let whole = filter.whole();
            if whole.is_empty() {
                return Ok(None);
            }
            (meta::FULL_FILTER, self.writer.write(&whole, Compression::None)?)
        };
        self.properties.filter_bytes = self.writer.offset() - start;
        Ok(Some(found))
    }

    /// Writes the index.
    fn write_index(&mut self, parts: &[Range<usize>], encoding: IndexEncoding) -> Result<BlockHandle> {
        let (start, codec) = (self.writer.offset(), self.config.compression);
        let handle = if parts.is_empty() {
            self.properties.index_type = Some(0);
            self.writer.write(&self.index.encode(0..self.index.len(), encoding), codec)?
        } else {
            let write = |part: &Range<usize>| self.writer.write(&self.index.encode(part.clone(), encoding), codec);
            let handles = parts.iter().map(write).collect::<Result<Vec<_>>>()?;
            let top = self.writer.write(&self.index.encode_top(parts, &handles, encoding), codec)?;
            self.properties.index_type = Some(2);
            self.properties.index_partitions = parts.len() as u64;
            self.properties.top_level_index_bytes = top.size;
            top
        };
        self.properties.index_bytes = self.writer.offset() - start;
        Ok(handle)
    }

    fn describe(&mut self, tail_start: u64, encoding: IndexEncoding) {
        let context = &self.context;
        let properties = &mut self.properties;
        properties.merge_operator.clone_from(&self.config.merge_operator);
        properties.index_key_is_user_key = encoding.has_user_keys;
        properties.index_value_is_delta_encoded = encoding.is_delta_encoded;
        properties.compression = Some(match (self.config.format_version, self.config.compression) {
            (..7, codec) => codec.property().to_owned(),
            (_, Compression::None) => ";;".to_owned(),
            (_, codec) => format!("BuiltinV2;{:02X};", codec.to_byte()),
        });
        properties.whole_key_filtering = self.config.whole_key_filtering;
        properties.prefix_filtering = self.config.prefixes.is_some();
        properties.prefix_extractor = self.config.prefixes.map(|prefixes| prefixes.to_string());
        properties.comparator = context.order.name().to_owned();
        properties.data_bytes = tail_start;
        if properties.filter_bytes > 0 {
            properties.filter_policy = if self.config.is_ribbon { "ribbonfilter" } else { "bloomfilter" }.to_owned();
        }
        properties.family_id = context.family_id.0;
        properties.family_name = context.family_name.clone();
        properties.db_id = context.db_id.clone();
        properties.session_id = context.session_id.clone();
        properties.original_file_number = context.file_number.0;
        properties.creation_time =
            if self.config.is_dated_by_newest { context.creation_time } else { context.oldest_key_time };
        properties.oldest_key_time = context.oldest_key_time;
        properties.is_all_logged = context.is_all_logged;
        properties.file_creation_time = context.creation_time;
        properties.tail_start = tail_start;
    }
}
