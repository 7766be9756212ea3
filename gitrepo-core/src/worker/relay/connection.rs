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
use super::Meter;
use super::Traffic;
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

    /// Whether bytes of the remote wait for the worker.
    pub(super) fn is_worker_behind(&self) -> bool {
        matches!(&self.remote, Remote::Open { inward, .. } if !inward.is_empty())
    }

    /// Returns when to check again even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.remote {
            Remote::Dialling(dial) => Some(dial.deadline()),
            Remote::Open { .. } | Remote::Gone => None,
        }
    }

    /// Connects, or moves bytes, as far as possible without waiting. Counts them in `traffic`, and stops reading from the
    /// remote once more has come than it allows.
    ///
    /// # Errors
    ///
    /// If the connection is no longer usable; with a cause if the remote was never reached.
    pub(super) fn advance(&mut self, traffic: &Traffic) -> Result<Moved, Option<Cause>> {
        let mut moved = Moved::default();
        if let Remote::Dialling(_) = self.remote {
            moved.connected = self.dial()?;
        }
        if let Remote::Open { stream, outward, inward } = &mut self.remote {
            // A remote may say why it hangs up before it has read everything. The worker still gets these words, even if
            // it goes on writing.
            match outward.pump(&self.worker, stream, &traffic.outward) {
                Ok(()) => {}
                Err(Broken::Sink) => outward.spill(),
                Err(Broken::Source) => return Err(None),
            }
            match inward.pump(stream, &self.worker, &traffic.inward) {
                Ok(()) => {}
                Err(Broken::Source) => inward.finish(&self.worker).map_err(|_| None)?,
                Err(Broken::Sink) => return Err(None),
            }
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
    /// Nobody takes it any more. What still comes is read and dropped: a socket that is closed with unread bytes resets
    /// its connection.
    Spilling,
    Done,
}

/// The end of a flow that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Source,
    Sink,
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
        let reads = matches!(self.state, State::Flowing | State::Spilling) && self.is_empty();
        if reads { PollFlags::POLLIN } else { PollFlags::empty() }
    }

    fn wants_to_write(&self) -> PollFlags {
        if self.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT }
    }

    /// Drops what comes from now on.
    fn spill(&mut self) {
        (self.start, self.end) = (0, 0);
        self.state = State::Spilling;
    }

    /// Passes on that nothing more comes.
    fn finish(&mut self, to: &TcpStream) -> io::Result<()> {
        self.state = State::Done;
        to.shutdown(Shutdown::Write)
    }

    /// Moves bytes until one side would block or `meter` is exceeded. When one side ends, so does the other.
    ///
    /// Bytes are counted before they are passed on, and what exceeds the meter is not: who has received all of a response
    /// finds all of it counted and allowed.
    fn pump(&mut self, mut from: &TcpStream, mut to: &TcpStream, meter: &Meter) -> Result<(), Broken> {
        for _ in 0..Self::ROUNDS {
            if meter.is_exceeded() {
                break;
            }
            if self.state == State::Spilling {
                let spilt = unless_blocked(from.read(&mut self.buffer)).map_err(|_| Broken::Source)?;
                match spilt {
                    Some(0) => self.state = State::Done,
                    Some(_) => continue,
                    None => break,
                }
            }
            if self.state == State::Flowing && self.is_empty() {
                let length = unless_blocked(from.read(&mut self.buffer)).map_err(|_| Broken::Source)?;
                let Some(length) = length else { break };
                (self.start, self.end) = (0, length);
                meter.count(length);
                if meter.is_exceeded() {
                    break;
                }
                if length == 0 {
                    self.state = State::Ending;
                }
            }
            if !self.is_empty() {
                let length = unless_blocked(to.write(&self.buffer[self.start..self.end])).map_err(|_| Broken::Sink)?;
                let Some(length) = length else { break };
                self.start += length;
            }
            if self.state == State::Ending && self.is_empty() {
                self.finish(to).map_err(|_| Broken::Sink)?;
            }
            if self.is_done() {
                break;
            }
        }
        Ok(())
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use nix::poll::PollFd;
    use nix::poll::PollTimeout;
    use nix::poll::poll;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (stream, listener.accept().unwrap().0)
    }

    /// Waits until `stream` has at least these events.
    fn wait_for(stream: &TcpStream, events: PollFlags) {
        let mut waited = [PollFd::new(stream.as_fd(), events)];
        while !waited[0].revents().is_some_and(|found| found.contains(events)) {
            poll(&mut waited, PollTimeout::NONE).unwrap();
        }
    }

    #[test]
    fn the_last_words_of_a_remote_are_passed_on_although_it_reads_no_more() {
        let (mut worker, inside) = pair();
        worker.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = vec![listener.local_addr().unwrap()];
        let destination = Destination { addresses, connect_timeout: Duration::from_secs(5), received_limit: u64::MAX };
        let mut connection = Connection::new(inside, &destination);
        let traffic = Traffic::new(u64::MAX);
        while !connection.advance(&traffic).unwrap().connected {
            std::thread::yield_now();
        }
        let (mut remote, _) = listener.accept().unwrap();

        worker.write_all(b"never read").unwrap();
        wait_for(&connection.worker, PollFlags::POLLIN);
        assert!(connection.advance(&traffic).unwrap().open);
        assert_eq!(traffic.outward.counted(), 10);
        wait_for(&remote, PollFlags::POLLIN);
        remote.write_all(b"no").unwrap();
        // Closed with unread bytes, which resets the connection.
        drop(remote);
        let Remote::Open { stream, .. } = &connection.remote else { panic!("not connected") };
        wait_for(stream, PollFlags::POLLHUP);
        worker.write_all(b"more").unwrap();
        wait_for(&connection.worker, PollFlags::POLLIN);

        assert!(connection.advance(&traffic).unwrap().open);
        assert_eq!(traffic.inward.counted(), 2);
        let mut heard = String::new();
        worker.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "no");
        worker.write_all(b"and more").unwrap();
        drop(worker);
        while connection.advance(&traffic).unwrap().open {
            std::thread::yield_now();
        }
    }
}
