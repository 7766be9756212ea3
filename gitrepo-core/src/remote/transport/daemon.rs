//! git's own protocol over TCP, as `git daemon` speaks it: neither encrypted nor authenticated.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::net::ToSocketAddrs;

use super::CHUNK;
use super::PROTOCOL;
use super::Patience;
use super::Transport;
use crate::error::Cause;
use crate::remote::ConnectRequest;
use crate::remote::RemoteError;

/// A connection to a daemon.
pub(super) struct Daemon<'a> {
    request: &'a ConnectRequest,
    stream: Option<BufReader<Patient<'a>>>,
}

impl<'a> Daemon<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self { request, stream: None }
    }
}

impl Transport for Daemon<'_> {
    fn connect(&mut self) -> Result<&mut dyn Read, RemoteError> {
        let url = &self.request.errand.url;
        let mut patience = Patience::new(self.request);
        let stream = dial(self.request)?;
        patience.begin("asking for its refs");
        let mut stream = Patient { stream, patience };
        // gitprotocol-pack(5), "Git Transport". Old daemons reject what comes after the host, so the version has a NUL
        // of its own before it.
        let host = super::authority(url);
        let line = format!("git-upload-pack {}\0host={host}\0\0{PROTOCOL}\0", url.path());
        let sent = stream.send(format!("{:04x}{line}", line.len() + 4).as_bytes());
        sent.map_err(|error| super::failure(error, &url.to_string()))?;
        Ok(self.stream.insert(BufReader::with_capacity(CHUNK, stream)))
    }

    fn ask(&mut self, request: &[u8]) -> Result<&mut dyn Read, RemoteError> {
        let url = self.request.errand.url.to_string();
        let Some(stream) = &mut self.stream else {
            return Err(RemoteError::Unreachable { url, source: Cause::new("it is not connected") });
        };
        stream.get_mut().patience.begin("awaiting its answer");
        stream.get_mut().send(request).map_err(|error| super::failure(error, &url))?;
        Ok(stream)
    }

    fn hang_up(&mut self) {
        self.stream = None;
    }

    fn ends_with_fetch(&self) -> bool {
        true
    }
}

/// Connects to the first address that responds.
pub(super) fn dial(request: &ConnectRequest) -> Result<TcpStream, RemoteError> {
    let (url, stall) = (&request.errand.url, request.errand.limits.stall);
    let unreachable = |source: Cause| RemoteError::Unreachable { url: url.to_string(), source };
    let (host, port) = (url.host().unwrap_or_default(), url.port().unwrap_or_default());
    let addresses = (host, port).to_socket_addrs().map_err(|error| unreachable(Cause::new(error)))?;
    let mut failures = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, stall) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(RemoteError::NotPermitted { url: url.to_string(), source: Cause::new(error) });
            }
            Err(error) => failures.push(format!("failed to connect to {host}: {error}")),
        }
    }
    if failures.is_empty() {
        failures.push(format!("{host} has no address"));
    }
    Err(unreachable(Cause::new(failures.join("; "))))
}

/// A socket whose reads and writes end when they are no longer wanted.
struct Patient<'a> {
    stream: TcpStream,
    patience: Patience<'a>,
}

impl Patient<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.patience.tick()))?;
        let mut left = bytes;
        while !left.is_empty() {
            let length = wait(&mut self.patience, || self.stream.write(left))?;
            left = &left[length..];
        }
        Ok(())
    }
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.patience.tick()))?;
        wait(&mut self.patience, || self.stream.read(buffer))
    }
}

/// Repeats a call that times out at each tick.
fn wait(patience: &mut Patience<'_>, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    use io::ErrorKind;
    loop {
        match call() {
            Ok(length) => {
                patience.hear();
                patience.check().map_err(io::Error::other)?;
                return Ok(length);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
            {
                patience.check().map_err(io::Error::other)?;
            }
            Err(error) => return Err(error),
        }
    }
}
