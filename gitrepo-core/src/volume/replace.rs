//! Replaces an overlay by a copy, for a pod with a user namespace.
//!
//! The container runtime maps the ids of every volume of such a pod, and the kernel refuses that for overlays
//! (`fs/overlayfs` does not set `FS_ALLOW_IDMAP`). The kubelet says that a pod has a user namespace only after its volumes
//! are published. So the overlay is there first; but no container of the pod can have started, and nothing was written.

use std::fs;

use super::PublishError;
use super::Volumes;
use super::attach::PublishLocks;
use super::copies::Source;
use crate::error::Kind;
use crate::mount::Attachment;
use crate::snapshot::Ownership;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::Shows;
use crate::store::SnapshotLease;
use crate::store::StoreError;
use crate::store::TargetSlot;
use crate::watch::Watch;

impl Volumes {
    /// Makes the overlay on a recorded target a plain copy of the same tree, with the same owners: from then on the ids of
    /// the volume can be mapped. The target shows the overlay until it shows the whole copy. Returns whether it was an
    /// overlay. Any process may repeat this after any crash.
    ///
    /// # Errors
    ///
    /// [`PublishError::LayerWritten`] if something was written to the overlay, [`PublishError::NotMapped`] if other targets
    /// share it, [`PublishError::NotReplaceable`] before Linux 6.5, and those of making a copy. Then the target shows what it did.
    pub fn replace_layer(&self, record: &Record, watch: &Watch) -> Result<bool, PublishError> {
        self.store.check()?;
        let replaced = self.with_room(|| {
            let slot = self.store.target(&record.volume_id, &record.target, &watch.cancel)?;
            match slot.record()? {
                Some(record) if record.shows.is_layer() => self.replace_recorded(&slot, &record, watch),
                Some(record) if !record.shows.is_read_only() => self.finish_replacing(&record),
                _ => Ok(false),
            }
        });
        self.delete_discarded(replaced.as_ref().is_err_and(|error| error.kind() == Kind::ResourceExhausted));
        replaced
    }

    /// Whether the kernel can replace overlays by copies (Linux 6.5).
    pub fn can_replace_layers(&self) -> bool {
        self.mounter.can_replace()
    }

    fn replace_recorded(&self, slot: &TargetSlot, record: &Record, watch: &Watch) -> Result<bool, PublishError> {
        let held = PublishLocks { slot, volume: self.lock_if_shared(record, &watch.cancel)? };
        // A target that lost its mount gets it back when it is published again.
        if !self.is_attached_as(record, false)? {
            return Ok(false);
        }
        self.check_replaceable(record)?;
        let missing = || PublishError::Outdated { target: record.target.clone() };
        let snapshot = self.store.snapshot(&record.snapshot)?.ok_or_else(missing)?;
        let shows = if record.shows.is_shared() { Shows::SharedCopy } else { Shows::Copy };
        let copied = Record { shows, ownership: None, ..record.clone() };
        self.copy_lower(&held, record, &copied, &snapshot, watch)?;
        // The record comes first: whoever finds it and the overlay shows the copy, which nobody can have written to.
        slot.write(&copied)?;
        match self.mounter.replace(&self.copy_of(&copied), &record.target) {
            Ok(()) => self.release_lower(&record.snapshot.to_string()),
            Err(error) => {
                self.keep_layer(&held, record)?;
                return Err(error.into());
            }
        }
        Ok(true)
    }

    /// Fails unless this target alone has the layer, nothing was written to it, and the kernel can replace it.
    fn check_replaceable(&self, record: &Record) -> Result<(), PublishError> {
        let Record { volume_id, target, .. } = record;
        if !self.mounter.can_replace() {
            return Err(PublishError::NotReplaceable { target: target.clone() });
        }
        let has_others = || -> Result<bool, PublishError> {
            Ok(!self.sharers_but(volume_id, target)?.is_empty() || self.is_shown_elsewhere(volume_id, target)?)
        };
        if record.shows.is_shared() && has_others()? {
            return Err(PublishError::NotMapped { volume_id: volume_id.clone() });
        }
        let upper = self.layer_of(record).upper();
        match fs::read_dir(&upper).map(|mut written| written.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(PublishError::LayerWritten { target: target.clone() }),
            Err(error) => Err(StoreError::io("list", &upper)(error).into()),
        }
    }

    /// Copies what is under a layer, and installs the copy beside it.
    fn copy_lower(
        &self,
        held: &PublishLocks<'_>,
        record: &Record,
        copied: &Record,
        snapshot: &SnapshotLease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        let Attachment::Overlay { lower, .. } = self.attachment(record) else { return Ok(()) };
        self.in_staging(|staging| {
            let made = staging.path().join("copy");
            let writers = record.ownership.unwrap_or(Ownership::ROOT);
            // The overlay on the target keeps the lower mount.
            self.copy_tree(Source { tree: &lower, meta: snapshot.meta() }, &made, writers, &watch.cancel)?;
            match &held.volume {
                Some(volume) => Ok(volume.install_tree(staging, &made, &SharedCopy::of(copied))?),
                None => Ok(drop(held.slot.install_copy(staging, &made)?)),
            }
        })
    }

    /// Records the layer again, if the target still shows it and nothing else, and discards the copy.
    fn keep_layer(&self, held: &PublishLocks<'_>, record: &Record) -> Result<(), PublishError> {
        if !self.is_attached_as(record, false)? {
            return Ok(());
        }
        held.slot.write(record)?;
        match &held.volume {
            Some(volume) => volume.discard_tree(&SharedCopy::of(record))?,
            None => held.slot.discard_copy()?,
        }
        Ok(())
    }

    /// Shows a recorded copy, if the target still shows the layer in whose place it was made. Returns whether it did.
    fn finish_replacing(&self, record: &Record) -> Result<bool, PublishError> {
        let upper = self.layer_of(record).upper();
        let mounts = self.mounter.list()?;
        let on_target: Vec<_> = mounts.iter().filter(|mount| mount.target == record.target).collect();
        if !on_target.iter().any(|mount| self.store.is_mount_of(mount, &upper)) {
            return Ok(false);
        }
        let copy = self.copy_of(record);
        match on_target[..] {
            [_] => self.mounter.replace(&copy, &record.target)?,
            // The copy is there already, beneath the overlay.
            _ => {
                self.mounter.unmount(&record.target)?;
                let mount = self.mount_of(Attachment::Bind { source: copy }, record, false);
                self.mounter.attach(&mount)?;
            }
        }
        self.release_lower(&record.snapshot.to_string());
        Ok(true)
    }
}
