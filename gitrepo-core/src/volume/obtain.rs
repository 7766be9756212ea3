//! From a revision to a leased snapshot: whether this credential may, where the revision stands, and on a miss the fetch.

use super::Outcome;
use super::PublishError;
use super::SHARED_ANSWER;
use super::Volumes;
use crate::access::CredentialId;
use crate::cancel::Interrupted;
use crate::credentials::Credentials;
use crate::error::Kind;
use crate::gateway::Workspace;
use crate::progress::Step;
use crate::remote::FetchRequest;
use crate::remote::Resolved;
use crate::snapshot::Owner;
use crate::snapshot::TreeRequest;
use crate::snapshot::Watch;
use crate::spec::PullPolicy;
use crate::spec::Revision;
use crate::spec::VolumeSpec;
use crate::store::RepositoryLock;
use crate::store::SnapshotId;
use crate::store::SnapshotKey;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::worker::REPOSITORY;
use crate::worker::Session;
use crate::worker::TREE;

/// A snapshot that stays while the lease is held, and how it was come by.
pub(super) struct Obtained {
    pub(super) resolved: Resolved,
    pub(super) lease: SnapshotLease,
    pub(super) outcome: Outcome,
}

/// What is asked, by whom.
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a VolumeSpec,
    pub(super) revision: &'a Revision,
    pub(super) credentials: &'a Credentials,
    pub(super) credential: &'a CredentialId,
}

impl Volumes {
    /// The snapshot of what is wanted, with this credential's right to read it proven.
    pub(super) fn obtain(&self, wanted: &Wanted<'_>, watch: &Watch) -> Result<Obtained, PublishError> {
        if let Some(resolved) = self.known(wanted)
            && let Some(lease) = self.store.snapshot(&snapshot_id(wanted.spec, &resolved))?
        {
            return Ok(Obtained { resolved, lease, outcome: Outcome::Hit });
        }
        let result = self.ask_and_fetch(wanted, watch);
        if let Err(error) = &result
            && matches!(error.kind(), Kind::Unauthenticated | Kind::PermissionDenied | Kind::NotFound)
        {
            self.store.access().forget(&wanted.spec.repository, wanted.credential)?;
        }
        result
    }

    /// What this credential was told already, if that is fresh enough to act on without asking again.
    ///
    /// Access is proven for `accessTtl`. Where a moving revision stands is asked each time under `Always`, but for the
    /// answers that [`SHARED_ANSWER`] lets simultaneous publishes share.
    fn known(&self, wanted: &Wanted<'_>) -> Option<Resolved> {
        let url = &wanted.spec.repository;
        let access = self.store.access();
        if !access.proof(url, wanted.credential, self.gateway.policy().config().cache.access_ttl) {
            return None;
        }
        if let Revision::Commit(commit) = wanted.revision {
            return Some(Resolved { commit: *commit, reference: None });
        }
        let answer = access.resolution(url, wanted.credential, wanted.revision)?;
        let fresh = match wanted.spec.pull_policy {
            PullPolicy::IfNotPresent => true,
            PullPolicy::Always => answer.age.is_some_and(|age| age <= SHARED_ANSWER),
        };
        fresh.then_some(Resolved { commit: answer.commit, reference: answer.reference })
    }

    /// Asks the remote, and fetches over the same connection when the snapshot is not there.
    fn ask_and_fetch(&self, wanted: &Wanted<'_>, watch: &Watch) -> Result<Obtained, PublishError> {
        let access = self.store.access();
        let url = &wanted.spec.repository;
        watch.progress.report(&Step::Resolving);
        let asking = access.resolve_lock(url, wanted.credential, &watch.cancel)?;
        if let Some(resolved) = self.known(wanted) {
            // Another process asked the same while this one waited.
            drop(asking);
            return self.hit_or_fetch(wanted, resolved, None, watch);
        }
        // Whoever can fetch at once opens one session for both; whoever cannot only asks, and then waits for the fetch.
        let mut fetching = match self.store.repository(url).try_lock()? {
            Some(lock) => Some(self.fetching(wanted, lock, watch)?),
            None => None,
        };
        let resolved = match &mut fetching {
            Some(fetching) => self.ask(&mut fetching.session, wanted)?,
            None => {
                let mut session = self.gateway.open(url, wanted.credentials, None, watch)?;
                let resolved = self.ask(&mut session, wanted)?;
                session.finish()?;
                resolved
            }
        };
        access.record_answer(url, wanted.credential, wanted.revision, &resolved)?;
        drop(asking);
        self.hit_or_fetch(wanted, resolved, fetching, watch)
    }

    fn ask(&self, session: &mut Session, wanted: &Wanted<'_>) -> Result<Resolved, PublishError> {
        let resolved = session.resolve(wanted.revision)?;
        self.gateway.remember_host_keys(session)?;
        Ok(resolved)
    }

    fn hit_or_fetch(
        &self,
        wanted: &Wanted<'_>,
        resolved: Resolved,
        fetching: Option<Fetching>,
        watch: &Watch,
    ) -> Result<Obtained, PublishError> {
        let id = snapshot_id(wanted.spec, &resolved);
        if let Some(lease) = self.store.snapshot(&id)? {
            return Ok(Obtained { resolved, lease, outcome: Outcome::Hit });
        }
        let fetching = match fetching {
            Some(fetching) => fetching,
            None => {
                watch.progress.report(&Step::Waiting);
                let lock = self.store.repository(&wanted.spec.repository).lock(&watch.cancel)?;
                if let Some(lease) = self.store.snapshot(&id)? {
                    return Ok(Obtained { resolved, lease, outcome: Outcome::Hit });
                }
                self.fetching(wanted, lock, watch)?
            }
        };
        self.fetch(wanted, resolved, fetching, watch)
    }

    /// A session that may fetch: under the repository's lock, into a staging directory of its own.
    fn fetching(&self, wanted: &Wanted<'_>, lock: RepositoryLock, watch: &Watch) -> Result<Fetching, PublishError> {
        let url = &wanted.spec.repository;
        let staging = self.store.staging()?;
        let base = self.store.repository(url).base()?;
        let workspace = Workspace { staging: staging.path(), base: base.as_deref() };
        let session = self.gateway.open(url, wanted.credentials, Some(workspace), watch)?;
        Ok(Fetching { session, staging, lock })
    }

    fn fetch(
        &self,
        wanted: &Wanted<'_>,
        resolved: Resolved,
        fetching: Fetching,
        watch: &Watch,
    ) -> Result<Obtained, PublishError> {
        let Fetching { mut session, staging, lock } = fetching;
        let report = session.fetch(&FetchRequest { resolved: resolved.clone(), depth: wanted.spec.depth })?;
        let resolved = Resolved { commit: report.commit, reference: resolved.reference };
        let request = TreeRequest {
            commit: resolved.commit,
            subdirectory: wanted.spec.subdirectory.clone(),
            directory: wanted.spec.directory.clone(),
            symlinks: wanted.spec.symlinks,
            limits: self.gateway.policy().limits().clone(),
        };
        session.write_tree(&request)?;
        session.finish()?;

        self.still_wanted(watch)?;
        watch.progress.report(&Step::Syncing);
        let tree = staging.path().join(TREE);
        let summary = self.format.adopt(&tree, &request, Owner { uid: 0, gid: 0 })?;
        let meta = SnapshotMeta::new(&wanted.spec.repository, &request, self.format.name(), summary);
        let id = snapshot_id(wanted.spec, &resolved);
        let lease = self.store.install_snapshot(&id, &staging, &tree, &meta)?;
        self.store.repository(&wanted.spec.repository).adopt(&lock, &staging.path().join(REPOSITORY), &resolved.commit)?;
        Ok(Obtained { resolved, lease, outcome: Outcome::Fetched { received_bytes: report.received_bytes } })
    }

    fn still_wanted(&self, watch: &Watch) -> Result<(), PublishError> {
        watch.cancel.check().map_err(|source: Interrupted| PublishError::Interrupted { source })
    }
}

/// A session that may fetch, and what it holds while it does. Fields drop in this order: the session ends before its
/// staging directory goes and before another process may fetch.
struct Fetching {
    session: Session,
    staging: crate::store::Staging,
    lock: RepositoryLock,
}

fn snapshot_id(spec: &VolumeSpec, resolved: &Resolved) -> SnapshotId {
    SnapshotKey {
        url: &spec.repository,
        commit: &resolved.commit,
        subdirectory: &spec.subdirectory,
        directory: &spec.directory,
        symlinks: spec.symlinks,
    }
    .id()
}
