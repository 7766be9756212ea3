//! Removes the leftovers of crashes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::error::chain;
use crate::reserve::Freed;

use super::Store;
use super::durable::UNFINISHED;
use super::error::StoreError;
use super::lock;
use super::lock::LockName;
use super::lock::Locks;
use super::lock::Mode;
use super::record::RECORD_FILE;
use super::removal::Pace;
use super::repository::salvage;
use super::shared::SHARED_DIRECTORY;
use super::staging;
use super::target::hashes_in;
use super::trash::Deletion;

/// With less time than this, packs received by a dead process are left for the next fetch or sweep.
const TO_READ_PACKS: Duration = Duration::from_secs(10);

/// With less time than this, a sweep does not check snapshots for changes.
const TO_CHECK: Duration = Duration::from_secs(10);

/// That check may take the time of a sweep divided by this: it loads the node's disk and is not urgent.
const CHECK_DIVISOR: u32 = 6;

/// What a sweep removed.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// Abandoned volumes, now unpublished.
    pub volumes: usize,
    /// Staging directories of dead processes.
    pub staging: usize,
    /// Places of targets that were never published.
    pub targets: usize,
    /// Shared copies that no target shows any more.
    pub shared_copies: usize,
    /// Lower mounts that no overlay has any more.
    pub lowers: usize,
    /// Limits of projects that have no files any more.
    pub limits: usize,
    /// Changed snapshots that nothing shows any more.
    pub snapshots: usize,
    /// Changed snapshots found by this sweep. They are no longer served.
    pub changed: usize,
    /// Time ran out before all snapshots were checked for changes; the next sweep continues.
    pub unchecked: bool,
    /// Credentials not used for a month, with their proofs and answers.
    pub credentials: usize,
    /// Refusals that do not hold any more.
    pub refusals: usize,
    /// Unfinished files.
    pub unfinished: usize,
    /// Files of unused locks.
    pub locks: usize,
    /// Entries of the trash.
    pub trash: usize,
    /// Unused snapshots and repositories, removed to make room.
    pub freed: Freed,
    /// More remains to be removed: time ran out, or another process is sweeping.
    pub incomplete: bool,
    /// Failures to remove something. Everything else was removed regardless.
    pub failures: Vec<StoreError>,
}

/// A credential unused for this long is forgotten. The only loss is the last answer that a volume with `pullPolicy:
/// IfNotPresent`, or one without its remote (`offline: stale`), would have used: the remote is asked again.
const CREDENTIAL_UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

impl Store {
    /// Removes the leftovers of dead processes, for about as long as `budget`. Only locks tell whether an owner is
    /// dead, never ages or process ids, so this may run at any time, beside anything.
    ///
    /// `shown` lists the trees of this store in the mount table ([`Store::needed_by`]); they are kept. If a damaged
    /// record is lost, only the table tells that a copy is in use.
    pub fn sweep(&self, budget: Duration, shown: &[PathBuf]) -> SweepReport {
        // A budget beyond the clock's range means no deadline.
        let deadline = Instant::now().checked_add(budget);
        let mut report = SweepReport::default();
        let _lock = match self.layout.locks.try_acquire(&LockName::Sweep, Mode::Exclusive) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                report.incomplete = true;
                return report;
            }
            Err(error) => {
                report.failures.push(error);
                return report;
            }
        };
        let (fetching, packs_stay) = match salvage::sweep(&self.layout, budget >= TO_READ_PACKS) {
            Ok((gone, stay)) => (gone, stay),
            Err(error) => (report.keep(Err(error)), true),
        };
        report.staging = fetching + report.keep(self.sweep_staging());
        report.targets = report.keep(self.sweep_targets(shown));
        report.shared_copies = report.keep(self.sweep_shared_copies(shown));
        if budget >= TO_CHECK {
            match self.check_all(Instant::now().checked_add(budget / CHECK_DIVISOR)) {
                Ok(checked) => (report.changed, report.unchecked) = (checked.changed, checked.unfinished),
                Err(error) => report.failures.push(error),
            }
        }
        report.snapshots = report.keep(self.sweep_changed(shown));
        report.credentials = report.keep(self.access.sweep_unused(CREDENTIAL_UNUSED));
        report.refusals = report.keep(self.sweep_refusals());
        report.unfinished = report.keep(self.sweep_unfinished());
        report.locks = report.keep(self.sweep_locks());
        match self.layout.trash.empty(deadline, Pace::within(budget)) {
            Ok(emptied) => {
                report.trash = emptied.removed;
                report.incomplete = emptied.out_of_time || packs_stay;
                report.failures.extend(emptied.failures);
            }
            Err(error) => report.failures.push(error),
        }
        if let Err(error) = self.set_spare_aside() {
            tracing::debug!(error = %chain(&error), "no space can be set aside for records");
        }
        report
    }

    fn sweep_staging(&self) -> Result<usize, StoreError> {
        let mut removed = 0;
        let all = entries(&self.layout.staging())?;
        for path in all.into_iter().filter(|path| staging::repository_of(path).is_none()) {
            if let Some(_lock) = lock::try_lock_existing(&path)? {
                removed += usize::from(self.layout.trash.take(&path)?.is_some());
            }
        }
        Ok(removed)
    }

    /// Removes places without a record. Such a place is either being published, and locked, or the leftover of a dead
    /// process.
    fn sweep_targets(&self, shown: &[PathBuf]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for (volume, target) in self.layout.targets()? {
            let place = self.layout.target(&volume, &target);
            let record = place.join(RECORD_FILE);
            if is_there(&record)? || shown.iter().any(|path| path.starts_with(&place)) {
                continue;
            }
            if let Some(slot) = self.layout.try_target(&volume, &target)?
                && !is_there(&record)?
            {
                slot.remove(Deletion::Later)?;
                removed += 1;
            }
        }
        self.layout.remove_empty_volumes()?;
        Ok(removed)
    }

    /// Removes shared copies without a record. Such a copy is either being made, under its volume's lock, or the
    /// leftover of a dead process.
    fn sweep_shared_copies(&self, shown: &[PathBuf]) -> Result<usize, StoreError> {
        let mut removed = 0;
        for volume in self.layout.sharing_volumes()? {
            let place = self.layout.volumes().join(&volume).join(SHARED_DIRECTORY);
            if shown.iter().any(|path| path.starts_with(&place)) || !self.sharers_in(&volume)?.is_empty() {
                continue;
            }
            if let Some(slot) = self.layout.try_volume(&volume)?
                && self.sharers_in(&volume)?.is_empty()
            {
                slot.discard(Deletion::Later)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn sweep_unfinished(&self) -> Result<usize, StoreError> {
        let mut directories = vec![self.layout.root.clone(), self.layout.access()];
        directories.extend(hashes_in(&self.layout.access())?.into_iter().map(|name| self.layout.access().join(name)));
        for (volume, target) in self.layout.targets()? {
            directories.push(self.layout.target(&volume, &target));
        }
        let mut removed = 0;
        for path in directories.iter().map(|directory| entries(directory)).collect::<Result<Vec<_>, _>>()?.concat() {
            if path.extension() != Some(OsStr::new(UNFINISHED)) {
                continue;
            }
            // The lock is held until the file is removed: its writer may be about to lock it.
            if let Some(_lock) = lock::try_lock_existing(&path)? {
                removed += usize::from(self.layout.trash.take(&path)?.is_some());
            }
        }
        Ok(removed)
    }

    /// Removes unused lock files. Those of published targets and shared copies stay, so that an unpublish needs no
    /// space on a full disk.
    fn sweep_locks(&self) -> Result<usize, StoreError> {
        let targets = self.layout.targets()?.into_iter().map(|(_, target)| Locks::target_file_name(&target));
        let volumes = self.layout.sharing_volumes()?.into_iter().map(|volume| Locks::volume_file_name(&volume));
        let wanted: HashSet<String> = targets.chain(volumes).collect();
        self.layout.locks.remove_unused(|name| wanted.contains(name))
    }
}

impl SweepReport {
    /// Returns the number of things removed.
    pub fn removed(&self) -> usize {
        let left =
            self.staging + self.targets + self.shared_copies + self.lowers + self.unfinished + self.locks + self.trash;
        let left = left + self.limits;
        let freed = usize::try_from(self.freed.snapshots + self.freed.repositories).unwrap_or(usize::MAX);
        (self.volumes + self.snapshots + self.credentials + self.refusals + left).saturating_add(freed)
    }

    fn keep(&mut self, result: Result<usize, StoreError>) -> usize {
        result.unwrap_or_else(|error| {
            self.failures.push(error);
            0
        })
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => Err(error),
    }
    .map_err(StoreError::io("list", directory))
}

fn is_there(path: &Path) -> Result<bool, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::Io { action: "examine", path: path.to_path_buf(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cancel::Cancel;
    use crate::store::Record;
    use crate::store::SharedCopy;
    use crate::store::Shows;
    use crate::store::VolumeSlot;
    use crate::store::clock::BootId;
    use crate::store::fixture::commit;
    use crate::store::fixture::install;
    use crate::store::fixture::on_small_filesystem;
    use crate::store::fixture::record;
    use crate::store::fixture::store;
    use crate::store::record::target_hash;
    use crate::store::target::TARGETS_DIRECTORY;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn r1_a_sweep_removes_what_dead_processes_left_and_keeps_what_living_ones_hold() {
        let (_place, store) = store();
        let living = store.staging().unwrap();
        let staging = store.root().join("staging");
        for boot in [BootId::other(), BootId::current().unwrap()] {
            fs::create_dir_all(staging.join(format!("{}.dead", boot.prefix())).join("tree")).unwrap();
        }
        let published = store.target("published", Path::new("/a"), &Cancel::new()).unwrap();
        published.write(&record(&store, "published", Path::new("/a"), &install(&store, commit(1), ""))).unwrap();
        drop(published);
        let (dead, busy) = ("0".repeat(64), "1".repeat(64));
        let [dead, busy] = [dead, busy].map(|hash| (store.layout.target("2".repeat(64).as_str(), &hash), hash));
        let _busy = store.layout.try_target(&"2".repeat(64), &busy.1).unwrap().unwrap();
        for (directory, _) in [&dead, &busy] {
            fs::create_dir_all(directory.join("copy")).unwrap();
        }
        fs::create_dir_all(store.layout.volumes().join("3".repeat(64)).join(TARGETS_DIRECTORY)).unwrap();
        for directory in [store.root().to_path_buf(), store.layout.access()] {
            fs::write(directory.join("file.00.new"), "").unwrap();
        }
        fs::create_dir_all(store.root().join("trash/old/tree")).unwrap();

        let report = store.sweep(LONG, &[]);
        assert!(report.failures.is_empty() && !report.incomplete, "{report:?}");
        assert_eq!((report.staging, report.targets, report.unfinished), (2, 1, 2));
        assert_eq!((report.volumes, report.shared_copies, report.credentials), (0, 0, 0));
        assert_eq!(report.trash, 6, "two of staging, the target, two files and the old entry");
        assert!(living.path().exists() && busy.0.exists() && !dead.0.exists());
        assert!(!store.layout.volumes().join("3".repeat(64)).exists());
        assert_eq!(store.records().unwrap().len(), 1);
        let locks: Vec<_> = entries(&store.root().join("locks")).unwrap();
        assert_eq!(locks.len(), 3, "published, busy, sweep: {locks:?}");
        assert_eq!(fs::read_dir(store.root().join("trash")).unwrap().count(), 0);
    }

    #[test]
    fn r1_a_shared_copy_is_removed_unless_it_is_recorded_mounted_or_being_made() {
        let (_place, store) = store();
        let lease = install(&store, commit(1), "");
        let volumes = ["recorded", "shown", "held", "left"];
        for volume in volumes {
            let staging = store.staging().unwrap();
            let prepared = staging.path().join("prepared");
            fs::create_dir_all(VolumeSlot::tree_in(&prepared)).unwrap();
            let record = Record { shows: Shows::SharedCopy, ..record(&store, volume, Path::new("/a"), &lease) };
            store
                .volume(volume, &Cancel::new())
                .unwrap()
                .install(&staging, &prepared, &SharedCopy::of(&record))
                .unwrap();
            if volume == "recorded" {
                store.target(volume, Path::new("/a"), &Cancel::new()).unwrap().write(&record).unwrap();
            }
        }
        let _held = store.volume("held", &Cancel::new()).unwrap();
        let report = store.sweep(LONG, &[store.shared_tree("shown")]);
        assert_eq!((report.shared_copies, report.failures.len()), (1, 0), "{report:?}");
        assert_eq!(volumes.map(|volume| store.has_shared_copy(volume)), [true, true, true, false]);
    }

    #[test]
    fn a_sweep_without_time_moves_abandoned_files_to_the_trash_for_the_next() {
        let (_place, store) = store();
        let [volume, target] = ["0", "1"].map(|digit| digit.repeat(64));
        fs::create_dir_all(store.layout.target(&volume, &target).join("copy/deep")).unwrap();
        fs::create_dir_all(store.layout.volumes().join(&volume).join(SHARED_DIRECTORY).join("tree")).unwrap();
        let report = store.sweep(Duration::ZERO, &[]);
        assert_eq!((report.targets, report.shared_copies, report.trash), (1, 1, 0));
        assert!(report.incomplete && report.failures.is_empty(), "{report:?}");
        assert!(entries(&store.layout.volumes()).unwrap().is_empty());
        assert_eq!(entries(&store.root().join("trash")).unwrap().len(), 2);
        assert_eq!(store.sweep(LONG, &[]).trash, 2);
    }

    #[test]
    fn a_sweep_during_a_publish_does_not_hide_that_the_target_was_unpublished() {
        let (_place, store) = store();
        let target = Path::new("/a");
        let slot = || store.target("volume", target, &Cancel::new()).unwrap();
        let lock = store.root().join("locks").join(Locks::target_file_name(&target_hash(target)));
        for unpublished in [true, false] {
            let watch = store.watch_target(target, &Cancel::new()).unwrap();
            assert!(!slot().was_unpublished_since(&watch).unwrap());
            if unpublished {
                slot().mark_unpublished();
            }
            assert!(store.sweep(LONG, &[]).failures.is_empty() && lock.exists());
            assert_eq!(slot().was_unpublished_since(&watch).unwrap(), unpublished);
            drop(watch);
            assert!(store.sweep(LONG, &[]).failures.is_empty() && !lock.exists(), "nobody needs it any more");
        }
    }

    #[test]
    fn r14_one_process_sweeps_at_a_time() {
        let (_place, store) = store();
        let _other = store.layout.locks.try_acquire(&LockName::Sweep, Mode::Exclusive).unwrap();
        assert!(store.sweep(LONG, &[]).incomplete);
    }

    #[test]
    fn a_mount_in_the_trash_is_reported_and_its_content_survives() {
        use nix::mount::MsFlags;
        use nix::mount::mount;

        on_small_filesystem("size=1m", |place| {
            let store = Store::open(&place.join("store")).unwrap();
            let precious = place.join("precious");
            let below = store.root().join("trash/tree/deep/mounted");
            for directory in [&precious, &below] {
                fs::create_dir_all(directory).unwrap();
            }
            fs::write(precious.join("file"), "").unwrap();
            fs::write(store.root().join("trash/tree/other"), "").unwrap();
            let none = None::<&str>;
            // On the same filesystem, so that device numbers cannot reveal the mount.
            mount(Some(&precious), &below, none, MsFlags::MS_BIND, none).unwrap();

            let report = store.sweep(LONG, &[]);
            assert!(matches!(report.failures.as_slice(), [StoreError::HoldsMount { path }] if *path == below));
            assert!(precious.join("file").exists());
            assert!(!store.root().join("trash/tree/other").exists());

            nix::mount::umount(&below).unwrap();
            assert_eq!(store.sweep(LONG, &[]).trash, 1);
        });
    }
}
