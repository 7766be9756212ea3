//! A secret as a directory with one file per key, as Kubernetes mounts a Secret.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::credentials::CredentialError;
use gitrepo_core::credentials::Credentials;
use gitrepo_core::credentials::Secret;
use gitrepo_core::error::Kind;

/// Longest accepted value of a key, in bytes: the limit of a Kubernetes Secret.
const LONGEST: u64 = 1 << 20;

/// Why the secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretDirectoryError {
    /// The directory, or a file in it, cannot be read.
    #[error("cannot read the secret {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A file exceeds the size limit.
    #[error("the secret {} is larger than 1 MiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Everybody on the machine may read a file.
    #[error("others may read it: {} has the mode {mode:o}; set 0400, or defaultMode: 0400 of a mounted Secret", path.display())]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The keys are not a valid credential.
    #[error("the secret in {} cannot be used", path.display())]
    Keys {
        /// The directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: CredentialError,
    },
}

impl SecretDirectoryError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read { .. } | Self::TooLarge { .. } | Self::ReadableByOthers { .. } => Kind::InvalidRequest,
            Self::Keys { source, .. } => source.kind(),
        }
    }
}

/// Who may read the files of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readers {
    /// Whoever the owner allows.
    Any,
    /// Only the owner and a group.
    NotOthers,
}

/// Reads the credentials from the directory; returns none without a directory.
///
/// Skips names that begin with a dot: a mounted Secret has `..data` and `..2026_11_21_…` beside its keys.
///
/// # Errors
///
/// If a file cannot be read or is too large, or if the keys are not a valid credential.
pub fn read(directory: Option<&Path>) -> Result<Credentials, SecretDirectoryError> {
    directory.map_or_else(|| Ok(Credentials::none()), |directory| read_for(directory, Readers::Any))
}

/// Like [`read`], for a secret that is kept on a node. Refuses files that everybody on the machine may read.
///
/// # Errors
///
/// [`SecretDirectoryError::ReadableByOthers`], and those of [`read`].
pub fn read_private(directory: &Path) -> Result<Credentials, SecretDirectoryError> {
    read_for(directory, Readers::NotOthers)
}

fn read_for(directory: &Path, readers: Readers) -> Result<Credentials, SecretDirectoryError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SecretDirectoryError::Read { path, source }
    };
    let mut keys = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let metadata = fs::metadata(&path).map_err(failed(&path))?;
        if name.starts_with('.') || !metadata.is_file() {
            continue;
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if readers == Readers::NotOthers && mode & 0o007 != 0 {
            return Err(SecretDirectoryError::ReadableByOthers { path, mode });
        }
        if metadata.len() > LONGEST {
            return Err(SecretDirectoryError::TooLarge { path });
        }
        let value = fs::read_to_string(&path).map_err(failed(&path))?;
        keys.insert(name, Secret::new(value));
    }
    Credentials::from_secret_keys(keys)
        .map_err(|source| SecretDirectoryError::Keys { path: directory.to_owned(), source })
}
