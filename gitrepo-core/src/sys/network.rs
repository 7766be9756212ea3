//! The loopback interface of a network namespace.

use std::ffi::c_ulong;
use std::io;
use std::mem;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;

use nix::sys::socket::AddressFamily;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::socket;

const LOOPBACK: &str = "lo";

/// Brings up the loopback interface of the calling thread's network namespace.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = datagram(AddressFamily::Inet)?;
    let mut request = interface_request(LOOPBACK);
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
}

/// Adds `address` to the loopback interface, so that connections to it stay in the namespace.
pub(crate) fn loopback_address(address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => loopback_v4(address),
        IpAddr::V6(address) => loopback_v6(address),
    }
}

fn loopback_v4(address: Ipv4Addr) -> io::Result<()> {
    let socket = datagram(AddressFamily::Inet)?;
    // An alias: the interface keeps 127.0.0.1.
    let mut request = interface_request("lo:0");
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of the same 16 bytes; `sockaddr` is what the union's member is declared as.
    request.ifr_ifru.ifru_addr = unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    ioctl(&socket, libc::SIOCSIFADDR, &mut request)
}

fn loopback_v6(address: Ipv6Addr) -> io::Result<()> {
    /// `struct in6_ifreq` of `linux/ipv6.h`.
    #[repr(C)]
    struct Request {
        address: libc::in6_addr,
        prefix_length: u32,
        interface: libc::c_int,
    }
    let socket = datagram(AddressFamily::Inet6)?;
    let interface = nix::net::if_::if_nametoindex(LOOPBACK)? as libc::c_int;
    let mut request = Request { address: libc::in6_addr { s6_addr: address.octets() }, prefix_length: 128, interface };
    ioctl(&socket, libc::SIOCSIFADDR, &mut request)
}

fn datagram(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}

fn interface_request(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain data; all zeros is an empty name and an empty union.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

fn ioctl<T>(socket: &OwnedFd, operation: c_ulong, request: &mut T) -> io::Result<()> {
    // SAFETY: every caller in this module passes the structure that the kernel reads for `operation`, alive throughout.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), operation as _, std::ptr::from_mut(request)) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
