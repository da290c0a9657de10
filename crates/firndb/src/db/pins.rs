//! Who holds what: every pin with its line of code, its age, and the bytes that it alone keeps.

use crate::error::Result;
use crate::format::key::FileNumber;
use crate::superversion::PinReport;

use super::Db;

impl Db {
    /// Every open iterator, snapshot, job and set of live files, oldest first, with the line of code that made it and what it
    /// keeps.
    ///
    /// Costs time in the number of pins and files; nobody else waits for it. Empty in a forked process.
    pub fn pins(&self) -> Vec<PinReport> {
        if self.core().check_process().is_err() {
            return Vec::new();
        }
        self.core().resources.pin_reports()
    }

    /// Checks that no iterator, no snapshot and no set of live files is open: for the end of a test.
    ///
    /// # Errors
    /// `Busy`, naming the oldest holders and the lines of code that made them.
    pub fn assert_no_pins(&self) -> Result<()> {
        self.core().check_process()?;
        self.core().resources.check_no_readers()
    }

    /// Ends one reader: its next step fails with `PinEvicted`, and the files that it keeps may go once it is dropped. `id`
    /// is the one in [`PinReport`]. False if it is gone already, or is a job.
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-oust-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// let mut forgotten = db.iter()?;
    /// let pins = db.pins();
    /// println!("{}", pins[0]); // with the line of code that made it
    /// assert!(db.oust(pins[0].id));
    /// assert!(forgotten.next().expect("an error").is_err());
    /// # drop(forgotten);
    /// # db.close()?;
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn oust(&self, id: u64) -> bool {
        self.core().check_process().is_ok() && self.core().pins.oust(id)
    }

    /// The pins that keep a file which no current version needs.
    pub fn why_alive(&self, file: FileNumber) -> Vec<PinReport> {
        let mut pins = self.pins();
        pins.retain(|pin| pin.files.contains(&file));
        pins
    }
}
