//! What reports of hangs are tried with: a bound on every wait, and a disk that stops where a test wants it to.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use firndb::FsOp;

use crate::lab::{Lab, eventually};

/// Longer than anything here takes on a slow machine, and shorter than for ever.
const LONG: Duration = Duration::from_secs(60);

/// Runs `work` on a thread of its own; a panic if it is not done in good time.
pub(crate) fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, done) = mpsc::channel();
    let thread = std::thread::spawn(move || send.send(work()));
    match done.recv_timeout(LONG) {
        Ok(result) => {
            thread.join().expect("no panic").expect("awaited");
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what} hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing, since it panicked"))
        }
    }
}

/// Holds up the first operation of one sort, until it is let go or dropped.
pub(crate) struct HeldUp {
    is_held: Arc<AtomicBool>,
    release: mpsc::Sender<()>,
}

impl HeldUp {
    pub(crate) fn at(lab: &Lab, wanted: FsOp, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) -> HeldUp {
        let (release, released) = mpsc::channel();
        let is_held = Arc::new(AtomicBool::new(false));
        let (mark, released, is_first) = (Arc::clone(&is_held), Mutex::new(released), AtomicBool::new(true));
        lab.hook.set(move |op, path| {
            if op == wanted && matches(path) && is_first.swap(false, Ordering::SeqCst) {
                mark.store(true, Ordering::SeqCst);
                // An error: the test is over, or has failed.
                let _ = released.lock().expect("whole").recv();
            }
        });
        HeldUp { is_held, release }
    }

    pub(crate) fn at_sync_of_a_table(lab: &Lab) -> HeldUp {
        HeldUp::at(lab, FsOp::Sync, |path| path.extension().is_some_and(|extension| extension == "sst"))
    }

    pub(crate) fn wait(&self) {
        eventually("it is held up", || self.is_held.load(Ordering::SeqCst));
    }

    pub(crate) fn let_go(self) {
        self.release.send(()).expect("waits");
    }
}
