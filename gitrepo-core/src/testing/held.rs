//! Locks of a store, held as another process would hold them.

use std::path::Path;

use crate::cancel::Cancel;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::TargetSlot;
use crate::store::VolumeSlot;

/// A lock, until it is dropped.
#[derive(Debug)]
pub struct HeldLock {
    _target: Option<TargetSlot>,
    _volume: Option<VolumeSlot>,
}

impl HeldLock {
    /// The lock that a publish or an unpublish of this target holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another call holds it until `cancel`.
    pub fn target(store: &Store, volume_id: &str, target: &Path, cancel: &Cancel) -> Result<Self, StoreError> {
        Ok(Self { _target: Some(store.target(volume_id, target, cancel)?), _volume: None })
    }

    /// The lock on the shared copy of a volume.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] when another call holds it until `cancel`.
    pub fn volume(store: &Store, volume_id: &str, cancel: &Cancel) -> Result<Self, StoreError> {
        Ok(Self { _target: None, _volume: Some(store.volume(volume_id, cancel)?) })
    }
}
