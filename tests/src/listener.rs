//! A TCP server on the loopback, one thread per connection. Dropping it ends all threads, whatever they wait for.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::Shutdown as SocketShutdown;

/// Enough for any server to notice on a busy machine that its client is gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listening address.
pub(crate) struct Listener {
    address: SocketAddr,
    socket: Arc<TcpListener>,
    connections: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connections: Mutex<Connections>,
    closed: Condvar,
}

#[derive(Default)]
struct Connections {
    accepted: u64,
    open: BTreeMap<u64, TcpStream>,
    stopped: bool,
}

impl Listener {
    /// Listens on a free port of 127.0.0.1 and calls `serve` for each connection, on its own thread.
    ///
    /// `serve` returns when its client disconnects or the listener is dropped: both end the stream.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
    }

    /// The same at `address`, for a private network or with port 0.
    pub(crate) fn start_at(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let socket = Arc::new(TcpListener::bind(address).expect("bind a port of the loopback"));
        let address = socket.local_addr().unwrap();
        let connections = Arc::<Shared>::default();
        let acceptor = {
            let (socket, connections) = (Arc::clone(&socket), Arc::clone(&connections));
            std::thread::spawn(move || accept(&socket, &connections, &serve))
        };
        Self { address, socket, connections, acceptor: Some(acceptor) }
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of the loopback, and the port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.connections.lock().accepted
    }

    /// Waits until everything that clients did before they hung up has been served. No client may be connected.
    pub(crate) fn settle(&self) {
        // Connections are accepted in order, so all others are known once this one has been served.
        let knock = TcpStream::connect(self.address).unwrap();
        knock.shutdown(Shutdown::Write).unwrap();
        // A server may also reset it.
        drop(io::copy(&mut &knock, &mut io::sink()));
        let connections = self.connections.lock();
        let waited = self
            .connections
            .closed
            .wait_timeout_while(connections, PATIENCE, |connections| !connections.open.is_empty());
        let (mut connections, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} connections are still open", connections.open.len());
        connections.accepted -= 1;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut connections = self.connections.lock();
        connections.stopped = true;
        for stream in connections.open.values() {
            // A client that is gone has already ended the stream.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(connections);
        nix::sys::socket::shutdown(self.socket.as_raw_fd(), SocketShutdown::Both).expect("wake the acceptor");
        if let Some(acceptor) = self.acceptor.take() {
            assert!(acceptor.join().is_ok() || std::thread::panicking(), "a server of the harness panicked");
        }
    }
}

fn accept(socket: &TcpListener, connections: &Shared, serve: &(impl Fn(TcpStream) + Sync)) {
    std::thread::scope(|scope| {
        while let Ok((stream, _)) = socket.accept() {
            let mut open = connections.lock();
            if open.stopped {
                break;
            }
            open.accepted += 1;
            let number = open.accepted;
            open.open.insert(number, stream.try_clone().unwrap());
            drop(open);
            scope.spawn(move || {
                serve(stream);
                // The registered clone keeps the connection open; dropping it closes the connection.
                connections.lock().open.remove(&number);
                connections.closed.notify_all();
            });
        }
    });
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
