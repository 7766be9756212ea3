//! One call: the kubelet connects, sends one request with a timeout, and closes the connection.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use gitrepo_csi::proto::csi::v1::node_client::NodeClient;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::transport::Channel;

use crate::csi;

/// Calls the node service. The driver receives the timeout, and after it the kubelet stops waiting.
pub(super) fn node<Q, A>(
    socket: &Path,
    limit: Duration,
    message: Q,
    method: impl AsyncFnOnce(NodeClient<Channel>, Request<Q>) -> Result<Response<A>, Status>,
) -> Result<A, Status> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    let called = async {
        let channel = csi::dial(socket).await.map_err(|error| Status::unavailable(error.to_string()))?;
        method(NodeClient::new(channel), request).await.map(Response::into_inner).map_err(as_in_go)
    };
    let over = || Status::deadline_exceeded("context deadline exceeded");
    runtime().block_on(async { tokio::time::timeout(limit, called).await.unwrap_or_else(|_| Err(over())) })
}

/// The status that Go's client reports for a connection that ends before the answer.
fn as_in_go(status: Status) -> Status {
    let lost = status.source().is_some_and(<dyn Error>::is::<tonic::transport::Error>);
    if lost { Status::unavailable(status.message()) } else { status }
}

/// A runtime for the calling thread, so that calls see the thread's mounts.
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
