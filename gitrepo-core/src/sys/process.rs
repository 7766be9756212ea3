//! Forking, and descriptors that must not be inherited.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sched::unshare;
use nix::sys::signal;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::UnixAddr;
use nix::sys::socket::recvmsg;
use nix::unistd::ForkResult;

/// Forks a child that runs the same code from here on.
///
/// Fails if this process has more than one thread: the child would lack the others, along with any locks they held.
pub(crate) fn fork() -> io::Result<ForkResult> {
    if !has_one_thread()? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: there is one thread, so the child is a whole copy and may call anything. Only this thread could start
    // another one between the check and the call.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Whether this process has only one thread.
pub(crate) fn has_one_thread() -> io::Result<bool> {
    // Changes nothing, and fails if there is more than one thread.
    match unshare(CloneFlags::CLONE_THREAD) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        // A container's filter may refuse every unshare. In that case there is always a /proc.
        Err(_) => Ok(std::fs::read_dir("/proc/self/task")?.count() == 1),
    }
}

/// Ends the process at once: no destructors, no handlers of `atexit`.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any status and does not return.
    unsafe { libc::_exit(status) }
}

/// Makes `abort` end the process with `status`, even in the first process of a PID namespace, which ignores signals
/// without a handler.
pub(crate) fn exit_on_abort() -> io::Result<()> {
    extern "C" fn exit(signal: libc::c_int) {
        exit_now(128 + signal);
    }
    let action =
        signal::SigAction::new(signal::SigHandler::Handler(exit), signal::SaFlags::empty(), signal::SigSet::empty());
    // SAFETY: the handler calls nothing but `_exit`, which is async-signal-safe.
    unsafe { signal::sigaction(signal::Signal::SIGABRT, &action) }?;
    Ok(())
}

/// Closes every descriptor from `first` on.
///
/// For the start of a program, before it owns a descriptor: an [`OwnedFd`] must not be closed behind its owner's back.
pub(crate) fn close_inherited(first: RawFd) -> io::Result<()> {
    // SAFETY: the call takes numbers only. No descriptor is owned yet, as the caller promises.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    // Linux before 5.9 lacks this call.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number >= first)
        .collect();
    for number in open {
        // SAFETY: as above; closing a number that is not open (that of the directory just read) is an error without
        // effect.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Reads the available bytes from a socket, with any descriptors sent along. 0 bytes: the other side closed.
pub(crate) fn receive_with_descriptors(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let message = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just created these descriptors for this process, and nothing else knows them.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, descriptors))
}
