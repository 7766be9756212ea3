//! Why the driver was not installed, removed, or found healthy.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::policy::ConfigError;
use gitrepo_core::store::StoreError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The configuration to install makes no sense.
    #[error("the driver's configuration cannot be installed")]
    Config(#[from] ConfigError),
    /// Beside the installer is no driver.
    #[error("cannot read the driver to install, {}, which belongs beside gitrepo-flex-install", path.display())]
    NoProgram {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kubelet would not look there.
    #[error(
        "there is no plugin directory {}: the kubelet makes it when it starts, so this node's kubelet has another one \
         (--volume-plugin-dir); name it by --plugin-dir, or have this one made by --create", path.display()
    )]
    NoPluginDirectory {
        /// Which.
        path: PathBuf,
    },
    /// A file, or a link, which may lead anywhere.
    #[error("{} is not a directory; remove it and try again", path.display())]
    NotADirectory {
        /// What is in the way.
        path: PathBuf,
    },
    /// What is installed is not what would be installed now.
    #[error("{} {difference}", path.display())]
    Unhealthy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        difference: &'static str,
    },
    /// Pods of this node have volumes of the driver.
    #[error(
        "{count} volumes of the driver are published on this node, the first at {}; without the driver the kubelet cannot \
         unmount them: end their pods first, or use --force", first.display()
    )]
    InUse {
        /// How many.
        count: usize,
        /// One of them.
        first: PathBuf,
    },
    /// Whether it is in use cannot be told.
    #[error("cannot look for volumes of the driver on this node; use --force if there are none")]
    Stores {
        /// What a store said.
        #[source]
        source: Box<StoreError>,
    },
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl InstallError {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
