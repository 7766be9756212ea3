//! The errors of commands, with hints for the user.

use std::io;
use std::path::PathBuf;

use gitrepo_core::clone::CloneError;
use gitrepo_core::error::Kind;
use gitrepo_core::gateway::GatewayError;
use gitrepo_core::lease::LeaseError;
use gitrepo_core::policy::ConfigError;
use gitrepo_core::policy::EnvironmentError;
use gitrepo_core::remote::RemoteError;
use gitrepo_core::spec::SpecError;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::UnpublishError;
use gitrepo_core::worker::WorkerError;
use gitrepo_frontend::secret_directory::SecretDirectoryError;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// An invalid argument or combination of arguments.
    #[error("{what}")]
    Usage {
        /// What is wrong, and how to correct it.
        what: String,
    },
    /// An invalid value for a key of the volume.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A proxy of the environment cannot be used.
    #[error(transparent)]
    Proxy(#[from] EnvironmentError),
    /// The secret of `--secret-dir` cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretDirectoryError),
    /// The path of a directory cannot be resolved.
    #[error("cannot use {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The command needs root.
    #[error("{command} needs root, to mount and to write to the store")]
    NeedsRoot {
        /// The command's name.
        command: &'static str,
    },
    /// The directory to unmount is not a volume of the store.
    #[error("{} is not a volume of the store {}", target.display(), store.display())]
    NotAVolume {
        /// The directory.
        target: PathBuf,
        /// The store that was searched.
        store: PathBuf,
    },
    /// The store of `ls`, `unmount` or `sweep` does not exist.
    #[error("there is no store at {}, so there are no volumes", store.display())]
    NoStore {
        /// The store's path.
        store: PathBuf,
    },
    /// The store has nothing of what `cache rm` names.
    #[error("the store {} has nothing of {what}", store.display())]
    NotCached {
        /// The repository, and perhaps the commit.
        what: String,
        /// The store.
        store: PathBuf,
    },
    /// The clone failed.
    #[error(transparent)]
    Clone(#[from] CloneError),
    /// The remote could not be asked.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The mount failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The unmount failed.
    #[error(transparent)]
    Unpublish(#[from] UnpublishError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The result cannot be printed.
    #[error("cannot print the result")]
    Output(#[source] io::Error),
}

impl CommandError {
    /// Returns the kind of this failure.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Usage { .. } => Kind::InvalidRequest,
            Self::Spec(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Proxy(_) => Kind::InvalidRequest,
            Self::Secret(error) => error.kind(),
            Self::Directory { .. } => Kind::FailedPrecondition,
            Self::NeedsRoot { .. } => Kind::PermissionDenied,
            Self::NotAVolume { .. } | Self::NoStore { .. } | Self::NotCached { .. } => Kind::NotFound,
            Self::Clone(error) => error.kind(),
            Self::Gateway(error) => error.kind(),
            Self::Publish(error) => error.kind(),
            Self::Unpublish(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Output(_) => Kind::Internal,
        }
    }

    /// Returns what to do next, if the message does not say so.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NeedsRoot { .. } => Some("run the command with sudo; `gitrepo-cli clone` needs no root"),
            Self::NotAVolume { .. } => Some("`gitrepo-cli ls` lists the volumes; --store names another store"),
            Self::NotCached { .. } => Some("`gitrepo-cli cache ls` lists the repositories and commits"),
            Self::NoStore { .. } => Some("`gitrepo-cli mount` creates the store; --store names another one"),
            Self::Store(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("only the store's owner, usually root, can use the store: run the command with sudo")
            }
            Self::Store(_)
            | Self::Publish(
                PublishError::Store(_)
                | PublishError::Lease(
                    LeaseError::Store(_)
                    | LeaseError::Gateway(GatewayError::Worker(WorkerError::Remote(RemoteError::Local { .. }))),
                ),
            )
            | Self::Unpublish(UnpublishError::Store(_))
                if self.kind() == Kind::Unavailable =>
            {
                Some("the store's filesystem is missing, fails or is read-only: the kernel's log (dmesg) may say why")
            }
            _ => match self.kind() {
                Kind::NotFound => {
                    Some("check the URL, the revision and the subdirectory, and what the credential may read")
                }
                Kind::Unauthenticated => {
                    Some("put the keys into files in a directory, and name it with --secret-dir (docs/volumes.md)")
                }
                Kind::Unavailable => Some("check the URL, the network and the proxy; --verbose shows each step"),
                Kind::Timeout => Some("try again, or allow more time with --timeout"),
                Kind::Busy => Some("another operation is in flight: try again when it has ended"),
                Kind::ResourceExhausted => Some("free some space, or raise the limit in the configuration file"),
                Kind::BadData => {
                    Some("run `git fsck --strict` on the server's repository, and push it anew if it is damaged")
                }
                Kind::Internal | Kind::Corrupt => Some("run the command again with -vv and report its output"),
                _ => None,
            },
        }
    }
}
