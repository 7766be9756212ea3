//! Mounts and unmounts.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Kind;

pub(crate) mod directory;
pub mod linux;
pub mod mountinfo;
mod private_directory;

/// Mounts and unmounts. The real implementation is [`linux::LinuxMounter`]; `testing::FakeMounter` records its calls.
///
/// Arguments are plain data, so that a fake can record them and a test can read them. Paths are absolute and contain no
/// symlinks: an attacker who could plant one would choose what is attached, or where (CVE-2021-25741). A caller that
/// takes paths from a user resolves them first.
pub trait Mounter: Send + Sync {
    /// Attaches something on top of any existing mount. A read-only mount is never writable, not even for an instant.
    /// All mounts are `nosuid` and `nodev`. Mounts below a bound directory are not included.
    fn attach(&self, mount: &Mount) -> Result<(), MountError>;

    /// Whether exactly this is attached: one mount on the target, of the source itself, read-only or writable as
    /// requested. `false` if the source or target is missing. A retried publish calls this to avoid a second layer.
    fn shows(&self, mount: &Mount) -> Result<bool, MountError>;

    /// Detaches everything stacked on `target`, verifies it, and returns the number of mounts. Zero mounts or a missing
    /// target is not an error. A target in use is detached after about a second; processes with the tree open keep it.
    fn unmount(&self, target: &Path) -> Result<usize, MountError>;

    /// Lists the mounts visible to the calling thread. Mounts stacked on one target are listed oldest first.
    fn list(&self) -> Result<Vec<MountPoint>, MountError>;

    /// Removes half-made mounts of killed processes and returns their number. Safe at any time: mounts in preparation
    /// by a live process are left alone.
    fn sweep(&self) -> Result<usize, MountError>;
}

impl<M: Mounter + ?Sized> Mounter for Arc<M> {
    fn attach(&self, mount: &Mount) -> Result<(), MountError> {
        (**self).attach(mount)
    }

    fn shows(&self, mount: &Mount) -> Result<bool, MountError> {
        (**self).shows(mount)
    }

    fn unmount(&self, target: &Path) -> Result<usize, MountError> {
        (**self).unmount(target)
    }

    fn list(&self) -> Result<Vec<MountPoint>, MountError> {
        (**self).list()
    }

    fn sweep(&self) -> Result<usize, MountError> {
        (**self).sweep()
    }
}

/// What can be attached to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// An existing directory.
    Bind {
        /// The directory.
        source: PathBuf,
    },
}

impl Attachment {
    /// Returns its path on disk.
    pub fn path(&self) -> &Path {
        let Self::Bind { source } = self;
        source
    }
}

/// One mount to make or look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The directory to show.
    pub attachment: Attachment,
    /// An existing directory to attach it to.
    pub target: PathBuf,
    /// Whether writes through this mount are refused.
    pub read_only: bool,
}

impl Mount {
    /// Creates a bind mount of a directory.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Self {
        Self { attachment: Attachment::Bind { source: source.into() }, target: target.into(), read_only }
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The directory that it is attached to.
    pub target: PathBuf,
    /// The attached path inside the filesystem: the source, for a plain bind. Ends in `//deleted` if the source was
    /// deleted.
    pub root: PathBuf,
    /// `major:minor` of the filesystem.
    pub device: String,
    /// Type of the filesystem.
    pub filesystem: String,
    /// Options of this mount, such as `ro`, `nosuid`.
    pub options: Vec<String>,
}

impl MountPoint {
    /// Whether this mount refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// Which end of a mount a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The directory that is attached.
    Source,
    /// The directory that it is attached to.
    Target,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// A failure to mount, unmount or list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A path is relative or contains `..`.
    #[error("cannot use {path:?} as the {role} of a mount: not an absolute path without \"..\"")]
    Path {
        /// The path as given.
        path: PathBuf,
        /// The end of the mount.
        role: Role,
    },
    /// A path contains a symlink.
    #[error("cannot use {path:?} as the {role} of a mount: {link:?} is a symbolic link; give the path it leads to")]
    Symlink {
        /// The path as given.
        path: PathBuf,
        /// The end of the mount.
        role: Role,
        /// The first component that is a link.
        link: PathBuf,
    },
    /// The source or target directory cannot be used.
    #[error("cannot use {path:?} as the {role} of a mount")]
    Directory {
        /// The path as given.
        path: PathBuf,
        /// The end of the mount.
        role: Role,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A step of mounting failed.
    #[error("cannot mount {:?} at {:?} ({step})", mount.attachment.path(), mount.target)]
    Attach {
        /// The mount to make.
        mount: Mount,
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A mount could not be detached.
    #[error("cannot unmount {target:?}")]
    Unmount {
        /// The target.
        target: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The target is still mounted after all attempts.
    #[error("{target:?} is still mounted after {attempts} attempts; see what holds it with fuser -vm")]
    StillMounted {
        /// The target.
        target: PathBuf,
        /// Number of attempts.
        attempts: usize,
    },
    /// The mount table cannot be read.
    #[error("cannot read the mount table {}", path.display())]
    Table {
        /// The table's path in `/proc`.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The leftovers of a killed process cannot be removed.
    #[error("cannot clear {path:?}, where a mount was being prepared")]
    Sweep {
        /// The prepared mount, or the directory that holds all of them.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Path { .. } => Kind::InvalidRequest,
            Self::Symlink { .. } => Kind::FailedPrecondition,
            Self::Directory { source, .. } | Self::Attach { source, .. } | Self::Unmount { source, .. } => {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Kind::FailedPrecondition,
                    io::ErrorKind::ResourceBusy => Kind::Busy,
                    _ => crate::error::io_kind(source),
                }
            }
            Self::StillMounted { .. } => Kind::Busy,
            Self::Table { .. } => Kind::Internal,
            Self::Sweep { source, .. } => crate::error::io_kind(source),
        }
    }
}
