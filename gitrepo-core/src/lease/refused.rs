//! Refuses a commit that exceeded a limit a while ago, before anything is downloaded.

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::error::chain;
use crate::remote::FetchRequest;
use crate::remote::Resolved;
use crate::spec::CommitId;
use crate::store::Excess;

impl Snapshots {
    /// Fails if the wanted tree, or this credential's fetch of it, exceeded a limit that was not raised since. The caller
    /// has proven access.
    pub(super) fn check_refused(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<(), LeaseError> {
        let (tree, limits) = (wanted.fetched(resolved), self.gateway.policy().limits());
        let known = |excess| self.store.refusal(&tree, wanted.spec.depth, &excess, limits);
        let told = without(&resolved.commit, &self.store.access().commits(wanted.credential));
        match known(Excess::Tree).or_else(|| known(Excess::Fetch(wanted.credential, &told))) {
            Some((refusal, age)) => Err(LeaseError::RefusedBefore { refusal: refusal.message, age }),
            None => Ok(()),
        }
    }

    /// Remembers that a fetch exceeded a limit, if the next one would do so again. What the verifier says of a tree counts
    /// for every tenant. The word of a receiver, which the remote may have taken over, counts for its own credential. In
    /// the store's repository, the lock is still held, so that those who wait for it know at once. Returns the error.
    pub(super) fn remembered(
        &self,
        wanted: Wanted<'_>,
        FetchRequest { resolved, depth, offers, .. }: &FetchRequest,
        error: LeaseError,
    ) -> LeaseError {
        let told = without(&resolved.commit, offers.as_deref().unwrap_or(&[]));
        let excess = match &error {
            error if error.tree_exceeds_a_limit() => Excess::Tree,
            error if error.fetch_exceeds_a_limit() => Excess::Fetch(wanted.credential, &told),
            _ => return error,
        };
        let limits = self.gateway.policy().limits();
        self.store.remember_refusal(&wanted.fetched(resolved), *depth, &excess, limits, chain(&error));
        error
    }
}

/// What a remote is told of for this commit. That the credential got the commit itself saves nothing.
fn without(commit: &CommitId, commits: &[CommitId]) -> Vec<CommitId> {
    commits.iter().filter(|other| *other != commit).copied().collect()
}
