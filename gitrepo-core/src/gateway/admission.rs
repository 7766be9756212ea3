//! Admission of sessions: how many run at once, and which starts next.
//!
//! A session starts once it is admitted, and gives its place back when its worker is gone. Places are shared by tenant
//! first, then by host.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::cancel::Interrupted;

mod queue;

pub use queue::Bounds;
use queue::Claim;
pub(super) use queue::Purpose;
use queue::Queue;

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
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// A session in the queue, or with a place. Dropping it leaves either.
#[derive(Debug)]
pub(super) struct Admitted {
    shared: Arc<Shared>,
    number: u64,
}

/// How often a waiting session checks whether it was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Admission {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { shared: Arc::new(Shared { queue: Mutex::new(Queue::new(bounds)), changed: Condvar::new() }) }
    }

    pub(super) fn count(&self) -> SessionCount {
        let queue = self.shared.queue();
        SessionCount { active: queue.active(), queued: queue.waiting() }
    }

    /// Waits for a place for a session of this tenant with this host. Calls `waiting` if none is free at once.
    pub(super) fn admit(
        &self,
        tenant: &str,
        host: &str,
        purpose: Purpose,
        cancel: &Cancel,
        waiting: impl FnOnce(),
    ) -> Result<Admitted, Interrupted> {
        let shared = &self.shared;
        let claim = Claim { tenant: tenant.to_owned(), host: host.to_owned(), purpose };
        let number = shared.queue().enter(claim);
        let admitted = Admitted { shared: Arc::clone(shared), number };
        let mut waiting = Some(waiting);
        loop {
            let queue = shared.queue();
            if queue.is_active(number) {
                return Ok(admitted);
            }
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
            cancel.check()?;
        }
    }
}

impl Admitted {
    /// Lets a session that asks fetch from now on, in its place. Otherwise it has to give the place back and wait for
    /// one to fetch.
    pub(super) fn promote(&self) -> bool {
        self.shared.queue().promote(self.number)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.queue().leave(self.number);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    fn admission(total: usize) -> Admission {
        Admission::new(Bounds::new(total))
    }

    fn admit(
        admission: &Admission,
        host: &str,
        cancel: &Cancel,
        waiting: impl FnOnce(),
    ) -> Result<Admitted, Interrupted> {
        admission.admit("tenant", host, Purpose::Ask, cancel, waiting)
    }

    #[test]
    fn a_waiting_session_is_counted_and_notified_and_gets_the_next_free_place() {
        let admission = admission(1);
        let first = admit(&admission, "a", &Cancel::new(), || panic!("a place is free")).unwrap();
        let (notify, notified) = mpsc::channel();
        let second = thread::spawn({
            let admission = admission.clone();
            move || admit(&admission, "b", &Cancel::new(), || notify.send(()).unwrap()).map(drop)
        });
        notified.recv().unwrap();
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 1 });
        drop(first);
        second.join().unwrap().unwrap();
        assert_eq!(admission.count(), SessionCount::default());
    }

    #[test]
    fn a_session_that_gives_up_leaves_the_queue() {
        let admission = admission(1);
        let _first = admit(&admission, "a", &Cancel::new(), || {}).unwrap();
        let cancel = Cancel::new();
        let hurried = cancel.within(Duration::ZERO);
        assert_eq!(admit(&admission, "a", &hurried, || {}).unwrap_err(), Interrupted::DeadlineExceeded);
        cancel.cancel();
        assert_eq!(admit(&admission, "a", &cancel, || {}).unwrap_err(), Interrupted::Cancelled);
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 0 });
    }

    #[test]
    fn a_waiting_session_may_count_the_sessions_and_leaves_the_queue_when_it_panics() {
        let admission = admission(0);
        let first = admit(&admission, "a", &Cancel::new(), || panic!("there is room")).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            admit(&admission, "a", &Cancel::new(), || {
                assert_eq!(admission.count(), SessionCount { active: 1, queued: 1 });
                panic!("the progress report fails");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(admission.count(), SessionCount { active: 1, queued: 0 });
        drop(first);
        assert!(admit(&admission, "b", &Cancel::new(), || panic!("there is room again")).is_ok());
    }

    #[test]
    fn a_place_is_for_a_fetch_once_it_is_promoted() {
        let admission = admission(9);
        let [first, second] = ["a", "b"].map(|host| admit(&admission, host, &Cancel::new(), || {}).unwrap());
        assert!(first.promote() && second.promote() && first.promote());
    }
}
