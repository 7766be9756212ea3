//! The identity service. It answers at once: it uses no remote, no store and no lock.

use std::sync::Arc;

use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::metrics::Metrics;
use crate::proto::csi::v1;
use crate::proto::csi::v1::PluginCapability;
use crate::proto::csi::v1::identity_server::Identity;
use crate::proto::csi::v1::plugin_capability;
use crate::proto::csi::v1::plugin_capability::service;
use crate::rpc_log::Call;

/// The identity of this driver.
pub struct IdentityService {
    /// The driver's name.
    pub driver_name: String,
    /// Whether the driver also offers the controller service.
    pub has_controller: bool,
    /// The driver's metrics.
    pub metrics: Arc<Metrics>,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _request: Request<v1::GetPluginInfoRequest>,
    ) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        let call = Call::quiet(&self.metrics, "GetPluginInfo");
        call.answer(Ok(v1::GetPluginInfoResponse {
            name: self.driver_name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: [("url".to_owned(), env!("CARGO_PKG_REPOSITORY").to_owned())].into(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<v1::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        let call = Call::quiet(&self.metrics, "GetPluginCapabilities");
        let service = plugin_capability::Service { r#type: service::Type::ControllerService.into() };
        let controller = PluginCapability { r#type: Some(plugin_capability::Type::Service(service)) };
        let capabilities = self.has_controller.then_some(controller).into_iter().collect();
        call.answer(Ok(v1::GetPluginCapabilitiesResponse { capabilities }))
    }

    /// Always answers "ready". Any other answer would cause a restart, which repairs nothing, and unpublishing must
    /// keep working. `/readyz` reports the state of the store.
    async fn probe(&self, _request: Request<v1::ProbeRequest>) -> Result<Response<v1::ProbeResponse>, Status> {
        Call::quiet(&self.metrics, "Probe").answer(Ok(v1::ProbeResponse { ready: Some(true) }))
    }
}
