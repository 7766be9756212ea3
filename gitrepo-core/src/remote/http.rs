//! Smart HTTP as git uses it: requests to one server over one connection, without following redirects.
//!
//! libgit2's own client trusts the head of a server's response, and some input crashes the process: for a `Location`
//! without a query or a scheme it compares through a null pointer. So libgit2 only handles git's protocol, and we parse
//! the head here.
//!
//! Not supported: following redirects, HTTP/2, compression, client certificates, proxies that require a credential.

use std::io;
use std::io::Write;
use std::time::Duration;

use openssl::x509::X509;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::error::Cause;
use crate::remote::RemoteError;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

mod authentication;
mod body;
mod certificate;
mod connection;
mod head;
mod redirect;

pub use certificate::CertificateProblem;
pub use redirect::Redirection;

use authentication::Authentication;
use body::Body;
use connection::Connection;
use head::Head;

/// The User-Agent header. The product names are libgit2's and git's: some servers serve git only to clients with this
/// prefix.
const USER_AGENT: &str = concat!("git/2.0 (gitrepo/", env!("CARGO_PKG_VERSION"), ")");

/// Maximum number of interim responses, such as "103 Early Hints".
const EARLY_ANSWERS: usize = 8;

/// How much of an unwanted body is read so that the connection can be reused.
const UNWANTED_BYTES: usize = 64 * 1024;

/// The server, the credentials for it, and the timeout.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: RepositoryUrl,
    pub(super) credentials: Credentials,
    /// Whether basic and bearer credentials may go over plain `http`.
    pub(super) credentials_over_http: bool,
    /// `http://host:port`.
    pub(super) proxy: Option<String>,
    /// Certificate authorities, in addition to the system's.
    pub(super) authorities: Vec<X509>,
    /// Timeout for connecting, and for each read and write.
    pub(super) stall: Duration,
}

/// A request to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question<'a> {
    /// Asks for the list of refs.
    Refs,
    /// Continues this negotiation.
    UploadPack(&'a [u8]),
}

impl Question<'_> {
    /// The path after the repository's.
    fn suffix(self) -> &'static str {
        match self {
            Self::Refs => "/info/refs",
            Self::UploadPack(_) => "/git-upload-pack",
        }
    }

    fn phase(self) -> &'static str {
        match self {
            Self::Refs => "asking for its refs",
            Self::UploadPack(_) => "awaiting its answer",
        }
    }
}

/// A server, with its connection if there is one.
pub(super) struct Client {
    server: Server,
    authentication: Authentication,
    connection: Option<Connection>,
    body: Body,
    /// The current phase, for the message if the server goes silent.
    phase: &'static str,
}

impl Client {
    /// Connects on the first request.
    pub(super) fn new(server: Server) -> Self {
        let authentication = Authentication::new(&server);
        Self { server, authentication, connection: None, body: Body::NONE, phase: "" }
    }

    /// Sends a request, with a credential if the server requires one. Returns when the response begins;
    /// [`Client::read`] reads it.
    pub(super) fn ask(&mut self, question: Question<'_>) -> Result<(), RemoteError> {
        self.phase = question.phase();
        loop {
            let head = self.exchange(question)?;
            match head.status {
                200 => return self.check_type(question, &head),
                401 => self.authentication.challenged(&head)?,
                _ => return Err(self.refusal(question, &head)),
            }
        }
    }

    /// Reads more of the response; 0 is its end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RemoteError> {
        let Some(connection) = &mut self.connection else { return Ok(0) };
        let outcome = self.body.read(connection, buffer);
        outcome.map_err(|error| self.failure(error))
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.connection = None;
        self.body = Body::NONE;
    }

    /// Sends a request and reads the head of the response. A server may close an idle connection, so one that was used
    /// before is reopened once.
    fn exchange(&mut self, question: Question<'_>) -> Result<Head, RemoteError> {
        let request = self.request(question);
        self.drain();
        if self.connection.is_some() {
            match self.send(&request) {
                Ok(Some(head)) => return self.begin(head),
                Err(error) if !is_hang_up(&error) => return Err(self.failure(error)),
                Ok(None) | Err(_) => self.close(),
            }
        }
        self.connection = Some(Connection::open(&self.server)?);
        match self.send(&request) {
            Ok(Some(head)) => self.begin(head),
            Ok(None) => Err(self.failure(io::Error::new(io::ErrorKind::UnexpectedEof, "it closes the connection"))),
            Err(error) => Err(self.failure(error)),
        }
    }

    fn begin(&mut self, head: Head) -> Result<Head, RemoteError> {
        self.body = Body::of(&head).map_err(|error| self.failure(error))?;
        Ok(head)
    }

    /// The head of the response; `None` if the server hangs up without one.
    fn send(&mut self, request: &[u8]) -> io::Result<Option<Head>> {
        let Some(connection) = &mut self.connection else { return Ok(None) };
        connection.write_all(request)?;
        connection.flush()?;
        for _ in 0..EARLY_ANSWERS {
            match Head::read(connection)? {
                Some(head) if (100..200).contains(&head.status) && head.status != 101 => {}
                head => return Ok(head),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "it only ever announces an answer"))
    }

    /// Reads the rest of the previous response, or closes the connection.
    fn drain(&mut self) {
        let mut read = 0;
        let mut buffer = [0; 4096];
        while let Some(connection) = &mut self.connection {
            match self.body.read(connection, &mut buffer) {
                Ok(0) if self.body.leaves_connection_open() => break,
                Ok(length) if length > 0 && read < UNWANTED_BYTES => read += length,
                Ok(_) | Err(_) => self.close(),
            }
        }
    }

    fn request(&self, question: Question<'_>) -> Zeroizing<Vec<u8>> {
        let url = &self.server.url;
        let authority = authority(url);
        let path = format!("{}{}", url.path().trim_end_matches('/'), question.suffix());
        let origin = match &self.server.proxy {
            Some(_) if url.scheme() == Scheme::Http => format!("http://{authority}"),
            _ => String::new(),
        };
        let mut request = Zeroizing::new(Vec::with_capacity(4096));
        let mut line = |text: &str| {
            request.extend_from_slice(text.as_bytes());
            request.extend_from_slice(b"\r\n");
        };
        match question {
            Question::Refs => line(&format!("GET {origin}{path}?service=git-upload-pack HTTP/1.1")),
            Question::UploadPack(_) => line(&format!("POST {origin}{path} HTTP/1.1")),
        }
        line(&format!("User-Agent: {USER_AGENT}"));
        line(&format!("Host: {authority}"));
        if let Some(value) = self.authentication.header() {
            line(&Zeroizing::new(format!("Authorization: {value}")));
        }
        match question {
            Question::Refs => {
                line("Accept: */*");
                line("");
            }
            Question::UploadPack(body) => {
                line("Accept: application/x-git-upload-pack-result");
                line("Content-Type: application/x-git-upload-pack-request");
                line(&format!("Content-Length: {}", body.len()));
                line("");
                request.extend_from_slice(body);
            }
        }
        request
    }

    /// A list of refs has its own content type, which a web page does not.
    fn check_type(&self, question: Question<'_>, head: &Head) -> Result<(), RemoteError> {
        let expected = match question {
            Question::Refs => "application/x-git-upload-pack-advertisement",
            Question::UploadPack(_) => return Ok(()),
        };
        let found = head.text("content-type").unwrap_or_default();
        if found.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(expected)) {
            return Ok(());
        }
        let shown: String = found.chars().take(100).collect();
        Err(self.protocol(format_args!("invalid content-type: '{shown}'")))
    }

    /// The meaning of a response without content.
    fn refusal(&self, question: Question<'_>, head: &Head) -> RemoteError {
        let url = self.server.url.to_string();
        let cause = Cause::new(format_args!("unexpected http status code: {}", head.status));
        let locations: Vec<_> = head.all("location").collect();
        match head.status {
            300..=399 if head.status != 304 => {
                let to = Redirection::read(&self.server.url, question.suffix(), &locations);
                RemoteError::Redirected { url, to }
            }
            403 => RemoteError::Forbidden { url, source: Some(cause) },
            404 | 410 => RemoteError::RepositoryNotFound { url, source: Some(cause) },
            407 => RemoteError::Unreachable { url, source: Cause::new("the proxy wants a credential") },
            408 | 429 | 500..=599 => RemoteError::Unreachable { url, source: cause },
            _ => RemoteError::Protocol { url, source: cause },
        }
    }

    /// A failure of the connection, which is no longer usable.
    fn failure(&mut self, error: io::Error) -> RemoteError {
        self.close();
        failure(&self.server, self.phase, &error)
    }

    fn protocol(&self, what: impl std::fmt::Display) -> RemoteError {
        RemoteError::Protocol { url: self.server.url.to_string(), source: Cause::new(what) }
    }
}

/// The meaning of a connection error.
fn failure(server: &Server, phase: &str, error: &io::Error) -> RemoteError {
    let url = server.url.to_string();
    match error.kind() {
        // A socket's error on a timeout.
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            RemoteError::Stalled { url, seconds: server.stall.as_secs(), phase: phase.to_owned() }
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
            RemoteError::Protocol { url, source: Cause::new(error) }
        }
        _ => RemoteError::Unreachable { url, source: Cause::new(error) },
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

/// `host`, or `host:port` if the port is not the scheme's default.
fn authority(url: &RepositoryUrl) -> String {
    match url.port().filter(|port| Some(*port) != url.scheme().default_port()) {
        Some(port) => format!("{}:{port}", bracketed(url.host().unwrap_or_default())),
        None => bracketed(url.host().unwrap_or_default()),
    }
}

/// The host as in a URL: an IPv6 address in brackets.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}
