//! Queries about published volumes. They take no lock and change nothing.

use std::path::Path;

use super::PublishError;
use super::Published;
use super::PublishedVolume;
use super::State;
use super::UnpublishError;
use super::VolumeRequest;
use super::Volumes;
use crate::error::Kind;
use crate::mount::MountError;
use crate::store::Record;
use crate::store::StoreError;

impl Volumes {
    /// Returns the published volume if the target already shows the requested content; `None` if there is something to
    /// do. Most repeated publishes end here. The answer comes from the record and the mount table alone: an absent
    /// remote, changed secrets or a stricter policy do not fail a volume that is mounted.
    ///
    /// # Errors
    ///
    /// [`PublishError::TargetTaken`] if the target shows other content of this volume.
    pub fn serves(&self, request: &VolumeRequest) -> Result<Option<Published>, PublishError> {
        self.store.check()?;
        let Some(record) = self.store.record(&request.volume_id, &request.target)? else { return Ok(None) };
        self.check_recorded(&record, request)?;
        Ok(self.is_attached(&record)?.then(|| self.published_before(&record)))
    }

    /// Returns one target of a volume, if the volume is published there.
    ///
    /// # Errors
    ///
    /// If the store or the mount table cannot be read.
    pub fn find(&self, volume_id: &str, target: &Path) -> Result<Option<PublishedVolume>, UnpublishError> {
        self.store.check()?;
        let Some(record) = self.store.record(volume_id, target)? else { return Ok(None) };
        match self.is_attached(&record) {
            // It is unknown whether the volume is mounted.
            Err(error) if error.kind() == Kind::Unavailable => Err(error.into()),
            _ => Ok(Some(self.with_state(record))),
        }
    }

    /// Returns all targets of one volume.
    pub fn targets_of(&self, volume_id: &str) -> Result<Vec<PublishedVolume>, StoreError> {
        self.store.check()?;
        let records = self.store.records_of_volume(volume_id)?;
        Ok(records.into_iter().map(|record| self.with_state(record)).collect())
    }

    pub(super) fn with_state(&self, record: Record) -> PublishedVolume {
        let state = state(self.is_attached(&record));
        let age = record.created_at.elapsed().unwrap_or_default();
        let format = self.format_of(&record);
        PublishedVolume { record, age, state, format }
    }
}

fn state(attached: Result<bool, MountError>) -> State {
    match attached {
        Ok(true) => State::Mounted,
        Ok(false) => State::NotMounted,
        Err(error) => {
            tracing::warn!(%error, "the mount table cannot be read");
            State::NotMounted
        }
    }
}
