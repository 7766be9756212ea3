//! Publish: leases a tree for the target, then shows it.

use std::path::Component;
use std::path::Path;

use super::PublishError;
use super::Published;
use super::VolumeRequest;
use super::Volumes;
use super::plan::Plan;
use super::same_credential;
use super::show::taken_by;
use crate::credentials::Credentials;
use crate::error::Kind;
use crate::lease::Lease;
use crate::lease::LeaseError;
use crate::lease::Selection;
use crate::spec::Revision;
use crate::store::MarkWatch;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::Shows;
use crate::watch::Watch;

/// A lease for the target of a request.
pub struct VolumeLease<'a> {
    pub(super) request: &'a VolumeRequest,
    pub(super) lease: Lease,
    /// What the target will show, if it has no record.
    pub(super) shows: Shows,
    /// What other targets of the volume showed when the lease began.
    pub(super) pinned: Option<SharedCopy>,
    /// Notices an unpublish since the lease began.
    pub(super) unpublish: MarkWatch,
}

impl VolumeLease<'_> {
    /// Returns the leased snapshot.
    pub fn snapshot(&self) -> &Lease {
        &self.lease
    }
}

impl Volumes {
    /// Publishes a volume on its target: [`lease`](Self::lease), then [`show`](Self::show). Any process may repeat this
    /// after any crash: a target that serves the same content is left alone, and one that lost its mount gets the
    /// recorded commit back.
    ///
    /// # Errors
    ///
    /// On every error but [`PublishError::NotUndone`], this call has undone what it did for the target.
    pub fn publish(
        &self,
        request: &VolumeRequest,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Published, PublishError> {
        self.check(request)?;
        if let Some(published) = self.serves(request)? {
            return Ok(published);
        }
        loop {
            let lease = self.lease(request, credentials, watch)?;
            match self.show(&lease, watch) {
                Err(PublishError::Outdated { .. }) => drop(lease),
                result => return result,
            }
        }
    }

    /// Leases a tree for the target: that of the commit in its record, or else of the commit that the other targets of
    /// a shared volume show, or else of the requested revision. Does not touch the target, so a caller that gives up
    /// just does not call [`show`](Self::show).
    ///
    /// # Errors
    ///
    /// [`PublishError::TargetTaken`] and [`PublishError::SharedOtherwise`], before anything is fetched, and those of
    /// [`Snapshots::lease`](crate::lease::Snapshots::lease).
    pub fn lease<'a>(
        &self,
        request: &'a VolumeRequest,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<VolumeLease<'a>, PublishError> {
        self.check(request)?;
        let watch = &watch.clone().on_account_of(request.tenant.as_deref());
        watch.cancel.check().map_err(|source| LeaseError::Interrupted { source })?;
        // The watch comes first: an unpublish after this must keep the tree from being shown.
        let unpublish = self.with_room(|| Ok(self.store.watch_target(&request.target, &watch.cancel)?))?;
        let (lease, shows, pinned) = self.with_room(|| {
            let of_record =
                |record: Record| Ok((self.lease_of_record(&record, request, credentials, watch)?, record.shows, None));
            if let Some(record) = self.store.record(&request.volume_id, &request.target)? {
                return of_record(record);
            }
            let pinned = if request.is_shared() { self.pinned(request)? } else { None };
            let Plan { shows, form } = self.plan(request, pinned.as_ref())?;
            let commit = pinned.as_ref().map(|copy| Revision::Commit(copy.commit));
            let revision = commit.as_ref().unwrap_or(&request.spec.revision);
            let reference = pinned.as_ref().and_then(|copy| copy.reference.as_deref());
            let selection = Selection { revision, reference };
            // Without a fetch, it is soon enough that `show` examines the target under its lock.
            match self.snapshots.lease_known(&request.spec, selection, form, credentials)? {
                Some(lease) => Ok((lease, shows, pinned)),
                None => match self.check_free(request)? {
                    Some(record) => of_record(record),
                    None => {
                        let lease = self.snapshots.lease(&request.spec, selection, form, credentials, watch)?;
                        Ok((lease, shows, pinned))
                    }
                },
            }
        })?;
        Ok(VolumeLease { request, lease, shows, pinned, unpublish })
    }

    /// Fails if the target shows another volume, or something that is not ours. Returns the record of this volume, if
    /// another process has just written it.
    fn check_free(&self, request: &VolumeRequest) -> Result<Option<Record>, PublishError> {
        match self.store.record_of_target(&request.target)? {
            Some(taken) if taken.volume_id != request.volume_id => return Err(taken_by(&taken)),
            Some(record) => return Ok(Some(record)),
            None => {}
        }
        match self.find_target(&request.target, None) {
            // Another process may be publishing this very volume there: look twice before refusing.
            Err(PublishError::TargetMounted { .. }) => self.find_target(&request.target, None)?,
            found => found?,
        };
        Ok(None)
    }

    /// Leases the snapshot that a record names. The record proves access for the credential that made it; another
    /// credential must prove its own.
    fn lease_of_record(
        &self,
        record: &Record,
        request: &VolumeRequest,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Lease, PublishError> {
        self.check_recorded(record, request)?;
        let credential = self.snapshots.credential(&request.spec, credentials)?;
        if same_credential(record, &credential) {
            // In whichever format it is, unless this node can no longer mount it, as after the boot of another kernel.
            if let Some(lease) = self.snapshots.lease_recorded(&request.spec, record, credentials, watch)?
                && self.can_mount(&lease.snapshot.attachment()?)
            {
                return Ok(lease);
            }
        }
        let selection =
            Selection { revision: &Revision::Commit(record.commit), reference: record.reference.as_deref() };
        let form = self.form_of_record(record, request)?;
        Ok(self.snapshots.lease(&request.spec, selection, form, credentials, watch)?)
    }

    /// Runs one half of a publish. On a full disk, removes unused content and runs it once more.
    pub(super) fn with_room<T>(&self, half: impl Fn() -> Result<T, PublishError>) -> Result<T, PublishError> {
        let result = match half() {
            Err(error) if self.made_room_after(&error) => return half(),
            result => result,
        };
        // If the store has disappeared meanwhile, the error says nothing about the volume.
        if let Err(error) = &result
            && matches!(error.kind(), Kind::Internal | Kind::Corrupt | Kind::FailedPrecondition)
        {
            self.store.check()?;
        }
        result
    }

    /// Checks the target, the store and the policy for the repository.
    fn check(&self, request: &VolumeRequest) -> Result<(), PublishError> {
        check_target(&request.target, self.store.root())?;
        self.store.check()?;
        self.snapshots.gateway().policy().check(&request.spec.repository).map_err(LeaseError::from)?;
        Ok(())
    }
}

/// Checks that the target means the same in every process (absolute, UTF-8, without `..`), and does not overlap the
/// store.
fn check_target(target: &Path, store: &Path) -> Result<(), PublishError> {
    let clean = target.is_absolute()
        && target.file_name().is_some()
        && target.to_str().is_some()
        && target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !clean {
        return Err(PublishError::Target { target: target.to_owned() });
    }
    if target.starts_with(store) || store.starts_with(target) {
        return Err(PublishError::TargetOverlapsStore { target: target.to_owned(), store: store.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gateway::Gateway;
    use crate::policy::Config;
    use crate::policy::Policy;
    use crate::spec::RepositoryUrl;
    use crate::spec::VolumeSpec;
    use crate::store::Store;
    use crate::testing::FakeMounter;
    use crate::testing::FakeRemote;
    use crate::testing::mounter::Call;
    use crate::volume::Outcome;
    use crate::worker::InProcess;

    #[test]
    fn a_hit_lists_the_mounts_once_and_a_miss_before_the_fetch_too() {
        let place = tempfile::tempdir().unwrap();
        let home = place.path().canonicalize().unwrap();
        let url = RepositoryUrl::parse("file:///app.git").unwrap();
        let worker = InProcess::new(Arc::new(FakeRemote::of_one(&url)));
        let mounter = Arc::new(FakeMounter::new());
        let gateway = Gateway::new(Policy::new(Config::for_person()), Arc::new(worker));
        let store = Store::open(&home.join("store")).unwrap();
        let volumes = Volumes::new(store, gateway, Arc::<FakeMounter>::clone(&mounter));

        let lists = |name: &str| {
            let before = mounter.calls().len();
            let request = VolumeRequest::new(name, home.join(name), VolumeSpec::new(url.clone()));
            std::fs::create_dir(&request.target).unwrap();
            let published = volumes.publish(&request, &Credentials::none(), &Watch::default()).unwrap();
            (
                published.outcome == Outcome::Hit,
                mounter.calls()[before..].iter().filter(|call| **call == Call::List).count(),
            )
        };
        assert_eq!([lists("miss"), lists("hit")], [(false, 2), (true, 1)]);
    }
}
