//! Non-blocking connects.

use std::io;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::connect;
use nix::sys::socket::socket;

use super::Destination;
use crate::error::Cause;

/// An attempt to reach the first of several addresses that responds.
pub(super) struct Dial {
    destination: Destination,
    /// Index of the address being tried.
    tried: usize,
    socket: Option<OwnedFd>,
    deadline: Instant,
    failures: Vec<String>,
}

/// The state of an attempt.
pub(super) enum Progress {
    Trying(Dial),
    Connected(TcpStream),
    Failed(Cause),
}

impl Dial {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, tried: 0, socket: None, deadline: Instant::now(), failures: Vec::new() }
    }

    /// Returns the socket to wait for; none before the first [`advance`](Self::advance).
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Checks whether the current address has responded, and moves on to the next one if it has failed.
    pub(super) fn advance(mut self) -> Progress {
        loop {
            let Some(address) = self.destination.addresses.get(self.tried).copied() else {
                return Progress::Failed(self.cause());
            };
            let outcome = match self.socket.take() {
                None => self.begin(address),
                Some(socket) => self.check(socket),
            };
            match outcome {
                Ok(Some(stream)) => return Progress::Connected(stream),
                Ok(None) => return Progress::Trying(self),
                Err(error) => {
                    self.failures.push(format!("{address}: {error}"));
                    self.tried += 1;
                }
            }
        }
    }

    fn begin(&mut self, address: SocketAddr) -> io::Result<Option<TcpStream>> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Stream, flags, None)?;
        self.deadline = Instant::now() + self.destination.connect_timeout;
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => Ok(Some(TcpStream::from(socket))),
            Err(Errno::EINPROGRESS | Errno::EINTR) => {
                self.socket = Some(socket);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn check(&mut self, socket: OwnedFd) -> io::Result<Option<TcpStream>> {
        let answered = poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO)? > 0;
        if answered {
            let stream = TcpStream::from(socket);
            return stream.take_error()?.map_or(Ok(Some(stream)), Err);
        }
        if Instant::now() >= self.deadline {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        self.socket = Some(socket);
        Ok(None)
    }

    fn cause(&self) -> Cause {
        if self.failures.is_empty() {
            Cause::new("no address to connect to")
        } else {
            Cause::new(self.failures.join("; "))
        }
    }
}
