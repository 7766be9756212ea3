//! Locks by name: only one call at a time may hold the lock of a name.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

/// The names that are locked. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct NameLocks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    locked: Mutex<HashSet<String>>,
    freed: Notify,
}

/// The lock on one name, held until dropped.
#[derive(Debug)]
pub struct NameLock {
    shared: Arc<Shared>,
    name: String,
}

impl NameLocks {
    /// Locks `name`, if it is free.
    pub fn try_lock(&self, name: &str) -> Option<NameLock> {
        let is_free = self.0.locked().insert(name.to_owned());
        is_free.then(|| NameLock { shared: Arc::clone(&self.0), name: name.to_owned() })
    }

    /// Waits until `name` is free, and locks it.
    pub async fn lock(&self, name: &str) -> NameLock {
        loop {
            // Subscribe before the attempt, so as not to miss a release after it.
            let freed = self.0.freed.notified();
            if let Some(lock) = self.try_lock(name) {
                return lock;
            }
            freed.await;
        }
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, HashSet<String>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NameLock {
    fn drop(&mut self) {
        self.shared.locked().remove(&self.name);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_is_locked_once_and_names_are_independent() {
        let locks = NameLocks::default();
        let first = locks.try_lock("a").unwrap();
        assert!(locks.try_lock("a").is_none());
        drop(locks.try_lock("b").unwrap());
        drop(first);
        drop(locks.try_lock("a").unwrap());
        assert!(locks.0.locked().is_empty());
    }

    #[tokio::test]
    async fn a_waiting_call_gets_the_lock() {
        let locks = NameLocks::default();
        let first = locks.lock("a").await;
        assert!(tokio::time::timeout(Duration::from_millis(5), locks.lock("a")).await.is_err());
        let [one, two] = [locks.lock("a"), locks.lock("a")].map(|lock| async { drop(lock.await) });
        tokio::join!(one, two, async { drop(first) });
        assert!(locks.0.locked().is_empty());
    }
}
