//! Failures of publish and unpublish.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Kind;
use crate::lease::LeaseError;
use crate::mount::MountError;
use crate::snapshot::CopyError;
use crate::spec::CommitId;
use crate::store::StoreError;

/// A failure to publish. Unless it is [`PublishError::NotUndone`], everything done for the target has been undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The target is relative, contains `..`, or is not UTF-8.
    #[error("the target {target:?} is not an absolute path in UTF-8 without `..`")]
    Target {
        /// The path as given.
        target: PathBuf,
    },
    /// The target contains the store, or lies inside it.
    #[error("the target {} and the store {} overlap; choose one outside the other", target.display(), store.display())]
    TargetOverlapsStore {
        /// The path as given.
        target: PathBuf,
        /// The store's root.
        store: PathBuf,
    },
    /// The target directory cannot be created or used.
    #[error("cannot use {} as a target", target.display())]
    TargetDirectory {
        /// The target.
        target: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// Another volume is published on the target, or this one with other content.
    #[error(
        "{} already shows {published}; unmount or unpublish it before publishing something else there",
        target.display()
    )]
    TargetTaken {
        /// The target.
        target: PathBuf,
        /// What it shows.
        published: String,
    },
    /// Something that is not ours is mounted on the target.
    #[error("{} is a mount point of something else ({filesystem}, {root})", target.display())]
    TargetMounted {
        /// The target.
        target: PathBuf,
        /// The filesystem's type.
        filesystem: String,
        /// The mounted path inside the filesystem, or the mounted image.
        root: String,
    },
    /// Other targets of the volume on this node share a copy or layer with other options.
    #[error(
        "the targets of the volume {volume_id:?} on this node share what they write, with {differences}; ask for the same, or \
         unpublish all of them first"
    )]
    SharedOtherwise {
        /// The volume.
        volume_id: String,
        /// The options of the copy or layer, and those of the request.
        differences: String,
    },
    /// After the tree was leased, the target or its volume got another commit.
    #[error("the commit for {} has changed meanwhile; try again", target.display())]
    Outdated {
        /// The target.
        target: PathBuf,
    },
    /// The target was unpublished while its tree was fetched.
    #[error("{} was unpublished while its tree was fetched, so nothing is mounted there", target.display())]
    Unpublished {
        /// The target.
        target: PathBuf,
    },
    /// The tree could not be leased.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The tree is larger than a writable volume may be.
    #[error(
        "the tree of commit {commit} has {bytes} bytes, and a writable volume may have the {limit} that \
         limits.writableBytes allows; select a subdirectory, mount it read-only, or raise the limit"
    )]
    TooLargeToWrite {
        /// The commit.
        commit: CommitId,
        /// Bytes of its content.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The copy of a writable volume cannot be made.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Mounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Snapshots are to be images, and this node cannot mount them.
    #[error("images cannot be mounted here now; with the snapshotFormat \"directory\" none is needed")]
    NoImages {
        /// Why they cannot be mounted.
        #[source]
        source: Arc<MountError>,
    },
    /// It cannot be told now whether the volume can be an overlay.
    #[error("overlays cannot be mounted here now; with \"writable: copy\" none is needed")]
    NoOverlays {
        /// Why they cannot be mounted.
        #[source]
        source: Arc<MountError>,
    },
    /// The targets of the volume share a layer, and the ids of this one have to be mapped.
    #[error(
        "the targets of the volume {volume_id:?} on this node share an overlay, and the kernel maps no ids of overlays, as \
         a pod with \"hostUsers: false\" needs; set \"writable: copy\", or unpublish all of them first"
    )]
    NotMapped {
        /// The volume.
        volume_id: String,
    },
    /// A layer cannot become a copy any more.
    #[error(
        "the pod of {} has \"hostUsers: false\", and something was written to its volume, so that the overlay there cannot \
         become a copy; set \"writable: copy\", and delete the pod",
        target.display()
    )]
    LayerWritten {
        /// The target.
        target: PathBuf,
    },
    /// The kernel cannot put a copy in the place of an overlay.
    #[error(
        "the pod of {} has \"hostUsers: false\", and this node cannot put a copy in the place of the overlay there, as Linux \
         6.5 can; set \"writable: copy\", and delete the pod",
        target.display()
    )]
    NotReplaceable {
        /// The target.
        target: PathBuf,
    },
    /// Only an image would keep the volume read-only, and the node has none.
    #[error("only an image stays read-only whoever mounts it further, and this node has none: {reason}")]
    NotAnImage {
        /// Why it has none.
        reason: String,
    },
    /// A failed publish could not be undone. The caller must retry, or unpublish.
    #[error("a failed publish on {} could not be undone ({undoing}); try again, or unpublish", target.display())]
    NotUndone {
        /// The target.
        target: PathBuf,
        /// Why it could not be undone.
        undoing: String,
        /// Why the publish failed.
        #[source]
        source: Box<PublishError>,
    },
}

impl PublishError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Target { .. } | Self::TargetOverlapsStore { .. } => Kind::InvalidRequest,
            Self::TargetDirectory { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Kind::FailedPrecondition,
                _ => crate::error::io_kind(source),
            },
            Self::TargetTaken { .. } => Kind::AlreadyExists,
            Self::TargetMounted { .. }
            | Self::SharedOtherwise { .. }
            | Self::NotMapped { .. }
            | Self::LayerWritten { .. }
            | Self::NotReplaceable { .. }
            | Self::NotAnImage { .. } => Kind::FailedPrecondition,
            // It passes, whatever it is.
            Self::NoOverlays { source } => match source.kind() {
                kind @ (Kind::ResourceExhausted | Kind::Busy) => kind,
                _ => Kind::Unavailable,
            },
            Self::NoImages { source } if source.is_of_storage() => Kind::Unavailable,
            Self::NoImages { source } => match source.kind() {
                kind @ (Kind::ResourceExhausted | Kind::Busy) => kind,
                _ => Kind::FailedPrecondition,
            },
            Self::Lease(error) => error.kind(),
            Self::TooLargeToWrite { .. } => Kind::ResourceExhausted,
            Self::Copy(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Mount(error) => error.kind(),
            Self::Outdated { .. } | Self::Unpublished { .. } | Self::NotUndone { .. } => Kind::Busy,
        }
    }
}

/// A failure to unpublish or to sweep. The call may be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpublishError {
    /// The volume is mounted in a mount namespace that this process does not see.
    #[error(
        "{} was mounted in the mount namespace {namespace}, and this process is in another one; unmount it from there, \
         for instance with nsenter --mount, or after the next boot from anywhere",
        target.display()
    )]
    MountedElsewhere {
        /// The target.
        target: PathBuf,
        /// The namespace, as `/proc/<pid>/ns/mnt` names it.
        namespace: String,
    },
    /// The directory of the targets does not exist, so no target can be examined.
    #[error(
        "cannot tell which volumes below {} are abandoned, because that directory cannot be examined",
        below.display()
    )]
    TargetsUnseen {
        /// The path as given.
        below: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Unmounting failed.
    #[error(transparent)]
    Mount(#[from] MountError),
}

impl UnpublishError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::MountedElsewhere { .. } | Self::TargetsUnseen { .. } => Kind::FailedPrecondition,
            Self::Store(error) => error.kind(),
            Self::Mount(error) => error.kind(),
        }
    }
}
