//! Where images are mounted to be the lower layers of overlays.
//!
//! All overlays of a snapshot on this node have one lower mount, and so share one page cache. It is mounted for the first
//! of them and unmounted with the last. An overlay keeps its lower filesystem, so a lower mount that goes too early costs
//! no more than a second page cache; and one that stays too long, until the next sweep, only keeps its snapshot from being
//! evicted.

use std::fs;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::cancel::Cancel;

use super::Store;
use super::error::StoreError;
use super::lock::Lock;
use super::lock::LockName;
use super::lock::Mode;
use super::snapshot_id::SnapshotId;
use super::target::hashes_in;
use crate::digest::is_hex;

/// Not one of the directories that every store has: older stores lack it.
const DIRECTORY: &str = "lowers";

/// The place for the lower mount of a snapshot, locked.
#[derive(Debug)]
pub(crate) struct LowerSlot {
    path: PathBuf,
    _lock: Lock,
}

impl LowerSlot {
    /// Returns the directory to mount on.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory.
    pub(crate) fn make(&self) -> Result<(), StoreError> {
        for path in self.path.parent().into_iter().chain([self.path()]) {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(StoreError::io("make", path))?,
            }
        }
        Ok(())
    }

    /// Removes the directory, which is empty once nothing is mounted there.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(StoreError::io("remove", &self.path)),
        }
    }
}

impl Store {
    /// Returns the place for the lower mount of a snapshot.
    pub(crate) fn lower_path(&self, id: &SnapshotId) -> PathBuf {
        self.root().join(DIRECTORY).join(id.to_string())
    }

    /// Returns the directory of the snapshot whose lower mount is at this path, wherever the store is seen.
    pub(super) fn snapshot_of_lower(&self, lower: &Path) -> Option<PathBuf> {
        let id = lower.file_name()?.to_str().filter(|id| is_hex(id, 64))?;
        lower.parent()?.ends_with(DIRECTORY).then(|| self.layout.snapshots().join(id))
    }

    /// Locks the lower mount of a snapshot, waiting for other holders until `cancel`: shared to use it, exclusively to
    /// make it. This lock is taken after every other.
    ///
    /// # Errors
    /// [`StoreError::Locked`], of kind `Busy`, if they hold the lock longer.
    pub(crate) fn lower(&self, id: &SnapshotId, mode: Mode, cancel: &Cancel) -> Result<LowerSlot, StoreError> {
        let lock = self.layout.locks.acquire(&LockName::Lower(id.to_string()), mode, cancel)?;
        Ok(LowerSlot { path: self.lower_path(id), _lock: lock })
    }

    /// Locks the lower mount of a snapshot exclusively, if it has a place and nobody uses or makes it at this moment.
    pub(crate) fn try_lower(&self, id: &str) -> Result<Option<LowerSlot>, StoreError> {
        let path = self.root().join(DIRECTORY).join(id);
        if !path.exists() {
            return Ok(None);
        }
        let lock = self.layout.locks.try_acquire(&LockName::Lower(id.to_owned()), Mode::Exclusive)?;
        Ok(lock.map(|lock| LowerSlot { path, _lock: lock }))
    }

    /// Returns the ids of the snapshots with a place for a lower mount.
    pub(crate) fn lowers(&self) -> Result<Vec<String>, StoreError> {
        hashes_in(&self.root().join(DIRECTORY))
    }
}
