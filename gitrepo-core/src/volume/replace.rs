//! Replaces an overlay by a copy, for a pod with a user namespace.
//!
//! The container runtime maps the ids of every volume of such a pod, and the kernel refuses that for overlays
//! (`fs/overlayfs` does not set `FS_ALLOW_IDMAP`). The kubelet says that a pod has a user namespace only after its volumes
//! are published. So the overlay is there first; but no container of the pod can have started, and nothing was written.
//!
//! The copy is made while nobody is locked out. Under the locks, the record comes first: from then on whoever finds the
//! overlay there puts the copy in its place.

use std::fs;
use std::path::Path;

use super::PublishError;
use super::Volumes;
use super::attach::PublishLocks;
use super::copies::Destination;
use super::copies::Source;
use crate::error::Kind;
use crate::error::chain;
use crate::mount::MountError;
use crate::snapshot::Ownership;
use crate::store::Record;
use crate::store::SharedCopy;
use crate::store::Shows;
use crate::store::Staging;
use crate::store::StoreError;
use crate::store::TargetSlot;
use crate::watch::Watch;

impl Volumes {
    /// Whether the kernel can replace overlays by copies (Linux 6.5).
    pub fn can_replace_layers(&self) -> bool {
        self.mounter.can_replace()
    }

    /// Whether a recorded target shows an overlay, whatever its record says: a call of [`Volumes::replace_layer`] may have
    /// died.
    ///
    /// # Errors
    ///
    /// If the mount table cannot be read.
    pub fn shows_layer(&self, record: &Record) -> Result<bool, MountError> {
        let upper = self.layer_of(record).upper();
        let is_layer = |mounts: Vec<_>| mounts.iter().any(|mount| self.is_layer_on(mount, record, &upper));
        Ok(!record.shows.is_read_only() && is_layer(self.mounter.list()?))
    }

    /// Makes the overlay on a recorded target a plain copy of the same tree, with the same owners: from then on the ids of
    /// the volume can be mapped. The target shows the overlay until it shows the whole copy. Returns whether it was an
    /// overlay. Any process may repeat this after any crash.
    ///
    /// # Errors
    ///
    /// [`PublishError::LayerWritten`] if something was written to the overlay, [`PublishError::NotMapped`] if other targets
    /// share it, [`PublishError::NotReplaceable`] before Linux 6.5, and those of making a copy. Then the target shows what
    /// it did.
    pub fn replace_layer(&self, record: &Record, watch: &Watch) -> Result<bool, PublishError> {
        self.store.check()?;
        let replaced = self.with_room(|| match record.shows.is_layer() {
            true => self.replace_recorded(record, watch),
            false => self.finish_replacing(record, watch),
        });
        self.delete_discarded(replaced.as_ref().is_err_and(|error| error.kind() == Kind::ResourceExhausted));
        replaced
    }

    fn replace_recorded(&self, record: &Record, watch: &Watch) -> Result<bool, PublishError> {
        // A target that lost its mount gets it back when it is published again.
        if !self.is_attached_as(record, false)? {
            return Ok(false);
        }
        self.check_replaceable(record)?;
        self.in_staging(|staging| {
            let made = staging.path().join("copy");
            self.copy_lower(record, &made, watch)?;
            let slot = self.store.target(&record.volume_id, &record.target, &watch.cancel)?;
            // The target may have been unpublished meanwhile, or published again.
            if slot.record()?.as_ref() != Some(record) {
                return Ok(false);
            }
            self.install_in_place(&slot, record, staging, &made, watch)
        })
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
        match self.is_untouched(record)? {
            true => Ok(()),
            false => Err(PublishError::LayerWritten { target: target.clone() }),
        }
    }

    fn is_untouched(&self, record: &Record) -> Result<bool, StoreError> {
        let upper = self.layer_of(record).upper();
        let first = fs::read_dir(&upper).map_err(StoreError::io("list", &upper))?.next();
        Ok(first.is_none())
    }

    /// Copies what is under a layer.
    fn copy_lower(&self, record: &Record, made: &Path, watch: &Watch) -> Result<(), PublishError> {
        let outdated = || PublishError::Outdated { target: record.target.clone() };
        let snapshot = self.store.snapshot(&record.snapshot)?.ok_or_else(outdated)?;
        let writers = record.ownership.unwrap_or(Ownership::ROOT);
        // The copy joins the layer's project. As for every copy, its quota counts from the moment that it is complete.
        let mark = self.layer_of(record).quota_mark();
        let project = self.projects.project_of(&mark);
        self.projects.lift(&mark);
        let copied = self.with_tree(&snapshot, &watch.cancel, |tree| {
            let source = Source { tree, meta: snapshot.meta() };
            self.copy_tree(source, Destination { made, project, writers }, &watch.cancel)
        });
        self.projects.renew(&mark);
        copied
    }

    /// Installs a copy and shows it in the place of the layer. On failure, the target shows the layer, and is recorded so.
    fn install_in_place(
        &self,
        slot: &TargetSlot,
        record: &Record,
        staging: &Staging,
        made: &Path,
        watch: &Watch,
    ) -> Result<bool, PublishError> {
        let held = PublishLocks { slot, volume: self.lock_if_shared(record, &watch.cancel)? };
        if !self.is_attached_as(record, false)? {
            return Ok(false);
        }
        // Again: the copy took its time.
        self.check_replaceable(record)?;
        let shows = if record.shows.is_shared() { Shows::SharedCopy } else { Shows::Copy };
        let copied = Record { shows, ..record.clone() };
        self.try_install(&held, &copied, staging, made).inspect_err(|_| {
            if let Err(error) = self.keep_layer(&held, record) {
                let target = record.target.display();
                tracing::warn!(%target, error = %chain(&error), "an overlay is recorded as the copy that it did not become");
            }
        })?;
        self.release_lower(&record.snapshot.to_string());
        Ok(true)
    }

    fn try_install(
        &self,
        held: &PublishLocks<'_>,
        copied: &Record,
        staging: &Staging,
        made: &Path,
    ) -> Result<(), PublishError> {
        match &held.volume {
            Some(volume) => volume.install_tree(staging, made)?,
            None => held.slot.install_beside_layer(staging, made)?,
        }
        held.slot.write(copied)?;
        if let Some(volume) = &held.volume {
            volume.describe(&SharedCopy::of(copied))?;
        }
        Ok(self.mounter.replace(&self.copy_of(copied), &copied.target)?)
    }

    /// Records the layer again, if the target still shows it and nothing else, and discards the copy.
    fn keep_layer(&self, held: &PublishLocks<'_>, record: &Record) -> Result<(), PublishError> {
        if !self.is_attached_as(record, false)? {
            return Ok(());
        }
        held.slot.write(record)?;
        match &held.volume {
            Some(volume) => {
                volume.describe(&SharedCopy::of(record))?;
                volume.discard_tree()?;
            }
            None => held.slot.discard_copy()?,
        }
        Ok(())
    }

    /// Shows a recorded copy, if the target still shows the layer in whose place it was made. Returns whether it did.
    fn finish_replacing(&self, record: &Record, watch: &Watch) -> Result<bool, PublishError> {
        let slot = self.store.target(&record.volume_id, &record.target, &watch.cancel)?;
        let Some(record) = slot.record()?.filter(|record| !record.shows.is_read_only() && !record.shows.is_layer())
        else {
            return Ok(false);
        };
        if !self.shows_layer(&record)? {
            return Ok(false);
        }
        let held = PublishLocks { slot: &slot, volume: self.lock_if_shared(&record, &watch.cancel)? };
        if !self.is_untouched(&record)? {
            // Another target may show the copy, and what was written to it.
            if record.shows.is_shared() && !self.sharers_but(&record.volume_id, &record.target)?.is_empty() {
                return Err(PublishError::LayerWritten { target: record.target });
            }
            let shows = if record.shows.is_shared() { Shows::SharedLayer } else { Shows::Layer };
            self.keep_layer(&held, &Record { shows, ..record.clone() })?;
            return Err(PublishError::LayerWritten { target: record.target });
        }
        if let Some(volume) = &held.volume {
            volume.describe(&SharedCopy::of(&record))?;
        }
        self.mounter.replace(&self.copy_of(&record), &record.target)?;
        self.release_lower(&record.snapshot.to_string());
        Ok(true)
    }
}
