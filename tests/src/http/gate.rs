//! Holds requests until a test releases them.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use super::message::Request;

/// Enough for any honest client on a busy machine; then the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds matching requests unanswered until it is opened or dropped.
pub struct Gate(Arc<Barrier>);

pub(super) struct Barrier {
    holds: Box<dyn Fn(&Request) -> bool + Send + Sync>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    arrived: usize,
    open: bool,
}

impl Gate {
    pub(super) fn new(barrier: Arc<Barrier>) -> Self {
        Self(barrier)
    }

    /// Waits until `count` requests have arrived.
    pub fn wait_for(&self, count: usize) {
        let state = self.0.lock();
        let waited = self.0.changed.wait_timeout_while(state, PATIENCE, |state| state.arrived < count);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {count} requests have come to the gate", state.arrived);
    }

    /// Requests that have arrived, released or not.
    pub fn arrived(&self) -> usize {
        self.0.lock().arrived
    }

    /// Releases all waiting requests and all later ones.
    pub fn open(&self) {
        self.0.open();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Barrier {
    pub(super) fn new(holds: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self { holds: Box::new(holds), state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn pass(&self, request: &Request) {
        if !(self.holds)(request) {
            return;
        }
        let mut state = self.lock();
        state.arrived += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.open));
    }

    pub(super) fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
