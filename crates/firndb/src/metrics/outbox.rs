//! The outbox: what listeners and the logger are to be told, kept until no lock is held.
//!
//! Flow: an owner, perhaps under its lock -> [`Outbox::post`] or [`Outbox::log`] -> the queue here -> [`Outbox::deliver`],
//! called without locks at the end of each job, each janitor step and each public call that may have posted.
//!
//! Invariants
//! 1. A callback runs with no lock of the engine held, so that it may call whatever it likes.
//! 2. One thread delivers at a time, in the order of posting. A callback that posts, or that calls something which
//!    delivers, leaves the new message to a later delivery: nothing recurses, nothing waits, nothing goes on for ever.
//! 3. A panic in a callback ends there: the message counts as delivered, and the owner of the outbox is told.
//!
//! Threads: any. The queue's lock is held for moments, and never around a callback.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::{Arc, Mutex};
use crate::threads::panic_message;

use super::events::{
    BackgroundErrorEvent, CompactionEvent, EventListener, FlushEvent, LogLevel, Logger, StallEvent, TableFileEvent,
};

/// More messages than this are not kept: a listener that never returns must not use up the memory.
const MESSAGES_MAX: usize = 1 << 16;

/// Something that a listener is told.
#[derive(Debug)]
pub(crate) enum Event {
    Flush(FlushEvent),
    Compaction(CompactionEvent),
    TableFileDeleted(TableFileEvent),
    Stall(StallEvent),
    BackgroundError(BackgroundErrorEvent),
}

enum Message {
    Event(Event),
    Log(LogLevel, String),
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    is_delivering: bool,
    /// Nobody comes later: whoever delivers goes on until nothing is left.
    is_last: bool,
    dropped: u64,
}

/// What to do when a callback panicked: called with no lock held, with the panic's words.
pub(crate) type OnCallbackPanic = Box<dyn Fn(&str) + Send + Sync>;

/// See the module documentation.
#[derive(Default)]
pub(crate) struct Outbox {
    listeners: Vec<Arc<dyn EventListener>>,
    logger: Option<Arc<dyn Logger>>,
    queue: Mutex<Queue>,
    on_panic: Mutex<Option<Arc<OnCallbackPanic>>>,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({} messages)", self.queue.lock().messages.len())
    }
}

impl Outbox {
    pub(crate) fn new(listeners: Vec<Arc<dyn EventListener>>, logger: Option<Arc<dyn Logger>>) -> Arc<Outbox> {
        Arc::new(Outbox { listeners, logger, ..Outbox::default() })
    }

    /// What to do when a callback panics from now on.
    pub(crate) fn set_on_panic(&self, on_panic: OnCallbackPanic) {
        *self.on_panic.lock() = Some(Arc::new(on_panic));
    }

    /// Keeps an event for the listeners. May be called under any lock.
    pub(crate) fn post(&self, event: Event) {
        if !self.listeners.is_empty() {
            self.push(Message::Event(event));
        }
    }

    /// Keeps a line for the logger. May be called under any lock.
    pub(crate) fn log(&self, level: LogLevel, message: impl FnOnce() -> String) {
        if self.logger.is_some() {
            self.push(Message::Log(level, message()));
        }
    }

    fn push(&self, message: Message) {
        let mut queue = self.queue.lock();
        if queue.messages.len() < MESSAGES_MAX {
            queue.messages.push_back(message);
        } else {
            queue.dropped += 1;
        }
    }

    /// Calls the listeners and the logger with what waits now. For a caller that holds no lock. Returns at once if another
    /// thread, or a callback further up on this one, is delivering. What is posted meanwhile is for the next call, so that
    /// callbacks whose actions bring further callbacks about keep no caller for ever.
    pub(crate) fn deliver(&self) {
        let mut left = self.queue.lock().messages.len();
        while left > 0 || self.queue.lock().is_last {
            left = left.saturating_sub(1);
            let Some(message) = self.take() else { return };
            let outcome = catch_unwind(AssertUnwindSafe(|| self.tell(&message)));
            drop(message);
            self.queue.lock().is_delivering = false;
            if let Err(panic) = outcome {
                let on_panic = self.on_panic.lock().clone();
                if let Some(on_panic) = on_panic {
                    on_panic(panic_message(&*panic));
                }
            }
        }
    }

    /// The database is closed: few messages are still to come, and nobody will call for them. Whoever delivers now, or
    /// later, goes on until nothing is left.
    pub(crate) fn deliver_last(&self) {
        self.queue.lock().is_last = true;
        self.deliver();
    }

    /// Takes the next message out, and the right to deliver it; `None` if there is none, or another thread delivers.
    fn take(&self) -> Option<Message> {
        let mut queue = self.queue.lock();
        if queue.is_delivering {
            return None;
        }
        let dropped = std::mem::take(&mut queue.dropped);
        let message = if dropped > 0 {
            Some(Message::Log(LogLevel::Warn, format!("{dropped} messages were dropped: a listener is slow")))
        } else {
            queue.messages.pop_front()
        };
        queue.is_delivering = message.is_some();
        message
    }

    fn tell(&self, message: &Message) {
        match message {
            Message::Log(level, line) => {
                if let Some(logger) = &self.logger {
                    logger.log(*level, line);
                }
            }
            Message::Event(event) => self.listeners.iter().for_each(|listener| match event {
                Event::Flush(event) => listener.flush_completed(event),
                Event::Compaction(event) => listener.compaction_completed(event),
                Event::TableFileDeleted(event) => listener.table_file_deleted(event),
                Event::Stall(event) => listener.stall_changed(event),
                Event::BackgroundError(event) => listener.background_error(event),
            }),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicUsize, Ordering};

    /// Posts and delivers from within its own callback, and panics once.
    #[derive(Debug, Default)]
    struct Meddler {
        outbox: Mutex<Option<Arc<Outbox>>>,
        told: Mutex<Vec<Option<String>>>,
        panics: AtomicUsize,
    }

    impl EventListener for Meddler {
        fn stall_changed(&self, event: &StallEvent) {
            let outbox = self.outbox.lock().clone().expect("set by the test");
            if event.reason.as_deref() == Some("first") {
                outbox.post(stall("nested"));
                outbox.deliver();
            }
            self.told.lock().push(event.reason.clone());
            if event.reason.as_deref() == Some("second") && self.panics.fetch_add(1, Ordering::Relaxed) == 0 {
                std::panic::resume_unwind(Box::new("of the listener"));
            }
        }
    }

    fn stall(reason: &str) -> Event {
        Event::Stall(StallEvent { reason: Some(reason.to_owned()) })
    }

    #[test]
    fn messages_come_in_their_order_one_at_a_time_and_a_panic_ends_in_the_outbox() {
        let meddler = Arc::new(Meddler::default());
        let outbox = Outbox::new(vec![Arc::clone(&meddler) as _], None);
        *meddler.outbox.lock() = Some(Arc::clone(&outbox));
        let panics = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&panics);
        outbox.set_on_panic(Box::new(move |words| seen.lock().push(words.to_owned())));
        for reason in ["first", "second", "third"] {
            outbox.post(stall(reason));
        }
        outbox.deliver();
        assert_eq!(meddler.told.lock().len(), 3, "what came meanwhile is for the next call");
        outbox.deliver();
        let told: Vec<_> = meddler.told.lock().iter().flatten().cloned().collect();
        assert_eq!(told, ["first", "second", "third", "nested"]);
        assert_eq!(*panics.lock(), ["of the listener"]);
        *meddler.outbox.lock() = None;
    }
}
