//! Failures of a lease.

use std::time::Duration;

use crate::cancel::Interrupted;
use crate::error::Kind;
use crate::gateway::GatewayError;
use crate::policy::PolicyError;
use crate::remote::RemoteError;
use crate::signature::SignatureError;
use crate::snapshot::SnapshotError;
use crate::spec::SpecError;
use crate::store::StoreError;

use super::SubmoduleError;
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
    /// What the worker listed was refused, or the snapshot cannot be made of it.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A submodule cannot be brought.
    #[error(transparent)]
    Submodule(#[from] SubmoduleError),
    /// The tree exceeded a limit before, and none was raised since.
    #[error(
        "{refusal} (found {} ago, and not fetched again; raise the limit, or wait for {} hours at most)",
        ago(*age),
        crate::store::REFUSAL_HOLDS.as_secs() / 3600
    )]
    RefusedBefore {
        /// Which limit it exceeded, and against what.
        refusal: String,
        /// How long ago.
        age: Duration,
    },
    /// The volume has options that do not go together.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The operation was cancelled, or its time ran out.
    #[error("publishing was given up")]
    Interrupted {
        /// Which of the two.
        #[source]
        source: Interrupted,
    },
}

impl LeaseError {
    /// Returns the kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Policy(error) => error.kind(),
            Self::Gateway(error) => error.kind(),
            Self::Snapshot(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Submodule(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::RefusedBefore { .. } => Kind::ResourceExhausted,
            Self::Interrupted { source } => source.kind(),
        }
    }

    /// Whether the tree exceeds a limit of the configuration, which it will do again.
    pub(super) fn tree_exceeds_a_limit(&self) -> bool {
        let Self::Gateway(GatewayError::Worker(WorkerError::Snapshot(error))) = self else { return false };
        matches!(error, SnapshotError::TooLarge { .. })
    }

    /// Whether a tree exceeds a limit only together with its submodules, as it will do again.
    pub(super) fn composition_exceeds_a_limit(&self) -> bool {
        matches!(self, Self::Snapshot(SnapshotError::TooLarge { .. }))
    }

    /// Whether what the remote sends exceeds a limit of the configuration. How much that is also depends on what the fetch
    /// builds on.
    pub(super) fn fetch_exceeds_a_limit(&self) -> bool {
        matches!(
            self.of_remote(),
            Some(
                RemoteError::TooLarge { .. } | RemoteError::ContentTooLarge { .. } | RemoteError::TooManyObjects { .. }
            )
        )
    }

    /// Whether the repository itself is refused: it exceeds a limit, or contains something that an honest repository
    /// never does. Then nothing of it is worth keeping. What only an option of the volume adds is not the repository's.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Gateway(GatewayError::Worker(WorkerError::Snapshot(error))) = self else { return false };
        matches!(error, SnapshotError::TooLarge { is_addition: false, .. } | SnapshotError::UnsafeName { .. })
    }

    /// Whether the pack of a complete fetch is still good after this error: the time ran out, the worker died or hit a
    /// bug, or the commit does not suit this volume. After damage, a full disk or a lie of the worker, it is not.
    pub(super) fn leaves_the_pack_good(&self) -> bool {
        let error = match self {
            Self::Interrupted { .. } => return true,
            // Everything but the objects of Git LFS is there, and perhaps some of these.
            Self::Gateway(GatewayError::Objects { source, .. }) => return leaves_what_came_good(source),
            Self::Gateway(GatewayError::Worker(error)) => error,
            _ => return false,
        };
        match error {
            WorkerError::Remote(RemoteError::Interrupted { .. })
            | WorkerError::Signature(_)
            | WorkerError::Died { .. }
            | WorkerError::Fault { .. } => true,
            WorkerError::Snapshot(error) => !matches!(
                error,
                SnapshotError::Incomplete { .. }
                    | SnapshotError::Untrusted { .. }
                    | SnapshotError::Io { .. }
                    | SnapshotError::Malformed { .. }
            ),
            _ => false,
        }
    }

    /// Whether the remote could not be reached, went silent, or has a failure of its own. One that answers in words that
    /// nobody understands, or that it is busy, is not away; nor is one that was not asked.
    pub(super) fn is_remote_away(&self) -> bool {
        match self {
            Self::Gateway(GatewayError::Policy(error)) => matches!(error, PolicyError::Unresolved { .. }),
            _ => matches!(self.of_remote(), Some(RemoteError::Unreachable { .. } | RemoteError::Stalled { .. })),
        }
    }

    /// Whether something answers that is not the git server, or not any more.
    pub(super) fn is_of_a_stranger(&self) -> bool {
        matches!(self.of_remote(), Some(RemoteError::Protocol { .. } | RemoteError::WebPage { .. }))
    }

    /// Whether the remote gives out no commit by its id, so that a fetch has to prove access.
    pub(super) fn is_not_proven(&self) -> bool {
        matches!(self.of_remote(), Some(RemoteError::CommitNotProven { .. }))
    }

    /// Whether the remote refuses one commit by its id, and nothing else.
    pub(super) fn is_about_one_commit(&self) -> bool {
        let error = self.of_remote();
        matches!(error, Some(RemoteError::CommitNotProven { .. } | RemoteError::CommitNotFound { .. }))
    }

    /// Whether the commit lacks the signature that the configuration requires.
    pub fn is_unsigned(&self) -> bool {
        let Self::Gateway(GatewayError::Worker(WorkerError::Signature(error))) = self else { return false };
        matches!(error, SignatureError::Refused { .. })
    }

    /// Whether the repository was given out, but not its objects of Git LFS.
    pub(super) fn is_about_objects(&self) -> bool {
        matches!(self, Self::Gateway(GatewayError::Objects { .. }))
    }

    /// Whether the remote does not have the ref.
    pub(super) fn is_missing_revision(&self) -> bool {
        matches!(self.of_remote(), Some(RemoteError::RevisionNotFound { .. }))
    }

    /// Whether the remote gives out no directory, but whole commits.
    pub(super) fn is_not_narrow(&self) -> bool {
        matches!(self.of_remote(), Some(RemoteError::NotNarrow { .. }))
    }

    /// The error of the remote, if it is one.
    pub(super) fn of_remote(&self) -> Option<&RemoteError> {
        match self {
            Self::Gateway(GatewayError::Worker(WorkerError::Remote(error))) => Some(error),
            _ => None,
        }
    }

    /// Whether a fetch may have failed because of damaged files of the store that it built on. A server that is offered
    /// nonsense answers in words that say nothing of the cause. So only what names another one is told apart: what the
    /// remote says of the credential, the repository or the commit, a server that is away, silent or slow, a limit, a disk
    /// that fails or is full, and the end of the time.
    pub(super) fn may_come_from_the_base(&self) -> bool {
        let names_another_cause = match self {
            Self::Gateway(GatewayError::Worker(error)) => match error {
                // The content says how much memory is needed.
                WorkerError::Died { .. }
                | WorkerError::Remote(RemoteError::OutOfMemory { .. })
                | WorkerError::Snapshot(SnapshotError::OutOfMemory { .. }) => return true,
                WorkerError::Remote(error) => matches!(
                    error,
                    RemoteError::Unreachable { .. }
                        | RemoteError::Stalled { .. }
                        | RemoteError::TooSlow { .. }
                        | RemoteError::Busy { .. }
                        | RemoteError::NotPermitted { .. }
                        | RemoteError::ProxyLogin { .. }
                        | RemoteError::Library { .. }
                ),
                // The hash of what is malformed was checked: the remote has it, too.
                WorkerError::Snapshot(error) => matches!(error, SnapshotError::Malformed { .. }),
                WorkerError::Start { .. } | WorkerError::End { .. } => true,
                _ => false,
            },
            Self::Store(error) => {
                matches!(error, StoreError::Missing { .. } | StoreError::CorruptInUse { .. })
                    || error.is_shortage()
                    || error.is_of_the_filesystem()
            }
            Self::Snapshot(error) => matches!(error, SnapshotError::Malformed { .. }),
            Self::Policy(_)
            | Self::Gateway(_)
            | Self::Submodule(_)
            | Self::Spec(_)
            | Self::RefusedBefore { .. }
            | Self::Interrupted { .. } => true,
        };
        let kinds = [Kind::Unavailable, Kind::BadData, Kind::Corrupt, Kind::Internal, Kind::FailedPrecondition];
        !names_another_cause && kinds.contains(&self.kind())
    }

    /// Whether what read the base says that it is damaged: the verifier, or this process. Otherwise the remote or the
    /// receiver failed, and that may only look like the fault of the base.
    pub(super) fn blames_the_base(&self) -> bool {
        match self {
            Self::Snapshot(_) | Self::Store(_) | Self::Gateway(GatewayError::Worker(WorkerError::Snapshot(_))) => true,
            error => matches!(error.of_remote(), Some(RemoteError::Local { .. } | RemoteError::BadData { .. })),
        }
    }
}

/// Whether a remote, the policy, the time or the death of a worker is to blame, and neither a lie of one nor the disk.
fn leaves_what_came_good(error: &GatewayError) -> bool {
    match error {
        GatewayError::Worker(WorkerError::Remote(error)) => {
            !matches!(error, RemoteError::Local { .. } | RemoteError::HandOver { .. } | RemoteError::Library { .. })
        }
        // What is adopted was checked by the verifier.
        GatewayError::Worker(WorkerError::Died { .. } | WorkerError::Fault { .. }) => true,
        GatewayError::Worker(_) => false,
        _ => true,
    }
}

/// Describes a time in its largest unit.
fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..60 => format!("{seconds} seconds"),
        seconds @ 60..3600 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use super::*;
    use crate::error::Cause;
    use crate::spec::CommitId;

    fn remote(error: RemoteError) -> LeaseError {
        LeaseError::Gateway(GatewayError::Worker(WorkerError::Remote(error)))
    }

    fn verifier(error: SnapshotError) -> LeaseError {
        LeaseError::Gateway(GatewayError::Worker(WorkerError::Snapshot(error)))
    }

    fn store(errno: i32) -> LeaseError {
        StoreError::io("read", Path::new("/store/file"))(io::Error::from_raw_os_error(errno)).into()
    }

    #[test]
    fn what_an_option_adds_says_nothing_against_the_repository() {
        let commit = CommitId::parse(&"1".repeat(40)).unwrap();
        let tree = verifier(SnapshotError::too_large(commit, "bytes", 1, "limits.treeBytes"));
        let addition = verifier(SnapshotError::addition_too_large(commit, "bytes", 1, "limits.treeBytes"));
        assert_eq!([&tree, &addition].map(LeaseError::is_refusal), [true, false]);
        // Both are remembered.
        assert_eq!([&tree, &addition].map(LeaseError::tree_exceeds_a_limit), [true, true]);
        assert!(addition.leaves_the_pack_good());
    }

    #[test]
    fn r4_only_what_may_be_the_fault_of_the_base_costs_a_fetch_without_it() {
        let (url, source) = (|| "https://git.example.com/a".to_owned(), || Cause::new("a test"));
        let commit = CommitId::parse(&"1".repeat(40)).unwrap();
        let step = || "starting the program".to_owned();
        for (error, heals, blames) in [
            (remote(RemoteError::Unreachable { url: url(), source: source() }), false, false),
            (remote(RemoteError::Stalled { url: url(), seconds: 1, phase: String::new() }), false, false),
            (remote(RemoteError::Protocol { url: url(), source: source() }), true, false),
            (remote(RemoteError::BadData { url: url(), source: source() }), true, true),
            (remote(RemoteError::Local { path: "/base".into(), full: false, source: source() }), true, true),
            (remote(RemoteError::Local { path: "/base".into(), full: true, source: source() }), false, true),
            (verifier(SnapshotError::Incomplete { commit, source: source() }), true, true),
            (verifier(SnapshotError::Malformed { commit, source: source() }), false, true),
            (LeaseError::Snapshot(SnapshotError::Malformed { commit, source: source() }), false, true),
            (
                LeaseError::Gateway(GatewayError::Worker(WorkerError::Start {
                    step: step(),
                    source: io::Error::from_raw_os_error(libc::EAGAIN),
                })),
                false,
                false,
            ),
            (store(libc::EIO), false, true),
            (store(libc::EMFILE), false, true),
            (store(libc::EISDIR), true, true),
        ] {
            assert_eq!((error.may_come_from_the_base(), error.blames_the_base()), (heals, blames), "{error:?}");
        }
    }
}
