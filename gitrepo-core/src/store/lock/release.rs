//! Wakes the threads of this process that wait for a lock of this process.
//!
//! A hundred pods of one commit wait for one fetch. All of them should be served when it ends, not a pause later.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

/// How many pauses a waiting thread may skip if its own process holds the lock and will wake it. It still looks from
/// time to time: it may be cancelled, or a process that holds a shared lock too may release it last.
const SKIPPED: u32 = 4;

/// The locks that threads of this process hold, by the names of their files.
#[derive(Debug, Default)]
pub(super) struct Releases {
    held: Mutex<HashMap<String, Holders>>,
}

/// Who holds a lock, and how to wake those that wait for it.
#[derive(Debug, Default)]
struct Holders {
    count: usize,
    released: Arc<Condvar>,
}

/// A lock that this process holds. Dropping it wakes the threads that wait for it, so release the lock first.
#[derive(Debug)]
pub(super) struct Held {
    releases: Arc<Releases>,
    name: String,
}

impl Releases {
    /// Notes that this process holds a lock.
    pub(super) fn hold(self: &Arc<Self>, name: String) -> Held {
        self.held().entry(name.clone()).or_default().count += 1;
        Held { releases: Arc::clone(self), name }
    }

    /// Waits for `pause`. If this process holds the lock, waits longer, but only until the lock is released.
    pub(super) fn wait(&self, name: &str, pause: Duration) {
        let held = self.held();
        match held.get(name).map(|holders| Arc::clone(&holders.released)) {
            Some(released) => drop(released.wait_timeout(held, pause * SKIPPED)),
            None => {
                drop(held);
                thread::sleep(pause);
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Holders>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.releases.held();
        if let Some(holders) = held.get_mut(&self.name) {
            holders.count -= 1;
            holders.released.notify_all();
            if holders.count == 0 {
                held.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r6_threads_that_wait_for_a_lock_of_their_process_are_woken_when_it_is_released() {
        let releases = Arc::<Releases>::default();
        let held = releases.hold("lock".to_owned());
        thread::scope(|scope| {
            for _ in 0..3 {
                // Far longer than a test may take.
                scope.spawn(|| releases.wait("lock", Duration::from_secs(600)));
            }
            let waiting = || Arc::strong_count(&releases.held()["lock"].released) - 1;
            while waiting() < 3 {
                thread::yield_now();
            }
            drop(held);
        });
        assert!(releases.held().is_empty());
    }
}
