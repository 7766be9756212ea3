//! Makes room: removes unused snapshots and repositories, the longest unused first.
//!
//! A snapshot or repository is in use while a record, a lease or the holder of a repository's lock refers to it, in any
//! process and mount namespace. A mount that shows it and is visible here counts too, in case the record was lost.
//! Every check is repeated under the victim's lock. A victim is renamed into the trash: a late reader finds nothing,
//! and fetches.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::error::chain;
use crate::reserve::Freed;
use crate::reserve::free_bytes;

use super::Store;
use super::error::StoreError;
use super::lock::LockName;
use super::lock::Mode;
use super::names::Deleted;
use super::removal::Pace;
use super::repository::RepositoryLock;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;
use super::unused::Unused;
use super::unused::bytes_of;
use super::unused::repository_of_snapshot;

mod goal;

pub use goal::Bounds;
pub use goal::Eviction;
pub use goal::Reason;

use goal::Goal;

/// How long to wait for another process that is making room.
const PATIENCE: Duration = Duration::from_secs(20);

/// The repository of snapshots that stay is removed only if that frees this many bytes: the next fetch brings them
/// again.
const WORTH_A_FETCH: u64 = 1 << 20;

/// How many snapshots and repositories this process has removed, by reason.
#[derive(Debug, Default)]
pub(super) struct EvictionCount([AtomicU64; Reason::ALL.len()]);

impl EvictionCount {
    fn add(&self, reason: Reason) {
        for (known, count) in Reason::ALL.iter().zip(&self.0) {
            count.fetch_add(u64::from(*known == reason), Ordering::Relaxed);
        }
    }
}

/// Lists the trees of a store that the mount table shows now; `None` if it cannot be read, in which case nothing is
/// removed.
pub type Shown<'a> = &'a dyn Fn() -> Option<Vec<PathBuf>>;

impl Store {
    /// Removes unused snapshots and repositories, the longest unused first, for about as long as `budget`. If that is
    /// not enough, removes repositories of snapshots that stay: the snapshots keep their own content.
    ///
    /// # Errors
    ///
    /// If the store cannot be read. Anything removed until then stays removed.
    pub fn evict(&self, eviction: Eviction, list_shown: Shown<'_>, budget: Duration) -> Result<Freed, StoreError> {
        let deadline = Instant::now().checked_add(budget);
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut freed = Freed::default();
        let has_room = || self.free() >= eviction.free_bytes();
        if matches!(eviction, Eviction::Until(_)) && has_room() {
            return Ok(freed);
        }
        // Only one process evicts at a time; otherwise each would free space for all of them.
        let patience = Cancel::new().within(budget.min(PATIENCE));
        let turn = match self.layout.locks.acquire(&LockName::Evict, Mode::Exclusive, &patience) {
            Err(StoreError::Locked { .. }) => return Ok(Freed { incomplete: true, ..freed }),
            lock => lock?,
        };
        if !has_room() {
            freed.incomplete |= self.layout.trash.empty(deadline, Pace::Full)?.out_of_time;
        }
        let mut goal = Goal::of(eviction, self)?;
        if goal.is_reached(self.free()) {
            return Ok(freed);
        }
        let mut survey = self.survey(&goal.now)?;
        let mut slowly = Vec::new();
        while let Some((used, oldest)) = survey.pop() {
            let Some(reason) = goal.reason(oldest.may_be_old().then_some(used), self.free()) else { break };
            if is_over() {
                freed.incomplete = true;
                break;
            }
            if matches!((&oldest, reason), (Unused::Base(_), Reason::Request)) {
                break;
            }
            // A failure must not keep the others from being removed.
            let taken = self.take(&oldest, list_shown).unwrap_or_else(|error| {
                tracing::warn!(error = %chain(&error), "cannot remove an unused snapshot or repository");
                freed.incomplete = true;
                None
            });
            let Some(Taken { path, bytes, repository }) = taken else { continue };
            freed.count(oldest.is_snapshot(), bytes);
            goal.freed(bytes);
            self.evicted.add(reason);
            tracing::debug!(reason = reason.name(), bytes, removed = %oldest, "removed unused content");
            match reason.pace(budget) {
                Pace::Full => freed.incomplete |= self.layout.trash.delete_taken(&path, deadline, Pace::Full),
                Pace::Gentle => slowly.push(path),
            }
            survey.count_off(self, repository, used, &goal.now);
        }
        // A publish that needs space must not wait for these.
        drop(turn);
        for path in slowly {
            freed.incomplete |= self.layout.trash.delete_taken(&path, deadline, Pace::Gentle);
        }
        Ok(freed)
    }

    /// Estimates what [`Store::evict`] would remove. Removes nothing.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn evictable(&self, eviction: Eviction, list_shown: Shown<'_>) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        let Some(shown) = list_shown() else { return Ok(Freed { incomplete: true, ..freed }) };
        let free = self.free();
        let mut goal = Goal::of(eviction, self)?;
        let mut survey = self.survey(&goal.now)?;
        let mut deleted = Deleted::default();
        while let Some((used, oldest)) = survey.pop() {
            let then_free = free.saturating_add(freed.bytes);
            let Some(reason) = goal.reason(oldest.may_be_old().then_some(used), then_free) else { break };
            let bytes = match &oldest {
                Unused::View(id) | Unused::Snapshot(id) => {
                    let path = self.snapshot_path(id);
                    if shown.iter().any(|mounted| mounted.starts_with(&path)) {
                        continue;
                    }
                    survey.count_off(self, repository_of_snapshot(&path), used, &goal.now);
                    bytes_of(&path, &mut deleted)
                }
                Unused::Repository(hash) => deleted.count(self.repository_of(hash.clone()).files()),
                Unused::Base(_) if reason == Reason::Request => break,
                Unused::Base(hash) => {
                    let bytes = deleted.count(self.repository_of(hash.clone()).files());
                    if bytes < WORTH_A_FETCH {
                        continue;
                    }
                    bytes
                }
            };
            freed.count(oldest.is_snapshot(), bytes);
            goal.freed(bytes);
        }
        Ok(freed)
    }

    /// Returns how many snapshots and repositories this process has removed because they were unused, by reason.
    pub fn evicted(&self) -> [(Reason, u64); Reason::ALL.len()] {
        let mut counts = Reason::ALL.map(|reason| (reason, 0));
        for ((_, count), counted) in counts.iter_mut().zip(&self.evicted.0) {
            *count = counted.load(Ordering::Relaxed);
        }
        counts
    }

    /// Returns the free bytes on the store's filesystem; without an answer, nothing is removed for lack of space.
    fn free(&self) -> u64 {
        free_bytes(self.root()).unwrap_or(u64::MAX)
    }

    /// Moves something to the trash unless it is in use.
    fn take(&self, unused: &Unused, list_shown: Shown<'_>) -> Result<Option<Taken>, StoreError> {
        match unused {
            Unused::View(id) | Unused::Snapshot(id) => self.take_snapshot(id, list_shown),
            Unused::Repository(hash) | Unused::Base(hash) => self.take_repository(hash, unused),
        }
    }

    /// Moves a snapshot to the trash unless it is in use.
    pub(super) fn take_snapshot(&self, id: &SnapshotId, list_shown: Shown<'_>) -> Result<Option<Taken>, StoreError> {
        let name = LockName::Snapshot(id.to_string());
        let Some(_lock) = self.layout.locks.try_acquire(&name, Mode::Exclusive)? else { return Ok(None) };
        let path = self.snapshot_path(id);
        let is_shown = list_shown().is_none_or(|shown| shown.iter().any(|mounted| mounted.starts_with(&path)));
        if is_shown || self.referenced()?.contains(id) {
            return Ok(None);
        }
        let (bytes, repository) = (bytes_of(&path, &mut Deleted::default()), repository_of_snapshot(&path));
        Ok(self.layout.trash.take(&path)?.map(|path| Taken { path, bytes, repository }))
    }

    /// Moves a repository to the trash unless it is in use. A fetch holds the repository's lock until it has installed
    /// the snapshot.
    pub(super) fn take_repository(&self, hash: &str, unused: &Unused) -> Result<Option<Taken>, StoreError> {
        let repository = self.repository_of(hash.to_owned());
        let Some(_lock) = repository.try_lock()? else { return Ok(None) };
        let bytes = Deleted::default().count(repository.files());
        let may_go = match unused {
            // Its snapshots have names of their own for the segments.
            Unused::Base(_) => bytes >= WORTH_A_FETCH,
            _ => !self.has_snapshot_of(hash)?,
        };
        if !may_go {
            return Ok(None);
        }
        let taken = self.layout.trash.take(repository.path())?;
        Ok(taken.map(|path| Taken { path, bytes, repository: None }))
    }

    /// Discards the held repository unless the store has a snapshot of it.
    pub(crate) fn drop_unused(&self, held: &RepositoryLock) -> Result<(), StoreError> {
        if self.has_snapshot_of(held.hash())? { Ok(()) } else { held.discard() }
    }

    /// Whether the store has a snapshot of the repository with this hash.
    fn has_snapshot_of(&self, repository: &str) -> Result<bool, StoreError> {
        let mut snapshots = hashes_in(&self.layout.snapshots())?.into_iter();
        Ok(snapshots
            .any(|name| repository_of_snapshot(&self.layout.snapshots().join(name)).as_deref() == Some(repository)))
    }
}

/// A snapshot or repository that was moved to the trash.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// The repository of the snapshot.
    repository: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::store::SnapshotLease;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::record;
    use crate::store::fixture::store;
    use crate::store::fixture::url;
    use crate::store::last_use;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn r12_nothing_is_evicted_that_a_lease_a_record_or_a_mount_uses() {
        let (_place, store) = store();
        let [leased, recorded, mounted, unused] = [1, 2, 3, 4].map(|digit| install(&store, commit(digit), ""));
        let target = Path::new("/pods/a");
        let slot = store.target("volume", target, &Cancel::new()).unwrap();
        slot.write(&record(&store, "volume", target, &recorded)).unwrap();
        let paths = [&leased, &recorded, &mounted, &unused].map(|lease| lease.path().to_owned());
        drop((recorded, mounted, unused));
        let list_shown = || Some(vec![paths[2].join("root")]);

        let planned = store.evictable(Eviction::Unreferenced, &list_shown).unwrap();
        assert_eq!(planned.snapshots, 2, "leases do not count here");
        let blind = store.evict(Eviction::Unreferenced, &|| None, LONG).unwrap();
        assert!(blind.is_nothing(), "{blind:?}");
        let freed = store.evict(Eviction::Unreferenced, &list_shown, LONG).unwrap();
        assert_eq!((freed.snapshots, freed.repositories, freed.incomplete), (1, 0, false));
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, true, true, false]);
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
        drop((leased, slot));
        assert_eq!(store.evict(Eviction::Unreferenced, &|| Some(Vec::new()), LONG).unwrap().snapshots, 2);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [false, true, false, false]);
        assert!(store.evict(Eviction::Until(1), &list_shown, LONG).unwrap().is_nothing(), "there is room");
    }

    #[test]
    fn r12_a_late_reader_finds_a_whole_snapshot_or_a_miss() {
        let (_place, store) = store();
        let id = install(&store, commit(1), "content").id().clone();
        let working = AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while working.load(Ordering::Relaxed) {
                    store.evict(Eviction::Unreferenced, &|| Some(Vec::new()), LONG).unwrap();
                }
            });
            let readers = [(); 4].map(|()| {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let lease = store.snapshot(&id).unwrap();
                        let lease = lease.unwrap_or_else(|| install(&store, commit(1), "content"));
                        assert_eq!(fs::read(lease.path().join("root/file")).unwrap(), b"content");
                    }
                })
            });
            let results = readers.map(std::thread::ScopedJoinHandle::join);
            working.store(false, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok));
        });
    }

    const BOUNDS: Bounds = Bounds { free_bytes: 0, max_bytes: u64::MAX, max_age: Duration::MAX };

    /// Removes what the bounds forbid; returns how many snapshots went, after checking that so many were foretold.
    fn evict_within(store: &Store, bounds: Bounds) -> u64 {
        let list_shown = || Some(Vec::new());
        let planned = store.evictable(Eviction::Within(bounds), &list_shown).unwrap();
        let freed = store.evict(Eviction::Within(bounds), &list_shown, LONG).unwrap();
        assert_eq!(planned, freed);
        freed.snapshots
    }

    /// Lets a volume use this snapshot.
    fn use_it(store: &Store, lease: &SnapshotLease) {
        let target = Path::new("/pods/a");
        let slot = store.target("volume", target, &Cancel::new()).unwrap();
        slot.write(&record(store, "volume", target, lease)).unwrap();
    }

    fn evicted(store: &Store) -> [u64; 4] {
        store.evicted().map(|(_, count)| count)
    }

    #[test]
    fn above_the_high_mark_the_longest_unused_go_until_the_low_mark_and_used_content_counts() {
        let (_place, store) = store();
        let used = install(&store, commit(1), "");
        use_it(&store, &used);
        let [oldest, middle, newest] = [2, 3, 4].map(|digit| install(&store, commit(digit), ""));
        // The oldest one was used again since.
        store.snapshot_was_used(oldest.id());
        let paths = [&used, &oldest, &middle, &newest].map(|lease| lease.path().to_owned());
        drop((used, oldest, middle, newest));
        let total = store.usage().unwrap().total;
        let one = total / 4;
        assert!(one > 0);
        assert_eq!(evict_within(&store, BOUNDS), 0);
        assert_eq!(evict_within(&store, Bounds { max_bytes: total, ..BOUNDS }), 0, "at the mark");
        // Just above the mark; a tenth below it is more than one snapshot less.
        assert_eq!(evict_within(&store, Bounds { max_bytes: total - 1, ..BOUNDS }), 1);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, true, false, true]);
        assert_eq!(evict_within(&store, Bounds { max_bytes: 2 * one + one / 2, ..BOUNDS }), 1);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [true, true, false, false]);
        assert_eq!(evict_within(&store, Bounds { max_bytes: 1, ..BOUNDS }), 1, "what is in use stays");
        assert_eq!(evicted(&store), [0, 3, 0, 0]);
    }

    #[test]
    fn content_in_use_beyond_the_mark_leaves_others_a_cache() {
        let (_place, store) = store();
        let used = install(&store, commit(1), "");
        use_it(&store, &used);
        drop([2, 3].map(|digit| install(&store, commit(digit), "")));
        let unused = store.usage().unwrap().total / 3 * 2;
        let path = used.path().join("meta.json");
        let mut meta: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        meta["summary"]["bytes"] = (1_u64 << 30).into();
        fs::write(&path, meta.to_string()).unwrap();
        drop(used);
        assert_eq!(evict_within(&store, Bounds { max_bytes: 5 * unused, ..BOUNDS }), 0);
        assert_eq!(evict_within(&store, Bounds { max_bytes: 5 * (unused - 1), ..BOUNDS }), 1);
        assert_eq!(evict_within(&store, Bounds { free_bytes: u64::MAX, max_bytes: 5 * unused, ..BOUNDS }), 1);
    }

    #[test]
    fn what_was_not_used_for_long_goes_whatever_is_free() {
        let (_place, store) = store();
        let [old, new] = [1, 2].map(|digit| install(&store, commit(digit), ""));
        let paths = [&old, &new].map(|lease| lease.path().to_owned());
        drop((old, new));
        let day = Duration::from_secs(24 * 60 * 60);
        last_use::pretend(&paths[0], std::time::SystemTime::now() - 2 * day);
        assert_eq!(evict_within(&store, Bounds { max_age: 3 * day, ..BOUNDS }), 0);
        assert_eq!(evict_within(&store, Bounds { max_age: day, ..BOUNDS }), 1);
        assert_eq!(paths.each_ref().map(|path| path.exists()), [false, true]);
        assert_eq!(evicted(&store), [1, 0, 0, 0]);
    }

    #[test]
    fn the_repository_of_a_used_snapshot_goes_last_and_only_if_that_frees_much() {
        let (_place, store) = store();
        let lease = install(&store, commit(1), "");
        use_it(&store, &lease);
        let repository = store.repository(&url());
        let content = repository.path().join("objects/pack");
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join("small"), "").unwrap();
        assert_eq!(evict_within(&store, Bounds { max_bytes: 1, ..BOUNDS }), 0);
        assert!(repository.exists(), "it would free nothing");
        fs::write(content.join("large"), vec![0; 2 << 20]).unwrap();
        let list_shown = || Some(Vec::new());
        assert!(store.evict(Eviction::Unreferenced, &list_shown, LONG).unwrap().is_nothing(), "it is not unused");
        let held = repository.try_lock().unwrap();
        assert!(
            store.evict(Eviction::Within(Bounds { max_bytes: 1, ..BOUNDS }), &list_shown, LONG).unwrap().is_nothing()
        );
        drop(held);
        assert_eq!(evict_within(&store, Bounds { max_bytes: 1 << 20, ..BOUNDS }), 0);
        assert!(!repository.exists() && lease.path().exists());
    }
}
