//! The kubelet's plugin registration. The driver serves it itself, and so needs no sidecar.
//!
//! The kubelet finds the socket in its `plugins_registry` directory, asks for the driver's name and endpoint, calls
//! NodeGetInfo at that endpoint, and reports the outcome (pkg/kubelet/pluginmanager). Unlinking the socket deregisters
//! the driver: until it registers again, no volume can be set up or torn down.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use gitrepo_core::error::Cause;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::service::Routes;

use crate::proto::registration::v1::InfoRequest;
use crate::proto::registration::v1::PluginInfo;
use crate::proto::registration::v1::RegistrationStatus;
use crate::proto::registration::v1::RegistrationStatusResponse;
use crate::proto::registration::v1::registration_server::Registration;
use crate::proto::registration::v1::registration_server::RegistrationServer;
use crate::server::ListenError;
use crate::server::Occupied;
use crate::server::Socket;

/// `CSIPlugin` of k8s.io/kubelet/pkg/apis/pluginregistration/v1/constants.go.
const CSI_PLUGIN: &str = "CSIPlugin";

/// The version that the kubelet expects of every CSI 1.x driver (pkg/volume/csi/csi_plugin.go).
const CSI_VERSION: &str = "1.0.0";

/// Tells the kubelet the driver's name and endpoint.
pub struct Registrar {
    driver_name: String,
    endpoint: PathBuf,
    on_status: Box<dyn Fn(bool) + Send + Sync>,
}

impl Registrar {
    /// Creates the service. `endpoint` is the path of the CSI socket as the *kubelet* sees it. The service calls
    /// `on_status` with each registration status that the kubelet reports.
    pub fn new(driver_name: &str, endpoint: &Path, on_status: impl Fn(bool) + Send + Sync + 'static) -> Self {
        Self { driver_name: driver_name.to_owned(), endpoint: endpoint.to_owned(), on_status: Box::new(on_status) }
    }

    /// Listens in the kubelet's registration directory, which must exist. Atomically replaces a socket of the same
    /// name, even if it still answers: it belongs to this driver's predecessor, whose CSI socket this driver has
    /// already taken over, and the name must exist all the time, or the kubelet would deregister the driver.
    ///
    /// # Errors
    ///
    /// As [`Socket::listen`].
    pub fn listen(&self, directory: &Path) -> Result<Socket, ListenError> {
        if !directory.is_dir() {
            let source = io::ErrorKind::NotFound.into();
            return Err(ListenError::Directory { path: directory.to_owned(), source });
        }
        Socket::listen(&directory.join(format!("{}-reg.sock", self.driver_name)), Occupied::Replace)
    }

    /// Returns the service, for [`crate::server::serve`].
    pub fn into_routes(self) -> Routes {
        Routes::new(RegistrationServer::new(self))
    }
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: CSI_PLUGIN.to_owned(),
            name: self.driver_name.clone(),
            endpoint: self.endpoint.display().to_string(),
            supported_versions: vec![CSI_VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus { plugin_registered, error } = request.into_inner();
        if plugin_registered {
            tracing::info!(driver = self.driver_name, "the kubelet has registered the driver");
        } else {
            // The kubelet retries by itself while the socket exists.
            let reason = Cause::new(error);
            tracing::error!(driver = self.driver_name, %reason, "the kubelet did not register the driver");
        }
        (self.on_status)(plugin_registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
