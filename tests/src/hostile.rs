//! Servers that stall, break off, lie or never finish.
//!
//! Over HTTP they are [answers][crate::http::HttpServerBuilder::answer] of an otherwise honest server:
//!
//! ```ignore
//! let server = HttpServer::builder().serve(&repository).answer(hostile::pack_ends_midway(Ending::Silent)).start();
//! ```
//!
//! Below HTTP there are [`SilentServer`] and [`ClosedPort`]; over SSH, [`ssh_command_cut_after`] for
//! [`force_command`][crate::ssh::SshServerBuilder::force_command]. A wrong name, an unknown authority or an expired
//! certificate are [`Identity`]s; a wrong host key is [`known_hosts_at`][crate::ssh::SshServer::known_hosts_at] of
//! another server.

use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::SockaddrIn;

use crate::authority::Identity;
use crate::http::Wire;
use crate::listener::Listener;

pub mod attack;
mod endless;
mod foreign;
mod partial;

pub use endless::advertisement_never_ends;
pub use endless::pack_never_ends;
pub use endless::pack_trickles;
pub use endless::progress_never_ends;
pub use foreign::announces;
pub use foreign::announces_without_serving;
pub use partial::advertisement_ends_midway;
pub use partial::headers_end_midway;
pub use partial::pack_ends_midway;
pub use partial::pack_is_garbage;
pub use partial::redirects_to;
pub use partial::unauthorized_for_ever;

/// Accepts connections, sends little or nothing, and reads until the client gives up.
pub struct SilentServer {
    listener: Listener,
}

impl SilentServer {
    /// Sends nothing at all.
    pub fn start() -> Self {
        Self::start_after(b"")
    }

    /// Sends `greeting` and then nothing: `b"SSH-2.0-OpenSSH_9.2\r\n"`.
    pub fn start_after(greeting: &'static [u8]) -> Self {
        Self::start_with(None, greeting)
    }

    /// Does the TLS handshake and then sends nothing.
    pub fn start_after_tls(identity: Identity) -> Self {
        Self::start_with(Some(identity), b"")
    }

    fn start_with(identity: Option<Identity>, greeting: &'static [u8]) -> Self {
        let listener = Listener::start(move |stream| {
            let wire = Wire::accept(stream, identity.as_ref(), Arc::<AtomicU64>::default());
            // An error means that the client hung up, which is fine.
            drop(wire.and_then(|mut wire| wire.write_all(greeting).and_then(|()| wire.swallow())));
        });
        Self { listener }
    }

    /// A URL of `scheme` that leads here: `https`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/silent.git", self.port())
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Connections accepted.
    pub fn connections(&self) -> u64 {
        self.listener.accepted()
    }
}

/// A loopback port that refuses connections, reserved while the value lives.
pub struct ClosedPort {
    port: u16,
    _bound: OwnedFd,
}

impl ClosedPort {
    /// Reserves a port.
    pub fn reserve() -> Self {
        // Bound, but not listening.
        let socket =
            nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let any = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        nix::sys::socket::bind(socket.as_raw_fd(), &any).unwrap();
        let bound: SockaddrIn = nix::sys::socket::getsockname(socket.as_raw_fd()).unwrap();
        Self { port: bound.port(), _bound: socket }
    }

    /// A URL of `scheme` that leads here: `https`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/closed.git", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A command for sshd that sends the first `bytes` of the client's command's output, and then nothing.
pub fn ssh_command_cut_after(bytes: usize) -> String {
    format!("sh -c \"$SSH_ORIGINAL_COMMAND\" | head -c {bytes}; exec cat > /dev/null")
}
