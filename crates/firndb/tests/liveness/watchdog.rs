//! Runs a random test round after round, each under a watchdog.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lab::Random;

/// No round takes a tenth of this, on the slowest machine.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// What a round did so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<Vec<String>>>);

impl History {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("whole").push(what.into());
    }

    fn print(&self, seed: u64) {
        println!("FIRN_SEED={seed} repeats this round:");
        self.0.lock().expect("whole").iter().for_each(|line| println!("  {line}"));
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs `round` at least `rounds` times, each with another seed, and for `FIRN_SECONDS` if that is set.
pub(crate) fn rounds(rounds: u64, round: impl Fn(&mut Random, &History) + Send + Sync + 'static) {
    let round = Arc::new(round);
    let first = number("FIRN_SEED").unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(number("FIRN_SECONDS").unwrap_or(0));
    let mut seed = first;
    while seed < first + rounds || Instant::now() < end {
        let (done, is_done) = channel();
        let history = History::default();
        let (round, noted) = (Arc::clone(&round), history.clone());
        let thread = std::thread::Builder::new().name("liveness-round".to_owned()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| round(&mut Random(seed), &noted)));
            // The watchdog gave up: nobody is interested any more.
            let _ = done.send(outcome);
        });
        thread.expect("a thread");
        match is_done.recv_timeout(HANGS_AFTER) {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => {
                history.print(seed);
                resume_unwind(panic);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                history.print(seed);
                print_threads();
                panic!("FIRN_SEED={seed}: it hangs");
            }
        }
        seed += 1;
    }
}

/// Where each thread of this process waits, as far as the system says so.
fn print_threads() {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return };
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default().trim().to_owned();
        println!("  thread {}: {} {}", read("comm"), read("wchan"), read("syscall"));
    }
}
