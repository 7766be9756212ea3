//! A connection to the server: TCP, through the proxy if any, and TLS if the URL requires it.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::net::ToSocketAddrs;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::HandshakeError;
use openssl::ssl::SslConnector;
use openssl::ssl::SslMethod;
use openssl::ssl::SslOptions;
use openssl::ssl::SslStream;

use super::Server;
use super::USER_AGENT;
use super::bracketed;
use super::certificate::CertificateProblem;
use super::failure;
use super::head::Head;
use crate::error::Cause;
use crate::policy::Proxy;
use crate::remote::RemoteError;
use crate::spec::Scheme;

/// Bytes per read. Large, because a pack is long and each read costs a system call.
const BUFFER: usize = 64 * 1024;

const PHASE: &str = "connecting";

/// An open connection.
pub(super) struct Connection(BufReader<Stream>);

enum Stream {
    Plain(TcpStream),
    Tls(SslStream<TcpStream>),
}

impl Connection {
    /// Connects to the server, or to its proxy, and verifies its certificate.
    pub(super) fn open(server: &Server) -> Result<Self, RemoteError> {
        let failed = |error: io::Error| failure(server, PHASE, &error);
        let url = &server.url;
        let (host, port) = (url.host().unwrap_or_default(), url.port().unwrap_or_default());
        let proxy = server.proxy.as_deref().map(Proxy::parse).transpose();
        let proxy = proxy.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let (near, near_port) = proxy.as_ref().map_or((host, port), |proxy| (proxy.host(), proxy.port()));
        let stream = dial(near, near_port, server.stall)
            .map_err(|error| failed(io::Error::new(error.kind(), format!("failed to connect to {near}: {error}"))))?;
        if url.scheme() == Scheme::Http {
            return Ok(Self::over(Stream::Plain(stream)));
        }
        let stream = if proxy.is_some() { tunnel(stream, host, port).map_err(failed)? } else { stream };
        encrypt(stream, host, server).map(Stream::Tls).map(Self::over)
    }

    fn over(stream: Stream) -> Self {
        Self(BufReader::with_capacity(BUFFER, stream))
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.0.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.0.consume(amount);
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// Retries after a signal: every signal interrupts a socket with a timeout, even SIGCONT (signal(7)).
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Connects to the first address that responds. `stall` limits each attempt, and later each read and write.
fn dial(host: &str, port: u16, stall: Duration) -> io::Result<TcpStream> {
    let mut outcome = Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    for address in (host, port).to_socket_addrs()? {
        outcome = TcpStream::connect_timeout(&address, stall);
        if outcome.is_ok() {
            break;
        }
    }
    let stream = outcome?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(stall))?;
    stream.set_write_timeout(Some(stall))?;
    Ok(stream)
}

/// Asks the proxy to connect to the server.
fn tunnel(mut stream: TcpStream, host: &str, port: u16) -> io::Result<TcpStream> {
    let authority = format!("{}:{port}", bracketed(host));
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = BufReader::new(&stream);
    match Head::read(&mut answer)? {
        Some(head) if (200..300).contains(&head.status) && answer.buffer().is_empty() => Ok(stream),
        // In TLS the server speaks second, so this data is not from the server.
        Some(head) if (200..300).contains(&head.status) => Err(io::Error::other("the proxy speaks for the server")),
        Some(head) => Err(io::Error::other(format!("the proxy returned unexpected status: {}", head.status))),
        None => Err(io::Error::other("the proxy closes the connection")),
    }
}

/// Starts TLS, and fails unless the certificate is trusted and for this host.
fn encrypt(stream: TcpStream, host: &str, server: &Server) -> Result<SslStream<TcpStream>, RemoteError> {
    let url = || server.url.to_string();
    let connector =
        connector(server).map_err(|error| RemoteError::Authorities { url: url(), source: Cause::new(error) })?;
    connector.connect(host, stream).map_err(|error| match error {
        HandshakeError::SetupFailure(error) => RemoteError::Unreachable { url: url(), source: Cause::new(error) },
        HandshakeError::WouldBlock(_) => failure(server, PHASE, &io::ErrorKind::WouldBlock.into()),
        HandshakeError::Failure(handshake) => {
            let result = handshake.ssl().verify_result();
            match CertificateProblem::of(result) {
                Some(problem) => {
                    RemoteError::Certificate { url: url(), problem, source: Cause::new(result.error_string()) }
                }
                None => RemoteError::Unreachable { url: url(), source: Cause::new(handshake.error()) },
            }
        }
    })
}

fn connector(server: &Server) -> Result<SslConnector, ErrorStack> {
    let mut builder = SslConnector::builder(SslMethod::tls_client())?;
    // Many servers just hang up. The head tells where a response ends, and so does git's protocol.
    builder.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
    for authority in &server.authorities {
        builder.cert_store_mut().add_cert(authority.clone())?;
    }
    Ok(builder.build())
}
