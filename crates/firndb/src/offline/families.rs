//! The column families of a directory: MANIFEST alone says which there are.

use std::path::Path;

use crate::error::Result;
use crate::format::key::ColumnFamilyId;
use crate::options::Options;
use crate::version::manifest::{read_current, read_manifest};

/// The column families of the database in `dir`, by their numbers. Reads CURRENT and the MANIFEST that it names, and nothing else:
/// neither tables nor logs nor OPTIONS, and needs no comparator. Takes no lock and writes nothing.
///
/// # Errors
/// `NoSuchDatabase`; `Corruption` of MANIFEST; `Io`.
///
/// ```
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-families-{}", std::process::id()));
/// let db = firndb::Db::open(&dir)?;
/// db.create_column_family("index")?;
/// db.close()?;
/// let families = firndb::column_families_in(&dir, &firndb::Options::default())?;
/// let names: Vec<&str> = families.iter().map(|(_, name)| &**name).collect();
/// assert_eq!(names, ["default", "index"]);
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
pub fn column_families_in(dir: impl AsRef<Path>, options: &Options) -> Result<Vec<(ColumnFamilyId, String)>> {
    let (fs, dir) = (&*options.fs, dir.as_ref());
    loop {
        let number = read_current(fs, dir)?;
        match read_manifest(fs, dir, number) {
            Ok(found) => return Ok(found.families.into_iter().map(|(id, family)| (id, family.name)).collect()),
            // A writer beside us made another one, and removed this.
            Err(_) if read_current(fs, dir)? > number => {}
            Err(error) => return Err(error),
        }
    }
}
