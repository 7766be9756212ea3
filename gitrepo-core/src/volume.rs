//! Volumes: publishes trees on targets, unpublishes them, lists and sweeps.
//!
//! A publish leases a tree, then shows it. The order makes a crash harmless: first the snapshot (durable), then the
//! record (durable), then the mount. An unpublish goes the other way. Whenever a process dies, the record says what to
//! finish or to undo, and any process may repeat both calls.
//!
//! A lease may take minutes, so this module holds no lock meanwhile. A show checks under the lock whether the lease is
//! still what the target needs. If not, it fails with [`PublishError::Outdated`], and the publish starts over. Locks
//! are taken in this order: those of [`lease`](crate::lease), target, volume, lower. The volume's lock protects its
//! shared copy or layer alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::gateway::Gateway;
use crate::lease::Proof;
use crate::lease::Provenance;
use crate::lease::Snapshots;
use crate::mount::Mounter;
use crate::mount::linux::LinuxMounter;
use crate::policy::Config;
use crate::policy::ProjectIds;
use crate::quota::KernelQuota;
use crate::quota::ProjectQuota;
use crate::quota::Projects;
use crate::signature::Signer;
use crate::snapshot::Ownership;
use crate::spec::CommitId;
use crate::spec::VolumeSpec;
use crate::spec::Writable;
use crate::store::CredentialId;
use crate::store::Origin;
use crate::store::Record;
use crate::store::Store;
use crate::store::StoreError;

mod attach;
mod copies;
mod damaged;
mod error;
mod find;
mod format;
mod layers;
mod list;
mod plan;
mod prefetch;
mod publish;
mod quota;
mod replace;
mod room;
mod show;
mod sweep;
mod unpublish;
mod written;

use format::Trial;
use room::Evictor;
use written::Written;

pub use error::PublishError;
pub use error::UnpublishError;
pub use format::Format;
pub use format::Serving;
pub use list::PublishedVolume;
pub use list::State;
pub use publish::VolumeLease;
pub use sweep::Abandoned;
pub use unpublish::Unpublished;
pub use written::LayerUsage;
pub use written::Overgrown;

/// The volumes of one node.
pub struct Volumes {
    store: Store,
    snapshots: Snapshots,
    mounter: Arc<dyn Mounter>,
    images: Trial,
    overlays: Trial,
    written: Written,
    projects: Projects,
}

/// A volume to publish. [`VolumeRequest::new`] makes one; its fields may be changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VolumeRequest {
    /// The volume's name, chosen by the caller. It is hashed before it becomes part of a path.
    pub volume_id: String,
    /// Where to mount it: absolute, without symlinks. The last component is created if it is missing.
    pub target: PathBuf,
    /// The program that publishes. Only this program collects the volumes that its users abandon.
    pub origin: Origin,
    /// The repository, the revision and the options.
    pub spec: VolumeSpec,
    /// Whether the mount is read-only. If not, the target shows a layer of its own over the tree, or with
    /// [`Writable::Shared`] the one that all targets of `volume_id` on this node show; with [`Writable::Copy`], and where
    /// overlays are impossible, a plain copy.
    pub read_only: bool,
    /// Whether a read-only volume must be an image: somebody mounts the target further and does not keep the mount's
    /// flag, but cannot make an image writable.
    pub only_image: bool,
    /// Whether whoever mounts the target further maps its ids, as for a pod with a user namespace of its own. The kernel
    /// cannot do that with overlays, so a writable volume is a copy.
    pub id_mapped: bool,
    /// The group that owns the files, as for a pod's `fsGroup`: it may write those of a writable volume. The files of a
    /// read-only volume belong to it, and to the user [`VolumeSpec::uid`], only if the volume is an image.
    pub group: Option<u32>,
    /// On whose account the volume is published, as in [`Watch::tenant`](crate::watch::Watch::tenant).
    pub tenant: Option<String>,
}

/// A published volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The commit that the target shows.
    pub commit: CommitId,
    /// The ref that led to the commit; `None` if the commit was requested by its id.
    pub reference: Option<String>,
    /// How the volume came to be published.
    pub outcome: Outcome,
    /// How the target shows it.
    pub format: Format,
    /// What proved that the credential may read the commit.
    pub proof: Proof,
    /// Who signed the commit or its tag, if the configuration requires that. `None` for a target that already showed the
    /// volume.
    pub signer: Option<Signer>,
    /// The credential. For a target that already showed the volume, the one that it was published with.
    pub credential: CredentialId,
}

/// How a volume came to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The snapshot was fetched and written by this call.
    Fetched {
        /// Bytes of the pack received.
        received_bytes: u64,
    },
    /// The snapshot was in the store, or another call fetched it.
    Hit,
    /// The target already showed this.
    AlreadyPublished,
}

impl Volumes {
    /// Opens the volumes of the configured store, and creates the store if it does not exist. Uses
    /// [`Gateway::confined`] for remotes, and mounts in the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Those of [`Store::open`].
    pub fn open(config: Config) -> Result<Self, StoreError> {
        let store = Store::open(&config.store)?;
        Ok(Self::of(store, Gateway::confined(config)))
    }

    /// Creates the volumes of an open store, mounted in the namespace of the calling thread.
    pub fn of(store: Store, gateway: Gateway) -> Self {
        let mounter = LinuxMounter::new(store.mounting());
        Self::new(store, gateway, Arc::new(mounter))
    }

    /// Creates volumes from these parts. Touches nothing yet.
    pub fn new(store: Store, gateway: Gateway, mounter: Arc<dyn Mounter>) -> Self {
        let config = gateway.policy().config();
        let ids = config.project_ids.map(ProjectIds::ids);
        let projects = Projects::new(Arc::new(KernelQuota), ids, config.limits.writable_bytes);
        let room = Arc::new(Evictor::new(store.clone(), Arc::clone(&mounter)));
        let snapshots = Snapshots::new(store.clone(), gateway, room);
        Self {
            store,
            snapshots,
            mounter,
            images: Trial::default(),
            overlays: Trial::default(),
            written: Written::default(),
            projects,
        }
    }

    /// The same with these project quotas instead of the kernel's.
    #[must_use]
    pub fn with_quota(self, quota: Arc<dyn ProjectQuota>) -> Self {
        Self { projects: self.projects.with(quota), ..self }
    }

    /// Returns the store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the snapshots that the volumes show.
    pub fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }
}

impl From<Provenance> for Outcome {
    fn from(provenance: Provenance) -> Self {
        match provenance {
            Provenance::Store => Self::Hit,
            Provenance::Remote { received_bytes } => Self::Fetched { received_bytes },
        }
    }
}

impl VolumeRequest {
    /// Creates a request for a read-only volume of a program that embeds this library.
    pub fn new(volume_id: impl Into<String>, target: impl Into<PathBuf>, spec: VolumeSpec) -> Self {
        Self {
            volume_id: volume_id.into(),
            target: target.into(),
            origin: Origin::program("embedded"),
            spec,
            read_only: true,
            only_image: false,
            id_mapped: false,
            group: None,
            tenant: None,
        }
    }

    /// Whether all targets of the volume share what they write.
    fn is_shared(&self) -> bool {
        !self.read_only && self.spec.writable == Some(Writable::Shared)
    }

    /// Returns whom the files belong to, if the target shows an image, alone or under a layer. A copy gets its owners from
    /// the options.
    fn ownership(&self) -> Ownership {
        let of = if self.read_only { Ownership::of_readers } else { Ownership::of_writers };
        of(self.spec.uid, self.group)
    }

    /// Returns every option that decides what the target shows and who may write it. A repeated publish compares these.
    fn content(&self) -> BTreeMap<String, String> {
        let mut content = self.spec.content();
        if !self.read_only {
            let writable = if self.is_shared() { Writable::Shared } else { Writable::Copy };
            content.insert("writable".to_owned(), writable.to_string());
            content.extend(self.group.map(|group| ("group".to_owned(), group.to_string())));
        }
        content
    }
}

/// Whether the record and the request have the same content. A volume whose record names no owners takes none. What is
/// writable stays a copy or a layer, as it is.
fn same_content(record: &Record, request: &VolumeRequest) -> bool {
    let same_owners = record.ownership.is_none_or(|ownership| ownership == request.ownership());
    let same_kind = record.shows.is_read_only() == request.read_only && record.shows.is_shared() == request.is_shared();
    record.content == request.content() && same_kind && same_owners
}

/// Whether the record proves access for this credential.
fn same_credential(record: &Record, credential: &CredentialId) -> bool {
    record.credential == *credential
}
