//! Errors of installing, removing and checking the driver.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::policy::ConfigError;
use gitrepo_core::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The configuration to install is invalid.
    #[error("the driver's configuration cannot be installed")]
    Config(#[from] ConfigError),
    /// The driver is missing beside the installer.
    #[error("cannot read the driver to install, {}: it belongs beside gitrepo-flex-install", path.display())]
    NoProgram {
        /// The expected path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The plugin directory does not exist.
    #[error(
        "there is no plugin directory {}: the kubelet creates it when it starts, so this node's kubelet has another \
         one (--volume-plugin-dir); name that with --plugin-dir, or create this one with --create", path.display()
    )]
    NoPluginDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The path is a file, or a link, which may point anywhere.
    #[error("{} is not a directory; remove it and try again", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The installed file differs from what `install` would write.
    #[error("{} {difference}", path.display())]
    Unhealthy {
        /// The file.
        path: PathBuf,
        /// How it differs.
        difference: &'static str,
    },
    /// Pods of this node have volumes of the driver.
    #[error(
        "{count} volumes of the driver are published on this node, the first at {}; without the driver the kubelet cannot \
         unmount them: end their pods first, or use --force", first.display()
    )]
    InUse {
        /// The number of volumes.
        count: usize,
        /// The target of one of them.
        first: PathBuf,
    },
    /// A store cannot be read, so the driver may be in use.
    #[error("cannot look for volumes of the driver on this node; use --force if there are none")]
    Stores {
        /// The store's error.
        #[source]
        source: Box<StoreError>,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The attempted action.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

impl InstallError {
    /// Returns a function for `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl Fn(E) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), source: error.into() }
    }
}
