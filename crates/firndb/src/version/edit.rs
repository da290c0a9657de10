//! Version edits: the logical records of MANIFEST.
//!
//! An edit is a list of `varint32 tag, payload`, in any order. Unknown tags with [`IGNORE_BIT`] carry a length and are
//! skipped; others are corruption. Of a new file's custom fields, unknown ones are skipped unless bit 6 says that it is
//! not safe. Source: RocksDB `db/version_edit.h`.

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::coding::{Reader, put_length_prefixed, put_varint32, put_varint64};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber, TRAILER_LEN, ValueKind};
use crate::iter::lineage::Lineage;
use crate::table::properties::TableCounts;

/// Tags with this bit may be skipped by readers that do not know them.
const IGNORE_BIT: u32 = 1 << 13;
/// Custom fields with this bit may not.
const UNSAFE_FIELD_BIT: u32 = 1 << 6;
/// Ends the fields of a blob file, which are marked unsafe as those of tables are.
const BLOB_FIELDS_END: u32 = 0;
/// No database has more levels; a larger number is damage.
pub(crate) const LEVELS_MAX: u32 = 64;

mod tag {
    pub(super) const COMPARATOR: u32 = 1;
    pub(super) const LOG_NUMBER: u32 = 2;
    pub(super) const NEXT_FILE: u32 = 3;
    pub(super) const LAST_SEQUENCE: u32 = 4;
    pub(super) const COMPACT_CURSOR: u32 = 5;
    pub(super) const DELETED_FILE: u32 = 6;
    pub(super) const NEW_FILE: u32 = 7;
    pub(super) const PREV_LOG_NUMBER: u32 = 9;
    pub(super) const MIN_LOG_TO_KEEP: u32 = 10;
    pub(super) const NEW_FILE_2: u32 = 100;
    pub(super) const NEW_FILE_3: u32 = 102;
    pub(super) const NEW_FILE_4: u32 = 103;
    pub(super) const FAMILY: u32 = 200;
    pub(super) const FAMILY_ADD: u32 = 201;
    pub(super) const FAMILY_DROP: u32 = 202;
    pub(super) const MAX_FAMILY: u32 = 203;
    pub(super) const ATOMIC_GROUP: u32 = 300;
    pub(super) const BLOB_ADDITION: u32 = 400;
    pub(super) const BLOB_GARBAGE: u32 = 401;
    pub(super) const DB_ID: u32 = 8193;
    pub(super) const OLD_BLOB_ADDITION: u32 = 8194;
    pub(super) const OLD_BLOB_GARBAGE: u32 = 8195;
    pub(super) const OLD_WAL_ADDITION: u32 = 8196;
    pub(super) const OLD_WAL_DELETION: u32 = 8197;
    pub(super) const WAL_ADDITION: u32 = 8199;
    pub(super) const WAL_DELETION: u32 = 8200;
}

mod field {
    pub(super) const END: u32 = 1;
    pub(super) const NEED_COMPACTION: u32 = 2;
    pub(super) const OLDEST_BLOB: u32 = 4;
    pub(super) const OLDEST_ANCESTER_TIME: u32 = 5;
    pub(super) const CREATION_TIME: u32 = 6;
    pub(super) const CHECKSUM: u32 = 7;
    pub(super) const CHECKSUM_FUNCTION: u32 = 8;
    pub(super) const MIN_TIMESTAMP: u32 = 10;
    pub(super) const MAX_TIMESTAMP: u32 = 11;
    pub(super) const UNIQUE_ID: u32 = 12;
    pub(super) const EPOCH: u32 = 13;
    pub(super) const RANGE_DELETED_BYTES: u32 = 14;
    pub(super) const TAIL_SIZE: u32 = 15;
    pub(super) const PATH_ID: u32 = 65;
}

/// What MANIFEST knows of a table file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FileMeta {
    pub(crate) number: FileNumber,
    pub(crate) size: u64,
    /// Internal keys.
    pub(crate) smallest: Vec<u8>,
    pub(crate) largest: Vec<u8>,
    pub(crate) smallest_seq: SequenceNumber,
    pub(crate) largest_seq: SequenceNumber,
    /// Order of level-0 files; 0 if the writer was RocksDB 7.8 or older.
    pub(crate) epoch: u64,
    /// Bytes of files in deeper levels, about, that its range tombstones hid when it was written (RocksDB: "compensated range
    /// deletion size").
    pub(crate) range_deleted_bytes: u64,
    pub(crate) oldest_ancester_time: u64,
    pub(crate) creation_time: u64,
    pub(crate) unique_id: Option<[u8; 16]>,
    pub(crate) tail_size: Option<u64>,
    /// The whole-file checksum and its function's name; empty and `Unknown` unless the user asked for one.
    pub(crate) checksum: Vec<u8>,
    pub(crate) checksum_function: Vec<u8>,
    pub(crate) is_marked_for_compaction: bool,
    /// The lowest number of a blob file that an entry refers to; 0: none does.
    pub(crate) oldest_blob: FileNumber,
    /// What keeps this version from reading the table, or from carrying it on; none of it is written.
    pub(crate) foreign: Option<Foreign>,
    /// Known of tables that this process wrote; MANIFEST has no field for it.
    pub(crate) counts: Option<TableCounts>,
}

/// Why a table that MANIFEST names is none for this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// It lies in another directory (`db_paths`).
    DataPath,
    /// Its keys have user-defined timestamps.
    Timestamps,
    /// A newer RocksDB said something of it that must not be overlooked.
    Field(u32),
}

impl FileMeta {
    /// `NotSupported`, by name, if the table is none for this version.
    pub(crate) fn check_readable(&self, place: &std::path::Path) -> Result<()> {
        let Some(foreign) = self.foreign else { return Ok(()) };
        let what = match foreign {
            Foreign::DataPath => "a further data path (db_paths)".to_owned(),
            Foreign::Timestamps => "user-defined timestamps".to_owned(),
            Foreign::Field(field) => format!("file field {field} of a newer RocksDB"),
        };
        let message = format!("{}: table {} uses {what}, which this version cannot read", place.display(), self.number);
        Err(Error::new(ErrorKind::NotSupported, message))
    }

    /// When the file was written, in seconds since 1970; or when its oldest entry was, if only that is known.
    pub(crate) fn written_s(&self) -> Option<u64> {
        [self.creation_time, self.oldest_ancester_time].into_iter().find(|time| *time > 0)
    }
}

/// What MANIFEST knows of a blob file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BlobMeta {
    pub(crate) number: FileNumber,
    /// Its records.
    pub(crate) count: u64,
    /// Their bytes, headers and keys included.
    pub(crate) bytes: u64,
    /// The whole-file checksum's function and value; empty unless the user asked for one.
    pub(crate) checksum_function: Vec<u8>,
    pub(crate) checksum: Vec<u8>,
}

/// Records of a blob file that no entry refers to any more: how many, and their bytes as in [`BlobMeta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BlobGarbage {
    pub(crate) count: u64,
    pub(crate) bytes: u64,
}

impl BlobGarbage {
    pub(crate) fn and(self, more: BlobGarbage) -> BlobGarbage {
        BlobGarbage { count: self.count.saturating_add(more.count), bytes: self.bytes.saturating_add(more.bytes) }
    }
}

/// One change of the set of live files, or of what is known beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct VersionEdit {
    pub(crate) family: ColumnFamilyId,
    pub(crate) comparator: Option<Vec<u8>>,
    pub(crate) log_number: Option<FileNumber>,
    pub(crate) prev_log_number: Option<FileNumber>,
    pub(crate) next_file: Option<FileNumber>,
    pub(crate) last_sequence: Option<SequenceNumber>,
    pub(crate) min_log_to_keep: Option<FileNumber>,
    pub(crate) db_id: Option<Vec<u8>>,
    pub(crate) added_family: Option<Vec<u8>>,
    pub(crate) is_family_drop: bool,
    pub(crate) max_family: Option<u32>,
    /// Edits that follow in the same atomic group; 0 in the last.
    pub(crate) atomic_group: Option<u32>,
    pub(crate) compact_cursors: Vec<(u32, Vec<u8>)>,
    /// Applied before `new_files`, so that a file may move between levels in one edit.
    pub(crate) deleted_files: Vec<(u32, FileNumber)>,
    pub(crate) new_files: Vec<(u32, FileMeta)>,
    /// WALs tracked by RocksDB's `track_and_verify_wals_in_manifest`.
    pub(crate) wal_additions: Vec<FileNumber>,
    /// All tracked WALs below this number are gone.
    pub(crate) wals_deleted_below: Option<FileNumber>,
    pub(crate) blob_additions: Vec<BlobMeta>,
    pub(crate) blob_garbage: Vec<(FileNumber, BlobGarbage)>,
    /// Tags of newer RocksDBs that may be skipped, and were; not written.
    pub(crate) skipped_tags: Vec<u32>,
    /// What readers see of the change. In memory only: MANIFEST has no field for it.
    pub(crate) lineage: Lineage,
}

impl VersionEdit {
    /// Reads an edit.
    ///
    /// # Errors
    /// `Corruption` for anything that no version writes. What this version cannot read of a table is noted beside it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<VersionEdit> {
        let mut edit = VersionEdit::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.varint32("edit tag")?;
            edit.decode_field(tag, &mut reader)?;
        }
        Ok(edit)
    }

    fn decode_field(&mut self, tag: u32, r: &mut Reader<'_>) -> Result<()> {
        match tag {
            tag::COMPARATOR => self.comparator = Some(r.length_prefixed("comparator name")?.to_vec()),
            tag::LOG_NUMBER => self.log_number = Some(FileNumber(r.varint64("log number")?)),
            tag::PREV_LOG_NUMBER => self.prev_log_number = Some(FileNumber(r.varint64("previous log number")?)),
            tag::NEXT_FILE => self.next_file = Some(FileNumber(r.varint64("next file number")?)),
            tag::LAST_SEQUENCE => self.last_sequence = Some(SequenceNumber(r.varint64("last sequence")?)),
            tag::MIN_LOG_TO_KEEP => self.min_log_to_keep = Some(FileNumber(r.varint64("min log number")?)),
            tag::COMPACT_CURSOR => {
                let level = level(r)?;
                self.compact_cursors.push((level, r.length_prefixed("compaction cursor")?.to_vec()));
            }
            tag::DELETED_FILE => {
                let level = level(r)?;
                self.deleted_files.push((level, FileNumber(r.varint64("deleted file")?)));
            }
            tag::NEW_FILE | tag::NEW_FILE_2 | tag::NEW_FILE_3 | tag::NEW_FILE_4 => {
                self.new_files.push(new_file(tag, r)?)
            }
            tag::FAMILY => self.family = ColumnFamilyId(r.varint32("column family")?),
            tag::FAMILY_ADD => self.added_family = Some(r.length_prefixed("column family name")?.to_vec()),
            tag::FAMILY_DROP => self.is_family_drop = true,
            tag::MAX_FAMILY => self.max_family = Some(r.varint32("max column family")?),
            tag::ATOMIC_GROUP => self.atomic_group = Some(r.varint32("atomic group")?),
            tag::DB_ID => self.db_id = Some(r.length_prefixed("database id")?.to_vec()),
            tag::WAL_ADDITION => {
                let mut inner = Reader::new(r.length_prefixed("WAL addition")?);
                self.wal_addition(&mut inner)?;
            }
            tag::WAL_DELETION => {
                let mut inner = Reader::new(r.length_prefixed("WAL deletion")?);
                self.wals_deleted_below = Some(FileNumber(inner.varint64("WAL number")?));
            }
            tag::OLD_WAL_ADDITION => self.wal_addition(r)?,
            tag::OLD_WAL_DELETION => self.wals_deleted_below = Some(FileNumber(r.varint64("WAL number")?)),
            tag::BLOB_ADDITION | tag::OLD_BLOB_ADDITION => self.blob_additions.push(blob_addition(r)?),
            tag::BLOB_GARBAGE | tag::OLD_BLOB_GARBAGE => self.blob_garbage.push(blob_garbage(r)?),
            _ if tag & IGNORE_BIT != 0 => {
                r.length_prefixed("field to skip")?;
                self.skipped_tags.push(tag);
            }
            _ => {
                return Err(Error::corrupt(CorruptionKind::BadMagic, format!("version edit tag {tag} does not exist")));
            }
        }
        Ok(())
    }

    fn wal_addition(&mut self, r: &mut Reader<'_>) -> Result<()> {
        self.wal_additions.push(FileNumber(r.varint64("WAL number")?));
        loop {
            match r.varint32("WAL field")? {
                1 => return Ok(()),
                2 => drop(r.varint64("WAL size")?),
                other => {
                    return Err(Error::corrupt(CorruptionKind::BadMagic, format!("WAL field {other} does not exist")));
                }
            }
        }
    }

    /// Appends the edit's bytes to `out`, in RocksDB's usual order of fields.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let number = |out: &mut Vec<u8>, tag: u32, value: Option<u64>| {
            if let Some(value) = value {
                put_varint32(out, tag);
                put_varint64(out, value);
            }
        };
        let bytes = |out: &mut Vec<u8>, tag: u32, value: &Option<Vec<u8>>| {
            if let Some(value) = value {
                put_varint32(out, tag);
                put_length_prefixed(out, value);
            }
        };
        bytes(out, tag::DB_ID, &self.db_id);
        bytes(out, tag::COMPARATOR, &self.comparator);
        number(out, tag::LOG_NUMBER, self.log_number.map(|n| n.0));
        number(out, tag::PREV_LOG_NUMBER, self.prev_log_number.map(|n| n.0));
        number(out, tag::NEXT_FILE, self.next_file.map(|n| n.0));
        number(out, tag::MIN_LOG_TO_KEEP, self.min_log_to_keep.map(|n| n.0));
        number(out, tag::LAST_SEQUENCE, self.last_sequence.map(|n| n.0));
        for (level, key) in &self.compact_cursors {
            put_varint32(out, tag::COMPACT_CURSOR);
            put_varint32(out, *level);
            put_length_prefixed(out, key);
        }
        for (level, file) in &self.deleted_files {
            put_varint32(out, tag::DELETED_FILE);
            put_varint32(out, *level);
            put_varint64(out, file.0);
        }
        for (level, meta) in &self.new_files {
            encode_new_file(*level, meta, out);
        }
        for blob in &self.blob_additions {
            put_varint32(out, tag::BLOB_ADDITION);
            [blob.number.0, blob.count, blob.bytes].into_iter().for_each(|value| put_varint64(out, value));
            put_length_prefixed(out, &blob.checksum_function);
            put_length_prefixed(out, &blob.checksum);
            put_varint32(out, BLOB_FIELDS_END);
        }
        for (blob, garbage) in &self.blob_garbage {
            put_varint32(out, tag::BLOB_GARBAGE);
            [blob.0, garbage.count, garbage.bytes].into_iter().for_each(|value| put_varint64(out, value));
            put_varint32(out, BLOB_FIELDS_END);
        }
        if let Some(below) = self.wals_deleted_below {
            let mut inner = Vec::new();
            put_varint64(&mut inner, below.0);
            put_varint32(out, tag::WAL_DELETION);
            put_length_prefixed(out, &inner);
        }
        if self.family != ColumnFamilyId::DEFAULT {
            number(out, tag::FAMILY, Some(u64::from(self.family.0)));
        }
        bytes(out, tag::FAMILY_ADD, &self.added_family);
        if self.is_family_drop {
            put_varint32(out, tag::FAMILY_DROP);
        }
        number(out, tag::MAX_FAMILY, self.max_family.map(u64::from));
        number(out, tag::ATOMIC_GROUP, self.atomic_group.map(u64::from));
    }
}

#[cold]
fn refused(what: &str) -> Error {
    Error::new(ErrorKind::NotSupported, format!("the database uses {what}, which this version cannot read"))
}

fn blob_addition(r: &mut Reader<'_>) -> Result<BlobMeta> {
    let meta = BlobMeta {
        number: FileNumber(r.varint64("blob file number")?),
        count: r.varint64("blob count")?,
        bytes: r.varint64("blob bytes")?,
        checksum_function: r.length_prefixed("blob checksum function")?.to_vec(),
        checksum: r.length_prefixed("blob checksum")?.to_vec(),
    };
    blob_fields(r)?;
    Ok(meta)
}

fn blob_garbage(r: &mut Reader<'_>) -> Result<(FileNumber, BlobGarbage)> {
    let number = FileNumber(r.varint64("blob file number")?);
    let garbage = BlobGarbage { count: r.varint64("garbage count")?, bytes: r.varint64("garbage bytes")? };
    blob_fields(r)?;
    Ok((number, garbage))
}

/// Fields of newer RocksDBs behind what is known of a blob file.
fn blob_fields(r: &mut Reader<'_>) -> Result<()> {
    loop {
        match r.varint32("blob file field")? {
            BLOB_FIELDS_END => return Ok(()),
            field if field & UNSAFE_FIELD_BIT != 0 => {
                return Err(refused(&format!("blob file field {field} of a newer RocksDB")));
            }
            _ => drop(r.length_prefixed("blob file field value")?),
        }
    }
}

fn level(r: &mut Reader<'_>) -> Result<u32> {
    let level = r.varint32("level")?;
    match level < LEVELS_MAX {
        true => Ok(level),
        false => {
            Err(Error::corrupt(CorruptionKind::BadLength, format!("level {level}; there are at most {LEVELS_MAX}")))
        }
    }
}

fn internal_key(r: &mut Reader<'_>, what: &str) -> Result<Vec<u8>> {
    let key = r.length_prefixed(what)?;
    match key.len() >= TRAILER_LEN {
        true => Ok(key.to_vec()),
        false => {
            Err(Error::corrupt(CorruptionKind::BadLength, format!("{what} of {} bytes is no internal key", key.len())))
        }
    }
}

/// Where a compaction of RocksDB 9.8 cuts a range tombstone between two tables, the second begins with a kind that no entry has,
/// and that 7.8 calls corrupt. It stands for the range tombstone, whose number no entry shares: so it gets that kind, which
/// every release knows.
fn name_kind(smallest: &mut [u8]) {
    if let Some([kind, ..]) = smallest.last_chunk_mut::<TRAILER_LEN>()
        && ValueKind::from_byte(*kind).is_none()
    {
        *kind = ValueKind::RangeDeletion as u8;
    }
}

fn new_file(tag: u32, r: &mut Reader<'_>) -> Result<(u32, FileMeta)> {
    let level = level(r)?;
    let mut meta = FileMeta { number: FileNumber(r.varint64("file number")?), ..FileMeta::default() };
    if tag == tag::NEW_FILE_3 && r.varint32("path id")? != 0 {
        meta.foreign = Some(Foreign::DataPath);
    }
    meta.size = r.varint64("file size")?;
    meta.smallest = internal_key(r, "smallest key")?;
    name_kind(&mut meta.smallest);
    meta.largest = internal_key(r, "largest key")?;
    if tag != tag::NEW_FILE {
        meta.smallest_seq = SequenceNumber(r.varint64("smallest sequence")?);
        meta.largest_seq = SequenceNumber(r.varint64("largest sequence")?);
    }
    if tag == tag::NEW_FILE_4 {
        loop {
            let field = r.varint32("custom field")?;
            if field == field::END {
                break;
            }
            custom_field(field, r.length_prefixed("custom field value")?, &mut meta)?;
        }
    }
    Ok((level, meta))
}

fn custom_field(field: u32, value: &[u8], meta: &mut FileMeta) -> Result<()> {
    let number = || Reader::new(value).varint64("custom field number");
    match field {
        field::NEED_COMPACTION => meta.is_marked_for_compaction = value == [1],
        field::OLDEST_BLOB => meta.oldest_blob = FileNumber(number()?),
        field::OLDEST_ANCESTER_TIME => meta.oldest_ancester_time = number()?,
        field::CREATION_TIME => meta.creation_time = number()?,
        field::CHECKSUM => meta.checksum = value.to_vec(),
        field::CHECKSUM_FUNCTION => meta.checksum_function = value.to_vec(),
        field::MIN_TIMESTAMP | field::MAX_TIMESTAMP if !value.is_empty() => {
            meta.foreign = Some(Foreign::Timestamps);
        }
        field::UNIQUE_ID => {
            let id = value.try_into().map_err(|_| {
                Error::corrupt(
                    CorruptionKind::BadLength,
                    format!("a unique id of {} bytes; 16 are expected", value.len()),
                )
            })?;
            meta.unique_id = Some(id);
        }
        field::EPOCH => meta.epoch = number()?,
        field::RANGE_DELETED_BYTES => meta.range_deleted_bytes = number()?,
        field::TAIL_SIZE => meta.tail_size = Some(number()?),
        field::PATH_ID if value != [0] => meta.foreign = Some(Foreign::DataPath),
        field::PATH_ID => {}
        _ if field & UNSAFE_FIELD_BIT != 0 => meta.foreign = Some(Foreign::Field(field)),
        _ => {}
    }
    Ok(())
}

fn encode_new_file(level: u32, meta: &FileMeta, out: &mut Vec<u8>) {
    put_varint32(out, tag::NEW_FILE_4);
    put_varint32(out, level);
    put_varint64(out, meta.number.0);
    put_varint64(out, meta.size);
    put_length_prefixed(out, &meta.smallest);
    put_length_prefixed(out, &meta.largest);
    put_varint64(out, meta.smallest_seq.0);
    put_varint64(out, meta.largest_seq.0);
    let field = |out: &mut Vec<u8>, field: u32, value: &[u8]| {
        put_varint32(out, field);
        put_length_prefixed(out, value);
    };
    let number = |out: &mut Vec<u8>, id: u32, value: u64| {
        let mut bytes = Vec::with_capacity(10);
        put_varint64(&mut bytes, value);
        field(out, id, &bytes);
    };
    if meta.is_marked_for_compaction {
        field(out, field::NEED_COMPACTION, &[1]);
    }
    if meta.oldest_blob.0 != 0 {
        number(out, field::OLDEST_BLOB, meta.oldest_blob.0);
    }
    number(out, field::OLDEST_ANCESTER_TIME, meta.oldest_ancester_time);
    number(out, field::CREATION_TIME, meta.creation_time);
    field(out, field::CHECKSUM, &meta.checksum);
    field(out, field::CHECKSUM_FUNCTION, &meta.checksum_function);
    if let Some(id) = &meta.unique_id {
        field(out, field::UNIQUE_ID, id);
    }
    if meta.epoch != 0 {
        number(out, field::EPOCH, meta.epoch);
    }
    if meta.range_deleted_bytes != 0 {
        number(out, field::RANGE_DELETED_BYTES, meta.range_deleted_bytes);
    }
    if let Some(tail) = meta.tail_size {
        number(out, field::TAIL_SIZE, tail);
    }
    put_varint32(out, field::END);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Record 4 of a MANIFEST that RocksDB 7.8.3 wrote after its first flush.
    const REAL: &[u8] =
        b"\x02\x08\x09\x00\x03\x0a\x04\x03\x67\x00\x09\xa8\x09\x0dapple\x01\x01\0\0\0\0\0\0\x0ebanana\0\
        \x03\0\0\0\0\0\0\x01\x03\x05\x05\xc4\xb0\x8f\xd8\x06\x06\x05\xc4\xb0\x8f\xd8\x06\x07\0\x08\x07Unknown\x0c\x10\
        \xd7\xd3\xa4\x18\x95\x7a\x55\x9f\x22\x8b\xeb\x05\x18\x2c\x94\x66\x01";

    fn encoded(edit: &VersionEdit) -> Vec<u8> {
        let mut out = Vec::new();
        edit.encode(&mut out);
        out
    }

    #[test]
    fn a_first_key_of_a_kind_that_no_entry_has_is_that_of_a_range_tombstone() {
        let key = |kind: u8| [&b"apple"[..], &[kind], &[9, 0, 0, 0, 0, 0, 0]].concat();
        for (kind, named) in [(0x1A, 0x0F), (0x0F, 0x0F), (1, 1), (0x18, 0x18)] {
            let meta = FileMeta { number: FileNumber(7), smallest: key(kind), largest: key(1), ..FileMeta::default() };
            let edit = VersionEdit { new_files: vec![(1, meta)], ..VersionEdit::default() };
            let mut bytes = Vec::new();
            edit.encode(&mut bytes);
            let read = VersionEdit::decode(&bytes).expect("sound");
            assert_eq!(read.new_files[0].1.smallest, key(named), "{kind:#x}");
        }
    }

    #[test]
    fn an_edit_of_rocksdb_7_8_3_comes_back_byte_for_byte() {
        let edit = VersionEdit::decode(REAL).expect("real bytes");
        let (level, meta) = &edit.new_files[0];
        assert_eq!((*level, meta.number, meta.size), (0, FileNumber(9), 1192));
        assert_eq!((edit.log_number, edit.last_sequence), (Some(FileNumber(8)), Some(SequenceNumber(3))));
        assert_eq!(meta.smallest, b"apple\x01\x01\0\0\0\0\0\0");
        assert_eq!((meta.creation_time, &meta.checksum_function[..]), (1_795_414_084, &b"Unknown"[..]));
        assert_eq!(encoded(&edit), REAL);
    }

    #[test]
    fn every_field_that_is_written_comes_back() {
        let meta = FileMeta {
            number: FileNumber(300),
            size: 1 << 40,
            smallest: b"a\x01\x01\0\0\0\0\0\0".to_vec(),
            largest: b"b\x01\x01\0\0\0\0\0\0".to_vec(),
            smallest_seq: SequenceNumber(1),
            largest_seq: SequenceNumber::MAX,
            epoch: 7,
            tail_size: Some(900),
            unique_id: Some([3; 16]),
            is_marked_for_compaction: true,
            oldest_blob: FileNumber(200),
            ..FileMeta::default()
        };
        let blob = BlobMeta {
            number: FileNumber(200),
            count: 7,
            bytes: 1 << 33,
            checksum_function: b"crc".to_vec(),
            checksum: b"\x01\x02".to_vec(),
        };
        let edit = VersionEdit {
            family: ColumnFamilyId(5),
            comparator: Some(b"leveldb.BytewiseComparator".to_vec()),
            db_id: Some(b"id".to_vec()),
            added_family: Some(b"logs".to_vec()),
            max_family: Some(5),
            atomic_group: Some(2),
            min_log_to_keep: Some(FileNumber(12)),
            compact_cursors: vec![(3, b"k\x01\x01\0\0\0\0\0\0".to_vec())],
            deleted_files: vec![(0, FileNumber(9))],
            new_files: vec![(6, meta)],
            blob_additions: vec![blob],
            blob_garbage: vec![(FileNumber(200), BlobGarbage { count: 3, bytes: 1 << 20 })],
            wals_deleted_below: Some(FileNumber(11)),
            ..VersionEdit::default()
        };
        assert_eq!(VersionEdit::decode(&encoded(&edit)).expect("own bytes"), edit);
    }

    #[test]
    fn no_cut_of_an_edit_panics_and_most_are_refused() {
        for cut in 0..REAL.len() {
            let outcome = VersionEdit::decode(&REAL[..cut]);
            // Cuts between fields leave a shorter edit: the log record's checksum is what guards against those.
            assert_eq!(outcome.is_ok(), [0, 2, 4, 6, 8].contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_understood_of_a_table_is_kept_from_readers_of_that_table() {
        let with = |id: u32, value: &[u8]| {
            let mut bytes = REAL[..REAL.len() - 1].to_vec();
            put_varint32(&mut bytes, id);
            put_length_prefixed(&mut bytes, value);
            put_varint32(&mut bytes, field::END);
            VersionEdit::decode(&bytes).expect("sound").new_files.remove(0).1
        };
        let place = std::path::Path::new("/db");
        for (id, value, words) in [
            (field::PATH_ID, &[1][..], Some("db_paths")),
            (field::PATH_ID, &[0], None),
            (field::MAX_TIMESTAMP, &[9; 8], Some("timestamps")),
            (UNSAFE_FIELD_BIT + 9, &[], Some("field 73")),
            (30, &[1, 2], None),
        ] {
            let found = with(id, value).check_readable(place).map_err(|error| error.to_string());
            match words {
                None => assert_eq!(found, Ok(()), "{id}"),
                Some(words) => assert!(found.clone().is_err_and(|text| text.contains(words)), "{id}: {found:?}"),
            }
        }
    }

    #[test]
    fn unknown_tags_are_skipped_only_where_that_is_safe() {
        let mut skippable = Vec::new();
        put_varint32(&mut skippable, IGNORE_BIT + 500);
        put_length_prefixed(&mut skippable, b"future");
        let skipped = VersionEdit { skipped_tags: vec![IGNORE_BIT + 500], ..VersionEdit::default() };
        assert_eq!(VersionEdit::decode(&skippable).expect("skipped"), skipped);
        assert_eq!(VersionEdit::decode(&[50]).expect_err("unknown").kind(), ErrorKind::Corruption);
        // Behind a blob file, the same is said by bit 6.
        for (field, is_skipped) in [(5, true), (UNSAFE_FIELD_BIT + 5, false)] {
            let mut blob = Vec::new();
            put_varint32(&mut blob, tag::BLOB_GARBAGE);
            blob.extend_from_slice(&[9, 1, 2]);
            put_varint32(&mut blob, field);
            put_length_prefixed(&mut blob, b"future");
            put_varint32(&mut blob, BLOB_FIELDS_END);
            let found = VersionEdit::decode(&blob);
            assert_eq!(found.map_err(|error| error.kind()).err(), (!is_skipped).then_some(ErrorKind::NotSupported));
        }
    }
}
