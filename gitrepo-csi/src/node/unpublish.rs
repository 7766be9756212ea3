//! `NodeUnpublishVolume`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use gitrepo_core::cancel::Cancel;

use super::NodeService;
use crate::blocking;
use crate::deadline;
use crate::failure::Failure;
use crate::proto::csi::v1::NodeUnpublishVolumeRequest;
use crate::target;

impl NodeService {
    /// Ends a publish that is at work, takes the volume off its target, and removes the target. What is not there any
    /// more is no failure; that something is still mounted is one.
    pub(super) async fn unpublish(
        &self,
        request: NodeUnpublishVolumeRequest,
        deadline: Instant,
    ) -> Result<(), Failure> {
        target::check_id(&request.volume_id)?;
        if request.target_path.is_empty() {
            return Err(Failure::invalid("target_path is missing"));
        }
        let target = PathBuf::from(request.target_path);
        if !target.is_absolute() {
            return Err(Failure::invalid(format!("target_path {} is not absolute", target.display())));
        }
        self.jobs.end(&request.volume_id, &target, deadline::left(deadline)).await?;
        self.jobs.forget(&request.volume_id, &target);
        let (storage, kubelet_dir) = (Arc::clone(&self.storage), self.kubelet_dir.clone());
        blocking::until(deadline, blocking::STORE, move || match storage.volumes() {
            Ok(volumes) => {
                let cancel = Cancel::new().within(deadline::left(deadline));
                volumes.unpublish(Some(&request.volume_id), &target, &cancel)?;
                target::remove(&target, &kubelet_dir)
            }
            Err(failure) => without_store(&target, &kubelet_dir, failure),
        })
        .await
    }
}

/// Where the store cannot be opened, a target that is not there or on which nothing is mounted can be done with. Its record
/// is collected once the store is there again.
fn without_store(target: &Path, kubelet_dir: &Path, failure: Failure) -> Result<(), Failure> {
    target::remove(target, kubelet_dir)?;
    if target.exists() { Err(failure) } else { Ok(()) }
}
