//! Accepts the connections of a socket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::time::Sleep;
use tokio_stream::Stream;

use crate::authority::AnyAuthority;

/// How long to wait after a failed accept. The usual cause is that no descriptor is free. That passes by itself, and
/// retrying at once only wastes time.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Accepts connections from root and from the driver's own user; drops and logs others.
#[derive(Debug)]
pub(super) struct Incoming {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<AnyAuthority<UnixStream>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(context)) {
                Ok((stream, _)) if may_call(&stream) => return Poll::Ready(Some(Ok(AnyAuthority::new(stream)))),
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(tokio::time::sleep(AFTER_FAILURE)));
                }
            }
        }
    }
}

/// Whether the client is root or the driver's own user. Normally the socket's mode already keeps others out.
fn may_call(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw() => true,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), "refused a connection of a user other than root");
            false
        }
        Err(error) => {
            tracing::warn!(%error, "refused a connection of an unknown user");
            false
        }
    }
}
