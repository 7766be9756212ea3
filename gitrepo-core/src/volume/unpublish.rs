//! Unpublish: the target shows nothing of ours any more.

use std::path::Path;

use super::UnpublishError;
use super::Volumes;
use super::attach::forget;
use crate::cancel::Cancel;
use crate::store::MountTable;
use crate::store::Origin;
use crate::store::StoreError;
use crate::store::TargetSlot;

/// What an unpublish found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpublished {
    /// There was a record of the target.
    pub known: bool,
    /// Mounts that were taken off it.
    pub mounts: usize,
}

impl Volumes {
    /// Takes the volume off its target, with everything that was private to it. A target that is not published is no
    /// error. Where the caller knows no volume id (`None`), the target alone leads to the volume.
    ///
    /// Only what the store mounted is unmounted, by its record, or where that was damaged by what is mounted. Anything
    /// else on the target is left as it is.
    pub fn unpublish(
        &self,
        volume_id: Option<&str>,
        target: &Path,
        cancel: &Cancel,
    ) -> Result<Unpublished, UnpublishError> {
        let slot = match volume_id {
            Some(volume_id) => self.store.target(volume_id, target, cancel)?,
            None => self.slot_of(target, cancel)?,
        };
        match slot.record()? {
            Some(record) => Ok(Unpublished { known: true, mounts: self.detach(&slot, &record)? }),
            None => Ok(Unpublished { known: false, mounts: self.detach_unrecorded(&slot, target)? }),
        }
    }

    /// Holds a target of whatever volume is published there.
    fn slot_of(&self, target: &Path, cancel: &Cancel) -> Result<TargetSlot, StoreError> {
        let published = || Ok(self.store.record_of_target(target)?.map(|record| record.volume_id).unwrap_or_default());
        let mut volume_id = published()?;
        loop {
            let slot = self.store.target(&volume_id, target, cancel)?;
            // Whoever held it until now may have published there, or taken away what was.
            match published()? {
                now if now == volume_id => return Ok(slot),
                now => volume_id = now,
            }
        }
    }

    /// Forgets the volumes of `origin` whose mount a reboot took, or somebody else's umount: nobody will ask for them to
    /// be unpublished. Those that another process works on are left alone, and so are those that hold a private copy: what
    /// was written there waits for the same publish again, or for an unpublish.
    ///
    /// Meant for frontends without a kubelet behind them, which would publish again after a reboot.
    pub(super) fn collect(&self, origin: Origin) -> Result<(), UnpublishError> {
        let ours = MountTable::current()?;
        for record in self.store.records()? {
            if record.origin != origin || !record.mounted_in.is_told_by(&ours) {
                continue;
            }
            let Some(slot) = self.store.try_target(&record.volume_id, &record.target)? else { continue };
            let Some(record) = slot.record()? else { continue };
            if slot.copy_dir().is_dir() {
                continue;
            }
            match self.is_lost(&record) {
                Ok(false) => {}
                Ok(true) => forget(&slot, &record)?,
                Err(error) => tracing::warn!(%error, "the mount table cannot be read; nothing is collected"),
            }
        }
        Ok(())
    }
}
