//! Unpublish: the target shows nothing of ours any more.

use std::path::Path;

use super::UnpublishError;
use super::Volumes;
use crate::cancel::Cancel;
use crate::store::Deletion;
use crate::store::MountTable;
use crate::store::Record;
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
    /// Takes the volume off its target, with everything that was private to it, and with the last target of the volume
    /// also what they shared. A target that is not published is no error. Where the caller knows no volume id (`None`),
    /// the target alone leads to the volume.
    ///
    /// Only what the store mounted is unmounted, by its record, or where that was damaged by what is mounted. Anything
    /// else on the target is left as it is.
    ///
    /// # Errors
    ///
    /// [`UnpublishError::MountedElsewhere`] if another mount namespace has the mount, and the volume's [`Origin`](crate::store::Origin) does not
    /// propagate its mounts.
    pub fn unpublish(
        &self,
        volume_id: Option<&str>,
        target: &Path,
        cancel: &Cancel,
    ) -> Result<Unpublished, UnpublishError> {
        // An empty directory in its place knows no volume, and would have all of them forgotten.
        self.store.check()?;
        let slot = match volume_id {
            Some(volume_id) => self.store.target(volume_id, target, cancel)?,
            None => self.slot_of(target, cancel)?,
        };
        match slot.record()? {
            Some(record) => {
                self.check_seen(&record)?;
                Ok(Unpublished { known: true, mounts: self.detach(&slot, &record, Deletion::Now, cancel)? })
            }
            None => {
                let mounts = self.detach_unrecorded(&slot, target)?;
                if let Some(volume_id) = volume_id {
                    // An earlier attempt may have come no further than to the record.
                    self.release_abandoned(volume_id, target, cancel)?;
                }
                Ok(Unpublished { known: false, mounts })
            }
        }
    }

    /// A person may have mounted the volume in a namespace of which nothing is seen here.
    fn check_seen(&self, record: &Record) -> Result<(), UnpublishError> {
        let told = record.origin.propagates() || record.mounted_in.is_told_by(&MountTable::current()?);
        if told || !self.is_lost(record)? {
            return Ok(());
        }
        Err(UnpublishError::MountedElsewhere {
            target: record.target.clone(),
            namespace: record.mounted_in.namespace.clone(),
        })
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
}
