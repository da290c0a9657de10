//! The directory's OPTIONS file: the newest is read, carried on, and written again when families come and go.

use std::path::{Path, PathBuf};

use crate::error::{CorruptionKind, Error, Result};
use crate::format::file_name::{self, FileKind};
use crate::format::key::FileNumber;
use crate::fs::Fs;
use crate::options::FamilyOptions;
use crate::options::file::{MAX_OPTIONS_FILE_BYTES, OptionsFile, refuse_foreign_paths};
use crate::version::set::VersionSet;

/// The text in use, and where it is.
#[derive(Debug)]
pub(super) struct OptionsText {
    pub(super) file: OptionsFile,
    /// `None` if the directory has none yet.
    number: Option<FileNumber>,
    /// What was read, for errors.
    path: PathBuf,
}

impl OptionsText {
    /// Reads the newest OPTIONS file of a directory; the highest number wins.
    ///
    /// # Errors
    /// `Corruption` with the file and line; `NotSupported` if it places data outside of the directory.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<OptionsText> {
        let numbers = fs.list(dir)?.into_iter().filter_map(|entry| match file_name::parse(&entry.name) {
            Some((FileKind::Options, number)) => Some(number),
            _ => None,
        });
        let Some(number) = numbers.max() else {
            return Ok(OptionsText { file: OptionsFile::minimal(), number: None, path: dir.join("OPTIONS") });
        };
        let path = dir.join(file_name::options(number));
        let bytes = fs.read_whole(&path, MAX_OPTIONS_FILE_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        let file = OptionsFile::parse(&text).map_err(|error| error.in_file(&path, None))?;
        refuse_foreign_paths(&file, fs, dir)?;
        Ok(OptionsText { file, number: Some(number), path })
    }

    /// What it says of a family, over what `options` say.
    ///
    /// # Errors
    /// `Corruption` for values that no RocksDB writes, and for another key order than MANIFEST's.
    pub(super) fn apply_to(&self, name: &str, options: &mut FamilyOptions) -> Result<()> {
        let in_file = |error: Error| error.in_file(&self.path, None);
        self.file.apply_to(name, options).map_err(in_file)?;
        match self.file.comparator(name) {
            // MANIFEST decides; a text file without a checksum must not change answers, but must not be wrong either.
            Some(named) if named != options.key_order.name() => {
                let order = options.key_order.name();
                let detail =
                    format!("family {name:?} is said to be in the order of {named:?}; MANIFEST says {order:?}");
                Err(in_file(Error::corrupt(CorruptionKind::Malformed, detail)))
            }
            _ => Ok(()),
        }
    }

    /// Makes the file name exactly these families; writes a new one if that changes anything. Returns the number of the
    /// file that is obsolete now.
    pub(super) fn update(
        &mut self,
        fs: &dyn Fs,
        dir: &Path,
        versions: &VersionSet,
        families: &[(String, FamilyOptions)],
    ) -> Result<Option<FileNumber>> {
        let mut next = self.file.clone();
        let gone: Vec<String> =
            next.family_names().into_iter().filter(|name| !families.iter().any(|(known, _)| known == name)).collect();
        gone.iter().for_each(|name| next.remove_family(name));
        families.iter().for_each(|(name, options)| next.add_family(name, options));
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
