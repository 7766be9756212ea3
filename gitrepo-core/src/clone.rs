//! The exact tree of a revision in a plain directory: no store, no mount, no root.
//!
//! The tree is built in a hidden directory beside the destination and renamed over it, so the destination is there whole
//! or not at all, whenever the process dies. (Whole for every process of the running system; after a power failure the
//! filesystem decides.) A hidden directory that a killed clone left behind is removed by the next clone to the same
//! place.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::credentials::Credentials;
use crate::error::Kind;
use crate::gateway::Gateway;
use crate::gateway::GatewayError;
use crate::gateway::Workspace;
use crate::lease::receive;
use crate::mount::Attachment;
use crate::progress::Step;
use crate::remote::Resolved;
use crate::snapshot::Directory;
use crate::snapshot::Owner;
use crate::snapshot::SnapshotError;
use crate::snapshot::SnapshotFormat;
use crate::snapshot::TreeSummary;
use crate::spec::VolumeSpec;
use crate::store::Staging;
use crate::store::StoreError;
use crate::watch::Watch;
use crate::worker::TREE;

/// What to clone, as whom, where to.
pub struct CloneRequest<'a> {
    /// What is asked. Keys that only mean something to a mounted volume have no effect.
    pub spec: &'a VolumeSpec,
    /// As whom.
    pub credentials: &'a Credentials,
    /// It must not exist, or be an empty directory. Missing parents are made.
    pub destination: &'a Path,
}

/// A finished clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cloned {
    /// What the destination shows.
    pub resolved: Resolved,
    /// What it holds.
    pub tree: TreeSummary,
    /// Bytes of the pack received.
    pub received_bytes: u64,
}

/// A failure to clone. The destination is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CloneError {
    /// There is something already.
    #[error("{} exists and is not an empty directory", destination.display())]
    Occupied {
        /// As given.
        destination: PathBuf,
    },
    /// The destination or its parent cannot be used.
    #[error("cannot write to {}", destination.display())]
    Destination {
        /// As given.
        destination: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Asking or fetching failed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// What the worker left cannot be taken over.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The staging directory failed.
    #[error(transparent)]
    Staging(#[from] StoreError),
}

impl CloneError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Occupied { .. } => Kind::FailedPrecondition,
            Self::Destination { source, .. } => crate::error::io_kind(source),
            Self::Gateway(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Staging(error) => error.kind(),
        }
    }
}

/// Clones into a plain directory, owned by the caller.
pub fn clone(gateway: &Gateway, request: &CloneRequest<'_>, watch: &Watch) -> Result<Cloned, CloneError> {
    let mut parents = MadeParents::default();
    let destination = free_destination(request.destination, &mut parents)?;
    let staging = Staging::beside(&destination)?;
    let workspace = Workspace { staging: staging.path(), base: None };

    watch.progress.report(&Step::Resolving);
    let mut session = gateway.open(&request.spec.repository, request.credentials, Some(workspace), watch)?;
    let resolved = session.resolve(&request.spec.revision)?;
    let received = receive(session, request.spec, &resolved, &Directory, gateway.policy().limits(), watch)?;
    received.written?;
    let resolved = Resolved { commit: received.tree.commit, reference: resolved.reference };

    let laid_out = staging.path().join(TREE);
    let summary = Directory.adopt(&laid_out, &received.tree, Owner::ourselves())?;
    let Attachment::Bind { source } = Directory.attachment(&laid_out);
    put(&source, &destination)?;
    parents.keep();
    Ok(Cloned { resolved, tree: summary, received_bytes: received.bytes })
}

/// The destination with its parent made and its parent's symlinks resolved, if nothing is there yet.
fn free_destination(destination: &Path, parents: &mut MadeParents) -> Result<PathBuf, CloneError> {
    let failed = |source| CloneError::Destination { destination: destination.to_owned(), source };
    let absolute = std::path::absolute(destination).map_err(failed)?;
    match std::fs::read_dir(&absolute) {
        Ok(mut entries) => match entries.next() {
            None => absolute.canonicalize().map_err(failed),
            Some(_) => Err(CloneError::Occupied { destination: destination.to_owned() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Err(failed(error));
            };
            if std::fs::symlink_metadata(&absolute).is_ok() {
                // A dangling symlink: there is something, and renaming over it would replace the link.
                return Err(CloneError::Occupied { destination: destination.to_owned() });
            }
            parents.make(parent).map_err(failed)?;
            Ok(parent.canonicalize().map_err(failed)?.join(name))
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(CloneError::Occupied { destination: destination.to_owned() })
        }
        Err(error) => Err(failed(error)),
    }
}

/// Directories above the destination that were made for it. They go again, if still empty, unless it arrives.
#[derive(Default)]
struct MadeParents(Vec<PathBuf>);

impl MadeParents {
    /// Makes `directory` and what is missing above it.
    fn make(&mut self, directory: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        for parent in missing.into_iter().rev() {
            match std::fs::create_dir(parent) {
                Ok(()) => self.0.push(parent.to_owned()),
                // Somebody else came first, and it is theirs.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for MadeParents {
    fn drop(&mut self) {
        // What somebody else has put something into stays.
        self.0.iter().rev().all(|parent| std::fs::remove_dir(parent).is_ok());
    }
}

/// Gives the finished tree its name. rename(2) replaces an empty directory and refuses every other one, so whatever came
/// there meanwhile is safe.
fn put(tree: &Path, destination: &Path) -> Result<(), CloneError> {
    std::fs::rename(tree, destination).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
            CloneError::Occupied { destination: destination.to_owned() }
        }
        _ => CloneError::Destination { destination: destination.to_owned(), source },
    })
}
