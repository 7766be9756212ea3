//! Gets the snapshot of a resolved revision from the store, or fetches it.

use super::Lease;
use super::LeaseError;
use super::Provenance;
use super::Snapshots;
use super::Wanted;
use super::advance;
use super::destination::Destination;
use super::destination::Place;
use super::proof::Proof;
use super::proof::Proven;
use super::proof::unless_full;
use super::receive::Received;
use super::receive::receive;
use crate::error::Kind;
use crate::error::chain;
use crate::gateway::Session;
use crate::gateway::Workspace;
use crate::progress::Step;
use crate::remote::FetchRequest;
use crate::remote::Resolved;
use crate::reserve::Reserve;
use crate::snapshot;
use crate::snapshot::Owner;
use crate::snapshot::TreeRequest;
use crate::spec::CommitId;
use crate::spec::Revision;
use crate::store::FetchTurn;
use crate::store::Moment;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::store::Staging;
use crate::store::StoreError;
use crate::watch::Watch;
use crate::worker::TREE;

/// A session that may fetch, with its staging directory and its destination. Fields drop in this order: the session
/// ends, then its staging directory is deleted, then another process may fetch.
pub(super) struct Fetching<'a> {
    watch: Watch,
    session: Session<'a>,
    staging: Staging,
    destination: Destination,
    turn: Option<FetchTurn>,
}

/// A snapshot in the store.
pub(super) enum Found {
    /// The wanted one.
    Wanted(SnapshotLease),
    /// The same tree with other owners.
    Viewable(SnapshotLease),
}

/// What a fetch into the store's repository builds on.
enum Base {
    /// What the repository has.
    Store,
    /// Nothing. What is fetched replaces the repository.
    Nothing,
}

/// A commit that was asked for by its id, before the remote has given it out.
fn unproven(commit: CommitId) -> Proven {
    Proven { resolved: Resolved::new(commit, None), proof: Proof::Commit, content: false }
}

impl Fetching<'_> {
    pub(super) fn resolve(&mut self, revision: &Revision) -> Result<Resolved, LeaseError> {
        Ok(self.session.resolve(revision)?)
    }
}

impl Snapshots {
    /// Gets the snapshot of a resolved revision. If the remote does not give out a directory alone, begins again with the
    /// whole commit: that has a turn of its own, for which the calls for other directories wait, too.
    pub(super) fn obtain(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Lease, LeaseError> {
        match self.resolve_and_fetch(wanted, watch) {
            Err(error) if error.is_not_narrow() && !wanted.is_whole => {
                self.resolve_and_fetch(Wanted { is_whole: true, ..wanted }, watch)
            }
            obtained => obtained,
        }
    }

    /// Resolves the revision and, if its snapshot is missing, fetches over the same connection. If another call is
    /// fetching from the repository, this one only resolves, then waits for that fetch, or for a while.
    fn resolve_and_fetch(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Lease, LeaseError> {
        if let Revision::Commit(commit) = *wanted.revision
            && self.known(wanted).is_none()
            && self.find(wanted, &Resolved::new(commit, None))?.is_none()
            // It would be fetched to be refused again. First the remote must say whether the credential may know.
            && self.check_refused(wanted, &Resolved::new(commit, None)).is_ok()
            && let Some(mut fetching) = self.try_fetching(wanted, watch)?
            && let repository = self.store.repository(&wanted.spec.repository)
            && let Some(turn) = repository.try_turn(watch.account(), &commit, wanted.narrow())?
        {
            fetching.turn = Some(turn);
            return self.fetch_proving(wanted, commit, fetching, watch);
        }
        loop {
            let (proven, fetching) = match self.ask(wanted, true, watch) {
                Err(error) if error.is_not_proven() => return self.prove_by_fetching(wanted, error, watch),
                asked => asked?,
            };
            if let Some(hit) = self.hit(wanted, &proven)? {
                return Ok(hit);
            }
            self.check_refused(wanted, &proven.resolved)?;
            if let Some(mut fetching) = fetching {
                let repository = self.store.repository(&wanted.spec.repository);
                fetching.turn = repository.try_turn(watch.account(), &proven.resolved.commit, wanted.narrow())?;
                // Otherwise another call of this tenant is fetching the same commit aside.
                if fetching.turn.is_some() {
                    return self.fetch_healing(wanted, proven, fetching, watch);
                }
            }
            watch.progress.report(&Step::Waiting);
            let commit = proven.resolved.commit;
            let is_done = || self.is_there(wanted, &proven.resolved);
            let place = self.place_to_fetch(wanted, commit, &is_done, watch)?;
            match place {
                // Another call may have fetched it just before this one got its place.
                Some(place) if is_done()?.is_none() => {
                    self.check_refused(wanted, &proven.resolved)?;
                    let fetching = self.start_fetching(wanted, place, Base::Store, watch)?;
                    return self.fetch_healing(wanted, proven, fetching, watch);
                }
                // The proof is from before the wait. If the remote has refused since, it is asked again.
                _ => {
                    let ttl = self.gateway.policy().config().cache.access_ttl;
                    if let Some(proven) = self.still_proven(wanted, proven.resolved, ttl)
                        && let Some(hit) = self.hit(wanted, &proven)?
                    {
                        return Ok(hit);
                    }
                }
            }
        }
    }

    /// Fetches a commit that the store does not have. If the remote gives it out, that proves access.
    fn fetch_proving(
        &self,
        wanted: Wanted<'_>,
        commit: CommitId,
        fetching: Fetching<'_>,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        match self.fetch_healing(wanted, unproven(commit), fetching, watch) {
            Err(error) if error.is_not_proven() => self.prove_by_fetching(wanted, error, watch),
            fetched => fetched,
        }
    }

    /// Fetches a commit from a server that gives out none by its id. With nothing of ours on offer, the fetch itself proves
    /// access. So a snapshot in the store saves nothing here, unless another call has proved the same meanwhile.
    fn prove_by_fetching(
        &self,
        wanted: Wanted<'_>,
        not_proven: LeaseError,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        let Revision::Commit(commit) = *wanted.revision else { return Err(not_proven) };
        self.check_whole_refused(wanted, &Resolved::new(commit, None))?;
        watch.progress.report(&Step::Waiting);
        let is_done = || match self.known(wanted) {
            Some(proven) if proven.content => self.is_there(wanted, &proven.resolved),
            _ => Ok(None),
        };
        loop {
            let place = self.place_to_fetch(wanted, commit, &is_done, watch)?;
            if let Some(proven) = self.known(wanted)
                && let Some(hit) = self.hit(wanted, &proven)?
            {
                return Ok(hit);
            }
            if let Some(place) = place {
                let fetching = self.start_fetching(wanted, place, Base::Nothing, watch)?;
                return self.fetch(wanted, unproven(commit), fetching);
            }
        }
    }

    /// Opens a session that may fetch, unless another call is fetching from the repository.
    pub(super) fn try_fetching(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Option<Fetching<'_>>, LeaseError> {
        match self.store.repository(&wanted.spec.repository).try_lock()? {
            Some(lock) => {
                let place = Place { turn: None, lock: Some(lock) };
                self.start_fetching(wanted, place, Base::Store, watch).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Leases the snapshot if the store has it, or can make it without a fetch, and the remote gave out its commit to this
    /// credential.
    pub(super) fn hit(&self, wanted: Wanted<'_>, proven: &Proven) -> Result<Option<Lease>, LeaseError> {
        let resolved = &proven.resolved;
        if !proven.content {
            return Ok(None);
        }
        let snapshot = match self.find(wanted, resolved)? {
            Some(Found::Wanted(snapshot)) => Some(snapshot),
            Some(Found::Viewable(fetched)) => self.view_unless_damaged(wanted, resolved, &fetched)?,
            None => None,
        };
        Ok(snapshot.map(|snapshot| wanted.lease(proven.clone(), snapshot, Provenance::Store)))
    }

    /// Finds the snapshot, or one of which it can be a view.
    pub(super) fn find(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<Option<Found>, StoreError> {
        if let Some(snapshot) = self.store.snapshot(&wanted.snapshot(resolved))? {
            return Ok(Some(Found::Wanted(snapshot)));
        }
        match wanted.form.ownership.is_root() {
            true => Ok(None),
            false => Ok(self.store.snapshot(&wanted.fetched(resolved))?.map(Found::Viewable)),
        }
    }

    /// `Some` if the store has the snapshot, or one of which it can be a view.
    fn is_there(&self, wanted: Wanted<'_>, resolved: &Resolved) -> Result<Option<()>, StoreError> {
        Ok(self.find(wanted, resolved)?.map(drop))
    }

    /// Fetches. If that fails and may be the fault of what the store has, fetches once more without it: git believes that
    /// it has the objects of a damaged pack, so a fetch that builds on it would never bring them. What the store has
    /// stays until the new content is verified. It stays for good if the failure may be that of the remote, or of a
    /// receiver that was taken over: then the second fetch goes aside.
    fn fetch_healing(
        &self,
        wanted: Wanted<'_>,
        proven: Proven,
        fetching: Fetching<'_>,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        let has_base = fetching.destination.base().is_some();
        match self.fetch(wanted, proven.clone(), fetching) {
            Err(error) if has_base && error.may_come_from_the_base() => {
                let url = &wanted.spec.repository;
                tracing::warn!(
                    %url, error = %chain(&error),
                    "a fetch failed that built on what the store has; fetching once more without it"
                );
                // Another call may mend the store while this one has no lock.
                let is_done = || match proven.content {
                    true => self.is_there(wanted, &proven.resolved),
                    false => Ok(None),
                };
                let place = self.place_to_fetch(wanted, proven.resolved.commit, &is_done, watch)?;
                if let Some(hit) = self.hit(wanted, &proven)? {
                    return Ok(hit);
                }
                // It was there a moment ago.
                let Some(mut place) = place else { return Err(error) };
                if !error.blames_the_base() {
                    place.lock = None;
                }
                let fetching = self.start_fetching(wanted, place, Base::Nothing, watch)?;
                self.fetch(wanted, proven, fetching)
            }
            result => result,
        }
    }

    /// Opens a session with a staging directory of its own, at the place that was found for it.
    fn start_fetching(
        &self,
        wanted: Wanted<'_>,
        Place { turn, lock }: Place,
        base: Base,
        watch: &Watch,
    ) -> Result<Fetching<'_>, LeaseError> {
        let lock = match lock {
            Some(lock) if matches!(base, Base::Store) && wanted.narrow().is_some() && lock.is_full_of_commits()? => {
                None
            }
            lock => lock,
        };
        let Some(lock) = lock else {
            let url = &wanted.spec.repository;
            tracing::info!(%url, "fetching aside: what the store has of the repository stays as it is");
            let fetching = self.open(wanted, Destination::Aside, self.store.staging()?, watch.clone())?;
            return Ok(Fetching { turn, ..fetching });
        };
        let watch = advance::told_by(watch, lock.repository().heartbeat());
        let (destination, staging) = match base {
            Base::Store => Destination::in_store(lock)?,
            Base::Nothing => Destination::anew(lock)?,
        };
        let fetching = self.open(wanted, destination, staging, watch)?;
        Ok(Fetching { turn, ..fetching })
    }

    fn open(
        &self,
        wanted: Wanted<'_>,
        destination: Destination,
        staging: Staging,
        watch: Watch,
    ) -> Result<Fetching<'_>, LeaseError> {
        // Whom the remote gave nothing yet has nothing to build on, and might read what others fetched.
        let shows_base = self.store.access().has_any_content(wanted.credential);
        let workspace = Workspace { staging: staging.path(), base: destination.base(), shows_base };
        let session = self.gateway.open(&wanted.spec.repository, wanted.credentials, Some(workspace), &watch)?;
        let session = session.making_room(self.room.clone());
        Ok(Fetching { watch, session, staging, destination, turn: None })
    }

    /// Fetches a tree, checks it, and installs it as a snapshot. If the store's repository has it, the remote only has to
    /// prove access, and nothing is fetched.
    fn fetch(&self, wanted: Wanted<'_>, proven: Proven, mut fetching: Fetching<'_>) -> Result<Lease, LeaseError> {
        let is_in_base = wanted.spec.depth == 1 && fetching.destination.has(&proven.resolved.commit);
        let proven = if is_in_base { self.prove_again(wanted, proven, &mut fetching)? } else { proven };
        let resolved = &proven.resolved;
        // The locks are dropped last.
        let Fetching { turn: _turn, destination, staging, mut session, watch } = fetching;
        let (watch, access, asked) = (&watch, self.store.access(), Moment::now()?);
        let request = FetchRequest {
            proves: !proven.content,
            offers: Some(access.commits(wanted.credential)),
            narrow: wanted.narrow().cloned(),
            refuses_whole: true,
            ..FetchRequest::new(resolved.clone(), wanted.spec.depth)
        };
        let (limits, has_base) = (self.gateway.policy().limits(), destination.base().is_some());
        let required = self.still_required(wanted, resolved, &mut session)?;
        let tree =
            TreeRequest::new(&wanted.spec.tree, resolved.commit, wanted.form.format, limits).labelled(wanted.label);
        let tree = tree.showing(wanted.repository(resolved));
        let received = receive(session, &request, is_in_base, required.as_ref(), tree, watch);
        let Received { tree, written, bytes, narrow } =
            received.map_err(|error| self.remembered(wanted, resolved, has_base, error.into()))?;
        let whole = (!narrow).then_some(&resolved.commit);
        // Before others of this credential find the snapshot.
        if !proven.content {
            let recorded = access.record_content(wanted.credential, &resolved.commit, proven.evidence(), &asked);
            unless_full(recorded)?;
        }
        let given_up = |source| LeaseError::Interrupted { source };
        let written = written
            .map_err(LeaseError::from)
            .and_then(|signer| watch.cancel.check().map(|()| signer).map_err(given_up));
        match written {
            Ok(signer) => {
                if let Some((signer, required)) = signer.zip(required) {
                    self.record_signer(wanted, &signer, &required)?;
                }
            }
            Err(error) => {
                self.keep_good_pack(&destination, &staging, whole, &error);
                return Err(self.remembered(wanted, resolved, has_base, error));
            }
        }

        let laid_out = staging.path().join(TREE);
        let listed = snapshot::adopt(&laid_out, &tree, Owner::ourselves())?;
        let repository = &destination.adopt(&staging, whole)?;
        let kept_free = self.gateway.policy().config().cache.reserve_bytes;
        let reserve = Reserve::new(staging.path().to_owned(), kept_free).making_room(self.room.clone());
        let made = wanted.form.format.complete(&listed, &laid_out, repository, &tree, reserve, watch);
        let fetched = made.map_err(LeaseError::from).and_then(|()| {
            watch.progress.report(&Step::Syncing);
            let meta = SnapshotMeta::new(&wanted.spec.repository, &tree, listed.summary).sealed_by(listed.digest());
            Ok(self.store.install_snapshot(&wanted.fetched(resolved), &staging, &laid_out, &meta)?)
        });
        let fetched = match fetched {
            // Nothing is left of what has no room.
            Err(error) if error.kind() == Kind::ResourceExhausted => {
                if let Some(lock) = destination.lock()
                    && let Err(failure) = self.store.drop_unused(lock)
                {
                    tracing::warn!(error = %chain(&failure), "cannot discard the repository of a tree that has no room");
                }
                return Err(error);
            }
            fetched => fetched?,
        };
        let snapshot = match wanted.form.ownership.is_root() {
            true => fetched,
            false => self.view(wanted, resolved, &fetched)?,
        };
        Ok(wanted.lease(proven, snapshot, Provenance::Remote { received_bytes: bytes }))
    }

    /// Has the remote give out a commit that need not be fetched, unless it once did.
    fn prove_again(
        &self,
        wanted: Wanted<'_>,
        proven: Proven,
        fetching: &mut Fetching<'_>,
    ) -> Result<Proven, LeaseError> {
        if proven.content {
            return Ok(proven);
        }
        let (commit, asked) = (proven.resolved.commit, Moment::now()?);
        fetching.resolve(&Revision::Commit(commit))?;
        unless_full(self.store.access().record_content(wanted.credential, &commit, proven.evidence(), &asked))?;
        Ok(Proven { content: true, ..proven })
    }

    /// After a fetch whose tree failed: keeps a good pack for the next attempt, and discards a refused repository. `whole`
    /// is the commit, unless the fetch was narrow.
    fn keep_good_pack(
        &self,
        destination: &Destination,
        staging: &Staging,
        whole: Option<&CommitId>,
        error: &LeaseError,
    ) {
        let Some(lock) = destination.lock() else { return };
        let kept = if error.is_refusal() {
            self.store.drop_unused(lock)
        } else if error.leaves_the_pack_good() {
            destination.adopt(staging, whole).map(drop)
        } else {
            Ok(())
        };
        if let Err(failure) = kept {
            tracing::warn!(error = %chain(&failure), "cannot keep a received pack, or discard a refused repository");
        }
    }
}
