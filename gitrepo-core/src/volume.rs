//! Publish, unpublish, list: the way of one volume, over the traits.
//!
//! The order of a publish is what makes a crash harmless: snapshot in the store (durable), record (durable), and the
//! mount as the last step. Unpublish goes the other way. Whatever moment a process dies at, the record says what to
//! finish or to undo, and both calls may be repeated by anyone.
//!
//! Locks are taken in this order: target, resolve, repository, snapshot lease, volume. None of them is held while waiting
//! for an earlier one, and a hit takes none that a fetch holds. The volume's is for its shared copy alone, and comes after
//! everything that may take as long as a remote pleases.

use std::collections::BTreeMap;
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

mod attach;
mod copies;
mod error;
mod find;
mod list;
mod obtain;
mod publish;
mod resolve;
mod room;
mod sweep;
mod unpublish;

pub use error::PublishError;
pub use error::UnpublishError;
pub use list::PublishedVolume;
pub use list::State;
pub use sweep::Abandoned;
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
    /// Nobody may write through the mount. When this is `false`, the target shows a plain copy: one of its own, or with
    /// [`Writable::Shared`] the one that all targets of `volume_id` on this node show.
    pub read_only: bool,
    /// The files of a writable volume belong to this group, which may write them, as the kubelet would have it for a pod's
    /// `fsGroup`. A read-only volume has none.
    pub group: Option<u32>,
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
}

impl VolumeRequest {
    /// Its target shows the copy that all targets of the volume show.
    fn is_shared(&self) -> bool {
        !self.read_only && self.spec.writable == Some(Writable::Shared)
    }

    /// Every option that selects what the target shows, and for whom it is to write: what a repeated publish compares.
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

/// What the record of a target must say so that a repeated publish is the same publish.
fn same_content(record: &Record, request: &VolumeRequest) -> bool {
    record.content == request.content() && record.read_only == request.read_only
}

/// Whether a record stands as this credential's own proof of access.
fn same_credential(record: &Record, credential: &CredentialId) -> bool {
    record.credential == *credential
}
