//! A commit's tree as immutable files on disk.
//!
//! The worker, which reads git objects and runs confined, only lists the tree: which names there are, and where
//! the content of each file is. The parent trusts nothing the child left behind: it checks the list, and makes
//! the snapshot out of it in one of the [formats](SnapshotFormat).

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::cancel::Interrupted;
use crate::error::Cause;
use crate::error::Kind;
use crate::error::io_kind;
use crate::mount::Attachment;
use crate::policy::Limits;
use crate::reserve::BelowReserve;
use crate::reserve::Reserve;
use crate::spec::CommitId;
use crate::spec::Label;
use crate::spec::RelativePath;
use crate::spec::TreeOptions;
use crate::spec::WorkingRepository;
use crate::watch::Watch;

mod beneath;
mod blob;
mod checkout;
mod copy;
mod directory;
#[cfg(test)]
pub(crate) mod fixture;
/// What the parent believes of a worker's list, for `testing`.
#[cfg(feature = "testing")]
pub(crate) mod fuzz {
    pub use super::mountable::fuzz::manifest;
}
mod git_dir;
// Only tests use other block sizes yet.
#[cfg_attr(not(feature = "testing"), allow(dead_code, unreachable_pub))]
pub(crate) mod image;
mod label;
pub(crate) mod lfs;
mod listing;
mod located;
mod manifest;
mod measure;
mod mountable;
mod object;
mod ownership;
mod pace;
mod part;
pub(crate) mod seal;
pub(crate) mod submodules;
mod symlink;
mod verify;
mod walk;
mod writer;

pub use copy::CopyError;
pub use copy::Writers;
pub use copy::copy;
pub use directory::Directory;
pub(crate) use git_dir::INDEX as GIT_INDEX;
pub(crate) use git_dir::refresh_index;
pub(crate) use git_dir::share_copy as share_copied_git_dir;
pub(crate) use label::LabelFailure;
pub(crate) use label::label;
pub(crate) use measure::Measured;
pub(crate) use measure::measure;
pub(crate) use mountable::IMAGE;
pub use mountable::Image;
pub(crate) use mountable::adopt;
pub use mountable::assemble::Segments;
pub(crate) use mountable::compose::Composition;
pub(crate) use mountable::compose::OpenPart;
pub(crate) use mountable::compose::compose;
pub(crate) use mountable::is_image;
pub(crate) use mountable::list;
pub use mountable::listed::Listed;
pub(crate) use mountable::reader::check_link_bytes;
pub(crate) use mountable::sealed;
pub use ownership::GroupAccess;
pub use ownership::Ownership;
pub(crate) use ownership::VolumeRoot;
pub(crate) use pace::Pace;
pub use part::Part;
pub use verify::Verifier;
pub use verify::VerifyError;

/// How a listed tree becomes a snapshot, and which part of that is attached.
pub trait SnapshotFormat: Send + Sync {
    /// Returns the format's name, as in `meta.json`.
    fn name(&self) -> &'static str;

    /// Makes the snapshot in `staging`, where the tree was listed, with the content in `repository`, a bare one.
    /// The reserve stays free.
    fn complete(
        &self,
        listed: &Listed,
        staging: &Path,
        repository: &Path,
        request: &TreeRequest,
        reserve: Reserve,
        watch: &Watch,
    ) -> Result<(), SnapshotError> {
        let segments = Segments::of_repository(repository, staging, listed)?;
        self.lay_out(listed, staging, &segments, request, reserve, watch)
    }

    /// Makes the snapshot in `staging`, where the tree was listed, with the content in `segments`. The reserve stays free.
    fn lay_out(
        &self,
        listed: &Listed,
        staging: &Path,
        segments: &Segments,
        request: &TreeRequest,
        reserve: Reserve,
        watch: &Watch,
    ) -> Result<(), SnapshotError>;

    /// Reads all of a finished snapshot, and compares it with its manifest and the ids of its blobs. Returns the digest of
    /// the manifest, for a comparison with that of the time when it was made.
    ///
    /// # Errors
    ///
    /// [`VerifyError::Damaged`] names the first difference.
    fn verify(
        &self,
        snapshot: &Path,
        request: &TreeRequest,
        ownership: &Ownership,
        verifier: &mut Verifier<'_>,
    ) -> Result<String, VerifyError>;

    /// Returns the part of a finished snapshot that a volume shows.
    fn attachment(&self, snapshot: &Path) -> Attachment;
}

/// All formats of this version.
pub(crate) const FORMATS: [&dyn SnapshotFormat; 3] = [&Directory, &Image, &Part];

/// Returns the format with this name in `meta.json`; `None` if a newer version wrote it.
pub fn format(name: &str) -> Option<&'static dyn SnapshotFormat> {
    FORMATS.into_iter().find(|format| format.name() == name)
}

/// Whether this is the name of a format that is made of segments, and copies no content.
pub(crate) fn is_of_segments(format: &str) -> bool {
    format == Image.name() || format == Part.name()
}

/// The tree to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeRequest {
    /// The commit whose tree is written.
    pub commit: CommitId,
    /// Which part of the tree, and where it appears.
    #[serde(flatten)]
    pub tree: TreeOptions,
    /// Name of the [`SnapshotFormat`] to write.
    pub format: String,
    /// Limits, enforced before and while writing.
    pub limits: Limits,
    /// The repository that the tree shows as `.git`, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<WorkingRepository>,
    /// The SELinux label of plain files, if the node has SELinux. An image is labelled by its mount.
    #[serde(skip)]
    pub label: Option<Label>,
}

impl TreeRequest {
    /// Creates a request for the tree of a commit in this format.
    pub fn new(tree: &TreeOptions, commit: CommitId, format: &dyn SnapshotFormat, limits: &Limits) -> Self {
        let (tree, format, limits) = (tree.clone(), format.name().to_owned(), limits.clone());
        Self { commit, tree, format, limits, repository: None, label: None }
    }

    /// Shows this repository as `.git`.
    #[must_use]
    pub fn showing(self, repository: Option<WorkingRepository>) -> Self {
        Self { repository, ..self }
    }

    /// Gives plain files this SELinux label.
    #[must_use]
    pub fn labelled(self, label: Option<&Label>) -> Self {
        Self { label: label.cloned(), ..self }
    }
}

/// Who owns the files of an adopted snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// Returns the user that runs this process, which is root in a driver.
    pub(crate) fn ourselves() -> Self {
        Self { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() }
    }
}

/// The amount of content in a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSummary {
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Directories, including those of submodules but not the volume's root.
    pub directories: u64,
    /// Bytes of content.
    pub bytes: u64,
}

impl TreeSummary {
    /// Returns the number of entries, which use an inode each.
    pub fn entries(&self) -> u64 {
        self.files + self.symlinks + self.directories
    }
}

/// Converts a length in memory to the integer type of the limits.
fn widen(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// A failure to write or adopt a tree. Paths are escaped.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum SnapshotError {
    /// The repository has no such commit, or lacks some of its objects.
    #[error("commit {commit} is incomplete in the local repository")]
    Incomplete {
        /// The commit.
        commit: CommitId,
        /// What is missing or damaged.
        #[source]
        source: Cause,
    },
    /// The objects of the commit are as the remote gave them out, but are not what git writes.
    #[error("the repository is damaged: commit {commit} cannot be checked out")]
    Malformed {
        /// The commit.
        commit: CommitId,
        /// What is wrong.
        #[source]
        source: Cause,
    },
    /// An object of the commit does not fit in memory.
    #[error("an object of commit {commit} needs more memory than worker.memory allows")]
    OutOfMemory {
        /// The commit.
        commit: CommitId,
    },
    /// The subdirectory does not exist in this commit.
    #[error(
        "commit {commit} has no directory {subdirectory}; {}",
        match existing.is_root() {
            true => "nothing at the top of it has that name".to_owned(),
            false => format!("{existing} is there, and nothing in it has the next name"),
        }
    )]
    SubdirectoryNotFound {
        /// The commit.
        commit: CommitId,
        /// The subdirectory as requested.
        subdirectory: RelativePath,
        /// The nearest directory above it that exists.
        existing: RelativePath,
    },
    /// The subdirectory, or what should be a directory above it, is a file, link or submodule.
    #[error("{subdirectory} is not a directory of commit {commit}: {path} is a {found}")]
    NotADirectory {
        /// The commit.
        commit: CommitId,
        /// The subdirectory as requested.
        subdirectory: RelativePath,
        /// The part of the path that is something else.
        path: RelativePath,
        /// Its actual type.
        found: String,
    },
    /// The commit contains a name that could escape the tree or be mistaken for git's own.
    #[error("commit {commit} holds the name {path:?}, which is refused: {reason}")]
    UnsafeName {
        /// The commit.
        commit: CommitId,
        /// The path, escaped.
        path: String,
        /// The rule it violates.
        reason: String,
    },
    /// A submodule of the commit cannot be served.
    #[error("the submodule {submodule:?} of commit {commit} is refused: {reason}")]
    Submodule {
        /// The commit.
        commit: CommitId,
        /// Its path in the commit, or its name in `.gitmodules`, escaped.
        submodule: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A link leads out of the volume under `symlinks: reject-escaping`.
    #[error(
        "commit {commit} holds the link {path:?} to {link:?}, which leaves the volume; allow it with symlinks: keep"
    )]
    EscapingSymlink {
        /// The commit.
        commit: CommitId,
        /// The path, escaped.
        path: String,
        /// The link's target, escaped.
        link: String,
    },
    /// The tree exceeds a configured limit.
    #[error("the tree of commit {commit} exceeds the {limit} {what} that {setting} allows")]
    TooLarge {
        /// The commit.
        commit: CommitId,
        /// "bytes", "entries", "nested directories".
        what: String,
        /// The limit's value.
        limit: u64,
        /// The limit's name in the configuration, or the option that has it.
        setting: String,
        /// Whether it is something that an option of the volume adds, such as a history or a converted file: a volume
        /// without the option may show the same tree.
        #[serde(default)]
        is_addition: bool,
    },
    /// The worker left an entry that an honest worker never writes.
    #[error("the worker left {path:?}, which is refused: {reason}")]
    Untrusted {
        /// The path relative to the staging directory, escaped.
        path: String,
        /// The rule it violates.
        reason: String,
    },
    /// Reading or writing our own disk failed.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried, as a verb.
        action: String,
        /// The path, escaped.
        path: String,
        /// The kind, since the error itself cannot cross processes.
        kind: Kind,
        /// The system's error.
        #[source]
        source: Cause,
    },
    /// Writing was interrupted.
    #[error("writing the tree of commit {commit} was given up")]
    Interrupted {
        /// The commit.
        commit: CommitId,
        /// The cause.
        #[source]
        source: Interrupted,
    },
}

impl SnapshotError {
    pub(crate) fn unreadable(commit: CommitId, error: &git2::Error) -> Self {
        match error.class() {
            git2::ErrorClass::NoMemory => Self::OutOfMemory { commit },
            _ => Self::Incomplete { commit, source: Cause::new(error.message()) },
        }
    }

    pub(crate) fn too_large(commit: CommitId, what: &str, limit: u64, setting: &str) -> Self {
        let (what, setting) = (what.to_owned(), setting.to_owned());
        Self::TooLarge { commit, what, limit, setting, is_addition: false }
    }

    /// What an option adds to the tree is too large.
    pub(crate) fn addition_too_large(commit: CommitId, what: &str, limit: u64, setting: &str) -> Self {
        let (what, setting) = (what.to_owned(), setting.to_owned());
        Self::TooLarge { commit, what, limit, setting, is_addition: true }
    }

    /// The reserve would not stay free.
    pub(crate) fn no_room(path: &[u8], error: &BelowReserve) -> Self {
        Self::io("write", path, io::Error::new(io::ErrorKind::StorageFull, error.to_string()))
    }

    pub(crate) fn io(action: &str, path: &[u8], error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let path = String::from_utf8_lossy(path).into_owned();
        Self::Io { action: action.to_owned(), path, kind: io_kind(&error), source: Cause::new(error) }
    }

    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Incomplete { .. } => Kind::Corrupt,
            Self::Malformed { .. } | Self::Submodule { .. } => Kind::BadData,
            Self::SubdirectoryNotFound { .. } | Self::NotADirectory { .. } => Kind::NotFound,
            Self::UnsafeName { .. } | Self::EscapingSymlink { .. } => Kind::PermissionDenied,
            Self::TooLarge { .. } | Self::OutOfMemory { .. } => Kind::ResourceExhausted,
            Self::Untrusted { .. } => Kind::Internal,
            Self::Io { kind, .. } => *kind,
            Self::Interrupted { source, .. } => source.kind(),
        }
    }
}
