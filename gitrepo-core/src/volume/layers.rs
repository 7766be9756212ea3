//! The layers that writable volumes show over their snapshot, and the lower mounts below them.

use std::path::Path;

use super::PublishError;
use super::VolumeRequest;
use super::Volumes;
use super::attach::PublishLocks;
use super::attach::overlay;
use crate::cancel::Cancel;
use crate::error::chain;
use crate::mount::Attachment;
use crate::mount::Mount;
use crate::mount::MountPoint;
use crate::snapshot::VolumeRoot;
use crate::store::Layer;
use crate::store::LowerSlot;
use crate::store::Mode;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::SnapshotId;
use crate::store::SnapshotLease;
use crate::store::StoreError;
use crate::store::VolumeSlot;
use crate::watch::Watch;

/// How often to look for a lower mount that was just made.
const TRIES: usize = 3;

impl Volumes {
    /// Mounts the layer of a target, or of its volume, over the snapshot. Makes the layer if there is none.
    pub(super) fn attach_layer(
        &self,
        held: &PublishLocks<'_>,
        record: &Record,
        request: &VolumeRequest,
        snapshot: &SnapshotLease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        let root = VolumeRoot::of(request.ownership());
        let layer = match &held.volume {
            Some(volume) => self.shared_layer(volume, record, root)?,
            None => held.slot.layer(root, &self.projects)?,
        };
        let mount = |lower: &Path| {
            self.mounter.attach(&self.mount_of(overlay(&layer, lower.to_owned()), record, layer.is_full()))
        };
        self.with_tree(snapshot, &watch.cancel, |lower| Ok(mount(lower)?))
    }

    /// Runs an action that reads the tree of a snapshot: its directory, or the lower mount of its image.
    pub(super) fn with_tree(
        &self,
        snapshot: &SnapshotLease,
        cancel: &Cancel,
        action: impl Fn(&Path) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        match snapshot.attachment()? {
            image @ Attachment::Image { .. } => self.with_lower(snapshot.id(), image, cancel, action),
            attachment => action(attachment.path()),
        }
    }

    /// Returns the volume's shared layer. Makes it if there is none.
    fn shared_layer(&self, volume: &VolumeSlot, record: &Record, root: VolumeRoot) -> Result<Layer, PublishError> {
        if self.has_shared(volume, record)? {
            return Ok(volume.layer());
        }
        let staging = self.store.staging()?;
        let made = staging.path().join("shared");
        std::fs::create_dir(&made).map_err(StoreError::io("make", &made))?;
        VolumeSlot::layer_in(&made).make(root, &self.projects)?;
        volume.install(&staging, &made, &SharedCopy::of(record))?;
        Ok(volume.layer())
    }

    /// Runs an action that needs the lower mount of an image.
    fn with_lower(
        &self,
        id: &SnapshotId,
        image: Attachment,
        cancel: &Cancel,
        action: impl Fn(&Path) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        let label = self.snapshots.gateway().policy().label().cloned();
        let lower = Mount { attachment: image, target: self.store.lower_path(id), read_only: true, label };
        for _ in 0..TRIES {
            let slot = self.store.lower(id, Mode::Shared, cancel)?;
            if self.mounter.shows(&lower)? {
                return action(slot.path());
            }
            drop(slot);
            // The action may take a second, for which others need not wait. Until it begins, somebody may unmount this.
            drop(self.make_lower(id, &lower, cancel)?);
        }
        let slot = self.make_lower(id, &lower, cancel)?;
        action(slot.path())
    }

    /// Mounts the lower mount of an image.
    fn make_lower(&self, id: &SnapshotId, lower: &Mount, cancel: &Cancel) -> Result<LowerSlot, PublishError> {
        let slot = self.store.lower(id, Mode::Exclusive, cancel)?;
        if !self.mounter.shows(lower)? {
            slot.make()?;
            // Something else of ours, such as an earlier image at the same path.
            self.mounter.unmount(slot.path())?;
            self.mounter.attach(lower)?;
        }
        Ok(slot)
    }

    /// Unmounts the lower mount of a snapshot if no overlay of this mount namespace has it, and nobody is making one. Only
    /// costs if it fails: the next sweep tries again.
    pub(super) fn release_lower(&self, id: &str) {
        if let Err(error) = self.try_release_lower(id) {
            tracing::debug!(snapshot = id, error = %chain(&error), "cannot unmount an unused lower layer");
        }
    }

    fn try_release_lower(&self, id: &str) -> Result<bool, PublishError> {
        let Some(slot) = self.store.try_lower(id)? else { return Ok(false) };
        if self.mounter.list()?.iter().any(|mount| has_lower(mount, id)) {
            return Ok(false);
        }
        self.mounter.unmount(slot.path())?;
        slot.remove()?;
        Ok(true)
    }

    /// Unmounts the lower mounts that no overlay has, and returns their number. Those that one of these mounts has are not
    /// looked at again.
    pub(super) fn sweep_lowers(&self, mounts: &[MountPoint]) -> Result<usize, StoreError> {
        let mut swept = 0;
        for id in self.store.lowers()? {
            if mounts.iter().any(|mount| has_lower(mount, &id)) {
                continue;
            }
            match self.try_release_lower(&id) {
                Ok(released) => swept += usize::from(released),
                Err(error) => {
                    tracing::warn!(snapshot = id, error = %chain(&error), "cannot unmount an unused lower layer");
                }
            }
        }
        Ok(swept)
    }
}

/// Whether this is an overlay over the lower mount of a snapshot, wherever its store is seen.
fn has_lower(mount: &MountPoint, id: &str) -> bool {
    mount.lower().is_some_and(|lower| lower.ends_with(id))
}
