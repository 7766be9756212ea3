//! Cancellation, progress and tenant of a long operation.

use std::fmt;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::progress::Progress;
use crate::progress::Silent;

/// Cancellation, progress and tenant of one operation. By default the operation runs to its end, reports nothing, and
/// belongs to no tenant.
#[derive(Clone)]
#[non_exhaustive]
pub struct Watch {
    /// Ends the operation early.
    pub cancel: Cancel,
    /// Receives the operation's progress.
    pub progress: Arc<dyn Progress>,
    /// On whose account the operation uses what all share, such as places for sessions: any name. Operations without
    /// one share one account.
    pub tenant: Option<Arc<str>>,
}

impl Watch {
    /// Creates a watch of these two, without a tenant.
    pub fn new(cancel: Cancel, progress: Arc<dyn Progress>) -> Self {
        Self { cancel, progress, tenant: None }
    }

    /// Makes this the operation of a tenant.
    #[must_use]
    pub fn on_account_of(self, tenant: Option<&str>) -> Self {
        Self { tenant: tenant.map(Arc::from), ..self }
    }

    /// Returns the tenant's name; empty without a tenant.
    pub(crate) fn account(&self) -> &str {
        self.tenant.as_deref().unwrap_or_default()
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
