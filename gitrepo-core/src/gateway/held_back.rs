//! Tenants that wait before they may ask a repository again, because its remote was too slow for them.
//!
//! A remote that trickles is given up after a while, and the volume is tried again. Without a pause, it would soon have
//! its place back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// The first pause. Each further one is twice as long.
const FIRST: Duration = Duration::from_secs(30);

/// The longest pause, for a remote that gets well again.
const LONGEST: Duration = Duration::from_secs(8 * 60);

/// A tenant, and the canonical URL of a repository.
pub(super) type Key = (String, String);

/// The pauses. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct HeldBack {
    pauses: Arc<Mutex<HashMap<Key, Pause>>>,
}

#[derive(Debug)]
struct Pause {
    length: Duration,
    until: Instant,
}

impl HeldBack {
    /// Returns how long the tenant still has to wait; `None` if it may ask.
    pub(super) fn remaining(&self, key: &Key, now: Instant) -> Option<Duration> {
        let left = self.pauses().get(key)?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Notes that the remote was too slow for the tenant.
    pub(super) fn slow(&self, key: &Key, now: Instant) {
        let mut pauses = self.pauses();
        // What was long enough ago is forgotten.
        pauses.retain(|_, pause| now.saturating_duration_since(pause.until) < LONGEST);
        let length = pauses.get(key).map_or(FIRST, |pause| (pause.length * 2).min(LONGEST));
        pauses.insert(key.clone(), Pause { length, until: now + length });
    }

    /// Notes that the tenant has fetched from the repository.
    pub(super) fn fetched(&self, key: &Key) {
        self.pauses().remove(key);
    }

    fn pauses(&self) -> MutexGuard<'_, HashMap<Key, Pause>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str) -> Key {
        (tenant.to_owned(), "https://git.example.com/app.git".to_owned())
    }

    #[test]
    fn s26_a_slow_remote_is_asked_less_and_less_often_until_it_delivers() {
        let held_back = HeldBack::default();
        let (hostile, other) = (key("hostile"), key("other"));
        let mut now = Instant::now();
        for seconds in [30, 60, 120, 240, 480, 480] {
            held_back.slow(&hostile, now);
            assert_eq!(held_back.remaining(&hostile, now), Some(Duration::from_secs(seconds)));
            assert_eq!(held_back.remaining(&other, now), None);
            now += Duration::from_secs(seconds);
            assert_eq!(held_back.remaining(&hostile, now), None);
        }
        held_back.fetched(&hostile);
        held_back.slow(&hostile, now);
        assert_eq!(held_back.remaining(&hostile, now), Some(FIRST));
    }

    #[test]
    fn a_pause_that_is_long_over_is_forgotten() {
        let held_back = HeldBack::default();
        let now = Instant::now();
        held_back.slow(&key("a"), now);
        let later = now + FIRST + LONGEST;
        held_back.slow(&key("b"), later);
        assert_eq!(held_back.pauses().len(), 1);
        held_back.slow(&key("a"), later);
        assert_eq!(held_back.remaining(&key("a"), later), Some(FIRST));
    }
}
