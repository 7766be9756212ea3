//! Why a call failed: the kind, which alone determines the gRPC code, and the message in the pod's event.

use std::error::Error;

use gitrepo_core::cancel::Interrupted;
use gitrepo_core::credentials::CredentialError;
use gitrepo_core::error::Kind;
use gitrepo_core::error::chain;
use gitrepo_core::gateway::GatewayError;
use gitrepo_core::lease::LeaseError;
use gitrepo_core::spec::SpecError;
use gitrepo_core::store::StoreError;
use gitrepo_core::volume::PublishError;
use gitrepo_core::volume::UnpublishError;
use gitrepo_frontend::node_credentials::NodeCredentialError;

/// Longest message, in bytes. It is sent as a header. Clients accept 8 KiB of headers, and most bytes outside ASCII
/// need three each.
const LONGEST: usize = 2048;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallFailure {
    /// The kind.
    pub kind: Kind,
    /// What was tried, on what, why it failed, and what to do. Contains no secrets.
    pub message: String,
}

impl CallFailure {
    /// Returns a failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| message.is_char_boundary(*end)).unwrap_or_default();
            message.truncate(end);
            message.push('…');
        }
        Self { kind, message }
    }

    /// Returns a failure for a request that is malformed or can never be allowed.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::InvalidRequest, message)
    }

    /// Appends advice for the volume's owner, which core cannot give.
    #[must_use]
    pub fn advising(self, advice: &str) -> Self {
        Self::new(self.kind, format!("{self}; {advice}"))
    }

    /// Returns a failure with all causes of the error.
    fn of(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, chain(error))
    }

    /// Whether the kubelet then forgets a volume that was not published yet, and never calls unpublish
    /// (`operationexecutor`, `IsFinalError`).
    pub fn is_final(&self) -> bool {
        !matches!(self.kind, Kind::Cancelled | Kind::Timeout | Kind::Unavailable | Kind::ResourceExhausted | Kind::Busy)
    }
}

/// Converts errors that have a kind.
macro_rules! from_core {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for CallFailure {
            fn from(error: $error) -> Self {
                Self::of(error.kind(), &error)
            }
        })+
    };
}

from_core!(
    LeaseError,
    PublishError,
    UnpublishError,
    StoreError,
    GatewayError,
    SpecError,
    CredentialError,
    NodeCredentialError,
    Interrupted,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_letters() {
        let failure = CallFailure::invalid(format!("a{}", "ä".repeat(4096)));
        assert!(failure.message.len() <= LONGEST + '…'.len_utf8());
        assert!(failure.message.ends_with("ä…"));
    }

    #[test]
    fn the_message_includes_the_causes() {
        let error = CredentialError::NoCertificate { key: "ca.crt".to_owned() };
        let failure = CallFailure::from(error);
        assert!(failure.message.starts_with("secret key \"ca.crt\" has no certificate"), "{failure}");
    }
}
