//! The project quotas of copies and layers.

use super::Overgrown;
use super::Volumes;
use crate::error::chain;
use crate::quota::NoQuota;
use crate::quota::ProjectUsage;
use crate::store::Record;
use crate::store::Shows;

/// The name of a mark that is made to try it.
const TRIED: &str = "tried";

impl Volumes {
    /// Returns why no quota limits what is written to new volumes, which are then measured; `None` if quotas do. Tries it.
    pub fn without_quota(&self) -> Option<String> {
        let staging = match self.store.staging() {
            Ok(staging) => staging,
            Err(error) => return Some(chain(&error)),
        };
        let mark = staging.path().join(TRIED);
        let tried = self.projects.try_claim_limited(&mark);
        self.projects.release(&mark);
        let removed = tried.and_then(|_| Ok(std::fs::remove_file(&mark)?));
        self.projects.clear_released(self.store.root());
        removed.err().map(|reason: NoQuota| chain(&reason))
    }

    /// Returns what a recorded copy or layer takes of its quota; `None` if it has none.
    pub(super) fn project_usage(&self, record: &Record) -> Option<ProjectUsage> {
        if record.shows == Shows::Snapshot {
            return None;
        }
        self.projects.usage(&self.store.quota_mark(record))
    }

    /// Returns a recorded volume as overgrown if its quota has no room for more.
    pub fn at_quota(&self, record: &Record) -> Option<Overgrown> {
        let ProjectUsage { bytes, limit, .. } = self.project_usage(record).filter(|usage| usage.is_at_limit())?;
        let (volume_id, target) = (record.volume_id.clone(), record.target.clone());
        Some(Overgrown { volume_id, target, bytes, limit, frozen: false, stopped: true })
    }
}
