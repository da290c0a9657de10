//! Claims: which files and key ranges the running compactions of a family have, so that several run side by side.
//!
//! A job takes its claim in the same step in which it is picked, from a version that is looked at under the registry's
//! lock, and gives it back when its result is installed (or it failed, or unwinds): the claim's drop does that. Hence a
//! picker that finds a file free finds it in a version that has the results of all jobs that gave theirs back.
//!
//! Two jobs of one family exclude each other if they share an input, or if they write into overlapping key ranges of one
//! sorted level; files of level 0 overlap anyway, and their epochs order them. That is enough, since pickers close their inputs downwards: a job from level `l` to level `o` has every file of
//! the levels `l..=o` (of level 0: every older one) that overlaps its key range.
//! 1. *Age order holds.* If a job moved newer entries of a key below older ones, the older ones were in a file between its
//!    input and its output level, hence among its inputs: no other job has them.
//! 2. *What lies below a job only sinks or goes.* A job looks for older entries of a key in the levels below its output,
//!    in the version it was picked from. Entries that other jobs move meanwhile come from files of that version: older
//!    ones were below the job already, where it saw them; newer ones do not pass below it (1). So a tombstone that found
//!    nothing below has nothing below when it is dropped, and a number that becomes zero has no older entry under it.
//! 3. *A flush only adds newer entries on top.*
//! 4. *Sorted levels stay free of overlaps*: files that were there are inputs, files that come are in claimed ranges.
//!
//! Threads: a claim may be taken and dropped on any thread. Only callers that asked for a compaction by hand wait for a
//! claim, and never for one that their own thread has. Who closes or drops a family closes the registry first: no further
//! job begins, and [`ClaimRegistry::close_and_wait`] returns when the last has ended.
//!
//! Lock order: the registry's lock comes before a family's own and before the table of pins.

use std::thread::ThreadId;

use crate::format::comparator::KeyOrder;
use crate::format::key::FileNumber;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::range::KeyRange;

/// What a job takes for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) files: Vec<FileNumber>,
    pub(crate) output_level: usize,
    /// Everything that it may write lies in here.
    pub(crate) range: KeyRange,
}

#[derive(Debug)]
struct Taken {
    id: u64,
    thread: ThreadId,
    what: Wanted,
}

/// The claims of a moment, as pickers see them.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    taken: Vec<Taken>,
    /// What callers wait for who asked for a compaction by hand: no job that is picked later goes before them.
    reserved: Vec<Taken>,
}

impl Claims {
    /// True if no job runs, and none waits to.
    pub(crate) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    pub(crate) fn has_file(&self, number: FileNumber) -> bool {
        self.all().any(|taken| taken.what.files.contains(&number))
    }

    /// The ranges that jobs write into `level`.
    pub(crate) fn outputs(&self, level: usize) -> impl Iterator<Item = &KeyRange> {
        self.all().filter(move |taken| taken.what.output_level == level).map(|taken| &taken.what.range)
    }

    fn all(&self) -> impl Iterator<Item = &Taken> {
        self.taken.iter().chain(&self.reserved)
    }

    /// True if a job with these files and outputs may run beside those that run, and those that wait to since before
    /// `ticket`.
    fn allow(&self, order: &KeyOrder, wanted: &Wanted, ticket: u64) -> bool {
        let before = self.reserved.iter().filter(|reserved| reserved.id < ticket);
        !self.taken.iter().chain(before).any(|taken| taken.what.excludes(order, wanted))
    }

    /// True if the caller's own thread has a claim that excludes `wanted`: waiting for it would never end.
    fn are_own(&self, order: &KeyOrder, wanted: &Wanted) -> bool {
        let own = std::thread::current().id();
        self.taken.iter().any(|taken| taken.thread == own && taken.what.excludes(order, wanted))
    }
}

impl Wanted {
    fn excludes(&self, order: &KeyOrder, other: &Wanted) -> bool {
        let writes_there = self.output_level > 0 && self.output_level == other.output_level;
        (writes_there && self.range.overlaps(order, &other.range))
            || self.files.iter().any(|number| other.files.contains(number))
    }
}

#[cfg(test)]
impl Claims {
    /// Claims of jobs that a test makes up.
    pub(crate) fn of(wanted: impl IntoIterator<Item = Wanted>) -> Claims {
        let thread = std::thread::current().id();
        let taken = wanted.into_iter().enumerate().map(|(id, what)| Taken { id: id as u64, thread, what });
        Claims { taken: taken.collect(), reserved: Vec::new() }
    }
}

#[derive(Debug, Default)]
struct State {
    claims: Claims,
    next_id: u64,
    is_closed: bool,
    /// Who has the family alone, or waits until it does.
    alone: Option<u64>,
}

impl State {
    /// True if the caller's own thread has a claim.
    fn has_own(&self) -> bool {
        let own = std::thread::current().id();
        self.claims.taken.iter().any(|taken| taken.thread == own)
    }

    fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct ClaimRegistry {
    state: Mutex<State>,
    /// A claim was given back, or the registry was closed.
    changed: Condvar,
}

/// The right to run one job; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    registry: Arc<ClaimRegistry>,
    id: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.state.lock().claims.taken.retain(|taken| taken.id != self.id);
        self.registry.changed.notify_all();
    }
}

/// The right to be the only one who runs jobs of the family; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Alone {
    registry: Arc<ClaimRegistry>,
    id: u64,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.registry.state.lock().alone = None;
        self.registry.changed.notify_all();
    }
}

/// What became of an attempt to claim.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    /// Nothing was picked.
    Nothing,
    Taken(T, Claim),
    /// The registry is closed: the family, or its database, goes.
    Closed,
    /// The caller's own thread has what is in the way.
    Own,
}

/// Why nobody is let alone with a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The registry is closed.
    Closed,
    /// The caller's own thread has a claim.
    Own,
}

/// What a picker wants to do with what it sees.
#[derive(Debug)]
pub(crate) enum Choice<T> {
    Nothing,
    Run(T, Wanted),
}

impl ClaimRegistry {
    pub(crate) fn new() -> Arc<ClaimRegistry> {
        Arc::new(ClaimRegistry::default())
    }

    /// Looks at the claims of this moment.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Claims) -> T) -> T {
        look(&self.state.lock().claims)
    }

    /// Claims what `pick` finds, without waiting: `pick` must take its version inside.
    pub(crate) fn try_claim<T>(
        self: &Arc<Self>,
        order: &KeyOrder,
        pick: impl FnOnce(&Claims) -> Option<(T, Wanted)>,
    ) -> Attempt<T> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Attempt::Closed;
        }
        if state.alone.is_some() {
            return Attempt::Nothing;
        }
        match pick(&state.claims) {
            Some((picked, wanted)) if state.claims.allow(order, &wanted, u64::MAX) => {
                self.take(&mut state, picked, wanted)
            }
            _ => Attempt::Nothing,
        }
    }

    /// Claims what `pick` finds; waits while other threads' jobs are in its way, and then picks again. What it waits for is
    /// reserved, so that automatic jobs, one after the other, do not keep it waiting for ever.
    pub(crate) fn claim<T>(
        self: &Arc<Self>,
        order: &KeyOrder,
        alone: Option<&Alone>,
        mut pick: impl FnMut(&Claims) -> Choice<T>,
    ) -> Attempt<T> {
        let mut state = self.state.lock();
        let ticket = state.next_id();
        loop {
            if state.is_closed {
                return Attempt::Closed;
            }
            if state.alone.is_some_and(|id| alone.is_none_or(|alone| alone.id != id)) {
                if state.has_own() {
                    return Attempt::Own;
                }
                state = self.changed.wait(state);
                continue;
            }
            // A comparator may panic in there: others wait for the reservation that is gone.
            let wake = Wake(&self.changed);
            let choice = pick(&state.claims);
            std::mem::forget(wake);
            let (picked, what) = match choice {
                Choice::Nothing => {
                    // Its reservation is gone.
                    self.changed.notify_all();
                    return Attempt::Nothing;
                }
                Choice::Run(picked, wanted) => (picked, wanted),
            };
            if state.claims.allow(order, &what, ticket) {
                return self.take(&mut state, picked, what);
            }
            if state.claims.are_own(order, &what) {
                self.changed.notify_all();
                return Attempt::Own;
            }
            state.claims.reserved.push(Taken { id: ticket, thread: std::thread::current().id(), what });
            state = self.changed.wait(state);
            state.claims.reserved.retain(|reserved| reserved.id != ticket);
        }
    }

    /// Waits for all jobs that run, lets no other begin, and is then the only one who claims, until the answer is dropped.
    pub(crate) fn claim_alone(self: &Arc<Self>) -> std::result::Result<Alone, Refused> {
        let mut state = self.state.lock();
        let id = state.next_id();
        loop {
            if state.is_closed {
                self.leave(&mut state, id);
                return Err(Refused::Closed);
            }
            if state.has_own() {
                self.leave(&mut state, id);
                return Err(Refused::Own);
            }
            match state.alone {
                None => state.alone = Some(id),
                Some(own) if own == id && state.claims.taken.is_empty() => {
                    return Ok(Alone { registry: Arc::clone(self), id });
                }
                Some(_) => state = self.changed.wait(state),
            }
        }
    }

    fn leave(&self, state: &mut MutexGuard<'_, State>, id: u64) {
        if state.alone == Some(id) {
            state.alone = None;
            self.changed.notify_all();
        }
    }

    fn take<T>(self: &Arc<Self>, state: &mut MutexGuard<'_, State>, picked: T, what: Wanted) -> Attempt<T> {
        let id = state.next_id();
        state.claims.taken.push(Taken { id, thread: std::thread::current().id(), what });
        Attempt::Taken(picked, Claim { registry: Arc::clone(self), id })
    }

    /// Lets no further job begin; returns when the last has ended.
    pub(crate) fn close_and_wait(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        self.changed.notify_all();
        while !state.claims.taken.is_empty() {
            state = self.changed.wait(state);
        }
    }

    /// Lets jobs begin again, after what closed the registry failed.
    pub(crate) fn reopen(&self) {
        self.state.lock().is_closed = false;
    }
}

/// Wakes all who wait when it is dropped.
struct Wake<'a>(&'a Condvar);

impl Drop for Wake<'_> {
    fn drop(&mut self) {
        self.0.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[u64], output_level: usize, begin: &str, end: &str) -> Wanted {
        let files = files.iter().map(|number| FileNumber(*number)).collect();
        Wanted { files, output_level, range: KeyRange { begin: begin.into(), end: end.into(), is_end_excluded: false } }
    }

    fn take(registry: &Arc<ClaimRegistry>, what: Wanted) -> Option<Claim> {
        match registry.try_claim(&KeyOrder::Bytewise, |_| Some(((), what))) {
            Attempt::Taken((), claim) => Some(claim),
            _ => None,
        }
    }

    #[test]
    fn jobs_with_other_files_and_other_outputs_run_side_by_side() {
        let registry = ClaimRegistry::new();
        let first = take(&registry, wanted(&[1, 2], 2, "a", "m")).expect("nothing runs");
        assert!(take(&registry, wanted(&[2, 3], 3, "a", "m")).is_none(), "a file in common");
        assert!(take(&registry, wanted(&[3], 2, "m", "z")).is_none(), "the output of one level overlaps");
        let _beside = take(&registry, wanted(&[3], 2, "n", "z")).expect("other keys");
        let _below = take(&registry, wanted(&[4], 3, "a", "m")).expect("another level");
        drop(first);
        take(&registry, wanted(&[2], 2, "a", "m")).expect("given back");
    }

    #[test]
    fn a_claim_is_given_back_by_a_job_that_panics() {
        let registry = ClaimRegistry::new();
        let inside = Arc::clone(&registry);
        let job = std::thread::spawn(move || {
            let _claim = take(&inside, wanted(&[1], 1, "a", "b")).expect("free");
            std::panic::resume_unwind(Box::new("a bug"));
        });
        job.join().expect_err("it panicked");
        take(&registry, wanted(&[1], 1, "a", "b")).expect("free again");
    }

    #[test]
    fn who_closes_waits_for_the_last_job_and_those_that_wait_for_a_claim_are_refused() {
        let registry = ClaimRegistry::new();
        let running = take(&registry, wanted(&[1], 1, "a", "b")).expect("free");
        let by_hand = Arc::clone(&registry);
        let waiting = std::thread::spawn(move || {
            by_hand.claim(&KeyOrder::Bytewise, None, |_| Choice::Run((), wanted(&[1], 1, "a", "b")))
        });
        let closing = Arc::clone(&registry);
        let closer = std::thread::spawn(move || closing.close_and_wait());
        assert!(matches!(waiting.join().expect("no panic"), Attempt::Closed));
        assert!(take(&registry, wanted(&[9], 3, "x", "y")).is_none());
        assert!(!closer.is_finished());
        drop(running);
        closer.join().expect("it ends");
        registry.reopen();
        take(&registry, wanted(&[1], 1, "a", "b")).expect("open again");
    }

    #[test]
    fn who_wants_to_be_alone_waits_for_those_who_run_and_nobody_begins_meanwhile() {
        let registry = ClaimRegistry::new();
        let (to_take, taken) = std::sync::mpsc::channel();
        let (to_end, end) = std::sync::mpsc::channel::<()>();
        let inside = Arc::clone(&registry);
        let job = std::thread::spawn(move || {
            let claim = take(&inside, wanted(&[1], 1, "a", "b")).expect("free");
            to_take.send(()).expect("awaited");
            end.recv().expect("told");
            drop(claim);
        });
        taken.recv().expect("it runs");
        let waiting = Arc::clone(&registry);
        let alone = std::thread::spawn(move || waiting.claim_alone().expect("the job ends"));
        // It is noted as soon as it waits.
        while registry.state.lock().alone.is_none() {
            std::thread::yield_now();
        }
        assert!(take(&registry, wanted(&[7], 3, "x", "y")).is_none(), "others wait, whatever their keys");
        assert!(!alone.is_finished());
        to_end.send(()).expect("awaited");
        job.join().expect("no panic");
        let alone = alone.join().expect("no panic");
        assert!(take(&registry, wanted(&[7], 3, "x", "y")).is_none());
        let own = registry.claim(&KeyOrder::Bytewise, Some(&alone), |_| Choice::Run((), wanted(&[1], 1, "a", "b")));
        let Attempt::Taken((), own) = own else { panic!("it is alone: {own:?}") };
        assert_eq!(registry.claim_alone().expect_err("its own thread has a claim"), Refused::Own);
        drop(own);
        drop(alone);
        take(&registry, wanted(&[7], 3, "x", "y")).expect("free again");
    }

    #[test]
    fn nobody_waits_for_a_claim_of_the_same_thread() {
        let registry = ClaimRegistry::new();
        let _own = take(&registry, wanted(&[1], 1, "a", "b")).expect("free");
        let again = registry.claim(&KeyOrder::Bytewise, None, |_| Choice::Run((), wanted(&[1], 1, "a", "b")));
        assert!(matches!(again, Attempt::Own));
    }
}
