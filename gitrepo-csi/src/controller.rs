//! The controller service: turns the parameters of a StorageClass into a volume that stays at one commit.
//!
//! Such a volume is only a description, which its context contains. To create it, the driver asks the remote which
//! commit the revision names, so that all pods of a claim see the same commit. Deleting a volume only forgets it.

use std::sync::Arc;

use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::deadline;
use crate::metrics::Metrics;
use crate::name_lock::NameLocks;
use crate::proto::csi::v1;
use crate::proto::csi::v1::controller_server::Controller;
use crate::proto::csi::v1::controller_service_capability::Rpc;
use crate::proto::csi::v1::controller_service_capability::Type;
use crate::proto::csi::v1::controller_service_capability::rpc;
use crate::rpc_log::Call;
use crate::storage::Storage;

mod create;
mod creation;
mod memory;
mod validate;
mod volume_id;

/// The answer to `ControllerGetCapabilities`.
const CAPABILITIES: [rpc::Type; 2] = [rpc::Type::CreateDeleteVolume, rpc::Type::SingleNodeMultiWriter];

/// The controller service.
pub struct ControllerService {
    storage: Arc<Storage>,
    metrics: Arc<Metrics>,
    /// Locks on the names of volumes that are being created.
    creating: NameLocks,
}

impl ControllerService {
    /// Creates the service. It asks remotes through `storage`, and remembers created volumes in its store.
    pub fn new(storage: Arc<Storage>, metrics: Arc<Metrics>) -> Self {
        Self { storage, metrics, creating: NameLocks::default() }
    }
}

/// Implements the service. Its arguments are the methods that this driver does not offer.
macro_rules! unimplemented_methods {
    ($($method:ident: $name:literal, $request:ident -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl Controller for ControllerService {
            async fn create_volume(
                &self,
                request: Request<v1::CreateVolumeRequest>,
            ) -> Result<Response<v1::CreateVolumeResponse>, Status> {
                let deadline = deadline::of(request.metadata());
                let mut call = Call::new(&self.metrics, "CreateVolume");
                let answer = self.create(&mut call, request.into_inner(), deadline).await;
                call.answer(answer.map(|volume| v1::CreateVolumeResponse { volume: Some(volume) }))
            }

            async fn delete_volume(
                &self,
                request: Request<v1::DeleteVolumeRequest>,
            ) -> Result<Response<v1::DeleteVolumeResponse>, Status> {
                let deadline = deadline::of(request.metadata());
                let volume_id = request.into_inner().volume_id;
                let mut call = Call::new(&self.metrics, "DeleteVolume");
                call.about(&volume_id, "");
                call.answer(self.delete(volume_id, deadline).await.map(|()| v1::DeleteVolumeResponse {}))
            }

            async fn validate_volume_capabilities(
                &self,
                request: Request<v1::ValidateVolumeCapabilitiesRequest>,
            ) -> Result<Response<v1::ValidateVolumeCapabilitiesResponse>, Status> {
                let deadline = deadline::of(request.metadata());
                let request = request.into_inner();
                let mut call = Call::new(&self.metrics, "ValidateVolumeCapabilities");
                call.about(&request.volume_id, "");
                call.answer(self.validate(request, deadline).await)
            }

            async fn controller_get_capabilities(
                &self,
                _request: Request<v1::ControllerGetCapabilitiesRequest>,
            ) -> Result<Response<v1::ControllerGetCapabilitiesResponse>, Status> {
                let call = Call::quiet(&self.metrics, "ControllerGetCapabilities");
                let capability = |kind: rpc::Type| v1::ControllerServiceCapability {
                    r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
                };
                let capabilities = CAPABILITIES.map(capability).into();
                call.answer(Ok(v1::ControllerGetCapabilitiesResponse { capabilities }))
            }

            $(async fn $method(
                &self,
                _request: Request<v1::$request>,
            ) -> Result<Response<v1::$response>, Status> {
                Call::new(&self.metrics, $name).unimplemented()
            })+
        }
    };
}

unimplemented_methods! {
    controller_publish_volume: "ControllerPublishVolume", ControllerPublishVolumeRequest -> ControllerPublishVolumeResponse;
    controller_unpublish_volume: "ControllerUnpublishVolume", ControllerUnpublishVolumeRequest -> ControllerUnpublishVolumeResponse;
    list_volumes: "ListVolumes", ListVolumesRequest -> ListVolumesResponse;
    get_capacity: "GetCapacity", GetCapacityRequest -> GetCapacityResponse;
    create_snapshot: "CreateSnapshot", CreateSnapshotRequest -> CreateSnapshotResponse;
    delete_snapshot: "DeleteSnapshot", DeleteSnapshotRequest -> DeleteSnapshotResponse;
    list_snapshots: "ListSnapshots", ListSnapshotsRequest -> ListSnapshotsResponse;
    get_snapshot: "GetSnapshot", GetSnapshotRequest -> GetSnapshotResponse;
    controller_expand_volume: "ControllerExpandVolume", ControllerExpandVolumeRequest -> ControllerExpandVolumeResponse;
    controller_get_volume: "ControllerGetVolume", ControllerGetVolumeRequest -> ControllerGetVolumeResponse;
    controller_modify_volume: "ControllerModifyVolume", ControllerModifyVolumeRequest -> ControllerModifyVolumeResponse;
}
