//! Which writable volumes have grown beyond `limits.writableBytes`.
//!
//! Where a project quota limits them, the kernel refuses what would exceed it, and says at any time what is there.
//! Elsewhere nothing stops a pod from filling a copy or layer, which is an ordinary directory: they are measured now and
//! then, and reported. A layer that is too large becomes read-only. The reserve of the store's filesystem protects other
//! volumes meanwhile. Those with a quota are measured too, since the owner of a file may take it out of its project.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use super::PublishError;
use super::Volumes;
use crate::cancel::Cancel;
use crate::error::chain;
use crate::quota::ProjectUsage;
use crate::snapshot;
use crate::snapshot::Measured;
use crate::store::Record;
use crate::store::Shows;
use crate::store::StoreError;

/// A target whose copy or layer takes more than a writable volume may have, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overgrown {
    /// The volume.
    pub volume_id: String,
    /// The target.
    pub target: PathBuf,
    /// Bytes that its copy or layer takes at least. Of one that is [`frozen`](Self::frozen), no more than the limit if it was
    /// not measured since this program began, became smaller, or the limit was raised.
    pub bytes: u64,
    /// The limit.
    pub limit: u64,
    /// Whether it is a layer that is read-only since, until it is unpublished.
    pub frozen: bool,
    /// Whether a project quota has no room for more: writes fail until some of it is deleted.
    pub stopped: bool,
}

/// What the layer of a writable volume takes: what was written, not the tree below it. Also what a copy takes, if it has a
/// quota.
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
    /// By the path of the copy or layer.
    known: BTreeMap<PathBuf, Known>,
    /// The copy that was measured last.
    last: Option<PathBuf>,
    /// The one that had [`LONG`] last.
    last_long: Option<PathBuf>,
}

/// What one copy or layer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// Which directory was measured. Its successor at the same path is another.
    identity: Identity,
    bytes: u64,
    entries: u64,
    /// Whether the last time that it had was too short.
    late: bool,
}

/// Device and inode of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity(u64, u64);

/// An open copy or layer: no other has its identity meanwhile.
struct Opened(File);

impl Opened {
    fn new(path: &Path) -> io::Result<Self> {
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
            .map(Self)
    }

    fn identity(&self) -> io::Result<Identity> {
        self.0.metadata().map(|found| Identity(found.dev(), found.ino()))
    }

    /// Whether this directory is at a path.
    fn is_at(&self, path: &Path) -> bool {
        let there = Self::new(path).and_then(|there| there.identity());
        there.is_ok_and(|there| self.identity().is_ok_and(|this| this == there))
    }
}

/// The least time for one copy. If there are too many for the budget, the next run goes on with the others.
const SHARE: Duration = Duration::from_secs(1);

/// The time for one copy of those that their share is too short for. Each run grants it to another one: a layer that no
/// walk gets through would never be found to be too large, and what several walks add up may never have been there at once.
const LONG: Duration = Duration::from_secs(60);

impl Volumes {
    /// Measures the copies and layers of writable volumes, for about as long as `budget` and at a pace that leaves the disk
    /// to others. Makes layers that are too large read-only; while a file is open for writing that is not possible, and the
    /// next run tries again. Returns what is known to be too large, or was. Of a volume that shares its copy or layer, names
    /// every target.
    ///
    /// Each copy or layer has a share of the budget, and what another run did not reach comes first: no volume keeps the
    /// others from being measured. After that, one whose share was too short has a minute, another one in each run; this
    /// minute comes on top of the budget. A copy that was not measured wholly this time is as large as it was before; but a
    /// layer becomes read-only only for what this run has measured.
    ///
    /// Sets limits of quotas that are not as configured.
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
        let mut large = BTreeMap::new();
        self.written.update(copies.keys(), Instant::now() + budget, |copy, deadline| {
            let (opened, measured) = measure(copy, limit, deadline)?;
            let identity = opened.identity().ok()?;
            if measured.bytes > limit {
                large.insert(copy.to_owned(), opened);
            }
            Some((identity, measured))
        });
        let mut overgrown = Vec::new();
        for (copy, records) in copies {
            let bytes = self.written.now_at(&copy).map_or(0, |known| known.bytes);
            // One that is read-only stays so, also if the limit was raised.
            let is_full = || records.iter().any(|record| self.is_full(record));
            let is_large = bytes > limit || is_full();
            let at_quota = records.first().and_then(|record| {
                self.projects.renew(&self.store.quota_mark(record));
                self.at_quota(record)
            });
            if is_large || at_quota.is_some() {
                let frozen = is_large && (self.freeze(&records, large.get(&copy)) || is_full());
                let stopped = at_quota.is_some();
                let bytes = at_quota.map_or(bytes, |at_quota| at_quota.bytes.max(bytes));
                let of =
                    |Record { volume_id, target, .. }| Overgrown { volume_id, target, bytes, limit, frozen, stopped };
                overgrown.extend(records.into_iter().map(of));
            }
        }
        Ok(overgrown)
    }

    /// Returns what the layer or copy of a recorded volume takes if it has a quota, and otherwise what its layer took when it
    /// was measured last; `None` if the volume has neither.
    pub fn layer_usage(&self, record: &Record) -> Option<LayerUsage> {
        if let Some(ProjectUsage { bytes, inodes, limit }) = self.project_usage(record) {
            return Some(LayerUsage { bytes, inodes, limit });
        }
        if !record.shows.is_layer() {
            return None;
        }
        let upper = self.layer_of(record).upper();
        let limit = self.snapshots.gateway().policy().limits().writable_bytes;
        let known = self.written.now_at(&upper).or_else(|| {
            let (opened, measured) = measure(&upper, u64::MAX, Instant::now() + FOR_STATISTICS)?;
            Some(self.written.keep(&upper, opened.identity().ok()?, measured))
        });
        let (bytes, entries) = known.map_or((0, 0), |known| (known.bytes, known.entries));
        Some(LayerUsage { bytes, inodes: entries + 1, limit })
    }

    /// Makes the layer that these targets show read-only, if it is full or was found to be `large`. Returns whether it is.
    fn freeze(&self, targets: &[Record], large: Option<&Opened>) -> bool {
        targets.iter().filter(|record| record.shows.is_layer()).any(|record| {
            self.try_freeze(record, large).unwrap_or_else(|error| {
                let (target, error) = (record.target.display(), chain(&error));
                tracing::warn!(%target, error, "a layer that is too large cannot be made read-only yet");
                false
            })
        })
    }

    fn try_freeze(&self, record: &Record, large: Option<&Opened>) -> Result<bool, PublishError> {
        // What another call works on waits for the next run.
        let Some(slot) = self.store.try_target(&record.volume_id, &record.target)? else { return Ok(false) };
        let Some(record) = slot.record()?.filter(|record| record.shows.is_layer()) else { return Ok(false) };
        let _volume = self.lock_if_shared(&record, &Cancel::new().within(Duration::ZERO))?;
        let layer = self.layer_of(&record);
        // What was measured may have been unpublished since, and another layer made.
        if !layer.is_full() && !large.is_some_and(|large| large.is_at(&layer.upper())) {
            return Ok(false);
        }
        let is_frozen = self.is_attached_as(&record, true)?;
        if !is_frozen && !self.is_attached_as(&record, false)? {
            return Ok(false);
        }
        // Marked first: whoever finds a mount that is read-only knows why.
        layer.mark_full(true)?;
        if !is_frozen && let Err(error) = self.mounter.freeze(&record.target) {
            layer.mark_full(false)?;
            return Err(error.into());
        }
        Ok(true)
    }
}

impl Written {
    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is known about the directory that is at a path now.
    fn now_at(&self, copy: &Path) -> Option<Known> {
        let identity = Opened::new(copy).and_then(|opened| opened.identity()).ok()?;
        self.of(copy).filter(|known| known.identity == identity)
    }

    /// Returns what is known about the directory that was measured at a path.
    fn of(&self, copy: &Path) -> Option<Known> {
        self.sizes().known.get(copy).copied()
    }

    /// Measures the copies, beginning after the last one of the run before, until `deadline`: at least one. Then measures one
    /// for [`LONG`], if its share was too short. What is not among them is forgotten. Nobody waits meanwhile.
    fn update<'a>(
        &self,
        copies: impl Iterator<Item = &'a PathBuf> + Clone,
        deadline: Instant,
        mut measure: impl FnMut(&Path, Instant) -> Option<(Identity, Measured)>,
    ) {
        let all: BTreeSet<_> = copies.clone().collect();
        let last = {
            let mut sizes = self.sizes();
            sizes.known.retain(|copy, _| all.contains(copy));
            sizes.last.clone()
        };
        let (before, after): (Vec<_>, Vec<_>) = copies.partition(|copy| Some(*copy) <= last.as_ref());
        let mut left = before.len() + after.len();
        for copy in after.into_iter().chain(before) {
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            left -= 1;
            self.note(copy, measure(copy, now + share.max(SHARE)));
            self.sizes().last = Some(copy.clone());
            if Instant::now() >= deadline {
                break;
            }
        }
        if let Some(copy) = self.next_for_long() {
            self.note(&copy, measure(&copy, Instant::now() + LONG));
        }
    }

    /// Takes the next of the copies whose share was too short, in a circle.
    fn next_for_long(&self) -> Option<PathBuf> {
        let mut sizes = self.sizes();
        let late = || sizes.known.iter().filter(|(_, known)| known.late).map(|(copy, _)| copy);
        let next = late().find(|copy| Some(*copy) > sizes.last_long.as_ref()).or_else(|| late().next()).cloned()?;
        sizes.last_long = Some(next.clone());
        Some(next)
    }

    /// Remembers what a copy takes, or forgets it if that is not known.
    fn note(&self, copy: &Path, measured: Option<(Identity, Measured)>) {
        match measured {
            Some((identity, measured)) => drop(self.keep(copy, identity, measured)),
            None => drop(self.sizes().known.remove(copy)),
        }
    }

    /// Remembers what a copy takes. One that was not measured wholly is as large as it was before.
    fn keep(&self, copy: &Path, identity: Identity, measured: Measured) -> Known {
        let mut sizes = self.sizes();
        let before = sizes.known.get(copy).filter(|known| known.identity == identity && !measured.complete);
        let (bytes, entries) = before.map_or((0, 0), |known| (known.bytes, known.entries));
        let (bytes, entries) = (measured.bytes.max(bytes), measured.entries.max(entries));
        let known = Known { identity, bytes, entries, late: measured.late };
        sizes.known.insert(copy.to_owned(), known);
        known
    }
}

/// Opens and measures a copy or layer until it is known to exceed `limit`; `None` if it is gone, or cannot be read.
fn measure(copy: &Path, limit: u64, deadline: Instant) -> Option<(Opened, Measured)> {
    let opened = Opened::new(copy);
    let measured = opened.and_then(|opened| Ok((opened, snapshot::measure(copy, limit, deadline)?)));
    let failed = |error: &io::Error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(copy = %copy.display(), %error, "cannot measure a writable volume");
        }
    };
    measured.inspect_err(failed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_copy_has_a_share_of_the_time_and_the_next_run_goes_on_after_the_last() {
        let copies = ["a", "b", "c"].map(PathBuf::from);
        let written = Written::default();
        let run = |budget: Duration, measured: &dyn Fn(&Path) -> Measured| {
            let mut order = Vec::new();
            written.update(copies.iter(), Instant::now() + budget, |copy, deadline| {
                let share = deadline.saturating_duration_since(Instant::now());
                order.push((copy.display().to_string(), share));
                Some((Identity(1, 1), measured(copy)))
            });
            (order, written.sizes().known.values().map(|known| known.bytes).collect::<Vec<_>>())
        };
        let complete = |bytes| move |_: &Path| Measured { bytes, entries: 1, complete: true, late: false };

        let (order, bytes) = run(Duration::from_secs(300), &complete(5));
        assert!(order[0].1 <= Duration::from_secs(100) && order[2].1 > Duration::from_secs(200), "{order:?}");
        assert_eq!(bytes, [5, 5, 5]);
        let cut_off = |_: &Path| Measured { bytes: 3, entries: 1, ..Measured::default() };
        for expected in ["a", "b", "c", "a"] {
            let (order, bytes) = run(Duration::ZERO, &cut_off);
            assert!(order.len() == 1 && order[0].0 == expected && order[0].1 > SHARE / 2, "{order:?}");
            assert_eq!(bytes, [5, 5, 5], "they were larger when they were measured wholly");
        }
        let (order, bytes) = run(Duration::from_secs(300), &complete(4));
        assert_eq!(order.iter().map(|(copy, _)| copy.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert_eq!(bytes, [4, 4, 4]);
    }

    #[test]
    fn what_no_share_is_long_enough_for_is_measured_for_long_in_its_turn() {
        let copies = ["a", "b", "c", "d"].map(PathBuf::from);
        let written = Written::default();
        // Of all but "a", a share shows a part.
        let run = |budget: Duration| {
            let mut long = Vec::new();
            written.update(copies.iter(), Instant::now() + budget, |copy, deadline| {
                let is_long = deadline.saturating_duration_since(Instant::now()) > LONG / 2;
                if is_long {
                    long.push(copy.display().to_string());
                }
                let complete = is_long || copy == Path::new("a");
                let measured = Measured { bytes: if complete { 5 } else { 3 }, entries: 1, complete, late: !complete };
                Some((Identity(1, 1), measured))
            });
            long
        };
        // However few of them a run reaches, none keeps the others from their turn.
        let turns: Vec<_> = (0..8).flat_map(|_| run(Duration::ZERO)).collect();
        assert_eq!(turns, ["b", "c", "d", "b", "c", "d"]);
        assert_eq!(run(Duration::from_secs(1)), ["b"], "and one in a run");
        for copy in &copies {
            assert_eq!(written.of(copy).map(|known| known.bytes), Some(5), "{}", copy.display());
        }
    }

    #[test]
    fn what_another_directory_took_says_nothing_and_what_is_gone_is_forgotten() {
        let written = Written::default();
        let copies = ["a", "b"].map(PathBuf::from);
        let soon = || Instant::now() + Duration::from_secs(300);
        let cut_off = |inode, bytes| Some((Identity(1, inode), Measured { bytes, entries: 1, ..Measured::default() }));
        let bytes = || ["a", "b"].map(|copy| written.of(Path::new(copy)).map(|known| known.bytes));
        written.update(copies.iter(), soon(), |_, _| cut_off(1, 5));
        written.update(copies.iter(), soon(), |copy, _| cut_off(if copy == Path::new("a") { 1 } else { 2 }, 3));
        assert_eq!(bytes(), [Some(5), Some(3)]);
        written.update(copies.iter(), soon(), |copy, _| cut_off(1, 3).filter(|_| copy == Path::new("b")));
        assert_eq!(bytes(), [None, Some(3)]);
        written.update(copies[..1].iter(), soon(), |_, _| {
            assert_eq!(written.of(Path::new("b")), None, "nobody waits for a walk");
            cut_off(1, 1)
        });
        assert_eq!(bytes(), [Some(1), None]);
    }

    #[test]
    fn an_open_layer_is_not_its_successor_at_the_same_path() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("upper");
        std::fs::create_dir(&path).unwrap();
        let opened = Opened::new(&path).unwrap();
        assert!(opened.is_at(&path));
        std::fs::remove_dir(&path).unwrap();
        assert!(!opened.is_at(&path));
        for _ in 0..100 {
            std::fs::create_dir(&path).unwrap();
            assert!(!opened.is_at(&path));
            std::fs::remove_dir(&path).unwrap();
        }
    }
}
