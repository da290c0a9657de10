//! The end of a database: asked for, or by the last handle's drop.

use std::thread::ThreadId;
use std::time::Duration;

use crate::clock::CancelToken;
use crate::error::Result;
use crate::metrics::LogLevel;
use crate::options::BackgroundMode;
use crate::sync::atomic::{Ordering, fence};
use crate::sync::{Arc, Mutex, MutexGuard};

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
    /// Ousts them: their next step fails with [`ErrorKind::PinEvicted`](crate::ErrorKind::PinEvicted).
    Oust,
}

/// Whoever closes, one at a time: others wait for the end, since who hears of it may open the directory again.
#[derive(Debug, Default)]
pub(super) struct Closing {
    lock: Mutex<()>,
    by: Mutex<Option<ThreadId>>,
}

impl Closing {
    /// The right to close, once nobody else has it; `None` on a thread that must not wait for whoever has: the same one, or
    /// one that is waited for.
    fn enter(&self, is_waited_for: bool) -> Option<ClosingGuard<'_>> {
        let own = std::thread::current().id();
        let must_not_wait = is_waited_for || *self.by.lock() == Some(own);
        let lock = if must_not_wait { self.lock.try_lock()? } else { self.lock.lock() };
        *self.by.lock() = Some(own);
        Some(ClosingGuard { by: &self.by, _lock: lock })
    }
}

struct ClosingGuard<'a> {
    by: &'a Mutex<Option<ThreadId>>,
    _lock: MutexGuard<'a, ()>,
}

impl Drop for ClosingGuard<'_> {
    fn drop(&mut self) {
        // Before the lock goes, which is dropped after this.
        *self.by.lock() = None;
    }
}

impl Db {
    /// Closes the database: flushes memtables (unless `avoid_flush_during_shutdown`), ends background work, gives the
    /// directory free. Other handles then fail with `Closed`. Closing twice is harmless; at the same time, too: each call
    /// returns when the database is closed, but for those from a listener, which the one that closes may wait for.
    ///
    /// # Errors
    /// `Busy`, naming the holders, if iterators or snapshots are open: nothing is closed then. `Io` or `NoSpace` if the
    /// last flush failed: the database is closed, and the log still has what was written to it.
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
            // Another call may be at it still.
            drop(core.closing.enter(core.is_waited_for()));
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
        core.end(mode)
    }
}

impl Core {
    /// Closes, if nobody did; when this returns, somebody has.
    fn end(self: &Arc<Self>, mode: CloseMode) -> Result<()> {
        let Some(_one_at_a_time) = self.closing.enter(self.is_waited_for()) else { return Ok(()) };
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.shut_down();
        if mode == CloseMode::Oust {
            // Those that were made while the door was closing. Readers that were ousted read no more: who opens the
            // directory next may do as they like.
            self.pins.oust_all();
            self.let_go();
        } else {
            self.let_go_after_readers();
        }
        result
    }

    /// True on a thread that closing waits for: in a job of this database, or in its janitor.
    fn is_waited_for(&self) -> bool {
        self.scheduler.is_running_here() || self.janitor.is_running_here()
    }

    /// Ends jobs and writes; what is in memory goes to tables or stays in the log.
    fn shut_down(self: &Arc<Self>) -> Result<()> {
        // Pairs with the fence in `view`: a reader either sees the mark, or has its pin where we look for it later.
        fence(Ordering::SeqCst);
        self.cancel.cancel();
        self.scheduler.shutdown();
        // Calls of users that are still at work: families that come and go, compactions, flushes. Those that begin now see
        // the mark under the same locks.
        let _no_change = self.changing.lock();
        self.all_families().iter().for_each(|family| drop(family.compacting.lock()));
        let Some(queue) = &self.queue else { return Ok(()) };
        let flushed = self.flush_at_end();
        let closed = queue.close();
        self.versions.close();
        flushed.and(closed)
    }

    fn flush_at_end(self: &Arc<Self>) -> Result<()> {
        // The token ended the background's jobs; this flush is the close's own.
        let cancel = CancelToken::default();
        let queue = self.writes()?;
        if let Some(error) = self.errors.fatal() {
            // Nothing more is to be written, whoever asks.
            return Err(error);
        }
        if queue.gate().is_refusing() {
            // Writes that are in no log, or in one that failed, have this last chance.
            return self.resume(&cancel);
        }
        let families: Vec<_> = match self.options.avoid_flush_during_shutdown {
            // Writes that are in no log would be lost.
            true => queue.unlogged_families()?,
            false => self.all_families().iter().map(|family| family.state.id()).collect(),
        };
        if families.is_empty() {
            // One that is running has to end first.
            drop(self.flushing.lock());
            return Ok(());
        }
        queue.switch_memtables(&families)?;
        self.flush_full_memtables_with(&cancel)
    }

    /// The last handle is gone. Nobody is left to hear of an error but the logger.
    pub(super) fn abandon(self: &Arc<Self>) {
        if let Err(error) = self.end(CloseMode::Refuse) {
            self.log(LogLevel::Error, || format!("closing failed: {error}"));
        }
    }

    fn let_go_after_readers(&self) {
        match self.pins.count() {
            0 => self.let_go(),
            // The janitor lives on until the last reader is gone, and the lock with it.
            _ if self.options.background == BackgroundMode::Threads => self.janitor.retire(),
            // Without threads there is nobody but the readers themselves: their registry goes with the last of them.
            _ => self.pins.keep(Arc::clone(&self.lock)),
        }
    }

    fn let_go(&self) {
        self.janitor.drain();
        self.janitor.stop();
        drop(self.lock.lock().take());
    }
}
