//! Reading MANIFEST: its edits one change after the other, from the start or from a position, and what they add up to.
//!
//! Reading is strict: a record that the end of the file cuts off was never acknowledged and is dropped, and so is an atomic
//! group that lacks its end; anything else that does not add up is corruption, named by file and offset.
//!
//! Source: RocksDB `db/version_edit_handler.cc`; the bytes of the records are those of `wal` and of [`super::edit`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::{ColumnFamilyId, FileNumber, SequenceNumber};
use crate::format::sequence_ranges::SequenceRanges;
use crate::fs::Fs;
use crate::wal::reader::{LogPosition, LogReader, ReadOutcome};

use super::apply::{added_twice, no_such_file};
use super::edit::{BlobGarbage, BlobMeta, FileMeta, VersionEdit};

/// The name of the family that always exists.
pub(crate) const DEFAULT_FAMILY: &str = "default";
/// RocksDB writes 16 bytes or so; a longer CURRENT is something else.
const CURRENT_BYTES_MAX: u64 = 4096;

/// What the records of a MANIFEST add up to.
#[derive(Debug, Default)]
pub(crate) struct ManifestState {
    pub(crate) families: BTreeMap<ColumnFamilyId, FamilyFiles>,
    pub(crate) next_file: FileNumber,
    pub(crate) last_sequence: SequenceNumber,
    pub(crate) min_log_to_keep: FileNumber,
    pub(crate) max_family: ColumnFamilyId,
    pub(crate) db_id: Option<String>,
    pub(crate) tracked_wals: BTreeSet<FileNumber>,
    /// Every table ever named, removed ones too.
    pub(crate) named: BTreeSet<FileNumber>,
    /// The largest number of any file ever named, removed ones too.
    pub(crate) largest_number: FileNumber,
    /// The file ends inside a record: of an edit that was being written in a crash, if nothing else happened to it.
    pub(crate) is_cut_off: bool,
    has_log_number: bool,
    has_next_file: bool,
    has_last_sequence: bool,
}

/// One family of it. Its comparator is known by name only.
#[derive(Debug, Default)]
pub(crate) struct FamilyFiles {
    pub(crate) name: String,
    /// `None` in a database so old that it does not say: the bytewise order.
    pub(crate) comparator: Option<String>,
    pub(crate) log_number: FileNumber,
    pub(crate) files: BTreeMap<FileNumber, (u32, FileMeta)>,
    pub(crate) compact_cursors: BTreeMap<u32, Vec<u8>>,
    /// Every blob file ever added; which of them the version has, its tables decide.
    pub(crate) blobs: BTreeMap<FileNumber, (BlobMeta, BlobGarbage)>,
    /// The sequence numbers of every table that the family ever had.
    pub(crate) sequences: SequenceRanges,
}

impl ManifestState {
    fn new() -> ManifestState {
        let mut state = ManifestState::default();
        let default = FamilyFiles { name: DEFAULT_FAMILY.to_owned(), ..FamilyFiles::default() };
        state.families.insert(ColumnFamilyId::DEFAULT, default);
        state
    }

    fn apply(&mut self, edit: VersionEdit) -> Result<()> {
        let malformed = |detail: String| Err(Error::corrupt(CorruptionKind::Malformed, detail));
        if let Some(name) = edit.added_family {
            let name = text(name, "column family name")?;
            if self.families.contains_key(&edit.family) {
                return malformed(format!("column family {} is added twice", edit.family.0));
            }
            if self.families.values().any(|family| family.name == name) {
                return malformed(format!("there are two column families named {name:?}"));
            }
            self.families.insert(edit.family, FamilyFiles { name, ..FamilyFiles::default() });
        }
        self.max_family = self.max_family.max(edit.family).max(ColumnFamilyId(edit.max_family.unwrap_or(0)));
        if edit.is_family_drop {
            if edit.family == ColumnFamilyId::DEFAULT || self.families.remove(&edit.family).is_none() {
                return malformed(format!("column family {} is dropped, but cannot be", edit.family.0));
            }
        } else {
            let Some(family) = self.families.get_mut(&edit.family) else {
                return malformed(format!("an edit is for column family {}, which does not exist", edit.family.0));
            };
            if let Some(comparator) = edit.comparator {
                let comparator = text(comparator, "comparator name")?;
                match &family.comparator {
                    Some(known) if *known != comparator => {
                        return malformed(format!(
                            "column family {:?} changes its order from {known} to {comparator}",
                            family.name
                        ));
                    }
                    _ => family.comparator = Some(comparator),
                }
            }
            family.log_number = family.log_number.max(edit.log_number.unwrap_or_default());
            family.compact_cursors.extend(edit.compact_cursors);
            for (level, number) in edit.deleted_files {
                match family.files.get(&number) {
                    Some((found, _)) if *found == level => drop(family.files.remove(&number)),
                    _ => return Err(no_such_file(level, number)),
                }
            }
            for (level, meta) in edit.new_files {
                let number = meta.number;
                self.largest_number = self.largest_number.max(number);
                self.named.insert(number);
                family.sequences.insert(meta.smallest_seq..=meta.largest_seq);
                if family.files.insert(number, (level, meta)).is_some() {
                    return Err(added_twice(level, number));
                }
            }
            for meta in edit.blob_additions {
                let number = meta.number;
                self.largest_number = self.largest_number.max(number);
                if family.blobs.insert(number, (meta, BlobGarbage::default())).is_some() {
                    return malformed(format!("blob file {number} is added twice"));
                }
            }
            for (number, garbage) in edit.blob_garbage {
                let Some((meta, known)) = family.blobs.get_mut(&number) else {
                    return malformed(format!("garbage in blob file {number}, which does not exist"));
                };
                *known = known.and(garbage);
                if known.count > meta.count || known.bytes > meta.bytes {
                    return malformed(format!("blob file {number} has more garbage than blobs"));
                }
            }
        }
        self.has_log_number |= edit.log_number.is_some();
        self.has_next_file |= edit.next_file.is_some();
        self.has_last_sequence |= edit.last_sequence.is_some();
        let logs = edit.log_number.max(edit.min_log_to_keep);
        self.largest_number = self.largest_number.max(logs.unwrap_or_default());
        self.next_file = self.next_file.max(edit.next_file.unwrap_or_default());
        self.last_sequence = self.last_sequence.max(edit.last_sequence.unwrap_or_default());
        self.min_log_to_keep = self.min_log_to_keep.max(edit.min_log_to_keep.unwrap_or_default());
        if let Some(id) = edit.db_id {
            self.db_id = Some(text(id, "database id")?);
        }
        self.tracked_wals.extend(edit.wal_additions);
        if let Some(below) = edit.wals_deleted_below {
            self.tracked_wals = self.tracked_wals.split_off(&below);
        }
        Ok(())
    }

    fn check_complete(&self) -> Result<()> {
        let missing = match (self.has_log_number, self.has_next_file, self.has_last_sequence) {
            (true, true, true) => return Ok(()),
            (false, ..) => "log number",
            (_, false, _) => "next file number",
            _ => "last sequence number",
        };
        Err(Error::corrupt(CorruptionKind::Truncated, format!("no record has a {missing}")))
    }
}

fn text(bytes: Vec<u8>, what: &str) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let lossy = String::from_utf8_lossy(error.as_bytes()).into_owned();
        Error::new(ErrorKind::NotSupported, format!("the {what} {lossy:?} is not UTF-8"))
    })
}

/// What is wrong with a directory that has no CURRENT: `NoSuchDatabase`, or, if it has tables or logs, `Corruption`, since
/// nobody makes those before CURRENT.
pub(crate) fn without_current(fs: &dyn Fs, dir: &Path) -> Error {
    let files = match fs.list(dir) {
        Ok(files) => files,
        Err(error) if error.is_not_found() => Vec::new(),
        Err(error) => return error,
    };
    let is_kind =
        |name: &str, wanted: &[FileKind]| file_name::parse(name).is_some_and(|(kind, _)| wanted.contains(&kind));
    let is_data = |name: &str| is_kind(name, &[FileKind::Table, FileKind::Wal, FileKind::Blob]);
    match files.iter().find(|file| !file.is_dir && is_data(&file.name)) {
        // Unless it was made a moment ago.
        Some(data) if !files.iter().any(|file| is_kind(&file.name, &[FileKind::Current])) => {
            let detail = format!("it does not exist, but {} does: repair, or clear the directory", data.name);
            Error::corrupt(CorruptionKind::Missing, detail).in_file(&dir.join(file_name::CURRENT), None)
        }
        _ => Error::new(ErrorKind::NoSuchDatabase, format!("there is no database in {}", dir.display())),
    }
}

/// The number of the MANIFEST that CURRENT names.
///
/// # Errors
/// As of [`without_current`] if there is no CURRENT; `Corruption`; what the file system says.
pub(crate) fn read_current(fs: &dyn Fs, dir: &Path) -> Result<FileNumber> {
    let path = dir.join(file_name::CURRENT);
    let bytes = fs.read_whole(&path, CURRENT_BYTES_MAX).map_err(|error| match error.kind() {
        _ if error.is_not_found() => without_current(fs, dir),
        // It has one short name.
        ErrorKind::Limit => Error::corrupt(CorruptionKind::BadLength, error.to_string()).in_file(&path, None),
        _ => error,
    })?;
    let name = bytes.strip_suffix(b"\n").and_then(|name| std::str::from_utf8(name).ok());
    match name.and_then(file_name::parse) {
        Some((FileKind::Manifest, number)) => Ok(number),
        _ => {
            let found = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]).into_owned();
            let detail = format!("expected MANIFEST-<number> and a newline, found {found:?}");
            Err(Error::corrupt_at(CorruptionKind::Malformed, &path, 0, detail))
        }
    }
}

/// Adds up the records of a MANIFEST.
pub(crate) fn read_manifest(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<ManifestState> {
    let mut reader = ManifestReader::open(fs, dir, number)?;
    let mut state = ManifestState::new();
    while let Some((offset, edits)) = reader.next()? {
        let applied = edits.into_iter().try_for_each(|edit| state.apply(edit));
        applied.map_err(|error| error.in_file(&reader.path, Some(offset)))?;
    }
    state.is_cut_off = reader.is_cut_off;
    let end = reader.position().offset();
    state.check_complete().map_err(|error| error.in_file(&reader.path, Some(end)))?;
    state.largest_number = state.largest_number.max(number);
    Ok(state)
}

/// Gives the changes of one MANIFEST in their order: an edit, or an atomic group of them whole.
#[derive(Debug)]
pub(crate) struct ManifestReader {
    log: LogReader,
    path: PathBuf,
    group: AtomicGroup,
    record: Vec<u8>,
    /// Behind the last change that was given.
    position: LogPosition,
    /// The end that was met lies inside a record.
    is_cut_off: bool,
}

impl ManifestReader {
    /// A reader at the start of the MANIFEST `number`.
    ///
    /// # Errors
    /// `Corruption` if it does not exist: CURRENT names it.
    pub(crate) fn open(fs: &dyn Fs, dir: &Path, number: FileNumber) -> Result<ManifestReader> {
        let path = dir.join(file_name::manifest(number));
        let file = fs.open_random(&path).map_err(|error| match error.is_not_found() {
            true => {
                let detail = "CURRENT names this file, but it does not exist";
                Error::corrupt(CorruptionKind::Missing, detail).in_file(&path, None)
            }
            false => error,
        })?;
        let log = LogReader::new(file, path.clone(), number.0);
        let position = log.position();
        Ok(ManifestReader { log, path, group: AtomicGroup::default(), record: Vec::new(), position, is_cut_off: false })
    }

    /// Behind the last whole change that was given: never inside a group, since its edits mean something together only.
    pub(crate) fn position(&self) -> LogPosition {
        self.position
    }

    /// Goes to a position that a reader of this MANIFEST gave: the changes after it come next, those that were appended
    /// since the end was met included. What was read of an unfinished group is forgotten, and read again.
    ///
    /// # Errors
    /// `Corruption` if the file ends before the position.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers that follow a database, which come later"))]
    pub(crate) fn resume(&mut self, position: LogPosition) -> Result<()> {
        self.log.resume(position)?;
        self.position = position;
        self.group = AtomicGroup::default();
        self.is_cut_off = false;
        Ok(())
    }

    /// The next change, and where its last record starts; `None` at the end, where an unfinished group or record is not
    /// given.
    ///
    /// # Errors
    /// `Corruption`, with file and offset, for all that does not add up; what the file system says.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Vec<VersionEdit>)>> {
        loop {
            match self.log.next(&mut self.record)? {
                ReadOutcome::Record { offset } => {
                    let ready = VersionEdit::decode(&self.record).and_then(|edit| self.group.push(edit));
                    let ready = ready.map_err(|error| error.in_file(&self.path, Some(offset)))?;
                    if !ready.is_empty() {
                        self.position = self.log.position();
                        return Ok(Some((offset, ready)));
                    }
                }
                ReadOutcome::End => return Ok(None),
                ReadOutcome::TruncatedTail { offset } if self.log.cut_off_tail_is_whole() => {
                    let detail = "the header of the last record is damaged";
                    return Err(Error::corrupt_at(CorruptionKind::BadLength, &self.path, offset, detail));
                }
                ReadOutcome::TruncatedTail { .. } => {
                    self.is_cut_off = true;
                    return Ok(None);
                }
                ReadOutcome::Corrupt { offset, reason } => {
                    return Err(Error::corrupt_at(CorruptionKind::Checksum, &self.path, offset, reason));
                }
                ReadOutcome::OldRecord { offset, .. } => {
                    let detail = "a record of another log: MANIFEST is never recycled";
                    return Err(Error::corrupt_at(CorruptionKind::Misplaced, &self.path, offset, detail));
                }
            }
        }
    }
}

/// Holds the edits of an atomic group back until its last one is there.
#[derive(Debug, Default)]
struct AtomicGroup {
    edits: Vec<VersionEdit>,
    /// How many are still to come; meaningful while `edits` is not empty.
    remaining: u32,
}

impl AtomicGroup {
    /// The edits that may be applied now.
    fn push(&mut self, edit: VersionEdit) -> Result<Vec<VersionEdit>> {
        let is_open = !self.edits.is_empty();
        let wrong = |detail: String| Err(Error::corrupt(CorruptionKind::Malformed, detail));
        match edit.atomic_group {
            None if is_open => wrong(format!("an atomic group lacks its last {} edits", self.remaining)),
            None => Ok(vec![edit]),
            Some(remaining) if is_open && remaining.checked_add(1) != Some(self.remaining) => {
                wrong(format!("an atomic group goes on with {remaining} edits to come; {} were", self.remaining))
            }
            Some(remaining) => {
                self.remaining = remaining;
                self.edits.push(edit);
                Ok(if remaining == 0 { std::mem::take(&mut self.edits) } else { Vec::new() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{CreateMode, MemoryFs};
    use crate::wal::writer::LogWriter;

    const NUMBER: FileNumber = FileNumber(5);

    fn first() -> VersionEdit {
        VersionEdit {
            log_number: Some(FileNumber(4)),
            next_file: Some(FileNumber(9)),
            last_sequence: Some(SequenceNumber(7)),
            ..VersionEdit::default()
        }
    }

    fn written(records: &[Vec<u8>]) -> MemoryFs {
        let fs = MemoryFs::new();
        let file = fs.create(Path::new("/MANIFEST-000005"), CreateMode::New).expect("a file");
        let mut writer = LogWriter::new(file, None);
        for record in records {
            writer.add_record(record).expect("written");
        }
        fs
    }

    fn encoded(edits: &[VersionEdit]) -> Vec<Vec<u8>> {
        let encode = |edit: &VersionEdit| {
            let mut out = Vec::new();
            edit.encode(&mut out);
            out
        };
        edits.iter().map(encode).collect()
    }

    fn read(fs: &MemoryFs) -> Result<ManifestState> {
        read_manifest(fs, Path::new("/"), NUMBER)
    }

    #[test]
    fn a_manifest_cut_anywhere_holds_whole_records_and_whole_groups_only() {
        let grouped = |sequence: u64, remaining: u32| VersionEdit {
            last_sequence: Some(SequenceNumber(sequence)),
            atomic_group: Some(remaining),
            ..VersionEdit::default()
        };
        let fs = written(&encoded(&[first(), grouped(10, 2), grouped(11, 1), grouped(12, 0)]));
        let path = Path::new("/MANIFEST-000005");
        let whole = fs.read_whole(path, 1000).expect("there");
        assert_eq!(read(&fs).expect("whole").last_sequence, SequenceNumber(12));
        for cut in (0..whole.len()).rev() {
            fs.damage(path, |bytes| bytes.truncate(cut)).expect("there");
            match read(&fs) {
                Ok(state) => assert_eq!(state.last_sequence, SequenceNumber(7), "cut at {cut}"),
                // Without the first record there is no log number.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption);
                    assert!(cut < 7 + encoded(&[first()])[0].len(), "cut at {cut}: {error}");
                }
            }
        }
    }

    /// The last sequence numbers of the changes that come next, one list a change.
    fn changes(reader: &mut ManifestReader) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        while let Some((_, edits)) = reader.next().expect("sound") {
            all.push(edits.iter().map(|edit| edit.last_sequence.expect("given").0).collect());
        }
        all
    }

    #[test]
    fn a_reader_that_met_the_end_anywhere_goes_on_with_whole_changes_only() {
        let edit = |sequence: u64, atomic_group: Option<u32>| VersionEdit {
            last_sequence: Some(SequenceNumber(sequence)),
            atomic_group,
            ..VersionEdit::default()
        };
        let edits = [first(), edit(8, None), edit(10, Some(2)), edit(11, Some(1)), edit(12, Some(0)), edit(13, None)];
        let all = [vec![7], vec![8], vec![10, 11, 12], vec![13]];
        let path = Path::new("/MANIFEST-000005");
        let whole = written(&encoded(&edits)).read_whole(path, 1000).expect("there");
        for cut in 0..=whole.len() {
            let fs = MemoryFs::new();
            let file = fs.create(path, CreateMode::New).expect("a file");
            file.append(&whole[..cut]).expect("written");
            let mut reader = ManifestReader::open(&fs, Path::new("/"), NUMBER).expect("there");
            let mut found = changes(&mut reader);
            assert_eq!(found[..], all[..found.len()], "cut at {cut}");
            let position = reader.position();
            file.append(&whole[cut..]).expect("written");
            // The same reader, and one that has read nothing.
            let mut other = ManifestReader::open(&fs, Path::new("/"), NUMBER).expect("there");
            other.resume(position).expect("within the file");
            let rest = changes(&mut other);
            reader.resume(position).expect("within the file");
            assert_eq!(changes(&mut reader), rest, "cut at {cut}");
            assert_eq!(reader.position(), other.position());
            found.extend(rest);
            assert_eq!(found, all, "cut at {cut}");
            assert_eq!(reader.position().offset(), whole.len() as u64);
            fs.damage(path, |bytes| bytes.truncate(whole.len() - 1)).expect("there");
            assert!(reader.resume(other.position()).expect_err("too short").corruption().is_some());
        }
    }

    #[test]
    fn every_flipped_bit_is_corruption_with_its_offset_or_a_dropped_tail() {
        let fs = written(&encoded(&[first(), VersionEdit { last_sequence: Some(SequenceNumber(8)), ..first() }]));
        let path = Path::new("/MANIFEST-000005");
        for bit in 0..fs.file_size(path).expect("there") * 8 {
            fs.damage(path, |bytes| bytes[bit as usize / 8] ^= 1 << (bit % 8)).expect("there");
            match read(&fs) {
                // A length that reaches past the end of the file is a cut-off record.
                Ok(state) => assert_eq!(state.last_sequence, SequenceNumber(7), "bit {bit}"),
                Err(error) => {
                    let damage = error.corruption().expect("corruption");
                    assert!(damage.file.is_some() && damage.offset.is_some(), "{error}");
                }
            }
            fs.damage(path, |bytes| bytes[bit as usize / 8] ^= 1 << (bit % 8)).expect("there");
        }
    }

    #[test]
    fn current_must_name_a_manifest_and_end_its_line() {
        let fs = MemoryFs::new();
        let dir = Path::new("/");
        assert_eq!(read_current(&fs, dir).expect_err("none").kind(), ErrorKind::NoSuchDatabase);
        fs.create(&dir.join("CURRENT"), CreateMode::New).expect("a file");
        for (text, number) in [
            ("MANIFEST-000005\n", Some(NUMBER)),
            ("MANIFEST-000005", None),
            ("000005.sst\n", None),
            ("../MANIFEST-000005\n", None),
            ("", None),
        ] {
            fs.damage(&dir.join("CURRENT"), |bytes| *bytes = text.into()).expect("there");
            assert_eq!(read_current(&fs, dir).ok(), number, "{text:?}");
        }
    }
}
