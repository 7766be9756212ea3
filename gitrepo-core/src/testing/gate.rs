//! Holds calls until a test releases them, or they are given up.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::cancel::Cancel;

/// How often a held call looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(10);

/// Enough for any call on a busy machine; then the test fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds calls until it is opened or dropped, or they are given up.
#[derive(Debug)]
pub struct Gate(Arc<Barrier>);

/// The side of the calls.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: usize,
    open: bool,
}

impl Gate {
    pub(super) fn new(barrier: Arc<Barrier>) -> Self {
        Self(barrier)
    }

    /// Waits until `count` calls have arrived.
    ///
    /// # Panics
    ///
    /// If they do not arrive within a minute.
    pub fn wait_for(&self, count: usize) {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.changed.wait_timeout_while(state, PATIENCE, |state| state.arrived < count);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {count} calls have come to the gate", state.arrived);
    }

    /// Releases all waiting calls and all later ones.
    pub fn open(&self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.0.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

impl Barrier {
    /// Waits until the gate is open, or the call is no longer wanted.
    pub(super) fn pass(&self, cancel: &Cancel) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        self.changed.notify_all();
        while !state.open && cancel.check().is_ok() {
            state = self.changed.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
