//! Failures of the store.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::cancel::Interrupted;
use crate::error::Cause;
use crate::error::Kind;

/// A failure to read or change the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A step on one path failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The root is not safe for a store, or already contains something else.
    #[error("{} cannot be a store: {reason}", path.display())]
    UnsuitableRoot {
        /// The root.
        path: PathBuf,
        /// The rule it violates.
        reason: String,
    },
    /// The store is not where it was. Its volumes may still be mounted.
    #[error("the store {} is missing: {reason}; check its mount, then retry", path.display())]
    Missing {
        /// The store's root.
        path: PathBuf,
        /// What is there instead.
        reason: String,
    },
    /// Something was written by a newer version of this program.
    #[error(
        "{} has version {found}, and this program knows versions up to {supported}; use the newer program",
        path.display()
    )]
    Newer {
        /// The file with the version.
        path: PathBuf,
        /// The version in that file.
        found: u64,
        /// The newest version that can be read.
        supported: u64,
    },
    /// A newer version of this program wrote this snapshot.
    #[error("{} names the format {format:?}, which this program does not know; use the newer program", path.display())]
    UnknownFormat {
        /// The file with the format.
        path: PathBuf,
        /// The format in that file.
        format: String,
    },
    /// A lock was not released in time.
    #[error("another process is still {lock}")]
    Locked {
        /// What the holder of the lock does, in words.
        lock: String,
        /// Whether the lock is that of a target or a volume: then another call for the same volume holds it.
        of_volume: bool,
        /// Why waiting ended.
        #[source]
        source: Interrupted,
    },
    /// A long operation on the store was interrupted.
    #[error("{work} was given up")]
    GivenUp {
        /// The operation, as a noun.
        work: &'static str,
        /// Why it ended.
        #[source]
        source: Interrupted,
    },
    /// A file of the store is damaged.
    #[error("{} is damaged", path.display())]
    Corrupt {
        /// The path.
        path: PathBuf,
        /// The problem.
        #[source]
        source: Cause,
    },
    /// A damaged snapshot cannot be replaced while volumes show it.
    #[error(
        "the snapshot {} is damaged, and cannot be replaced before the volumes that use it are unpublished",
        path.display()
    )]
    CorruptInUse {
        /// The path.
        path: PathBuf,
    },
    /// A tree to be deleted has something mounted inside.
    #[error("{} is not deleted, because something is mounted there", path.display())]
    HoldsMount {
        /// The mount.
        path: PathBuf,
    },
    /// The worker left something that no honest worker writes.
    #[error("the worker left {}, which is refused: {reason}", path.display())]
    Untrusted {
        /// The path.
        path: PathBuf,
        /// The rule it violates.
        reason: &'static str,
    },
}

impl StoreError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            // A fault of the store is never final: it may be mended, and says nothing about the volume.
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Kind::Unavailable,
            Self::Io { source, .. } => match crate::error::io_kind(source) {
                Kind::Internal => Kind::Unavailable,
                kind => kind,
            },
            Self::Missing { .. } => Kind::Unavailable,
            Self::UnsuitableRoot { .. } | Self::Newer { .. } | Self::UnknownFormat { .. } => Kind::FailedPrecondition,
            Self::Locked { of_volume, source, .. } => match source {
                Interrupted::Cancelled => Kind::Cancelled,
                Interrupted::DeadlineExceeded if *of_volume => Kind::Busy,
                Interrupted::DeadlineExceeded => Kind::Timeout,
            },
            Self::GivenUp { source, .. } => source.kind(),
            Self::Corrupt { .. } | Self::CorruptInUse { .. } => Kind::Corrupt,
            Self::HoldsMount { .. } => Kind::Busy,
            Self::Untrusted { .. } => Kind::Internal,
        }
    }

    /// Adds the action and its path to a system error. For `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| Self::Io { action, path: path.to_path_buf(), source: error.into() }
    }

    /// Returns the error for a malformed file.
    pub(crate) fn corrupt(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Corrupt { path: path.to_path_buf(), source: Cause::new(reason) }
    }

    /// Whether the file or directory does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the system lacks memory or descriptors at this moment. That says nothing about the store.
    pub(crate) fn is_shortage(&self) -> bool {
        const SHORTAGES: [i32; 3] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM];
        matches!(self, Self::Io { source, .. } if source.raw_os_error().is_some_and(|errno| SHORTAGES.contains(&errno)))
    }

    /// Whether the device or the server behind the store's filesystem fails.
    pub(crate) fn is_of_the_filesystem(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::error::io_kind(source) == Kind::Unavailable)
    }

    /// Whether no space or inodes are left.
    pub(crate) fn is_full(&self) -> bool {
        self.kind() == Kind::ResourceExhausted
    }
}

/// Turns "no such file" into `None`.
pub(crate) fn optional<T>(result: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: i32) -> StoreError {
        StoreError::io("read", Path::new("/store"))(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn no_fault_of_the_store_is_final() {
        for errno in [libc::EACCES, libc::EPERM, libc::EIO, libc::EROFS, libc::ENOENT, libc::EMFILE] {
            assert_eq!(error(errno).kind(), Kind::Unavailable, "{errno}");
        }
        assert_eq!(error(libc::ENAMETOOLONG).kind(), Kind::FailedPrecondition, "the tree's own name");
        assert!([libc::EMFILE, libc::ENFILE, libc::ENOMEM].into_iter().all(|errno| error(errno).is_shortage()));
        assert!(!error(libc::EIO).is_shortage() && error(libc::EIO).is_of_the_filesystem());
        assert!(!error(libc::EISDIR).is_of_the_filesystem());
    }
}
