//! gRPC on a Unix socket: who may listen, who may call, and how long shutdown may take.
//!
//! [`Socket::listen`] binds the socket, and [`serve`] answers on it until a signal to stop.

mod endpoint;
mod incoming;
mod probe;
mod socket;
mod stop;

use std::future::Future;
use std::time::Duration;

pub use endpoint::Endpoint;
pub use endpoint::EndpointError;
use incoming::Incoming;
pub use probe::answers;
pub use socket::ListenError;
pub use socket::Occupied;
pub use socket::Socket;
pub use socket::SocketName;
pub use stop::stop_signals;
use tonic::service::Routes;
use tonic::transport::Server;

/// How long running requests may take during shutdown, by default.
pub const GRACE: Duration = Duration::from_secs(10);

/// How long cancelled requests have to clean up and answer.
pub(crate) const AFTER_CANCEL: Duration = Duration::from_secs(2);

/// The most concurrent calls on one connection. The kubelet makes one call per connection, and sidecars a few.
const STREAMS: u32 = 128;

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// Every request was answered.
    Drained,
    /// Some were cancelled after the grace time, and then were answered.
    Cancelled,
    /// Some did not answer even when they were cancelled. They run until the process ends.
    Abandoned,
}

/// A server stopped unexpectedly.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server on {socket} failed")]
pub struct ServeError {
    /// The socket's path.
    pub socket: String,
    /// tonic's error.
    #[source]
    pub source: tonic::transport::Error,
}

/// Answers on `socket` until `stop`, and refuses new connections from then on. Running requests have `grace` to finish.
/// After that, `cancel` is called, and they have two more seconds. The caller removes [`Socket::name`].
///
/// Requests run as separate tasks: one that ignores its cancellation keeps running when this returns.
///
/// # Errors
///
/// If tonic stops serving.
pub async fn serve(
    socket: Socket,
    routes: Routes,
    stop: impl Future<Output = ()>,
    grace: Duration,
    cancel: impl FnOnce(),
) -> Result<Ended, ServeError> {
    let path = socket.name.path().display().to_string();
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let signal = async move {
        stop.await;
        stopping.send(()).ok();
    };
    // Do not announce another header table size or frame size here: see `authority`.
    let server = Server::builder().max_concurrent_streams(STREAMS).add_routes(routes);
    let serving = server.serve_with_incoming_shutdown(Incoming::new(socket.listener), signal);
    let mut serving = std::pin::pin!(serving);
    let failed = |source| ServeError { socket: path.clone(), source };
    let out_of_time = async {
        // An error means that serving is over; the other branch reports that.
        stopped.await.ok();
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        ended = &mut serving => return ended.map(|()| Ended::Drained).map_err(failed),
        () = out_of_time => {}
    }
    cancel();
    match tokio::time::timeout(AFTER_CANCEL, serving).await {
        Ok(ended) => ended.map(|()| Ended::Cancelled).map_err(failed),
        Err(_) => Ok(Ended::Abandoned),
    }
}
