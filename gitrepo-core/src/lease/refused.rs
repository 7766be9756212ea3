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

    /// Remembers that a tree could not be written if it would fail again for every tenant. `error` is the verifier's: the
    /// word of a receiver, which the remote may have taken over, counts for its own fetch alone. In the store's
    /// repository, the lock is still held, so that those who wait for it know at once. Returns the error.
    pub(super) fn remembered(&self, wanted: Wanted<'_>, resolved: &Resolved, error: LeaseError) -> LeaseError {
        if error.tree_exceeds_a_limit() {
            let limits = self.gateway.policy().limits();
            self.store.remember_refusal(&wanted.fetched(resolved), wanted.spec.depth, limits, chain(&error));
        }
        error
    }
}
