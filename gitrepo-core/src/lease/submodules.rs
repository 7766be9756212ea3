//! Leases of trees with submodules: each repository's tree is leased as a part, through the same door as any other, with
//! its own proof of access. Then the parts are composed.
//!
//! What was composed once is served to whoever has proven access to every part of it: its metadata names them.

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
use crate::remote::Resolved;
use crate::signature::Signer;
use crate::snapshot::OpenPart;
use crate::snapshot::Ownership;
use crate::snapshot::Part;
use crate::snapshot::SnapshotError;
use crate::snapshot::TreeRequest;
use crate::spec::RelativePath;
use crate::spec::Revision;
use crate::spec::Symlinks;
use crate::spec::TreeOptions;
use crate::spec::VolumeSpec;
use crate::store::CredentialId;
use crate::store::SnapshotLease;
use crate::store::SnapshotPart;
use crate::watch::Watch;

mod compose;
mod error;
mod gather;
mod parallel;

pub use error::SubmoduleError;
pub(crate) use gather::Gathering;
use gather::Wish;
use parallel::AT_ONCE;
use parallel::in_parallel;

/// The form of every part.
const PART: Form = Form { format: &Part, ownership: Ownership::ROOT };

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

/// Brings a part for a caller without a store, with the submodule's own credentials. A failure names the submodule.
pub(crate) fn for_wish<T>(
    spec: &VolumeSpec,
    credentials: &Credentials,
    wish: &Wish,
    bring: impl FnOnce(&VolumeSpec, &Credentials) -> Result<T, LeaseError>,
) -> Result<T, LeaseError> {
    Whole { spec, credentials, form: PART, watch: &Watch::default() }.for_submodule(&wish.to_part(), bring)
}
