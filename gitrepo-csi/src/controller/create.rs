//! `CreateVolume` and `DeleteVolume`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::spec::CommitId;
use gitrepo_core::volume::Volumes;
use gitrepo_core::watch::Watch;

use super::ControllerService;
use super::creation::Creation;
use super::memory::Created;
use super::memory::Memory;
use super::volume_id::VolumeId;
use crate::context;
use crate::deadline;
use crate::failure::CallFailure;
use crate::proto::csi::v1::CreateVolumeRequest;
use crate::proto::csi::v1::Volume;
use crate::rpc_log::Call;
use crate::target;

impl ControllerService {
    /// Creates a volume, or returns the existing volume of this name.
    pub(super) async fn create(
        &self,
        call: &mut Call,
        request: CreateVolumeRequest,
        deadline: Instant,
    ) -> Result<Volume, CallFailure> {
        call.about(&request.name, "");
        // A claim's author controls the request, so parsing it must not block the serving thread.
        let creation = deadline::keep(deadline, deadline::READING, move || Creation::read(request)).await?;
        call.repository(&creation.spec.repository);
        let lock = self.creating.try_lock(&creation.name).ok_or_else(|| {
            CallFailure::new(Kind::Busy, format!("the volume {:?} is being created; try again", creation.name))
        })?;
        let storage = Arc::clone(&self.storage);
        let cancel = Cancel::new();
        let _given_up = GiveUp(cancel.clone());
        let cancel = cancel.within(deadline::left(deadline));
        let created = deadline::keep(deadline, deadline::REMOTE_OR_STORE, move || {
            // Hold the lock until the end, even if the caller goes away earlier.
            let _lock = lock;
            create(&*storage.volumes()?, &creation, cancel)
        })
        .await?;
        if let Some(commit) = created.context.get("revision").and_then(|commit| CommitId::parse(commit).ok()) {
            call.commit(commit);
        }
        Ok(volume(created))
    }

    /// Forgets a volume. There is nothing else to delete.
    pub(super) async fn delete(&self, volume_id: String, deadline: Instant) -> Result<(), CallFailure> {
        target::check_id(&volume_id)?;
        let Some(id) = VolumeId::parse(&volume_id) else { return Ok(()) };
        self.storage.call(deadline, move |volumes| memory(volumes).forget(&id)).await
    }
}

/// Returns the memory of created volumes.
pub(super) fn memory(volumes: &Volumes) -> Memory {
    Memory::new(volumes.store().root().join("controller"))
}

fn create(volumes: &Volumes, creation: &Creation, cancel: Cancel) -> Result<Created, CallFailure> {
    let memory = memory(volumes);
    if let Some(created) = memory.recall(&creation.name)? {
        return if created.parameters == creation.parameters && creation.capacity.is_met_by(created.capacity) {
            Ok(created)
        } else {
            Err(CallFailure::new(
                Kind::AlreadyExists,
                format!("the volume {:?} exists already, with other parameters or another capacity", creation.name),
            ))
        };
    }
    let watch = Watch::until(cancel).on_account_of(creation.namespace.as_deref());
    let resolved = volumes.snapshots().resolve(&creation.spec, &creation.credentials, &watch)?;
    let context = creation.context(resolved.commit)?;
    let content: BTreeMap<_, _> = context::own(context.clone().into_iter().collect());
    let created = Created {
        volume_id: VolumeId::new(&creation.name, &content).to_string(),
        name: creation.name.clone(),
        parameters: creation.parameters.clone(),
        context,
        capacity: creation.capacity.promised(),
    };
    memory.keep(&created)?;
    Ok(created)
}

fn volume(created: Created) -> Volume {
    Volume {
        capacity_bytes: created.capacity,
        volume_id: created.volume_id,
        volume_context: created.context.into_iter().collect(),
        ..Volume::default()
    }
}

/// Cancels the work when the call is dropped, since nobody waits for the answer any more.
struct GiveUp(Cancel);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
