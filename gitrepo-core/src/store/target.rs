//! The place of one target of one volume, and its lock.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cancel::Cancel;
use crate::error::chain;
use crate::quota::Projects;
use crate::snapshot::VolumeRoot;

use super::Store;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::layer::Layer;
use super::layer::QUOTA_MARK;
use super::layout::Layout;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::MarkWatch;
use super::lock::Mode;
use super::record;
use super::record::RECORD_FILE;
use super::record::Record;
use super::record::target_hash;
use super::snapshot_id::SnapshotId;
use super::staging::Staging;
use super::trash::Deletion;
use crate::digest::is_hex;
use crate::digest::sha256_hex;

pub(super) const TARGETS_DIRECTORY: &str = "targets";
const COPY_DIRECTORY: &str = "copy";

/// One target, locked: no other process publishes, unpublishes or collects it while this lives.
#[derive(Debug)]
pub(crate) struct TargetSlot {
    layout: Arc<Layout>,
    directory: PathBuf,
    lock: Lock,
}

impl TargetSlot {
    /// Reads the target's record. A damaged record is deleted with a warning: the next mount or unmount reads the mount
    /// table instead, and a driver must not fail for ever over it.
    pub(crate) fn record(&self) -> Result<Option<Record>, StoreError> {
        match record::read(&self.directory) {
            Err(StoreError::Corrupt { path, source }) => {
                tracing::warn!(path = %path.display(), %source, "a damaged record is discarded");
                self.layout.trash.discard(&path, Deletion::Now)?;
                Ok(None)
            }
            result => result,
        }
    }

    /// Leaves a mark for publishes of this target that are fetching: they must not show their tree any more.
    pub(crate) fn mark_unpublished(&self) {
        let marked = durable::random_bytes()
            .and_then(|mark| self.lock.write_mark(&mark).map_err(StoreError::io("mark the lock of", &self.directory)));
        if let Err(error) = marked {
            // An unpublish must not fail on a full disk.
            tracing::debug!(error = %chain(&error), "cannot mark a target as unpublished");
        }
    }

    /// Whether the target has been unpublished since the watch began.
    pub(crate) fn was_unpublished_since(&self, watch: &MarkWatch) -> Result<bool, StoreError> {
        watch.is_outdated().map_err(StoreError::io("read the mark of", &self.directory))
    }

    /// Writes the record, durably: before the mount it describes is made.
    pub(crate) fn write(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.directory.join(RECORD_FILE);
        let json = serde_json::to_vec(record).map_err(|error| StoreError::corrupt(&path, error))?;
        self.layout.in_volume_directory(&self.directory, || match path.symlink_metadata() {
            // Only we write here. A record that a power failure tore is discarded: its target was never mounted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => durable::create(&path, &json),
            _ => durable::replace(&path, &json, Durability::Durable),
        })
    }

    /// Returns the path of a writable volume's private copy, once [`TargetSlot::install_copy`] has put it there.
    pub(crate) fn copy_dir(&self) -> PathBuf {
        self.directory.join(COPY_DIRECTORY)
    }

    /// Returns the target's own layer. Makes it if there is none, with this root and a project of its own.
    pub(crate) fn layer(&self, root: VolumeRoot, projects: &Projects) -> Result<Layer, StoreError> {
        let layer = Layer::in_directory(&self.directory);
        if !layer.is_complete()? {
            self.layout.in_volume_directory(&self.directory, || layer.make(root, projects))?;
        }
        Ok(layer)
    }

    /// Installs `prepared`, a complete copy inside `staging`, as the private copy of this target, durably, with the mark of
    /// its project if there is one. An earlier copy is discarded.
    pub(crate) fn install_copy(&self, staging: &Staging, prepared: &Path, mark: &Path) -> Result<PathBuf, StoreError> {
        debug_assert!(prepared.starts_with(staging.path()));
        let copy = self.copy_dir();
        durable::sync_filesystem(prepared)?;
        self.layout.in_volume_directory(&self.directory, || {
            self.layout.trash.discard(&copy, Deletion::Later)?;
            self.install_mark(mark)?;
            durable::rename(prepared, &copy)
        })?;
        Ok(copy)
    }

    /// Installs a copy beside the layer in whose place it will be shown, with the layer's quota.
    pub(crate) fn install_beside_layer(&self, staging: &Staging, prepared: &Path) -> Result<(), StoreError> {
        debug_assert!(prepared.starts_with(staging.path()));
        durable::sync_filesystem(prepared)?;
        self.discard_copy()?;
        durable::rename(prepared, &self.copy_dir())
    }

    /// Discards the target's private copy.
    pub(crate) fn discard_copy(&self) -> Result<(), StoreError> {
        self.layout.trash.discard(&self.copy_dir(), Deletion::Later)
    }

    /// Installs the mark of a copy's project, if there is one. One that is there belongs to no copy: a process died before it
    /// installed that.
    fn install_mark(&self, mark: &Path) -> Result<(), StoreError> {
        let installed = self.directory.join(QUOTA_MARK);
        if installed.symlink_metadata().is_ok() {
            self.layout.trash.discard(&installed, Deletion::Later)?;
        }
        match mark.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => fs::rename(mark, &installed).map_err(StoreError::io("install", &installed)),
        }
    }

    /// Forgets the target: durably removes its record and its private copy.
    pub(crate) fn remove(&self, deletion: Deletion) -> Result<(), StoreError> {
        self.layout.trash.discard(&self.directory, deletion)?;
        if let Some(volume) = self.directory.ancestors().nth(2) {
            remove_empty_volume(volume);
        }
        Ok(())
    }
}

impl Store {
    /// Watches for an unpublish of a target, without its lock. While the watch lives, no sweep removes the mark that an
    /// unpublish leaves.
    ///
    /// # Errors
    /// [`StoreError::Locked`], of kind `Busy`, if a sweep is still removing the lock's file when `cancel` ends the
    /// wait.
    pub(crate) fn watch_target(&self, target: &Path, cancel: &Cancel) -> Result<MarkWatch, StoreError> {
        self.layout.locks.watch_mark(&LockName::Target(target_hash(target)), cancel)
    }

    /// Locks one target, waiting for other holders until `cancel`.
    ///
    /// # Errors
    /// [`StoreError::Locked`], of kind `Busy`, if they hold the lock longer.
    pub(crate) fn target(&self, volume_id: &str, target: &Path, cancel: &Cancel) -> Result<TargetSlot, StoreError> {
        let hash = target_hash(target);
        let directory = self.layout.target(&sha256_hex(volume_id), &hash);
        let lock = self.layout.locks.acquire(&LockName::Target(hash), Mode::Exclusive, cancel)?;
        Ok(TargetSlot { layout: Arc::clone(&self.layout), directory, lock })
    }

    /// Locks one target, if it is free.
    pub(crate) fn try_target(&self, volume_id: &str, target: &Path) -> Result<Option<TargetSlot>, StoreError> {
        self.layout.try_target(&sha256_hex(volume_id), &target_hash(target))
    }

    /// Returns the path of a published volume's private copy, if it has one; needs no lock.
    pub(crate) fn copy_dir(&self, record: &Record) -> PathBuf {
        self.layout.target(&sha256_hex(&record.volume_id), &target_hash(&record.target)).join(COPY_DIRECTORY)
    }

    /// Returns the mark of the project of a published volume's copy or layer, if it has one; needs no lock.
    pub(crate) fn quota_mark(&self, record: &Record) -> PathBuf {
        match record.shows.is_shared() {
            true => self.shared_layer(&record.volume_id).quota_mark(),
            false => self.layer(record).quota_mark(),
        }
    }

    /// Returns the own layer of a published target, if it has one; needs no lock.
    pub(crate) fn layer(&self, record: &Record) -> Layer {
        Layer::in_directory(self.layout.target(&sha256_hex(&record.volume_id), &target_hash(&record.target)))
    }

    /// Returns the record of a target, whatever its volume. For callers that know only the target.
    pub fn record_of_target(&self, target: &Path) -> Result<Option<Record>, StoreError> {
        let hash = target_hash(target);
        for volume in self.layout.volume_hashes()? {
            if let Some(record) = self.record_in(&volume, &hash)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Reads the record of a volume's target, without a lock.
    pub fn record(&self, volume_id: &str, target: &Path) -> Result<Option<Record>, StoreError> {
        self.record_in(&sha256_hex(volume_id), &target_hash(target))
    }

    /// Returns the records of one volume's targets.
    pub(crate) fn records_of_volume(&self, volume_id: &str) -> Result<Vec<Record>, StoreError> {
        let volume = sha256_hex(volume_id);
        let targets = hashes_in(&self.layout.volumes().join(&volume).join(TARGETS_DIRECTORY))?;
        let records = targets.iter().map(|target| self.record_in(&volume, target));
        records.filter_map(Result::transpose).collect()
    }

    /// Returns the records of all targets.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for (volume, target) in self.layout.targets()? {
            records.extend(self.record_in(&volume, &target)?);
        }
        Ok(records)
    }

    /// Returns the snapshots that records refer to. A holder of a snapshot's exclusive lock may evict it if it is not
    /// listed here or in the mount table: a publish leases the snapshot until its record is written.
    pub(crate) fn referenced(&self) -> Result<BTreeSet<SnapshotId>, StoreError> {
        Ok(self.records()?.into_iter().map(|record| record.snapshot).collect())
    }

    pub(super) fn record_in(&self, volume: &str, target: &str) -> Result<Option<Record>, StoreError> {
        let directory = self.layout.target(volume, target);
        match record::read(&directory) {
            // A damaged record is deleted only under the lock, so that it cannot have been replaced meanwhile. A
            // current holder of the lock will find the damage itself.
            Err(StoreError::Corrupt { .. }) => match self.layout.try_target(volume, target)? {
                Some(slot) => slot.record(),
                None => Ok(None),
            },
            result => result,
        }
    }
}

impl Layout {
    /// Runs an action that needs the directory of a volume, or of one of its targets. Removing another target may
    /// delete the volume's directory at any moment while it is empty.
    pub(super) fn in_volume_directory(
        &self,
        directory: &Path,
        mut action: impl FnMut() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let volumes = self.volumes();
        loop {
            let made = durable::create_directories(&volumes, directory);
            match made.and_then(|made| action().map(|()| made)) {
                Ok(true) => return durable::sync_ancestors(&volumes, directory),
                Ok(false) => return Ok(()),
                Err(error) if error.is_not_found() && !directory.exists() && volumes.exists() => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn target(&self, volume: &str, target: &str) -> PathBuf {
        self.volumes().join(volume).join(TARGETS_DIRECTORY).join(target)
    }

    /// Locks the slot with these hashes, if its lock is free.
    pub(super) fn try_target(self: &Arc<Self>, volume: &str, target: &str) -> Result<Option<TargetSlot>, StoreError> {
        let lock = self.locks.try_acquire(&LockName::Target(target.to_owned()), Mode::Exclusive)?;
        let directory = self.target(volume, target);
        Ok(lock.map(|lock| TargetSlot { layout: Arc::clone(self), directory, lock }))
    }

    /// Returns the hashes of volume and target of every slot.
    pub(super) fn targets(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut targets = Vec::new();
        for volume in self.volume_hashes()? {
            for target in self.targets_of(&volume)? {
                targets.push((volume.clone(), target));
            }
        }
        Ok(targets)
    }

    pub(super) fn targets_of(&self, volume: &str) -> Result<Vec<String>, StoreError> {
        hashes_in(&self.volumes().join(volume).join(TARGETS_DIRECTORY))
    }

    pub(super) fn volume_hashes(&self) -> Result<Vec<String>, StoreError> {
        hashes_in(&self.volumes())
    }

    /// Removes directories of volumes without targets, left by a process that died in between.
    pub(super) fn remove_empty_volumes(&self) -> Result<(), StoreError> {
        for volume in self.volume_hashes()? {
            remove_empty_volume(&self.volumes().join(volume));
        }
        Ok(())
    }
}

/// Removes the directories of a volume that has neither target nor shared copy. Usually it has one, which is not an
/// error.
pub(super) fn remove_empty_volume(volume: &Path) {
    drop(fs::remove_dir(volume.join(TARGETS_DIRECTORY)));
    drop(fs::remove_dir(volume));
}

/// Lists the entries of a directory whose names are hashes; none if it is missing.
pub(crate) fn hashes_in(directory: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(StoreError::Io { action: "list", path: directory.to_path_buf(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoreError::io("list", directory))?.file_name();
        names.extend(name.to_str().filter(|name| is_hex(name, 64)).map(str::to_owned));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::Shows;
    use crate::store::fixture::commit;
    use crate::store::fixture::impatient;
    use crate::store::fixture::install;
    use crate::store::fixture::on_small_filesystem;
    use crate::store::fixture::record;
    use crate::store::fixture::store;

    const TARGET: &str = "/pods/a/volume";

    fn publish(store: &Store, volume_id: &str, target: &str) -> Record {
        let target = Path::new(target);
        let record = record(store, volume_id, target, &install(store, commit(1), ""));
        store.target(volume_id, target, &Cancel::new()).unwrap().write(&record).unwrap();
        record
    }

    fn is_empty(store: &Store, directory: &str) -> bool {
        fs::read_dir(store.root().join(directory)).unwrap().next().is_none()
    }

    #[test]
    fn a_record_is_found_by_volume_by_target_and_among_all() {
        let (_place, store) = store();
        let record = publish(&store, "volume", TARGET);
        let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
        assert_eq!(slot.record().unwrap().as_ref(), Some(&record));
        assert_eq!(store.record_of_target(Path::new(TARGET)).unwrap().as_ref(), Some(&record));
        assert_eq!(store.record_of_target(Path::new("/pods/b/volume")).unwrap(), None);
        assert_eq!(store.records().unwrap(), vec![record.clone()]);
        assert_eq!(store.record("volume", Path::new(TARGET)).unwrap().as_ref(), Some(&record));
        assert_eq!(store.record("other", Path::new(TARGET)).unwrap(), None);
        assert_eq!(store.records_of_volume("volume").unwrap(), vec![record.clone()]);
        assert_eq!(store.records_of_volume("other").unwrap(), []);
        assert_eq!(store.referenced().unwrap(), [record.snapshot].into());
    }

    #[test]
    fn r10_one_process_at_a_time_locks_a_target_whatever_the_volume() {
        let (_place, store) = store();
        let held = store.target("volume", Path::new(TARGET), &Cancel::new()).unwrap();
        assert_eq!(store.target("other", Path::new(TARGET), &impatient()).unwrap_err().kind(), Kind::Busy);
        assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_none());
        drop(held);
        assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_some());
    }

    #[test]
    fn s10_a_target_has_one_slot_however_its_slashes_are_spelled() {
        let (_place, store) = store();
        let record = publish(&store, "volume", TARGET);
        for spelling in ["/pods/a/volume/", "/pods//a/volume", "/pods/./a/volume/."] {
            let spelling = Path::new(spelling);
            assert_eq!(store.record_of_target(spelling).unwrap().as_ref(), Some(&record), "{spelling:?}");
            let _held = store.target("volume", spelling, &impatient()).unwrap();
            assert!(store.try_target("volume", Path::new(TARGET)).unwrap().is_none(), "{spelling:?}");
        }
    }

    #[test]
    fn removing_the_last_target_removes_the_whole_volume() {
        let (_place, store) = store();
        let targets = [TARGET, "/pods/b/volume"].map(|target| publish(&store, "volume", target).target);
        for target in &targets {
            let slot = store.target("volume", target, &Cancel::new()).unwrap();
            slot.remove(Deletion::Now).unwrap();
            slot.remove(Deletion::Now).unwrap();
            assert_eq!(slot.record().unwrap(), None);
        }
        assert!(is_empty(&store, "volumes") && is_empty(&store, "trash"));
    }

    #[test]
    fn targets_of_one_volume_are_added_and_removed_at_once() {
        let (_place, store) = store();
        let lease = install(&store, commit(1), "");
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (store, lease) = (&store, &lease);
                scope.spawn(move || {
                    let target = PathBuf::from(format!("/pods/{number}/volume"));
                    for _ in 0..60 {
                        let slot = store.target("volume", &target, &Cancel::new()).unwrap();
                        slot.write(&record(store, "volume", &target, lease)).unwrap();
                        assert!(slot.record().unwrap().is_some());
                        slot.remove(Deletion::Now).unwrap();
                    }
                });
            }
        });
        assert!(is_empty(&store, "volumes"));
    }

    #[test]
    fn s10_volume_ids_and_targets_never_become_part_of_a_path() {
        let (_place, store) = store();
        for id in ["../../x", "a/b", "", ".", "\0", &"x".repeat(4096), "ünï"] {
            publish(&store, id, TARGET);
            let volumes = store.layout.volume_hashes().unwrap();
            assert_eq!(volumes, [sha256_hex(id)], "{id:?}");
            store.target(id, Path::new(TARGET), &Cancel::new()).unwrap().remove(Deletion::Now).unwrap();
        }
    }

    #[test]
    fn r13_a_torn_record_is_discarded_without_an_error() {
        let (_place, store) = store();
        let whole = publish(&store, "volume", TARGET);
        let path = store.copy_dir(&whole).with_file_name(RECORD_FILE);
        let json = fs::read_to_string(&path).unwrap();
        let foreign = json.replace("\"volume\"", "\"another\"");
        for torn in
            ["", "{}", "\0\0\0", &json[..json.len() / 2], &foreign, &json.replace(&whole.snapshot.to_string(), "..")]
        {
            fs::write(&path, torn).unwrap();
            assert_eq!(store.records().unwrap(), [], "{torn:?}");
            assert!(!path.exists());
            fs::write(&path, torn).unwrap();
            let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
            assert_eq!(slot.record().unwrap(), None, "{torn:?}");
            slot.write(&whole).unwrap();
            assert_eq!(slot.record().unwrap().as_ref(), Some(&whole));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(store.records().unwrap(), []);
        assert!(!path.exists());
    }

    #[test]
    fn r5_records_of_a_newer_version_are_read_if_possible_and_otherwise_kept() {
        let (_place, store) = store();
        let record = publish(&store, "volume", TARGET);
        let path = store.copy_dir(&record).with_file_name(RECORD_FILE);
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let newer = Record::VERSION + 1;
        json["version"] = newer.into();
        json["somethingNew"] = "ignored".into();
        fs::write(&path, json.to_string()).unwrap();
        assert_eq!(store.records().unwrap(), [Record { version: newer, ..record }]);
        json.as_object_mut().unwrap().remove("commit");
        fs::write(&path, json.to_string()).unwrap();
        assert!(matches!(store.records(), Err(StoreError::Newer { found, .. }) if found == newer));
        assert!(path.exists());
    }

    #[test]
    fn r5_records_from_before_shared_copies_are_read() {
        let (_place, store) = store();
        let record = publish(&store, "volume", TARGET);
        let path = store.copy_dir(&record).with_file_name(RECORD_FILE);
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        json["copy"] = true.into();
        json["readOnly"] = false.into();
        assert!(json.as_object_mut().unwrap().remove("shared").is_some());
        fs::write(&path, json.to_string()).unwrap();
        assert_eq!(store.records().unwrap(), [Record { shows: Shows::Copy, ..record }]);
    }

    #[test]
    fn a_private_copy_appears_whole_and_is_removed_with_its_target() {
        let (_place, store) = store();
        let slot = store.target("volume", Path::new(TARGET), &Cancel::new()).unwrap();
        for content in ["one", "two"] {
            let staging = store.staging().unwrap();
            let prepared = staging.path().join("prepared");
            fs::create_dir(&prepared).unwrap();
            fs::write(prepared.join("file"), content).unwrap();
            let mark = staging.path().join(QUOTA_MARK);
            if content == "one" {
                fs::write(&mark, "").unwrap();
            }
            let copy = slot.install_copy(&staging, &prepared, &mark).unwrap();
            assert_eq!(copy.with_file_name(QUOTA_MARK).exists(), content == "one", "the mark belongs to the copy");
            assert_eq!(copy, slot.copy_dir());
            assert_eq!(fs::read_to_string(copy.join("file")).unwrap(), content);
        }
        slot.remove(Deletion::Later).unwrap();
        assert!(!slot.copy_dir().exists());
        assert!(is_empty(&store, "volumes") && !is_empty(&store, "trash"), "nothing is deleted under the lock");
        drop(slot);
        assert!(!store.delete_discarded(std::time::Duration::from_secs(60)));
        assert!(is_empty(&store, "trash"));
    }

    #[test]
    fn r3_a_volume_is_unpublished_on_a_disk_without_room_or_inodes() {
        on_small_filesystem("size=256k,nr_inodes=64", |place| {
            let store = Store::open(&place.join("store")).unwrap();
            let record = publish(&store, "volume", TARGET);
            store.sweep(std::time::Duration::from_secs(60), &[]);
            let mut fillers = 0;
            while fs::write(place.join(fillers.to_string()), [0; 16 * 1024]).is_ok() {
                fillers += 1;
            }
            while fs::File::create(place.join(format!("empty-{fillers}"))).is_ok() {
                fillers += 1;
            }
            let _other =
                store.target("other", Path::new("/pods/b/volume"), &impatient()).expect("an unused lock made room");
            let error = store.target("third", Path::new("/pods/c/volume"), &impatient()).unwrap_err();
            assert_eq!(error.kind(), Kind::ResourceExhausted, "{error}");

            assert_eq!(store.records().unwrap(), [record]);
            let slot = store.target("volume", Path::new(TARGET), &impatient()).unwrap();
            slot.remove(Deletion::Now).unwrap();
            assert_eq!(store.records().unwrap(), []);
        });
    }
}
