//! The end of a database: asked for, or by the last handle's drop.

use std::time::Duration;

use crate::error::{ErrorKind, Result};
use crate::metrics::LogLevel;
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

use super::Db;
use super::core::Core;

/// What closing does about iterators and snapshots that are open.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloseMode {
    /// Fails, naming them; the database stays open.
    #[default]
    Refuse,
    /// Waits until they are gone.
    Wait,
    /// Ousts them: their next step fails with [`ErrorKind::PinEvicted`].
    Oust,
}

impl Db {
    /// Closes the database: flushes memtables (unless `avoid_flush_during_shutdown`), ends background work, gives the
    /// directory free. Closing twice is harmless. Other handles then fail with `Closed`.
    ///
    /// # Errors
    /// `Busy`, naming the holders, if iterators or snapshots are open: nothing is closed then. `Io` if the last flush
    /// failed: the database is closed, and the log still has what was written to it.
    pub fn close(&self) -> Result<()> {
        self.close_with(CloseMode::Refuse)
    }

    /// [`Db::close`], with a say in what becomes of open readers.
    ///
    /// # Errors
    /// As [`Db::close`].
    ///
    /// ```
    /// # let dir = std::env::temp_dir().join(format!("firndb-doc-close-{}", std::process::id()));
    /// let db = firndb::Db::open(&dir)?;
    /// db.put("key", "value")?;
    /// let mut iter = db.iter()?;
    /// assert_eq!(db.close().unwrap_err().kind(), firndb::ErrorKind::Busy);
    /// db.close_with(firndb::CloseMode::Oust)?;
    /// assert_eq!(iter.next().unwrap().unwrap_err().kind(), firndb::ErrorKind::PinEvicted);
    /// # drop(iter);
    /// # std::fs::remove_dir_all(&dir).ok();
    /// # Ok::<(), firndb::Error>(())
    /// ```
    pub fn close_with(&self, mode: CloseMode) -> Result<()> {
        let core = self.core();
        if core.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        match mode {
            CloseMode::Refuse => core.check_no_pins()?,
            CloseMode::Wait => {
                while core.reader_count() > 0 {
                    core.clock.sleep(Duration::from_millis(5));
                }
            }
            CloseMode::Oust => core.pins.oust_all(),
        }
        let result = core.shut_down();
        if mode == CloseMode::Oust {
            // Those that were made while the database was closing.
            core.pins.oust_all();
        }
        core.janitor.drain();
        core.janitor.stop();
        // Readers that were ousted read no more; who opens the directory next may do as they like.
        drop(core.lock.lock().take());
        result
    }
}

impl Core {
    /// Ends jobs and writes; what is in memory goes to tables or stays in the log. Once.
    fn shut_down(self: &Arc<Self>) -> Result<()> {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.cancel.cancel();
        self.scheduler.shutdown();
        let Some(queue) = &self.queue else { return Ok(()) };
        let flushed = self.flush_at_end();
        let closed = queue.close();
        match flushed {
            Err(error) if error.kind() != ErrorKind::ReadOnly => Err(error),
            // Writes had stopped before, and whoever wrote was told; the log has what it has.
            _ => closed,
        }
    }

    fn flush_at_end(self: &Arc<Self>) -> Result<()> {
        let queue = self.writes()?;
        let families: Vec<_> = match self.options.avoid_flush_during_shutdown {
            // Writes that are in no log would be lost.
            true => queue.unlogged_families()?,
            false => self.all_families().iter().map(|family| family.state.id()).collect(),
        };
        if !families.is_empty() {
            queue.switch_memtables(&families)?;
            self.flush_at_end_now()?;
        }
        Ok(())
    }

    fn flush_at_end_now(self: &Arc<Self>) -> Result<()> {
        // The token ended the background's jobs; this flush is the close's own.
        self.flush_full_memtables_with(&crate::clock::CancelToken::default())
    }

    /// The last handle is gone. Nobody is left to hear of an error but the logger.
    pub(super) fn abandon(self: &Arc<Self>) {
        if let Err(error) = self.shut_down() {
            self.log(LogLevel::Error, || format!("closing failed: {error}"));
        }
        if self.pins.count() == 0 {
            self.janitor.drain();
            self.janitor.stop();
            drop(self.lock.lock().take());
        } else {
            // The janitor lives on until the last reader is gone, and the lock with it.
            self.janitor.retire();
        }
    }
}
