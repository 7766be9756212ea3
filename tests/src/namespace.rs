//! Private mounts and networks that vanish with the test; and programs that may not create namespaces.

use std::cell::Cell;
use std::env;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Child;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::socket;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockProtocol;
use nix::sys::socket::SockType;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

thread_local! {
    static PRIVATE: Cell<bool> = const { Cell::new(false) };
}

/// Gives the current thread its own mount namespace, without propagation in either direction.
///
/// Threads and processes that it starts afterwards share the namespace. The kernel unmounts everything in it when the
/// last of them ends, however it ends. Calling it again changes nothing. Needs root.
pub fn private_mounts() {
    if PRIVATE.get() {
        return;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("unshare the mount namespace");
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("make / private");
    PRIVATE.set(true);
}

/// Gives the current thread its own network with only a loopback, where every port is free.
///
/// Threads, sockets and processes that it creates afterwards are in that network. Needs root.
pub fn private_network() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network namespace");
    switch_on("lo");
}

/// With a message of rtnetlink(7), because not every machine has `ip`.
fn switch_on(interface: &str) {
    const UP: u32 = libc::IFF_UP as u32;
    const FLAGS: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    /// Of `nlmsghdr` and `ifinfomsg`, 16 bytes each.
    const LENGTH: u32 = 32;
    /// Where the answer has its error code: after its own `nlmsghdr`.
    const RESULT: std::ops::Range<usize> = 16..20;

    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(libc::RTM_NEWLINK.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Number of the message, sender, family and type of the interface: all zero.
    message.extend([0; 12]);
    message.extend(index.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    assert_eq!(message.len(), LENGTH as usize);

    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkRoute);
    let socket = socket::socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    socket::send(socket.as_raw_fd(), &message, MsgFlags::empty()).unwrap();
    let mut answer = [0; 256];
    let length = socket::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
    assert_eq!(answer[..length][RESULT], [0; 4], "switch {interface} on");
}

/// Starts a program that may not create namespaces, nor may its children.
pub(crate) fn spawn_without(command: &mut Command) -> io::Result<Child> {
    // A filter cannot be removed, so it gets its own thread.
    std::thread::scope(|scope| {
        let spawn = || {
            refuse_unshare();
            command.spawn()
        };
        scope.spawn(spawn).join().unwrap()
    })
}

fn refuse_unshare() {
    let filter = SeccompFilter::new(
        [(libc::SYS_unshare, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(Errno::EPERM as u32),
        env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}
