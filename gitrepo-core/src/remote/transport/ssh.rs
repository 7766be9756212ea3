//! SSH, through libssh2.

use std::io;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use ssh2::BlockDirections;
use ssh2::Channel;
use ssh2::ErrorCode;
use ssh2::Session;
use zeroize::Zeroizing;

use super::CHUNK;
use super::PROTOCOL;
use super::Patience;
use super::Transport;
use super::daemon::dial;
use crate::credentials::Accepted;
use crate::credentials::PresentedKey;
use crate::error::Cause;
use crate::lfs::Endpoint;
use crate::lfs::batch;
use crate::remote::ConnectRequest;
use crate::remote::ObjectsError;
use crate::remote::RemoteError;

mod algorithms;
mod authentication;

/// libssh2's code for "would block" (`LIBSSH2_ERROR_EAGAIN`).
const AGAIN: ErrorCode = ErrorCode::Session(-37);

/// Most bytes kept of what a server says beside git's protocol.
const WORDS: usize = 4096;

/// Most bytes of the answer of `git-lfs-authenticate`.
const LONGEST_ENDPOINT: usize = 16 << 10;

/// Most reads of standard error in a row.
const LISTENS: usize = 64;

/// A connection to an SSH server.
pub(super) struct Ssh<'a> {
    request: &'a ConnectRequest,
    accepted_host_key: Option<String>,
    stream: Option<BufReader<Stream<'a>>>,
}

impl<'a> Ssh<'a> {
    pub(super) fn new(request: &'a ConnectRequest) -> Self {
        Self { request, accepted_host_key: None, stream: None }
    }

    fn url(&self) -> String {
        self.request.errand.url.to_string()
    }

    /// Connects, and runs a command.
    fn open(&mut self, command: &str, phase: &'static str) -> Result<Stream<'a>, RemoteError> {
        let url = self.url();
        let library = |error: ssh2::Error| RemoteError::Library { source: Cause::new(error) };
        let mut session = Session::new().map_err(library)?;
        let socket = dial(self.request)?;
        let mut line = Line {
            socket: socket.try_clone().map_err(|error| unreachable(&url, &error))?,
            session: session.clone(),
            patience: Patience::new(self.request),
        };
        session.set_tcp_stream(socket);
        session.set_blocking(false);
        algorithms::prefer(&session, self.request).map_err(library)?;
        line.patience.begin("agreeing on encryption");
        line.wait(|| session.handshake())?.map_err(|error| unreachable(&url, &error))?;
        self.check_host_key(&session)?;
        line.patience.begin("authenticating");
        authentication::authenticate(&mut line, self.request)?;
        line.patience.begin(phase);
        let failed = |error: ssh2::Error| RemoteError::Protocol { url: url.clone(), source: Cause::new(error) };
        let mut channel = line.wait(|| session.channel_session())?.map_err(failed)?;
        // Servers accept this variable only if they are configured to. Without it they answer in version 0.
        drop(line.wait(|| channel.setenv("GIT_PROTOCOL", PROTOCOL))?);
        line.wait(|| channel.exec(command))?.map_err(failed)?;
        Ok(Stream { line, channel, words: Vec::new() })
    }

    fn check_host_key(&mut self, session: &Session) -> Result<(), RemoteError> {
        let url = &self.request.errand.url;
        let (Some((blob, _)), Some(host), Some(port)) = (session.host_key(), url.host(), url.port()) else {
            return Err(RemoteError::Protocol { url: self.url(), source: Cause::new("it presents no host key") });
        };
        let Some(kind) = kind(blob) else {
            return Err(RemoteError::Protocol { url: self.url(), source: Cause::new("its host key is malformed") });
        };
        if let Accepted::New { line } = self.request.errand.host_keys.check(host, port, &PresentedKey { kind, blob })? {
            self.accepted_host_key = Some(line);
        }
        Ok(())
    }
}

impl Transport for Ssh<'_> {
    fn connect(&mut self) -> Result<&mut dyn Read, RemoteError> {
        let command = format!("git-upload-pack {}", quoted(self.request.errand.url.path()));
        let stream = self.open(&command, "asking for its refs")?;
        Ok(self.stream.insert(BufReader::with_capacity(CHUNK, stream)))
    }

    fn ask(&mut self, request: &[u8]) -> Result<&mut dyn Read, RemoteError> {
        let url = self.url();
        let Some(stream) = &mut self.stream else {
            return Err(RemoteError::Unreachable { url, source: Cause::new("it is not connected") });
        };
        stream.get_mut().send(request).map_err(|error| super::failure(error, &url))?;
        Ok(stream)
    }

    fn hang_up(&mut self) {
        self.stream = None;
    }

    fn ends_with_fetch(&self) -> bool {
        true
    }

    fn last_words(&mut self) -> Option<String> {
        let stream = self.stream.as_mut()?.get_mut();
        stream.listen();
        let words = String::from_utf8_lossy(&stream.words);
        Some(words.trim().to_owned()).filter(|words| !words.is_empty())
    }

    fn accepted_host_key(&self) -> Option<String> {
        self.accepted_host_key.clone()
    }
}

/// Asks for the server of Git LFS (git-lfs's `docs/api/server-discovery.md`, "SSH").
pub(super) fn objects_endpoint(request: &ConnectRequest) -> Result<(Endpoint, Option<String>), RemoteError> {
    let mut ssh = Ssh::new(request);
    let url = ssh.url();
    let command = format!("git-lfs-authenticate {} download", quoted(request.errand.url.path()));
    let mut stream = ssh.open(&command, "asking for its Git LFS server")?;
    let mut answer = Zeroizing::new(Vec::with_capacity(LONGEST_ENDPOINT));
    let read = (&mut stream).take(LONGEST_ENDPOINT as u64).read_to_end(&mut answer);
    read.map_err(|error| super::failure(error, &url))?;
    stream.listen();
    let words = String::from_utf8_lossy(&stream.words).trim().to_owned();
    let endpoint = batch::read_endpoint(&answer).map_err(|what| {
        let source =
            if words.is_empty() { Cause::new(what) } else { Cause::new(format_args!("{what}; it said: {words}")) };
        ObjectsError::NoServer { url, source }
    })?;
    Ok((endpoint, ssh.accepted_host_key))
}

/// A session with its socket, on which one can wait.
struct Line<'a> {
    socket: TcpStream,
    session: Session,
    patience: Patience<'a>,
}

impl Line<'_> {
    /// Repeats a call of libssh2 that would block until the socket is ready.
    fn wait<T>(
        &mut self,
        mut call: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<Result<T, ssh2::Error>, RemoteError> {
        loop {
            match call() {
                Err(error) if error.code() == AGAIN => self.pause()?,
                outcome => {
                    self.patience.hear();
                    return Ok(outcome);
                }
            }
        }
    }

    fn pause(&mut self) -> Result<(), RemoteError> {
        let events = match self.session.block_directions() {
            BlockDirections::None | BlockDirections::Inbound => PollFlags::POLLIN,
            BlockDirections::Outbound => PollFlags::POLLOUT,
            BlockDirections::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
        };
        let timeout = PollTimeout::try_from(self.patience.tick()).unwrap_or(PollTimeout::MAX);
        // Whatever this wait says, the next call of libssh2 finds out.
        let ready = poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout).unwrap_or_default() > 0;
        // A part of a packet is a sign of life.
        if ready {
            self.patience.hear();
        }
        self.patience.check()
    }
}

/// The command's output and input.
struct Stream<'a> {
    line: Line<'a>,
    channel: Channel,
    /// What the server said on standard error.
    words: Vec<u8>,
}

impl Stream<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.patience.begin("awaiting its answer");
        let mut left = bytes;
        while !left.is_empty() {
            match self.channel.write(left) {
                Ok(length @ 1..) => left = &left[length..],
                Ok(_) => self.line.pause().map_err(io::Error::other)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.line.pause().map_err(io::Error::other)?
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there of standard error: if nobody does, the server cannot go on.
    fn listen(&mut self) {
        let mut buffer = [0; 1024];
        for _ in 0..LISTENS {
            let Ok(length @ 1..) = self.channel.stderr().read(&mut buffer) else { break };
            let room = WORDS.saturating_sub(self.words.len());
            self.words.extend_from_slice(&buffer[..length.min(room)]);
        }
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.channel.read(buffer) {
                Ok(length) => {
                    self.line.patience.hear();
                    self.line.patience.check().map_err(io::Error::other)?;
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listen();
                    self.line.pause().map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> RemoteError {
    RemoteError::Unreachable { url: url.to_owned(), source: Cause::new(error) }
}

/// The type at the beginning of a public key in SSH's wire format (RFC 4253, section 6.6).
fn kind(blob: &[u8]) -> Option<&str> {
    let (length, rest) = blob.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

/// The path as one word for a shell on the server, quoted as git does: some servers parse nothing else.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', r"'\''").replace('!', r"'\!'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_any_shell() {
        for (path, word) in [
            ("/group/a.git", "'/group/a.git'"),
            ("/a b; rm -rf $HOME", "'/a b; rm -rf $HOME'"),
            ("/it's!", r"'/it'\''s'\!''"),
        ] {
            assert_eq!(quoted(path), word);
        }
    }

    #[test]
    fn the_type_of_a_host_key_is_in_it() {
        assert_eq!(kind(b"\0\0\0\x0bssh-ed25519rest"), Some("ssh-ed25519"));
        for bad in [&b""[..], b"\0\0\0", b"\0\0\0\xffx", b"\0\0\0\x01\xff"] {
            assert_eq!(kind(bad), None);
        }
    }
}
