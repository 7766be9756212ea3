//! Attaching and detaching.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::error::Kind;

/// Mounts and unmounts. The real one is [`linux::LinuxMounter`]; `testing::FakeMounter` records.
///
/// Arguments are plain data, so that a fake can keep them and a test can read them.
pub trait Mounter: Send + Sync {
    /// Attaches a directory. A read-only bind is never visible writable, not for an instant, and both kinds are `nosuid`
    /// and `nodev`.
    fn bind(&self, bind: &Bind) -> Result<(), MountError>;

    /// Detaches everything stacked on `target`, verifies it, and says how many mounts there were. Zero is no error.
    fn unmount(&self, target: &Path) -> Result<usize, MountError>;

    /// The mounts of this process's namespace, in the order in which they were made.
    fn list(&self) -> Result<Vec<MountPoint>, MountError>;
}

/// One directory to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// An existing directory.
    pub source: PathBuf,
    /// An existing directory: absolute, without symlinks.
    pub target: PathBuf,
    /// No writes through this mount.
    pub read_only: bool,
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

/// A failure to mount, unmount or list.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A directory that is to be attached or covered cannot be used.
    #[error("cannot use {path:?} as the {role} of a mount")]
    Directory {
        /// Which.
        path: PathBuf,
        /// "source" or "target".
        role: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A step of mounting failed.
    #[error("cannot mount {} at {} ({step})", bind.source.display(), bind.target.display())]
    Bind {
        /// What was to be attached.
        bind: Bind,
        /// The system call.
        step: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A mount could not be detached.
    #[error("cannot unmount {}", target.display())]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everything was tried and the target is still mounted.
    #[error("{} is still mounted after {attempts} attempts; see what holds it with: fuser -vm {}", target.display(), target.display())]
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
}

impl MountError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Directory { source, .. } | Self::Bind { source, .. } | Self::Unmount { source, .. } => {
                match source.kind() {
                    io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Kind::FailedPrecondition,
                    io::ErrorKind::ResourceBusy => Kind::Busy,
                    _ => crate::error::io_kind(source),
                }
            }
            Self::StillMounted { .. } => Kind::Busy,
            Self::Table { .. } => Kind::Internal,
        }
    }
}
