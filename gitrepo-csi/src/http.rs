//! The HTTP/1 server beside gRPC: `/metrics`, `/healthz`, `/readyz`.
//!
//! Clients may be slow or hostile. So the size and time of request heads and the number and age of connections are
//! limited. If there are too many connections, a new one replaces the oldest.

mod pages;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gitrepo_core::error::Kind;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
pub use pages::Pages;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// The most connections open at once.
const CONNECTIONS: usize = 64;

/// How long a client may take to send a request head.
const HEAD: Duration = Duration::from_secs(5);

/// How long a connection may last.
const LIFETIME: Duration = Duration::from_secs(120);

/// The largest request head.
const HEAD_BYTES: usize = 16 * 1024;

/// How long to wait after a failed accept.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// A server that listens on an address.
#[derive(Debug)]
pub struct Http {
    listener: TcpListener,
}

/// Why the address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve HTTP on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The system's error.
    #[source]
    pub source: io::Error,
}

impl BindError {
    /// The kind of this failure.
    pub fn kind(&self) -> Kind {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => Kind::Busy,
            io::ErrorKind::PermissionDenied => Kind::PermissionDenied,
            io::ErrorKind::AddrNotAvailable => Kind::InvalidRequest,
            _ => Kind::Internal,
        }
    }
}

impl Http {
    /// Binds `address`; port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// If the address is in use, or is not an address of this machine.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|source| BindError { address, source })?;
        Ok(Self { listener })
    }

    /// Returns the address that it listens on.
    ///
    /// # Errors
    ///
    /// If the system cannot report it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers requests until `stop`. Then ends the connections, too.
    pub async fn serve(self, pages: Pages, stop: impl Future<Output = ()>) {
        let pages = Arc::new(pages);
        let mut open = VecDeque::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    make_room(&mut open);
                    open.push_back(tokio::spawn(connection(stream, Arc::clone(&pages))).abort_handle());
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
        open.iter().for_each(AbortHandle::abort);
    }
}

/// Drops ended connections, and ends the oldest if there are too many.
fn make_room(open: &mut VecDeque<AbortHandle>) {
    open.retain(|connection| !connection.is_finished());
    if open.len() >= CONNECTIONS
        && let Some(oldest) = open.pop_front()
    {
        oldest.abort();
    }
}

async fn connection(stream: TcpStream, pages: Arc<Pages>) {
    let answer = service_fn(|request| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    // It does not matter how a client ends its connection.
    tokio::time::timeout(LIFETIME, connection).await.ok();
}

#[cfg(test)]
mod tests;
