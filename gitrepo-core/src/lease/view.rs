//! Makes views: the same tree with other owners, out of a snapshot in the store. Nothing is fetched, and no lock is needed
//! but the lease on that snapshot. If several calls make one view at once, the first one stays.

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::remote::Resolved;
use crate::snapshot::Image;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::store::SnapshotLease;
use crate::store::StoreError;
use crate::worker::TREE;

impl Snapshots {
    /// Makes the wanted view of a snapshot. Returns `None` if that is damaged: then it is marked, and has to be fetched
    /// again.
    pub(super) fn view_unless_damaged(
        &self,
        wanted: Wanted<'_>,
        resolved: &Resolved,
        fetched: &SnapshotLease,
    ) -> Result<Option<SnapshotLease>, LeaseError> {
        match self.view(wanted, resolved, fetched) {
            Err(LeaseError::Snapshot(SnapshotError::Untrusted { path, reason })) => {
                self.store.mark_damaged(fetched, &format!("{path}: {reason}"))?;
                Ok(None)
            }
            view => view.map(Some),
        }
    }

    /// Makes the wanted view of a snapshot in the format of images.
    pub(super) fn view(
        &self,
        wanted: Wanted<'_>,
        resolved: &Resolved,
        fetched: &SnapshotLease,
    ) -> Result<SnapshotLease, LeaseError> {
        let staging = self.store.staging()?;
        let made = staging.path().join(TREE);
        std::fs::create_dir(&made).map_err(StoreError::io("make", &made))?;
        let limits = self.gateway.policy().limits();
        let request = TreeRequest::new(&wanted.spec.tree, resolved.commit, wanted.form.format, limits);
        let request = request.showing(wanted.repository(resolved));
        Image::view(fetched.path(), &made, &request, &wanted.form.ownership)?;
        let meta = fetched.meta().of_view(wanted.form.ownership);
        Ok(self.store.install_snapshot(&wanted.snapshot(resolved), &staging, &made, &meta)?)
    }
}
