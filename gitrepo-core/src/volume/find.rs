//! Queries about published volumes. They take no lock and change nothing.

use std::path::Path;

use super::Outcome;
use super::PublishError;
use super::Published;
use super::PublishedVolume;
use super::State;
use super::UnpublishError;
use super::VolumeRequest;
use super::Volumes;
use super::same_content;
use super::show::published;
use super::show::taken_by;
use crate::error::Kind;
use crate::mount::MountError;
use crate::store::Record;
use crate::store::StoreError;

impl Volumes {
    /// The published volume, if the target already shows what the request asks for. Most repeated publishes end here.
    /// The answer comes from the record and the mount table alone: an absent remote, changed secrets or a stricter
    /// policy do not fail a volume that is mounted. `None` if there is something to do.
    ///
    /// # Errors
    ///
    /// [`PublishError::TargetTaken`] if the target shows other content of this volume.
    pub fn serves(&self, request: &VolumeRequest) -> Result<Option<Published>, PublishError> {
        self.store.check()?;
        let Some(record) = self.store.record(&request.volume_id, &request.target)? else { return Ok(None) };
        if !same_content(&record, request) {
            return Err(taken_by(&record));
        }
        Ok(self.is_attached(&record)?.then(|| published(&record, Outcome::AlreadyPublished)))
    }

    /// One target of a volume, if it is published there.
    ///
    /// # Errors
    ///
    /// When the store or its mounts cannot be read.
    pub fn find(&self, volume_id: &str, target: &Path) -> Result<Option<PublishedVolume>, UnpublishError> {
        self.store.check()?;
        let Some(record) = self.store.record(volume_id, target)? else { return Ok(None) };
        match self.is_attached(&record) {
            // Unknown whether it is mounted.
            Err(error) if error.kind() == Kind::Unavailable => Err(error.into()),
            _ => Ok(Some(self.look_at(record))),
        }
    }

    /// All targets of one volume.
    pub fn targets_of(&self, volume_id: &str) -> Result<Vec<PublishedVolume>, StoreError> {
        self.store.check()?;
        let records = self.store.records_of_volume(volume_id)?;
        Ok(records.into_iter().map(|record| self.look_at(record)).collect())
    }

    pub(super) fn look_at(&self, record: Record) -> PublishedVolume {
        let state = state(self.is_attached(&record));
        let age = record.created_at.elapsed().unwrap_or_default();
        PublishedVolume { record, age, state }
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
