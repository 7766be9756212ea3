//! How the kubelet finds a driver: a socket in its directory of plugins (pkg/kubelet/pluginmanager).

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_csi::proto::csi::v1::NodeGetInfoRequest;
use gitrepo_csi::proto::registration::v1::PluginInfo;
use gitrepo_csi::proto::registration::v1::RegistrationStatus;
use prost::Message;

use super::call;
use super::kubelet::CSI_TIMEOUT;
use crate::csi;
use crate::csi::Authority;

/// Of `GetInfo`.
const INFO_TIMEOUT: Duration = Duration::from_secs(1);

/// Of `NotifyRegistrationStatus`.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// A driver that has identified itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) endpoint: PathBuf,
    pub(super) node_id: String,
}

/// Asks the socket for the driver's name, its CSI endpoint and the node id, and reports the verdict.
///
/// # Errors
///
/// What went wrong; the kubelet retries while the socket exists.
pub(super) fn register(socket: &Path, driver: &str) -> Result<Registered, String> {
    let info = ask(socket, "GetInfo", &[], INFO_TIMEOUT)?;
    let info = PluginInfo::decode(info.as_slice()).map_err(|error| error.to_string())?;
    let verdict = examine(&info, driver);
    let status = RegistrationStatus {
        plugin_registered: verdict.is_ok(),
        error: verdict.as_ref().err().cloned().unwrap_or_default(),
    };
    ask(socket, "NotifyRegistrationStatus", &status.encode_to_vec(), NOTIFY_TIMEOUT)?;
    verdict
}

fn examine(info: &PluginInfo, driver: &str) -> Result<Registered, String> {
    if info.r#type != "CSIPlugin" || info.name != driver || info.supported_versions != ["1.0.0"] {
        return Err(format!("{info:?} is not the CSI driver {driver}"));
    }
    let endpoint = PathBuf::from(&info.endpoint);
    let node = call::node(&endpoint, CSI_TIMEOUT, NodeGetInfoRequest {}, async |mut client, request| {
        client.node_get_info(request).await
    });
    let node = node.map_err(|status| status.to_string())?;
    if node.node_id.is_empty() || node.max_volumes_per_node != 0 {
        return Err(format!("{node:?} limits the node, or does not name it"));
    }
    Ok(Registered { endpoint, node_id: node.node_id })
}

/// With the authority that kubelet 1.32 sends here: the socket's path, percent-encoded.
fn ask(socket: &Path, method: &str, message: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let authority = socket.to_str().unwrap().replace('/', "%2F");
    let method = format!("/pluginregistration.Registration/{method}");
    let asked = csi::call(socket, Authority::Bytes(authority.as_bytes()), &method, message);
    call::runtime().block_on(async {
        tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err(format!("{method}: no answer in {limit:?}")))
    })
}
