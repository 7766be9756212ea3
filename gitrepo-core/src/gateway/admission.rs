//! Admission of sessions: how many run at once, and which starts next.
//!
//! A session starts once it is admitted, and gives its place back when its worker is gone. The number of places is
//! bounded in total and per host, so that a host that hangs leaves places for the others. A free place goes to the host
//! with the fewest sessions, and there to the oldest request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;
use crate::policy::UidRange;

/// How many sessions may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// In total.
    pub total: usize,
    /// For one host.
    pub per_host: usize,
}

/// The number of sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCount {
    /// Sessions that run.
    pub active: usize,
    /// Sessions that wait for a place.
    pub queued: usize,
}

/// The places for sessions, and the queue for them. Clones share both.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    active: HashMap<String, usize>,
    total: usize,
    /// Oldest first.
    waiting: Vec<Ticket>,
    issued: u64,
}

/// A request that waits for a place.
#[derive(Debug)]
struct Ticket {
    number: u64,
    host: String,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    host: String,
}

/// How often a waiting request checks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Bounds {
    /// No bounds.
    pub const NONE: Self = Self::new(usize::MAX, usize::MAX);

    /// Creates bounds in total and for each host.
    pub const fn new(total: usize, per_host: usize) -> Self {
        Self { total, per_host }
    }

    /// Returns the bounds for workers with these user ids. A few ids are left to other programs that share the range:
    /// the FlexVolume driver, and a person at a shell. One host gets at most two thirds of the rest.
    pub fn of(uids: UidRange) -> Self {
        let (uids, receivers) = (uids.uids().count(), uids.of_receivers().count());
        let total = (uids - uids / 5).min(receivers);
        Self::new(total, (total * 2).div_ceil(3))
    }
}

impl Admission {
    pub(super) fn new(bounds: Bounds) -> Self {
        // With a bound of zero, sessions would wait for ever.
        let bounds = Bounds { total: bounds.total.max(1), per_host: bounds.per_host.max(1) };
        Self { shared: Arc::new(Shared { bounds, queue: Mutex::default(), changed: Condvar::new() }) }
    }

    pub(super) fn count(&self) -> SessionCount {
        let queue = self.shared.queue();
        SessionCount { active: queue.total, queued: queue.waiting.len() }
    }

    /// Waits for a place. Calls `waiting` if none is free at once.
    pub(super) fn admit(&self, host: &str, cancel: &Cancel, waiting: impl FnOnce()) -> Result<Admitted, Interrupted> {
        let shared = &self.shared;
        let request = Waiting::enter(shared, host);
        let mut waiting = Some(waiting);
        loop {
            let mut queue = shared.queue();
            if queue.next(shared.bounds) == Some(request.number) {
                queue.admit(request.number);
                // There may be a place for the next request, too.
                shared.changed.notify_all();
                return Ok(Admitted { shared: Arc::clone(shared), host: host.to_owned() });
            }
            cancel.check()?;
            match waiting.take() {
                Some(waiting) => {
                    // It may take long, panic, or ask for the number of sessions.
                    drop(queue);
                    waiting();
                }
                None => {
                    let patience = cancel.remaining().map_or(POLL_INTERVAL, |remaining| remaining.min(POLL_INTERVAL));
                    drop(shared.changed.wait_timeout(queue, patience));
                }
            }
        }
    }
}

/// A request in the queue. Dropping it removes it.
struct Waiting<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Waiting<'a> {
    fn enter(shared: &'a Shared, host: &str) -> Self {
        Self { shared, number: shared.queue().enter(host) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.queue().waiting.retain(|ticket| ticket.number != self.number);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn enter(&mut self, host: &str) -> u64 {
        self.issued += 1;
        self.waiting.push(Ticket { number: self.issued, host: host.to_owned() });
        self.issued
    }

    /// Returns the request that is next, if there is a place for it.
    fn next(&self, bounds: Bounds) -> Option<u64> {
        if self.total >= bounds.total {
            return None;
        }
        let active = |ticket: &&Ticket| self.active.get(&ticket.host).copied().unwrap_or_default();
        let admissible = self.waiting.iter().filter(|ticket| active(ticket) < bounds.per_host);
        admissible.min_by_key(active).map(|ticket| ticket.number)
    }

    fn admit(&mut self, number: u64) {
        if let Some(at) = self.waiting.iter().position(|ticket| ticket.number == number) {
            let ticket = self.waiting.remove(at);
            *self.active.entry(ticket.host).or_default() += 1;
            self.total += 1;
        }
    }

    fn release(&mut self, host: &str) {
        self.total -= 1;
        if let Some(active) = self.active.get_mut(host) {
            *active -= 1;
            if *active == 0 {
                self.active.remove(host);
            }
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.queue().release(&self.host);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const BOUNDS: Bounds = Bounds { total: 3, per_host: 2 };

    fn queue(hosts: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for host in hosts {
            queue.enter(host);
        }
        queue
    }

    /// Admits every request that there is a place for, in order.
    fn admitted(queue: &mut Queue) -> Vec<u64> {
        let turns = std::iter::from_fn(|| {
            let number = queue.next(BOUNDS)?;
            queue.admit(number);
            Some(number)
        });
        turns.collect()
    }

    #[test]
    fn a_host_that_fills_its_places_leaves_room_for_others() {
        let mut queue = queue(&["a", "a", "a", "a", "b"]);
        assert_eq!(admitted(&mut queue), [1, 5, 2], "the first, then the host without sessions, then in order");
        queue.release("b");
        assert_eq!(admitted(&mut queue), Vec::<u64>::new(), "two of one host are enough");
        let late = queue.enter("c");
        assert_eq!(admitted(&mut queue), [late]);
        queue.release("a");
        assert_eq!(admitted(&mut queue), [3]);
    }

    #[test]
    fn a_host_without_sessions_comes_before_a_host_with_a_long_queue() {
        let mut queue = queue(&["a", "b", "a", "b", "a", "b"]);
        assert_eq!(admitted(&mut queue), [1, 2, 3]);
        let late = queue.enter("c");
        queue.release("a");
        assert_eq!(admitted(&mut queue), [late]);
    }

    #[test]
    fn one_host_gets_two_thirds_of_the_places_and_other_programs_a_fifth_of_the_user_ids() {
        let bounds = |uids| Bounds::of(UidRange::parse(uids).unwrap());
        assert_eq!(bounds("65521-65531"), Bounds { total: 9, per_host: 6 });
        assert_eq!(bounds("7-7"), Bounds { total: 1, per_host: 1 });
        // One is for the verifiers.
        assert_eq!(bounds("7-8"), Bounds { total: 1, per_host: 1 });
        assert_eq!(bounds("7-9"), Bounds { total: 2, per_host: 2 });
    }

    #[test]
    fn a_waiting_request_is_counted_and_notified_and_gets_the_next_free_place() {
        let admission = Admission::new(Bounds { total: 1, per_host: 1 });
        let first = admission.admit("a", &Cancel::new(), || panic!("a place is free")).unwrap();
        let (notify, notified) = mpsc::channel();
        let second = thread::spawn({
            let admission = admission.clone();
            move || admission.admit("b", &Cancel::new(), || notify.send(()).unwrap()).map(drop)
        });
        notified.recv().unwrap();
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 1 });
        drop(first);
        second.join().unwrap().unwrap();
        assert_eq!(admission.count(), SessionCount::default());
    }

    #[test]
    fn a_request_that_gives_up_leaves_the_queue() {
        let admission = Admission::new(Bounds { total: 1, per_host: 1 });
        let _first = admission.admit("a", &Cancel::new(), || {}).unwrap();
        let cancel = Cancel::new();
        let hurried = cancel.within(Duration::ZERO);
        assert_eq!(admission.admit("a", &hurried, || {}).unwrap_err(), Interrupted::DeadlineExceeded);
        cancel.cancel();
        assert_eq!(admission.admit("a", &cancel, || {}).unwrap_err(), Interrupted::Cancelled);
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 0 });
    }

    #[test]
    fn a_waiting_request_may_count_the_sessions_and_leaves_the_queue_when_it_panics() {
        let admission = Admission::new(Bounds { total: 0, per_host: 0 });
        let first = admission.admit("a", &Cancel::new(), || panic!("there is room")).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            admission.admit("a", &Cancel::new(), || {
                assert_eq!(admission.count(), SessionCount { active: 1, queued: 1 });
                panic!("the progress report fails");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 0 });
        drop(first);
        assert!(admission.admit("b", &Cancel::new(), || panic!("there is room again")).is_ok());
    }
}
