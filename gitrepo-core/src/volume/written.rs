//! Which writable volumes have grown beyond `limits.writableBytes`.
//!
//! Copies and layers are ordinary directories, so nothing stops a pod from filling them: they are measured now and then, and
//! reported. A layer that is too large becomes read-only. The reserve of the store's filesystem protects other volumes
//! meanwhile.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use super::PublishError;
use super::Volumes;
use crate::error::chain;
use crate::snapshot;
use crate::snapshot::Measured;
use crate::store::Record;
use crate::store::Shows;
use crate::store::StoreError;

/// A target whose copy or layer takes more than a writable volume may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overgrown {
    /// The volume.
    pub volume_id: String,
    /// The target.
    pub target: PathBuf,
    /// Bytes that its copy or layer takes at least.
    pub bytes: u64,
    /// The limit.
    pub limit: u64,
    /// Whether it is a layer that is read-only since, until it is unpublished.
    pub frozen: bool,
}

/// What the layer of a writable volume takes: what was written, not the tree below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
    /// The limit of the bytes.
    pub limit: u64,
}

/// How long it may take to measure one layer for its statistics.
const FOR_STATISTICS: Duration = Duration::from_millis(500);

/// What the copies and layers took when they were measured last.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<Sizes>);

#[derive(Debug, Default)]
struct Sizes {
    /// Bytes, by copy.
    bytes: BTreeMap<PathBuf, u64>,
    /// The copy that was measured last.
    last: Option<PathBuf>,
}

/// The least time for one copy. If there are too many for the budget, the next run goes on with the others.
const SHARE: Duration = Duration::from_secs(1);

impl Volumes {
    /// Measures the copies and layers of writable volumes, for about as long as `budget` and at a pace that leaves the disk
    /// to others. Makes layers that are too large read-only; while a file is open for writing that is not possible, and the
    /// next run tries again. Returns what is known to be too large, or was. Of a volume that shares its copy or layer, names
    /// every target.
    ///
    /// Each copy or layer has a share of the time, and what another run did not reach comes first: no volume keeps the others
    /// from being measured. A copy that was not measured wholly this time is as large as it was before.
    ///
    /// # Errors
    ///
    /// If the records cannot be read. A copy that cannot be read is left out.
    pub fn overgrown(&self, budget: Duration) -> Result<Vec<Overgrown>, StoreError> {
        let limit = self.snapshots.gateway().policy().limits().writable_bytes;
        let mut copies: BTreeMap<PathBuf, Vec<Record>> = BTreeMap::new();
        for record in self.store.records()? {
            if record.shows != Shows::Snapshot {
                copies.entry(self.attachment(&record).path().to_owned()).or_default().push(record);
            }
        }
        let mut sizes = self.written.0.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.bytes.retain(|copy, _| copies.contains_key(copy));
        sizes.update(copies.keys(), Instant::now() + budget, |copy, deadline| measure(copy, limit, deadline));
        let mut overgrown = Vec::new();
        for (copy, records) in copies {
            let bytes = sizes.bytes.get(&copy).copied().unwrap_or_default();
            // One that is read-only stays so, also if the limit was raised.
            let is_full = records.iter().any(|record| self.is_full(record));
            if bytes > limit || is_full {
                let frozen = is_full || self.freeze(&records);
                let of = |Record { volume_id, target, .. }| Overgrown { volume_id, target, bytes, limit, frozen };
                overgrown.extend(records.into_iter().map(of));
            }
        }
        Ok(overgrown)
    }

    /// Returns what the layer of a recorded volume takes; `None` if the volume has none.
    pub fn layer_usage(&self, record: &Record) -> Option<LayerUsage> {
        if !record.shows.is_layer() {
            return None;
        }
        let upper = self.layer_of(record).upper();
        let limit = self.snapshots.gateway().policy().limits().writable_bytes;
        let measured = measure(&upper, u64::MAX, Instant::now() + FOR_STATISTICS);
        let known = self.written.0.lock().unwrap_or_else(PoisonError::into_inner).bytes.get(&upper).copied();
        let bytes = if measured.complete { measured.bytes } else { measured.bytes.max(known.unwrap_or_default()) };
        Some(LayerUsage { bytes, inodes: measured.entries + 1, limit })
    }

    /// Makes the layer that these targets show read-only. Returns whether it is.
    fn freeze(&self, targets: &[Record]) -> bool {
        targets.iter().filter(|record| record.shows.is_layer()).any(|record| {
            self.try_freeze(record).unwrap_or_else(|error| {
                let (target, error) = (record.target.display(), chain(&error));
                tracing::warn!(%target, error, "a layer that is too large cannot be made read-only yet");
                false
            })
        })
    }

    fn try_freeze(&self, record: &Record) -> Result<bool, PublishError> {
        // What another call works on waits for the next run.
        let Some(slot) = self.store.try_target(&record.volume_id, &record.target)? else { return Ok(false) };
        let Some(record) = slot.record()?.filter(|record| record.shows.is_layer()) else { return Ok(false) };
        if !self.is_attached(&record)? {
            return Ok(false);
        }
        self.mounter.freeze(&record.target)?;
        // Marked last: until then, a mount that is read-only is what a retry finds in place of a writable one.
        self.layer_of(&record).mark_full()?;
        Ok(true)
    }
}

impl Sizes {
    /// Measures the copies, beginning after the last one of the run before, until `deadline`: at least one.
    fn update<'a>(
        &mut self,
        copies: impl Iterator<Item = &'a PathBuf>,
        deadline: Instant,
        mut measure: impl FnMut(&Path, Instant) -> Measured,
    ) {
        let (before, after): (Vec<_>, Vec<_>) = copies.partition(|copy| Some(*copy) <= self.last.as_ref());
        let mut left = before.len() + after.len();
        for copy in after.into_iter().chain(before) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            left -= 1;
            let measured = measure(copy, now + share.max(SHARE));
            let known = self.bytes.entry(copy.clone()).or_default();
            *known = if measured.complete { measured.bytes } else { measured.bytes.max(*known) };
            self.last = Some(copy.clone());
            if Instant::now() >= deadline {
                break;
            }
        }
    }
}

/// Measures a copy or layer until it is known to exceed `limit`. One that is gone, or cannot be read, takes nothing.
fn measure(copy: &Path, limit: u64, deadline: Instant) -> Measured {
    snapshot::measure(copy, limit, deadline).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(copy = %copy.display(), %error, "cannot measure a writable volume");
        }
        Measured { bytes: 0, entries: 0, complete: true }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_a_share_of_the_time_and_the_next_run_goes_on_after_the_last() {
        let copies = ["a", "b", "c"].map(PathBuf::from);
        let mut sizes = Sizes::default();
        let mut run = |budget: Duration, measured: &dyn Fn(&Path) -> Measured| {
            let mut order = Vec::new();
            sizes.update(copies.iter(), Instant::now() + budget, |copy, deadline| {
                let share = deadline.saturating_duration_since(Instant::now());
                order.push((copy.display().to_string(), share));
                measured(copy)
            });
            (order, sizes.bytes.values().copied().collect::<Vec<_>>())
        };
        let complete = |bytes| move |_: &Path| Measured { bytes, entries: 1, complete: true };

        let (order, bytes) = run(Duration::from_secs(300), &complete(5));
        assert!(order[0].1 <= Duration::from_secs(100) && order[2].1 > Duration::from_secs(200), "{order:?}");
        assert_eq!(bytes, [5, 5, 5]);
        let cut_off = |_: &Path| Measured { bytes: 3, entries: 1, complete: false };
        for expected in ["a", "b", "c", "a"] {
            let (order, bytes) = run(Duration::ZERO, &cut_off);
            assert!(order.len() == 1 && order[0].0 == expected && order[0].1 > SHARE / 2, "{order:?}");
            assert_eq!(bytes, [5, 5, 5], "they were larger when they were measured wholly");
        }
        let (order, bytes) = run(Duration::from_secs(300), &complete(4));
        assert_eq!(order.iter().map(|(copy, _)| copy.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert_eq!(bytes, [4, 4, 4]);
    }
}
