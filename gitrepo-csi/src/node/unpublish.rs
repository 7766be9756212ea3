//! `NodeUnpublishVolume`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::NodeService;
use crate::deadline;
use crate::failure::CallFailure;
use crate::proto::csi::v1::NodeUnpublishVolumeRequest;
use crate::target;

impl NodeService {
    /// Ends a running publish, unmounts the volume and removes the target. Succeeds if the volume is already gone;
    /// fails if the target is still mounted.
    pub(super) async fn unpublish(
        &self,
        request: NodeUnpublishVolumeRequest,
        deadline: Instant,
    ) -> Result<(), CallFailure> {
        target::check_id(&request.volume_id)?;
        if request.target_path.is_empty() {
            return Err(CallFailure::invalid("target_path is missing"));
        }
        let target = PathBuf::from(request.target_path);
        if !target.is_absolute() {
            return Err(CallFailure::invalid(format!("target_path {} is not absolute", target.display())));
        }
        self.jobs.end(&request.volume_id, &target, deadline::left(deadline)).await?;
        self.jobs.forget(&request.volume_id, &target);
        let (storage, kubelet_dir) = (Arc::clone(&self.storage), self.kubelet_dir.clone());
        deadline::keep(deadline, deadline::STORE, move || match storage.volumes() {
            Ok(volumes) => {
                let unpublished = volumes.unpublish(Some(&request.volume_id), &target, &deadline::cancel(deadline));
                storage.note_untidy();
                unpublished?;
                target::remove(&target, &kubelet_dir)
            }
            Err(failure) => without_store(&target, &kubelet_dir, failure),
        })
        .await
    }
}

/// Unpublishes a target while the store is unavailable. Succeeds if the target does not exist or has nothing mounted. A
/// sweep deletes its record once the store is back.
fn without_store(target: &Path, kubelet_dir: &Path, failure: CallFailure) -> Result<(), CallFailure> {
    target::remove(target, kubelet_dir)?;
    if target.exists() { Err(failure) } else { Ok(()) }
}
