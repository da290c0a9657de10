//! Writes one table file: data blocks, filter, index, properties, metaindex, footer.
//!
//! Written for speed: an entry costs its comparison with the last one, its prefix-compressed bytes, and one hash if
//! there is a filter. Nothing is allocated for an entry. Blocks gather in a buffer that goes to the file in large
//! appends.
//!
//! Invariants: (1) keys ascend strictly by the internal order; (2) a separator lies between the last key of its block
//! and the first key of the next; (3) the properties say what was written, counts above all: RocksDB refuses
//! compactions whose counts disagree. Source: RocksDB `table/block_based/block_based_table_builder.cc`.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::checksum::{ChecksumType, block_checksum, unique_id};
use crate::format::comparator::KeyOrder;
use crate::format::compression::{Compression, compress};
use crate::format::key::{
    ColumnFamilyId, FileNumber, ParsedKey, SequenceNumber, ValueKind, append_internal_key, user_key,
};
use crate::format::xxph3::hash64;
use crate::fs::WritableFile;

use super::block_builder::BlockBuilder;
use super::filter::bloom::BloomBuilder;
use super::layout::{BlockHandle, Footer, TRAILER_LEN, meta};
use super::properties::TableProperties;

/// Bytes gathered before they are handed to the file.
const WRITE_BYTES: usize = 256 * 1024;
/// A key or value is shorter than this: the block format has 32-bit lengths.
const ENTRY_BYTES_MAX: usize = 1 << 30;

/// How tables are written.
#[derive(Debug, Clone)]
pub(crate) struct TableConfig {
    pub(crate) block_size: usize,
    pub(crate) restart_interval: usize,
    pub(crate) index_restart_interval: usize,
    pub(crate) checksum: ChecksumType,
    pub(crate) compression: Compression,
    pub(crate) bloom_bits_per_key: Option<f64>,
    pub(crate) format_version: u32,
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
            format_version: 5,
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
    pub(crate) entries: u64,
    pub(crate) tail_size: u64,
    pub(crate) unique_id: Option<[u8; 16]>,
}

/// A table file in the making.
pub(crate) struct TableBuilder {
    file: Arc<dyn WritableFile>,
    config: TableConfig,
    context: TableBuildContext,
    block: BlockBuilder,
    filter: Option<BloomBuilder>,
    /// Separators as internal keys, one after the other, with their ends and handles.
    separators: Vec<u8>,
    index: Vec<(usize, BlockHandle)>,
    /// A block was ended, and its separator waits for the next key.
    pending: Option<BlockHandle>,
    needs_internal_separators: bool,
    /// The last key of the ended block.
    last_key: Vec<u8>,
    smallest: Vec<u8>,
    smallest_seq: SequenceNumber,
    largest_seq: SequenceNumber,
    buffer: Vec<u8>,
    /// Bytes handed to the file or in the buffer.
    offset: u64,
    compressed: Vec<u8>,
    properties: TableProperties,
}

impl TableBuilder {
    /// A builder that appends to `file`, which is empty.
    pub(crate) fn new(file: Arc<dyn WritableFile>, config: TableConfig, context: TableBuildContext) -> TableBuilder {
        TableBuilder {
            file,
            block: BlockBuilder::new(config.restart_interval),
            filter: config.bloom_bits_per_key.map(BloomBuilder::new),
            config,
            context,
            separators: Vec::new(),
            index: Vec::new(),
            pending: None,
            needs_internal_separators: false,
            last_key: Vec::new(),
            smallest: Vec::new(),
            smallest_seq: SequenceNumber::MAX,
            largest_seq: SequenceNumber::ZERO,
            buffer: Vec::with_capacity(WRITE_BYTES + 8192),
            offset: 0,
            compressed: Vec::new(),
            properties: TableProperties::default(),
        }
    }

    /// Bytes of the file so far, with the block that is being built.
    #[inline]
    pub(crate) fn estimated_size(&self) -> u64 {
        self.offset + self.block.size() as u64
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// `Internal` if the key does not sort after the last one; `Limit` for entries of more than 1 GiB; what the file
    /// says. The file is then to be thrown away.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let parsed = ParsedKey::parse(key)?;
        if key.len() > ENTRY_BYTES_MAX || value.len() > ENTRY_BYTES_MAX {
            return Err(Error::new(ErrorKind::Limit, "a table holds keys and values of at most 1 GiB"));
        }
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
                self.push_separator(Some(key), handle);
            }
        } else {
            self.smallest.extend_from_slice(key);
        }
        if let Some(filter) = &mut self.filter {
            filter.add_hash(hash64(parsed.user_key));
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

    fn end_block(&mut self) -> Result<()> {
        self.last_key.clear();
        self.last_key.extend_from_slice(self.block.last_key());
        let content = self.block.finish();
        let handle = write_block(
            &mut self.buffer,
            &mut self.offset,
            &self.config,
            self.config.compression,
            &mut self.compressed,
            content,
        )?;
        self.block.reset();
        self.properties.data_blocks += 1;
        self.pending = Some(handle);
        if self.buffer.len() >= WRITE_BYTES {
            self.hand_over()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Notes the separator of the ended block: at or after its last key, before `next`.
    fn push_separator(&mut self, next: Option<&[u8]>, handle: BlockHandle) {
        let last = user_key(&self.last_key);
        let shortened = match next {
            Some(next) if self.context.order.is_bytewise() => shortest_separator(last, user_key(next)),
            _ => None,
        };
        match shortened {
            // Sorts before every entry of its user key, which is in no block.
            Some(len) => {
                let start = self.separators.len();
                self.separators.extend_from_slice(&last[..len]);
                self.separators[start + len - 1] += 1;
                append_internal_key(&mut self.separators, &[], SequenceNumber::MAX, ValueKind::Value as u8);
            }
            None => {
                self.separators.extend_from_slice(&self.last_key);
                if next.is_some_and(|next| user_key(next) == last) {
                    self.needs_internal_separators = true;
                }
            }
        }
        self.index.push((self.separators.len(), handle));
    }

    /// Writes what is left and returns what the file is. Does not sync.
    pub(crate) fn finish(mut self) -> Result<BuiltTable> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        if let Some(handle) = self.pending.take() {
            self.push_separator(None, handle);
        }
        let tail_start = self.offset;
        let mut metaindex: Vec<(&str, BlockHandle)> = Vec::new();
        let mut filter_bytes = 0;
        let filter = self.filter.take().map(BloomBuilder::finish).filter(|filter| !filter.is_empty());
        if let Some(filter) = &filter {
            let handle = self.write_plain(filter)?;
            filter_bytes = handle.size;
            metaindex.push((meta::FULL_FILTER, handle));
        }
        let user_key_index = self.config.format_version >= 3 && !self.needs_internal_separators;
        let delta = self.config.format_version >= 4;
        let index = self.build_index(user_key_index, delta);
        let index_handle = write_block(
            &mut self.buffer,
            &mut self.offset,
            &self.config,
            self.config.compression,
            &mut self.compressed,
            &index,
        )?;
        self.describe(tail_start, index_handle.size, filter_bytes, user_key_index, delta);
        let properties = self.properties.encode();
        metaindex.push((meta::PROPERTIES, self.write_plain(&properties)?));
        metaindex.sort_unstable_by_key(|(name, _)| *name);
        let mut block = BlockBuilder::new(1);
        for (name, handle) in metaindex {
            let mut value = Vec::with_capacity(20);
            handle.encode(&mut value);
            block.add(name.as_bytes(), &value);
        }
        let content = block.finish().to_vec();
        let metaindex = self.write_plain(&content)?;
        let footer = Footer::encode(self.config.format_version, self.config.checksum, metaindex, index_handle);
        self.buffer.extend_from_slice(&footer);
        self.offset += footer.len() as u64;
        self.hand_over()?;
        let context = &self.context;
        Ok(BuiltTable {
            size: self.offset,
            smallest: self.smallest,
            largest: self.last_key,
            smallest_seq: if self.properties.entries == 0 { SequenceNumber::ZERO } else { self.smallest_seq },
            largest_seq: self.largest_seq,
            entries: self.properties.entries,
            tail_size: self.offset - tail_start,
            unique_id: unique_id(&context.db_id, &context.session_id, context.file_number.0),
        })
    }

    fn build_index(&self, user_key_index: bool, delta: bool) -> Vec<u8> {
        let mut block = BlockBuilder::new(self.config.index_restart_interval);
        let mut start = 0;
        let mut previous = BlockHandle::default();
        for (end, handle) in &self.index {
            let separator = &self.separators[start..*end];
            let key = if user_key_index { user_key(separator) } else { separator };
            if delta {
                block.add_delta(key, |is_shared, out| match is_shared {
                    true => {
                        crate::format::coding::put_signed_varint64(out, handle.size as i64 - previous.size as i64);
                    }
                    false => handle.encode(out),
                });
            } else {
                let mut value = Vec::with_capacity(20);
                handle.encode(&mut value);
                block.add(key, &value);
            }
            previous = *handle;
            start = *end;
        }
        block.finish().to_vec()
    }

    fn describe(&mut self, tail_start: u64, index_bytes: u64, filter_bytes: u64, user_key_index: bool, delta: bool) {
        let context = &self.context;
        let properties = &mut self.properties;
        properties.index_type = Some(0);
        properties.index_key_is_user_key = user_key_index;
        properties.index_value_is_delta_encoded = delta;
        properties.compression = Some(self.config.compression.property().to_owned());
        properties.whole_key_filtering = true;
        properties.comparator = context.order.name().to_owned();
        properties.data_bytes = tail_start;
        properties.index_bytes = index_bytes + TRAILER_LEN as u64;
        properties.filter_bytes = filter_bytes;
        if filter_bytes > 0 {
            properties.filter_policy = "bloomfilter".to_owned();
        }
        properties.family_id = context.family_id.0;
        properties.family_name = context.family_name.clone();
        properties.db_id = context.db_id.clone();
        properties.session_id = context.session_id.clone();
        properties.original_file_number = context.file_number.0;
        properties.creation_time = context.oldest_key_time;
        properties.oldest_key_time = context.oldest_key_time;
        properties.is_all_logged = context.is_all_logged;
        properties.file_creation_time = context.creation_time;
        properties.tail_start = tail_start;
    }

    /// Writes a block that is never compressed.
    fn write_plain(&mut self, content: &[u8]) -> Result<BlockHandle> {
        write_block(&mut self.buffer, &mut self.offset, &self.config, Compression::None, &mut self.compressed, content)
    }
}

fn write_block(
    buffer: &mut Vec<u8>,
    offset: &mut u64,
    config: &TableConfig,
    codec: Compression,
    scratch: &mut Vec<u8>,
    content: &[u8],
) -> Result<BlockHandle> {
    let is_compressed = codec != Compression::None && compress(codec, content, scratch)?;
    let (payload, kind) = if is_compressed { (&scratch[..], codec.to_byte()) } else { (content, 0) };
    let handle = BlockHandle { offset: *offset, size: payload.len() as u64 };
    buffer.extend_from_slice(payload);
    buffer.push(kind);
    buffer.extend_from_slice(&block_checksum(config.checksum, payload, kind).to_le_bytes());
    *offset += (payload.len() + TRAILER_LEN) as u64;
    Ok(handle)
}

/// The length of a prefix of `a` that, its last byte increased by one, lies after `a` and before `b`; `None` if there
/// is none that is shorter than `a`.
fn shortest_separator(a: &[u8], b: &[u8]) -> Option<usize> {
    let at = super::block_builder::shared_prefix(a, b);
    match (a.get(at), b.get(at)) {
        (Some(x), Some(y)) if at + 1 < a.len() && u16::from(*x) + 1 < u16::from(*y) => Some(at + 1),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_shortened_only_where_a_byte_fits_between() {
        assert_eq!(shortest_separator(b"abcdef", b"abq"), Some(3));
        assert_eq!(shortest_separator(b"abcdef", b"abd"), None);
        assert_eq!(shortest_separator(b"abc", b"abcd"), None);
        assert_eq!(shortest_separator(b"ab", b"b"), None);
        assert_eq!(shortest_separator(b"a\xff\xff", b"b"), None);
    }
}
