//! The end of a database: asked for, or by the last handle's drop.
//!
//! Flow: [`Db::close_with`], or the last handle -> [`super::closing`] -> `Core::shut_down` -> the gate refuses -> jobs end ->
//! callers that are still at work end -> the last flush -> the log -> MANIFEST -> the directory's lock -> listeners.
//!
//! Invariants
//! 1. New writes, and those that wait in a stall, are refused before anything is waited for.
//! 2. A thread closes; others that close wait for it, but those that it waits for itself ([`super::closing`]).
//! 3. When `close` returns nobody touches the directory any more. If the last handle is dropped, readers may be open: the lock
//!    and the janitor live until the last of them goes.
//! 4. A drop never panics, whatever a user's code does during the last flush.
//!
//! Threads: any.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::background::resources::Resources;
use crate::error::Result;
use crate::metrics::LogLevel;
use crate::options::BackgroundMode;
use crate::sync::Arc;
use crate::sync::atomic::{Ordering, fence};
use crate::threads::panic_message;

use super::Db;
use super::core::{Core, Writer};

/// What closing does about iterators, snapshots and live files that are open.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CloseMode {
    /// Fails, naming them; the database stays open.
    #[default]
    Refuse,
    /// Waits until they are gone; reads and writes go on meanwhile.
    Wait,
    /// Ousts them: their next step fails with [`ErrorKind::PinEvicted`](crate::ErrorKind::PinEvicted).
    Oust,
}

impl Db {
    /// Closes the database: flushes memtables (unless `avoid_flush_during_shutdown`), ends background work, gives the
    /// directory free. Other handles then fail with `Closed`. Closing twice is harmless; at the same time, too: each call
    /// returns when the database is closed, but for those from a listener, which the one that closes may wait for.
    ///
    /// # Errors
    /// `Busy`, naming the holders, if iterators, snapshots or live files are open: nothing is closed then. `ForkedProcess` in another
    /// process than the one that opened the database: the same. `Io` or `NoSpace` if the
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
        core.check_process()?;
        if core.is_closed.load(Ordering::Acquire) {
            // Another call may be at it still.
            drop(core.closing.enter(core.is_waited_for()));
            return Ok(());
        }
        let result = loop {
            if mode == CloseMode::Wait {
                while !core.pins.readers().is_empty() {
                    core.resources.clock.sleep(Duration::from_millis(5));
                }
            }
            let Some(_one_at_a_time) = core.closing.enter(core.is_waited_for()) else { return Ok(()) };
            if core.is_closed.load(Ordering::Acquire) {
                return Ok(());
            }
            if mode == CloseMode::Oust {
                core.is_closed.store(true, Ordering::Release);
                break core.shut_down(Readers::Ousted);
            }
            if core.closing.decide(|| core.pins.readers().is_empty(), || core.is_closed.store(true, Ordering::Release))
            {
                break core.shut_down(Readers::None);
            }
            if mode == CloseMode::Refuse {
                // They may be gone by now.
                core.resources.check_no_readers()?;
            }
        };
        // Listeners are called last, with the directory given back.
        core.resources.outbox.deliver_last();
        result
    }
}

/// Who may read when a database ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Nobody: what is pinned was made after the mark, and may not read.
    None,
    /// Those that are told to leave.
    Ousted,
    /// Whoever does: the last handle was dropped.
    LeftAlone,
}

impl Core {
    /// The last handle is dropped: closes, if nobody did.
    fn end(self: &Arc<Self>) -> Result<()> {
        let result = {
            let Some(_one_at_a_time) = self.closing.enter(self.is_waited_for()) else { return Ok(()) };
            if self.is_closed.swap(true, Ordering::AcqRel) {
                return Ok(());
            }
            self.shut_down(Readers::LeftAlone)
        };
        self.resources.outbox.deliver_last();
        result
    }

    /// True on a thread that closing waits for: in a job of this database, or in its janitor.
    fn is_waited_for(&self) -> bool {
        let is_in_job = self.writer.as_ref().is_some_and(|writer| writer.scheduler.is_running_here());
        is_in_job || self.resources.janitor.is_running_here()
    }

    fn shut_down(self: &Arc<Self>, readers: Readers) -> Result<()> {
        // Pairs with the fence of a reader: it either sees the mark, or has its pin where we look for it later.
        fence(Ordering::SeqCst);
        // New writes, and those that wait in a stall, are refused before anything is waited for.
        let earlier_refusal = self.writer.as_ref().and_then(|writer| writer.queue.gate().close());
        if readers == Readers::Ousted {
            self.pins.oust_all();
        }
        let is_flush_wanted = !self.options.avoid_flush_during_shutdown;
        let end = |writer: &Writer| writer.end(&self.resources, is_flush_wanted, earlier_refusal.is_some());
        let result = self.writer.as_ref().map_or(Ok(()), end);
        match readers {
            Readers::None => self.let_go(),
            Readers::Ousted => {
                // Those that were made while the door was closing. Readers that were ousted read no more: who opens the
                // directory next may do as they like.
                self.pins.oust_all();
                self.let_go();
            }
            Readers::LeftAlone => self.let_go_after_readers(),
        }
        result
    }

    /// The last handle is gone. Nobody is left to be told of an error but the logger.
    pub(super) fn abandon(self: &Arc<Self>) {
        if self.check_process().is_err() {
            // The copy of a forked process is left as it is: its threads do not exist here, so that nobody can wait for them,
            // nor open the locks that they held.
            std::mem::forget(Arc::clone(self));
            return;
        }
        // In a drop, perhaps while a panic unwinds: a second one, in a user's code, would end the process.
        let failed = match catch_unwind(AssertUnwindSafe(|| self.end())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                self.let_go_after_readers();
                format!("it panicked: {}", panic_message(&*panic))
            }
        };
        self.resources.outbox.log(LogLevel::Error, || format!("closing failed: {failed}"));
        self.resources.outbox.deliver();
    }

    fn let_go_after_readers(&self) {
        match self.pins.count() {
            0 => self.let_go(),
            // The janitor lives on until the last reader is gone, and the lock with it.
            _ if self.options.background == BackgroundMode::Threads => self.resources.janitor.retire(),
            // Without threads there is nobody but the readers themselves: their registry goes with the last of them.
            _ => self.pins.keep(Arc::clone(&self.lock)),
        }
    }

    fn let_go(&self) {
        self.resources.janitor.drain();
        self.resources.janitor.stop();
        drop(self.lock.lock().take());
    }
}

impl Writer {
    /// Ends jobs and writes; what is in memory goes to tables or stays in the log. `had_failed`: writes were refused
    /// before the database was closed.
    fn end(&self, resources: &Resources, is_flush_wanted: bool, had_failed: bool) -> Result<()> {
        resources.cancel.cancel();
        self.scheduler.shutdown();
        // Calls of users that are still at work: families that come and go, compactions. Those that begin now see the mark
        // under the same locks. Flushes are waited for by the last one.
        drop(self.changing.lock());
        resources.families.all().iter().for_each(|family| family.claims.close_and_wait());
        let flushed = self.flusher.flush_at_end(is_flush_wanted, had_failed);
        let closed = self.queue.close(had_failed);
        resources.versions.close();
        // What jobs could not remove before they ended.
        resources.take_orphans();
        flushed.and(closed)
    }
}
