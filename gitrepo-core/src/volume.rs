//! Publish, unpublish, list: the way of one volume, over the traits.
//!
//! The order of a publish is what makes a crash harmless: snapshot in the store (durable), record (durable), and the
//! mount as the last step. Unpublish goes the other way. Whatever moment a process dies at, the record says what to
//! finish or to undo, and both calls may be repeated by anyone.
//!
//! Locks are taken in this order: target, resolve, repository, snapshot lease. None of them is held while waiting for an
//! earlier one, and a hit takes none that a fetch holds.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::access::CredentialId;
use crate::credentials::Credentials;
use crate::gateway::Gateway;
use crate::mount::Mounter;
use crate::snapshot::SnapshotFormat;
use crate::spec::CommitId;
use crate::spec::VolumeSpec;
use crate::spec::Writable;
use crate::store::Origin;
use crate::store::Record;
use crate::store::Store;
use crate::store::SweepReport;

mod attach;
mod error;
mod list;
mod obtain;
mod publish;
mod unpublish;

pub use error::PublishError;
pub use error::UnpublishError;
pub use list::PublishedVolume;
pub use list::State;
pub use unpublish::Unpublished;

/// How long an answer of the remote about a moving revision serves others who ask with the same credential: long enough
/// that a hundred pods started at once ask once, too short for anyone to notice.
const SHARED_ANSWER: Duration = Duration::from_secs(1);

/// The volumes of one node.
pub struct Volumes {
    store: Store,
    gateway: Gateway,
    format: Arc<dyn SnapshotFormat>,
    mounter: Arc<dyn Mounter>,
}

/// A volume to publish.
pub struct VolumeRequest {
    /// The volume's name, chosen by others; it is hashed before it names anything.
    pub volume_id: String,
    /// Where to mount it: absolute, without symlinks. Its last component is made when it is missing.
    pub target: PathBuf,
    /// Which frontend asks; only that one collects what its pods leave behind.
    pub origin: Origin,
    /// What is asked.
    pub spec: VolumeSpec,
    /// As whom.
    pub credentials: Credentials,
    /// Nobody may write through the mount.
    pub read_only: bool,
}

/// A published volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// What the target shows.
    pub commit: CommitId,
    /// The ref that led to it, if one did.
    pub reference: Option<String>,
    /// How it came about.
    pub outcome: Outcome,
}

/// How a volume came to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The snapshot was fetched and written by this call.
    Fetched {
        /// Bytes of the pack received.
        received_bytes: u64,
    },
    /// The snapshot was in the store, or another call brought it.
    Hit,
    /// The target served this already.
    AlreadyPublished,
}

impl Volumes {
    /// Volumes over these parts. Nothing is touched yet.
    pub fn new(store: Store, gateway: Gateway, format: Arc<dyn SnapshotFormat>, mounter: Arc<dyn Mounter>) -> Self {
        Self { store, gateway, format, mounter }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The door to remotes.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Removes leftovers of dead processes for at most `budget`, and forgets the volumes of `origin` that an earlier
    /// boot, or this mount namespace, has lost.
    pub fn sweep(&self, origin: Origin, budget: Duration) -> Result<SweepReport, UnpublishError> {
        self.mounter.sweep()?;
        self.collect(origin)?;
        let mounts = self.mounter.list()?;
        let shown: Vec<_> = mounts.iter().filter_map(|mount| self.store.find_by_tail(&mount.root)).collect();
        Ok(self.store.sweep(budget, &shown))
    }
}

/// What the record of a target must say so that a repeated publish is the same publish.
fn same_content(record: &Record, request: &VolumeRequest) -> bool {
    record.content == request.spec.content() && record.read_only == request.read_only
}

/// Whether a record stands as this credential's own proof of access.
fn same_credential(record: &Record, credential: &CredentialId) -> bool {
    record.credential == *credential
}

/// The mount flavour that a request asks for, or why it cannot be had yet.
fn check_writable(spec: &VolumeSpec, read_only: bool, target: &Path) -> Result<(), PublishError> {
    match (read_only, spec.writable) {
        (true, _) | (false, Some(Writable::Copy)) => Ok(()),
        (false, _) => Err(PublishError::WritableNotYet { target: target.to_owned() }),
    }
}
