//! Refuses a commit that exceeded a limit a while ago, before anything is downloaded.

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::error::chain;
use crate::remote::Resolved;

impl Snapshots {
    /// Fails if the wanted tree exceeded a limit that was not raised since. The caller has proven access.
    pub(super) fn check_refused(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<(), LeaseError> {
        let limits = self.gateway.policy().limits();
        match self.store.refusal(&wanted.fetched(resolved), wanted.spec.depth, limits) {
            Some((refusal, age)) => Err(LeaseError::RefusedBefore { refusal: refusal.message, age }),
            None => Ok(()),
        }
    }

    /// Remembers a failed fetch if the same commit would fail again. Called while the repository is locked, so that those
    /// who wait for it know at once. Returns the error.
    pub(super) fn remembered(&self, wanted: Wanted<'_>, resolved: &Resolved, error: LeaseError) -> LeaseError {
        if error.exceeds_a_limit() {
            let limits = self.gateway.policy().limits();
            self.store.remember_refusal(&wanted.fetched(resolved), wanted.spec.depth, limits, chain(&error));
        }
        error
    }
}
