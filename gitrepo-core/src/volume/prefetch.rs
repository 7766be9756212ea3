//! Prefetch: brings a tree into the store for volumes to come, without a target.

use super::PublishError;
use super::VolumeRequest;
use super::Volumes;
use crate::credentials::Credentials;
use crate::lease::Lease;
use crate::lease::LeaseError;
use crate::watch::Watch;

impl Volumes {
    /// Leases the tree that the volume would show, in the form that it would have. Its target is not looked at. The tree
    /// stays while the lease lives, and then until it is evicted as any other that is unused.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshots::lease`](crate::lease::Snapshots::lease).
    pub fn prefetch(
        &self,
        request: &VolumeRequest,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Lease, PublishError> {
        self.store.check()?;
        watch.cancel.check().map_err(|source| LeaseError::Interrupted { source })?;
        let form = self.plan(request, None)?.form;
        let spec = &request.spec;
        self.with_room(|| Ok(self.snapshots.lease(spec, (&spec.revision).into(), form, credentials, watch)?))
    }
}
