//! Show: mounts a leased tree on a target.

use std::time::SystemTime;

use super::Outcome;
use super::PublishError;
use super::Published;
use super::VolumeRequest;
use super::Volumes;
use super::attach::PublishLocks;
use super::publish::VolumeLease;
use crate::error::Kind;
use crate::error::chain;
use crate::lease::Lease;
use crate::lease::Proof;
use crate::lease::Provenance;
use crate::mount::Attachment;
use crate::mount::MountError;
use crate::snapshot::is_image;
use crate::store::Deletion;
use crate::store::MountTable;
use crate::store::Record;
use crate::store::SnapshotLease;
use crate::store::TargetSlot;
use crate::store::VolumeSlot;
use crate::watch::Watch;

impl Volumes {
    /// Shows a leased tree on its target.
    ///
    /// # Errors
    ///
    /// [`PublishError::Outdated`] if the target or its volume shows another commit by now: lease again.
    /// [`PublishError::Unpublished`] if the target was unpublished since the lease began. On every error
    /// but [`PublishError::NotUndone`], this call has undone what it did for the target.
    pub fn show(&self, leased: &VolumeLease<'_>, watch: &Watch) -> Result<Published, PublishError> {
        let VolumeLease { request, lease, unpublish, .. } = leased;
        let target = || request.target.clone();
        let shown = self.with_room(|| {
            let slot = self.store.target(&request.volume_id, &request.target, &watch.cancel)?;
            if slot.was_unpublished_since(unpublish)? {
                return Err(PublishError::Unpublished { target: target() });
            }
            match slot.record()? {
                Some(record) => self.show_again(&slot, record, request, lease, watch),
                None if lease.proof() == Proof::Record => Err(PublishError::Outdated { target: target() }),
                None => self.show_first(&slot, leased, watch),
            }
        });
        self.delete_discarded(shown.as_ref().is_err_and(|error| error.kind() == Kind::ResourceExhausted));
        shown
    }

    fn show_first(
        &self,
        slot: &TargetSlot,
        leased: &VolumeLease<'_>,
        watch: &Watch,
    ) -> Result<Published, PublishError> {
        let VolumeLease { request, lease, shows, .. } = leased;
        if let Some(taken) = self.store.record_of_target(&request.target)? {
            return Err(taken_by(&taken));
        }
        let target = self.find_target(&request.target, None)?;
        let (volume, reference) = self.hold_shared(leased, watch)?;
        let held = PublishLocks { slot, volume };
        let record = Record {
            version: Record::VERSION,
            origin: request.origin.clone(),
            volume_id: request.volume_id.clone(),
            target: request.target.clone(),
            repository: request.spec.repository.to_string(),
            revision: request.spec.revision.to_string(),
            reference,
            commit: lease.commit(),
            snapshot: lease.snapshot.id().clone(),
            content: request.content(),
            shows: *shows,
            ownership: lease.snapshot.ownership(),
            credential: lease.credential.clone(),
            submodule_credentials: lease.submodule_credentials.clone(),
            mounted_in: MountTable::current()?,
            created_at: SystemTime::now(),
            target_created: !target.existed,
        };
        if target.remnant {
            self.mounter.unmount(&record.target)?;
        }
        // A copy without a record has unknown content.
        self.discard(&held, &record)?;
        let written = slot.write(&record).map_err(PublishError::from);
        match written.and_then(|()| self.attach_leased(&held, &record, request, lease, watch)) {
            Ok(()) => Ok(self.published(&record, lease.provenance().into(), lease)),
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

    /// Describes a target that was published with this lease.
    fn published(&self, record: &Record, outcome: Outcome, lease: &Lease) -> Published {
        Published { outcome, proof: lease.proof(), signer: lease.signer().cloned(), ..self.published_before(record) }
    }

    /// Describes a target that already shows its volume.
    pub(super) fn published_before(&self, record: &Record) -> Published {
        Published {
            commit: record.commit,
            reference: record.reference.clone(),
            outcome: Outcome::AlreadyPublished,
            format: self.format_of(record),
            proof: Proof::Record,
            signer: None,
            credential: record.credential.clone(),
        }
    }

    /// Attaches a leased tree. An image of which a part is damaged or gone is marked, so that the next lease replaces
    /// it.
    fn attach_leased(
        &self,
        held: &PublishLocks<'_>,
        record: &Record,
        request: &VolumeRequest,
        lease: &Lease,
        watch: &Watch,
    ) -> Result<(), PublishError> {
        match self.attach(held, record, request, &lease.snapshot, watch) {
            // What was fetched just now would be no better the next time.
            Err(PublishError::Mount(error))
                if lease.provenance() == Provenance::Store && is_damage(&error, &lease.snapshot)? =>
            {
                self.store.mark_damaged(&lease.snapshot, &chain(&error))?;
                Err(PublishError::Outdated { target: record.target.clone() })
            }
            attached => attached,
        }
    }

    /// Locks the volume if its targets share a copy. Returns the lock, and the ref that led to the commit. Fails if the
    /// lease is outdated: it must be of the commit that other targets show, or else of the requested revision.
    fn hold_shared(
        &self,
        leased: &VolumeLease<'_>,
        watch: &Watch,
    ) -> Result<(Option<VolumeSlot>, Option<String>), PublishError> {
        let VolumeLease { request, lease, shows, pinned, .. } = leased;
        let outdated = || PublishError::Outdated { target: request.target.clone() };
        let mut volume = None;
        if request.is_shared() {
            volume = Some(self.store.volume(&request.volume_id, &watch.cancel)?);
            if let Some(copy) = self.pinned(request)? {
                // The lease may be of another snapshot of the commit, if the one under the layer is no longer served.
                let is_same_snapshot =
                    copy.snapshot == *lease.snapshot.id() && copy.ownership == lease.snapshot.ownership();
                let is_current = copy.commit == lease.commit()
                    && copy.layer == shows.is_layer()
                    && (!copy.layer || is_same_snapshot || pinned.as_ref() == Some(&copy));
                return if is_current { Ok((volume, copy.reference)) } else { Err(outdated()) };
            }
        }
        if lease.revision != request.spec.revision {
            return Err(outdated());
        }
        Ok((volume, lease.resolved.reference.clone()))
    }

    /// Deletes the target's record, and its copy or layer.
    fn discard(&self, held: &PublishLocks<'_>, record: &Record) -> Result<(), PublishError> {
        if held.volume.is_none() {
            self.projects.release(&self.store.quota_mark(record));
        }
        held.slot.remove(Deletion::Later)?;
        match &held.volume {
            Some(volume) => self.release(volume, &record.volume_id, &record.target),
            None => Ok(()),
        }
    }

    /// Undoes a publish that failed.
    fn clear(&self, held: &PublishLocks<'_>, record: &Record) -> Result<(), PublishError> {
        self.discard(held, record)?;
        if record.shows.is_layer() {
            self.release_lower(&record.snapshot.to_string());
        }
        Ok(())
    }

    /// Repeats an earlier publish, or completes one that a crash or a reboot interrupted.
    ///
    /// On failure the record and the copy stay: the next attempt continues from them, and only an unpublish deletes
    /// them.
    fn show_again(
        &self,
        slot: &TargetSlot,
        record: Record,
        request: &VolumeRequest,
        lease: &Lease,
        watch: &Watch,
    ) -> Result<Published, PublishError> {
        self.check_recorded(&record, request)?;
        if self.is_attached(&record)? {
            return Ok(self.published_before(&record));
        }
        if record.commit != lease.commit() {
            return Err(PublishError::Outdated { target: record.target });
        }
        let target = self.find_target(&request.target, Some(&record))?;
        let volume = self.lock_if_shared(&record, &watch.cancel)?;
        let record = Record {
            snapshot: lease.snapshot.id().clone(),
            // An image of a version without owners stays one.
            ownership: record.ownership.and(lease.snapshot.ownership()),
            mounted_in: MountTable::current()?,
            credential: lease.credential.clone(),
            submodule_credentials: lease.submodule_credentials.clone(),
            target_created: record.target_created || !target.existed,
            ..record
        };
        if target.remnant {
            self.mounter.unmount(&record.target)?;
        }
        slot.write(&record)?;
        self.attach_leased(&PublishLocks { slot, volume }, &record, request, lease, watch)?;
        Ok(self.published(&record, Outcome::Hit, lease))
    }
}

/// Whether an image could not be mounted because a part of it is damaged or gone.
fn is_damage(error: &MountError, snapshot: &SnapshotLease) -> Result<bool, PublishError> {
    let Attachment::Image { metadata, .. } = snapshot.attachment()? else { return Ok(false) };
    Ok(error.kind() == Kind::Corrupt || !is_image(&metadata))
}

pub(super) fn taken_by(record: &Record) -> PublishError {
    PublishError::TargetTaken {
        target: record.target.clone(),
        published: format!("{} at {} (commit {})", record.repository, record.revision, record.commit),
    }
}
