//! One connection of the worker, and its counterpart to the remote.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;

use super::Destination;
use super::dial::Dial;
use super::dial::Progress;
use crate::error::Cause;

/// A worker's connection and its state.
pub(super) struct Connection {
    worker: TcpStream,
    remote: Remote,
}

enum Remote {
    Dialling(Dial),
    Open { stream: TcpStream, outward: Flow, inward: Flow },
    Gone,
}

/// The result of one [`Connection::advance`].
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Bytes from the remote.
    pub(super) received: u64,
    /// Bytes to the remote.
    pub(super) sent: u64,
    /// Whether the remote has just responded.
    pub(super) connected: bool,
    /// Whether there is more to come.
    pub(super) open: bool,
}

impl Connection {
    pub(super) fn new(worker: TcpStream, destination: &Destination) -> Self {
        Self { worker, remote: Remote::Dialling(Dial::new(destination.clone())) }
    }

    /// Returns the events to wait for. Idle sockets are left out: their hang-ups would wake us endlessly.
    pub(super) fn interest(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.remote {
            Remote::Dialling(dial) => {
                dial.socket().map(|socket| (socket.as_fd(), PollFlags::POLLOUT)).into_iter().collect()
            }
            Remote::Open { stream, outward, inward } => {
                let worker = outward.wants_to_read() | inward.wants_to_write();
                let remote = inward.wants_to_read() | outward.wants_to_write();
                [(self.worker.as_fd(), worker), (stream.as_fd(), remote)]
                    .into_iter()
                    .filter(|(_, events)| !events.is_empty())
                    .collect()
            }
            Remote::Gone => Vec::new(),
        }
    }

    /// Returns when to check again even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.remote {
            Remote::Dialling(dial) => Some(dial.deadline()),
            Remote::Open { .. } | Remote::Gone => None,
        }
    }

    /// Connects, or moves bytes, as far as possible without waiting. Stops reading from the remote once it has sent
    /// more than `allowance`.
    ///
    /// # Errors
    ///
    /// If the connection is no longer usable; with a cause if the remote was never reached.
    pub(super) fn advance(&mut self, allowance: u64) -> Result<Moved, Option<Cause>> {
        let mut moved = Moved::default();
        if let Remote::Dialling(_) = self.remote {
            moved.connected = self.dial()?;
        }
        if let Remote::Open { stream, outward, inward } = &mut self.remote {
            moved.sent = outward.pump(&self.worker, stream, u64::MAX).map_err(|_| None)?;
            moved.received = inward.pump(stream, &self.worker, allowance).map_err(|_| None)?;
            moved.open = !(outward.is_done() && inward.is_done());
        } else {
            moved.open = true;
        }
        Ok(moved)
    }

    fn dial(&mut self) -> Result<bool, Option<Cause>> {
        let Remote::Dialling(dial) = std::mem::replace(&mut self.remote, Remote::Gone) else { return Ok(false) };
        match dial.advance() {
            Progress::Trying(dial) => {
                self.remote = Remote::Dialling(dial);
                Ok(false)
            }
            Progress::Connected(stream) => {
                prepare(&self.worker).and_then(|()| prepare(&stream)).map_err(|_| None)?;
                self.remote = Remote::Open { stream, outward: Flow::new(OUTWARD), inward: Flow::new(INWARD) };
                Ok(true)
            }
            Progress::Failed(cause) => Err(Some(cause)),
        }
    }
}

/// Buffer size towards the remote: requests are small.
const OUTWARD: usize = 32 * 1024;

/// Buffer size towards the worker: packs are large, and each turn costs two system calls.
const INWARD: usize = 256 * 1024;

/// Disables Nagle's algorithm, which would only delay what the worker's library has already batched.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

/// Bytes in one direction.
struct Flow {
    buffer: Box<[u8]>,
    /// The part of the buffer that has been read but not yet written.
    start: usize,
    end: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    /// Nothing more comes; the rest of the buffer must still be written.
    Ending,
    Done,
}

impl Flow {
    /// Rounds of reading and writing before other connections have their turn.
    const ROUNDS: usize = 16;

    fn new(size: usize) -> Self {
        Self { buffer: vec![0; size].into_boxed_slice(), start: 0, end: 0, state: State::Flowing }
    }

    fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn wants_to_read(&self) -> PollFlags {
        if self.state == State::Flowing && self.is_empty() { PollFlags::POLLIN } else { PollFlags::empty() }
    }

    fn wants_to_write(&self) -> PollFlags {
        if self.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT }
    }

    /// Moves bytes until one side would block or more than `allowance` were read. Returns how many were read. When one
    /// side ends, so does the other.
    fn pump(&mut self, mut from: &TcpStream, mut to: &TcpStream, allowance: u64) -> io::Result<u64> {
        let mut read = 0;
        for _ in 0..Self::ROUNDS {
            if read > allowance {
                break;
            }
            if self.state == State::Flowing && self.is_empty() {
                let Some(length) = unless_blocked(from.read(&mut self.buffer))? else { break };
                (self.start, self.end) = (0, length);
                read += length as u64;
                if length == 0 {
                    self.state = State::Ending;
                }
            }
            if !self.is_empty() {
                let Some(length) = unless_blocked(to.write(&self.buffer[self.start..self.end]))? else { break };
                self.start += length;
            }
            if self.state == State::Ending && self.is_empty() {
                self.state = State::Done;
                return to.shutdown(Shutdown::Write).map(|()| read);
            }
            if self.is_done() {
                break;
            }
        }
        Ok(read)
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
