//! Refuses a commit that exceeded a limit a while ago, before anything is downloaded.

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::error::chain;
use crate::remote::Resolved;
use crate::spec::CommitId;
use crate::store::Excess;

impl Snapshots {
    /// Fails if the wanted tree, or this credential's fetch of it, exceeded a limit that was not raised since. The caller
    /// has proven access.
    pub(super) fn check_refused(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<(), LeaseError> {
        self.check(wanted, resolved, &Excess::Tree)?;
        self.check(wanted, resolved, &Excess::Fetch(wanted.credential, &self.builds_on(wanted, resolved)))
    }

    /// Fails if a fetch of this credential that builds on nothing exceeded a limit that was not raised since, or so did a
    /// tree with its submodules.
    pub(super) fn check_whole_refused(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<(), LeaseError> {
        self.check(wanted, resolved, &Excess::Fetch(wanted.credential, &[]))
    }

    fn check(&self, wanted: Wanted<'_>, resolved: &Resolved, excess: &Excess<'_>) -> Result<(), LeaseError> {
        let limits = self.gateway.policy().limits();
        match self.store.refusal(&wanted.fetched(resolved), wanted.spec.depth, excess, limits) {
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
        resolved: &Resolved,
        has_base: bool,
        error: LeaseError,
    ) -> LeaseError {
        let built_on = if has_base { self.builds_on(wanted, resolved) } else { Vec::new() };
        let excess = match &error {
            error if error.tree_exceeds_a_limit() => Excess::Tree,
            error if error.fetch_exceeds_a_limit() => Excess::Fetch(wanted.credential, &built_on),
            _ => return error,
        };
        self.remember(wanted, resolved, &excess, &error);
        error
    }

    /// Remembers that a tree with its submodules exceeded a limit. That counts for the credential that has proven access to
    /// all that was counted: to others, it would tell of submodules that they may not read. Returns the error.
    pub(super) fn remembered_whole(&self, wanted: Wanted<'_>, resolved: &Resolved, error: LeaseError) -> LeaseError {
        if error.composition_exceeds_a_limit() {
            self.remember(wanted, resolved, &Excess::Fetch(wanted.credential, &[]), &error);
        }
        error
    }

    fn remember(&self, wanted: Wanted<'_>, resolved: &Resolved, excess: &Excess<'_>, error: &LeaseError) {
        let (limits, depth) = (self.gateway.policy().limits(), wanted.spec.depth);
        self.store.remember_refusal(&wanted.fetched(resolved), depth, excess, limits, chain(error));
    }

    /// The names of what a fetch with this credential builds on: commits, and the packs too for one directory, since those of
    /// other directories save something, and no commit says that they are there. That it got the wanted commit saves nothing.
    fn builds_on(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Vec<String> {
        let (access, repository) = (self.store.access(), self.store.repository(&wanted.spec.repository));
        if !access.has_any_content(wanted.credential) {
            return Vec::new();
        }
        let mut commits = access.commits(wanted.credential);
        commits.retain(|commit| *commit != resolved.commit && repository.contains(commit));
        let packs = wanted.narrow().map(|_| repository.pack_names()).unwrap_or_default();
        commits.iter().map(CommitId::to_string).chain(packs).collect()
    }
}
