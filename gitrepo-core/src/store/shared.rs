//! The writable copy, or layer, that all targets of a volume on this node share, and its lock.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::cancel::Cancel;
use crate::snapshot::Ownership;
use crate::spec::CommitId;

use super::Store;
use super::durable;
use super::durable::Durability;
use super::error::StoreError;
use super::error::optional;
use super::layer::Layer;
use super::layout::Layout;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::Mode;
use super::record::Record;
use super::snapshot_id::SnapshotId;
use super::staging::Staging;
use super::target::remove_empty_volume;
use super::trash::Deletion;
use crate::digest::sha256_hex;

pub(super) const SHARED_DIRECTORY: &str = "shared";
const META_FILE: &str = "copy.json";
const TREE_DIRECTORY: &str = "tree";
const META_LIMIT: u64 = 1024 * 1024;

/// The source of a shared copy or layer: every target of the volume must ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SharedCopy {
    /// Version of this schema.
    pub(crate) version: u64,
    /// Every option that selects the content, its owner and its group.
    pub(crate) content: BTreeMap<String, String>,
    /// The commit that was copied.
    pub(crate) commit: CommitId,
    /// The ref that led to it; `None` if requested by commit id.
    #[serde(default)]
    pub(crate) reference: Option<String>,
    /// The snapshot that was copied, or is under the layer.
    pub(crate) snapshot: SnapshotId,
    /// Whether this is a layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) layer: bool,
    /// Whom the files of the image under a layer belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ownership: Option<Ownership>,
}

impl SharedCopy {
    /// The schema that this program writes.
    pub(crate) const VERSION: u64 = 1;

    /// Returns the copy that a target with this record shows.
    pub(crate) fn of(record: &Record) -> Self {
        Self {
            version: Self::VERSION,
            content: record.content.clone(),
            commit: record.commit,
            reference: record.reference.clone(),
            snapshot: record.snapshot.clone(),
            layer: record.shows.is_layer(),
            ownership: record.ownership,
        }
    }

    /// Whether `record` refers to this copy.
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        self.commit == record.commit && self.content == record.content && self.layer == record.shows.is_layer()
    }

    /// Whether this describes the layer in whose place a target with this record shows a copy.
    pub(crate) fn became(&self, record: &Record) -> bool {
        self.layer && !record.shows.is_layer() && self.commit == record.commit && self.content == record.content
    }
}

/// One volume, locked: while this lives, no other process makes, joins or removes its shared copy.
///
/// `shared/` contains `copy.json`, and `tree/` or a [`Layer`]. They appear by one rename, once they are complete and on
/// disk.
#[derive(Debug)]
pub(crate) struct VolumeSlot {
    layout: Arc<Layout>,
    directory: PathBuf,
    _lock: Lock,
}

impl VolumeSlot {
    /// Reads the description of the volume's shared copy, if there is one.
    pub(crate) fn shared_copy(&self) -> Result<Option<SharedCopy>, StoreError> {
        read(&self.directory)
    }

    /// Returns the path of the shared copy's files.
    pub(crate) fn tree(&self) -> PathBuf {
        tree(&self.directory)
    }

    /// Installs `prepared` as the shared copy, durably. It lies inside `staging` and contains only the complete `tree/`
    /// ([`VolumeSlot::tree_in`]) or layer ([`VolumeSlot::layer_in`]). Remains of an earlier copy are discarded.
    pub(crate) fn install(&self, staging: &Staging, prepared: &Path, copy: &SharedCopy) -> Result<PathBuf, StoreError> {
        debug_assert!(prepared.starts_with(staging.path()));
        durable::replace_json(&prepared.join(META_FILE), copy, Durability::Volatile)?;
        // A layer is two empty directories and a mark.
        if copy.layer {
            durable::sync_trees(&[prepared])?
        } else {
            durable::sync_filesystem(prepared)?
        }
        let shared = self.directory.join(SHARED_DIRECTORY);
        self.layout.in_volume_directory(&self.directory, || {
            self.layout.trash.discard(&shared, Deletion::Later)?;
            durable::rename(prepared, &shared)
        })?;
        Ok(self.tree())
    }

    /// Installs `prepared`, a complete tree inside `staging`, beside the shared layer, durably. [`VolumeSlot::describe`] puts
    /// it in the layer's place. The layer's directories stay, since they may be mounted.
    pub(crate) fn install_tree(&self, staging: &Staging, prepared: &Path) -> Result<(), StoreError> {
        debug_assert!(prepared.starts_with(staging.path()));
        durable::sync_filesystem(prepared)?;
        self.discard_tree()?;
        durable::rename(prepared, &self.tree())
    }

    /// Discards the tree of [`VolumeSlot::install_tree`].
    pub(crate) fn discard_tree(&self) -> Result<(), StoreError> {
        self.layout.trash.discard(&self.tree(), Deletion::Later)
    }

    /// Replaces the description of the shared copy or layer, durably.
    pub(crate) fn describe(&self, copy: &SharedCopy) -> Result<(), StoreError> {
        durable::replace_json(&self.directory.join(SHARED_DIRECTORY).join(META_FILE), copy, Durability::Durable)
    }

    /// Returns the volume's shared layer.
    pub(crate) fn layer(&self) -> Layer {
        Self::layer_in(&self.directory.join(SHARED_DIRECTORY))
    }

    /// Returns the layer that [`VolumeSlot::install`] expects in place of files.
    pub(crate) fn layer_in(prepared: &Path) -> Layer {
        Layer::in_directory(prepared)
    }

    /// Returns the path where [`VolumeSlot::install`] expects the files.
    pub(crate) fn tree_in(prepared: &Path) -> PathBuf {
        prepared.join(TREE_DIRECTORY)
    }

    /// Removes the shared copy durably. A missing copy is not an error.
    pub(crate) fn discard(&self, deletion: Deletion) -> Result<(), StoreError> {
        self.layout.trash.discard(&self.directory.join(SHARED_DIRECTORY), deletion)?;
        remove_empty_volume(&self.directory);
        Ok(())
    }
}

impl Store {
    /// Locks one volume, waiting for other holders until `cancel`.
    ///
    /// Its holder fetches nothing, and waits only for the lock of a lower mount and for a layer that was just unmounted, at
    /// most for about a second.
    ///
    /// # Errors
    /// [`StoreError::Locked`], of kind `Busy`, if they hold the lock longer.
    pub(crate) fn volume(&self, volume_id: &str, cancel: &Cancel) -> Result<VolumeSlot, StoreError> {
        let hash = sha256_hex(volume_id);
        let directory = self.layout.volumes().join(&hash);
        let lock = self.layout.locks.acquire(&LockName::Volume(hash), Mode::Exclusive, cancel)?;
        Ok(VolumeSlot { layout: Arc::clone(&self.layout), directory, _lock: lock })
    }

    /// Reads the description of a volume's shared copy, without the volume's lock.
    pub(crate) fn shared_copy(&self, volume_id: &str) -> Result<Option<SharedCopy>, StoreError> {
        read(&self.layout.volumes().join(sha256_hex(volume_id)))
    }

    /// Returns the path of the files of a volume's shared copy, if it has one.
    pub(crate) fn shared_tree(&self, volume_id: &str) -> PathBuf {
        tree(&self.layout.volumes().join(sha256_hex(volume_id)))
    }

    /// Returns a volume's shared layer, if it has one.
    pub(crate) fn shared_layer(&self, volume_id: &str) -> Layer {
        Layer::in_directory(self.layout.volumes().join(sha256_hex(volume_id)).join(SHARED_DIRECTORY))
    }

    /// Whether any part of a shared copy exists, complete or not.
    pub(crate) fn has_shared_copy(&self, volume_id: &str) -> bool {
        let shared = self.layout.volumes().join(sha256_hex(volume_id)).join(SHARED_DIRECTORY);
        // A path that cannot be examined may exist.
        !matches!(shared.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Returns the records of the targets that show a volume's shared copy. While the volume is locked, none are added.
    pub(crate) fn sharers(&self, volume_id: &str) -> Result<Vec<Record>, StoreError> {
        self.sharers_in(&sha256_hex(volume_id))
    }

    pub(super) fn sharers_in(&self, volume: &str) -> Result<Vec<Record>, StoreError> {
        let mut sharers = Vec::new();
        for target in self.layout.targets_of(volume)? {
            sharers.extend(self.record_in(volume, &target)?.filter(|record| record.shows.is_shared()));
        }
        Ok(sharers)
    }
}

impl Layout {
    /// Locks the volume with this hash, if its lock is free.
    pub(super) fn try_volume(self: &Arc<Self>, volume: &str) -> Result<Option<VolumeSlot>, StoreError> {
        let lock = self.locks.try_acquire(&LockName::Volume(volume.to_owned()), Mode::Exclusive)?;
        let directory = self.volumes().join(volume);
        Ok(lock.map(|lock| VolumeSlot { layout: Arc::clone(self), directory, _lock: lock }))
    }

    /// Returns the hashes of the volumes with any part of a shared copy.
    pub(super) fn sharing_volumes(&self) -> Result<Vec<String>, StoreError> {
        let mut volumes = self.volume_hashes()?;
        volumes.retain(|volume| self.volumes().join(volume).join(SHARED_DIRECTORY).symlink_metadata().is_ok());
        Ok(volumes)
    }
}

fn tree(volume: &Path) -> PathBuf {
    volume.join(SHARED_DIRECTORY).join(TREE_DIRECTORY)
}

fn read(volume: &Path) -> Result<Option<SharedCopy>, StoreError> {
    let meta = volume.join(SHARED_DIRECTORY).join(META_FILE);
    let Some(copy) = durable::read_json::<SharedCopy>(&meta, META_LIMIT)? else { return Ok(None) };
    let tree = if copy.layer { Layer::in_directory(volume.join(SHARED_DIRECTORY)).upper() } else { tree(volume) };
    match optional(fs::symlink_metadata(&tree).map_err(StoreError::io("examine", &tree)))? {
        Some(metadata) if !metadata.is_dir() => Err(StoreError::corrupt(&tree, "it is not a directory")),
        found => Ok(found.map(|_| copy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::Shows;
    use crate::store::fixture::commit;
    use crate::store::fixture::impatient;
    use crate::store::fixture::install;
    use crate::store::fixture::record;
    use crate::store::fixture::store;

    fn sharer(store: &Store, target: &str) -> Record {
        let lease = install(store, commit(1), "");
        Record { shows: Shows::SharedCopy, ..record(store, "volume", Path::new(target), &lease) }
    }

    fn make(store: &Store, copy: &SharedCopy, content: &str) -> PathBuf {
        let volume = store.volume("volume", &impatient()).unwrap();
        let staging = store.staging().unwrap();
        let prepared = staging.path().join("prepared");
        fs::create_dir_all(VolumeSlot::tree_in(&prepared)).unwrap();
        fs::write(VolumeSlot::tree_in(&prepared).join("file"), content).unwrap();
        volume.install(&staging, &prepared, copy).unwrap()
    }

    #[test]
    fn a_shared_copy_appears_whole_and_leaves_nothing_behind() {
        let (_place, store) = store();
        let record = sharer(&store, "/pods/a");
        let copy = SharedCopy::of(&record);
        assert_eq!(store.shared_copy("volume").unwrap(), None);
        for content in ["one", "two"] {
            let tree = make(&store, &copy, content);
            assert_eq!(tree, store.shared_tree("volume"));
            assert_eq!(fs::read_to_string(tree.join("file")).unwrap(), content);
            assert_eq!(store.shared_copy("volume").unwrap().as_ref(), Some(&copy));
        }
        assert!(copy.is_of(&record) && store.has_shared_copy("volume") && !store.has_shared_copy("other"));
        store.volume("volume", &impatient()).unwrap().discard(Deletion::Now).unwrap();
        store.volume("volume", &impatient()).unwrap().discard(Deletion::Now).unwrap();
        assert!(!store.delete_discarded(std::time::Duration::from_secs(60)), "what the second one replaced");
        for place in ["volumes", "trash", "staging"] {
            assert_eq!(fs::read_dir(store.root().join(place)).unwrap().count(), 0, "{place}");
        }
    }

    #[test]
    fn one_process_at_a_time_locks_a_volume_and_its_targets_stay_free() {
        let (_place, store) = store();
        let _held = store.volume("volume", &impatient()).unwrap();
        assert_eq!(store.volume("volume", &impatient()).unwrap_err().kind(), Kind::Busy);
        store.volume("other", &impatient()).unwrap();
        store.target("volume", Path::new("/pods/a"), &impatient()).unwrap();
    }

    #[test]
    fn only_targets_that_show_the_shared_copy_are_sharers() {
        let (_place, store) = store();
        let shared = ["/pods/a", "/pods/b"].map(|target| sharer(&store, target));
        let alone = Record { shows: Shows::Copy, ..sharer(&store, "/pods/c") };
        for record in shared.iter().chain([&alone]) {
            store.target("volume", &record.target, &impatient()).unwrap().write(record).unwrap();
        }
        let mut sharers = store.sharers("volume").unwrap();
        sharers.sort_by(|a, b| a.target.cmp(&b.target));
        assert_eq!(sharers, shared);
        assert_eq!(store.sharers("other").unwrap(), []);
    }

    #[test]
    fn r13_a_torn_description_is_reported_as_damaged_and_without_a_tree_there_is_no_copy() {
        let (_place, store) = store();
        let copy = SharedCopy::of(&sharer(&store, "/pods/a"));
        let tree = make(&store, &copy, "");
        fs::write(tree.with_file_name(META_FILE), "{").unwrap();
        assert_eq!(store.shared_copy("volume").unwrap_err().kind(), Kind::Corrupt);
        let tree = make(&store, &copy, "");
        fs::rename(&tree, tree.with_file_name("elsewhere")).unwrap();
        assert_eq!(store.shared_copy("volume").unwrap(), None);
    }
}
