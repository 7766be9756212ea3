//! Gets the snapshot of a resolved revision from the store, or fetches it.

use std::path::Path;
use std::path::PathBuf;

use super::Lease;
use super::LeaseError;
use super::Provenance;
use super::Snapshots;
use super::Wanted;
use super::receive::Received;
use super::receive::receive;
use crate::error::Kind;
use crate::error::chain;
use crate::gateway::Session;
use crate::gateway::Workspace;
use crate::progress::Step;
use crate::remote::REPOSITORY;
use crate::remote::Resolved;
use crate::reserve::Reserve;
use crate::snapshot;
use crate::snapshot::Owner;
use crate::spec::Revision;
use crate::store::RepositoryLock;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::store::Staging;
use crate::store::StoreError;
use crate::store::Turn;
use crate::watch::Watch;
use crate::worker::TREE;

/// A session that may fetch, with its staging directory and its lock. Fields drop in this order: the session ends, then
/// its staging directory is deleted, then another process may fetch.
pub(super) struct Fetching<'a> {
    session: Session<'a>,
    base: Option<PathBuf>,
    staging: Staging,
    lock: RepositoryLock,
}

/// A snapshot in the store.
enum Found {
    /// The wanted one.
    Wanted(SnapshotLease),
    /// The same tree with other owners.
    Viewable(SnapshotLease),
}

impl Fetching<'_> {
    pub(super) fn resolve(&mut self, revision: &Revision) -> Result<Resolved, LeaseError> {
        Ok(self.session.resolve(revision)?)
    }
}

impl Snapshots {
    /// Resolves the revision and, if its snapshot is missing, fetches over the same connection. If another call is
    /// fetching from the repository, this one only resolves, then waits for that fetch.
    pub(super) fn obtain(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Lease, LeaseError> {
        let (resolved, fetching) = self.ask(wanted, true, watch)?;
        if let Some(hit) = self.hit(wanted, &resolved)? {
            return Ok(hit);
        }
        self.check_refused(wanted, &resolved)?;
        if let Some(fetching) = fetching {
            return self.fetch_healing(wanted, resolved, fetching, watch);
        }
        watch.progress.report(&Step::Waiting);
        let repository = self.store.repository(&wanted.spec.repository);
        let lock = loop {
            let turn = repository.lock_unless(&watch.cancel, || self.find(wanted, &resolved))?;
            if let Some(hit) = self.hit(wanted, &resolved)? {
                return Ok(hit);
            }
            self.check_refused(wanted, &resolved)?;
            if let Turn::Ours(lock) = turn {
                break lock;
            }
        };
        let fetching = self.start_fetching(wanted, lock, watch)?;
        self.fetch_healing(wanted, resolved, fetching, watch)
    }

    /// Opens a session that may fetch, unless another call is fetching from the repository.
    pub(super) fn try_fetching(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Option<Fetching<'_>>, LeaseError> {
        match self.store.repository(&wanted.spec.repository).try_lock()? {
            Some(lock) => self.start_fetching(wanted, lock, watch).map(Some),
            None => Ok(None),
        }
    }

    /// Leases the snapshot if the store has it, or can make it without a fetch.
    pub(super) fn hit(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<Option<Lease>, LeaseError> {
        let snapshot = match self.find(wanted, resolved)? {
            Some(Found::Wanted(snapshot)) => Some(snapshot),
            Some(Found::Viewable(fetched)) => self.view_unless_damaged(wanted, resolved, &fetched)?,
            None => None,
        };
        Ok(snapshot.map(|snapshot| wanted.lease(resolved.clone(), snapshot, Provenance::Store)))
    }

    /// Finds the snapshot, or one of which it can be a view.
    fn find(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<Option<Found>, StoreError> {
        if let Some(snapshot) = self.store.snapshot(&wanted.snapshot(resolved))? {
            return Ok(Some(Found::Wanted(snapshot)));
        }
        match wanted.form.ownership.is_root() {
            true => Ok(None),
            false => Ok(self.store.snapshot(&wanted.fetched(resolved))?.map(Found::Viewable)),
        }
    }

    /// Fetches. If the store's copy of the repository turns out to be damaged, fetches once more without it: git
    /// believes that it has the objects of a damaged pack, so a fetch that builds on it would never bring them.
    fn fetch_healing(
        &self,
        wanted: Wanted<'_>,
        resolved: Resolved,
        fetching: Fetching<'_>,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        let has_base = fetching.base.is_some();
        match self.fetch(wanted, resolved.clone(), fetching, watch) {
            Err(error) if has_base && error.is_damage() => {
                let url = &wanted.spec.repository;
                tracing::warn!(%url, error = %chain(&error), "the store's copy is damaged; fetching again");
                let lock = self.store.repository(url).lock(&watch.cancel)?;
                // Another call may have found the damage, and mended it, while nobody held the lock.
                if let Some(hit) = self.hit(wanted, &resolved)? {
                    return Ok(hit);
                }
                lock.discard()?;
                let fetching = self.start_fetching(wanted, lock, watch)?;
                self.fetch(wanted, resolved, fetching, watch)
            }
            result => result,
        }
    }

    /// Opens a session under the repository's lock, with a staging directory of its own.
    fn start_fetching(
        &self,
        wanted: Wanted<'_>,
        lock: RepositoryLock,
        watch: &Watch,
    ) -> Result<Fetching<'_>, LeaseError> {
        lock.salvage()?;
        let staging = lock.staging()?;
        let base = lock.base()?;
        let workspace = Workspace { staging: staging.path(), base: base.as_deref() };
        let session = self.gateway.open(&wanted.spec.repository, wanted.credentials, Some(workspace), watch)?;
        let session = session.making_room(self.room.clone());
        Ok(Fetching { session, base, staging, lock })
    }

    /// Fetches a tree, checks it, and installs it as a snapshot.
    fn fetch(
        &self,
        wanted: Wanted<'_>,
        resolved: Resolved,
        fetching: Fetching<'_>,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        // The lock is dropped last.
        let Fetching { lock, staging, base, session } = fetching;
        let received =
            receive(session, wanted.spec, &resolved, wanted.form.format, self.gateway.policy().limits(), watch);
        let Received { tree, written, bytes } =
            received.map_err(|error| self.remembered(wanted, &resolved, error.into()))?;
        let given_up = |source| LeaseError::Interrupted { source };
        let written = written.map_err(LeaseError::from).and_then(|()| watch.cancel.check().map_err(given_up));
        if let Err(error) = written {
            self.keep_good_pack(&lock, &staging, base.as_deref(), &resolved, &error);
            return Err(self.remembered(wanted, &resolved, error));
        }

        let owner = Owner::ourselves();
        let laid_out = staging.path().join(TREE);
        let listed = snapshot::adopt(&laid_out, &tree, owner)?;
        lock.adopt(&staging.path().join(REPOSITORY), base.as_deref(), &resolved.commit, owner)?;
        let repository = lock.repository().path();
        let kept_free = self.gateway.policy().config().cache.reserve_bytes;
        let reserve = Reserve::new(staging.path().to_owned(), kept_free).making_room(self.room.clone());
        let made = wanted.form.format.complete(&listed, &laid_out, repository, &tree, reserve, watch);
        let fetched = made.map_err(LeaseError::from).and_then(|()| {
            watch.progress.report(&Step::Syncing);
            let meta = SnapshotMeta::new(&wanted.spec.repository, &tree, listed.summary);
            Ok(self.store.install_snapshot(&wanted.fetched(&resolved), &staging, &laid_out, &meta)?)
        });
        let fetched = match fetched {
            // Nothing is left of what has no room.
            Err(error) if error.kind() == Kind::ResourceExhausted => {
                if let Err(failure) = self.store.drop_unused(&lock) {
                    tracing::warn!(error = %chain(&failure), "cannot discard the repository of a tree that has no room");
                }
                return Err(error);
            }
            fetched => fetched?,
        };
        let snapshot = match wanted.form.ownership.is_root() {
            true => fetched,
            false => self.view(wanted, &resolved, &fetched)?,
        };
        Ok(wanted.lease(resolved, snapshot, Provenance::Remote { received_bytes: bytes }))
    }

    /// After a fetch whose tree failed: keeps a good pack for the next attempt, and discards a refused repository.
    fn keep_good_pack(
        &self,
        lock: &RepositoryLock,
        staging: &Staging,
        base: Option<&Path>,
        resolved: &Resolved,
        error: &LeaseError,
    ) {
        let kept = if error.is_refusal() {
            self.store.drop_unused(lock)
        } else if error.leaves_the_pack_good() {
            lock.adopt(&staging.path().join(REPOSITORY), base, &resolved.commit, Owner::ourselves())
        } else {
            Ok(())
        };
        if let Err(failure) = kept {
            tracing::warn!(error = %chain(&failure), "cannot keep a received pack, or discard a refused repository");
        }
    }
}
