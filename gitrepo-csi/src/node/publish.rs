//! `NodePublishVolume`.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;
use gitrepo_core::error::Kind;
use gitrepo_core::volume::Published;
use gitrepo_core::volume::State;
use gitrepo_core::volume::VolumeRequest;
use gitrepo_core::volume::Volumes;

use super::NodeService;
use super::publication::Publication;
use crate::blocking;
use crate::deadline;
use crate::failure::Failure;
use crate::proto::csi::v1::NodePublishVolumeRequest;
use crate::rpc_log::Call;

impl NodeService {
    /// Publishes, or joins who does. With a final code nothing is left of the attempt: the kubelet may never ask for it
    /// to be undone.
    pub(super) async fn publish(
        &self,
        call: &mut Call,
        request: NodePublishVolumeRequest,
        deadline: Instant,
    ) -> Result<Published, Failure> {
        let (volume_id, target) = (request.volume_id.clone(), request.target_path.clone());
        match self.try_publish(call, request, deadline).await {
            Ok(published) => {
                call.published(&published);
                Ok(published)
            }
            Err(failure) if failure.is_final() => Err(self.undone(failure, volume_id, target, deadline).await),
            Err(failure) => Err(failure),
        }
    }

    async fn try_publish(
        &self,
        call: &mut Call,
        request: NodePublishVolumeRequest,
        deadline: Instant,
    ) -> Result<Published, Failure> {
        let publication = Publication::read(request, &self.kubelet_dir)?;
        call.repository(&publication.request.spec.repository);
        let storage = Arc::clone(&self.storage);
        let jobs = self.jobs.clone();
        let looked = blocking::run(move || {
            let Publication { request, credentials, one_target } = publication;
            let volumes = storage.volumes()?;
            if let Some(published) = volumes.serves(&request)? {
                return Ok(Look::Stands(published));
            }
            let elsewhere = jobs.works_elsewhere(&request.volume_id, &request.target);
            if one_target && (elsewhere || stands_elsewhere(&volumes, &request)?) {
                return Err(second_target(&request.target));
            }
            Ok(Look::Missing(Box::new(VolumeRequest { credentials: credentials?, ..request })))
        });
        match looked.await? {
            Look::Stands(published) => Ok(published),
            Look::Missing(request) => self.jobs.publish(*request, deadline).await,
        }
    }

    /// Ends what an earlier call of the same volume may have left at work, before the kubelet forgets the volume. Where
    /// that takes too long, it must not forget it yet.
    async fn undone(&self, failure: Failure, volume_id: String, target: String, deadline: Instant) -> Failure {
        match self.jobs.end(&volume_id, Path::new(&target), deadline::left(deadline)).await {
            Ok(false) => failure,
            Ok(true) => {
                let (storage, cancel) = (Arc::clone(&self.storage), Cancel::new().within(deadline::left(deadline)));
                let undo = move || Ok(storage.volumes()?.unpublish(Some(&volume_id), Path::new(&target), &cancel)?);
                match blocking::run(undo).await {
                    Ok(_) => failure,
                    Err(undoing) => Failure::new(
                        Kind::Busy,
                        format!("{failure}; an earlier attempt is not undone yet ({undoing}); try again"),
                    ),
                }
            }
            Err(busy) => busy,
        }
    }
}

/// What a first look at the target finds.
enum Look {
    /// The volume, as it is asked for.
    Stands(Published),
    /// Not that.
    Missing(Box<VolumeRequest>),
}

fn stands_elsewhere(volumes: &Volumes, request: &VolumeRequest) -> Result<bool, Failure> {
    let targets = volumes.targets_of(&request.volume_id)?;
    Ok(targets.iter().any(|volume| volume.state == State::Mounted && volume.record.target != request.target))
}

fn second_target(target: &Path) -> Failure {
    Failure::new(
        Kind::FailedPrecondition,
        format!(
            "the volume is published for another pod of this node, and its access mode allows one: {} must wait until \
             that pod is gone, or use ReadWriteOnce, ReadOnlyMany or ReadWriteMany",
            target.display()
        ),
    )
}
