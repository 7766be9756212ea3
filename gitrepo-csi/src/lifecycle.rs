//! The order in which the driver appears and goes.
//!
//! The kubelet calls the CSI socket as soon as it sees the registration socket, so that comes last; and it can tear
//! nothing down once the registration socket is gone, so that goes after the running requests are answered.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gitrepo_core::error::Kind;
use tokio::sync::watch;
use tonic::service::Routes;

use crate::http::Http;
use crate::http::Pages;
use crate::registration::Registrar;
use crate::server;
use crate::server::Ended;
use crate::server::ListenError;
use crate::server::Place;
use crate::server::ServeError;
use crate::server::Socket;

/// How long the driver's own socket may take to answer the driver itself.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What runs, made of parts that are ready to.
#[derive(Debug)]
pub struct Driver {
    /// Where the CSI services are called.
    pub socket: Socket,
    /// The CSI services.
    pub services: Routes,
    /// The kubelet's registration directory, and what is said there.
    pub registration: Option<(PathBuf, Registrar)>,
    /// Metrics and health.
    pub http: Option<(Http, Pages)>,
    /// How long running requests may take at the end; [`server::GRACE`] if nothing else is wanted.
    pub grace: Duration,
}

/// Why the driver ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The CSI socket is there, but nothing answers.
    #[error("the driver's own socket {} does not answer", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The registration socket could not be made.
    #[error("cannot register with the kubelet")]
    Registration(#[source] ListenError),
    /// A server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A server's task ended by a panic.
    #[error("a server ended unexpectedly")]
    Task(#[from] tokio::task::JoinError),
    /// The server of a socket ended though nothing told it to.
    #[error("the gRPC server stopped by itself")]
    Stopped,
}

impl RunError {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Registration(error) => error.kind(),
            Self::Silent { .. } | Self::Serve(_) | Self::Task(_) | Self::Stopped => Kind::Internal,
        }
    }
}

impl Driver {
    /// Runs until `stop`, then lets the running requests end; `cancel` is called if they take longer than `grace`.
    /// The sockets are removed at the end, whatever it was, if they are still this driver's.
    ///
    /// Requests that ignored their cancellation may still run when this returns ([`Ended::Abandoned`]): end the
    /// runtime with `shutdown_timeout`, which does not wait for them for ever.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub async fn run(
        self,
        stop: impl Future<Output = &'static str>,
        cancel: impl FnOnce() + Send + 'static,
    ) -> Result<Ended, RunError> {
        let mut places = vec![self.socket.place.clone()];
        let (stopping, _) = watch::channel(false);
        let (drained, _) = watch::channel(false);
        if let Some((http, pages)) = self.http {
            tokio::spawn(http.serve(pages, told(&drained)));
        }
        let csi = tokio::spawn(server::serve(self.socket, self.services, told(&stopping), self.grace, cancel));
        let ended = appear(csi, self.registration, stop, &stopping, &drained, &mut places).await;
        drained.send_replace(true);
        for place in places {
            leave(&place);
        }
        ended
    }
}

/// From the first answer of the CSI socket to the last one. Adds the registration socket to `places`.
async fn appear(
    csi: tokio::task::JoinHandle<Result<Ended, ServeError>>,
    registration: Option<(PathBuf, Registrar)>,
    stop: impl Future<Output = &'static str>,
    stopping: &watch::Sender<bool>,
    drained: &watch::Sender<bool>,
    places: &mut Vec<Place>,
) -> Result<Ended, RunError> {
    if let Some((directory, registrar)) = registration {
        let path = places.first().map(|place| place.path().to_owned()).unwrap_or_default();
        let answer = tokio::time::timeout(FIRST_ANSWER, server::answers(&path)).await;
        answer.map_err(io::Error::from).flatten().map_err(|source| RunError::Silent { path, source })?;
        let socket = registrar.listen(&directory).map_err(RunError::Registration)?;
        tracing::info!(socket = %socket.place.path().display(), "waiting for the kubelet to register the driver");
        places.push(socket.place.clone());
        tokio::spawn(server::serve(socket, registrar.into_routes(), told(drained), Duration::ZERO, || {}));
    }
    let mut csi = csi;
    tokio::select! {
        ended = &mut csi => {
            ended??;
            return Err(RunError::Stopped);
        }
        signal = stop => tracing::info!(signal, "stopping: running requests are finished, new ones refused"),
    }
    stopping.send_replace(true);
    let ended = csi.await??;
    match ended {
        Ended::Drained => tracing::info!("stopped: every request was answered"),
        Ended::Cancelled => tracing::warn!("stopped: some requests were cancelled"),
        Ended::Abandoned => tracing::error!("stopped: some requests did not end when they were cancelled"),
    }
    Ok(ended)
}

/// Ends when the flag is set, or its owner gone.
fn told(flag: &watch::Sender<bool>) -> impl Future<Output = ()> + Send + 'static {
    let mut flag = flag.subscribe();
    async move {
        flag.wait_for(|set| *set).await.ok();
    }
}

fn leave(place: &Place) {
    match place.remove() {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(socket = %place.path().display(), "left a socket that is not this driver's any more")
        }
        Err(error) => tracing::warn!(socket = %place.path().display(), %error, "cannot remove the driver's socket"),
    }
}
