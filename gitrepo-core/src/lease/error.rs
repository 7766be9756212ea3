//! Why a lease was not granted.

use crate::cancel::Interrupted;
use crate::error::Kind;
use crate::gateway::GatewayError;
use crate::policy::PolicyError;
use crate::remote::RemoteError;
use crate::snapshot::SnapshotError;
use crate::store::StoreError;
use crate::worker::WorkerError;

/// A failure to lease a snapshot, or to resolve a revision. Nothing has to be undone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The policy forbids the repository.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Resolving or fetching failed.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The tree that the worker wrote was refused.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Cancelled, or out of time.
    #[error("publishing was given up")]
    Interrupted {
        /// Which of the two.
        #[source]
        source: Interrupted,
    },
}

impl LeaseError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Policy(error) => error.kind(),
            Self::Gateway(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Interrupted { source } => source.kind(),
        }
    }

    /// The repository itself is refused: it exceeds a limit, or holds something that an honest one does not. None of it
    /// is worth its space.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Gateway(GatewayError::Worker(WorkerError::Snapshot(error))) = self else { return false };
        matches!(error, SnapshotError::TooLarge { .. } | SnapshotError::UnsafeName { .. })
    }

    /// An error after a complete fetch that says nothing against what was fetched: time was up, the worker came to
    /// grief, or the commit itself is not as this volume wants it. Damage, a full disk and a worker that lies are not
    /// of this kind.
    pub(super) fn leaves_the_pack_good(&self) -> bool {
        let error = match self {
            Self::Interrupted { .. } => return true,
            Self::Gateway(GatewayError::Worker(error)) => error,
            _ => return false,
        };
        match error {
            WorkerError::Remote(RemoteError::Interrupted { .. })
            | WorkerError::Died { .. }
            | WorkerError::Fault { .. } => true,
            WorkerError::Snapshot(error) => !matches!(
                error,
                SnapshotError::Incomplete { .. } | SnapshotError::Untrusted { .. } | SnapshotError::Io { .. }
            ),
            _ => false,
        }
    }

    /// What the store has of the repository is damaged.
    pub(super) fn is_damage(&self) -> bool {
        let Self::Gateway(GatewayError::Worker(error)) = self else { return false };
        matches!(
            error,
            WorkerError::Snapshot(SnapshotError::Incomplete { .. })
                | WorkerError::Remote(RemoteError::Local { full: false, .. })
        )
    }
}
