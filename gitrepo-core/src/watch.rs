//! Cancellation and progress of a long operation.

use std::fmt;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::progress::Progress;
use crate::progress::Silent;

/// Cancellation and progress of one operation. By default the operation runs to its end and reports nothing.
#[derive(Clone)]
#[non_exhaustive]
pub struct Watch {
    /// Ends the operation early.
    pub cancel: Cancel,
    /// Receives the operation's progress.
    pub progress: Arc<dyn Progress>,
}

impl Watch {
    /// Creates a watch of these two.
    pub fn new(cancel: Cancel, progress: Arc<dyn Progress>) -> Self {
        Self { cancel, progress }
    }

    /// Creates a watch that only ends the operation, without progress.
    pub fn until(cancel: Cancel) -> Self {
        Self::new(cancel, Arc::new(Silent))
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self::until(Cancel::new())
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
