//! Ways to a server: smart HTTP, SSH, and git's own protocol. Each carries the same words.
//!
//! A transport's stream fails with a [`RemoteError`] inside the [`io::Error`], if it knows more than that the stream
//! ended.

use std::io;
use std::io::Read;
use std::time::Duration;
use std::time::Instant;

use super::ConnectRequest;
use super::ObjectsError;
use super::RemoteError;
use crate::error::Cause;
use crate::lfs::Endpoint;
use crate::spec::RepositoryUrl;
use crate::spec::Scheme;

mod daemon;
mod http;
mod ssh;

pub use http::CertificateProblem;
pub(super) use http::Download;
pub(super) use http::ObjectServer;
pub(super) use http::Place;
pub use http::Redirection;
#[cfg(feature = "testing")]
pub(super) use http::fuzz;

/// The version of the protocol that is asked for. A server that does not know it answers in an older one.
const PROTOCOL: &str = "version=2";

/// How often a wait looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(100);

/// Bytes read from a connection at once.
const CHUNK: usize = 64 * 1024;

/// A way to the server's `git-upload-pack`.
pub(super) trait Transport {
    /// Connects. The stream begins with the server's first words.
    fn connect(&mut self) -> Result<&mut dyn Read, RemoteError>;

    /// Sends a request. The stream continues with the answer.
    fn ask(&mut self, request: &[u8]) -> Result<&mut dyn Read, RemoteError>;

    /// Ends an answer whose rest nobody needs, with its connection.
    fn hang_up(&mut self);

    /// Whether a connection ends with the fetch that it is used for: before version 2 of the protocol, and except over
    /// HTTP, where the server forgets each request.
    fn ends_with_fetch(&self) -> bool;

    /// Why the server hung up, if it said so beside the stream.
    fn last_words(&mut self) -> Option<String> {
        None
    }

    /// The `known_hosts` line of a new host key that was accepted.
    fn accepted_host_key(&self) -> Option<String> {
        None
    }
}

/// The transport for the errand's URL; `None` for a repository on this machine.
pub(super) fn open(request: &ConnectRequest) -> Option<Box<dyn Transport + '_>> {
    match request.errand.url.scheme() {
        Scheme::Https | Scheme::Http => Some(Box::new(http::Http::new(request))),
        Scheme::Ssh => Some(Box::new(ssh::Ssh::new(request))),
        Scheme::Git => Some(Box::new(daemon::Daemon::new(request))),
        Scheme::File => None,
    }
}

/// Asks a remote over SSH which server has its objects of Git LFS. Returns also the `known_hosts` line of a new host key that was
/// accepted.
pub(super) fn objects_endpoint(request: &ConnectRequest) -> Result<(Endpoint, Option<String>), RemoteError> {
    match request.errand.url.scheme() {
        Scheme::Ssh => ssh::objects_endpoint(request),
        _ => Err(ObjectsError::WithoutServer.into()),
    }
}

/// How long a server may stay silent while it owes an answer.
struct Patience<'a> {
    request: &'a ConnectRequest,
    /// What is going on, for the message.
    phase: &'static str,
    heard: Instant,
}

impl<'a> Patience<'a> {
    fn new(request: &'a ConnectRequest) -> Self {
        Self { request, phase: "connecting", heard: Instant::now() }
    }

    /// Begins a phase, named for "while …".
    fn begin(&mut self, phase: &'static str) {
        self.phase = phase;
        self.hear();
    }

    /// The server has sent or taken something.
    fn hear(&mut self) {
        self.heard = Instant::now();
    }

    /// Fails once the wait is no longer wanted, or too long.
    fn check(&self) -> Result<(), RemoteError> {
        let url = || self.request.errand.url.to_string();
        self.request.watch.cancel.check().map_err(|source| RemoteError::Interrupted { url: url(), source })?;
        let stall = self.request.errand.limits.stall;
        if self.heard.elapsed() >= stall {
            return Err(RemoteError::Stalled { url: url(), seconds: stall.as_secs(), phase: self.phase.to_owned() });
        }
        Ok(())
    }

    /// How long to wait until the next check.
    fn tick(&self) -> Duration {
        TICK.min(self.request.errand.limits.stall)
    }
}

/// The error of a stream, with what it carries inside.
pub(super) fn failure(error: io::Error, url: &str) -> RemoteError {
    match error.downcast::<RemoteError>() {
        Ok(error) => error,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            RemoteError::Protocol { url: url.to_owned(), source: Cause::new("it hangs up in the middle of its answer") }
        }
        Err(error) => RemoteError::Unreachable { url: url.to_owned(), source: Cause::new(error) },
    }
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
