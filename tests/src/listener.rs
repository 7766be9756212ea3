//! A TCP server on the loopback, one thread per connection. Dropping it ends all threads, whatever they wait for.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread::JoinHandle;

use nix::sys::socket::Shutdown as SocketShutdown;

/// A listening address.
pub(crate) struct Listener {
    address: SocketAddr,
    socket: Arc<TcpListener>,
    connections: Arc<Mutex<Connections>>,
    acceptor: Option<JoinHandle<()>>,
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
        let connections = Arc::<Mutex<Connections>>::default();
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

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        lock(&self.connections).accepted
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut connections = lock(&self.connections);
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

fn accept(socket: &TcpListener, connections: &Mutex<Connections>, serve: &(impl Fn(TcpStream) + Sync)) {
    std::thread::scope(|scope| {
        while let Ok((stream, _)) = socket.accept() {
            let mut open = lock(connections);
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
                lock(connections).open.remove(&number);
            });
        }
    });
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}
