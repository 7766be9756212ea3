//! Makes room on a full disk: removes unused snapshots and repositories.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::PublishError;
use super::Volumes;
use crate::error::Kind;
use crate::error::chain;
use crate::gateway::GatewayError;
use crate::lease::LeaseError;
use crate::lease::SubmoduleError;
use crate::mount::Mounter;
use crate::policy::CacheConfig;
use crate::remote::RemoteError;
use crate::reserve::Freed;
use crate::reserve::MakeRoom;
use crate::reserve::free_bytes;
use crate::snapshot::CopyError;
use crate::snapshot::SnapshotError;
use crate::spec::CommitId;
use crate::spec::RepositoryUrl;
use crate::store::Bounds;
use crate::store::Eviction;
use crate::store::Removal;
use crate::store::Store;
use crate::store::StoreError;
use crate::worker::WorkerError;

/// How long a publish may spend on making room.
const LONGEST: Duration = Duration::from_secs(20);

/// How long a call may take to delete what it has discarded.
const AFTER_A_CALL: Duration = Duration::from_millis(100);

/// Bytes to free for a tree that did not fit. Bounded, so that one large tree does not evict the whole store.
const FOR_A_TREE: u64 = 256 << 20;

/// Bytes that records and directories need at most.
const A_LITTLE: u64 = 1 << 20;

/// Removes unused snapshots and repositories.
pub(super) struct Evictor {
    store: Store,
    mounter: Arc<dyn Mounter>,
}

impl Evictor {
    pub(super) fn new(store: Store, mounter: Arc<dyn Mounter>) -> Self {
        Self { store, mounter }
    }

    fn list_shown(&self) -> Option<Vec<PathBuf>> {
        match self.mounter.list() {
            Ok(mounts) => Some(mounts.iter().flat_map(|mount| self.store.needed_by(mount)).collect()),
            Err(error) => {
                tracing::warn!(error = %chain(&error), "nothing is removed, because the mount table cannot be read");
                None
            }
        }
    }

    fn evict(&self, eviction: Eviction, budget: Duration) -> Result<Freed, StoreError> {
        let freed = self.store.evict(eviction, &|| self.list_shown(), budget)?;
        if !freed.is_nothing() {
            tracing::info!(
                store = %self.store.root().display(), snapshots = freed.snapshots, repositories = freed.repositories,
                bytes = freed.bytes, "made room: removed unused content"
            );
        }
        Ok(freed)
    }
}

impl MakeRoom for Evictor {
    fn make_room(&self, bytes: u64) -> Freed {
        self.evict(Eviction::Until(bytes), LONGEST).unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "cannot make room in the store");
            Freed { incomplete: true, ..Freed::default() }
        })
    }
}

impl Volumes {
    fn evictor(&self) -> Evictor {
        Evictor::new(self.store.clone(), Arc::clone(&self.mounter))
    }

    /// Returns what makes room for writes when the disk is below the reserve.
    pub(super) fn room(&self) -> Arc<dyn MakeRoom> {
        Arc::new(self.evictor())
    }

    /// Removes snapshots and repositories that no volume uses, the longest unused first, for about as long as `budget`.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn evict(&self, eviction: Eviction, budget: Duration) -> Result<Freed, StoreError> {
        self.evictor().evict(eviction, budget)
    }

    /// Estimates what [`Volumes::evict`] would remove.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn evictable(&self, eviction: Eviction) -> Result<Freed, StoreError> {
        let evictor = self.evictor();
        self.store.evictable(eviction, &|| evictor.list_shown())
    }

    /// Removes the snapshots of a repository, or of one commit, except those in use; see [`Store::remove`].
    ///
    /// # Errors
    ///
    /// If the store cannot be read or changed.
    pub fn remove(&self, url: &RepositoryUrl, commit: Option<&CommitId>) -> Result<Removal, StoreError> {
        let evictor = self.evictor();
        self.store.remove(url, commit, &|| evictor.list_shown())
    }

    /// Returns the eviction that frees `cache.reserveBytes`, and keeps to `cache.maxBytes` and `cache.maxAge`.
    pub fn bounds(&self) -> Eviction {
        let CacheConfig { reserve_bytes: free_bytes, max_bytes, max_age, .. } =
            self.snapshots.gateway().policy().config().cache;
        Eviction::Within(Bounds { free_bytes, max_bytes, max_age })
    }

    /// Returns the eviction that keeps to `cache.maxBytes`: for after a fetch, which may have exceeded it. Whether the
    /// disk had room for it was checked before.
    pub fn budget(&self) -> Eviction {
        let max_bytes = self.snapshots.gateway().policy().config().cache.max_bytes;
        Eviction::Within(Bounds { free_bytes: 0, max_bytes, max_age: Duration::MAX })
    }

    /// Deletes what this call has discarded, now that it holds no lock. What takes long is left to a sweep, unless
    /// `is_full`: what a refused tree left behind goes at once.
    pub(super) fn delete_discarded(&self, is_full: bool) {
        let budget = if is_full { LONGEST } else { AFTER_A_CALL };
        if self.store.delete_discarded(budget) {
            tracing::debug!("the next sweep deletes the rest of what was discarded");
        }
        self.projects.clear_released(self.store.root());
    }

    /// After a write failed on a full disk: removes something unused. Returns whether a retry makes sense.
    pub(super) fn made_room_after(&self, error: &PublishError) -> bool {
        let more = match fullness(error) {
            Some(Fullness::OfSmallFiles) => A_LITTLE,
            // The size of a tree is unknown until it is written.
            Some(Fullness::OfTrees) => FOR_A_TREE.max(self.snapshots.gateway().policy().config().cache.reserve_bytes),
            None => return false,
        };
        // What the failed write left is not what has to be removed.
        self.delete_discarded(true);
        let Ok(free) = free_bytes(self.store.root()) else { return false };
        let has_freed = match self.evict(Eviction::Until(free.saturating_add(more)), LONGEST) {
            Ok(freed) => !freed.is_nothing(),
            Err(failure) => {
                tracing::warn!(error = %chain(&failure), "cannot make room in the store");
                false
            }
        };
        has_freed || (more == A_LITTLE && self.store.release_spare())
    }
}

/// The kind of content that did not fit.
enum Fullness {
    OfSmallFiles,
    OfTrees,
}

/// Returns what did not fit, if a write failed on a full disk. An exceeded limit does not count, nor does the reserve:
/// room was already made for it.
fn fullness(error: &PublishError) -> Option<Fullness> {
    let is_full = |kind: Kind| kind == Kind::ResourceExhausted;
    let trees = match error {
        PublishError::Store(error) => return error.is_full().then_some(Fullness::OfSmallFiles),
        PublishError::Lease(error) => return fullness_of_lease(error),
        // Other steps fail in this way if there are too many mounts.
        PublishError::NoImages { source } | PublishError::NoOverlays { source } => {
            return is_full(source.kind()).then_some(Fullness::OfSmallFiles);
        }
        PublishError::Mount(error) => return error.lacks_room().then_some(Fullness::OfSmallFiles),
        PublishError::Copy(error @ CopyError::Io { .. }) => is_full(error.kind()),
        _ => false,
    };
    trees.then_some(Fullness::OfTrees)
}

fn fullness_of_lease(error: &LeaseError) -> Option<Fullness> {
    let is_full = |kind: Kind| kind == Kind::ResourceExhausted;
    let trees = match error {
        LeaseError::Store(error) => return error.is_full().then_some(Fullness::OfSmallFiles),
        LeaseError::Submodule(SubmoduleError::Fetch { source, .. }) => return fullness_of_lease(source),
        LeaseError::Snapshot(SnapshotError::Io { kind, .. }) => is_full(*kind),
        LeaseError::Gateway(GatewayError::Worker(error)) => match error {
            WorkerError::Remote(RemoteError::Local { full, .. }) => *full,
            WorkerError::Snapshot(SnapshotError::Io { kind, .. }) => is_full(*kind),
            _ => false,
        },
        _ => false,
    };
    trees.then_some(Fullness::OfTrees)
}
