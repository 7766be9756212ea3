//! Cancellation: a shared flag and a deadline.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;

use crate::error::Kind;

/// Tells whether an operation is still wanted. Clones share the flag; each has its own deadline.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

/// Why an operation was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Interrupted {
    /// The flag was set.
    #[error("cancelled")]
    Cancelled,
    /// The deadline passed.
    #[error("not finished in the time allowed")]
    DeadlineExceeded,
}

impl Interrupted {
    /// Returns the kind of this failure.
    pub fn kind(self) -> Kind {
        match self {
            Self::Cancelled => Kind::Cancelled,
            Self::DeadlineExceeded => Kind::Timeout,
        }
    }
}

impl Cancel {
    /// Creates a flag without a deadline.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the same flag with a deadline at most `limit` from now; an earlier deadline stays.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        let ours = Instant::now().checked_add(limit);
        let deadline = match (self.deadline, ours) {
            (Some(theirs), Some(ours)) => Some(theirs.min(ours)),
            (theirs, ours) => theirs.or(ours),
        };
        Self { flag: Arc::clone(&self.flag), deadline }
    }

    /// Sets the flag, from any thread.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Fails once the operation is no longer wanted.
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.flag.load(Ordering::Relaxed) {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => Err(Interrupted::DeadlineExceeded),
            _ => Ok(()),
        }
    }

    /// Returns the time left until the deadline; `None` without a deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_the_flag_but_not_the_deadline() {
        let whole = Cancel::new();
        let part = whole.within(Duration::ZERO);
        assert_eq!(part.check(), Err(Interrupted::DeadlineExceeded));
        assert_eq!(whole.check(), Ok(()));
        part.cancel();
        assert_eq!(whole.check(), Err(Interrupted::Cancelled));
    }

    #[test]
    fn an_earlier_deadline_stays() {
        let short = Cancel::new().within(Duration::ZERO);
        assert_eq!(short.within(Duration::from_secs(60)).check(), Err(Interrupted::DeadlineExceeded));
    }
}
