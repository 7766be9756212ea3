//! Unpublish: removes a volume from its target.

use std::path::Path;

use super::UnpublishError;
use super::Volumes;
use crate::cancel::Cancel;
use crate::error::Kind;
use crate::store::MountTable;
use crate::store::Record;
use crate::store::StoreError;
use crate::store::TargetSlot;

/// The result of an unpublish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpublished {
    /// Whether the target had a record.
    pub known: bool,
    /// How many mounts were removed.
    pub mounts: usize,
}

impl Volumes {
    /// Unmounts the volume from its target and deletes the target's record and private copy. With the last target of a
    /// volume, also deletes the shared copy. A target that is not published is not an error. With `None` as the volume
    /// id, the volume is found by its target.
    ///
    /// Unmounts only our own mounts: the recorded one, or, if the record was damaged, one that shows something of the
    /// store. Other mounts on the target stay.
    ///
    /// # Errors
    ///
    /// [`UnpublishError::MountedElsewhere`] if the mount is in another mount namespace, and the volume's
    /// [`Origin`](crate::store::Origin) does not propagate its mounts.
    pub fn unpublish(
        &self,
        volume_id: Option<&str>,
        target: &Path,
        cancel: &Cancel,
    ) -> Result<Unpublished, UnpublishError> {
        // In an empty directory in place of the store, every volume would look unpublished.
        self.store.check()?;
        let unpublished = match self.unpublish_once(volume_id, target, cancel) {
            // To delete a file may need space, too.
            Err(error) if error.kind() == Kind::ResourceExhausted && self.store.release_spare() => {
                self.unpublish_once(volume_id, target, cancel)
            }
            result => result,
        };
        self.delete_discarded(false);
        unpublished
    }

    fn unpublish_once(
        &self,
        volume_id: Option<&str>,
        target: &Path,
        cancel: &Cancel,
    ) -> Result<Unpublished, UnpublishError> {
        let slot = match volume_id {
            Some(volume_id) => self.store.target(volume_id, target, cancel)?,
            None => self.slot_of(target, cancel)?,
        };
        let record = slot.record()?;
        if let Some(record) = &record {
            self.check_seen(record)?;
        }
        slot.mark_unpublished();
        match record {
            Some(record) => Ok(Unpublished { known: true, mounts: self.detach(&slot, &record, cancel)? }),
            None => {
                let mounts = self.detach_unrecorded(&slot, target)?;
                if let Some(volume_id) = volume_id {
                    // An earlier attempt may have died after it deleted the record.
                    self.release_abandoned(volume_id, target, cancel)?;
                }
                Ok(Unpublished { known: false, mounts })
            }
        }
    }

    /// Fails if the volume may be mounted in a namespace that this process does not see.
    fn check_seen(&self, record: &Record) -> Result<(), UnpublishError> {
        let is_visible = record.origin.propagates() || record.mounted_in.can_be_checked_from(&MountTable::current()?);
        if is_visible || !self.is_lost(record)? {
            return Ok(());
        }
        Err(UnpublishError::MountedElsewhere {
            target: record.target.clone(),
            namespace: record.mounted_in.namespace.clone(),
        })
    }

    /// Locks a target for the volume that is published there.
    fn slot_of(&self, target: &Path, cancel: &Cancel) -> Result<TargetSlot, StoreError> {
        let published = || Ok(self.store.record_of_target(target)?.map(|record| record.volume_id).unwrap_or_default());
        let mut volume_id = published()?;
        loop {
            let slot = self.store.target(&volume_id, target, cancel)?;
            // The previous holder of the lock may have published or unpublished there.
            match published()? {
                now if now == volume_id => return Ok(slot),
                now => volume_id = now,
            }
        }
    }
}
