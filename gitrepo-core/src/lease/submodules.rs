//! Leases of trees with submodules: each repository's tree is leased as a part, through the same door as any other, with
//! its own proof of access. Then the parts are composed.
//!
//! What was composed once is served to whoever has proven access to every part of it: its metadata names them.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use super::Form;
use super::Lease;
use super::LeaseError;
use super::Provenance;
use super::Selection;
use super::Snapshots;
use super::Wanted;
use super::fetch::Found;
use super::offline::Stale;
use super::proof::Proven;
use crate::credentials::Credentials;
use crate::digest;
use crate::error::chain;
use crate::progress::Step;
use crate::remote::Resolved;
use crate::reserve::Reserve;
use crate::signature::Signer;
use crate::snapshot;
use crate::snapshot::OpenPart;
use crate::snapshot::Ownership;
use crate::snapshot::Part;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::RelativePath;
use crate::spec::Revision;
use crate::spec::Symlinks;
use crate::spec::TreeOptions;
use crate::spec::VolumeSpec;
use crate::store::CredentialId;
use crate::store::META_LIMIT;
use crate::store::SnapshotLease;
use crate::store::SnapshotMeta;
use crate::store::SnapshotPart;
use crate::store::StoreError;
use crate::store::Turn;
use crate::watch::Watch;
use crate::worker::TREE;

mod error;
mod gather;

pub use error::SubmoduleError;
pub(crate) use gather::Gathering;
use gather::Wish;

/// The form of every part.
const PART: Form = Form { format: &Part, ownership: Ownership::ROOT };

/// How many submodules are asked for at once. Each call has its own place at the gateway, and holds none while it waits.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Returns the part of a volume that its own repository has. Where the tree appears, and whether links leave it, is known
/// only of the whole.
pub(crate) fn part_of(spec: &VolumeSpec) -> VolumeSpec {
    let tree = TreeOptions { directory: RelativePath::root(), symlinks: Symlinks::Keep, ..spec.tree.clone() };
    VolumeSpec { tree, ..spec.clone() }
}

/// Returns the part that a submodule has: all of its tree, at this commit.
fn part_at(spec: &VolumeSpec, part: &SnapshotPart) -> VolumeSpec {
    let TreeOptions { submodules, checkout, lfs, .. } = spec.tree;
    let tree = TreeOptions { submodules, checkout, lfs, ..TreeOptions::default() };
    let revision = Revision::Commit(part.commit);
    VolumeSpec { revision, tree, pull_policy: spec.pull_policy, ..VolumeSpec::new(part.repository.clone()) }
}

/// What is known of a part.
struct Known {
    proven: Proven,
    credential: CredentialId,
    signer: Option<Signer>,
}

/// A part that was leased.
struct Leased {
    part: OpenPart,
    lease: Lease,
}

/// A volume with submodules, and the credentials that it brings.
#[derive(Clone, Copy)]
struct Whole<'a> {
    spec: &'a VolumeSpec,
    credentials: &'a Credentials,
    form: Form,
    watch: &'a Watch,
}

impl Whole<'_> {
    /// Returns the credentials for a submodule.
    fn credentials(&self, part: &SnapshotPart) -> Result<Credentials, LeaseError> {
        let found = self.credentials.for_submodule(&self.spec.repository, &part.repository);
        let (path, url) = (part.path.clone(), part.repository.to_string());
        Ok(found.map_err(|source| SubmoduleError::Credentials { path, url, source })?)
    }

    /// Runs a call for a submodule with its own credentials. A failure names the submodule.
    fn for_submodule<T>(
        &self,
        part: &SnapshotPart,
        call: impl FnOnce(&VolumeSpec, &Credentials) -> Result<T, LeaseError>,
    ) -> Result<T, LeaseError> {
        let credentials = self.credentials(part)?;
        call(&part_at(self.spec, part), &credentials).map_err(|source| {
            SubmoduleError::fetch(part.path.clone(), &part.repository, part.commit, &credentials, source).into()
        })
    }
}

impl Snapshots {
    /// Leases a tree with its submodules.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshots::lease`] for the volume's repository. [`LeaseError::Submodule`] for any other.
    pub(super) fn lease_composed(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        let whole = Whole { spec, credentials, form, watch };
        if let Some(before) = self.lease_composed_before(whole, selection)? {
            return self.with_proven_parts(whole, before);
        }
        let root = self.lease_one(&part_of(spec), selection, PART, credentials, watch)?;
        let Selection { revision, reference } = selection;
        let label = self.gateway.policy().label();
        let credential = &root.credential.clone();
        let wanted = Wanted { spec, revision, reference, credentials, credential, form, label, is_whole: false };
        if let Some(snapshot) = self.composed(wanted, &root)? {
            return self.with_proven_parts(whole, Lease { snapshot, ..root });
        }
        self.check_whole_refused(wanted, &root.resolved)?;
        let (root, snapshot) = self.compose_healing(whole, wanted, root)?;
        self.with_submodule_credentials(whole, Lease { snapshot, ..root })
    }

    /// Like [`Snapshots::lease_composed`], but never asks a remote.
    pub(super) fn lease_composed_known(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
    ) -> Result<Option<Lease>, LeaseError> {
        let whole = Whole { spec, credentials, form, watch: &Watch::default() };
        let Some(known) = self.known_part(&part_of(spec), selection, credentials)? else { return Ok(None) };
        let Selection { revision, reference } = selection;
        let label = self.gateway.policy().label();
        let credential = &known.credential;
        let wanted = Wanted { spec, revision, reference, credentials, credential, form, label, is_whole: false };
        let Some(lease) = self.hit(wanted, &known.proven)? else { return Ok(None) };
        for part in &lease.snapshot.meta().parts {
            let of_part = whole.for_submodule(part, |spec, credentials| {
                self.known_part(spec, Selection::from(&spec.revision), credentials)
            });
            if of_part?.is_none() {
                return Ok(None);
            }
        }
        self.with_submodule_credentials(whole, Lease { signer: known.signer, ..lease }).map(Some)
    }

    fn with_submodule_credentials(&self, whole: Whole<'_>, lease: Lease) -> Result<Lease, LeaseError> {
        let Whole { spec, credentials, .. } = whole;
        let submodule_credentials = self.submodule_credentials(spec, credentials, &lease.snapshot.meta().parts)?;
        Ok(Lease { submodule_credentials, ..lease })
    }

    /// Stands for the credentials of submodules in a record. `None` if the volume's own decide them: then its credential
    /// stands for all.
    pub(super) fn submodule_credentials(
        &self,
        spec: &VolumeSpec,
        credentials: &Credentials,
        parts: &[SnapshotPart],
    ) -> Result<Option<String>, LeaseError> {
        if parts.is_empty() || !credentials.has_source() {
            return Ok(None);
        }
        let whole = Whole { spec, credentials, form: PART, watch: &Watch::default() };
        let id = |part| whole.for_submodule(part, |spec, credentials| self.credential(spec, credentials));
        let ids: Vec<_> = parts.iter().map(id).collect::<Result<_, _>>()?;
        Ok(Some(digest::of_fields(ids.iter().map(|id| id.as_str().as_bytes()))))
    }

    /// Checks that the policy allows the repository of each submodule of a volume that was published before. That needs no
    /// credential.
    pub(super) fn check_parts_allowed(&self, parts: &[SnapshotPart]) -> Result<(), LeaseError> {
        let check = |SnapshotPart { path, repository, commit }: &SnapshotPart| {
            let allowed = self.gateway.policy().check(repository);
            allowed.map_err(|refusal| {
                SubmoduleError::fetch(path.clone(), repository, *commit, &Credentials::none(), refusal.into()).into()
            })
        };
        parts.iter().try_for_each(check)
    }

    /// Returns what is known of a part without asking a remote; `None` if a proof or a signature is missing.
    fn known_part(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        credentials: &Credentials,
    ) -> Result<Option<Known>, LeaseError> {
        self.as_credential(spec, selection, PART, credentials, |wanted| {
            let Some((proven, signer)) = self.known_signed(wanted)? else { return Ok(None) };
            let credential = wanted.credential.clone();
            Ok(proven.content.then_some(Known { proven, credential, signer }))
        })
    }

    /// Checks that each submodule of a volume that was published before has the signature that its repository needs now.
    pub(super) fn check_parts_signed(
        &self,
        spec: &VolumeSpec,
        credentials: &Credentials,
        parts: &[SnapshotPart],
        watch: &Watch,
    ) -> Result<(), LeaseError> {
        let whole = Whole { spec, credentials, form: PART, watch };
        // Where no rule applies, a published volume needs no credential.
        let ruled = |part: &&SnapshotPart| self.gateway.policy().signature_rule(&part.repository).is_some();
        for part in parts.iter().filter(ruled) {
            whole.for_submodule(part, |spec, credentials| {
                let (selection, resolved) = (Selection::from(&spec.revision), Resolved::new(part.commit, None));
                self.as_credential(spec, selection, PART, credentials, |wanted| self.signer(wanted, &resolved, watch))
            })?;
        }
        Ok(())
    }

    /// Leases what was composed for the commit of the remote's last answer, if that is still the wanted one: no part is
    /// needed, which may have been evicted. The caller has yet to prove access to those of submodules.
    fn lease_composed_before(&self, whole: Whole<'_>, selection: Selection<'_>) -> Result<Option<Lease>, LeaseError> {
        let Whole { spec, credentials, form, watch } = whole;
        let revision = selection.revision;
        self.as_credential(spec, selection, form, credentials, |wanted| {
            let last = match revision {
                Revision::Commit(commit) => Some(Resolved::new(*commit, None)),
                _ => self.store.access().resolution(wanted.credential, revision).map(|answer| answer.resolved),
            };
            let is_there = last.map(|last| self.find(wanted, &last)).transpose()?.flatten().is_some();
            if !is_there {
                return Ok(None);
            }
            let lease = match self.ask(wanted, true, watch) {
                Ok((proven, _)) => self.hit(wanted, &proven)?,
                // The fetch of a part proves access.
                Err(error) if error.is_not_proven() => None,
                Err(failure) => {
                    let Some(proven) = self.proven_offline(wanted, &failure) else { return Err(failure) };
                    self.hit(wanted, &proven)?.map(|lease| lease.accepting([Stale::new(wanted, &failure)]))
                }
            };
            let Some(lease) = lease else { return Ok(None) };
            let signer = self.signer(wanted, &lease.resolved, watch)?;
            Ok(Some(Lease { signer, ..lease }))
        })
    }

    /// Finds what was composed before. The caller has yet to prove access to its parts.
    fn composed(&self, wanted: Wanted<'_>, root: &Lease) -> Result<Option<SnapshotLease>, LeaseError> {
        match self.find(wanted, &root.resolved)? {
            Some(Found::Wanted(snapshot)) => Ok(Some(snapshot)),
            Some(Found::Viewable(made)) => self.view_unless_damaged(wanted, &root.resolved, &made),
            None => Ok(None),
        }
    }

    /// Proves access to each part of a lease.
    fn with_proven_parts(&self, whole: Whole<'_>, lease: Lease) -> Result<Lease, LeaseError> {
        let stale = in_parallel(&lease.snapshot.meta().parts, |part| {
            whole.for_submodule(part, |spec, credentials| {
                let (selection, resolved) = (Selection::from(&spec.revision), Resolved::new(part.commit, None));
                self.as_credential(spec, selection, PART, credentials, |wanted| {
                    let stale = self.prove_part(wanted, whole.watch)?;
                    self.signer(wanted, &resolved, whole.watch)?;
                    Ok(stale)
                })
            })
        });
        let stale: Vec<_> = stale.into_iter().collect::<Result<_, _>>()?;
        self.with_submodule_credentials(whole, lease.accepting(stale.into_iter().flatten()))
    }

    /// Has the remote give out the commit of a part, unless it did so lately. Nothing is fetched, unless the remote proves
    /// access in no other way. Returns the expired proof that was accepted instead, if any.
    fn prove_part(&self, wanted: Wanted<'_>, watch: &Watch) -> Result<Option<Stale>, LeaseError> {
        match self.ask(wanted, true, watch) {
            Ok((Proven { content: true, .. }, _)) => return Ok(None),
            Ok(_) => {}
            Err(error) if error.is_not_proven() => {}
            Err(failure) => {
                let is_stale = self.proven_offline(wanted, &failure).is_some_and(|proven| proven.content);
                return if is_stale { Ok(Some(Stale::new(wanted, &failure))) } else { Err(failure) };
            }
        }
        self.obtain(wanted, watch).map(|_| None)
    }

    /// Leases the parts of all submodules. Returns them with the one of the volume's repository.
    fn gather(&self, whole: Whole<'_>, wanted: Wanted<'_>, root: Lease) -> Result<Gathered<'_>, LeaseError> {
        let resolved = root.resolved.clone();
        self.gather_all(whole, root).map_err(|error| self.remembered_whole(wanted, &resolved, error))
    }

    fn gather_all(&self, whole: Whole<'_>, root: Lease) -> Result<Gathered<'_>, LeaseError> {
        let credentials = whole.credentials;
        let spec = VolumeSpec { revision: root.revision.clone(), ..part_of(whole.spec) };
        let Leased { part, lease: mut root } = self.open_part(&spec, credentials, root, whole.watch)?;
        let limits = self.gateway.policy().limits();
        let mut gathering = Gathering::new(part, root.commit(), limits)?;
        let mut leases = Vec::new();
        loop {
            let wishes = gathering.wishes(AT_ONCE);
            if wishes.is_empty() {
                break;
            }
            let leased = in_parallel(&wishes, |wish| self.lease_part(whole, &wish.to_part()));
            let mut parts = Vec::new();
            for (wish, leased) in wishes.into_iter().zip(leased) {
                let Leased { part, lease } = leased?;
                root = root.accepting(lease.stale);
                root.provenance = sum(root.provenance, lease.provenance);
                leases.push(lease.snapshot);
                parts.push((wish, part));
            }
            gathering.grant(parts)?;
        }
        Ok(Gathered { root, gathering, _leases: leases })
    }

    fn lease_part(&self, whole: Whole<'_>, part: &SnapshotPart) -> Result<Leased, LeaseError> {
        whole.for_submodule(part, |spec, credentials| {
            let lease = self.lease_one(spec, Selection::from(&spec.revision), PART, credentials, whole.watch)?;
            self.open_part(spec, credentials, lease, whole.watch)
        })
    }

    /// Opens a leased part. A damaged one is marked, and leased once more: that brings another one.
    fn open_part(
        &self,
        spec: &VolumeSpec,
        credentials: &Credentials,
        lease: Lease,
        watch: &Watch,
    ) -> Result<Leased, LeaseError> {
        let open = |lease: &Lease| {
            let meta = lease.snapshot.meta();
            let request = TreeRequest::new(&spec.tree, meta.commit, PART.format, self.gateway.policy().limits());
            let (path, sealed) = (lease.snapshot.path(), meta.manifest.as_deref());
            OpenPart::of_snapshot(spec.repository.clone(), path, &request, sealed)
        };
        match open(&lease) {
            Ok(part) => Ok(Leased { part, lease }),
            Err(SnapshotError::Untrusted { path, reason }) => {
                self.store.mark_damaged(&lease.snapshot, &format!("{path}: {reason}"))?;
                let revision = Revision::Commit(lease.commit());
                let again = self.lease_one(spec, Selection::from(&revision), PART, credentials, watch)?;
                let part = open(&again)?;
                // Which revision was wanted does not change.
                let lease = Lease { snapshot: again.snapshot, ..lease }.accepting(again.stale);
                Ok(Leased { part, lease })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gathers the parts and composes them. If content of theirs turns out to be damaged, all of their repositories are
    /// read, and what is damaged is fetched anew.
    fn compose_healing(
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

/// The parts of a volume, and the lease of the one of its own repository.
struct Gathered<'a> {
    root: Lease,
    gathering: Gathering<'a>,
    /// Keep the parts until they are composed.
    _leases: Vec<SnapshotLease>,
}

fn sum(one: Provenance, other: Provenance) -> Provenance {
    match (one, other) {
        (Provenance::Remote { received_bytes: one }, Provenance::Remote { received_bytes: other }) => {
            Provenance::Remote { received_bytes: one.saturating_add(other) }
        }
        (Provenance::Store, other) => other,
        (one, Provenance::Store) => one,
    }
}

/// Runs a call for each item, a few at once. Returns the results in the order of the items.
fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    call: impl Fn(&I) -> Result<T, LeaseError> + Sync,
) -> Vec<Result<T, LeaseError>> {
    let threads = AT_ONCE.get().min(items.len());
    if threads < 2 {
        return items.iter().map(call).collect();
    }
    let next = Mutex::new(0..items.len());
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let lock = |range: &Mutex<std::ops::Range<usize>>| range.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(at) = lock(&next) {
            let result = call(&items[at]);
            let is_failure = result.is_err();
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
            if is_failure {
                // Those that are not begun yet would be of no use.
                next.lock().unwrap_or_else(PoisonError::into_inner).start = items.len();
            }
        }
    };
    thread::scope(|scope| {
        // If a thread cannot be started, the others do its work.
        for _ in 1..threads {
            drop(thread::Builder::new().name("submodules".to_owned()).spawn_scoped(scope, work));
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Brings a part for a caller without a store, with the submodule's own credentials. A failure names the submodule.
pub(crate) fn for_wish<T>(
    spec: &VolumeSpec,
    credentials: &Credentials,
    wish: &Wish,
    bring: impl FnOnce(&VolumeSpec, &Credentials) -> Result<T, LeaseError>,
) -> Result<T, LeaseError> {
    Whole { spec, credentials, form: PART, watch: &Watch::default() }.for_submodule(&wish.to_part(), bring)
}
