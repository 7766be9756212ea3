//! Which writable volumes have grown beyond `limits.writableBytes`.
//!
//! A copy is an ordinary directory, so nothing stops a pod from filling it: it is measured now and then, and reported.
//! The reserve of the store's filesystem protects other volumes meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use super::Volumes;
use crate::snapshot;
use crate::store::Record;
use crate::store::Shows;
use crate::store::StoreError;

/// A target whose copy takes more than a writable volume may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overgrown {
    /// The volume.
    pub volume_id: String,
    /// The target.
    pub target: PathBuf,
    /// Bytes that its copy takes at least.
    pub bytes: u64,
    /// The limit.
    pub limit: u64,
}

impl Volumes {
    /// Measures the copies of writable volumes, for about as long as `budget` and at a pace that leaves the disk to
    /// others. Returns those that are known to be too large. Of a volume that shares its copy, names every target.
    ///
    /// # Errors
    ///
    /// If the records cannot be read. A copy that cannot be read is left out.
    pub fn overgrown(&self, budget: Duration) -> Result<Vec<Overgrown>, StoreError> {
        let deadline = Instant::now() + budget;
        let limit = self.snapshots.gateway().policy().limits().writable_bytes;
        let mut copies: BTreeMap<PathBuf, Vec<Record>> = BTreeMap::new();
        for record in self.store.records()? {
            if record.shows != Shows::Snapshot {
                copies.entry(self.attachment(&record).path().to_owned()).or_default().push(record);
            }
        }
        let mut overgrown = Vec::new();
        for (copy, records) in copies {
            let bytes = match snapshot::measure(&copy, limit, deadline) {
                Ok(measured) => measured.bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => {
                    tracing::warn!(copy = %copy.display(), %error, "cannot measure a writable volume");
                    0
                }
            };
            if bytes > limit {
                let of = |Record { volume_id, target, .. }| Overgrown { volume_id, target, bytes, limit };
                overgrown.extend(records.into_iter().map(of));
            }
        }
        Ok(overgrown)
    }
}
