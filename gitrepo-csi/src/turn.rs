//! Locks by name: one call at a time for each.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::Notify;

/// The names that are locked. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    taken: Mutex<HashSet<String>>,
    freed: Notify,
}

/// The lock on one name, until dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    name: String,
}

impl Turns {
    /// Locks `name`, if it is free.
    pub fn take(&self, name: &str) -> Option<Turn> {
        let is_free = self.0.taken().insert(name.to_owned());
        is_free.then(|| Turn { shared: Arc::clone(&self.0), name: name.to_owned() })
    }

    /// Locks `name`, once it is free.
    pub async fn wait(&self, name: &str) -> Turn {
        loop {
            // Subscribe before the attempt, so that no release is missed after it.
            let freed = self.0.freed.notified();
            if let Some(turn) = self.take(name) {
                return turn;
            }
            freed.await;
        }
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.taken().remove(&self.name);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_has_one_turn_at_a_time_and_no_name_waits_for_another() {
        let turns = Turns::default();
        let first = turns.take("a").unwrap();
        assert!(turns.take("a").is_none());
        drop(turns.take("b").unwrap());
        drop(first);
        drop(turns.take("a").unwrap());
        assert!(turns.0.taken().is_empty());
    }

    #[test]
    fn who_waits_gets_a_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let turns = Turns::default();
            let first = turns.wait("a").await;
            assert!(tokio::time::timeout(Duration::from_millis(5), turns.wait("a")).await.is_err());
            let waiting = [turns.wait("a"), turns.wait("a")].map(|turn| async { drop(turn.await) });
            let [one, two] = waiting;
            tokio::join!(one, two, async { drop(first) });
            assert!(turns.0.taken().is_empty());
        });
    }
}
