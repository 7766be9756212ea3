//! How a request is answered: by git, or as a test decides.

use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use super::backend::Backend;
use super::message;
use super::message::Request;
use super::wire::Wire;
use crate::pktline;

/// How to answer a request.
#[derive(Clone)]
pub enum Answer {
    /// As git does.
    Git,
    /// With this status, these headers and an empty body.
    Status {
        /// Three digits.
        status: u16,
        /// Besides those for the transfer.
        headers: Vec<(String, String)>,
    },
    /// As git does, with a changed body. With [`Ending::Complete`] the body is sent well-formed, otherwise it breaks
    /// off at its end.
    Tampered(Arc<Tamper>),
    /// As git does, but sending a pack takes this long.
    Slow(Duration),
    /// With the output of the function, headers included.
    Raw(Arc<WriteAnswer>),
    /// With the bytes that the function makes of git's answer.
    Rewritten(Arc<Rewrite>),
}

/// Changes git's body.
pub type Tamper = dyn Fn(Vec<u8>) -> (Vec<u8>, Ending) + Send + Sync;

/// Writes an answer.
pub type WriteAnswer = dyn Fn(&mut Wire) -> io::Result<Ending> + Send + Sync;

/// Writes git's answer in another way: head, body, and whatever surrounds them.
pub type Rewrite = dyn Fn(&Request, GitAnswer) -> (Vec<u8>, Ending) + Send + Sync;

/// A complete answer of git.
#[derive(Debug, Clone)]
pub struct GitAnswer {
    /// Three digits.
    pub status: u16,
    /// Without those for the transfer.
    pub headers: Vec<(String, String)>,
    /// As it is before any coding.
    pub body: Vec<u8>,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The next request.
    Complete,
    /// The end of the connection.
    Broken,
    /// Nothing, on an open connection.
    Silent,
}

impl Answer {
    /// An answer without further headers.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new() }
    }

    /// See [`Answer::Tampered`].
    pub fn tampered(tamper: impl Fn(Vec<u8>) -> (Vec<u8>, Ending) + Send + Sync + 'static) -> Self {
        Self::Tampered(Arc::new(tamper))
    }

    /// See [`Answer::Rewritten`].
    pub fn rewritten(rewrite: impl Fn(&Request, GitAnswer) -> (Vec<u8>, Ending) + Send + Sync + 'static) -> Self {
        Self::Rewritten(Arc::new(rewrite))
    }

    /// See [`Answer::Raw`].
    pub fn raw(write: impl Fn(&mut Wire) -> io::Result<Ending> + Send + Sync + 'static) -> Self {
        Self::Raw(Arc::new(write))
    }
}

pub(super) fn status(wire: &mut Wire, status: u16, headers: Vec<(String, String)>) -> io::Result<Ending> {
    message::write_head(wire, status, &headers)?;
    message::write_chunk(wire, b"")?;
    Ok(Ending::Complete)
}

/// Streams git's answer.
pub(super) fn git(wire: &mut Wire, repository: &Path, rest: &str, request: &Request) -> io::Result<Ending> {
    let mut backend = start(repository, rest, request)?;
    message::write_head(wire, backend.status, &backend.headers)?;
    let mut buffer = vec![0; 64 << 10];
    let mut beginning = Vec::new();
    loop {
        let count = backend.read(&mut buffer)?;
        if beginning.len() < buffer.len() {
            beginning.extend_from_slice(&buffer[..count]);
            request.brought_pack.fetch_or(pktline::find_pack(&beginning).is_some(), Ordering::Relaxed);
        }
        message::write_chunk(wire, &buffer[..count])?;
        if count == 0 {
            return Ok(Ending::Complete);
        }
    }
}

/// How many parts a slow pack is sent in.
const PARTS: u32 = 200;

pub(super) fn slow(
    wire: &mut Wire,
    repository: &Path,
    rest: &str,
    request: &Request,
    time: Duration,
) -> io::Result<Ending> {
    let (backend, answer) = whole(repository, rest, request)?;
    message::write_head(wire, backend.status, &backend.headers)?;
    let begun = Instant::now();
    for (number, part) in (1..).zip(answer.chunks(answer.len().div_ceil(PARTS as usize).max(1))) {
        message::write_chunk(wire, part)?;
        wire.flush()?;
        if request.brought_pack() {
            // Like a line with a fixed bandwidth.
            thread::sleep((time / PARTS * number).saturating_sub(begun.elapsed()));
        }
    }
    message::write_chunk(wire, b"")?;
    Ok(Ending::Complete)
}

pub(super) fn tampered(
    wire: &mut Wire,
    repository: &Path,
    rest: &str,
    request: &Request,
    tamper: &Tamper,
) -> io::Result<Ending> {
    let (backend, answer) = whole(repository, rest, request)?;
    let (answer, ending) = tamper(answer);
    message::write_head(wire, backend.status, &backend.headers)?;
    if !answer.is_empty() {
        message::write_chunk(wire, &answer)?;
    }
    if ending == Ending::Complete {
        message::write_chunk(wire, b"")?;
    }
    Ok(ending)
}

pub(super) fn rewritten(
    wire: &mut Wire,
    repository: &Path,
    rest: &str,
    request: &Request,
    rewrite: &Rewrite,
) -> io::Result<Ending> {
    let (backend, body) = whole(repository, rest, request)?;
    let (bytes, ending) =
        rewrite(request, GitAnswer { status: backend.status, headers: backend.headers.clone(), body });
    wire.write_all(&bytes)?;
    wire.flush()?;
    Ok(ending)
}

/// Git's whole answer.
fn whole(repository: &Path, rest: &str, request: &Request) -> io::Result<(Backend, Vec<u8>)> {
    let mut backend = start(repository, rest, request)?;
    let mut answer = Vec::new();
    backend.read_to_end(&mut answer)?;
    request.brought_pack.store(pktline::find_pack(&answer).is_some(), Ordering::Relaxed);
    Ok((backend, answer))
}

fn start(repository: &Path, rest: &str, request: &Request) -> io::Result<Backend> {
    let (Some(root), Some(name)) = (repository.parent(), repository.file_name().and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Backend::start(root, &format!("/{name}{rest}"), request)
}
