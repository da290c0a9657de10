//! What a program says of one column family when it opens a database.

use std::fmt;
use std::sync::Arc;

use super::FamilyOptions;

type Change = Arc<dyn Fn(&mut FamilyOptions) + Send + Sync>;

/// What a program says of one column family when it opens a database; see [`Options::families`](super::Options::families).
///
/// A program seldom means all options of a family. What it does not say is as the directory's OPTIONS file says:
///
/// - [`FamilyDescriptor::options`]: each field that differs from `FamilyOptions::default()` is said, the others are not.
/// - [`FamilyDescriptor::change`]: is handed what is in effect, and what it assigns is said, a default value too.
///
/// ```
/// use firndb::{Compression, Db, FamilyDescriptor, FamilyOptions, Options};
/// # let dir = std::env::temp_dir().join(format!("firndb-doc-descriptor-{}", std::process::id()));
/// let logs = FamilyOptions { compression: Compression::Lz4, write_buffer_size: 8 << 20, ..FamilyOptions::default() };
/// let options = Options {
///     create_if_missing: true,
///     create_missing_column_families: true,
///     families: vec![
///         FamilyDescriptor::new("logs").options(logs),
///         FamilyDescriptor::new("index").change(|options| options.bloom_bits_per_key = Some(10.0)),
///     ],
///     ..Options::default()
/// };
/// let db = Db::open_with(&dir, options)?;
/// db.close()?;
/// // The directory knows: nothing needs to be said again.
/// let db = Db::open(&dir)?;
/// assert_eq!(db.column_family("logs")?.options().compression, Compression::Lz4);
/// # db.close()?;
/// # std::fs::remove_dir_all(&dir).ok();
/// # Ok::<(), firndb::Error>(())
/// ```
#[derive(Clone)]
pub struct FamilyDescriptor {
    name: String,
    options: Option<FamilyOptions>,
    change: Option<Change>,
}

impl fmt::Debug for FamilyDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, options) = (&self.name, &self.options);
        f.debug_struct("FamilyDescriptor").field("name", name).field("options", options).finish_non_exhaustive()
    }
}

impl FamilyDescriptor {
    /// Names a family, and says nothing of it yet.
    pub fn new(name: impl Into<String>) -> FamilyDescriptor {
        FamilyDescriptor { name: name.into(), options: None, change: None }
    }

    /// Says every field of `options` that differs from `FamilyOptions::default()`. A key order that is said must be the one
    /// that the family was made with.
    #[must_use]
    pub fn options(mut self, options: FamilyOptions) -> FamilyDescriptor {
        self.options = Some(options);
        self
    }

    /// Changes the family's options as they would be without this: those of the directory, and what else the program says.
    /// Is called at every opening, after [`FamilyDescriptor::options`]. It cannot change the key order, which is MANIFEST's;
    /// opening is refused (`InvalidArgument`) if it changes the number of levels of a family that exists, or makes its
    /// compaction style one that its tables do not lie for.
    #[must_use]
    pub fn change(mut self, change: impl Fn(&mut FamilyOptions) + Send + Sync + 'static) -> FamilyDescriptor {
        self.change = Some(Arc::new(change));
        self
    }

    /// The family's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn said(&self) -> Option<&FamilyOptions> {
        self.options.as_ref()
    }

    pub(super) fn apply_change(&self, options: &mut FamilyOptions) {
        if let Some(change) = &self.change {
            change(options);
        }
    }
}
