//! What proves that a credential may read a commit, and what makes its proofs void.

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::error::Kind;
use crate::error::chain;
use crate::policy::Offline;
use crate::remote::RemoteError;
use crate::remote::Resolved;
use crate::store::Evidence;
use crate::store::StoreError;

/// What proved that the credential may read the commit of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The record of the target, since the same credential published it before. Void once that record is deleted.
    Record,
    /// The remote told that a ref stands at the commit.
    Ref,
    /// The remote gave out the commit by its id.
    Commit,
    /// One of the two once did. The remote is away, and `offline: stale` lets an expired proof count.
    Offline,
}

impl Proof {
    /// Returns the proof's name for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Ref => "ref",
            Self::Commit => "commit",
            Self::Offline => "offline",
        }
    }
}

impl From<Evidence> for Proof {
    fn from(evidence: Evidence) -> Self {
        match evidence {
            Evidence::Ref => Self::Ref,
            Evidence::Commit => Self::Commit,
        }
    }
}

/// A commit, and the proof that the credential may read it.
#[derive(Debug, Clone)]
pub(super) struct Proven {
    pub(super) resolved: Resolved,
    pub(super) proof: Proof,
    /// Whether the remote gave out the commit to this credential. Otherwise it only told that a ref stands there: it may
    /// fetch the commit, but gets nothing from the store.
    pub(super) content: bool,
}

impl Proven {
    /// What the record of a proof says that this one is by.
    pub(super) fn evidence(&self) -> Evidence {
        match self.resolved.reference {
            Some(_) => Evidence::Ref,
            None => Evidence::Commit,
        }
    }
}

impl Snapshots {
    /// Deletes what the remote's refusal makes void. If the remote just does not have one commit or ref, the proofs of
    /// other commits stay.
    pub(super) fn void(&self, wanted: Wanted<'_>, refusal: &LeaseError) {
        let (access, credential) = (self.store.access(), wanted.credential);
        let is_stale_served = self.gateway.policy().config().offline == Offline::Stale;
        let voided = match refusal.of_remote() {
            Some(
                RemoteError::CommitNotFound { commit, .. }
                | RemoteError::CommitUnreachable { commit, .. }
                | RemoteError::CommitNotProven { commit, .. },
            ) => access.forget_commit(credential, commit),
            Some(RemoteError::RevisionNotFound { .. } | RemoteError::NoDefaultBranch { .. }) => {
                access.forget_answer(credential, wanted.revision)
            }
            Some(error) if is_refusal(error.kind()) || error.kind() == Kind::NotFound => access.forget(credential),
            // An old proof counts while the remote is away, and it may be away next.
            Some(_) if is_stale_served && refusal.is_of_a_stranger() => access.forget(credential),
            // The remote has refused nothing.
            None if refusal.is_unsigned() || refusal.is_about_objects() => return,
            None if is_refusal(refusal.kind()) => access.forget(credential),
            _ => return,
        };
        if let Err(failure) = voided {
            // The caller must hear the remote's refusal.
            tracing::error!(error = %chain(&failure), "cannot delete a void proof of access");
        }
    }
}

fn is_refusal(kind: Kind) -> bool {
    matches!(kind, Kind::Unauthenticated | Kind::PermissionDenied)
}

/// Goes on without the record of a proof if the disk is full: the next call asks the remote again.
pub(super) fn unless_full(recorded: Result<(), StoreError>) -> Result<(), StoreError> {
    match recorded {
        Err(error) if error.is_full() => {
            tracing::warn!(error = %chain(&error), "cannot record the remote's answer: the disk is full");
            Ok(())
        }
        result => result,
    }
}
