//! Attaching and detaching.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Kind;

pub(crate) mod directory;
pub mod linux;
pub mod mountinfo;
mod place;

/// Mounts and unmounts. The real one is [`linux::LinuxMounter`]; `testing::FakeMounter` records.
///
/// Arguments are plain data, so that a fake can keep them and a test can read them. Paths are absolute, and no component
/// of them is a symlink: whoever could plant one would choose what is attached, or where (CVE-2021-25741). A caller
/// that takes paths from a person resolves them first.
pub trait Mounter: Send + Sync {
    /// Attaches something, on top of what is attached there already. A read-only mount is never visible writable, not for
    /// an instant, and both kinds are `nosuid` and `nodev`. Mounts below a bound directory do not come along.
    fn attach(&self, mount: &Mount) -> Result<(), MountError>;

    /// Says whether exactly this is attached: one mount on the target, of the source itself, and read-only or not as
    /// asked. A missing source or target is `false`. What a retried publish asks before it mounts a second layer.
    fn shows(&self, mount: &Mount) -> Result<bool, MountError>;

    /// Detaches everything stacked on `target`, verifies it, and says how many mounts there were. Zero is no error, nor
    /// is a missing target. Who still has the tree open keeps it: a target in use is detached after about a second.
    fn unmount(&self, target: &Path) -> Result<usize, MountError>;

    /// The mounts that the calling thread sees, a later one on the same target after an earlier one.
    fn list(&self) -> Result<Vec<MountPoint>, MountError>;

    /// Removes what killed processes left half-made, and says how many of them there were. Safe at any time: what a
    /// living process is making is left alone.
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
        /// Which.
        source: PathBuf,
    },
}

impl Attachment {
    /// Where it lies on disk.
    pub fn path(&self) -> &Path {
        let Self::Bind { source } = self;
        source
    }
}

/// One mount to make, or to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What to show.
    pub attachment: Attachment,
    /// An existing directory to show it at.
    pub target: PathBuf,
    /// No writes through this mount.
    pub read_only: bool,
}

impl Mount {
    /// A directory at another place.
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>, read_only: bool) -> Self {
        Self { attachment: Attachment::Bind { source: source.into() }, target: target.into(), read_only }
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Where it is attached.
    pub target: PathBuf,
    /// The path inside its filesystem that is attached; for a plain bind, the source. Ends in `//deleted` when the
    /// source was deleted.
    pub root: PathBuf,
    /// `major:minor` of the filesystem.
    pub device: String,
    /// Type of the filesystem.
    pub filesystem: String,
    /// Options of this mount, such as `ro`, `nosuid`.
    pub options: Vec<String>,
}

impl MountPoint {
    /// This mount refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// Which end of a mount a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What is shown.
    Source,
    /// Where it is shown.
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
pub enum MountError {
    /// A path is relative, or holds `..`.
    #[error("cannot use {path:?} as the {role} of a mount: not an absolute path without \"..\"")]
    Path {
        /// As given.
        path: PathBuf,
        /// Which end.
        role: Role,
    },
    /// A path leads over a symlink.
    #[error("cannot use {path:?} as the {role} of a mount: {link:?} is a symbolic link; give the path it leads to")]
    Symlink {
        /// As given.
        path: PathBuf,
        /// Which end.
        role: Role,
        /// The first component that is a link.
        link: PathBuf,
    },
    /// A directory that is to be attached or covered cannot be used.
    #[error("cannot use {path:?} as the {role} of a mount")]
    Directory {
        /// As given.
        path: PathBuf,
        /// Which end.
        role: Role,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step of mounting failed.
    #[error("cannot mount {:?} at {:?} ({step})", mount.attachment.path(), mount.target)]
    Attach {
        /// What was to be attached.
        mount: Mount,
        /// Which step.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A mount could not be detached.
    #[error("cannot unmount {target:?}")]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everything was tried and the target is still mounted.
    #[error("{target:?} is still mounted after {attempts} attempts; see what holds it with fuser -vm")]
    StillMounted {
        /// Where.
        target: PathBuf,
        /// How often.
        attempts: usize,
    },
    /// The mount table cannot be read.
    #[error("cannot read the mount table {}", path.display())]
    Table {
        /// Of `/proc`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What a killed process left cannot be removed.
    #[error("cannot clear {path:?}, where a mount was being prepared")]
    Sweep {
        /// The place, or the directory of all places.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// The kind of this failure.
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
