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
use crate::proto::csi::v1::NodeExpandVolumeRequest;
use crate::proto::csi::v1::NodeExpandVolumeResponse;
use crate::proto::csi::v1::NodeGetCapabilitiesRequest;
use crate::proto::csi::v1::NodeGetCapabilitiesResponse;
use crate::proto::csi::v1::NodeGetInfoRequest;
use crate::proto::csi::v1::NodeGetInfoResponse;
use crate::proto::csi::v1::NodeGetVolumeStatsRequest;
use crate::proto::csi::v1::NodeGetVolumeStatsResponse;
use crate::proto::csi::v1::NodePublishVolumeRequest;
use crate::proto::csi::v1::NodePublishVolumeResponse;
use crate::proto::csi::v1::NodeServiceCapability;
use crate::proto::csi::v1::NodeStageVolumeRequest;
use crate::proto::csi::v1::NodeStageVolumeResponse;
use crate::proto::csi::v1::NodeUnpublishVolumeRequest;
use crate::proto::csi::v1::NodeUnpublishVolumeResponse;
use crate::proto::csi::v1::NodeUnstageVolumeRequest;
use crate::proto::csi::v1::NodeUnstageVolumeResponse;
use crate::proto::csi::v1::node_server::Node;
use crate::proto::csi::v1::node_service_capability;
use crate::proto::csi::v1::node_service_capability::rpc::Type;
use crate::rpc_log::Call;
use crate::storage::Storage;

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
    /// The volumes.
    pub storage: Arc<Storage>,
    /// The publishes that run.
    pub jobs: Jobs,
    /// Serialises calls for volumes that may have only one target.
    pub locks: NameLocks,
    /// The driver's metrics.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::new(&self.metrics, "NodePublishVolume");
        call.about(&request.volume_id, &request.target_path);
        let answer = self.publish(&mut call, request, deadline).await;
        self.metrics.publish(&answer, call.took());
        call.answer(answer.map(|_| NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::new(&self.metrics, "NodeUnpublishVolume");
        call.about(&request.volume_id, &request.target_path);
        let answer = self.unpublish(request, deadline).await;
        self.metrics.unpublish(&answer);
        call.answer(answer.map(|()| NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let mut call = Call::quiet(&self.metrics, "NodeGetVolumeStats");
        call.about(&request.volume_id, &request.volume_path);
        call.answer(self.stats(request, deadline).await)
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let call = Call::quiet(&self.metrics, "NodeGetCapabilities");
        call.answer(Ok(NodeGetCapabilitiesResponse { capabilities: CAPABILITIES.map(capability).into() }))
    }

    async fn node_get_info(
        &self,
        _request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let call = Call::new(&self.metrics, "NodeGetInfo");
        call.answer(Ok(NodeGetInfoResponse { node_id: self.node_id.clone(), ..NodeGetInfoResponse::default() }))
    }

    async fn node_stage_volume(
        &self,
        _request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeStageVolume").unimplemented()
    }

    async fn node_unstage_volume(
        &self,
        _request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeUnstageVolume").unimplemented()
    }

    async fn node_expand_volume(
        &self,
        _request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        Call::new(&self.metrics, "NodeExpandVolume").unimplemented()
    }
}

fn capability(kind: Type) -> NodeServiceCapability {
    let rpc = node_service_capability::Rpc { r#type: kind.into() };
    NodeServiceCapability { r#type: Some(node_service_capability::Type::Rpc(rpc)) }
}
