//! Compaction of repositories that many fetches added to, when nobody waits for it.

use super::LeaseError;
use super::Snapshots;
use crate::credentials::Credentials;
use crate::error::chain;
use crate::gateway::Workspace;
use crate::remote::REPOSITORY;
use crate::reserve::free_bytes;
use crate::snapshot::Owner;
use crate::spec::RepositoryUrl;
use crate::store::Fragmented;
use crate::watch::Watch;

/// Space besides the copy's that must be free: for indexes, and for whoever else writes meanwhile.
const MARGIN: u64 = 64 << 20;

impl Snapshots {
    /// Compacts repositories until the time of `watch` is over. A repository that another call fetches into, or that has
    /// no room for a copy, waits for the next time.
    pub(crate) fn compact(&self, watch: &Watch) -> Result<(), LeaseError> {
        for fragmented in self.store.fragmented()? {
            if watch.cancel.check().is_err() {
                break;
            }
            if !self.has_room_for(&fragmented) {
                continue;
            }
            let Fragmented { url, files, bytes } = &fragmented;
            match self.compact_one(url, watch) {
                Ok(false) => {}
                Ok(true) => tracing::info!(%url, files, bytes, "the repository in the store is compact again"),
                Err(error) => {
                    tracing::warn!(%url, error = %chain(&error), "cannot compact a repository of the store");
                }
            }
        }
        Ok(())
    }

    fn has_room_for(&self, fragmented: &Fragmented) -> bool {
        let policy = self.gateway.policy();
        let limits = policy.limits();
        let needed = fragmented.bytes.saturating_add(policy.config().cache.reserve_bytes).saturating_add(MARGIN);
        fragmented.bytes <= limits.fetch_bytes.max(limits.tree_bytes)
            && free_bytes(self.store.root()).is_ok_and(|free| free >= needed)
    }

    fn compact_one(&self, url: &RepositoryUrl, watch: &Watch) -> Result<bool, LeaseError> {
        let Some(lock) = self.store.repository(url).try_lock()? else { return Ok(false) };
        let Some(base) = lock.base()? else { return Ok(false) };
        let staging = lock.staging()?;
        let workspace = Workspace { staging: staging.path(), base: Some(&base), shows_base: false };
        let mut session = self.gateway.open(url, &Credentials::none(), Some(workspace), watch)?;
        let newest = session.compact()?;
        session.finish()?;
        lock.adopt(&staging.path().join(REPOSITORY), Some(&base), newest.as_ref(), Owner::ourselves())?;
        Ok(true)
    }
}
