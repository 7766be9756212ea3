//! Leases on snapshots: the tree of a revision, on this node, for a credential that may read it.
//!
//! [`Snapshots::lease`] hides remotes, proofs of access, fetching and the store. The caller decides what happens to the
//! tree next, such as a mount.
//!
//! Locks are taken in this order: ask, resolve, repository or fetch, compose, snapshot. A hit never waits for a lock that a
//! fetch holds.

use std::sync::Arc;

use crate::credentials::Credentials;
use crate::gateway::Gateway;
use crate::remote::Resolved;
use crate::reserve::MakeRoom;
use crate::signature::Signer;
use crate::snapshot::Directory;
use crate::snapshot::Ownership;
use crate::snapshot::SnapshotFormat;
use crate::spec::CommitId;
use crate::spec::Label;
use crate::spec::RelativePath;
use crate::spec::Revision;
use crate::spec::Submodules;
use crate::spec::VolumeSpec;
use crate::spec::WorkingRepository;
use crate::store::CredentialId;
use crate::store::Record;
use crate::store::SnapshotId;
use crate::store::SnapshotKey;
use crate::store::SnapshotLease;
use crate::store::Store;
use crate::watch::Watch;

mod advance;
mod ask;
mod compact;
mod destination;
mod error;
mod fetch;
mod offline;
mod proof;
mod receive;
mod refused;
mod signature;
mod submodules;
mod view;

pub use error::LeaseError;
pub use proof::Proof;
pub(crate) use receive::receive;
pub(crate) use signature::Required;
pub(crate) use submodules::Gathering;
pub use submodules::SubmoduleError;
pub(crate) use submodules::for_wish;
pub(crate) use submodules::part_of;

use offline::Stale;
use offline::warn_of_stale;
use proof::Proven;

/// The snapshots of one store, and the gateway that fetches more.
pub struct Snapshots {
    store: Store,
    gateway: Gateway,
    room: Arc<dyn MakeRoom>,
}

/// A snapshot that stays in the store while this value lives.
#[derive(Debug)]
pub struct Lease {
    /// The requested revision.
    pub(crate) revision: Revision,
    pub(crate) resolved: Resolved,
    pub(crate) credential: CredentialId,
    /// Stands for the credentials of submodules, as in a [record](crate::store::Record::submodule_credentials).
    pub(crate) submodule_credentials: Option<String>,
    pub(crate) snapshot: SnapshotLease,
    pub(crate) provenance: Provenance,
    pub(crate) proof: Proof,
    signer: Option<Signer>,
    /// The expired proofs that were accepted for it.
    stale: Vec<Stale>,
}

/// Where a leased snapshot came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// It was in the store, or another call fetched it.
    Store,
    /// This call fetched it.
    Remote {
        /// Bytes of the pack received.
        received_bytes: u64,
    },
}

impl Lease {
    /// Returns the commit whose tree this is.
    pub fn commit(&self) -> CommitId {
        self.resolved.commit
    }

    /// Where the snapshot came from.
    pub fn provenance(&self) -> Provenance {
        self.provenance
    }

    /// Who signed the commit, or the tag that led to it; `None` if the configuration requires no signature.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// What proved that the credential may read the commit.
    pub fn proof(&self) -> Proof {
        self.proof
    }
}

/// How a tree is kept in a snapshot.
#[derive(Clone, Copy)]
pub struct Form {
    /// The format.
    pub format: &'static dyn SnapshotFormat,
    /// Whom the files belong to; [`Ownership::ROOT`] in a directory.
    pub ownership: Ownership,
}

impl Form {
    /// A directory of files that belong to root.
    pub const DIRECTORY: Self = Self { format: &Directory, ownership: Ownership::ROOT };
}

/// The commit that a call wants of a repository.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'a> {
    /// The revision to resolve.
    pub revision: &'a Revision,
    /// The full name of the ref that led to it earlier, if it is a commit that was resolved then. A `.git` shows it.
    pub reference: Option<&'a str>,
}

impl<'a> From<&'a Revision> for Selection<'a> {
    fn from(revision: &'a Revision) -> Self {
        Self { revision, reference: None }
    }
}

/// The tree that one call wants, and the credentials it uses.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    spec: &'a VolumeSpec,
    revision: &'a Revision,
    /// The ref that led to the commit earlier.
    reference: Option<&'a str>,
    credentials: &'a Credentials,
    credential: &'a CredentialId,
    form: Form,
    /// The SELinux label of plain files.
    label: Option<&'a Label>,
    /// Whether the whole commit is fetched, also for a directory of it.
    is_whole: bool,
}

impl Wanted<'_> {
    /// The directory of the commit that is fetched; `None` for all of it.
    fn narrow(&self) -> Option<&RelativePath> {
        self.spec.narrow().filter(|_| !self.is_whole)
    }

    /// The id of the wanted snapshot.
    fn snapshot(&self, resolved: &Resolved) -> SnapshotId {
        self.owned_by(resolved, self.form.ownership)
    }

    /// The id of the snapshot that is fetched: its files belong to root. Others are views of it.
    fn fetched(&self, resolved: &Resolved) -> SnapshotId {
        self.owned_by(resolved, Ownership::ROOT)
    }

    fn owned_by(&self, resolved: &Resolved, ownership: Ownership) -> SnapshotId {
        let VolumeSpec { repository: url, tree, .. } = self.spec;
        let (commit, format, repository) = (&resolved.commit, self.form.format.name(), self.repository(resolved));
        let label = self.label.filter(|_| format == Directory.name());
        SnapshotKey { url, commit, tree, format, ownership, repository: repository.as_ref(), label }.id()
    }

    /// The repository that the volume shows as `.git`, if any.
    fn repository(&self, resolved: &Resolved) -> Option<WorkingRepository> {
        self.spec.working_repository(self.reference.or(resolved.reference.as_deref()))
    }

    fn lease(&self, proven: Proven, snapshot: SnapshotLease, provenance: Provenance) -> Lease {
        let (revision, credential) = (self.revision.clone(), self.credential.clone());
        let Proven { resolved, proof, .. } = proven;
        let (submodule_credentials, signer, stale) = (None, None, Vec::new());
        Lease { revision, resolved, credential, submodule_credentials, snapshot, provenance, proof, signer, stale }
    }
}

impl Snapshots {
    /// Creates the snapshots of `store`, which fetch through `gateway`. When the disk is full, `room` frees space.
    pub(crate) fn new(store: Store, gateway: Gateway, room: Arc<dyn MakeRoom>) -> Self {
        Self { store, gateway, room }
    }

    /// Returns the gateway to remotes.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Leases the tree that `spec` selects from a revision, in this form. The remote or a fresh proof must show that the
    /// credential may read the commit. While the remote is away, an expired proof may do (`offline`).
    ///
    /// # Errors
    ///
    /// [`LeaseError::Spec`] before anything is asked. If the remote refuses the credential, all proofs of the credential
    /// become void. If it refuses one commit, the proof of that commit does.
    pub fn lease(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        spec.check()?;
        let lease = match spec.tree.submodules {
            Submodules::None => self.lease_one(spec, selection, form, credentials, watch)?,
            Submodules::Recursive => self.lease_composed(spec, selection, form, credentials, watch)?,
        };
        warn_of_stale(spec, selection, &lease);
        Ok(lease)
    }

    /// Leases the tree of one repository.
    fn lease_one(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Lease, LeaseError> {
        self.as_credential(spec, selection, form, credentials, |wanted| {
            let lease = self.obtain(wanted, watch).or_else(|failure| self.lease_offline(wanted, failure))?;
            let signer = self.signer(wanted, &lease.resolved, watch)?;
            Ok(Lease { signer, ..lease })
        })
    }

    /// Like [`Snapshots::lease`], but never asks the remote: returns `None` unless a fresh proof and the store suffice.
    pub(crate) fn lease_known(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
    ) -> Result<Option<Lease>, LeaseError> {
        if !spec.tree.submodules.is_none() {
            return self.lease_composed_known(spec, selection, form, credentials);
        }
        self.as_credential(spec, selection, form, credentials, |wanted| {
            let Some((proven, signer)) = self.known_signed(wanted)? else { return Ok(None) };
            Ok(self.hit(wanted, &proven)?.map(|lease| Lease { signer, ..lease }))
        })
    }

    /// Resolves the revision of `spec` without fetching. Reuses the remote's last answer to the same credential: under
    /// `Always` for one second, otherwise while the proof of access is fresh. A commit id stands for itself even if the
    /// remote does not tell without a fetch whether the credential may read it.
    ///
    /// # Errors
    ///
    /// The same as for [`Snapshots::lease`].
    pub fn resolve(&self, spec: &VolumeSpec, credentials: &Credentials, watch: &Watch) -> Result<Resolved, LeaseError> {
        // Nothing is fetched, in any form.
        self.as_credential(spec, Selection::from(&spec.revision), Form::DIRECTORY, credentials, |wanted| {
            match (self.ask(wanted, false, watch), &spec.revision) {
                (Err(error), Revision::Commit(commit)) if error.is_not_proven() => Ok(Resolved::new(*commit, None)),
                (asked, _) => Ok(asked?.0.resolved),
            }
        })
    }

    /// Leases a snapshot that a record with the same credential names. The record itself proves access, unless submodules
    /// have other credentials now; the remote may be asked for a signature.
    pub(crate) fn lease_recorded(
        &self,
        spec: &VolumeSpec,
        record: &Record,
        credentials: &Credentials,
        watch: &Watch,
    ) -> Result<Option<Lease>, LeaseError> {
        let resolved = Resolved::new(record.commit, record.reference.clone());
        let revision = Revision::Commit(resolved.commit);
        let selection = Selection { revision: &revision, reference: record.reference.as_deref() };
        let Some(snapshot) = self.store.snapshot(&record.snapshot)? else { return Ok(None) };
        let parts = &snapshot.meta().parts;
        self.check_parts_allowed(parts)?;
        let submodule_credentials = self.submodule_credentials(spec, credentials, parts)?;
        if submodule_credentials != record.submodule_credentials {
            return Ok(None);
        }
        self.check_parts_signed(spec, credentials, parts, watch)?;
        self.as_credential(spec, selection, Form::DIRECTORY, credentials, |wanted| {
            let signer = self.signer(wanted, &resolved, watch)?;
            let proven = Proven { resolved, proof: Proof::Record, content: true };
            let lease = wanted.lease(proven, snapshot, Provenance::Store);
            Ok(Some(Lease { signer, submodule_credentials, ..lease }))
        })
    }

    /// Returns the id of these credentials for the repository of `spec`.
    pub(crate) fn credential(&self, spec: &VolumeSpec, credentials: &Credentials) -> Result<CredentialId, LeaseError> {
        Ok(self.store.access().credential(&spec.repository, credentials)?)
    }

    /// Runs a call that may ask the remote. If the remote refuses, deletes the credential's proofs that are void.
    fn as_credential<T>(
        &self,
        spec: &VolumeSpec,
        selection: Selection<'_>,
        form: Form,
        credentials: &Credentials,
        call: impl FnOnce(Wanted<'_>) -> Result<T, LeaseError>,
    ) -> Result<T, LeaseError> {
        self.gateway.policy().check(&spec.repository)?;
        let credential = self.credential(spec, credentials)?;
        let Selection { revision, reference } = selection;
        let label = self.gateway.policy().label();
        let wanted =
            Wanted { spec, revision, reference, credentials, credential: &credential, form, label, is_whole: false };
        call(wanted).inspect_err(|refusal| self.void(wanted, refusal))
    }
}
