//! One connection, plain or encrypted, that counts the bytes it sends.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use nix::libc::linger;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use openssl::ssl::SslAcceptor;
use openssl::ssl::SslAcceptorBuilder;
use openssl::ssl::SslMethod;
use openssl::ssl::SslStream;
use openssl::ssl::SslVerifyMode;
use openssl::ssl::SslVersion;

use crate::authority::Identity;

/// A connection, as answers write to it.
pub struct Wire {
    stream: Stream,
    written: u64,
    /// Whether answers announce `Connection: close`.
    pub(crate) closing: bool,
    total: Arc<AtomicU64>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Wire {
    /// Accepts a connection, with a TLS handshake if there is an `identity`.
    pub(crate) fn accept(stream: TcpStream, identity: Option<&Identity>, total: Arc<AtomicU64>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let stream = match identity {
            None => Stream::Plain(stream),
            Some(identity) => Stream::Tls(Box::new(handshake(stream, identity)?)),
        };
        Ok(Self { stream, written: 0, closing: false, total })
    }

    /// Bytes written to this connection.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Sends nothing more, and reads until the client hangs up or the server stops.
    pub(crate) fn swallow(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }

    /// Waits at most `time` for the client to hang up. Returns whether it did.
    pub(crate) fn hung_up_within(&mut self, time: std::time::Duration) -> bool {
        let tcp = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref(),
        };
        let ended = tcp.set_read_timeout(Some(time)).and_then(|()| tcp.peek(&mut [0]));
        match ended {
            Ok(bytes) => bytes == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
}

/// Accepts a connection, as [`Wire::accept`] does but from any client, and resets it: so ends a server's connection
/// that is closed before the client's request is read.
pub(super) fn reset(stream: TcpStream, identity: Option<&Identity>) -> io::Result<()> {
    setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    if let Some(identity) = identity {
        let mut acceptor = acceptor(identity)?;
        if identity.clients.is_some() {
            acceptor.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        }
        acceptor.build().accept(stream).map_err(io::Error::other)?;
    }
    Ok(())
}

fn handshake(stream: TcpStream, identity: &Identity) -> io::Result<SslStream<TcpStream>> {
    acceptor(identity)?.build().accept(stream).map_err(io::Error::other)
}

fn acceptor(identity: &Identity) -> io::Result<SslAcceptorBuilder> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_private_key(&identity.key)?;
    acceptor.set_certificate(&identity.certificate)?;
    if identity.old {
        acceptor.set_max_proto_version(Some(SslVersion::TLS1_2))?;
    }
    if let Some(authority) = &identity.clients {
        acceptor.cert_store_mut().add_cert(authority.clone())?;
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    Ok(acceptor)
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => stream.write(buffer)?,
            Stream::Tls(stream) => stream.write(buffer)?,
        };
        let count = u64::try_from(written).map_err(io::Error::other)?;
        self.written += count;
        self.total.fetch_add(count, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        }
    }
}
