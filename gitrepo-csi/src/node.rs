//! The node service: publishes volumes for the pods of this node.

use std::path::PathBuf;
use std::sync::Arc;

use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::deadline;
use crate::jobs::Jobs;
use crate::metrics::Metrics;
use crate::name_lock::NameLocks;
use crate::proto::csi::v1;
use crate::proto::csi::v1::NodeServiceCapability;
use crate::proto::csi::v1::node_server::Node;
use crate::proto::csi::v1::node_service_capability;
use crate::proto::csi::v1::node_service_capability::rpc::Type;
use crate::rpc_log::Call;
use crate::storage::Storage;
use crate::user_namespaces::UserNamespaces;

mod publication;
mod publish;
mod stats;
mod unpublish;

/// The answer to `NodeGetCapabilities`.
const CAPABILITIES: [Type; 4] =
    [Type::GetVolumeStats, Type::VolumeCondition, Type::SingleNodeMultiWriter, Type::VolumeMountGroup];

/// The node service. Clones share everything.
#[derive(Clone)]
pub struct NodeService {
    /// The node's name in the cluster.
    pub node_id: String,
    /// The kubelet's directory. All targets are below it.
    pub kubelet_dir: PathBuf,
    /// The node's volumes.
    pub storage: Arc<Storage>,
    /// The running publishes.
    pub jobs: Jobs,
    /// Serialises calls for volumes that may have only one target.
    pub locks: NameLocks,
    /// Watches the pods whose volumes are overlays.
    pub user_namespaces: UserNamespaces,
    /// The driver's metrics.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::new(&self.metrics, "NodePublishVolume");
        call.about(&request.volume_id, &request.target_path);
        let answer = self.publish(&mut call, request, deadline).await;
        self.metrics.publish(&answer, call.took());
        call.answer(answer.map(|_| v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::new(&self.metrics, "NodeUnpublishVolume");
        call.about(&request.volume_id, &request.target_path);
        let answer = self.unpublish(request, deadline).await;
        self.metrics.unpublish(&answer);
        call.answer(answer.map(|()| v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::quiet(&self.metrics, "NodeGetVolumeStats");
        call.about(&request.volume_id, &request.volume_path);
        call.answer(self.stats(request, deadline).await)
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let call = Call::quiet(&self.metrics, "NodeGetCapabilities");
        call.answer(Ok(v1::NodeGetCapabilitiesResponse { capabilities: CAPABILITIES.map(capability).into() }))
    }

    async fn node_get_info(
        &self,
        _request: Request<v1::NodeGetInfoRequest>,
    ) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        let call = Call::new(&self.metrics, "NodeGetInfo");
        call.answer(Ok(v1::NodeGetInfoResponse { node_id: self.node_id.clone(), ..v1::NodeGetInfoResponse::default() }))
    }

    async fn node_stage_volume(
        &self,
        _request: Request<v1::NodeStageVolumeRequest>,
    ) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeStageVolume").unimplemented()
    }

    async fn node_unstage_volume(
        &self,
        _request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeUnstageVolume").unimplemented()
    }

    async fn node_expand_volume(
        &self,
        _request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeExpandVolume").unimplemented()
    }
}

fn capability(kind: Type) -> NodeServiceCapability {
    let rpc = node_service_capability::Rpc { r#type: kind.into() };
    NodeServiceCapability { r#type: Some(node_service_capability::Type::Rpc(rpc)) }
}
