//! From a version and an edit to the next version: a pure function, with every check that can be made without I/O.

use crate::error::Result;
use crate::format::comparator::KeyOrder;
use crate::sync::Arc;

use super::edit::VersionEdit;
use super::{TableFile, Version};

impl Version {
    /// The version after `edit`. Its deletions come first, so that a file may move between levels.
    ///
    /// # Errors
    /// `Corruption` names the file and what is wrong with it; the version is as it was.
    pub(crate) fn apply(&self, edit: &VersionEdit) -> Result<Version> {
        todo!()
    }

    /// A version made of files and their levels.
    pub(crate) fn from_files(order: KeyOrder, levels: usize, files: Vec<(u32, Arc<TableFile>)>) -> Result<Version> {
        todo!()
    }
}
