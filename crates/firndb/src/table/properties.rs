//! Table properties: what a table says of itself.
//!
//! Source: RocksDB `table/table_properties.cc`. Absent properties have their default; unknown ones are ignored.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::coding::{Reader, put_varint64, u32_at, u64_at};

use super::block::PlainEntries;
use super::block_builder::BlockBuilder;

/// The properties that FirnDB reads or writes, with RocksDB's names without their prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableProperties {
    /// 0 binary search, 1 hash, 2 two-level, 3 binary search with first key; `None` if it is not said.
    pub(crate) index_type: Option<u32>,
    pub(crate) index_key_is_user_key: bool,
    pub(crate) index_value_is_delta_encoded: bool,
    pub(crate) compression: Option<String>,
    pub(crate) compression_options: String,
    /// Whole keys are in the filter; prefixes are, if there is an extractor.
    pub(crate) whole_key_filtering: bool,
    pub(crate) prefix_filtering: bool,
    pub(crate) prefix_extractor: Option<String>,
    pub(crate) comparator: String,
    pub(crate) entries: u64,
    pub(crate) deletions: u64,
    pub(crate) range_deletions: u64,
    pub(crate) merge_operands: u64,
    /// Empty: none.
    pub(crate) merge_operator: String,
    pub(crate) raw_key_bytes: u64,
    pub(crate) raw_value_bytes: u64,
    pub(crate) data_blocks: u64,
    pub(crate) data_bytes: u64,
    pub(crate) index_bytes: u64,
    pub(crate) filter_bytes: u64,
    /// Of an index of two levels: its parts, and the bytes of the upper level.
    pub(crate) index_partitions: u64,
    pub(crate) top_level_index_bytes: u64,
    pub(crate) filter_entries: u64,
    pub(crate) filter_policy: String,
    pub(crate) family_id: u32,
    pub(crate) family_name: String,
    pub(crate) db_id: String,
    pub(crate) session_id: String,
    pub(crate) original_file_number: u64,
    pub(crate) creation_time: u64,
    pub(crate) oldest_key_time: u64,
    pub(crate) file_creation_time: u64,
    pub(crate) tail_start: u64,
    /// Of files that were ingested; section 8 of the format.
    pub(crate) external_version: Option<u32>,
    pub(crate) external_sequence: Option<u64>,
    pub(crate) has_embedded_blobs: bool,
    /// Forms that not all releases of RocksDB read.
    pub(crate) has_values_apart: bool,
    pub(crate) uniform_blocks: u64,
    pub(crate) has_decoupled_filters: bool,
    pub(crate) has_times_in_memtables_only: bool,
    /// Ours: every entry was in a log before it was in a table.
    pub(crate) is_all_logged: bool,
    /// Ours: entries that are in the table beside a newer one of their key, since a snapshot saw them. `None` if the
    /// writer did not count them.
    pub(crate) older_versions: Option<u64>,
}

/// What a table's entries are, as far as it matters for picking compactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TableCounts {
    pub(crate) entries: u64,
    /// Range tombstones are among them, as among the entries.
    pub(crate) deletions: u64,
    pub(crate) range_deletions: u64,
    /// See [`TableProperties::older_versions`].
    pub(crate) older_versions: Option<u64>,
    pub(crate) key_bytes: u64,
    pub(crate) value_bytes: u64,
}

const PREFIX: &str = "rocksdb.";
/// Ours; for RocksDB it is one that a user's collector made.
const ALL_LOGGED: &str = "firndb.all.logged";
/// As the one above.
const OLDER_VERSIONS: &str = "firndb.older.versions";
/// The property that 7.8 rewrites in place.
pub(crate) const EXTERNAL_SEQUENCE: &[u8] = b"rocksdb.external_sst_file.global_seqno";

impl TableProperties {
    /// The block's content.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut all: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut put = |name: &str, value: Vec<u8>| {
            all.insert(format!("{PREFIX}{name}"), value);
        };
        let number = |value: u64| {
            let mut out = Vec::with_capacity(10);
            put_varint64(&mut out, value);
            out
        };
        let flag = |value: bool| vec![if value { b'1' } else { b'0' }];
        put("block.based.table.index.type", self.index_type.unwrap_or(0).to_le_bytes().to_vec());
        put("block.based.table.whole.key.filtering", flag(self.whole_key_filtering));
        put("block.based.table.prefix.filtering", flag(self.prefix_filtering));
        put("index.key.is.user.key", number(u64::from(self.index_key_is_user_key)));
        put("index.value.is.delta.encoded", number(u64::from(self.index_value_is_delta_encoded)));
        for (name, text) in [
            ("compression", self.compression.as_deref().unwrap_or("NoCompression")),
            ("compression_options", &self.compression_options),
            ("prefix.extractor.name", self.prefix_extractor.as_deref().unwrap_or("nullptr")),
            ("comparator", &self.comparator),
            ("column.family.name", &self.family_name),
            ("creating.db.identity", &self.db_id),
            ("creating.session.identity", &self.session_id),
            ("property.collectors", "[]"),
            ("merge.operator", if self.merge_operator.is_empty() { "nullptr" } else { &self.merge_operator }),
        ] {
            if !text.is_empty() {
                put(name, text.as_bytes().to_vec());
            }
        }
        if !self.filter_policy.is_empty() {
            put("filter.policy", self.filter_policy.as_bytes().to_vec());
        }
        for (name, value) in [
            ("num.entries", self.entries),
            ("num.filter_entries", self.filter_entries),
            ("deleted.keys", self.deletions),
            ("num.range-deletions", self.range_deletions),
            ("merge.operands", self.merge_operands),
            ("raw.key.size", self.raw_key_bytes),
            ("raw.value.size", self.raw_value_bytes),
            ("num.data.blocks", self.data_blocks),
            ("data.size", self.data_bytes),
            ("index.size", self.index_bytes),
            ("filter.size", self.filter_bytes),
            ("column.family.id", u64::from(self.family_id)),
            ("original.file.number", self.original_file_number),
            ("creation.time", self.creation_time),
            ("oldest.key.time", self.oldest_key_time),
            ("file.creation.time", self.file_creation_time),
            ("tail.start.offset", self.tail_start),
            ("format.version", 0),
            ("fixed.key.length", 0),
            ("index.partitions", self.index_partitions),
            ("top-level.index.size", self.top_level_index_bytes),
        ] {
            put(name, number(value));
        }
        if self.is_all_logged {
            all.insert(ALL_LOGGED.to_owned(), flag(true));
        }
        if let Some(count) = self.older_versions {
            all.insert(OLDER_VERSIONS.to_owned(), number(count));
        }
        let mut block = BlockBuilder::new(usize::MAX);
        for (name, value) in &all {
            block.add(name.as_bytes(), value);
        }
        block.finish().to_vec()
    }

    pub(crate) fn counts(&self) -> TableCounts {
        TableCounts {
            entries: self.entries,
            deletions: self.deletions,
            range_deletions: self.range_deletions,
            older_versions: self.older_versions,
            key_bytes: self.raw_key_bytes,
            value_bytes: self.raw_value_bytes,
        }
    }

    /// Understands the content of a properties block.
    pub(crate) fn decode(block: &[u8]) -> Result<TableProperties> {
        let mut found =
            TableProperties { whole_key_filtering: true, prefix_filtering: true, ..TableProperties::default() };
        for entry in PlainEntries::new(block)? {
            let (key, value) = entry?;
            let Ok(key) = std::str::from_utf8(&key) else { continue };
            match key.strip_prefix(PREFIX) {
                Some(name) => found.take(name, value)?,
                None if key == ALL_LOGGED => found.is_all_logged = value == b"1",
                None if key == OLDER_VERSIONS => found.older_versions = Some(Reader::new(value).varint64(key)?),
                None => {}
            }
        }
        Ok(found)
    }

    fn take(&mut self, name: &str, value: &[u8]) -> Result<()> {
        let number = || Reader::new(value).varint64(name);
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            "block.based.table.index.type" => self.index_type = u32_at(value, 0),
            "index.key.is.user.key" => self.index_key_is_user_key = number()? != 0,
            "index.value.is.delta.encoded" => self.index_value_is_delta_encoded = number()? != 0,
            "compression" => self.compression = Some(text()),
            "block.based.table.whole.key.filtering" => self.whole_key_filtering = value != b"0",
            "block.based.table.prefix.filtering" => self.prefix_filtering = value != b"0",
            "prefix.extractor.name" => self.prefix_extractor = Some(text()).filter(|name| name != "nullptr"),
            "comparator" => self.comparator = text(),
            "num.entries" => self.entries = number()?,
            "num.filter_entries" => self.filter_entries = number()?,
            "deleted.keys" => self.deletions = number()?,
            "num.range-deletions" => self.range_deletions = number()?,
            "merge.operator" => self.merge_operator = Some(text()).filter(|name| name != "nullptr").unwrap_or_default(),
            "merge.operands" => self.merge_operands = number()?,
            "raw.key.size" => self.raw_key_bytes = number()?,
            "raw.value.size" => self.raw_value_bytes = number()?,
            "num.data.blocks" => self.data_blocks = number()?,
            "data.size" => self.data_bytes = number()?,
            "index.partitions" => self.index_partitions = number()?,
            "top-level.index.size" => self.top_level_index_bytes = number()?,
            "index.size" => self.index_bytes = number()?,
            "filter.size" => self.filter_bytes = number()?,
            "filter.policy" => self.filter_policy = text(),
            "column.family.id" => self.family_id = number()? as u32,
            "column.family.name" => self.family_name = text(),
            "creating.db.identity" => self.db_id = text(),
            "creating.session.identity" => self.session_id = text(),
            "original.file.number" => self.original_file_number = number()?,
            "creation.time" => self.creation_time = number()?,
            "oldest.key.time" => self.oldest_key_time = number()?,
            "file.creation.time" => self.file_creation_time = number()?,
            "tail.start.offset" => self.tail_start = number()?,
            "external_sst_file.version" => self.external_version = u32_at(value, 0),
            "external_sst_file.global_seqno" => self.external_sequence = u64_at(value, 0),
            "separate.key.value.in.data.block" => self.has_values_apart = number()? != 0,
            "num.uniform.blocks" => self.uniform_blocks = number()?,
            "block.based.table.decoupled.partitioned.filters" => self.has_decoupled_filters = value != b"0",
            "user.defined.timestamps.persisted" => self.has_times_in_memtables_only = number()? == 0,
            "embedded.blob.stats" => self.has_embedded_blobs = true,
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_and_cut_blocks_are_refused() {
        let properties = TableProperties {
            index_type: Some(0),
            comparator: "leveldb.BytewiseComparator".to_owned(),
            compression: Some("LZ4".to_owned()),
            entries: 12345,
            raw_value_bytes: 1 << 40,
            db_id: "an id".to_owned(),
            whole_key_filtering: true,
            index_partitions: 3,
            top_level_index_bytes: 300,
            is_all_logged: true,
            older_versions: Some(300),
            ..TableProperties::default()
        };
        let block = properties.encode();
        assert_eq!(TableProperties::decode(&block).expect("own block"), properties);
        for cut in 0..block.len() {
            // Never a panic; mostly an error.
            let _ = TableProperties::decode(&block[..cut]);
        }
    }
}
