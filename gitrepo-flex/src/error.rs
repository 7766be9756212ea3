//! The errors of calls, with hints for the owner of the pod.

use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::UnpublishError;
use gitrepo_flex::configuration::ConfigurationError;
use gitrepo_frontend::node_credentials::NodeCredentialError;

use crate::host_target::HostTargetError;
use crate::options::OptionsError;
use crate::target::TargetError;

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The number of arguments is wrong.
    #[error("{what}")]
    Arguments {
        /// What is expected.
        what: &'static str,
    },
    /// The directory is invalid.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The volume's options are invalid.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The node's configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// The option `hostTarget` selects no store.
    #[error(transparent)]
    HostTarget(#[from] HostTargetError),
    /// The node's credential for the repository cannot be used.
    #[error(transparent)]
    NodeCredential(#[from] NodeCredentialError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mount failed.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The unmount failed.
    #[error(transparent)]
    Unpublish(#[from] UnpublishError),
}

impl CallError {
    /// The kind of this failure.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Arguments { .. } => Kind::InvalidRequest,
            Self::Target(error) => error.kind(),
            Self::Options(error) => error.kind(),
            Self::Configuration(error) => error.kind(),
            Self::HostTarget(error) => error.kind(),
            Self::NodeCredential(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Publish(error) => error.kind(),
            Self::Unpublish(error) => error.kind(),
        }
    }

    /// Returns the text of the pod's event: the error, and a hint for FlexVolume users.
    pub(crate) fn message(&self) -> String {
        let words = chain(self);
        match self.hint() {
            Some(hint) => format!("{words}; {hint}"),
            None => words,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self.kind() {
            Kind::Unauthenticated => {
                Some("the volume's secretRef names the Secret with the keys, whose type must be the driver's name")
            }
            Kind::Timeout => Some("the kubelet tries again (flexTimeout in the node's configuration limits each try)"),
            Kind::Busy | Kind::Unavailable => Some("the kubelet tries again"),
            Kind::Cancelled => Some("a signal ended the driver; the kubelet tries again"),
            _ => None,
        }
    }
}
