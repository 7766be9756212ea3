//! Makes room: removes unused snapshots and repositories, the longest unused first.
//!
//! A snapshot or repository is in use while a record, a lease or the holder of a repository's lock refers to it, in any
//! process and mount namespace. A mount that shows it and is visible here counts too, in case the record was lost.
//! Every check is repeated under the victim's lock. A victim is renamed into the trash: a late reader finds nothing,
//! and fetches.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::Metadata;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::error::chain;
use crate::reserve::Freed;
use crate::reserve::free_bytes;
use crate::spec::RepositoryUrl;

use super::Store;
use super::clock::Moment;
use super::error::StoreError;
use super::inventory::tree_bytes;
use super::last_use;
use super::last_use::LastUse;
use super::lock::LockName;
use super::lock::Mode;
use super::names::Deleted;
use super::names::files_in;
use super::repository::Repository;
use super::repository::RepositoryLock;
use super::snapshot::read_meta;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;

/// How long to wait for another process that is making room.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// As little as possible until this many bytes are free on the store's filesystem.
    Until(u64),
    /// Everything unused.
    Unreferenced,
    /// What exceeds a budget: everything unused for longer than `age`, and the longest unused until the store's
    /// repositories and snapshots take no more than `bytes`.
    Within {
        /// [`u64::MAX`] for no limit.
        bytes: u64,
        /// [`Duration::MAX`] for no limit.
        age: Duration,
    },
}

/// An unused snapshot or repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Unused {
    Snapshot(SnapshotId),
    /// A repository, by its hash.
    Repository(String),
}

/// The candidates, ordered by last use.
#[derive(Default)]
struct Survey {
    unused: BTreeSet<(LastUse, Unused)>,
    /// Snapshots per repository; a repository without any is unused.
    snapshots_of: BTreeMap<String, usize>,
}

/// Lists the trees of a store that the mount table shows now; `None` if it cannot be read, in which case nothing is
/// removed.
pub type Shown<'a> = &'a dyn Fn() -> Option<Vec<PathBuf>>;

impl Store {
    /// Removes unused snapshots and repositories, the longest unused first, for about as long as `budget`.
    ///
    /// # Errors
    ///
    /// If the store cannot be read. Anything removed until then stays removed.
    pub fn evict(&self, eviction: Eviction, list_shown: Shown<'_>, budget: Duration) -> Result<Freed, StoreError> {
        let deadline = Instant::now().checked_add(budget);
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let mut freed = Freed::default();
        if self.has_room(eviction) {
            return Ok(freed);
        }
        // Only one process evicts at a time; otherwise each would free space for all of them.
        let patience = Cancel::new().within(budget.min(PATIENCE));
        let _turn = match self.layout.locks.acquire(&LockName::Evict, Mode::Exclusive, &patience) {
            Err(StoreError::Locked { .. }) => return Ok(Freed { incomplete: true, ..freed }),
            lock => lock?,
        };
        if !self.has_room(eviction) {
            freed.incomplete |= self.layout.trash.empty(deadline)?.out_of_time;
        }
        let size = self.size_for(eviction)?;
        let mut survey = self.survey()?;
        while let Some((used, oldest)) = survey.unused.pop_first()
            && !self.is_enough(eviction, size.saturating_sub(freed.bytes), used)?
        {
            if is_over() {
                return Ok(Freed { incomplete: true, ..freed });
            }
            let taken = match &oldest {
                Unused::Snapshot(id) => self.take_snapshot(id, list_shown),
                Unused::Repository(hash) => self.take_repository(hash),
            };
            // A failure must not keep the others from being removed.
            let taken = taken.unwrap_or_else(|error| {
                tracing::warn!(error = %chain(&error), "cannot remove an unused snapshot or repository");
                freed.incomplete = true;
                None
            });
            let Some(Taken { path, bytes, repository }) = taken else { continue };
            match oldest {
                Unused::Snapshot(_) => freed.snapshots += 1,
                Unused::Repository(_) => freed.repositories += 1,
            }
            freed.bytes = freed.bytes.saturating_add(bytes);
            freed.incomplete |= self.layout.trash.delete_taken(&path, deadline);
            self.count_off(&mut survey, repository, used)?;
        }
        Ok(freed)
    }

    /// Estimates what [`Store::evict`] would remove. Removes nothing.
    pub fn evictable(&self, eviction: Eviction, list_shown: Shown<'_>) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        let mut missing = match eviction {
            Eviction::Until(bytes) => bytes.saturating_sub(free_bytes(self.root()).unwrap_or(bytes)),
            Eviction::Unreferenced => u64::MAX,
            Eviction::Within { bytes, .. } => self.size_for(eviction)?.saturating_sub(bytes),
        };
        let now = Moment::now()?;
        let is_old = |used: LastUse| matches!(eviction, Eviction::Within { age, .. } if used.idle(&now) > age);
        let Some(shown) = list_shown() else { return Ok(Freed { incomplete: true, ..freed }) };
        let mut survey = self.survey()?;
        let mut deleted = Deleted::default();
        while let Some((used, oldest)) = survey.unused.pop_first()
            && (missing > 0 || is_old(used))
        {
            let bytes = match oldest {
                Unused::Snapshot(id) => {
                    let path = self.snapshot_path(&id);
                    if shown.iter().any(|mounted| mounted.starts_with(&path)) {
                        continue;
                    }
                    freed.snapshots += 1;
                    self.count_off(&mut survey, repository_of_snapshot(&path), used)?;
                    bytes_of(&path, &mut deleted)
                }
                Unused::Repository(hash) => {
                    freed.repositories += 1;
                    deleted.count(self.repository_of(hash).files())
                }
            };
            freed.bytes = freed.bytes.saturating_add(bytes);
            missing = missing.saturating_sub(bytes);
        }
        Ok(freed)
    }

    /// Whether enough space is free.
    fn has_room(&self, eviction: Eviction) -> bool {
        match eviction {
            Eviction::Until(bytes) => free_bytes(self.root()).map_or(true, |free| free >= bytes),
            Eviction::Unreferenced | Eviction::Within { .. } => false,
        }
    }

    /// Whether nothing more needs to be removed from a store of `size` bytes, whose longest unused part was last used
    /// at `oldest`.
    fn is_enough(&self, eviction: Eviction, size: u64, oldest: LastUse) -> Result<bool, StoreError> {
        match eviction {
            Eviction::Within { bytes, age } => Ok(size <= bytes && oldest.idle(&Moment::now()?) <= age),
            Eviction::Until(_) | Eviction::Unreferenced => Ok(self.has_room(eviction)),
        }
    }

    /// Returns the size of the store if the eviction depends on it.
    fn size_for(&self, eviction: Eviction) -> Result<u64, StoreError> {
        match eviction {
            Eviction::Within { bytes, .. } if bytes < u64::MAX => Ok(self.inventory()?.bytes()),
            _ => Ok(0),
        }
    }

    fn survey(&self) -> Result<Survey, StoreError> {
        let now = Moment::now()?;
        let referenced = self.referenced()?;
        let mut survey = Survey::default();
        for name in hashes_in(&self.layout.snapshots())? {
            let Ok(id) = SnapshotId::try_from(name) else { continue };
            let path = self.snapshot_path(&id);
            if let Some(repository) = repository_of_snapshot(&path) {
                *survey.snapshots_of.entry(repository).or_default() += 1;
            }
            if !referenced.contains(&id) {
                survey.unused.insert((last_use::of(&path, &now), Unused::Snapshot(id)));
            }
        }
        for hash in hashes_in(&self.layout.repositories())? {
            if !survey.snapshots_of.contains_key(&hash) {
                let used = last_use::of(&self.layout.repositories().join(&hash), &now);
                survey.unused.insert((used, Unused::Repository(hash)));
            }
        }
        Ok(survey)
    }

    /// Counts a removed snapshot of this repository, last used at `used`. Without any other, the repository is unused
    /// as well. A snapshot's use counts for the packs too, since later fetches build on them.
    fn count_off(&self, survey: &mut Survey, repository: Option<String>, used: LastUse) -> Result<(), StoreError> {
        if let Some(hash) = repository
            && let Some(left) = survey.snapshots_of.get_mut(&hash)
        {
            *left -= 1;
            let path = self.layout.repositories().join(&hash);
            if *left == 0 && path.is_dir() {
                survey.unused.insert((used.max(last_use::of(&path, &Moment::now()?)), Unused::Repository(hash)));
            }
        }
        Ok(())
    }

    fn repository_of(&self, hash: String) -> Repository {
        Repository::of_hash(&self.layout, hash)
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
    pub(super) fn take_repository(&self, hash: &str) -> Result<Option<Taken>, StoreError> {
        let repository = self.repository_of(hash.to_owned());
        let Some(_lock) = repository.try_lock()? else { return Ok(None) };
        if self.has_snapshot_of(hash)? {
            return Ok(None);
        }
        let bytes = Deleted::default().count(repository.files());
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

/// Returns the hash of a snapshot's repository; `None` for a damaged one.
pub(super) fn repository_of_snapshot(snapshot: &Path) -> Option<String> {
    let meta = read_meta(snapshot).ok().flatten()?;
    RepositoryUrl::parse(&meta.repository).ok().map(|url| Repository::hash_of(&url))
}

/// Returns the bytes that the deletion of a snapshot frees: those of its files that have no other name, and of a tree of
/// files those of its content when it was written. A damaged one counts as 0 bytes.
fn bytes_of(snapshot: &Path, deleted: &mut Deleted) -> u64 {
    let Some(meta) = read_meta(snapshot).ok().flatten() else { return 0 };
    deleted.count(files_in(snapshot)).saturating_add(tree_bytes(&meta))
}

impl Repository {
    /// Returns the repository's segments and packs, and their indexes.
    fn files(&self) -> impl Iterator<Item = Metadata> {
        self.directories().into_iter().flat_map(|directory| files_in(&directory))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::record;
    use crate::store::fixture::store;

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
    fn a_budget_removes_the_longest_unused_and_no_more() {
        let (_place, store) = store();
        let nothing = || Some(Vec::new());
        let installed = [1, 2, 3].map(|digit| install(&store, commit(digit), ""));
        let paths = installed.each_ref().map(|lease| lease.path().to_owned());
        drop(installed);
        let exists = || paths.each_ref().map(|path| path.exists());
        let size = store.inventory().unwrap().bytes();
        let within = |bytes, age| Eviction::Within { bytes, age };

        assert!(store.evict(within(size, Duration::MAX), &nothing, LONG).unwrap().is_nothing());
        let one_less = within(size - 1, Duration::MAX);
        let planned = store.evictable(one_less, &nothing).unwrap();
        let freed = store.evict(one_less, &nothing, LONG).unwrap();
        assert_eq!((planned.snapshots, freed.snapshots), (1, 1));
        assert_eq!(exists(), [false, true, true]);
        let day = within(u64::MAX, Duration::from_secs(86_400));
        assert!(store.evict(day, &nothing, LONG).unwrap().is_nothing());
        let all = within(u64::MAX, Duration::ZERO);
        assert_eq!(store.evictable(all, &nothing).unwrap().snapshots, 2);
        assert_eq!(store.evict(all, &nothing, LONG).unwrap().snapshots, 2);
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
}
