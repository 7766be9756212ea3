//! From a revision to a leased snapshot: whether this credential may, where the revision stands, and on a miss the fetch.

use std::path::PathBuf;

use super::Outcome;
use super::PublishError;
use super::SHARED_ANSWER;
use super::Volumes;
use crate::access::CredentialId;
use crate::credentials::Credentials;
use crate::error::Kind;
use crate::error::chain;
use crate::gateway::GatewayError;
use crate::gateway::Workspace;
use crate::progress::Step;
use crate::remote::FetchRequest;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::snapshot::Owner;
use crate::snapshot::SnapshotError;
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
use crate::store::Staging;
use crate::store::StoreError;
use crate::store::Turn;
use crate::worker::REPOSITORY;
use crate::worker::Session;
use crate::worker::TREE;
use crate::worker::WorkerError;

/// Who owns what is in the store, whoever fetched it: the user that runs us, which is root in a driver.
fn store_owner() -> Owner {
    Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
}

/// A snapshot that stays while the lease is held, and how it was come by.
pub(super) struct Obtained {
    pub(super) resolved: Resolved,
    pub(super) lease: SnapshotLease,
    pub(super) outcome: Outcome,
}

/// What is asked, by whom.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) spec: &'a VolumeSpec,
    pub(super) revision: &'a Revision,
    pub(super) credentials: &'a Credentials,
    pub(super) credential: &'a CredentialId,
}

impl Wanted<'_> {
    fn snapshot(&self, resolved: &Resolved) -> SnapshotId {
        SnapshotKey {
            url: &self.spec.repository,
            commit: &resolved.commit,
            subdirectory: &self.spec.subdirectory,
            directory: &self.spec.directory,
            symlinks: self.spec.symlinks,
        }
        .id()
    }
}

/// A session that may fetch, and what it holds while it does. Fields drop in this order: the session ends before its
/// staging directory goes, and that before another process may fetch.
struct Fetching {
    session: Session,
    base: Option<PathBuf>,
    staging: Staging,
    lock: RepositoryLock,
}

impl Volumes {
    /// The snapshot of what is wanted, with this credential's right to read it proven.
    pub(super) fn obtain(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Obtained, PublishError> {
        if let Some(hit) = self.known_hit(wanted)? {
            return Ok(hit);
        }
        let result = self.ask_and_fetch(wanted, watch);
        if let Err(error) = &result
            && matches!(error.kind(), Kind::Unauthenticated | Kind::PermissionDenied | Kind::NotFound)
            && let Err(failure) = self.store.access().forget(wanted.credential)
        {
            // The remote's refusal is what the caller must hear.
            tracing::error!(error = %chain(&failure), "a proof of access that is void could not be deleted");
        }
        result
    }

    /// What this credential was told already, if that is fresh enough to act on without asking again.
    ///
    /// Access is proven for `accessTtl`. Where a moving revision stands is asked each time under `Always`, but for the
    /// answers that [`SHARED_ANSWER`] lets simultaneous publishes share.
    pub(super) fn known(&self, wanted: Wanted<'_>) -> Result<Option<Resolved>, StoreError> {
        let access = self.store.access();
        if !access.proof(wanted.credential, self.gateway.policy().config().cache.access_ttl) {
            return Ok(None);
        }
        if let Revision::Commit(commit) = wanted.revision {
            return Ok(Some(Resolved { commit: *commit, reference: None }));
        }
        let answer = access.resolution(wanted.credential, wanted.revision);
        let fresh = answer.filter(|answer| match wanted.spec.pull_policy {
            PullPolicy::IfNotPresent => true,
            PullPolicy::Always => answer.age.is_some_and(|age| age <= SHARED_ANSWER),
        });
        Ok(fresh.map(|answer| answer.resolved))
    }

    fn known_hit(&self, wanted: Wanted<'_>) -> Result<Option<Obtained>, StoreError> {
        match self.known(wanted)? {
            Some(resolved) => self.hit(wanted, resolved),
            None => Ok(None),
        }
    }

    fn hit(&self, wanted: Wanted<'_>, resolved: Resolved) -> Result<Option<Obtained>, StoreError> {
        let lease = self.store.snapshot(&wanted.snapshot(&resolved))?;
        Ok(lease.map(|lease| Obtained { resolved, lease, outcome: Outcome::Hit }))
    }

    /// Asks the remote, and fetches over the same connection when the snapshot is not there.
    ///
    /// Whoever may fetch at once opens one session for both. Whoever may not only asks, and then waits for the fetch.
    fn ask_and_fetch(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Obtained, PublishError> {
        watch.progress.report(&Step::Resolving);
        let access = self.store.access();
        let asking = match access.resolve_lock_unless(wanted.credential, &watch.cancel, || self.known(wanted))? {
            Turn::Ours(lock) => lock,
            Turn::Done(resolved) => return self.hit_or_fetch(wanted, resolved, None, watch),
        };
        if let Some(resolved) = self.known(wanted)? {
            drop(asking);
            return self.hit_or_fetch(wanted, resolved, None, watch);
        }
        let mut fetching = match self.store.repository(&wanted.spec.repository).try_lock()? {
            Some(lock) => Some(self.start_fetching(wanted, lock, watch)?),
            None => None,
        };
        let resolved = match &mut fetching {
            Some(fetching) => {
                let resolved = fetching.session.resolve(wanted.revision)?;
                self.gateway.remember_host_keys(&fetching.session)?;
                resolved
            }
            None => self.gateway.resolve(&wanted.spec.repository, wanted.revision, wanted.credentials, watch)?,
        };
        match access.record_answer(wanted.credential, wanted.revision, &resolved) {
            // What cannot be noted down is asked again.
            Err(error) if error.is_full() => {
                tracing::warn!(error = %chain(&error), "an answer of the remote is not kept: the disk is full");
            }
            result => result?,
        }
        drop(asking);
        self.hit_or_fetch(wanted, resolved, fetching, watch)
    }

    fn hit_or_fetch(
        &self,
        wanted: Wanted<'_>,
        resolved: Resolved,
        fetching: Option<Fetching>,
        watch: &Watch,
    ) -> Result<Obtained, PublishError> {
        if let Some(hit) = self.hit(wanted, resolved.clone())? {
            return Ok(hit);
        }
        if let Some(fetching) = fetching {
            return self.fetch_healing(wanted, resolved, fetching, watch);
        }
        watch.progress.report(&Step::Waiting);
        let repository = self.store.repository(&wanted.spec.repository);
        let turn = repository.lock_unless(&watch.cancel, || self.hit(wanted, resolved.clone()))?;
        let lock = match turn {
            Turn::Done(hit) => return Ok(hit),
            Turn::Ours(lock) => lock,
        };
        if let Some(hit) = self.hit(wanted, resolved.clone())? {
            return Ok(hit);
        }
        let fetching = self.start_fetching(wanted, lock, watch)?;
        self.fetch_healing(wanted, resolved, fetching, watch)
    }

    /// Fetches, and where what the store has of the repository turns out to be damaged, once more without it: git
    /// believes that it has the objects of a damaged pack, so no fetch on top of it would ever bring them.
    fn fetch_healing(
        &self,
        wanted: Wanted<'_>,
        resolved: Resolved,
        fetching: Fetching,
        watch: &Watch,
    ) -> Result<Obtained, PublishError> {
        let built_on_ours = fetching.base.is_some();
        match self.fetch(wanted, resolved.clone(), fetching, watch) {
            Err(error) if built_on_ours && speaks_of_damage(&error) => {
                tracing::warn!(url = %wanted.spec.repository, error = %chain(&error), "fetching afresh: ours is damaged");
                let lock = self.store.repository(&wanted.spec.repository).lock(&watch.cancel)?;
                lock.discard()?;
                let fetching = self.start_fetching(wanted, lock, watch)?;
                self.fetch(wanted, resolved, fetching, watch)
            }
            result => result,
        }
    }

    /// A session that may fetch: under the repository's lock, into a staging directory of its own.
    fn start_fetching(
        &self,
        wanted: Wanted<'_>,
        lock: RepositoryLock,
        watch: &Watch,
    ) -> Result<Fetching, PublishError> {
        lock.salvage()?;
        let staging = lock.staging()?;
        let base = lock.base()?;
        let workspace = Workspace { staging: staging.path(), base: base.as_deref() };
        let session = self.gateway.open(&wanted.spec.repository, wanted.credentials, Some(workspace), watch)?;
        let session = session.making_room(self.room());
        Ok(Fetching { session, base, staging, lock })
    }

    fn fetch(
        &self,
        wanted: Wanted<'_>,
        resolved: Resolved,
        mut fetching: Fetching,
        watch: &Watch,
    ) -> Result<Obtained, PublishError> {
        // Servers may think for minutes about a large pack before they send any of it.
        watch.progress.report(&Step::Fetching { bytes: 0, objects: 0, total_objects: 0 });
        let report = fetching.session.fetch(&FetchRequest { resolved: resolved.clone(), depth: wanted.spec.depth })?;
        self.gateway.remember_host_keys(&fetching.session)?;
        let resolved = Resolved { commit: report.commit, reference: resolved.reference };
        let request = TreeRequest::new(wanted.spec, resolved.commit, self.gateway.policy().limits());
        let written = fetching.session.write_tree(&request).map_err(PublishError::from);
        // Nothing may change behind the checks of what the worker wrote, so it must be gone first. The lock goes last.
        let Fetching { lock, staging, base, session } = fetching;
        session.finish()?;
        let owner = store_owner();
        let keep_pack = || lock.adopt(&staging.path().join(REPOSITORY), base.as_deref(), &resolved.commit, owner);
        let given_up = |source| PublishError::Interrupted { source };
        if let Err(error) = written.and_then(|_| watch.cancel.check().map_err(given_up)) {
            let left = match is_refusal(&error) {
                true => self.store.drop_unused(&lock),
                false if leaves_the_pack_good(&error) => keep_pack(),
                false => Ok(()),
            };
            if let Err(failure) = left {
                tracing::warn!(error = %chain(&failure), "cannot keep what was received, or drop what was refused");
            }
            return Err(error);
        }

        watch.progress.report(&Step::Syncing);
        let tree = staging.path().join(TREE);
        let summary = self.format.adopt(&tree, &request, owner)?;
        keep_pack()?;
        let meta = SnapshotMeta::new(&wanted.spec.repository, &request, self.format.name(), summary);
        let lease = self.store.install_snapshot(&wanted.snapshot(&resolved), &staging, &tree, &meta)?;
        Ok(Obtained { resolved, lease, outcome: Outcome::Fetched { received_bytes: report.received_bytes } })
    }
}

/// Whether the repository itself is refused: it exceeds a limit, or holds what an honest one does not. Nothing of it is
/// worth its place.
fn is_refusal(error: &PublishError) -> bool {
    let PublishError::Gateway(GatewayError::Worker(WorkerError::Snapshot(error))) = error else { return false };
    matches!(error, SnapshotError::TooLarge { .. } | SnapshotError::UnsafeName { .. })
}

/// Whether an error after a complete fetch says nothing against what was fetched: time was up, the worker came to grief,
/// or the commit itself is not as this volume wants it. Neither damage nor a full disk is, nor a worker that lies.
fn leaves_the_pack_good(error: &PublishError) -> bool {
    let error = match error {
        PublishError::Interrupted { .. } => return true,
        PublishError::Gateway(GatewayError::Worker(error)) => error,
        _ => return false,
    };
    match error {
        WorkerError::Remote(RemoteError::Interrupted { .. }) | WorkerError::Died { .. } | WorkerError::Fault { .. } => {
            true
        }
        WorkerError::Snapshot(error) => !matches!(
            error,
            SnapshotError::Incomplete { .. } | SnapshotError::Untrusted { .. } | SnapshotError::Io { .. }
        ),
        _ => false,
    }
}

fn speaks_of_damage(error: &PublishError) -> bool {
    let PublishError::Gateway(GatewayError::Worker(error)) = error else { return false };
    matches!(
        error,
        WorkerError::Snapshot(SnapshotError::Incomplete { .. })
            | WorkerError::Remote(RemoteError::Local { full: false, .. })
    )
}
