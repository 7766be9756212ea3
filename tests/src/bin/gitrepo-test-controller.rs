//! A CSI controller without git, for conformance tests of a driver that offers only the node service. A volume is its
//! name, and its context the parameters of the request.
//!
//! Listens on the Unix socket given as its argument until it is killed.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use gitrepo_csi::identity::IdentityService;
use gitrepo_csi::proto::csi::v1::ControllerGetCapabilitiesRequest;
use gitrepo_csi::proto::csi::v1::ControllerGetCapabilitiesResponse;
use gitrepo_csi::proto::csi::v1::ControllerServiceCapability;
use gitrepo_csi::proto::csi::v1::CreateVolumeRequest;
use gitrepo_csi::proto::csi::v1::CreateVolumeResponse;
use gitrepo_csi::proto::csi::v1::DeleteVolumeRequest;
use gitrepo_csi::proto::csi::v1::DeleteVolumeResponse;
use gitrepo_csi::proto::csi::v1::ValidateVolumeCapabilitiesRequest;
use gitrepo_csi::proto::csi::v1::ValidateVolumeCapabilitiesResponse;
use gitrepo_csi::proto::csi::v1::Volume;
use gitrepo_csi::proto::csi::v1::controller_server::Controller;
use gitrepo_csi::proto::csi::v1::controller_server::ControllerServer;
use gitrepo_csi::proto::csi::v1::controller_service_capability::Rpc;
use gitrepo_csi::proto::csi::v1::controller_service_capability::Type;
use gitrepo_csi::proto::csi::v1::controller_service_capability::rpc;
use gitrepo_csi::proto::csi::v1::identity_server::IdentityServer;
use gitrepo_csi::proto::csi::v1::validate_volume_capabilities_response::Confirmed;
use gitrepo_csi::server;
use gitrepo_csi::server::Occupied;
use gitrepo_csi::server::Socket;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;

/// Capacities by volume name.
#[derive(Default)]
struct Stub(Mutex<HashMap<String, i64>>);

#[tonic::async_trait]
impl Controller for Stub {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        if request.name.is_empty() || request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("name or volume_capabilities is missing"));
        }
        let capacity = request.capacity_range.unwrap_or_default().required_bytes;
        let mut volumes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *volumes.entry(request.name.clone()).or_insert(capacity) != capacity {
            return Err(Status::already_exists("the volume has another capacity"));
        }
        drop(volumes);
        let volume = Volume {
            volume_id: request.name,
            volume_context: request.parameters,
            capacity_bytes: capacity,
            ..Volume::default()
        };
        Ok(Response::new(CreateVolumeResponse { volume: Some(volume) }))
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest { volume_id, .. } = request.into_inner();
        if volume_id.is_empty() {
            return Err(Status::invalid_argument("volume_id is missing"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&volume_id);
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        if request.volume_id.is_empty() || request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("volume_id or volume_capabilities is missing"));
        }
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&request.volume_id) {
            return Err(Status::not_found("no such volume"));
        }
        let confirmed = Confirmed {
            volume_context: request.volume_context,
            volume_capabilities: request.volume_capabilities,
            ..Confirmed::default()
        };
        let response = ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() };
        Ok(Response::new(response))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability =
            |kind: rpc::Type| ControllerServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })) };
        let capabilities = [rpc::Type::CreateDeleteVolume, rpc::Type::SingleNodeMultiWriter].map(capability).into();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).map(PathBuf::from).ok_or("the socket's path is missing")?;
    let socket = Socket::listen(&path, Occupied::Refuse)?;
    let identity = IdentityService {
        driver_name: "csi.gitrepo.internal".to_owned(),
        has_controller: true,
        metrics: Arc::default(),
    };
    let routes = Routes::new(IdentityServer::new(identity)).add_service(ControllerServer::new(Stub::default()));
    server::serve(socket, routes, std::future::pending(), Duration::ZERO, || {}).await?;
    Ok(())
}
