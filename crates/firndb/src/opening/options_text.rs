//! The directory's OPTIONS file: the newest is read, carried on, and written again when families come and go.
//!
//! Flow: [`OptionsText::read`], or [`OptionsText::read_for_reading`] where a file that makes no sense is none -> the options of
//! the database and of each family -> `db`, which keeps the text and has it updated.
//!
//! Invariants: a file is never changed, but another one takes its place; what is in it and is not understood stays in it.
//! Threads: whoever opens; later those that change options or families, one at a time, under a lock of `db`.

use std::path::{Path, PathBuf};

use crate::error::{CorruptionKind, Error, ErrorKind, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::FileNumber;
use crate::fs::Fs;
use crate::options::file::{
    MAX_OPTIONS_FILE_BYTES, OptionsFile, foreign_wal_dir, refuse_foreign_paths, refuse_foreign_tables,
};
use crate::options::{CompactionStyle, FamilyOptions, Options};
use crate::version::set::{FamilySnapshot, VersionSet};

/// What OPTIONS says to whoever opens for reading.
pub(crate) struct ReadOptionsText {
    pub(crate) text: OptionsText,
    pub(crate) not_read: Option<String>,
    pub(crate) obstacle: Option<Error>,
    pub(crate) wal_dir: PathBuf,
}

/// The text in use, and where it is.
#[derive(Debug)]
pub(crate) struct OptionsText {
    pub(crate) file: OptionsFile,
    /// `None` if the directory has none yet.
    number: Option<FileNumber>,
    /// What was read, for errors.
    path: PathBuf,
}

impl OptionsText {
    /// The file in use; `None` if the directory has none yet.
    pub(crate) fn number(&self) -> Option<FileNumber> {
        self.number
    }

    /// What a directory says that has no OPTIONS file.
    pub(crate) fn none(dir: &Path) -> OptionsText {
        OptionsText { file: OptionsFile::minimal(), number: None, path: dir.join("OPTIONS") }
    }

    /// Reads the newest OPTIONS file of a directory; the highest number wins.
    ///
    /// # Errors
    /// `Corruption` with the file and line; `NotSupported` if it places data outside of the directory.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<OptionsText> {
        let text = OptionsText::parse(fs, dir)?;
        refuse_foreign_paths(&text.file, fs, dir)?;
        Ok(text)
    }

    /// The same for reading: a file that cannot be understood says nothing. Beside it, what was not read; an error that whoever
    /// looks for an entry gets, because the files lie elsewhere; and where the logs are.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn read_for_reading(fs: &dyn Fs, dir: &Path) -> Result<ReadOptionsText> {
        let mut found =
            ReadOptionsText { text: OptionsText::none(dir), not_read: None, obstacle: None, wal_dir: dir.to_owned() };
        match OptionsText::parse(fs, dir) {
            Ok(text) => found.text = text,
            Err(error) if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Limit) => {
                found.not_read = Some(format!("{error}; the defaults are taken"));
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
        let text = &found.text.file;
        found.obstacle = match foreign_wal_dir(text, fs, dir) {
            Some(elsewhere) if fs.exists(&elsewhere)? => {
                found.wal_dir = elsewhere;
                refuse_foreign_tables(text, dir).err()
            }
            // They are gone, and nobody knows whether there was something in them.
            _ => refuse_foreign_paths(text, fs, dir).err(),
        };
        Ok(found)
    }

    fn parse(fs: &dyn Fs, dir: &Path) -> Result<OptionsText> {
        let files = fs.list(dir)?.into_iter().filter(|entry| !entry.is_dir);
        let numbers = files.filter_map(|entry| match file_name::parse(&entry.name) {
            Some((FileKind::Options, number)) => Some(number),
            _ => None,
        });
        let Some(number) = numbers.max() else {
            return Ok(OptionsText::none(dir));
        };
        let path = dir.join(file_name::options(number));
        let bytes = fs.read_whole(&path, MAX_OPTIONS_FILE_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let file = OptionsFile::parse(&text).map_err(|error| error.in_file(&path, None))?;
        Ok(OptionsText { file, number: Some(number), path })
    }

    /// Options of the database: the program's, and the file's where the program says nothing.
    ///
    /// # Errors
    /// `Corruption` for values that no RocksDB writes.
    pub(crate) fn of_database(&self, program: &Options) -> Result<Options> {
        program.over_file(&self.file).map_err(|error| error.in_file(&self.path, None))
    }

    /// Options of a family that MANIFEST knows, and what had to be put in order.
    ///
    /// # Errors
    /// `Corruption` for values that no RocksDB writes, and for another key order than MANIFEST's; `InvalidArgument` for
    /// what the program says, a compaction style that the files do not allow among it.
    pub(crate) fn of_family(&self, program: &Options, family: &FamilySnapshot) -> Result<(FamilyOptions, Vec<String>)> {
        let in_file = |error: Error| match error.kind() {
            ErrorKind::InvalidArgument => error,
            _ => error.in_file(&self.path, None),
        };
        let (name, order) = (&family.name, &family.order);
        if let Some(named) = self.file.other_comparator(name, order.name()) {
            // MANIFEST decides; a text file without a checksum must not change answers, but must not be wrong either.
            let order = order.name();
            let detail = format!("family {name:?} is said to be in the order of {named:?}; MANIFEST says {order:?}");
            return Err(in_file(Error::corrupt(CorruptionKind::Malformed, detail)));
        }
        let (mut options, mut changed) = program.of_family(name, order, &self.file).map_err(in_file)?;
        let deepest = family.version.files().map(|(level, _)| level).max().unwrap_or(0);
        let stored = self.file.family_options(name).ok().flatten().map(|stored| stored.compaction_style);
        if options.compaction_style == CompactionStyle::Fifo && stored != Some(CompactionStyle::Fifo) && deepest > 0 {
            // What is oldest in a sorted level nobody knows, and FIFO families drop what is oldest.
            let message = format!(
                "compaction_style: column family {name:?} has tables in level {deepest}, and all tables of a FIFO family \
                 have to be in level 0"
            );
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
        if options.num_levels as usize <= deepest {
            changed.push(format!("num_levels is {} instead of {}", deepest + 1, options.num_levels));
            options.num_levels = deepest as u32 + 1;
        }
        Ok((options, changed))
    }

    /// Makes the file say exactly these options, and name exactly these families; writes a new one if that changes anything.
    /// Returns the number of the file that is obsolete now.
    pub(crate) fn update(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        versions: &VersionSet,
        database: &Options,
        families: &[(String, FamilyOptions)],
    ) -> Result<Option<FileNumber>> {
        let mut next = self.file.clone();
        let gone: Vec<String> =
            next.family_names().into_iter().filter(|name| !families.iter().any(|(known, _)| known == name)).collect();
        gone.iter().for_each(|name| next.remove_family(name));
        next.say_database(database);
        families.iter().for_each(|(name, options)| next.say_family(name, options, database));
        if next == self.file && self.number.is_some() {
            return Ok(None);
        }
        let number = versions.new_file_number();
        let path = dir.join(file_name::options(number));
        fs.write_atomically(&path, &dir.join(file_name::options_temp(number)), next.to_text().as_bytes())?;
        self.file = next;
        Ok(self.number.replace(number))
    }
}
