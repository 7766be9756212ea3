//! The exact tree of a revision in a plain directory: no store, no mount, no root.
//!
//! The tree is built in a hidden directory beside the destination and renamed over it. So the destination is complete
//! or missing, whenever the process dies. (This holds for running processes; after a power failure it depends on the
//! filesystem.) The next clone to the same destination removes the hidden directory of a killed one.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::credentials::Credentials;
use crate::error::Kind;
use crate::gateway::Gateway;
use crate::gateway::GatewayError;
use crate::gateway::Workspace;
use crate::lease::LeaseError;
use crate::lease::Required;
use crate::lease::receive;
use crate::progress::Step;
use crate::remote::FetchRequest;
use crate::remote::REPOSITORY;
use crate::remote::Resolved;
use crate::reserve::Reserve;
use crate::snapshot;
use crate::snapshot::Directory;
use crate::snapshot::Listed;
use crate::snapshot::Owner;
use crate::snapshot::SnapshotError;
use crate::snapshot::SnapshotFormat;
use crate::snapshot::TreeRequest;
use crate::snapshot::TreeSummary;
use crate::spec::Revision;
use crate::spec::SpecError;
use crate::spec::Submodules;
use crate::spec::VolumeSpec;
use crate::store::Staging;
use crate::store::StoreError;
use crate::watch::Watch;
use crate::worker::TREE;

mod submodules;

/// A clone to make: the volume, the credentials and the destination.
#[non_exhaustive]
pub struct CloneRequest<'a> {
    /// The volume to clone. Keys that only apply to a mounted volume have no effect.
    pub spec: &'a VolumeSpec,
    /// The credentials to use.
    pub credentials: &'a Credentials,
    /// Must not exist, or be an empty directory. Missing parents are created.
    pub destination: &'a Path,
}

impl<'a> CloneRequest<'a> {
    /// Creates a request to clone this volume to this destination.
    pub fn new(spec: &'a VolumeSpec, credentials: &'a Credentials, destination: &'a Path) -> Self {
        Self { spec, credentials, destination }
    }
}

/// A finished clone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cloned {
    /// The resolved revision.
    pub resolved: Resolved,
    /// The content written.
    pub tree: TreeSummary,
    /// Bytes of the pack received.
    pub received_bytes: u64,
}

/// A failure to clone. The destination is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloneError {
    /// The destination is not empty.
    #[error("{} exists and is not an empty directory", destination.display())]
    Occupied {
        /// The destination as given.
        destination: PathBuf,
    },
    /// The destination or its parent cannot be used.
    #[error("cannot write to {}", destination.display())]
    Destination {
        /// The destination as given.
        destination: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The options do not go together.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Resolving or fetching failed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The worker's output was rejected.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The staging directory failed.
    #[error(transparent)]
    Staging(#[from] StoreError),
    /// A submodule cannot be brought, or all of them together are refused.
    #[error(transparent)]
    Submodules(LeaseError),
}

impl CloneError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Occupied { .. } => Kind::FailedPrecondition,
            Self::Destination { source, .. } => crate::error::io_kind(source),
            Self::Spec(error) => error.kind(),
            Self::Gateway(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            // It is in the user's own directory.
            Self::Staging(StoreError::Io { source, .. }) => crate::error::io_kind(source),
            Self::Staging(error) => error.kind(),
            Self::Submodules(error) => error.kind(),
        }
    }
}

/// Clones into a plain directory, owned by the caller.
pub fn clone(gateway: &Gateway, request: &CloneRequest<'_>, watch: &Watch) -> Result<Cloned, CloneError> {
    request.spec.check()?;
    let mut parents = MadeParents::default();
    let destination = free_destination(request.destination, &mut parents)?;
    let cloned = match request.spec.tree.submodules {
        Submodules::None => clone_one(gateway, request, &destination, watch)?,
        Submodules::Recursive => submodules::clone_all(gateway, request, &destination, watch)?,
    };
    parents.keep(&destination);
    Ok(cloned)
}

/// Clones one repository.
fn clone_one(
    gateway: &Gateway,
    request: &CloneRequest<'_>,
    destination: &Path,
    watch: &Watch,
) -> Result<Cloned, CloneError> {
    let Fetched { staging, resolved, tree, listed, bytes } =
        fetch::<CloneError>(gateway, request.spec, request.credentials, &Directory, destination, watch)?;
    let laid_out = staging.path().join(TREE);
    let repository = staging.path().join(REPOSITORY);
    Directory.complete(&listed, &laid_out, &repository, &tree, reserve(gateway, &staging), watch)?;
    put(Directory.attachment(&laid_out).path(), destination)?;
    Ok(Cloned { resolved, tree: listed.summary, received_bytes: bytes })
}

/// A tree that was fetched, listed and checked, but not laid out.
struct Fetched {
    staging: Staging,
    resolved: Resolved,
    tree: TreeRequest,
    listed: Listed,
    /// Bytes of the pack received.
    bytes: u64,
}

/// Fetches a tree to be laid out in this format, into a hidden directory beside the destination.
fn fetch<E: From<StoreError> + From<GatewayError> + From<SnapshotError>>(
    gateway: &Gateway,
    spec: &VolumeSpec,
    credentials: &Credentials,
    format: &dyn SnapshotFormat,
    destination: &Path,
    watch: &Watch,
) -> Result<Fetched, E> {
    let staging = Staging::beside(destination)?;
    let workspace = Workspace { staging: staging.path(), base: None, shows_base: false };
    watch.progress.report(&Step::Resolving);
    let mut session = gateway.open(&spec.repository, credentials, Some(workspace), watch)?;
    let resolved = match spec.revision {
        // The fetch tells whether the remote gives it out: nothing of ours is on offer.
        Revision::Commit(commit) => Resolved::new(commit, None),
        ref revision => session.resolve(revision)?,
    };
    let fetch = FetchRequest { narrow: spec.narrow().cloned(), ..FetchRequest::new(resolved.clone(), spec.depth) };
    let policy = gateway.policy();
    let required = policy.required_signature(&spec.repository).map_err(GatewayError::from)?;
    let required = required.map(|requirement| Required::new(requirement, &spec.revision, &resolved));
    let tree = TreeRequest::new(&spec.tree, resolved.commit, format, policy.limits());
    let tree = tree.showing(spec.working_repository(resolved.reference.as_deref()));
    let received = receive(session, &fetch, false, required.as_ref(), tree, watch)?;
    received.written?;
    let listed = snapshot::adopt(&staging.path().join(TREE), &received.tree, Owner::ourselves())?;
    Ok(Fetched { staging, resolved, tree: received.tree, listed, bytes: received.bytes })
}

fn reserve(gateway: &Gateway, staging: &Staging) -> Reserve {
    Reserve::new(staging.path().to_owned(), gateway.policy().config().cache.reserve_bytes)
}

/// Checks that the destination is free, creates its parent, and returns the destination without symlinks.
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
                // A dangling symlink: renaming over it would replace the link.
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

/// Parent directories created for the destination. They are removed again, if still empty, unless they lead to a clone.
#[derive(Default)]
struct MadeParents(Vec<PathBuf>);

impl MadeParents {
    /// Creates `directory` and its missing parents.
    fn make(&mut self, directory: &Path) -> io::Result<()> {
        let missing: Vec<&Path> = directory.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        for parent in missing.into_iter().rev() {
            match std::fs::create_dir(parent) {
                Ok(()) => self.0.push(parent.to_owned()),
                // Another process created it first, and owns it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Keeps those that lead to the destination. In a new `a/../b`, `a` is only on the way there.
    fn keep(mut self, destination: &Path) {
        self.0.retain(|made| !made.canonicalize().is_ok_and(|made| destination.starts_with(made)));
    }
}

impl Drop for MadeParents {
    fn drop(&mut self) {
        // A directory that others have filled stays.
        self.0.iter().rev().all(|parent| std::fs::remove_dir(parent).is_ok());
    }
}

/// Moves the finished tree to its destination. rename(2) replaces an empty directory and refuses any other, so nothing
/// created there meanwhile is lost.
fn put(tree: &Path, destination: &Path) -> Result<(), CloneError> {
    std::fs::rename(tree, destination).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
            CloneError::Occupied { destination: destination.to_owned() }
        }
        _ => CloneError::Destination { destination: destination.to_owned(), source },
    })
}
