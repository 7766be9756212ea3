//! Where the content of a fetch goes: into the store's repository of its URL, or beside it.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::LeaseError;
use super::Snapshots;
use super::Wanted;
use crate::remote::REPOSITORY;
use crate::snapshot::Owner;
use crate::spec::CommitId;
use crate::store::FetchTurn;
use crate::store::Repository;
use crate::store::RepositoryLock;
use crate::store::Staging;
use crate::store::StoreError;
use crate::store::Turn;
use crate::watch::Watch;

/// How long a call waits for a fetch of another call that does not advance: that may be for another tenant, whose
/// remote trickles.
const STANDSTILL: Duration = Duration::from_secs(10);

/// The same if the store has something to build on: then a fetch takes longer without it. A sweep compacts for about as
/// long.
const STANDSTILL_OF_A_BASE: Duration = Duration::from_secs(30);

/// How long a call waits for the fetches of other calls altogether.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// How often it looks whether they advance.
const LOOK: Duration = Duration::from_secs(1);

/// The name of a repository beside the store's, in a staging directory.
const ASIDE: &str = "aside";

/// Where the content of a fetch goes.
pub(super) enum Destination {
    /// Into the store's repository, for later fetches to build on.
    Store {
        lock: RepositoryLock,
        /// What this fetch builds on.
        base: Option<PathBuf>,
    },
    /// Into a repository of its own, since another call has locked the store's for long. It goes once the snapshot has
    /// what it needs.
    Aside,
}

/// What a call fetches into, and its turn to do so.
pub(super) struct Place {
    /// `None` before it is known which commit is fetched.
    pub(super) turn: Option<FetchTurn>,
    /// `None` for a place aside.
    pub(super) lock: Option<RepositoryLock>,
}

impl Destination {
    /// Prepares the store's repository for a fetch, and a staging directory.
    pub(super) fn in_store(lock: RepositoryLock) -> Result<(Self, Staging), StoreError> {
        lock.salvage()?;
        let staging = lock.staging()?;
        let base = lock.base()?;
        Ok((Self::Store { lock, base }, staging))
    }

    /// Prepares a staging directory for a fetch that builds on nothing, and goes into the store's repository.
    pub(super) fn anew(lock: RepositoryLock) -> Result<(Self, Staging), StoreError> {
        let staging = lock.staging()?;
        Ok((Self::Store { lock, base: None }, staging))
    }

    pub(super) fn lock(&self) -> Option<&RepositoryLock> {
        match self {
            Self::Store { lock, .. } => Some(lock),
            Self::Aside => None,
        }
    }

    pub(super) fn base(&self) -> Option<&Path> {
        match self {
            Self::Store { base, .. } => base.as_deref(),
            Self::Aside => None,
        }
    }

    /// Whether the commit can be laid out from what the fetch builds on.
    pub(super) fn has(&self, commit: &CommitId) -> bool {
        match self {
            Self::Store { lock, base } => base.is_some() && lock.repository().contains(commit),
            Self::Aside => false,
        }
    }

    /// Moves the result of a fetch from its staging directory to its destination, and returns the repository that has
    /// it. `commit` is what was fetched whole; `None` after a narrow fetch.
    pub(super) fn adopt(&self, staging: &Staging, commit: Option<&CommitId>) -> Result<PathBuf, StoreError> {
        let (fetched, owner) = (staging.path().join(REPOSITORY), Owner::ourselves());
        match self {
            // The base had everything.
            Self::Store { lock, base: Some(_) } if !fetched.join("objects").exists() => {
                Ok(lock.repository().path().to_owned())
            }
            Self::Store { lock, base } => {
                lock.adopt(&fetched, base.as_deref(), commit, owner)?;
                Ok(lock.repository().path().to_owned())
            }
            Self::Aside => {
                let aside = staging.path().join(ASIDE);
                Repository::adopt_aside(&fetched, &aside, commit, owner)?;
                Ok(aside)
            }
        }
    }
}

impl Snapshots {
    /// Waits for a place to fetch into. Returns `None` once `is_done` finds what another call has fetched.
    ///
    /// A call waits for as long as another one of its tenant fetches the same: the commit, or the same directory of it. It
    /// waits for any other one only while that advances, and not for ever.
    pub(super) fn place_to_fetch(
        &self,
        wanted: Wanted<'_>,
        commit: CommitId,
        is_done: &dyn Fn() -> Result<Option<()>, StoreError>,
        watch: &Watch,
    ) -> Result<Option<Place>, LeaseError> {
        let repository = self.store.repository(&wanted.spec.repository);
        let (tenant, narrow) = (watch.account(), wanted.narrow());
        let heartbeat = repository.heartbeat();
        let begun = Instant::now();
        let (mut beat, mut advanced) = (heartbeat.last(), begun);
        loop {
            match repository.lock_unless(&watch.cancel.within(LOOK), is_done) {
                Ok(Turn::Ours(lock)) => match repository.try_turn(tenant, &commit, narrow)? {
                    Some(turn) => return Ok(Some(Place { turn: Some(turn), lock: Some(lock) })),
                    // Another call of this tenant is fetching the same commit aside.
                    None => break,
                },
                Ok(Turn::Done(_)) => return Ok(None),
                Err(StoreError::Locked { .. }) if watch.cancel.check().is_ok() => {}
                Err(error) => return Err(error.into()),
            }
            let last = heartbeat.last();
            if last != beat {
                (beat, advanced) = (last, Instant::now());
            }
            let patience = if repository.exists() { STANDSTILL_OF_A_BASE } else { STANDSTILL };
            if advanced.elapsed() >= patience || begun.elapsed() >= LONGEST_WAIT {
                break;
            }
        }
        match repository.turn_unless((tenant, &commit, narrow), &watch.cancel, is_done)? {
            Turn::Ours(turn) => Ok(Some(Place { turn: Some(turn), lock: repository.try_lock()? })),
            Turn::Done(_) => Ok(None),
        }
    }
}
