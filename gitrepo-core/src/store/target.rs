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
mod tests;
