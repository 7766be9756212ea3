//! Publish: a target shows a commit's tree.

use std::path::Component;
use std::path::Path;
use std::time::SystemTime;

use super::Outcome;
use super::PublishError;
use super::Published;
use super::VolumeRequest;
use super::Volumes;
use super::attach::Held;
use super::obtain::Obtained;
use super::obtain::Wanted;
use super::same_content;
use super::same_credential;
use crate::access::CredentialId;
use crate::error::Kind;
use crate::error::chain;
use crate::snapshot::Watch;
use crate::spec::Revision;
use crate::store::Deletion;
use crate::store::MountTable;
use crate::store::Record;
use crate::store::SnapshotLease;
use crate::store::TargetSlot;

impl Volumes {
    /// Publishes a volume on its target. Repeating it is free, from any process and after any crash: a target that
    /// serves the same content already is left alone, one that lost its mount gets the recorded commit back.
    ///
    /// # Errors
    ///
    /// Everything that this call did for the target has been undone when an error is returned, but for
    /// [`PublishError::NotUndone`].
    pub fn publish(&self, request: &VolumeRequest, watch: &Watch) -> Result<Published, PublishError> {
        match self.publish_once(request, watch) {
            // On a full disk, what no volume uses is worth less than this one.
            Err(error) if self.made_room_after(&error) => self.publish_once(request, watch),
            // What fails because the store went meanwhile says nothing of the volume.
            Err(error) if matches!(error.kind(), Kind::Internal | Kind::Corrupt | Kind::FailedPrecondition) => {
                self.store.check()?;
                Err(error)
            }
            result => result,
        }
    }

    fn publish_once(&self, request: &VolumeRequest, watch: &Watch) -> Result<Published, PublishError> {
        check_target(&request.target, self.store.root())?;
        self.store.check()?;
        self.gateway.policy().check(&request.spec.repository)?;

        let slot = self.store.target(&request.volume_id, &request.target, &watch.cancel)?;
        let credential = self.store.access().credential(&request.spec.repository, &request.credentials)?;
        match slot.record()? {
            Some(record) => {
                // What the record promises is this target's alone.
                commit(watch)?;
                self.republish(&slot, record, request, &credential, watch)
            }
            None => self.publish_first(&slot, request, &credential, watch),
        }
    }

    fn publish_first(
        &self,
        slot: &TargetSlot,
        request: &VolumeRequest,
        credential: &CredentialId,
        watch: &Watch,
    ) -> Result<Published, PublishError> {
        if let Some(taken) = self.store.record_of_target(&request.target)? {
            return Err(taken_by(&taken));
        }
        let target = self.find_target(&request.target, None)?;
        let (Obtained { resolved, lease, outcome }, volume) = match request.is_shared() {
            true => {
                self.obtain_shared(request, credential, watch).map(|(obtained, volume)| (obtained, Some(volume)))?
            }
            false => (self.obtain(wanted(request, &request.spec.revision, credential), watch)?, None),
        };
        commit(watch)?;
        let held = Held { slot, volume };
        let record = Record {
            version: Record::VERSION,
            origin: request.origin,
            volume_id: request.volume_id.clone(),
            target: request.target.clone(),
            repository: request.spec.repository.to_string(),
            revision: request.spec.revision.to_string(),
            reference: resolved.reference.clone(),
            commit: resolved.commit,
            snapshot: lease.id().clone(),
            content: request.content(),
            read_only: request.read_only,
            copy: !request.read_only,
            shared: request.is_shared(),
            credential: credential.clone(),
            mounted_in: MountTable::current()?,
            created_at: SystemTime::now(),
            target_created: !target.existed,
        };
        if target.remnant {
            self.mounter.unmount(&record.target)?;
        }
        // A copy whose record was lost holds who knows what.
        self.clear(&held, &record)?;
        let written = slot.write(&record).map_err(PublishError::from);
        match written.and_then(|()| self.attach(&held, &record, request, &lease, watch)) {
            Ok(()) => Ok(published(&record, outcome)),
            Err(error) => match self.clear(&held, &record) {
                Ok(()) => Err(error),
                Err(undoing) => Err(PublishError::NotUndone {
                    target: record.target.clone(),
                    undoing: chain(&undoing),
                    source: Box::new(error),
                }),
            },
        }
    }

    /// Nothing is on record of the target after this, and it has no copy.
    fn clear(&self, held: &Held<'_>, record: &Record) -> Result<(), PublishError> {
        held.slot.remove(Deletion::Now)?;
        match &held.volume {
            Some(volume) => self.release(volume, &record.volume_id, &record.target, Deletion::Now),
            None => Ok(()),
        }
    }

    /// A record exists: this call repeats an earlier one, or finishes what a crash or a reboot cut off.
    ///
    /// When this fails, the record and the copy stay as the earlier call left them: they are what the next
    /// attempt builds on, and only who unpublishes the volume gives them up.
    fn republish(
        &self,
        slot: &TargetSlot,
        record: Record,
        request: &VolumeRequest,
        credential: &CredentialId,
        watch: &Watch,
    ) -> Result<Published, PublishError> {
        if !same_content(&record, request) {
            return Err(taken_by(&record));
        }
        if self.is_attached(&record)? {
            return Ok(published(&record, Outcome::AlreadyPublished));
        }
        let target = self.find_target(&request.target, Some(&record))?;
        let lease = self.recorded_snapshot(&record, request, credential, watch)?;
        let volume = match record.shared {
            true => Some(self.store.volume(&record.volume_id, &watch.cancel)?),
            false => None,
        };
        let record = Record {
            snapshot: lease.id().clone(),
            mounted_in: MountTable::current()?,
            credential: credential.clone(),
            target_created: record.target_created || !target.existed,
            ..record
        };
        if target.remnant {
            self.mounter.unmount(&record.target)?;
        }
        slot.write(&record)?;
        self.attach(&Held { slot, volume }, &record, request, &lease, watch)?;
        Ok(published(&record, Outcome::Hit))
    }

    /// The snapshot that a record names. The record itself proves access for the credential that made it; another
    /// credential has to prove its own.
    fn recorded_snapshot(
        &self,
        record: &Record,
        request: &VolumeRequest,
        credential: &CredentialId,
        watch: &Watch,
    ) -> Result<SnapshotLease, PublishError> {
        if same_credential(record, credential)
            && let Some(lease) = self.store.snapshot(&record.snapshot)?
        {
            return Ok(lease);
        }
        let revision = Revision::Commit(record.commit);
        Ok(self.obtain(wanted(request, &revision, credential), watch)?.lease)
    }
}

fn commit(watch: &Watch) -> Result<(), PublishError> {
    watch.cancel.commit().map_err(|source| PublishError::Interrupted { source })
}

pub(super) fn wanted<'a>(
    request: &'a VolumeRequest,
    revision: &'a Revision,
    credential: &'a CredentialId,
) -> Wanted<'a> {
    Wanted { spec: &request.spec, revision, credentials: &request.credentials, credential }
}

pub(super) fn published(record: &Record, outcome: Outcome) -> Published {
    Published { commit: record.commit, reference: record.reference.clone(), outcome }
}

pub(super) fn taken_by(record: &Record) -> PublishError {
    PublishError::TargetTaken {
        target: record.target.clone(),
        published: format!("{} at {} (commit {})", record.repository, record.revision, record.commit),
    }
}

/// A target is a path that means the same in every process: absolute, and clean by its letters alone. And it keeps out of
/// the store's way.
fn check_target(target: &Path, store: &Path) -> Result<(), PublishError> {
    let clean = target.is_absolute()
        && target.file_name().is_some()
        && target.to_str().is_some()
        && target.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !clean {
        return Err(PublishError::Target { target: target.to_owned() });
    }
    if target.starts_with(store) || store.starts_with(target) {
        return Err(PublishError::TargetOverlapsStore { target: target.to_owned(), store: store.to_owned() });
    }
    Ok(())
}
