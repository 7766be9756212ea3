//! Makes the snapshot of a tree and those of its submodules, once all of them are leased.

use super::Gathered;
use super::Gathering;
use super::Lease;
use super::LeaseError;
use super::PART;
use super::Selection;
use super::Snapshots;
use super::Wanted;
use super::Whole;
use super::gather::Wish;
use super::part_of;
use crate::error::chain;
use crate::progress::Step;
use crate::reserve::Reserve;
use crate::snapshot;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::Revision;
use crate::store::META_LIMIT;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::store::StoreError;
use crate::store::Turn;
use crate::worker::TREE;

impl Snapshots {
    /// Gathers the parts and composes them. If content of theirs turns out to be damaged, all of their repositories are
    /// read, and what is damaged is fetched anew.
    pub(super) fn compose_healing(
        &self,
        whole: Whole<'_>,
        wanted: Wanted<'_>,
        root: Lease,
    ) -> Result<(Lease, SnapshotLease), LeaseError> {
        let (revision, resolved) = (root.revision.clone(), root.resolved.clone());
        let gathered = self.gather(whole, wanted, root)?;
        let repositories = gathered.gathering.repositories();
        match self.compose(whole, wanted, gathered) {
            Err(LeaseError::Snapshot(error @ SnapshotError::Incomplete { .. })) => {
                let Whole { spec, credentials, watch, .. } = whole;
                tracing::warn!(
                    url = %spec.repository, error = %chain(&error),
                    "content of a tree or of its submodules is damaged; reading what the store has of them"
                );
                self.store.quarantine_damaged(&repositories, watch)?;
                let commit = Revision::Commit(resolved.commit);
                let selection = Selection { revision: &commit, reference: wanted.reference };
                let again = self.lease_one(&part_of(spec), selection, PART, credentials, watch)?;
                // Which revision was wanted does not change.
                let gathered = self.gather(whole, wanted, Lease { revision, resolved, ..again })?;
                self.compose(whole, wanted, gathered)
            }
            composed => composed,
        }
    }

    /// Makes the snapshot of gathered parts, unless another call does so at the same time.
    fn compose(
        &self,
        whole: Whole<'_>,
        wanted: Wanted<'_>,
        gathered: Gathered<'_>,
    ) -> Result<(Lease, SnapshotLease), LeaseError> {
        let Gathered { root, gathering, _leases } = gathered;
        let id = wanted.fetched(&root.resolved);
        let made = || self.store.snapshot(&id);
        let made = match self.store.compose_turn_unless(&id, &whole.watch.cancel, made)? {
            Turn::Done(made) => made,
            Turn::Ours(_turn) => match made()? {
                Some(made) => made,
                None => self.install_composed(whole, wanted, &root, gathering)?,
            },
        };
        let snapshot = match whole.form.ownership.is_root() {
            true => made,
            false => self.view(wanted, &root.resolved, &made)?,
        };
        Ok((root, snapshot))
    }

    fn install_composed(
        &self,
        whole: Whole<'_>,
        wanted: Wanted<'_>,
        root: &Lease,
        gathering: Gathering<'_>,
    ) -> Result<SnapshotLease, LeaseError> {
        let (Whole { spec, form, watch, .. }, limits) = (whole, self.gateway.policy().limits());
        let (composition, wishes) = gathering.finish();
        let request =
            TreeRequest::new(&spec.tree, root.commit(), form.format, limits).labelled(self.gateway.policy().label());
        let parts = wishes.iter().map(Wish::to_part).collect();
        let meta = SnapshotMeta::new(&spec.repository, &request, TreeSummary::default()).composed_of(parts);
        // Before anything is written.
        if !meta.fits() {
            let what = "bytes of paths and URLs of submodules";
            let error = SnapshotError::too_large(root.commit(), what, META_LIMIT, "this version");
            return Err(self.remembered_whole(wanted, &root.resolved, error.into()));
        }
        let staging = self.store.staging()?;
        let laid_out = staging.path().join(TREE);
        std::fs::create_dir(&laid_out).map_err(StoreError::io("make", &laid_out))?;
        let (listed, segments) = snapshot::compose(&composition, &laid_out, &request, watch)?;
        let kept_free = self.gateway.policy().config().cache.reserve_bytes;
        let reserve = Reserve::new(staging.path().to_owned(), kept_free).making_room(self.room.clone());
        form.format.lay_out(&listed, &laid_out, &segments, &request, reserve, watch)?;
        watch.progress.report(&Step::Syncing);
        let meta = SnapshotMeta { summary: listed.summary, ..meta }.sealed_by(listed.digest());
        Ok(self.store.install_snapshot(&wanted.fetched(&root.resolved), &staging, &laid_out, &meta)?)
    }
}
