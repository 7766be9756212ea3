//! One connection, plain or encrypted, that counts the bytes it sends.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use openssl::ssl::SslAcceptor;
use openssl::ssl::SslMethod;
use openssl::ssl::SslStream;
use openssl::ssl::SslVerifyMode;

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

fn handshake(stream: TcpStream, identity: &Identity) -> io::Result<SslStream<TcpStream>> {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    acceptor.set_private_key(&identity.key)?;
    acceptor.set_certificate(&identity.certificate)?;
    if let Some(authority) = &identity.clients {
        acceptor.cert_store_mut().add_cert(authority.clone())?;
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    acceptor.build().accept(stream).map_err(io::Error::other)
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
