//! What is in one file, for people and tools that look into directories.
//!
//! Flow: a path -> [`manifest`], [`wal`], [`sst`] or a part of it, or [`options`] -> one [`Item`] a record, a title and named fields, in the
//! order of the file -> the caller. A file need not belong to a database, nor be whole: what comes before the damage is
//! handed out.

use std::path::Path;

use crate::error::{CorruptionKind, Error, Result};
use crate::format::compression::{Compression, compress};
use crate::format::file_name;
use crate::format::key::{FileNumber, ValueKind};
use crate::fs::Fs;
use crate::options::file::{MAX_OPTIONS_FILE_BYTES, OptionsFile};
use crate::table::stored_bytes;
use crate::version::edit::VersionEdit;
use crate::write::batch::{Record, TransactionMark, WriteBatch};

use super::log::{LogEnd, walk};
use super::table::{OfflineTable, Span};

/// A field's value.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(u64),
    /// Text that the engine chose.
    Text(String),
    /// Bytes that the user chose: a key or a value.
    Bytes(Vec<u8>),
}

/// One record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub title: &'static str,
    /// Its fields, in order.
    pub fields: Vec<(String, Field)>,
}

type Each<'a> = &'a mut dyn FnMut(Item) -> Result<()>;

fn number(name: &str, value: u64) -> (String, Field) {
    (name.to_owned(), Field::Number(value))
}

fn text(name: &str, value: impl Into<String>) -> (String, Field) {
    (name.to_owned(), Field::Text(value.into()))
}

fn bytes(name: &str, value: &[u8]) -> (String, Field) {
    (name.to_owned(), Field::Bytes(value.to_vec()))
}

fn number_in_name(path: &Path) -> FileNumber {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    file_name::parse(name).map_or(FileNumber(0), |(_, number)| number)
}

fn kind_name(kind: ValueKind) -> String {
    format!("{kind:?}")
}

/// The edits of a MANIFEST.
///
/// # Errors
/// `Corruption` with the offset; what came before was handed out.
pub fn manifest(fs: &dyn Fs, path: &Path, each: Each<'_>) -> Result<()> {
    let mut edits = 0_u64;
    log(fs, path, each, &mut |offset, record, each| {
        edits += 1;
        let edit = VersionEdit::decode(record).map_err(|error| error.in_file(path, Some(offset)))?;
        let mut fields = vec![number("offset", offset), number("family", u64::from(edit.family.0))];
        let mut optional = |name: &str, value: Option<u64>| fields.extend(value.map(|value| number(name, value)));
        optional("log_number", edit.log_number.map(|n| n.0));
        optional("prev_log_number", edit.prev_log_number.map(|n| n.0));
        optional("next_file", edit.next_file.map(|n| n.0));
        optional("last_sequence", edit.last_sequence.map(|n| n.0));
        optional("min_log_to_keep", edit.min_log_to_keep.map(|n| n.0));
        optional("max_family", edit.max_family.map(u64::from));
        optional("atomic_group_left", edit.atomic_group.map(u64::from));
        for (name, value) in
            [("comparator", &edit.comparator), ("db_id", &edit.db_id), ("added_family", &edit.added_family)]
        {
            fields.extend(value.as_ref().map(|value| text(name, String::from_utf8_lossy(value))));
        }
        if edit.is_family_drop {
            fields.push(text("dropped", "true"));
        }
        fields.extend(edit.skipped_tags.iter().map(|tag| number("unknown_tag", u64::from(*tag))));
        each(Item { title: "edit", fields })?;
        for (level, file) in &edit.deleted_files {
            each(Item {
                title: "deleted file",
                fields: vec![number("level", u64::from(*level)), number("file", file.0)],
            })?;
        }
        for (level, meta) in &edit.new_files {
            let fields = vec![
                number("level", u64::from(*level)),
                number("file", meta.number.0),
                number("bytes", meta.size),
                bytes("smallest", crate::format::key::user_key(&meta.smallest)),
                bytes("largest", crate::format::key::user_key(&meta.largest)),
                number("smallest_sequence", meta.smallest_seq.0),
                number("largest_sequence", meta.largest_seq.0),
                number("epoch", meta.epoch),
            ];
            let blob = (meta.oldest_blob.0 != 0).then(|| number("oldest_blob_file", meta.oldest_blob.0));
            each(Item { title: "new file", fields: fields.into_iter().chain(blob).collect() })?;
        }
        for blob in &edit.blob_additions {
            let fields = vec![number("file", blob.number.0), number("blobs", blob.count), number("bytes", blob.bytes)];
            each(Item { title: "new blob file", fields })?;
        }
        for (file, garbage) in &edit.blob_garbage {
            let fields = vec![number("file", file.0), number("blobs", garbage.count), number("bytes", garbage.bytes)];
            each(Item { title: "blob garbage", fields })?;
        }
        Ok(())
    })?;
    match edits {
        0 => Err(Error::corrupt_at(
            CorruptionKind::Truncated,
            path,
            0,
            "a MANIFEST has at least one edit; this has none",
        )),
        _ => Ok(()),
    }
}

/// The operations of a write-ahead log.
///
/// # Errors
/// `Corruption` with the offset; what came before was handed out.
pub fn wal(fs: &dyn Fs, path: &Path, each: Each<'_>) -> Result<()> {
    log(fs, path, each, &mut |offset, record, each| {
        let in_log = |error: Error| error.in_file(path, Some(offset));
        // Once to see that it is whole, and how long it is.
        let (sequence, count) = WriteBatch::read(record, &mut |_, _| Ok(())).map_err(in_log)?;
        each(Item {
            title: "batch",
            fields: vec![number("offset", offset), number("sequence", sequence.0), number("count", u64::from(count))],
        })?;
        WriteBatch::read(record, &mut |part, _| match part {
            Record::Operation(operation) => {
                let mut fields = vec![
                    number("family", u64::from(operation.family.0)),
                    text("kind", kind_name(operation.kind)),
                    bytes("key", operation.key),
                ];
                match operation.kind {
                    ValueKind::Deletion | ValueKind::SingleDeletion => {}
                    ValueKind::RangeDeletion => fields.push(bytes("end", operation.value)),
                    _ => fields.push(bytes("value", operation.value)),
                }
                each(Item { title: "operation", fields })
            }
            Record::Transaction(mark) => {
                let (mark, name) = match mark {
                    TransactionMark::Begin => ("begin", None),
                    TransactionMark::BeginInTables => ("begin of another policy", None),
                    TransactionMark::Prepared(name) => ("prepared", Some(name)),
                    TransactionMark::Committed(name) => ("committed", Some(name)),
                    TransactionMark::RolledBack(name) => ("rolled back", Some(name)),
                };
                let name = name.map(|name| bytes("name", name));
                each(Item { title: "transaction", fields: [text("mark", mark)].into_iter().chain(name).collect() })
            }
            Record::Nothing => Ok(()),
        })
        .map(drop)
        .map_err(in_log)
    })
}

type OnRecord<'a> = &'a mut dyn FnMut(u64, &[u8], Each<'_>) -> Result<()>;

/// Calls back with every record of a log file.
fn log(fs: &dyn Fs, path: &Path, each: Each<'_>, on_record: OnRecord<'_>) -> Result<()> {
    match walk(fs, path, number_in_name(path), &mut |offset, record| on_record(offset, record, each))? {
        LogEnd::Whole | LogEnd::Recycled { .. } => Ok(()),
        LogEnd::CutOff { offset } => each(Item { title: "cut-off record", fields: vec![number("offset", offset)] }),
        LogEnd::Damaged(error) => Err(error),
    }
}

/// The properties and the entries of a table.
///
/// # Errors
/// `Corruption` with the offset, `NotSupported`; what came before was handed out.
pub fn sst(fs: &dyn Fs, path: &Path, each: Each<'_>) -> Result<()> {
    let table = OfflineTable::at(fs, path)?;
    properties(&table, each)?;
    entries(&table, (None, None), each)
}

/// The properties of a table.
///
/// # Errors
/// `Corruption` with the offset, `NotSupported`.
pub fn sst_properties(fs: &dyn Fs, path: &Path, each: Each<'_>) -> Result<()> {
    properties(&OfflineTable::at(fs, path)?, each)
}

/// The entries of a table from `from` on that are before `to`, all versions of each, and the range tombstones that reach into
/// that range. Reads the blocks that hold them, and no others.
///
/// # Errors
/// As of [`sst`]; `NotSupported` for a table in an order that is not built in, if there are bounds.
pub fn sst_range(fs: &dyn Fs, path: &Path, from: Option<&[u8]>, to: Option<&[u8]>, each: Each<'_>) -> Result<()> {
    entries(&OfflineTable::at(fs, path)?, (from, to), each)
}

/// What the data blocks of a table would take under a codec.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recompressed {
    /// The codec, at the level that tables are written with.
    pub codec: Compression,
    /// Bytes of the data blocks, trailers included.
    pub data_bytes: u64,
    /// Blocks that shrank enough to be stored so; the others stay as they are.
    pub compressed_blocks: u64,
    /// All data blocks.
    pub blocks: u64,
}

/// What the data blocks of a table would take under each codec that this build can write. Nothing is written; the table's own
/// blocks are taken as they are cut.
///
/// # Errors
/// `Corruption` with the offset, `NotSupported`.
pub fn recompressed(fs: &dyn Fs, path: &Path) -> Result<Vec<Recompressed>> {
    let table = OfflineTable::at(fs, path)?;
    let nothing = |codec| Recompressed { codec, data_bytes: 0, compressed_blocks: 0, blocks: 0 };
    let mut found: Vec<Recompressed> =
        Compression::ALL.into_iter().filter(|codec| codec.is_writable()).map(nothing).collect();
    let mut out = Vec::new();
    table.each_content(&mut |content| {
        for one in &mut found {
            let is_smaller = compress(one.codec, content, &mut out)?;
            one.data_bytes += stored_bytes(if is_smaller { out.len() } else { content.len() } as u64);
            one.compressed_blocks += u64::from(is_smaller);
            one.blocks += 1;
        }
        Ok(())
    })?;
    Ok(found)
}

fn properties(table: &OfflineTable, each: Each<'_>) -> Result<()> {
    let properties = table.properties();
    let fields = vec![
        text("comparator", &properties.comparator),
        number("format_version", u64::from(table.form().0)),
        text("family", &properties.family_name),
        text("compression", properties.compression.clone().unwrap_or_default()),
        number("entries", properties.entries),
        number("deletions", properties.deletions),
        number("range_deletions", properties.range_deletions),
        number("data_blocks", properties.data_blocks),
        number("data_bytes", properties.data_bytes),
        number("index_bytes", properties.index_bytes),
        number("filter_bytes", properties.filter_bytes),
        number("raw_key_bytes", properties.raw_key_bytes),
        number("raw_value_bytes", properties.raw_value_bytes),
        number("creation_time", properties.file_creation_time),
        text("db_id", &properties.db_id),
        text("session_id", &properties.session_id),
    ];
    each(Item { title: "properties", fields })?;
    Ok(())
}

fn entries(table: &OfflineTable, (from, to): Span<'_>, each: Each<'_>) -> Result<()> {
    table.each_range_tombstone((from, to), &mut |tombstone| {
        let fields = vec![
            bytes("begin", &tombstone.begin),
            bytes("end", &tombstone.end),
            number("sequence", tombstone.sequence.0),
        ];
        each(Item { title: "range tombstone", fields })
    })?;
    table.each((from, to), &mut |key, value| {
        let mut fields =
            vec![bytes("key", key.user_key), number("sequence", key.sequence.0), text("kind", kind_name(key.kind))];
        if !key.kind.is_tombstone() {
            fields.push(bytes("value", value));
        }
        each(Item { title: "entry", fields })
    })
}

/// The sections of an OPTIONS file.
///
/// # Errors
/// `Corruption` naming the line; what came before was handed out.
pub fn options(fs: &dyn Fs, path: &Path, each: Each<'_>) -> Result<()> {
    let raw = fs.read_whole(path, MAX_OPTIONS_FILE_BYTES)?;
    let mut sections = Vec::new();
    let parsed = OptionsFile::parse_into(&String::from_utf8_lossy(&raw), &mut sections);
    for section in &sections {
        let mut fields = vec![text("section", &section.title)];
        fields.extend(section.entries.iter().map(|(name, value)| text(name, value)));
        each(Item { title: "section", fields })?;
    }
    parsed.map_err(|error| error.in_file(path, None))
}
