//! Lines over a socket.

use std::io;
use std::io::Read;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use serde::Serialize;

use super::protocol;
use crate::sys::process::receive_with_descriptors;

/// Longest line that the parent accepts, in bytes; the worker's longest message is a scrubbed error.
pub(super) const REPLY_LIMIT: usize = 1 << 20;

/// Longest line that the worker accepts, in bytes: an [`Errand`](crate::remote::Errand) with a CA bundle in its secret,
/// which Kubernetes limits to 1 MiB and JSON may double.
pub(super) const REQUEST_LIMIT: usize = 4 << 20;

/// The result of reading.
pub(super) enum Incoming {
    /// A line without its line end.
    Line(Vec<u8>),
    /// No whole line yet.
    Quiet,
    /// The other side closed the socket.
    Closed,
}

/// One end of a conversation in lines.
pub(super) struct Wire {
    stream: UnixStream,
    limit: usize,
    buffer: Vec<u8>,
    /// Bytes of the buffer already searched for a line end.
    searched: usize,
    descriptors: Vec<OwnedFd>,
}

impl Wire {
    /// Creates an end that reads lines of up to `limit` bytes.
    pub(super) fn new(stream: UnixStream, limit: usize) -> Self {
        Self { stream, limit, buffer: Vec::new(), searched: 0, descriptors: Vec::new() }
    }

    /// Writes one message.
    pub(super) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        (&self.stream).write_all(&protocol::line(message)?)
    }

    /// Reads the next line, waiting up to `patience`, or without limit if that is `None`.
    pub(super) fn receive(&mut self, patience: Option<Duration>) -> io::Result<Incoming> {
        self.receive_by(patience, |wire, chunk| (&wire.stream).read(chunk))
    }

    /// Like [`Wire::receive`], but keeps descriptors sent along for [`take_descriptors`](Self::take_descriptors). Only
    /// for a trusted peer: they count against our limit.
    pub(super) fn receive_with_descriptors(&mut self, patience: Option<Duration>) -> io::Result<Incoming> {
        self.receive_by(patience, |wire, chunk| {
            let (length, descriptors) = receive_with_descriptors(wire.stream.as_fd(), chunk)?;
            wire.descriptors.extend(descriptors);
            Ok(length)
        })
    }

    fn receive_by(
        &mut self,
        patience: Option<Duration>,
        read: impl Fn(&mut Self, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Incoming> {
        loop {
            if let Some(line) = self.next_line()? {
                return Ok(Incoming::Line(line));
            }
            if let Some(patience) = patience
                && !readable(&self.stream, patience)?
            {
                return Ok(Incoming::Quiet);
            }
            let mut chunk = [0; 16 * 1024];
            match read(self, &mut chunk) {
                Ok(0) => return Ok(Incoming::Closed),
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The other side ended without reading everything we sent.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Incoming::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the descriptors received so far.
    pub(super) fn take_descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|offset| self.searched + offset) else {
            self.searched = self.buffer.len();
            if self.searched > self.limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end"));
            }
            return Ok(None);
        };
        let rest = self.buffer.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.buffer, rest);
        line.pop();
        self.searched = 0;
        Ok(Some(line))
    }
}

fn readable(stream: &UnixStream, patience: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(stream.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Wire, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Wire::new(ours, REPLY_LIMIT), theirs)
    }

    #[test]
    fn lines_arrive_whole_whatever_the_chunks() {
        let (mut wire, mut other) = pair();
        other.write_all(b"one\ntw").unwrap();
        assert!(matches!(wire.receive(None).unwrap(), Incoming::Line(line) if line == b"one"));
        assert!(matches!(wire.receive(Some(Duration::ZERO)).unwrap(), Incoming::Quiet));
        other.write_all(b"o\n\n").unwrap();
        assert!(matches!(wire.receive(None).unwrap(), Incoming::Line(line) if line == b"two"));
        assert!(matches!(wire.receive(None).unwrap(), Incoming::Line(line) if line.is_empty()));
        drop(other);
        assert!(matches!(wire.receive(None).unwrap(), Incoming::Closed));
    }

    #[test]
    fn a_line_without_end_is_refused_in_bounded_memory() {
        let (mut wire, mut other) = pair();
        let flood = std::thread::spawn(move || while other.write_all(&[b'x'; 65536]).is_ok() {});
        let Err(error) = wire.receive(None) else { panic!("the line has no end") };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(wire.buffer.len() < REPLY_LIMIT + 65536);
        drop(wire);
        flood.join().unwrap();
    }
}
