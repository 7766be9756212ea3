//! The order of startup and shutdown.
//!
//! The kubelet calls the CSI socket as soon as it sees the registration socket, so the registration socket is created
//! last. Without it the kubelet cannot tear anything down, so it is removed only after the running requests are
//! answered.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::error::Kind;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::http::Http;
use crate::http::Pages;
use crate::registration::Registrar;
use crate::server;
use crate::server::Ended;
use crate::server::ListenError;
use crate::server::ServeError;
use crate::server::Socket;
use crate::server::SocketName;

/// How long the driver waits for its own socket to answer.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// The parts of a driver, ready to run.
pub struct Driver {
    /// The socket of the CSI services.
    pub socket: Socket,
    /// The CSI services.
    pub services: Routes,
    /// The kubelet's registration directory, and the service on the socket there.
    pub registration: Option<(PathBuf, Registrar)>,
    /// Metrics and health.
    pub http: Option<(Http, Pages)>,
    /// How long running requests may take during shutdown; [`server::GRACE`] by default.
    pub grace: Duration,
    /// Ends when the work that is to finish after the signal is done. Until then requests are accepted.
    pub finishing: Wait,
    /// Ends on a second signal: then everything stops at once.
    pub hurry: Wait,
}

/// A future to wait for.
pub type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Why the driver ended unexpectedly.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The CSI socket exists, but does not answer.
    #[error("the driver's own socket {} does not answer", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The registration socket could not be made.
    #[error("cannot register with the kubelet")]
    Registration(#[source] ListenError),
    /// A server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A server's task panicked.
    #[error("a server ended unexpectedly")]
    Task(#[from] tokio::task::JoinError),
    /// The server of a socket stopped without a signal.
    #[error("the gRPC server stopped by itself")]
    Stopped,
}

impl RunError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registration(error) => error.kind(),
            Self::Silent { .. } | Self::Serve(_) | Self::Task(_) | Self::Stopped => Kind::Internal,
        }
    }
}

impl Driver {
    /// Runs until `stop`, then waits for `finishing` and for the running requests. Calls `cancel` if they take longer
    /// than `grace`, or at once on `hurry`. Finally, in every case, removes the sockets that still belong to this
    /// driver.
    ///
    /// Requests that ignore their cancellation may still run when this returns ([`Ended::Abandoned`]): end the runtime
    /// with `shutdown_timeout`, which does not wait for ever.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn run(
        self,
        stop: impl Future<Output = &'static str>,
        cancel: impl Fn() + Send + Sync + 'static,
    ) -> Result<Ended, RunError> {
        let cancel = Arc::new(cancel);
        let cancels = Arc::clone(&cancel);
        let mut names = vec![self.socket.name.clone()];
        let (stopping, _) = watch::channel(false);
        let (drained, _) = watch::channel(false);
        if let Some((http, pages)) = self.http {
            tokio::spawn(http.serve(pages, until_set(&drained)));
        }
        let mut csi =
            tokio::spawn(server::serve(self.socket, self.services, until_set(&stopping), self.grace, move || {
                cancels()
            }));
        let ended = match register_and_wait(&mut csi, self.registration, stop, &drained, &mut names).await {
            Ok(()) => stop_serving(csi, &stopping, self.finishing, self.hurry, &*cancel).await,
            Err(error) => Err(error),
        };
        drained.send_replace(true);
        for name in names {
            remove_socket(&name);
        }
        ended
    }
}

type Serving = JoinHandle<Result<Ended, ServeError>>;

/// Waits for the first answer of the CSI socket, registers, and waits for the signal. Adds the registration socket to
/// `names`.
async fn register_and_wait(
    csi: &mut Serving,
    registration: Option<(PathBuf, Registrar)>,
    stop: impl Future<Output = &'static str>,
    drained: &watch::Sender<bool>,
    names: &mut Vec<SocketName>,
) -> Result<(), RunError> {
    if let Some((directory, registrar)) = registration {
        let path = names.first().map(|name| name.path().to_owned()).unwrap_or_default();
        let answer = tokio::time::timeout(FIRST_ANSWER, server::answers(&path)).await;
        answer.map_err(io::Error::from).flatten().map_err(|source| RunError::Silent { path, source })?;
        let socket = registrar.listen(&directory).map_err(RunError::Registration)?;
        tracing::info!(socket = %socket.name.path().display(), "waiting for the kubelet to register the driver");
        names.push(socket.name.clone());
        tokio::spawn(server::serve(socket, registrar.into_routes(), until_set(drained), Duration::ZERO, || {}));
    }
    tokio::select! {
        ended = csi => {
            ended??;
            Err(RunError::Stopped)
        }
        signal = stop => {
            tracing::info!(signal, "stopping: finishing running requests");
            Ok(())
        }
    }
}

/// Stops the server of the CSI socket, and waits for its last answer.
async fn stop_serving(
    mut csi: Serving,
    stopping: &watch::Sender<bool>,
    finishing: Wait,
    mut hurry: Wait,
    cancel: &(dyn Fn() + Sync),
) -> Result<Ended, RunError> {
    let is_finished = tokio::select! {
        () = finishing => true,
        () = &mut hurry => false,
    };
    stopping.send_replace(true);
    let in_time = match is_finished {
        true => tokio::select! {
            ended = &mut csi => Some(ended??),
            () = &mut hurry => None,
        },
        false => None,
    };
    let ended = match in_time {
        Some(ended) => ended,
        None => {
            tracing::warn!("stopping at once: a second signal came");
            cancel();
            match tokio::time::timeout(server::AFTER_CANCEL, &mut csi).await {
                Ok(ended) => ended??.max(Ended::Cancelled),
                Err(_) => Ended::Abandoned,
            }
        }
    };
    match ended {
        Ended::Drained => tracing::info!("stopped: every request was answered"),
        Ended::Cancelled => tracing::warn!("stopped: some requests were cancelled"),
        Ended::Abandoned => tracing::error!("stopped: some requests did not end when they were cancelled"),
    }
    Ok(ended)
}

/// Waits until the flag is set or its owner is gone.
fn until_set(flag: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut flag = flag.subscribe();
    async move {
        flag.wait_for(|set| *set).await.ok();
    }
}

fn remove_socket(name: &SocketName) {
    match name.remove() {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(socket = %name.path().display(), "not removed: another driver has replaced the socket")
        }
        Err(error) => tracing::warn!(socket = %name.path().display(), %error, "cannot remove the driver's socket"),
    }
}
