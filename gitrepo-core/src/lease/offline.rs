//! What happens while the remote is away: the configuration's `offline`.

use super::Lease;
use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use super::proof::Proof;
use super::proof::Proven;
use crate::error::chain;
use crate::policy::Offline;

impl Snapshots {
    /// After the remote could not be reached: returns the expired proof that counts until it is back, if the configuration
    /// says so.
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
        served_offline(wanted, &proven, &failure);
        Ok(lease)
    }
}

/// Warns that an expired proof was accepted. Whoever accepts one calls this.
pub(super) fn served_offline(wanted: Wanted<'_>, proven: &Proven, failure: &LeaseError) {
    tracing::warn!(
        url = %wanted.spec.repository, revision = %wanted.revision, commit = %proven.resolved.commit,
        error = %chain(failure),
        "the remote is away; served from the store with an expired proof of access (offline: stale)"
    );
}
