//! What happens while the remote is away: the configuration's `offline`.

use super::Lease;
use super::LeaseError;
use super::Selection;
use super::Snapshots;
use super::Wanted;
use super::proof::Proof;
use super::proof::Proven;
use crate::error::chain;
use crate::policy::Offline;
use crate::spec::RepositoryUrl;
use crate::spec::VolumeSpec;

/// An expired proof that was accepted.
#[derive(Debug, Clone)]
pub(super) struct Stale {
    /// The repository whose remote is away.
    repository: RepositoryUrl,
    /// How it is away.
    failure: String,
}

impl Stale {
    pub(super) fn new(wanted: Wanted<'_>, failure: &LeaseError) -> Self {
        Self { repository: wanted.spec.repository.clone(), failure: chain(failure) }
    }
}

impl Snapshots {
    /// After the remote could not be reached: returns the expired proof that counts until it is back, if the configuration
    /// says so. Whoever accepts it notes that in [`Lease::stale`].
    pub(super) fn proven_offline(&self, wanted: Wanted<'_>, failure: &LeaseError) -> Option<Proven> {
        if self.gateway.policy().config().offline == Offline::Refuse || !failure.is_remote_away() {
            return None;
        }
        self.once_known(wanted).map(|proven| Proven { proof: Proof::Offline, ..proven })
    }

    /// After the remote could not be reached: leases a snapshot in the store whose commit this credential was once proven
    /// to have access to, if the configuration says so. A moving revision stands where the remote last told this
    /// credential.
    ///
    /// A refusal deletes proofs, so an old one says that nothing has been refused since. It counts until the node boots
    /// again, or the store drops it: [`Access`](crate::store::Access).
    ///
    /// # Errors
    ///
    /// `failure` if there is no such proof or snapshot.
    pub(super) fn lease_offline(&self, wanted: Wanted<'_>, failure: LeaseError) -> Result<Lease, LeaseError> {
        let Some(proven) = self.proven_offline(wanted, &failure) else { return Err(failure) };
        let Some(lease) = self.hit(wanted, &proven)? else { return Err(failure) };
        Ok(lease.accepting([Stale::new(wanted, &failure)]))
    }
}

impl Lease {
    /// Notes the expired proofs that were accepted for it. One makes the whole lease one that is served offline.
    pub(super) fn accepting(mut self, stale: impl IntoIterator<Item = Stale>) -> Self {
        self.stale.extend(stale);
        let proof = if self.stale.is_empty() { self.proof } else { Proof::Offline };
        Self { proof, ..self }
    }
}

/// Warns once if expired proofs were accepted for a lease. Only a complete lease is served: every part is proven, and has
/// the signature that it needs.
pub(super) fn warn_of_stale(spec: &VolumeSpec, selection: Selection<'_>, lease: &Lease) {
    let Some(Stale { repository, failure }) = lease.stale.first() else { return };
    tracing::warn!(
        url = %spec.repository, revision = %selection.revision, commit = %lease.commit(),
        away = %repository, error = failure, expired = lease.stale.len(),
        "the remote is away; served from the store with an expired proof of access (offline: stale)"
    );
}
