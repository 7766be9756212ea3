//! The only way out of a worker: connections to one address, made and counted by the parent.
//!
//! One thread per session, which ends with it. Bytes pass through unread: TLS and SSH run between the worker and the
//! server.

use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;

mod connection;
mod dial;

use connection::Connection;

use crate::error::Cause;

/// Where to connect, and how much to receive.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    /// Tried in this order.
    pub(super) addresses: Vec<SocketAddr>,
    /// Timeout for each address.
    pub(super) connect_timeout: Duration,
    /// Maximum number of bytes from the remote, over all connections, until another [account](Traffic::open_account) is
    /// opened.
    pub(super) received_limit: u64,
}

/// The reason why connections fail.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// No address responds.
    Unreachable(Cause),
    /// The remote sends more than allowed.
    TooLarge,
}

/// Bytes in one direction, and how many there may be.
struct Meter {
    counted: AtomicU64,
    limit: AtomicU64,
}

impl Meter {
    fn unlimited() -> Self {
        Self { counted: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) }
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    fn count(&self, length: usize) {
        self.counted.fetch_add(length as u64, Ordering::Relaxed);
    }

    fn is_exceeded(&self) -> bool {
        self.counted() > self.limit.load(Ordering::Relaxed)
    }

    /// Allows this many from now on.
    fn allow(&self, more: u64) {
        self.limit.store(self.counted().saturating_add(more), Ordering::Relaxed);
    }
}

/// The relay's observations, for the session, and what it allows.
pub(super) struct Traffic {
    /// From the remote.
    inward: Meter,
    /// To the remote, without a limit.
    outward: Meter,
    /// Connections from the worker so far.
    accepted: AtomicUsize,
    /// How many there may be.
    accepted_limit: AtomicUsize,
    /// Connections to the remote, including those being made.
    open: AtomicUsize,
    /// Whether bytes of the remote wait for the worker.
    is_worker_behind: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

impl Traffic {
    fn new(received_limit: u64) -> Self {
        let traffic = Self {
            inward: Meter::unlimited(),
            outward: Meter::unlimited(),
            accepted: AtomicUsize::new(0),
            accepted_limit: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            is_worker_behind: AtomicBool::new(false),
            trouble: Mutex::new(None),
        };
        traffic.open_account(received_limit);
        traffic
    }

    /// Counts anew, for a request with a limit of its own: so many bytes may come from now on, and as many connections as ever.
    pub(super) fn open_account(&self, received_limit: u64) {
        self.inward.allow(received_limit);
        let accepted = self.accepted.load(Ordering::Relaxed);
        self.accepted_limit.store(accepted.saturating_add(Carrier::IN_ALL), Ordering::Relaxed);
    }

    /// Returns the number of bytes so far, in both directions.
    pub(super) fn bytes(&self) -> u64 {
        self.inward.counted() + self.outward.counted()
    }

    /// Whether there is a connection.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Whether the worker has not taken all that the remote has sent.
    pub(super) fn is_worker_behind(&self) -> bool {
        self.is_worker_behind.load(Ordering::Relaxed)
    }

    /// Returns why the latest connection failed.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.lock_trouble().clone()
    }

    fn set_trouble(&self, trouble: Option<Trouble>) {
        *self.lock_trouble() = trouble;
    }

    fn lock_trouble(&self) -> std::sync::MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running relay. Dropping it ends every connection and the thread.
pub(super) struct Relay {
    traffic: Arc<Traffic>,
    /// The thread ends when the other end of its socket is closed.
    stop: Option<UnixStream>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Relay {
    /// Accepts connections from `listener` until dropped.
    pub(super) fn start(listener: TcpListener, destination: Destination) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let traffic = Arc::new(Traffic::new(destination.received_limit));
        let mut carrier =
            Carrier { listener, destination, stopped, traffic: Arc::clone(&traffic), connections: Vec::new() };
        let thread = thread::Builder::new().name("git-relay".to_owned()).spawn(move || carrier.run())?;
        Ok(Self { traffic, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the relay of a worker panicked");
        }
    }
}

/// The state of the thread.
struct Carrier {
    listener: TcpListener,
    destination: Destination,
    stopped: UnixStream,
    traffic: Arc<Traffic>,
    connections: Vec<Connection>,
}

/// Whether the relay is still needed.
enum Wanted {
    Yes,
    NoMore,
}

impl Carrier {
    /// Maximum number of simultaneous connections. The client uses one, or two for a moment when one is closed.
    const AT_ONCE: usize = 8;
    /// Maximum number of connections on one account. A retried request makes a new one, and so does each object of Git LFS from a
    /// server that closes its connections.
    const IN_ALL: usize = 64 + 2 * crate::lfs::PAGE;

    fn run(&mut self) {
        loop {
            match self.wait() {
                Ok(Wanted::Yes) => {}
                Ok(Wanted::NoMore) => break,
                Err(error) => {
                    self.give_up(error);
                    break;
                }
            }
            if let Err(error) = self.accept() {
                self.give_up(error);
                break;
            }
            self.carry();
        }
        self.traffic.open.store(0, Ordering::Relaxed);
    }

    fn give_up(&self, error: io::Error) {
        tracing::warn!(%error, "the relay of a worker gives up");
        self.traffic.set_trouble(Some(Trouble::Unreachable(Cause::new(error))));
    }

    /// Sleeps until something can be done.
    fn wait(&self) -> io::Result<Wanted> {
        let mut waited = vec![PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        if self.has_room() {
            waited.push(PollFd::new(self.listener.as_fd(), PollFlags::POLLIN));
        }
        waited
            .extend(self.connections.iter().flat_map(Connection::interest).map(|(fd, events)| PollFd::new(fd, events)));
        let now = Instant::now();
        let timeout =
            self.connections.iter().filter_map(Connection::deadline).min().map_or(PollTimeout::NONE, |then| {
                // Rounded up: waking too early would spin.
                let left = then.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
        match poll(&mut waited, timeout) {
            Ok(_) if waited[0].any() == Some(true) => Ok(Wanted::NoMore),
            Ok(_) | Err(Errno::EINTR) => Ok(Wanted::Yes),
            Err(error) => Err(error.into()),
        }
    }

    fn has_room(&self) -> bool {
        let traffic = &self.traffic;
        let is_allowed = traffic.accepted.load(Ordering::Relaxed) < traffic.accepted_limit.load(Ordering::Relaxed);
        self.connections.len() < Self::AT_ONCE && is_allowed
    }

    /// # Errors
    ///
    /// Fails only with an error that would repeat at once while a connection waits, such as running out of descriptors.
    fn accept(&mut self) -> io::Result<()> {
        while self.has_room() {
            match self.listener.accept() {
                Ok((worker, _)) => {
                    self.traffic.accepted.fetch_add(1, Ordering::Relaxed);
                    self.traffic.open.fetch_add(1, Ordering::Relaxed);
                    self.connections.push(Connection::new(worker, &self.destination));
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    io::ErrorKind::WouldBlock => break,
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Moves all available data, and drops finished connections.
    fn carry(&mut self) {
        let traffic = &self.traffic;
        self.connections.retain_mut(|connection| {
            let alive = match connection.advance(traffic) {
                Ok(moved) => {
                    if moved.connected {
                        traffic.set_trouble(None);
                    }
                    let is_too_much = traffic.inward.is_exceeded();
                    if is_too_much {
                        traffic.set_trouble(Some(Trouble::TooLarge));
                    }
                    moved.open && !is_too_much
                }
                Err(error) => {
                    if let Some(cause) = error {
                        traffic.set_trouble(Some(Trouble::Unreachable(cause)));
                    }
                    false
                }
            };
            if !alive {
                traffic.open.fetch_sub(1, Ordering::Relaxed);
            }
            alive
        });
        let is_worker_behind = self.connections.iter().any(Connection::is_worker_behind);
        traffic.is_worker_behind.store(is_worker_behind, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
